// RUN: moe-opt %s --moe-fuse-accumulation --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-fuse-accumulation --moe-fuse-accumulation --split-input-file --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --moe-fuse-accumulation --split-input-file --remarks-filter=moe-fuse -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK

// REMARK: [Passed] moe-fuse-accumulation
// CHECK-LABEL: func.func @bias(
// CHECK-SAME:    %[[B:[^:]*]]: tensor<8x16xf32> {moe.inout}
// CHECK:         %[[D:.*]] = moe.reduce_experts {{.*}} accumulate {{.*}} outs(%[[B]] : tensor<8x16xf32> expert)
// CHECK:         return %[[D]]
func.func @bias(%x: tensor<4x16xf32>, %b: tensor<8x16xf32> {moe.inout}, %i: tensor<8x16xf32>, %a: !moe.assignment<2x2, 8>) -> (tensor<8x16xf32> {moe.inout}) {
  %0 = moe.reduce_experts by %a : !moe.assignment<2x2, 8> ins(%x : tensor<4x16xf32> rows grouped) outs(%i : tensor<8x16xf32> expert) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = arith.addf %0, %b : tensor<8x16xf32>
  return %1 : tensor<8x16xf32>
}

// -----

// Refused: the buffer is an input, which is never written.
// REMARK: [Missed] moe-fuse-accumulation {{.*}}no argument marked moe.inout
// CHECK-LABEL: func.func @input(
// CHECK:         arith.addf
func.func @input(%x: tensor<4x16xf32>, %y: tensor<4x4xf32>, %b: tensor<8x4x16xf32>, %i: tensor<8x4x16xf32>, %a: !moe.assignment<2x2, 8>) -> tensor<8x4x16xf32> {
  %0 = moe.grouped_outer by %a : !moe.assignment<2x2, 8> x(%x from grouped : tensor<4x16xf32>) dy(%y from grouped : tensor<4x4xf32>) out_in outs(%i : tensor<8x4x16xf32>)
  %1 = arith.addf %b, %0 : tensor<8x4x16xf32>
  return %1 : tensor<8x4x16xf32>
}

// -----

// Refused: the old value is still wanted.
// REMARK: [Missed] moe-fuse-accumulation {{.*}}old value has other readers
// CHECK-LABEL: func.func @old_value(
// CHECK:         arith.addf
func.func @old_value(%x: tensor<4x16xf32>, %y: tensor<4x4xf32>, %b: tensor<8x4x16xf32> {moe.inout}, %i: tensor<8x4x16xf32>, %a: !moe.assignment<2x2, 8>) -> (tensor<8x4x16xf32> {moe.inout}, tensor<8x4x16xf32>) {
  %0 = moe.grouped_outer by %a : !moe.assignment<2x2, 8> x(%x from grouped : tensor<4x16xf32>) dy(%y from grouped : tensor<4x4xf32>) out_in outs(%i : tensor<8x4x16xf32>)
  %1 = arith.addf %b, %0 : tensor<8x4x16xf32>
  return %1, %b : tensor<8x4x16xf32>, tensor<8x4x16xf32>
}
