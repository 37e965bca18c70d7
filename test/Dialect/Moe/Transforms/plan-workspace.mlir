// RUN: moe-opt %s --moe-plan-workspace --canonicalize --cse --split-input-file --verify-diagnostics | FileCheck %s

// a is dead when c is made, b is not: c takes a's place.
// CHECK-LABEL: func.func @share(
// CHECK-SAME:    %[[W:[a-z0-9]+]]: memref<?xi8> {moe.name = "workspace", moe.role = "workspace"})
// CHECK-SAME:    moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "64*T"}, {after = [0], bytes = "192*T"}, {after = [0], bytes = "64*T"}]}
// CHECK-DAG:     %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG:     %[[C64:.*]] = arith.constant 64 : index
// CHECK:         %[[BYTES:.*]] = arith.muli %{{.*}}, %[[C64]]
// CHECK:         %[[UP:.*]] = arith.addi %[[BYTES]], %c63
// CHECK:         %[[OFFSET:.*]] = arith.andi %[[UP]], %c-64
// CHECK:         %[[A:.*]] = memref.view %[[W]][%[[OFFSET]]][%{{.*}}] : memref<?xi8> to memref<?x48xf32>
// CHECK:         %[[B:.*]] = memref.view %[[W]][%[[C0]]][%{{.*}}] : memref<?xi8> to memref<?x16xf32>
// CHECK:         %[[C:.*]] = memref.view %[[W]][%[[OFFSET]]][%{{.*}}] : memref<?xi8> to memref<?x16xf32>
// CHECK-NOT:     memref.alloc
func.func @share(%x: memref<?x16xf32> {moe.dims = ["T", 16]},
                 %x48: memref<?x48xf32> {moe.dims = ["T", 48]},
                 %y: memref<?x16xf32> {moe.dims = ["T", 16]},
                 %y48: memref<?x48xf32> {moe.dims = ["T", 48]}) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %x, %c0 : memref<?x16xf32>
  %a = memref.alloc(%t) : memref<?x48xf32>
  %b = memref.alloc(%t) : memref<?x16xf32>
  %c = memref.alloc(%t) : memref<?x16xf32>
  memref.copy %x48, %a : memref<?x48xf32> to memref<?x48xf32>
  memref.copy %x, %b : memref<?x16xf32> to memref<?x16xf32>
  memref.copy %a, %y48 : memref<?x48xf32> to memref<?x48xf32>
  memref.copy %x, %c : memref<?x16xf32> to memref<?x16xf32>
  memref.copy %b, %y : memref<?x16xf32> to memref<?x16xf32>
  memref.copy %c, %y : memref<?x16xf32> to memref<?x16xf32>
  return
}

// -----

// b lives with a and with c, which share a place: it begins where the larger of
// them ends, whichever that is.
// CHECK-LABEL: func.func @larger(
// CHECK-SAME:    temporaries = [{after = [], bytes = "64*T"}, {after = [], bytes = 4096 : i64}, {after = [0, 1], bytes = "32*T"}]
// CHECK-DAG:     %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG:     %[[C4096:.*]] = arith.constant 4096 : index
// CHECK:         %[[END_A:.*]] = arith.andi
// CHECK:         %[[END:.*]] = arith.maxui %[[END_A]], %[[C4096]]
// CHECK:         memref.view %{{.*}}[%[[C0]]][%{{.*}}] : memref<?xi8> to memref<?x16xf32>
// CHECK:         memref.view %{{.*}}[%[[END]]][%{{.*}}] : memref<?xi8> to memref<?x8xf32>
// CHECK:         memref.view %{{.*}}[%[[C0]]][] : memref<?xi8> to memref<1024xf32>
func.func @larger(%x: memref<?x16xf32> {moe.dims = ["T", 16]}, %x8: memref<?x8xf32> {moe.dims = ["T", 8]},
                  %y: memref<1024xf32>) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %x, %c0 : memref<?x16xf32>
  %a = memref.alloc(%t) : memref<?x16xf32>
  %b = memref.alloc(%t) : memref<?x8xf32>
  %c = memref.alloc() : memref<1024xf32>
  memref.copy %x, %a : memref<?x16xf32> to memref<?x16xf32>
  memref.copy %x, %a : memref<?x16xf32> to memref<?x16xf32>
  memref.copy %x, %a : memref<?x16xf32> to memref<?x16xf32>
  memref.copy %x8, %b : memref<?x8xf32> to memref<?x8xf32>
  memref.copy %a, %x : memref<?x16xf32> to memref<?x16xf32>
  memref.copy %y, %c : memref<1024xf32> to memref<1024xf32>
  memref.copy %b, %x8 : memref<?x8xf32> to memref<?x8xf32>
  memref.copy %c, %y : memref<1024xf32> to memref<1024xf32>
  memref.copy %c, %y : memref<1024xf32> to memref<1024xf32>
  memref.copy %c, %y : memref<1024xf32> to memref<1024xf32>
  return
}

// -----

// What an op reads and what it writes live at once, though neither does before
// or after.
// CHECK-LABEL: func.func @chain(
// CHECK-SAME:    temporaries = [{after = [], bytes = "64*T"}, {after = [0], bytes = "64*T"}]
func.func @chain(%x: memref<?x16xf32> {moe.dims = ["T", 16]}) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %x, %c0 : memref<?x16xf32>
  %a = memref.alloc(%t) : memref<?x16xf32>
  %b = memref.alloc(%t) : memref<?x16xf32>
  memref.copy %x, %a : memref<?x16xf32> to memref<?x16xf32>
  memref.copy %a, %b : memref<?x16xf32> to memref<?x16xf32>
  memref.copy %b, %x : memref<?x16xf32> to memref<?x16xf32>
  return
}

// -----

// The tables live as long as the assignment is used: nothing shares with them.
// CHECK-LABEL: func.func @tables(
// CHECK-SAME:    temporaries = [{after = [], bytes = "8*T"}, {after = [0], bytes = "8*T"}, {after = [1], bytes = 32 : i64}, {after = [2], bytes = 32 : i64}, {after = [3], bytes = "8*T"}]
func.func @tables(%ids: memref<?x2xi32> {moe.dims = ["T", 2]},
                  %x: memref<?x1xf32> {moe.dims = ["T", 1]},
                  %y: memref<?x1xf32> {moe.dims = ["T", 1]}) {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %t = memref.dim %ids, %c0 : memref<?x2xi32>
  %slots = arith.muli %t, %c2 : index
  %o = memref.alloc(%slots) : memref<?xi32>
  %p = memref.alloc(%slots) : memref<?xi32>
  %b = memref.alloc() : memref<8xi32>
  %e = memref.alloc() : memref<8xi32>
  moe.sort_slots ids(%ids : memref<?x2xi32>) outs(%o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>)
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32>
      -> !moe.assignment<?x2, 8>
  %g = memref.alloc(%slots) : memref<?x1xf32>
  moe.map_rows grouped by %a : !moe.assignment<?x2, 8>
      ins(%x : memref<?x1xf32> rows token)
      outs(%g : memref<?x1xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  moe.combine_rows by %a : !moe.assignment<?x2, 8>
      ins(%g : memref<?x1xf32> rows grouped)
      outs(%y : memref<?x1xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// A view keeps its buffer alive.
// CHECK-LABEL: func.func @views(
// CHECK-SAME:    temporaries = [{after = [], bytes = 64 : i64}, {after = [0], bytes = 64 : i64}]
func.func @views(%x: memref<16xf32>, %y: memref<4x4xf32>) {
  %a = memref.alloc() : memref<16xf32>
  memref.copy %x, %a : memref<16xf32> to memref<16xf32>
  %v = memref.expand_shape %a [[0, 1]] output_shape [4, 4] : memref<16xf32> into memref<4x4xf32>
  %b = memref.alloc() : memref<4x4xf32>
  memref.copy %y, %b : memref<4x4xf32> to memref<4x4xf32>
  memref.copy %v, %y : memref<4x4xf32> to memref<4x4xf32>
  memref.copy %b, %y : memref<4x4xf32> to memref<4x4xf32>
  return
}

// -----

// No temporary: the argument is there all the same.
// CHECK-LABEL: func.func @nothing(
// CHECK-SAME:    memref<?xi8> {moe.name = "workspace", moe.role = "workspace"}) attributes {moe.workspace = {align = 64 : i64, temporaries = []}}
func.func @nothing(%x: memref<16xf32>) {
  return
}

// -----

// CHECK-LABEL: func.func private @private_function(
// CHECK:         memref.alloc
func.func private @private_function(%x: memref<16xf32>) {
  %a = memref.alloc() : memref<16xf32>
  memref.copy %x, %a : memref<16xf32> to memref<16xf32>
  return
}

// -----

func.func @square(%x: memref<?xf32> {moe.dims = ["T"]}) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %x, %c0 : memref<?xf32>
  // expected-error @below {{has a size that is not linear in the sizes of the function's arguments}}
  %a = memref.alloc(%t, %t) : memref<?x?xf32>
  return
}

// -----

func.func @nested(%x: memref<4xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  scf.for %i = %c0 to %c4 step %c1 {
    // expected-error @below {{is in a nested region; a temporary is planned only at the top level of a function}}
    %a = memref.alloc() : memref<4xf32>
    memref.copy %x, %a : memref<4xf32> to memref<4xf32>
  }
  return
}

// -----

// expected-error @below {{'twice' has a workspace already}}
func.func @twice(%x: memref<16xf32>, %w: memref<?xi8>) attributes {moe.workspace = {}} {
  return
}

// -----

// expected-error @below {{moe.dims of argument #0 says "const" for dimension 0}}
func.func @reserved(%x: memref<?xf32> {moe.dims = ["const"]}) {
  return
}

// -----

func.func @columns(%x: memref<4x8xf32>) {
  // expected-error @below {{has the layout 'memref<4x8xf32, strided<[1, 4]>>'; only row-major buffers are planned}}
  %a = memref.alloc() : memref<4x8xf32, strided<[1, 4]>>
  memref.copy %x, %a : memref<4x8xf32> to memref<4x8xf32, strided<[1, 4]>>
  return
}

// -----

// expected-error @below {{'branches' has control flow; plan it before loops are lowered to branches}}
func.func @branches(%x: memref<16xf32>) {
  cf.br ^next
^next:
  return
}
