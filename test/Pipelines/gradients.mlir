// RUN: moe-compile %s --emit=mlir-stage=differentiated --opt grad=all | FileCheck %s
// RUN: moe-compile %s --emit=mlir-stage=differentiated --opt grad=x | FileCheck %s --check-prefix=FROZEN
// RUN: moe-compile %s --emit=mlir-stage=differentiated --opt grad=x,w1,w2 --opt split-weights=w1,w2 | FileCheck %s --check-prefix=SPLIT
// RUN: moe-compile %s --emit=manifest --opt grad=w1 | FileCheck %s --check-prefix=MANIFEST
// RUN: moe-compile %s --emit=mlir-stage=differentiated --opt grad=x,w1,w2 --opt accumulate=w2,w1 --opt accumulate-f32=true | FileCheck %s --check-prefix=INTO
// RUN: moe-compile %s --emit=mlir-stage=differentiated --opt grad=gates,w2 --opt simplify=false --opt policy=save-all | FileCheck %s --check-prefix=PLAIN
// RUN: not moe-compile %s --opt grad=w1 --opt accumulate=w2 2>&1 | FileCheck %s --check-prefix=NOTWRT
// RUN: not moe-compile %s --emit=mlir-stage=differentiated 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not moe-compile %s --opt grad=w3 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not moe-compile %s --opt grad=ids 2>&1 | FileCheck %s --check-prefix=INTEGERS

// NONE:     target 'cpu' has no stage 'differentiated' without gradients; ask for them with grad=
// UNKNOWN:  wrt names 'w3', which is no argument's moe.name or number; @
// INTEGERS: argument 'ids' is 'tensor<?x2xi64>'; gradients are with respect to ranked tensors of floats

// NOTWRT:   accumulate names 'w2', which is no argument's moe.name in wrt; add it there

// The products of weights add to f32 buffers.
// INTO-LABEL:    func.func @backward(
// INTO-SAME:       %[[D1:[^:]*]]: tensor<4x16x16xf32> {moe.inout, moe.name = "d_w1"}, %[[D2:[^:]*]]: tensor<4x16x8xf32> {moe.inout, moe.name = "d_w2"})
// INTO-SAME:       -> (tensor<?x16xbf16> {moe.dims = ["T", 16], moe.kind = "gradient", moe.name = "d_x"}, tensor<4x16x16xf32> {moe.inout}, tensor<4x16x8xf32> {moe.inout})
// INTO-SAME:       moe.backward = {accumulated = ["w1", "w2"], cotangents = ["out"], forward = "forward", gradients = ["x"]}
// INTO-DAG:        moe.weight_grad {{.*}} accumulate(%[[D1]] : tensor<4x16x16xf32>) : tensor<?x16xbf16>, tensor<?x16xbf16>
// INTO-DAG:        moe.weight_grad {{.*}} accumulate(%[[D2]] : tensor<4x16x8xf32>) : tensor<?x8xbf16>, tensor<?x16xbf16>
// INTO-NOT:        moe.weight_grad

// A gated MLP: two products forward, four backward, H kept.
// CHECK-LABEL:   func.func @forward(
// CHECK-COUNT-2:   moe.parallel_linear
// CHECK-NOT:       moe.parallel_linear
// CHECK-LABEL:   func.func @backward(
// CHECK-SAME:      kind = "saved", name = "saved0"}]
// CHECK-COUNT-4:   {{moe.parallel_linear|moe.weight_grad}}
// CHECK-NOT:       {{moe.parallel_linear|moe.weight_grad}}
// CHECK-NOT:     func.func

// Frozen weights: no product for them, neither X nor A' is kept.
// FROZEN-LABEL:   func.func @backward(
// FROZEN-NOT:       moe.name = "x"
// FROZEN-SAME:      kind = "saved", name = "saved0"}]
// FROZEN-COUNT-2:   moe.parallel_linear
// FROZEN-NOT:       {{moe.parallel_linear|moe.weight_grad}}

// SPLIT-LABEL:   func.func @backward_input(
// SPLIT-NOT:       moe.weight_grad
// SPLIT-LABEL:   func.func @backward_weight(
// SPLIT-COUNT-2:   moe.weight_grad
// SPLIT-NOT:       moe.parallel_linear
// SPLIT:         func.func @backward(

// Without algebra: <dO, Y> and rows of gate * dO, both d columns wide, and Y is kept.
// PLAIN-LABEL:    func.func @backward(
// PLAIN-SAME:       tensor<?x16xbf16> {moe.dims = ["2*T", 16], moe.kind = "saved"
// PLAIN:            %[[DO:.*]] = moe.group %arg0 from token
// PLAIN:            moe.rowwise {{.*}} ins(%[[DO]] : tensor<?x16xbf16> rows, %{{.*}} : tensor<?x16xbf16> rows) outs(tensor<?xf32> sum)
// PLAIN:            %[[DY:.*]] = moe.rowwise {{.*}} outs(tensor<?x16xbf16> rows)
// PLAIN:            moe.weight_grad %{{.*}} from grouped, %[[DY]] from grouped

// MANIFEST:       "backward": {
// MANIFEST:         "gradients": [
// MANIFEST-NEXT:      "w1"
// MANIFEST:         "name": "saved0"
func.func @forward(%x: tensor<?x16xbf16> {moe.name = "x", moe.dims = ["T", 16]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %gates: tensor<?x2xf32> {moe.name = "gates", moe.dims = ["T", 2]},
    %w1: tensor<4x16x16xbf16> {moe.name = "w1"},
    %w2: tensor<4x16x8xbf16> {moe.name = "w2"})
    -> (tensor<?x16xbf16> {moe.name = "out", moe.dims = ["T", 16]}) {
  %a = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 4>
  %h = moe.parallel_linear %x, %w1 by %a from token to grouped out_in
      : tensor<?x16xbf16>, tensor<4x16x16xbf16>, !moe.assignment<?x2, 4> -> tensor<?x16xbf16>
  %act = moe.rowwise grouped by %a : !moe.assignment<?x2, 4>
      ins(%h : tensor<?x16xbf16> rows concat 2) outs(tensor<?x8xbf16> rows) {
  ^bb0(%g: f32, %u: f32):
    %one = arith.constant 1.0 : f32
    %n = arith.negf %g : f32
    %e = math.exp %n : f32
    %d = arith.addf %one, %e : f32
    %s = arith.divf %g, %d : f32
    %p = arith.mulf %s, %u : f32
    moe.yield %p : f32
  }
  %y = moe.parallel_linear %act, %w2 by %a from grouped to grouped out_in
      : tensor<?x8xbf16>, tensor<4x16x8xbf16>, !moe.assignment<?x2, 4> -> tensor<?x16xbf16>
  %o = moe.combine %y from grouped by %a gates(%gates : tensor<?x2xf32>)
      : tensor<?x16xbf16>, !moe.assignment<?x2, 4> -> tensor<?x16xbf16>
  return %o : tensor<?x16xbf16>
}
