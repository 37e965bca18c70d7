// A config on an op on tensors stays with it through bufferization.
// RUN: moe-opt %s --moe-bufferize --moe-select-config | FileCheck %s

// CHECK: moe.grouped_matmul {{.*}}memref{{.*}} attributes {moe.config = #moe.config<cooperative tile 128x256 stages 2 buffers 4>}
func.func @f(%o: tensor<?xi32>, %p: tensor<?xi32>, %b: tensor<4xi32>, %e: tensor<4xi32>,
    %x: tensor<?x64xbf16>, %w: tensor<4x512x64xbf16>, %y: tensor<?x512xbf16>) -> tensor<?x512xbf16> {
  %a = moe.pack_assignment %o, %p, %b, %e : tensor<?xi32>, tensor<?xi32>, tensor<4xi32>, tensor<4xi32> -> !moe.assignment<?x2, 4>
  %0 = moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : tensor<?x64xbf16>, tensor<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : tensor<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative stages 2 buffers 4>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %0 : tensor<?x512xbf16>
}
