# The programs of a consumer, and what ferry must not force on them.

foreach(property INTERFACE_COMPILE_OPTIONS INTERFACE_COMPILE_DEFINITIONS INTERFACE_COMPILE_FEATURES
		INTERFACE_LINK_OPTIONS)
	get_target_property(value ferry::ferry ${property})
	if(value)
		message(FATAL_ERROR "ferry forces ${property} '${value}' on its users")
	endif()
endforeach()

add_executable(consumer_c "${CMAKE_CURRENT_LIST_DIR}/consumer.c")
target_link_libraries(consumer_c PRIVATE ferry::ferry)
add_executable(consumer_cxx "${CMAKE_CURRENT_LIST_DIR}/consumer.cpp")
target_link_libraries(consumer_cxx PRIVATE ferry::ferry)
add_executable(consumer_test "${CMAKE_CURRENT_LIST_DIR}/consumer_test.c")
target_link_libraries(consumer_test PRIVATE ferry::testing)
add_executable(consumer_names "${CMAKE_CURRENT_LIST_DIR}/consumer_names.c")
target_link_libraries(consumer_names PRIVATE ferry::testing)
