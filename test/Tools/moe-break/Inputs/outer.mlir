func.func @dw(%ids: tensor<?x2xi32>, %x: tensor<?x64xbf16>, %dy: tensor<?x72xbf16>, %w: tensor<8x72x64xbf16>)
    -> tensor<8x72x64xbf16> {
  %slots = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %dw = moe.grouped_outer by %slots : !moe.assignment<?x2, 8> x(%x from token : tensor<?x64xbf16>)
      dy(%dy from grouped : tensor<?x72xbf16>) out_in outs(%w : tensor<8x72x64xbf16>)
  return %dw : tensor<8x72x64xbf16>
}
