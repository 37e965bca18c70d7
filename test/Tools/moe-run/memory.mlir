// What does not fit into memory, and what is not compiled, is one clear line too.
// RUN: not moe-run %s --entry=grow --random --dim T=4611686018427387904 2>&1 | FileCheck %s --check-prefix=RESULT
// RUN: not moe-run %s --entry=grow --random --dim T=1000000000000000 2>&1 | FileCheck %s --check-prefix=MEMORY
// RUN: not moe-run %s --entry=grow --opt=fast --random --dim T=1 2>&1 | FileCheck %s --check-prefix=COMPILE

// RESULT: moe-run: error: the size of result 'y', float32 [T, 4], passes 63 bits: give smaller arguments
// MEMORY: moe-run: error: no memory left: give smaller arguments
// MEMORY-NOT: {{.}}
// COMPILE: error: option 'fast' is not of the form key=value
// COMPILE-NEXT: moe-run: error: the module was not compiled

func.func @grow(%x: tensor<?x0xf32> {moe.dims = ["T", 0]})
    -> (tensor<?x4xf32> {moe.name = "y"}) {
  %zero = arith.constant 0.0 : f32
  %first = arith.constant 0 : index
  %t = tensor.dim %x, %first : tensor<?x0xf32>
  %empty = tensor.empty(%t) : tensor<?x4xf32>
  %y = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x4xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
