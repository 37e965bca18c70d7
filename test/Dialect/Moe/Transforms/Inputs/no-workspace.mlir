func.func @f(%x: memref<4xf32> {moe.dims = [4], moe.name = "x", moe.role = "input"}) {
  return
}
