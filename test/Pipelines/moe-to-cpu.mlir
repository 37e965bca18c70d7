// RUN: moe-opt %s -moe-to-cpu | FileCheck %s
// RUN: moe-opt %s -moe-to-cpu="features=+avx2,+fma,+avx512f,+avx512bw,+avx512dq,+avx512vl" | FileCheck %s --check-prefixes=CHECK,AVX512
// RUN: moe-compile %s --target=cpu -o %t.moe
// RUN: moe-compile %s --target=cpu --emit=mlir-stage=fused | FileCheck %s --check-prefix=FUSED
// RUN: moe-compile %s --target=cpu --opt=fuse=false --emit=mlir-stage=fused | FileCheck %s --check-prefix=APART

// From a layer to the LLVM dialect: no allocation, nothing called but the
// runtime's loop over tasks.
// CHECK: moe.manifest
// CHECK: llvm.func @moe_rt_parallel_for(
// CHECK-NOT: @malloc
// CHECK-NOT: @memrefCopy
// CHECK: llvm.func @_mlir_ciface_mlp(
// FUSED-NOT: moe.map_rows
// APART: moe.map_rows
// AVX512: llvm.intr.fma({{.*}}) : (vector<16xf32>
func.func @mlp(%x: tensor<?x48xf32> {moe.dims = ["T", 48]},
               %ids: tensor<?x2xi32>, %gates: tensor<?x2xf32>,
               %w1: tensor<8x64x48xf32>, %w2: tensor<8x48x32xf32>)
    -> tensor<?x48xf32> {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %h = moe.parallel_linear %x, %w1 by %a from token to grouped out_in
      : tensor<?x48xf32>, tensor<8x64x48xf32>, !moe.assignment<?x2, 8>
      -> tensor<?x64xf32>
  %y = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%h : tensor<?x64xf32> rows concat 2)
      outs(tensor<?x32xf32> rows) {
  ^bb0(%gate: f32, %up: f32):
    %one = arith.constant 1.0 : f32
    %neg = arith.negf %gate : f32
    %exp = math.exp %neg : f32
    %den = arith.addf %one, %exp : f32
    %silu = arith.divf %gate, %den : f32
    %out = arith.mulf %silu, %up : f32
    moe.yield %out : f32
  }
  %z = moe.parallel_linear %y, %w2 by %a from grouped to grouped out_in
      : tensor<?x32xf32>, tensor<8x48x32xf32>, !moe.assignment<?x2, 8>
      -> tensor<?x48xf32>
  %o = moe.combine %z from grouped by %a gates(%gates : tensor<?x2xf32>)
      : tensor<?x48xf32>, !moe.assignment<?x2, 8> -> tensor<?x48xf32>
  return %o : tensor<?x48xf32>
}
