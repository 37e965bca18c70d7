// RUN: moe-opt %s --moe-fuse-epilogues --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-fuse-epilogues --moe-fuse-epilogues --split-input-file --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --moe-fuse-epilogues --split-input-file --remarks-filter=moe-fuse -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK

// Nobody else reads H: it is no result any more, and not rounded.
// REMARK: [Passed] moe-fuse-epilogues {{.*}}BytesPerToken=32
// REMARK-SAME: moves into
// CHECK-LABEL: func.func @inference(
// CHECK:         %[[Y:.*]] = moe.grouped_matmul {{.*}} columns <interleave 2> ins(%[[B:.*]] : tensor<8x8xbf16> expert interleave 2) outs(%{{.*}} : tensor<?x4xbf16> rows grouped) {
// CHECK-NEXT:    ^bb0(%[[A0:.*]]: f32, %[[A1:.*]]: f32, %[[B0:.*]]: f32, %[[B1:.*]]: f32):
// CHECK-NEXT:      %[[H0:.*]] = arith.addf %[[A0]], %[[B0]]
// CHECK-NEXT:      %[[H1:.*]] = arith.addf %[[A1]], %[[B1]]
// CHECK-NEXT:      %[[M:.*]] = arith.mulf %[[H0]], %[[H1]]
// CHECK-NEXT:      moe.yield %[[M]] : f32
// CHECK:         return %[[Y]]
func.func @inference(%x: tensor<?x16xbf16>, %w: tensor<8x8x16xbf16>, %b: tensor<8x8xbf16>, %i: tensor<?x8xbf16>, %j: tensor<?x4xbf16>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xbf16> {
  %h = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xbf16>, tensor<8x8x16xbf16>) columns <single 1> ins(%b : tensor<8x8xbf16> expert) outs(%i : tensor<?x8xbf16> rows grouped) {
  ^bb0(%v: f32, %bias: f32):
    %s = arith.addf %v, %bias : f32
    moe.yield %s : f32
  }
  %y = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%h : tensor<?x8xbf16> rows grouped interleave 2) outs(%j : tensor<?x4xbf16> rows grouped) {
  ^bb0(%gate: f32, %up: f32):
    %m = arith.mulf %gate, %up : f32
    moe.yield %m : f32
  }
  return %y : tensor<?x4xbf16>
}

// -----

// Backward: the map that recomputes A from H is read by the product's epilogue
// and by nobody else; the one that scales A shares H with it.
// CHECK-LABEL: func.func @backward(
// CHECK-NOT:     moe.map_rows
// CHECK:         %[[D:.*]]:2 = moe.grouped_matmul {{.*}} ins(%{{.*}} : tensor<?x8xf32> rows grouped, %{{.*}} : tensor<?x2xf32> scalar slot) outs(%{{.*}} : tensor<?xf32> sum grouped, %{{.*}} : tensor<?x8xf32> rows grouped) {
// CHECK-NOT:     moe.map_rows
// CHECK:         return %[[D]]#0, %[[D]]#1
func.func @backward(%do: tensor<?x16xf32>, %w: tensor<8x16x8xf32>, %h: tensor<?x8xf32>, %g: tensor<?x2xf32>, %i: tensor<?x8xf32>, %j: tensor<?xf32>, %a: !moe.assignment<?x2, 8>) -> (tensor<?xf32>, tensor<?x8xf32>) {
  %act = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%h : tensor<?x8xf32> rows grouped) outs(%i : tensor<?x8xf32> rows grouped) {
  ^bb0(%v: f32):
    %e = math.tanh %v : f32
    moe.yield %e : f32
  }
  %da = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%do from token, %w in_out : tensor<?x16xf32>, tensor<8x16x8xf32>) columns <single 1> ins() outs(%i : tensor<?x8xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %dg = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%da : tensor<?x8xf32> rows grouped, %act : tensor<?x8xf32> rows grouped) outs(%j : tensor<?xf32> sum grouped) {
  ^bb0(%u: f32, %v: f32):
    %m = arith.mulf %u, %v : f32
    moe.yield %m : f32
  }
  %scaled = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%act : tensor<?x8xf32> rows grouped, %g : tensor<?x2xf32> scalar slot) outs(%i : tensor<?x8xf32> rows grouped) {
  ^bb0(%u: f32, %v: f32):
    %m = arith.mulf %u, %v : f32
    moe.yield %m : f32
  }
  return %dg, %scaled : tensor<?xf32>, tensor<?x8xf32>
}

// -----

// Refused: A is the product's lhs, which it needs whole.
// REMARK: [Missed] moe-fuse-epilogues
// REMARK-SAME: one kernel needs the other through a third one
// CHECK-LABEL: func.func @through_a_third(
// CHECK:         moe.grouped_matmul
// CHECK:         moe.grouped_matmul
// CHECK:         moe.map_rows
func.func @through_a_third(%x: tensor<?x8xf32>, %w: tensor<8x8x8xf32>, %i: tensor<?x8xf32>, %a: !moe.assignment<?x2, 8>, %b: !moe.assignment<?x2, 8>) -> tensor<?x8xf32> {
  %0 = moe.grouped_matmul by %b : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x8xf32>, tensor<8x8x8xf32>) columns <single 1> ins() outs(%i : tensor<?x8xf32> rows slot) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%0 from slot, %w out_in : tensor<?x8xf32>, tensor<8x8x8xf32>) columns <single 1> ins() outs(%i : tensor<?x8xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %2 = moe.combine_rows by %a : !moe.assignment<?x2, 8> ins(%1 : tensor<?x8xf32> rows grouped) outs(%x : tensor<?x8xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %3 = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%1 : tensor<?x8xf32> rows grouped, %2 : tensor<?x8xf32> rows token) outs(%i : tensor<?x8xf32> rows grouped) {
  ^bb0(%u: f32, %v: f32):
    %m = arith.mulf %u, %v : f32
    moe.yield %m : f32
  }
  return %3 : tensor<?x8xf32>
}

// -----

// Refused: one reads columns in pairs, the other in halves.
// REMARK: [Missed] moe-fuse-epilogues
// REMARK-SAME: columns lie as
// CHECK-LABEL: func.func @two_layouts(
// CHECK:         moe.grouped_matmul {{.*}} columns <concat 2>
// CHECK:         moe.map_rows {{.*}} interleave 2
func.func @two_layouts(%x: tensor<?x16xf32>, %w: tensor<8x8x16xf32>, %i: tensor<?x8xf32>, %j: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
  %h = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x8x16xf32>) columns <concat 2> ins() outs(%i : tensor<?x8xf32> rows grouped concat 2) {
  ^bb0(%u: f32, %v: f32):
    moe.yield %u, %v : f32, f32
  }
  %y = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%h : tensor<?x8xf32> rows grouped interleave 2) outs(%j : tensor<?x4xf32> rows grouped) {
  ^bb0(%gate: f32, %up: f32):
    %m = arith.mulf %gate, %up : f32
    moe.yield %m : f32
  }
  return %y : tensor<?x4xf32>
}

// -----

// A sum of single columns adds the pairs of a reader first.
// CHECK-LABEL: func.func @sum_of_singles(
// CHECK:         moe.grouped_matmul {{.*}} columns <concat 2> ins() outs(%{{.*}} : tensor<?xf32> sum grouped, %{{.*}} : tensor<?x4xf32> rows grouped)
// CHECK-NEXT:    ^bb0(%[[U:.*]]: f32, %[[V:.*]]: f32):
// CHECK-DAG:       %[[SUM:.*]] = arith.addf %[[U]], %[[V]]
// CHECK-DAG:       %[[M:.*]] = arith.mulf %[[U]], %[[V]]
// CHECK:           moe.yield %[[SUM]], %[[M]]
// CHECK-NOT:     moe.map_rows
func.func @sum_of_singles(%x: tensor<?x16xf32>, %w: tensor<8x8x16xf32>, %i: tensor<?x8xf32>, %j: tensor<?x4xf32>, %s: tensor<?xf32>, %a: !moe.assignment<?x2, 8>) -> (tensor<?x4xf32>, tensor<?xf32>) {
  %h:2 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x8x16xf32>) columns <single 1> ins() outs(%i : tensor<?x8xf32> rows grouped, %s : tensor<?xf32> sum grouped) {
  ^bb0(%u: f32):
    moe.yield %u, %u : f32, f32
  }
  %y = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%h#0 : tensor<?x8xf32> rows grouped concat 2) outs(%j : tensor<?x4xf32> rows grouped) {
  ^bb0(%gate: f32, %up: f32):
    %m = arith.mulf %gate, %up : f32
    moe.yield %m : f32
  }
  return %y, %h#1 : tensor<?x4xf32>, tensor<?xf32>
}

// -----

// Refused: partials are of segments of single columns already.
// REMARK: [Missed] moe-fuse-epilogues
// REMARK-SAME: has partials, of segments of single columns
// CHECK-LABEL: func.func @partials_of_singles(
// CHECK:         moe.map_rows
func.func @partials_of_singles(%x: tensor<?x16xf32>, %w: tensor<8x8x16xf32>, %i: tensor<?x8xf32>, %j: tensor<?x4xf32>, %s: tensor<?x1xf32>, %a: !moe.assignment<?x2, 8>) -> (tensor<?x4xf32>, tensor<?x1xf32>) {
  %h:2 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x8x16xf32>) columns <single 1> ins() outs(%i : tensor<?x8xf32> rows grouped, %s : tensor<?x1xf32> partials grouped) {
  ^bb0(%u: f32):
    moe.yield %u, %u : f32, f32
  }
  %y = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%h#0 : tensor<?x8xf32> rows grouped concat 2) outs(%j : tensor<?x4xf32> rows grouped) {
  ^bb0(%gate: f32, %up: f32):
    %m = arith.mulf %gate, %up : f32
    moe.yield %m : f32
  }
  return %y, %h#1 : tensor<?x4xf32>, tensor<?x1xf32>
}

// -----

// Refused: the sum is complete only when the product has ended.
// REMARK: [Missed] moe-fuse-epilogues
// REMARK-SAME: a row sum is known only when the kernel that makes it has ended
// CHECK-LABEL: func.func @normalized(
// CHECK:         moe.map_rows
func.func @normalized(%x: tensor<?x16xf32>, %w: tensor<8x8x16xf32>, %i: tensor<?x8xf32>, %s: tensor<?xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x8xf32> {
  %h:2 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x8x16xf32>) columns <single 1> ins() outs(%i : tensor<?x8xf32> rows grouped, %s : tensor<?xf32> sum grouped) {
  ^bb0(%u: f32):
    moe.yield %u, %u : f32, f32
  }
  %y = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%h#0 : tensor<?x8xf32> rows grouped, %h#1 : tensor<?xf32> scalar grouped) outs(%i : tensor<?x8xf32> rows grouped) {
  ^bb0(%u: f32, %v: f32):
    %m = arith.divf %u, %v : f32
    moe.yield %m : f32
  }
  return %y : tensor<?x8xf32>
}
