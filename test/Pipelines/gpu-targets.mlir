// Every target takes the same program. Each kernel asks for the lowest PTX
// version that has its architecture; only sm_90a's matrix unit is used.
// RUN: moe-opt %s -moe-to-nvvm="arch=sm_80 ptxas=none grad=all" | FileCheck %s -DARCH=sm_80 -DPTX=7.0 --check-prefixes=CHECK,SIMT
// RUN: moe-opt %s -moe-to-nvvm="arch=sm_86 ptxas=none grad=all" | FileCheck %s -DARCH=sm_86 -DPTX=7.1 --check-prefixes=CHECK,SIMT
// RUN: moe-opt %s -moe-to-nvvm="arch=sm_89 ptxas=none grad=all" | FileCheck %s -DARCH=sm_89 -DPTX=7.8 --check-prefixes=CHECK,SIMT
// RUN: moe-opt %s -moe-to-nvvm="arch=sm_90 ptxas=none grad=all" | FileCheck %s -DARCH=sm_90 -DPTX=7.8 --check-prefixes=CHECK,SIMT
// RUN: moe-opt %s -moe-to-nvvm="arch=sm_90a ptxas=none grad=all" | FileCheck %s -DARCH=sm_90a -DPTX=8.0 --check-prefixes=CHECK,WGMMA
// RUN: moe-opt %s -moe-to-nvvm="arch=sm_100 ptxas=none grad=all" | FileCheck %s -DARCH=sm_100 -DPTX=8.6 --check-prefixes=CHECK,SIMT
// RUN: moe-opt %s -moe-to-nvvm="arch=sm_120 ptxas=none grad=all" | FileCheck %s -DARCH=sm_120 -DPTX=8.7 --check-prefixes=CHECK,SIMT
// RUN: not moe-opt %s -moe-to-nvvm="arch=sm_75" 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// SIMT: simt = ["grouped_matmul: [[ARCH]] has no kernels for it yet, sm_90a has"]
// WGMMA-NOT: simt =
// CHECK: target = "[[ARCH]]"
// CHECK: .version [[PTX]]{{.*}}.target [[ARCH]]{{[\\, ]}}
// SIMT-NOT: wgmma
// WGMMA: wgmma.mma_async

// UNKNOWN: arch is 'sm_75', expected one of sm_80, sm_86, sm_89, sm_90, sm_90a, sm_100, sm_120

func.func @linear(%x: tensor<?x16xbf16> {moe.dims = ["T", 16], moe.name = "x"},
                  %ids: tensor<?x2xi64> {moe.dims = ["T", 2], moe.name = "ids"},
                  %w: tensor<8x32x16xbf16> {moe.name = "w"}) -> tensor<?x32xbf16> {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %y = moe.parallel_linear %x, %w by %slots from token to grouped out_in
      : tensor<?x16xbf16>, tensor<8x32x16xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  %out = moe.combine %y from grouped by %slots
      : tensor<?x32xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  return %out : tensor<?x32xbf16>
}
