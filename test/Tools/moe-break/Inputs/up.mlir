func.func @up(%x: tensor<?x64xbf16> {moe.dims = ["T", 64], moe.name = "x"},
              %ids: tensor<?x2xi64> {moe.dims = ["T", 2], moe.name = "ids"},
              %w: tensor<8x128x64xbf16> {moe.name = "w"}) -> tensor<?x128xbf16> {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %y = moe.parallel_linear %x, %w by %slots from token to grouped out_in
      : tensor<?x64xbf16>, tensor<8x128x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x128xbf16>
  return %y : tensor<?x128xbf16>
}
