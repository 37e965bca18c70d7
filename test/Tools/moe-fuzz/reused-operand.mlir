// Found by program 140. convert-elementwise-to-linalg names an operand as the
// output; elimination of empty tensors gave the sum the buffer of its tanh, and
// the sum, which is returned too, was overwritten before it was copied.
// RUN: moe-fuzz %s
func.func @f(%x: tensor<?x4xf64> {moe.dims = ["T", 4]},
             %ids: tensor<?x1xi64> {moe.dims = ["T", 1]})
    -> (tensor<2x4xf64>, tensor<2x4xf64>) {
  %a = moe.assign ids(%ids : tensor<?x1xi64>) : !moe.assignment<?x1, 2>
  %s = moe.expert_sum %x from grouped by %a
      : tensor<?x4xf64>, !moe.assignment<?x1, 2> -> tensor<2x4xf64>
  %t = math.tanh %s : tensor<2x4xf64>
  return %t, %s : tensor<2x4xf64>, tensor<2x4xf64>
}
