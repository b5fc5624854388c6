# The manual pages of sections 3 and 7, which docs/site/manual.py makes of the public headers. Without python3 there are
# none, nor in a copy of the sources without docs/.

find_program(PYTHON3 python3)
if(NOT PYTHON3)
	message(STATUS "ferry: no manual pages of the functions, python3 is missing")
	return()
endif()
if(NOT EXISTS "${PROJECT_SOURCE_DIR}/docs/site/manual.py" OR NOT EXISTS "${PROJECT_SOURCE_DIR}/examples")
	message(STATUS "ferry: no manual pages of the functions, docs/ or examples/ is missing")
	return()
endif()
file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/include/ferry/*.h" "${PROJECT_SOURCE_DIR}/docs/site/*.py"
	"${PROJECT_SOURCE_DIR}/docs/reference/*.txt" "${PROJECT_SOURCE_DIR}/examples/*.c"
	"${PROJECT_SOURCE_DIR}/examples/reference/*.c")
set(pages "${PROJECT_BINARY_DIR}/man")
add_custom_command(OUTPUT "${pages}/man7/ferry.7"
	COMMAND "${CMAKE_COMMAND}" -E rm -rf "${pages}"
	COMMAND "${PYTHON3}" -B "${PROJECT_SOURCE_DIR}/docs/site/manual.py" "${pages}"
	DEPENDS ${sources} "${PROJECT_SOURCE_DIR}/docs/conventions.md" "${PROJECT_SOURCE_DIR}/docs/errors.md"
	COMMENT "Writing the manual pages of the functions" VERBATIM)
add_custom_target(ferry_manual ALL DEPENDS "${pages}/man7/ferry.7")
# A build of single targets has none.
install(DIRECTORY "${pages}/" DESTINATION "${CMAKE_INSTALL_MANDIR}" COMPONENT development OPTIONAL)
