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

// CHECK-LABEL: func.func @outer(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4 buffers 2>}
func.func @outer(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x16xbf16>, %dy: memref<?x24xbf16>, %dw: memref<4x24x16xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_outer by %a : !moe.assignment<?x2, 4> x(%x from grouped : memref<?x16xbf16>) dy(%dy from grouped : memref<?x24xbf16>) out_in
      outs(%dw : memref<4x24x16xbf16>)
  return
}

// -----

// CHECK-LABEL: func.func @outer_f32(
// CHECK: {moe.config = #moe.config<cooperative tile 128x256 stages 4>}
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
