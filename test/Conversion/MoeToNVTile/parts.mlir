// Weight gradients whose experts are split where they have many rows.
// RUN: moe-opt %s --moe-select-config --convert-moe-to-nvtile --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --moe-select-config --convert-moe-to-nvtile --moe-plan-workspace --moe-verify-stage=stage=bufferized \
// RUN:   --convert-moe-to-gpu --moe-verify-stage=stage=kernels | FileCheck %s --check-prefix=PLAN

// One kernel makes the table and both lists; their sizes, and those of the
// sums, do not depend on rows.
// CHECK-LABEL: func.func @f(
// CHECK-DAG:   %[[TABLE:.*]] = memref.alloc(%{{.*}}) : memref<?xi32>
// CHECK-DAG:   %[[FOUR:.*]] = memref.alloc() : memref<52xi32>
// CHECK-DAG:   %[[SUMS4:.*]] = memref.alloc() : memref<4x72x64xf32>
// CHECK-DAG:   %[[SIX:.*]] = memref.alloc() : memref<68xi32>
// CHECK-DAG:   %[[SUMS6:.*]] = memref.alloc() : memref<6x72x64xf32>
// CHECK:       gpu.launch_func @moe_work_table_4_parts_4_6_module::@moe_work_table_4_parts_4_6
// CHECK-SAME:    args({{.*}}, %[[TABLE]] : memref<?xi32>, %[[FOUR]] : memref<52xi32>, %[[SIX]] : memref<68xi32>)
// CHECK:       gpu.launch_func @f_grouped_outer_0_module::@f_grouped_outer_0
// CHECK-SAME:    %[[SIX]] : memref<68xi32>, %[[SUMS6]] : memref<6x72x64xf32>
// Fewer rows than two parts of an expert have: nothing to add.
// CHECK:       %[[LEAST:.*]] = arith.constant 512 : index
// CHECK:       %[[ENOUGH:.*]] = arith.cmpi sge, %{{.*}}, %[[LEAST]] : index
// CHECK:       scf.if %[[ENOUGH]] {
// CHECK:         gpu.launch_func @moe_fold_6_parts_of_4x4608xbf16_added_module::@moe_fold_6_parts_of_4x4608xbf16_added
// CHECK:       }
// CHECK:       gpu.launch_func @f_grouped_outer_1_module::@f_grouped_outer_1
// CHECK-SAME:    %[[FOUR]] : memref<52xi32>, %[[SUMS4]] : memref<4x72x64xf32>
// CHECK:         gpu.launch_func @moe_fold_4_parts_of_4x4608xf32_module::@moe_fold_4_parts_of_4x4608xf32
// The third is not split and reads the table itself.
// CHECK:       gpu.launch_func @f_grouped_outer_2_module::@f_grouped_outer_2
// CHECK-SAME:    %[[TABLE]] : memref<?xi32>
// CHECK-NOT:   gpu.launch_func

// The number of items comes from the list; experts from E on are parts.
// CHECK-LABEL: gpu.func @f_grouped_outer_0(
// CHECK-SAME:    %[[LIST:[^ ]*]]: memref<68xi32>, %[[SUMS:.*]]: memref<6x72x64xf32>
// CHECK:       nvtile.work_count %[[LIST]] : memref<68xi32>
// CHECK:       nvtile.mma
// CHECK:       %[[E:.*]] = arith.constant 4 : i32
// CHECK:       %[[WHOLE:.*]] = arith.cmpi slt, %{{.*}}, %[[E]] : i32
// CHECK:       scf.if %[[WHOLE]] {
// CHECK:         nvtile.load_fragment
// CHECK:         nvtile.stage_store
// CHECK:       } else {
// CHECK-NOT:     nvtile.load_fragment
// CHECK-COUNT-4: nvtile.store_fragment %{{.*}} to %[[SUMS]][
// CHECK-NOT:     nvtile.store_fragment
// CHECK:       }

// Parts in order, then what the buffer held, then one rounding.
// CHECK-LABEL: gpu.func @moe_fold_6_parts_of_4x4608xbf16_added(
// CHECK:       %[[FIRST:.*]] = vector.load %arg1
// CHECK:       %[[SUM:.*]] = scf.for {{.*}} iter_args(%[[ACC:.*]] = %[[FIRST]])
// CHECK:         %[[NEXT:.*]] = vector.load %arg1
// CHECK:         arith.addf %[[ACC]], %[[NEXT]]
// CHECK:       %[[OLD:.*]] = vector.load %arg2
// CHECK:       %[[WIDE:.*]] = arith.extf %[[OLD]]
// CHECK:       %[[TOTAL:.*]] = arith.addf %[[WIDE]], %[[SUM]]
// CHECK:       arith.truncf %[[TOTAL]]
// CHECK-LABEL: gpu.func @f_grouped_outer_1(
// CHECK-LABEL: gpu.func @moe_fold_4_parts_of_4x4608xf32(
// CHECK-NOT:   arith.truncf
// CHECK:       vector.store
// CHECK-LABEL: gpu.func @f_grouped_outer_2(
// CHECK-NOT:   nvtile.work_count
// CHECK-NOT:   nvtile.store_fragment

// The sums of six parts, then those of four in their place: no T in it.
// PLAN: moe.workspace = {align = 64 : i64, temporaries = [
// PLAN-SAME: {after = [1], bytes = 272 : i64}, {after = [2], bytes = 110592 : i64}, {after = [1], bytes = 73728 : i64}]
func.func @f(%o: memref<?xi32> {moe.dims = ["2*T"]}, %p: memref<?xi32> {moe.dims = ["2*T"]},
    %b: memref<4xi32> {moe.dims = [4]}, %e: memref<4xi32> {moe.dims = [4]},
    %x: memref<?x64xbf16> {moe.dims = ["T", 64]}, %dy: memref<?x72xbf16> {moe.dims = ["2*T", 72]},
    %u: memref<4x72x64xbf16> {moe.dims = [4, 72, 64]}, %v: memref<4x72x64xf32> {moe.dims = [4, 72, 64]},
    %w: memref<4x72x64xbf16> {moe.dims = [4, 72, 64]}) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  moe.grouped_outer by %a : !moe.assignment<?x2, 4>
      x(%x from token : memref<?x64xbf16>) dy(%dy from grouped : memref<?x72xbf16>)
      out_in accumulate outs(%u : memref<4x72x64xbf16>) {moe.config = #moe.config<cooperative parts 6>}
  moe.grouped_outer by %a : !moe.assignment<?x2, 4>
      x(%x from token : memref<?x64xbf16>) dy(%dy from grouped : memref<?x72xbf16>)
      out_in outs(%v : memref<4x72x64xf32>) {moe.config = #moe.config<cooperative parts 4>}
  moe.grouped_outer by %a : !moe.assignment<?x2, 4>
      x(%x from token : memref<?x64xbf16>) dy(%dy from grouped : memref<?x72xbf16>)
      out_in outs(%w : memref<4x72x64xbf16>) {moe.config = #moe.config<cooperative parts 1>}
  return
}
