// RUN: moe-opt %s --moe-form-kernels --split-input-file --verify-diagnostics | FileCheck %s

// CHECK-LABEL: func.func @route(
// CHECK-SAME:    %[[L:.*]]: tensor<?x8xbf16>, %[[B:.*]]: tensor<8xf32>, %[[M:.*]]: tensor<?xi1>)
// CHECK:         %[[T:.*]] = tensor.dim %[[L]]
// CHECK:         %[[G:.*]] = tensor.empty(%{{.*}}) : tensor<?x2xf32>
// CHECK:         %[[I:.*]] = tensor.empty(%{{.*}}) : tensor<?x2xi32>
// CHECK:         %[[S:.*]] = tensor.empty(%{{.*}}) : tensor<?x8xf32>
// CHECK:         moe.route_rows %[[L]] : tensor<?x8xbf16> sigmoid score_then_topk bias(%[[B]] : tensor<8xf32>) mask(%[[M]] : tensor<?xi1>) outs(%[[G]], %[[I]], %[[S]] : {{.*}}) {capacity = 3 : i64, normalize, scale = 2.500000e+00 : f64, with_scores}
func.func @route(%l: tensor<?x8xbf16>, %b: tensor<8xf32>, %m: tensor<?xi1>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>, tensor<?x8xf32>) {
  %g, %i, %s = moe.route %l sigmoid score_then_topk bias(%b : tensor<8xf32>)
      mask(%m : tensor<?xi1>) {normalize, scale = 2.5, capacity = 3}
      : tensor<?x8xbf16> -> tensor<?x2xf32>, tensor<?x2xi32>
      scores(tensor<?x8xf32>)
  return %g, %i, %s : tensor<?x2xf32>, tensor<?x2xi32>, tensor<?x8xf32>
}

// -----

// CHECK-LABEL: func.func @route_grad(
// CHECK:         moe.route_grad_rows %{{.*}}, %{{.*}}, %{{.*}} : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32> softmax score_then_topk scores(%{{.*}} : tensor<?x8xf32>) outs(%{{.*}} : tensor<?x8xf32>) {normalize}
func.func @route_grad(%l: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                      %dg: tensor<?x2xf32>, %ds: tensor<?x8xf32>)
    -> tensor<?x8xf32> {
  %d = moe.route_grad %l, %i, %dg softmax score_then_topk
      scores(%ds : tensor<?x8xf32>) {normalize}
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x8xf32>
  return %d : tensor<?x8xf32>
}

// -----

// CHECK-LABEL: func.func @group_tokens(
// CHECK-SAME:    %[[X:.*]]: tensor<?x16xbf16>, %[[A:.*]]: !moe.assignment
// CHECK:         %[[T:.*]] = tensor.dim %[[X]]
// CHECK:         %[[R:.*]] = arith.muli %[[T]], %c2
// CHECK:         %[[O:.*]] = tensor.empty(%[[R]]) : tensor<?x16xbf16>
// CHECK:         moe.map_rows grouped by %[[A]] : !moe.assignment<?x2, 8> ins(%[[X]] : tensor<?x16xbf16> rows token) outs(%[[O]] : tensor<?x16xbf16> rows grouped) {
// CHECK-NEXT:    ^bb0(%[[V:.*]]: f32):
// CHECK-NEXT:      moe.yield %[[V]] : f32
func.func @group_tokens(%x: tensor<?x16xbf16>, %a: !moe.assignment<?x2, 8>)
    -> tensor<?x16xbf16> {
  %g = moe.group %x from token by %a
      : tensor<?x16xbf16>, !moe.assignment<?x2, 8> -> tensor<?x16xbf16>
  return %g : tensor<?x16xbf16>
}

// -----

// CHECK-LABEL: func.func @group_scalars(
// CHECK:         moe.map_rows grouped {{.*}} ins(%{{.*}} : tensor<?x2xf64> scalar slot) outs(%{{.*}} : tensor<?xf64> scalar grouped)
// CHECK-NEXT:    ^bb0(%{{.*}}: f64):
func.func @group_scalars(%x: tensor<?x2xf64>, %a: !moe.assignment<?x2, 8>)
    -> tensor<?xf64> {
  %g = moe.group %x from slot by %a
      : tensor<?x2xf64>, !moe.assignment<?x2, 8> -> tensor<?xf64>
  return %g : tensor<?xf64>
}

// -----

// CHECK-LABEL: func.func @scatter(
// CHECK:         moe.map_rows slot {{.*}} ins(%{{.*}} : tensor<?x16xf32> rows grouped) outs(%{{.*}} : tensor<?x16xf32> rows slot)
// CHECK:         moe.map_rows slot {{.*}} ins(%{{.*}} : tensor<?xf32> scalar grouped) outs(%{{.*}} : tensor<?x2xf32> scalar slot)
func.func @scatter(%x: tensor<?x16xf32>, %s: tensor<?xf32>,
                   %a: !moe.assignment<?x2, 8>)
    -> (tensor<?x16xf32>, tensor<?x2xf32>) {
  %0 = moe.scatter %x by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %1 = moe.scatter %s by %a
      : tensor<?xf32>, !moe.assignment<?x2, 8> -> tensor<?x2xf32>
  return %0, %1 : tensor<?x16xf32>, tensor<?x2xf32>
}

// -----

// CHECK-LABEL: func.func @combine(
// CHECK:         arith.divui
// CHECK:         moe.combine_rows by {{.*}} ins(%{{.*}} : tensor<?x16xbf16> rows grouped, %{{.*}} : tensor<?x2xf32> scalar slot) outs(%{{.*}} : tensor<?x16xbf16> rows token) {
// CHECK-NEXT:    ^bb0(%[[V:.*]]: f32, %[[G:.*]]: f32):
// CHECK-NEXT:      %[[M:.*]] = arith.mulf %[[G]], %[[V]] : f32
// CHECK-NEXT:      moe.yield %[[M]] : f32
func.func @combine(%y: tensor<?x16xbf16>, %g: tensor<?x2xf32>,
                   %a: !moe.assignment<?x2, 8>) -> tensor<?x16xbf16> {
  %o = moe.combine %y from grouped by %a gates(%g : tensor<?x2xf32>)
      : tensor<?x16xbf16>, !moe.assignment<?x2, 8> -> tensor<?x16xbf16>
  return %o : tensor<?x16xbf16>
}

// -----

// Scalars are combined as rows of one column.
// CHECK-LABEL: func.func @combine_scalars(
// CHECK-SAME:    %[[X:.*]]: tensor<?x2xf32>,
// CHECK:         %[[F:.*]] = tensor.collapse_shape %[[X]]
// CHECK:         %[[C:.*]] = tensor.expand_shape %[[F]] {{.*}} into tensor<?x1xf32>
// CHECK:         %[[O:.*]] = moe.combine_rows {{.*}} ins(%[[C]] : tensor<?x1xf32> rows slot) outs(%{{.*}} : tensor<?x1xf32> rows token)
// CHECK:         tensor.collapse_shape %[[O]] {{.*}} into tensor<?xf32>
func.func @combine_scalars(%x: tensor<?x2xf32>, %a: !moe.assignment<?x2, 8>)
    -> tensor<?xf32> {
  %o = moe.combine %x from slot by %a
      : tensor<?x2xf32>, !moe.assignment<?x2, 8> -> tensor<?xf32>
  return %o : tensor<?xf32>
}

// -----

// CHECK-LABEL: func.func @linear(
// CHECK:         moe.grouped_matmul by %{{.*}} pairs(%{{.*}} from token, %{{.*}} in_out : tensor<?x16xbf16>, tensor<8x16x32xbf16>) columns <single 1> ins(%{{.*}} : tensor<8x32xf32> expert) outs(%{{.*}} : tensor<?x32xbf16> rows slot) {
// CHECK-NEXT:    ^bb0(%[[C:.*]]: f32, %[[B:.*]]: f32):
// CHECK-NEXT:      %[[S:.*]] = arith.addf %[[C]], %[[B]] : f32
// CHECK-NEXT:      moe.yield %[[S]] : f32
func.func @linear(%x: tensor<?x16xbf16>, %w: tensor<8x16x32xbf16>,
                  %b: tensor<8x32xf32>, %a: !moe.assignment<?x2, 8>)
    -> tensor<?x32xbf16> {
  %y = moe.parallel_linear %x, %w by %a from token to slot in_out
      bias(%b : tensor<8x32xf32>)
      : tensor<?x16xbf16>, tensor<8x16x32xbf16>, !moe.assignment<?x2, 8>
      -> tensor<?x32xbf16>
  return %y : tensor<?x32xbf16>
}

// -----

// CHECK-LABEL: func.func @weight_grad(
// CHECK-SAME:    %[[BUF:[^:]*]]: tensor<8x32x16xf32>,
// CHECK:         %[[E:.*]] = tensor.empty() : tensor<8x16x32xbf16>
// CHECK:         moe.grouped_outer by {{.*}} x(%{{.*}} from token : tensor<?x16xbf16>) dy(%{{.*}} from grouped : tensor<?x32xbf16>) in_out outs(%[[E]] : tensor<8x16x32xbf16>)
// CHECK:         moe.grouped_outer by {{.*}} out_in accumulate outs(%[[BUF]] : tensor<8x32x16xf32>)
func.func @weight_grad(%x: tensor<?x16xbf16>, %dy: tensor<?x32xbf16>,
    %buf: tensor<8x32x16xf32>, %a: !moe.assignment<?x2, 8>)
    -> (tensor<8x16x32xbf16>, tensor<8x32x16xf32>) {
  %0 = moe.weight_grad %x from token, %dy from grouped by %a in_out
      : tensor<?x16xbf16>, tensor<?x32xbf16>, !moe.assignment<?x2, 8>
      -> tensor<8x16x32xbf16>
  %1 = moe.weight_grad %x from token, %dy from grouped by %a out_in
      accumulate(%buf : tensor<8x32x16xf32>)
      : tensor<?x16xbf16>, tensor<?x32xbf16>, !moe.assignment<?x2, 8>
      -> tensor<8x32x16xf32>
  return %0, %1 : tensor<8x16x32xbf16>, tensor<8x32x16xf32>
}

// -----

// CHECK-LABEL: func.func @expert_sum(
// CHECK:         moe.reduce_experts by {{.*}} ins(%{{.*}} : tensor<?x16xf32> rows slot) outs(%{{.*}} : tensor<8x16xf32> expert)
func.func @expert_sum(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>)
    -> tensor<8x16xf32> {
  %s = moe.expert_sum %x from slot by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<8x16xf32>
  return %s : tensor<8x16xf32>
}

// -----

// CHECK-LABEL: func.func @rowwise(
// CHECK:         moe.map_rows slot by %{{.*}} ins(%{{.*}} : tensor<?x64xbf16> rows slot interleave 2, %{{.*}} : tensor<?x2xf32> scalar slot, %{{.*}} : tensor<8x32xbf16> expert) outs(%{{.*}} : tensor<?x32xbf16> rows slot, %{{.*}} : tensor<?x2xf32> sum slot)
// CHECK-NEXT:    ^bb0(%{{.*}}: f32, %{{.*}}: f32, %{{.*}}: f32, %{{.*}}: f32):
func.func @rowwise(%h: tensor<?x64xbf16>, %g: tensor<?x2xf32>,
                   %b: tensor<8x32xbf16>, %a: !moe.assignment<?x2, 8>)
    -> (tensor<?x32xbf16>, tensor<?x2xf32>) {
  %y:2 = moe.rowwise slot by %a : !moe.assignment<?x2, 8>
      ins(%h : tensor<?x64xbf16> rows interleave 2,
          %g : tensor<?x2xf32> scalar, %b : tensor<8x32xbf16> expert)
      outs(tensor<?x32xbf16> rows, tensor<?x2xf32> sum) {
  ^bb0(%gate: f32, %up: f32, %s: f32, %bias: f32):
    %0 = arith.mulf %gate, %up : f32
    %1 = arith.addf %0, %bias : f32
    %2 = arith.mulf %1, %s : f32
    moe.yield %1, %2 : f32, f32
  }
  return %y#0, %y#1 : tensor<?x32xbf16>, tensor<?x2xf32>
}

// -----

// Token rows need no assignment.
// CHECK-LABEL: func.func @rowwise_token(
// CHECK:         moe.map_rows token ins(%{{.*}} : tensor<?x64xf32> rows token, %{{.*}} : tensor<?xf32> scalar token) outs(%{{.*}} : tensor<?xf32> sum token)
func.func @rowwise_token(%x: tensor<?x64xf32>, %s: tensor<?xf32>)
    -> tensor<?xf32> {
  %y = moe.rowwise token
      ins(%x : tensor<?x64xf32> rows, %s : tensor<?xf32> scalar)
      outs(tensor<?xf32> sum) {
  ^bb0(%v: f32, %g: f32):
    %0 = arith.mulf %v, %g : f32
    moe.yield %0 : f32
  }
  return %y : tensor<?xf32>
}

// -----

// Slot rows without an assignment are T*K rows like any other.
// CHECK-LABEL: func.func @rowwise_slot_alone(
// CHECK-SAME:    %[[X:.*]]: tensor<?x64xf32>, %[[S:.*]]: tensor<?x2xf32>)
// CHECK:         %[[F:.*]] = tensor.collapse_shape %[[S]] {{\[\[}}0, 1]] : tensor<?x2xf32> into tensor<?xf32>
// CHECK:         %[[Y:.*]]:2 = moe.map_rows token ins(%[[X]] : tensor<?x64xf32> rows token, %[[F]] : tensor<?xf32> scalar token) outs(%{{.*}} : tensor<?x64xf32> rows token, %{{.*}} : tensor<?xf32> sum token)
// CHECK:         tensor.expand_shape %[[Y]]#1 {{\[\[}}0, 1]] {{.*}} : tensor<?xf32> into tensor<?x2xf32>
func.func @rowwise_slot_alone(%x: tensor<?x64xf32>, %s: tensor<?x2xf32>)
    -> (tensor<?x64xf32>, tensor<?x2xf32>) {
  %y:2 = moe.rowwise slot
      ins(%x : tensor<?x64xf32> rows, %s : tensor<?x2xf32> scalar)
      outs(tensor<?x64xf32> rows, tensor<?x2xf32> sum) {
  ^bb0(%v: f32, %g: f32):
    %0 = arith.mulf %v, %g : f32
    moe.yield %0, %0 : f32, f32
  }
  return %y#0, %y#1 : tensor<?x64xf32>, tensor<?x2xf32>
}

// -----

func.func @no_rows(%b: tensor<8x16xf32>, %a: !moe.assignment<?x2, 8>)
    -> tensor<?x16xf32> {
  // expected-error @below {{cannot become a kernel: the size of a result follows from no operand}}
  %y = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%b : tensor<8x16xf32> expert) outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %y : tensor<?x16xf32>
}
