// Sums of rows beside results that leave by the ring: they are added by 32 columns, and end at a wait.
// RUN: moe-opt %s --moe-select-config --convert-moe-to-nvtile | FileCheck %s

// A product of two values: the region runs on 32 columns.
// CHECK-LABEL: gpu.func @product_grouped_matmul_0(
// CHECK: consume 224
// CHECK: nvtile.await {{.*}} : <4
// CHECK: nvtile.await %[[RING:[0-9a-z_]+]][
// CHECK: nvtile.read %[[RING]]{{.*}} tile 1 row 0 column 0 {{.*}} -> !nvtile.fragment<64x32, bf16>
// CHECK: nvtile.row_sum {{.*}} : <64x32>
// CHECK-NEXT: nvtile.await %[[RING]][
// CHECK: nvtile.read %[[RING]]{{.*}} tile 1 row 0 column 32 {{.*}} -> !nvtile.fragment<64x32, bf16>
// CHECK: nvtile.row_sum {{.*}} : <64x32>
func.func @product(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<4xi32>, %end: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x64x72xbf16>, %h: memref<?x144xbf16>, %y: memref<?x72xbf16>, %part: memref<?x1xf32>) {
  %a = moe.pack_assignment %order, %position, %begin, %end
      : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from token, %w in_out : memref<?x64xbf16>, memref<4x64x72xbf16>) columns <single 1>
      ins(%h : memref<?x144xbf16> rows grouped concat 2)
      outs(%y : memref<?x72xbf16> rows grouped, %part : memref<?x1xf32> partials grouped) {
  ^bb0(%v: f32, %g: f32, %u: f32):
    %p = arith.mulf %v, %g : f32
    %q = arith.mulf %p, %u : f32
    moe.yield %p, %q : f32, f32
  }
  return
}

// Two terms keep both operands: 16 columns, and the same sums.
// CHECK-LABEL: gpu.func @terms_grouped_matmul_0(
// CHECK: consume 224
// CHECK: nvtile.await {{.*}} : <4
// CHECK: nvtile.await %[[RING:[0-9a-z_]+]][
// CHECK: nvtile.read {{.*}} tile 1 row 0 column 0 {{.*}} -> !nvtile.fragment<64x16, bf16>
// CHECK: nvtile.write {{.*}} column 0
// CHECK: nvtile.read {{.*}} tile 1 row 0 column 16 {{.*}} -> !nvtile.fragment<64x16, bf16>
// CHECK: nvtile.write {{.*}} column 16
// CHECK: nvtile.join {{.*}} : <64x16> -> <64x32>
// CHECK: nvtile.row_sum {{.*}} : <64x32>
// CHECK-NEXT: nvtile.await %[[RING]][
// CHECK: nvtile.read {{.*}} tile 1 row 0 column 32 {{.*}} -> !nvtile.fragment<64x16, bf16>
// CHECK: nvtile.read {{.*}} tile 1 row 0 column 48
// CHECK: nvtile.row_sum {{.*}} : <64x32>
func.func @terms(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<4xi32>, %end: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x64x72xbf16>, %h: memref<?x144xbf16>, %y: memref<?x72xbf16>, %part: memref<?x1xf32>) {
  %a = moe.pack_assignment %order, %position, %begin, %end
      : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from token, %w in_out : memref<?x64xbf16>, memref<4x64x72xbf16>) columns <single 1>
      ins(%h : memref<?x144xbf16> rows grouped concat 2)
      outs(%y : memref<?x72xbf16> rows grouped, %part : memref<?x1xf32> partials grouped) {
  ^bb0(%v: f32, %g: f32, %u: f32):
    %p = arith.mulf %v, %g : f32
    %q = arith.mulf %v, %u : f32
    %s = arith.addf %p, %q : f32
    moe.yield %p, %s : f32, f32
  }
  return
}

// Columns that alternate: halves of a block of 32 of both.
// CHECK-LABEL: gpu.func @alternating_grouped_matmul_0(
// CHECK: consume 224
// CHECK: nvtile.read {{.*}} tile 1 row 0 column 0 {{.*}} -> !nvtile.fragment<64x16, bf16>, !nvtile.fragment<64x16, bf16>
// CHECK: nvtile.write {{.*}} tile 1 row 0 column 0
// CHECK: nvtile.read {{.*}} tile 1 row 0 column 16
// CHECK: nvtile.write {{.*}} tile 1 row 0 column 16
// CHECK: nvtile.read {{.*}} tile 1 row 128 column 0
// CHECK: nvtile.write {{.*}} tile 1 row 128 column 0
// CHECK: nvtile.read {{.*}} tile 1 row 128 column 16
// CHECK: nvtile.write {{.*}} tile 1 row 128 column 16
func.func @alternating(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<4xi32>, %end: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x64x72xbf16>, %h: memref<?x144xbf16>, %y: memref<?x144xbf16>, %part: memref<?x1xf32>) {
  %a = moe.pack_assignment %order, %position, %begin, %end
      : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from token, %w in_out : memref<?x64xbf16>, memref<4x64x72xbf16>) columns <single 1>
      ins(%h : memref<?x144xbf16> rows grouped interleave 2)
      outs(%y : memref<?x144xbf16> rows grouped interleave 2, %part : memref<?x1xf32> partials grouped) {
  ^bb0(%v: f32, %g: f32, %u: f32):
    %p = arith.mulf %v, %g : f32
    %q = arith.mulf %v, %u : f32
    %s = arith.addf %p, %q : f32
    moe.yield %p, %q, %s : f32, f32, f32
  }
  return
}
