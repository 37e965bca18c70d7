// A layer on files, on random arguments, by name and in order.
// RUN: rm -rf %t && mkdir %t
// RUN: moe-run %s --entry=inputs --interpret --random=5 --dim T=3 --out %t/x.npy --out out2=%t/w.npy --out out1=%t/ids.npy
// RUN: moe-run %s --entry=linear --interpret --arg %t/x.npy --arg %t/ids.npy --arg %t/w.npy | FileCheck %s --check-prefix=LINEAR
// RUN: moe-run %s --entry=linear --interpret --arg ids=%t/ids.npy --random=1 | FileCheck %s --check-prefix=RANDOM
// RUN: moe-run %s --entry=inputs --interpret --random=5 --dim T=3 --out %t/
// RUN: cmp %t/x.npy %t/out0.npy && cmp %t/ids.npy %t/out1.npy && cmp %t/w.npy %t/out2.npy

// The result is the same however the arguments are given.
// LINEAR: out0: float32 (6, 4) sum [[SUM:.*]], largest
// LINEAR-NOT: NaN
// T came from the file of ids.
// RANDOM: out0: float32 (6, 4)

func.func @inputs(%x: tensor<?x5xf32> {moe.dims = ["T", 5]},
                  %ids: tensor<?x2xi64> {moe.dims = ["T", 2]},
                  %w: tensor<3x4x5xf32>)
    -> (tensor<?x5xf32>, tensor<?x2xi64>, tensor<3x4x5xf32>) {
  %a = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 3>
  return %x, %ids, %w : tensor<?x5xf32>, tensor<?x2xi64>, tensor<3x4x5xf32>
}

func.func @linear(%x: tensor<?x5xf32> {moe.dims = ["T", 5]},
                  %arg1: tensor<?x2xi64> {moe.dims = ["T", 2], moe.name = "ids"},
                  %w: tensor<3x4x5xf32>) -> tensor<?x4xf32> {
  %a = moe.assign ids(%arg1 : tensor<?x2xi64>) : !moe.assignment<?x2, 3>
  %y = moe.parallel_linear %x, %w by %a from token to slot out_in
      : tensor<?x5xf32>, tensor<3x4x5xf32>, !moe.assignment<?x2, 3>
      -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
