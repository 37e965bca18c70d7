// What the interpreter cannot run names the op and its place.
// RUN: not moe-run %s --entry=unknown --interpret --random --dim T=3 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not moe-run %s --entry=padded --interpret --random 2>&1 | FileCheck %s --check-prefix=PADDED
// RUN: not moe-run %s --entry=region --interpret --random 2>&1 | FileCheck %s --check-prefix=REGION
// RUN: not moe-run %s --entry=rows --interpret --random --dim T=3 --dim S=4 2>&1 | FileCheck %s --check-prefix=ROWS
// RUN: not moe-run %s --entry=tables --interpret --random 2>&1 | FileCheck %s --check-prefix=TABLES
// RUN: not moe-run %s --entry=recursive --interpret --random 2>&1 | FileCheck %s --check-prefix=RECURSIVE
// RUN: not moe-run %s --entry=outside --interpret --random 2>&1 | FileCheck %s --check-prefix=OUTSIDE
// RUN: not moe-run %s --entry=shape --interpret --random --dim d0_0=3 2>&1 | FileCheck %s --check-prefix=SHAPE
// RUN: not moe-run %s --entry=reshaped --interpret --random 2>&1 | FileCheck %s --check-prefix=RESHAPED
// RUN: not moe-run %s --entry=scalar --interpret --random --dim T=3 --dim S=4 2>&1 | FileCheck %s --check-prefix=SCALAR
// RUN: not moe-run %s --entry=addend --interpret --random --dim T=3 --dim S=4 2>&1 | FileCheck %s --check-prefix=ADDEND
// RUN: not moe-run %s --entry=uncounted --interpret --random --dim T=3 --dim S=4 2>&1 | FileCheck %s --check-prefix=COUNT
// RUN: not moe-run %s --entry=table --interpret --random --dim T=3 --dim S=4 2>&1 | FileCheck %s --check-prefix=TABLE
// RUN: not moe-run %s --entry=sparse --interpret --random --dim T=3 --dim S=4 2>&1 | FileCheck %s --check-prefix=SPARSE
// RUN: not moe-run %s --entry=resource --interpret --random --dim T=3 --dim S=4 2>&1 | FileCheck %s --check-prefix=RESOURCE
// RUN: not moe-run %s --entry=window --interpret --random --dim T=3 --dim S=4 2>&1 | FileCheck %s --check-prefix=WINDOW

// UNKNOWN: errors.mlir:[[#@LINE+2]]:8: error: 'tensor.gather' op is not known to the interpreter, which runs moe, func, and arith, math, tensor and linalg ops on tensors
func.func @unknown(%x: tensor<4xf32>, %i: tensor<2x1xi32>) -> tensor<2xf32> {
  %y = tensor.gather %x[%i] gather_dims([0])
      : (tensor<4xf32>, tensor<2x1xi32>) -> tensor<2xf32>
  return %y : tensor<2xf32>
}

// PADDED: errors.mlir:[[#@LINE+3]]:8: error: 'tensor.pad' op pads with -1 elements
func.func @padded(%x: tensor<4xf32>) -> tensor<4xf32> {
  %zero = arith.constant 0.0 : f32
  %y = tensor.pad %x low[-1] high[1] {
  ^bb0(%i: index):
    tensor.yield %zero : f32
  } : tensor<4xf32> to tensor<4xf32>
  return %y : tensor<4xf32>
}

// REGION: errors.mlir:[[#@LINE+6]]:12: error: 'vector.broadcast' op is not known to the interpreter in a region of scalars
func.func @region(%x: tensor<4xf32>) -> tensor<4xf32> {
  %e = tensor.empty() : tensor<4xf32>
  %y = linalg.map ins(%x : tensor<4xf32>) outs(%e : tensor<4xf32>)
    (%v: f32, %o: f32) {
      // A vector is no scalar.
      %w = vector.broadcast %v : f32 to vector<2xf32>
      linalg.yield %v : f32
    }
  return %y : tensor<4xf32>
}

// ROWS: errors.mlir:[[#@LINE+4]]:8: error: 'moe.group' op wants its rows to have 3 rows, got float32 (4, 2)
func.func @rows(%x: tensor<?x2xf32> {moe.dims = ["S", 2]},
                %ids: tensor<?x1xi32> {moe.dims = ["T", 1]}) -> tensor<?x2xf32> {
  %a = moe.assign ids(%ids : tensor<?x1xi32>) : !moe.assignment<?x1, 4>
  %g = moe.group %x from token by %a
      : tensor<?x2xf32>, !moe.assignment<?x1, 4> -> tensor<?x2xf32>
  return %g : tensor<?x2xf32>
}

// TABLES: error: 'moe.pack_assignment' op row 1 of expert 0 has slot 0, which is out of range, taken by another row, or has another position
func.func @tables() -> tensor<2xi32> {
  %order = arith.constant dense<[0, 0]> : tensor<2xi32>
  %begin = arith.constant dense<0> : tensor<1xi32>
  %end = arith.constant dense<2> : tensor<1xi32>
  %a = moe.pack_assignment %order, %order, %begin, %end
      : tensor<2xi32>, tensor<2xi32>, tensor<1xi32>, tensor<1xi32>
      -> !moe.assignment<2x1, 1>
  return %order : tensor<2xi32>
}

// RECURSIVE: error: 'func.call' op is the 64th call within a call; recursion is not supported
func.func @recursive() -> tensor<1xf32> {
  %x = func.call @recursive() : () -> tensor<1xf32>
  return %x : tensor<1xf32>
}

// OUTSIDE: error: 'tensor.extract' op index 4 is outside of float32 (4,)
func.func @outside(%x: tensor<4xf32>) -> tensor<4xf32> {
  %i = arith.constant 4 : index
  %v = tensor.extract %x[%i] : tensor<4xf32>
  return %x : tensor<4xf32>
}

// SHAPE: error: 'tensor.cast' op gives float32 (3,) where its type is 'tensor<4xf32>'
func.func @shape(%x: tensor<?xf32>) -> tensor<4xf32> {
  %y = tensor.cast %x : tensor<?xf32> to tensor<4xf32>
  return %y : tensor<4xf32>
}

// RESHAPED: error: 'tensor.reshape' op reshapes float32 (4,) to float32 (3,)
func.func @reshaped(%x: tensor<4xf32>) -> tensor<?xf32> {
  %s = arith.constant dense<3> : tensor<1xindex>
  %y = tensor.reshape %x(%s) : (tensor<4xf32>, tensor<1xindex>) -> tensor<?xf32>
  return %y : tensor<?xf32>
}

// SCALAR: error: 'func.return' op returns 'f32'; an entry returns tensors
func.func @scalar() -> f32 {
  %c = arith.constant 1.0 : f32
  return %c : f32
}

// ADDEND: error: 'moe.combine_rows' op wants addend #0 to be float32 (3, 4), got float32 (4, 4)
func.func @addend(%x: tensor<?x4xf32> {moe.dims = ["2*T", 4]}, %ids: tensor<?x2xi32> {moe.dims = ["T", 2]},
                  %z: tensor<?x4xf32> {moe.dims = ["S", 4]}, %o: tensor<?x4xf32> {moe.dims = ["T", 4]}) -> tensor<?x4xf32> {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %y = moe.combine_rows by %a : !moe.assignment<?x2, 8> ins(%x : tensor<?x4xf32> rows grouped)
      addends(%z : tensor<?x4xf32>) outs(%o : tensor<?x4xf32> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %y : tensor<?x4xf32>
}

// COUNT: error: 'moe.rowwise' op has no operand that says its number of rows; give it one, or a static result
func.func @uncounted() -> tensor<?x4xf32> {
  %y = moe.rowwise token ins() outs(tensor<?x4xf32> rows) {
    %c = arith.constant 1.0 : f32
    moe.yield %c : f32
  }
  return %y : tensor<?x4xf32>
}

// TABLE: error: 'moe.rowwise' op wants a (T, K) result with a static K, got 'tensor<?x?xf32>'; say K in its type
func.func @table(%x: tensor<?x4xf32> {moe.dims = ["T", 4]}) -> tensor<?x?xf32> {
  %y = moe.rowwise slot ins(%x : tensor<?x4xf32> rows) outs(tensor<?x?xf32> sum) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %y : tensor<?x?xf32>
}

// SPARSE: error: 'arith.constant' op has the value sparse<0, 1.000000e+00> : tensor<4xf32>, no number; write it as dense<...>
func.func @sparse() -> tensor<4xf32> {
  %y = arith.constant sparse<[[0]], [1.0]> : tensor<4xf32>
  return %y : tensor<4xf32>
}

// RESOURCE: error: 'arith.constant' op has a resource without enough bytes; add them to the module's external resources
func.func @resource() -> tensor<4xf32> {
  %y = arith.constant dense_resource<none> : tensor<4xf32>
  return %y : tensor<4xf32>
}

// WINDOW: error: 'linalg.generic' op has the indexing map affine_map<(d0, d1) -> (d0 + d1)>; the interpreter knows loops and constants
#sum = affine_map<(i, j) -> (i + j)>
#row = affine_map<(i, j) -> (i)>
#column = affine_map<(i, j) -> (j)>
func.func @window(%x: tensor<4xf32>, %k: tensor<2xf32>, %z: tensor<3xf32>) -> tensor<3xf32> {
  %y = linalg.generic {indexing_maps = [#sum, #column, #row], iterator_types = ["parallel", "reduction"]}
      ins(%x, %k : tensor<4xf32>, tensor<2xf32>) outs(%z : tensor<3xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %m = arith.mulf %a, %b : f32
    %s = arith.addf %c, %m : f32
    linalg.yield %s : f32
  } -> tensor<3xf32>
  return %y : tensor<3xf32>
}
