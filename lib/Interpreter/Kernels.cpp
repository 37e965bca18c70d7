// SPDX-License-Identifier: Apache-2.0
//
// Level 2 on tensors: the kernels that are made of rows and regions. Outs give
// shapes alone, except where a kernel accumulates.

#include "Frame.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::interpreter;

/// A new array like an out: zeros, or unspecified.
static NDArray fresh(const NDArray &out, bool zeros) {
  return zeros ? NDArray::filled(out.dtype(), out.shape(), 0)
               : NDArray(out.dtype(), out.shape());
}

/// Sentinel rows of results in slot order are zero; grouped rows outside every
/// range are unspecified.
static bool startsAtZero(PortAttr port) {
  return port.getOrder() == RowOrder::Slot;
}

static LogicalResult checkPort(Operation *op, const Twine &what,
                               const NDArray &array, PortAttr port,
                               int64_t tokens, int64_t slots) {
  if (port.getKind() == PortKind::Expert)
    return success();
  bool scalars =
      port.getKind() == PortKind::Scalar || port.getKind() == PortKind::Sum;
  return checkRows(op, what.str(), array,
                   port.getOrder() == RowOrder::Token ? tokens : slots,
                   scalars);
}

/// The region of a kernel, its operands and outs checked, its results new.
template <typename KernelOp>
static FailureOr<RowRegion> createRegion(KernelOp op, Frame &frame,
                                         int64_t tokens, int64_t slots) {
  for (auto [index, value] : llvm::enumerate(op.getIns()))
    if (failed(checkPort(op, "operand #" + Twine(index), frame[value],
                         op.inPort(index), tokens, slots)))
      return failure();
  FailureOr<RowRegion> region =
      RowRegion::create(frame, op.getBody(), op.getIns(), op.getInPorts(),
                        op.getOutPorts(), op.getWidth());
  if (failed(region))
    return failure();
  for (auto [index, value] : llvm::enumerate(op.getOuts())) {
    if (failed(checkPort(op, "out #" + Twine(index), frame[value],
                         op.outPort(index), tokens, slots)))
      return failure();
    region->outs.push_back(
        fresh(frame[value], startsAtZero(op.outPort(index))));
  }
  return region;
}

template <typename KernelOp>
static LogicalResult finish(KernelOp op, Frame &frame, RowRegion &region) {
  for (auto [value, out] : llvm::zip_equal(op.getResults(), region.outs))
    frame.set(value, std::move(out));
  return success();
}

static LogicalResult run(GroupedMatmulOp op, Frame &frame) {
  const Assignment &assignment = frame.assignment(op.getAssignment());
  FailureOr<RowRegion> region =
      createRegion(op, frame, assignment.tokens, assignment.slots());
  if (failed(region))
    return failure();
  for (auto [index, lhs] : llvm::enumerate(op.getLhs()))
    if (failed(checkRows(op, ("lhs #" + Twine(index)).str(), frame[lhs],
                         assignment.rowsIn(op.lhsOrder(index)))))
      return failure();
  int64_t width = op.getWidth(), count = op.getColumns().getCount();
  std::vector<double> sum(width * count), columns(width * count);
  for (const Row &row : assignment.rows) {
    std::fill(sum.begin(), sum.end(), 0);
    for (auto [index, lhs, rhs] : llvm::enumerate(op.getLhs(), op.getRhs()))
      addLinear(frame[lhs].row(row.in(op.lhsOrder(index))), frame[rhs],
                row.expert, op.rhsLayout(index), sum);
    for (int64_t j = 0; j < width; ++j)
      for (int64_t c = 0; c < count; ++c)
        columns[j * count + c] =
            sum[columnOf(op.getColumns().getLayout(), width, count, j, c)];
    region->run(row, columns, count);
  }
  return finish(op, frame, *region);
}

static LogicalResult run(GroupedOuterOp op, Frame &frame) {
  const Assignment &assignment = frame.assignment(op.getAssignment());
  const NDArray &x = frame[op.getX()], &dy = frame[op.getDy()];
  if (failed(checkRows(op, "x", x, assignment.rowsIn(op.getXFrom()))) ||
      failed(checkRows(op, "dy", dy, assignment.rowsIn(op.getDyFrom()))))
    return failure();
  const NDArray &init = frame[op.getOuts()[0]];
  NDArray out = op.getAccumulate() ? init : fresh(init, true);
  addOuter(assignment, x, op.getXFrom(), dy, op.getDyFrom(), op.getLayout(),
           out);
  frame.set(op.getResults()[0], std::move(out));
  return success();
}

/// The number of tokens of a kernel without an assignment.
static int64_t countTokens(MapRowsOp op, Frame &frame) {
  if (!op.getIns().empty())
    return frame[op.getIns()[0]].dim(0);
  return op.getOuts().empty() ? 0 : frame[op.getOuts()[0]].dim(0);
}

static LogicalResult run(MapRowsOp op, Frame &frame) {
  const Assignment *assignment =
      op.getAssignment() ? &frame.assignment(op.getAssignment()) : nullptr;
  int64_t tokens = assignment ? assignment->tokens : countTokens(op, frame);
  FailureOr<RowRegion> region = createRegion(
      op, frame, tokens, assignment ? assignment->slots() : tokens);
  if (failed(region))
    return failure();
  if (assignment)
    for (const Row &row : assignment->rows)
      region->run(row);
  else
    for (int64_t token = 0; token < tokens; ++token)
      region->run({-1, token, token, token});
  return finish(op, frame, *region);
}

static NDArray foldPartials(const Assignment &assignment,
                            const NDArray &partials, RowOrder to,
                            const NDArray &init) {
  NDArray out = fresh(init, to == RowOrder::Slot);
  for (const Row &row : assignment.rows) {
    double &sum = out.f(row.in(to)) = 0;
    for (int64_t s = 0; s < partials.dim(1); ++s)
      sum += partials.row(row.row)[s];
  }
  return out;
}

static LogicalResult run(CombineRowsOp op, Frame &frame) {
  const Assignment &assignment = frame.assignment(op.getAssignment());
  FailureOr<RowRegion> created =
      createRegion(op, frame, assignment.tokens, assignment.slots());
  if (failed(created))
    return failure();
  // The outs of folds have no region values.
  size_t folds = op.getFolds().size(), sums = op.getOuts().size() - folds;
  SmallVector<Attribute> ports(op.getOutPorts().getValue().take_front(sums));
  FailureOr<RowRegion> region =
      RowRegion::create(frame, op.getBody(), op.getIns(), op.getInPorts(),
                        ArrayAttr::get(op.getContext(), ports), op.getWidth());
  if (failed(region))
    return failure();
  region->addRows = true;
  for (size_t i = 0; i < sums; ++i) {
    const NDArray &init = frame[op.getOuts()[i]];
    NDArray out = fresh(init, true);
    if (!op.getAddends().empty()) {
      const NDArray &addend = frame[op.getAddends()[i]];
      if (addend.shape() != init.shape())
        return op.emitOpError()
               << "wants addend #" << i << " to be "
               << describe(init.dtype(), init.shape()) << ", got "
               << describe(addend.dtype(), addend.shape());
      for (int64_t n = 0; n < out.size(); ++n)
        out.f(n) = addend.f(n);
    }
    region->outs.push_back(std::move(out));
  }
  for (const Row &row : assignment.rowsBySlot())
    region->run(row);
  for (size_t i = 0; i < folds; ++i) {
    const NDArray &partials = frame[op.getFolds()[i]];
    if (failed(checkRows(op, "partials to fold", partials, assignment.slots())))
      return failure();
    region->outs.push_back(foldPartials(assignment, partials, RowOrder::Slot,
                                        frame[op.getOuts()[sums + i]]));
  }
  return finish(op, frame, *region);
}

static LogicalResult run(ReduceExpertsOp op, Frame &frame) {
  const Assignment &assignment = frame.assignment(op.getAssignment());
  FailureOr<RowRegion> region =
      createRegion(op, frame, assignment.tokens, assignment.slots());
  if (failed(region))
    return failure();
  for (auto [out, value] : llvm::zip_equal(region->outs, op.getOuts()))
    out = op.getAccumulate() ? frame[value] : fresh(frame[value], true);
  for (const Row &row : assignment.rows)
    region->run(row);
  return finish(op, frame, *region);
}

static LogicalResult run(FoldPartialsOp op, Frame &frame) {
  const Assignment &assignment = frame.assignment(op.getAssignment());
  const NDArray &partials = frame[op.getPartials()];
  const NDArray &init = frame[op.getOuts()[0]];
  if (failed(checkRows(op, "partials", partials, assignment.slots())) ||
      failed(checkRows(op, "the out", init, assignment.slots(),
                       /*scalars=*/true)))
    return failure();
  frame.set(op.getResults()[0],
            foldPartials(assignment, partials, op.getTo(), init));
  return success();
}

std::optional<LogicalResult> interpreter::runKernels(Operation *op,
                                                     Frame &frame) {
  return TypeSwitch<Operation *, std::optional<LogicalResult>>(op)
      .Case<GroupedMatmulOp, GroupedOuterOp, MapRowsOp, CombineRowsOp,
            ReduceExpertsOp, FoldPartialsOp>(
          [&](auto op) { return run(op, frame); })
      .Default(std::nullopt);
}
