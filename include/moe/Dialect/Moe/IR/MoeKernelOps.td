// SPDX-License-Identifier: Apache-2.0
// Level 2 of the `moe` dialect: one op per kernel that will run, in destination
// style, on tensors or memrefs. Only `moe-form-kernels` creates these ops.
#ifndef MOE_DIALECT_MOE_IR_MOEKERNELOPS_TD
#define MOE_DIALECT_MOE_IR_MOEKERNELOPS_TD

include "moe/Dialect/Moe/IR/MoeOps.td"
include "mlir/Interfaces/DestinationStyleOpInterface.td"

def Moe_Shaped : AnyTypeOf<[
  RankedTensorOf<[F16, BF16, F32, F64, I1, I32, I64]>,
  MemRefRankOf<[F16, BF16, F32, F64, I1, I32, I64], [0, 1, 2, 3]>]>;

class Moe_KernelOp<string mnemonic, list<Trait> traits = []>
    : Moe_Op<mnemonic, !listconcat([
        DestinationStyleOpInterface,
        DeclareOpInterfaceMethods<MemoryEffectsOpInterface>,
        DeclareOpInterfaceMethods<ReifyRankedShapedTypeOpInterface,
                                  ["reifyResultShapes"]>], traits)> {
  let hasVerifier = 1;
  code baseClassDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable() {
      return getOutsMutable();
    }
  }];
  let extraClassDeclaration = baseClassDeclaration;
}

/// A kernel with a rowwise region.
class Moe_RegionKernelOp<string mnemonic, list<Trait> traits = []>
    : Moe_KernelOp<mnemonic, !listconcat(
        [IsolatedFromAbove, SingleBlock, AttrSizedOperandSegments], traits)> {
  let regions = (region SizedRegion<1>:$body);
  let hasRegionVerifier = 1;
  code regionClassDeclaration = baseClassDeclaration # [{
    PortAttr inPort(unsigned i) { return cast<PortAttr>(getInPorts()[i]); }
    PortAttr outPort(unsigned i) { return cast<PortAttr>(getOutPorts()[i]); }
    /// N, the number of region columns.
    int64_t getWidth();
    /// First block argument of operand i of `ins`, first yielded value of
    /// result i.
    unsigned firstArgument(unsigned i);
    unsigned firstYield(unsigned i);
  }];
  let extraClassDeclaration = regionClassDeclaration;
}

def Moe_SortSlotsOp : Moe_KernelOp<"sort_slots", [AttrSizedOperandSegments]> {
  let summary = "the four tables of an assignment, by a stable counting sort";
  let description = [{
    From ids (T, K) or from counts (E), as `moe.assign`. outs: order, position
    (T*K), begin, end (E). `order` beyond the last expert's end is filled with
    the sentinel slots, ascending, so that it is always a permutation (with a
    capacity stride: the identity).

    Constraints:
    * (C1) exactly one of ids and counts; four outs of i32

    ```mlir
    func.func @sort(%ids: tensor<4x2xi32>, %s: tensor<8xi32>, %e: tensor<8xi32>)
        -> tensor<8xi32> {
      %o:4 = moe.sort_slots ids(%ids : tensor<4x2xi32>) outs(%s, %s, %e, %e
          : tensor<8xi32>, tensor<8xi32>, tensor<8xi32>, tensor<8xi32>)
      return %o#0 : tensor<8xi32>
    }
    ```
  }];
  let arguments = (ins Optional<Moe_Shaped>:$ids, Optional<Moe_Shaped>:$counts,
                       Variadic<Moe_Shaped>:$outs, OptionalAttr<I64Attr>:$capacity);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    (`ids` `(` $ids^ `:` type($ids) `)`)?
    (`counts` `(` $counts^ `:` type($counts) `)`)? (`capacity` $capacity^)?
    `outs` `` custom<DpsOuts>($outs, type($outs), type($results)) attr-dict
  }];
}

def Moe_RouteRowsOp : Moe_KernelOp<"route_rows", [AttrSizedOperandSegments]> {
  let summary = "moe.route as a kernel";
  let description = [{
    outs: gates, ids, then scores with `with_scores`, then logsumexp with
    `with_logsumexp`. Semantics, attributes and constraints of `moe.route`.

    ```mlir
    func.func @route(%logits: tensor<?x8xf32>, %g: tensor<?x2xf32>,
                     %i: tensor<?x2xi32>) -> (tensor<?x2xf32>, tensor<?x2xi32>) {
      %gates, %ids = moe.route_rows %logits : tensor<?x8xf32>
          softmax score_then_topk outs(%g, %i : tensor<?x2xf32>, tensor<?x2xi32>)
      return %gates, %ids : tensor<?x2xf32>, tensor<?x2xi32>
    }
    ```
  }];
  let arguments = !con((ins Moe_Shaped:$logits, Optional<Moe_Shaped>:$bias,
      Optional<Moe_Shaped>:$mask, Optional<Moe_Shaped>:$given_ids,
      Variadic<Moe_Shaped>:$outs), routeAttrs,
      (ins UnitAttr:$with_scores, UnitAttr:$with_logsumexp));
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    $logits `:` type($logits) `` $score `` $route_order
    (`bias` `(` $bias^ `:` type($bias) `)`)?
    (`mask` `(` $mask^ `:` type($mask) `)`)?
    (`ids` `(` $given_ids^ `:` type($given_ids) `)`)?
    `outs` `` custom<DpsOuts>($outs, type($outs), type($results)) attr-dict
  }];
}

def Moe_RouteGradRowsOp : Moe_KernelOp<"route_grad_rows", [AttrSizedOperandSegments]> {
  let summary = "moe.route_grad as a kernel";
  let description = [{
    One out, the gradient of the logits. Semantics, attributes and constraints
    of `moe.route_grad`.

    ```mlir
    func.func @route_grad(%logits: tensor<?x8xf32>, %ids: tensor<?x2xi32>,
                          %d_gates: tensor<?x2xf32>, %init: tensor<?x8xf32>)
        -> tensor<?x8xf32> {
      %d = moe.route_grad_rows %logits, %ids, %d_gates
          : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>
          softmax score_then_topk outs(%init : tensor<?x8xf32>)
      return %d : tensor<?x8xf32>
    }
    ```
  }];
  let arguments = (ins Moe_Shaped:$logits, Moe_Shaped:$ids, Moe_Shaped:$d_gates,
    Optional<Moe_Shaped>:$d_scores, Optional<Moe_Shaped>:$d_logsumexp,
    Variadic<Moe_Shaped>:$outs,
    Moe_ScoreAttr:$score,
    DefaultValuedAttr<Moe_RouteOrderAttr,
      "::mlir::moe::RouteOrder::ScoreThenTopK">:$route_order,
    UnitAttr:$normalize, DefaultValuedAttr<F64Attr, "0.0">:$eps,
    DefaultValuedAttr<F64Attr, "1.0">:$scale);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    $logits `,` $ids `,` $d_gates `:` type($logits) `,` type($ids) `,`
    type($d_gates) `` $score `` $route_order
    (`scores` `(` $d_scores^ `:` type($d_scores) `)`)?
    (`logsumexp` `(` $d_logsumexp^ `:` type($d_logsumexp) `)`)?
    `outs` `` custom<DpsOuts>($outs, type($outs), type($results)) attr-dict
  }];
}

def Moe_GroupedMatmulOp : Moe_RegionKernelOp<"grouped_matmul"> {
  let summary = "each row times its expert's weight, then a rowwise region";
  let description = [{
    For each slot with expert e the accumulator row is the sum over the (lhs,
    rhs) pairs of lhs row * W[e] in f32 (f64 for f64). `columns` says how its
    c*N columns become the first c region arguments; the operands of `ins`
    follow. Each lhs has a row order (token and slot rows are gathered in the
    kernel), each operand and result its port. rows results in slot order get
    zeros in sentinel rows. A `partials` result is (T*K, ceil(N / 128)) in
    grouped order.

    Constraints:
    * (C1) at least one pair; equal numbers of lhs, rhs, orders and layouts
    * (C2) rhs i is (E, out, in) or (E, in, out), out = c*N
    * (C3) ports as in `moe.map_rows`; results are not in token order
    * (C4) region arguments: c accumulators, then those of `ins`

    ```mlir
    func.func @up(%x: tensor<?x16xbf16>, %w: tensor<8x64x16xbf16>,
                  %a: !moe.assignment<?x2, 8>, %init: tensor<?x32xbf16>)
        -> tensor<?x32xbf16> {
      %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8>
          pairs(%x from token, %w out_in
                : tensor<?x16xbf16>, tensor<8x64x16xbf16>) columns <concat 2>
          ins() outs(%init : tensor<?x32xbf16> rows grouped) {
      ^bb0(%gate: f32, %up: f32):
        %m = arith.mulf %gate, %up : f32
        moe.yield %m : f32
      }
      return %y : tensor<?x32xbf16>
    }
    ```
  }];
  let arguments = (ins Moe_Assignment:$assignment,
    Variadic<Moe_Shaped>:$lhs, Variadic<Moe_Shaped>:$rhs,
    Variadic<Moe_Shaped>:$ins, Variadic<Moe_Shaped>:$outs,
    TypedArrayAttrBase<Moe_RowOrderAttr, "row orders">:$lhs_orders,
    TypedArrayAttrBase<Moe_WeightLayoutAttr, "weight layouts">:$rhs_layouts,
    Moe_ColumnsAttr:$columns,
    Moe_PortArrayAttr:$in_ports, Moe_PortArrayAttr:$out_ports);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    `by` $assignment `:` type($assignment)
    custom<Pairs>($lhs, type($lhs), $rhs, type($rhs), $lhs_orders, $rhs_layouts)
    `columns` $columns
    `ins` `` custom<KernelIns>($ins, type($ins), $in_ports)
    `outs` `` custom<KernelOuts>($outs, type($outs), type($results), $out_ports)
    attr-dict-with-keyword $body
  }];
  let extraClassDeclaration = regionClassDeclaration # [{
    RowOrder lhsOrder(unsigned i) {
      return cast<RowOrderAttr>(getLhsOrders()[i]).getValue();
    }
    WeightLayout rhsLayout(unsigned i) {
      return cast<WeightLayoutAttr>(getRhsLayouts()[i]).getValue();
    }
  }];
}

def Moe_GroupedOuterOp : Moe_KernelOp<"grouped_outer"> {
  let summary = "per-expert sum of outer products (weight gradient)";
  let description = [{
    `moe.weight_grad` as a kernel: out[e] (+)= sum over the rows of e, in
    grouped order, of dy (x) x. With `accumulate` the out's value is added.

    Constraints:
    * (C1) x and dy have the rows of their orders and one element type
    * (C2) one out, (E, out, in) or (E, in, out)

    ```mlir
    func.func @outer(%x: tensor<?x16xbf16>, %dy: tensor<?x32xbf16>,
                     %a: !moe.assignment<?x2, 8>, %init: tensor<8x32x16xf32>)
        -> tensor<8x32x16xf32> {
      %dw = moe.grouped_outer by %a : !moe.assignment<?x2, 8>
          x(%x from token : tensor<?x16xbf16>)
          dy(%dy from grouped : tensor<?x32xbf16>) out_in
          outs(%init : tensor<8x32x16xf32>)
      return %dw : tensor<8x32x16xf32>
    }
    ```
  }];
  let arguments = (ins Moe_Assignment:$assignment, Moe_Shaped:$x,
    Moe_Shaped:$dy, Variadic<Moe_Shaped>:$outs, Moe_RowOrderAttr:$x_from,
    Moe_RowOrderAttr:$dy_from, Moe_WeightLayoutAttr:$layout,
    UnitAttr:$accumulate);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    `by` $assignment `:` type($assignment) `x` `(` $x `from` `` $x_from `:`
    type($x) `)` `dy` `(` $dy `from` `` $dy_from `:` type($dy) `)` `` $layout
    (`accumulate` $accumulate^)?
    `outs` `` custom<DpsOuts>($outs, type($outs), type($results)) attr-dict
  }];
}

def Moe_MapRowsOp : Moe_RegionKernelOp<"map_rows"> {
  let summary = "a rowwise region with a row order for each operand and result";
  let description = [{
    The region runs for each column of each slot that has an expert (order
    `grouped` or `slot`), or of each token (order `token`). Each operand and
    result names the order of its own rows: a token operand is read by the
    slot's token, so grouping, scattering and elementwise math are one kernel.
    Results in slot order get zeros for sentinel slots. `partials` operands are
    folded (segments left to right) into one region argument.

    Constraints:
    * (C1) one port for each operand and result; `sum` and `partials` results
      need ports with columns, `scalar` results need none (the region then runs
      once a row); `expert` is never a result
    * (C2) every port's rows and columns fit, with one N, static
    * (C3) order token: no assignment, every port in token order. Otherwise: an
      assignment, and no result in token order
    * (C4) region arguments and yielded values as in `moe.rowwise`

    ```mlir
    func.func @group(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>,
                     %init: tensor<?x16xf32>) -> tensor<?x16xf32> {
      %g = moe.map_rows grouped by %a : !moe.assignment<?x2, 8>
          ins(%x : tensor<?x16xf32> rows token)
          outs(%init : tensor<?x16xf32> rows grouped) {
      ^bb0(%v: f32):
        moe.yield %v : f32
      }
      return %g : tensor<?x16xf32>
    }
    ```
  }];
  let arguments = (ins Moe_RowOrderAttr:$order,
    Optional<Moe_Assignment>:$assignment, Variadic<Moe_Shaped>:$ins,
    Variadic<Moe_Shaped>:$outs,
    Moe_PortArrayAttr:$in_ports, Moe_PortArrayAttr:$out_ports);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    `` $order (`by` $assignment^ `:` type($assignment))?
    `ins` `` custom<KernelIns>($ins, type($ins), $in_ports)
    `outs` `` custom<KernelOuts>($outs, type($outs), type($results), $out_ports)
    attr-dict-with-keyword $body
  }];
}

def Moe_CombineRowsOp : Moe_RegionKernelOp<"combine_rows"> {
  let summary = "sum over the K slots of each token, with folds of partials";
  let description = [{
    For each token and each of its slots that has an expert, k ascending, the
    region maps the operands' values to one value for each `rows` result (in
    token order), which are summed over k in f32 and rounded once; `addends`,
    one for each such result or none, are token rows added before the first k.
    `folds` are partials (T*K, S) in grouped order; each yields one more out, the
    folded row sums as (T, K), zero for sentinel slots.

    Constraints:
    * (C1) the first outs are the region's `rows` results in token order, the
      last ones one (T, K) for each fold
    * (C2) ports fit as in `moe.map_rows`
    * (C3) addends: none, or one for each rows result, of its shape
    * (C4) region arguments and yielded values as in `moe.rowwise`

    ```mlir
    func.func @combine(%y: tensor<?x16xf32>, %gates: tensor<?x2xf32>,
                       %a: !moe.assignment<?x2, 8>, %init: tensor<?x16xf32>)
        -> tensor<?x16xf32> {
      %o = moe.combine_rows by %a : !moe.assignment<?x2, 8>
          ins(%y : tensor<?x16xf32> rows grouped,
              %gates : tensor<?x2xf32> scalar slot)
          outs(%init : tensor<?x16xf32> rows token) {
      ^bb0(%v: f32, %gate: f32):
        %m = arith.mulf %v, %gate : f32
        moe.yield %m : f32
      }
      return %o : tensor<?x16xf32>
    }
    ```
  }];
  let arguments = (ins Moe_Assignment:$assignment,
    Variadic<Moe_Shaped>:$ins, Variadic<Moe_Shaped>:$addends,
    Variadic<Moe_Shaped>:$folds, Variadic<Moe_Shaped>:$outs,
    Moe_PortArrayAttr:$in_ports, Moe_PortArrayAttr:$out_ports);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    `by` $assignment `:` type($assignment)
    `ins` `` custom<KernelIns>($ins, type($ins), $in_ports)
    (`addends` `(` $addends^ `:` type($addends) `)`)?
    (`folds` `(` $folds^ `:` type($folds) `)`)?
    `outs` `` custom<KernelOuts>($outs, type($outs), type($results), $out_ports)
    attr-dict-with-keyword $body
  }];
}

def Moe_ReduceExpertsOp : Moe_RegionKernelOp<"reduce_experts"> {
  let summary = "a rowwise region summed over each expert's rows";
  let description = [{
    outs are `expert` ports (E, c*N): the yielded values summed over the
    expert's rows in grouped order, in f32; zeros for empty experts. With
    `accumulate` the outs' values are added.

    Constraints:
    * (C1) every out port is `expert`
    * (C2) ports fit as in `moe.map_rows`
    * (C3) region arguments and yielded values as in `moe.rowwise`

    ```mlir
    func.func @squares(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>,
                       %init: tensor<8x16xf32>) -> tensor<8x16xf32> {
      %s = moe.reduce_experts by %a : !moe.assignment<?x2, 8>
          ins(%x : tensor<?x16xf32> rows token)
          outs(%init : tensor<8x16xf32> expert) {
      ^bb0(%v: f32):
        %m = arith.mulf %v, %v : f32
        moe.yield %m : f32
      }
      return %s : tensor<8x16xf32>
    }
    ```
  }];
  let arguments = (ins Moe_Assignment:$assignment,
    Variadic<Moe_Shaped>:$ins, Variadic<Moe_Shaped>:$outs,
    Moe_PortArrayAttr:$in_ports, Moe_PortArrayAttr:$out_ports,
    UnitAttr:$accumulate);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    `by` $assignment `:` type($assignment) (`accumulate` $accumulate^)?
    `ins` `` custom<KernelIns>($ins, type($ins), $in_ports)
    `outs` `` custom<KernelOuts>($outs, type($outs), type($results), $out_ports)
    attr-dict-with-keyword $body
  }];
}

def Moe_FoldPartialsOp : Moe_KernelOp<"fold_partials"> {
  let summary = "fold the segments of row sums, left to right";
  let description = [{
    From partials (T*K, S) in grouped order to one value a row: grouped (T*K)
    or slot (T, K), zero for sentinel slots.

    Constraints:
    * (C1) partials are (T*K, S); one out with the shape of its order, `to` is
      slot or grouped

    ```mlir
    func.func @fold(%p: tensor<?x3xf32>, %a: !moe.assignment<?x2, 8>,
                    %init: tensor<?x2xf32>) -> tensor<?x2xf32> {
      %s = moe.fold_partials %p : tensor<?x3xf32>
          by %a : !moe.assignment<?x2, 8> to slot outs(%init : tensor<?x2xf32>)
      return %s : tensor<?x2xf32>
    }
    ```
  }];
  let arguments = (ins Moe_Assignment:$assignment, Moe_Shaped:$partials,
    Variadic<Moe_Shaped>:$outs, Moe_RowOrderAttr:$to);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    $partials `:` type($partials) `by` $assignment `:` type($assignment) `to`
    `` $to `outs` `` custom<DpsOuts>($outs, type($outs), type($results)) attr-dict
  }];
}

#endif // MOE_DIALECT_MOE_IR_MOEKERNELOPS_TD
