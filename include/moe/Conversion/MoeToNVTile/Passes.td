// SPDX-License-Identifier: Apache-2.0
// The pass of this room: level-2 matrix products to nvtile kernels.
#ifndef MOE_CONVERSION_MOETONVTILE_PASSES_TD
#define MOE_CONVERSION_MOETONVTILE_PASSES_TD

include "mlir/Pass/PassBase.td"

def ConvertMoeToNVTile : Pass<"convert-moe-to-nvtile", "::mlir::ModuleOp"> {
  let summary = "matrix products of level 2 become kernels of sm_90a";
  let description = [{
    On buffers, before `moe-plan-workspace`: each `moe.grouped_matmul` and
    `moe.grouped_outer` that the chip's matrix unit can do becomes a gpu.module
    with one kernel of nvtile ops and a `gpu.launch_func`. A kernel's blocks, one
    a multiprocessor, share out the entries of a work table (see
    `nvtile.work_item`), which is allocated and filled once for each assignment.

    The others stay, with a remark that says why. A product of bf16 or f16 that
    stays keeps the reason as its attribute `moe.simt`, for the manifest: its
    SIMT kernel is right and slow. On an `arch` other than sm_90a all stay.

    What fits:
    * operands of bf16 or f16, one type in a kernel; widths that are multiples of
      8, column blocks of 1, 2 or 4
    * `grouped_matmul`: rows in any order on the left, weights in either layout
      (interleaved columns only (E, out, in)); region operands `rows` (not
      interleaved), `scalar`, `expert`; results `rows` in grouped order (not
      interleaved) and `partials`; a region of arith, exp, exp2, log, tanh, erf,
      sqrt, rsqrt, abs and copysign
    * `grouped_outer`: rows in any order on both sides, results of bf16, f16 or
      f32, accumulating or not

    `#moe.config<{stages = 3, buffers = 4}>` on an op chooses the stages of the
    ring and the staging buffers of a warpgroup. `structure = "resident"` or
    `"cooperative"` chooses the kernel of a `grouped_matmul`: whether a tile's
    weights stay in shared memory while an expert's rows pass by, `blocks` row
    blocks at most. That wants one pair with grouped rows, a contraction of at
    most 256, and no grouped 16-bit rows among the region's operands; otherwise
    a remark says why not.
  }];
  let options = [Option<"arch", "arch", "std::string", /*default=*/"\"sm_90a\"",
                        "the GPU architecture, as ptxas spells it">];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect",
    "::mlir::gpu::GPUDialect", "::mlir::memref::MemRefDialect",
    "::mlir::scf::SCFDialect", "::mlir::nvtile::NVTileDialect"];
}

#endif // MOE_CONVERSION_MOETONVTILE_PASSES_TD
