# Installs three components: the shared library, the files to build with it, and the programs.

include(CMakePackageConfigHelpers)
set(cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/ferry")

install(TARGETS ferry ferry_testing EXPORT ferry
	RUNTIME COMPONENT runtime
	LIBRARY COMPONENT runtime NAMELINK_COMPONENT development
	ARCHIVE COMPONENT development
	FILE_SET HEADERS COMPONENT development)

install(EXPORT ferry NAMESPACE ferry:: FILE ferryTargets.cmake
	DESTINATION "${cmake_dir}" COMPONENT development)
# Users of a static library must find its dependencies; a shared library is already linked with them.
set(static_dependencies "")
set(pc_requires_private "")
if(NOT BUILD_SHARED_LIBS AND FERRY_ACTIVATION STREQUAL "systemd")
	set(static_dependencies "
find_dependency(PkgConfig)
pkg_check_modules(LIBSYSTEMD REQUIRED IMPORTED_TARGET libsystemd)
")
	set(pc_requires_private "\nRequires.private: libsystemd")
endif()
configure_package_config_file(src/cmake/ferryConfig.cmake.in
	"${PROJECT_BINARY_DIR}/ferryConfig.cmake" INSTALL_DESTINATION "${cmake_dir}")
# While 0.x, a minor release may break its users.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/ferryConfigVersion.cmake"
	COMPATIBILITY SameMinorVersion)
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

# The programs find the library by a relative path: an installed tree can be moved. Packages of a distribution set
# CMAKE_SKIP_INSTALL_RPATH.
if(FERRY_BUILD_PROGRAMS)
	file(RELATIVE_PATH bin_to_lib "${CMAKE_INSTALL_FULL_BINDIR}" "${CMAKE_INSTALL_FULL_LIBDIR}")
	set(programs ferry-proxy ferry-worker ferry-copy)
	if(BUILD_SHARED_LIBS)
		set_target_properties(${programs} PROPERTIES INSTALL_RPATH "$ORIGIN/${bin_to_lib}")
	endif()
	install(TARGETS ${programs} RUNTIME COMPONENT programs)
	install(FILES "${PROJECT_SOURCE_DIR}/src/programs/ferry-proxy/ferry-proxy.conf"
		DESTINATION "${CMAKE_INSTALL_DOCDIR}/examples" COMPONENT programs)
endif()
