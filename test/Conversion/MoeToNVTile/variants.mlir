// Several variants: the host tests their guards in order, at each call.
// RUN: moe-opt %s --moe-select-config --convert-moe-to-nvtile --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --moe-select-config --convert-moe-to-nvtile --moe-plan-workspace --moe-verify-stage=stage=bufferized \
// RUN:   --convert-moe-to-gpu --moe-verify-stage=stage=kernels | FileCheck %s --check-prefix=SIMT

// CHECK-LABEL: func.func @f(
// CHECK-SAME: %[[ORDER:.*]]: memref<?xi32> {{.*}}, %{{.*}}: memref<?xi32>
// One table for both kernels, before the branches.
// CHECK: gpu.launch_func @moe_work_table_4_module
// CHECK: %[[ROWS:.*]] = memref.dim %[[ORDER]], %{{.*}} : memref<?xi32>
// CHECK: %[[MANY:.*]] = arith.constant 4096 : index
// CHECK: %[[BIG:.*]] = arith.cmpi sge, %[[ROWS]], %[[MANY]] : index
// CHECK: scf.if %[[BIG]] {
// CHECK: gpu.launch_func @f_grouped_matmul_0_module
// CHECK: } else {
// CHECK: %[[COUNT:.*]] = func.call @moe_rt_multiprocessors
// CHECK: %[[PROCESSORS:.*]] = arith.index_cast %[[COUNT]]
// CHECK: arith.cmpi sge, %[[PROCESSORS]], %{{.*}} : index
// CHECK: scf.if
// CHECK: gpu.launch_func @f_grouped_matmul_1_module
// CHECK: } else {
// CHECK: moe.grouped_matmul {{.*}} attributes {moe.config = #moe.config<simt>}
// CHECK: gpu.func @f_grouped_matmul_0(
// CHECK: nvtile.make_ring {{.*}} <3 x[128, 256]>
// CHECK: gpu.func @f_grouped_matmul_1(
// CHECK: nvtile.make_ring {{.*}} <2 x[128, 256]>
// SIMT: gpu.launch_func @f_grouped_matmul_0_module
// SIMT: gpu.launch_func @f_grouped_matmul_1_module
// SIMT: } else {
// SIMT: gpu.launch blocks
func.func @f(%o: memref<?xi32> {moe.dims = ["2*T"]}, %p: memref<?xi32> {moe.dims = ["2*T"]},
    %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16> {moe.dims = ["2*T", 64]}, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16> {moe.dims = ["2*T", 512]}) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative stages 3 from 4096 rows, cooperative stages 2 from 100 processors, simt>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}
