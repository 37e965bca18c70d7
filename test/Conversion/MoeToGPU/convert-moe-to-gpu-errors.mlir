// RUN: moe-opt %s -split-input-file -convert-moe-to-gpu -verify-diagnostics

func.func @tensors(%n: tensor<8xi32>, %o: tensor<?xi32>, %e: tensor<8xi32>) {
  // expected-error @+1 {{operand #0 is the tensor 'tensor<8xi32>'; bufferize before convert-moe-to-gpu}}
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

func.func @host_read(%x: memref<4xf32>, %y: memref<4xf32>) {
  %c0 = arith.constant 0 : index
  // expected-error @+1 {{reads an element of a tensor on the host: a call on a GPU never waits for the device; keep the value in a tensor}}
  %v = memref.load %x[%c0] : memref<4xf32>
  memref.store %v, %y[%c0] : memref<4xf32>
  return
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
  // expected-error @+1 {{is not a kernel on memrefs; run moe-form-kernels and bufferize before convert-moe-to-gpu}}
  %o, %p, %b, %n = moe.unpack_assignment %a : !moe.assignment<?x2, 8> -> tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>
  return
}

// -----

func.func @linalg_tensors(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @+1 {{'linalg.add' op is on tensors; bufferize before convert-moe-to-gpu}}
  %y = linalg.add ins(%x, %x : tensor<4xf32>, tensor<4xf32>) outs(%x : tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}
