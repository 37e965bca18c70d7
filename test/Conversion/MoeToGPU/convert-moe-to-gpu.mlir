// RUN: moe-opt %s -split-input-file -convert-moe-to-gpu -verify-roundtrip -o /dev/null
// RUN: moe-opt %s -split-input-file -convert-moe-to-gpu -canonicalize -cse | FileCheck %s

// Few slots: one block. Many: counts of chunks, their sums, ranges, rows. Then
// the inverse, which no slots leave without a block.
// CHECK-LABEL: func @sort_ids
// CHECK:       scf.if
// CHECK:         gpu.launch {{.*}} function(@sort_ids_sort_slots_0) workgroup(%{{.*}} : memref<1024xi32
// CHECK:           %[[ID:.*]] = memref.load %{{.*}} : memref<?x2xi64>
// CHECK:           arith.cmpi ult, %[[ID]], %{{.*}} : i64
// CHECK:       } else {
// CHECK:         gpu.launch {{.*}} function(@sort_ids_sort_slots_0_2)
// CHECK:         gpu.launch {{.*}} function(@sort_ids_sort_slots_0_3)
// CHECK:           gpu.shuffle{{ +}}up
// CHECK:         gpu.launch {{.*}} function(@sort_ids_sort_slots_0_4)
// CHECK:         gpu.launch {{.*}} function(@sort_ids_sort_slots_0_5)
// CHECK:       }
// CHECK:       gpu.launch {{.*}} function(@sort_ids_sort_slots_0_6)
// CHECK-NOT:   atomic
func.func @sort_ids(%i: memref<?x2xi64>, %o: memref<?xi32>, %p: memref<?xi32>,
                    %b: memref<8xi32>, %e: memref<8xi32>) {
  moe.sort_slots ids(%i : memref<?x2xi64>) outs(%o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>)
  return
}

// -----

// CHECK-LABEL: func @sort_counts
// CHECK:       gpu.launch
// CHECK:         arith.maxsi
// CHECK:       gpu.launch
func.func @sort_counts(%n: memref<8xi64>, %o: memref<?xi32>, %p: memref<?xi32>,
                       %b: memref<8xi32>, %e: memref<8xi32>) {
  moe.sort_slots counts(%n : memref<8xi64>) capacity 16 outs(%o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>)
  return
}

// -----

// 64 rows by 128 columns through shared memory, f32 accumulators, two for each
// column. Slot rows of sentinels get zeros from a kernel of their own.
// CHECK-LABEL: func @matmul
// CHECK:       gpu.launch {{.*}} in ({{.*}} = %c256, {{.*}} function(@matmul_grouped_matmul_0) workgroup(%{{.*}} : memref<16x68xf32, {{.*}}>, %{{.*}} : memref<16x132xf32, {{.*}}>, %{{.*}} : memref<16x132xf32
// CHECK:         gpu.shuffle{{ +}}up
// CHECK:         gpu.barrier
// CHECK:         vector.load %{{.*}} : memref<?x32xbf16>, vector<4xbf16>
// CHECK:         vector.load %{{.*}} : memref<8x64x32xbf16>, vector<8xbf16>
// CHECK-COUNT-16: vector.fma
// CHECK-NOT:     vector.fma
// CHECK:         vector.store %{{.*}} : memref<?x32xbf16>, vector<4xbf16>
// CHECK:       gpu.launch {{.*}} function(@matmul_grouped_matmul_0_2)
func.func @matmul(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>,
                  %e: memref<8xi32>, %x: memref<?x32xbf16>,
                  %w: memref<8x64x32xbf16>, %y: memref<?x32xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>
      -> !moe.assignment<?x2, 8>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 8>
      pairs(%x from token, %w out_in
            : memref<?x32xbf16>, memref<8x64x32xbf16>) columns <concat 2>
      ins() outs(%y : memref<?x32xbf16> rows slot) {
  ^bb0(%v: f32, %u: f32):
    %m = arith.mulf %v, %u : f32
    moe.yield %m : f32
  }
  return
}

// -----

// A sum over the columns: a lane's four, then the warp's lanes by a butterfly.
// CHECK-LABEL: func @row_sum
// CHECK:       gpu.launch
// CHECK:         vector.load %{{.*}} : memref<?x256xf32>, vector<4xf32>
// CHECK-COUNT-5: gpu.shuffle{{ +}}xor
// CHECK-NOT:     gpu.shuffle
func.func @row_sum(%x: memref<?x256xf32>, %y: memref<?xf32>) {
  moe.map_rows token ins(%x : memref<?x256xf32> rows token)
      outs(%y : memref<?xf32> sum token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// 16 bytes at a time where rows allow it, single elements where not.
// CHECK-LABEL: func @combine
// CHECK:       gpu.launch
// CHECK-COUNT-2: vector.load %{{.*}} : memref<?x768xbf16>, vector<8xbf16>
// CHECK:         vector.store %{{.*}} : memref<?x768xbf16>, vector<8xbf16>
// CHECK:       gpu.launch
// CHECK-COUNT-2: vector.load %{{.*}} : memref<?x7xbf16>, vector<1xbf16>
func.func @combine(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>,
                   %e: memref<8xi32>, %y: memref<?x768xbf16>,
                   %g: memref<?x2xf32>, %out: memref<?x768xbf16>,
                   %z: memref<?x7xbf16>, %odd: memref<?x7xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>
      -> !moe.assignment<?x2, 8>
  moe.combine_rows by %a : !moe.assignment<?x2, 8>
      ins(%y : memref<?x768xbf16> rows grouped, %g : memref<?x2xf32> scalar slot)
      outs(%out : memref<?x768xbf16> rows token) {
  ^bb0(%v: f32, %s: f32):
    %m = arith.mulf %v, %s : f32
    moe.yield %m : f32
  }
  moe.combine_rows by %a : !moe.assignment<?x2, 8>
      ins(%z : memref<?x7xbf16> rows grouped)
      outs(%odd : memref<?x7xbf16> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// CHECK-LABEL: func @outer
// CHECK:       gpu.launch
// CHECK-COUNT-8: vector.fma
// CHECK-NOT:     vector.fma
// CHECK:         arith.extf %{{.*}} : vector<4xbf16> to vector<4xf32>
// CHECK:         arith.addf
// CHECK:         vector.store %{{.*}} : memref<8x64x32xbf16>, vector<4xbf16>
func.func @outer(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>,
                 %e: memref<8xi32>, %x: memref<?x32xbf16>,
                 %dy: memref<?x64xbf16>, %dw: memref<8x64x32xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>
      -> !moe.assignment<?x2, 8>
  moe.grouped_outer by %a : !moe.assignment<?x2, 8>
      x(%x from token : memref<?x32xbf16>)
      dy(%dy from grouped : memref<?x64xbf16>) out_in accumulate
      outs(%dw : memref<8x64x32xbf16>)
  return
}

// -----

// A warp has every eighth row; the warps' sums are added in order.
// CHECK-LABEL: func @reduce
// CHECK:       gpu.launch {{.*}} workgroup(%{{.*}} : memref<8x128xf32
// CHECK:         gpu.barrier
// CHECK-COUNT-7: arith.addf
// CHECK:         vector.store %{{.*}} : memref<8x64xf32>, vector<4xf32>
func.func @reduce(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>,
                  %e: memref<8xi32>, %x: memref<?x64xf32>, %y: memref<8x64xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>
      -> !moe.assignment<?x2, 8>
  moe.reduce_experts by %a : !moe.assignment<?x2, 8>
      ins(%x : memref<?x64xf32> rows grouped) outs(%y : memref<8x64xf32> expert) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// CHECK-LABEL: func @fold
// CHECK:       gpu.launch
// CHECK:         arith.addf
// CHECK:         memref.store %{{.*}} : memref<?x2xf32>
func.func @fold(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>,
                %e: memref<8xi32>, %q: memref<?x3xf32>, %y: memref<?x2xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>
      -> !moe.assignment<?x2, 8>
  moe.fold_partials %q : memref<?x3xf32> by %a : !moe.assignment<?x2, 8>
      to slot outs(%y : memref<?x2xf32>)
  return
}

// -----

// Tensor math: a thread an element; reductions are loops in it, and with
// nothing parallel one thread does it.
// CHECK-LABEL: func @around
// CHECK:       gpu.launch {{.*}} function(@around_generic_0)
// CHECK:         scf.for
// CHECK:           math.exp
// CHECK:       gpu.launch {{.*}} in ({{.*}} = %c1, {{.*}} = %c1, {{.*}} = %c1) threads{{.*}} function(@around_store_1)
// CHECK:         memref.store
// CHECK:       gpu.launch {{.*}} function(@around_copy_2)
// CHECK-NOT:   memref.copy
func.func @around(%x: memref<?x8xf32>, %y: memref<8xf32>, %z: memref<1xf32>,
                  %v: f32, %t: memref<8xf32>) {
  %c0 = arith.constant 0 : index
  linalg.generic {
      indexing_maps = [affine_map<(r, c) -> (r, c)>, affine_map<(r, c) -> (c)>],
      iterator_types = ["reduction", "parallel"]}
      ins(%x : memref<?x8xf32>) outs(%y : memref<8xf32>) {
  ^bb0(%a: f32, %b: f32):
    %e = math.exp %a : f32
    %s = arith.addf %b, %e : f32
    linalg.yield %s : f32
  }
  memref.store %v, %z[%c0] : memref<1xf32>
  memref.copy %y, %t : memref<8xf32> to memref<8xf32>
  return
}

// -----

// Keys are stored once, before the barrier that loads wait for. A second store
// by each lane to its own keys would be a race: with one expert the load of
// that key is at one address, LLVM moves it out of the loop over experts that
// only some lanes enter, and all lanes load what one of them stores.
// CHECK-LABEL: func @route
// CHECK:       gpu.launch {{.*}} workgroup(%[[SCORES:.*]] : memref<1xf32, {{.*}}>, %[[KEYS:.*]] : memref<1xf32, {{[^,]*}}>, %[[CHOSEN:.*]] : memref<1xi32
// CHECK:         memref.store %{{.*}}, %[[SCORES]][
// CHECK:         memref.store %{{.*}}, %[[KEYS]][
// CHECK:         gpu.barrier
// CHECK-NOT:     memref.store %{{.*}}, %[[KEYS]][
// CHECK:         memref.load %[[KEYS]][
// CHECK-NOT:     memref.store %{{.*}}, %[[KEYS]][
// CHECK:         memref.store %{{.*}}, %[[CHOSEN]][
// CHECK-NOT:     memref.store %{{.*}}, %[[KEYS]][
// CHECK:         gpu.barrier
// CHECK-NOT:     memref.store %{{.*}}, %[[KEYS]][
// CHECK:         gpu.terminator
func.func @route(%x: memref<?x1xf32>, %g: memref<?x1xf32>, %i: memref<?x1xi32>) {
  moe.route_rows %x : memref<?x1xf32> softmax score_then_topk
      outs(%g, %i : memref<?x1xf32>, memref<?x1xi32>)
  return
}
