// What stays for other kernels, and why.
// RUN: moe-opt %s --moe-select-config --convert-moe-to-nvtile --verify-diagnostics --split-input-file | FileCheck %s
// RUN: moe-opt %s --moe-select-config="arch=sm_86" --convert-moe-to-nvtile --split-input-file 2>/dev/null | FileCheck %s --check-prefix=ARCH

// CHECK-LABEL: func.func @f32
// CHECK: moe.grouped_matmul {{.*}}#moe.config<simt "its operands are f32, not bf16 or f16">
// ARCH-LABEL: func.func @f32
// ARCH: moe.grouped_matmul {{.*}}#moe.config<simt "its operands are f32, not bf16 or f16">
func.func @f32(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x16xf32>, %w: memref<4x8x16xf32>, %y: memref<?x8xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: its operands are f32, not bf16 or f16}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x16xf32>, memref<4x8x16xf32>) columns <single 1>
      ins() outs(%y : memref<?x8xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// CHECK-LABEL: func.func @odd
// CHECK: moe.grouped_matmul {{.*}}#moe.config<simt "the 12 columns of its left rows are no multiple of 8">
// ARCH-LABEL: func.func @odd
// ARCH: moe.grouped_matmul {{.*}}#moe.config<simt "sm_86 has no kernels for it yet, sm_90a has">
func.func @odd(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x12xbf16>, %w: memref<4x8x12xbf16>, %y: memref<?x8xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: the 12 columns of its left rows are no multiple of 8}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x12xbf16>, memref<4x8x12xbf16>) columns <single 1>
      ins() outs(%y : memref<?x8xbf16> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return
}

// -----

// CHECK-LABEL: func.func @region
// CHECK: moe.grouped_matmul
func.func @region(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x16xbf16>, %w: memref<4x8x16xbf16>, %y: memref<?x8xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: its region has math.sin}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x16xbf16>, memref<4x8x16xbf16>) columns <single 1>
      ins() outs(%y : memref<?x8xbf16> rows grouped) {
  ^bb0(%v: f32):
    %s = math.sin %v : f32
    moe.yield %s : f32
  }
  return
}

// -----

// CHECK-LABEL: func.func @outer
// CHECK: moe.grouped_outer
func.func @outer(%o: memref<?xi32>, %p: memref<?xi32>, %b: memref<4xi32>, %e: memref<4xi32>,
    %x: memref<?x16xbf16>, %dy: memref<?x20xbf16>, %dw: memref<4x20x16xbf16>) {
  %a = moe.pack_assignment %o, %p, %b, %e : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: the columns of memref<?x20xbf16> are no multiple of 8}}
  moe.grouped_outer by %a : !moe.assignment<?x2, 4> x(%x from token : memref<?x16xbf16>) dy(%dy from grouped : memref<?x20xbf16>) out_in
      outs(%dw : memref<4x20x16xbf16>)
  return
}

// -----

// CHECK-LABEL: func.func @many_rows
// CHECK: moe.grouped_matmul
func.func @many_rows(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<4xi32>, %end: memref<4xi32>,
    %x: memref<?x64xbf16>, %w: memref<4x64x64xbf16>, %h: memref<?x64xbf16>, %y: memref<?x64xbf16>) {
  %a = moe.pack_assignment %order, %position, %begin, %end
      : memref<?xi32>, memref<?xi32>, memref<4xi32>, memref<4xi32> -> !moe.assignment<?x2, 4>
  // expected-remark @below {{no kernel for the matrix unit: its region reads more grouped rows than fit in shared memory}}
  moe.grouped_matmul by %a : !moe.assignment<?x2, 4>
      pairs(%x from grouped, %w out_in : memref<?x64xbf16>, memref<4x64x64xbf16>) columns <single 1>
      ins(%h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped, %h : memref<?x64xbf16> rows grouped)
      outs(%y : memref<?x64xbf16> rows grouped) {
  ^bb0(%v: f32, %r0: f32, %r1: f32, %r2: f32, %r3: f32, %r4: f32, %r5: f32, %r6: f32, %r7: f32, %r8: f32, %r9: f32, %r10: f32, %r11: f32, %r12: f32):
    %s0 = arith.addf %v, %r0 : f32
    %s1 = arith.addf %s0, %r1 : f32
    %s2 = arith.addf %s1, %r2 : f32
    %s3 = arith.addf %s2, %r3 : f32
    %s4 = arith.addf %s3, %r4 : f32
    %s5 = arith.addf %s4, %r5 : f32
    %s6 = arith.addf %s5, %r6 : f32
    %s7 = arith.addf %s6, %r7 : f32
    %s8 = arith.addf %s7, %r8 : f32
    %s9 = arith.addf %s8, %r9 : f32
    %s10 = arith.addf %s9, %r10 : f32
    %s11 = arith.addf %s10, %r11 : f32
    %s12 = arith.addf %s11, %r12 : f32
    moe.yield %s12 : f32
  }
  return
}
