# SPDX-License-Identifier: Apache-2.0
# Language level, warnings, the linker, ccache, and what a test build adds.

set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 99)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# One precompiled header serves programs and libraries, so both have to be
# compiled alike: clang refuses to mix -fPIE and -fPIC.
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_COMPILE_OPTIONS_PIE ${CMAKE_CXX_COMPILE_OPTIONS_PIC})
set(CMAKE_C_COMPILE_OPTIONS_PIE ${CMAKE_C_COMPILE_OPTIONS_PIC})
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)

add_compile_options(-Wall -Wextra -ffunction-sections
  -fdata-sections "$<$<COMPILE_LANGUAGE:CXX>:-fno-rtti;-fno-exceptions>")
if(MOE_WERROR)
  add_compile_options(-Werror)
endif()

# A test build is rebuilt often and its speed is not measured.
if(MOE_TEST_BUILD)
  set(CMAKE_CXX_FLAGS_RELEASE -O1)
  set(CMAKE_C_FLAGS_RELEASE -O1)
  add_compile_options(-UNDEBUG)
  add_compile_definitions(_GLIBCXX_ASSERTIONS)
else()
  set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
  set(CMAKE_C_FLAGS_RELEASE "-O2 -DNDEBUG")
endif()
if(MOE_SANITIZE)
  # The trapping form needs no run-time library, so libmoe_mlir.so still loads
  # into any Python. vptr and function need type information, which LLVM lacks.
  add_compile_options(-fsanitize=undefined -fno-sanitize=vptr,function
    -fsanitize-trap=undefined)
endif()

find_program(MOE_MOLD mold)
if(MOE_MOLD)
  add_link_options(-fuse-ld=mold)
endif()
add_link_options(-Wl,--gc-sections -Wl,--as-needed)

find_program(MOE_CCACHE ccache)
if(MOE_CCACHE)
  # It fails every compilation where it cannot write its folder.
  execute_process(COMMAND ${MOE_CCACHE} ${CMAKE_CXX_COMPILER} -c -x c++ /dev/null
    -o ${CMAKE_BINARY_DIR}/CMakeFiles/ccache-trial.o
    RESULT_VARIABLE moe_ccache_failed OUTPUT_QUIET ERROR_QUIET)
  if(moe_ccache_failed)
    message(STATUS "ccache does not work here, and is not used")
  endif()
endif()
if(MOE_CCACHE AND NOT moe_ccache_failed AND NOT CMAKE_CXX_COMPILER_LAUNCHER AND CMAKE_CXX_COMPILER_ID MATCHES Clang)
  # A precompiled header hits the cache only without its time stamp and with
  # these allowances.
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:SHELL:-Xclang -fno-pch-timestamp>")
  set(moe_ccache ${CMAKE_COMMAND} -E env
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime)
  if(MLIR_DIR MATCHES "^/usr/")
    # The packages' headers change only with their version, so several checkouts
    # can share one cache: paths are taken relative to the checkout, and the
    # precompiled header, in which they are not, is hashed by what it is made of
    # (see MoeTargets.cmake). CMake's own flags also name the header behind
    # -Xclang, where ccache does not see a path.
    list(APPEND moe_ccache CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_PCH_EXTSUM=1)
    set(CMAKE_CXX_COMPILE_OPTIONS_USE_PCH -Xclang -include-pch -Xclang <PCH_FILE>)
    set(MOE_PCH_CHECKSUM ON)
  endif()
  list(APPEND moe_ccache ${MOE_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${moe_ccache})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${moe_ccache})
endif()
