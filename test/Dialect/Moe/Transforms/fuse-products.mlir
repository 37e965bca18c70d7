// RUN: moe-opt %s --moe-fuse-products --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-fuse-products --moe-fuse-products --split-input-file --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --moe-fuse-products --split-input-file --remarks-filter=moe-fuse -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK

// An adapter: the other product's bias is added too, and columns are halved.
// REMARK: [Passed] moe-fuse-products {{.*}} shares the accumulator
// CHECK-LABEL: func.func @adapter(
// CHECK-SAME:    %[[X:[^:]*]]: tensor<?x16xbf16>, %[[W:[^:]*]]: tensor<8x8x16xbf16>, %[[L:[^:]*]]: tensor<?x2xbf16>
// CHECK:         moe.grouped_matmul {{.*}} pairs(%[[L]] from grouped, %{{.*}} out_in : tensor<?x2xbf16>, tensor<8x8x2xbf16>, %[[X]] from token, %[[W]] out_in : tensor<?x16xbf16>, tensor<8x8x16xbf16>) columns <concat 2> ins(%{{.*}} : tensor<8x8xbf16> expert concat 2) outs(%{{.*}} : tensor<?x4xbf16> rows grouped) {
// CHECK-NEXT:    ^bb0(%[[A0:.*]]: f32, %[[A1:.*]]: f32, %[[B0:.*]]: f32, %[[B1:.*]]: f32):
// CHECK-DAG:       %[[H0:.*]] = arith.addf %[[A0]], %[[B0]]
// CHECK-DAG:       %[[H1:.*]] = arith.addf %[[A1]], %[[B1]]
// CHECK:           arith.mulf %[[H0]], %[[H1]]
// CHECK-NOT:     moe.grouped_matmul
func.func @adapter(%x: tensor<?x16xbf16>, %w: tensor<8x8x16xbf16>, %l: tensor<?x2xbf16>, %b: tensor<8x8x2xbf16>, %bias: tensor<8x8xbf16>, %i: tensor<?x8xbf16>, %j: tensor<?x4xbf16>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xbf16> {
  %0 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xbf16>, tensor<8x8x16xbf16>) columns <single 1> ins(%bias : tensor<8x8xbf16> expert) outs(%i : tensor<?x8xbf16> rows grouped) {
  ^bb0(%v: f32, %u: f32):
    %s = arith.addf %v, %u : f32
    moe.yield %s : f32
  }
  %1 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%l from grouped, %b out_in : tensor<?x2xbf16>, tensor<8x8x2xbf16>) columns <concat 2> ins(%0 : tensor<?x8xbf16> rows grouped concat 2) outs(%j : tensor<?x4xbf16> rows grouped) {
  ^bb0(%u: f32, %v: f32, %p: f32, %q: f32):
    %s = arith.addf %p, %u : f32
    %t = arith.addf %q, %v : f32
    %m = arith.mulf %s, %t : f32
    moe.yield %m : f32
  }
  return %1 : tensor<?x4xbf16>
}

// -----

// Refused: the other product is returned too.
// REMARK: [Missed] moe-fuse-products
// REMARK-SAME: the other product has other readers
// CHECK-LABEL: func.func @read_twice(
// CHECK-COUNT-2: moe.grouped_matmul
func.func @read_twice(%x: tensor<?x16xf32>, %w: tensor<8x4x16xf32>, %i: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %0 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins() outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins(%0 : tensor<?x4xf32> rows grouped) outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32, %u: f32):
    %s = arith.addf %v, %u : f32
    moe.yield %s : f32
  }
  return %0, %1 : tensor<?x4xf32>, tensor<?x4xf32>
}

// -----

// Refused: gate and up of a GLU are multiplied, not added.
// REMARK: [Missed] moe-fuse-products
// REMARK-SAME: the two products are not summed
// CHECK-LABEL: func.func @product_of_products(
// CHECK-COUNT-2: moe.grouped_matmul
func.func @product_of_products(%x: tensor<?x16xf32>, %w: tensor<8x4x16xf32>, %u: tensor<8x4x16xf32>, %i: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
  %0 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins() outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %u out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins(%0 : tensor<?x4xf32> rows grouped) outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32, %p: f32):
    %s = arith.mulf %v, %p : f32
    moe.yield %s : f32
  }
  return %1 : tensor<?x4xf32>
}

// -----

// Refused: the accumulator alone is read as well.
// REMARK: [Missed] moe-fuse-products
// REMARK-SAME: not before anything else reads them
// CHECK-LABEL: func.func @read_before(
// CHECK-COUNT-2: moe.grouped_matmul
func.func @read_before(%x: tensor<?x16xf32>, %w: tensor<8x4x16xf32>, %i: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %0 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins() outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1:2 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins(%0 : tensor<?x4xf32> rows grouped) outs(%i : tensor<?x4xf32> rows grouped, %i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32, %u: f32):
    %s = arith.addf %v, %u : f32
    moe.yield %s, %v : f32, f32
  }
  return %1#0, %1#1 : tensor<?x4xf32>, tensor<?x4xf32>
}

// -----

// Four products, of which one sums the three others: adapters beside gate and up.
// CHECK-LABEL: func.func @four(
// CHECK:         moe.grouped_matmul {{.*}} pairs(%{{[^,]*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) columns <single 1> ins() outs(
// CHECK-NEXT:    ^bb0(%[[V:.*]]: f32):
// CHECK-NEXT:      moe.yield %[[V]] : f32
// CHECK-NOT:     moe.grouped_matmul
func.func @four(%x: tensor<?x16xf32>, %w0: tensor<8x4x16xf32>, %w1: tensor<8x4x16xf32>, %w2: tensor<8x4x16xf32>, %w3: tensor<8x4x16xf32>, %w4: tensor<8x4x16xf32>, %i: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
  %p0 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w0 out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins() outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %p1 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w1 out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins() outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %p2 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w2 out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins() outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %p3 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w3 out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins(%p0 : tensor<?x4xf32> rows grouped, %p1 : tensor<?x4xf32> rows grouped, %p2 : tensor<?x4xf32> rows grouped) outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32, %u0: f32, %u1: f32, %u2: f32):
    %s0 = arith.addf %u0, %u1 : f32
    %s1 = arith.addf %s0, %u2 : f32
    %s2 = arith.addf %s1, %v : f32
    moe.yield %s2 : f32
  }
  return %p3 : tensor<?x4xf32>
}

// -----

// Refused: the fifth.
// REMARK: [Missed] moe-fuse-products
// REMARK-SAME: an accumulator sums 4 products, not more
// CHECK-LABEL: func.func @five(
// CHECK-COUNT-2: moe.grouped_matmul
// CHECK-NOT:     moe.grouped_matmul
func.func @five(%x: tensor<?x16xf32>, %w0: tensor<8x4x16xf32>, %w1: tensor<8x4x16xf32>, %w2: tensor<8x4x16xf32>, %w3: tensor<8x4x16xf32>, %w4: tensor<8x4x16xf32>, %i: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
  %p0 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w0 out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins() outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %p1 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w1 out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins(%p0 : tensor<?x4xf32> rows grouped) outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32, %u: f32):
    %s = arith.addf %v, %u : f32
    moe.yield %s : f32
  }
  %p2 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w2 out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins(%p1 : tensor<?x4xf32> rows grouped) outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32, %u: f32):
    %s = arith.addf %v, %u : f32
    moe.yield %s : f32
  }
  %p3 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w3 out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins(%p2 : tensor<?x4xf32> rows grouped) outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32, %u: f32):
    %s = arith.addf %v, %u : f32
    moe.yield %s : f32
  }
  %p4 = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w4 out_in : tensor<?x16xf32>, tensor<8x4x16xf32>) columns <single 1> ins(%p3 : tensor<?x4xf32> rows grouped) outs(%i : tensor<?x4xf32> rows grouped) {
  ^bb0(%v: f32, %u: f32):
    %s = arith.addf %v, %u : f32
    moe.yield %s : f32
  }
  return %p4 : tensor<?x4xf32>
}
