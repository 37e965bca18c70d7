// Kernels that convert-nvtile-to-nvvm refuses.
// RUN: moe-opt %s --convert-nvtile-to-nvvm --verify-diagnostics --split-input-file

gpu.module @m {
  // expected-error @below {{needs 295008 bytes of shared memory, a block has 232448; fewer stages or staging buffers}}
  gpu.func @f() kernel {
    %r = nvtile.make_ring fills 1 releases 8 : !nvtile.ring<6 x [128, 256]>
    gpu.return
  }
}

// -----

gpu.module @m {
  gpu.func @f(%o: memref<?x64xf32>) kernel {
    %c0 = arith.constant 0 : i32
    %z = nvtile.zero : !nvtile.fragment<64x64>
    // expected-error @below {{failed to legalize operation 'nvtile.map'}}
    %s = nvtile.map(%z : !nvtile.fragment<64x64>) -> !nvtile.fragment<64x64> {
    ^bb0(%x: f32):
      // expected-error @below {{has no approximation in an nvtile.map on this chip}}
      %y = math.sin %x : f32
      nvtile.yield %y : f32
    }
    nvtile.store_fragment %s to %o[%c0, %c0] end %c0 limit %c0 : !nvtile.fragment<64x64>, memref<?x64xf32>
    gpu.return
  }
}
