// A crash of the compiler is an exit code and a reproducer.

// RUN: rm -rf %t && mkdir -p %t
// RUN: env MOE_MLIR_TEST_CRASH=segv MOE_MLIR_REPRODUCER_DIR=%t/segv not moe-compile %s -o %t/out.moe 2>&1 | FileCheck %s --check-prefix=SEGV
// RUN: cat %t/segv/moe-crash-*.mlir | FileCheck %s --check-prefix=REPRODUCER
// RUN: not ls %t/out.moe
// RUN: env MOE_MLIR_TEST_CRASH=fatal MOE_MLIR_REPRODUCER_DIR=%t/fatal not moe-compile %s 2>&1 | FileCheck %s --check-prefix=FATAL

// SEGV: moe-compile: error: the compiler crashed: signal 11 (Segmentation fault); reproducer: {{.*}}segv/moe-crash-{{.*}}.mlir
// REPRODUCER: // moe-compile - --target=cpu
// REPRODUCER-NEXT: // the compiler crashed: signal 11 (Segmentation fault)
// REPRODUCER: func.func @f
// REPRODUCER: mlir_reproducer: {
// REPRODUCER-NEXT: pipeline: "builtin.module(moe-to-cpu)",
// FATAL: LLVM ERROR: forced by MOE_MLIR_TEST_CRASH
// FATAL: the compiler crashed: signal 6 (Aborted)

func.func @f() {
  return
}
