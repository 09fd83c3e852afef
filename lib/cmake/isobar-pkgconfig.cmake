# SPDX-License-Identifier: Apache-2.0
# isobar.pc, for users without CMake: all layers, LibTorch, and what the layers link. Included last, when every layer is
# known. Libraries of others go by their full paths, as they were found here.

# Adds to <flags> in the caller's scope what a user's link line needs for `item`, and for what that links.
function(_isobar_link_flags item flags)
  string(REGEX REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1" item "${item}")
  set(found ${${flags}})
  get_property(layers GLOBAL PROPERTY ISOBAR_LAYERS)
  string(REPLACE "isobar::" "isobar_" target "${item}")
  if(TARGET ${item} AND NOT target IN_LIST layers)
    get_target_property(type ${item} TYPE)
    if(NOT type STREQUAL "INTERFACE_LIBRARY")
      list(APPEND found $<TARGET_FILE:${item}>)
    endif()
    get_target_property(next ${item} INTERFACE_LINK_LIBRARIES)
    foreach(each IN LISTS next)
      if(each)
        _isobar_link_flags(${each} found)
      endif()
    endforeach()
  elseif(NOT TARGET ${item} AND NOT item MATCHES "[$<>]|::")
    list(APPEND found ${item})
  endif()
  set(${flags} ${found} PARENT_SCOPE)
endfunction()

get_property(layers GLOBAL PROPERTY ISOBAR_LAYERS)
set(others "")
set(archives "")
foreach(layer IN LISTS layers)
  list(APPEND archives -l${layer})
  get_target_property(items ${layer} LINK_LIBRARIES)
  foreach(item IN LISTS items)
    _isobar_link_flags("${item}" others)
  endforeach()
endforeach()
list(REMOVE_DUPLICATES others)
list(JOIN archives " " archives)
list(JOIN others " " others)

set(includes "-I${ISOBAR_TORCH_ROOT}/include -I${ISOBAR_TORCH_ROOT}/include/torch/csrc/api/include")
file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/isobar.pc CONTENT "prefix=\${pcfiledir}/../..
libdir=\${prefix}/${CMAKE_INSTALL_LIBDIR}
includedir=\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}

Name: isobar
Description: ${PROJECT_DESCRIPTION}
Version: ${PROJECT_VERSION}
Cflags: -I\${includedir} ${includes} -DFMT_HEADER_ONLY=1
Libs: -L\${libdir} -Wl,--start-group ${archives} -Wl,--end-group ${others} -Wl,-rpath,${ISOBAR_TORCH_ROOT}/lib
")
install(FILES ${PROJECT_BINARY_DIR}/isobar.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
