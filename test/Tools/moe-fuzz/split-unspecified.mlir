// Found by program 963, in moe-fuzz itself: rows of a gradient that are
// unspecified were compared between the backward function and its split form,
// which may leave different numbers there.
// RUN: moe-fuzz %s --seed=963
func.func @f(%logits: tensor<7x1xf64>, %bias: tensor<1xf64>, %mask: tensor<7xi1>,
             %x: tensor<7x2xf64>, %y: tensor<7x2xf64>, %gates: tensor<7x1xf64>,
             %w: tensor<1x2x2xf64>, %b: tensor<1x2xf64>, %p: tensor<7xf64>,
             %q: tensor<7xf64>, %r: tensor<7x2xf64>, %s: tensor<7xf64>)
    -> (tensor<7x2xf64>, tensor<7x2xf64>, tensor<7xf64>, tensor<7x2xf64>,
        tensor<7x1xf64>, tensor<7x2xf64>, tensor<7xf64>, tensor<7xf64>) {
  %g, %ids = moe.route %logits sigmoid topk_then_score bias(%bias : tensor<1xf64>)
      mask(%mask : tensor<7xi1>) {capacity = 3 : i64, drop = #moe.drop<score>,
      eps = 1.0e-20 : f64, normalize, scale = -5.0e-01 : f64}
      : tensor<7x1xf64> -> tensor<7x1xf64>, tensor<7x1xi32>
  %a = moe.assign ids(%ids : tensor<7x1xi32>) : !moe.assignment<7x1, 1>
  %1 = moe.combine %x from grouped by %a
      : tensor<7x2xf64>, !moe.assignment<7x1, 1> -> tensor<7x2xf64>
  %2 = moe.combine %y from slot by %a gates(%gates : tensor<7x1xf64>)
      : tensor<7x2xf64>, !moe.assignment<7x1, 1> -> tensor<7x2xf64>
  %part = tensor.extract_slice %x[0, 0] [7, 1] [1, 1]
      : tensor<7x2xf64> to tensor<7x1xf64>
  %3 = moe.parallel_linear %y, %w by %a from slot to grouped in_out
      bias(%b : tensor<1x2xf64>) : tensor<7x2xf64>, tensor<1x2x2xf64>,
      !moe.assignment<7x1, 1> -> tensor<7x2xf64>
  return %1, %2, %p, %r, %part, %3, %s, %q
      : tensor<7x2xf64>, tensor<7x2xf64>, tensor<7xf64>, tensor<7x2xf64>,
        tensor<7x1xf64>, tensor<7x2xf64>, tensor<7xf64>, tensor<7xf64>
}
