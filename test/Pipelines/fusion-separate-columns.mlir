// RUN: moe-compile %s --emit=mlir-stage=bufferized -o %t.INFER
// RUN: FileCheck %s --input-file=%t.INFER --check-prefix=INFER
// RUN: FileCheck %s --input-file=%t.INFER --check-prefix=COPIES
// RUN: moe-compile %s --emit=mlir-stage=bufferized --opt grad=all -o %t.TRAIN
// RUN: FileCheck %s --input-file=%t.TRAIN --check-prefix=TRAIN
// RUN: FileCheck %s --input-file=%t.TRAIN --check-prefix=COPIES

// Gate and up apart: the one reads the other; their gradients meet in one product.
// Biases are in epilogues, and their gradients sums over an expert's rows.
// COPIES-NOT: memref.alloc
// COPIES-NOT: memref.copy
// INFER-LABEL: func.func @forward(
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul {{.*}} outs(%[[G:[^ ]*]] : memref<?x32xbf16> rows grouped)
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul {{.*}} ins({{.*}}%[[G]] : memref<?x32xbf16> rows grouped
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.combine_rows
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         return
// TRAIN-LABEL: func.func @backward(
// TRAIN-DAG:     moe.grouped_matmul {{.*}} partials grouped
// TRAIN-DAG:     moe.grouped_matmul {{.*}} pairs({{[^)]*}} from grouped, {{[^)]*}} from grouped,
// TRAIN-DAG:     moe.combine_rows
// TRAIN-DAG:     moe.map_rows slot {{.*}} partials grouped, {{.*}} scalar grouped
// TRAIN-NOT:     linalg.

func.func @forward(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %gates: tensor<?x2xf32> {moe.name = "gates", moe.dims = ["T", 2]},
    %w_gate: tensor<8x32x64xbf16> {moe.name = "w_gate", moe.dims = [8, 32, 64]},
    %b_gate: tensor<8x32xbf16> {moe.name = "b_gate", moe.dims = [8, 32]},
    %w_up: tensor<8x32x64xbf16> {moe.name = "w_up", moe.dims = [8, 32, 64]},
    %b_up: tensor<8x32xbf16> {moe.name = "b_up", moe.dims = [8, 32]},
    %w2: tensor<8x64x32xbf16> {moe.name = "w2", moe.dims = [8, 64, 32]},
    %b2: tensor<8x64xbf16> {moe.name = "b2", moe.dims = [8, 64]})
    -> (tensor<?x64xbf16> {moe.name = "out", moe.dims = ["T", 64]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %h = moe.parallel_linear %x, %w_gate by %slots from token to grouped out_in bias(%b_gate : tensor<8x32xbf16>)
      : tensor<?x64xbf16>, tensor<8x32x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  %h_1 = moe.parallel_linear %x, %w_up by %slots from token to grouped out_in bias(%b_up : tensor<8x32xbf16>)
      : tensor<?x64xbf16>, tensor<8x32x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  %a = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%h : tensor<?x32xbf16> rows, %h_1 : tensor<?x32xbf16> rows)
      outs(tensor<?x32xbf16> rows) {
  ^bb0(%h_in: f32, %h_1_in: f32):
    %0 = arith.constant 0.0 : f32
    %1 = arith.constant 1.0 : f32
    %2 = arith.cmpf oge, %h_in, %0 : f32
    %3 = arith.negf %h_in : f32
    %4 = arith.select %2, %3, %h_in : f32
    %5 = math.exp %4 : f32
    %6 = arith.select %2, %1, %5 : f32
    %7 = arith.addf %1, %5 : f32
    %8 = arith.divf %6, %7 : f32
    %9 = arith.mulf %h_in, %8 : f32
    %10 = arith.mulf %9, %h_1_in : f32
    moe.yield %10 : f32
  }
  %y = moe.parallel_linear %a, %w2 by %slots from grouped to grouped out_in bias(%b2 : tensor<8x64xbf16>)
      : tensor<?x32xbf16>, tensor<8x64x32xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  %out = moe.combine %y from grouped by %slots gates(%gates : tensor<?x2xf32>)
      : tensor<?x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  return %out : tensor<?x64xbf16>
}

