// SPDX-License-Identifier: Apache-2.0
#include "Random.h"

#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"

#include <cmath>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::run;

uint64_t RandomArrays::next() {
  uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

double RandomArrays::uniform() { return ((next() >> 11) + 0.5) * 0x1p-53; }

double RandomArrays::normal() {
  return std::sqrt(-2 * std::log(uniform())) *
         std::cos(6.283185307179586 * uniform());
}

/// The first use that says what an argument means, through calls.
static OpOperand *meaningOf(Value argument, int depth = 0) {
  for (OpOperand &use : argument.getUses()) {
    Operation *user = use.getOwner();
    if (isa<AssignOp, PackAssignmentOp, RouteOp, RouteGradOp>(user))
      return &use;
    auto call = dyn_cast<func::CallOp>(user);
    if (!call || depth > 8)
      continue;
    auto callee = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
        call, call.getCalleeAttr());
    if (callee && !callee.isExternal())
      if (OpOperand *found =
              meaningOf(callee.getArgument(use.getOperandNumber()), depth + 1))
        return found;
  }
  return nullptr;
}

NDArray RandomArrays::drawIds(DType dtype, ArrayRef<int64_t> shape,
                              int64_t experts) {
  NDArray ids(dtype, shape);
  for (int64_t n = 0; n < ids.size(); ++n) {
    ids.i(n) = below(experts);
    if (sentinels && below(8) == 0)
      ids.i(n) = below(2) ? -1 : experts;
  }
  return ids;
}

/// order, position, begin, end of random ids.
static std::vector<NDArray> sortTables(const NDArray &ids, int64_t experts) {
  NDArray order = NDArray::filled(DType::I32, ids.size(), -1);
  NDArray position = order;
  NDArray begin = NDArray::filled(DType::I32, experts, 0), end = begin;
  int64_t row = 0;
  for (int64_t expert = 0; expert < experts; ++expert) {
    begin.i(expert) = row;
    for (int64_t slot = 0; slot < ids.size(); ++slot)
      if (ids.i(slot) == expert) {
        order.i(row) = slot;
        position.i(slot) = row++;
      }
    end.i(expert) = row;
  }
  for (int64_t slot = 0; slot < ids.size(); ++slot)
    if (position.i(slot) < 0)
      order.i(row++) = slot;
  return {order, position, begin, end};
}

static int64_t columnsOf(Value table) {
  return cast<RankedTensorType>(table.getType()).getDimSize(1);
}

NDArray RandomArrays::draw(Value argument, DType dtype,
                           ArrayRef<int64_t> shape) {
  NDArray array(dtype, shape);
  if (mlir::moe::isFloat(dtype)) {
    for (int64_t n = 0; n < array.size(); ++n)
      array.f(n) = roundTo(dtype, normal());
    return array;
  }
  OpOperand *use = meaningOf(argument);
  Operation *user = use ? use->getOwner() : nullptr;
  if (auto route = dyn_cast_or_null<RouteOp>(user);
      route && use->get() == route.getGivenIds())
    return drawIds(dtype, shape, columnsOf(route.getLogits()));
  if (auto grad = dyn_cast_or_null<RouteGradOp>(user))
    return drawIds(dtype, shape, columnsOf(grad.getLogits()));
  if (auto assign = dyn_cast_or_null<AssignOp>(user)) {
    int64_t experts = getAssignmentType(assign.getAssignment()).getExperts();
    if (use->get() == assign.getIds())
      return drawIds(dtype, shape, experts);
  }
  if (auto pack = dyn_cast_or_null<PackAssignmentOp>(user)) {
    std::vector<NDArray> &packed = tables[pack];
    AssignmentType type = getAssignmentType(pack.getAssignment());
    if (packed.empty() && use->getOperandNumber() < 2)
      packed = sortTables(drawIds(DType::I32, shape, type.getExperts()),
                          type.getExperts());
    if (!packed.empty())
      return packed[use->getOperandNumber()];
  }
  // Masks are mostly true, other integers small.
  for (int64_t n = 0; n < array.size(); ++n)
    array.i(n) = dtype == DType::Bool ? -int64_t(below(4) != 0) : below(4);
  return array;
}
