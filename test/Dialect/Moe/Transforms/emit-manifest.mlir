// RUN: moe-opt %s --moe-expand-assignment --moe-form-kernels --canonicalize --cse --moe-bufferize --moe-plan-workspace --moe-emit-manifest --split-input-file | FileCheck %s
// RUN: moe-opt %S/Inputs/gradient.mlir --moe-to-cpu="grad=x" | FileCheck %s --check-prefix=BACKWARD
// RUN: not moe-opt %S/Inputs/no-workspace.mlir --moe-emit-manifest 2>&1 | FileCheck %s --check-prefix=NOWORKSPACE
// RUN: not moe-opt %S/Inputs/no-dims.mlir --moe-emit-manifest 2>&1 | FileCheck %s --check-prefix=NODIMS

// NOWORKSPACE: error: 'f' has no workspace; run moe-plan-workspace first
// NODIMS: error: argument #0 of 'f', 'memref<4xf32>', cannot be described

// Where the inputs of backward come from, by name. Its cotangent has no dims in
// the source: they follow from those of the gradient.
// BACKWARD:      backward = {align
// BACKWARD-SAME:   backward = {cotangents = ["y"], forward = "forward", gradients = ["x"], residuals = [{kind = "argument", name = "w"}, {kind = "table", name = "order"}
// BACKWARD-SAME:   inputs = [{dims = ["2*T", 4], dtype = "float32", name = "d_y"}
// BACKWARD-SAME:   outputs = [{dims = ["T", 4], dtype = "float32", kind = "gradient", name = "d_x"}]
// BACKWARD:      forward = {align
// BACKWARD-SAME:   outputs = [{dims = ["2*T", 4], dtype = "float32", kind = "result", name = "y"}, {dims = ["2*T"], dtype = "int32", kind = "table", name = "order"}

// CHECK:      module attributes {moe.manifest = {abi = 2 : i64, compiler = "{{[0-9.]+}}", entries = {layer = {
// CHECK-SAME:   align = 1 : i64, constraints = [{expr = "2*T", max = 2147483647 : i64, message = "slots are counted in 32 bits", min = 0 : i64}],
// CHECK-SAME:   inouts = [{dims = [8, 32, 16], dtype = "float32", name = "dw"}],
// CHECK-SAME:   inputs = [{dims = ["T", 16], dtype = "bfloat16", name = "x"}, {dims = ["T", 2], dtype = "int64", name = "arg1"}, {dims = ["2*T", 32], dtype = "bfloat16", name = "arg2"}],
// CHECK-SAME:   outputs = [{dims = ["2*T", 16], dtype = "bfloat16", kind = "saved", name = "out0"}],
// CHECK-SAME:   symbols = ["T"],
// CHECK-SAME:   workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "8*T"}, {after = [0], bytes = "8*T"}, {after = [1], bytes = 32 : i64}, {after = [2], bytes = 32 : i64}]}
// CHECK-SAME: target = "cpu"}} {
// CHECK-NOT:    memref.copy
func.func @layer(%x: tensor<?x16xbf16> {moe.dims = ["T", 16], moe.name = "x"},
                 %ids: tensor<?x2xi64>, %dy: tensor<?x32xbf16>,
                 %dw: tensor<8x32x16xf32> {moe.inout, moe.name = "dw"})
    -> (tensor<8x32x16xf32> {moe.inout},
        tensor<?x16xbf16> {moe.kind = "saved"}) {
  %a = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %new = moe.weight_grad %x from token, %dy from slot by %a out_in
      accumulate(%dw : tensor<8x32x16xf32>)
      : tensor<?x16xbf16>, tensor<?x32xbf16>, !moe.assignment<?x2, 8>
      -> tensor<8x32x16xf32>
  %g = moe.group %x from token by %a
      : tensor<?x16xbf16>, !moe.assignment<?x2, 8> -> tensor<?x16xbf16>
  return %new, %g : tensor<8x32x16xf32>, tensor<?x16xbf16>
}
