// Configs that no kernel can have.
// RUN: moe-opt %s --moe-select-config --verify-diagnostics --split-input-file

func.func @tile(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<cooperative tile 64x256 stages 4 buffers 2>': its tile is 128x256}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative tile 64x256>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @stages(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<cooperative tile 128x256 stages 1 buffers 2>': it needs at least 2 stages}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative stages 1>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @gathered(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<cooperative tile 128x256 stages 1 buffers 2>': it needs at least 2 stages}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from token, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative stages 1>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @buffers(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<cooperative tile 128x256 stages 4 buffers 3>': buffers have to divide the 4 stores of a tile}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative buffers 3>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @no_buffers(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<cooperative tile 128x256 stages 4 buffers 2>': its results pass through no buffers}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xf32> rows grouped) attributes {moe.config = #moe.config<cooperative buffers 2>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @memory(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<cooperative tile 128x256 stages 4 buffers 4>': it needs 263168 bytes of shared memory, a block has 232448; fewer stages or buffers}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative stages 4 buffers 4>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @fits_not(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x12xbf16>, %w: memref<4x512x12xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<cooperative>': the 12 columns of its left rows are no multiple of 8; simt can do it}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x12xbf16>, memref<4x512x12xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @outer(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x16xbf16>, %dy: memref<?x24xbf16>, %dw: memref<4x24x16xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<cooperative tile 128x256 stages 5 buffers 1 parts 256 from 8 rows>': it needs 263168 bytes of shared memory, a block has 232448; fewer stages or buffers}}
  moe.grouped_outer by %a : !moe.assignment<?x2, 4> x(%x from grouped : memref<?x16xbf16>) dy(%dy from grouped : memref<?x24xbf16>) out_in
      outs(%dw : memref<4x24x16xbf16>) {moe.config = #moe.config<cooperative stages 5 buffers 1 from 8 rows, simt>}
  return
}

// -----

func.func @resident_long(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<4xi32>, %end: memref<4xi32>,
    %act: memref<?x512xbf16>, %w2: memref<4x768x512xbf16>, %y: memref<?x768xbf16>) {
  %a = moe.pack_assignment %order, %position, %begin, %end
      : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<resident>': it contracts over 512, at most 256 fit; cooperative can do it}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%act from grouped, %w2 out_in : memref<?x512xbf16>, memref<4x768x512xbf16>) columns <single 1>
      ins() outs(%y : memref<?x768xbf16> rows grouped)
      attributes {moe.config = #moe.config<resident>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @resident_gathered(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<4xi32>, %end: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x64x64xbf16>, %y: memref<?x64xbf16>) {
  %a = moe.pack_assignment %order, %position, %begin, %end
      : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<resident>': its left rows are gathered; cooperative can do it}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from token, %w out_in : memref<?x64xbf16>, memref<4x64x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x64xbf16> rows grouped)
      attributes {moe.config = #moe.config<resident>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @resident_rows(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<4xi32>, %end: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x64x64xbf16>, %h: memref<?x64xbf16>, %y: memref<?x64xbf16>) {
  %a = moe.pack_assignment %order, %position, %begin, %end
      : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<resident>': its region reads grouped rows; cooperative can do it}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x64x64xbf16>) columns <single 1>
      ins(%h : memref<?x64xbf16> rows grouped) outs(%y : memref<?x64xbf16> rows grouped)
      attributes {moe.config = #moe.config<resident>} {
  ^bb0(%v: f32, %r: f32):
    %s = arith.addf %v, %r : f32
    moe.yield %s : f32
  }
  return
}

// -----

func.func @resident_sum(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<4xi32>, %end: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x64x64xbf16>, %y: memref<?x64xbf16>) {
  %a = moe.pack_assignment %order, %position, %begin, %end
      : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<resident>': it sums 2 products; cooperative can do it}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x64x64xbf16>,
            %x from grouped, %w out_in : memref<?x64xbf16>, memref<4x64x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x64xbf16> rows grouped)
      attributes {moe.config = #moe.config<resident>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @held(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<4xi32>, %end: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x64x64xbf16>, %h: memref<?x64xbf16>, %y: memref<?x64xbf16>) {
  %a = moe.pack_assignment %order, %position, %begin, %end
      : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<cooperative tile 128x256 stages 3>': it needs at least 4 stages}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x64x64xbf16>) columns <single 1>
      ins(%h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped)
      outs(%y : memref<?x64xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative stages 3>} {
  ^bb0(%v: f32, %r0: f32, %r1: f32, %r2: f32, %r3: f32):
    %s0 = arith.addf %v, %r0 : f32
    %s1 = arith.addf %s0, %r1 : f32
    %s2 = arith.addf %s1, %r2 : f32
    %s3 = arith.addf %s2, %r3 : f32
    moe.yield %s3 : f32
  }
  return
}

// -----

func.func @parts(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x512x64xbf16>, %y: memref<?x512xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<cooperative tile 128x256 stages 4 buffers 2 parts 2>': only a weight gradient has parts}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x512x64xbf16>) columns <single 1>
      ins() outs(%y : memref<?x512xbf16> rows grouped) attributes {moe.config = #moe.config<cooperative parts 2>} {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

func.func @many_parts(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x16xbf16>, %dy: memref<?x24xbf16>, %dw: memref<4x24x16xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-error @below {{cannot be '#moe.variant<cooperative tile 128x256 stages 4 buffers 2 parts 4097>': it has at most 4096 parts}}
  moe.grouped_outer by %a : !moe.assignment<?x2, 4> x(%x from grouped : memref<?x16xbf16>) dy(%dy from grouped : memref<?x24xbf16>) out_in
      outs(%dw : memref<4x24x16xbf16>) {moe.config = #moe.config<cooperative parts 4097>}
  return
}
