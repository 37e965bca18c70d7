// Found by program 1974. Results that do not say their moe.dims gave a backward
// function of tensors of which nobody knew that they have as many rows as the
// assignment has slots: its kernels were refused.
// RUN: moe-fuzz %s --seed=8
func.func @f(%x: tensor<?x7xbf16> {moe.dims = ["T", 7]},
             %ids: tensor<?x2xi32> {moe.dims = ["T", 2]},
             %z: tensor<?x12xbf16> {moe.dims = ["T", 12]})
    -> (tensor<2x7xbf16>, tensor<?x12xbf16>, tensor<?x7xbf16>) {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 2>
  %s = moe.expert_sum %x from token by %a
      : tensor<?x7xbf16>, !moe.assignment<?x2, 2> -> tensor<2x7xbf16>
  return %s, %z, %x : tensor<2x7xbf16>, tensor<?x12xbf16>, tensor<?x7xbf16>
}
