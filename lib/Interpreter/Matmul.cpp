// SPDX-License-Identifier: Apache-2.0
//
// Sums by expert: parallel_linear, weight_grad, expert_sum.

#include "Frame.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::interpreter;

void interpreter::addLinear(const double *lhs, const NDArray &weights,
                            int64_t expert, WeightLayout layout,
                            MutableArrayRef<double> out) {
  const double *w = weights.row(expert);
  int64_t width = out.size();
  int64_t depth = weights.dim(layout == WeightLayout::OutIn ? 2 : 1);
  for (int64_t i = 0; i < depth; ++i)
    for (int64_t j = 0; j < width; ++j)
      out[j] += lhs[i] * (layout == WeightLayout::OutIn ? w[j * depth + i]
                                                        : w[i * width + j]);
}

void interpreter::addOuter(const Assignment &assignment, const NDArray &x,
                           RowOrder xFrom, const NDArray &dy, RowOrder dyFrom,
                           WeightLayout layout, NDArray &out) {
  int64_t in = x.dim(1), width = dy.dim(1);
  for (const Row &row : assignment.rows) {
    double *w = out.row(row.expert);
    const double *a = x.row(row.in(xFrom)), *b = dy.row(row.in(dyFrom));
    for (int64_t j = 0; j < width; ++j)
      for (int64_t i = 0; i < in; ++i)
        w[layout == WeightLayout::OutIn ? j * in + i : i * width + j] +=
            b[j] * a[i];
  }
}

static LogicalResult run(ParallelLinearOp op, Frame &frame) {
  const Assignment &assignment = frame.assignment(op.getAssignment());
  const NDArray &lhs = frame[op.getLhs()], &weights = frame[op.getWeights()];
  const NDArray *bias = op.getBias() ? &frame[op.getBias()] : nullptr;
  if (failed(checkRows(op, "lhs", lhs, assignment.rowsIn(op.getFrom()))))
    return failure();
  NDArray out = frame.resultOf(op.getResult(), assignment.slots());
  if (op.getTo() == RowOrder::Slot)
    out = NDArray::filled(out.dtype(), out.shape(), 0);
  int64_t width = out.dim(1);
  for (const Row &row : assignment.rows) {
    MutableArrayRef<double> result(out.row(row.in(op.getTo())), width);
    for (int64_t j = 0; j < width; ++j)
      result[j] = bias ? bias->row(row.expert)[j] : 0;
    addLinear(lhs.row(row.in(op.getFrom())), weights, row.expert,
              op.getLayout(), result);
  }
  frame.set(op.getResult(), std::move(out));
  return success();
}

static LogicalResult run(WeightGradOp op, Frame &frame) {
  const Assignment &assignment = frame.assignment(op.getAssignment());
  const NDArray &x = frame[op.getX()], &dy = frame[op.getDy()];
  if (failed(checkRows(op, "x", x, assignment.rowsIn(op.getXFrom()))) ||
      failed(checkRows(op, "dy", dy, assignment.rowsIn(op.getDyFrom()))))
    return failure();
  NDArray out = frame.resultOf(op.getResult());
  out = op.getBuffer() ? frame[op.getBuffer()]
                       : NDArray::filled(out.dtype(), out.shape(), 0);
  addOuter(assignment, x, op.getXFrom(), dy, op.getDyFrom(), op.getLayout(),
           out);
  frame.set(op.getResult(), std::move(out));
  return success();
}

static LogicalResult run(ExpertSumOp op, Frame &frame) {
  const Assignment &assignment = frame.assignment(op.getAssignment());
  const NDArray &in = frame[op.getRows()];
  if (failed(checkRows(op, "its rows", in, assignment.rowsIn(op.getFrom()))))
    return failure();
  NDArray out = frame.resultOf(op.getResult());
  out = NDArray::filled(out.dtype(), out.shape(), 0);
  int64_t width = in.dim(1);
  for (const Row &row : assignment.rows)
    for (int64_t j = 0; j < width; ++j)
      out.row(row.expert)[j] += in.row(row.in(op.getFrom()))[j];
  frame.set(op.getResult(), std::move(out));
  return success();
}

std::optional<LogicalResult> interpreter::runMatmul(Operation *op,
                                                    Frame &frame) {
  return TypeSwitch<Operation *, std::optional<LogicalResult>>(op)
      .Case<ParallelLinearOp, WeightGradOp, ExpertSumOp>(
          [&](auto op) { return run(op, frame); })
      .Default(std::nullopt);
}
