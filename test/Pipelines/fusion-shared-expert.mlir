// RUN: moe-compile %s --emit=mlir-stage=bufferized -o %t.INFER
// RUN: FileCheck %s --input-file=%t.INFER --check-prefix=INFER
// RUN: FileCheck %s --input-file=%t.INFER --check-prefix=COPIES

// A shared expert: four products, and a combine that starts from its rows.
// COPIES-NOT: memref.alloc
// COPIES-NOT: memref.copy
// INFER-LABEL: func.func @forward(
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul {{.*}} outs(%[[S:[^ ]*]] : memref<?x64xbf16> rows slot)
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.combine_rows {{.*}} addends(%[[S]] : memref<?x64xbf16>)
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         return

func.func @forward(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %gates: tensor<?x2xf32> {moe.name = "gates", moe.dims = ["T", 2]},
    %w1: tensor<8x64x64xbf16> {moe.name = "w1", moe.dims = [8, 64, 64]},
    %w2: tensor<8x64x32xbf16> {moe.name = "w2", moe.dims = [8, 64, 32]},
    %shared_w1: tensor<1x32x64xbf16> {moe.name = "shared_w1", moe.dims = [1, 32, 64]},
    %shared_w2: tensor<1x64x16xbf16> {moe.name = "shared_w2", moe.dims = [1, 64, 16]})
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
  %zero = arith.constant 0 : index
  %tokens = tensor.dim %x, %zero : tensor<?x64xbf16>
  %tokens_i32 = arith.index_cast %tokens : index to i32
  %count = tensor.from_elements %tokens_i32 : tensor<1xi32>
  %all = moe.assign counts(%count : tensor<1xi32>) rows(%tokens) : !moe.assignment<?x1, 1>
  %h_1 = moe.parallel_linear %x, %shared_w1 by %all from token to grouped out_in
      : tensor<?x64xbf16>, tensor<1x32x64xbf16>, !moe.assignment<?x1, 1> -> tensor<?x32xbf16>
  %a_1 = moe.rowwise grouped by %all : !moe.assignment<?x1, 1>
      ins(%h_1 : tensor<?x32xbf16> rows concat 2)
      outs(tensor<?x16xbf16> rows) {
  ^bb0(%h_1_0: f32, %h_1_1: f32):
    %0 = arith.constant 0.0 : f32
    %1 = arith.constant 1.0 : f32
    %2 = arith.cmpf oge, %h_1_0, %0 : f32
    %3 = arith.negf %h_1_0 : f32
    %4 = arith.select %2, %3, %h_1_0 : f32
    %5 = math.exp %4 : f32
    %6 = arith.select %2, %1, %5 : f32
    %7 = arith.addf %1, %5 : f32
    %8 = arith.divf %6, %7 : f32
    %9 = arith.mulf %h_1_0, %8 : f32
    %10 = arith.mulf %9, %h_1_1 : f32
    moe.yield %10 : f32
  }
  %y_1 = moe.parallel_linear %a_1, %shared_w2 by %all from grouped to grouped out_in
      : tensor<?x16xbf16>, tensor<1x64x16xbf16>, !moe.assignment<?x1, 1> -> tensor<?x64xbf16>
  %out_1 = moe.combine %y_1 from grouped by %all
      : tensor<?x64xbf16>, !moe.assignment<?x1, 1> -> tensor<?x64xbf16>
  %sum = moe.rowwise token
      ins(%out : tensor<?x64xbf16> rows, %out_1 : tensor<?x64xbf16> rows)
      outs(tensor<?x64xbf16> rows) {
  ^bb0(%out_in: f32, %out_1_in: f32):
    %0 = arith.addf %out_in, %out_1_in : f32
    moe.yield %0 : f32
  }
  return %sum : tensor<?x64xbf16>
}

