// RUN: moe-compile %s --emit=mlir-stage=bufferized -o %t.INFER
// RUN: FileCheck %s --input-file=%t.INFER --check-prefix=INFER
// RUN: FileCheck %s --input-file=%t.INFER --check-prefix=COPIES
// RUN: moe-compile %s --emit=mlir-stage=bufferized --opt grad=all -o %t.TRAIN
// RUN: FileCheck %s --input-file=%t.TRAIN --check-prefix=TRAIN
// RUN: FileCheck %s --input-file=%t.TRAIN --check-prefix=COPIES

// The gate is a scalar of the epilogues; X is never copied.
// COPIES-NOT: memref.alloc
// COPIES-NOT: memref.copy
// INFER-LABEL: func.func @forward(
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul {{.*}} from token, {{.*}} ins(%{{[^ ]*}} : memref<?x2xf32> scalar slot)
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.combine_rows
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         return

// Backward: d-gate is a row sum of d-up's epilogue, over the pairs that it sees.
// TRAIN-LABEL: func.func @backward(
// TRAIN-SAME:    %[[DO:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_out"
// TRAIN-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// TRAIN-SAME:    %[[GATES:[^:]*]]: memref<?x2xf32> {{[^%]*}}moe.name = "gates"
// TRAIN-SAME:    %[[H:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "saved0"
// TRAIN-SAME:    %[[DX:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_x"
// TRAIN-SAME:    %[[DG:[^:]*]]: memref<?x2xf32> {{[^%]*}}moe.name = "d_gates"
// d-X grouped, gate * dH, A, partials
// TRAIN-SAME:    moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "8*T"}, {after = [0], bytes = "256*T"}, {after = [1], bytes = "256*T"}, {after = [1], bytes = "128*T"}]}
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DO]] from token, {{[^)]*}}) columns <single 1> ins(%[[H]] : memref<?x64xbf16> rows grouped concat 2, %[[GATES]] : memref<?x2xf32> scalar slot) outs(%[[DH:[^ ]*]] : memref<?x64xbf16> rows grouped concat 2, %[[P:[^ ]*]] : memref<?x1xf32> partials grouped, %[[A:[^ ]*]] : memref<?x32xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer {{.*}} x(%[[A]] from grouped {{.*}} dy(%[[DO]] from token
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer {{.*}} x(%[[X]] from token {{.*}} dy(%[[DH]] from grouped
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DH]] from grouped, {{[^)]*}}) columns <single 1> ins() outs(%[[DXG:[^ ]*]] : memref<?x64xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.combine_rows {{.*}} ins(%[[DXG]] : memref<?x64xbf16> rows grouped) folds(%[[P]] : memref<?x1xf32>) outs(%[[DX]] : memref<?x64xbf16> rows token, %[[DG]] : memref<?x2xf32> scalar slot)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}

func.func @forward(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %gates: tensor<?x2xf32> {moe.name = "gates", moe.dims = ["T", 2]},
    %w1: tensor<8x64x64xbf16> {moe.name = "w1", moe.dims = [8, 64, 64]},
    %w2: tensor<8x64x32xbf16> {moe.name = "w2", moe.dims = [8, 64, 32]})
    -> (tensor<?x64xbf16> {moe.name = "out", moe.dims = ["T", 64]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %grouped = moe.group %x from token by %slots
      : tensor<?x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  %grouped_1 = moe.group %gates from slot by %slots
      : tensor<?x2xf32>, !moe.assignment<?x2, 8> -> tensor<?xf32>
  %gated = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%grouped : tensor<?x64xbf16> rows, %grouped_1 : tensor<?xf32> scalar)
      outs(tensor<?x64xbf16> rows) {
  ^bb0(%grouped_in: f32, %grouped_1_in: f32):
    %0 = arith.mulf %grouped_in, %grouped_1_in : f32
    moe.yield %0 : f32
  }
  %h = moe.parallel_linear %gated, %w1 by %slots from grouped to grouped out_in
      : tensor<?x64xbf16>, tensor<8x64x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  %a = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%h : tensor<?x64xbf16> rows concat 2)
      outs(tensor<?x32xbf16> rows) {
  ^bb0(%h_0: f32, %h_1: f32):
    %0 = arith.constant 0.0 : f32
    %1 = arith.constant 1.0 : f32
    %2 = arith.cmpf oge, %h_0, %0 : f32
    %3 = arith.negf %h_0 : f32
    %4 = arith.select %2, %3, %h_0 : f32
    %5 = math.exp %4 : f32
    %6 = arith.select %2, %1, %5 : f32
    %7 = arith.addf %1, %5 : f32
    %8 = arith.divf %6, %7 : f32
    %9 = arith.mulf %h_0, %8 : f32
    %10 = arith.mulf %9, %h_1 : f32
    moe.yield %10 : f32
  }
  %y = moe.parallel_linear %a, %w2 by %slots from grouped to grouped out_in
      : tensor<?x32xbf16>, tensor<8x64x32xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  %out = moe.combine %y from grouped by %slots
      : tensor<?x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  return %out : tensor<?x64xbf16>
}

