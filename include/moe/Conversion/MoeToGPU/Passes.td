// SPDX-License-Identifier: Apache-2.0
// From level 2 of the `moe` dialect on memrefs to kernels for a GPU, and to the
// host code that launches them.
#ifndef MOE_CONVERSION_MOETOGPU_PASSES_TD
#define MOE_CONVERSION_MOETOGPU_PASSES_TD

include "mlir/Pass/PassBase.td"

def ConvertMoeToGPU : Pass<"convert-moe-to-gpu", "::mlir::ModuleOp"> {
  let summary = "kernels on memrefs to gpu.launch, for any GPU";
  let description = [{
    Each level-2 op that is left becomes one or a few `gpu.launch` on the CUDA
    cores (SIMT), for any type, width and architecture, in exact f32 (f64 for
    f64). What surrounds them and touches device memory (linalg ops, single
    stores, copies) becomes launches too; `moe.pack_assignment` disappears. The
    host never reads device memory, so nothing waits for the device.

    No grid is counted on the device: a kernel over rows of experts has as many
    blocks as there can be tiles, and a block finds its rows in the assignment's
    tables. Sums have an order that depends on the rows alone, and there are no
    atomics, so results are the same bits in every run.

    Kernels are named `<function>_<op>_<number>`, each in a module of its own.

    Preconditions: every operand is a memref of identity layout, and every
    assignment comes from a `moe.pack_assignment` (`moe-expand-assignment`).

    ```
    moe.fold_partials %p : memref<?x2xf32> by %a : !moe.assignment<?x2, 8>
        to slot outs(%o : memref<?x2xf32>)
    ```
    becomes
    ```
    gpu.launch blocks(%b, ...) in (%n = %blocks, ...) threads(%t, ...) in ... {
      ...
      memref.store %sum, %o[%token, %choice] : memref<?x2xf32>
      gpu.terminator
    }
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect",
    "::mlir::linalg::LinalgDialect", "::mlir::math::MathDialect",
    "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect",
    "::mlir::vector::VectorDialect"];
}

def MoeAlignKernels : Pass<"moe-align-kernels", "::mlir::gpu::GPUModuleOp"> {
  let summary = "vectors in kernels are aligned to their size, up to 16 bytes";
  let description = [{
    Says of each `vector.load` and `vector.store` what `convert-moe-to-gpu` made
    sure of: that it is aligned to its size, or to 16 bytes if that is less.
    Without it they would become loads of single elements. Shared buffers are
    aligned to 16 bytes for the same reason. Refuses kernels with more than
    48 KiB of static shared memory.
  }];
}

def MoeKernelMath : Pass<"moe-kernel-math", "::mlir::gpu::GPUModuleOp"> {
  let summary = "math ops that a GPU has instructions for, to LLVM's intrinsics";
  let description = [{
    `math.fma`, `sqrt`, `absf`, `copysign` and the roundings to integers become
    LLVM's intrinsics. Elementary functions become arithmetic in f64, those of
    narrower types too where `moe-approximate-math` left them. Any other op would
    be a call of NVIDIA's device library, which is not on every machine, and is
    refused.

    ```
    %y = math.fma %a, %b, %c : f32
    ```
    becomes
    ```
    %y = llvm.call_intrinsic "llvm.fma"(%a, %b, %c) : (f32, f32, f32) -> f32
    ```
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect",
                           "::mlir::scf::SCFDialect"];
}

def ConvertGPULaunchToRuntime
    : Pass<"convert-gpu-launch-to-runtime", "::mlir::ModuleOp"> {
  let summary = "launches to calls of the runtime, binaries to its table";
  let description = [{
    Each `gpu.launch_func` becomes a call of `moe_rt_launch(kernel, grid, block,
    dynamic shared memory, arguments)`. A memref argument is passed as the
    scalars of its descriptor, any other value as itself; the arguments' slots
    are on the host function's stack. The runtime takes the stream and the
    device of the call that is going on, so launches can be captured in a graph.

    Each `gpu.binary` becomes a constant, and `_moe_gpu_kernels` lists for each
    kernel the image, its size and the kernel's name; `_moe_gpu_kernel_count`
    says how many there are.

    Public functions get `llvm.emit_c_interface`: the host calls them through
    pointers.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect",
    "::mlir::LLVM::LLVMDialect"];
}

#endif // MOE_CONVERSION_MOETOGPU_PASSES_TD
