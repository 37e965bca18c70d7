// RUN: moe-opt %S/moe-to-cpu.mlir -moe-to-nvvm="arch=sm_90a ptxas=none" | FileCheck %s
// RUN: moe-compile %S/moe-to-cpu.mlir --target=sm_90a --emit=mlir-stage=kernels -o - | FileCheck %s --check-prefix=KERNELS
// RUN: moe-compile %S/moe-to-cpu.mlir --target=sm_90a --emit=mlir-stage=nvvm -o - | FileCheck %s --check-prefix=NVVM
// RUN: moe-compile %S/moe-to-cpu.mlir --target=sm_90a --opt=ptxas=none --opt=grad=0,2,3,4 -o %t.moe

// From a layer to host code with kernels in it: no allocation, nothing called
// but the runtime.
// CHECK:     moe.manifest = {{.*}}align = 16 : i64{{.*}}target = "sm_90a"
// CHECK:     llvm.func @moe_rt_launch(i64, i64, i64, i64, i64, i64, i64, i64, !llvm.ptr)
// CHECK-NOT: @malloc
// CHECK-NOT: @memrefCopy
// CHECK:     llvm.func @mlp(
// CHECK-NOT: llvm.call @m{{[^o]}}
// CHECK:     llvm.call @moe_rt_launch
// CHECK:     llvm.func @_mlir_ciface_mlp(
// CHECK:     llvm.mlir.global internal constant @moe_gpu_image_mlp_sort_slots_0_module("{{.*}}.target sm_90a
// CHECK:     llvm.mlir.global external constant @_moe_gpu_kernel_count({{[0-9]+}} : i64)
// CHECK:     llvm.mlir.global external constant @_moe_gpu_kernels()

// The host computes sizes and launches; it reads no tensor.
// KERNELS:     func.func @mlp
// KERNELS-NOT: linalg
// KERNELS:     gpu.launch {{.*}} function(@mlp_sort_slots_0)
// KERNELS:     gpu.launch {{.*}} function(@mlp_grouped_matmul_

// NVVM: gpu.launch_func @mlp_sort_slots_0_module::@mlp_sort_slots_0
// NVVM: gpu.module @mlp_sort_slots_0_module [#nvvm.target<O = 3, chip = "sm_90a"
// NVVM: nvvm.barrier0
