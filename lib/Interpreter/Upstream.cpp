// SPDX-License-Identifier: Apache-2.0
//
// Upstream's ops on tensors: constants, elementwise arith and math, tensor,
// structured linalg ops, and the two of bufferization that stay on tensors.

#include "Frame.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::interpreter;

/// Sizes, offsets and strides: constants, and values read from the frame.
static SmallVector<int64_t> valuesOf(ArrayRef<int64_t> statics,
                                     ValueRange dynamics, const Frame &frame) {
  SmallVector<int64_t> values;
  for (int64_t value : statics) {
    if (ShapedType::isDynamic(value)) {
      value = frame.integer(dynamics.front());
      dynamics = dynamics.drop_front();
    }
    values.push_back(value);
  }
  return values;
}

/// Calls `body` for every index of a shape, in row-major order.
static void forEachIndex(ArrayRef<int64_t> shape,
                         function_ref<void(ArrayRef<int64_t>)> body) {
  SmallVector<int64_t> index(shape.size());
  for (int64_t n = 0, size = getNumElements(shape); n < size; ++n) {
    body(index);
    for (int64_t d = shape.size() - 1; d >= 0 && ++index[d] == shape[d]; --d)
      index[d] = 0;
  }
}

/// The row-major number of an index.
static int64_t flatten(ArrayRef<int64_t> shape, ArrayRef<int64_t> index) {
  int64_t n = 0;
  for (auto [size, i] : llvm::zip_equal(shape, index))
    n = n * size + i;
  return n;
}

//===----------------------------------------------------------------------===//
// arith, math
//===----------------------------------------------------------------------===//

static LogicalResult run(arith::ConstantOp op, Frame &frame) {
  NDArray out = frame.resultOf(op);
  if (auto value = dyn_cast<FloatAttr>(op.getValue())) {
    out.f(0) = value.getValueAsDouble();
  } else if (auto value = dyn_cast<IntegerAttr>(op.getValue())) {
    out.i(0) = wrapTo(out.dtype(), value.getValue().getSExtValue());
  } else if (auto elements = dyn_cast<DenseElementsAttr>(op.getValue())) {
    int64_t n = 0;
    if (out.isFloat())
      for (const APFloat &number : elements.getValues<APFloat>()) {
        APFloat wide = number;
        bool loses;
        wide.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven,
                     &loses);
        out.f(n++) = wide.convertToDouble();
      }
    else
      for (const APInt &number : elements.getValues<APInt>())
        out.i(n++) = wrapTo(out.dtype(), number.getSExtValue());
  } else if (auto resource =
                 dyn_cast<DenseResourceElementsAttr>(op.getValue())) {
    AsmResourceBlob *blob = resource.getRawHandle().getBlob();
    if (!blob || static_cast<int64_t>(blob->getData().size()) <
                     out.size() * getByteWidth(out.dtype()))
      return op.emitOpError()
             << "has a resource without enough bytes; add them to "
                "the module's external resources";
    out = NDArray::fromBytes(out.dtype(), out.shape(), blob->getData().data());
  } else {
    return op.emitOpError() << "has the value " << op.getValue()
                            << ", no number; write it as dense<...>";
  }
  frame.set(op.getResult(), std::move(out));
  return success();
}

static std::optional<LogicalResult> runElementwise(Operation *op,
                                                   Frame &frame) {
  ScalarFunction function = getScalarFunction(op, frame.options);
  if (!function)
    return std::nullopt;
  // The condition of a select may be one scalar for all elements.
  const NDArray *shaped = &frame[op->getOperand(0)];
  for (Value operand : op->getOperands())
    if (isa<TensorType>(operand.getType()))
      shaped = &frame[operand];
  NDArray out(*getDType(getElementTypeOrSelf(op->getResult(0).getType())),
              shaped->shape());
  SmallVector<const NDArray *> operands;
  for (Value operand : op->getOperands()) {
    operands.push_back(&frame[operand]);
    if (isa<TensorType>(operand.getType()) &&
        operands.back()->shape() != out.shape())
      return op->emitOpError()
             << "wants operands of one shape, got "
             << describe(shaped->dtype(), shaped->shape()) << " and "
             << describe(operands.back()->dtype(), operands.back()->shape());
  }
  SmallVector<Scalar> arguments(operands.size());
  for (int64_t n = 0; n < out.size(); ++n) {
    for (auto [argument, array] : llvm::zip_equal(arguments, operands))
      argument = at(*array, array->shape() == out.shape() ? n : 0);
    put(out, n, function(arguments));
  }
  frame.set(op->getResult(0), std::move(out));
  return success();
}

//===----------------------------------------------------------------------===//
// tensor
//===----------------------------------------------------------------------===//

static LogicalResult run(tensor::EmptyOp op, Frame &frame) {
  SmallVector<int64_t> sizes =
      valuesOf(op.getType().getShape(), op.getDynamicSizes(), frame);
  if (llvm::any_of(sizes, [](int64_t size) { return size < 0; }))
    return op.emitOpError() << "has a negative size";
  frame.set(op, NDArray(*getDType(op.getType().getElementType()), sizes));
  return success();
}

static LogicalResult run(bufferization::AllocTensorOp op, Frame &frame) {
  if (op.getCopy()) {
    frame.set(op, frame[op.getCopy()]);
    return success();
  }
  frame.set(op, NDArray(*getDType(op.getType().getElementType()),
                        valuesOf(op.getType().getShape(), op.getDynamicSizes(),
                                 frame)));
  return success();
}

static LogicalResult run(bufferization::MaterializeInDestinationOp op,
                         Frame &frame) {
  frame.set(op.getResult(), frame[op.getSource()]);
  return success();
}

static LogicalResult run(tensor::DimOp op, Frame &frame) {
  const NDArray &array = frame[op.getSource()];
  int64_t dim = frame.integer(op.getIndex());
  if (dim < 0 || dim >= array.rank())
    return op.emitOpError() << "asks for dimension " << dim << " of "
                            << describe(array.dtype(), array.shape());
  frame.set(op, NDArray::filled(DType::I64, {}, array.dim(dim)));
  return success();
}

static LogicalResult run(tensor::CastOp op, Frame &frame) {
  frame.set(op, frame[op.getSource()]);
  return success();
}

static FailureOr<int64_t> indexInto(Operation *op, const NDArray &array,
                                    ValueRange indices, const Frame &frame) {
  SmallVector<int64_t> index;
  for (auto [size, value] : llvm::zip_equal(array.shape(), indices)) {
    index.push_back(frame.integer(value));
    if (index.back() < 0 || index.back() >= size)
      return op->emitOpError() << "index " << index.back() << " is outside of "
                               << describe(array.dtype(), array.shape());
  }
  return flatten(array.shape(), index);
}

static LogicalResult run(tensor::ExtractOp op, Frame &frame) {
  const NDArray &array = frame[op.getTensor()];
  FailureOr<int64_t> n = indexInto(op, array, op.getIndices(), frame);
  if (failed(n))
    return failure();
  NDArray out(array.dtype(), {});
  put(out, 0, at(array, *n));
  frame.set(op, std::move(out));
  return success();
}

static LogicalResult run(tensor::InsertOp op, Frame &frame) {
  NDArray out = frame[op.getDest()];
  FailureOr<int64_t> n = indexInto(op, out, op.getIndices(), frame);
  if (failed(n))
    return failure();
  put(out, *n, at(frame[op.getScalar()], 0));
  frame.set(op, std::move(out));
  return success();
}

static LogicalResult run(tensor::FromElementsOp op, Frame &frame) {
  NDArray out = frame.resultOf(op);
  for (auto [n, element] : llvm::enumerate(op.getElements()))
    put(out, n, at(frame[element], 0));
  frame.set(op, std::move(out));
  return success();
}

static LogicalResult run(tensor::SplatOp op, Frame &frame) {
  NDArray out(*getDType(op.getType().getElementType()),
              valuesOf(op.getType().getShape(), op.getDynamicSizes(), frame));
  for (int64_t n = 0; n < out.size(); ++n)
    put(out, n, at(frame[op.getInput()], 0));
  frame.set(op, std::move(out));
  return success();
}

static LogicalResult reshape(Operation *op, Value source,
                             ArrayRef<int64_t> shape, Frame &frame) {
  const NDArray &array = frame[source];
  if (getNumElements(shape) != array.size())
    return op->emitOpError()
           << "reshapes " << describe(array.dtype(), array.shape()) << " to "
           << describe(array.dtype(), shape);
  frame.set(op->getResult(0), array.reshaped(shape));
  return success();
}

static LogicalResult run(tensor::ReshapeOp op, Frame &frame) {
  const NDArray &sizes = frame[op.getShape()];
  SmallVector<int64_t> shape;
  for (int64_t n = 0; n < sizes.size(); ++n)
    shape.push_back(sizes.i(n));
  return reshape(op, op.getSource(), shape, frame);
}

static LogicalResult run(tensor::ExpandShapeOp op, Frame &frame) {
  return reshape(
      op, op.getSrc(),
      valuesOf(op.getStaticOutputShape(), op.getOutputShape(), frame), frame);
}

static LogicalResult run(tensor::CollapseShapeOp op, Frame &frame) {
  SmallVector<int64_t> shape;
  for (const ReassociationIndices &group : op.getReassociationIndices()) {
    int64_t size = 1;
    for (int64_t dim : group)
      size *= frame[op.getSrc()].dim(dim);
    shape.push_back(size);
  }
  return reshape(op, op.getSrc(), shape, frame);
}

/// Where element `index` of a slice lies in the whole.
template <typename SliceOp>
static FailureOr<SmallVector<int64_t>>
sliceElements(SliceOp op, const NDArray &whole, const Frame &frame,
              SmallVector<int64_t> &sizes) {
  SmallVector<int64_t> offsets =
      valuesOf(op.getStaticOffsets(), op.getOffsets(), frame);
  SmallVector<int64_t> strides =
      valuesOf(op.getStaticStrides(), op.getStrides(), frame);
  sizes = valuesOf(op.getStaticSizes(), op.getSizes(), frame);
  for (auto [dim, offset, size, stride] :
       llvm::zip_equal(whole.shape(), offsets, sizes, strides)) {
    int64_t last = offset + (size - 1) * stride;
    if (size < 0 || (size > 0 && (std::min(offset, last) < 0 ||
                                  std::max(offset, last) >= dim)))
      return op.emitOpError()
             << "is outside of " << describe(whole.dtype(), whole.shape());
  }
  SmallVector<int64_t> elements;
  forEachIndex(sizes, [&](ArrayRef<int64_t> index) {
    SmallVector<int64_t> place;
    for (auto [i, offset, stride] : llvm::zip_equal(index, offsets, strides))
      place.push_back(offset + i * stride);
    elements.push_back(flatten(whole.shape(), place));
  });
  return elements;
}

static LogicalResult run(tensor::ExtractSliceOp op, Frame &frame) {
  const NDArray &whole = frame[op.getSource()];
  SmallVector<int64_t> sizes;
  auto elements = sliceElements(op, whole, frame, sizes);
  if (failed(elements))
    return failure();
  SmallVector<int64_t> shape;
  llvm::SmallBitVector dropped = op.getDroppedDims();
  for (auto [dim, size] : llvm::enumerate(sizes))
    if (!dropped[dim])
      shape.push_back(size);
  NDArray out(whole.dtype(), shape);
  for (auto [n, place] : llvm::enumerate(*elements))
    put(out, n, at(whole, place));
  frame.set(op, std::move(out));
  return success();
}

static LogicalResult run(tensor::InsertSliceOp op, Frame &frame) {
  NDArray out = frame[op.getDest()];
  const NDArray &slice = frame[op.getSource()];
  SmallVector<int64_t> sizes;
  auto elements = sliceElements(op, out, frame, sizes);
  if (failed(elements))
    return failure();
  if (static_cast<int64_t>(elements->size()) != slice.size())
    return op.emitOpError()
           << "has a source of " << describe(slice.dtype(), slice.shape());
  for (auto [n, place] : llvm::enumerate(*elements))
    put(out, place, at(slice, n));
  frame.set(op, std::move(out));
  return success();
}

static LogicalResult run(tensor::ConcatOp op, Frame &frame) {
  SmallVector<int64_t> shape(frame[op.getInputs()[0]].shape());
  int64_t dim = op.getDim();
  shape[dim] = 0;
  for (Value input : op.getInputs())
    shape[dim] += frame[input].dim(dim);
  NDArray out(*getDType(op.getType().getElementType()), shape);
  int64_t offset = 0;
  for (Value input : op.getInputs()) {
    const NDArray &array = frame[input];
    for (int64_t d = 0; d < array.rank(); ++d)
      if (d != dim && array.dim(d) != shape[d])
        return op.emitOpError() << "has inputs that differ in dimension " << d;
    int64_t n = 0;
    forEachIndex(array.shape(), [&](ArrayRef<int64_t> index) {
      SmallVector<int64_t> place(index);
      place[dim] += offset;
      put(out, flatten(shape, place), at(array, n++));
    });
    offset += array.dim(dim);
  }
  frame.set(op, std::move(out));
  return success();
}

static LogicalResult run(tensor::PadOp op, Frame &frame) {
  const NDArray &source = frame[op.getSource()];
  SmallVector<int64_t> low = valuesOf(op.getStaticLow(), op.getLow(), frame);
  SmallVector<int64_t> high = valuesOf(op.getStaticHigh(), op.getHigh(), frame);
  SmallVector<int64_t> shape;
  for (auto [size, before, after] :
       llvm::zip_equal(source.shape(), low, high)) {
    if (before < 0 || after < 0)
      return op.emitOpError()
             << "pads with " << std::min(before, after) << " elements";
    shape.push_back(before + size + after);
  }
  FailureOr<ScalarProgram> program =
      ScalarProgram::compile(op.getRegion().front(), frame);
  if (failed(program))
    return failure();
  NDArray out(*getDType(op.getType().getElementType()), shape);
  int64_t n = 0;
  forEachIndex(shape, [&](ArrayRef<int64_t> index) {
    SmallVector<Scalar> arguments;
    SmallVector<int64_t> place;
    bool inside = true;
    for (auto [i, before, size] : llvm::zip_equal(index, low, source.shape())) {
      arguments.push_back(scalar(i));
      place.push_back(i - before);
      inside &= 0 <= i - before && i - before < size;
    }
    put(out, n++,
        inside ? at(source, flatten(source.shape(), place))
               : program->run(arguments).front());
  });
  frame.set(op, std::move(out));
  return success();
}

//===----------------------------------------------------------------------===//
// linalg
//===----------------------------------------------------------------------===//

/// How far one step of each loop moves in an operand, and where it starts;
/// fails unless the map's results are loops and constants.
static FailureOr<SmallVector<int64_t>>
stridesOf(AffineMap map, ArrayRef<int64_t> shape, int64_t &start) {
  SmallVector<int64_t> strides(map.getNumDims(), 0);
  int64_t stride = 1;
  start = 0;
  for (int64_t d = shape.size() - 1; d >= 0; --d) {
    if (auto dim = dyn_cast<AffineDimExpr>(map.getResult(d)))
      strides[dim.getPosition()] += stride;
    else if (auto constant = dyn_cast<AffineConstantExpr>(map.getResult(d)))
      start += constant.getValue() * stride;
    else
      return failure();
    stride *= shape[d];
  }
  return strides;
}

static LogicalResult run(linalg::LinalgOp op, Frame &frame) {
  SmallVector<NDArray> arrays;
  SmallVector<SmallVector<int64_t>> strides;
  SmallVector<int64_t> starts;
  SmallVector<int64_t> loops(op.getNumLoops(), -1);
  for (OpOperand &operand : op->getOpOperands()) {
    arrays.push_back(frame[operand.get()]);
    AffineMap map = op.getMatchingIndexingMap(&operand);
    ArrayRef<int64_t> shape = arrays.back().shape();
    auto steps = stridesOf(map, shape, starts.emplace_back());
    if (failed(steps))
      return op.emitOpError()
             << "has the indexing map " << AffineMapAttr::get(map)
             << "; the interpreter knows loops and constants";
    strides.push_back(*steps);
    for (auto [result, size] : llvm::zip_equal(map.getResults(), shape)) {
      auto dim = dyn_cast<AffineDimExpr>(result);
      if (!dim)
        continue;
      int64_t &loop = loops[dim.getPosition()];
      if (loop >= 0 && loop != size)
        return op.emitOpError()
               << "has operands whose loop " << dim.getPosition()
               << " has sizes " << loop << " and " << size;
      loop = size;
    }
  }
  assert(!llvm::is_contained(loops, -1) && "linalg verifies maps of all loops");
  FailureOr<ScalarProgram> program =
      ScalarProgram::compile(*op.getBlock(), frame);
  if (failed(program))
    return failure();
  unsigned inputs = op.getNumDpsInputs();
  SmallVector<Scalar> arguments(arrays.size());
  forEachIndex(loops, [&](ArrayRef<int64_t> index) {
    SmallVector<int64_t, 4> places;
    for (auto [n, array] : llvm::enumerate(arrays)) {
      int64_t place = starts[n];
      for (auto [i, stride] : llvm::zip_equal(index, strides[n]))
        place += i * stride;
      places.push_back(place);
      arguments[n] = at(array, place);
    }
    program->indices.assign(index.begin(), index.end());
    ArrayRef<Scalar> yielded = program->run(arguments);
    for (auto [n, value] : llvm::enumerate(yielded))
      put(arrays[inputs + n], places[inputs + n], value);
  });
  for (auto [n, result] : llvm::enumerate(op->getResults()))
    frame.set(result, std::move(arrays[inputs + n]));
  return success();
}

std::optional<LogicalResult> interpreter::runUpstream(Operation *op,
                                                      Frame &frame) {
  if (auto structured = dyn_cast<linalg::LinalgOp>(op))
    return run(structured, frame);
  return TypeSwitch<Operation *, std::optional<LogicalResult>>(op)
      .Case<arith::ConstantOp, tensor::EmptyOp, bufferization::AllocTensorOp,
            bufferization::MaterializeInDestinationOp, tensor::DimOp,
            tensor::CastOp, tensor::ExtractOp, tensor::InsertOp,
            tensor::FromElementsOp, tensor::SplatOp, tensor::ReshapeOp,
            tensor::ExpandShapeOp, tensor::CollapseShapeOp,
            tensor::ExtractSliceOp, tensor::InsertSliceOp, tensor::ConcatOp,
            tensor::PadOp>([&](auto op) { return run(op, frame); })
      .Default([&](Operation *op) { return runElementwise(op, frame); });
}
