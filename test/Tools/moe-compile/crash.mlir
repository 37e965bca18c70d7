// A crash of the compiler is an exit code and a reproducer.

// RUN: rm -rf %t && mkdir -p %t
// RUN: env MOE_MLIR_TEST_CRASH=segv MOE_MLIR_REPRODUCER_DIR=%t/segv not moe-compile %s -o %t/out.moe 2>&1 | FileCheck %s --check-prefix=SEGV
// RUN: cat %t/segv/moe-crash-*.mlir | FileCheck %s --check-prefix=REPRODUCER
// RUN: not ls %t/out.moe
// RUN: env MOE_MLIR_TEST_CRASH=fatal MOE_MLIR_REPRODUCER_DIR=%t/fatal not moe-compile %s 2>&1 | FileCheck %s --check-prefix=FATAL
// RUN: env MOE_MLIR_TEST_CRASH=segv MOE_MLIR_REPRODUCER_DIR=/proc/none not moe-compile %s 2>&1 | FileCheck %s --check-prefix=NOWHERE

// A reproducer runs again, for a GPU too.
// RUN: moe-opt --run-reproducer %t/segv/moe-crash-*.mlir -o /dev/null
// RUN: env MOE_MLIR_TEST_CRASH=segv MOE_MLIR_REPRODUCER_DIR=%t/gpu MOE_LIBCUDA=%fake_cuda FAKE_CUDA_CAPABILITY=86 not moe-compile %s --target=cuda -o %t/out.moe
// RUN: cat %t/gpu/moe-crash-*.mlir | FileCheck %s --check-prefix=GPU
// RUN: moe-opt --run-reproducer %t/gpu/moe-crash-*.mlir -o /dev/null
// GPU: // moe-compile - --target=sm_86
// GPU: pipeline: "builtin.module(moe-to-nvvm{arch=sm_86})",

// SEGV: moe-compile: error: the compiler crashed: signal 11 (Segmentation fault); reproducer: {{.*}}segv/moe-crash-{{.*}}.mlir
// REPRODUCER: // moe-compile - --target=cpu
// REPRODUCER-NEXT: // the compiler crashed: signal 11 (Segmentation fault)
// REPRODUCER: func.func @f
// REPRODUCER: mlir_reproducer: {
// REPRODUCER-NEXT: pipeline: "builtin.module(moe-to-cpu)",
// NOWHERE: error: the compiler crashed: signal 11 (Segmentation fault); no reproducer could be written: set MOE_MLIR_REPRODUCER_DIR to a folder that can be
// FATAL: LLVM ERROR: forced by MOE_MLIR_TEST_CRASH
// FATAL: the compiler crashed: signal 6 (Aborted)

func.func @f() {
  return
}
