// RUN: moe-compile %s --emit=mlir-stage=bufferized -o %t.INFER
// RUN: FileCheck %s --input-file=%t.INFER --check-prefix=INFER
// RUN: FileCheck %s --input-file=%t.INFER --check-prefix=COPIES

// Inference only, from logits to tokens: nothing is kept for backward, no rounding
// of a tensor that is not there, no buffer but the workspace's: Y, A, the gates, the
// tables; the ids lie where Y will.
// COPIES-NOT: memref.alloc
// COPIES-NOT: memref.copy
// COPIES-NOT: linalg.
// INFER-NOT: moe.stored
// INFER-NOT: moe.kind
// INFER-LABEL: func.func @forward(
// INFER-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// INFER-SAME:    %[[LOGITS:[^:]*]]: memref<?x8xf32> {{[^%]*}}moe.name = "logits"
// INFER-SAME:    %[[W1:[^:]*]]: memref<8x64x64xbf16> {{[^%]*}}moe.name = "w1"
// INFER-SAME:    %[[W2:[^:]*]]: memref<8x64x32xbf16> {{[^%]*}}moe.name = "w2"
// INFER-SAME:    %[[OUT:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "out"
// INFER-SAME:    moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "8*T"}, {after = [0], bytes = "8*T"}, {after = [1], bytes = "8*T"}, {after = [2], bytes = 32 : i64}, {after = [3], bytes = 32 : i64}, {after = [4], bytes = "16*T"}, {after = [4], bytes = "256*T"}, {after = [6], bytes = "128*T"}]}
// INFER-NOT:     {{moe.stored|moe.kind|moe.(grouped|map|combine|reduce|fold)}}
// INFER:         moe.route_rows {{.*}}%[[LOGITS]] {{.*}}outs(%[[GATES:[^ ,]*]], %[[IDS:[^ ,]*]] :
// INFER-NOT:     {{moe.stored|moe.kind|moe.(grouped|map|combine|reduce|fold)}}
// INFER:         moe.sort_slots ids(%[[IDS]]
// INFER-NOT:     {{moe.stored|moe.kind|moe.(grouped|map|combine|reduce|fold)}}
// INFER:         moe.grouped_matmul {{.*}} pairs(%[[X]] from token, %[[W1]] out_in {{.*}}columns <interleave 2> ins() outs(%[[A:[^ ]*]] : memref<?x32xbf16> rows grouped)
// INFER-NOT:     {{moe.stored|moe.kind|moe.(grouped|map|combine|reduce|fold)}}
// INFER:         moe.grouped_matmul {{.*}} pairs(%[[A]] from grouped, %[[W2]] out_in {{.*}}columns <single 1> ins() outs(%[[Y:[^ ]*]] : memref<?x64xbf16> rows grouped)
// INFER-NOT:     {{moe.stored|moe.kind|moe.(grouped|map|combine|reduce|fold)}}
// INFER:         moe.combine_rows {{.*}} ins(%[[Y]] : memref<?x64xbf16> rows grouped, %[[GATES]] : memref<?x2xf32> scalar slot) outs(%[[OUT]] : memref<?x64xbf16> rows token)
// INFER-NOT:     {{moe.stored|moe.kind|moe.(grouped|map|combine|reduce|fold)}}

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
      ins(%h : tensor<?x64xbf16> rows interleave 2)
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
