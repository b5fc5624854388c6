# Part of the installation of the shared library into `libdir`: if that is a directory that ldconfig(8) reads, runs
# ldconfig, and otherwise prints how a program finds the library. Does nothing for a staged installation, or if this
# system has no ldconfig of glibc.

if(NOT "$ENV{DESTDIR}" STREQUAL "")
	return()
endif()
find_program(LDCONFIG ldconfig PATHS /usr/sbin /sbin NO_CACHE)
if(NOT LDCONFIG)
	return()
endif()

get_filename_component(libdir "${libdir}" REALPATH BASE_DIR "${CMAKE_INSTALL_PREFIX}")
# Lists the directories, and changes nothing.
execute_process(COMMAND "${LDCONFIG}" -N -X -v OUTPUT_VARIABLE listing ERROR_QUIET)
string(REGEX MATCHALL "(^|\n)/[^\n:]*:" directories "${listing}")
set(is_read FALSE)
foreach(directory IN LISTS directories)
	string(REGEX REPLACE "^\n|:$" "" directory "${directory}")
	get_filename_component(directory "${directory}" REALPATH)
	if(directory STREQUAL libdir)
		set(is_read TRUE)
	endif()
endforeach()

if(is_read)
	execute_process(COMMAND "${LDCONFIG}" RESULT_VARIABLE status ERROR_VARIABLE error)
	if(NOT status EQUAL 0)
		message(WARNING "ferry: programs do not find libferry.so before root has run ldconfig: ${error}")
	endif()
elseif(directories)
	message(STATUS "ferry: ldconfig does not read ${libdir}: a program needs it as run path "
		"(-Wl,-rpath,${libdir}), or in LD_LIBRARY_PATH")
endif()
