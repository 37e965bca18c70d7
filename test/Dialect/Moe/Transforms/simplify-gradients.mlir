// RUN: moe-opt %s --moe-simplify-gradients --split-input-file | FileCheck %s

// <dO, Y> becomes <dO W, A> + <dO, b[e]>: the forward product goes.
// CHECK-LABEL: func.func @gate_gradient(
// CHECK-SAME:    %[[A:[^:]*]]: tensor<?x4xf32>, %[[DO:[^:]*]]: tensor<?x16xf32>, %[[W:[^:]*]]: tensor<8x16x4xf32>, %[[B:[^:]*]]: tensor<8x16xf32>, %[[G:[^:]*]]: tensor<?xf32>
// CHECK:         %[[DOG:.*]] = moe.group %[[DO]] from token
// CHECK:         %[[OFB:.*]] = moe.rowwise {{.*}}ins(%[[DOG]] : tensor<?x16xf32> rows, %[[B]] : tensor<8x16xf32> expert) outs(tensor<?xf32> sum)
// CHECK:         %[[DA:.*]] = moe.parallel_linear %[[DO]], %[[W]] by %{{.*}} from token to grouped in_out
// CHECK:         %[[SCALED:.*]] = moe.rowwise {{.*}}ins(%[[DA]] : tensor<?x4xf32> rows, %[[G]] : tensor<?xf32> scalar)
// CHECK:         %[[OFA:.*]] = moe.rowwise {{.*}}ins(%[[DA]] : tensor<?x4xf32> rows, %[[A]] : tensor<?x4xf32> rows) outs(tensor<?xf32> sum)
// CHECK:         %[[SUM:.*]] = arith.addf %[[OFA]], %[[OFB]]
// CHECK:         return %[[SUM]], %[[SCALED]]
func.func @gate_gradient(%act: tensor<?x4xf32>, %do: tensor<?x16xf32>,
    %w: tensor<8x16x4xf32>, %b: tensor<8x16xf32>, %g: tensor<?xf32>,
    %a: !moe.assignment<?x2, 8>) -> (tensor<?xf32>, tensor<?x4xf32>) {
  %y = moe.parallel_linear %act, %w by %a from grouped to grouped out_in bias(%b : tensor<8x16xf32>)
      : tensor<?x4xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %dog = moe.group %do from token by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %dg = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%dog : tensor<?x16xf32> rows, %y : tensor<?x16xf32> rows) outs(tensor<?xf32> sum) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.mulf %u, %v : f32
    moe.yield %p : f32
  }
  %dy = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%dog : tensor<?x16xf32> rows, %g : tensor<?xf32> scalar) outs(tensor<?x16xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.mulf %u, %v : f32
    moe.yield %p : f32
  }
  %da = moe.parallel_linear %dy, %w by %a from grouped to grouped in_out
      : tensor<?x16xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  return %dg, %da : tensor<?xf32>, tensor<?x4xf32>
}

// -----

// Refused: nothing computes dO W, and a new product costs more than keeping Y.
// CHECK-LABEL: func.func @no_backward_product(
// CHECK:         %[[Y:.*]] = moe.parallel_linear
// CHECK:         moe.rowwise {{.*}}ins(%{{.*}} : tensor<?x16xf32> rows, %[[Y]] : tensor<?x16xf32> rows) outs(tensor<?xf32> sum)
func.func @no_backward_product(%act: tensor<?x4xf32>, %do: tensor<?x16xf32>,
    %w: tensor<8x16x4xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?xf32> {
  %y = moe.parallel_linear %act, %w by %a from grouped to grouped out_in
      : tensor<?x4xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %dg = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%do : tensor<?x16xf32> rows, %y : tensor<?x16xf32> rows) outs(tensor<?xf32> sum) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.mulf %u, %v : f32
    moe.yield %p : f32
  }
  return %dg : tensor<?xf32>
}

// -----

// Refused: the backward product has other weights.
// CHECK-LABEL: func.func @other_weights(
// CHECK:         %[[Y:.*]] = moe.parallel_linear
// CHECK:         moe.rowwise {{.*}}ins(%{{.*}} : tensor<?x16xf32> rows, %[[Y]] : tensor<?x16xf32> rows) outs(tensor<?xf32> sum)
func.func @other_weights(%act: tensor<?x4xf32>, %do: tensor<?x16xf32>,
    %w: tensor<8x16x4xf32>, %v: tensor<8x16x4xf32>,
    %a: !moe.assignment<?x2, 8>) -> (tensor<?xf32>, tensor<?x4xf32>) {
  %y = moe.parallel_linear %act, %w by %a from grouped to grouped out_in
      : tensor<?x4xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %dg = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%do : tensor<?x16xf32> rows, %y : tensor<?x16xf32> rows) outs(tensor<?xf32> sum) {
  ^bb0(%u: f32, %s: f32):
    %p = arith.mulf %u, %s : f32
    moe.yield %p : f32
  }
  %da = moe.parallel_linear %do, %v by %a from grouped to grouped in_out
      : tensor<?x16xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  return %dg, %da : tensor<?xf32>, tensor<?x4xf32>
}

// -----

// Refused: Y went through another region before its gate.
// CHECK-LABEL: func.func @not_the_product(
// CHECK:         %[[Y:.*]] = moe.parallel_linear
// CHECK:         %[[T:.*]] = moe.rowwise {{.*}}ins(%[[Y]]
// CHECK:         moe.rowwise {{.*}}ins(%{{.*}} : tensor<?x16xf32> rows, %[[T]] : tensor<?x16xf32> rows) outs(tensor<?xf32> sum)
func.func @not_the_product(%act: tensor<?x4xf32>, %do: tensor<?x16xf32>,
    %w: tensor<8x16x4xf32>, %a: !moe.assignment<?x2, 8>)
    -> (tensor<?xf32>, tensor<?x4xf32>) {
  %y = moe.parallel_linear %act, %w by %a from grouped to grouped out_in
      : tensor<?x4xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %t = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%y : tensor<?x16xf32> rows) outs(tensor<?x16xf32> rows) {
  ^bb0(%u: f32):
    %p = math.tanh %u : f32
    moe.yield %p : f32
  }
  %dg = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%do : tensor<?x16xf32> rows, %t : tensor<?x16xf32> rows) outs(tensor<?xf32> sum) {
  ^bb0(%u: f32, %s: f32):
    %p = arith.mulf %u, %s : f32
    moe.yield %p : f32
  }
  %da = moe.parallel_linear %do, %w by %a from grouped to grouped in_out
      : tensor<?x16xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  return %dg, %da : tensor<?xf32>, tensor<?x4xf32>
}

// -----

// CHECK-LABEL: func.func @sums(
// CHECK:         %[[S:.*]] = moe.rowwise grouped
// CHECK:         %[[C:.*]] = moe.combine %[[S]] from grouped
// CHECK:         %[[W:.*]] = moe.weight_grad
// CHECK:         %[[V:.*]] = moe.weight_grad {{.*}}accumulate(%[[W]]
// CHECK:         return %[[C]], %[[V]]
func.func @sums(%x: tensor<?x4xf32>, %y: tensor<?x4xf32>, %t: tensor<?x4xf32>,
    %a: !moe.assignment<?x2, 8>) -> (tensor<?x4xf32>, tensor<8x4x4xf32>) {
  %c = moe.combine %x from grouped by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %d = moe.combine %y from grouped by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %s = arith.addf %c, %d : tensor<?x4xf32>
  %w = moe.weight_grad %x from grouped, %t from token by %a out_in
      : tensor<?x4xf32>, tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<8x4x4xf32>
  %v = moe.weight_grad %y from grouped, %t from token by %a out_in
      : tensor<?x4xf32>, tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<8x4x4xf32>
  %u = arith.addf %w, %v : tensor<8x4x4xf32>
  return %s, %u : tensor<?x4xf32>, tensor<8x4x4xf32>
}
