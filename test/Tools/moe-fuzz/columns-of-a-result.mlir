// Found by program 126200. The second derivative of a sum by a scalar had no
// operand and no result with columns, where the first had a result with them.
// RUN: moe-fuzz %s --seed=54
func.func @f(%x: tensor<?x4xf64> {moe.dims = ["T", 4]},
             %s: tensor<?xf64> {moe.dims = ["T"]}) -> tensor<?xf64> {
  %y = moe.rowwise token
      ins(%x : tensor<?x4xf64> rows, %s : tensor<?xf64> scalar)
      outs(tensor<?xf64> sum) {
  ^bb0(%v: f64, %w: f64):
    %d = arith.subf %v, %w : f64
    moe.yield %d : f64
  }
  return %y : tensor<?xf64>
}
