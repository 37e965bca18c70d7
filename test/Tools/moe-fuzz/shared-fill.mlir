// Found by program 67. cse makes one fill of two; eliminate-empty-tensors then
// gave the first product's buffer to both, and the second result was a copy of
// the first.
// RUN: moe-fuzz %s
func.func @f(%x: tensor<?x2xf64> {moe.dims = ["T", 2]}, %w: tensor<2x8xf64>,
             %v: tensor<2x8xf64>) -> (tensor<?x8xf64>, tensor<?x8xf64>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f64
  %t = tensor.dim %x, %c0 : tensor<?x2xf64>
  %empty = tensor.empty(%t) : tensor<?x8xf64>
  %fill = linalg.fill ins(%zero : f64) outs(%empty : tensor<?x8xf64>)
      -> tensor<?x8xf64>
  %y = linalg.matmul ins(%x, %w : tensor<?x2xf64>, tensor<2x8xf64>)
      outs(%fill : tensor<?x8xf64>) -> tensor<?x8xf64>
  %z = linalg.matmul ins(%x, %v : tensor<?x2xf64>, tensor<2x8xf64>)
      outs(%fill : tensor<?x8xf64>) -> tensor<?x8xf64>
  return %y, %z : tensor<?x8xf64>, tensor<?x8xf64>
}
