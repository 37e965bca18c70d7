// RUN: moe-compile %s --emit=mlir-stage=bufferized --opt grad=all -o %t.TRAIN
// RUN: FileCheck %s --input-file=%t.TRAIN --check-prefix=TRAIN
// RUN: FileCheck %s --input-file=%t.TRAIN --check-prefix=COPIES

// Gate and up weights apart, each with an adapter: four paths to dX meet in one
// accumulator.
// COPIES-NOT: memref.alloc
// COPIES-NOT: memref.copy
// COPIES-NOT: linalg.

// TRAIN-LABEL: func.func @backward(
// d-X grouped; dG, dU, A'; three of r columns; partials
// TRAIN-SAME:    moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "8*T"}, {after = [0], bytes = "128*T"}, {after = [1], bytes = "128*T"}, {after = [2], bytes = "32*T"}, {after = [2], bytes = "32*T"}, {after = [4], bytes = "32*T"}, {after = [3], bytes = "128*T"}, {after = [5], bytes = "256*T"}]}
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul
// d-up
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} outs(%[[DU:[^ ]*]] : memref<?x32xbf16> rows grouped, %[[DG:[^ ]*]] : memref<?x32xbf16> rows grouped, %[[P:[^ ]*]] : memref<?x1xf32> partials grouped, %{{[^ ]*}} : memref<?x32xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DG]] from grouped, {{[^)]*}}) columns <single 1> ins() outs(%[[V:[^ ]*]] : memref<?x8xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DU]] from grouped, {{[^)]*}}) columns <single 1> ins() outs(%[[W:[^ ]*]] : memref<?x8xbf16> rows grouped)
// d-X
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DU]] from grouped, {{[^)]*}}, %[[V]] from grouped, {{[^)]*}}, %[[DG]] from grouped, {{[^)]*}}, %[[W]] from grouped, {{[^)]*}}) columns <single 1> ins() outs(%[[DXG:[^ ]*]] : memref<?x64xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.combine_rows {{.*}} ins(%[[DXG]] : memref<?x64xbf16> rows grouped) folds(%[[P]] : memref<?x1xf32>)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}

func.func @forward(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %gates: tensor<?x2xf32> {moe.name = "gates", moe.dims = ["T", 2]},
    %w_gate: tensor<8x32x64xbf16> {moe.name = "w_gate", moe.dims = [8, 32, 64]},
    %w_gate_a: tensor<8x8x64xbf16> {moe.name = "w_gate_a", moe.dims = [8, 8, 64]},
    %w_gate_b: tensor<8x32x8xbf16> {moe.name = "w_gate_b", moe.dims = [8, 32, 8]},
    %w_up: tensor<8x32x64xbf16> {moe.name = "w_up", moe.dims = [8, 32, 64]},
    %w_up_a: tensor<8x8x64xbf16> {moe.name = "w_up_a", moe.dims = [8, 8, 64]},
    %w_up_b: tensor<8x32x8xbf16> {moe.name = "w_up_b", moe.dims = [8, 32, 8]},
    %w2: tensor<8x64x32xbf16> {moe.name = "w2", moe.dims = [8, 64, 32]},
    %w2_a: tensor<8x8x32xbf16> {moe.name = "w2_a", moe.dims = [8, 8, 32]},
    %w2_b: tensor<8x64x8xbf16> {moe.name = "w2_b", moe.dims = [8, 64, 8]})
    -> (tensor<?x64xbf16> {moe.name = "out", moe.dims = ["T", 64]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %h = moe.parallel_linear %x, %w_gate by %slots from token to grouped out_in
      : tensor<?x64xbf16>, tensor<8x32x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  %h_low = moe.parallel_linear %x, %w_gate_a by %slots from token to grouped out_in
      : tensor<?x64xbf16>, tensor<8x8x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x8xbf16>
  %h_scaled = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%h_low : tensor<?x8xbf16> rows)
      outs(tensor<?x8xbf16> rows) {
  ^bb0(%h_low_in: f32):
    %0 = arith.constant 2.0 : f32
    %1 = arith.mulf %0, %h_low_in : f32
    moe.yield %1 : f32
  }
  %h_delta = moe.parallel_linear %h_scaled, %w_gate_b by %slots from grouped to grouped out_in
      : tensor<?x8xbf16>, tensor<8x32x8xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  %h_adapted = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%h : tensor<?x32xbf16> rows, %h_delta : tensor<?x32xbf16> rows)
      outs(tensor<?x32xbf16> rows) {
  ^bb0(%h_in: f32, %h_delta_in: f32):
    %0 = arith.addf %h_in, %h_delta_in : f32
    moe.yield %0 : f32
  }
  %h_1 = moe.parallel_linear %x, %w_up by %slots from token to grouped out_in
      : tensor<?x64xbf16>, tensor<8x32x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  %h_low_1 = moe.parallel_linear %x, %w_up_a by %slots from token to grouped out_in
      : tensor<?x64xbf16>, tensor<8x8x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x8xbf16>
  %h_scaled_1 = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%h_low_1 : tensor<?x8xbf16> rows)
      outs(tensor<?x8xbf16> rows) {
  ^bb0(%h_low_1_in: f32):
    %0 = arith.constant 2.0 : f32
    %1 = arith.mulf %0, %h_low_1_in : f32
    moe.yield %1 : f32
  }
  %h_delta_1 = moe.parallel_linear %h_scaled_1, %w_up_b by %slots from grouped to grouped out_in
      : tensor<?x8xbf16>, tensor<8x32x8xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  %h_adapted_1 = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%h_1 : tensor<?x32xbf16> rows, %h_delta_1 : tensor<?x32xbf16> rows)
      outs(tensor<?x32xbf16> rows) {
  ^bb0(%h_1_in: f32, %h_delta_1_in: f32):
    %0 = arith.addf %h_1_in, %h_delta_1_in : f32
    moe.yield %0 : f32
  }
  %a = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%h_adapted : tensor<?x32xbf16> rows, %h_adapted_1 : tensor<?x32xbf16> rows)
      outs(tensor<?x32xbf16> rows) {
  ^bb0(%h_adapted_in: f32, %h_adapted_1_in: f32):
    %0 = arith.constant 0.0 : f32
    %1 = arith.cmpf ugt, %h_adapted_in, %0 : f32
    %2 = arith.select %1, %h_adapted_in, %0 : f32
    %3 = arith.mulf %2, %h_adapted_1_in : f32
    moe.yield %3 : f32
  }
  %y = moe.parallel_linear %a, %w2 by %slots from grouped to grouped out_in
      : tensor<?x32xbf16>, tensor<8x64x32xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  %y_low = moe.parallel_linear %a, %w2_a by %slots from grouped to grouped out_in
      : tensor<?x32xbf16>, tensor<8x8x32xbf16>, !moe.assignment<?x2, 8> -> tensor<?x8xbf16>
  %y_scaled = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%y_low : tensor<?x8xbf16> rows)
      outs(tensor<?x8xbf16> rows) {
  ^bb0(%y_low_in: f32):
    %0 = arith.constant 2.0 : f32
    %1 = arith.mulf %0, %y_low_in : f32
    moe.yield %1 : f32
  }
  %y_delta = moe.parallel_linear %y_scaled, %w2_b by %slots from grouped to grouped out_in
      : tensor<?x8xbf16>, tensor<8x64x8xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  %y_adapted = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%y : tensor<?x64xbf16> rows, %y_delta : tensor<?x64xbf16> rows)
      outs(tensor<?x64xbf16> rows) {
  ^bb0(%y_in: f32, %y_delta_in: f32):
    %0 = arith.addf %y_in, %y_delta_in : f32
    moe.yield %0 : f32
  }
  %out = moe.combine %y_adapted from grouped by %slots gates(%gates : tensor<?x2xf32>)
      : tensor<?x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  return %out : tensor<?x64xbf16>
}
