// RUN: moe-opt %s --moe-differentiate="wrt=0,1" --moe-partition --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-differentiate="wrt=0,1" --moe-partition="policy=save-all" --split-input-file | FileCheck %s --check-prefix=ALL
// RUN: moe-opt %s --moe-differentiate="wrt=0,1" --moe-partition="budget-bytes=0" --split-input-file 2>&1 | FileCheck %s --check-prefix=BUDGET
// RUN: moe-opt %s --moe-differentiate="wrt=0,1" --moe-partition="split-weights=1" --split-input-file | FileCheck %s --check-prefix=SPLIT

// tanh(x w): the product is saved, the activation is computed again.
// CHECK-LABEL: func.func @f_forward(
// CHECK:         %[[H:.*]] = moe.parallel_linear
// CHECK:         %[[Y:.*]] = moe.rowwise
// CHECK:         return %[[Y]], %[[H]]
// CHECK-LABEL: func.func @f_backward(
// CHECK-SAME:    %[[DY:[^:]*]]: tensor<8x4xf32> {moe.name = "d_out0"}, %[[X:[^:]*]]: tensor<4x16xf32>, %[[W:[^:]*]]: tensor<8x4x16xf32>, %[[A:[^:]*]]: !moe.assignment<4x2, 8>, %[[H:[^:]*]]: tensor<8x4xf32>)
// CHECK-SAME:    -> (tensor<4x16xf32> {moe.name = "d_arg0"}, tensor<8x4x16xf32> {moe.name = "d_arg1"})
// CHECK-SAME:    moe.cotangents = 1 : i64
// CHECK-SAME:    {bytes = 256 : i64, index = 0 : i64, kind = "argument"}, {bytes = 2048 : i64, index = 1 : i64, kind = "argument"}
// CHECK-SAME:    {bytes = 128 : i64, index = 1 : i64, kind = "saved"}
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
// SPLIT-NOT:     moe.weight_grad
// SPLIT:         return %{{.*}} : tensor<4x16xf32>{{$}}
// SPLIT-LABEL: func.func @f_backward_weight(
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
