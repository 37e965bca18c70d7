// RUN: moe-opt %s --moe-order-kernels --split-input-file | FileCheck %s

// After the first product its reduction frees its rows, and those of the next
// one take their place: 512 T bytes are live at most instead of 1024 T.
// CHECK-LABEL: func.func @reduce_first(
// CHECK:         linalg.exp
// CHECK-NEXT:    linalg.reduce
// CHECK-NEXT:    tensor.dim
// CHECK:         linalg.abs
// CHECK:         linalg.reduce
func.func @reduce_first(%x: tensor<?x128xf32> {moe.dims = ["T", 128]}, %sum: tensor<128xf32>, %other: tensor<128xf32>)
    -> (tensor<128xf32>, tensor<128xf32>) {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x128xf32>
  %e = tensor.empty(%t) : tensor<?x128xf32>
  %t2 = tensor.dim %x, %c0 : tensor<?x128xf32>
  %e2 = tensor.empty(%t2) : tensor<?x128xf32>
  %a = linalg.exp ins(%x : tensor<?x128xf32>) outs(%e : tensor<?x128xf32>) -> tensor<?x128xf32>
  %b = linalg.abs ins(%x : tensor<?x128xf32>) outs(%e2 : tensor<?x128xf32>) -> tensor<?x128xf32>
  %r = linalg.reduce {arith.addf} ins(%a : tensor<?x128xf32>) outs(%sum : tensor<128xf32>) dimensions = [0]
  %s = linalg.reduce {arith.addf} ins(%b : tensor<?x128xf32>) outs(%other : tensor<128xf32>) dimensions = [0]
  return %r, %s : tensor<128xf32>, tensor<128xf32>
}

// -----

// Nothing becomes less: results and arguments count nothing, so all stays.
// CHECK-LABEL: func.func @stays(
// CHECK:         linalg.exp
// CHECK-NEXT:    linalg.abs
// CHECK-NEXT:    linalg.log
func.func @stays(%x: tensor<?x128xf32> {moe.dims = ["T", 128]}, %y: tensor<?x128xf32>)
    -> (tensor<?x128xf32>, tensor<?x128xf32>) {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x128xf32>
  %e = tensor.empty(%t) : tensor<?x128xf32>
  %a = linalg.exp ins(%x : tensor<?x128xf32>) outs(%e : tensor<?x128xf32>) -> tensor<?x128xf32>
  %b = linalg.abs ins(%x : tensor<?x128xf32>) outs(%y : tensor<?x128xf32>) -> tensor<?x128xf32>
  %c = linalg.log ins(%a : tensor<?x128xf32>) outs(%e : tensor<?x128xf32>) -> tensor<?x128xf32>
  return %b, %c : tensor<?x128xf32>, tensor<?x128xf32>
}

// -----

// Who reads a buffer stays before who overwrites it: the reduction of %a would
// free its rows before %b is made, but it overwrites %sum, which %b reads.
// CHECK-LABEL: func.func @overwritten(
// CHECK:         linalg.exp
// CHECK-NEXT:    linalg.broadcast
// CHECK-NEXT:    linalg.reduce
func.func @overwritten(%x: tensor<?x128xf32> {moe.dims = ["T", 128]}, %sum: tensor<128xf32>, %other: tensor<128xf32>)
    -> (tensor<128xf32>, tensor<128xf32>) {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x128xf32>
  %e = tensor.empty(%t) : tensor<?x128xf32>
  %a = linalg.exp ins(%x : tensor<?x128xf32>) outs(%e : tensor<?x128xf32>) -> tensor<?x128xf32>
  %b = linalg.broadcast ins(%sum : tensor<128xf32>) outs(%e : tensor<?x128xf32>) dimensions = [0]
  %r = linalg.reduce {arith.addf} ins(%a : tensor<?x128xf32>) outs(%sum : tensor<128xf32>) dimensions = [0]
  %s = linalg.reduce {arith.addf} ins(%b : tensor<?x128xf32>) outs(%other : tensor<128xf32>) dimensions = [0]
  return %r, %s : tensor<128xf32>, tensor<128xf32>
}

// -----

// A view keeps its buffer alive.
// CHECK-LABEL: func.func @views(
// CHECK:         call @first
// CHECK:         call @second
// CHECK:         linalg.exp
// CHECK:         tensor.collapse_shape
// CHECK:         linalg.reduce
// CHECK:         linalg.abs
func.func private @first()
func.func private @second()
func.func @views(%x: tensor<?x128xf32> {moe.dims = ["T", 128]}, %sum: tensor<f32>, %other: tensor<128xf32>)
    -> (tensor<f32>, tensor<128xf32>) {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x128xf32>
  %e = tensor.empty(%t) : tensor<?x128xf32>
  %a = linalg.exp ins(%x : tensor<?x128xf32>) outs(%e : tensor<?x128xf32>) -> tensor<?x128xf32>
  %flat = tensor.collapse_shape %a [[0, 1]] : tensor<?x128xf32> into tensor<?xf32>
  func.call @first() : () -> ()
  %b = linalg.abs ins(%x : tensor<?x128xf32>) outs(%e : tensor<?x128xf32>) -> tensor<?x128xf32>
  func.call @second() : () -> ()
  %r = linalg.reduce {arith.addf} ins(%flat : tensor<?xf32>) outs(%sum : tensor<f32>) dimensions = [0]
  %s = linalg.reduce {arith.addf} ins(%b : tensor<?x128xf32>) outs(%other : tensor<128xf32>) dimensions = [0]
  return %r, %s : tensor<f32>, tensor<128xf32>
}

// -----

// Ops with side effects keep their order: the second one would free %a before
// %b is made.
// CHECK-LABEL: func.func @effects(
// CHECK:         linalg.exp
// CHECK-NEXT:    linalg.abs
// CHECK-NEXT:    call @first
// CHECK-NEXT:    call @second
func.func private @first(tensor<?x128xf32>)
func.func private @second(tensor<?x128xf32>)
func.func @effects(%x: tensor<?x128xf32> {moe.dims = ["T", 128]}) {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x128xf32>
  %e = tensor.empty(%t) : tensor<?x128xf32>
  %a = linalg.exp ins(%x : tensor<?x128xf32>) outs(%e : tensor<?x128xf32>) -> tensor<?x128xf32>
  %b = linalg.abs ins(%x : tensor<?x128xf32>) outs(%e : tensor<?x128xf32>) -> tensor<?x128xf32>
  func.call @first(%b) : (tensor<?x128xf32>) -> ()
  func.call @second(%a) : (tensor<?x128xf32>) -> ()
  return
}
