// RUN: moe-compile %s --emit=mlir-stage=bufferized --opt grad=all -o %t.TRAIN
// RUN: FileCheck %s --input-file=%t.TRAIN --check-prefix=TRAIN
// RUN: FileCheck %s --input-file=%t.TRAIN --check-prefix=COPIES

// Adapters beside both projections of Mixture of Attention: slot rows in place, one
// accumulator for each sum, one dot product for d-gate, one gate * o for d-Wo and d-A.
// COPIES-NOT: memref.alloc
// COPIES-NOT: memref.copy
// COPIES-NOT: linalg.

// TRAIN-LABEL: func.func @query_backward(
// d-X grouped, d-low
// TRAIN-SAME:    moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "32*T"}, {after = [0], bytes = "256*T"}]}
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} from slot, {{.*}} outs(%[[L:[^ ]*]] : memref<?x8xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} from slot, {{[^)]*}} %[[L]] from grouped,
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.combine_rows
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN-LABEL: func.func @output_forward(
// TRAIN-LABEL: func.func @output_backward(
// TRAIN-SAME:    %[[DO:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_out"
// TRAIN-SAME:    %[[O:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "o"
// TRAIN-SAME:    %[[GATES:[^:]*]]: memref<?x2xf32> {{[^%]*}}moe.name = "gates"
// TRAIN-SAME:    %[[GL:[^:]*]]: memref<?x8xbf16> {{[^%]*}}moe.name = "saved0"
// TRAIN-SAME:    %[[D:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "d_o"
// TRAIN-SAME:    %[[DG:[^:]*]]: memref<?x2xf32> {{[^%]*}}moe.name = "d_gates"
// gate * o, u, partials
// TRAIN-SAME:    moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "32*T"}, {after = [0], bytes = "128*T"}, {after = [1], bytes = "8*T"}]}
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DO]] from token, {{[^)]*}}) columns <single 1> ins() outs(%[[U:[^ ]*]] : memref<?x8xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer {{.*}} x(%[[GL]] from grouped {{.*}} dy(%[[DO]] from token
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_matmul {{.*}} pairs(%[[DO]] from token, {{[^)]*}} %[[U]] from grouped, {{[^)]*}}) columns <single 1> ins(%[[GATES]] : memref<?x2xf32> scalar slot, %[[O]] : memref<?x32xbf16> rows slot) outs(%[[D]] : memref<?x32xbf16> rows slot, %[[P:[^ ]*]] : memref<?x1xf32> partials grouped, %[[GO:[^ ]*]] : memref<?x32xbf16> rows grouped)
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.fold_partials %[[P]] : memref<?x1xf32>{{.*}} to slot outs(%[[DG]]
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer {{.*}} x(%[[GO]] from grouped {{.*}} dy(%[[U]] from grouped
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// TRAIN:         moe.grouped_outer {{.*}} x(%[[GO]] from grouped {{.*}} dy(%[[DO]] from token
// TRAIN-NOT:     moe.{{grouped|map|combine|reduce|fold}}

func.func @query(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %wq: tensor<8x32x64xbf16> {moe.name = "wq", moe.dims = [8, 32, 64]},
    %wq_a: tensor<8x8x64xbf16> {moe.name = "wq_a", moe.dims = [8, 8, 64]},
    %wq_b: tensor<8x32x8xbf16> {moe.name = "wq_b", moe.dims = [8, 32, 8]})
    -> (tensor<?x32xbf16> {moe.name = "q", moe.dims = ["2*T", 32]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %q = moe.parallel_linear %x, %wq by %slots from token to slot out_in
      : tensor<?x64xbf16>, tensor<8x32x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  %q_low = moe.parallel_linear %x, %wq_a by %slots from token to grouped out_in
      : tensor<?x64xbf16>, tensor<8x8x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x8xbf16>
  %q_scaled = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%q_low : tensor<?x8xbf16> rows)
      outs(tensor<?x8xbf16> rows) {
  ^bb0(%q_low_in: f32):
    %0 = arith.constant 2.0 : f32
    %1 = arith.mulf %0, %q_low_in : f32
    moe.yield %1 : f32
  }
  %q_delta = moe.parallel_linear %q_scaled, %wq_b by %slots from grouped to slot out_in
      : tensor<?x8xbf16>, tensor<8x32x8xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  %q_adapted = moe.rowwise slot by %slots : !moe.assignment<?x2, 8>
      ins(%q : tensor<?x32xbf16> rows, %q_delta : tensor<?x32xbf16> rows)
      outs(tensor<?x32xbf16> rows) {
  ^bb0(%q_in: f32, %q_delta_in: f32):
    %0 = arith.addf %q_in, %q_delta_in : f32
    moe.yield %0 : f32
  }
  return %q_adapted : tensor<?x32xbf16>
}

func.func @output(
    %o: tensor<?x32xbf16> {moe.name = "o", moe.dims = ["2*T", 32]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %gates: tensor<?x2xf32> {moe.name = "gates", moe.dims = ["T", 2]},
    %wo: tensor<8x64x32xbf16> {moe.name = "wo", moe.dims = [8, 64, 32]},
    %wo_a: tensor<8x8x32xbf16> {moe.name = "wo_a", moe.dims = [8, 8, 32]},
    %wo_b: tensor<8x64x8xbf16> {moe.name = "wo_b", moe.dims = [8, 64, 8]})
    -> (tensor<?x64xbf16> {moe.name = "out", moe.dims = ["T", 64]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %y = moe.parallel_linear %o, %wo by %slots from slot to slot out_in
      : tensor<?x32xbf16>, tensor<8x64x32xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  %y_low = moe.parallel_linear %o, %wo_a by %slots from slot to grouped out_in
      : tensor<?x32xbf16>, tensor<8x8x32xbf16>, !moe.assignment<?x2, 8> -> tensor<?x8xbf16>
  %y_scaled = moe.rowwise grouped by %slots : !moe.assignment<?x2, 8>
      ins(%y_low : tensor<?x8xbf16> rows)
      outs(tensor<?x8xbf16> rows) {
  ^bb0(%y_low_in: f32):
    %0 = arith.constant 2.0 : f32
    %1 = arith.mulf %0, %y_low_in : f32
    moe.yield %1 : f32
  }
  %y_delta = moe.parallel_linear %y_scaled, %wo_b by %slots from grouped to slot out_in
      : tensor<?x8xbf16>, tensor<8x64x8xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  %y_adapted = moe.rowwise slot by %slots : !moe.assignment<?x2, 8>
      ins(%y : tensor<?x64xbf16> rows, %y_delta : tensor<?x64xbf16> rows)
      outs(tensor<?x64xbf16> rows) {
  ^bb0(%y_in: f32, %y_delta_in: f32):
    %0 = arith.addf %y_in, %y_delta_in : f32
    moe.yield %0 : f32
  }
  %out = moe.combine %y_adapted from slot by %slots gates(%gates : tensor<?x2xf32>)
      : tensor<?x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  return %out : tensor<?x64xbf16>
}
