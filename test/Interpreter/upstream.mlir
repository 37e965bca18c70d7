// Upstream's ops on constants, whose results are seen with their sums.
// RUN: moe-run %s --entry=linalg --interpret | FileCheck %s --check-prefix=LINALG
// RUN: moe-run %s --entry=tensors --interpret | FileCheck %s --check-prefix=TENSORS
// RUN: moe-run %s --entry=integers --interpret --out %t.0.npy && od -An -td4 -w24 -j128 %t.0.npy | FileCheck %s --check-prefix=INTEGERS
// RUN: moe-run %s --entry=rounding --interpret | FileCheck %s --check-prefix=EXACT
// RUN: moe-run %s --entry=rounding --interpret --round | FileCheck %s --check-prefix=ROUND

// matmul of (2, 3) and (3, 2), its sum over columns, and a generic that reads
// its index.
// LINALG: out0: float32 (2, 2) sum 91, largest 40
// LINALG: out1: float32 (2,) sum 91, largest 68
// LINALG: out2: int64 (2, 3)
// LINALG: out3: float32 (2, 3) sum 9, largest 1.5
func.func @linalg() -> (tensor<2x2xf32>, tensor<2xf32>, tensor<2x3xi64>, tensor<2x3xf32>) {
  %a = arith.constant dense<[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]> : tensor<2x3xf32>
  %b = arith.constant dense<[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]> : tensor<3x2xf32>
  %zero = arith.constant 0.0 : f32
  %x = arith.constant 1.5 : f32
  %e22 = tensor.empty() : tensor<2x2xf32>
  %e2 = tensor.empty() : tensor<2xf32>
  %e23 = tensor.empty() : tensor<2x3xf32>
  %ei = tensor.empty() : tensor<2x3xi64>
  %z22 = linalg.fill ins(%zero : f32) outs(%e22 : tensor<2x2xf32>) -> tensor<2x2xf32>
  %z2 = linalg.fill ins(%zero : f32) outs(%e2 : tensor<2xf32>) -> tensor<2xf32>
  %m = linalg.matmul ins(%a, %b : tensor<2x3xf32>, tensor<3x2xf32>) outs(%z22 : tensor<2x2xf32>) -> tensor<2x2xf32>
  %r = linalg.reduce { arith.addf } ins(%m : tensor<2x2xf32>) outs(%z2 : tensor<2xf32>) dimensions = [1]
  %i = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
      outs(%ei : tensor<2x3xi64>) {
    ^bb0(%o: i64):
      %d = linalg.index 1 : index
      %v = arith.index_cast %d : index to i64
      linalg.yield %v : i64
  } -> tensor<2x3xi64>
  %f = linalg.fill ins(%x : f32) outs(%e23 : tensor<2x3xf32>) -> tensor<2x3xf32>
  return %m, %r, %i, %f : tensor<2x2xf32>, tensor<2xf32>, tensor<2x3xi64>, tensor<2x3xf32>
}

// tensor.empty is NaN until it is written.
// TENSORS: out0: float32 (3,) sum 9, largest 5
// TENSORS: out1: float32 (4,) sum 3, largest 2, 2 NaN
// TENSORS: out2: float32 (4, 1) sum 6, largest 3
// TENSORS: out3: float32 (6,) sum 9, largest 3
func.func @tensors() -> (tensor<3xf32>, tensor<4xf32>, tensor<4x1xf32>, tensor<6xf32>) {
  %a = arith.constant dense<[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]> : tensor<6xf32>
  %s = tensor.extract_slice %a[1] [3] [2] : tensor<6xf32> to tensor<3xf32>
  %e = tensor.empty() : tensor<4xf32>
  %c = arith.constant dense<[1.0, 2.0]> : tensor<2xf32>
  %i = tensor.insert_slice %c into %e[1] [2] [1] : tensor<2xf32> into tensor<4xf32>
  %h = tensor.extract_slice %a[0] [4] [1] : tensor<6xf32> to tensor<4xf32>
  %x = tensor.expand_shape %h [[0, 1]] output_shape [4, 1] : tensor<4xf32> into tensor<4x1xf32>
  %k = tensor.concat dim(0) %h, %c : (tensor<4xf32>, tensor<2xf32>) -> tensor<6xf32>
  return %s, %i, %x, %k : tensor<3xf32>, tensor<4xf32>, tensor<4x1xf32>, tensor<6xf32>
}

// Widths wrap, true is 1, unsigned is unsigned.
// INTEGERS: -2147483648 1 255 -3 -2 0
func.func @integers() -> tensor<6xi32> {
  %max = arith.constant 2147483647 : i32
  %one = arith.constant 1 : i32
  %minus = arith.constant -1 : i8
  %five = arith.constant -5 : i32
  %two = arith.constant 2 : i32
  %zero = arith.constant 0 : i32
  %a = arith.addi %max, %one : i32
  %t = arith.cmpi ugt, %minus, %minus : i8
  %true = arith.cmpi ult, %one, %five : i32
  %b = arith.extui %true : i1 to i32
  %c = arith.extui %minus : i8 to i32
  %d = arith.floordivsi %five, %two : i32
  %e = arith.divsi %five, %two : i32
  %f = arith.divsi %five, %zero : i32
  %r = tensor.from_elements %a, %b, %c, %d, %e, %f : tensor<6xi32>
  return %r : tensor<6xi32>
}

// EXACT: out1: float16 (2,) sum 1.00049, largest 1.0002
// ROUND: out1: float16 (2,) sum 1.00029, largest 1{{$}}
func.func @rounding() -> (tensor<2xbf16>, tensor<2xf16>) {
  %x = arith.constant dense<[1.0, 1.25]> : tensor<2xbf16>
  %y = arith.mulf %x, %x : tensor<2xbf16>
  %z = arith.constant dense<[1.0002, 0.00029]> : tensor<2xf32>
  %h = arith.truncf %z : tensor<2xf32> to tensor<2xf16>
  return %y, %h : tensor<2xbf16>, tensor<2xf16>
}
