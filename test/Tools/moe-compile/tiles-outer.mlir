// Weight gradients in tiles: no sum is spilled, loaded or stored between steps.
// RUN: moe-compile %s --opt=cpu=emeraldrapids --emit=object -o %t.o
// RUN: llvm-objdump -d --no-show-raw-insn %t.o | FileCheck %s --implicit-check-not=ldtilecfg --implicit-check-not="tile{{loadd|stored}}{{.*}}sp{{[,)]}}"

// CHECK:      ldtilecfg
// CHECK-DAG:  vpunpcklwd {{.*}}%zmm
// CHECK-DAG:  vpunpckhwd {{.*}}%zmm
// CHECK:      tdpbf16ps %tmm5, %tmm4
// CHECK:      tileloadd {{.*}}, %tmm6
// CHECK:      tdpbf16ps %tmm6, %tmm4
// CHECK:      tileloadd {{.*}}, %tmm4
// CHECK-NEXT: tdpbf16ps %tmm5, %tmm4
// CHECK-NEXT: tdpbf16ps %tmm6, %tmm4
// CHECK:      tilerelease
func.func @gradient(%x: tensor<?x512xbf16> {moe.dims = ["T", 512]}, %dy: tensor<?x1000xbf16> {moe.dims = ["T", 1000]},
                    %ids: tensor<?x1xi32> {moe.dims = ["T", 1]}) -> tensor<4x1000x512xbf16> {
  %a = moe.assign ids(%ids : tensor<?x1xi32>) : !moe.assignment<?x1, 4>
  %w = moe.weight_grad %x from token, %dy from slot by %a out_in
      : tensor<?x512xbf16>, tensor<?x1000xbf16>, !moe.assignment<?x1, 4> -> tensor<4x1000x512xbf16>
  return %w : tensor<4x1000x512xbf16>
}
