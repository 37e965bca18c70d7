// RUN: moe-opt %s --moe-fuse-prologues --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-fuse-prologues --moe-fuse-prologues --split-input-file --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --moe-fuse-prologues --split-input-file --remarks-filter=moe-fuse -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK

// Halves of columns meet: the combine's region is doubled.
// REMARK: [Passed] moe-fuse-prologues
// CHECK-LABEL: func.func @columns(
// CHECK-NOT:     moe.map_rows
// CHECK:         moe.combine_rows {{.*}} ins(%{{.*}} : tensor<?x2xf32> scalar slot, %{{.*}} : tensor<?x4xf32> rows grouped) outs(%{{.*}} : tensor<?x8xf32> rows token concat 2) {
func.func @columns(%x: tensor<?x4xf32>, %g: tensor<?x2xf32>, %i: tensor<?x8xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x8xf32> {
  %0 = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x4xf32> rows grouped) outs(%i : tensor<?x8xf32> rows grouped concat 2) {
  ^bb0(%v: f32):
    %n = arith.negf %v : f32
    moe.yield %v, %n : f32, f32
  }
  %1 = moe.combine_rows by %a : !moe.assignment<?x2, 8> ins(%0 : tensor<?x8xf32> rows grouped, %g : tensor<?x2xf32> scalar slot) outs(%i : tensor<?x8xf32> rows token) {
  ^bb0(%v: f32, %s: f32):
    %p = arith.mulf %v, %s : f32
    moe.yield %p : f32
  }
  return %1 : tensor<?x8xf32>
}

// -----

// Refused: two kernels read the rows.
// REMARK: [Missed] moe-fuse-prologues
// REMARK-SAME: the rows have other readers than this kernel
// CHECK-LABEL: func.func @two_readers(
// CHECK:         moe.map_rows
// CHECK:         moe.combine_rows
// CHECK:         moe.reduce_experts
func.func @two_readers(%x: tensor<?x8xf32>, %i: tensor<?x8xf32>, %e: tensor<8x8xf32>, %a: !moe.assignment<?x2, 8>) -> (tensor<?x8xf32>, tensor<8x8xf32>) {
  %0 = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x8xf32> rows token) outs(%i : tensor<?x8xf32> rows grouped) {
  ^bb0(%v: f32):
    %n = math.exp %v : f32
    moe.yield %n : f32
  }
  %1 = moe.combine_rows by %a : !moe.assignment<?x2, 8> ins(%0 : tensor<?x8xf32> rows grouped) outs(%i : tensor<?x8xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %2 = moe.reduce_experts by %a : !moe.assignment<?x2, 8> ins(%0 : tensor<?x8xf32> rows grouped) outs(%e : tensor<8x8xf32> expert) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %1, %2 : tensor<?x8xf32>, tensor<8x8xf32>
}
