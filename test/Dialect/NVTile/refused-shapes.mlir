// Shapes and types that the types and ops refuse.
// RUN: moe-opt %s --verify-diagnostics --split-input-file

// expected-error @below {{a fragment is <rows x columns>, as in <64x256>}}
func.func private @f(!nvtile.fragment<64>)

// -----

// expected-error @below {{a fragment is f32 or, where 64xN, bf16 or f16, got 'f64'}}
func.func private @f(!nvtile.fragment<64x64, f64>)

// -----

func.func @f(%x: memref<?x512xbf16>, %n: index) {
  // expected-error @below {{box size 512 is not in 1..256 (C1)}}
  %m = nvtile.tensor_map %x dims [%n, %n] strides [%n] box [64, 512] : memref<?x512xbf16> -> <bf16>
  return
}

// -----

func.func @f(%x: memref<?x512xbf16>, %n: index) {
  // expected-error @below {{gives '!nvtile.tensor_map<f16>' of 'bf16'}}
  %m = nvtile.tensor_map %x dims [%n, %n] strides [%n] box [64, 64] : memref<?x512xbf16> -> <f16>
  return
}

// -----

func.func @f() {
  // expected-error @below {{registers are a multiple of 8 in 24..256, got 60}}
  nvtile.specialize produce 60 {
  } consume 216 {
  ^bb0(%w: i32):
  }
  return
}

// -----

func.func @f() {
  // expected-error @below {{has no producing argument and one consuming i32, the warpgroup}}
  nvtile.specialize produce 56 {
  } consume 216 {
  ^bb0(%w: i64):
  }
  return
}

// -----

func.func @f(%r: !nvtile.ring<4 x [128, 256]>, %p: i32, %m: !nvtile.tensor_map<bf16>) {
  // expected-error @below {{row 12 is no multiple of 8 in tile 0 of}}
  nvtile.load %m[%p, %p] to %r[%p] tile 0 row 12 : !nvtile.tensor_map<bf16>, !nvtile.ring<4 x [128, 256]>
  return
}

// -----

func.func @f(%r: !nvtile.ring<4 x [128, 256]>, %p: i32, %m: !nvtile.tensor_map<bf16>) {
  // expected-error @below {{wants 2 to 5 coordinates, got 1}}
  nvtile.load %m[%p] to %r[%p] tile 0 row 0 : !nvtile.tensor_map<bf16>, !nvtile.ring<4 x [128, 256]>
  return
}

// -----

func.func @f(%r: !nvtile.ring<4 x [24, 256]>, %p: i32, %x: memref<?x64xbf16>, %i: vector<1xi32>) {
  // expected-error @below {{tile 0 has 24 rows, no multiple of the 16 rows of 'vector<1xi32>'}}
  nvtile.gather %x[%i, %p] to %r[%p] tile 0 : memref<?x64xbf16>, vector<1xi32>, !nvtile.ring<4 x [24, 256]>
  return
}

// -----

func.func @f(%r: !nvtile.ring<4 x [128, 256]>, %p: i32, %acc: !nvtile.fragment<64x256>) {
  // expected-error @below {{multiplies bf16 or f16, got 'f32'}}
  %s = nvtile.mma %r[%p], %acc lhs 0 rhs 1 warpgroup %p f32 : !nvtile.ring<4 x [128, 256]>, !nvtile.fragment<64x256>
  return
}

// -----

func.func @f(%a: !nvtile.fragment<64x64>) {
  // expected-error @below {{has 1 fragments and a body of 2 arguments}}
  %s = nvtile.map(%a : !nvtile.fragment<64x64>) -> !nvtile.fragment<64x64> {
  ^bb0(%x: f32, %y: f32):
    nvtile.yield %x : f32
  }
  return
}

// -----

func.func @f(%a: !nvtile.fragment<64x64>) {
  // expected-error @below {{the body works on f32, got 'bf16'}}
  %s = nvtile.map(%a : !nvtile.fragment<64x64>) -> !nvtile.fragment<64x64> {
  ^bb0(%x: bf16):
    %c = arith.constant 0.0 : f32
    nvtile.yield %c : f32
  }
  return
}

// -----

func.func @f(%a: !nvtile.fragment<64x64>) {
  // expected-error @below {{yields 2 values for 1 results}}
  %s = nvtile.map(%a : !nvtile.fragment<64x64>) -> !nvtile.fragment<64x64> {
  ^bb0(%x: f32):
    nvtile.yield %x, %x : f32, f32
  }
  return
}

// -----

func.func @f(%a: !nvtile.fragment<64x64>) {
  // expected-error @below {{results differ in shape}}
  %s:2 = nvtile.map(%a : !nvtile.fragment<64x64>) -> !nvtile.fragment<64x64>, !nvtile.fragment<64x128> {
  ^bb0(%x: f32):
    nvtile.yield %x, %x : f32, f32
  }
  return
}

// -----

func.func @f(%a: !nvtile.fragment<64x64>) {
  // expected-error @below {{does not make '!nvtile.fragment<64x128, bf16>' of '!nvtile.fragment<64x64>'}}
  %s = nvtile.round %a : !nvtile.fragment<64x64> -> !nvtile.fragment<64x128, bf16>
  return
}

// -----

func.func @f(%a: !nvtile.fragment<64x64>) {
  // expected-error @below {{does not make '!nvtile.fragment<64x256>' of two '!nvtile.fragment<64x64>'}}
  %s = nvtile.join %a, %a : !nvtile.fragment<64x64> -> !nvtile.fragment<64x256>
  return
}

// -----

func.func @f(%r: !nvtile.ring<4 x [128, 256]>, %p: i32) {
  // expected-error @below {{column is a multiple of 32 below 64, got 16}}
  %h = nvtile.read %r[%p] tile 1 row 128 column 16 warpgroup %p : !nvtile.ring<4 x [128, 256]> -> !nvtile.fragment<64x32, bf16>
  return
}

// -----

// What only generic syntax can write.
func.func @f(%r: !nvtile.ring<4 x [128, 256]>, %p: i32, %acc: !nvtile.fragment<64x256>) {
  // expected-error @below {{has a ring for its right tile without a position, or the reverse}}
  %s = "nvtile.mma"(%r, %p, %acc, %r) <{elementType = bf16, lhs = 0 : i32, rhs = 1 : i32, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0>}> : (!nvtile.ring<4 x [128, 256]>, i32, !nvtile.fragment<64x256>, !nvtile.ring<4 x [128, 256]>) -> !nvtile.fragment<64x256>
  return
}

// -----

func.func @f(%s: !nvtile.staging<2>, %m: !nvtile.tensor_map<bf16>, %y: memref<?x64xbf16>, %p: i32, %a: !nvtile.fragment<64x64, f16>) {
  // expected-error @below {{writes 1 of '!nvtile.fragment<64x64, bf16>', got '!nvtile.fragment<64x64, f16>'}}
  nvtile.stage_store %a through %s[0] warpgroup %p to %m[%p, %p] or %y[%p, %p] end %p limit %p : !nvtile.fragment<64x64, f16> through !nvtile.staging<2>, !nvtile.tensor_map<bf16>, memref<?x64xbf16>
  return
}

// -----

func.func @f(%s: !nvtile.staging<2>, %m: !nvtile.tensor_map<bf16>, %y: memref<?x64xbf16>, %p: i32, %a: !nvtile.fragment<64x64, bf16>) {
  // expected-error @below {{buffer 2 is not in '!nvtile.staging<2>'}}
  nvtile.stage_store %a through %s[2] warpgroup %p to %m[%p, %p] or %y[%p, %p] end %p limit %p : !nvtile.fragment<64x64, bf16> through !nvtile.staging<2>, !nvtile.tensor_map<bf16>, memref<?x64xbf16>
  return
}

// -----

func.func @f(%r: !nvtile.ring<4 x [128, 256]>, %p: i32) {
  // expected-error @below {{takes one fragment, or two that alternate, got 3}}
  %h:3 = nvtile.read %r[%p] tile 1 row 0 column 0 warpgroup %p : !nvtile.ring<4 x [128, 256]> -> !nvtile.fragment<64x32, bf16>, !nvtile.fragment<64x32, bf16>, !nvtile.fragment<64x32, bf16>
  return
}

// -----

func.func @f(%r: !nvtile.ring<4 x [128, 256]>, %p: i32, %a: !nvtile.fragment<64x64, bf16>) {
  // expected-error @below {{takes 64x16 or 64x32 of bf16 or f16, got '!nvtile.fragment<64x64, bf16>'}}
  nvtile.write %a to %r[%p] tile 1 row 0 column 0 warpgroup %p : !nvtile.fragment<64x64, bf16> to !nvtile.ring<4 x [128, 256]>
  return
}

// -----

func.func @f(%r: !nvtile.ring<4 x [128, 256]>, %p: i32, %a: !nvtile.fragment<64x32, bf16>) {
  // expected-error @below {{column is a multiple of 32 below 32, got 32}}
  nvtile.write %a, %a to %r[%p] tile 1 row 0 column 32 warpgroup %p : !nvtile.fragment<64x32, bf16>, !nvtile.fragment<64x32, bf16> to !nvtile.ring<4 x [128, 256]>
  return
}

// -----

func.func @f(%m: memref<?x64xbf16>, %p: i32) {
  // expected-error @below {{gives one fragment, or two of a type whose columns alternate, got}}
  %h:3 = nvtile.load_fragment %m[%p, %p] end %p limit %p : memref<?x64xbf16> -> !nvtile.fragment<64x16>, !nvtile.fragment<64x16>, !nvtile.fragment<64x16>
  return
}

// -----

func.func @f(%s: !nvtile.staging<2>, %m: !nvtile.tensor_map<bf16>, %y: memref<?x64xbf16>, %p: i32, %a: !nvtile.fragment<64x16, bf16>) {
  // expected-error @below {{takes one fragment, or two that alternate, got 3}}
  nvtile.stage_store %a, %a, %a through %s[0] warpgroup %p to %m[%p, %p] or %y[%p, %p] end %p limit %p : !nvtile.fragment<64x16, bf16>, !nvtile.fragment<64x16, bf16>, !nvtile.fragment<64x16, bf16> through !nvtile.staging<2>, !nvtile.tensor_map<bf16>, memref<?x64xbf16>
  return
}
