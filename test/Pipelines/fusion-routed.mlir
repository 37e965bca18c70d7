// RUN: moe-compile %s --emit=mlir-stage=bufferized --opt grad=all -o - | FileCheck %s

// Of gates in slot order and their grouped copy, as large, the gates are kept: no
// kernel moves them.
// CHECK-LABEL: func.func @forward(
// CHECK-SAME:    %[[GATES:[^:]*]]: memref<?x2xf32> {{[^%]*}}moe.kind = "saved"
// CHECK:         moe.route_rows {{.*}} outs(%[[GATES]], %
// CHECK-NOT:     moe.map_rows
// CHECK-LABEL: func.func @backward(
// CHECK-NOT:     moe.map_rows
// CHECK:         moe.grouped_matmul {{.*}} memref<?x2xf32> scalar slot
// CHECK-NOT:     moe.map_rows
// CHECK:         moe.route_grad_rows
func.func @forward(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["T", 64]},
    %logits: tensor<?x8xf32> {moe.name = "logits", moe.dims = ["T", 8]},
    %w1: tensor<8x64x64xbf16> {moe.name = "w1", moe.dims = [8, 64, 64]},
    %w2: tensor<8x64x32xbf16> {moe.name = "w2", moe.dims = [8, 64, 32]})
    -> (tensor<?x64xbf16> {moe.name = "out", moe.dims = ["T", 64]}) {
  %gates, %ids = moe.route %logits softmax score_then_topk
      : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi64>
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %h = moe.parallel_linear %x, %w1 by %slots from token to grouped out_in
      : tensor<?x64xbf16>, tensor<8x64x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  %a = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%h : tensor<?x64xbf16> rows concat 2)
      outs(tensor<?x32xbf16> rows) {
  ^bb0(%h_0: f32, %h_1: f32):
    %0 = arith.constant 1.0 : f32
    %1 = arith.negf %h_0 : f32
    %2 = math.exp %1 : f32
    %3 = arith.addf %0, %2 : f32
    %4 = arith.divf %0, %3 : f32
    %5 = arith.mulf %h_0, %4 : f32
    %6 = arith.mulf %5, %h_1 : f32
    moe.yield %6 : f32
  }
  %y = moe.parallel_linear %a, %w2 by %slots from grouped to grouped out_in
      : tensor<?x32xbf16>, tensor<8x64x32xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  %out = moe.combine %y from grouped by %slots gates(%gates : tensor<?x2xf32>)
      : tensor<?x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  return %out : tensor<?x64xbf16>
}

