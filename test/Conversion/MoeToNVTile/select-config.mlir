// Which kernels matrix products have; a config that is there is kept, its open
// numbers are chosen.
// RUN: moe-opt %s --moe-select-config --split-input-file 2>/dev/null | FileCheck %s
// RUN: moe-opt %s --moe-select-config --split-input-file 2>/dev/null | moe-opt --moe-select-config --split-input-file 2>/dev/null | FileCheck %s

// CHECK-LABEL: func.func @staged(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4 buffers 2>}
func.func @staged(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// CHECK-LABEL: func.func @gathered(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4 buffers 2>}
func.func @gathered(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from token, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// Results of f32 pass through no buffers.
// CHECK-LABEL: func.func @direct(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4>}
func.func @direct(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// Four experts of one tile each leave most of a GPU to parts: 256 items.
// CHECK-LABEL: func.func @outer(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4 buffers 2 parts 256>}
func.func @outer(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x16xbf16>, %dy: memref<?x24xbf16>, %dw: memref<4x24x16xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_outer by %a : !moe.assignment<?x2, 4> x(%x from grouped : memref<?x16xbf16>) dy(%dy from grouped : memref<?x24xbf16>) out_in
      outs(%dw : memref<4x24x16xbf16>)
  return
}

// -----

// CHECK-LABEL: func.func @outer_f32(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4 parts 256>}
func.func @outer_f32(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x16xbf16>, %dy: memref<?x24xbf16>, %dw: memref<4x24x16xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_outer by %a : !moe.assignment<?x2, 4> x(%x from grouped : memref<?x16xbf16>) dy(%dy from grouped : memref<?x24xbf16>) out_in
      outs(%dw : memref<4x24x16xf32>)
  return
}

// -----

// CHECK-LABEL: func.func @kept(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 2 buffers 1>}
func.func @kept(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative tile 128x256 stages 2 buffers 1>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// What is left open.
// CHECK-LABEL: func.func @completed(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4 buffers 2>}
func.func @completed(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative stages 4>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// CHECK-LABEL: func.func @guards(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 2 buffers 2 from 4096 rows, simt from 4 processors, cooperative tile 128x256 stages 4 buffers 2>}
func.func @guards(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative stages 2 from 4096 rows, simt from 4 processors, cooperative>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// Asked for, so without a reason to warn of.
// CHECK-LABEL: func.func @simt(
// CHECK: {moe.config = #moe.config<simt>}
func.func @simt(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<simt>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// 12 tiles each: 42 parts are 504 items.
// CHECK-LABEL: func.func @outer_many(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4 buffers 2 parts 42>}
func.func @outer_many(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<128xi32>, %e: memref<128xi32>,
    %x: memref<?x768xbf16>, %dy: memref<?x512xbf16>, %dw: memref<128x512x768xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<128xi32>, memref<128xi32> -> !moe.assignment<?x8, 128>
  moe.grouped_outer by %a : !moe.assignment<?x8, 128> x(%x from grouped : memref<?x768xbf16>) dy(%dy from grouped : memref<?x512xbf16>) out_in
      outs(%dw : memref<128x512x768xbf16>)
  return
}

// -----

// No more parts than experts: one has at least the rows of a mean expert.
// CHECK-LABEL: func.func @outer_mean(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4 buffers 2 parts 96>}
func.func @outer_mean(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<96xi32>, %e: memref<96xi32>,
    %x: memref<?x64xbf16>, %dy: memref<?x72xbf16>, %dw: memref<96x72x64xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<96xi32>, memref<96xi32> -> !moe.assignment<?x2, 96>
  moe.grouped_outer by %a : !moe.assignment<?x2, 96> x(%x from grouped : memref<?x64xbf16>) dy(%dy from grouped : memref<?x72xbf16>) out_in
      outs(%dw : memref<96x72x64xbf16>)
  return
}

// -----

// A shared expert: four tiles, 64 parts.
// CHECK-LABEL: func.func @outer_shared(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4 buffers 2 parts 64>}
func.func @outer_shared(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<1xi32>, %e: memref<1xi32>,
    %x: memref<?x512xbf16>, %dy: memref<?x256xbf16>, %dw: memref<1x256x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<1xi32>, memref<1xi32> -> !moe.assignment<?x1, 1>
  moe.grouped_outer by %a : !moe.assignment<?x1, 1> x(%x from grouped : memref<?x512xbf16>) dy(%dy from grouped : memref<?x256xbf16>) out_in
      outs(%dw : memref<1x256x512xbf16>)
  return
}

// -----

// So many tiles that one expert keeps all multiprocessors busy.
// CHECK-LABEL: func.func @outer_wide(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4 buffers 2 parts 1>}
func.func @outer_wide(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>, %e: memref<8xi32>,
    %x: memref<?x8192xbf16>, %dy: memref<?x8192xbf16>, %dw: memref<8x8192x8192xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32> -> !moe.assignment<?x2, 8>
  moe.grouped_outer by %a : !moe.assignment<?x2, 8> x(%x from grouped : memref<?x8192xbf16>) dy(%dy from grouped : memref<?x8192xbf16>) out_in
      outs(%dw : memref<8x8192x8192xbf16>)
  return
}

// -----

// CHECK-LABEL: func.func @outer_kept(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4 buffers 2 parts 3>}
func.func @outer_kept(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x16xbf16>, %dy: memref<?x24xbf16>, %dw: memref<4x24x16xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_outer by %a : !moe.assignment<?x2, 4> x(%x from grouped : memref<?x16xbf16>) dy(%dy from grouped : memref<?x24xbf16>) out_in
      outs(%dw : memref<4x24x16xbf16>) {moe.config = #moe.config<cooperative parts 3>}
  return
}

// -----

// Weights stay in shared memory where four steps of 64 are contracted over, and
// the region is small enough for the registers.
// CHECK-LABEL: func.func @short(
// CHECK: {moe.config = #moe.config<resident tile 64x256 stages 8 buffers 2>}
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4 buffers 2>}
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4 buffers 2>}
func.func @short(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x256xbf16>, %w: memref<4x512x256xbf16>, %r: memref<?x512xf32>,
    %y: memref<?x512xbf16>, %z: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x256xbf16>, memref<4x512x256xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x256xbf16>, memref<4x512x256xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped, %z : memref<?x512xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v, %v : f32, f32
  }
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x256xbf16>, memref<4x512x256xbf16>) columns <single 1>
      ins(%r : memref<?x512xf32> rows grouped) outs(%y : memref<?x512xbf16> rows grouped) {
  ^bb0(%v: f32, %s: f32):
    %t = arith.addf %v, %s : f32
    moe.yield %t : f32
  }
  return
}
