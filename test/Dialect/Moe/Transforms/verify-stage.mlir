// RUN: split-file %s %t
// RUN: moe-opt %t/layer.mlir --moe-verify-stage=stage=input --moe-verify-stage=stage=differentiated --moe-expand-assignment --moe-verify-stage=stage=expanded --moe-form-kernels --canonicalize --cse --moe-verify-stage=stage=fused --moe-bufferize --moe-plan-workspace --moe-verify-stage=stage=bufferized | FileCheck %s
// RUN: not moe-opt %t/layer.mlir --moe-verify-stage=stage=expanded 2>&1 | FileCheck %s --check-prefix=EXPANDED
// RUN: not moe-opt %t/layer.mlir --moe-expand-assignment --moe-verify-stage=stage=fused 2>&1 | FileCheck %s --check-prefix=FUSED
// RUN: not moe-opt %t/layer.mlir --moe-expand-assignment --moe-form-kernels --moe-verify-stage=stage=input 2>&1 | FileCheck %s --check-prefix=INPUT
// RUN: not moe-opt %t/layer.mlir --moe-expand-assignment --moe-form-kernels --moe-verify-stage=stage=bufferized 2>&1 | FileCheck %s --check-prefix=BUFFERIZED
// RUN: not moe-opt %t/layer.mlir --moe-expand-assignment --moe-form-kernels --canonicalize --cse --moe-bufferize --moe-verify-stage=stage=bufferized 2>&1 | FileCheck %s --check-prefix=ALLOC
// RUN: not moe-opt %t/layer.mlir --moe-verify-stage=stage=loops 2>&1 | FileCheck %s --check-prefix=LOOPS
// RUN: not moe-opt %t/layer.mlir --moe-verify-stage=stage=kernels 2>&1 | FileCheck %s --check-prefix=KERNELS
// RUN: not moe-opt %t/layer.mlir --moe-verify-stage=stage=llvm 2>&1 | FileCheck %s --check-prefix=LLVM
// RUN: not moe-opt %t/layer.mlir --moe-verify-stage=stage=nowhere 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not moe-opt %t/tables.mlir --moe-verify-stage=stage=fused 2>&1 | FileCheck %s --check-prefix=TABLES

// CHECK: func.func @layer
// EXPANDED: error: 'moe.assign' op is not legal at stage 'expanded'; moe-expand-assignment makes assignments from their tables
// FUSED: error: 'moe.group' op is not legal at stage 'fused'; moe-form-kernels makes kernels of level 1
// INPUT: error: 'moe.sort_slots' op is not legal at stage 'input'; layers are written with level 1 of moe, func, arith, math, tensor and linalg
// KERNELS: error: 'moe.assign' op is not legal at stage 'kernels'; convert-moe-to-gpu makes launches of all that touches a tensor
// BUFFERIZED: is not legal at stage 'bufferized'; bufferize, then plan temporaries with moe-plan-workspace
// ALLOC: error: 'memref.alloc' op is not legal at stage 'bufferized'; bufferize, then plan
// LOOPS: error: 'moe.assign' op is not legal at stage 'loops'; convert-moe-to-scf makes loops of kernels
// LLVM: is not legal at stage 'llvm'; every op becomes LLVM's
// UNKNOWN: error: moe-verify-stage knows no stage 'nowhere'; stages are input, differentiated, expanded, fused, bufferized, loops, kernels and llvm
// TABLES: error: 'moe.sort_slots' op writes a table (order) of an assignment; give it a buffer of its own
// TABLES: note: packed here

//--- layer.mlir
func.func @layer(%x: tensor<?x16xf32>, %ids: tensor<?x2xi32>)
    -> tensor<?x16xf32> {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %g = moe.group %x from token by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %s = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
      ins(%g : tensor<?x16xf32> rows) outs(tensor<?x16xf32> rows) {
  ^bb0(%v: f32):
    %e = math.exp %v : f32
    moe.yield %e : f32
  }
  return %s : tensor<?x16xf32>
}
//--- tables.mlir
func.func @tables(%o: tensor<?xi32>, %p: tensor<?xi32>, %b: tensor<8xi32>,
                  %e: tensor<8xi32>, %ids: tensor<?x2xi32>, %init: tensor<?x16xf32>,
                  %x: tensor<?x16xf32>) -> (tensor<?xi32>, tensor<?x16xf32>) {
  %a = moe.pack_assignment %o, %p, %b, %e
      : tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>
      -> !moe.assignment<?x2, 8>
  %s:4 = moe.sort_slots ids(%ids : tensor<?x2xi32>) outs(%o, %p, %b, %e
      : tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>)
  %g = moe.map_rows grouped by %a : !moe.assignment<?x2, 8>
      ins(%x : tensor<?x16xf32> rows token)
      outs(%init : tensor<?x16xf32> rows grouped) {
  ^bb0(%v: f32):
    moe.yield %v : f32
  }
  return %s#0, %g : tensor<?xi32>, tensor<?x16xf32>
}
