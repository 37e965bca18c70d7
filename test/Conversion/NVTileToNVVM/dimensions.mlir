// Kernels of nvtile have a grid of one dimension.
// RUN: moe-opt %s --convert-nvtile-to-nvvm --verify-diagnostics --split-input-file

gpu.module @m {
  gpu.func @f(%o: memref<?x64xf32>) kernel {
    %c0 = arith.constant 0 : i32
    // expected-error @below {{failed to legalize operation 'gpu.block_id'}}
    // expected-error @below {{asks for another dimension than x; nvtile kernels have one}}
    %y = gpu.block_id y
    %p = arith.index_cast %y : index to i32
    %z = nvtile.zero : !nvtile.fragment<64x64>
    nvtile.store_fragment %z to %o[%p, %c0] end %c0 limit %c0 : !nvtile.fragment<64x64>, memref<?x64xf32>
    gpu.return
  }
}
