// RUN: moe-opt %s --moe-fuse-rowwise --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-fuse-rowwise --moe-fuse-rowwise --split-input-file --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --moe-fuse-rowwise --split-input-file --remarks-filter=moe-fuse -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK

// Refused: the second map needs the whole sum of the first.
// REMARK: [Missed] moe-fuse-rowwise
// REMARK-SAME: a row sum is known only when the kernel that makes it has ended
// CHECK-LABEL: func.func @normalize(
// CHECK-COUNT-2: moe.map_rows
func.func @normalize(%x: tensor<4x16xf32>, %s: tensor<4xf32>, %i: tensor<4x16xf32>) -> tensor<4x16xf32> {
  %0 = moe.map_rows token ins(%x : tensor<4x16xf32> rows token) outs(%s : tensor<4xf32> sum token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = moe.map_rows token ins(%x : tensor<4x16xf32> rows token, %0 : tensor<4xf32> scalar token) outs(%i : tensor<4x16xf32> rows token) {
  ^bb0(%v: f32, %n: f32):
    %m = arith.divf %v, %n : f32
    moe.yield %m : f32
  }
  return %1 : tensor<4x16xf32>
}

// -----

// Refused: one runs over tokens, the other over slots.
// REMARK: [Missed] moe-fuse-rowwise
// REMARK-SAME: the kernels run over rows of different assignments
// CHECK-LABEL: func.func @tokens_and_slots(
// CHECK-COUNT-2: moe.map_rows
func.func @tokens_and_slots(%x: tensor<4x16xf32>, %i: tensor<4x16xf32>, %j: tensor<8x16xf32>, %a: !moe.assignment<4x2, 8>) -> tensor<8x16xf32> {
  %0 = moe.map_rows token ins(%x : tensor<4x16xf32> rows token) outs(%i : tensor<4x16xf32> rows token) {
  ^bb0(%v: f32):
    %e = math.exp %v : f32
    moe.yield %e : f32
  }
  %1 = moe.map_rows grouped by %a : !moe.assignment<4x2, 8> ins(%0 : tensor<4x16xf32> rows token) outs(%j : tensor<8x16xf32> rows grouped) {
  ^bb0(%v: f32):
    %n = arith.negf %v : f32
    moe.yield %n : f32
  }
  return %1 : tensor<8x16xf32>
}
