// RUN: moe-opt %s --moe-fuse-row-scales --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-fuse-row-scales --moe-fuse-row-scales --split-input-file --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --moe-fuse-row-scales --split-input-file --remarks-filter=moe-fuse -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK

// Backward: the scale moves to the side that a kernel writes.
// REMARK: [Passed] moe-fuse-row-scales
// CHECK-LABEL: func.func @weight_gradient(
// CHECK-SAME:    %[[X:[^:]*]]: tensor<?x16xf32>, %[[G:[^:]*]]: tensor<?x2xf32>
// CHECK:         %[[DY:.*]] = moe.grouped_matmul
// CHECK:         %[[S:.*]] = moe.map_rows grouped {{.*}} ins(%[[DY]] : tensor<?x4xf32> rows grouped, %[[G]] : tensor<?x2xf32> scalar slot)
// CHECK:         moe.grouped_outer {{.*}} x(%[[X]] from token : tensor<?x16xf32>) dy(%[[S]] from grouped : tensor<?x4xf32>)
func.func @weight_gradient(%x: tensor<?x16xf32>, %g: tensor<?x2xf32>, %w: tensor<8x4x16xf32>, %i: tensor<?x16xf32>, %j: tensor<?x4xf32>, %k: tensor<8x4x16xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<8x4x16xf32> {
  %0 = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows token, %g : tensor<?x2xf32> scalar slot) outs(%i : tensor<?x16xf32> rows grouped) {
  ^bb0(%v: f32, %s: f32):
    %p = arith.mulf %v, %s : f32
    moe.yield %p : f32
  }
  %1 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins() outs(%j : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %2 = moe.grouped_outer by %a : !moe.assignment<?x2, 8> x(%0 from grouped : tensor<?x16xf32>) dy(%1 from grouped : tensor<?x4xf32>) out_in outs(%k : tensor<8x4x16xf32>)
  return %2 : tensor<8x4x16xf32>
}

// -----

// Refused: a combine reads the scaled rows.
// REMARK: [Missed] moe-fuse-row-scales {{.*}}a reader is no product by the same assignment
// CHECK-LABEL: func.func @no_product(
// CHECK:         moe.map_rows
func.func @no_product(%x: tensor<?x16xf32>, %g: tensor<?x2xf32>, %i: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x16xf32> {
  %0 = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows token, %g : tensor<?x2xf32> scalar slot) outs(%i : tensor<?x16xf32> rows grouped) {
  ^bb0(%v: f32, %s: f32):
    %p = arith.mulf %v, %s : f32
    moe.yield %p : f32
  }
  %1 = moe.combine_rows by %a : !moe.assignment<?x2, 8> ins(%0 : tensor<?x16xf32> rows grouped) outs(%x : tensor<?x16xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %1 : tensor<?x16xf32>
}

// -----

// Refused: a sum of two products, of which one is not scaled.
// REMARK: [Missed] moe-fuse-row-scales {{.*}}the product sums two pairs
// CHECK-LABEL: func.func @two_pairs(
// CHECK:         moe.map_rows
func.func @two_pairs(%x: tensor<?x16xf32>, %g: tensor<?x2xf32>, %w: tensor<8x4x16xf32>, %i: tensor<?x16xf32>, %j: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
  %0 = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows token, %g : tensor<?x2xf32> scalar slot) outs(%i : tensor<?x16xf32> rows grouped) {
  ^bb0(%v: f32, %s: f32):
    %p = arith.mulf %v, %s : f32
    moe.yield %p : f32
  }
  %1 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%0 from grouped, %w out_in : tensor<?x16xf32>, tensor<8x4x16xf32>, %x from token, %w out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins() outs(%j : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %1 : tensor<?x4xf32>
}

// -----

// Refused for both: one reader's other side is written by no kernel, so the copy
// stays, and the other one reads it too.
// REMARK: [Missed] moe-fuse-row-scales {{.*}}no kernel writes the rows of the other side
// CHECK-LABEL: func.func @all_or_none(
// CHECK:         %[[S:.*]] = moe.map_rows
// CHECK-NOT:     moe.map_rows
// CHECK:         moe.grouped_outer {{.*}} x(%[[S]] from grouped
// CHECK:         moe.grouped_outer {{.*}} x(%[[S]] from grouped
func.func @all_or_none(%x: tensor<?x16xf32>, %t: tensor<?x4xf32>, %g: tensor<?x2xf32>, %w: tensor<8x4x16xf32>, %i: tensor<?x16xf32>, %j: tensor<?x4xf32>, %k: tensor<8x4x16xf32>, %a: !moe.assignment<?x2, 8>) -> (tensor<8x4x16xf32>, tensor<8x4x16xf32>) {
  %0 = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows token, %g : tensor<?x2xf32> scalar slot) outs(%i : tensor<?x16xf32> rows grouped) {
  ^bb0(%v: f32, %s: f32):
    %p = arith.mulf %v, %s : f32
    moe.yield %p : f32
  }
  %1 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins() outs(%j : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %2 = moe.grouped_outer by %a : !moe.assignment<?x2, 8> x(%0 from grouped : tensor<?x16xf32>) dy(%1 from grouped : tensor<?x4xf32>) out_in outs(%k : tensor<8x4x16xf32>)
  %3 = moe.grouped_outer by %a : !moe.assignment<?x2, 8> x(%0 from grouped : tensor<?x16xf32>) dy(%t from token : tensor<?x4xf32>) out_in outs(%k : tensor<8x4x16xf32>)
  return %2, %3 : tensor<8x4x16xf32>, tensor<8x4x16xf32>
}
