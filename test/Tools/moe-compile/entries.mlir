// What stands between the passes and an object: the manifest and the functions
// that it names.

// RUN: split-file %s %t
// RUN: not moe-compile --start-at-llvm %t/manifest.mlir 2>&1 | FileCheck %s --check-prefix=MANIFEST
// RUN: not moe-compile --start-at-llvm %t/malformed.mlir 2>&1 | FileCheck %s --check-prefix=MALFORMED
// RUN: not moe-compile --start-at-llvm %t/missing.mlir 2>&1 | FileCheck %s --check-prefix=MISSING
// RUN: not moe-compile --start-at-llvm %t/count.mlir 2>&1 | FileCheck %s --check-prefix=COUNT

// MANIFEST: error: the module has no moe.manifest; moe-emit-manifest makes it
//--- manifest.mlir
module {}

// MALFORMED: error: malformed manifest: entry 'f' is no object; compile the module again
//--- malformed.mlir
module attributes {moe.manifest = {abi = 2, entries = {f = 2}}} {}

// MISSING: error: entry 'f' of moe.manifest has no function '_mlir_ciface_f': give the function llvm.emit_c_interface
//--- missing.mlir
module attributes {moe.manifest = {abi = 2, target = "cpu", entries = {f = {}}}} {}

// COUNT: error: entry 'f': moe.manifest says 1 memref arguments and no result, its C interface has 2 arguments
//--- count.mlir
module attributes {moe.manifest = {abi = 2, target = "cpu", entries = {f = {}}}} {
  llvm.func @_mlir_ciface_f(%x: !llvm.ptr, %w: !llvm.ptr) {
    llvm.return
  }
}
