// RUN: moe-compile %s --emit=mlir-stage=bufferized --opt grad=all -o %t.TRAIN
// RUN: FileCheck %s --input-file=%t.TRAIN --check-prefix=TRAIN
// RUN: FileCheck %s --input-file=%t.TRAIN --check-prefix=COPIES
// RUN: moe-compile %s --emit=mlir-stage=bufferized --opt grad=0,2 -o %t.FROZEN
// RUN: FileCheck %s --input-file=%t.FROZEN --check-prefix=FROZEN
// RUN: FileCheck %s --input-file=%t.FROZEN --check-prefix=COPIES
// RUN: moe-compile %s --emit=mlir-stage=bufferized -o %t.INFER
// RUN: FileCheck %s --input-file=%t.INFER --check-prefix=INFER
// RUN: FileCheck %s --input-file=%t.INFER --check-prefix=COPIES

// The ungated MLP of docs/Fusion.md: the gated one's kernels, of single columns. The
// terms of the workspace are all buffers there are.
// COPIES-NOT: memref.alloc
// COPIES-NOT: memref.copy
// COPIES-NOT: linalg.

// TRAIN-LABEL: func.func @forward(
// TRAIN-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// TRAIN-SAME:    %[[GATES:[^:]*]]: memref<?x2xf32> {{[^%]*}}moe.name = "gates"
// TRAIN-SAME:    %[[W1:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w1"
// TRAIN-SAME:    %[[W2:[^:]*]]: memref<8x64x32xbf16> {{[^%]*}}moe.name = "w2"
// TRAIN-SAME:    %[[OUT:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "out"
// TRAIN-SAME:    %[[H:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "saved0"
// Y, A
// TRAIN-SAME:    moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "128*T"}, {after = [0], bytes = "256*T"}]}
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.sort_slots
// up
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[X]] from token, %[[W1]] out_in {{.*}}columns <single 1> ins() outs(%[[H]] : memref<?x32xbf16> rows grouped, %[[A:[^ ]*]] : memref<?x32xbf16> rows grouped)
// TRAIN-NEXT:    ^bb0(%[[ACC:.*]]: f32):
// The activation reads H as it is stored.
// TRAIN:           arith.truncf %[[ACC]] {moe.stored} : f32 to bf16
// TRAIN:           moe.yield %[[ACC]], %
// down
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[A]] from grouped, %[[W2]] out_in {{.*}}columns <single 1> ins() outs(%[[Y:[^ ]*]] : memref<?x64xbf16> rows grouped)
// combine
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.combine_rows {{.*}} ins(%[[Y]] : memref<?x64xbf16> rows grouped, %[[GATES]] : memref<?x2xf32> scalar slot) outs(%[[OUT]] : memref<?x64xbf16> rows token)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN-LABEL: func.func @backward(
// TRAIN-SAME:    %[[DO:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_out"
// TRAIN-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// TRAIN-SAME:    %[[GATES:[^:]*]]: memref<?x2xf32> {{[^%]*}}moe.name = "gates"
// TRAIN-SAME:    %[[W1:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w1"
// TRAIN-SAME:    %[[W2:[^:]*]]: memref<8x64x32xbf16> {{[^%]*}}moe.name = "w2"
// TRAIN-SAME:    %[[H:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "saved0"
// TRAIN-SAME:    %[[DX:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_x"
// TRAIN-SAME:    %[[DG:[^:]*]]: memref<?x2xf32> {{[^%]*}}moe.name = "d_gates"
// TRAIN-SAME:    %[[DW1:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "d_w1"
// TRAIN-SAME:    %[[DW2:[^:]*]]: memref<8x64x32xbf16> {{[^%]*}}moe.name = "d_w2"
// d-X grouped; A' before it, in its place; dH; partials
// TRAIN-SAME:    moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "128*T"}, {after = [0], bytes = "8*T"}, {after = [1], bytes = "256*T"}, {after = [1], bytes = "128*T"}]}
// d-up
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DO]] from token, %[[W2]] in_out {{.*}}columns <single 1> ins(%[[GATES]] : memref<?x2xf32> scalar slot, %[[H]] : memref<?x32xbf16> rows grouped) outs(%[[DH:[^ ]*]] : memref<?x32xbf16> rows grouped, %[[A:[^ ]*]] : memref<?x32xbf16> rows grouped, %[[P:[^ ]*]] : memref<?x1xf32> partials grouped)
// d-W2
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer {{.*}} x(%[[A]] from grouped {{.*}} dy(%[[DO]] from token {{.*}} outs(%[[DW2]]
// d-X
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DH]] from grouped, %[[W1]] in_out {{.*}} ins() outs(%[[DXG:[^ ]*]] : memref<?x64xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.combine_rows {{.*}} ins(%[[DXG]] : memref<?x64xbf16> rows grouped) folds(%[[P]] : memref<?x1xf32>) outs(%[[DX]] : memref<?x64xbf16> rows token, %[[DG]] : memref<?x2xf32> scalar slot)
// d-W1
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer {{.*}} x(%[[X]] from token {{.*}} dy(%[[DH]] from grouped {{.*}} outs(%[[DW1]]
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}

// Without gradients of the weights
// FROZEN-LABEL: func.func @backward(
// FROZEN-SAME:    %[[DO:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_out"
// FROZEN-SAME:    %[[GATES:[^:]*]]: memref<?x2xf32> {{[^%]*}}moe.name = "gates"
// FROZEN-SAME:    %[[W1:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w1"
// FROZEN-SAME:    %[[W2:[^:]*]]: memref<8x64x32xbf16> {{[^%]*}}moe.name = "w2"
// FROZEN-SAME:    %[[H:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "saved0"
// FROZEN-SAME:    %[[DX:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_x"
// FROZEN-SAME:    %[[DG:[^:]*]]: memref<?x2xf32> {{[^%]*}}moe.name = "d_gates"
// d-X grouped; dH; partials: A' is gone
// FROZEN-SAME:    moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "8*T"}, {after = [0], bytes = "256*T"}, {after = [1], bytes = "128*T"}]}
// FROZEN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// FROZEN:         moe.grouped_matmul {{.*}} pairs(%[[DO]] from token, %[[W2]] in_out {{.*}} outs(%[[DH:[^ ]*]] : memref<?x32xbf16> rows grouped, %[[P:[^ ]*]] : memref<?x1xf32> partials grouped)
// FROZEN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// FROZEN:         moe.grouped_matmul {{.*}} pairs(%[[DH]] from grouped, %[[W1]] in_out {{.*}} ins() outs(%[[DXG:[^ ]*]] : memref<?x64xbf16> rows grouped)
// FROZEN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// FROZEN:         moe.combine_rows {{.*}} folds(%[[P]] : memref<?x1xf32>) outs(%[[DX]] : memref<?x64xbf16> rows token, %[[DG]] : memref<?x2xf32> scalar slot)
// FROZEN-NOT:     moe.{{grouped|map|combine|reduce|fold}}

// Inference: H is not written.
// INFER-LABEL: func.func @forward(
// INFER-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// INFER-SAME:    %[[GATES:[^:]*]]: memref<?x2xf32> {{[^%]*}}moe.name = "gates"
// INFER-SAME:    %[[W1:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w1"
// INFER-SAME:    %[[W2:[^:]*]]: memref<8x64x32xbf16> {{[^%]*}}moe.name = "w2"
// INFER-SAME:    %[[OUT:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "out"
// Y, A, and the tables
// INFER-SAME:    moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "8*T"}, {after = [0], bytes = "8*T"}, {after = [1], bytes = 32 : i64}, {after = [2], bytes = 32 : i64}, {after = [3], bytes = "128*T"}, {after = [4], bytes = "256*T"}]}
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.sort_slots
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul {{.*}} pairs(%[[X]] from token, %[[W1]] out_in {{.*}}columns <single 1> ins() outs(%[[A:[^ ]*]] : memref<?x32xbf16> rows grouped)
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul {{.*}} pairs(%[[A]] from grouped, %[[W2]] out_in {{.*}}columns <single 1> ins() outs(%[[Y:[^ ]*]] : memref<?x64xbf16> rows grouped)
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.combine_rows {{.*}} ins(%[[Y]] : memref<?x64xbf16> rows grouped, %[[GATES]] : memref<?x2xf32> scalar slot) outs(%[[OUT]] : memref<?x64xbf16> rows token)
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}

func.func @forward(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %gates: tensor<?x2xf32> {moe.name = "gates", moe.dims = ["T", 2]},
    %w1: tensor<8x32x64xbf16> {moe.name = "w1", moe.dims = [8, 32, 64]},
    %w2: tensor<8x64x32xbf16> {moe.name = "w2", moe.dims = [8, 64, 32]})
    -> (tensor<?x64xbf16> {moe.name = "out", moe.dims = ["T", 64]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %h = moe.parallel_linear %x, %w1 by %slots from token to grouped out_in
      : tensor<?x64xbf16>, tensor<8x32x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  %a = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%h : tensor<?x32xbf16> rows)
      outs(tensor<?x32xbf16> rows) {
  ^bb0(%h_in: f32):
    %0 = arith.constant 0.0 : f32
    %1 = arith.cmpf ugt, %h_in, %0 : f32
    %2 = arith.select %1, %h_in, %0 : f32
    moe.yield %2 : f32
  }
  %y = moe.parallel_linear %a, %w2 by %slots from grouped to grouped out_in
      : tensor<?x32xbf16>, tensor<8x64x32xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  %out = moe.combine %y from grouped by %slots gates(%gates : tensor<?x2xf32>)
      : tensor<?x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  return %out : tensor<?x64xbf16>
}
