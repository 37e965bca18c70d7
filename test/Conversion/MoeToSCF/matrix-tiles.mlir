// RUN: moe-opt %s -split-input-file -convert-moe-to-scf="vector-bits=512 has-fma has-amx-bf16" -verify-roundtrip -o /dev/null
// RUN: moe-opt %s -split-input-file -convert-moe-to-scf="vector-bits=512 has-fma has-amx-bf16" -canonicalize -cse | FileCheck %s --implicit-check-not=x86vector

// A group of panels is packed: four vectors of three panels, 16 lines for each
// 32 terms, the last padded with zeros. 32 rows are staged, or 16 where there are
// no more; four tiles of sums, or two.
// CHECK-LABEL: func @matmul
// CHECK:       scf.parallel
// CHECK-DAG:   %[[PANEL:.*]] = memref.alloca() {alignment = 64 : i64} : memref<384x32xbf16>
// CHECK-DAG:   %[[ACC:.*]] = memref.alloca() {alignment = 64 : i64} : memref<32x64xf32>
// CHECK-DAG:   %[[STAGE:.*]] = memref.alloca() {alignment = 64 : i64} : memref<64x32xbf16>
// CHECK:       vector.shuffle
// CHECK:       vector.store %{{.*}}, %[[PANEL]]
// CHECK:       vector.maskedload
// CHECK:       vector.store %{{.*}}, %[[PANEL]]
// CHECK:       vector.store %{{.*}} : memref<64x32xbf16>, vector<32xbf16>
// CHECK:       %[[TAIL:.*]] = vector.maskedload %{{.*}} : memref<?x33xbf16>, vector<32xi1>, vector<32xbf16> into vector<32xbf16>
// CHECK:       vector.store %[[TAIL]], %[[STAGE]]
// CHECK:       memref.prefetch %{{.*}} : memref<?x130xbf16>
// CHECK:       scf.if
// CHECK-COUNT-4: amx.tile_zero : !amx.tile<16x16xf32>
// CHECK:       %[[S:.*]]:4 = scf.for %{{.*}} = %c0{{.*}} to %c32{{.*}} step %c16{{.*}} iter_args
// CHECK-NEXT:    %[[A0:.*]] = amx.tile_load %[[STAGE]]
// CHECK:         %[[B0:.*]] = amx.tile_load %[[PANEL]]
// CHECK-NEXT:    amx.tile_mulf %[[A0]], %[[B0]]
// CHECK:         %[[B1:.*]] = amx.tile_load %[[PANEL]]
// CHECK-NEXT:    amx.tile_mulf %[[A0]], %[[B1]]
// CHECK:         %[[A1:.*]] = amx.tile_load %[[STAGE]]
// CHECK-NEXT:    amx.tile_mulf %[[A1]], %[[B0]]
// CHECK-NEXT:    amx.tile_mulf %[[A1]], %[[B1]]
// CHECK-NEXT:    scf.yield
// CHECK:       amx.tile_store %[[ACC]][%c0{{.*}}, %{{.*}}], %[[S]]#0
// CHECK:       amx.tile_store %[[ACC]][%c16{{.*}}, %{{.*}}], %[[S]]#3
// CHECK:       } else {
// CHECK-COUNT-2: amx.tile_zero
// CHECK:       %{{.*}}:2 = scf.for
// CHECK-COUNT-2: amx.tile_store
// CHECK-NOT:   amx.tile_
// CHECK:       arith.truncf %{{.*}} : vector<16xf32> to vector<16xbf16>
func.func @matmul(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>, %e: memref<8xi32>,
                  %x: memref<?x33xbf16>, %w: memref<8x130x33xbf16>, %z: memref<?x130xbf16>, %y: memref<?x130xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32> -> !moe.assignment<?x2, 8>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 8>
      pairs(%x from token, %w out_in : memref<?x33xbf16>, memref<8x130x33xbf16>) columns <single 1>
      ins(%z : memref<?x130xbf16> rows grouped) outs(%y : memref<?x130xbf16> rows grouped) {
  ^bb0(%v: f32, %u: f32):
    %s = arith.addf %v, %u : f32
    moe.yield %s : f32
  }
  return
}

// -----

// More terms than are packed at once: sums of all rows of the group are kept,
// and tiles of them are loaded.
// CHECK-LABEL: func @long
// CHECK-DAG:   memref.alloca() {alignment = 64 : i64} : memref<4096x32xbf16>
// CHECK-DAG:   memref.alloca() {alignment = 64 : i64} : memref<1536x64xf32>
// CHECK:       scf.for %{{.*}} = %c0{{.*}} to %c3584{{.*}} step %c512
// CHECK-NOT:   amx.tile_zero
// CHECK:       amx.tile_load %{{.*}} : memref<1536x64xf32> into !amx.tile<16x16xf32>
func.func @long(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>, %e: memref<8xi32>,
                %x: memref<?x4096xbf16>, %w: memref<8x4096x1024xbf16>, %y: memref<?x1024xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32> -> !moe.assignment<?x2, 8>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 8>
      pairs(%x from token, %w in_out : memref<?x4096xbf16>, memref<8x4096x1024xbf16>) columns <single 1>
      ins() outs(%y : memref<?x1024xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// Other types are none of its business.
// CHECK-LABEL: func @f16
// CHECK-NOT:   amx.
func.func @f16(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>, %e: memref<8xi32>,
               %x: memref<?x64xf16>, %w: memref<8x64x64xf16>, %y: memref<?x64xf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32> -> !moe.assignment<?x2, 8>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 8>
      pairs(%x from token, %w out_in : memref<?x64xf16>, memref<8x64x64xf16>) columns <single 1>
      ins() outs(%y : memref<?x64xf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}
