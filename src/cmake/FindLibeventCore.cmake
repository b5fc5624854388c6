# Finds libevent's core library, and defines the target libevent::core.
#
# libevent's own CMake package defines that target. Debian ships only .pc files and not that package: then this file
# defines the target from libevent_core.pc. A project may use it any number of times.

if(NOT TARGET libevent::core)
	find_package(Libevent CONFIG QUIET COMPONENTS core)
endif()
if(Libevent_FOUND)
	set(LibeventCore_VERSION "${Libevent_VERSION}")
endif()

if(NOT TARGET libevent::core)
	find_package(PkgConfig QUIET)
	if(PkgConfig_FOUND)
		pkg_check_modules(LIBEVENT_CORE QUIET IMPORTED_TARGET libevent_core)
		set(LibeventCore_VERSION "${LIBEVENT_CORE_VERSION}")
	endif()
	if(TARGET PkgConfig::LIBEVENT_CORE)
		add_library(libevent::core INTERFACE IMPORTED)
		target_link_libraries(libevent::core INTERFACE PkgConfig::LIBEVENT_CORE)
	endif()
endif()

if(TARGET libevent::core)
	set(LibeventCore_TARGET libevent::core)
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibeventCore
	REQUIRED_VARS LibeventCore_TARGET
	VERSION_VAR LibeventCore_VERSION
	REASON_FAILURE_MESSAGE "install libevent's development files (Debian: libevent-dev) and pkg-config")
