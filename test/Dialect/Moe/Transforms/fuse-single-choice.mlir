// RUN: moe-opt %s --moe-fuse-single-choice --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-fuse-single-choice --moe-fuse-single-choice --split-input-file --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --moe-fuse-single-choice --split-input-file --remarks-filter=moe-fuse -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK

// Refused: K = 2 is a sum; an addend is added even where a slot has no expert.
// REMARK: [Missed] moe-fuse-single-choice {{.*}}it has addends or folds
// CHECK-LABEL: func.func @refused(
// CHECK-COUNT-2: moe.combine_rows
func.func @refused(%y: tensor<4x16xf32>, %z: tensor<8x16xf32>, %i: tensor<4x16xf32>, %a: !moe.assignment<4x1, 8>, %b: !moe.assignment<4x2, 8>) -> (tensor<4x16xf32>, tensor<4x16xf32>) {
  %0 = moe.combine_rows by %a : !moe.assignment<4x1, 8> ins(%y : tensor<4x16xf32> rows grouped) addends(%i : tensor<4x16xf32>) outs(%i : tensor<4x16xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = moe.combine_rows by %b : !moe.assignment<4x2, 8> ins(%z : tensor<8x16xf32> rows grouped) outs(%i : tensor<4x16xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %0, %1 : tensor<4x16xf32>, tensor<4x16xf32>
}
