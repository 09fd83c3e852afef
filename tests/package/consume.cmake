# SPDX-License-Identifier: Apache-2.0
# Builds the consumer, the programs of README and docs/use-the-library.md, outside the repository against the package
# under `prefix`, and runs them on 2 ranks. From an installed package, whose pkg-config file is `pc`, an installed
# example is built without CMake, too.
#   consumer: its sources; root: this repository's; name: this test's;
#   forbidden: a folder that its compile commands must not name;
#   launcher, torch: this build's CMAKE_CXX_COMPILER_LAUNCHER and Torch_DIR; mpirun: the command that starts ranks.
cmake_minimum_required(VERSION 3.23)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}: ${status}")
  endif()
endfunction()

set(temporary "$ENV{TMPDIR}")
if(NOT temporary)
  set(temporary /tmp)
endif()
# The same folder every time, so that ccache knows the commands again; one for each build tree and user.
string(SHA256 id "${prefix} $ENV{USER}")
string(SUBSTRING ${id} 0 12 id)
set(work ${temporary}/isobar-package-${name}-${id})
file(REMOVE_RECURSE ${work})
file(COPY ${consumer}/ ${root}/examples/05_train_a_weather_network.cpp DESTINATION ${work}/source)

run(${CMAKE_COMMAND} -S ${work}/source -B ${work}/build -G Ninja
  -D CMAKE_PREFIX_PATH=${prefix} -D Torch_DIR=${torch} -D CMAKE_CXX_COMPILER_LAUNCHER=${launcher}
  -D CMAKE_EXPORT_COMPILE_COMMANDS=ON)
run(${CMAKE_COMMAND} --build ${work}/build)
file(WRITE ${work}/misspelt/CMakeLists.txt "cmake_minimum_required(VERSION 3.23)
project(misspelt LANGUAGES CXX)
find_package(isobar REQUIRED COMPONENTS core dpd)
")
execute_process(COMMAND ${CMAKE_COMMAND} -S ${work}/misspelt -B ${work}/misspelt/build -G Ninja
    -D CMAKE_PREFIX_PATH=${prefix} -D Torch_DIR=${torch}
  RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE complaint)
string(REGEX REPLACE "[ \n]+" " " complaint "${complaint}")
if(status EQUAL 0 OR NOT complaint MATCHES "isobar has no component dpd; it has core [a-z0-9 ]*ddp")
  message(FATAL_ERROR "${name}: a component that does not exist ended in ${status}: ${complaint}")
endif()
file(STRINGS ${work}/build/compile_commands.json foreign REGEX "${forbidden}")
if(foreign)
  message(FATAL_ERROR "${name}: compiled with ${forbidden}: ${foreign}")
endif()
file(STRINGS ${work}/build/compile_commands.json plain REGEX "main.cpp" LIMIT_COUNT 1)
if(NOT plain MATCHES "-O[23]")
  message(FATAL_ERROR "${name}: compiled without -O: ${plain}")
endif()
execute_process(COMMAND ${mpirun} -n 2 ${work}/build/train_own_module OUTPUT_VARIABLE said COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "step 100 of 2 ranks: loss [0-9.]+e-(0[4-9]|[1-9][0-9])" learnt "${said}")
list(LENGTH learnt times)
if(NOT times EQUAL 1)  # one rank speaks, and both learn together
  message(FATAL_ERROR "${name}: the program said: ${said}")
endif()
execute_process(COMMAND ${mpirun} -n 2 ${work}/build/readme OUTPUT_VARIABLE said COMMAND_ERROR_IS_FATAL ANY)
if(NOT said MATCHES "^50: [0-9.e-]+\n100: [0-9.]+e-(0[4-9]|[1-9][0-9])\n$")
  message(FATAL_ERROR "${name}: README's program said: ${said}")
endif()
foreach(program train_own_module readme)
  execute_process(COMMAND ${CMAKE_COMMAND} -E env RANK=none WORLD_SIZE=2 ${work}/build/${program}
    RESULT_VARIABLE status OUTPUT_VARIABLE said ERROR_VARIABLE complaint)
  if(NOT status EQUAL 1 OR NOT "${said}|${complaint}" MATCHES "^\\|error: [^\n]*RANK is 'none'[^\n]*\n$")
    message(FATAL_ERROR "${name}: an error of ${program} ended in ${status}: ${said}${complaint}")
  endif()
endforeach()
execute_process(COMMAND ${mpirun} -n 2 ${work}/build/measure_own_subject OUTPUT_VARIABLE said COMMAND_ERROR_IS_FATAL ANY)
if(NOT said MATCHES "^two_phases: [0-9.]+ ms, [0-9.]+ Gbit/s, error 0\n$")
  message(FATAL_ERROR "${name}: the measurement said: ${said}")
endif()
run(${work}/build/link_everything)
execute_process(COMMAND ${CMAKE_COMMAND} -E env RANK=1 WORLD_SIZE=2 ${work}/build/own_place
  OUTPUT_VARIABLE said COMMAND_ERROR_IS_FATAL ANY)
file(GET_RUNTIME_DEPENDENCIES EXECUTABLES ${work}/build/own_place RESOLVED_DEPENDENCIES_VAR needed
  UNRESOLVED_DEPENDENCIES_VAR missing)
if(NOT said STREQUAL "rank 1 of 2 by torchrun\n" OR "${needed};${missing}" MATCHES "torch")
  message(FATAL_ERROR "${name}: a program of layer launch said: ${said}, and needs ${needed};${missing}")
endif()
execute_process(COMMAND ${work}/build/own_file ${work}/own.h5 OUTPUT_VARIABLE said COMMAND_ERROR_IS_FATAL ANY)
if(NOT said STREQUAL "sum 3\n")
  message(FATAL_ERROR "${name}: a program of layer hdf5 said: ${said}")
endif()
execute_process(COMMAND ${mpirun} -n 2 ${work}/build/train_a_weather_network ${root}/examples/experiments/quickstart.yaml
    train.steps=2 data.path=${root}/examples/data/era5_t2m_uk_2019-03.nc
  WORKING_DIRECTORY ${work} OUTPUT_VARIABLE said COMMAND_ERROR_IS_FATAL ANY)
if(NOT said MATCHES "^2 steps in [^\n]*\nt2m at 6 h: error [0-9.]+, persistence 2.68")
  message(FATAL_ERROR "${name}: the weather network said: ${said}")
endif()
if(pc)
  set(ENV{PKG_CONFIG_PATH} ${pc})
  execute_process(COMMAND pkg-config --cflags --libs isobar OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE
    COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags)
  run(${launcher} ${cxx} -O2 -std=c++20 -c ${prefix}/share/doc/isobar/examples/03_collectives.cpp -o ${work}/collectives.o ${flags})
  run(${cxx} ${work}/collectives.o -o ${work}/collectives ${flags})
  run(${mpirun} -n 2 ${work}/collectives)
endif()
file(REMOVE_RECURSE ${work})
