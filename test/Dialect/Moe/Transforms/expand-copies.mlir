// RUN: moe-opt %s --moe-expand-copies | FileCheck %s

// Parts of rows, on either side, become loops; whole buffers stay one copy.
// CHECK-LABEL: func.func @from_parts
// CHECK-NOT: memref.copy
// CHECK: linalg.copy
func.func @from_parts(%x: memref<?x16xf32, strided<[32, 1]>>, %y: memref<?x16xf32>) {
  memref.copy %x, %y : memref<?x16xf32, strided<[32, 1]>> to memref<?x16xf32>
  return
}

// CHECK-LABEL: func.func @to_parts
// CHECK-NOT: memref.copy
// CHECK: linalg.copy
func.func @to_parts(%x: memref<4x16xf32>, %y: memref<4x16xf32, strided<[32, 1], offset: 16>>) {
  memref.copy %x, %y : memref<4x16xf32> to memref<4x16xf32, strided<[32, 1], offset: 16>>
  return
}

// CHECK-LABEL: func.func @whole
// CHECK: memref.copy
// CHECK-NOT: linalg.copy
func.func @whole(%x: memref<?x16xf32>, %y: memref<?x16xf32>) {
  memref.copy %x, %y : memref<?x16xf32> to memref<?x16xf32>
  return
}
