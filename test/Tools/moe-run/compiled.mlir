// What moe-run does with compiled code: runs it, times it, shows its stages,
// writes what the compiler makes, and says in one line what is wrong.
// RUN: rm -rf %t && mkdir %t
// RUN: moe-run %s --random=3 --dim T=5 --out %t/y.npy --print-ir-after=fused 2>&1 | FileCheck %s --check-prefix=STAGE
// RUN: moe-run %s --random=3 --dim T=5 --interpret --round --out %t/exact.npy
// RUN: cmp %t/y.npy %t/exact.npy
// RUN: moe-run %s --random=3 --dim T=5 --benchmark=3 | FileCheck %s --check-prefix=TIMES
// RUN: moe-run %s --emit=llvm | FileCheck %s --check-prefix=LLVM
// RUN: moe-run %s --emit=object > %t/twice.o && llvm-nm %t/twice.o | FileCheck %s --check-prefix=SYMBOLS
// RUN: moe-run %s --emit=mlir-stage=loops | FileCheck %s --check-prefix=LOOPS
// RUN: moe-run %s --emit=mlir-stage=nvvm --target=sm_80 | FileCheck %s --check-prefix=NVVM
// RUN: moe-run %s --random=3 --dim T=7 --out %t/x.npy
// RUN: moe-run %s --random=3 --dim T=7 --entry=twice --arg x=%t/x.npy | FileCheck %s --check-prefix=SUMMARY

// STAGE: after fused
// STAGE: moe.map_rows
// STAGE-NOT: after
// TIMES: twice: 3 calls, least {{[0-9.]+}} us, median {{[0-9.]+}} us, most {{[0-9.]+}} us
// TIMES-NOT: {{.}}
// LLVM: define {{.*}}@_moe_packed_twice(
// SYMBOLS: T _moe_packed_twice
// LOOPS: scf.parallel
// NVVM: gpu.module {{.*}}chip = "sm_80"
// SUMMARY: out0: float32 (7, 4) sum

// RUN: not moe-run %s --emit=wasm 2>&1 | FileCheck %s --check-prefix=EMIT
// RUN: not moe-run %s --random --dim T=3 --print-ir-after=nowhere 2>&1 | FileCheck %s --check-prefix=NOSTAGE
// RUN: not moe-run %s --random --dim T=3 --entry=thrice 2>&1 | FileCheck %s --check-prefix=ENTRY
// RUN: not moe-run %s --arg x=%t/none.npy 2>&1 | FileCheck %s --check-prefix=NOFILE
// RUN: not moe-run %s --random --dim T=3 --opt=cpu=z80 2>&1 | FileCheck %s --check-prefix=CPU
// RUN: not moe-run %s --random --dim T=3 --out x=%t/z.npy 2>&1 | FileCheck %s --check-prefix=OUT
// EMIT: moe-run: error: --emit is 'wasm', expected module, mlir-stage=<stage>, llvm, object or manifest
// NOSTAGE: error: no stage 'nowhere'; the stages are input,
// ENTRY: moe-run: error: no entry 'thrice'; the module has twice
// NOFILE: moe-run: error: argument x: {{.*}}none.npy: cannot be read: No such file or directory
// CPU: error: cpu: 'z80' is no CPU that LLVM knows
// OUT: moe-run: error: --out x={{.*}}z.npy: wants FILE.npy, or out0=FILE.npy for result 0

func.func @twice(%x: tensor<?x4xf32> {moe.name = "x", moe.dims = ["T", 4]})
    -> (tensor<?x4xf32> {moe.name = "y"}) {
  %y = moe.rowwise token ins(%x : tensor<?x4xf32> rows)
      outs(tensor<?x4xf32> rows) {
  ^bb0(%v: f32):
    %s = arith.addf %v, %v : f32
    moe.yield %s : f32
  }
  return %y : tensor<?x4xf32>
}
