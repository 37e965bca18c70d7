// SPDX-License-Identifier: Apache-2.0
// Passes from the `moe` dialect to itself, in the order of the pipelines.
#ifndef MOE_DIALECT_MOE_TRANSFORMS_PASSES_TD
#define MOE_DIALECT_MOE_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Level 1: the backward pass
//===----------------------------------------------------------------------===//

def MoeDifferentiate : Pass<"moe-differentiate", "::mlir::ModuleOp"> {
  let summary = "results and gradients in one joint function";
  let description = [{
    Adds `@f_joint(arguments, cotangents) -> (results, gradients)`. There is a
    cotangent for each result that is a tensor of floats, in their order, but
    for those listed in `without-cotangent`; and a gradient for each argument
    in `wrt`, in that order (default: every argument that is a tensor of
    floats). A cotangent or gradient has the type of its value. On the joint
    function itself the pass gives second derivatives.

    Ops say their derivative through MoeDifferentiableOpInterface: all of
    level 1, elementwise arith and math on tensors, linalg ops that map or sum,
    reshapes, slices, concat. Where a function has no derivative the choice is
    PyTorch's: 0 for relu at 0 (a maximum with the constant 0), 1 on the bounds
    of a clamp (another constant), halves for a maximum of equal values, 0 for
    the absolute value of 0. A selection of experts is held fixed. The gate of a
    sentinel slot has gradient zero; grouped rows outside every expert's range
    are never read. Calls are refused: inline them before.

    A cotangent has the `moe.dims` of its result, given or found from those of
    the arguments. `moe.joint` on the new function says how many arguments and results are
    those of the function, which results have cotangents, and `wrt`.

    ```mlir before
    func.func @f(%x: tensor<?x16xf32>, %w: tensor<8x32x16xf32>,
                 %a: !moe.assignment<?x2, 8>) -> tensor<?x32xf32> {
      %y = moe.parallel_linear %x, %w by %a from token to grouped out_in
          : tensor<?x16xf32>, tensor<8x32x16xf32>, !moe.assignment<?x2, 8>
          -> tensor<?x32xf32>
      return %y : tensor<?x32xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%x: tensor<?x16xf32>, %w: tensor<8x32x16xf32>,
                 %a: !moe.assignment<?x2, 8>) -> tensor<?x32xf32> {
      %y = moe.parallel_linear %x, %w by %a from token to grouped out_in
          : tensor<?x16xf32>, tensor<8x32x16xf32>, !moe.assignment<?x2, 8>
          -> tensor<?x32xf32>
      return %y : tensor<?x32xf32>
    }
    func.func @f_joint(%x: tensor<?x16xf32>, %w: tensor<8x32x16xf32>,
        %a: !moe.assignment<?x2, 8>,
        %dy: tensor<?x32xf32> {moe.name = "d_out0"})
        -> (tensor<?x32xf32>, tensor<?x16xf32> {moe.name = "d_arg0"},
            tensor<8x32x16xf32> {moe.name = "d_arg1"})
        attributes {moe.joint = {arguments = 3 : i64,
            cotangents = array<i64: 0>, primal = "f", results = 1 : i64,
            wrt = array<i64: 0, 1>}} {
      %y = moe.parallel_linear %x, %w by %a from token to grouped out_in
          : tensor<?x16xf32>, tensor<8x32x16xf32>, !moe.assignment<?x2, 8>
          -> tensor<?x32xf32>
      %g = moe.parallel_linear %dy, %w by %a from grouped to grouped in_out
          : tensor<?x32xf32>, tensor<8x32x16xf32>, !moe.assignment<?x2, 8>
          -> tensor<?x16xf32>
      %dx = moe.combine %g from grouped by %a
          : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
      %dw = moe.weight_grad %x from token, %dy from grouped by %a out_in
          : tensor<?x16xf32>, tensor<?x32xf32>, !moe.assignment<?x2, 8>
          -> tensor<8x32x16xf32>
      return %y, %dx, %dw
          : tensor<?x32xf32>, tensor<?x16xf32>, tensor<8x32x16xf32>
    }
    ```
  }];
  let options = [
    Option<"entry", "entry", "std::string", "", "function to differentiate; "
           "default: every public one that has an argument of wrt">,
    ListOption<"wrt", "wrt", "std::string", "arguments (moe.name, or number) "
               "whose gradients are wanted, in order; default: all tensors of "
               "floats">,
    ListOption<"withoutCotangent", "without-cotangent", "int64_t",
               "results (numbers) whose cotangents are zero and not passed">];
}

def MoeSimplifyGradients : Pass<"moe-simplify-gradients", "::mlir::func::FuncOp"> {
  let summary = "algebra on a joint function";
  let description = [{
    Before fusion, on what moe-differentiate made:
    * a gate moves from gathered rows to the other side of a product:
      (gate * dO) W + b becomes gate * (dO W) + b, and the sum of (gate * dO) x A
      that of dO x (gate * A), where dO is a gather that a product can read in
      place; where gate * dH is computed anyway, gate * (dH W) becomes
      (gate * dH) W;
    * a gate leaves the sum of a product and an adapter's: gate * (dO W) +
      (c * gate * (dO B)) A becomes gate * (dO W + u A), where u = c * (dO B),
      and the adapter's gradient, the sum of (gate * u) x A, that of u x (gate *
      A). Refused: products by different gates, with a bias or another reader;
      rows that others than weight gradients read with their gate. Rows that
      are scattered are added before, so that this sees them;
    * the gradient of a gate <dO, Y> becomes <dO W, A>, plus <dO, b[e]> with a
      bias: Y need not be kept. It holds where Y = A W^T (+ b), or is a sum of
      such, and is done where dO W, without the gate, is computed anyway. So a
      gate on the input, <X, dH W>, has the gradient <H, dH>. Of an adapter
      <dO B, c * (A A'^T)> becomes <u A', A>, so that one dot product with A is
      left where dO W + u A' is computed anyway;
    * products and sums read token or slot rows in place of a grouped copy, and
      grouped ones in place of scattered ones;
    * sums of paths merge: one combine of a sum, one product onto another; rows
      are added by rowwise ops, which kernels take in;
    * what nobody reads any more goes.

    ```mlir before
    func.func @f(%x: tensor<?x16xf32>, %do: tensor<?x16xf32>,
        %w: tensor<8x16x4xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
      %g = moe.group %do from token by %a
          : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
      %y = moe.parallel_linear %g, %w by %a from grouped to grouped in_out
          : tensor<?x16xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8>
          -> tensor<?x4xf32>
      return %y : tensor<?x4xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%x: tensor<?x16xf32>, %do: tensor<?x16xf32>,
        %w: tensor<8x16x4xf32>, %a: !moe.assignment<?x2, 8>) -> tensor<?x4xf32> {
      %y = moe.parallel_linear %do, %w by %a from token to grouped in_out
          : tensor<?x16xf32>, tensor<8x16x4xf32>, !moe.assignment<?x2, 8>
          -> tensor<?x4xf32>
      return %y : tensor<?x4xf32>
    }
    ```
  }];
}

def MoePartition : Pass<"moe-partition", "::mlir::ModuleOp"> {
  let summary = "a joint function cut into forward and backward";
  let description = [{
    `@f_joint` becomes `@f_forward(arguments) -> (results, saved)` and
    `@f_backward(cotangents, residuals) -> gradients`; `@f` goes. A function called
    `forward` becomes `@forward` and `@backward`. What is saved is a minimum cut
    of the joint graph, weighed in bytes at `tokens` tokens where the number is
    dynamic. `policy`:
    * `save-all`: nothing is computed twice but views of tensors;
    * `recompute-elementwise` (default): saves the least bytes without computing
      a matrix product, a choice of experts or an assignment twice;
    * `recompute-all`: anything may be computed twice.
    A `budget-bytes` lets `recompute-elementwise` compute matrix products twice,
    the one that saves the most bytes a FLOP first, until the budget is held; a
    remark says what each costs.

    Values that cross have `moe.dims`, where those of the function say them.
    Arguments of the function are residuals of no cost: they are passed again,
    never copied. `moe.residuals` on the backward function lists its residuals
    in order: kind `argument` (its number in `index`), `result` (a result of the
    function, by number), `saved` or `table` (a further result of the forward
    function, by number); with `name`, the moe.name of the value on both sides,
    and `bytes`. An assignment crosses as its four tables. A gradient that was
    not asked for keeps nothing. `moe.backward` names the forward function, the
    results that have cotangents and the arguments that have gradients.

    With `split-weights` listing arguments, the backward function is cut again:
    `@f_backward_input(cotangents, residuals) -> (other gradients, carried)` and
    `@f_backward_weight(...) -> gradients of those arguments`, whose operands
    `moe.residuals` lists too: kinds `argument`, by number among those of
    @f_backward_input, and `saved`. @f_backward stays beside them.

    A gradient in `accumulate` is no result: it is added to a `moe.inout`
    argument of its name, after the other arguments, by the product that makes
    it where there is one. With `accumulate-f32` such a sum is never narrower.

    ```
    func.func @f_joint(%x, %dy) -> (sin(%x), %dy * cos(%x))
    becomes
    func.func @f_forward(%x) -> sin(%x)
    func.func @f_backward(%dy, %x) -> %dy * cos(%x)
    ```
  }];
  let options = [
    Option<"entry", "entry", "std::string", "", "joint function; default: all "
           "of them">,
    Option<"policy", "policy", "std::string", "\"recompute-elementwise\"",
           "save-all, recompute-elementwise or recompute-all">,
    Option<"budgetBytes", "budget-bytes", "int64_t", "-1",
           "bytes that may be saved; negative: no budget">,
    Option<"tokens", "tokens", "int64_t", "4096",
           "tokens that dynamic sizes are weighed at">,
    ListOption<"splitWeights", "split-weights", "std::string",
               "arguments (moe.name, or number) whose gradients go to "
               "@f_backward_weight">,
    ListOption<"accumulate", "accumulate", "std::string",
               "arguments (moe.name) whose gradients are added to buffers">,
    Option<"accumulateF32", "accumulate-f32", "bool", "false",
           "those buffers are f32, whatever the gradient's type">];
}

//===----------------------------------------------------------------------===//
// Level 1 to level 2
//===----------------------------------------------------------------------===//

def MoeExpandAssignment : Pass<"moe-expand-assignment", "::mlir::ModuleOp"> {
  let summary = "assignments come from packs of their tables";
  let description = [{
    `moe.assign` becomes the kernel that sorts the slots, and every assignment
    that an op uses comes from a `moe.pack_assignment` of its four tables. At
    function boundaries and calls an assignment becomes the tables, 1:N;
    `moe.unpack_assignment` disappears.

    ```mlir before
    func.func @f(%x: tensor<?x16xf32>, %ids: tensor<?x2xi32>)
        -> tensor<?x16xf32> {
      %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
      %g = moe.group %x from token by %a
          : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
      return %g : tensor<?x16xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%x: tensor<?x16xf32>, %ids: tensor<?x2xi32>)
        -> tensor<?x16xf32> {
      %c0 = arith.constant 0 : index
      %t = tensor.dim %ids, %c0 : tensor<?x2xi32>
      %c2 = arith.constant 2 : index
      %slots = arith.muli %t, %c2 : index
      %0 = tensor.empty(%slots) : tensor<?xi32>
      %1 = tensor.empty(%slots) : tensor<?xi32>
      %2 = tensor.empty() : tensor<8xi32>
      %3 = tensor.empty() : tensor<8xi32>
      %s:4 = moe.sort_slots ids(%ids : tensor<?x2xi32>) outs(%0, %1, %2, %3
          : tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>)
      %a = moe.pack_assignment %s#0, %s#1, %s#2, %s#3
          : tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>
          -> !moe.assignment<?x2, 8>
      %g = moe.group %x from token by %a
          : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
      return %g : tensor<?x16xf32>
    }
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::tensor::TensorDialect"];
}

def MoeFormKernels : Pass<"moe-form-kernels", "::mlir::func::FuncOp"> {
  let summary = "each level-1 op becomes one kernel";
  let description = [{
    Level 1 to level 2, an op at a time; nothing is fused. Kernels write
    `tensor.empty`. `parallel_linear` -> `grouped_matmul` (the bias is an expert
    port of the region), `weight_grad` -> `grouped_outer` (into its buffer with
    `accumulate`), `group`, `scatter` and `rowwise` -> `map_rows`, `combine` ->
    `combine_rows` (gates are a slot scalar of the region), `expert_sum` ->
    `reduce_experts`, `route` -> `route_rows`, `route_grad` ->
    `route_grad_rows`. A rowwise op in slot order without an assignment maps its
    T*K rows as if they were tokens. Other ops stay.

    ```mlir before
    func.func @f(%y: tensor<4x16xf32>, %g: tensor<2x2xf32>,
                 %a: !moe.assignment<2x2, 8>) -> tensor<2x16xf32> {
      %o = moe.combine %y from grouped by %a gates(%g : tensor<2x2xf32>)
          : tensor<4x16xf32>, !moe.assignment<2x2, 8> -> tensor<2x16xf32>
      return %o : tensor<2x16xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%y: tensor<4x16xf32>, %g: tensor<2x2xf32>,
                 %a: !moe.assignment<2x2, 8>) -> tensor<2x16xf32> {
      %init = tensor.empty() : tensor<2x16xf32>
      %o = moe.combine_rows by %a : !moe.assignment<2x2, 8>
          ins(%y : tensor<4x16xf32> rows grouped, %g : tensor<2x2xf32> scalar slot)
          outs(%init : tensor<2x16xf32> rows token) {
      ^bb0(%v: f32, %gate: f32):
        %m = arith.mulf %gate, %v : f32
        moe.yield %m : f32
      }
      return %o : tensor<2x16xf32>
    }
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::tensor::TensorDialect"];
}

//===----------------------------------------------------------------------===//
// Level 2: fusion
//===----------------------------------------------------------------------===//

include "moe/Dialect/Moe/Transforms/FusionPasses.td"

//===----------------------------------------------------------------------===//
// Level 2: buffers
//===----------------------------------------------------------------------===//

def MoeWidenLinalg : Pass<"moe-widen-linalg", "::mlir::func::FuncOp"> {
  let summary = "linalg on bf16 and f16 computes in f32";
  let description = [{
    Rounding happens at a tensor's element type and nowhere else: the scalars of
    a linalg op on tensors of bf16 or f16 become f32, rounded when they are
    stored. What is summed is summed in a tensor of f32 and rounded at the end.
    A rounding that the region writes (`arith.truncf`) stays. Ops whose region
    only moves, or holds regions of its own, stay as they are.

    ```mlir before
    func.func @f(%x: tensor<4x16xbf16>, %w: tensor<16x8xbf16>,
                 %init: tensor<4x8xbf16>) -> tensor<4x8xbf16> {
      %y = linalg.matmul ins(%x, %w : tensor<4x16xbf16>, tensor<16x8xbf16>)
          outs(%init : tensor<4x8xbf16>) -> tensor<4x8xbf16>
      return %y : tensor<4x8xbf16>
    }
    ```
    becomes
    ```mlir after
    #map = affine_map<(d0, d1, d2) -> (d0, d2)>
    #map1 = affine_map<(d0, d1, d2) -> (d2, d1)>
    #map2 = affine_map<(d0, d1, d2) -> (d0, d1)>
    func.func @f(%arg0: tensor<4x16xbf16>, %arg1: tensor<16x8xbf16>,
                 %arg2: tensor<4x8xbf16>) -> tensor<4x8xbf16> {
      %0 = arith.extf %arg2 : tensor<4x8xbf16> to tensor<4x8xf32>
      %1 = linalg.generic {indexing_maps = [#map, #map1, #map2],
          iterator_types = ["parallel", "parallel", "reduction"]}
          ins(%arg0, %arg1 : tensor<4x16xbf16>, tensor<16x8xbf16>)
          outs(%0 : tensor<4x8xf32>) {
      ^bb0(%in: bf16, %in_0: bf16, %out: f32):
        %3 = arith.extf %in : bf16 to f32
        %4 = arith.extf %in_0 : bf16 to f32
        %5 = arith.mulf %3, %4 : f32
        %6 = arith.addf %out, %5 : f32
        linalg.yield %6 : f32
      } -> tensor<4x8xf32>
      %2 = arith.truncf %1 : tensor<4x8xf32> to tensor<4x8xbf16>
      return %2 : tensor<4x8xbf16>
    }
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::linalg::LinalgDialect",
                           "::mlir::tensor::TensorDialect"];
}

def MoeToDestinationStyle : Pass<"moe-to-destination-style", "::mlir::ModuleOp"> {
  let summary = "public functions write the caller's buffers";
  let description = [{
    Results of public functions become buffer arguments that the function
    writes; arguments are then inputs, inouts, outputs, in that order, each with
    `moe.role`, `moe.name` (default `arg<i>`, `out<i>`) and complete `moe.dims`.
    Inputs are marked not writable. A `moe.inout` argument is updated in place:
    the n-th result marked `moe.inout` is the new value of the n-th such
    argument, and no output.

    Sizes are linear expressions of named dimensions. A dynamic dimension
    without a name is called d<argument>_<dimension>; what the ops say about
    sizes (rows of one assignment, elementwise operands) replaces such names, so
    that checking `moe.dims` before a call checks every op. Names that
    contradict the ops are refused, and so is a name that no argument binds.

    What an op writes over is its own: a `tensor.empty` or `linalg.fill` that two
    ops share becomes two, an operand that a linalg op only names as its output
    an empty tensor, any other value that is read elsewhere a copy. Kernels read
    and write whole rows: a slice that one reads, or that its result is put
    into, is copied.

    Runs after `moe-form-kernels` and inlining. Bufferize with
    `--eliminate-empty-tensors --one-shot-bufferize=...` as
    `--moe-bufferize` does.

    ```mlir before
    func.func @f(%x: tensor<?x16xf32> {moe.dims = ["T", 16]},
                 %s: tensor<?xf32>) -> tensor<?x16xf32> {
      %c0 = arith.constant 0 : index
      %t = tensor.dim %x, %c0 : tensor<?x16xf32>
      %init = tensor.empty(%t) : tensor<?x16xf32>
      %y = moe.map_rows token
          ins(%x : tensor<?x16xf32> rows token, %s : tensor<?xf32> scalar token)
          outs(%init : tensor<?x16xf32> rows token) {
      ^bb0(%v: f32, %g: f32):
        %m = arith.mulf %v, %g : f32
        moe.yield %m : f32
      }
      return %y : tensor<?x16xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%x: tensor<?x16xf32> {bufferization.writable = false, moe.dims = ["T", 16], moe.name = "arg0", moe.role = "input"},
                 %s: tensor<?xf32> {bufferization.writable = false, moe.dims = ["T"], moe.name = "arg1", moe.role = "input"},
                 %out: memref<?x16xf32> {moe.dims = ["T", 16], moe.name = "out0", moe.role = "output"}) {
      %c0 = arith.constant 0 : index
      %t = tensor.dim %x, %c0 : tensor<?x16xf32>
      %init = tensor.empty(%t) : tensor<?x16xf32>
      %y = moe.map_rows token
          ins(%x : tensor<?x16xf32> rows token, %s : tensor<?xf32> scalar token)
          outs(%init : tensor<?x16xf32> rows token) {
      ^bb0(%v: f32, %g: f32):
        %m = arith.mulf %v, %g : f32
        moe.yield %m : f32
      }
      bufferization.materialize_in_destination %y in restrict writable %out
          : (tensor<?x16xf32>, memref<?x16xf32>) -> ()
      return
    }
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::bufferization::BufferizationDialect",
                           "::mlir::memref::MemRefDialect"];
}

def MoeExpandCopies : Pass<"moe-expand-copies", "::mlir::func::FuncOp"> {
  let summary = "copies of parts of rows become loops";
  let description = [{
    A `memref.copy` between buffers of which one is not contiguous becomes a
    `linalg.copy`, which every target makes loops of; upstream would call a
    library that is not there. Other copies stay: they are one `memcpy`.

    ```mlir before
    func.func @f(%x: memref<?x16xf32, strided<[32, 1]>>, %y: memref<?x16xf32>) {
      memref.copy %x, %y
          : memref<?x16xf32, strided<[32, 1]>> to memref<?x16xf32>
      return
    }
    ```
    becomes
    ```mlir after
    func.func @f(%x: memref<?x16xf32, strided<[32, 1]>>, %y: memref<?x16xf32>) {
      linalg.copy ins(%x : memref<?x16xf32, strided<[32, 1]>>)
          outs(%y : memref<?x16xf32>)
      return
    }
    ```
  }];
  let dependentDialects = ["::mlir::linalg::LinalgDialect"];
}

def MoeOrderKernels : Pass<"moe-order-kernels", "::mlir::func::FuncOp"> {
  let summary = "order kernels so that less memory is live at once";
  let description = [{
    Kernels that do not wait for each other may run in any order: after the
    gradient of an activation is known, the weight gradient that reads the
    activation frees its rows, and those of the next gradient can take their
    place. Of the kernels that are ready the one comes first that adds least to
    what is live, the former order deciding between equals. Nothing moves where
    the most that is live at once would not become less. Sizes are those of
    buffers that the function allocates, for 4096 of each symbol; results and
    arguments count nothing. Works on tensors, so that values say what waits for
    what; ops with side effects, and ops that read what another one overwrites,
    keep their order.

    ```mlir before
    func.func @f(%x: tensor<?x16xf32> {moe.dims = ["T", 16]}, %sum: tensor<16xf32>) -> (tensor<?x16xf32>, tensor<16xf32>) {
      %c0 = arith.constant 0 : index
      %t = tensor.dim %x, %c0 : tensor<?x16xf32>
      %e = tensor.empty(%t) : tensor<?x16xf32>
      %a = linalg.exp ins(%x : tensor<?x16xf32>) outs(%e : tensor<?x16xf32>) -> tensor<?x16xf32>
      %b = linalg.abs ins(%x : tensor<?x16xf32>) outs(%e : tensor<?x16xf32>) -> tensor<?x16xf32>
      %c = linalg.log ins(%b : tensor<?x16xf32>) outs(%e : tensor<?x16xf32>) -> tensor<?x16xf32>
      %d = linalg.reduce {arith.addf} ins(%a : tensor<?x16xf32>) outs(%sum : tensor<16xf32>) dimensions = [0]
      return %c, %d : tensor<?x16xf32>, tensor<16xf32>
    }
    ```
    becomes
    ```mlir after
    func.func @f(%x: tensor<?x16xf32> {moe.dims = ["T", 16]}, %sum: tensor<16xf32>) -> (tensor<?x16xf32>, tensor<16xf32>) {
      %c0 = arith.constant 0 : index
      %t = tensor.dim %x, %c0 : tensor<?x16xf32>
      %e = tensor.empty(%t) : tensor<?x16xf32>
      %a = linalg.exp ins(%x : tensor<?x16xf32>) outs(%e : tensor<?x16xf32>) -> tensor<?x16xf32>
      %d = linalg.reduce {arith.addf} ins(%a : tensor<?x16xf32>) outs(%sum : tensor<16xf32>) dimensions = [0]
      %b = linalg.abs ins(%x : tensor<?x16xf32>) outs(%e : tensor<?x16xf32>) -> tensor<?x16xf32>
      %c = linalg.log ins(%b : tensor<?x16xf32>) outs(%e : tensor<?x16xf32>) -> tensor<?x16xf32>
      return %c, %d : tensor<?x16xf32>, tensor<16xf32>
    }
    ```
  }];
}

def MoePlanWorkspace : Pass<"moe-plan-workspace", "::mlir::func::FuncOp"> {
  let summary = "temporaries are views of one workspace argument";
  let description = [{
    Public functions get a last argument `memref<?xi8>` with `moe.role =
    "workspace"`, and every `memref.alloc` becomes a view of it. Temporaries
    whose lifetimes do not overlap share space; an assignment keeps its tables
    alive. A temporary begins where the last of those ends that it is laid
    `after`, at 0 where there are none, so that no two that live at once overlap
    whatever the sizes are; ends are rounded up to 64. The order in which they
    are laid is the best of a few (longest life first, largest first, first used
    first, and what exchanging two makes of the best) for 4096 of each symbol.
    `moe.workspace` lists them in that order, so that the host can tell the size
    before a call: the largest end.

    ```mlir before
    func.func @f(%x: memref<?x16xf32> {moe.dims = ["T", 16]},
                 %y: memref<?x16xf32> {moe.dims = ["T", 16]}) {
      %c0 = arith.constant 0 : index
      %t = memref.dim %x, %c0 : memref<?x16xf32>
      %a = memref.alloc(%t) : memref<?x16xf32>
      memref.copy %x, %a : memref<?x16xf32> to memref<?x16xf32>
      memref.copy %a, %y : memref<?x16xf32> to memref<?x16xf32>
      return
    }
    ```
    becomes
    ```mlir after
    func.func @f(%x: memref<?x16xf32> {moe.dims = ["T", 16]},
                 %y: memref<?x16xf32> {moe.dims = ["T", 16]},
                 %w: memref<?xi8> {moe.name = "workspace", moe.role = "workspace"})
        attributes {moe.workspace = {align = 64 : i64, temporaries = [{after = [], bytes = "64*T"} ]}} {
      %offset = arith.constant 0 : index
      %c0 = arith.constant 0 : index
      %t = memref.dim %x, %c0 : memref<?x16xf32>
      %a = memref.view %w[%offset][%t] : memref<?xi8> to memref<?x16xf32>
      memref.copy %x, %a : memref<?x16xf32> to memref<?x16xf32>
      memref.copy %a, %y : memref<?x16xf32> to memref<?x16xf32>
      return
    }
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::memref::MemRefDialect"];
}

def MoeEmitManifest : Pass<"moe-emit-manifest", "::mlir::ModuleOp"> {
  let summary = "describe the entry points to their callers";
  let description = [{
    The attribute `moe.manifest` of the module gets, for each public function,
    the names, dtypes and dims of inputs, inouts and outputs, the symbols that
    dims bind, constraints on them and the size of the workspace; as `simt` also
    each product of bf16 or f16 whose `moe.config` has a `simt` variant with a
    reason, and that reason: it runs on a GPU without its matrix unit. Runs after `moe-to-destination-style`,
    bufferization and `moe-plan-workspace`.
  }];
  let options = [
    Option<"target", "target", "std::string", /*default=*/"\"cpu\"",
           "the target that the module is compiled for">,
    Option<"align", "align", "int64_t", /*default=*/"1",
           "bytes to which every tensor of a call has to be aligned">];
}

//===----------------------------------------------------------------------===//
// Between stages
//===----------------------------------------------------------------------===//

def MoeVerifyRows : Pass<"moe-verify-rows", "::mlir::func::FuncOp"> {
  let summary = "no rows of two assignments or orders are mixed";
  let description = [{
    Changes nothing. The rows of a tensor lie in one order, and grouped rows by
    one assignment, but their type does not say so. A forward dataflow analysis
    over (row order, assignment) follows rows from the op that makes them, and
    an op that reads them in another order, or grouped by another assignment, is
    refused, as is elementwise math of both kinds. Rows that come from outside
    have the order in which they are read first.

    What is the same is not refused: equal `moe.assign` or `moe.pack_assignment`
    ops on the same operands; token and slot order where K = 1; all orders where
    an assignment is made of counts. Callees are not followed: inline before.

    ```
    %g = moe.group %x from token by %a
    %y = moe.combine %g from grouped by %b
    error: 'moe.combine' op reads rows grouped by another assignment; scatter
           them by theirs and group them by this one
    note: the rows are made here
    note: this is their assignment
    ```
  }];
}

def MoeVerifyStage : Pass<"moe-verify-stage", "::mlir::ModuleOp"> {
  let summary = "only the ops of a stage are there";
  let description = [{
    Changes nothing. Runs at each boundary of the pipelines, and refuses an op
    that the stage does not list:

    * `input`, `differentiated`: level 1 of moe, func, arith, math, tensor,
      linalg
    * `expanded`: the same and level 2; assignments come from packs
    * `fused`: level 2 in place of level 1
    * `bufferized`: level 2, linalg, memref, arith, math, branches between
      kernels (scf.if); no tensors, calls or allocations
    * `loops`: scf, vector, x86vector, amx, memref, arith, math, llvm, func
    * `kernels`: launches of GPU kernels, and what is in them: scf, vector,
      memref, arith, math, gpu; nothing on the host reads a tensor's elements
    * `llvm`: llvm

    A table of a packed assignment that some op writes is refused at any stage
    that has packs.
  }];
  let options = [
    Option<"stage", "stage", "std::string", /*default=*/"\"input\"",
           "input, differentiated, expanded, fused, bufferized, loops or llvm">];
}

#endif // MOE_DIALECT_MOE_TRANSFORMS_PASSES_TD
