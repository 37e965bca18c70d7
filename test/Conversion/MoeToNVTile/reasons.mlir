// Each reason for which a product stays a SIMT kernel.
// RUN: moe-opt %s --moe-select-config --verify-diagnostics --split-input-file

func.func @blocks(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>, %x: memref<?x16xbf16>, %w: memref<4x24x16xbf16>, %y0: memref<?x8xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: its accumulator has 3 column blocks, not 1, 2 or 4}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x16xbf16>, memref<4x24x16xbf16>) columns <concat 3>
      ins() outs(%y0 : memref<?x8xbf16> rows grouped) {
  ^bb0(%v0: f32, %v1: f32, %v2: f32):
    moe.yield %v0 : f32
  }
  return
}

// -----

func.func @width(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>, %x: memref<?x16xbf16>, %w: memref<4x12x16xbf16>, %y0: memref<?x12xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: its 12 columns are no multiple of 8}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x16xbf16>, memref<4x12x16xbf16>) columns <single 1>
      ins() outs(%y0 : memref<?x12xbf16> rows grouped) {
  ^bb0(%v0: f32):
    moe.yield %v0 : f32
  }
  return
}

// -----

func.func @interleaved_weights(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>, %x: memref<?x16xbf16>, %w: memref<4x16x16xbf16>, %y0: memref<?x8xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: interleaved columns of (E, in, out) weights}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w in_out : memref<?x16xbf16>, memref<4x16x16xbf16>) columns <interleave 2>
      ins() outs(%y0 : memref<?x8xbf16> rows grouped) {
  ^bb0(%v0: f32, %v1: f32):
    moe.yield %v0 : f32
  }
  return
}

// -----

func.func @reads_interleaved(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>, %x: memref<?x16xbf16>, %w: memref<4x8x16xbf16>, %i0: memref<?x24xbf16>, %y0: memref<?x8xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: its region reads 3 interleaved columns, not 2}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x16xbf16>, memref<4x8x16xbf16>) columns <single 1>
      ins(%i0 : memref<?x24xbf16> rows grouped interleave 3) outs(%y0 : memref<?x8xbf16> rows grouped) {
  ^bb0(%v0: f32, %u0_0: f32, %u0_1: f32, %u0_2: f32):
    moe.yield %v0 : f32
  }
  return
}

// -----

func.func @writes_interleaved(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>, %x: memref<?x16xbf16>, %w: memref<4x8x16xbf16>, %y0: memref<?x16xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: a result has 2 interleaved columns of f32, not 2 of bf16 or f16}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x16xbf16>, memref<4x8x16xbf16>) columns <single 1>
      ins() outs(%y0 : memref<?x16xf32> rows grouped interleave 2) {
  ^bb0(%v0: f32):
    moe.yield %v0, %v0 : f32, f32
  }
  return
}

// -----

func.func @partials_of_four(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>, %x: memref<?x16xbf16>, %w: memref<4x32x16xbf16>, %y0: memref<?x1xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: row sums of four column blocks}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x16xbf16>, memref<4x32x16xbf16>) columns <concat 4>
      ins() outs(%y0 : memref<?x1xf32> partials grouped) {
  ^bb0(%v0: f32, %v1: f32, %v2: f32, %v3: f32):
    moe.yield %v0 : f32
  }
  return
}

// -----

func.func @strided(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>, %x: memref<?x16xbf16, strided<[32, 1]>>, %w: memref<4x8x16xbf16>, %y0: memref<?x8xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: an operand is not contiguous}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x16xbf16, strided<[32, 1]>>, memref<4x8x16xbf16>) columns <single 1>
      ins() outs(%y0 : memref<?x8xbf16> rows grouped) {
  ^bb0(%v0: f32):
    moe.yield %v0 : f32
  }
  return
}

// -----

func.func @assignment(%a: !moe.assignment<?x2, 4>, %x: memref<?x16xbf16>, %w: memref<4x8x16xbf16>, %y0: memref<?x8xbf16>) {
  // expected-remark @below {{no kernel for the matrix unit: its assignment does not come from moe.pack_assignment}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x16xbf16>, memref<4x8x16xbf16>) columns <single 1>
      ins() outs(%y0 : memref<?x8xbf16> rows grouped) {
  ^bb0(%v0: f32):
    moe.yield %v0 : f32
  }
  return
}

// -----

func.func @tensors(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>, %x: tensor<?x16xbf16>, %w: tensor<4x8x16xbf16>, %y0: tensor<?x8xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: its operands are tensors}}
  %r0 = moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : tensor<?x16xbf16>, tensor<4x8x16xbf16>) columns <single 1>
      ins() outs(%y0 : tensor<?x8xbf16> rows grouped) {
  ^bb0(%v0: f32):
    moe.yield %v0 : f32
  }
  return
}

// -----

func.func @outer_f32(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>, %x: memref<?x16xf32>, %dy: memref<?x8xf32>, %dw: memref<4x8x16xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: its operands are f32, not bf16 or f16}}
  moe.grouped_outer by %a : !moe.assignment<?x2, 4> x(%x from token : memref<?x16xf32>) dy(%dy from grouped : memref<?x8xf32>) out_in
      outs(%dw : memref<4x8x16xf32>)
  return
}

// -----

func.func @outer_result(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>, %x: memref<?x16xbf16>, %dy: memref<?x8xbf16>, %dw: memref<4x8x16xf64>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: its result is f64}}
  moe.grouped_outer by %a : !moe.assignment<?x2, 4> x(%x from token : memref<?x16xbf16>) dy(%dy from grouped : memref<?x8xbf16>) out_in
      outs(%dw : memref<4x8x16xf64>)
  return
}

// -----

func.func @two_types(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>, %x: memref<?x16xbf16>, %w: memref<4x8x16xbf16>,
    %z: memref<?x16xf16>, %u: memref<4x8x16xf16>, %y: memref<?x8xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: its operands differ in type}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x16xbf16>, memref<4x8x16xbf16>,
            %z from grouped, %u out_in : memref<?x16xf16>, memref<4x8x16xf16>) columns <single 1>
      ins() outs(%y : memref<?x8xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}
