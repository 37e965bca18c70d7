// SPDX-License-Identifier: Apache-2.0
// Fusion passes of level 2, in the order of the pipelines. A part of Passes.td.
#ifndef MOE_DIALECT_MOE_TRANSFORMS_FUSIONPASSES_TD
#define MOE_DIALECT_MOE_TRANSFORMS_FUSIONPASSES_TD

include "mlir/Pass/PassBase.td"

/// Fusion passes say what they did and what they could not, and why, as remarks
/// of the category `moe-fuse`. docs/Fusion.md has what they reach together.
class Moe_FusionPass<string flag> : Pass<flag, "::mlir::func::FuncOp"> {
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::tensor::TensorDialect"];
}

def MoeFuseElementwise : Moe_FusionPass<"moe-fuse-elementwise"> {
  let summary = "elementwise tensor math moves into the kernel that reads it";
  let description = [{
    An arith or math op on float tensors that one kernel alone reads, through a
    port, is computed in that kernel's region, on the elements that it reads. A
    rounding goes. Splat constants become scalar constants.

    Refused: several readers; partials; rows of a product (`lhs`).

    ```mlir before
    func.func @f(%x: tensor<4xf32>, %y: tensor<4xf32>, %init: tensor<2x2xf32>,
                 %a: !moe.assignment<2x2, 8>) -> tensor<2x2xf32> {
      %s = arith.addf %x, %y : tensor<4xf32>
      %r = moe.map_rows slot by %a : !moe.assignment<2x2, 8>
          ins(%s : tensor<4xf32> scalar grouped)
          outs(%init : tensor<2x2xf32> scalar slot) {
      ^bb0(%v: f32):
        moe.yield %v : f32
      }
      return %r : tensor<2x2xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%arg0: tensor<4xf32>, %arg1: tensor<4xf32>, %arg2: tensor<2x2xf32>, %arg3: !moe.assignment<2x2, 8>) -> tensor<2x2xf32> {
      %0 = moe.map_rows slot by %arg3 : !moe.assignment<2x2, 8>
          ins(%arg0 : tensor<4xf32> scalar grouped, %arg1 : tensor<4xf32> scalar grouped)
          outs(%arg2 : tensor<2x2xf32> scalar slot) {
      ^bb0(%arg4: f32, %arg5: f32):
        %1 = arith.addf %arg4, %arg5 : f32
        moe.yield %1 : f32
      }
      return %0 : tensor<2x2xf32>
    }
    ```
  }];
}

def MoeFuseRowMoves : Moe_FusionPass<"moe-fuse-row-moves"> {
  let summary = "rows are read and written where they lie";
  let description = [{
    A `map_rows` that only changes the order of rows or row scalars (a `group`, a
    `scatter`) goes: its readers by the same assignment read the rows in the
    order they lie in; or, where others read it, the kernel that makes the rows
    writes them in the order wanted, if nobody reads them in the first one. A
    kernel over slots may do either: it visits each slot that has an expert
    once, and writes the zero rows of sentinel slots itself.

    Refused: readers that are no kernel over slots of this assignment, together
    with rows that come from outside or have other readers; a product that would
    read another element type.

    ```mlir before
    func.func @f(%x: tensor<?x16xf32>, %w: tensor<8x4x16xf32>,
                 %g: tensor<?x16xf32>, %y: tensor<?x4xf32>,
                 %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
      %0 = moe.map_rows grouped by %a : !moe.assignment<?x2, 8>
          ins(%x : tensor<?x16xf32> rows token)
          outs(%g : tensor<?x16xf32> rows grouped) {
      ^bb0(%v: f32):
        moe.yield %v : f32
      }
      %1 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8>
          pairs(%0 from grouped, %w out_in
                : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1>
          ins() outs(%y : tensor<?x4xf32> rows grouped) {
      ^bb0(%v: f32):
        moe.yield %v : f32
      }
      return %1 : tensor<?x4xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%arg0: tensor<?x16xf32>, %arg1: tensor<8x4x16xf32>, %arg2: tensor<?x16xf32>, %arg3: tensor<?x4xf32>, %arg4: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
      %0 = moe.grouped_matmul by %arg4 : !moe.assignment<?x2, 8>
          pairs(%arg0 from token, %arg1 out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1>
          ins()
          outs(%arg3 : tensor<?x4xf32> rows grouped) {
      ^bb0(%arg5: f32):
        moe.yield %arg5 : f32
      }
      return %0 : tensor<?x4xf32>
    }
    ```
  }];
}

def MoeFuseRowScales : Moe_FusionPass<"moe-fuse-row-scales"> {
  let summary = "row scalars move past a product";
  let description = [{
    Rows that are gathered and scaled by a scalar of the row (a gate on the input)
    are a copy that only the scalar needs. (gate * x) W = gate * (x W): the
    scalar goes into the product's epilogue. The sum of dy x (gate * x) is that
    of (gate * dy) x x: the scalar goes to the other side, where a kernel writes
    rows anyway and moe-fuse-epilogues puts it. A rounding goes.

    Refused: readers that are no products of one pair by this assignment; the
    other side is no kernel's result, or more than twice as wide.

    ```mlir before
    func.func @f(%x: tensor<?x16xf32>, %g: tensor<?x2xf32>,
                 %w: tensor<8x4x16xf32>, %i: tensor<?x16xf32>,
                 %j: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>)
        -> tensor<?x4xf32> {
      %0 = moe.map_rows grouped by %a : !moe.assignment<?x2, 8>
          ins(%x : tensor<?x16xf32> rows token, %g : tensor<?x2xf32> scalar slot)
          outs(%i : tensor<?x16xf32> rows grouped) {
      ^bb0(%v: f32, %s: f32):
        %p = arith.mulf %v, %s : f32
        moe.yield %p : f32
      }
      %1 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8>
          pairs(%0 from grouped, %w out_in
                : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1>
          ins() outs(%j : tensor<?x4xf32> rows grouped) {
      ^bb0(%v: f32):
        moe.yield %v : f32
      }
      return %1 : tensor<?x4xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%arg0: tensor<?x16xf32>, %arg1: tensor<?x2xf32>, %arg2: tensor<8x4x16xf32>, %arg3: tensor<?x16xf32>, %arg4: tensor<?x4xf32>, %arg5: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
      %0 = moe.grouped_matmul by %arg5 : !moe.assignment<?x2, 8>
          pairs(%arg0 from token, %arg2 out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1>
          ins(%arg1 : tensor<?x2xf32> scalar slot)
          outs(%arg4 : tensor<?x4xf32> rows grouped) {
      ^bb0(%arg6: f32, %arg7: f32):
        %1 = arith.mulf %arg7, %arg6 : f32
        moe.yield %1 : f32
      }
      return %0 : tensor<?x4xf32>
    }
    ```
  }];
}

def MoeFuseSingleChoice : Moe_FusionPass<"moe-fuse-single-choice"> {
  let summary = "the sum over one slot is a map";
  let description = [{
    With K = 1 slot order is token order, and a `combine_rows` sums one slot a
    token: it becomes a `map_rows` in slot order, which other passes move into
    the kernel that makes the rows. A sentinel slot's row is zero either way.

    Refused: a combine with addends or folds.

    ```mlir before
    func.func @f(%y: tensor<?x16xf32>, %g: tensor<?x1xf32>,
                 %i: tensor<?x16xf32>, %a: !moe.assignment<?x1, 8>)
        -> tensor<?x16xf32> {
      %o = moe.combine_rows by %a : !moe.assignment<?x1, 8>
          ins(%y : tensor<?x16xf32> rows grouped, %g : tensor<?x1xf32> scalar slot)
          outs(%i : tensor<?x16xf32> rows token) {
      ^bb0(%v: f32, %gate: f32):
        %m = arith.mulf %gate, %v : f32
        moe.yield %m : f32
      }
      return %o : tensor<?x16xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%arg0: tensor<?x16xf32>, %arg1: tensor<?x1xf32>, %arg2: tensor<?x16xf32>, %arg3: !moe.assignment<?x1, 8>) -> tensor<?x16xf32> {
      %0 = moe.map_rows slot by %arg3 : !moe.assignment<?x1, 8>
          ins(%arg0 : tensor<?x16xf32> rows grouped, %arg1 : tensor<?x1xf32> scalar slot)
          outs(%arg2 : tensor<?x16xf32> rows slot) {
      ^bb0(%arg4: f32, %arg5: f32):
        %1 = arith.mulf %arg5, %arg4 : f32
        moe.yield %1 : f32
      }
      return %0 : tensor<?x16xf32>
    }
    ```
  }];
}

def MoeFuseEpilogues : Moe_FusionPass<"moe-fuse-epilogues"> {
  let summary = "rowwise kernels move into products";
  let description = [{
    The region of a `map_rows` is inlined in a `grouped_matmul` by the same
    assignment: where it reads the product's rows, where the product's region
    reads its rows, and where both read the same rows. The map's results become
    results of the product. A map over c blocks or pairs of columns makes the
    product's `columns` so, the region in it once for each; a row sum adds those
    of a column first.

    A value that is also a result (of a narrower type) is read as it is stored,
    `arith.truncf ... {moe.stored}`; rows that nobody else reads are no result
    any more, and are not rounded.

    Refused: different assignments or numbers of columns; columns that lie in
    two ways; a row sum that has to be complete; partials where columns would be
    seen otherwise; rows that a product reads as `lhs`; kernels that need one
    another through a third one.

    ```mlir before
    func.func @f(%x: tensor<?x16xbf16>, %w: tensor<8x8x16xbf16>,
                 %i: tensor<?x8xbf16>, %j: tensor<?x4xbf16>,
                 %a: !moe.assignment<?x2, 8>)
        -> (tensor<?x8xbf16>, tensor<?x4xbf16>) {
      %h = moe.grouped_matmul by %a : !moe.assignment<?x2, 8>
          pairs(%x from token, %w out_in
                : tensor<?x16xbf16>, tensor<8x8x16xbf16>) columns <single 1>
          ins() outs(%i : tensor<?x8xbf16> rows grouped) {
      ^bb0(%v: f32):
        moe.yield %v : f32
      }
      %y = moe.map_rows grouped by %a : !moe.assignment<?x2, 8>
          ins(%h : tensor<?x8xbf16> rows grouped concat 2)
          outs(%j : tensor<?x4xbf16> rows grouped) {
      ^bb0(%gate: f32, %up: f32):
        %m = arith.mulf %gate, %up : f32
        moe.yield %m : f32
      }
      return %h, %y : tensor<?x8xbf16>, tensor<?x4xbf16>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%arg0: tensor<?x16xbf16>, %arg1: tensor<8x8x16xbf16>, %arg2: tensor<?x8xbf16>, %arg3: tensor<?x4xbf16>, %arg4: !moe.assignment<?x2, 8>)
        -> (tensor<?x8xbf16>, tensor<?x4xbf16>) {
      %0:2 = moe.grouped_matmul by %arg4 : !moe.assignment<?x2, 8>
          pairs(%arg0 from token, %arg1 out_in : tensor<?x16xbf16>, tensor<8x8x16xbf16>) columns <concat 2>
          ins()
          outs(%arg2 : tensor<?x8xbf16> rows grouped concat 2, %arg3 : tensor<?x4xbf16> rows grouped) {
      ^bb0(%arg5: f32, %arg6: f32):
        %1 = arith.truncf %arg5 {moe.stored} : f32 to bf16
        %2 = arith.extf %1 : bf16 to f32
        %3 = arith.truncf %arg6 {moe.stored} : f32 to bf16
        %4 = arith.extf %3 : bf16 to f32
        %5 = arith.mulf %2, %4 : f32
        moe.yield %arg5, %arg6, %5 : f32, f32, f32
      }
      return %0#0, %0#1 : tensor<?x8xbf16>, tensor<?x4xbf16>
    }
    ```
  }];
}

def MoeFuseProducts : Moe_FusionPass<"moe-fuse-products"> {
  let summary = "two products share an accumulator";
  let description = [{
    A `grouped_matmul` whose region adds the rows of another one to its
    accumulator, whatever else is added between, takes that product as a further
    (lhs, rhs) pair: adapters beside frozen weights, gradients that arrive by
    several paths. What the other one's region adds (a bias) is added too. A
    rounding goes.

    Refused: more than four pairs; rows of the other product with another reader;
    values that are used for more than the sum.

    ```mlir before
    func.func @f(%x: tensor<?x16xf32>, %w: tensor<8x4x16xf32>,
                 %l: tensor<?x2xf32>, %b: tensor<8x4x2xf32>,
                 %i: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>)
        -> tensor<?x4xf32> {
      %0 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8>
          pairs(%x from token, %w out_in
                : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1>
          ins() outs(%i : tensor<?x4xf32> rows grouped) {
      ^bb0(%v: f32):
        moe.yield %v : f32
      }
      %1 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8>
          pairs(%l from grouped, %b out_in
                : tensor<?x2xf32>, tensor<8x4x2xf32>) columns <single 1>
          ins(%0 : tensor<?x4xf32> rows grouped)
          outs(%i : tensor<?x4xf32> rows grouped) {
      ^bb0(%v: f32, %other: f32):
        %s = arith.addf %other, %v : f32
        moe.yield %s : f32
      }
      return %1 : tensor<?x4xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%arg0: tensor<?x16xf32>, %arg1: tensor<8x4x16xf32>, %arg2: tensor<?x2xf32>, %arg3: tensor<8x4x2xf32>, %arg4: tensor<?x4xf32>, %arg5: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
      %0 = moe.grouped_matmul by %arg5 : !moe.assignment<?x2, 8>
          pairs(%arg2 from grouped, %arg3 out_in : tensor<?x2xf32>, tensor<8x4x2xf32>, %arg0 from token, %arg1 out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1>
          ins()
          outs(%arg4 : tensor<?x4xf32> rows grouped) {
      ^bb0(%arg6: f32):
        moe.yield %arg6 : f32
      }
      return %0 : tensor<?x4xf32>
    }
    ```
  }];
}

def MoeFuseRowwise : Moe_FusionPass<"moe-fuse-rowwise"> {
  let summary = "rowwise kernels in a row become one";
  let description = [{
    A `map_rows` that reads the rows of another one moves into it, and its results
    become results of that one: as moe-fuse-epilogues, for what is left.

    Refused: as there; and a row sum or row scalar of the first.

    ```mlir before
    func.func @f(%x: tensor<4x16xf32>, %i: tensor<4x16xf32>)
        -> (tensor<4x16xf32>, tensor<4x16xf32>) {
      %0 = moe.map_rows token ins(%x : tensor<4x16xf32> rows token)
          outs(%i : tensor<4x16xf32> rows token) {
      ^bb0(%v: f32):
        %n = arith.negf %v : f32
        moe.yield %n : f32
      }
      %1 = moe.map_rows token ins(%0 : tensor<4x16xf32> rows token)
          outs(%i : tensor<4x16xf32> rows token) {
      ^bb0(%v: f32):
        %m = arith.mulf %v, %v : f32
        moe.yield %m : f32
      }
      return %0, %1 : tensor<4x16xf32>, tensor<4x16xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%arg0: tensor<4x16xf32>, %arg1: tensor<4x16xf32>)
        -> (tensor<4x16xf32>, tensor<4x16xf32>) {
      %0:2 = moe.map_rows token
          ins(%arg0 : tensor<4x16xf32> rows token)
          outs(%arg1 : tensor<4x16xf32> rows token, %arg1 : tensor<4x16xf32> rows token) {
      ^bb0(%arg2: f32):
        %1 = arith.negf %arg2 : f32
        %2 = arith.mulf %1, %1 : f32
        moe.yield %1, %2 : f32, f32
      }
      return %0#0, %0#1 : tensor<4x16xf32>, tensor<4x16xf32>
    }
    ```
  }];
}

def MoeFusePrologues : Moe_FusionPass<"moe-fuse-prologues"> {
  let summary = "rowwise kernels move into the sums that read them";
  let description = [{
    A `map_rows` whose rows only a `combine_rows` or a `reduce_experts` reads moves
    into its region: each row is read once there. A rounding goes.

    Refused: rows with other readers, which would be computed twice; different
    assignments or numbers of columns.

    ```mlir before
    func.func @f(%x: tensor<?x16xf32>, %g: tensor<?x2xf32>,
                 %i: tensor<?x16xf32>, %j: tensor<8x16xf32>,
                 %a: !moe.assignment<?x2, 8>) -> tensor<8x16xf32> {
      %0 = moe.map_rows grouped by %a : !moe.assignment<?x2, 8>
          ins(%x : tensor<?x16xf32> rows token, %g : tensor<?x2xf32> scalar slot)
          outs(%i : tensor<?x16xf32> rows grouped) {
      ^bb0(%v: f32, %s: f32):
        %p = arith.mulf %v, %s : f32
        moe.yield %p : f32
      }
      %1 = moe.reduce_experts by %a : !moe.assignment<?x2, 8>
          ins(%0 : tensor<?x16xf32> rows grouped)
          outs(%j : tensor<8x16xf32> expert) {
      ^bb0(%v: f32):
        moe.yield %v : f32
      }
      return %1 : tensor<8x16xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%arg0: tensor<?x16xf32>, %arg1: tensor<?x2xf32>, %arg2: tensor<?x16xf32>, %arg3: tensor<8x16xf32>, %arg4: !moe.assignment<?x2, 8>) -> tensor<8x16xf32> {
      %0 = moe.reduce_experts by %arg4 : !moe.assignment<?x2, 8>
          ins(%arg0 : tensor<?x16xf32> rows token, %arg1 : tensor<?x2xf32> scalar slot)
          outs(%arg3 : tensor<8x16xf32> expert) {
      ^bb0(%arg5: f32, %arg6: f32):
        %1 = arith.mulf %arg5, %arg6 : f32
        moe.yield %1 : f32
      }
      return %0 : tensor<8x16xf32>
    }
    ```
  }];
}

def MoeFuseAddends : Moe_FusionPass<"moe-fuse-addends"> {
  let summary = "a combine starts from the token rows it is added to";
  let description = [{
    The sum of a combine's rows and other token rows, elementwise or as a
    `map_rows`, is that combine with the other rows as `addends`: shared experts
    beside routed ones, residual connections. A rounding and a (T, d) buffer go.

    Refused: combined rows with other readers; a combine that has addends, or
    several sums; rows that need the combine.

    ```mlir before
    func.func @f(%y: tensor<8x16xbf16>, %x: tensor<4x16xbf16>,
                 %i: tensor<4x16xbf16>, %a: !moe.assignment<4x2, 8>)
        -> tensor<4x16xbf16> {
      %o = moe.combine_rows by %a : !moe.assignment<4x2, 8>
          ins(%y : tensor<8x16xbf16> rows grouped)
          outs(%i : tensor<4x16xbf16> rows token) {
      ^bb0(%v: f32):
        moe.yield %v : f32
      }
      %s = arith.addf %o, %x : tensor<4x16xbf16>
      return %s : tensor<4x16xbf16>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%arg0: tensor<8x16xbf16>, %arg1: tensor<4x16xbf16>, %arg2: tensor<4x16xbf16>, %arg3: !moe.assignment<4x2, 8>) -> tensor<4x16xbf16> {
      %0 = moe.combine_rows by %arg3 : !moe.assignment<4x2, 8>
          ins(%arg0 : tensor<8x16xbf16> rows grouped)
          addends(%arg1 : tensor<4x16xbf16>)
          outs(%arg2 : tensor<4x16xbf16> rows token) {
      ^bb0(%arg4: f32):
        moe.yield %arg4 : f32
      }
      return %0 : tensor<4x16xbf16>
    }
    ```
  }];
}

def MoeFuseRowSums : Moe_FusionPass<"moe-fuse-row-sums"> {
  let summary = "products leave row sums as partials, a combine folds them";
  let description = [{
    A `sum` result of a `grouped_matmul` needs every column of a row in one place.
    As `partials` it needs 128: the sums of segments are written, and folded,
    left to right, by the last `combine_rows` by the assignment (slot order), by
    the map over scalars that reads them, or by a `fold_partials`. The bits are
    the same.

    Refused (a `fold_partials` stays): no combine by the same assignment that
    could; sums in grouped order.

    ```mlir before
    func.func @f(%x: tensor<4x16xf32>, %w: tensor<8x4x16xf32>,
                 %i: tensor<4x4xf32>, %j: tensor<2x2xf32>, %k: tensor<2x4xf32>,
                 %a: !moe.assignment<2x2, 8>)
        -> (tensor<2x4xf32>, tensor<2x2xf32>) {
      %0:2 = moe.grouped_matmul by %a : !moe.assignment<2x2, 8>
          pairs(%x from grouped, %w out_in
                : tensor<4x16xf32>, tensor<8x4x16xf32>) columns <single 1>
          ins() outs(%i : tensor<4x4xf32> rows grouped,
                     %j : tensor<2x2xf32> sum slot) {
      ^bb0(%v: f32):
        moe.yield %v, %v : f32, f32
      }
      %1 = moe.combine_rows by %a : !moe.assignment<2x2, 8>
          ins(%0#0 : tensor<4x4xf32> rows grouped)
          outs(%k : tensor<2x4xf32> rows token) {
      ^bb0(%v: f32):
        moe.yield %v : f32
      }
      return %1, %0#1 : tensor<2x4xf32>, tensor<2x2xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%arg0: tensor<4x16xf32>, %arg1: tensor<8x4x16xf32>, %arg2: tensor<4x4xf32>, %arg3: tensor<2x2xf32>, %arg4: tensor<2x4xf32>, %arg5: !moe.assignment<2x2, 8>)
        -> (tensor<2x4xf32>, tensor<2x2xf32>) {
      %0 = tensor.empty() : tensor<4x1xf32>
      %1:2 = moe.grouped_matmul by %arg5 : !moe.assignment<2x2, 8>
          pairs(%arg0 from grouped, %arg1 out_in : tensor<4x16xf32>, tensor<8x4x16xf32>) columns <single 1>
          ins()
          outs(%arg2 : tensor<4x4xf32> rows grouped, %0 : tensor<4x1xf32> partials grouped) {
      ^bb0(%arg6: f32):
        moe.yield %arg6, %arg6 : f32, f32
      }
      %2:2 = moe.combine_rows by %arg5 : !moe.assignment<2x2, 8>
          ins(%1#0 : tensor<4x4xf32> rows grouped) folds(%1#1 : tensor<4x1xf32>)
          outs(%arg4 : tensor<2x4xf32> rows token, %arg3 : tensor<2x2xf32> scalar slot) {
      ^bb0(%arg6: f32):
        moe.yield %arg6 : f32
      }
      return %2#0, %2#1 : tensor<2x4xf32>, tensor<2x2xf32>
    }
    ```
  }];
}

def MoeFuseAccumulation : Moe_FusionPass<"moe-fuse-accumulation"> {
  let summary = "sums by expert are made onto the buffer they are added to";
  let description = [{
    The sum of a weight gradient (or of `reduce_experts`) and a `moe.inout`
    argument is the same kernel with `accumulate`: the gradient itself is never
    written. A rounding goes.

    Refused: another reader of the gradient or of the buffer's old value; a
    buffer that is no `moe.inout` argument, which would be copied first.

    ```mlir before
    func.func @f(%x: tensor<4x16xf32>, %y: tensor<4x4xf32>,
                 %b: tensor<8x4x16xf32> {moe.inout},
                 %i: tensor<8x4x16xf32>, %a: !moe.assignment<2x2, 8>)
        -> (tensor<8x4x16xf32> {moe.inout}) {
      %0 = moe.grouped_outer by %a : !moe.assignment<2x2, 8>
          x(%x from grouped : tensor<4x16xf32>)
          dy(%y from grouped : tensor<4x4xf32>) out_in
          outs(%i : tensor<8x4x16xf32>)
      %1 = arith.addf %b, %0 : tensor<8x4x16xf32>
      return %1 : tensor<8x4x16xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%arg0: tensor<4x16xf32>, %arg1: tensor<4x4xf32>, %arg2: tensor<8x4x16xf32> {moe.inout}, %arg3: tensor<8x4x16xf32>, %arg4: !moe.assignment<2x2, 8>)
        -> (tensor<8x4x16xf32> {moe.inout}) {
      %0 = moe.grouped_outer by %arg4 : !moe.assignment<2x2, 8> x(%arg0 from grouped : tensor<4x16xf32>) dy(%arg1 from grouped : tensor<4x4xf32>) out_in accumulate
          outs(%arg2 : tensor<8x4x16xf32>)
      return %0 : tensor<8x4x16xf32>
    }
    ```
  }];
}

def MoeSimplifyKernels : Moe_FusionPass<"moe-simplify-kernels"> {
  let summary = "what no kernel needs goes";
  let description = [{
    Results that nobody reads, operands that the region does not read or that
    stand twice, roundings (`moe.stored`) of results that are not stored any
    more, kernels without a reader.

    ```mlir before
    func.func @f(%x: tensor<4x16xf32>, %y: tensor<4x16xf32>,
                 %i: tensor<4x16xf32>, %a: !moe.assignment<2x2, 8>)
        -> tensor<4x16xf32> {
      %0:2 = moe.map_rows grouped by %a : !moe.assignment<2x2, 8>
          ins(%x : tensor<4x16xf32> rows grouped,
              %x : tensor<4x16xf32> rows grouped,
              %y : tensor<4x16xf32> rows grouped)
          outs(%i : tensor<4x16xf32> rows grouped,
               %i : tensor<4x16xf32> rows grouped) {
      ^bb0(%u: f32, %v: f32, %w: f32):
        %m = arith.mulf %u, %v : f32
        moe.yield %m, %w : f32, f32
      }
      return %0#0 : tensor<4x16xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%arg0: tensor<4x16xf32>, %arg1: tensor<4x16xf32>, %arg2: tensor<4x16xf32>, %arg3: !moe.assignment<2x2, 8>) -> tensor<4x16xf32> {
      %0 = moe.map_rows grouped by %arg3 : !moe.assignment<2x2, 8>
          ins(%arg0 : tensor<4x16xf32> rows grouped)
          outs(%arg2 : tensor<4x16xf32> rows grouped) {
      ^bb0(%arg4: f32):
        %1 = arith.mulf %arg4, %arg4 : f32
        moe.yield %1 : f32
      }
      return %0 : tensor<4x16xf32>
    }
    ```
  }];
}

#endif // MOE_DIALECT_MOE_TRANSFORMS_FUSIONPASSES_TD
