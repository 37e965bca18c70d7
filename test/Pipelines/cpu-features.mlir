// What multiplies bf16: tiles where there is AMX, pairs with avx512bf16 alone;
// else operands are widened.
// RUN: moe-opt %s -moe-to-cpu="features=+avx2,+fma,+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512bf16" | FileCheck %s --check-prefix=PAIRS --implicit-check-not=x86.t
// RUN: moe-opt %s -moe-to-cpu="features=+avx2,+fma,+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512bf16,+amx-tile,+amx-bf16" | FileCheck %s --check-prefix=TILES --implicit-check-not=dpbf16ps.512
// RUN: moe-opt %s -moe-to-cpu="features=+avx2,+fma,+avx512f,+avx512bw,+avx512dq,+avx512vl,+amx-tile,+amx-bf16" | FileCheck %s --check-prefix=WIDE --implicit-check-not=dpbf16ps
// RUN: moe-opt %s -moe-to-cpu="features=+avx2,+fma,+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512bf16,+amx-bf16" | FileCheck %s --check-prefix=WIDE --implicit-check-not=dpbf16ps
// RUN: moe-opt %s -moe-to-cpu="features=+avx2,+fma,+amx-tile,+amx-bf16" | FileCheck %s --check-prefix=WIDE --implicit-check-not=dpbf16ps

// PAIRS: dpbf16ps.512
// Rounding to bf16 is one instruction with avx512bf16.
// TILES: x86.tileloadd64.internal
// TILES: x86.tdpbf16ps.internal
// TILES: fptrunc {{.*}}vector<16xbf16>
// WIDE: llvm.func @linear
func.func @linear(%x: tensor<?x64xbf16> {moe.dims = ["T", 64]}, %w: tensor<4x128x64xbf16>,
                  %ids: tensor<?x2xi32> {moe.dims = ["T", 2]}) -> tensor<?x128xbf16> {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 4>
  %y = moe.parallel_linear %x, %w by %a from token to grouped out_in
      : tensor<?x64xbf16>, tensor<4x128x64xbf16>, !moe.assignment<?x2, 4> -> tensor<?x128xbf16>
  return %y : tensor<?x128xbf16>
}
