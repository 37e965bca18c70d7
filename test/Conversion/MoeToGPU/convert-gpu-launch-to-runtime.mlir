// RUN: moe-opt %s -split-input-file -convert-gpu-launch-to-runtime -verify-diagnostics | FileCheck %s

// A memref is the words of its descriptor; each argument has a slot in the
// frame of the function, whatever is around the launch.
// CHECK-LABEL: func.func @f
// CHECK-SAME:  attributes {llvm.emit_c_interface}
// CHECK:       llvm.alloca %{{.*}} x !llvm.array<8 x ptr>
// CHECK:       scf.if
// CHECK-NOT:   llvm.alloca
// CHECK:       call @moe_rt_launch(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}})
// CHECK:       llvm.mlir.global internal constant @moe_gpu_image_m("CUBIN") {{.*}}alignment = 64
// CHECK:       llvm.mlir.global external constant @_moe_gpu_kernel_count(1 : i64)
// CHECK:       llvm.mlir.global external constant @_moe_gpu_kernels()
// CHECK-NOT:   gpu.
module attributes {gpu.container_module} {
  gpu.binary @m [#gpu.object<#nvvm.target<chip = "sm_90a">, bin = "CUBIN">]
  func.func @f(%x: memref<?x4xf32> {moe.name = "x"}, %n: index, %v: f32, %c: i1) {
    %c1 = arith.constant 1 : index
    scf.if %c {
      gpu.launch_func @m::@k blocks in (%n, %c1, %c1) threads in (%c1, %c1, %c1)
          args(%x : memref<?x4xf32>, %v : f32)
    }
    return
  }
}

// -----

// Text for the driver's compiler ends with a zero.
// CHECK: @moe_gpu_image_m("PTX\00")
module attributes {gpu.container_module} {
  gpu.binary @m [#gpu.object<#nvvm.target<chip = "sm_90a">, assembly = "PTX">]
  func.func @f(%n: index) {
    gpu.launch_func @m::@k blocks in (%n, %n, %n) threads in (%n, %n, %n)
    return
  }
}

// -----

// expected-error @+1 {{no gpu.binary has the kernel @m::@k; assemble before convert-gpu-launch-to-runtime}}
module attributes {gpu.container_module} {
  gpu.module @m {
    gpu.func @k() kernel {
      gpu.return
    }
  }
  func.func @f(%n: index) {
    gpu.launch_func @m::@k blocks in (%n, %n, %n) threads in (%n, %n, %n)
    return
  }
}

// -----

module attributes {gpu.container_module} {
  gpu.binary @m [#gpu.object<#nvvm.target<chip = "sm_90a">, bin = "CUBIN">]
  llvm.func @outside(%n: i64) {
    %c1 = arith.index_cast %n : i64 to index
    // expected-error @+1 {{is not inside a func.func; run convert-gpu-launch-to-runtime before functions are converted}}
    gpu.launch_func @m::@k blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1)
    llvm.return
  }
}

// -----

module attributes {gpu.container_module} {
  gpu.binary @m [#gpu.object<#nvvm.target<chip = "sm_90a">, bin = "CUBIN">]
  func.func @async(%n: index) {
    // expected-error @+1 {{is asynchronous or has clusters; launches follow each other on the caller's stream: make it a plain launch}}
    %t = gpu.launch_func async @m::@k blocks in (%n, %n, %n) threads in (%n, %n, %n)
    return
  }
}

// -----

module attributes {gpu.container_module} {
  gpu.binary @m [#gpu.object<#nvvm.target<chip = "sm_90a">, bin = "CUBIN">]
  func.func @clusters(%n: index) {
    // expected-error @+1 {{is asynchronous or has clusters}}
    gpu.launch_func @m::@k clusters in (%n, %n, %n) blocks in (%n, %n, %n) threads in (%n, %n, %n)
    return
  }
}

// -----

module attributes {gpu.container_module} {
  gpu.binary @m [#gpu.object<#nvvm.target<chip = "sm_90a">, bin = "CUBIN">]
  func.func @tensor(%n: index, %x: tensor<4xf32>) {
    // expected-error @+1 {{passes a value of type 'tensor<4xf32>', which no kernel can take; bufferize before the kernel is outlined}}
    gpu.launch_func @m::@k blocks in (%n, %n, %n) threads in (%n, %n, %n) args(%x : tensor<4xf32>)
    return
  }
}
