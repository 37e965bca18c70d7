// SPDX-License-Identifier: Apache-2.0
// The pass of this room: nvtile kernels to the NVVM and LLVM dialects.
#ifndef MOE_CONVERSION_NVTILETONVVM_PASSES_TD
#define MOE_CONVERSION_NVTILETONVVM_PASSES_TD

include "mlir/Pass/PassBase.td"

def ConvertNVTileToNVVM : Pass<"convert-nvtile-to-nvvm", "::mlir::ModuleOp"> {
  let summary = "nvtile kernels become NVVM for sm_90a, their launches host code";
  let description = [{
    Every `gpu.func` of a gpu.module that has nvtile ops becomes an `llvm.func` of
    scf, arith, LLVM and NVVM ops: one pattern for each op. Shared memory is laid
    out ring first, each part at a multiple of 1024 bytes. Other modules stay as
    they are.

    A `gpu.launch_func` of such a kernel gets its bytes of shared memory; memref
    operands become pointers (index), and an `nvtile.tensor_map` a call of the
    runtime's `moe_rt_tensor_map`, which fills 128 bytes on the host's stack.

    What is left to do: `convert-scf-to-cf`, `convert-cf-to-llvm` (on the
    builtin module), `convert-arith-to-llvm`, `convert-nvvm-to-llvm`,
    `reconcile-unrealized-casts`, `gpu-module-to-binary`.

    Refused: a kernel whose rings and staging pass 232,448 bytes, and ops in an
    `nvtile.map` that the chip has no approximation for.

    ```
    gpu.launch_func @m::@f blocks in (%n, %one, %one) threads in (%c384, %one,
        %one) args(%t : memref<?xi32>)
    becomes
    %p = memref.extract_aligned_pointer_as_index %t : memref<?xi32> -> index
    gpu.launch_func @m::@f blocks in (%n, %one, %one) threads in (%c384, %one,
        %one) dynamic_shared_memory_size %bytes args(%p : index)
    ```
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect",
                           "::mlir::NVVM::NVVMDialect",
                           "::mlir::arith::ArithDialect",
                           "::mlir::func::FuncDialect",
                           "::mlir::memref::MemRefDialect",
                           "::mlir::scf::SCFDialect"];
}

#endif // MOE_CONVERSION_NVTILETONVVM_PASSES_TD
