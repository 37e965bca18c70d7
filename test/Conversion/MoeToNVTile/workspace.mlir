// A temporary that a kernel reads through its tensor map alone lives until the
// kernel's launch: it shares no space with what the kernel writes.
// RUN: moe-opt %s --moe-select-config --convert-moe-to-nvtile --moe-plan-workspace | FileCheck %s

// CHECK-LABEL: func.func @f
// CHECK-SAME: moe.workspace = {align = 64 : i64, temporaries = [
// CHECK-SAME: {after = [0], bytes = "512*T"}, {after = [1], bytes = "512*T"}]
func.func @f(%order: memref<?xi32> {moe.dims = ["2*T"]}, %position: memref<?xi32> {moe.dims = ["2*T"]},
    %begin: memref<4xi32> {moe.dims = [4]}, %end: memref<4xi32> {moe.dims = [4]},
    %x: memref<?x128xbf16> {moe.dims = ["T", 128]}, %w: memref<4x128x128xbf16> {moe.dims = [4, 128, 128]},
    %out: memref<?x128xbf16> {moe.dims = ["2*T", 128]}) {
  %c0 = arith.constant 0 : index
  %rows = memref.dim %order, %c0 : memref<?xi32>
  %a = moe.pack_assignment %order, %position, %begin, %end
      : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  %0 = memref.alloc(%rows) : memref<?x128xbf16>
  %1 = memref.alloc(%rows) : memref<?x128xbf16>
  moe.map_rows grouped by %a : !moe.assignment<?x2, 4>
      ins(%x : memref<?x128xbf16> rows token) outs(%0 : memref<?x128xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%0 from grouped, %w out_in : memref<?x128xbf16>, memref<4x128x128xbf16>) columns <single 1>
      ins() outs(%1 : memref<?x128xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  moe.map_rows grouped by %a : !moe.assignment<?x2, 4>
      ins(%1 : memref<?x128xbf16> rows grouped) outs(%out : memref<?x128xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}
