// RUN: moe-opt %s --moe-verify-rows --split-input-file --verify-diagnostics
// Level 2 says the same of the same mistakes.
// RUN: not moe-opt %s --split-input-file --moe-expand-assignment --moe-form-kernels --moe-verify-rows 2>&1 | FileCheck %s
// CHECK: 'moe.combine_rows' op reads rows grouped by another assignment

func.func @two_assignments(%x: tensor<?x16xf32>, %i: tensor<?x2xi32>,
                           %j: tensor<?x2xi32>) -> tensor<?x16xf32> {
  %a = moe.assign ids(%i : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  // expected-note@above {{this is their assignment}}
  %b = moe.assign ids(%j : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  // expected-note@below {{the rows are made here}}
  %g = moe.group %x from token by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  // expected-error@below {{reads rows grouped by another assignment; scatter them by theirs and group them by this one}}
  %y = moe.combine %g from grouped by %b
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// -----

func.func @two_orders(%x: tensor<?x16xf32>, %w: tensor<8x16x16xf32>,
                      %a: !moe.assignment<?x2, 8>) -> tensor<?x16xf32> {
  // expected-note@below {{the rows are made here}}
  %s = moe.parallel_linear %x, %w by %a from token to slot out_in
      : tensor<?x16xf32>, tensor<8x16x16xf32>, !moe.assignment<?x2, 8>
      -> tensor<?x16xf32>
  // expected-error@below {{reads rows in grouped order, got rows in slot order; move them with moe.group or moe.scatter}}
  %y = moe.combine %s from grouped by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// -----

// Elementwise math keeps rows where they are, and mixes none.
func.func @elementwise(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>,
                       %b: !moe.assignment<?x2, 8>)
    -> (tensor<?x16xf32>, tensor<?x16xf32>) {
  // expected-note@-3 {{this is their assignment}}
  // expected-note@-3 {{this is their assignment}}
  %g = moe.group %x from token by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  // expected-note@below {{the rows are made here}}
  %h = moe.group %x from token by %b
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  // expected-error@below {{reads rows grouped by another assignment}}
  %m = arith.addf %g, %h : tensor<?x16xf32>
  // expected-note@below {{the rows are made here}}
  %n = arith.negf %g : tensor<?x16xf32>
  // expected-error@below {{reads rows grouped by another assignment}}
  %y = moe.scatter %n by %b
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %y, %m : tensor<?x16xf32>, tensor<?x16xf32>
}

// -----

// Rows from outside are in one order.
func.func @argument(%g: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>)
    -> (tensor<?x16xf32>, tensor<8x16xf32>) {
  %y = moe.combine %g from grouped by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  // expected-error@below {{reads rows in slot order, got rows in grouped order}}
  %s = moe.expert_sum %g from slot by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<8x16xf32>
  return %y, %s : tensor<?x16xf32>, tensor<8x16xf32>
}

// -----

// All of this is sound.
func.func @sound(%x: tensor<?x16xf32>, %ids: tensor<?x2xi32>,
                 %one: tensor<?x1xi32>, %n: tensor<8xi32>, %t: index)
    -> (tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x16xf32>) {
  // One assignment under two names.
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %b = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %g = moe.group %x from token by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %m = arith.addf %g, %g : tensor<?x16xf32>
  %y = moe.combine %m from grouped by %b
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  // With K = 1 slots are tokens.
  %k = moe.assign ids(%one : tensor<?x1xi32>) : !moe.assignment<?x1, 8>
  %h = moe.group %y from slot by %k
      : tensor<?x16xf32>, !moe.assignment<?x1, 8> -> tensor<?x16xf32>
  %s = moe.scatter %h by %k
      : tensor<?x16xf32>, !moe.assignment<?x1, 8> -> tensor<?x16xf32>
  %r = moe.group %s from token by %k
      : tensor<?x16xf32>, !moe.assignment<?x1, 8> -> tensor<?x16xf32>
  // Rows that came grouped are in every order.
  %c = moe.assign counts(%n : tensor<8xi32>) rows(%t)
      : !moe.assignment<?x1, 8>
  %p = moe.combine %x from grouped by %c
      : tensor<?x16xf32>, !moe.assignment<?x1, 8> -> tensor<?x16xf32>
  %q = moe.combine %p from grouped by %c
      : tensor<?x16xf32>, !moe.assignment<?x1, 8> -> tensor<?x16xf32>
  // Without an assignment a rowwise op keeps rows as they are.
  %u = moe.rowwise slot ins(%x : tensor<?x16xf32> rows)
      outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %z = arith.addf %u, %x : tensor<?x16xf32>
  return %y, %r, %z : tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x16xf32>
}

// -----

// Grouped rows stay grouped through a rowwise op that has no assignment.
func.func @kept(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>,
                %b: !moe.assignment<?x2, 8>) -> tensor<?x16xf32> {
  // expected-note@-2 {{this is their assignment}}
  %g = moe.group %x from token by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  // expected-note@below {{the rows are made here}}
  %u = moe.rowwise slot ins(%g : tensor<?x16xf32> rows)
      outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  // expected-error@below {{reads rows grouped by another assignment}}
  %y = moe.scatter %u by %b
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}
