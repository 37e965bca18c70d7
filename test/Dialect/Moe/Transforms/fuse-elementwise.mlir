// RUN: moe-opt %s --moe-fuse-elementwise --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-fuse-elementwise --moe-fuse-elementwise --split-input-file --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --moe-fuse-elementwise --split-input-file --remarks-filter=moe-fuse -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK

// A chain with a constant, read in halves; sizes are asked of the arguments.
// REMARK: [Passed] moe-fuse-elementwise
// CHECK-LABEL: func.func @chain(
// CHECK-SAME:    %[[X:[^:]*]]: tensor<?x8xf32>, %[[Y:[^:]*]]: tensor<?x8xf32>
// CHECK:         tensor.dim %[[X]]
// CHECK:         moe.map_rows {{.*}} ins(%[[Y]] : tensor<?x8xf32> rows grouped concat 2, %[[X]] : tensor<?x8xf32> rows grouped concat 2)
// CHECK-NEXT:    ^bb0(%[[Y0:.*]]: f32, %[[Y1:.*]]: f32, %[[X0:.*]]: f32, %[[X1:.*]]: f32):
// CHECK-DAG:       %[[HALF:.*]] = arith.constant 5.000000e-01 : f32
// CHECK-DAG:       %[[M0:.*]] = arith.mulf %[[X0]], %[[HALF]] : f32
// CHECK-DAG:       %[[M1:.*]] = arith.mulf %[[X1]], %[[HALF]] : f32
// CHECK-DAG:       %[[S0:.*]] = arith.addf %[[M0]], %[[Y0]] : f32
// CHECK-DAG:       %[[S1:.*]] = arith.addf %[[M1]], %[[Y1]] : f32
// CHECK:           arith.mulf %[[S0]], %[[S1]]
func.func @chain(%x: tensor<?x8xf32>, %y: tensor<?x8xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
  %c0 = arith.constant 0 : index
  %f = arith.constant 0.5 : f32
  %n = tensor.dim %x, %c0 : tensor<?x8xf32>
  %splat = tensor.splat %f[%n] : tensor<?x8xf32>
  %0 = arith.mulf %x, %splat : tensor<?x8xf32>
  %1 = arith.addf %0, %y : tensor<?x8xf32>
  %d = tensor.dim %1, %c0 : tensor<?x8xf32>
  %i = tensor.empty(%d) : tensor<?x4xf32>
  %2 = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%1 : tensor<?x8xf32> rows grouped concat 2) outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%u: f32, %v: f32):
    %m = arith.mulf %u, %v : f32
    moe.yield %m : f32
  }
  return %2 : tensor<?x4xf32>
}

// -----

// Refused: the sum is returned too.
// REMARK: [Missed] moe-fuse-elementwise {{.*}}it has other readers, or is needed whole
// CHECK-LABEL: func.func @two_readers(
// CHECK:         arith.addf %{{.*}} : tensor<4x8xf32>
func.func @two_readers(%x: tensor<4x8xf32>, %y: tensor<4x8xf32>, %i: tensor<2x8xf32>, %a: !moe.assignment<2x2, 8>) -> (tensor<2x8xf32>, tensor<4x8xf32>) {
  %0 = arith.addf %x, %y : tensor<4x8xf32>
  %1 = moe.combine_rows by %a : !moe.assignment<2x2, 8> ins(%0 : tensor<4x8xf32> rows grouped) outs(%i : tensor<2x8xf32> rows token) {
  ^bb0(%u: f32):
    moe.yield %u : f32
  }
  return %1, %0 : tensor<2x8xf32>, tensor<4x8xf32>
}
