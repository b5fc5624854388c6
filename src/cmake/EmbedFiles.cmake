# ferry_embed_files(TARGET ferry-proxy/page a.css b.js): the files of that folder as arrays page_a_css and page_b_js,
# with their lengths in page_a_css_length and page_b_js_length.
#
# As a script, cmake -D input=FILE -D name=NAME -D output=FILE -P: writes the source of one array.

if(CMAKE_SCRIPT_MODE_FILE)
	file(READ "${input}" hex HEX)
	string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
	string(REGEX REPLACE "(................................................................................)"
		"\\1\n" bytes "${bytes}")
	file(WRITE "${output}" "#include <stddef.h>\n\nextern const unsigned char ${name}[];\n"
		"extern const size_t ${name}_length;\n\nconst unsigned char ${name}[] = {\n${bytes}};\n"
		"const size_t ${name}_length = sizeof(${name});\n")
	return()
endif()

set(embed_script "${CMAKE_CURRENT_LIST_FILE}")
function(ferry_embed_files target folder)
	foreach(file IN LISTS ARGN)
		get_filename_component(leaf "${folder}" NAME)
		string(MAKE_C_IDENTIFIER "${leaf}_${file}" name)
		set(input "${CMAKE_CURRENT_SOURCE_DIR}/${folder}/${file}")
		set(output "${CMAKE_CURRENT_BINARY_DIR}/${name}.c")
		add_custom_command(OUTPUT "${output}" DEPENDS "${input}" "${embed_script}"
			COMMAND ${CMAKE_COMMAND} -D "input=${input}" -D "name=${name}" -D "output=${output}"
				-P "${embed_script}" VERBATIM)
		target_sources(${target} PRIVATE "${output}")
	endforeach()
endfunction()
