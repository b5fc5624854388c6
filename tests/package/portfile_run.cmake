# Builds ferry by vcpkg's portfile.cmake without vcpkg: these are stand-ins for the functions of vcpkg that it calls, which
# do what their documentation states, for a static release build.
# Usage: FERRY_SOURCE=… cmake -D WORK=DIRECTORY -P portfile_run.cmake   (by recipes.sh)
cmake_minimum_required(VERSION 3.22)
set(CURRENT_PACKAGES_DIR "${WORK}/package")

function(run)
	execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

function(need file)
	if(NOT EXISTS "${file}")
		message(FATAL_ERROR "portfile.cmake needs ${file}, which does not exist")
	endif()
endfunction()

function(vcpkg_cmake_configure)
	cmake_parse_arguments(PARSE_ARGV 0 arg "" "SOURCE_PATH" "OPTIONS")
	need("${arg_SOURCE_PATH}/CMakeLists.txt")
	run("${CMAKE_COMMAND}" -S "${arg_SOURCE_PATH}" -B "${WORK}/build" -D CMAKE_BUILD_TYPE=Release
		-D BUILD_SHARED_LIBS=OFF -D "CMAKE_INSTALL_PREFIX=${CURRENT_PACKAGES_DIR}" ${arg_OPTIONS})
endfunction()

function(vcpkg_cmake_install)
	run("${CMAKE_COMMAND}" --build "${WORK}/build" --parallel 2)
	run("${CMAKE_COMMAND}" --install "${WORK}/build")
endfunction()

function(vcpkg_cmake_config_fixup)
	cmake_parse_arguments(PARSE_ARGV 0 arg "" "PACKAGE_NAME;CONFIG_PATH" "")
	need("${CURRENT_PACKAGES_DIR}/${arg_CONFIG_PATH}/${arg_PACKAGE_NAME}Config.cmake")
	file(MAKE_DIRECTORY "${CURRENT_PACKAGES_DIR}/share")
	file(RENAME "${CURRENT_PACKAGES_DIR}/${arg_CONFIG_PATH}" "${CURRENT_PACKAGES_DIR}/share/${arg_PACKAGE_NAME}")
endfunction()

function(vcpkg_fixup_pkgconfig)
	need("${CURRENT_PACKAGES_DIR}/lib/pkgconfig/ferry.pc")
endfunction()

function(vcpkg_install_copyright)
	cmake_parse_arguments(PARSE_ARGV 0 arg "" "" "FILE_LIST")
	need("${arg_FILE_LIST}")
endfunction()

include("${CMAKE_CURRENT_LIST_DIR}/../../src/packaging/vcpkg/portfile.cmake")
need("${CURRENT_PACKAGES_DIR}/lib/libferry.a")
need("${CURRENT_PACKAGES_DIR}/include/ferry/ferry.h")
