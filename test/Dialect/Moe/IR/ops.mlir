// RUN: moe-opt %s -split-input-file -verify-roundtrip -o /dev/null
// RUN: moe-opt %s -split-input-file | FileCheck %s

// CHECK: moe.route %{{.*}} softmax score_then_topk {normalize}
// CHECK: moe.group %{{.*}} from token by %{{.*}} : tensor<?x16xf32>, !moe.assignment<?x2, 8>
// CHECK: moe.rowwise grouped by
// CHECK: moe.grouped_matmul by
// CHECK: moe.map_rows grouped by

func.func @route(%logits: tensor<?x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>) {
  %gates, %ids = moe.route %logits softmax score_then_topk {normalize}
      : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return %gates, %ids : tensor<?x2xf32>, tensor<?x2xi32>
}

// -----

func.func @route_grad(%logits: tensor<?x8xf32>, %ids: tensor<?x2xi32>,
                      %dg: tensor<?x2xf32>) -> tensor<?x8xf32> {
  %d = moe.route_grad %logits, %ids, %dg softmax score_then_topk {normalize}
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x8xf32>
  return %d : tensor<?x8xf32>
}

// -----

func.func @assign(%ids: tensor<?x2xi64>, %n: tensor<8xi32>, %t: index) {
  %a = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %b = moe.assign counts(%n : tensor<8xi32>) rows(%t)
      : !moe.assignment<?x1, 8>
  return
}

// -----

func.func @pack(%o: tensor<?xi32>, %p: tensor<?xi32>, %b: tensor<8xi32>,
                %e: tensor<8xi32>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>
      -> !moe.assignment<?x2, 8>
  return
}

// -----

func.func @unpack(%a: !moe.assignment<?x2, 8>) -> tensor<8xi32> {
  %o, %p, %b, %e = moe.unpack_assignment %a : !moe.assignment<?x2, 8>
      -> tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>
  return %e : tensor<8xi32>
}

// -----

func.func @group(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>)
    -> tensor<?x16xf32> {
  %g = moe.group %x from token by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %g : tensor<?x16xf32>
}

// -----

func.func @scatter(%g: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>)
    -> tensor<?x16xf32> {
  %s = moe.scatter %g by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %s : tensor<?x16xf32>
}

// -----

func.func @combine(%y: tensor<?x16xf32>, %g: tensor<?x2xf32>,
                   %a: !moe.assignment<?x2, 8>) -> tensor<?x16xf32> {
  %o = moe.combine %y from grouped by %a gates(%g : tensor<?x2xf32>)
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %o : tensor<?x16xf32>
}

// -----

func.func @linear(%x: tensor<?x16xf32>, %w: tensor<8x32x16xf32>,
                  %a: !moe.assignment<?x2, 8>) -> tensor<?x32xf32> {
  %y = moe.parallel_linear %x, %w by %a from token to grouped out_in
      : tensor<?x16xf32>, tensor<8x32x16xf32>, !moe.assignment<?x2, 8>
      -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

func.func @weight_grad(%x: tensor<?x16xf32>, %dy: tensor<?x32xf32>,
    %a: !moe.assignment<?x2, 8>) -> tensor<8x32x16xf32> {
  %dw = moe.weight_grad %x from token, %dy from grouped by %a out_in
      : tensor<?x16xf32>, tensor<?x32xf32>, !moe.assignment<?x2, 8>
      -> tensor<8x32x16xf32>
  return %dw : tensor<8x32x16xf32>
}

// -----

func.func @swiglu(%h: tensor<?x64xbf16>, %a: !moe.assignment<?x2, 8>)
    -> tensor<?x32xbf16> {
  %y = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%h : tensor<?x64xbf16> rows concat 2)
      outs(tensor<?x32xbf16> rows) {
  ^bb0(%gate: f32, %up: f32):
    %one = arith.constant 1.0 : f32
    %neg = arith.negf %gate : f32
    %exp = math.exp %neg : f32
    %den = arith.addf %one, %exp : f32
    %silu = arith.divf %gate, %den : f32
    %out = arith.mulf %silu, %up : f32
    moe.yield %out : f32
  }
  return %y : tensor<?x32xbf16>
}

// -----

func.func @expert_sum(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>)
    -> tensor<8x16xf32> {
  %s = moe.expert_sum %x from grouped by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<8x16xf32>
  return %s : tensor<8x16xf32>
}

// -----

func.func @sort(%ids: tensor<4x2xi32>, %s: tensor<8xi32>, %e: tensor<8xi32>)
    -> tensor<8xi32> {
  %o:4 = moe.sort_slots ids(%ids : tensor<4x2xi32>) outs(%s, %s, %e, %e
      : tensor<8xi32>, tensor<8xi32>, tensor<8xi32>, tensor<8xi32>)
  return %o#0 : tensor<8xi32>
}

// -----

func.func @up(%x: tensor<?x16xbf16>, %w: tensor<8x64x16xbf16>,
              %a: !moe.assignment<?x2, 8>, %init: tensor<?x32xbf16>)
    -> tensor<?x32xbf16> {
  %y = moe.grouped_matmul by %a : !moe.assignment<?x2, 8>
      pairs(%x from token, %w out_in
            : tensor<?x16xbf16>, tensor<8x64x16xbf16>) columns <concat 2>
      ins() outs(%init : tensor<?x32xbf16> rows grouped) {
  ^bb0(%gate: f32, %up: f32):
    %m = arith.mulf %gate, %up : f32
    moe.yield %m : f32
  }
  return %y : tensor<?x32xbf16>
}

// -----

func.func @group(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>,
                 %init: tensor<?x16xf32>) -> tensor<?x16xf32> {
  %g = moe.map_rows grouped by %a : !moe.assignment<?x2, 8>
      ins(%x : tensor<?x16xf32> rows token)
      outs(%init : tensor<?x16xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %g : tensor<?x16xf32>
}

// -----

// CHECK: capacity = 4 : i64, drop = #moe.drop<score>
// CHECK-SAME: masked_groups = #moe.masked_groups<zero>
func.func @route_attributes(%logits: tensor<?x8xf32>)
    -> (tensor<?x2xf32>, tensor<?x2xi32>) {
  %gates, %ids = moe.route %logits softmax score_then_topk
      {capacity = 4, drop = #moe.drop<score>, groups = 2,
       masked_groups = #moe.masked_groups<zero>}
      : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return %gates, %ids : tensor<?x2xf32>, tensor<?x2xi32>
}

// -----

// CHECK: #moe.config<cooperative tile 128x256 stages 3 buffers 4 parts 8 from 4096 rows, cooperative from 100 processors, simt "why not">, moe.other = #moe.variant<simt from 7 rows>
func.func private @config() attributes {
  moe.config = #moe.config<cooperative tile 128x256 parts 8 buffers 4 stages 3 from 4096 rows,
                           cooperative from 100 processors, simt "why not">,
  moe.other = #moe.variant<simt from 7 rows>}
