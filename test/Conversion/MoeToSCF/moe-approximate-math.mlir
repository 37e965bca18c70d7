// RUN: moe-opt %s -moe-approximate-math | FileCheck %s
// RUN: moe-opt %s -moe-approximate-math=has-fma | FileCheck %s --check-prefix=FMA

// CHECK-LABEL: func @exp
// CHECK-NOT:   math.exp
// CHECK-NOT:   math.fma
// CHECK:       arith.mulf %{{.*}} : vector<16xf32>
// FMA-LABEL:   func @exp
// FMA:         math.fma %{{.*}} : vector<16xf32>
func.func @exp(%x: vector<16xf32>) -> vector<16xf32> {
  %0 = math.exp %x : vector<16xf32>
  return %0 : vector<16xf32>
}

// CHECK-LABEL: func @exp_f64
// CHECK:       math.exp %{{.*}} : f64
func.func @exp_f64(%x: f64) -> f64 {
  %0 = math.exp %x : f64
  return %0 : f64
}
