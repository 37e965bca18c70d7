# SPDX-License-Identifier: Apache-2.0
# The few functions our CMakeLists.txt files are written in.

# LLVM's and TableGen's output are SYSTEM so that -Werror is about our sources.
include_directories(${CMAKE_SOURCE_DIR}/include)
include_directories(SYSTEM ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS}
  ${CMAKE_BINARY_DIR}/include)
foreach(directory IN ITEMS third_party/dlpack)
  if(EXISTS ${CMAKE_SOURCE_DIR}/${directory})
    include_directories(SYSTEM ${CMAKE_SOURCE_DIR}/${directory})
  endif()
endforeach()

# One precompiled header for every target.
file(WRITE ${CMAKE_BINARY_DIR}/moe_pch.cpp.tmp "// Carries the precompiled header.\n")
configure_file(${CMAKE_BINARY_DIR}/moe_pch.cpp.tmp ${CMAKE_BINARY_DIR}/moe_pch.cpp COPYONLY)
add_library(moe_pch OBJECT ${CMAKE_BINARY_DIR}/moe_pch.cpp)
target_precompile_headers(moe_pch PRIVATE ${CMAKE_SOURCE_DIR}/cmake/Precompiled.h)

if(MOE_PCH_CHECKSUM)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS cmake/Precompiled.h)
  file(SHA256 ${CMAKE_SOURCE_DIR}/cmake/Precompiled.h moe_pch_hash)
  file(WRITE ${CMAKE_BINARY_DIR}/CMakeFiles/moe_pch.dir/cmake_pch.hxx.pch.sum
    "${moe_pch_hash} ${MLIR_DIR} ${MLIR_VERSION} ${CMAKE_CXX_COMPILER_VERSION}\n")
endif()

# moe_add_room(folder): add_subdirectory where the folder is a room already.
macro(moe_add_room room)
  if(EXISTS ${CMAKE_SOURCE_DIR}/${room}/CMakeLists.txt)
    add_subdirectory(${room})
  endif()
endmacro()

# moe_add_library(Name source... [DEPENDS TableGen targets...] [LINK libraries...])
# A static library. LINK is public: what a library's headers need, its users get.
function(moe_add_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_precompile_headers(${name} REUSE_FROM moe_pch)
  target_link_libraries(${name} PUBLIC ${ARG_LINK})
  if(ARG_DEPENDS)
    add_dependencies(${name} ${ARG_DEPENDS})
  endif()
  moe_depend_on_tablegen(${name} ${ARG_LINK})
endfunction()

# moe_add_tool(name source... [DEPENDS targets...] [LINK libraries...])
# A program in build/bin.
function(moe_add_tool name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LINK" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_precompile_headers(${name} REUSE_FROM moe_pch)
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
  if(ARG_DEPENDS)
    add_dependencies(${name} ${ARG_DEPENDS})
  endif()
  set_property(GLOBAL APPEND PROPERTY MOE_TOOLS ${name})
endfunction()

# moe_add_unittest(name source... LINK libraries...)
# A GoogleTest program; `ctest` finds each of its tests.
function(moe_add_unittest name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LINK" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/unittests)
  target_precompile_headers(${name} REUSE_FROM moe_pch)
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gtest GTest::gtest_main)
  if(ARG_DEPENDS)
    add_dependencies(${name} ${ARG_DEPENDS})
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 120)
endfunction()

# Our libraries include each other's generated headers: whoever links MoeIR has
# to wait for MoeIRIncGen. CMake orders static libraries by linking only for
# Makefiles' sake; Ninja compiles in parallel, so the dependency is said here.
function(moe_depend_on_tablegen name)
  foreach(link IN LISTS ARGN)
    if(TARGET ${link} AND link MATCHES "^Moe|^NVTile")
      add_dependencies(${name} ${link})
    endif()
  endforeach()
endfunction()
