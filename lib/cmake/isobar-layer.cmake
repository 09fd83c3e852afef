# SPDX-License-Identifier: Apache-2.0
# isobar_add_layer(<name> HEADERS <x.hpp...> SOURCES <x.cpp...> [DEPENDS <layer...>] [PUBLIC <target...>] [PRIVATE <target...>])
#   one layer of the design: the target isobar::<name>, its public headers in include/isobar/<name>, its sources beside
#   the call. A layer with public headers is installed; one without (the command line) is not.
# isobar_add_test(<name> SOURCES <x_test.cpp...> [DEPENDS <target...>] [LABELS <label...>] [TIMEOUT <seconds>])
#   one test program of GoogleTest, known to ctest by its name and labelled with its folder's name. (Ninja builds a
#   folder's programs by the target tests/<folder>/all.)

include_guard(GLOBAL)

# Compile and link settings of every program built here; never handed to users of the installed package.
add_library(isobar_settings INTERFACE)
target_compile_options(isobar_settings INTERFACE -Wall -Wextra -Wno-unused-parameter
  $<$<CXX_COMPILER_ID:Clang>:-Wno-unknown-pragmas>)
if(ISOBAR_SANITIZE)
  target_compile_options(isobar_settings INTERFACE -fsanitize=${ISOBAR_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(isobar_settings INTERFACE -fsanitize=${ISOBAR_SANITIZE})
endif()

# isobar_compile_lightly(<target>): for programs whose time passes in the layers. Of what GCC takes for a test file at -O3,
# a quarter is optimisation that -O1 leaves out.
function(isobar_compile_lightly target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()

# isobar_share_headers(<target>): with ISOBAR_PRECOMPILE, the target's files begin with LibTorch's headers as the compiler
# has kept them. Reading them is most of what compiling a file takes without optimisation. Libraries and programs have
# a set each (position-independent code or not).
function(isobar_share_headers target)
  if(NOT ISOBAR_PRECOMPILE)
    return()
  endif()
  get_target_property(type ${target} TYPE)
  set(first isobar_headers_of_programs)
  if(type MATCHES LIBRARY)
    set(first isobar_headers_of_libraries)
  endif()
  if(NOT TARGET ${first})
    file(WRITE ${PROJECT_BINARY_DIR}/${first}.cpp "")
    add_library(${first} OBJECT ${PROJECT_BINARY_DIR}/${first}.cpp)
    target_compile_features(${first} PUBLIC cxx_std_20)
    target_link_libraries(${first} PRIVATE isobar::torch fmt::fmt-header-only isobar_settings)
    # Without the time of its making, a kept header of the same contents is the same to ccache.
    target_compile_options(${first} PRIVATE $<$<CXX_COMPILER_ID:Clang>:SHELL:-Xclang -fno-pch-timestamp>)
    target_precompile_headers(${first} PRIVATE <ATen/ATen.h> <ATen/Parallel.h> <torch/nn/module.h> <torch/optim/sgd.h>)
    set_target_properties(${first} PROPERTIES UNITY_BUILD OFF)
    if(type MATCHES LIBRARY)
      set_target_properties(${first} PROPERTIES POSITION_INDEPENDENT_CODE ON)
    endif()
  endif()
  target_precompile_headers(${target} REUSE_FROM ${first})
endfunction()

# ISOBAR_CPU_CLONES: a compile definition of the macro of that name, the attribute for functions that makes a version of
# them for each generation of processors; of nothing where the compiler or the system has no such choice.
include(CheckCXXSourceCompiles)
check_cxx_source_compiles("
  __attribute__((target_clones(\"arch=x86-64-v4\", \"arch=x86-64-v3\", \"default\"))) int f(int x) { return x + 1; }
  int main() { return f(-1); }" ISOBAR_HAS_CPU_CLONES)
# The sanitizers' runtime is not there yet when a function's version is chosen.
if(ISOBAR_HAS_CPU_CLONES AND NOT ISOBAR_SANITIZE)
  set(ISOBAR_CPU_CLONES [[ISOBAR_CPU_CLONES=__attribute__((target_clones("arch=x86-64-v4","arch=x86-64-v3","default")))]])
else()
  set(ISOBAR_CPU_CLONES ISOBAR_CPU_CLONES=)
endif()

function(isobar_add_layer name)
  cmake_parse_arguments(arg "" "" "HEADERS;SOURCES;DEPENDS;PUBLIC;PRIVATE" ${ARGN})
  set(target isobar_${name})
  add_library(${target} ${arg_SOURCES})
  add_library(isobar::${name} ALIAS ${target})
  list(TRANSFORM arg_HEADERS PREPEND ${PROJECT_SOURCE_DIR}/include/isobar/${name}/)
  target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${arg_HEADERS})
  # Private headers are found beside the sources; lib/ itself is never a public include folder.
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/lib)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} POSITION_INDEPENDENT_CODE ON
                                             VERIFY_INTERFACE_HEADER_SETS ${ISOBAR_TESTS})
  list(TRANSFORM arg_DEPENDS PREPEND isobar::)
  target_link_libraries(${target} PUBLIC ${arg_DEPENDS} ${arg_PUBLIC} PRIVATE ${arg_PRIVATE})
  if(NOT name MATCHES "^(core|launch|cluster|scaling|report)$")  # which are without LibTorch
    isobar_share_headers(${target})
  endif()
  # Options alone: linking isobar_settings would make it a part of the exported package.
  target_compile_options(${target} PRIVATE $<TARGET_PROPERTY:isobar_settings,INTERFACE_COMPILE_OPTIONS>)
  if(ISOBAR_SANITIZE)
    # Whatever links an instrumented archive needs the sanitizer's runtime.
    target_link_options(${target} INTERFACE -fsanitize=${ISOBAR_SANITIZE})
  endif()
  if(arg_HEADERS)
    set_property(GLOBAL APPEND PROPERTY ISOBAR_LAYERS ${target})
  endif()
endfunction()

function(isobar_add_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "SOURCES;DEPENDS;LABELS" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  if(ISOBAR_SANITIZE)
    math(EXPR arg_TIMEOUT "4 * ${arg_TIMEOUT}")
  endif()
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  list(APPEND arg_LABELS ${folder})
  list(REMOVE_DUPLICATES arg_LABELS)

  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_DEPENDS} isobar_settings isobar_test_support GTest::gtest_main)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests ${PROJECT_SOURCE_DIR}/lib)
  isobar_share_headers(${name})
  isobar_compile_lightly(${name})
  # Programs run beside each other, so each takes one thread for LibTorch's operators. One process runs all tests of a
  # program: a start with LibTorch takes a third of a second, under a sanitizer one to three.
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}" ENVIRONMENT OMP_NUM_THREADS=1)
endfunction()
