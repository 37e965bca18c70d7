// RUN: moe-opt %s -split-input-file -verify-diagnostics

// One test for each numbered constraint of level 1, and for types and
// attributes.

// expected-error@+1 {{an assignment is <TxK, E>, as in <?x2, 8>: T may be dynamic, K not}}
func.func private @type_k(!moe.assignment<4x?, 8>)

// -----

// expected-error@+1 {{an assignment has at least one expert and one choice a token, got K = 0 and E = 8}}
func.func private @type_zero(!moe.assignment<4x0, 8>)

// -----

// expected-error@+1 {{T * K must be below 2^31, got T = 2000000000 and K = 2}}
func.func private @type_large(!moe.assignment<2000000000x2, 8>)

// -----

// expected-error@+1 {{unknown port kind 'row'}}
func.func private @port() attributes {p = #moe.port<row token>}

// -----

// expected-error@+1 {{concat wants at least 2 values a column, got 1}}
func.func private @port() attributes {p = #moe.port<rows token concat 1>}

// -----

// expected-error@+1 {{a scalar port has no columns to concat}}
func.func private @port() attributes {p = #moe.port<scalar token concat 2>}

// -----

// expected-error@+1 {{moe.dims wants one name or size for each dimension of 'tensor<?x4xf32>', got ["T"]}}
func.func private @dims(tensor<?x4xf32> {moe.dims = ["T"]})

// -----

// expected-error@+1 {{moe.dims says 5 where the type 'tensor<?x4xf32>' says 4}}
func.func private @dims(tensor<?x4xf32> {moe.dims = ["T", 5]})

// -----

// expected-error@+1 {{moe.dims wants names (strings) or sizes (integers), got 1.0}}
func.func private @dims(tensor<?x4xf32> {moe.dims = [1.0, 4]})

// -----

// expected-error@+1 {{unknown attribute moe.dim on a function argument or result; known are moe.dims, moe.name, moe.kind, moe.role, moe.inout}}
func.func private @dims(tensor<?x4xf32> {moe.dim = ["T", 4]})

// -----

// expected-error@+1 {{moe.name wants a string, got 3 : i64}}
func.func private @name(tensor<?x4xf32> {moe.name = 3})

// -----

// expected-error@+1 {{moe.config wants a #moe.config attribute, got 3 : i64}}
func.func private @config() attributes {moe.config = 3}

// -----

// expected-error@+1 {{unknown structure 'fast' of a kernel; known are simt, cooperative and resident}}
func.func private @structure() attributes {moe.config = #moe.config<fast>}

// -----

// expected-error@+1 {{a tile is rows x columns, as in 128x256}}
func.func private @tile() attributes {moe.config = #moe.config<cooperative tile 128>}

// -----

// expected-error@+1 {{a variant's numbers are at least 1, got 0}}
func.func private @stages() attributes {moe.config = #moe.config<cooperative stages 0>}

// -----

// expected-error@+1 {{a simt kernel has no stages, got 3}}
func.func private @simt() attributes {moe.config = #moe.config<simt stages 3>}

// -----

// expected-error@+1 {{a simt kernel has no parts, got 2}}
func.func private @simt_parts() attributes {moe.config = #moe.config<simt parts 2>}

// -----

// expected-error@+1 {{a reason is for simt, got "so" for cooperative}}
func.func private @reason() attributes {moe.config = #moe.config<cooperative "so">}

// -----

// expected-error@+1 {{the host knows no 'experts'; a guard is on rows or processors}}
func.func private @guard() attributes {moe.config = #moe.config<cooperative from 4 experts, simt>}

// -----

// expected-error@+1 {{a config has at least one variant}}
func.func private @none() attributes {moe.config = #moe.config<>}

// -----

// expected-error@+1 {{a variant without guard runs always, so that no other may follow it}}
func.func private @unguarded() attributes {moe.config = #moe.config<cooperative, simt>}

// -----

// expected-error@+1 {{the last variant runs where no other does, so it has no guard; got one on rows}}
func.func private @guarded() attributes {moe.config = #moe.config<simt from 64 rows>}

// -----

func.func @route_k(%l: tensor<?x8xf32>) {
  // expected-error@+1 {{wants 1 <= K <= E, got K = 9 and E = 8}}
  %g, %i = moe.route %l softmax score_then_topk : tensor<?x8xf32> -> tensor<?x9xf32>, tensor<?x9xi32>
  return
}

// -----

func.func @route_experts(%l: tensor<?x?xf32>) {
  // expected-error@+1 {{wants logits to have rank 2 and a static number of columns, got 'tensor<?x?xf32>'}}
  %g, %i = moe.route %l softmax score_then_topk : tensor<?x?xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return
}

// -----

func.func @route_ids(%l: tensor<?x8xf32>) {
  // expected-error@+1 {{wants ids to be (?, 2), got 'tensor<?x3xi32>'}}
  %g, %i = moe.route %l softmax score_then_topk : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x3xi32>
  return
}

// -----

func.func @route_bias(%l: tensor<?x8xf32>, %b: tensor<4xf32>) {
  // expected-error@+1 {{wants bias to be (8), got 'tensor<4xf32>'}}
  %g, %i = moe.route %l sigmoid score_then_topk bias(%b : tensor<4xf32>) : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return
}

// -----

func.func @route_mask(%l: tensor<16x8xf32>, %m: tensor<8xi1>) {
  // expected-error@+1 {{wants mask to be (16), got 'tensor<8xi1>'}}
  %g, %i = moe.route %l softmax score_then_topk mask(%m : tensor<8xi1>) : tensor<16x8xf32> -> tensor<16x2xf32>, tensor<16x2xi32>
  return
}

// -----

func.func @route_given(%l: tensor<?x8xf32>, %ids: tensor<?x2xi64>) {
  // expected-error@+1 {{wants given ids of the type of ids, got 'tensor<?x2xi64>' and 'tensor<?x2xi32>'}}
  %g, %i = moe.route %l softmax score_then_topk ids(%ids : tensor<?x2xi64>) : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return
}

// -----

func.func @route_groups(%l: tensor<?x8xf32>) {
  // expected-error@+1 {{wants groups to divide E = 8, got 3}}
  %g, %i = moe.route %l sigmoid score_then_topk {groups = 3} : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return
}

// -----

func.func @route_groups(%l: tensor<?x8xf32>) {
  // expected-error@+1 {{wants 1 <= topk_groups <= groups = 4, got 5}}
  %g, %i = moe.route %l sigmoid score_then_topk {groups = 4, topk_groups = 5} : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return
}

// -----

func.func @route_groups(%l: tensor<?x8xf32>) {
  // expected-error@+1 {{wants 1 <= group_top <= E / groups = 2, got 3}}
  %g, %i = moe.route %l sigmoid score_then_topk {groups = 4, topk_groups = 2, group_top = 3} : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return
}

// -----

func.func @route_groups(%l: tensor<?x8xf32>) {
  // expected-error@+1 {{wants K <= topk_groups * E / groups = 2, got K = 4}}
  %g, %i = moe.route %l sigmoid score_then_topk {groups = 4, topk_groups = 1} : tensor<?x8xf32> -> tensor<?x4xf32>, tensor<?x4xi32>
  return
}

// -----

func.func @route_scores(%l: tensor<?x8xf32>) {
  // expected-error@+1 {{wants scores to be (?, 8), got 'tensor<?x2xf32>'}}
  %g, %i, %s = moe.route %l softmax score_then_topk : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32> scores(tensor<?x2xf32>)
  return
}

// -----

func.func @route_eps(%l: tensor<?x8xf32>) {
  // expected-error@+1 {{wants eps >= 0, got -1}}
  %g, %i = moe.route %l softmax score_then_topk {normalize, eps = -1.0 : f64} : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return
}

// -----

func.func @route_scale(%l: tensor<?x8xf32>) {
  // expected-error@+1 {{wants a finite scale, got INF}}
  %g, %i = moe.route %l softmax score_then_topk {scale = 0x7FF0000000000000 : f64} : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return
}

// -----

func.func @route_capacity(%l: tensor<?x8xf32>) {
  // expected-error@+1 {{wants capacity >= 1, got 0}}
  %g, %i = moe.route %l softmax score_then_topk {capacity = 0} : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return
}

// -----

func.func @route_identity(%l: tensor<?x8xf32>) {
  // expected-error@+1 {{wants a score other than identity with normalize}}
  %g, %i = moe.route %l identity score_then_topk {normalize} : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return
}

// -----

func.func @route_grad(%l: tensor<?x8xf32>, %i: tensor<?x2xi32>, %g: tensor<?x2xf32>) {
  // expected-error@+1 {{wants d_logits to be (?, 8), got 'tensor<?x4xf32>'}}
  %d = moe.route_grad %l, %i, %g softmax score_then_topk : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @route_grad(%l: tensor<?x8xf32>, %i: tensor<?x2xi32>, %g: tensor<?x2xf32>, %s: tensor<?x2xf32>) {
  // expected-error@+1 {{wants d_scores to be (?, 8), got 'tensor<?x2xf32>'}}
  %d = moe.route_grad %l, %i, %g softmax score_then_topk scores(%s : tensor<?x2xf32>) : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @assign_forms(%i: tensor<?x2xi32>, %n: tensor<8xi32>) {
  // expected-error@+1 {{wants exactly one of ids and counts}}
  %a = moe.assign ids(%i : tensor<?x2xi32>) counts(%n : tensor<8xi32>) : !moe.assignment<?x2, 8>
  return
}

// -----

func.func @assign_ids(%i: tensor<?x3xi32>) {
  // expected-error@+1 {{wants ids to be (?, 2), got 'tensor<?x3xi32>'}}
  %a = moe.assign ids(%i : tensor<?x3xi32>) : !moe.assignment<?x2, 8>
  return
}

// -----

func.func @assign_rows(%n: tensor<8xi32>) {
  // expected-error@+1 {{wants rows, the number of rows, with counts}}
  %a = moe.assign counts(%n : tensor<8xi32>) : !moe.assignment<?x1, 8>
  return
}

// -----

func.func @assign_k(%n: tensor<8xi32>, %t: index) {
  // expected-error@+1 {{wants K = 1 with counts: each row is a token of its own, got K = 2}}
  %a = moe.assign counts(%n : tensor<8xi32>) rows(%t) : !moe.assignment<?x2, 8>
  return
}

// -----

func.func @assign_capacity(%n: tensor<8xi32>, %t: index) {
  // expected-error@+1 {{wants E * capacity = 32 rows, got 30}}
  %a = moe.assign counts(%n : tensor<8xi32>) rows(%t) capacity 4 : !moe.assignment<30x1, 8>
  return
}

// -----

func.func @assign_capacity_ids(%i: tensor<?x2xi32>) {
  // expected-error@+1 {{rows and capacity go with counts, not with ids}}
  %a = moe.assign ids(%i : tensor<?x2xi32>) capacity 4 : !moe.assignment<?x2, 8>
  return
}

// -----

func.func @assign_list(%t: tensor<?xi32>, %e: tensor<?xi32>) {
  // expected-error@+1 {{the list form is not built yet; give ids (T, K), or counts (E) with rows grouped already}}
  %a = moe.assign list(%t, %e : tensor<?xi32>, tensor<?xi32>) : !moe.assignment<?x1, 8>
  return
}

// -----

func.func @pack(%o: tensor<8xi32>, %p: tensor<7xi32>, %b: tensor<4xi32>) {
  // expected-error@+1 {{wants position to be (8), got 'tensor<7xi32>'}}
  %a = moe.pack_assignment %o, %p, %b, %b : tensor<8xi32>, tensor<7xi32>, tensor<4xi32>, tensor<4xi32> -> !moe.assignment<4x2, 4>
  return
}

// -----

func.func @pack(%o: tensor<8xi32>, %p: memref<8xi32>, %b: tensor<4xi32>) {
  // expected-error@+1 {{wants four tensors or four memrefs, got 'tensor<8xi32>' and 'memref<8xi32>'}}
  %a = moe.pack_assignment %o, %p, %b, %b : tensor<8xi32>, memref<8xi32>, tensor<4xi32>, tensor<4xi32> -> !moe.assignment<4x2, 4>
  return
}

// -----

func.func @unpack(%a: !moe.assignment<4x2, 4>) {
  // expected-error@+1 {{wants begin to be (4), got 'tensor<5xi32>'}}
  %o, %p, %b, %e = moe.unpack_assignment %a : !moe.assignment<4x2, 4> -> tensor<8xi32>, tensor<8xi32>, tensor<5xi32>, tensor<4xi32>
  return
}

// -----

func.func @group(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants rows from token or slot order; grouped rows are grouped already}}
  %g = moe.group %x from grouped by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return
}

// -----

func.func @group(%x: tensor<5x16xf32>, %a: !moe.assignment<4x2, 8>) {
  // expected-error@+1 {{wants the operand to have 4 rows in token order by '!moe.assignment<4x2, 8>', got 'tensor<5x16xf32>'}}
  %g = moe.group %x from token by %a : tensor<5x16xf32>, !moe.assignment<4x2, 8> -> tensor<8x16xf32>
  return
}

// -----

func.func @group(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants operand and result of one width, got 'tensor<?x16xf32>' and 'tensor<?x8xf32>'}}
  %g = moe.group %x from token by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x8xf32>
  return
}

// -----

func.func @group(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants operand and result of one element type, got 'tensor<?x16xf32>' and 'tensor<?x16xbf16>'}}
  %g = moe.group %x from token by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xbf16>
  return
}

// -----

func.func @scatter(%x: tensor<8xf32>, %a: !moe.assignment<4x2, 8>) {
  // expected-error@+1 {{wants the result to be (4, 2), got 'tensor<8x1xf32>'}}
  %g = moe.scatter %x by %a : tensor<8xf32>, !moe.assignment<4x2, 8> -> tensor<8x1xf32>
  return
}

// -----

func.func @combine(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants rows from slot or grouped order; token rows are combined already}}
  %g = moe.combine %x from token by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return
}

// -----

func.func @combine(%x: tensor<?x16xf32>, %g: tensor<?x3xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants gates to be (?, 2), got 'tensor<?x3xf32>'}}
  %o = moe.combine %x from slot by %a gates(%g : tensor<?x3xf32>) : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return
}

// -----

func.func @combine(%x: tensor<?xf32>, %g: tensor<?x2xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{takes gates with rows, not with scalars}}
  %o = moe.combine %x from grouped by %a gates(%g : tensor<?x2xf32>) : tensor<?xf32>, !moe.assignment<?x2, 8> -> tensor<?xf32>
  return
}

// -----

func.func @linear_to(%x: tensor<?x16xf32>, %w: tensor<8x32x16xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants its result in slot or grouped order; moe.combine makes token rows}}
  %y = moe.parallel_linear %x, %w by %a from token to token out_in : tensor<?x16xf32>, tensor<8x32x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x32xf32>
  return
}

// -----

func.func @linear_weights(%x: tensor<?x16xf32>, %w: tensor<8x16x32xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants weights to be (8, 32, 16), got 'tensor<8x16x32xf32>'}}
  %y = moe.parallel_linear %x, %w by %a from token to grouped out_in : tensor<?x16xf32>, tensor<8x16x32xf32>, !moe.assignment<?x2, 8> -> tensor<?x32xf32>
  return
}

// -----

func.func @linear_weights(%x: tensor<?x16xf32>, %w: tensor<?x32x16xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants weights to be static (8, 32, 16), got 'tensor<?x32x16xf32>'}}
  %y = moe.parallel_linear %x, %w by %a from token to grouped out_in : tensor<?x16xf32>, tensor<?x32x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x32xf32>
  return
}

// -----

func.func @linear_bias(%x: tensor<?x16xf32>, %w: tensor<8x32x16xf32>, %b: tensor<8x16xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants bias to be (8, 32), got 'tensor<8x16xf32>'}}
  %y = moe.parallel_linear %x, %w by %a from token to grouped out_in bias(%b : tensor<8x16xf32>) : tensor<?x16xf32>, tensor<8x32x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x32xf32>
  return
}

// -----

func.func @linear_types(%x: tensor<?x16xf32>, %w: tensor<8x32x16xbf16>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants lhs and weights of one element type, got 'tensor<?x16xf32>' and 'tensor<8x32x16xbf16>'; cast one of them}}
  %y = moe.parallel_linear %x, %w by %a from token to grouped out_in : tensor<?x16xf32>, tensor<8x32x16xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xf32>
  return
}

// -----

func.func @linear_f64(%x: tensor<?x16xf64>, %w: tensor<8x32x16xf64>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{mixes f64 with narrower floats; make all f64, or none}}
  %y = moe.parallel_linear %x, %w by %a from token to grouped out_in : tensor<?x16xf64>, tensor<8x32x16xf64>, !moe.assignment<?x2, 8> -> tensor<?x32xf32>
  return
}

// -----

func.func @weight_grad(%x: tensor<?x16xf32>, %dy: tensor<?x32xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants the result to be (8, 16, 32), got 'tensor<8x32x16xf32>'}}
  %d = moe.weight_grad %x from token, %dy from grouped by %a in_out : tensor<?x16xf32>, tensor<?x32xf32>, !moe.assignment<?x2, 8> -> tensor<8x32x16xf32>
  return
}

// -----

func.func @weight_grad(%x: tensor<?x16xf32>, %dy: tensor<?x32xbf16>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants x and dy of one element type}}
  %d = moe.weight_grad %x from token, %dy from grouped by %a out_in : tensor<?x16xf32>, tensor<?x32xbf16>, !moe.assignment<?x2, 8> -> tensor<8x32x16xf32>
  return
}

// -----

func.func @weight_grad(%x: tensor<?x16xf32>, %dy: tensor<?x32xf32>, %b: tensor<8x16x32xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants the accumulated buffer to be 'tensor<8x32x16xf32>', got 'tensor<8x16x32xf32>'}}
  %d = moe.weight_grad %x from token, %dy from grouped by %a out_in accumulate(%b : tensor<8x16x32xf32>) : tensor<?x16xf32>, tensor<?x32xf32>, !moe.assignment<?x2, 8> -> tensor<8x32x16xf32>
  return
}

// -----

func.func @expert_sum(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{wants the result to be (8, 16), got 'tensor<4x16xf32>'}}
  %d = moe.expert_sum %x from grouped by %a : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<4x16xf32>
  return
}

// -----

func.func @rowwise_port(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{operand #0 cannot be a sum; operands are rows, scalar or expert}}
  %y = moe.rowwise token ins(%x : tensor<?x16xf32> sum) outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @rowwise_result(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{result #0 cannot be a scalar; results are rows or sum}}
  %y = moe.rowwise token ins(%x : tensor<?x16xf32> rows) outs(tensor<?xf32> scalar) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @rowwise_columns(%x: tensor<?x15xf32>) {
  // expected-error@+1 {{wants the 15 columns of operand #0 to be a multiple of 2}}
  %y = moe.rowwise token ins(%x : tensor<?x15xf32> rows concat 2) outs(tensor<?x7xf32> rows) {
  ^bb0(%v: f32, %w: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @rowwise_widths(%x: tensor<?x16xf32>, %z: tensor<?x8xf32>) {
  // expected-error@+1 {{wants operand #1 to be (?, 16), got 'tensor<?x8xf32>'}}
  %y = moe.rowwise token ins(%x : tensor<?x16xf32> rows, %z : tensor<?x8xf32> rows) outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32, %w: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @rowwise_none(%x: tensor<?xf32>) {
  // expected-error@+1 {{wants an operand or result with columns}}
  %y = moe.rowwise token ins(%x : tensor<?xf32> scalar) outs(tensor<?xf32> sum) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @rowwise_assignment(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{wants an assignment in grouped order}}
  %y = moe.rowwise grouped ins(%x : tensor<?x16xf32> rows) outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @rowwise_token(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>) {
  // expected-error@+1 {{takes no assignment in token order}}
  %y = moe.rowwise token by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x16xf32> rows) outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @rowwise_expert(%x: tensor<?x16xf32>, %b: tensor<8x16xf32>) {
  // expected-error@+1 {{operand #1 is an expert port: it needs an assignment}}
  %y = moe.rowwise slot ins(%x : tensor<?x16xf32> rows, %b : tensor<8x16xf32> expert) outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32, %w: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @rowwise_arguments(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{wants 1 region arguments for its ports, got 2}}
  %y = moe.rowwise token ins(%x : tensor<?x16xf32> rows) outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32, %w: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @rowwise_argument_type(%x: tensor<?x16xbf16>) {
  // expected-error@+1 {{wants region argument #0 to be 'f32', got 'bf16'}}
  %y = moe.rowwise token ins(%x : tensor<?x16xbf16> rows) outs(tensor<?x16xbf16> rows) {
  ^bb0(%v: bf16):
    moe.yield %v : bf16
  }
  return
}

// -----

func.func @rowwise_yield(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{wants 1 yielded values for its ports, got 2}}
  %y = moe.rowwise token ins(%x : tensor<?x16xf32> rows) outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32):
    moe.yield %v, %v : f32, f32
  }
  return
}

// -----

func.func @rowwise_f64(%x: tensor<?x16xf64>) {
  // expected-error@+1 {{mixes f64 with narrower floats; make all f64, or none}}
  %y = moe.rowwise token ins(%x : tensor<?x16xf64> rows) outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f64):
    moe.yield %v : f64
  }
  return
}

// -----

func.func @rowwise_op(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{holds tensor.empty; a rowwise region holds arith and math ops on scalars}}
  %y = moe.rowwise token ins(%x : tensor<?x16xf32> rows) outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32):
    // expected-note@+1 {{see the op here}}
    %e = tensor.empty() : tensor<4xf32>
    moe.yield %v : f32
  }
  return
}

// -----

// expected-error@+1 {{moe.inout is a unit attribute, got "yes"}}
func.func private @inout(tensor<?x4xf32> {moe.inout = "yes"})

// -----

func.func @grouped_without(%x: tensor<?x4xf32>) {
  // expected-error@+1 {{in grouped order}}
  %y = moe.rowwise grouped ins(%x : tensor<?x4xf32> rows) outs(tensor<?x4xf32> rows) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @rowwise_slot_scalar(%x: tensor<?x16xf32>, %s: tensor<?xf32>) {
  // expected-error@+1 {{wants operand #1 to be (T, K), got 'tensor<?xf32>'}}
  %y = moe.rowwise slot ins(%x : tensor<?x16xf32> rows, %s : tensor<?xf32> scalar) outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32, %w: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @rowwise_terminator(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{wants its region to end in moe.yield, got ub.unreachable}}
  %y = moe.rowwise token ins(%x : tensor<?x16xf32> rows) outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32):
    ub.unreachable
  }
  return
}

// -----

// The forms that only generic syntax can write.
func.func @rowwise_ports(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{has 1 operands and 2 ports for them}}
  %y = "moe.rowwise"(%x) <{in_ports = [#moe.port<rows token>, #moe.port<rows token>], operandSegmentSizes = array<i32: 0, 1>, order = #moe<order token>, out_ports = [#moe.port<rows token>]}> ({
  ^bb0(%v: f32):
    moe.yield %v : f32
  }) : (tensor<?x16xf32>) -> tensor<?x16xf32>
  return
}

// -----

func.func @rowwise_orders(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{wants every row in token order, got the port #moe.port<rows slot>}}
  %y = "moe.rowwise"(%x) <{in_ports = [#moe.port<rows slot>], operandSegmentSizes = array<i32: 0, 1>, order = #moe<order token>, out_ports = [#moe.port<rows token>]}> ({
  ^bb0(%v: f32):
    moe.yield %v : f32
  }) : (tensor<?x16xf32>) -> tensor<?x16xf32>
  return
}
