# SPDX-License-Identifier: Apache-2.0
# isobar_write_profiles(<variable> <folder>): writes the YAML files of a folder into a source, builtin_profiles.cpp, whose
#   path the variable gets. It is written again, and compiled, where a file has changed, came or went.

# Characters of one literal; compilers need not take more than 65,536, and some take far fewer.
set(ISOBAR_LITERAL_LENGTH 8000)

# Sets <literals> to the text as raw strings, which the compiler joins.
function(_isobar_raw_strings text literals)
  set(found "")
  string(LENGTH "${text}" length)
  set(begin 0)
  while(begin LESS length)
    string(SUBSTRING "${text}" ${begin} ${ISOBAR_LITERAL_LENGTH} part)
    string(APPEND found "\n     R\"yaml(${part})yaml\"")
    math(EXPR begin "${begin} + ${ISOBAR_LITERAL_LENGTH}")
  endwhile()
  set(${literals} "${found}" PARENT_SCOPE)
endfunction()

function(isobar_write_profiles variable folder)
  file(GLOB files CONFIGURE_DEPENDS ${folder}/*.yaml)
  list(SORT files)
  set(source "// SPDX-License-Identifier: Apache-2.0\n// Written by CMake from ${folder}.\n")
  string(APPEND source "#include \"cluster/builtin_profiles.hpp\"\n\nnamespace isobar {\n\n")
  string(APPEND source "std::vector<BuiltinProfile> builtin_profiles() {\n  return {\n")
  foreach(file IN LISTS files)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    get_filename_component(name ${file} NAME_WE)
    file(READ ${file} text)
    _isobar_raw_strings("${text}" literals)
    string(APPEND source "    {\"${name}\",${literals}},\n")
  endforeach()
  string(APPEND source "  };\n}\n\n}  // namespace isobar\n")
  set(path ${CMAKE_CURRENT_BINARY_DIR}/builtin_profiles.cpp)
  file(WRITE ${path}.new "${source}")
  # Left alone where it says the same, so that a configure step compiles nothing.
  configure_file(${path}.new ${path} COPYONLY)
  set(${variable} ${path} PARENT_SCOPE)
endfunction()
