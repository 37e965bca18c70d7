// Found by programs 1450 and 1893. The derivative of math on bf16 tensors is a
// linalg op, whose region computed 1 - y * y in bf16.
// RUN: moe-fuzz %s --seed=1893
func.func @f(%logits: tensor<?x5xbf16> {moe.dims = ["T", 5]},
             %logsumexp: tensor<?xf32> {moe.dims = ["T"]},
             %ids: tensor<?x2xi32> {moe.dims = ["T", 2]},
             %d: tensor<?x2xf32> {moe.dims = ["T", 2]}, %z: tensor<2x4xbf16>)
    -> (tensor<2x4xbf16>, tensor<?x5xbf16>) {
  %0 = moe.route_grad %logits, %ids, %d softmax topk_then_score
      logsumexp(%logsumexp : tensor<?xf32>) {eps = 1.0 : f64, normalize}
      : tensor<?x5xbf16>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x5xbf16>
  %1 = math.tanh %0 : tensor<?x5xbf16>
  return %z, %1 : tensor<2x4xbf16>, tensor<?x5xbf16>
}
