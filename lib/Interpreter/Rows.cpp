// SPDX-License-Identifier: Apache-2.0
//
// Moving rows: group, scatter, combine.

#include "Frame.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::interpreter;

/// Rows have a width; scalars are rows of one column, however they are shaped.
static int64_t widthOf(const NDArray &rows, bool scalars) {
  return scalars ? 1 : rows.dim(1);
}

static LogicalResult run(GroupOp op, Frame &frame) {
  const Assignment &assignment = frame.assignment(op.getAssignment());
  const NDArray &in = frame[op.getRows()];
  NDArray out = frame.resultOf(op.getResult(), assignment.slots());
  bool scalars = out.rank() == 1;
  if (failed(checkRows(op, "its rows", in, assignment.rowsIn(op.getFrom()),
                       scalars)))
    return failure();
  int64_t width = widthOf(in, scalars);
  for (const Row &row : assignment.rows)
    for (int64_t j = 0; j < width; ++j)
      out.f(row.row * width + j) = in.f(row.in(op.getFrom()) * width + j);
  frame.set(op.getResult(), std::move(out));
  return success();
}

static LogicalResult run(ScatterOp op, Frame &frame) {
  const Assignment &assignment = frame.assignment(op.getAssignment());
  const NDArray &in = frame[op.getRows()];
  bool scalars = in.rank() == 1;
  if (failed(checkRows(op, "its rows", in, assignment.slots(), scalars)))
    return failure();
  NDArray out = frame.resultOf(op.getResult(), scalars ? assignment.tokens
                                                       : assignment.slots());
  out = NDArray::filled(out.dtype(), out.shape(), 0);
  int64_t width = widthOf(in, scalars);
  for (const Row &row : assignment.rows)
    for (int64_t j = 0; j < width; ++j)
      out.f(row.slot * width + j) = in.f(row.row * width + j);
  frame.set(op.getResult(), std::move(out));
  return success();
}

static LogicalResult run(CombineOp op, Frame &frame) {
  const Assignment &assignment = frame.assignment(op.getAssignment());
  const NDArray &in = frame[op.getRows()];
  NDArray out = frame.resultOf(op.getResult(), assignment.tokens);
  bool scalars = out.rank() == 1;
  if (failed(checkRows(op, "its rows", in, assignment.slots(), scalars)))
    return failure();
  const NDArray *gates = op.getGates() ? &frame[op.getGates()] : nullptr;
  if (gates && failed(checkRows(op, "its gates", *gates, assignment.tokens)))
    return failure();
  out = NDArray::filled(out.dtype(), out.shape(), 0);
  int64_t width = widthOf(in, scalars);
  for (const Row &row : assignment.rowsBySlot()) {
    double gate = gates ? gates->f(row.slot) : 1;
    for (int64_t j = 0; j < width; ++j)
      out.f(row.token * width + j) +=
          gate * in.f(row.in(op.getFrom()) * width + j);
  }
  frame.set(op.getResult(), std::move(out));
  return success();
}

std::optional<LogicalResult> interpreter::runRows(Operation *op, Frame &frame) {
  return TypeSwitch<Operation *, std::optional<LogicalResult>>(op)
      .Case<GroupOp, ScatterOp, CombineOp>(
          [&](auto op) { return run(op, frame); })
      .Default(std::nullopt);
}
