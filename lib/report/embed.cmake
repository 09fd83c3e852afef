# SPDX-License-Identifier: Apache-2.0
# isobar_embed(<variable> <name> <file> <name> <file>...): writes a source, embedded.cpp, that holds the bytes of each
#   file as what embedded.hpp declares under its name; the variable gets the source's path. It is compiled again where a
#   file has changed. The assembler takes the files in as they are: a literal of five megabytes would take a compiler a
#   minute.

function(isobar_embed variable)
  set(source "// SPDX-License-Identifier: Apache-2.0\n// Written by CMake.\n#include \"report/embedded.hpp\"\n\n")
  set(functions "")
  set(files "")
  while(ARGN)
    list(POP_FRONT ARGN name file)
    list(APPEND files ${file})
    set(symbol isobar_embedded_${name})
    string(APPEND source "asm(R\"(.pushsection .rodata
.hidden ${symbol}
.global ${symbol}
${symbol}:
.incbin \"${file}\"
.hidden ${symbol}_end
.global ${symbol}_end
${symbol}_end:
.byte 0
.popsection)\");
extern \"C\" const char ${symbol}[];
extern \"C\" const char ${symbol}_end[];\n\n")
    string(APPEND functions "std::string_view ${name}() {
  return {${symbol}, static_cast<std::size_t>(${symbol}_end - ${symbol})};
}\n")
  endwhile()
  string(APPEND source "namespace isobar {\n\n${functions}\n}  // namespace isobar\n")
  set(path ${CMAKE_CURRENT_BINARY_DIR}/embedded.cpp)
  file(WRITE ${path}.new "${source}")
  configure_file(${path}.new ${path} COPYONLY)
  # The compiler sees the files' names alone, so a build of several sources as one would not follow them.
  set_source_files_properties(${path} PROPERTIES OBJECT_DEPENDS "${files}" SKIP_UNITY_BUILD_INCLUSION ON)
  set(${variable} ${path} PARENT_SCOPE)
endfunction()
