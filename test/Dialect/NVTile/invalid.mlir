// What the ops refuse.
// RUN: moe-opt %s --verify-diagnostics --split-input-file

// expected-error @below {{a ring has 2 to 16 stages, got 1}}
func.func private @f(!nvtile.ring<1 x [128]>)

// -----

// expected-error @below {{a tile has a multiple of 8 rows (the swizzle's period), got 12}}
func.func private @f(!nvtile.ring<2 x [12]>)

// -----

// expected-error @below {{a fragment is 64xN, 64x1 or 1xN with N a multiple of 8 up to 256, got 32x64}}
func.func private @f(!nvtile.fragment<32x64>)

// -----

// expected-error @below {{staging has 1 to 8 buffers, got 9}}
func.func private @f(!nvtile.staging<9>)

// -----

func.func @f(%x: memref<?x512xbf16>, %n: index) {
  // expected-error @below {{box[0] of 32 'bf16' is not 128 bytes (C2)}}
  %m = nvtile.tensor_map %x dims [%n, %n] strides [%n] box [32, 64] : memref<?x512xbf16> -> <bf16>
  return
}

// -----

func.func @f(%x: memref<?x512xbf16>, %n: index) {
  // expected-error @below {{wants 2 to 5 dims, one stride less and a box of as many sizes, got 2, 2 and 2 (C1)}}
  %m = nvtile.tensor_map %x dims [%n, %n] strides [%n, %n] box [64, 64] : memref<?x512xbf16> -> <bf16>
  return
}

// -----

func.func @f() {
  // expected-error @below {{registers of the three warpgroups, 56 + 2 * 232, pass 512}}
  nvtile.specialize produce 56 {
  } consume 232 {
  ^bb0(%w: i32):
  }
  return
}

// -----

func.func @f(%r: !nvtile.ring<4 x [128, 256]>, %p: i32, %m: !nvtile.tensor_map<bf16>) {
  // expected-error @below {{tile 2 is not in}}
  nvtile.load %m[%p, %p] to %r[%p] tile 2 row 0 : !nvtile.tensor_map<bf16>, !nvtile.ring<4 x [128, 256]>
  return
}

// -----

func.func @f(%r: !nvtile.ring<4 x [128, 256]>, %p: i32, %x: memref<?x20xbf16>, %i: vector<8xi32>) {
  // expected-error @below {{gathers 16-byte pieces: the columns of 'memref<?x20xbf16>' are no static multiple of 8}}
  nvtile.gather %x[%i, %p] to %r[%p] tile 0 : memref<?x20xbf16>, vector<8xi32>, !nvtile.ring<4 x [128, 256]>
  return
}

// -----

func.func @f(%r: !nvtile.ring<4 x [128, 128]>, %p: i32, %acc: !nvtile.fragment<64x256>) {
  // expected-error @below {{rhs tile of 128 rows does not give '!nvtile.fragment<64x256>'}}
  %s = nvtile.mma %r[%p], %acc lhs 0 rhs 1 warpgroup %p bf16 : !nvtile.ring<4 x [128, 128]>, !nvtile.fragment<64x256>
  return
}

// -----

func.func @f(%r: !nvtile.ring<4 x [64, 256]>, %p: i32, %acc: !nvtile.fragment<64x256>) {
  // expected-error @below {{lhs tile has 64 rows, two warpgroups need 128}}
  %s = nvtile.mma %r[%p], %acc lhs 0 rhs 1 warpgroup %p bf16 : !nvtile.ring<4 x [64, 256]>, !nvtile.fragment<64x256>
  return
}

// -----

func.func @f(%r: !nvtile.ring<4 x [128]>, %w: !nvtile.ring<4 x [256]>, %p: i32, %acc: !nvtile.fragment<64x256>) {
  // expected-error @below {{lhs tile has 128 rows, one warpgroup needs 64; two say which one with `warpgroup`}}
  %s = nvtile.mma %r[%p], %acc lhs 0 rhs 0 of %w[%p] bf16 : !nvtile.ring<4 x [128]> of !nvtile.ring<4 x [256]>, !nvtile.fragment<64x256>
  return
}

// -----

func.func @f(%r: !nvtile.ring<4 x [64]>, %w: !nvtile.ring<4 x [128]>, %p: i32, %acc: !nvtile.fragment<64x256>) {
  // expected-error @below {{rhs tile of 128 rows does not give '!nvtile.fragment<64x256>'}}
  %s = nvtile.mma %r[%p], %acc lhs 0 rhs 0 of %w[%p] bf16 : !nvtile.ring<4 x [64]> of !nvtile.ring<4 x [128]>, !nvtile.fragment<64x256>
  return
}

// -----

func.func @f(%a: !nvtile.fragment<64x64>, %b: !nvtile.fragment<64x128>) {
  // expected-error @below {{operand '!nvtile.fragment<64x128>' does not broadcast to the results}}
  %s = nvtile.map(%a, %b : !nvtile.fragment<64x64>, !nvtile.fragment<64x128>) -> !nvtile.fragment<64x64> {
  ^bb0(%x: f32, %y: f32):
    nvtile.yield %x : f32
  }
  return
}

// -----

func.func @f(%a: !nvtile.fragment<64x128>) {
  // expected-error @below {{no columns 96.. of '!nvtile.fragment<64x128>' are a '!nvtile.fragment<64x64>'}}
  %s = nvtile.columns %a from 96 : !nvtile.fragment<64x128> -> !nvtile.fragment<64x64>
  return
}
