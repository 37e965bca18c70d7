// RUN: moe-opt %s --moe-expand-assignment --moe-form-kernels --canonicalize --cse --moe-to-destination-style --split-input-file --verify-diagnostics | FileCheck %s

// Unnamed sizes take the names that the ops imply; outputs come last.
// CHECK-LABEL: func.func @layer(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<?x16xf32> {bufferization.writable = false, moe.dims = ["T", 16], moe.name = "arg0", moe.role = "input"}
// CHECK-SAME:    tensor<?x2xi32> {bufferization.writable = false, moe.dims = ["T", 2], moe.name = "ids", moe.role = "input"}
// CHECK-SAME:    tensor<?x32xf32> {bufferization.writable = false, moe.dims = ["2*T", 32], moe.name = "arg3", moe.role = "input"}
// CHECK-SAME:    %[[DW:[a-z0-9]+]]: memref<8x32x16xf32> {moe.dims = [8, 32, 16], moe.name = "dw", moe.role = "inout"}
// CHECK-SAME:    %[[Y:[a-z0-9]+]]: memref<?x32xf32> {moe.dims = ["2*T", 32], moe.kind = "saved", moe.name = "y", moe.role = "output"}
// CHECK-SAME:    %{{.*}}: memref<?x16xf32> {moe.dims = ["T", 16], moe.name = "out1", moe.role = "output"}) {
// CHECK:         bufferization.to_tensor %[[DW]] restrict writable
// CHECK:         bufferization.materialize_in_destination %{{.*}} in restrict writable %[[Y]]
// CHECK:         bufferization.materialize_in_destination %{{.*}} in restrict writable %[[DW]]
// CHECK:         return{{$}}
func.func @layer(%x: tensor<?x16xf32>, %dw: tensor<8x32x16xf32> {moe.inout, moe.name = "dw"},
                 %ids: tensor<?x2xi32> {moe.dims = ["T", 2], moe.name = "ids"},
                 %dy: tensor<?x32xf32>, %w: tensor<8x32x16xf32>)
    -> (tensor<?x32xf32> {moe.name = "y", moe.kind = "saved"},
        tensor<8x32x16xf32> {moe.inout}, tensor<?x16xf32>) {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %y = moe.parallel_linear %x, %w by %a from token to grouped out_in
      : tensor<?x16xf32>, tensor<8x32x16xf32>, !moe.assignment<?x2, 8>
      -> tensor<?x32xf32>
  %new = moe.weight_grad %x from token, %dy from slot by %a out_in
      accumulate(%dw : tensor<8x32x16xf32>)
      : tensor<?x16xf32>, tensor<?x32xf32>, !moe.assignment<?x2, 8>
      -> tensor<8x32x16xf32>
  return %y, %new, %x : tensor<?x32xf32>, tensor<8x32x16xf32>, tensor<?x16xf32>
}

// -----

// A reshaped result is written through a reshaped buffer.
// CHECK-LABEL: func.func @slot_sums(
// CHECK-SAME:    %{{.*}}: tensor<?x64xf32> {bufferization.writable = false, moe.dims = ["2*d1_0", 64]
// CHECK-SAME:    %{{.*}}: tensor<?x2xf32> {bufferization.writable = false, moe.dims = ["d1_0", 2]
// CHECK-SAME:    %[[OUT:[a-z0-9]+]]: memref<?x2xf32> {moe.dims = ["d1_0", 2]
// CHECK:         %[[FLAT:.*]] = memref.collapse_shape %[[OUT]] {{\[\[}}0, 1]] : memref<?x2xf32> into memref<?xf32>
// CHECK:         %[[Y:.*]] = moe.map_rows token
// CHECK:         bufferization.materialize_in_destination %[[Y]] in restrict writable %[[FLAT]]
func.func @slot_sums(%x: tensor<?x64xf32>, %s: tensor<?x2xf32>)
    -> tensor<?x2xf32> {
  %y = moe.rowwise slot
      ins(%x : tensor<?x64xf32> rows, %s : tensor<?x2xf32> scalar)
      outs(tensor<?x2xf32> sum) {
  ^bb0(%v: f32, %g: f32):
    %0 = arith.mulf %v, %g : f32
    moe.yield %0 : f32
  }
  return %y : tensor<?x2xf32>
}

// -----

// CHECK-LABEL: func.func @token_sums(
// CHECK-SAME:    %[[OUT:[a-z0-9]+]]: memref<?xf32> {moe.dims = ["d1_0"]
// CHECK:         %[[COLUMN:.*]] = memref.expand_shape %[[OUT]] {{\[\[}}0, 1]] {{.*}} : memref<?xf32> into memref<?x1xf32>
// CHECK:         bufferization.materialize_in_destination %{{.*}} in restrict writable %[[COLUMN]]
func.func @token_sums(%s: tensor<?x2xf32>, %ids: tensor<?x2xi32>)
    -> tensor<?xf32> {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %o = moe.combine %s from slot by %a
      : tensor<?x2xf32>, !moe.assignment<?x2, 8> -> tensor<?xf32>
  return %o : tensor<?xf32>
}

// -----

// Private functions are left alone.
// CHECK-LABEL: func.func private @helper(
// CHECK-SAME:    tensor<?x16xf32>) -> tensor<?x16xf32>
func.func private @helper(%x: tensor<?x16xf32>) -> tensor<?x16xf32> {
  return %x : tensor<?x16xf32>
}

// -----

func.func @names_disagree(%x: tensor<?x16xf32> {moe.dims = ["T", 16]},
                          %ids: tensor<?x2xi32> {moe.dims = ["S", 2]})
    -> tensor<?x16xf32> {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  // expected-error @below {{'moe.map_rows' op wants operand #0 to have size 2*S, got 2*T; say in moe.dims of the arguments which sizes are equal}}
  %g = moe.group %x from token by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %g : tensor<?x16xf32>
}

// -----

// expected-error @below {{moe.dims of argument #0 says "T*K" for dimension 0; a dimension is a linear expression of names, such as "T" or "2*T"}}
func.func @not_linear(%x: tensor<?x16xf32> {moe.dims = ["T*K", 16]}) -> tensor<?x16xf32> {
  return %x : tensor<?x16xf32>
}

// -----

// expected-error @below {{argument #0 has dimension 2*T+1 in 'unbound', and no argument has a dimension that is T or a multiple of it; a call could not know its value}}
func.func @unbound(%x: tensor<?x16xf32> {moe.dims = ["2*T+1", 16]}) -> tensor<?x16xf32> {
  return %x : tensor<?x16xf32>
}

// -----

func.func @result_disagrees(%x: tensor<?x16xf32> {moe.dims = ["T", 16]})
    -> (tensor<?x16xf32> {moe.dims = ["2*T", 16]}) {
  // expected-error @below {{wants dimension 0 of result #0 to have size 2*T, got T}}
  return %x : tensor<?x16xf32>
}

// -----

// expected-error @below {{argument #1 of public function 'number' is 'f32'; public functions take and return ranked tensors}}
func.func @number(%x: tensor<4xf32>, %y: f32) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

// -----

// expected-error @below {{public function 'lost_inout' has 1 moe.inout arguments and 0 moe.inout results}}
func.func @lost_inout(%x: tensor<4xf32> {moe.inout}) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

// -----

// expected-error @below {{moe.inout argument #0 is 'tensor<4xf32>' and its new value, result #0, is 'tensor<5xf32>'}}
func.func @inout_type(%x: tensor<4xf32> {moe.inout}, %y: tensor<5xf32>) -> (tensor<5xf32> {moe.inout}) {
  return %y : tensor<5xf32>
}

// -----

// expected-error @below {{two arguments or results of 'twice' are named 'x'; give each its own moe.name}}
func.func @twice(%x: tensor<4xf32> {moe.name = "x"}) -> (tensor<4xf32> {moe.name = "x"}) {
  return %x : tensor<4xf32>
}

// -----

func.func private @callee(%x: tensor<4xf32>) -> tensor<4xf32>
func.func @caller(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{is left; inline every function into the public ones first}}
  %y = call @callee(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

// expected-error @below {{dimension 0 of result #0 of 'halves' is not linear in the sizes of the arguments}}
func.func @halves(%x: tensor<?xf32>) -> tensor<?xf32> {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %d = tensor.dim %x, %c0 : tensor<?xf32>
  %h = arith.divui %d, %c2 : index
  %e = tensor.empty(%h) : tensor<?xf32>
  return %e : tensor<?xf32>
}

// -----

// Two ops that write one empty tensor, or one fill, get one each.
// CHECK-LABEL: func.func @own_inits
// CHECK:         %[[E0:.*]] = tensor.empty()
// CHECK:         %[[F0:.*]] = linalg.fill {{.*}} outs(%[[E0]]
// CHECK:         %[[E1:.*]] = tensor.empty()
// CHECK:         %[[F1:.*]] = linalg.fill {{.*}} outs(%[[E1]]
// CHECK:         linalg.matmul {{.*}} outs(%[[F1]]
// CHECK:         linalg.matmul {{.*}} outs(%[[F0]]
func.func @own_inits(%x: tensor<4x2xf32>, %w: tensor<2x8xf32>, %v: tensor<2x8xf32>)
    -> (tensor<4x8xf32>, tensor<4x8xf32>) {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<4x8xf32>
  %fill = linalg.fill ins(%zero : f32) outs(%empty : tensor<4x8xf32>) -> tensor<4x8xf32>
  %y = linalg.matmul ins(%x, %w : tensor<4x2xf32>, tensor<2x8xf32>) outs(%fill : tensor<4x8xf32>) -> tensor<4x8xf32>
  %z = linalg.matmul ins(%x, %v : tensor<4x2xf32>, tensor<2x8xf32>) outs(%fill : tensor<4x8xf32>) -> tensor<4x8xf32>
  return %y, %z : tensor<4x8xf32>, tensor<4x8xf32>
}
