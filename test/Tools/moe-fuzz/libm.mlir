// Found by programs 4 and 65. Functions of the libm on vectors were taken apart
// after vectors had become LLVM's; and LLVM makes one call of a sine and a
// cosine, which the loader did not know.
// RUN: moe-fuzz %s
func.func @f(%x: tensor<?x40xf64> {moe.dims = ["T", 40]}) -> (tensor<?x40xf64>, tensor<?x40xf64>) {
  %y, %z = moe.rowwise token ins(%x : tensor<?x40xf64> rows)
      outs(tensor<?x40xf64> rows, tensor<?x40xf64> rows) {
  ^bb0(%v: f64):
    %erf = math.erf %v : f64
    %sin = math.sin %v : f64
    %cos = math.cos %v : f64
    %product = arith.mulf %sin, %cos : f64
    moe.yield %erf, %product : f64, f64
  }
  return %y, %z : tensor<?x40xf64>, tensor<?x40xf64>
}
