// RUN: moe-compile %s --emit=mlir-stage=bufferized --opt grad=all -o %t.training
// RUN: FileCheck %s --input-file=%t.training --check-prefixes=TRAIN
// RUN: FileCheck %s --input-file=%t.training --check-prefix=COPIES
// RUN: moe-compile %s --emit=mlir-stage=bufferized -o %t.inference
// RUN: FileCheck %s --input-file=%t.inference --check-prefix=INFER
// RUN: FileCheck %s --input-file=%t.inference --check-prefix=COPIES

// The gated MLP of docs/Fusion.md: these kernels with these operands, and nothing
// else that is allocated, copied or written in T*K rows.

// COPIES-NOT: memref.alloc
// COPIES-NOT: memref.copy
// COPIES-NOT: linalg.

// TRAIN-LABEL: func.func @forward(
// TRAIN-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}%[[IDS:[^:]*]]: {{[^%]*}}%[[GATES:[^:]*]]: {{[^%]*}}%[[W1:[^:]*]]: memref<8x64x64xbf16> {{[^%]*}}%[[W2:[^:]*]]: memref<8x64x32xbf16>
// TRAIN-SAME:    %[[H:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "saved0"
// TRAIN:         moe.sort_slots
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// up
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[X]] from token, %[[W1]] out_in {{.*}}columns <concat 2> ins() outs(%[[H]] : memref<?x64xbf16> rows grouped concat 2, %[[A:[^ ]*]] : memref<?x32xbf16> rows grouped)
// TRAIN-NEXT:    ^bb0(%[[H0:.*]]: f32, %[[H1:.*]]: f32):
// The activation reads H as it is stored.
// TRAIN-DAG:       arith.truncf %[[H0]] {moe.stored} : f32 to bf16
// TRAIN-DAG:       arith.truncf %[[H1]] {moe.stored} : f32 to bf16
// TRAIN:           moe.yield %[[H0]], %[[H1]], %
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// down
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[A]] from grouped, %[[W2]] out_in {{.*}} ins() outs(%[[Y:[^ ]*]] : memref<?x64xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.combine_rows {{.*}} ins(%[[Y]] : memref<?x64xbf16> rows grouped, %[[GATES]] : memref<?x2xf32> scalar slot) outs(%{{[^ ]*}} : memref<?x64xbf16> rows token)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}

// TRAIN-LABEL: func.func @backward(
// TRAIN-SAME:    %[[DO:[^:]*]]: memref<?x64xbf16> {{[^%]*}}%[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}%[[GATES:[^:]*]]: {{[^%]*}}%[[W1:[^:]*]]: memref<8x64x64xbf16> {{[^%]*}}%[[W2:[^:]*]]: memref<8x64x32xbf16>
// TRAIN-SAME:    %[[H:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "saved0"
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// d-up
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DO]] from token, %[[W2]] in_out {{.*}} ins(%[[GATES]] : memref<?x2xf32> scalar slot, %[[H]] : memref<?x64xbf16> rows grouped concat 2) outs(%[[DH:[^ ]*]] : memref<?x64xbf16> rows grouped concat 2, %[[P:[^ ]*]] : memref<?x1xf32> partials grouped, %[[A:[^ ]*]] : memref<?x32xbf16> rows grouped)
// TRAIN-NOT:       moe.stored
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// d-W2 first: the rows of d-X take the place of A's
// TRAIN:         moe.grouped_outer {{.*}} x(%[[A]] from grouped {{.*}} dy(%[[DO]] from token
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// d-W1
// TRAIN:         moe.grouped_outer {{.*}} x(%[[X]] from token {{.*}} dy(%[[DH]] from grouped
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// d-X, combine
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DH]] from grouped, %[[W1]] in_out {{.*}} ins() outs(%[[DX:[^ ]*]] : memref<?x64xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.combine_rows {{.*}} ins(%[[DX]] : memref<?x64xbf16> rows grouped) folds(%[[P]] : memref<?x1xf32>) outs(%{{[^ ]*}} : memref<?x64xbf16> rows token, %{{[^ ]*}} : memref<?x2xf32> scalar slot)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}

// INFER-LABEL: func.func @forward(
// INFER-NOT:     moe.stored
// INFER:         moe.grouped_matmul {{.*}} from token, {{.*}} columns <concat 2> ins() outs(%[[A:[^ ]*]] : memref<?x32xbf16> rows grouped)
// INFER-NOT:     moe.stored
// INFER:         moe.grouped_matmul {{.*}} pairs(%[[A]] from grouped, {{.*}} outs(%[[Y:[^ ]*]] : memref<?x64xbf16> rows grouped)
// INFER:         moe.combine_rows {{.*}} ins(%[[Y]] : memref<?x64xbf16> rows grouped, %{{[^ ]*}} : memref<?x2xf32> scalar slot)
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}

func.func @forward(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %gates: tensor<?x2xf32> {moe.name = "gates", moe.dims = ["T", 2]},
    %w1: tensor<8x64x64xbf16> {moe.name = "w1", moe.dims = [8, 64, 64]},
    %w2: tensor<8x64x32xbf16> {moe.name = "w2", moe.dims = [8, 64, 32]})
    -> (tensor<?x64xbf16> {moe.name = "out", moe.dims = ["T", 64]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %h = moe.parallel_linear %x, %w1 by %slots from token to grouped out_in
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
  %out = moe.combine %y from grouped by %slots gates(%gates : tensor<?x2xf32>)
      : tensor<?x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  return %out : tensor<?x64xbf16>
}

