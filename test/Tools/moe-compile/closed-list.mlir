// Modules come from outside: what is not on the list of dialects, and what could
// steer later stages, is refused before any pass runs.

// RUN: split-file %s %t
// RUN: not moe-compile %t/dialect.mlir -o %t.moe 2>&1 | FileCheck %s --check-prefix=DIALECT
// RUN: not moe-compile %t/generic.mlir 2>&1 | FileCheck %s --check-prefix=GENERIC
// RUN: not moe-compile %t/dependent.mlir 2>&1 | FileCheck %s --check-prefix=DEPENDENT
// RUN: not moe-compile %t/type.mlir 2>&1 | FileCheck %s --check-prefix=TYPE
// RUN: not moe-compile %t/attribute.mlir 2>&1 | FileCheck %s --check-prefix=ATTRIBUTE
// RUN: not moe-compile %t/value.mlir 2>&1 | FileCheck %s --check-prefix=VALUE
// RUN: not moe-compile %t/argument.mlir 2>&1 | FileCheck %s --check-prefix=ARGUMENT
// RUN: not moe-compile %t/external.mlir 2>&1 | FileCheck %s --check-prefix=EXTERNAL
// RUN: not moe-compile %t/nested.mlir 2>&1 | FileCheck %s --check-prefix=NESTED
// RUN: not moe-compile %t/private.mlir 2>&1 | FileCheck %s --check-prefix=PRIVATE
// RUN: not moe-compile %t/malformed.mlir 2>&1 | FileCheck %s --check-prefix=MALFORMED
// RUN: not moe-compile %t/missing.mlir 2>&1 | FileCheck %s --check-prefix=MISSING
// RUN: not ls %t.moe

// DIALECT: dialect.mlir:2:3: error: Dialect `llvm' not found for custom op 'llvm.inline_asm'
// DIALECT: accepted dialects are builtin, moe, func, arith, math, tensor, linalg
//--- dialect.mlir
func.func @f() {
  llvm.inline_asm "hlt", "" : () -> ()
  return
}

// GENERIC: generic.mlir:2:16: error: operation being parsed with an unregistered dialect
// GENERIC: "gpu.barrier"()
// GENERIC: note: accepted dialects are
//--- generic.mlir
func.func @f() {
  "gpu.barrier"() : () -> ()
  return
}

// memref is loaded, because linalg depends on it, and yet it is not accepted.
// DEPENDENT: dependent.mlir:2:8: error: op 'memref.alloc' belongs to dialect 'memref', which is not accepted; accepted are builtin, moe,
//--- dependent.mlir
func.func @f() {
  %m = memref.alloc() : memref<4xf32>
  return
}

// TYPE: error: {{.*}}llvm
//--- type.mlir
func.func @f(%p: !llvm.ptr) {
  return
}

// ATTRIBUTE: attribute.mlir:1:1: error: attribute 'llvm.emit_c_interface' belongs to dialect 'llvm', which is not accepted
//--- attribute.mlir
func.func @f() attributes {llvm.emit_c_interface} {
  return
}

// VALUE: value.mlir:2:8: error: it uses a type or attribute of a dialect that is not accepted: {{.*}}#complex.number{{.*}}; accepted are builtin, moe, func, arith, math, tensor, linalg
//--- value.mlir
func.func @f() {
  %c = arith.constant {number = #complex.number<:f64 1.0, 2.0>} 1.0 : f32
  return
}

// ARGUMENT: error: attribute 'bufferization.writable' of argument 1 belongs to dialect 'bufferization', which is not accepted
//--- argument.mlir
func.func @f(%x: tensor<4xf32>, %y: tensor<4xf32> {bufferization.writable = true}) {
  return
}

// EXTERNAL: error: function 'system' has no body: compiled code calls no outside functions
//--- external.mlir
func.func private @system(tensor<4xi8>)

// NESTED: nested.mlir:1:1: error: a module within the module: put its functions into the outer one
//--- nested.mlir
module {
  func.func @f() { return }
}
func.func @g() { return }

// PRIVATE: error: the module has no public function: nothing could be called
//--- private.mlir
func.func private @f() { return }

// MALFORMED: malformed.mlir:{{.*}}: error: expected
//--- malformed.mlir
func.func @f(

// MISSING: moe-compile: error: '{{.*}}missing.mlir' cannot be read: No such file or directory
