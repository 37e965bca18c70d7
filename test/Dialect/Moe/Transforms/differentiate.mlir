// RUN: moe-opt %s --moe-differentiate="wrt=0,1" --split-input-file --verify-diagnostics | FileCheck %s
// Numbers are checked against PyTorch in python/tests/test_gradients_*.py.

// CHECK-LABEL: func.func @linear_joint(
// CHECK-SAME:    %[[X:[^:]*]]: tensor<?x16xf32> {moe.dims = ["T", 16], moe.name = "x"}, %[[W:[^:]*]]: tensor<8x32x16xf32>, %[[A:[^:]*]]: !moe.assignment<?x2, 8>, %[[DY:[^:]*]]: tensor<?x32xf32> {moe.dims = ["2*T", 32], moe.name = "d_out0"})
// CHECK-SAME:    -> (tensor<?x32xf32>, tensor<?x16xf32> {moe.dims = ["T", 16], moe.name = "d_x"}, tensor<8x32x16xf32> {moe.name = "d_arg1"})
// CHECK-SAME:    moe.joint = {arguments = 3 : i64, cotangents = array<i64: 0>, primal = "linear", results = 1 : i64, wrt = array<i64: 0, 1>}
// CHECK:         %[[Y:.*]] = moe.parallel_linear %[[X]], %[[W]] by %[[A]] from token to grouped out_in
// CHECK:         %[[G:.*]] = moe.parallel_linear %[[DY]], %[[W]] by %[[A]] from grouped to grouped in_out
// CHECK:         %[[DX:.*]] = moe.combine %[[G]] from grouped by %[[A]]
// CHECK:         %[[DW:.*]] = moe.weight_grad %[[X]] from token, %[[DY]] from grouped by %[[A]] out_in
// CHECK:         return %[[Y]], %[[DX]], %[[DW]]
func.func @linear(%x: tensor<?x16xf32> {moe.name = "x", moe.dims = ["T", 16]},
                  %w: tensor<8x32x16xf32>, %a: !moe.assignment<?x2, 8>)
    -> tensor<?x32xf32> {
  %y = moe.parallel_linear %x, %w by %a from token to grouped out_in
      : tensor<?x16xf32>, tensor<8x32x16xf32>, !moe.assignment<?x2, 8>
      -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// The gate of a sentinel slot: its gradient is scattered, so zero.
// CHECK-LABEL: func.func @combine_joint(
// CHECK:         %[[DO:.*]] = moe.group %{{.*}} from token
// CHECK:         %[[DOT:.*]] = moe.rowwise grouped{{.*}}outs(tensor<?xf32> sum)
// CHECK:         %[[DG:.*]] = moe.scatter %[[DOT]]
// CHECK:         %[[G:.*]] = moe.group %{{.*}} from slot
// CHECK:         %[[DR:.*]] = moe.rowwise grouped{{.*}}ins(%[[DO]] : tensor<?x16xf32> rows, %[[G]] : tensor<?xf32> scalar)
// CHECK:         return %{{.*}}, %[[DR]], %[[DG]]
func.func @combine(%y: tensor<?x16xf32>, %g: tensor<?x2xf32>,
                   %a: !moe.assignment<?x2, 8>) -> tensor<?x16xf32> {
  %o = moe.combine %y from grouped by %a gates(%g : tensor<?x2xf32>)
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %o : tensor<?x16xf32>
}

// -----

// A selection bias moves the choice alone: its gradient is zeros. A capacity
// is differentiated with the ids of the route without it.
// CHECK-LABEL: func.func @route_joint(
// CHECK:         %{{.*}}, %[[FINAL:.*]] = moe.route{{.*}}capacity = 3
// CHECK:         %{{.*}}, %[[IDS:.*]] = moe.route
// CHECK-NOT:     capacity
// CHECK:         %[[KEPT:.*]] = arith.cmpi eq, %[[FINAL]], %[[IDS]]
// CHECK:         %[[D:.*]] = arith.select %[[KEPT]]
// CHECK:         moe.route_grad %{{.*}}, %[[IDS]], %[[D]] sigmoid score_then_topk
func.func @route(%l: tensor<?x8xf32>, %b: tensor<8xf32>) -> tensor<?x2xf32> {
  %g, %i = moe.route %l sigmoid score_then_topk bias(%b : tensor<8xf32>)
      {normalize, capacity = 3}
      : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  return %g : tensor<?x2xf32>
}

// -----

// expected-error @below {{wrt names '1', which is no argument's moe.name or number}}
module {
func.func @too_many(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}
}

// -----

// expected-error @below {{argument '1' is 'tensor<4xi32>'; gradients are with respect to ranked tensors of floats}}
func.func @integers(%x: tensor<4xf32>, %i: tensor<4xi32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

// -----

func.func @unknown(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %i = arith.constant dense<0> : tensor<4x1xindex>
  // expected-error @below {{'tensor.gather' op has no derivative, and a gradient that is asked for passes through it; write it with ops that have one, or inline it}}
  %z = tensor.gather %x[%i] gather_dims([0]) : (tensor<4xf32>, tensor<4x1xindex>) -> tensor<4xf32>
  return %z : tensor<4xf32>
}

// -----

func.func @region(%x: tensor<4x4xf32>, %y: tensor<4x4xf32>) -> tensor<4x4xf32> {
  // expected-error @below {{'moe.rowwise' op cannot be differentiated: its region holds math.fpowi, whose derivative is not known; write it with ops of arith and math that have one}}
  %z = moe.rowwise token ins(%x : tensor<4x4xf32> rows) outs(tensor<4x4xf32> rows) {
  ^bb0(%u: f32):
    %n = arith.constant 3 : i32
    // expected-note @below {{see the op here}}
    %v = math.fpowi %u, %n : f32, i32
    moe.yield %v : f32
  }
  return %z : tensor<4x4xf32>
}

// -----

func.func @reduction(%x: tensor<4xf32>, %y: tensor<f32>) -> tensor<f32> {
  // expected-error @below {{cannot be differentiated: it reduces with something other than a sum}}
  %z = linalg.reduce ins(%x : tensor<4xf32>) outs(%y : tensor<f32>) dimensions = [0]
    (%a: f32, %b: f32) {
      %m = arith.maximumf %a, %b : f32
      linalg.yield %m : f32
    }
  return %z : tensor<f32>
}

// -----

func.func private @g(%x: tensor<4xf32>) -> tensor<4xf32>
func.func @call(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{'func.call' op cannot be differentiated; run inline before}}
  %z = func.call @g(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %z : tensor<4xf32>
}

// -----

// expected-error @below {{argument #0 is updated in place (moe.inout), and backward would see its new value; differentiate before marking it}}
func.func @inout(%x: tensor<4xf32> {moe.inout}, %y: tensor<4xf32>) -> (tensor<4xf32> {moe.inout}) {
  return %y : tensor<4xf32>
}

// -----

#map = affine_map<(d0) -> (d0)>
func.func @captured(%x: tensor<4xf32>, %s: tensor<f32>) -> tensor<4xf32> {
  %v = tensor.extract %s[] : tensor<f32>
  // expected-error @below {{'linalg.generic' op reads a value from outside its region through which a gradient that is asked for passes; make it an operand}}
  %z = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel"]}
      ins(%x : tensor<4xf32>) outs(%x : tensor<4xf32>) {
  ^bb0(%a: f32, %b: f32):
    %m = arith.mulf %a, %v : f32
    linalg.yield %m : f32
  } -> tensor<4xf32>
  return %z : tensor<4xf32>
}

// -----

// Only a result without a cotangent has columns: it tells how many there are.
// CHECK-LABEL: func.func @columns_of_a_result_joint(
// CHECK-SAME:    %[[S:[^:]*]]: tensor<4xf64>, %[[R:[^:]*]]: tensor<4xf64>, %[[DY:[^:]*]]: tensor<4xf64>
// CHECK:         %[[Y:.*]]:2 = moe.rowwise token
// CHECK:         %[[D:.*]]:2 = moe.rowwise token ins(%[[S]] : tensor<4xf64> scalar, %[[R]] : tensor<4xf64> scalar, %[[DY]] : tensor<4xf64> scalar, %[[Y]]#0 : tensor<4x3xf64> rows) outs(tensor<4xf64> sum, tensor<4xf64> sum)
// CHECK:         return %[[Y]]#1, %[[D]]#0, %[[D]]#1
func.func @columns_of_a_result(%s: tensor<4xf64>, %r: tensor<4xf64>)
    -> tensor<4xf64> {
  %y:2 = moe.rowwise token
      ins(%s : tensor<4xf64> scalar, %r : tensor<4xf64> scalar)
      outs(tensor<4x3xf64> rows, tensor<4xf64> sum) {
  ^bb0(%v: f64, %u: f64):
    %w = arith.mulf %v, %u : f64
    moe.yield %v, %w : f64, f64
  }
  return %y#1 : tensor<4xf64>
}
