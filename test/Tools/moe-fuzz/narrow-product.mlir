// Products of linalg, and their gradients, summed in bf16.
// RUN: moe-fuzz %s --seed=1
// RUN: moe-fuzz %s --seed=2
// RUN: moe-fuzz %s --seed=3
func.func @f(%x: tensor<?x64xbf16> {moe.dims = ["T", 64]},
             %w: tensor<64x40xbf16>) -> tensor<?x40xbf16> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : bf16
  %t = tensor.dim %x, %c0 : tensor<?x64xbf16>
  %empty = tensor.empty(%t) : tensor<?x40xbf16>
  %fill = linalg.fill ins(%zero : bf16) outs(%empty : tensor<?x40xbf16>)
      -> tensor<?x40xbf16>
  %y = linalg.matmul ins(%x, %w : tensor<?x64xbf16>, tensor<64x40xbf16>)
      outs(%fill : tensor<?x40xbf16>) -> tensor<?x40xbf16>
  return %y : tensor<?x40xbf16>
}
