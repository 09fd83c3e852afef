# SPDX-License-Identifier: Apache-2.0
# Builds the consumer, README's program, outside the repository against the package under `prefix`, and runs it on 2
# ranks. From an installed package, whose pkg-config file is `pc`, an installed example is built without CMake, too.
#   consumer: its sources; name: this test's; forbidden: a folder that its compile commands must not name;
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
file(COPY ${consumer}/ DESTINATION ${work}/source)

run(${CMAKE_COMMAND} -S ${work}/source -B ${work}/build -G Ninja
  -D CMAKE_PREFIX_PATH=${prefix} -D Torch_DIR=${torch} -D CMAKE_CXX_COMPILER_LAUNCHER=${launcher}
  -D CMAKE_EXPORT_COMPILE_COMMANDS=ON)
run(${CMAKE_COMMAND} --build ${work}/build)
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
execute_process(COMMAND ${CMAKE_COMMAND} -E env RANK=none WORLD_SIZE=2 ${work}/build/train_own_module
  RESULT_VARIABLE status OUTPUT_VARIABLE said ERROR_VARIABLE complaint)
if(NOT status EQUAL 1 OR NOT "${said}|${complaint}" MATCHES "^\\|error: [^\n]*RANK is 'none'[^\n]*\n$")
  message(FATAL_ERROR "${name}: an error ended in ${status}: ${said}${complaint}")
endif()
run(${work}/build/link_everything)
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
