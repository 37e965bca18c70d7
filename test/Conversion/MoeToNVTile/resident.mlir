// A short contraction, the default from four steps of 64 on: a tile's weights stay in shared memory, and the two
// consuming warpgroups multiply rows of their own in turn.
// RUN: moe-opt %s --moe-select-config --convert-moe-to-nvtile | FileCheck %s

// CHECK-LABEL: func.func @down
// Tiles of 256 columns, and of 64 rows.
// CHECK: nvtile.tensor_map %{{.*}} box [64, 256, 1, 1] : memref<128x768x256xbf16> -> <bf16>
// CHECK: nvtile.tensor_map %{{.*}} box [64, 64] : memref<?x256xbf16> -> <bf16>
func.func @down(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<128xi32>, %end: memref<128xi32>,
    %act: memref<?x256xbf16>, %w2: memref<128x768x256xbf16>, %y: memref<?x768xbf16>) {
  %a = moe.pack_assignment %order, %position, %begin, %end
      : memref<?xi32>, memref<?xi32>, memref<128xi32>, memref<128xi32> -> !moe.assignment<?x8, 128>
  moe.grouped_matmul by %a : !moe.assignment<?x8, 128>
      pairs(%act from grouped, %w2 out_in : memref<?x256xbf16>, memref<128x768x256xbf16>) columns <single 1>
      ins() outs(%y : memref<?x768xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// 128 contraction steps, twice in the ring; gates and a bias are operands,
// weights may lie across.
// CHECK-LABEL: func.func @short
// CHECK: nvtile.tensor_map %{{.*}} box [64, 1, 64, 1] : memref<4x128x136xf16> -> <f16>
func.func @short(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<4xi32>, %end: memref<4xi32>,
    %act: memref<?x128xf16>, %w2: memref<4x128x136xf16>, %gates: memref<?x2xf32>, %bias: memref<4x136xf16>,
    %y: memref<?x136xf16>, %part: memref<?x2xf32>) {
  %a = moe.pack_assignment %order, %position, %begin, %end
      : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%act from grouped, %w2 in_out : memref<?x128xf16>, memref<4x128x136xf16>) columns <single 1>
      ins(%gates : memref<?x2xf32> scalar slot, %bias : memref<4x136xf16> expert)
      outs(%y : memref<?x136xf16> rows grouped, %part : memref<?x2xf32> partials grouped)
      attributes {moe.config = #moe.config<resident>} {
  ^bb0(%v: f32, %g: f32, %c: f32):
    %s = arith.addf %v, %c : f32
    %t = arith.mulf %s, %g : f32
    moe.yield %t, %s : f32, f32
  }
  return
}

// CHECK-LABEL: func.func @three_steps
func.func @three_steps(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<4xi32>, %end: memref<4xi32>,
    %x: memref<?x192xbf16>, %w: memref<4x64x192xbf16>, %y: memref<?x64xbf16>) {
  %a = moe.pack_assignment %order, %position, %begin, %end
      : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x192xbf16>, memref<4x64x192xbf16>) columns <single 1>
      ins() outs(%y : memref<?x64xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// CHECK-LABEL: gpu.func @down_grouped_matmul_0(
// CHECK: nvtile.make_ring fills 1 releases 4 : <8 x[64]>
// CHECK: nvtile.make_ring fills 1 releases 8 : <4 x[256]>
// CHECK: nvtile.make_staging : <2>
// CHECK: nvtile.make_turns
// CHECK: nvtile.specialize produce 40
// CHECK-NEXT: nvtile.elect
// Rows always, weights where they are another expert's.
// CHECK: nvtile.expect %{{.*}} 8192 bytes : <8 x[64]>
// CHECK: scf.if
// CHECK: nvtile.expect %{{.*}} 32768 bytes : <4 x[256]>
// CHECK: consume 232
// CHECK: nvtile.await_turn
// CHECK: nvtile.mma %[[ROWS:.*]][%{{.*}}], %{{.*}} lhs 0 rhs 0 of %{{.*}}[%{{.*}}] bf16
// CHECK: nvtile.pass_turn
// CHECK-NEXT: nvtile.mma_wait {{.*}} pending 0
// CHECK-COUNT-4: nvtile.stage_store

// CHECK-LABEL: gpu.func @short_grouped_matmul_0(
// CHECK: nvtile.make_ring fills 1 releases 8 : <4 x[256]>
// CHECK: nvtile.load_fragment {{.*}} -> !nvtile.fragment<64x1>
// CHECK: nvtile.mma {{.*}} lhs 0 rhs 0 mn of
// CHECK-COUNT-8: nvtile.row_sum

// CHECK-LABEL: gpu.func @three_steps_grouped_matmul_0(
// CHECK: nvtile.mma {{.*}} lhs 0 rhs 1 warpgroup
