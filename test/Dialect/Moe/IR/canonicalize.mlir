// RUN: moe-opt %s -split-input-file -canonicalize | FileCheck %s

// CHECK-LABEL: @group_of_scatter
// CHECK-SAME: (%[[G:[a-z0-9]+]]: tensor
// CHECK-NEXT: return %[[G]]
func.func @group_of_scatter(%g: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
  %s = moe.scatter %g by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %r = moe.group %s from slot by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  return %r : tensor<?x4xf32>
}

// -----

// Another assignment: nothing to fold.
// CHECK-LABEL: @group_of_scatter_other
// CHECK: moe.scatter
// CHECK: moe.group
func.func @group_of_scatter_other(%g: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>, %b: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
  %s = moe.scatter %g by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %r = moe.group %s from slot by %b : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  return %r : tensor<?x4xf32>
}

// -----

// Sentinel slots are zeroed by the pair: it stays.
// CHECK-LABEL: @scatter_of_group
// CHECK: moe.group
// CHECK: moe.scatter
func.func @scatter_of_group(%s: tensor<?x4xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
  %g = moe.group %s from slot by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %r = moe.scatter %g by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  return %r : tensor<?x4xf32>
}

// -----

// The linear zeroed them already.
// CHECK-LABEL: @scatter_of_group_zeroed
// CHECK: %[[Y:.*]] = moe.parallel_linear
// CHECK-NEXT: return %[[Y]]
func.func @scatter_of_group_zeroed(%x: tensor<?x4xf32>, %w: tensor<8x4x4xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
  %y = moe.parallel_linear %x, %w by %a from token to slot out_in : tensor<?x4xf32>, tensor<8x4x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %g = moe.group %y from slot by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %r = moe.scatter %g by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  return %r : tensor<?x4xf32>
}

// -----

// CHECK-LABEL: @combine_of_scatter
// CHECK-NEXT: moe.combine %{{.*}} from grouped
func.func @combine_of_scatter(%g: tensor<?x4xf32>, %w: tensor<?x2xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
  %s = moe.scatter %g by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %r = moe.combine %s from slot by %a gates(%w : tensor<?x2xf32>) : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  return %r : tensor<?x4xf32>
}

// -----

// CHECK-LABEL: @route_unused
// CHECK: %{{.*}}, %{{.*}}, %[[L:.*]] = moe.route %{{.*}} softmax score_then_topk {normalize}
// CHECK-SAME: -> tensor<?x2xf32>, tensor<?x2xi32> logsumexp(tensor<?xf32>)
func.func @route_unused(%l: tensor<?x8xf32>) -> (tensor<?x2xf32>, tensor<?xf32>) {
  %g, %i, %s, %z = moe.route %l softmax score_then_topk {normalize} : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32> scores(tensor<?x8xf32>) logsumexp(tensor<?xf32>)
  return %g, %z : tensor<?x2xf32>, tensor<?xf32>
}

// -----

// -1, 3 and 4294967296 are sentinels of three experts: the last one would be
// expert 0 if it were narrowed first.
// CHECK-LABEL: @assign_constant
// CHECK-DAG: %[[ORDER:.*]] = arith.constant dense<[2, 1, 5, 0, 3, 4]>
// CHECK-DAG: %[[POSITION:.*]] = arith.constant dense<[-1, 1, 0, -1, -1, 2]>
// CHECK-DAG: %[[BEGIN:.*]] = arith.constant dense<[0, 1, 1]>
// CHECK-DAG: %[[END:.*]] = arith.constant dense<[1, 1, 3]>
// CHECK: moe.pack_assignment %[[ORDER]], %[[POSITION]], %[[BEGIN]], %[[END]]
func.func @assign_constant(%g: tensor<6x4xf32>) -> tensor<6x4xf32> {
  %ids = arith.constant dense<[[-1, 2], [0, 3], [4294967296, 2]]> : tensor<3x2xi64>
  %a = moe.assign ids(%ids : tensor<3x2xi64>) : !moe.assignment<3x2, 3>
  %s = moe.scatter %g by %a : tensor<6x4xf32>, !moe.assignment<3x2, 3> -> tensor<6x4xf32>
  return %s : tensor<6x4xf32>
}

// -----

// The unread operand, the operand that stands twice and the unread result go.
// CHECK-LABEL: @rowwise_ports
// CHECK-SAME: (%[[X:[a-z0-9]+]]: tensor<?x4xf32>, %[[Y:[a-z0-9]+]]: tensor<?x4xf32>
// CHECK: moe.rowwise token ins(%[[X]] : tensor<?x4xf32> rows) outs(tensor<?x4xf32> rows) {
// CHECK-NEXT: ^bb0(%[[V:.*]]: f32):
// CHECK-NEXT: %[[M:.*]] = arith.mulf %[[V]], %[[V]]
// CHECK-NEXT: moe.yield %[[M]]
func.func @rowwise_ports(%x: tensor<?x4xf32>, %y: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %r, %s = moe.rowwise token ins(%x : tensor<?x4xf32> rows, %y : tensor<?x4xf32> rows, %x : tensor<?x4xf32> rows) outs(tensor<?x4xf32> rows, tensor<?xf32> sum) {
  ^bb0(%v: f32, %w: f32, %u: f32):
    %m = arith.mulf %v, %u : f32
    %n = arith.addf %v, %w : f32
    moe.yield %m, %n : f32, f32
  }
  return %r : tensor<?x4xf32>
}

// -----

// CHECK-LABEL: @rowwise_compose
// CHECK: moe.rowwise grouped by
// CHECK-SAME: ins(%{{.*}} : tensor<?x8xbf16> rows concat 2, %{{.*}} : tensor<?xf32> scalar)
// CHECK-NEXT: ^bb0(%[[G:.*]]: f32, %[[U:.*]]: f32, %[[S:.*]]: f32):
// CHECK-NEXT: %[[P:.*]] = arith.mulf %[[G]], %[[U]]
// CHECK-NEXT: %[[Q:.*]] = arith.mulf %[[P]], %[[S]]
// CHECK-NEXT: moe.yield %[[Q]]
// CHECK-NOT: moe.rowwise
func.func @rowwise_compose(%h: tensor<?x8xbf16>, %s: tensor<?xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xbf16> {
  %p = moe.rowwise grouped by %a : !moe.assignment<?x2, 8> ins(%h : tensor<?x8xbf16> rows concat 2) outs(tensor<?x4xbf16> rows) {
  ^bb0(%g: f32, %u: f32):
    %m = arith.mulf %g, %u : f32
    moe.yield %m : f32
  }
  %q = moe.rowwise grouped by %a : !moe.assignment<?x2, 8> ins(%p : tensor<?x4xbf16> rows, %s : tensor<?xf32> scalar) outs(tensor<?x4xbf16> rows) {
  ^bb0(%v: f32, %w: f32):
    %m = arith.mulf %v, %w : f32
    moe.yield %m : f32
  }
  return %q : tensor<?x4xbf16>
}

// -----

// A second reader needs the rounded rows: no composition.
// CHECK-LABEL: @rowwise_compose_shared
// CHECK: moe.rowwise
// CHECK: moe.rowwise
func.func @rowwise_compose_shared(%h: tensor<?x4xbf16>) -> (tensor<?x4xbf16>, tensor<?x4xbf16>) {
  %p = moe.rowwise token ins(%h : tensor<?x4xbf16> rows) outs(tensor<?x4xbf16> rows) {
  ^bb0(%g: f32):
    %m = arith.mulf %g, %g : f32
    moe.yield %m : f32
  }
  %q = moe.rowwise token ins(%p : tensor<?x4xbf16> rows) outs(tensor<?x4xbf16> rows) {
  ^bb0(%v: f32):
    %m = arith.addf %v, %v : f32
    moe.yield %m : f32
  }
  return %p, %q : tensor<?x4xbf16>, tensor<?x4xbf16>
}

// -----

// CHECK-LABEL: @unpack_of_pack
// CHECK-NEXT: return %arg2
func.func @unpack_of_pack(%o: tensor<?xi32>, %p: tensor<?xi32>, %b: tensor<8xi32>, %e: tensor<8xi32>) -> tensor<8xi32> {
  %a = moe.pack_assignment %o, %p, %b, %e : tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32> -> !moe.assignment<?x2, 8>
  %o2, %p2, %b2, %e2 = moe.unpack_assignment %a : !moe.assignment<?x2, 8> -> tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>
  return %b2 : tensor<8xi32>
}

// -----

// Results that are an operand unchanged, or another result again.
// CHECK-LABEL: func.func @forward_results(
// CHECK-SAME:    %[[X:[^:]*]]: tensor<?x16xf32>,
// CHECK:         %[[Y:.*]] = moe.rowwise {{.*}} outs(tensor<?x16xf32> rows) {
// CHECK:         return %[[X]], %[[Y]], %[[Y]] :
func.func @forward_results(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>) -> (tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x16xf32>) {
  %0:3 = moe.rowwise grouped by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows) outs(tensor<?x16xf32> rows, tensor<?x16xf32> rows, tensor<?x16xf32> rows) {
  ^bb0(%v: f32):
    %n = arith.negf %v : f32
    moe.yield %v, %n, %n : f32, f32, f32
  }
  return %0#0, %0#1, %0#2 : tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x16xf32>
}

// -----

// Kept: the op writes zeros in sentinel rows, and rounds.
// CHECK-LABEL: func.func @keep_results(
// CHECK:         %[[Y:.*]] = moe.rowwise slot
// CHECK:         %[[Z:.*]] = moe.rowwise grouped
// CHECK:         return %[[Y]], %[[Z]] :
func.func @keep_results(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>) -> (tensor<?x16xf32>, tensor<?x16xbf16>) {
  %0 = moe.rowwise slot by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows) outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %1 = moe.rowwise grouped by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows) outs(tensor<?x16xbf16> rows) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %0, %1 : tensor<?x16xf32>, tensor<?x16xbf16>
}

// -----

// Rows that a combine alone reads need no slot order.
// CHECK-LABEL: func.func @combine_of_slot_linear(
// CHECK:         moe.parallel_linear {{.*}} from slot to grouped
// CHECK:         moe.combine {{.*}} from grouped
func.func @combine_of_slot_linear(%x: tensor<?x16xf32>, %w: tensor<8x4x16xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
  %0 = moe.parallel_linear %x, %w by %a from slot to slot out_in : tensor<?x16xf32>, tensor<8x4x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %1 = moe.combine %0 from slot by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  return %1 : tensor<?x4xf32>
}

// -----

// Kept: the slot rows are returned too.
// CHECK-LABEL: func.func @keep_slot_linear(
// CHECK:         moe.parallel_linear {{.*}} from slot to slot
func.func @keep_slot_linear(%x: tensor<?x16xf32>, %w: tensor<8x4x16xf32>, %a: !moe.assignment<?x2, 8>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %0 = moe.parallel_linear %x, %w by %a from slot to slot out_in : tensor<?x16xf32>, tensor<8x4x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  %1 = moe.combine %0 from slot by %a : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  return %0, %1 : tensor<?x4xf32>, tensor<?x4xf32>
}
