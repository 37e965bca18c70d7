// RUN: moe-opt %s --moe-widen-linalg --split-input-file | FileCheck %s

// A product sums in f32, from a fill that is no buffer of its own.
// CHECK-LABEL: func.func @product
// CHECK: %[[EMPTY:.*]] = tensor.empty(%{{.*}}) : tensor<?x8xf32>
// CHECK: %[[ZERO:.*]] = linalg.fill ins(%{{.*}} : f32) outs(%[[EMPTY]] : tensor<?x8xf32>)
// CHECK: %[[SUM:.*]] = linalg.generic
// CHECK-SAME: ins(%{{.*}} : tensor<?x4xf16>, tensor<4x8xf16>) outs(%[[ZERO]] : tensor<?x8xf32>)
// CHECK: arith.mulf %{{.*}}, %{{.*}} : f32
// CHECK: arith.addf %{{.*}}, %{{.*}} : f32
// CHECK: linalg.yield %{{.*}} : f32
// CHECK: %[[Y:.*]] = arith.truncf %[[SUM]] : tensor<?x8xf32> to tensor<?x8xf16>
// CHECK: return %[[Y]]
func.func @product(%x: tensor<?x4xf16>, %w: tensor<4x8xf16>, %t: index)
    -> tensor<?x8xf16> {
  %zero = arith.constant 0.0 : f16
  %empty = tensor.empty(%t) : tensor<?x8xf16>
  %fill = linalg.fill ins(%zero : f16) outs(%empty : tensor<?x8xf16>)
      -> tensor<?x8xf16>
  %y = linalg.matmul ins(%x, %w : tensor<?x4xf16>, tensor<4x8xf16>)
      outs(%fill : tensor<?x8xf16>) -> tensor<?x8xf16>
  return %y : tensor<?x8xf16>
}

// -----

// Elementwise: constants, values from outside and comparisons are in f32; a
// rounding that is written stays, and bits are those of the narrow type.
// CHECK-LABEL: func.func @elementwise
// CHECK-SAME: %[[X:[^:]*]]: tensor<4xbf16>, %[[S:[^:]*]]: bf16
// CHECK: linalg.generic
// CHECK: ^bb0(%[[IN:.*]]: bf16, %{{.*}}: bf16):
// CHECK-NEXT: %[[V:.*]] = arith.extf %[[IN]] : bf16 to f32
// CHECK-NEXT: %[[ONE:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT: %[[A:.*]] = arith.addf %[[V]], %[[ONE]] : f32
// CHECK-NEXT: %[[WIDE:.*]] = arith.extf %[[S]] : bf16 to f32
// CHECK-NEXT: %[[B:.*]] = arith.mulf %[[A]], %[[WIDE]] : f32
// CHECK-NEXT: %[[C:.*]] = arith.cmpf ogt, %[[B]], %[[ONE]] : f32
// CHECK-NEXT: %[[D:.*]] = arith.select %[[C]], %[[A]], %[[B]] : f32
// CHECK-NEXT: %[[BITS:.*]] = arith.truncf %[[D]] : f32 to bf16
// CHECK-NEXT: %[[I:.*]] = arith.bitcast %[[BITS]] : bf16 to i16
// CHECK-NEXT: %[[E:.*]] = arith.uitofp %[[I]] : i16 to f32
// CHECK-NEXT: %[[ROUND:.*]] = arith.truncf %[[E]] : f32 to bf16
// CHECK-NEXT: linalg.yield %[[ROUND]] : bf16
func.func @elementwise(%x: tensor<4xbf16>, %s: bf16) -> tensor<4xbf16> {
  %empty = tensor.empty() : tensor<4xbf16>
  %y = linalg.generic {
      indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>],
      iterator_types = ["parallel"]}
      ins(%x : tensor<4xbf16>) outs(%empty : tensor<4xbf16>) {
  ^bb0(%v: bf16, %out: bf16):
    %one = arith.constant 1.0 : bf16
    %a = arith.addf %v, %one : bf16
    %b = arith.mulf %a, %s : bf16
    %c = arith.cmpf ogt, %b, %one : bf16
    %d = arith.select %c, %a, %b : bf16
    %i = arith.bitcast %d : bf16 to i16
    %e = arith.uitofp %i : i16 to bf16
    linalg.yield %e : bf16
  } -> tensor<4xbf16>
  return %y : tensor<4xbf16>
}

// -----

// What only moves or selects rounds nothing; f32 sums as it is.
// CHECK-LABEL: func.func @stays
// CHECK-NOT: arith.extf
// CHECK: linalg.transpose
// CHECK-NOT: arith.truncf
// CHECK: linalg.matmul
func.func @stays(%x: tensor<4x8xbf16>, %a: tensor<4x8xf32>, %b: tensor<8x4xf32>,
                 %t: tensor<8x4xbf16>, %c: tensor<4x4xf32>)
    -> (tensor<8x4xbf16>, tensor<4x4xf32>) {
  %y = linalg.transpose ins(%x : tensor<4x8xbf16>) outs(%t : tensor<8x4xbf16>)
      permutation = [1, 0]
  %z = linalg.matmul ins(%a, %b : tensor<4x8xf32>, tensor<8x4xf32>)
      outs(%c : tensor<4x4xf32>) -> tensor<4x4xf32>
  return %y, %z : tensor<8x4xbf16>, tensor<4x4xf32>
}

// -----

// A region within the region is left alone.
// CHECK-LABEL: func.func @nested
// CHECK: arith.addf %{{.*}} : bf16
func.func @nested(%x: tensor<4xbf16>, %c: i1) -> tensor<4xbf16> {
  %y = linalg.generic {
      indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>],
      iterator_types = ["parallel"]}
      ins(%x : tensor<4xbf16>) outs(%x : tensor<4xbf16>) {
  ^bb0(%v: bf16, %out: bf16):
    %a = scf.if %c -> bf16 {
      %sum = arith.addf %v, %v : bf16
      scf.yield %sum : bf16
    } else {
      scf.yield %v : bf16
    }
    linalg.yield %a : bf16
  } -> tensor<4xbf16>
  return %y : tensor<4xbf16>
}
