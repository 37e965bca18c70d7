// RUN: moe-opt %s -split-input-file -convert-moe-to-scf="vector-bits=512 has-fma" -verify-roundtrip -o /dev/null
// RUN: moe-opt %s -split-input-file -convert-moe-to-scf="vector-bits=512 has-fma" -canonicalize -cse | FileCheck %s
// RUN: moe-opt %s -split-input-file -convert-moe-to-scf -canonicalize -cse | FileCheck %s --check-prefix=BASE
// RUN: moe-opt %s -split-input-file -convert-moe-to-scf="vector-bits=512 has-fma has-avx512bf16" -canonicalize -cse | FileCheck %s --check-prefix=DOT

// Ids are compared in their own width, then narrowed.
// CHECK-LABEL: func @sort_ids
// CHECK-NOT:   scf.parallel
// CHECK:       %[[ID:.*]] = memref.load %{{.*}} : memref<?x2xi64>
// CHECK:       arith.cmpi ult, %[[ID]], %{{.*}} : i64
func.func @sort_ids(%i: memref<?x2xi64>, %o: memref<?xi32>, %p: memref<?xi32>,
                    %b: memref<8xi32>, %e: memref<8xi32>) {
  moe.sort_slots ids(%i : memref<?x2xi64>) outs(%o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>)
  return
}

// -----

// CHECK-LABEL: func @sort_counts
// CHECK:       arith.maxsi
func.func @sort_counts(%n: memref<8xi64>, %o: memref<?xi32>, %p: memref<?xi32>,
                       %b: memref<8xi32>, %e: memref<8xi32>) {
  moe.sort_slots counts(%n : memref<8xi64>) capacity 16 outs(%o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>)
  return
}

// -----

// The micro-kernel: six rows by four vectors of 16 columns, four steps a round.
// The rows of the result that a tile writes are fetched before it, and its sums
// leave before the next one. For few rows: 16 by 16 weights, transposed in registers,
// for four rows.
// CHECK-LABEL: func @matmul
// CHECK:       scf.parallel
// CHECK-DAG:   memref.alloca() {alignment = 64 : i64} : memref<32x64xf32>
// CHECK-DAG:   memref.alloca() {alignment = 64 : i64} : memref<8x64xf32>
// CHECK:       memref.prefetch %{{.*}}[%{{.*}}, %{{.*}}], write, locality<3>, data : memref<?x64xbf16>
// CHECK:       %{{.*}}:24 = scf.for
// CHECK-COUNT-96: vector.fma
// CHECK-NOT:   vector.fma
// CHECK:       arith.truncf %{{.*}} : vector<16xf32> to vector<16xbf16>
// CHECK:       vector.store
// CHECK:       } else {
// CHECK:       %{{.*}}:4 = scf.for
// CHECK:       memref.prefetch
// CHECK:       vector.shuffle
// CHECK-COUNT-64: vector.fma
// CHECK-NOT:   vector.fma
// CHECK:       arith.truncf %{{.*}} : vector<16xf32> to vector<16xbf16>
// CHECK:       vector.store
// BASE-LABEL:  func @matmul
// BASE-NOT:    vector.fma
// BASE-NOT:    x86vector
// DOT-LABEL:   func @matmul
// DOT:         memref.alloca() {alignment = 64 : i64} : memref<16x64xi32>
// DOT-COUNT-96: x86vector.avx512.dot
// DOT:         vector.store
func.func @matmul(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>,
                  %e: memref<8xi32>, %x: memref<?x32xbf16>,
                  %w: memref<8x64x32xbf16>, %y: memref<?x64xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>
      -> !moe.assignment<?x2, 8>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 8>
      pairs(%x from token, %w out_in
            : memref<?x32xbf16>, memref<8x64x32xbf16>) columns <single 1>
      ins() outs(%y : memref<?x64xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// Two pairs in one panel; a row sum keeps its lanes for a whole segment.
// CHECK-LABEL: func @two_pairs
// CHECK-DAG:   memref.alloca() {alignment = 64 : i64} : memref<40x64xf32>
// CHECK-DAG:   memref.alloca() {alignment = 64 : i64} : memref<384x16xf32>
// CHECK:       vector.shuffle %{{.*}} [0, 1, 2, 3, 4, 5, 6, 7]
func.func @two_pairs(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>,
                     %e: memref<8xi32>, %x: memref<?x32xf32>,
                     %w: memref<8x64x32xf32>, %u: memref<?x8xf32>,
                     %v: memref<8x8x64xf32>, %y: memref<?x64xf32>,
                     %q: memref<?x1xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>
      -> !moe.assignment<?x2, 8>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 8>
      pairs(%x from token, %w out_in : memref<?x32xf32>, memref<8x64x32xf32>,
            %u from grouped, %v in_out : memref<?x8xf32>, memref<8x8x64xf32>)
      columns <single 1>
      ins() outs(%y : memref<?x64xf32> rows grouped,
                 %q : memref<?x1xf32> partials grouped) {
  ^bb0(%s: f32):
    moe.yield %s, %s : f32, f32
  }
  return
}

// -----

// Both sides are packed 128 rows at a time, for tiles of six rows by four
// vectors, four rows a round and those that are left one by one; with an
// expert's last rows a tile's sums are written.
// CHECK-LABEL: func @outer
// CHECK:       memref.collapse_shape
// CHECK:       scf.parallel
// CHECK:       memref.alloca() {alignment = 64 : i64} : memref<129x64xf32>
// CHECK:       memref.alloca() {alignment = 64 : i64} : memref<128x112xf32>
// CHECK:       %{{.*}}:24 = scf.for
// CHECK-COUNT-96: vector.fma
// CHECK:       %{{.*}}:24 = scf.for
// CHECK-COUNT-24: vector.fma
// CHECK-NOT:   vector.fma
// CHECK:       scf.if
// CHECK:         vector.store %{{.*}}, %collapse_shape
func.func @outer(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>,
                 %e: memref<8xi32>, %x: memref<?x64xf32>, %y: memref<?x96xf32>,
                 %w: memref<8x96x64xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>
      -> !moe.assignment<?x2, 8>
  moe.grouped_outer by %a : !moe.assignment<?x2, 8>
      x(%x from token : memref<?x64xf32>) dy(%y from grouped : memref<?x96xf32>)
      out_in outs(%w : memref<8x96x64xf32>)
  return
}

// -----

// Region math is on vectors, the row's scalar is read once; sentinel rows of
// the slot-order result are zeroed by a loop of its own.
// CHECK-LABEL: func @map
// CHECK:       scf.parallel
// CHECK:       %[[G:.*]] = memref.load %{{.*}} : memref<?x2xf32>
// CHECK:       scf.for
// CHECK:       math.exp %{{.*}} : vector<16xf32>
// CHECK:       vector.broadcast %[[G]]
// CHECK:       vector.store
// CHECK:       vector.maskedstore
// CHECK:       scf.parallel
// CHECK:       memref.store %cst
func.func @map(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>,
               %e: memref<8xi32>, %x: memref<?x40xf32>, %g: memref<?x2xf32>,
               %y: memref<?x40xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>
      -> !moe.assignment<?x2, 8>
  moe.map_rows slot by %a : !moe.assignment<?x2, 8>
      ins(%x : memref<?x40xf32> rows token, %g : memref<?x2xf32> scalar slot)
      outs(%y : memref<?x40xf32> rows slot) {
  ^bb0(%v: f32, %s: f32):
    %0 = math.exp %v : f32
    %1 = arith.mulf %0, %s : f32
    moe.yield %1 : f32
  }
  return
}

// -----

// CHECK-LABEL: func @map_tokens
// CHECK:       scf.parallel
// CHECK:       vector.shuffle
// CHECK:       memref.store %{{.*}} : memref<?xf32>
func.func @map_tokens(%x: memref<?x256xf32>, %y: memref<?xf32>) {
  moe.map_rows token ins(%x : memref<?x256xf32> rows token)
      outs(%y : memref<?xf32> sum token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// CHECK-LABEL: func @combine
// CHECK:       scf.parallel
// CHECK:       arith.cmpi ult
// CHECK:       %{{.*}}:4 = scf.for
// CHECK-COUNT-4: arith.addf %{{.*}} : vector<16xf32>
func.func @combine(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>,
                   %e: memref<8xi32>, %x: memref<?x128xf32>,
                   %g: memref<?x2xf32>, %q: memref<?x3xf32>,
                   %y: memref<?x128xf32>, %d: memref<?x2xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>
      -> !moe.assignment<?x2, 8>
  moe.combine_rows by %a : !moe.assignment<?x2, 8>
      ins(%x : memref<?x128xf32> rows grouped, %g : memref<?x2xf32> scalar slot)
      folds(%q : memref<?x3xf32>)
      outs(%y : memref<?x128xf32> rows token, %d : memref<?x2xf32> scalar slot) {
  ^bb0(%v: f32, %s: f32):
    %1 = arith.mulf %v, %s : f32
    moe.yield %1 : f32
  }
  return
}

// -----

// CHECK-LABEL: func @reduce
// CHECK:       scf.parallel (%{{.*}}) = (%c0) to (%c16)
// CHECK:       arith.addf %{{.*}} : vector<16xf32>
func.func @reduce(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<8xi32>,
                  %e: memref<8xi32>, %x: memref<?x80xf32>,
                  %y: memref<8x80xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>
      -> !moe.assignment<?x2, 8>
  moe.reduce_experts by %a : !moe.assignment<?x2, 8>
      ins(%x : memref<?x80xf32> rows grouped)
      outs(%y : memref<8x80xf32> expert) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// CHECK-LABEL: func @fold
// CHECK:       scf.parallel
// CHECK:       scf.if
// CHECK:       memref.store %{{.*}} : memref<?x2xf32>
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

// Keys compare as integers; the tokens' work is followed by the experts'.
// CHECK-LABEL: func @route
// CHECK:       scf.parallel
// CHECK:       math.exp %{{.*}} : vector<16xf32>
// CHECK:       arith.bitcast %{{.*}} : vector<16xf32> to vector<16xi32>
// CHECK:       vector.reduction <maxsi>
// CHECK:       scf.parallel (%{{.*}}) = (%c0{{.*}}) to (%c40{{.*}})
// CHECK:       memref.store %{{.*}} : memref<?x2xi32>
func.func @route(%l: memref<?x40xbf16>, %g: memref<?x2xf32>,
                 %i: memref<?x2xi32>) {
  moe.route_rows %l : memref<?x40xbf16> softmax score_then_topk
      outs(%g, %i : memref<?x2xf32>, memref<?x2xi32>) {capacity = 4, normalize}
  return
}

// -----

// CHECK-LABEL: func @route_grad
// CHECK:       scf.parallel
// CHECK:       vector.maskedstore %{{.*}} : memref<?x8xf32>
func.func @route_grad(%l: memref<?x8xf32>, %i: memref<?x2xi64>,
                      %d: memref<?x2xf32>, %o: memref<?x8xf32>) {
  moe.route_grad_rows %l, %i, %d
      : memref<?x8xf32>, memref<?x2xi64>, memref<?x2xf32> sigmoid topk_then_score
      outs(%o : memref<?x8xf32>) {scale = 2.5}
  return
}
