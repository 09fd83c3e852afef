# SPDX-License-Identifier: Apache-2.0
# Runs LAUNCH (a list) and fails unless it ends within WITHIN seconds, its exit code is 0 or another as WANTED says
# (success, failure), and its output matches OUTPUT.
execute_process(COMMAND ${LAUNCH} TIMEOUT ${WITHIN} RESULT_VARIABLE code OUTPUT_VARIABLE text ERROR_VARIABLE text)
message("${text}")
if(NOT code MATCHES "^[0-9]+$")
  message(FATAL_ERROR "did not end by itself within ${WITHIN} s: ${code}")
endif()
if((WANTED STREQUAL "success" AND NOT code EQUAL 0) OR (WANTED STREQUAL "failure" AND code EQUAL 0))
  message(FATAL_ERROR "exit code ${code}, wanted ${WANTED}")
endif()
if(NOT text MATCHES "${OUTPUT}")
  message(FATAL_ERROR "the output lacks '${OUTPUT}'")
endif()
