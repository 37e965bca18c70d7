// One expert whose gradient is one tile: the number of tiles comes from the
// work table. As a constant it would let LLVM take the first product out of
// the loop, and the accumulator's zeros would lie behind wgmma's fence.
// RUN: moe-opt %s -split-input-file --moe-select-config --convert-moe-to-nvtile | FileCheck %s

// CHECK-LABEL: gpu.func @single_grouped_outer_0
// CHECK:       nvtile.specialize
// CHECK:       produce
// CHECK:         %{{.*}}, %{{.*}}, %[[EXPERT:.*]] = nvtile.work_item experts %{{.*}} of 1
// CHECK:         arith.addi %[[EXPERT]], %{{.*}} : i32
// CHECK:       consume
// CHECK:         nvtile.work_item experts %{{.*}}[%{{.*}}] of 1
// CHECK:         scf.for
func.func @single(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<1xi32>, %e: memref<1xi32>,
    %x: memref<?x64xbf16>, %dy: memref<?x72xbf16>, %w: memref<1x72x64xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<1xi32>, memref<1xi32> -> !moe.assignment<?x1, 1>
  moe.grouped_outer by %a : !moe.assignment<?x1, 1>
      x(%x from grouped : memref<?x64xbf16>) dy(%dy from grouped : memref<?x72xbf16>)
      out_in outs(%w : memref<1x72x64xbf16>) {moe.config = #moe.config<cooperative parts 1>}
  return
}

// -----

// Two tiles: the constant may stay.
// CHECK-LABEL: gpu.func @two_grouped_outer_0
// CHECK:       consume
// CHECK-NOT:     nvtile.work_item
// CHECK:         scf.for
// CHECK:           nvtile.work_item experts
func.func @two(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<1xi32>, %e: memref<1xi32>,
    %x: memref<?x64xbf16>, %dy: memref<?x136xbf16>, %w: memref<1x136x64xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<1xi32>, memref<1xi32> -> !moe.assignment<?x1, 1>
  moe.grouped_outer by %a : !moe.assignment<?x1, 1>
      x(%x from grouped : memref<?x64xbf16>) dy(%dy from grouped : memref<?x136xbf16>)
      out_in outs(%w : memref<1x136x64xbf16>) {moe.config = #moe.config<cooperative parts 1>}
  return
}
