// RUN: moe-opt %s --moe-simplify-kernels --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-simplify-kernels --moe-simplify-kernels --split-input-file --verify-roundtrip | FileCheck %s

// The rounded value is no result any more: it is read unrounded. One that is
// still a result, or that the program rounds itself, stays.
// CHECK-LABEL: func.func @roundings(
// CHECK:         %[[Y:.*]]:2 = moe.grouped_matmul {{.*}} outs(%{{.*}} : tensor<?x8xbf16> rows grouped, %{{.*}} : tensor<?x8xbf16> rows grouped) {
// CHECK-NEXT:    ^bb0(%[[V:.*]]: f32):
// CHECK-NEXT:      %[[E:.*]] = math.exp %[[V]] : f32
// CHECK-NEXT:      %[[OWN:.*]] = arith.truncf %[[E]] : f32 to bf16
// CHECK-NEXT:      %[[OWNF:.*]] = arith.extf %[[OWN]]
// CHECK-NEXT:      %[[ST:.*]] = arith.truncf %[[V]] {moe.stored} : f32 to bf16
// CHECK-NEXT:      %[[STF:.*]] = arith.extf %[[ST]]
// CHECK-NEXT:      %[[A:.*]] = arith.addf %[[E]], %[[OWNF]]
// CHECK-NEXT:      %[[B:.*]] = arith.addf %[[A]], %[[STF]]
// CHECK-NEXT:      moe.yield %[[V]], %[[B]]
func.func @roundings(%x: tensor<?x16xbf16>, %w: tensor<8x8x16xbf16>, %i: tensor<?x8xbf16>, %a: !moe.assignment<?x2, 8>) -> (tensor<?x8xbf16>, tensor<?x8xbf16>) {
  %y:3 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xbf16>, tensor<8x8x16xbf16>) columns <single 1> ins() outs(%i : tensor<?x8xbf16> rows grouped, %i : tensor<?x8xbf16> rows grouped, %i : tensor<?x8xbf16> rows grouped) {
  ^bb0(%v: f32):
    %e = math.exp %v : f32
    %0 = arith.truncf %e {moe.stored} : f32 to bf16
    %1 = arith.extf %0 : bf16 to f32
    %2 = arith.truncf %e : f32 to bf16
    %3 = arith.extf %2 : bf16 to f32
    %4 = arith.truncf %v {moe.stored} : f32 to bf16
    %5 = arith.extf %4 : bf16 to f32
    %6 = arith.addf %1, %3 : f32
    %7 = arith.addf %6, %5 : f32
    moe.yield %v, %e, %7 : f32, f32, f32
  }
  return %y#0, %y#2 : tensor<?x8xbf16>, tensor<?x8xbf16>
}

// -----

// Kept: one operand has to say how many columns there are to sum over.
// CHECK-LABEL: func.func @columns(
// CHECK:         moe.map_rows token ins(%{{.*}} : tensor<4x16xf32> rows token)
func.func @columns(%x: tensor<4x16xf32>, %i: tensor<4xf32>) -> tensor<4xf32> {
  %0 = moe.map_rows token ins(%x : tensor<4x16xf32> rows token) outs(%i : tensor<4xf32> sum token) {
  ^bb0(%v: f32):
    %one = arith.constant 1.0 : f32
    moe.yield %one : f32
  }
  return %0 : tensor<4xf32>
}
