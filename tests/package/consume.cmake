# SPDX-License-Identifier: Apache-2.0
# Builds the consumer outside the repository against the package under `prefix`, and runs it on 2 ranks.
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

run(${CMAKE_COMMAND} -S ${work}/source -B ${work}/build -G Ninja -D CMAKE_BUILD_TYPE=Release
  -D CMAKE_PREFIX_PATH=${prefix} -D Torch_DIR=${torch} -D CMAKE_CXX_COMPILER_LAUNCHER=${launcher}
  -D CMAKE_EXPORT_COMPILE_COMMANDS=ON)
run(${CMAKE_COMMAND} --build ${work}/build)
file(STRINGS ${work}/build/compile_commands.json foreign REGEX "${forbidden}")
if(foreign)
  message(FATAL_ERROR "${name}: compiled with ${forbidden}: ${foreign}")
endif()
run(${mpirun} -n 2 ${work}/build/train_own_module)
run(${work}/build/link_everything)
file(REMOVE_RECURSE ${work})
