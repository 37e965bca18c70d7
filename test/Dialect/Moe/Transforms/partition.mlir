// RUN: moe-opt %s --moe-differentiate="wrt=0,1" --moe-partition --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-differentiate="wrt=0,1" --moe-partition="policy=save-all" --split-input-file | FileCheck %s --check-prefix=ALL
// RUN: moe-opt %s --moe-differentiate="wrt=0,1" --moe-partition="budget-bytes=0" --split-input-file 2>&1 | FileCheck %s --check-prefix=BUDGET
// RUN: moe-opt %s --moe-differentiate="wrt=0,1" --moe-partition="split-weights=1" --split-input-file | FileCheck %s --check-prefix=SPLIT

// tanh(x w): the product is saved, the activation is computed again.
// CHECK-NOT:   func.func @f(
// CHECK-LABEL: func.func @f_forward(
// CHECK:         %[[H:.*]] = moe.parallel_linear
// CHECK:         %[[Y:.*]] = moe.rowwise
// CHECK:         return %[[Y]], %[[H]]
// CHECK-LABEL: func.func @f_backward(
// CHECK-SAME:    %[[DY:[^:]*]]: tensor<8x4xf32> {moe.name = "d_out0"}, %[[X:[^:]*]]: tensor<4x16xf32> {moe.name = "arg0"}, %[[W:[^:]*]]: tensor<8x4x16xf32> {moe.name = "arg1"}, %[[A:[^:]*]]: !moe.assignment<4x2, 8> {moe.name = "arg2"}, %[[H:[^:]*]]: tensor<8x4xf32> {moe.kind = "saved", moe.name = "saved0"})
// CHECK-SAME:    -> (tensor<4x16xf32> {moe.kind = "gradient", moe.name = "d_arg0"}, tensor<8x4x16xf32> {moe.kind = "gradient", moe.name = "d_arg1"})
// CHECK-SAME:    moe.backward = {cotangents = ["out0"], forward = "f_forward", gradients = ["arg0", "arg1"]}
// CHECK-SAME:    {bytes = 256 : i64, index = 0 : i64, kind = "argument", name = "arg0"}, {bytes = 2048 : i64, index = 1 : i64, kind = "argument", name = "arg1"}
// CHECK-SAME:    {bytes = 128 : i64, index = 1 : i64, kind = "saved", name = "saved0"}
// CHECK:         moe.rowwise {{.*}}ins(%[[H]] : tensor<8x4xf32> rows, %[[DY]] : tensor<8x4xf32> rows)
// CHECK:           math.exp
// CHECK-NOT:   func.func @f_joint

// Nothing is computed twice: the activation's rows are saved beside.
// ALL-LABEL:   func.func @f_backward(
// ALL-SAME:      kind = "saved"
// ALL-NOT:       moe.parallel_linear {{.*}} out_in
// ALL:           return

// BUDGET:      remark: computed again in backward: 1024 FLOPs, saves 128 bytes
// BUDGET-LABEL: func.func @f_forward(
// BUDGET:        return %{{.*}} : tensor<8x4xf32>{{$}}
// BUDGET-LABEL: func.func @f_backward(
// BUDGET:        moe.parallel_linear {{.*}} from token to grouped out_in

// What backward of the weights needs is passed again, and dH is elementwise.
// SPLIT-LABEL: func.func @f_backward_input(
// SPLIT-SAME:    moe.backward = {cotangents = ["out0"], forward = "f_forward", gradients = ["arg0"]}
// SPLIT-NOT:     moe.weight_grad
// SPLIT:         return %{{.*}} : tensor<4x16xf32>{{$}}
// SPLIT-LABEL: func.func @f_backward_weight(
// SPLIT-SAME:    moe.backward = {cotangents = [], forward = "f_backward_input", gradients = ["arg1"]}
// SPLIT-NOT:     moe.parallel_linear
// SPLIT:         %[[DH:.*]] = moe.rowwise
// SPLIT:         %[[DW:.*]] = moe.weight_grad %{{.*}} from token, %[[DH]] from grouped
// SPLIT:         return %[[DW]]
func.func @f(%x: tensor<4x16xf32>, %w: tensor<8x4x16xf32>,
             %a: !moe.assignment<4x2, 8>) -> tensor<8x4xf32> {
  %h = moe.parallel_linear %x, %w by %a from token to grouped out_in
      : tensor<4x16xf32>, tensor<8x4x16xf32>, !moe.assignment<4x2, 8>
      -> tensor<8x4xf32>
  %y = moe.rowwise grouped by %a : !moe.assignment<4x2, 8>
      ins(%h : tensor<8x4xf32> rows) outs(tensor<8x4xf32> rows) {
  ^bb0(%u: f32):
    %v = math.exp %u : f32
    %s = math.sin %v : f32
    moe.yield %s : f32
  }
  return %y : tensor<8x4xf32>
}

// -----

// Called forward, and with names: its parts are forward and backward.
// CHECK-LABEL: func.func @forward(
// CHECK-SAME:    {moe.dims = ["T", 4], moe.name = "x"}
// CHECK-SAME:    -> (tensor<?x4xf32> {moe.name = "y"}, tensor<?xi32> {moe.dims = ["2*T"], moe.kind = "table", moe.name = "order"}, tensor<?xi32> {moe.dims = ["2*T"], moe.kind = "table", moe.name = "position"}, tensor<8xi32> {moe.kind = "table", moe.name = "begin"}, tensor<8xi32> {moe.kind = "table", moe.name = "end"})
// CHECK-LABEL: func.func @backward(
// CHECK-SAME:    {moe.dims = ["2*T", 4], moe.name = "d_y"}
// CHECK-SAME:    {moe.dims = ["2*T"], moe.kind = "table", moe.name = "order"}
// CHECK-SAME:    moe.backward = {cotangents = ["y"], forward = "forward", gradients = ["x", "w"]}
func.func @forward(%x: tensor<?x4xf32> {moe.name = "x", moe.dims = ["T", 4]},
                   %w: tensor<8x4x4xf32> {moe.name = "w"},
                   %ids: tensor<?x2xi32> {moe.name = "ids", moe.dims = ["T", 2]})
    -> (tensor<?x4xf32> {moe.name = "y"}) {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %h = moe.parallel_linear %x, %w by %a from token to slot out_in
      : tensor<?x4xf32>, tensor<8x4x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  return %h : tensor<?x4xf32>
}

// -----

// A region reads a scalar from outside; both sides take it from the argument.
// CHECK-LABEL: func.func @captured_forward(
// CHECK:         %[[S:.*]] = tensor.extract
// CHECK:         linalg.generic
// CHECK:           arith.mulf %{{.*}}, %[[S]]
// CHECK-LABEL: func.func @captured_backward(
// CHECK-SAME:    %{{.*}}: tensor<f32> {moe.name = "arg2"})
// CHECK:         %[[T:.*]] = tensor.extract
// CHECK:         linalg.generic
// CHECK:           arith.mulf %{{.*}}, %[[T]]
#map = affine_map<(d0) -> (d0)>
func.func @captured(%x: tensor<4xf32>, %y: tensor<4xf32>, %s: tensor<f32>) -> tensor<4xf32> {
  %v = tensor.extract %s[] : tensor<f32>
  %z = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel"]}
      ins(%x : tensor<4xf32>) outs(%y : tensor<4xf32>) {
  ^bb0(%a: f32, %b: f32):
    %m = arith.mulf %a, %v : f32
    linalg.yield %m : f32
  } -> tensor<4xf32>
  return %z : tensor<4xf32>
}
