// Bytecode that version 1 of the dialect wrote (moe-opt --emit-bytecode of the
// text below) is read for ever. It is never written again: a new version gets a
// file beside it.
// RUN: moe-opt %S/Inputs/version-1.mlirbc | FileCheck %s
// RUN: moe-opt %S/Inputs/version-1.mlirbc -o %t.old
// RUN: moe-opt %s -o %t.now
// RUN: diff %t.old %t.now
// A config was a dictionary of numbers for the only structure there was.
// RUN: moe-opt %S/Inputs/version-1-config.mlirbc | FileCheck %s --check-prefix=CONFIG
// CONFIG: moe.config = #moe.config<cooperative stages 3 buffers 4>
// A variant had no parts.
// RUN: moe-opt %S/Inputs/version-2-config.mlirbc | FileCheck %s --check-prefix=VARIANT
// VARIANT: moe.config = #moe.config<cooperative tile 128x256 stages 3 buffers 4 from 4096 rows, simt "why">

// CHECK-LABEL: func.func @mlp
// CHECK: moe.route %{{.*}} sigmoid topk_then_score {{.*}}drop = #moe.drop<score>
// CHECK: moe.assign ids
// CHECK: moe.parallel_linear {{.*}} from token to grouped in_out
// CHECK: moe.rowwise grouped {{.*}} rows interleave 2
// CHECK: moe.combine {{.*}} from grouped
func.func @mlp(%x: tensor<?x16xbf16>, %l: tensor<?x8xf32>,
    %w1: tensor<8x16x64xbf16>, %w2: tensor<8x16x32xbf16>) -> tensor<?x16xbf16> {
  %gates, %ids = moe.route %l sigmoid topk_then_score
      {capacity = 4 : i64, drop = #moe.drop<score>, groups = 4 : i64,
       masked_groups = #moe.masked_groups<zero>, topk_groups = 2 : i64}
      : tensor<?x8xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %h = moe.parallel_linear %x, %w1 by %a from token to grouped in_out
      : tensor<?x16xbf16>, tensor<8x16x64xbf16>, !moe.assignment<?x2, 8>
      -> tensor<?x64xbf16>
  %m = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%h : tensor<?x64xbf16> rows interleave 2)
      outs(tensor<?x32xbf16> rows) {
  ^bb0(%gate: f32, %up: f32):
    %p = arith.mulf %gate, %up : f32
    moe.yield %p : f32
  }
  %y = moe.parallel_linear %m, %w2 by %a from grouped to grouped out_in
      : tensor<?x32xbf16>, tensor<8x16x32xbf16>, !moe.assignment<?x2, 8>
      -> tensor<?x16xbf16>
  %o = moe.combine %y from grouped by %a gates(%gates : tensor<?x2xf32>)
      : tensor<?x16xbf16>, !moe.assignment<?x2, 8> -> tensor<?x16xbf16>
  return %o : tensor<?x16xbf16>
}
