// SPDX-License-Identifier: Apache-2.0
//
// Functions: arguments, the loop over ops, calls, results.

#include "Frame.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::interpreter;

void Frame::set(Value value, NDArray array) {
  if (options.round && isa<TensorType>(value.getType()))
    array.round();
  arrays[value] = std::make_shared<const NDArray>(std::move(array));
}

void Frame::set(Value value, Assignment assignment) {
  assignments[value] =
      std::make_shared<const Assignment>(std::move(assignment));
}

void Frame::alias(Value value, Value source, const Frame &other) {
  if (auto it = other.arrays.find(source); it != other.arrays.end())
    arrays[value] = it->second;
  else
    assignments[value] = other.assignments.find(source)->second;
}

NDArray Frame::resultOf(Value result, ArrayRef<int64_t> dynamic) const {
  Type type = result.getType();
  SmallVector<int64_t> shape;
  if (auto shaped = dyn_cast<ShapedType>(type))
    for (int64_t size : shaped.getShape()) {
      if (ShapedType::isDynamic(size)) {
        size = dynamic.front();
        dynamic = dynamic.drop_front();
      }
      shape.push_back(size);
    }
  return NDArray(*getDType(getElementTypeOrSelf(type)), shape);
}

LogicalResult interpreter::checkRows(Operation *op, StringRef what,
                                     const NDArray &array, int64_t rows,
                                     bool scalars) {
  int64_t got = scalars ? array.size() : array.dim(0);
  if (got == rows)
    return success();
  return op->emitOpError() << "wants " << what << " to have " << rows
                           << (scalars ? " elements" : " rows") << ", got "
                           << describe(array.dtype(), array.shape());
}

/// Every result has a value, of a shape that its type allows.
static LogicalResult checkResults(Operation *op, const Frame &frame) {
  for (OpResult result : op->getResults()) {
    assert(frame.has(result) && "what runs an op gives all of its results");
    auto type = dyn_cast<RankedTensorType>(result.getType());
    if (!type)
      continue;
    const NDArray &array = frame[result];
    if (succeeded(verifyCompatibleShape(type.getShape(), array.shape())))
      continue;
    return op->emitOpError()
           << "gives " << describe(array.dtype(), array.shape())
           << " where its type is " << type;
  }
  return success();
}

static LogicalResult runCall(func::CallOp call, Frame &frame);

static LogicalResult runOp(Operation *op, Frame &frame) {
  for (Type type : op->getResultTypes())
    if (!isa<AssignmentType>(type) && !getDType(getElementTypeOrSelf(type)))
      return op->emitOpError()
             << "has a result of type " << type
             << ", which the interpreter has no numbers for; it knows f64, "
                "f32, f16, bf16, index and i64, i32, i16, i8, i1";
  if (auto call = dyn_cast<func::CallOp>(op))
    return runCall(call, frame);
  for (auto *run : {runRouting, runAssignment, runRows, runMatmul, runRowwise,
                    runKernels, runUpstream})
    if (std::optional<LogicalResult> result = run(op, frame))
      return *result;
  return op->emitOpError()
         << "is not known to the interpreter, which runs moe, func, and "
            "arith, math, tensor and linalg ops on tensors";
}

/// Runs the body; the operands of the return are left for the caller to read.
static FailureOr<func::ReturnOp> runBody(func::FuncOp function, Frame &frame) {
  if (!function.getBody().hasOneBlock())
    return function.emitError()
           << "the interpreter runs functions of one block, @"
           << function.getName() << " has "
           << function.getBody().getBlocks().size();
  for (Operation &op : function.getBody().front()) {
    if (auto ret = dyn_cast<func::ReturnOp>(op))
      return ret;
    if (failed(runOp(&op, frame)) || failed(checkResults(&op, frame)))
      return failure();
  }
  llvm_unreachable("no other terminator is known");
}

static LogicalResult runCall(func::CallOp call, Frame &frame) {
  auto callee = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
      call, call.getCalleeAttr());
  if (!callee || callee.isExternal())
    return call.emitOpError()
           << "calls @" << call.getCallee() << ", which has no body";
  if (frame.depth >= 64)
    return call.emitOpError() << "is the 64th call within a call; recursion "
                                 "is not supported";
  Frame inner(frame.options, frame.depth + 1);
  for (auto [argument, operand] :
       llvm::zip_equal(callee.getArguments(), call.getOperands()))
    inner.alias(argument, operand, frame);
  FailureOr<func::ReturnOp> ret = runBody(callee, inner);
  if (failed(ret))
    return failure();
  for (auto [result, operand] :
       llvm::zip_equal(call.getResults(), ret->getOperands()))
    frame.alias(result, operand, inner);
  return success();
}

FailureOr<SmallVector<NDArray>>
mlir::moe::interpret(ModuleOp module, StringRef entry,
                     ArrayRef<NDArray> arguments,
                     const InterpretOptions &options) {
  auto function = module.lookupSymbol<func::FuncOp>(entry);
  if (!function || function.isExternal())
    return module.emitError() << "no function @" << entry << " with a body";
  Frame frame(options, 0);
  for (auto [argument, array] :
       llvm::zip_equal(function.getArguments(), arguments)) {
    [[maybe_unused]] auto type = cast<RankedTensorType>(argument.getType());
    assert(getDType(type.getElementType()) == array.dtype() &&
           succeeded(verifyCompatibleShape(type.getShape(), array.shape())) &&
           "arguments fit the entry");
    frame.set(argument, array);
  }
  FailureOr<func::ReturnOp> ret = runBody(function, frame);
  if (failed(ret))
    return failure();
  SmallVector<NDArray> results;
  for (Value value : ret->getOperands()) {
    if (!isa<RankedTensorType>(value.getType()))
      return ret->emitOpError()
             << "returns " << value.getType() << "; an entry returns tensors";
    results.push_back(frame[value]);
  }
  return results;
}
