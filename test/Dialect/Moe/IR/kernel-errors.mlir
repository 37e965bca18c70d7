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
  // expected-error@+1 {{wants at least one pair of lhs and rhs}}
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

// -----

func.func @sort_capacity(%i: tensor<4x2xi32>, %s: tensor<8xi32>) {
  // expected-error@+1 {{takes a capacity with counts, not with ids}}
  %o:4 = moe.sort_slots ids(%i : tensor<4x2xi32>) capacity 4 outs(%s, %s, %s, %s : tensor<8xi32>, tensor<8xi32>, tensor<8xi32>, tensor<8xi32>)
  return
}

// -----

func.func @sort_ids(%i: tensor<4x?xi32>, %s: tensor<8xi32>) {
  // expected-error@+1 {{wants ids to be (T, K) with a static K, got 'tensor<4x?xi32>'}}
  %o:4 = moe.sort_slots ids(%i : tensor<4x?xi32>) outs(%s, %s, %s, %s : tensor<8xi32>, tensor<8xi32>, tensor<8xi32>, tensor<8xi32>)
  return
}

// -----

func.func @route_shapes(%l: tensor<?xf32>, %g: tensor<?x2xf32>, %i: tensor<?x2xi32>) {
  // expected-error@+1 {{wants logits (T, E) and gates (T, K), got 'tensor<?xf32>' and 'tensor<?x2xf32>'}}
  %o:2 = moe.route_rows %l : tensor<?xf32> softmax score_then_topk outs(%g, %i : tensor<?x2xf32>, tensor<?x2xi32>)
  return
}

// -----

func.func @route_grad_shapes(%l: tensor<?x8xf32>, %i: tensor<?x2xi32>, %g: tensor<?xf32>) {
  // expected-error@+1 {{wants logits (T, E) and d_gates (T, K), got 'tensor<?x8xf32>' and 'tensor<?xf32>'}}
  %o = moe.route_grad_rows %l, %i, %g : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?xf32> softmax score_then_topk outs(%l : tensor<?x8xf32>)
  return
}

// -----

func.func @rhs_rank(%x: tensor<?x16xf32>, %w: tensor<32x16xf32>, %a: !moe.assignment<?x2, 8>, %o: tensor<?x32xf32>) {
  // expected-error@+1 {{wants rhs to be (E, out, in) or (E, in, out), static, got 'tensor<32x16xf32>'}}
  %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<32x16xf32>) columns <single 1> ins() outs(%o : tensor<?x32xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @rhs_type(%x: tensor<?x16xf32>, %w: tensor<8x32x16xbf16>, %a: !moe.assignment<?x2, 8>, %o: tensor<?x32xf32>) {
  // expected-error@+1 {{wants lhs and rhs of one element type, got 'tensor<?x16xf32>' and 'tensor<8x32x16xbf16>'}}
  %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x16xf32>, tensor<8x32x16xbf16>) columns <single 1> ins() outs(%o : tensor<?x32xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @lhs_rank(%x: tensor<?x?xf32>, %w: tensor<8x32x16xf32>, %a: !moe.assignment<?x2, 8>, %o: tensor<?x32xf32>) {
  // expected-error@+1 {{wants lhs to be rows of a static width, got 'tensor<?x?xf32>'}}
  %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out_in : tensor<?x?xf32>, tensor<8x32x16xf32>) columns <single 1> ins() outs(%o : tensor<?x32xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @pair_order(%x: tensor<?x16xf32>, %w: tensor<8x32x16xf32>, %a: !moe.assignment<?x2, 8>, %o: tensor<?x32xf32>) {
  // expected-error@+1 {{expected token, slot or grouped, got 'tokens'}}
  %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from tokens, %w out_in : tensor<?x16xf32>, tensor<8x32x16xf32>) columns <single 1> ins() outs(%o : tensor<?x32xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @pair_layout(%x: tensor<?x16xf32>, %w: tensor<8x32x16xf32>, %a: !moe.assignment<?x2, 8>, %o: tensor<?x32xf32>) {
  // expected-error@+1 {{expected out_in or in_out, got 'out'}}
  %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8> pairs(%x from token, %w out : tensor<?x16xf32>, tensor<8x32x16xf32>) columns <single 1> ins() outs(%o : tensor<?x32xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @port_kind(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{expected a port (rows, scalar, expert, sum or partials), got 'row'}}
  %y = moe.map_rows token ins(%x : tensor<?x16xf32> row token) outs(%x : tensor<?x16xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @port_order(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{expected a row order (token, slot or grouped), got 'tokens'}}
  %y = moe.map_rows token ins(%x : tensor<?x16xf32> rows tokens) outs(%x : tensor<?x16xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @yielded(%x: tensor<?x16xbf16>) {
  // expected-error@+1 {{wants yielded value #0 to be 'f32', got 'bf16'}}
  %y = moe.map_rows token ins(%x : tensor<?x16xbf16> rows token) outs(%x : tensor<?x16xbf16> rows token) {
  ^bb0(%v: f32):
    %h = arith.truncf %v : f32 to bf16
    moe.yield %h : bf16
  }
  return
}

// -----

func.func @combine_addends(%x: tensor<?x16xf32>, %o: tensor<4x16xf32>, %a: !moe.assignment<4x2, 8>) {
  // expected-error@+1 {{wants an addend for each of the 1 sums or none, got 2}}
  %y = moe.combine_rows by %a : !moe.assignment<4x2, 8> ins(%x : tensor<?x16xf32> rows grouped) addends(%o, %o : tensor<4x16xf32>, tensor<4x16xf32>) outs(%o : tensor<4x16xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @outer_types(%x: tensor<?x16xf32>, %dy: tensor<?x32xbf16>, %a: !moe.assignment<?x2, 8>, %o: tensor<8x32x16xf32>) {
  // expected-error@+1 {{wants x and dy of one element type, got 'tensor<?x16xf32>' and 'tensor<?x32xbf16>'}}
  %y = moe.grouped_outer by %a : !moe.assignment<?x2, 8> x(%x from token : tensor<?x16xf32>) dy(%dy from grouped : tensor<?x32xbf16>) out_in outs(%o : tensor<8x32x16xf32>)
  return
}

// -----

func.func @combine_partials(%x: tensor<?x16xf32>, %p: tensor<7x1xf32>, %s: tensor<4x2xf32>, %o: tensor<4x16xf32>, %a: !moe.assignment<4x2, 8>) {
  // expected-error@+1 {{wants partials to fold to have 8 rows in grouped order by '!moe.assignment<4x2, 8>', got 'tensor<7x1xf32>'}}
  %y:2 = moe.combine_rows by %a : !moe.assignment<4x2, 8> ins(%x : tensor<?x16xf32> rows grouped) folds(%p : tensor<7x1xf32>) outs(%o : tensor<4x16xf32> rows token, %s : tensor<4x2xf32> scalar slot) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// Without an out, which only generic syntax can write.
func.func @combine_no_out(%x: tensor<?x16xf32>, %p: tensor<?x1xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants an out for each of its 1 folds, got 0}}
  "moe.combine_rows"(%a, %x, %p) <{in_ports = [#moe.port<rows grouped>], operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>, out_ports = []}> ({
  ^bb0(%v: f32):
    moe.yield %v : f32
  }) : (!moe.assignment<?x2, 8>, tensor<?x16xf32>, tensor<?x1xf32>) -> ()
  return
}

// -----

func.func @map_ports_of_ins(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{has 1 operands and 0 ports for them}}
  %y = "moe.map_rows"(%x, %x) <{in_ports = [], operandSegmentSizes = array<i32: 0, 1, 1>, order = #moe<order token>, out_ports = [#moe.port<rows token>]}> ({
  ^bb0(%v: f32):
    moe.yield %v : f32
  }) : (tensor<?x16xf32>, tensor<?x16xf32>) -> tensor<?x16xf32>
  return
}
