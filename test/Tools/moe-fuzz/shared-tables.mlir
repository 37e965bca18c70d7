// Found by program 80. cse makes one empty tensor of two of one static type:
// the tables of the second assignment were written over those of the first,
// which was read later still.
// RUN: moe-fuzz %s --seed=2
func.func @f(%x: tensor<3x4xf64>, %i: tensor<3x2xi32>, %j: tensor<3x2xi32>,
             %w: tensor<4x4x1xf64>) -> (tensor<6x4xf64>, tensor<6x1xf64>) {
  %a = moe.assign ids(%i : tensor<3x2xi32>) : !moe.assignment<3x2, 4>
  %b = moe.assign ids(%j : tensor<3x2xi32>) : !moe.assignment<3x2, 4>
  %g = moe.group %x from token by %a
      : tensor<3x4xf64>, !moe.assignment<3x2, 4> -> tensor<6x4xf64>
  %y = moe.parallel_linear %x, %w by %b from token to slot in_out
      : tensor<3x4xf64>, tensor<4x4x1xf64>, !moe.assignment<3x2, 4>
      -> tensor<6x1xf64>
  return %g, %y : tensor<6x4xf64>, tensor<6x1xf64>
}
