// RUN: moe-opt %s --moe-explain=grad=all -o /dev/null | FileCheck %s
// RUN: moe-opt %s --moe-explain="grad=all at=1000" -o /dev/null | FileCheck %s --check-prefix=AT
// RUN: moe-opt %s --moe-explain="grad=all json=true output=%t.json" -o - | FileCheck %s --check-prefix=IR
// RUN: %python -c "import json; r = json.load(open(r'%t.json')); print(r['functions'][1]['residuals']['saved'], len(r['fused']) > 3, r['refused'])" | FileCheck %s --check-prefix=JSON
// RUN: moe-opt %s --moe-explain="target=sm_80" -o /dev/null 2>/dev/null | FileCheck %s --check-prefix=F32
// RUN: sed -e 's/x16xf32/x16xbf16/g; s/x8xf32/x8xbf16/g' %s > %t.bf16.mlir
// RUN: moe-opt %t.bf16.mlir --moe-explain="target=sm_90a" -o /dev/null 2>/dev/null | FileCheck %s --check-prefix=GPU
// RUN: moe-opt %t.bf16.mlir --moe-explain="target=sm_90a json=true output=%t.gpu.json" -o /dev/null 2>/dev/null
// RUN: %python -c "import json; r = json.load(open(r'%t.gpu.json')); print(r['target'], *(k['variants'] for k in r['functions'][0]['kernels']), sep='\n')" | FileCheck %s --check-prefix=VARIANTS
// RUN: moe-opt %t.bf16.mlir --moe-explain="target=sm_80" -o /dev/null 2>/dev/null | FileCheck %s --check-prefix=OLD
// RUN: not moe-opt %s --moe-explain="target=sm_70" -o /dev/null 2>&1 | FileCheck %s --check-prefix=TARGET
// RUN: not moe-opt %s --moe-explain="output=%t/no/such/folder" -o /dev/null 2>&1 | FileCheck %s --check-prefix=FILE

// CHECK-LABEL: @f_forward
// CHECK:         0 moe.sort_slots
// CHECK:         1 moe.grouped_matmul 1024 T 64 T + 8192 192 T x, w1 -> saved0, buffer1
// CHECK:         2 moe.grouped_matmul 512 T
// CHECK:         3 moe.combine_rows
// CHECK:         buffers kept:
// CHECK:         buffer0 memref<?x16xf32> bytes: 128 T a combine sums rows of several experts
// CHECK:         buffer1 memref<?x8xf32> bytes: 64 T a product reads the whole row for each of its columns
// CHECK:         workspace: 192 T bytes
// CHECK-LABEL: @f_backward
// CHECK:         residuals: 128 T bytes saved by forward, {{.*}} in arguments passed again, 16 T + 64 in row tables
// CHECK:         x argument bytes: 64 T
// CHECK:         saved0 saved bytes: 128 T
// CHECK:       fusions, with the bytes of the buffers they removed:
// CHECK:         @f_backward moe-fuse-epilogues: {{.*}} (64 T bytes)
// CHECK:       fusions that were not made, and why:
// AT:            1 moe.grouped_matmul 1,024,000
// AT:            residuals: 128,000 bytes saved by forward
// IR:            func.func @f(
// IR:            moe.parallel_linear
// JSON:          {'T': 128, 'const': 0} True []
// A CPU has one way.
// CHECK-NOT:   kernels on
// F32:         kernels on sm_80:
// F32-NEXT:    0 simt{{$}}
// F32-NEXT:    1 simt, adds terms one by one, ascending: its operands are f32, not bf16 or f16
// GPU:         kernels on sm_90a:
// GPU-NEXT:    0 simt{{$}}
// GPU-NEXT:    1 cooperative tile 128x256 stages 4 buffers 2, adds steps of 64 terms, ascending
// GPU-NEXT:    2 cooperative tile 128x256 stages 4 buffers 2, adds steps of 64 terms, ascending
// GPU-NEXT:    3 simt{{$}}
// GPU-NEXT:    buffers kept:
// OLD:         1 simt, adds terms one by one, ascending: sm_80 has no kernels for it yet, sm_90a has
// VARIANTS:      sm_90a
// VARIANTS-NEXT: [{'structure': 'simt'}]
// VARIANTS-NEXT: [{'buffers': 2, 'reduction': 'steps of 64 terms, ascending', 'stages': 4, 'structure': 'cooperative', 'tile': [128, 256]}]
// TARGET:        target is 'sm_70', expected cpu or one of sm_80, sm_86
// FILE:          cannot write the report to
func.func @f(%x: tensor<?x16xf32> {moe.name = "x", moe.dims = ["T", 16]},
             %ids: tensor<?x2xi32> {moe.name = "ids", moe.dims = ["T", 2]},
             %gates: tensor<?x2xf32> {moe.name = "gates", moe.dims = ["T", 2]},
             %w1: tensor<8x16x16xf32> {moe.name = "w1"},
             %w2: tensor<8x16x8xf32> {moe.name = "w2"}) -> tensor<?x16xf32> {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %h = moe.parallel_linear %x, %w1 by %a from token to grouped out_in
      : tensor<?x16xf32>, tensor<8x16x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %act = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%h : tensor<?x16xf32> rows concat 2) outs(tensor<?x8xf32> rows) {
  ^bb0(%gate: f32, %up: f32):
    %t = math.tanh %gate : f32
    %m = arith.mulf %t, %up : f32
    moe.yield %m : f32
  }
  %y = moe.parallel_linear %act, %w2 by %a from grouped to grouped out_in
      : tensor<?x8xf32>, tensor<8x16x8xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %o = moe.combine %y from grouped by %a gates(%gates : tensor<?x2xf32>)
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %o : tensor<?x16xf32>
}
