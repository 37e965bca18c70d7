// SPDX-License-Identifier: Apache-2.0
// From level 2 of the `moe` dialect on memrefs to loops over tasks, for a CPU.
#ifndef MOE_CONVERSION_MOETOSCF_PASSES_TD
#define MOE_CONVERSION_MOETOSCF_PASSES_TD

include "mlir/Pass/PassBase.td"

def ConvertMoeToSCF : Pass<"convert-moe-to-scf", "::mlir::ModuleOp"> {
  let summary = "kernels on memrefs to parallel loops over tasks, and vectors";
  let description = [{
    Each level-2 op becomes an `scf.parallel` over independent tasks (a chunk of
    rows, an (expert, panel of columns) pair, ...) with loops on
    `vector<16x...>` inside; `moe.pack_assignment` disappears. What a task
    computes is fixed by the shapes and the assignment, never by the number of
    threads, so neither do the results' bits depend on it.

    The matrix products pack a panel of the weights on the task's stack and run
    a register-blocked micro-kernel over the rows, which are read in place
    through the assignment's tables. Nothing is allocated but fixed-size
    buffers on a task's stack.

    Products of bf16 by `moe.grouped_matmul` are made of AMX tiles with
    `has-amx-bf16`. Rows are staged and weights are packed tile after tile, both
    padded with zeros to 32 contraction steps, so that nothing beside a row is
    multiplied; sums of 32 rows and 32 columns stay in four tiles over all steps:
    ```
    %sums:4 = scf.for %line = %c0 to %lines step %c16
        iter_args(%s0 = %zero, ...) -> (!amx.tile<16x16xf32>, ...) {
      %a = amx.tile_load %stage[%line, %c0]
          : memref<32x32xbf16> into !amx.tile<16x32xbf16>
      %b = amx.tile_load %panel[%at, %c0]
          : memref<64x32xbf16> into !amx.tile<16x32xbf16>
      %t0 = amx.tile_mulf %a, %b, %s0 : !amx.tile<16x32xbf16>,
          !amx.tile<16x32xbf16>, !amx.tile<16x16xf32>
      ...
    }
    amx.tile_store %sums_of_block[%c0, %c0], %sums#0
        : memref<32x64xf32>, !amx.tile<16x16xf32>
    ```
    Every number of rows takes this way, with the same steps in the same order:
    a row's bits are the same alone and among others.

    The options say what the CPU has; the defaults assume nothing.

    Preconditions: every operand is a memref of identity layout, and every
    assignment comes from a `moe.pack_assignment` (`moe-expand-assignment`).

    ```
    moe.fold_partials %p : memref<?x2xf32> by %a : !moe.assignment<?x2, 8>
        to slot outs(%o : memref<?x2xf32>)
    ```
    becomes
    ```
    scf.parallel (%task) = (%c0) to (%tasks) step (%c1) {
      scf.for %slot = %first to %last step %c1 {
        ...
        memref.store %sum, %o[%token, %choice] : memref<?x2xf32>
      }
    }
    ```
  }];
  let options = [
    Option<"vectorBits", "vector-bits", "int64_t", /*default=*/"128",
           "width of a vector register in bits: 128, 256 or 512">,
    Option<"hasFMA", "has-fma", "bool", /*default=*/"false",
           "whether multiply-add is one instruction">,
    Option<"hasAVX512BF16", "has-avx512bf16", "bool", /*default=*/"false",
           "whether the CPU multiplies pairs of bf16 (vdpbf16ps)">,
    Option<"hasAMXBF16", "has-amx-bf16", "bool", /*default=*/"false",
           "whether the CPU multiplies tiles of bf16 (tdpbf16ps); wants "
           "vector-bits=512">];
  let dependentDialects = [
    "::mlir::amx::AMXDialect", "::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
    "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect",
    "::mlir::vector::VectorDialect", "::mlir::x86vector::X86VectorDialect"];
}

def MoeOutlineTasks : Pass<"moe-outline-tasks", "::mlir::ModuleOp"> {
  let summary = "parallel loops to private task functions and one call each";
  let description = [{
    The body of each `scf.parallel` (one dimension, from 0, step 1, no
    reductions) becomes a private function of the task's number and a pointer
    to the captured values, which lie in a struct on the caller's stack;
    `moe_rt_parallel_for(task, context, count)` of the host runtime runs it.
    Constants are cloned instead of captured. Public functions get
    `llvm.emit_c_interface`: the host calls them through pointers.
    What attributes of the dialect say of arguments is in the manifest and goes.

    ```mlir before
    func.func @fill(%x: memref<?xf32>, %n: index) {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %one = arith.constant 1.0 : f32
      scf.parallel (%i) = (%c0) to (%n) step (%c1) {
        memref.store %one, %x[%i] : memref<?xf32>
      }
      return
    }
    ```
    becomes
    ```mlir after
    func.func private @moe_rt_parallel_for((i64, !llvm.ptr) -> (), !llvm.ptr, i64)
    func.func @fill(%arg0: memref<?xf32>, %arg1: index) attributes {llvm.emit_c_interface} {
      %0 = llvm.mlir.constant(1 : i64) : i64
      %1 = llvm.alloca %0 x !llvm.struct<(struct<(ptr, ptr, i64, array<1 x i64>, array<1 x i64>)>)> : (i64) -> !llvm.ptr
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %cst = arith.constant 1.000000e+00 : f32
      %2 = llvm.mlir.undef : !llvm.struct<(struct<(ptr, ptr, i64, array<1 x i64>, array<1 x i64>)>)>
      %3 = builtin.unrealized_conversion_cast %arg0 : memref<?xf32> to !llvm.struct<(ptr, ptr, i64, array<1 x i64>, array<1 x i64>)>
      %4 = llvm.insertvalue %3, %2[0] : !llvm.struct<(struct<(ptr, ptr, i64, array<1 x i64>, array<1 x i64>)>)>
      llvm.store %4, %1 : !llvm.struct<(struct<(ptr, ptr, i64, array<1 x i64>, array<1 x i64>)>)>, !llvm.ptr
      %f = constant @fill_task : (i64, !llvm.ptr) -> ()
      %5 = arith.index_cast %arg1 : index to i64
      call @moe_rt_parallel_for(%f, %1, %5) : ((i64, !llvm.ptr) -> (), !llvm.ptr, i64) -> ()
      return
    }
    func.func private @fill_task(%arg0: i64, %arg1: !llvm.ptr) attributes {llvm.linkage = #llvm.linkage<internal>} {
      %cst = arith.constant 1.000000e+00 : f32
      %0 = llvm.load %arg1 : !llvm.ptr -> !llvm.struct<(struct<(ptr, ptr, i64, array<1 x i64>, array<1 x i64>)>)>
      %1 = llvm.extractvalue %0[0] : !llvm.struct<(struct<(ptr, ptr, i64, array<1 x i64>, array<1 x i64>)>)>
      %2 = builtin.unrealized_conversion_cast %1 : !llvm.struct<(ptr, ptr, i64, array<1 x i64>, array<1 x i64>)> to memref<?xf32>
      %3 = arith.index_cast %arg0 : i64 to index
      memref.store %cst, %2[%3] : memref<?xf32>
      return
    }
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect",
    "::mlir::LLVM::LLVMDialect"];
}

def MoeApproximateMath : Pass<"moe-approximate-math"> {
  let summary = "f32 exp, tanh, erf and their like in vector arithmetic";
  let description = [{
    Rewrites the math ops that a libm would be called for, a lane at a time, as
    upstream's polynomial approximations (about one unit in the last place in
    f32). f64, and functions whose approximation is poor far from zero, keep
    the libm.

    ```
    %y = math.exp %x : vector<16xf32>
    ```
    becomes multiplications, additions and shifts of `vector<16xf32>`.
  }];
  let options = [
    Option<"hasFMA", "has-fma", "bool", /*default=*/"false",
           "whether multiply-add is one instruction; without it a fused one "
           "would be a library call and is split">];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
    "::mlir::vector::VectorDialect"];
}

#endif // MOE_CONVERSION_MOETOSCF_PASSES_TD
