// RUN: moe-opt %s --moe-partition --split-input-file --verify-diagnostics
// RUN: not moe-opt %s --moe-partition=policy=some 2>&1 | FileCheck %s --check-prefix=POLICY
// RUN: not moe-opt %s --moe-partition="policy=save-all budget-bytes=1" 2>&1 | FileCheck %s --check-prefix=BUDGET
// RUN: not moe-opt %s --moe-partition=tokens=0 2>&1 | FileCheck %s --check-prefix=TOKENS

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
      moe.joint = {arguments = 2 : i64, results = 1 : i64, primal = "g", wrt = array<i64: 0>}} {
    return %x : tensor<4xf32>
  }
}
