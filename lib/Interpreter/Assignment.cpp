// SPDX-License-Identifier: Apache-2.0
//
// Assignments: sorted from ids or counts, packed from tables and unpacked.

#include "Frame.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::interpreter;

std::vector<Row> Assignment::rowsBySlot() const {
  std::vector<Row> sorted = rows;
  llvm::sort(sorted,
             [](const Row &a, const Row &b) { return a.slot < b.slot; });
  return sorted;
}

/// Tables of a size, every slot a sentinel and every expert without rows.
static Assignment makeEmpty(int64_t tokens, int64_t k, int64_t experts) {
  Assignment assignment;
  assignment.tokens = tokens;
  assignment.k = k;
  assignment.order = NDArray::filled(DType::I32, {tokens * k}, -1);
  assignment.position = NDArray::filled(DType::I32, {tokens * k}, -1);
  assignment.begin = NDArray::filled(DType::I32, {experts}, 0);
  assignment.end = NDArray::filled(DType::I32, {experts}, 0);
  return assignment;
}

static void addRow(Assignment &assignment, int64_t expert, int64_t row,
                   int64_t slot) {
  assignment.order.i(row) = slot;
  assignment.position.i(slot) = row;
  assignment.rows.push_back({expert, row, slot, slot / assignment.k});
}

Assignment interpreter::sortIds(const NDArray &ids, int64_t experts) {
  Assignment assignment = makeEmpty(ids.dim(0), ids.dim(1), experts);
  int64_t row = 0;
  for (int64_t expert = 0; expert < experts; ++expert) {
    assignment.begin.i(expert) = row;
    for (int64_t slot = 0; slot < ids.size(); ++slot)
      if (ids.i(slot) == expert)
        addRow(assignment, expert, row++, slot);
    assignment.end.i(expert) = row;
  }
  // The sentinel slots at the end make `order` a permutation.
  for (int64_t slot = 0; slot < ids.size(); ++slot)
    if (ids.i(slot) < 0 || ids.i(slot) >= experts)
      assignment.order.i(row++) = slot;
  return assignment;
}

Assignment interpreter::sortCounts(const NDArray &counts, int64_t tokens,
                                   std::optional<int64_t> capacity) {
  Assignment assignment = makeEmpty(tokens, 1, counts.size());
  int64_t row = 0;
  for (int64_t expert = 0; expert < counts.size(); ++expert) {
    int64_t begin = capacity ? std::min(expert * *capacity, tokens) : row;
    int64_t count = std::max<int64_t>(counts.i(expert), 0);
    count = std::min(count, capacity.value_or(count));
    int64_t end = begin + std::min(count, tokens - begin);
    assignment.begin.i(expert) = begin;
    assignment.end.i(expert) = end;
    for (row = begin; row < end; ++row)
      addRow(assignment, expert, row, row);
  }
  for (int64_t slot = 0; slot < tokens; ++slot)
    assignment.order.i(slot) = slot;
  return assignment;
}

/// Tables from outside: refused unless they are an assignment.
static LogicalResult run(PackAssignmentOp op, Frame &frame) {
  AssignmentType type = getAssignmentType(op.getAssignment());
  const NDArray &order = frame[op.getOrder()];
  const NDArray &position = frame[op.getPosition()];
  const NDArray &begin = frame[op.getBegin()], &end = frame[op.getEnd()];
  int64_t slots = order.size();
  if (position.size() != slots || slots % type.getK())
    return op.emitOpError()
           << "wants order and position of T * " << type.getK()
           << " elements, got " << slots << " and " << position.size();
  Assignment assignment =
      makeEmpty(slots / type.getK(), type.getK(), type.getExperts());
  std::vector<bool> taken(slots);
  for (int64_t expert = 0; expert < type.getExperts(); ++expert) {
    if (begin.i(expert) == end.i(expert))
      continue;
    if (begin.i(expert) < 0 || begin.i(expert) > end.i(expert) ||
        end.i(expert) > slots)
      return op.emitOpError()
             << "expert " << expert << " has the rows [" << begin.i(expert)
             << ", " << end.i(expert) << ") of " << slots;
    for (int64_t row = begin.i(expert); row < end.i(expert); ++row) {
      int64_t slot = order.i(row);
      if (slot < 0 || slot >= slots || taken[slot] || position.i(slot) != row)
        return op.emitOpError()
               << "row " << row << " of expert " << expert << " has slot "
               << slot
               << ", which is out of range, taken by another row, or "
                  "has another position";
      taken[slot] = true;
      addRow(assignment, expert, row, slot);
    }
  }
  for (int64_t slot = 0; slot < slots; ++slot)
    if (!taken[slot] && position.i(slot) != -1)
      return op.emitOpError()
             << "slot " << slot << " is in no expert's rows and has position "
             << position.i(slot) << ", not -1";
  assignment.order = order;
  assignment.begin = begin;
  assignment.end = end;
  frame.set(op.getAssignment(), std::move(assignment));
  return success();
}

static LogicalResult run(AssignOp op, Frame &frame) {
  AssignmentType type = getAssignmentType(op.getAssignment());
  Assignment assignment =
      op.getIds() ? sortIds(frame[op.getIds()], type.getExperts())
                  : sortCounts(frame[op.getCounts()],
                               frame.integer(op.getRows()), op.getCapacity());
  if (type.hasStaticTokens() && assignment.tokens != type.getTokens())
    return op.emitOpError() << "gets " << assignment.tokens
                            << " tokens where its type is " << type;
  frame.set(op.getAssignment(), std::move(assignment));
  return success();
}

static LogicalResult run(UnpackAssignmentOp op, Frame &frame) {
  const Assignment &assignment = frame.assignment(op.getAssignment());
  frame.set(op.getOrder(), assignment.order);
  frame.set(op.getPosition(), assignment.position);
  frame.set(op.getBegin(), assignment.begin);
  frame.set(op.getEnd(), assignment.end);
  return success();
}

static LogicalResult run(SortSlotsOp op, Frame &frame) {
  int64_t slots = frame[op.getOuts()[0]].size();
  int64_t experts = frame[op.getOuts()[2]].size();
  if (op.getIds() && frame[op.getIds()].size() != slots)
    return op.emitOpError() << "wants outs of " << frame[op.getIds()].size()
                            << " slots, got " << slots;
  Assignment assignment =
      op.getIds() ? sortIds(frame[op.getIds()], experts)
                  : sortCounts(frame[op.getCounts()], slots, op.getCapacity());
  frame.set(op.getResults()[0], assignment.order);
  frame.set(op.getResults()[1], assignment.position);
  frame.set(op.getResults()[2], assignment.begin);
  frame.set(op.getResults()[3], assignment.end);
  return success();
}

std::optional<LogicalResult> interpreter::runAssignment(Operation *op,
                                                        Frame &frame) {
  return TypeSwitch<Operation *, std::optional<LogicalResult>>(op)
      .Case<AssignOp, PackAssignmentOp, UnpackAssignmentOp, SortSlotsOp>(
          [&](auto op) { return run(op, frame); })
      .Default(std::nullopt);
}
