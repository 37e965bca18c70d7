// RUN: moe-opt %s --moe-partition --split-input-file --verify-diagnostics
// RUN: not moe-opt %S/partition.mlir --moe-differentiate=wrt=0,1 --moe-partition=split-weights=2 --split-input-file 2>&1 | FileCheck %s --check-prefix=NOGRAD
// RUN: not moe-opt %s --moe-partition=policy=some 2>&1 | FileCheck %s --check-prefix=POLICY
// RUN: not moe-opt %s --moe-partition="policy=save-all budget-bytes=1" 2>&1 | FileCheck %s --check-prefix=BUDGET
// RUN: not moe-opt %s --moe-partition=tokens=0 2>&1 | FileCheck %s --check-prefix=TOKENS
// RUN: not moe-opt %S/partition.mlir --moe-differentiate=wrt=0 --moe-partition=split-weights=w --split-input-file 2>&1 | FileCheck %s --check-prefix=SPLIT
// RUN: moe-opt %S/partition.mlir --moe-differentiate=wrt=0,1 --moe-partition=budget-bytes=1 --split-input-file 2>&1 | FileCheck %s --check-prefix=WARNING

// WARNING: warning: saves 65600 bytes, more than budget-bytes=1; computing more products again saves nothing: give it as much
// NOGRAD: split-weights names argument '2', whose gradient was not asked for in wrt
// SPLIT: split-weights names 'w', which is no argument's moe.name or number
// POLICY: policy some is none of save-all, recompute-elementwise, recompute-all
// BUDGET: budget-bytes goes with policy=recompute-elementwise, got save-all
// TOKENS: wants tokens >= 1, got 0

// expected-error @below {{has no joint function; run moe-differentiate before}}
module {
  func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
    return %x : tensor<4xf32>
  }
}

// -----

module {
  // expected-error @below {{has a moe.joint that does not fit it; run moe-differentiate again}}
  func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> attributes {
      moe.joint = {arguments = 2 : i64, results = 1 : i64, primal = "g", cotangents = array<i64>, wrt = array<i64: 0>}} {
    return %x : tensor<4xf32>
  }
}

// -----

module {
  func.func @g(%x: tensor<4xf32>) -> tensor<4xf32> {
    %y = func.call @f(%x) : (tensor<4xf32>) -> tensor<4xf32>
    return %y : tensor<4xf32>
  }
  func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
    return %x : tensor<4xf32>
  }
  // expected-error @below {{@f is called elsewhere, and forward takes its place; run inline before}}
  func.func @f_joint(%x: tensor<4xf32>, %d: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) attributes {
      moe.joint = {arguments = 1 : i64, results = 1 : i64, primal = "f", cotangents = array<i64: 0>, wrt = array<i64: 0>}} {
    return %x, %d : tensor<4xf32>, tensor<4xf32>
  }
}

// -----

module {
  func.func @f_backward(%x: tensor<4xf32>) -> tensor<4xf32> {
    return %x : tensor<4xf32>
  }
  // expected-error @below {{@f_backward exists already; rename it first}}
  func.func @f_joint(%x: tensor<4xf32>, %d: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) attributes {
      moe.joint = {arguments = 1 : i64, results = 1 : i64, primal = "f", cotangents = array<i64: 0>, wrt = array<i64: 0>}} {
    return %x, %d : tensor<4xf32>, tensor<4xf32>
  }
}

// -----

module {
  func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
    return %x : tensor<4xf32>
  }
  // expected-error @below {{@f_joint has a result that depends on a cotangent, and forward has none; run moe-differentiate again}}
  func.func @f_joint(%x: tensor<4xf32>, %d: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) attributes {
      moe.joint = {arguments = 1 : i64, results = 1 : i64, primal = "f", cotangents = array<i64: 0>, wrt = array<i64: 0>}} {
    %y = arith.addf %x, %d : tensor<4xf32>
    return %y, %d : tensor<4xf32>, tensor<4xf32>
  }
}
