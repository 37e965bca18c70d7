// RUN: moe-opt %s --moe-differentiate="wrt=w" | FileCheck %s
// RUN: moe-opt %s --moe-differentiate="entry=query wrt=2,x" | FileCheck %s --check-prefix=ORDER
// RUN: moe-opt %s --moe-differentiate | FileCheck %s --check-prefix=ALL
// RUN: not moe-opt %s --moe-differentiate="wrt=w,v" 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not moe-opt %s --moe-differentiate="wrt=x,0" 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: not moe-opt %s --moe-differentiate="entry=nobody" 2>&1 | FileCheck %s --check-prefix=NOBODY

// Arguments are named by moe.name or number; a function without one of them
// stays as it is.
// CHECK-LABEL: func.func @query_joint(
// CHECK-SAME:    cotangents = array<i64: 0>, primal = "query", results = 1 : i64, wrt = array<i64: 1>
// CHECK-NOT:   func.func @output_joint(
// ORDER-LABEL: func.func @query_joint(
// ORDER-SAME:    wrt = array<i64: 2, 0>
// ALL:         func.func @query_joint(
// ALL-SAME:      wrt = array<i64: 0, 1, 2>
// ALL:         func.func @output_joint(
// ALL-NOT:     func.func @counts_joint(
// UNKNOWN:     wrt names 'v', which is no argument's moe.name or number; @query has x, w, arg2; @output has x; @counts has arg0
// TWICE:       wrt names argument '0' twice
// NOBODY:      has no function @nobody with a body to differentiate
func.func @query(%x: tensor<4xf32> {moe.name = "x"}, %w: tensor<4xf32> {moe.name = "w"},
                 %b: tensor<4xf32>) -> tensor<4xf32> {
  %p = arith.mulf %x, %w : tensor<4xf32>
  %y = arith.addf %p, %b : tensor<4xf32>
  return %y : tensor<4xf32>
}
func.func @output(%x: tensor<4xf32> {moe.name = "x"}) -> tensor<4xf32> {
  %y = arith.mulf %x, %x : tensor<4xf32>
  return %y : tensor<4xf32>
}
func.func @counts(%x: tensor<4xi32>) -> tensor<4xi32> {
  return %x : tensor<4xi32>
}
