// What follows the pipeline: a module in the LLVM dialect with its manifest
// becomes an object with one packed form an entry, and nothing else visible.

// RUN: moe-compile --start-at-llvm --opt=cpu=x86-64 --emit=llvm %s | FileCheck %s --check-prefix=LLVM
// RUN: moe-compile --start-at-llvm --emit=manifest %s | FileCheck %s --check-prefix=MANIFEST
// RUN: moe-compile --start-at-llvm --emit=object %s -o %t.o && llvm-nm %t.o | FileCheck %s --check-prefix=SYMBOLS
// RUN: moe-compile --start-at-llvm %s -o %t.moe && head -c 5 %t.moe | FileCheck %s --check-prefix=MAGIC

// LLVM: define void @_moe_packed_twice(ptr{{.*}})
// LLVM: fmul
// LLVM: "target-cpu"="x86-64"

// MANIFEST: "abi": 2
// MANIFEST: "twice": {

// SYMBOLS-NOT: expf
// SYMBOLS: T _moe_packed_twice
// SYMBOLS-NOT: T

// MAGIC: MOEC1

module attributes {moe.manifest = {
  abi = 2, target = "cpu", compiler = "test",
  entries = {twice = {
    inputs = [{name = "x", dtype = "float32", dims = ["T"]}],
    outputs = [{name = "out0", dtype = "float32", dims = ["T"], kind = "result"}],
    symbols = ["T"], workspace = {align = 64, temporaries = []}, align = 4}}}} {
  // A function of the user's may have the name of one in libm.
  llvm.func @expf(%x: f32) -> f32 {
    %two = llvm.mlir.constant(2.0 : f32) : f32
    %r = llvm.fmul %x, %two : f32
    llvm.return %r : f32
  }
  llvm.func @_mlir_ciface_twice(%x: !llvm.ptr, %y: !llvm.ptr, %w: !llvm.ptr) {
    %c0 = llvm.mlir.constant(0 : i64) : i64
    %c1 = llvm.mlir.constant(1 : i64) : i64
    %px = llvm.getelementptr %x[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %dx = llvm.load %px : !llvm.ptr -> !llvm.ptr
    %py = llvm.getelementptr %y[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %dy = llvm.load %py : !llvm.ptr -> !llvm.ptr
    %pn = llvm.getelementptr %x[3] : (!llvm.ptr) -> !llvm.ptr, i64
    %n = llvm.load %pn : !llvm.ptr -> i64
    llvm.br ^head(%c0 : i64)
  ^head(%i: i64):
    %more = llvm.icmp "slt" %i, %n : i64
    llvm.cond_br %more, ^body, ^done
  ^body:
    %a = llvm.getelementptr %dx[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
    %v = llvm.load %a : !llvm.ptr -> f32
    %r = llvm.call @expf(%v) : (f32) -> f32
    %b = llvm.getelementptr %dy[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
    llvm.store %r, %b : f32, !llvm.ptr
    %next = llvm.add %i, %c1 : i64
    llvm.br ^head(%next : i64)
  ^done:
    llvm.return
  }
}
