// RUN: moe-opt %s -split-input-file -verify-diagnostics

// One test for each numbered constraint of level 2.

func.func @sort(%i: tensor<4x2xi32>, %n: tensor<8xi32>, %s: tensor<8xi32>) {
  // expected-error@+1 {{wants exactly one of ids and counts}}
  %o:4 = moe.sort_slots ids(%i : tensor<4x2xi32>) counts(%n : tensor<8xi32>) outs(%s, %s, %s, %s : tensor<8xi32>, tensor<8xi32>, tensor<8xi32>, tensor<8xi32>)
  return
}

// -----

func.func @sort(%i: tensor<4x2xi32>, %s: tensor<8xi32>) {
  // expected-error@+1 {{wants 4 outs, got 3}}
  %o:3 = moe.sort_slots ids(%i : tensor<4x2xi32>) outs(%s, %s, %s : tensor<8xi32>, tensor<8xi32>, tensor<8xi32>)
  return
}

// -----

func.func @sort(%i: tensor<4x2xi32>, %s: tensor<8xi64>) {
  // expected-error@+1 {{wants outs of rank 1 and i32, got 'tensor<8xi64>'}}
  %o:4 = moe.sort_slots ids(%i : tensor<4x2xi32>) outs(%s, %s, %s, %s : tensor<8xi64>, tensor<8xi64>, tensor<8xi64>, tensor<8xi64>)
  return
}

// -----

func.func @route(%l: tensor<?x8xf32>, %g: tensor<?x2xf32>) {
  // expected-error@+1 {{wants 2 outs, got 1}}
  %o = moe.route_rows %l : tensor<?x8xf32> softmax score_then_topk outs(%g : tensor<?x2xf32>)
  return
}

// -----

func.func @route_grad(%l: tensor<?x8xf32>, %i: tensor<?x2xi32>, %g: tensor<?x2xf32>) {
  // expected-error@+1 {{wants d_logits to be (?, 8), got 'tensor<?x2xf32>'}}
  %o = moe.route_grad_rows %l, %i, %g : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32> softmax score_then_topk outs(%g : tensor<?x2xf32>)
  return
}

// -----

func.func @pairs(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>, %o: tensor<?x32xf32>) {
  // expected-error@+1 {{wants one or two pairs of lhs and rhs}}
  %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs() columns <single 1> ins() outs(%o : tensor<?x32xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @rhs(%x: tensor<?x16xf32>, %w: tensor<8x16x32xf32>, %a: !moe.assignment<?x2, 8>, %o: tensor<?x32xf32>) {
  // expected-error@+1 {{wants rhs to be (8, 16, 16), got 'tensor<8x16x32xf32>'}}
  %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x16x32xf32>) columns <single 1> ins() outs(%o : tensor<?x32xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @columns(%x: tensor<?x16xf32>, %w: tensor<8x33x16xf32>, %a: !moe.assignment<?x2, 8>, %o: tensor<?x32xf32>) {
  // expected-error@+1 {{wants the 33 accumulator columns to be a multiple of 2}}
  %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x33x16xf32>) columns <concat 2> ins() outs(%o : tensor<?x32xf32> rows grouped) {
  ^bb0(%v: f32, %u: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @columns(%x: tensor<?x16xf32>, %w: tensor<8x32x16xf32>, %a: !moe.assignment<?x2, 8>, %o: tensor<?x32xf32>) {
  // expected-error@+1 {{wants columns <single 1>, or c >= 2 of concat or interleave, got #moe.columns<single 2>}}
  %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x32x16xf32>) columns <single 2> ins() outs(%o : tensor<?x32xf32> rows grouped) {
  ^bb0(%v: f32, %u: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @out_port(%x: tensor<?x16xf32>, %w: tensor<8x32x16xf32>, %a: !moe.assignment<?x2, 8>, %o: tensor<?x32xf32>) {
  // expected-error@+1 {{out #0 cannot be #moe.port<rows token>; outs are rows, sum or partials in slot or grouped order}}
  %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x32x16xf32>) columns <single 1> ins() outs(%o : tensor<?x32xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @out_width(%x: tensor<?x16xf32>, %w: tensor<8x32x16xf32>, %a: !moe.assignment<?x2, 8>, %o: tensor<?x16xf32>) {
  // expected-error@+1 {{wants out #0 to be (?, 32), got 'tensor<?x16xf32>'}}
  %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x32x16xf32>) columns <single 1> ins() outs(%o : tensor<?x16xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @partials(%x: tensor<?x16xf32>, %w: tensor<8x256x16xf32>, %a: !moe.assignment<?x2, 8>, %o: tensor<?x3xf32>) {
  // expected-error@+1 {{wants out #0 to be (?, 2), got 'tensor<?x3xf32>'}}
  %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x256x16xf32>) columns <single 1> ins() outs(%o : tensor<?x3xf32> partials grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @region(%x: tensor<?x16xf32>, %w: tensor<8x32x16xf32>, %a: !moe.assignment<?x2, 8>, %o: tensor<?x16xf32>) {
  // expected-error@+1 {{wants 2 region arguments for its ports, got 1}}
  %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x32x16xf32>) columns <concat 2> ins() outs(%o : tensor<?x16xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @outer(%x: tensor<?x16xf32>, %dy: tensor<?x32xf32>, %a: !moe.assignment<?x2, 8>, %o: tensor<8x16x32xf32>) {
  // expected-error@+1 {{wants the out to be (8, 32, 16), got 'tensor<8x16x32xf32>'}}
  %y = moe.grouped_outer by %a : !moe.assignment<?x2, 8> x(%x from token : tensor<?x16xf32>) dy(%dy from grouped : tensor<?x32xf32>) out_in outs(%o : tensor<8x16x32xf32>)
  return
}

// -----

func.func @map_order(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{wants an assignment in slot and grouped order}}
  %y = moe.map_rows grouped ins(%x : tensor<?x16xf32> rows token) outs(%x : tensor<?x16xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @map_token(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{out #0 cannot be #moe.port<rows token>; outs are rows, scalar, sum or partials, and only in token order of token rows}}
  %y = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows token) outs(%x : tensor<?x16xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @map_scalar(%x: tensor<?x16xf32>, %s: tensor<?xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{out #0 cannot be a scalar beside ports with columns; sum over them with a sum port}}
  %y = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows token) outs(%s : tensor<?xf32> scalar grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @map_sum(%s: tensor<?xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{out #0 cannot be a sum without ports with columns}}
  %y = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%s : tensor<?xf32> scalar grouped) outs(%s : tensor<?xf32> sum grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @map_in(%x: tensor<?x16xf32>, %s: tensor<?xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{operand #1 cannot be a sum; a row sum that is read is a scalar, or partials}}
  %y = moe.map_rows grouped by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows token, %s : tensor<?xf32> sum grouped) outs(%x : tensor<?x16xf32> rows grouped) {
  ^bb0(%v: f32, %u: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @map_ports(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{wants every port in token order, got #moe.port<rows slot>}}
  %y = moe.map_rows token ins(%x : tensor<?x16xf32> rows slot) outs(%x : tensor<?x16xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @combine_out(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{out #0 cannot be #moe.port<rows grouped>; outs are rows in token order, then a slot scalar for each fold}}
  %y = moe.combine_rows by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows grouped) outs(%x : tensor<?x16xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @combine_folds(%x: tensor<?x16xf32>, %p: tensor<?x1xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{out #0 cannot be #moe.port<rows token>; outs are rows in token order, then a slot scalar for each fold}}
  %y = moe.combine_rows by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows grouped) folds(%p : tensor<?x1xf32>) outs(%x : tensor<?x16xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @combine_addend(%x: tensor<8x16xf32>, %o: tensor<4x16xf32>, %z: tensor<3x16xf32>, %a: !moe.assignment<4x2, 8>) {
  // expected-error@+1 {{wants an addend to be (4, 16), got 'tensor<3x16xf32>'}}
  %y = moe.combine_rows by %a : !moe.assignment<4x2, 8> ins(%x : tensor<8x16xf32> rows grouped) addends(%z : tensor<3x16xf32>) outs(%o : tensor<4x16xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @reduce(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{out #0 cannot be #moe.port<rows grouped>; outs are expert ports}}
  %y = moe.reduce_experts by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows grouped) outs(%x : tensor<?x16xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @fold(%p: tensor<?x2xf32>, %o: tensor<?xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{folds to slot or grouped order, not to token}}
  %y = moe.fold_partials %p : tensor<?x2xf32> by %a : !moe.assignment<?x2, 8> to token outs(%o : tensor<?xf32>)
  return
}

// -----

func.func @fold(%p: tensor<?x2xf32>, %o: tensor<?xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants the out to be (?, 2), got 'tensor<?xf32>'}}
  %y = moe.fold_partials %p : tensor<?x2xf32> by %a : !moe.assignment<?x2, 8> to slot outs(%o : tensor<?xf32>)
  return
}
