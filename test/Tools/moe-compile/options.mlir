// Options that are wrong are refused with what would be right.

// RUN: not moe-compile %s --target=tpu 2>&1 | FileCheck %s --check-prefix=TARGET
// RUN: not moe-compile %s --target=sm_80 --opt=ptxas=/no/such/ptxas 2>&1 | FileCheck %s --check-prefix=PTXAS
// RUN: env FAKE_CUDA=12.4 not moe-compile %s --target=sm_120 --opt=ptxas=%S/../../Target/Inputs/ptxas 2>&1 | FileCheck %s --check-prefix=OLD
// RUN: env MOE_LIBCUDA=/no/such/libcuda.so not moe-compile %s --target=cuda 2>&1 | FileCheck %s --check-prefix=NODRIVER
// RUN: not moe-compile %s --opt=cpu=z80 2>&1 | FileCheck %s --check-prefix=CPU
// RUN: not moe-compile %s --opt=features=+sse9 2>&1 | FileCheck %s --check-prefix=FEATURE
// RUN: not moe-compile %s --opt=features=avx2 2>&1 | FileCheck %s --check-prefix=SIGN
// RUN: not moe-compile %s --opt=opt-level=7 2>&1 | FileCheck %s --check-prefix=LEVEL
// RUN: not moe-compile %s --opt=fast 2>&1 | FileCheck %s --check-prefix=FORM
// RUN: not moe-compile %s --emit=wasm 2>&1 | FileCheck %s --check-prefix=EMIT
// RUN: not moe-compile %s --emit=mlir-stage=nowhere 2>&1 | FileCheck %s --check-prefix=STAGE
// RUN: not moe-compile %s --print-ir-after=nowhere 2>&1 | FileCheck %s --check-prefix=STAGE
// RUN: not moe-compile %s -o %t.no/such/folder.moe --start-at-llvm 2>&1 | FileCheck %s --check-prefix=OUT
// RUN: not moe-compile %s --start-at-llvm 2>%t >/dev/full
// RUN: FileCheck %s --check-prefix=FULL --input-file=%t
// RUN: not moe-compile %S/crash.mlir --opt=max-bytes=many 2>&1 | FileCheck %s --check-prefix=CPUOPTIONS
// RUN: not moe-compile %S/crash.mlir --target=sm_80 --opt=ptxas=none --opt=fast=1 2>&1 | FileCheck %s --check-prefix=GPUOPTIONS
// Whoever starts it may ignore its children.
// RUN: %python -c "import signal, subprocess, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); subprocess.Popen(sys.argv[1:], restore_signals=False)" moe-compile %s --start-at-llvm -o %t.moe
// RUN: moe-compile %s --start-at-llvm --in-process -o %t.moe

// FULL: moe-compile: error: the result could not be written to stdout; name a file with -o
// CPUOPTIONS: error: the options of moe-to-cpu cannot be read: 'max-bytes=many'; moe-opt --help lists them
// GPUOPTIONS: error: the options of moe-to-nvvm cannot be read: 'fast=1'; moe-opt --help lists them
// TARGET: error: target 'tpu' is not built; the targets are cpu, sm_80, sm_86, sm_89, sm_90, sm_90a, sm_100, sm_120, and cuda for this machine's GPU
// PTXAS: error: ptxas is '/no/such/ptxas', which does not answer as NVIDIA's assembler; give its path, or none
// OLD: error: '{{.*}}/Inputs/ptxas' is of CUDA 12.4 and does not know 'sm_120'; install CUDA 12.8 or later (pip install nvidia-cuda-nvcc), or leave PTX for the driver with ptxas=none
// NODRIVER: error: no NVIDIA driver here
// CPU: error: cpu: 'z80' is no CPU that LLVM knows for 'x86_64{{.*}}'; try host, x86-64-v3 or x86-64
// FEATURE: error: features: 'sse9' is no feature of CPU '{{.*}}'; write them as in features=+avx2,-fma
// SIGN: error: features: 'avx2' is written without + or -
// LEVEL: error: opt-level is '7', expected 0, 1, 2 or 3
// FORM: error: option 'fast' is not of the form key=value
// EMIT: error: --emit is 'wasm', expected module, mlir-stage=<stage>, llvm, object or manifest
// STAGE: error: no stage 'nowhere'; the stages are input, differentiated, expanded, fused, bufferized, loops, kernels, nvvm, llvm
// OUT: error: '{{.*}}' cannot be written: {{.*}}

module attributes {moe.manifest = {abi = 2, target = "cpu", entries = {}}} {
}
