# Installs three components: the shared library, the files to build with it, and the programs.

include(CMakePackageConfigHelpers)
set(cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/ferry")
get_target_property(type ferry TYPE)

install(TARGETS ferry ferry_testing EXPORT ferry
	RUNTIME COMPONENT runtime
	LIBRARY COMPONENT runtime NAMELINK_COMPONENT development
	ARCHIVE COMPONENT development
	PUBLIC_HEADER DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/ferry" COMPONENT development
	INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")

install(EXPORT ferry NAMESPACE ferry:: FILE ferryTargets.cmake
	DESTINATION "${cmake_dir}" COMPONENT development)
# Users of a static library must find its dependencies; a shared library is already linked with them.
set(static_dependencies "")
set(pc_private "")
if(type STREQUAL "STATIC_LIBRARY")
	string(APPEND static_dependencies "\nfind_dependency(Threads)\n")
	string(APPEND pc_private "\nLibs.private: ${CMAKE_THREAD_LIBS_INIT}")
	if(FERRY_ACTIVATION STREQUAL "systemd")
		string(APPEND static_dependencies "find_dependency(PkgConfig)\n"
			"pkg_check_modules(LIBSYSTEMD REQUIRED IMPORTED_TARGET libsystemd)\n")
		string(APPEND pc_private "\nRequires.private: libsystemd")
	endif()
endif()
configure_package_config_file(src/cmake/ferryConfig.cmake.in
	"${PROJECT_BINARY_DIR}/ferryConfig.cmake" INSTALL_DESTINATION "${cmake_dir}")
configure_file(src/cmake/ferryConfigVersion.cmake.in "${PROJECT_BINARY_DIR}/ferryConfigVersion.cmake" @ONLY)
install(FILES
	"${PROJECT_BINARY_DIR}/ferryConfig.cmake"
	"${PROJECT_BINARY_DIR}/ferryConfigVersion.cmake"
	"${PROJECT_SOURCE_DIR}/src/cmake/FindLibeventCore.cmake"
	DESTINATION "${cmake_dir}" COMPONENT development)

# The .pc file computes its prefix from its own path: an installed tree can be moved. A directory that was
# configured as an absolute path stays that path.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
	set(pc_prefix "${CMAKE_INSTALL_PREFIX}")
	set(pc_libdir "${CMAKE_INSTALL_LIBDIR}")
else()
	file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
	string(REGEX REPLACE "/$" "" up "${up}")
	set(pc_prefix "\${pcfiledir}/${up}")
	set(pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
endif()
if(IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
	set(pc_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
else()
	set(pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
foreach(name IN ITEMS ferry ferry-testing)
	configure_file(src/cmake/${name}.pc.in "${PROJECT_BINARY_DIR}/${name}.pc" @ONLY)
	install(FILES "${PROJECT_BINARY_DIR}/${name}.pc"
		DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT development)
endforeach()

# A program finds a new library only after ldconfig(8) has read the library's directory.
if(type STREQUAL "SHARED_LIBRARY")
	install(CODE "set(libdir \"${CMAKE_INSTALL_LIBDIR}\")" COMPONENT runtime)
	install(SCRIPT "${PROJECT_SOURCE_DIR}/src/cmake/Ldconfig.cmake" COMPONENT runtime)
endif()

# The programs find the library by a relative path: an installed tree can be moved. Packages of a distribution set
# CMAKE_SKIP_INSTALL_RPATH.
if(FERRY_BUILD_PROGRAMS)
	file(RELATIVE_PATH bin_to_lib "${CMAKE_INSTALL_FULL_BINDIR}" "${CMAKE_INSTALL_FULL_LIBDIR}")
	set(programs ferry-proxy ferry-worker ferry-copy)
	if(type STREQUAL "SHARED_LIBRARY")
		set_target_properties(${programs} PROPERTIES INSTALL_RPATH "$ORIGIN/${bin_to_lib}")
	endif()
	install(TARGETS ${programs} RUNTIME COMPONENT programs)
	install(FILES "${PROJECT_SOURCE_DIR}/src/programs/ferry-proxy/ferry-proxy.conf"
		"${PROJECT_SOURCE_DIR}/src/programs/systemd/ferry.logrotate"
		DESTINATION "${CMAKE_INSTALL_DOCDIR}/examples" COMPONENT programs)
	foreach(page IN ITEMS ferry-proxy/ferry-proxy.8 ferry-proxy/ferry-proxy.conf.5 ferry-worker/ferry-worker.8
			ferry-copy/ferry-copy.1)
		string(REGEX MATCH "[0-9]$" section "${page}")
		install(FILES "${PROJECT_SOURCE_DIR}/src/programs/${page}"
			DESTINATION "${CMAKE_INSTALL_MANDIR}/man${section}" COMPONENT programs)
	endforeach()
	# systemd reads these directories below /usr and /usr/local.
	install(FILES "${PROJECT_BINARY_DIR}/src/programs/ferry-proxy.service"
		"${PROJECT_SOURCE_DIR}/src/programs/systemd/ferry-proxy.socket"
		DESTINATION lib/systemd/system COMPONENT programs)
	install(FILES "${PROJECT_SOURCE_DIR}/src/programs/systemd/ferry.tmpfiles"
		DESTINATION lib/tmpfiles.d RENAME ferry.conf COMPONENT programs)
endif()
