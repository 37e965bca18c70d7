// RUN: moe-opt %s --moe-fuse-addends --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-fuse-addends --moe-fuse-addends --split-input-file --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --moe-fuse-addends --split-input-file --remarks-filter=moe-fuse -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK

// Of two combines the later one takes the other as its addend.
// REMARK: [Passed] moe-fuse-addends {{.*}}BytesPerToken=32
// CHECK-LABEL: func.func @shared(
// CHECK:         %[[R:.*]] = moe.combine_rows by %{{.*}} : !moe.assignment<4x2, 8>
// CHECK:         %[[S:.*]] = moe.combine_rows by %{{.*}} : !moe.assignment<4x1, 1> {{.*}} addends(%[[R]] : tensor<4x16xbf16>)
// CHECK-NOT:     moe.map_rows
// CHECK:         return %[[S]]
func.func @shared(%y: tensor<8x16xbf16>, %z: tensor<4x16xbf16>, %i: tensor<4x16xbf16>, %a: !moe.assignment<4x2, 8>, %b: !moe.assignment<4x1, 1>) -> tensor<4x16xbf16> {
  %o = moe.combine_rows by %a : !moe.assignment<4x2, 8> ins(%y : tensor<8x16xbf16> rows grouped) outs(%i : tensor<4x16xbf16> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %p = moe.combine_rows by %b : !moe.assignment<4x1, 1> ins(%z : tensor<4x16xbf16> rows grouped) outs(%i : tensor<4x16xbf16> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %s = moe.map_rows token ins(%o : tensor<4x16xbf16> rows token, %p : tensor<4x16xbf16> rows token) outs(%i : tensor<4x16xbf16> rows token) {
  ^bb0(%u: f32, %v: f32):
    %t = arith.addf %u, %v : f32
    moe.yield %t : f32
  }
  return %s : tensor<4x16xbf16>
}

// -----

// Refused: the combined rows are returned too.
// REMARK: [Missed] moe-fuse-addends {{.*}}the combined rows have other readers
// CHECK-LABEL: func.func @two_readers(
// CHECK:         arith.addf
func.func @two_readers(%y: tensor<8x16xbf16>, %x: tensor<4x16xbf16>, %i: tensor<4x16xbf16>, %a: !moe.assignment<4x2, 8>) -> (tensor<4x16xbf16>, tensor<4x16xbf16>) {
  %o = moe.combine_rows by %a : !moe.assignment<4x2, 8> ins(%y : tensor<8x16xbf16> rows grouped) outs(%i : tensor<4x16xbf16> rows token) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  %s = arith.addf %o, %x : tensor<4x16xbf16>
  return %s, %o : tensor<4x16xbf16>, tensor<4x16xbf16>
}
