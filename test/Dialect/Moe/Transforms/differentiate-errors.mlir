// RUN: moe-opt %s --moe-differentiate --split-input-file --verify-diagnostics
// RUN: not moe-opt %s --moe-differentiate=without-cotangent=5 2>&1 | FileCheck %s --check-prefix=RESULT

// RESULT: error: @unranked has 1 results, numbered from 0; without-cotangent=5 is none of them
func.func @unranked(%x: tensor<4xf32>) -> tensor<4xf32> {
  %u = tensor.cast %x : tensor<4xf32> to tensor<*xf32>
  // expected-error @below {{'arith.addf' op cannot be differentiated: it is no op on ranked tensors}}
  %v = arith.addf %u, %u : tensor<*xf32>
  %y = tensor.cast %v : tensor<*xf32> to tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

func.func @scalar(%x: tensor<4xf32>) -> tensor<f32> {
  %c0 = arith.constant 0 : index
  %v = tensor.extract %x[%c0] : tensor<4xf32>
  %e = tensor.empty() : tensor<f32>
  // expected-error @below {{'linalg.fill' op cannot be differentiated: it reads a scalar that depends on the differentiated arguments; use a tensor of rank 0}}
  %y = linalg.fill ins(%v : f32) outs(%e : tensor<f32>) -> tensor<f32>
  return %y : tensor<f32>
}

// -----

#sum = affine_map<(i, j) -> (i + j)>
#row = affine_map<(i, j) -> (i)>
#column = affine_map<(i, j) -> (j)>
func.func @window(%x: tensor<4xf32>, %k: tensor<2xf32>) -> tensor<3xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<3xf32>
  %z = linalg.fill ins(%zero : f32) outs(%e : tensor<3xf32>) -> tensor<3xf32>
  // expected-error @below {{'linalg.generic' op cannot be differentiated: its indexing map (d0, d1) -> (d0 + d1) is no permutation of loops; write it with slices}}
  %y = linalg.generic {indexing_maps = [#sum, #column, #row], iterator_types = ["parallel", "reduction"]}
      ins(%x, %k : tensor<4xf32>, tensor<2xf32>) outs(%z : tensor<3xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %m = arith.mulf %a, %b : f32
    %s = arith.addf %c, %m : f32
    linalg.yield %s : f32
  } -> tensor<3xf32>
  return %y : tensor<3xf32>
}

// -----

func.func @gates(%y: tensor<?x4xf32> {moe.dims = ["2*T", 4]}, %g: tensor<?x2xf64> {moe.dims = ["T", 2]}, %ids: tensor<?x2xi32> {moe.dims = ["T", 2]}) -> tensor<?x4xf32> {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  // expected-error @below {{cannot be differentiated: it mixes f64 with narrower floats; make all f64, or none}}
  %o = moe.combine %y from slot by %a gates(%g : tensor<?x2xf64>) : tensor<?x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  return %o : tensor<?x4xf32>
}
