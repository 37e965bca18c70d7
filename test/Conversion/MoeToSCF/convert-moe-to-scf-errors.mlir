// RUN: moe-opt %s -split-input-file -convert-moe-to-scf -verify-diagnostics
// RUN: not moe-opt %s -convert-moe-to-scf=vector-bits=64 2>&1 | FileCheck %s

// CHECK: error: wants vector-bits of 128, 256 or 512, got 64

func.func @tensors(%n: tensor<8xi32>, %o: tensor<?xi32>, %e: tensor<8xi32>) {
  // expected-error @+1 {{operand #0 is the tensor 'tensor<8xi32>'; bufferize before convert-moe-to-scf}}
  %r:4 = moe.sort_slots counts(%n : tensor<8xi32>) outs(%o, %o, %e, %e
      : tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>)
  return
}

// -----

func.func @argument(%a: !moe.assignment<?x2, 8>, %q: memref<?x3xf32>,
                    %y: memref<?x2xf32>) {
  // expected-error @+1 {{has an assignment that does not come from moe.pack_assignment; run moe-expand-assignment first}}
  moe.fold_partials %q : memref<?x3xf32> by %a : !moe.assignment<?x2, 8>
      to slot outs(%y : memref<?x2xf32>)
  return
}

// -----

func.func @strided(%x: memref<?x256xf32, strided<[512, 1]>>, %y: memref<?xf32>) {
  // expected-error @+1 {{operand #0 has the layout of 'memref<?x256xf32, strided<[512, 1]>>'; rows must be contiguous, bufferize with identity layouts}}
  moe.map_rows token ins(%x : memref<?x256xf32, strided<[512, 1]>> rows token)
      outs(%y : memref<?xf32> sum token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @level_1(%x: tensor<?x16xf32>, %a: !moe.assignment<?x2, 8>)
    -> tensor<?x16xf32> {
  // expected-error @+1 {{is the tensor 'tensor<?x16xf32>'; bufferize before convert-moe-to-scf}}
  %s = moe.scatter %x by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %s : tensor<?x16xf32>
}

// -----

func.func @returned(%i: memref<?xi32>, %e: memref<8xi32>) -> !moe.assignment<?x2, 8> {
  // expected-error @+1 {{has users that are not kernels on memrefs; inline functions that take or return assignments}}
  %a = moe.pack_assignment %i, %i, %e, %e : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32> -> !moe.assignment<?x2, 8>
  return %a : !moe.assignment<?x2, 8>
}

// -----

func.func @unpacked(%i: memref<?xi32>, %e: memref<8xi32>) {
  %a = moe.pack_assignment %i, %i, %e, %e : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32> -> !moe.assignment<?x2, 8>
  // expected-error @+1 {{is not a kernel on memrefs; run moe-form-kernels and bufferize before convert-moe-to-scf}}
  %o, %p, %b, %n = moe.unpack_assignment %a : !moe.assignment<?x2, 8> -> tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>
  return
}
