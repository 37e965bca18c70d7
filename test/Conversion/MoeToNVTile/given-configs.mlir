// Configs that are given, and cannot be had.
// RUN: split-file %s %t
// RUN: not moe-opt %t/outer.mlir --moe-select-config 2>&1 | FileCheck %s --check-prefix=OUTER
// RUN: not moe-opt %t/product.mlir --moe-select-config=arch=sm_86 2>&1 | FileCheck %s --check-prefix=ARCH
// RUN: not moe-opt %t/argument.mlir --convert-moe-to-nvtile 2>&1 | FileCheck %s --check-prefix=ARGUMENT

// OUTER: error: 'moe.grouped_outer' op cannot be '#moe.variant<resident>': it contracts over rows; cooperative can do it
//--- outer.mlir
func.func @outer(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>, %x: memref<?x16xbf16>, %dy: memref<?x24xbf16>, %dw: memref<4x24x16xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_outer by %a : !moe.assignment<?x2, 4> x(%x from grouped : memref<?x16xbf16>) dy(%dy from grouped : memref<?x24xbf16>) out_in
      outs(%dw : memref<4x24x16xbf16>) {moe.config = #moe.config<resident>}
  return
}

// ARCH: error: 'moe.grouped_matmul' op cannot be '#moe.variant<cooperative>': sm_86 has simt alone, sm_90a has more
//--- product.mlir
func.func @product(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>, %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// ARGUMENT: error: 'moe.grouped_matmul' op has several variants, but its assignment does not come from moe.pack_assignment
//--- argument.mlir
func.func @argument(%a: !moe.assignment<?x2, 4>, %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative tile 128x256 stages 4 buffers 2 from 64 rows, simt>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}
