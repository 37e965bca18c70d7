// SPDX-License-Identifier: Apache-2.0
// The pass of this room: level-2 matrix products to nvtile kernels.
#ifndef MOE_CONVERSION_MOETONVTILE_PASSES_TD
#define MOE_CONVERSION_MOETONVTILE_PASSES_TD

include "mlir/Pass/PassBase.td"

def MoeSelectConfig : Pass<"moe-select-config", "::mlir::ModuleOp"> {
  let summary = "decide which kernels matrix products have, and their numbers";
  let description = [{
    On buffers: each `moe.grouped_matmul` and `moe.grouped_outer` gets the
    attribute `moe.config` (see `#moe.config`), which `convert-moe-to-nvtile`
    then obeys. No op is rewritten.

    A config that is there is kept: it is how a user overrides the choice.
    Numbers that its variants leave open are chosen; what no kernel can do is an
    error that says what can be done.

    * `cooperative`, on sm_90a, for what fits (see `convert-moe-to-nvtile`):
      tile 128x256, 4 stages, 2 buffers (none where no result of 16 bits leaves
      through staging),
      and for a `grouped_outer` parts: 512 / its tiles, at most E (256 / its
      tiles, where the tiles of all experts are at most 64)
    * `resident` in its place where a `grouped_matmul` contracts grouped rows over
      193 to 256 columns, and its region reads no rows and has one result: tile
      64x256, 8 stages, 2 buffers
    * `simt` otherwise, with the reason, which is also a remark

    ```mlir before
    func.func @f(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>,
                 %e: memref<4xi32>, %x: memref<?x64xbf16>,
                 %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
      %a = moe.pack_assignment %o, %p, %b, %e
          : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32>
          -> !moe.assignment<?x2, 4>
      moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
          pairs(%x from grouped, %w out_in
                : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
          ins() outs(%y : memref<?x512xbf16> rows grouped) {
      ^bb0(%v: f32):
        moe.yield %v : f32
      }
      return
    }
    ```
    becomes
    ```mlir after
    func.func @f(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>,
                 %e: memref<4xi32>, %x: memref<?x64xbf16>,
                 %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
      %a = moe.pack_assignment %o, %p, %b, %e
          : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32>
          -> !moe.assignment<?x2, 4>
      moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
          pairs(%x from grouped, %w out_in
                : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
          ins() outs(%y : memref<?x512xbf16> rows grouped)
          attributes {moe.config = #moe.config<cooperative tile 128x256 stages 4 buffers 2>} {
      ^bb0(%v: f32):
        moe.yield %v : f32
      }
      return
    }
    ```
  }];
  let options = [Option<"arch", "arch", "std::string", /*default=*/"\"sm_90a\"",
                        "the GPU architecture, as ptxas spells it">];
  // For the sizes of what kernels keep in shared memory.
  let dependentDialects = ["::mlir::nvtile::NVTileDialect"];
}

def ConvertMoeToNVTile : Pass<"convert-moe-to-nvtile", "::mlir::ModuleOp"> {
  let summary = "matrix products of level 2 become kernels of sm_90a";
  let description = [{
    On buffers, before `moe-plan-workspace`: each `moe.grouped_matmul` and
    `moe.grouped_outer` whose `moe.config` says so becomes a gpu.module with one
    kernel of nvtile ops and a `gpu.launch_func`; an op with `simt` stays. An op
    without a config is refused: `moe-select-config` decides. A kernel's blocks,
    one a multiprocessor, share out the entries of a work table (see
    `nvtile.work_item`), which is allocated and filled once for each assignment.

    A `grouped_outer` with more than one part may split the rows of experts that
    have many: see docs/NVTile.md. The work table's kernel lists the parts, and
    a second kernel adds their sums to the result.

    Several variants become launches in the branches of an `scf.if` on the host,
    which tests their guards in order.

    What fits:
    * operands of bf16 or f16, one type in a kernel; widths that are multiples of
      8, column blocks of 1, 2 or 4
    * `grouped_matmul`: rows in any order on the left, weights in either layout
      (interleaved columns only (E, out, in)); region operands of any kind, in
      any order; results `rows` in grouped or slot order (sentinel slots get
      zeros from a kernel of their own), `partials`, and `sum` (partials, folded
      by a kernel of its own); two interleaved columns, but not of f32 results;
      a region of arith, exp, exp2, log, tanh, erf,
      sqrt, rsqrt, abs and copysign
    * `grouped_outer`: rows in any order on both sides, results of bf16, f16 or
      f32, accumulating or not
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect",
    "::mlir::gpu::GPUDialect", "::mlir::memref::MemRefDialect",
    "::mlir::scf::SCFDialect", "::mlir::nvtile::NVTileDialect",
    "::mlir::LLVM::LLVMDialect"];
}

#endif // MOE_CONVERSION_MOETONVTILE_PASSES_TD
