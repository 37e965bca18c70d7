# SPDX-License-Identifier: Apache-2.0
# The library's visible symbols are the functions of moe.h, exactly.
execute_process(COMMAND ${NM} -D --defined-only -j ${LIBRARY}
  OUTPUT_VARIABLE found COMMAND_ERROR_IS_FATAL ANY)
string(STRIP "${found}" found)
string(REPLACE "\n" ";" found "${found}")
file(READ ${CMAKE_CURRENT_LIST_DIR}/../../include/moe-c/moe.h header)
string(REGEX MATCHALL "moe_[a-z_]+\\(" expected "${header}")
list(TRANSFORM expected REPLACE "\\(" "")
list(REMOVE_DUPLICATES expected)
list(SORT expected)
list(SORT found)
if(NOT found STREQUAL expected)
  message(FATAL_ERROR "visible: ${found}\nexpected: ${expected}")
endif()
execute_process(COMMAND ${READELF} -d ${LIBRARY}
  OUTPUT_VARIABLE dynamic COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "NEEDED[^\n]*" needed "${dynamic}")
foreach(line IN LISTS needed)
  if(NOT line MATCHES "lib(c|m|z|zstd)\\.so|ld-linux")
    message(FATAL_ERROR "the library needs ${line}")
  endif()
endforeach()
