// A conversion obeys: it chooses nothing, and refuses what is not chosen.
// RUN: moe-opt %s --convert-moe-to-nvtile --verify-diagnostics --split-input-file

func.func @undecided(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{has no moe.config; run moe-select-config first}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @open(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<cooperative stages 4>': numbers are open, which moe-select-config chooses}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative stages 4>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @tile(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<cooperative tile 128x128 stages 4 buffers 2>': its tile is 128x256}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative tile 128x128 stages 4 buffers 2>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}
