// SPDX-License-Identifier: Apache-2.0
//
// Regions on the scalars of a row, for moe.rowwise and the kernels.

#include "Frame.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::interpreter;

FailureOr<RowRegion> RowRegion::create(Frame &frame, Region &region,
                                       ValueRange ins, ArrayAttr inPorts,
                                       ArrayAttr outPorts, int64_t width) {
  RowRegion result;
  result.width = width;
  for (auto [value, port] : llvm::zip_equal(ins, inPorts))
    result.ins.push_back({cast<PortAttr>(port), &frame[value]});
  for (Attribute port : outPorts)
    result.results.push_back({cast<PortAttr>(port)});
  FailureOr<ScalarProgram> program =
      ScalarProgram::compile(region.front(), frame);
  if (failed(program))
    return failure();
  result.program = std::move(*program);
  return result;
}

/// Where port's value c of column j of a row lies in its array.
static int64_t offsetOf(PortAttr port, const NDArray &array, const Row &row,
                        int64_t width, int64_t j, int64_t c) {
  int64_t number =
      port.getKind() == PortKind::Expert ? row.expert : row.in(port.getOrder());
  switch (port.getKind()) {
  case PortKind::Rows:
  case PortKind::Expert:
    return number * array.dim(1) +
           columnOf(port.getLayout(), width, port.getCount(), j, c);
  case PortKind::Partials:
    return number * array.dim(1) + j / kRowSumSegment;
  case PortKind::Scalar:
  case PortKind::Sum:
    return number;
  }
  llvm_unreachable("port kinds are covered");
}

/// The segments of a row sum, left to right.
static double fold(const NDArray &partials, int64_t number) {
  double sum = 0;
  for (int64_t s = 0; s < partials.dim(1); ++s)
    sum += partials.row(number)[s];
  return sum;
}

void RowRegion::run(const Row &row, ArrayRef<double> accumulator,
                    unsigned leading) {
  // What the row adds to starts from zero, not from what a result holds
  // before it is written: that may be unspecified.
  for (auto [out, result] : llvm::zip_equal(outs, results)) {
    PortKind kind = result.port.getKind();
    if (kind == PortKind::Sum)
      out.f(row.in(result.port.getOrder())) = 0;
    if (kind == PortKind::Partials)
      std::fill_n(out.row(row.in(result.port.getOrder())), out.dim(1), 0);
  }
  SmallVector<Scalar, 8> arguments;
  for (int64_t j = 0; j < width; ++j) {
    arguments.clear();
    for (unsigned c = 0; c < leading; ++c)
      arguments.push_back(scalar(accumulator[j * leading + c]));
    for (const Port &in : ins) {
      if (in.port.getKind() == PortKind::Partials) {
        arguments.push_back(
            scalar(fold(*in.array, row.in(in.port.getOrder()))));
        continue;
      }
      for (int64_t c = 0; c < in.port.numValues(); ++c)
        arguments.push_back(scalar(
            in.array->f(offsetOf(in.port, *in.array, row, width, j, c))));
    }
    ArrayRef<Scalar> yielded = program.run(arguments);
    for (auto [out, result] : llvm::zip_equal(outs, results))
      for (int64_t c = 0; c < result.port.numValues(); ++c) {
        double value = yielded.front().f;
        yielded = yielded.drop_front();
        double &element = out.f(offsetOf(result.port, out, row, width, j, c));
        bool adds = addRows || (result.port.getKind() != PortKind::Rows &&
                                result.port.getKind() != PortKind::Scalar);
        element = adds ? element + value : value;
      }
  }
}

/// Rows of an op without an assignment: from an operand, or a static result.
static FailureOr<int64_t> countRows(RowwiseOp op, Frame &frame) {
  for (auto [value, attr] : llvm::zip_equal(op.getIns(), op.getInPorts()))
    return cast<PortAttr>(attr).hasColumns() ? frame[value].dim(0)
                                             : frame[value].size();
  for (auto [value, attr] : llvm::zip_equal(op.getResults(), op.getOutPorts()))
    if (auto type = cast<RankedTensorType>(value.getType());
        type.hasStaticShape())
      return cast<PortAttr>(attr).hasColumns() ? type.getDimSize(0)
                                               : type.getNumElements();
  return op.emitOpError() << "has no operand that says its number of rows; "
                             "give it one, or a static result";
}

std::optional<LogicalResult> interpreter::runRowwise(Operation *operation,
                                                     Frame &frame) {
  auto op = dyn_cast<RowwiseOp>(operation);
  if (!op)
    return std::nullopt;
  const Assignment *assignment =
      op.getAssignment() ? &frame.assignment(op.getAssignment()) : nullptr;
  FailureOr<int64_t> count =
      assignment ? assignment->rowsIn(op.getOrder()) : countRows(op, frame);
  FailureOr<RowRegion> region =
      RowRegion::create(frame, op.getBody(), op.getIns(), op.getInPorts(),
                        op.getOutPorts(), op.getWidth());
  if (failed(count) || failed(region))
    return failure();
  for (auto [index, value] : llvm::enumerate(op.getIns())) {
    PortAttr port = op.inPort(index);
    if (port.getKind() != PortKind::Expert &&
        failed(checkRows(op, ("operand #" + Twine(index)).str(), frame[value],
                         *count, !port.hasColumns())))
      return failure();
  }
  for (auto [index, value] : llvm::enumerate(op.getResults())) {
    bool table =
        !op.outPort(index).hasColumns() && op.getOrder() == RowOrder::Slot;
    auto type = cast<RankedTensorType>(value.getType());
    if (table && type.isDynamicDim(1))
      return op.emitOpError() << "wants a (T, K) result with a static K, got "
                              << type << "; say K in its type";
    NDArray out = frame.resultOf(
        value,
        {table ? *count / std::max<int64_t>(type.getDimSize(1), 1) : *count});
    if (assignment && op.getOrder() == RowOrder::Slot)
      out = NDArray::filled(out.dtype(), out.shape(), 0);
    if (failed(checkRows(op, ("result #" + Twine(index)).str(), out, *count,
                         table)))
      return failure();
    region->outs.push_back(std::move(out));
  }
  if (assignment)
    for (const Row &row : assignment->rows)
      region->run(row);
  else
    for (int64_t row = 0; row < *count; ++row)
      region->run({-1, row, row, row});
  for (auto [value, out] : llvm::zip_equal(op.getResults(), region->outs))
    frame.set(value, std::move(out));
  return success();
}
