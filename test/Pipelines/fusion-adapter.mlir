// RUN: moe-compile %s --emit=mlir-stage=bufferized -o %t.INFER
// RUN: FileCheck %s --input-file=%t.INFER --check-prefix=INFER
// RUN: FileCheck %s --input-file=%t.INFER --check-prefix=COPIES
// RUN: moe-compile %s --emit=mlir-stage=bufferized --opt grad=0,2,4,5,7,8 -o %t.TRAIN
// RUN: FileCheck %s --input-file=%t.TRAIN --check-prefix=TRAIN
// RUN: FileCheck %s --input-file=%t.TRAIN --check-prefix=COPIES

// Adapters share the accumulators of the weights they stand beside.
// COPIES-NOT: memref.alloc
// COPIES-NOT: memref.copy
// INFER-LABEL: func.func @forward(
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul {{.*}} outs(%[[L1:[^ ]*]] : memref<?x8xbf16> rows grouped)
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul {{.*}} pairs(%[[L1]] from grouped, {{[^,]*}}, memref<8x64x8xbf16>, %{{[^ ]*}} from token, {{.*}} columns <concat 2>
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul {{.*}} outs(%[[L2:[^ ]*]] : memref<?x8xbf16> rows grouped)
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul {{.*}} pairs(%[[L2]] from grouped, {{[^,]*}}, memref<8x64x8xbf16>, %{{[^ ]*}} from grouped
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.combine_rows
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         return

// Backward beside frozen weights: dA~ and the adapter's share of it are one
// accumulator without the gate, which d-gate reads; A' is d-A2's as it would be d-W2's.
// TRAIN-LABEL: func.func @forward(
// TRAIN-SAME:    %[[GATES:[^:]*]]: memref<?x2xf32> {{[^%]*}}moe.name = "gates"
// TRAIN-SAME:    %[[L1:[^:]*]]: memref<?x8xbf16> {{[^%]*}}moe.name = "saved0"
// TRAIN-SAME:    %[[H:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "saved1"
// TRAIN-SAME:    %[[GL:[^:]*]]: memref<?x8xbf16> {{[^%]*}}moe.name = "saved2"
// Y, A, low of down
// TRAIN-SAME:    moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "128*T"}, {after = [0], bytes = "256*T"}, {after = [1], bytes = "32*T"}]}
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.sort_slots
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} outs(%[[L1]] : memref<?x8xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[L1]] from grouped, {{.*}} outs(%[[H]] : memref<?x64xbf16> rows grouped concat 2, %[[A:[^ ]*]] : memref<?x32xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[A]] from grouped, {{.*}} ins(%[[GATES]] : memref<?x2xf32> scalar slot) outs(%[[L2:[^ ]*]] : memref<?x8xbf16> rows grouped, %[[GL]] : memref<?x8xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[L2]] from grouped, {{[^)]*}} %[[A]] from grouped,
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.combine_rows
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN-LABEL: func.func @backward(
// TRAIN-SAME:    %[[DO:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_out"
// TRAIN-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// TRAIN-SAME:    %[[GATES:[^:]*]]: memref<?x2xf32> {{[^%]*}}moe.name = "gates"
// TRAIN-SAME:    %[[L1:[^:]*]]: memref<?x8xbf16> {{[^%]*}}moe.name = "saved0"
// TRAIN-SAME:    %[[H:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "saved1"
// TRAIN-SAME:    %[[GL:[^:]*]]: memref<?x8xbf16> {{[^%]*}}moe.name = "saved2"
// TRAIN-SAME:    %[[DX:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_x"
// TRAIN-SAME:    %[[DG:[^:]*]]: memref<?x2xf32> {{[^%]*}}moe.name = "d_gates"
// d-X grouped, dH, A', two of r columns, partials
// TRAIN-SAME:    moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "256*T"}, {after = [0], bytes = "256*T"}, {after = [0], bytes = "128*T"}, {after = [2], bytes = "32*T"}, {after = [1], bytes = "32*T"}, {after = [3, 4], bytes = "8*T"}]}
// d-B2
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer {{.*}} x(%[[GL]] from grouped {{.*}} dy(%[[DO]] from token
// s (dO B2)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DO]] from token, {{[^)]*}}) columns <single 1> ins() outs(%[[U:[^ ]*]] : memref<?x8xbf16> rows grouped)
// d-up
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DO]] from token, {{[^)]*}} %[[U]] from grouped, {{[^)]*}}) columns <single 1> ins(%[[GATES]] : memref<?x2xf32> scalar slot, %[[H]] : memref<?x64xbf16> rows grouped concat 2) outs(%[[DH:[^ ]*]] : memref<?x64xbf16> rows grouped concat 2, %[[P:[^ ]*]] : memref<?x1xf32> partials grouped, %[[A:[^ ]*]] : memref<?x32xbf16> rows grouped)
// d-A2
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer {{.*}} x(%[[A]] from grouped {{.*}} dy(%[[U]] from grouped
// d-B1
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer {{.*}} x(%[[L1]] from grouped {{.*}} dy(%[[DH]] from grouped
// d-low of up, d-A1
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DH]] from grouped, {{[^)]*}}) columns <single 1> ins() outs(%[[V:[^ ]*]] : memref<?x8xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer {{.*}} x(%[[X]] from token {{.*}} dy(%[[V]] from grouped
// d-X
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DH]] from grouped, {{[^)]*}} %[[V]] from grouped, {{[^)]*}}) columns <single 1> ins() outs(%[[DXG:[^ ]*]] : memref<?x64xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.combine_rows {{.*}} ins(%[[DXG]] : memref<?x64xbf16> rows grouped) folds(%[[P]] : memref<?x1xf32>) outs(%[[DX]] : memref<?x64xbf16> rows token, %[[DG]] : memref<?x2xf32> scalar slot)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}

func.func @forward(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %gates: tensor<?x2xf32> {moe.name = "gates", moe.dims = ["T", 2]},
    %w1: tensor<8x64x64xbf16> {moe.name = "w1", moe.dims = [8, 64, 64]},
    %w1_a: tensor<8x8x64xbf16> {moe.name = "w1_a", moe.dims = [8, 8, 64]},
    %w1_b: tensor<8x64x8xbf16> {moe.name = "w1_b", moe.dims = [8, 64, 8]},
    %w2: tensor<8x64x32xbf16> {moe.name = "w2", moe.dims = [8, 64, 32]},
    %w2_a: tensor<8x8x32xbf16> {moe.name = "w2_a", moe.dims = [8, 8, 32]},
    %w2_b: tensor<8x64x8xbf16> {moe.name = "w2_b", moe.dims = [8, 64, 8]})
    -> (tensor<?x64xbf16> {moe.name = "out", moe.dims = ["T", 64]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %h = moe.parallel_linear %x, %w1 by %slots from token to grouped out_in
      : tensor<?x64xbf16>, tensor<8x64x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  %h_low = moe.parallel_linear %x, %w1_a by %slots from token to grouped out_in
      : tensor<?x64xbf16>, tensor<8x8x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x8xbf16>
  %h_scaled = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%h_low : tensor<?x8xbf16> rows)
      outs(tensor<?x8xbf16> rows) {
  ^bb0(%h_low_in: f32):
    %0 = arith.constant 2.0 : f32
    %1 = arith.mulf %0, %h_low_in : f32
    moe.yield %1 : f32
  }
  %h_delta = moe.parallel_linear %h_scaled, %w1_b by %slots from grouped to grouped out_in
      : tensor<?x8xbf16>, tensor<8x64x8xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  %h_adapted = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%h : tensor<?x64xbf16> rows, %h_delta : tensor<?x64xbf16> rows)
      outs(tensor<?x64xbf16> rows) {
  ^bb0(%h_in: f32, %h_delta_in: f32):
    %0 = arith.addf %h_in, %h_delta_in : f32
    moe.yield %0 : f32
  }
  %a = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%h_adapted : tensor<?x64xbf16> rows concat 2)
      outs(tensor<?x32xbf16> rows) {
  ^bb0(%h_adapted_0: f32, %h_adapted_1: f32):
    %0 = arith.constant 0.0 : f32
    %1 = arith.constant 1.0 : f32
    %2 = arith.cmpf oge, %h_adapted_0, %0 : f32
    %3 = arith.negf %h_adapted_0 : f32
    %4 = arith.select %2, %3, %h_adapted_0 : f32
    %5 = math.exp %4 : f32
    %6 = arith.select %2, %1, %5 : f32
    %7 = arith.addf %1, %5 : f32
    %8 = arith.divf %6, %7 : f32
    %9 = arith.mulf %h_adapted_0, %8 : f32
    %10 = arith.mulf %9, %h_adapted_1 : f32
    moe.yield %10 : f32
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

