# SPDX-License-Identifier: Apache-2.0
# Finds LLVM and MLIR 22 and makes their static archives usable alone.

# The distribution's package, unless MLIR_DIR names another build.
find_package(MLIR 22.1 REQUIRED CONFIG HINTS /usr/lib/llvm-22)
message(STATUS "MLIR ${MLIR_VERSION} ${LLVM_VERSION}: ${MLIR_DIR}")

list(APPEND CMAKE_MODULE_PATH ${MLIR_CMAKE_DIR} ${LLVM_CMAKE_DIR})
# Without it add_mlir_doc copies to the root of the file system.
set(MLIR_BINARY_DIR ${CMAKE_BINARY_DIR})
include(AddLLVM)
include(TableGen)
include(AddMLIR)

separate_arguments(moe_llvm_definitions NATIVE_COMMAND "${LLVM_DEFINITIONS}")
add_definitions(${moe_llvm_definitions})

# The archives name the shared libLLVM or libMLIR in their interfaces. Linking
# both would give one program two copies of LLVM's globals, so the shared ones
# are taken out and LLVM's own archives put in their place.
llvm_map_components_to_libnames(moe_llvm_libraries Core Support BitWriter Passes
  OrcJIT OrcDebugging JITLink native NVPTX TargetParser IRReader Linker MC
  Object Analysis FrontendOpenMP SupportLSP PerfJITEvents TransformUtils
  InstCombine ipo)
add_library(moe_llvm_static INTERFACE)
target_link_libraries(moe_llvm_static INTERFACE ${moe_llvm_libraries})
foreach(target IN LISTS MLIR_EXPORTED_TARGETS)
  get_target_property(type ${target} TYPE)
  if(NOT type MATCHES "^(STATIC|INTERFACE)_LIBRARY$")
    continue()
  endif()
  get_target_property(links ${target} INTERFACE_LINK_LIBRARIES)
  if(NOT links)
    continue()
  endif()
  list(REMOVE_ITEM links LLVM MLIR)
  set_target_properties(${target} PROPERTIES INTERFACE_LINK_LIBRARIES
    "${links};moe_llvm_static")
endforeach()
