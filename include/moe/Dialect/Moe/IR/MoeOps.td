// SPDX-License-Identifier: Apache-2.0
// Level 1 of the `moe` dialect: tensor math, closed under differentiation.
#ifndef MOE_DIALECT_MOE_IR_MOEOPS_TD
#define MOE_DIALECT_MOE_IR_MOEOPS_TD

include "moe/Dialect/Moe/IR/MoeDialect.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Moe_Op<string mnemonic, list<Trait> traits = []>
    : Op<Moe_Dialect, mnemonic, traits>;
class Moe_Level1Op<string mnemonic, list<Trait> traits = []>
    : Moe_Op<mnemonic, !listconcat([Pure,
        DeclareOpInterfaceMethods<ReifyRankedShapedTypeOpInterface,
                                  ["reifyResultShapes"]>], traits)> {
  let hasVerifier = 1;
  let extraClassDefinition = [{
    ::llvm::LogicalResult $cppClass::reifyResultShapes(::mlir::OpBuilder &b,
        ::mlir::ReifiedRankedShapedTypeDims &shapes) {
      return reifyRowCounts(*this, b, shapes);
    }
  }];
}

def Moe_FloatTensor : RankedTensorOf<[F16, BF16, F32, F64]>;
def Moe_IdTensor : RankedTensorOf<[I32, I64]>;
def Moe_I32Shaped : AnyTypeOf<[TensorOf<[I32]>, MemRefOf<[I32]>]>;

/// Spelled in full in assembly, as its C++ type is left open.
def Moe_Assignment : Type<Moe_AssignmentType.predicate, "assignment">;

//===----------------------------------------------------------------------===//
// Routing
//===----------------------------------------------------------------------===//

defvar routeAttrs = (ins
  Moe_ScoreAttr:$score,
  DefaultValuedAttr<Moe_RouteOrderAttr,
    "::mlir::moe::RouteOrder::ScoreThenTopK">:$route_order,
  UnitAttr:$normalize,
  DefaultValuedAttr<F64Attr, "0.0">:$eps,
  DefaultValuedAttr<F64Attr, "1.0">:$scale,
  DefaultValuedAttr<I64Attr, "1">:$groups,
  DefaultValuedAttr<I64Attr, "1">:$topk_groups,
  DefaultValuedAttr<I64Attr, "1">:$group_top,
  DefaultValuedAttr<Moe_MaskedGroupsAttr,
    "::mlir::moe::MaskedGroups::NegInf">:$masked_groups,
  OptionalAttr<I64Attr>:$capacity,
  DefaultValuedAttr<Moe_DropAttr, "::mlir::moe::Drop::Position">:$drop);

def Moe_RouteOp : Moe_Level1Op<"route",
    [AttrSizedOperandSegments, AttrSizedResultSegments]> {
  let summary = "choose K experts a token and their gates";
  let description = [{
    From logits (T, E) to gates (T, K) and ids (T, K), computed in f32 (f64 for
    f64 logits) whatever the logits' type.

    1. scores = `score`(logits), over all E.
    2. key = (`score_then_topk`: scores; `topk_then_score`: logits) + bias, as
       a number of the type computed in: scores that saturate there are ties.
    3. groups: with `groups` > 1 the experts fall into that many equal runs; a
       group's key is the sum of its `group_top` largest keys; the
       `topk_groups` best groups stay, the keys of the others become 0 (`zero`)
       or -inf (`neg_inf`).
    4. ids = the K largest keys, largest first; ties go to the lower id; NaN
       sorts below -inf. Ids are distinct and in range. With `ids(...)` given
       (routing replay) they are taken instead; a sentinel among them stays as
       it is, has gate 0 and is outside the sums of steps 5 and 6.
    5. gates: `score_then_topk`: the scores of the chosen; `topk_then_score`:
       `score` over the K chosen logits. Gates never contain the bias.
    6. `normalize`: gates / (sum of the gates + `eps`); then times `scale`.
    7. A token without a finite logit gets the K lowest ids with gate 0; its
       scores and logsumexp are 0 too. NaN beside finite logits propagates as
       in PyTorch: softmax makes the whole row NaN.
    8. `mask` (T): a token that is 0 gets sentinel ids (E) and gates 0.
    9. `capacity`: an expert keeps that many slots: the first (`position`) or
       those with the largest gates as stored (`score`, ties to the lower
       slot); the others become sentinels with gate 0. The gates of the kept
       ones stay as they are.

    Optional results for auxiliary losses: `scores` (T, E) of step 1 and
    `logsumexp` (T) of the logits, of masked tokens too.

    Constraints:
    * (C1) logits rank 2, (T, E); gates and ids are (T, K), 1 <= K <= E
    * (C2) bias is (E); mask is (T); given ids have the shape of ids
    * (C3) `groups` divides E; 1 <= `topk_groups` <= `groups`;
      1 <= `group_top` <= E / `groups`; K <= `topk_groups` * E / `groups`
    * (C4) scores are (T, E); logsumexp is (T)
    * (C5) `eps` >= 0; `scale` is finite; `capacity` >= 1
    * (C6) `normalize` wants `score` other than identity

    ```mlir
    func.func @route(%logits: tensor<?x8xf32>)
        -> (tensor<?x2xf32>, tensor<?x2xi32>) {
      %gates, %ids = moe.route %logits softmax score_then_topk {normalize}
          : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
      return %gates, %ids : tensor<?x2xf32>, tensor<?x2xi32>
    }
    ```
  }];
  let arguments = !con((ins Moe_FloatTensor:$logits,
                            Optional<Moe_FloatTensor>:$bias,
                            Optional<RankedTensorOf<[I1]>>:$mask,
                            Optional<Moe_IdTensor>:$given_ids), routeAttrs);
  let results = (outs Moe_FloatTensor:$gates, Moe_IdTensor:$ids,
                      Optional<Moe_FloatTensor>:$scores,
                      Optional<Moe_FloatTensor>:$logsumexp);
  let assemblyFormat = [{
    $logits `` $score `` $route_order
    (`bias` `(` $bias^ `:` type($bias) `)`)?
    (`mask` `(` $mask^ `:` type($mask) `)`)?
    (`ids` `(` $given_ids^ `:` type($given_ids) `)`)?
    attr-dict `:` type($logits) `->` type($gates) `,` type($ids)
    (`scores` `(` type($scores)^ `)`)?
    (`logsumexp` `(` type($logsumexp)^ `)`)?
  }];
  let hasCanonicalizer = 1;
}

def Moe_RouteGradOp : Moe_Level1Op<"route_grad", [AttrSizedOperandSegments]> {
  let summary = "gradient of the logits of a route";
  let description = [{
    The vector-Jacobian product of `moe.route` with respect to its logits, the
    choice of experts held fixed: from the logits, the ids that route returned
    and the cotangents of gates (T, K), scores (T, E) and logsumexp (T).
    Sentinel slots contribute nothing and are outside the sums, as among given
    ids; so a route with a capacity is differentiated with the ids of the same
    route without it, and zero cotangents for the slots that were dropped. The
    logits of a token without a finite one get zeros. The attributes are those
    of the route.

    Constraints:
    * (C1) logits (T, E), ids and d_gates (T, K), the result as the logits
    * (C2) d_scores is (T, E); d_logsumexp is (T)

    ```mlir
    func.func @route_grad(%logits: tensor<?x8xf32>, %ids: tensor<?x2xi32>,
                          %dg: tensor<?x2xf32>) -> tensor<?x8xf32> {
      %d = moe.route_grad %logits, %ids, %dg softmax score_then_topk {normalize}
          : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x8xf32>
      return %d : tensor<?x8xf32>
    }
    ```
  }];
  let arguments = (ins Moe_FloatTensor:$logits, Moe_IdTensor:$ids,
    Moe_FloatTensor:$d_gates, Optional<Moe_FloatTensor>:$d_scores,
    Optional<Moe_FloatTensor>:$d_logsumexp,
    Moe_ScoreAttr:$score,
    DefaultValuedAttr<Moe_RouteOrderAttr,
      "::mlir::moe::RouteOrder::ScoreThenTopK">:$route_order,
    UnitAttr:$normalize, DefaultValuedAttr<F64Attr, "0.0">:$eps,
    DefaultValuedAttr<F64Attr, "1.0">:$scale);
  let results = (outs Moe_FloatTensor:$d_logits);
  let assemblyFormat = [{
    $logits `,` $ids `,` $d_gates `` $score `` $route_order
    (`scores` `(` $d_scores^ `:` type($d_scores) `)`)?
    (`logsumexp` `(` $d_logsumexp^ `:` type($d_logsumexp) `)`)?
    attr-dict `:` type($logits) `,` type($ids) `,` type($d_gates)
    `->` type($d_logits)
  }];
}

//===----------------------------------------------------------------------===//
// Assignment
//===----------------------------------------------------------------------===//

def Moe_AssignOp : Moe_Op<"assign", [Pure, AttrSizedOperandSegments]> {
  let summary = "group slots by expert";
  let description = [{
    One of three forms.
    * `ids`: expert ids (T, K), i32 or i64. The range test is made in their own
      width, before narrowing. Grouping is stable; an id may stand more than
      once in a token; an id outside [0, E) is a sentinel.
    * `counts`: tokens per expert (E), the rows being grouped already; `rows`
      gives their number T (K is 1). Expert e's rows begin after those of
      e - 1, or at e * `capacity` where a capacity stride is given. A negative
      count is 0; counts are cut at the capacity and at T.
    * `list`: (token, expert) pairs with any number of experts a token. It is
      specified and not built: the verifier refuses it.

    Constraints:
    * (C1) exactly one form; ids are (T, K), counts are (E)
    * (C2) `counts` wants `rows` and K = 1; `capacity` goes with counts, >= 1,
      and E * capacity = T where T is static
    * (C3) the list form is refused

    ```mlir
    func.func @assign(%ids: tensor<?x2xi64>, %n: tensor<8xi32>, %t: index) {
      %a = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
      %b = moe.assign counts(%n : tensor<8xi32>) rows(%t)
          : !moe.assignment<?x1, 8>
      return
    }
    ```
  }];
  let arguments = (ins Optional<Moe_IdTensor>:$ids,
                       Optional<Moe_IdTensor>:$counts,
                       Optional<Index>:$rows,
                       Variadic<Moe_IdTensor>:$list,
                       OptionalAttr<I64Attr>:$capacity);
  let results = (outs Moe_Assignment:$assignment);
  let assemblyFormat = [{
    (`ids` `(` $ids^ `:` type($ids) `)`)?
    (`counts` `(` $counts^ `:` type($counts) `)`)?
    (`rows` `(` $rows^ `)`)?
    (`list` `(` $list^ `:` type($list) `)`)?
    (`capacity` $capacity^)?
    attr-dict `:` type($assignment)
  }];
  let hasCanonicalizer = 1;
  let hasVerifier = 1;
}

def Moe_PackAssignmentOp : Moe_Op<"pack_assignment", [Pure]> {
  let summary = "an assignment from its four tables";
  let description = [{
    order, position (T*K) and begin, end (E), i32, as tensors or memrefs. The
    op copies nothing: whoever reads the assignment reads the tables.

    Constraints:
    * (C1) order and position are (T*K), begin and end are (E)
    * (C2) all four are tensors or all four are memrefs

    ```mlir
    func.func @pack(%o: tensor<?xi32>, %p: tensor<?xi32>, %b: tensor<8xi32>,
                    %e: tensor<8xi32>) {
      %a = moe.pack_assignment %o, %p, %b, %e
          : tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>
          -> !moe.assignment<?x2, 8>
      return
    }
    ```
  }];
  let arguments = (ins Moe_I32Shaped:$order, Moe_I32Shaped:$position,
                       Moe_I32Shaped:$begin, Moe_I32Shaped:$end);
  let results = (outs Moe_Assignment:$assignment);
  let assemblyFormat = [{
    $order `,` $position `,` $begin `,` $end attr-dict `:` type($order) `,`
    type($position) `,` type($begin) `,` type($end) `->` type($assignment)
  }];
  let hasVerifier = 1;
}

def Moe_UnpackAssignmentOp : Moe_Op<"unpack_assignment", [Pure]> {
  let summary = "the four tables of an assignment";
  let description = [{
    Constraints:
    * (C1) order and position are (T*K), begin and end are (E), tensors of i32

    ```mlir
    func.func @unpack(%a: !moe.assignment<?x2, 8>) -> tensor<8xi32> {
      %o, %p, %b, %e = moe.unpack_assignment %a : !moe.assignment<?x2, 8>
          -> tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>
      return %e : tensor<8xi32>
    }
    ```
  }];
  let arguments = (ins Moe_Assignment:$assignment);
  let results = (outs TensorOf<[I32]>:$order, TensorOf<[I32]>:$position,
                      TensorOf<[I32]>:$begin, TensorOf<[I32]>:$end);
  let assemblyFormat = [{
    $assignment attr-dict `:` type($assignment) `->` type($order) `,`
    type($position) `,` type($begin) `,` type($end)
  }];
  let hasVerifier = 1;
  let hasFolder = 1;
}

//===----------------------------------------------------------------------===//
// Moving rows
//===----------------------------------------------------------------------===//

def Moe_GroupOp : Moe_Level1Op<"group"> {
  let summary = "rows in token or slot order to grouped order";
  let description = [{
    Grouped row r gets the row of slot order[r], or of its token. Rows outside
    every expert's range are unspecified. Works on rows, (R, N) -> (T*K, N),
    and on scalars: token (T), slot (T, K) -> grouped (T*K).

    Constraints:
    * (C1) `from` is token or slot
    * (C2) the operand has the rows of its order, the result T*K; widths and
      element types are equal

    ```mlir
    func.func @group(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>)
        -> tensor<?x16xf32> {
      %g = moe.group %x from token by %a
          : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
      return %g : tensor<?x16xf32>
    }
    ```
  }];
  let arguments = (ins Moe_FloatTensor:$rows, Moe_Assignment:$assignment,
                       Moe_RowOrderAttr:$from);
  let results = (outs Moe_FloatTensor:$result);
  let assemblyFormat = [{
    $rows `from` `` $from `by` $assignment attr-dict `:` type($rows) `,`
    type($assignment) `->` type($result)
  }];
  let hasCanonicalizer = 1;
}

def Moe_ScatterOp : Moe_Level1Op<"scatter"> {
  let summary = "grouped rows to slot order";
  let description = [{
    Slot s gets grouped row position[s]; sentinel slots get zeros. Works on
    rows, (T*K, N), and on scalars, (T*K) -> (T, K).

    Constraints:
    * (C1) operand and result have T*K rows (scalars: result (T, K)); widths
      and element types are equal

    ```mlir
    func.func @scatter(%g: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>)
        -> tensor<?x16xf32> {
      %s = moe.scatter %g by %a
          : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
      return %s : tensor<?x16xf32>
    }
    ```
  }];
  let arguments = (ins Moe_FloatTensor:$rows, Moe_Assignment:$assignment);
  let results = (outs Moe_FloatTensor:$result);
  let assemblyFormat = [{
    $rows `by` $assignment attr-dict `:` type($rows) `,` type($assignment) `->`
    type($result)
  }];
  let hasCanonicalizer = 1;
}

def Moe_CombineOp : Moe_Level1Op<"combine"> {
  let summary = "sum the K rows of each token";
  let description = [{
    out[t] = sum over k of gates[t, k] * row(t, k), in f32 (f64 for f64), k
    ascending, rounded once. Rows are in slot or grouped order; a sentinel
    slot's row is not read and adds nothing, whatever its gate.
    Works on rows, and without gates on scalars: slot (T, K) or grouped (T*K)
    -> (T).

    Constraints:
    * (C1) `from` is slot or grouped
    * (C2) the operand has the rows of its order, the result T; widths and
      element types are equal
    * (C3) gates are (T, K), any float type, and go with rows only

    ```mlir
    func.func @combine(%y: tensor<?x16xf32>, %g: tensor<?x2xf32>,
                       %a: !moe.assignment<?x2, 8>) -> tensor<?x16xf32> {
      %o = moe.combine %y from grouped by %a gates(%g : tensor<?x2xf32>)
          : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
      return %o : tensor<?x16xf32>
    }
    ```
  }];
  let arguments = (ins Moe_FloatTensor:$rows, Moe_Assignment:$assignment,
                       Optional<Moe_FloatTensor>:$gates,
                       Moe_RowOrderAttr:$from);
  let results = (outs Moe_FloatTensor:$result);
  let assemblyFormat = [{
    $rows `from` `` $from `by` $assignment
    (`gates` `(` $gates^ `:` type($gates) `)`)?
    attr-dict `:` type($rows) `,` type($assignment) `->` type($result)
  }];
  let hasCanonicalizer = 1;
}

//===----------------------------------------------------------------------===//
// Math by expert
//===----------------------------------------------------------------------===//

def Moe_ParallelLinearOp : Moe_Level1Op<"parallel_linear"> {
  let summary = "each row times its expert's weight";
  let description = [{
    For each slot with expert e: result row = lhs row * W[e]^T (+ bias[e]),
    accumulated in f32 (f64 for f64). lhs rows are in token, slot or grouped
    order, result rows in slot or grouped order: the four combinations of
    ScatterMoE (arXiv 2403.08245, Figure 2), and token rows read by K slots.
    W is (E, out, in) for `out_in` or (E, in, out) for `in_out`.
    Sentinel slots: zero rows in slot order, unspecified in grouped order.

    Constraints:
    * (C1) `to` is slot or grouped; lhs and result have the rows of their order
    * (C2) weights are (E, out, in) or (E, in, out) with in = lhs width, out =
      result width, E of the assignment
    * (C3) bias is (E, out)
    * (C4) lhs, weights have one element type

    ```mlir
    func.func @linear(%x: tensor<?x16xf32>, %w: tensor<8x32x16xf32>,
                      %a: !moe.assignment<?x2, 8>) -> tensor<?x32xf32> {
      %y = moe.parallel_linear %x, %w by %a from token to grouped out_in
          : tensor<?x16xf32>, tensor<8x32x16xf32>, !moe.assignment<?x2, 8>
          -> tensor<?x32xf32>
      return %y : tensor<?x32xf32>
    }
    ```
  }];
  let arguments = (ins Moe_FloatTensor:$lhs, Moe_FloatTensor:$weights,
    Moe_Assignment:$assignment, Optional<Moe_FloatTensor>:$bias,
    Moe_RowOrderAttr:$from, Moe_RowOrderAttr:$to, Moe_WeightLayoutAttr:$layout);
  let results = (outs Moe_FloatTensor:$result);
  let assemblyFormat = [{
    $lhs `,` $weights `by` $assignment `from` `` $from `to` `` $to `` $layout
    (`bias` `(` $bias^ `:` type($bias) `)`)?
    attr-dict `:` type($lhs) `,` type($weights) `,` type($assignment) `->`
    type($result)
  }];
}

def Moe_WeightGradOp : Moe_Level1Op<"weight_grad"> {
  let summary = "per-expert sum of outer products";
  let description = [{
    For each expert e: sum over its slots of dy row (x) x row: (E, out, in) for
    `out_in`, (E, in, out) for `in_out`, where in is the width of x and out
    that of dy; rows in token, slot or grouped order each. Accumulated in f32
    (f64 for f64), a row at a time in grouped order. Experts without rows get
    zeros. With `accumulate(%buffer)` the sum is added to the buffer's value.

    Constraints:
    * (C1) x and dy have the rows of their orders and one element type
    * (C2) the result is (E, out, in) or (E, in, out)
    * (C3) the accumulated buffer has the type of the result

    ```mlir
    func.func @weight_grad(%x: tensor<?x16xf32>, %dy: tensor<?x32xf32>,
        %a: !moe.assignment<?x2, 8>) -> tensor<8x32x16xf32> {
      %dw = moe.weight_grad %x from token, %dy from grouped by %a out_in
          : tensor<?x16xf32>, tensor<?x32xf32>, !moe.assignment<?x2, 8>
          -> tensor<8x32x16xf32>
      return %dw : tensor<8x32x16xf32>
    }
    ```
  }];
  let arguments = (ins Moe_FloatTensor:$x, Moe_FloatTensor:$dy,
    Moe_Assignment:$assignment, Optional<Moe_FloatTensor>:$buffer,
    Moe_RowOrderAttr:$x_from, Moe_RowOrderAttr:$dy_from,
    Moe_WeightLayoutAttr:$layout);
  let results = (outs Moe_FloatTensor:$result);
  let assemblyFormat = [{
    $x `from` `` $x_from `,` $dy `from` `` $dy_from `by` $assignment `` $layout
    (`accumulate` `(` $buffer^ `:` type($buffer) `)`)?
    attr-dict `:` type($x) `,` type($dy) `,` type($assignment) `->`
    type($result)
  }];
}

def Moe_RowwiseOp : Moe_Level1Op<"rowwise",
    [IsolatedFromAbove, SingleBlock, AttrSizedOperandSegments]> {
  let summary = "one region on the scalars of each row";
  let description = [{
    The region runs for each of N columns of each row. Its arguments are, for
    each operand in turn, the values that the operand's port gives (see
    `#moe.port`): c for `rows` and `expert` ports with c columns, one for a
    `scalar`. It yields, for each result in turn, c values for `rows` and one
    for a `sum`. Arguments and yielded values are f32, or f64 where every
    floating operand and result is f64 (mixed f64 is refused). Bias, activations, GLU, gate scaling, their
    derivatives, recomputation and row dots are all this op.

    Rows are in one order for all operands and results. An assignment is needed
    in grouped order, and for `expert` operands; in slot order with an
    assignment sentinel rows are not read and the results' sentinel rows are
    zero; grouped rows outside every range are unspecified.

    Constraints:
    * (C1) one port for each operand and result; `sum` only among results,
      `scalar` and `expert` only among operands, `partials` nowhere
    * (C2) every operand and result has the rows of the order and c*N columns
      with one N, static; expert operands are (E, c*N); at least one of them
      has columns
    * (C3) an assignment in grouped order and with expert operands, which token
      order may not have
    * (C4) region arguments and yielded values are as said above
    * (C5) the region holds only arith and math ops on scalars

    ```mlir
    func.func @swiglu(%h: tensor<?x64xbf16>, %a: !moe.assignment<?x2, 8>)
        -> tensor<?x32xbf16> {
      %y = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
          ins(%h : tensor<?x64xbf16> rows concat 2)
          outs(tensor<?x32xbf16> rows) {
      ^bb0(%gate: f32, %up: f32):
        %one = arith.constant 1.0 : f32
        %neg = arith.negf %gate : f32
        %exp = math.exp %neg : f32
        %den = arith.addf %one, %exp : f32
        %silu = arith.divf %gate, %den : f32
        %out = arith.mulf %silu, %up : f32
        moe.yield %out : f32
      }
      return %y : tensor<?x32xbf16>
    }
    ```
  }];
  let arguments = (ins Moe_RowOrderAttr:$order,
                       Optional<Moe_Assignment>:$assignment,
                       Variadic<Moe_FloatTensor>:$ins,
                       Moe_PortArrayAttr:$in_ports,
                       Moe_PortArrayAttr:$out_ports);
  let results = (outs Variadic<Moe_FloatTensor>:$results);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `` $order (`by` $assignment^ `:` type($assignment))?
    `ins` `` custom<PortOperands>($ins, type($ins), $in_ports, ref($order))
    `outs` `` custom<PortResults>(type($results), $out_ports, ref($order))
    attr-dict-with-keyword $body
  }];
  let hasRegionVerifier = 1;
  let hasCanonicalizer = 1;
  let extraClassDeclaration = [{
    ArrayRef<Attribute> inPorts() { return getInPorts().getValue(); }
    PortAttr inPort(unsigned i) { return cast<PortAttr>(getInPorts()[i]); }
    PortAttr outPort(unsigned i) { return cast<PortAttr>(getOutPorts()[i]); }
    /// N, the number of region columns.
    int64_t getWidth();
    /// First block argument of operand i, first yielded value of result i.
    unsigned firstArgument(unsigned i);
    unsigned firstYield(unsigned i);
  }];
}

def Moe_ExpertSumOp : Moe_Level1Op<"expert_sum"> {
  let summary = "sum of each expert's rows";
  let description = [{
    (E, N): for each expert the sum of its rows, in f32 (f64 for f64), in
    grouped order; zeros for an expert without rows. Rows are in token, slot or
    grouped order.

    Constraints:
    * (C1) the operand has the rows of its order; the result is (E, N)

    ```mlir
    func.func @expert_sum(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>)
        -> tensor<8x16xf32> {
      %s = moe.expert_sum %x from grouped by %a
          : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<8x16xf32>
      return %s : tensor<8x16xf32>
    }
    ```
  }];
  let arguments = (ins Moe_FloatTensor:$rows, Moe_Assignment:$assignment,
                       Moe_RowOrderAttr:$from);
  let results = (outs Moe_FloatTensor:$result);
  let assemblyFormat = [{
    $rows `from` `` $from `by` $assignment attr-dict `:` type($rows) `,`
    type($assignment) `->` type($result)
  }];
}

def Moe_YieldOp : Moe_Op<"yield", [Pure, Terminator, ReturnLike]> {
  let summary = "ends a rowwise region";
  let arguments = (ins Variadic<AnyFloat>:$values);
  let assemblyFormat = "attr-dict ($values^ `:` type($values))?";
}

#endif // MOE_DIALECT_MOE_IR_MOEOPS_TD
