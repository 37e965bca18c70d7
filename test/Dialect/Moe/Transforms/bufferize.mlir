// RUN: moe-opt %s --moe-expand-assignment --moe-form-kernels --canonicalize --cse --eliminate-empty-tensors --one-shot-bufferize="bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map" --canonicalize --cse --split-input-file | FileCheck %s

// Every kernel writes its destination; tables and temporaries are the only
// allocations, and nothing is copied.
// CHECK-LABEL: func.func @layer(
// CHECK-SAME:    %[[X:.*]]: memref<?x16xf32>, %[[W1:.*]]: memref<8x64x16xf32>, %[[W2:.*]]: memref<8x16x32xf32>, %[[L:.*]]: memref<?x8xf32>, %[[OUT:.*]]: memref<?x16xf32>, %[[H:.*]]: memref<?x64xf32>, %[[DW:.*]]: memref<8x64x16xf32>)
// CHECK-NOT:     memref.copy
// CHECK:         moe.route_rows %[[L]] : memref<?x8xf32> softmax score_then_topk outs(%[[G:.*]], %[[IDS:.*]] : memref<?x2xf32>, memref<?x2xi32>)
// CHECK:         moe.sort_slots ids(%[[IDS]] : memref<?x2xi32>) outs(%[[O:.*]], %[[P:.*]], %[[B:.*]], %[[E:.*]] : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>)
// CHECK:         %[[A:.*]] = moe.pack_assignment %[[O]], %[[P]], %[[B]], %[[E]]
// CHECK:         moe.grouped_matmul by %[[A]] {{.*}} pairs(%[[X]] from token, %[[W1]] out_in {{.*}} outs(%[[H]] : memref<?x64xf32> rows grouped)
// CHECK:         %[[ACT:.*]] = memref.alloc(%{{.*}}) {{.*}} : memref<?x32xf32>
// CHECK:         moe.map_rows grouped by %[[A]] {{.*}} ins(%[[H]] : memref<?x64xf32> rows grouped concat 2) outs(%[[ACT]] : memref<?x32xf32> rows grouped)
// CHECK:         %[[Y:.*]] = memref.alloc(%{{.*}}) {{.*}} : memref<?x16xf32>
// CHECK:         moe.grouped_matmul by %[[A]] {{.*}} pairs(%[[ACT]] from grouped, %[[W2]] out_in {{.*}} outs(%[[Y]] : memref<?x16xf32> rows grouped)
// CHECK:         moe.combine_rows by %[[A]] {{.*}} ins(%[[Y]] : memref<?x16xf32> rows grouped, %[[G]] : memref<?x2xf32> scalar slot) outs(%[[OUT]] : memref<?x16xf32> rows token)
// CHECK:         moe.grouped_outer by %[[A]] {{.*}} accumulate outs(%[[DW]] : memref<8x64x16xf32>)
// CHECK-NOT:     memref.copy
// CHECK:         return
func.func @layer(%x: tensor<?x16xf32> {bufferization.writable = false},
                 %w: tensor<8x64x16xf32> {bufferization.writable = false},
                 %w2: tensor<8x16x32xf32> {bufferization.writable = false},
                 %logits: tensor<?x8xf32> {bufferization.writable = false},
                 %out: memref<?x16xf32>, %hout: memref<?x64xf32>,
                 %dwout: memref<8x64x16xf32>) {
  %acc = bufferization.to_tensor %dwout restrict writable
      : memref<8x64x16xf32> to tensor<8x64x16xf32>
  %g, %ids = moe.route %logits softmax score_then_topk
      : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %h = moe.parallel_linear %x, %w by %a from token to grouped out_in
      : tensor<?x16xf32>, tensor<8x64x16xf32>, !moe.assignment<?x2, 8>
      -> tensor<?x64xf32>
  %act = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%h : tensor<?x64xf32> rows concat 2) outs(tensor<?x32xf32> rows) {
  ^bb0(%gate: f32, %up: f32):
    %m = arith.mulf %gate, %up : f32
    moe.yield %m : f32
  }
  %y = moe.parallel_linear %act, %w2 by %a from grouped to grouped out_in
      : tensor<?x32xf32>, tensor<8x16x32xf32>, !moe.assignment<?x2, 8>
      -> tensor<?x16xf32>
  %o = moe.combine %y from grouped by %a gates(%g : tensor<?x2xf32>)
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %dw = moe.weight_grad %x from token, %h from grouped by %a out_in
      accumulate(%acc : tensor<8x64x16xf32>)
      : tensor<?x16xf32>, tensor<?x64xf32>, !moe.assignment<?x2, 8>
      -> tensor<8x64x16xf32>
  bufferization.materialize_in_destination %o in restrict writable %out
      : (tensor<?x16xf32>, memref<?x16xf32>) -> ()
  bufferization.materialize_in_destination %h in restrict writable %hout
      : (tensor<?x64xf32>, memref<?x64xf32>) -> ()
  bufferization.materialize_in_destination %dw in restrict writable %dwout
      : (tensor<8x64x16xf32>, memref<8x64x16xf32>) -> ()
  return
}

// -----

// Accumulating into a buffer that may not be written copies it first.
// CHECK-LABEL: func.func @accumulate_into_input(
// CHECK-SAME:    %[[X:.*]]: memref<?x16xf32>, %[[BUF:.*]]: memref<8x16xf32>, %{{.*}}: memref<?xi32>
// CHECK:         memref.copy %[[BUF]]
// CHECK:         moe.reduce_experts {{.*}} accumulate
func.func @accumulate_into_input(
    %x: tensor<?x16xf32> {bufferization.writable = false},
    %buf: tensor<8x16xf32> {bufferization.writable = false},
    %a: !moe.assignment<?x2, 8>, %out: memref<8x16xf32>) {
  %s = moe.reduce_experts by %a : !moe.assignment<?x2, 8> accumulate
      ins(%x : tensor<?x16xf32> rows grouped)
      outs(%buf : tensor<8x16xf32> expert) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  bufferization.materialize_in_destination %s in restrict writable %out
      : (tensor<8x16xf32>, memref<8x16xf32>) -> ()
  return
}

// -----

// The rest of the kernels.
// CHECK-LABEL: func.func @others(
// CHECK-NOT:     memref.copy
// CHECK:         moe.fold_partials {{.*}} outs(%{{.*}} : memref<?x2xf32>)
// CHECK:         moe.route_grad_rows {{.*}} outs(%{{.*}} : memref<?x8xf32>)
// CHECK-NOT:     memref.copy
func.func @others(%l: tensor<?x8xf32> {bufferization.writable = false},
                  %ids: tensor<?x2xi32> {bufferization.writable = false},
                  %p: tensor<?x2xf32> {bufferization.writable = false},
                  %a: !moe.assignment<?x2, 8>, %out: memref<?x8xf32>) {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %ids, %c0 : tensor<?x2xi32>
  %init = tensor.empty(%t) : tensor<?x2xf32>
  %dg = moe.fold_partials %p : tensor<?x2xf32> by %a : !moe.assignment<?x2, 8>
      to slot outs(%init : tensor<?x2xf32>)
  %dl = moe.route_grad %l, %ids, %dg softmax score_then_topk {normalize}
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x8xf32>
  bufferization.materialize_in_destination %dl in restrict writable %out
      : (tensor<?x8xf32>, memref<?x8xf32>) -> ()
  return
}
