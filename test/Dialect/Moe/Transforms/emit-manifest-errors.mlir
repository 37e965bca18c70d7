// RUN: moe-opt %s --moe-emit-manifest --split-input-file --verify-diagnostics

// expected-error @below {{argument #0 of 'role' has no moe.role; run moe-to-destination-style first}}
func.func @role(%x: memref<4xf32> {moe.name = "x", moe.dims = [4]}, %w: memref<?xi8> {moe.name = "workspace", moe.role = "workspace"})
    attributes {moe.workspace = {align = 64 : i64, temporaries = []}} {
  return
}

// -----

// expected-error @below {{argument #0 of 'names', 'memref<4xf32>', cannot be described; moe-to-destination-style gives arguments names and dims, bufferization makes them memrefs}}
func.func @names(%x: memref<4xf32> {moe.role = "input", moe.dims = [4]}, %w: memref<?xi8> {moe.name = "workspace", moe.role = "workspace"})
    attributes {moe.workspace = {align = 64 : i64, temporaries = []}} {
  return
}

// -----

// expected-error @below {{moe.dims of argument #0 of 'dims' has "T*T", which is no linear expression of names, such as "2*T"}}
func.func @dims(%x: memref<?xf32> {moe.name = "x", moe.role = "input", moe.dims = ["T*T"]}, %w: memref<?xi8> {moe.name = "workspace", moe.role = "workspace"})
    attributes {moe.workspace = {align = 64 : i64, temporaries = []}} {
  return
}

// -----

func.func @slots(%n: memref<i32> {moe.name = "n", moe.role = "input", moe.dims = []}, %b: memref<8xi32> {moe.name = "b", moe.role = "input", moe.dims = [8]},
                 %w: memref<?xi8> {moe.name = "workspace", moe.role = "workspace"})
    attributes {moe.workspace = {align = 64 : i64, temporaries = []}} {
  %c0 = arith.constant 0 : index
  %i = memref.load %n[] : memref<i32>
  %slots = arith.index_cast %i : i32 to index
  %o = memref.view %w[%c0][%slots] : memref<?xi8> to memref<?xi32>
  // expected-error @below {{has a number of slots that does not follow from the sizes of the function's arguments; make tables as large as the ids say}}
  %a = moe.pack_assignment %o, %o, %b, %b : memref<?xi32>, memref<?xi32>, memref<8xi32>, memref<8xi32> -> !moe.assignment<?x2, 8>
  return
}
