// Machine code for AMX: tiles are configured once, a step of the product is four
// loads and four products, and no tile is spilled. Without optimizations tiles
// are left out.
// RUN: moe-compile %s --opt=cpu=emeraldrapids --emit=object -o %t.o
// RUN: llvm-objdump -d --no-show-raw-insn %t.o | FileCheck %s --implicit-check-not=ldtilecfg --implicit-check-not="tile{{loadd|stored}}{{.*}}sp{{[,)]}}"
// RUN: moe-compile %s --opt=cpu=emeraldrapids --opt=opt-level=0 --emit=object -o %t0.o
// RUN: llvm-objdump -d --no-show-raw-insn %t0.o | FileCheck %s --check-prefix=PLAIN --implicit-check-not=tdpbf16ps

// CHECK:      ldtilecfg
// CHECK:      tdpbf16ps %tmm5, %tmm4
// CHECK:      tileloadd {{.*}}, %tmm6
// CHECK:      tdpbf16ps %tmm6, %tmm4
// CHECK:      tileloadd {{.*}}, %tmm4
// CHECK-NEXT: tdpbf16ps %tmm5, %tmm4
// CHECK-NEXT: tdpbf16ps %tmm6, %tmm4
// CHECK:      tilerelease
// PLAIN:      zmm
func.func @linear(%x: tensor<?x512xbf16> {moe.dims = ["T", 512]}, %w: tensor<4x512x512xbf16>,
                  %ids: tensor<?x2xi32> {moe.dims = ["T", 2]}) -> tensor<?x512xbf16> {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 4>
  %y = moe.parallel_linear %x, %w by %a from token to grouped out_in
      : tensor<?x512xbf16>, tensor<4x512x512xbf16>, !moe.assignment<?x2, 4> -> tensor<?x512xbf16>
  return %y : tensor<?x512xbf16>
}
