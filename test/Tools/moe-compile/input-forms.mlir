// Text and bytecode, from a file or from stdin; anything else is refused, and
// nothing that comes in takes the program down without a word.

// RUN: moe-compile --emit=mlir-stage=input %s | FileCheck %s
// RUN: moe-opt --emit-bytecode %s -o %t.mlirbc && moe-compile --emit=mlir-stage=input %t.mlirbc | FileCheck %s
// RUN: moe-compile --emit=mlir-stage=input - < %t.mlirbc | FileCheck %s
// RUN: moe-compile --emit=mlir-stage=input --print-ir-after=input %s 2>&1 | FileCheck %s --check-prefix=PRINT

// CHECK: func.func @f(%{{.*}}: tensor<?x4xf32> {moe.dims = ["T", 4]})
// PRINT: // -----// after input //----- //
// PRINT-NEXT: module {
// PRINT: module {

// A truncated file, an empty one, and random bytes behind bytecode's magic.
// RUN: head -c 100 %t.mlirbc > %t.cut && not moe-compile %t.cut 2>&1 | FileCheck %s --check-prefix=REFUSED
// RUN: not moe-compile /dev/null 2>&1 | FileCheck %s --check-prefix=EMPTY
// RUN: %python -c "import sys, random; random.seed(1); sys.stdout.buffer.write(b'ML\xefR' + bytes(random.randrange(256) for _ in range(5000)))" > %t.random
// RUN: not moe-compile %t.random 2>&1 | FileCheck %s --check-prefix=REFUSED

// REFUSED: error:
// EMPTY: error: the module has no public function

// The parser recurses: a stack that overflows is a crash with a reproducer.
// RUN: rm -rf %t.crash
// RUN: %python -c "n = 200000; print('func.func @f() attributes {moe.x = ' + '[' * n + ']' * n + '} { return }')" > %t.deep.mlir
// RUN: env MOE_MLIR_REPRODUCER_DIR=%t.crash not moe-compile %t.deep.mlir 2>&1 | FileCheck %s --check-prefix=DEEP

// DEEP: the compiler crashed: signal 11

func.func @f(%x: tensor<?x4xf32> {moe.dims = ["T", 4]}) -> tensor<?x4xf32> {
  return %x : tensor<?x4xf32>
}
