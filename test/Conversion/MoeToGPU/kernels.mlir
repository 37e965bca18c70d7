// RUN: moe-opt %s -split-input-file -pass-pipeline="builtin.module(gpu.module(moe-align-kernels,moe-kernel-math))" -verify-diagnostics | FileCheck %s

// CHECK-LABEL: gpu.module @aligned
// CHECK:       workgroup(%{{.*}} : memref<4x68xf32, {{.*}}> {llvm.align = 16 : i64})
// CHECK:       vector.load %{{.*}} {alignment = 16 : i64} : memref<?x64xbf16>, vector<8xbf16>
// CHECK:       vector.load %{{.*}} {alignment = 16 : i64} : memref<?x64xf32>, vector<8xf32>
// CHECK:       vector.store %{{.*}} {alignment = 2 : i64} : memref<?x7xbf16>, vector<1xbf16>
// CHECK:       llvm.call_intrinsic "llvm.fma"
// CHECK:       llvm.call_intrinsic "llvm.sqrt"
gpu.module @aligned {
  gpu.func @k(%x: memref<?x64xbf16>, %y: memref<?x64xf32>, %z: memref<?x7xbf16>,
              %i: index, %v: vector<1xbf16>, %f: f32)
      workgroup(%s: memref<4x68xf32, #gpu.address_space<workgroup>>) kernel {
    %a = vector.load %x[%i, %i] : memref<?x64xbf16>, vector<8xbf16>
    %b = vector.load %y[%i, %i] : memref<?x64xf32>, vector<8xf32>
    vector.store %v, %z[%i, %i] : memref<?x7xbf16>, vector<1xbf16>
    %c = math.fma %f, %f, %f : f32
    %d = math.sqrt %c : f32
    gpu.return
  }
}

// -----

gpu.module @large {
  // expected-error @+1 {{wants 65536 bytes of static shared memory, 49152 can be had: use fewer experts}}
  gpu.func @k() workgroup(%s: memref<16384xf32, #gpu.address_space<workgroup>>) kernel {
    gpu.return
  }
}

// -----

gpu.module @library {
  gpu.func @k(%x: i32) kernel {
    // expected-error @+1 {{on 'i32' is not built for GPUs; compute it from arith and math's functions of floats}}
    %y = math.ctpop %x : i32
    gpu.return
  }
}

// -----

// A function without an approximation of its own, in f64 whatever it was.
// CHECK-LABEL: gpu.module @wider
// CHECK:       arith.extf %{{.*}} : vector<4xf32> to vector<4xf64>
// CHECK-NOT:   math.
// CHECK:       arith.truncf %{{.*}} : vector<4xf64> to vector<4xf32>
gpu.module @wider {
  gpu.func @k(%x: vector<4xf32>, %m: memref<4xf32>, %i: index) kernel {
    %y = math.atan2 %x, %x : vector<4xf32>
    vector.store %y, %m[%i] : memref<4xf32>, vector<4xf32>
    gpu.return
  }
}
