// RUN: moe-compile %s --emit=mlir-stage=bufferized -o %t.INFER
// RUN: FileCheck %s --input-file=%t.INFER --check-prefix=INFER
// RUN: FileCheck %s --input-file=%t.INFER --check-prefix=COPIES

// Mixture of Attention: slot rows are written and read in place.
// COPIES-NOT: memref.alloc
// COPIES-NOT: memref.copy
// INFER-LABEL: func.func @query(
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul {{.*}} from token, {{.*}} rows slot)
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER-LABEL: func.func @output(
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.grouped_matmul {{.*}} from slot, {{.*}} rows grouped)
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         moe.combine_rows
// INFER-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// INFER:         return

func.func @query(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %wq: tensor<8x32x64xbf16> {moe.name = "wq", moe.dims = [8, 32, 64]})
    -> (tensor<?x32xbf16> {moe.name = "q", moe.dims = ["2*T", 32]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %q = moe.parallel_linear %x, %wq by %slots from token to slot out_in
      : tensor<?x64xbf16>, tensor<8x32x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  return %q : tensor<?x32xbf16>
}

func.func @output(
    %o: tensor<?x32xbf16> {moe.name = "o", moe.dims = ["2*T", 32]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %gates: tensor<?x2xf32> {moe.name = "gates", moe.dims = ["T", 2]},
    %wo: tensor<8x64x32xbf16> {moe.name = "wo", moe.dims = [8, 64, 32]})
    -> (tensor<?x64xbf16> {moe.name = "out", moe.dims = ["T", 64]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %y = moe.parallel_linear %o, %wo by %slots from slot to slot out_in
      : tensor<?x32xbf16>, tensor<8x64x32xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  %out = moe.combine %y from slot by %slots gates(%gates : tensor<?x2xf32>)
      : tensor<?x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x64xbf16>
  return %out : tensor<?x64xbf16>
}

