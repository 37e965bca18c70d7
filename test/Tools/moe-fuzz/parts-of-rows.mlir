// Found by programs 1 and 151. Columns of rows are not contiguous: kernels
// refused to read and write them, and their copy was a call that no library
// answered.
// RUN: moe-fuzz %s --seed=1
// RUN: moe-fuzz %s --seed=2
// RUN: moe-fuzz %s --seed=3
func.func @f(%x: tensor<?x8xf64> {moe.dims = ["T", 8]},
             %ids: tensor<?x2xi64> {moe.dims = ["T", 2]},
             %w: tensor<3x5x4xf64>) -> (tensor<?x5xf64>, tensor<?x3xf64>) {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x8xf64>
  %a = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 3>
  %part = tensor.extract_slice %x[0, 2] [%t, 4] [1, 1]
      : tensor<?x8xf64> to tensor<?x4xf64>
  %y = moe.parallel_linear %part, %w by %a from token to slot out_in
      : tensor<?x4xf64>, tensor<3x5x4xf64>, !moe.assignment<?x2, 3>
      -> tensor<?x5xf64>
  %end = tensor.extract_slice %x[0, 5] [%t, 3] [1, 1]
      : tensor<?x8xf64> to tensor<?x3xf64>
  return %y, %end : tensor<?x5xf64>, tensor<?x3xf64>
}
