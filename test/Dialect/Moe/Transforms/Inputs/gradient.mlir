func.func @forward(%x: tensor<?x4xf32> {moe.name = "x", moe.dims = ["T", 4]},
                   %w: tensor<8x4x4xf32> {moe.name = "w"},
                   %ids: tensor<?x2xi32> {moe.name = "ids", moe.dims = ["T", 2]})
    -> (tensor<?x4xf32> {moe.name = "y"}) {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %h = moe.parallel_linear %x, %w by %a from token to slot out_in
      : tensor<?x4xf32>, tensor<8x4x4xf32>, !moe.assignment<?x2, 8> -> tensor<?x4xf32>
  return %h : tensor<?x4xf32>
}
