# Targets for developers of ferry. Each exists only if its tool is installed.

find_program(DOXYGEN doxygen)
if(DOXYGEN)
	add_custom_target(docs
		COMMAND "${CMAKE_COMMAND}" -E env "FERRY_VERSION=${PROJECT_VERSION}"
			"FERRY_DOCS=${PROJECT_BINARY_DIR}/docs" "${DOXYGEN}" Doxyfile
		WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}" VERBATIM)
endif()
