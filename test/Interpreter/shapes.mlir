// Sizes that only a run can know are checked in it, and named.
// RUN: not moe-run %s --entry=lengths --interpret 2>&1 | FileCheck %s --check-prefix=LENGTHS
// RUN: not moe-run %s --entry=ranges --interpret 2>&1 | FileCheck %s --check-prefix=RANGES
// RUN: not moe-run %s --entry=left --interpret 2>&1 | FileCheck %s --check-prefix=LEFT
// RUN: not moe-run %s --entry=tokens --interpret --random --dim d0_0=5 2>&1 | FileCheck %s --check-prefix=TOKENS
// RUN: not moe-run %s --entry=added --interpret --random --dim S=3 --dim T=2 2>&1 | FileCheck %s --check-prefix=ADDED
// RUN: not moe-run %s --entry=negative --interpret --random --dim T=2 2>&1 | FileCheck %s --check-prefix=NEGATIVE
// RUN: not moe-run %s --entry=dimension --interpret --random 2>&1 | FileCheck %s --check-prefix=DIMENSION
// RUN: not moe-run %s --entry=joined --interpret --random --dim S=3 --dim T=2 2>&1 | FileCheck %s --check-prefix=JOINED
// RUN: not moe-run %s --entry=inserted --interpret --random --dim T=3 2>&1 | FileCheck %s --check-prefix=INSERTED
// RUN: not moe-run %s --entry=loops --interpret --random --dim S=3 --dim T=2 2>&1 | FileCheck %s --check-prefix=LOOPS
// RUN: not moe-run %s --entry=blocks --interpret 2>&1 | FileCheck %s --check-prefix=BLOCKS
// RUN: not moe-run %s --entry=elsewhere --interpret 2>&1 | FileCheck %s --check-prefix=ELSEWHERE

// LENGTHS: error: 'moe.pack_assignment' op wants order and position of T * 2 elements, got 3 and 3
func.func @lengths() -> tensor<?xi32> {
  %static = arith.constant dense<0> : tensor<3xi32>
  %order = tensor.cast %static : tensor<3xi32> to tensor<?xi32>
  %begin = arith.constant dense<0> : tensor<1xi32>
  %a = moe.pack_assignment %order, %order, %begin, %begin
      : tensor<?xi32>, tensor<?xi32>, tensor<1xi32>, tensor<1xi32>
      -> !moe.assignment<?x2, 1>
  return %order : tensor<?xi32>
}

// RANGES: error: 'moe.pack_assignment' op expert 0 has the rows [1, 3) of 2
func.func @ranges() -> tensor<2xi32> {
  %order = arith.constant dense<[0, 1]> : tensor<2xi32>
  %begin = arith.constant dense<1> : tensor<1xi32>
  %end = arith.constant dense<3> : tensor<1xi32>
  %a = moe.pack_assignment %order, %order, %begin, %end
      : tensor<2xi32>, tensor<2xi32>, tensor<1xi32>, tensor<1xi32>
      -> !moe.assignment<2x1, 1>
  return %order : tensor<2xi32>
}

// LEFT: error: 'moe.pack_assignment' op slot 1 is in no expert's rows and has position 1, not -1
func.func @left() -> tensor<2xi32> {
  %order = arith.constant dense<[0, 1]> : tensor<2xi32>
  %begin = arith.constant dense<0> : tensor<1xi32>
  %end = arith.constant dense<1> : tensor<1xi32>
  %a = moe.pack_assignment %order, %order, %begin, %end
      : tensor<2xi32>, tensor<2xi32>, tensor<1xi32>, tensor<1xi32>
      -> !moe.assignment<2x1, 1>
  return %order : tensor<2xi32>
}

// TOKENS: error: 'moe.assign' op gets 5 tokens where its type is '!moe.assignment<4x2, 8>'
func.func @tokens(%ids: tensor<?x2xi64>) -> tensor<?x2xi64> {
  %a = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<4x2, 8>
  return %ids : tensor<?x2xi64>
}

// ADDED: error: 'arith.addf' op wants operands of one shape, got float32 (2,) and float32 (3,)
func.func @added(%x: tensor<?xf32> {moe.dims = ["S"]},
                 %y: tensor<?xf32> {moe.dims = ["T"]}) -> tensor<?xf32> {
  %z = arith.addf %x, %y : tensor<?xf32>
  return %z : tensor<?xf32>
}

// NEGATIVE: error: 'tensor.empty' op has a negative size
func.func @negative(%x: tensor<?xf32> {moe.dims = ["T"]}) -> tensor<?xf32> {
  %c0 = arith.constant 0 : index
  %c5 = arith.constant 5 : index
  %n = tensor.dim %x, %c0 : tensor<?xf32>
  %less = arith.subi %n, %c5 : index
  %e = tensor.empty(%less) : tensor<?xf32>
  return %e : tensor<?xf32>
}

// DIMENSION: error: 'tensor.dim' op asks for dimension 3 of float32 (4,)
func.func @dimension(%x: tensor<4xf32>) -> tensor<4xf32> {
  %c2 = arith.constant 2 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.addi %c2, %c1 : index
  %n = tensor.dim %x, %c3 : tensor<4xf32>
  return %x : tensor<4xf32>
}

// JOINED: error: 'tensor.concat' op has inputs that differ in dimension 1
func.func @joined(%x: tensor<2x?xf32> {moe.dims = [2, "S"]},
                  %y: tensor<2x?xf32> {moe.dims = [2, "T"]}) -> tensor<4x?xf32> {
  %z = tensor.concat dim(0) %x, %y
      : (tensor<2x?xf32>, tensor<2x?xf32>) -> tensor<4x?xf32>
  return %z : tensor<4x?xf32>
}

// INSERTED: error: 'tensor.insert_slice' op has a source of float32 (3,)
func.func @inserted(%x: tensor<?xf32> {moe.dims = ["T"]}, %y: tensor<4xf32>) -> tensor<4xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = tensor.dim %x, %c0 : tensor<?xf32>
  %less = arith.subi %n, %c1 : index
  %z = tensor.insert_slice %x into %y[0] [%less] [1] : tensor<?xf32> into tensor<4xf32>
  return %z : tensor<4xf32>
}

// LOOPS: error: 'linalg.generic' op has operands whose loop 0 has sizes 3 and 2
func.func @loops(%x: tensor<?xf32> {moe.dims = ["S"]},
                 %y: tensor<?xf32> {moe.dims = ["T"]}) -> tensor<?xf32> {
  %z = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>],
                       iterator_types = ["parallel"]}
      ins(%x : tensor<?xf32>) outs(%y : tensor<?xf32>) {
  ^bb0(%v: f32, %o: f32):
    linalg.yield %v : f32
  } -> tensor<?xf32>
  return %z : tensor<?xf32>
}

// BLOCKS: error: the interpreter runs functions of one block, @blocks has 2
func.func @blocks() -> tensor<1xf32> {
  %x = arith.constant dense<1.0> : tensor<1xf32>
  "cf.br"()[^next] : () -> ()
^next:
  return %x : tensor<1xf32>
}

// ELSEWHERE: error: 'func.call' op calls @outside, which has no body
func.func private @outside() -> tensor<1xf32>
func.func @elsewhere() -> tensor<1xf32> {
  %x = func.call @outside() : () -> tensor<1xf32>
  return %x : tensor<1xf32>
}
