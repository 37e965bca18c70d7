// RUN: moe-opt %s --moe-fuse-row-moves --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-fuse-row-moves --moe-fuse-row-moves --split-input-file --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --moe-fuse-row-moves --split-input-file --remarks-filter=moe-fuse -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK

// A group of tokens is read in place by every reader.
// REMARK: [Passed] moe-fuse-row-moves {{.*}}BytesPerToken=128
// REMARK-SAME: is read in place
// CHECK-LABEL: func.func @gather(
// CHECK-SAME:    %[[X:[^:]*]]: tensor<?x16xf32>
// CHECK-NOT:     moe.map_rows
// CHECK:         moe.grouped_matmul {{.*}} pairs(%[[X]] from token, %{{.*}} out_in
// CHECK:         moe.grouped_outer {{.*}} x(%[[X]] from token : tensor<?x16xf32>)
// CHECK:         moe.reduce_experts {{.*}} ins(%[[X]] : tensor<?x16xf32> rows token)
func.func @gather(%x: tensor<?x16xf32>, %w: tensor<8x4x16xf32>, %g: tensor<?x16xf32>, %y: tensor<?x4xf32>,
    %dw: tensor<8x4x16xf32>, %db: tensor<8x16xf32>, %a: !moe.assignment<?x2, 8>)
    -> (tensor<8x4x16xf32>, tensor<8x16xf32>) {
  %0 = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows token) outs(%g : tensor<?x16xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%0 from grouped, %w out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins() outs(%y : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %2 = moe.grouped_outer by %a : !moe.assignment<?x2, 8> x(%0 from grouped : tensor<?x16xf32>) dy(%1 from grouped : tensor<?x4xf32>) out_in outs(%dw : tensor<8x4x16xf32>)
  %3 = moe.reduce_experts by %a : !moe.assignment<?x2, 8> ins(%0 : tensor<?x16xf32> rows grouped) outs(%db : tensor<8x16xf32> expert) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %2, %3 : tensor<8x4x16xf32>, tensor<8x16xf32>
}

// -----

// A scatter that the caller reads is written in slot order at once.
// REMARK: [Passed] moe-fuse-row-moves {{.*}} is written in its order at once
// CHECK-LABEL: func.func @scatter(
// CHECK:         %[[Y:.*]] = moe.grouped_matmul {{.*}} outs(%{{.*}} : tensor<?x4xf32> rows slot)
// CHECK:         return %[[Y]]
func.func @scatter(%x: tensor<?x16xf32>, %w: tensor<8x4x16xf32>, %g: tensor<?x4xf32>, %s: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
  %0 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from grouped, %w out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins() outs(%g : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = moe.map_rows slot by %a : !moe.assignment<?x2, 8> ins(%0 : tensor<?x4xf32> rows grouped) outs(%s : tensor<?x4xf32> rows slot) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %1 : tensor<?x4xf32>
}

// -----

// Refused: another reader wants the grouped rows.
// REMARK: [Missed] moe-fuse-row-moves {{.*}}its rows have other readers
// REMARK-SAME: stays a copy of rows
// CHECK-LABEL: func.func @both_orders(
// CHECK:         moe.grouped_matmul {{.*}} rows grouped)
// CHECK:         moe.map_rows slot
func.func @both_orders(%x: tensor<?x16xf32>, %w: tensor<8x4x16xf32>, %g: tensor<?x4xf32>, %s: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %0 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from grouped, %w out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins() outs(%g : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = moe.map_rows slot by %a : !moe.assignment<?x2, 8> ins(%0 : tensor<?x4xf32> rows grouped) outs(%s : tensor<?x4xf32> rows slot) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %0, %1 : tensor<?x4xf32>, tensor<?x4xf32>
}

// -----

// Refused: the rows are grouped by one assignment and read by another.
// REMARK: [Missed] moe-fuse-row-moves
// REMARK-SAME: its reader runs over rows of another assignment
// CHECK-LABEL: func.func @two_assignments(
// CHECK:         %[[G:.*]] = moe.map_rows grouped
// CHECK:         moe.combine_rows {{.*}} ins(%[[G]] : tensor<?x16xf32> rows grouped)
func.func @two_assignments(%x: tensor<?x16xf32>, %g: tensor<?x16xf32>, %o: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>, %b: !moe.assignment<?x2, 8>) -> tensor<?x16xf32> {
  %0 = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows token) outs(%g : tensor<?x16xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = moe.combine_rows by %b : !moe.assignment<?x2, 8> ins(%0 : tensor<?x16xf32> rows grouped) outs(%o : tensor<?x16xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %1 : tensor<?x16xf32>
}

// -----

// Refused: a map over T*K rows as tokens knows no sentinels, and would read
// rows that a scatter has made zero.
// REMARK: [Missed] moe-fuse-row-moves
// REMARK-SAME: its reader is no kernel over slots
// CHECK-LABEL: func.func @no_assignment(
// CHECK:         moe.map_rows slot
// CHECK:         moe.map_rows token
func.func @no_assignment(%x: tensor<?x16xf32>, %g: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x16xf32> {
  %0 = moe.map_rows slot by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows grouped) outs(%g : tensor<?x16xf32> rows slot) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = moe.map_rows token ins(%0 : tensor<?x16xf32> rows token) outs(%g : tensor<?x16xf32> rows token) {
  ^bb0(%v: f32):
    %e = math.exp %v : f32
    moe.yield %e : f32
  }
  return %1 : tensor<?x16xf32>
}

// -----

// Refused: a product reads rows of one element type.
// REMARK: [Missed] moe-fuse-row-moves
// REMARK-SAME: the product reads rows of another element type
// CHECK-LABEL: func.func @element_type(
// CHECK:         moe.map_rows grouped
func.func @element_type(%x: tensor<?x16xf32>, %w: tensor<8x4x16xbf16>, %g: tensor<?x16xbf16>, %y: tensor<?x4xbf16>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xbf16> {
  %0 = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows token) outs(%g : tensor<?x16xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%0 from grouped, %w out_in : tensor<?x16xbf16>, tensor<8x4x16xbf16>) columns <single 1> ins() outs(%y : tensor<?x4xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %1 : tensor<?x4xbf16>
}
