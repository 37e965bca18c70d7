// RUN: moe-opt %s -split-input-file -moe-assemble-kernels="ptxas=%S/Inputs/ptxas" -verify-diagnostics | FileCheck %s
// RUN: env MOE_PTXAS=%S/Inputs/ptxas moe-opt %s -split-input-file -moe-assemble-kernels -verify-diagnostics | FileCheck %s
// RUN: not moe-opt %s -split-input-file -moe-assemble-kernels="ptxas=%S/Inputs/ptxas check" 2>&1 | FileCheck %s --check-prefix=STRICT
// RUN: moe-opt %s -split-input-file -moe-assemble-kernels="ptxas=none" | FileCheck %s --check-prefix=TEXT
// RUN: env TMPDIR=%t/none not moe-opt %s -split-input-file -moe-assemble-kernels="ptxas=%S/Inputs/ptxas" 2>&1 | FileCheck %s --check-prefix=TMP
// RUN: not moe-opt %s -split-input-file -moe-assemble-kernels="ptxas=%t/none" 2>&1 | FileCheck %s --check-prefix=NONE

// TMP: error: 'gpu.binary' op needs temporary files, which cannot be written; set TMPDIR to a folder that can be, with space in it
// NONE: error: 'gpu.binary' op cannot start '{{.*}}/none': {{.*}}; give the path of ptxas, or none
// CHECK: gpu.binary @good
// CHECK-SAME: moe.ptxas = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"
// CHECK-SAME: bin = "CUBIN sm_90a // ptxas:
// TEXT: gpu.binary @good [#gpu.object<#nvvm.target<chip = "sm_90a">, assembly =
gpu.binary @good [#gpu.object<#nvvm.target<chip = "sm_90a">, assembly = "// ptxas: 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\0A.version 8.0\0A">]

// -----

// STRICT: error: 'gpu.binary' op assembles to a kernel with a defect: 8 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads
// CHECK: gpu.binary @spills
gpu.binary @spills [#gpu.object<#nvvm.target<chip = "sm_90a">, assembly = "// ptxas:     8 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads\0A">]

// -----

// STRICT: error: 'gpu.binary' op assembles to a kernel with a defect: ptxas info : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized
gpu.binary @serialized [#gpu.object<#nvvm.target<chip = "sm_90a">, assembly = "// ptxas: ptxas info : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized\0A">]

// -----

// expected-error @+1 {{is refused by ptxas (status 3): ptxas fatal : no}}
gpu.binary @refused [#gpu.object<#nvvm.target<chip = "sm_90a">, assembly = "// ptxas: ptxas fatal : no\0A// refuse me\0A">]
