// RUN: moe-compile %s --emit=mlir-stage=bufferized --opt grad=all -o %t.mlir
// RUN: FileCheck %s --input-file=%t.mlir
// RUN: FileCheck %s --input-file=%t.mlir --check-prefix=COPIES

// A lone ParallelLinear in each combination of row orders, docs/Fusion.md: forward
// is one kernel without a buffer; backward is d-X and d-W, which read rows where
// they lie. A combine, and its operand, are left where X is in token order.
// COPIES-NOT: memref.alloc
// COPIES-NOT: memref.copy
// COPIES-NOT: linalg.

// CHECK-LABEL: func.func @token_slot_forward(
// CHECK-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// CHECK-SAME:    %[[W:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w"
// CHECK-SAME:    %[[Y:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "y"
// CHECK-SAME:    moe.workspace = {align = 64 : i64, temporaries = []}
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.sort_slots
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_matmul {{.*}} pairs(%[[X]] from token, %[[W]] out_in {{.*}} ins() outs(%[[Y]] : memref<?x32xbf16> rows slot)
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK-LABEL: func.func @token_slot_backward(
// CHECK-SAME:    %[[DY:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "d_y"
// CHECK-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// CHECK-SAME:    %[[W:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w"
// CHECK-SAME:    %[[DX:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_x"
// CHECK-SAME:    %[[DW:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "d_w"
// CHECK-SAME:    moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "256*T"}]}
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_matmul {{.*}} pairs(%[[DY]] from slot, %[[W]] in_out {{.*}} ins() outs(%[[DXG:[^ ]*]] : memref<?x64xbf16> rows grouped)
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.combine_rows {{.*}} ins(%[[DXG]] : memref<?x64xbf16> rows grouped) outs(%[[DX]] : memref<?x64xbf16> rows token)
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_outer {{.*}} x(%[[X]] from token {{.*}} dy(%[[DY]] from slot {{.*}} outs(%[[DW]]
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}

// CHECK-LABEL: func.func @token_grouped_forward(
// CHECK-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// CHECK-SAME:    %[[W:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w"
// CHECK-SAME:    %[[Y:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "y"
// CHECK-SAME:    moe.workspace = {align = 64 : i64, temporaries = []}
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.sort_slots
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_matmul {{.*}} pairs(%[[X]] from token, %[[W]] out_in {{.*}} ins() outs(%[[Y]] : memref<?x32xbf16> rows grouped)
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK-LABEL: func.func @token_grouped_backward(
// CHECK-SAME:    %[[DY:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "d_y"
// CHECK-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// CHECK-SAME:    %[[W:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w"
// CHECK-SAME:    %[[DX:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_x"
// CHECK-SAME:    %[[DW:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "d_w"
// CHECK-SAME:    moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "256*T"}]}
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_matmul {{.*}} pairs(%[[DY]] from grouped, %[[W]] in_out {{.*}} ins() outs(%[[DXG:[^ ]*]] : memref<?x64xbf16> rows grouped)
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.combine_rows {{.*}} ins(%[[DXG]] : memref<?x64xbf16> rows grouped) outs(%[[DX]] : memref<?x64xbf16> rows token)
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_outer {{.*}} x(%[[X]] from token {{.*}} dy(%[[DY]] from grouped {{.*}} outs(%[[DW]]
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}

// CHECK-LABEL: func.func @slot_slot_forward(
// CHECK-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// CHECK-SAME:    %[[W:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w"
// CHECK-SAME:    %[[Y:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "y"
// CHECK-SAME:    moe.workspace = {align = 64 : i64, temporaries = []}
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.sort_slots
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_matmul {{.*}} pairs(%[[X]] from slot, %[[W]] out_in {{.*}} ins() outs(%[[Y]] : memref<?x32xbf16> rows slot)
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK-LABEL: func.func @slot_slot_backward(
// CHECK-SAME:    %[[DY:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "d_y"
// CHECK-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// CHECK-SAME:    %[[W:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w"
// CHECK-SAME:    %[[DX:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_x"
// CHECK-SAME:    %[[DW:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "d_w"
// CHECK-SAME:    moe.workspace = {align = 64 : i64, temporaries = []}
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_matmul {{.*}} pairs(%[[DY]] from slot, %[[W]] in_out {{.*}} ins() outs(%[[DX]] : memref<?x64xbf16> rows slot)
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_outer {{.*}} x(%[[X]] from slot {{.*}} dy(%[[DY]] from slot {{.*}} outs(%[[DW]]
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}

// CHECK-LABEL: func.func @slot_grouped_forward(
// CHECK-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// CHECK-SAME:    %[[W:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w"
// CHECK-SAME:    %[[Y:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "y"
// CHECK-SAME:    moe.workspace = {align = 64 : i64, temporaries = []}
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.sort_slots
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_matmul {{.*}} pairs(%[[X]] from slot, %[[W]] out_in {{.*}} ins() outs(%[[Y]] : memref<?x32xbf16> rows grouped)
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK-LABEL: func.func @slot_grouped_backward(
// CHECK-SAME:    %[[DY:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "d_y"
// CHECK-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// CHECK-SAME:    %[[W:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w"
// CHECK-SAME:    %[[DX:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_x"
// CHECK-SAME:    %[[DW:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "d_w"
// CHECK-SAME:    moe.workspace = {align = 64 : i64, temporaries = []}
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_matmul {{.*}} pairs(%[[DY]] from grouped, %[[W]] in_out {{.*}} ins() outs(%[[DX]] : memref<?x64xbf16> rows slot)
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_outer {{.*}} x(%[[X]] from slot {{.*}} dy(%[[DY]] from grouped {{.*}} outs(%[[DW]]
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}

// CHECK-LABEL: func.func @grouped_slot_forward(
// CHECK-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// CHECK-SAME:    %[[W:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w"
// CHECK-SAME:    %[[Y:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "y"
// CHECK-SAME:    moe.workspace = {align = 64 : i64, temporaries = []}
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.sort_slots
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_matmul {{.*}} pairs(%[[X]] from grouped, %[[W]] out_in {{.*}} ins() outs(%[[Y]] : memref<?x32xbf16> rows slot)
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK-LABEL: func.func @grouped_slot_backward(
// CHECK-SAME:    %[[DY:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "d_y"
// CHECK-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// CHECK-SAME:    %[[W:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w"
// CHECK-SAME:    %[[DX:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_x"
// CHECK-SAME:    %[[DW:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "d_w"
// CHECK-SAME:    moe.workspace = {align = 64 : i64, temporaries = []}
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_matmul {{.*}} pairs(%[[DY]] from slot, %[[W]] in_out {{.*}} ins() outs(%[[DX]] : memref<?x64xbf16> rows grouped)
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_outer {{.*}} x(%[[X]] from grouped {{.*}} dy(%[[DY]] from slot {{.*}} outs(%[[DW]]
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}

// CHECK-LABEL: func.func @grouped_grouped_forward(
// CHECK-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// CHECK-SAME:    %[[W:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w"
// CHECK-SAME:    %[[Y:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "y"
// CHECK-SAME:    moe.workspace = {align = 64 : i64, temporaries = []}
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.sort_slots
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_matmul {{.*}} pairs(%[[X]] from grouped, %[[W]] out_in {{.*}} ins() outs(%[[Y]] : memref<?x32xbf16> rows grouped)
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK-LABEL: func.func @grouped_grouped_backward(
// CHECK-SAME:    %[[DY:[^:]*]]: memref<?x32xbf16> {{[^%]*}}moe.name = "d_y"
// CHECK-SAME:    %[[X:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "x"
// CHECK-SAME:    %[[W:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "w"
// CHECK-SAME:    %[[DX:[^:]*]]: memref<?x64xbf16> {{[^%]*}}moe.name = "d_x"
// CHECK-SAME:    %[[DW:[^:]*]]: memref<8x32x64xbf16> {{[^%]*}}moe.name = "d_w"
// CHECK-SAME:    moe.workspace = {align = 64 : i64, temporaries = []}
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_matmul {{.*}} pairs(%[[DY]] from grouped, %[[W]] in_out {{.*}} ins() outs(%[[DX]] : memref<?x64xbf16> rows grouped)
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}
// CHECK:         moe.grouped_outer {{.*}} x(%[[X]] from grouped {{.*}} dy(%[[DY]] from grouped {{.*}} outs(%[[DW]]
// CHECK-NOT:     moe.{{grouped|map|combine|reduce|fold}}

func.func @token_slot(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %w: tensor<8x32x64xbf16> {moe.name = "w", moe.dims = [8, 32, 64]})
    -> (tensor<?x32xbf16> {moe.name = "y", moe.dims = ["2*T", 32]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %y = moe.parallel_linear %x, %w by %slots from token to slot out_in
      : tensor<?x64xbf16>, tensor<8x32x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  return %y : tensor<?x32xbf16>
}

func.func @token_grouped(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %w: tensor<8x32x64xbf16> {moe.name = "w", moe.dims = [8, 32, 64]})
    -> (tensor<?x32xbf16> {moe.name = "y", moe.dims = ["2*T", 32]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %y = moe.parallel_linear %x, %w by %slots from token to grouped out_in
      : tensor<?x64xbf16>, tensor<8x32x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  return %y : tensor<?x32xbf16>
}

func.func @slot_slot(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["2*T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %w: tensor<8x32x64xbf16> {moe.name = "w", moe.dims = [8, 32, 64]})
    -> (tensor<?x32xbf16> {moe.name = "y", moe.dims = ["2*T", 32]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %y = moe.parallel_linear %x, %w by %slots from slot to slot out_in
      : tensor<?x64xbf16>, tensor<8x32x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  return %y : tensor<?x32xbf16>
}

func.func @slot_grouped(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["2*T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %w: tensor<8x32x64xbf16> {moe.name = "w", moe.dims = [8, 32, 64]})
    -> (tensor<?x32xbf16> {moe.name = "y", moe.dims = ["2*T", 32]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %y = moe.parallel_linear %x, %w by %slots from slot to grouped out_in
      : tensor<?x64xbf16>, tensor<8x32x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  return %y : tensor<?x32xbf16>
}

func.func @grouped_slot(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["2*T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %w: tensor<8x32x64xbf16> {moe.name = "w", moe.dims = [8, 32, 64]})
    -> (tensor<?x32xbf16> {moe.name = "y", moe.dims = ["2*T", 32]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %y = moe.parallel_linear %x, %w by %slots from grouped to slot out_in
      : tensor<?x64xbf16>, tensor<8x32x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  return %y : tensor<?x32xbf16>
}

func.func @grouped_grouped(
    %x: tensor<?x64xbf16> {moe.name = "x", moe.dims = ["2*T", 64]},
    %ids: tensor<?x2xi64> {moe.name = "ids", moe.dims = ["T", 2]},
    %w: tensor<8x32x64xbf16> {moe.name = "w", moe.dims = [8, 32, 64]})
    -> (tensor<?x32xbf16> {moe.name = "y", moe.dims = ["2*T", 32]}) {
  %slots = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %y = moe.parallel_linear %x, %w by %slots from grouped to grouped out_in
      : tensor<?x64xbf16>, tensor<8x32x64xbf16>, !moe.assignment<?x2, 8> -> tensor<?x32xbf16>
  return %y : tensor<?x32xbf16>
}
