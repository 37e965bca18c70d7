// RUN: moe-opt %s --one-shot-bufferize="bufferize-function-boundaries" --canonicalize | FileCheck %s
// RUN: moe-opt %s --verify-roundtrip -o /dev/null

// The external models that the pipelines rely on are registered.

// CHECK-LABEL: func @add
// CHECK-SAME: memref<4xf32
func.func @add(%a: tensor<4xf32>, %i: index, %x: f32) -> tensor<4xf32> {
  %0 = tensor.insert %x into %a[%i] : tensor<4xf32>
  return %0 : tensor<4xf32>
}
