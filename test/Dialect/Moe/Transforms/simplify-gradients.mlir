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

// -----

// A gate on the input: it leaves X for the products, its gradient <X, dH W> is
// <H, dH>, and gate * dH serves both the gradient of X and that of W.
// CHECK-LABEL: func.func @input_gate(
// CHECK-SAME:    %[[X:[^:]*]]: tensor<?x16xf32>, %[[W:[^:]*]]: tensor<8x4x16xf32>, %[[G:[^:]*]]: tensor<?xf32>, %[[B:[^:]*]]: tensor<8x4xf32>, %[[DH:[^:]*]]: tensor<?x4xf32>
// CHECK:         %[[H:.*]] = moe.parallel_linear %[[X]], %[[W]] by %{{.*}} from token to grouped out_in
// CHECK:         %[[SH:.*]] = moe.rowwise {{.*}}ins(%[[H]] : tensor<?x4xf32> rows, %[[G]] : tensor<?xf32> scalar)
// CHECK:         %[[BH:.*]] = moe.rowwise {{.*}}ins(%[[SH]] : tensor<?x4xf32> rows, %[[B]] : tensor<8x4xf32> expert)
// CHECK:         %[[SD:.*]] = moe.rowwise {{.*}}ins(%[[DH]] : tensor<?x4xf32> rows, %[[G]] : tensor<?xf32> scalar)
// CHECK:         %[[DW:.*]] = moe.weight_grad %[[X]] from token, %[[SD]] from grouped
// CHECK:         %[[DG:.*]] = moe.rowwise {{.*}}ins(%[[H]] : tensor<?x4xf32> rows, %[[DH]] : tensor<?x4xf32> rows) outs(tensor<?xf32> sum)
// CHECK:         %[[P:.*]] = moe.parallel_linear %[[SD]], %[[W]] by %{{.*}} from grouped to grouped in_out
// CHECK:         %[[DX:.*]] = moe.combine %[[P]]
// CHECK:         return %[[BH]], %[[DX]], %[[DG]], %[[DW]]
func.func @input_gate(%x: tensor<?x16xf32>, %w: tensor<8x4x16xf32>, %g: tensor<?xf32>,
    %b: tensor<8x4xf32>, %dh: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>)
    -> (tensor<?x4xf32>, tensor<?x16xf32>, tensor<?xf32>, tensor<8x4x16xf32>) {
  %xg = moe.group %x from token by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %xs = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%xg : tensor<?x16xf32> rows, %g : tensor<?xf32> scalar) outs(tensor<?x16xf32> rows) {
  ^bb0(%u: f32, %s: f32):
    %p = arith.mulf %u, %s : f32
    moe.yield %p : f32
  }
  %h = moe.parallel_linear %xs, %w by %a from grouped to grouped out_in bias(%b : tensor<8x4xf32>)
      : tensor<?x16xf32>, tensor<8x4x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %dxs = moe.parallel_linear %dh, %w by %a from grouped to grouped in_out
      : tensor<?x4xf32>, tensor<8x4x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %dw = moe.weight_grad %xs from grouped, %dh from grouped by %a out_in
      : tensor<?x16xf32>, tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<8x4x16xf32>
  %d:2 = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%xg : tensor<?x16xf32> rows, %g : tensor<?xf32> scalar, %dxs : tensor<?x16xf32> rows)
      outs(tensor<?x16xf32> rows, tensor<?xf32> sum) {
  ^bb0(%u: f32, %s: f32, %v: f32):
    %p = arith.mulf %v, %s : f32
    %q = arith.mulf %v, %u : f32
    moe.yield %p, %q : f32, f32
  }
  %dx = moe.combine %d#0 from grouped by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %h, %dx, %d#1, %dw : tensor<?x4xf32>, tensor<?x16xf32>, tensor<?xf32>, tensor<8x4x16xf32>
}

// -----

// Refused: dH W has another reader, so its gate stays behind it.
// CHECK-LABEL: func.func @product_read_twice(
// CHECK:         %[[P:.*]] = moe.parallel_linear %{{.*}} from grouped to grouped in_out
// CHECK:         %[[S:.*]] = moe.rowwise {{.*}}ins(%[[P]] : tensor<?x16xf32> rows
// CHECK:         return %[[S]], %[[P]]
func.func @product_read_twice(%dh: tensor<?x4xf32>, %w: tensor<8x4x16xf32>, %g: tensor<?xf32>,
    %a: !moe.assignment<?x2, 8>) -> (tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x4xf32>) {
  %p = moe.parallel_linear %dh, %w by %a from grouped to grouped in_out
      : tensor<?x4xf32>, tensor<8x4x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %s = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%p : tensor<?x16xf32> rows, %g : tensor<?xf32> scalar) outs(tensor<?x16xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %m = arith.mulf %u, %v : f32
    moe.yield %m : f32
  }
  %t = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%dh : tensor<?x4xf32> rows, %g : tensor<?xf32> scalar) outs(tensor<?x4xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %m = arith.mulf %u, %v : f32
    moe.yield %m : f32
  }
  return %s, %p, %t : tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x4xf32>
}

// -----

// Slot rows on both sides (Mixture of Attention): the product reads dO by token,
// o is copied once, and Y is not read.
// CHECK-LABEL: func.func @slot_rows(
// CHECK-SAME:    %[[O:[^:]*]]: tensor<?x4xf32>, %[[DO:[^:]*]]: tensor<?x16xf32>, %[[W:[^:]*]]: tensor<8x16x4xf32>, %[[G:[^:]*]]: tensor<?xf32>
// CHECK-NOT:     out_in :
// CHECK:         %[[OG:.*]] = moe.group %[[O]] from slot
// CHECK:         %[[P:.*]] = moe.parallel_linear %[[DO]], %[[W]] by %{{.*}} from token to grouped in_out
// CHECK:         %[[S:.*]] = moe.rowwise {{.*}}ins(%[[P]] : tensor<?x4xf32> rows, %[[G]] : tensor<?xf32> scalar)
// CHECK:         %[[DX:.*]] = moe.scatter %[[S]]
// CHECK:         %[[SO:.*]] = moe.rowwise {{.*}}ins(%[[OG]] : tensor<?x4xf32> rows, %[[G]] : tensor<?xf32> scalar)
// CHECK:         %[[DW:.*]] = moe.weight_grad %[[SO]] from grouped, %[[DO]] from token
// CHECK:         %[[DG:.*]] = moe.rowwise {{.*}}ins(%[[P]] : tensor<?x4xf32> rows, %[[OG]] : tensor<?x4xf32> rows) outs(tensor<?xf32> sum)
// CHECK:         return %[[DX]], %[[DG]], %[[DW]]
func.func @slot_rows(%o: tensor<?x4xf32>, %do: tensor<?x16xf32>, %w: tensor<8x16x4xf32>,
    %g: tensor<?xf32>, %a: !moe.assignment<?x2, 8>)
    -> (tensor<?x4xf32>, tensor<?xf32>, tensor<8x16x4xf32>) {
  %y = moe.parallel_linear %o, %w by %a from slot to slot out_in
      : tensor<?x4xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %dog = moe.group %do from token by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %yg = moe.group %y from slot by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %dg = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%dog : tensor<?x16xf32> rows, %yg : tensor<?x16xf32> rows) outs(tensor<?xf32> sum) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.mulf %u, %v : f32
    moe.yield %p : f32
  }
  %s = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%dog : tensor<?x16xf32> rows, %g : tensor<?xf32> scalar) outs(tensor<?x16xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.mulf %u, %v : f32
    moe.yield %p : f32
  }
  %dy = moe.scatter %s by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %dx = moe.parallel_linear %dy, %w by %a from slot to slot in_out
      : tensor<?x16xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %dw = moe.weight_grad %o from slot, %dy from slot by %a out_in
      : tensor<?x4xf32>, tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<8x16x4xf32>
  return %dx, %dg, %dw : tensor<?x4xf32>, tensor<?xf32>, tensor<8x16x4xf32>
}

// -----

// <dO, Y + Z> where Z is an adapter's product: a dot product for each.
// CHECK-LABEL: func.func @sum_of_products(
// CHECK-NOT:     out_in :
// CHECK:         %[[DA:.*]] = moe.parallel_linear %{{.*}} in_out : tensor<?x16xf32>, tensor<8x16x4xf32>
// CHECK:         %[[DL:.*]] = moe.parallel_linear %{{.*}} in_out : tensor<?x16xf32>, tensor<8x16x2xf32>
// CHECK:         %[[P:.*]] = moe.rowwise {{.*}}ins(%[[DA]] : tensor<?x4xf32> rows, %{{.*}} : tensor<?x4xf32> rows) outs(tensor<?xf32> sum)
// CHECK:         %[[Q:.*]] = moe.rowwise {{.*}}ins(%[[DL]] : tensor<?x2xf32> rows, %{{.*}} : tensor<?x2xf32> rows) outs(tensor<?xf32> sum)
// CHECK:         %[[DG:.*]] = arith.addf %[[P]], %[[Q]]
// CHECK:         return %[[DG]], %[[DA]], %[[DL]]
func.func @sum_of_products(%act: tensor<?x4xf32>, %low: tensor<?x2xf32>, %do: tensor<?x16xf32>,
    %w: tensor<8x16x4xf32>, %b: tensor<8x16x2xf32>, %a: !moe.assignment<?x2, 8>)
    -> (tensor<?xf32>, tensor<?x4xf32>, tensor<?x2xf32>) {
  %y = moe.parallel_linear %act, %w by %a from grouped to grouped out_in
      : tensor<?x4xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %z = moe.parallel_linear %low, %b by %a from grouped to grouped out_in
      : tensor<?x2xf32>, tensor<8x16x2xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %s = arith.addf %y, %z : tensor<?x16xf32>
  %dog = moe.group %do from token by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %dg = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%dog : tensor<?x16xf32> rows, %s : tensor<?x16xf32> rows) outs(tensor<?xf32> sum) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.mulf %u, %v : f32
    moe.yield %p : f32
  }
  %da = moe.parallel_linear %dog, %w by %a from grouped to grouped in_out
      : tensor<?x16xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %dl = moe.parallel_linear %dog, %b by %a from grouped to grouped in_out
      : tensor<?x16xf32>, tensor<8x16x2xf32>, !moe.assignment<?x2, 8> -> tensor<?x2xf32>
  return %dg, %da, %dl : tensor<?xf32>, tensor<?x4xf32>, tensor<?x2xf32>
}

// -----

// Refused: one of the two products has no counterpart, so the sum is kept.
// CHECK-LABEL: func.func @half_a_sum(
// CHECK:         %[[S:.*]] = moe.rowwise
// CHECK:         moe.rowwise {{.*}}ins(%{{.*}} : tensor<?x16xf32> rows, %[[S]] : tensor<?x16xf32> rows) outs(tensor<?xf32> sum)
func.func @half_a_sum(%act: tensor<?x4xf32>, %z: tensor<?x16xf32>, %do: tensor<?x16xf32>,
    %w: tensor<8x16x4xf32>, %a: !moe.assignment<?x2, 8>) -> (tensor<?xf32>, tensor<?x4xf32>) {
  %y = moe.parallel_linear %act, %w by %a from grouped to grouped out_in
      : tensor<?x4xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %s = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%y : tensor<?x16xf32> rows, %z : tensor<?x16xf32> rows) outs(tensor<?x16xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.addf %u, %v : f32
    moe.yield %p : f32
  }
  %dg = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%do : tensor<?x16xf32> rows, %s : tensor<?x16xf32> rows) outs(tensor<?xf32> sum) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.mulf %u, %v : f32
    moe.yield %p : f32
  }
  %da = moe.parallel_linear %do, %w by %a from grouped to grouped in_out
      : tensor<?x16xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  return %dg, %da : tensor<?xf32>, tensor<?x4xf32>
}

// -----

// Refused: between two gathers of token rows the gate would go to and fro.
// CHECK-LABEL: func.func @two_gathers(
// CHECK:         %[[S:.*]] = moe.rowwise
// CHECK:         moe.weight_grad %{{.*}} from token, %[[S]] from grouped
func.func @two_gathers(%x: tensor<?x4xf32>, %do: tensor<?x16xf32>, %g: tensor<?xf32>,
    %a: !moe.assignment<?x2, 8>) -> tensor<8x16x4xf32> {
  %dog = moe.group %do from token by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %s = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%dog : tensor<?x16xf32> rows, %g : tensor<?xf32> scalar) outs(tensor<?x16xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.mulf %u, %v : f32
    moe.yield %p : f32
  }
  %xg = moe.group %x from token by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %dw = moe.weight_grad %xg from grouped, %s from grouped by %a out_in
      : tensor<?x4xf32>, tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<8x16x4xf32>
  return %dw : tensor<8x16x4xf32>
}

// -----

// An adapter beside a weight: the gate leaves the sum of their products, so that the
// sum is what d-gate reads, and the adapter's gradient takes gate * A as the weight's.
// CHECK-LABEL: func.func @gate_out_of_a_sum(
// CHECK-SAME:    %[[A:[^:]*]]: tensor<?x4xf32>, %[[DO:[^:]*]]: tensor<?x16xf32>, %[[W:[^:]*]]: tensor<8x16x4xf32>, %[[WA:[^:]*]]: tensor<8x2x4xf32>, %[[WB:[^:]*]]: tensor<8x16x2xf32>, %[[G:[^:]*]]: tensor<?xf32>
// CHECK-NOT:     moe.group
// CHECK-DAG:     %[[P:.*]] = moe.parallel_linear %[[DO]], %[[W]] by %{{.*}} from token to grouped in_out
// CHECK-DAG:     %[[Q:.*]] = moe.parallel_linear %[[DO]], %[[WB]] by %{{.*}} from token to grouped in_out
// CHECK-DAG:     %[[U:.*]] = moe.rowwise {{.*}}ins(%[[Q]] : tensor<?x2xf32> rows)
// CHECK-DAG:     %[[L:.*]] = moe.parallel_linear %[[U]], %[[WA]] by %{{.*}} from grouped to grouped in_out
// CHECK-DAG:     %[[SUM:.*]] = moe.rowwise {{.*}}ins(%[[P]] : tensor<?x4xf32> rows, %[[L]] : tensor<?x4xf32> rows)
// CHECK-DAG:     %[[DA:.*]] = moe.rowwise {{.*}}ins(%[[SUM]] : tensor<?x4xf32> rows, %[[G]] : tensor<?xf32> scalar)
// CHECK-DAG:     %[[DG:.*]] = moe.rowwise {{.*}}ins(%[[SUM]] : tensor<?x4xf32> rows, %[[A]] : tensor<?x4xf32> rows) outs(tensor<?xf32> sum)
// CHECK-DAG:     %[[GA:.*]] = moe.rowwise {{.*}}ins(%[[A]] : tensor<?x4xf32> rows, %[[G]] : tensor<?xf32> scalar)
// CHECK-DAG:     %[[DWA:.*]] = moe.weight_grad %[[GA]] from grouped, %[[U]] from grouped
// CHECK:         return %[[DG]], %[[DA]], %[[DWA]]
func.func @gate_out_of_a_sum(%act: tensor<?x4xf32>, %do: tensor<?x16xf32>, %w: tensor<8x16x4xf32>,
    %wa: tensor<8x2x4xf32>, %wb: tensor<8x16x2xf32>, %g: tensor<?xf32>,
    %a: !moe.assignment<?x2, 8>) -> (tensor<?xf32>, tensor<?x4xf32>, tensor<8x2x4xf32>) {
  %y0 = moe.parallel_linear %act, %w by %a from grouped to grouped out_in
      : tensor<?x4xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %low = moe.parallel_linear %act, %wa by %a from grouped to grouped out_in
      : tensor<?x4xf32>, tensor<8x2x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x2xf32>
  %low2 = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%low : tensor<?x2xf32> rows) outs(tensor<?x2xf32> rows) {
  ^bb0(%u: f32):
    %c = arith.constant 2.0 : f32
    %p = arith.mulf %c, %u : f32
    moe.yield %p : f32
  }
  %y1 = moe.parallel_linear %low2, %wb by %a from grouped to grouped out_in
      : tensor<?x2xf32>, tensor<8x16x2xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %y = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%y0 : tensor<?x16xf32> rows, %y1 : tensor<?x16xf32> rows) outs(tensor<?x16xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.addf %u, %v : f32
    moe.yield %p : f32
  }
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
  %pw = moe.parallel_linear %dy, %w by %a from grouped to grouped in_out
      : tensor<?x16xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %q = moe.parallel_linear %dy, %wb by %a from grouped to grouped in_out
      : tensor<?x16xf32>, tensor<8x16x2xf32>, !moe.assignment<?x2, 8> -> tensor<?x2xf32>
  %s = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%q : tensor<?x2xf32> rows) outs(tensor<?x2xf32> rows) {
  ^bb0(%u: f32):
    %c = arith.constant 2.0 : f32
    %p = arith.mulf %c, %u : f32
    moe.yield %p : f32
  }
  %l = moe.parallel_linear %s, %wa by %a from grouped to grouped in_out
      : tensor<?x2xf32>, tensor<8x2x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %da = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%pw : tensor<?x4xf32> rows, %l : tensor<?x4xf32> rows) outs(tensor<?x4xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.addf %u, %v : f32
    moe.yield %p : f32
  }
  %dwa = moe.weight_grad %act from grouped, %s from grouped by %a out_in
      : tensor<?x4xf32>, tensor<?x2xf32>, !moe.assignment<?x2, 8> -> tensor<8x2x4xf32>
  return %dg, %da, %dwa : tensor<?xf32>, tensor<?x4xf32>, tensor<8x2x4xf32>
}

// -----

// Refused: the two products have different gates.
// CHECK-LABEL: func.func @two_gates(
// CHECK-SAME:    %[[G:[^:]*]]: tensor<?xf32>, %[[G2:[^:]*]]: tensor<?xf32>
// CHECK:         %[[S:.*]] = moe.rowwise {{.*}}ins(%{{.*}} : tensor<?x2xf32> rows, %[[G2]] : tensor<?xf32> scalar)
// CHECK:         %[[S2:.*]] = moe.rowwise {{.*}}ins(%[[S]] : tensor<?x2xf32> rows)
// CHECK:         moe.parallel_linear %[[S2]]
func.func @two_gates(%act: tensor<?x4xf32>, %do: tensor<?x16xf32>, %w: tensor<8x16x4xf32>,
    %wa: tensor<8x2x4xf32>, %wb: tensor<8x16x2xf32>, %g: tensor<?xf32>, %g2: tensor<?xf32>,
    %a: !moe.assignment<?x2, 8>) -> (tensor<?x4xf32>, tensor<8x2x4xf32>) {
  %dog = moe.group %do from token by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %dy = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%dog : tensor<?x16xf32> rows, %g : tensor<?xf32> scalar) outs(tensor<?x16xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.mulf %u, %v : f32
    moe.yield %p : f32
  }
  %dz = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%dog : tensor<?x16xf32> rows, %g2 : tensor<?xf32> scalar) outs(tensor<?x16xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.mulf %u, %v : f32
    moe.yield %p : f32
  }
  %pw = moe.parallel_linear %dy, %w by %a from grouped to grouped in_out
      : tensor<?x16xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %q = moe.parallel_linear %dz, %wb by %a from grouped to grouped in_out
      : tensor<?x16xf32>, tensor<8x16x2xf32>, !moe.assignment<?x2, 8> -> tensor<?x2xf32>
  %s = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%q : tensor<?x2xf32> rows) outs(tensor<?x2xf32> rows) {
  ^bb0(%u: f32):
    %c = arith.constant 2.0 : f32
    %p = arith.mulf %c, %u : f32
    moe.yield %p : f32
  }
  %l = moe.parallel_linear %s, %wa by %a from grouped to grouped in_out
      : tensor<?x2xf32>, tensor<8x2x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %da = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%pw : tensor<?x4xf32> rows, %l : tensor<?x4xf32> rows) outs(tensor<?x4xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.addf %u, %v : f32
    moe.yield %p : f32
  }
  %dwa = moe.weight_grad %act from grouped, %s from grouped by %a out_in
      : tensor<?x4xf32>, tensor<?x2xf32>, !moe.assignment<?x2, 8> -> tensor<8x2x4xf32>
  return %da, %dwa : tensor<?x4xf32>, tensor<8x2x4xf32>
}

// -----

// Refused: the adapter's scaled rows are returned, and would be written twice.
// CHECK-LABEL: func.func @scaled_rows_read(
// CHECK:         %[[S:.*]] = moe.rowwise {{.*}}ins(%{{.*}} : tensor<?x2xf32> rows, %{{.*}} : tensor<?xf32> scalar)
// CHECK:         %[[S2:.*]] = moe.rowwise {{.*}}ins(%[[S]] : tensor<?x2xf32> rows)
// CHECK:         moe.parallel_linear %[[S2]]
func.func @scaled_rows_read(%act: tensor<?x4xf32>, %do: tensor<?x16xf32>, %w: tensor<8x16x4xf32>,
    %wa: tensor<8x2x4xf32>, %wb: tensor<8x16x2xf32>, %g: tensor<?xf32>,
    %a: !moe.assignment<?x2, 8>) -> (tensor<?x4xf32>, tensor<8x2x4xf32>, tensor<?x2xf32>) {
  %dog = moe.group %do from token by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %dy = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%dog : tensor<?x16xf32> rows, %g : tensor<?xf32> scalar) outs(tensor<?x16xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.mulf %u, %v : f32
    moe.yield %p : f32
  }
  %pw = moe.parallel_linear %dy, %w by %a from grouped to grouped in_out
      : tensor<?x16xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %q = moe.parallel_linear %dy, %wb by %a from grouped to grouped in_out
      : tensor<?x16xf32>, tensor<8x16x2xf32>, !moe.assignment<?x2, 8> -> tensor<?x2xf32>
  %s = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%q : tensor<?x2xf32> rows) outs(tensor<?x2xf32> rows) {
  ^bb0(%u: f32):
    %c = arith.constant 2.0 : f32
    %p = arith.mulf %c, %u : f32
    moe.yield %p : f32
  }
  %l = moe.parallel_linear %s, %wa by %a from grouped to grouped in_out
      : tensor<?x2xf32>, tensor<8x2x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %da = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%pw : tensor<?x4xf32> rows, %l : tensor<?x4xf32> rows) outs(tensor<?x4xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.addf %u, %v : f32
    moe.yield %p : f32
  }
  %dwa = moe.weight_grad %act from grouped, %s from grouped by %a out_in
      : tensor<?x4xf32>, tensor<?x2xf32>, !moe.assignment<?x2, 8> -> tensor<8x2x4xf32>
  return %da, %dwa, %s : tensor<?x4xf32>, tensor<8x2x4xf32>, tensor<?x2xf32>
}

// -----

// Rows are added before they are scattered.
// CHECK-LABEL: func.func @add_before_scatter(
// CHECK-SAME:    %[[X:[^:]*]]: tensor<?x4xf32>, %[[L:[^:]*]]: tensor<?x2xf32>, %[[W:[^:]*]]: tensor<8x4x2xf32>
// CHECK:         %[[Y:.*]] = moe.parallel_linear %[[L]], %[[W]] by %{{.*}} from grouped to grouped out_in
// CHECK:         %[[SUM:.*]] = moe.rowwise grouped {{.*}}ins(%[[X]] : tensor<?x4xf32> rows, %[[Y]] : tensor<?x4xf32> rows)
// CHECK:         %[[S:.*]] = moe.scatter %[[SUM]]
// CHECK:         return %[[S]]
func.func @add_before_scatter(%x: tensor<?x4xf32>, %l: tensor<?x2xf32>, %w: tensor<8x4x2xf32>,
    %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
  %s = moe.scatter %x by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %y = moe.parallel_linear %l, %w by %a from grouped to slot out_in
      : tensor<?x2xf32>, tensor<8x4x2xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %sum = moe.rowwise slot by %a : !moe.assignment<?x2, 8>
      ins(%s : tensor<?x4xf32> rows, %y : tensor<?x4xf32> rows) outs(tensor<?x4xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.addf %u, %v : f32
    moe.yield %p : f32
  }
  return %sum : tensor<?x4xf32>
}

// -----

// Refused: the scattered rows are returned too.
// CHECK-LABEL: func.func @scattered_twice(
// CHECK:         %[[S:.*]] = moe.scatter
// CHECK:         moe.rowwise slot {{.*}}ins(%[[S]] : tensor<?x4xf32> rows
func.func @scattered_twice(%x: tensor<?x4xf32>, %l: tensor<?x2xf32>, %w: tensor<8x4x2xf32>,
    %a: !moe.assignment<?x2, 8>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %s = moe.scatter %x by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %y = moe.parallel_linear %l, %w by %a from grouped to slot out_in
      : tensor<?x2xf32>, tensor<8x4x2xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %sum = moe.rowwise slot by %a : !moe.assignment<?x2, 8>
      ins(%s : tensor<?x4xf32> rows, %y : tensor<?x4xf32> rows) outs(tensor<?x4xf32> rows) {
  ^bb0(%u: f32, %v: f32):
    %p = arith.addf %u, %v : f32
    moe.yield %p : f32
  }
  return %sum, %s : tensor<?x4xf32>, tensor<?x4xf32>
}
