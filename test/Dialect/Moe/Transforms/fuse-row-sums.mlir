// RUN: moe-opt %s --moe-fuse-row-sums --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-fuse-row-sums --moe-fuse-row-sums --split-input-file --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --moe-fuse-row-sums --split-input-file --remarks-filter=moe-fuse -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK

// No combine is there: the fold stays a kernel.
// REMARK: [Missed] moe-fuse-row-sums
// REMARK-SAME: no moe.combine_rows by the same assignment is there
// CHECK-LABEL: func.func @alone(
// CHECK:         %[[P:.*]] = moe.grouped_matmul {{.*}} outs(%{{.*}} : tensor<?x2xf32> partials grouped)
// CHECK:         %[[S:.*]] = moe.fold_partials %[[P]] : tensor<?x2xf32> {{.*}} to slot outs(%{{.*}} : tensor<?x2xbf16>)
// CHECK:         return %[[S]]
func.func @alone(%x: tensor<?x16xf32>, %w: tensor<8x200x16xf32>, %i: tensor<?x2xbf16>, %a: !moe.assignment<?x2, 8>) -> tensor<?x2xbf16> {
  %0 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x200x16xf32>) columns <single 1> ins() outs(%i : tensor<?x2xbf16> sum slot) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %0 : tensor<?x2xbf16>
}

// -----

// A map over scalars folds what it reads.
// REMARK: [Passed] moe-fuse-row-sums {{.*}} is folded by the maps that read it
// CHECK-LABEL: func.func @in_a_map(
// CHECK-NOT:     moe.fold_partials
// CHECK:         moe.map_rows slot {{.*}} ins(%{{.*}} : tensor<?x2xf32> partials grouped, %{{.*}} : tensor<?xf32> scalar grouped)
func.func @in_a_map(%x: tensor<?x16xf32>, %w: tensor<8x200x16xf32>, %s: tensor<?xf32>, %i: tensor<?xf32>, %j: tensor<?x2xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x2xf32> {
  %0 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x200x16xf32>) columns <single 1> ins() outs(%i : tensor<?xf32> sum grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = moe.map_rows slot by %a : !moe.assignment<?x2, 8> ins(%0 : tensor<?xf32> scalar grouped, %s : tensor<?xf32> scalar grouped) outs(%j : tensor<?x2xf32> scalar slot) {
  ^bb0(%u: f32, %v: f32):
    %t = arith.addf %u, %v : f32
    moe.yield %t : f32
  }
  return %1 : tensor<?x2xf32>
}

// -----

// Refused: what the combine reads depends on the folded sums.
// REMARK: [Missed] moe-fuse-row-sums
// REMARK-SAME: the combine and the fold need one another
// CHECK-LABEL: func.func @needed_by_the_combine(
// CHECK:         moe.fold_partials
// CHECK:         moe.combine_rows
// CHECK-NOT:     folds
func.func @needed_by_the_combine(%x: tensor<?x16xf32>, %w: tensor<8x16x16xf32>, %i: tensor<?x2xf32>, %j: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x16xf32> {
  %0 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x16x16xf32>) columns <single 1> ins() outs(%i : tensor<?x2xf32> sum slot) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = moe.combine_rows by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows token, %0 : tensor<?x2xf32> scalar slot) outs(%j : tensor<?x16xf32> rows token) {
  ^bb0(%u: f32, %v: f32):
    %t = arith.mulf %u, %v : f32
    moe.yield %t : f32
  }
  return %1 : tensor<?x16xf32>
}
