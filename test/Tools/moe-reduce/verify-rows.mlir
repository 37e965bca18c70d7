// A module in which rows of two assignments are mixed, among much that is right.
// The script finds it interesting while moe-verify-rows refuses it for that.
// RUN: split-file %s %t
// RUN: chmod +x %t/interesting
// RUN: not moe-opt %t/found.mlir --moe-verify-rows 2>&1 | FileCheck %s --check-prefix=FOUND
// RUN: moe-reduce %t/found.mlir --reduction-tree="traversal-mode=0 test=%t/interesting" -o %t/reduced.mlir
// RUN: not moe-opt %t/reduced.mlir --moe-verify-rows 2>&1 | FileCheck %s --check-prefix=FOUND
// RUN: FileCheck %s --input-file %t/reduced.mlir

// FOUND: reads rows grouped by another assignment

// CHECK-NOT: @swiglu
// CHECK-NOT: moe.route
// CHECK-COUNT-2: moe.assign
// CHECK: moe.group
// CHECK: moe.combine
// CHECK-NOT: @linear

//--- interesting
#!/bin/sh
# 1 says interesting.
! moe-opt "$1" --moe-verify-rows 2>&1 | grep -q 'grouped by another assignment'

//--- found.mlir
func.func @swiglu(%h: tensor<?x64xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x32xf32> {
  %y = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%h : tensor<?x64xf32> rows concat 2) outs(tensor<?x32xf32> rows) {
  ^bb0(%gate: f32, %up: f32):
    %out = arith.mulf %gate, %up : f32
    moe.yield %out : f32
  }
  return %y : tensor<?x32xf32>
}

func.func @route(%logits: tensor<?x8xf32>) -> (tensor<?x2xf32>, tensor<?x2xi32>) {
  %gates, %ids = moe.route %logits softmax score_then_topk {normalize}
      : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return %gates, %ids : tensor<?x2xf32>, tensor<?x2xi32>
}

func.func @mixed(%x: tensor<?x16xf32>, %i: tensor<?x2xi32>, %j: tensor<?x2xi32>) -> tensor<?x16xf32> {
  %a = moe.assign ids(%i : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %b = moe.assign ids(%j : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %g = moe.group %x from token by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %y = moe.combine %g from grouped by %b
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

func.func @linear(%x: tensor<?x16xf32>, %w: tensor<8x16x16xf32>, %a: !moe.assignment<?x2, 8>)
    -> tensor<?x16xf32> {
  %s = moe.parallel_linear %x, %w by %a from token to slot out_in
      : tensor<?x16xf32>, tensor<8x16x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %s : tensor<?x16xf32>
}
