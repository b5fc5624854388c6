# An overlay port: vcpkg install ferry --overlay-ports=DIR, with this directory as DIR/ferry. FERRY_SOURCE is the
# directory of ferry's sources: ferry has no address from which vcpkg_from_github() could take them.
if(NOT DEFINED ENV{FERRY_SOURCE})
	message(FATAL_ERROR "set FERRY_SOURCE to the directory of ferry's sources, and VCPKG_KEEP_ENV_VARS=FERRY_SOURCE")
endif()
set(SOURCE_PATH "$ENV{FERRY_SOURCE}")

vcpkg_cmake_configure(SOURCE_PATH "${SOURCE_PATH}" OPTIONS -DFERRY_WITH_SYSTEMD=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME ferry CONFIG_PATH lib/cmake/ferry)
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
