# SPDX-License-Identifier: Apache-2.0
# find_package(isobar): the same package files for the build tree (<build>/lib/cmake/isobar) and the install tree.
# Included last, when every layer is known.

get_property(layers GLOBAL PROPERTY ISOBAR_LAYERS)

# isobar::isobar, all layers in one.
add_library(isobar_all INTERFACE)
add_library(isobar::isobar ALIAS isobar_all)
set_target_properties(isobar_all PROPERTIES EXPORT_NAME isobar)
foreach(layer IN LISTS layers)
  target_link_libraries(isobar_all INTERFACE ${layer})
endforeach()

# The layers are static archives: a user's link line also needs what they link privately, by the names of the targets
# it had here. Each pattern of target names with the call that defines such targets again in the user's project.
set(providers
  "^fmt::"           "find_dependency(fmt)"
  "^spdlog::"        "find_dependency(spdlog)"
  "^yaml-cpp"        "find_dependency(yaml-cpp)"
  "^nlohmann_json::" "find_dependency(nlohmann_json)"
  "^Threads::"       "find_dependency(Threads)"
  "^OpenSSL::"       "find_dependency(OpenSSL COMPONENTS Crypto)"
  "^[Hh][Dd][Ff]5::" "enable_language(C)\nfind_dependency(HDF5 COMPONENTS C)"  # whose search compiles C
  "^MPI::MPI_CXX"    "find_dependency(MPI COMPONENTS CXX)")

# Sets <calls> to the find_dependency calls for everything that the layers link.
function(_isobar_find_calls layers providers calls)
  set(found "")
  foreach(layer IN LISTS layers)
    get_target_property(items ${layer} LINK_LIBRARIES)
    list(FILTER items EXCLUDE REGEX "^isobar(::|_)")
    foreach(item IN LISTS items)
      _isobar_find_call(${item} "${providers}" call)
      list(APPEND found ${call})
    endforeach()
  endforeach()
  list(REMOVE_DUPLICATES found)
  list(JOIN found "\n" found)
  set(${calls} "${found}" PARENT_SCOPE)
endfunction()

function(_isobar_find_call item providers call)
  set(${call} "" PARENT_SCOPE)
  set(rest ${providers})
  while(rest)
    list(POP_FRONT rest pattern line)
    if(item MATCHES "${pattern}")
      set(${call} "${line}" PARENT_SCOPE)
      return()
    endif()
  endwhile()
  if(item MATCHES "::")
    message(WARNING "isobar: the package file cannot find ${item} for its users; name its package in ${CMAKE_CURRENT_FUNCTION_LIST_FILE}")
  endif()
endfunction()

_isobar_find_calls("${layers}" "${providers}" ISOBAR_FIND_DEPENDENCIES)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/isobar)
set(build_package_dir ${PROJECT_BINARY_DIR}/${package_dir})
list(TRANSFORM layers REPLACE "^isobar_" "" OUTPUT_VARIABLE components)
list(JOIN components " " components)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/isobar-config.cmake.in ${build_package_dir}/isobar-config.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${build_package_dir}/isobar-config-version.cmake COMPATIBILITY SameMajorVersion)
configure_file(${CMAKE_CURRENT_LIST_DIR}/isobar-torch.cmake ${build_package_dir}/isobar-torch.cmake COPYONLY)

install(TARGETS ${layers} isobar_all EXPORT isobarTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT isobarTargets NAMESPACE isobar:: DESTINATION ${package_dir})
export(EXPORT isobarTargets NAMESPACE isobar:: FILE ${build_package_dir}/isobarTargets.cmake)
install(FILES ${build_package_dir}/isobar-config.cmake ${build_package_dir}/isobar-config-version.cmake
              ${build_package_dir}/isobar-torch.cmake
  DESTINATION ${package_dir})

if(TARGET isobar_program)
  # CMake's own link path leaves out folders below the source tree, where scripts/setup puts LibTorch.
  set_target_properties(isobar_program PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON INSTALL_RPATH ${ISOBAR_TORCH_ROOT}/lib)
  install(TARGETS isobar_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
