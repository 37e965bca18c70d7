// SPDX-License-Identifier: Apache-2.0
// Of moe-simplify-gradients: the gradient of a gate on the output, a dot of
// wide rows, becomes dots with products that are computed anyway.
#include "SimplifyGradients.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// T*K rows in grouped or slot order.
struct Rows {
  Value value;
  RowOrder order;

  /// Of grouped rows: the slot rows that they are a copy of; and the reverse.
  static Rows of(Value value, RowOrder order, Value assignment) {
    auto group = value.getDefiningOp<GroupOp>();
    if (order == RowOrder::Grouped && group &&
        group.getFrom() == RowOrder::Slot &&
        group.getAssignment() == assignment)
      return of(group.getRows(), RowOrder::Slot, assignment);
    auto scatter = value.getDefiningOp<ScatterOp>();
    if (order == RowOrder::Slot && scatter &&
        scatter.getAssignment() == assignment)
      return of(scatter.getRows(), RowOrder::Grouped, assignment);
    return {value, order};
  }
};

/// The product that the rows are.
ParallelLinearOp getProduct(Rows y, Value assignment) {
  auto linear = y.value.getDefiningOp<ParallelLinearOp>();
  return linear && linear.getTo() == y.order &&
                 linear.getAssignment() == assignment
             ? linear
             : nullptr;
}

/// dO W without the gate, if it is computed anyway.
ParallelLinearOp findBackward(Value dO, ParallelLinearOp forward) {
  for (Operation *user : dO.getUsers()) {
    auto linear = dyn_cast<ParallelLinearOp>(user);
    if (linear && linear.getLhs() == dO && !linear.getBias() &&
        linear.getWeights() == forward.getWeights() &&
        linear.getAssignment() == forward.getAssignment() &&
        linear.getFrom() == RowOrder::Grouped &&
        linear.getTo() == RowOrder::Grouped &&
        linear.getLayout() != forward.getLayout())
      return linear;
  }
  return nullptr;
}

/// y = u + v, rows of one assignment.
std::optional<std::pair<Rows, Rows>> getSum(Rows y, Value assignment) {
  auto op = y.value.getDefiningOp<RowwiseOp>();
  if (!isSumOfRows(op, assignment, y.order))
    return std::nullopt;
  return std::pair(Rows::of(op.getIns()[0], y.order, assignment),
                   Rows::of(op.getIns()[1], y.order, assignment));
}

/// Whether <dO, y> needs products that are computed anyway, and no y.
bool canMoveDot(Value dO, Rows y, Value assignment) {
  if (ParallelLinearOp forward = getProduct(y, assignment))
    return bool(findBackward(dO, forward));
  auto sum = getSum(y, assignment);
  return sum && canMoveDot(dO, sum->first, assignment) &&
         canMoveDot(dO, sum->second, assignment);
}

/// The row sum of u * v; v may be a vector for each expert.
struct Dot {
  Value u, v;
  PortKind kind = PortKind::Rows;
};

/// <dO, Y> -> <dO W, A> (+ <dO, b[e]>), where Y = A W^T (+ b), or a sum of
/// such.
void moveDot(OpBuilder &b, Location loc, Value dO, Rows y, Value assignment,
             SmallVector<Dot> &dots) {
  ParallelLinearOp forward = getProduct(y, assignment);
  if (!forward) {
    auto [u, v] = *getSum(y, assignment);
    moveDot(b, loc, dO, u, assignment, dots);
    moveDot(b, loc, dO, v, assignment, dots);
    return;
  }
  ParallelLinearOp backward = findBackward(dO, forward);
  Value a = forward.getLhs();
  if (forward.getFrom() != RowOrder::Grouped)
    a = GroupOp::create(b, loc, backward.getResult().getType(), a, assignment,
                        forward.getFrom());
  dots.push_back({backward.getResult(), a});
  if (forward.getBias())
    dots.push_back({dO, forward.getBias(), PortKind::Expert});
}

/// <U, c * (A W^T)> -> <c * (U W), A>, where (c * U) W is computed anyway: an
/// adapter's dot becomes one with the rows that the adapter reads, which are
/// those of `forward`.
Value moveDotFurther(Dot dot, Value assignment, ParallelLinearOp &forward) {
  Operation *factor = dot.v.getDefiningOp();
  if (auto constant = getConstantFactor(factor, assignment)) {
    auto same = llvm::find_if(dot.u.getUsers(), [&](Operation *user) {
      return getConstantFactor(user, assignment) == constant;
    });
    if (same == dot.u.user_end())
      return Value();
    dot = {same->getResult(0), cast<RowwiseOp>(factor).getIns()[0]};
  }
  forward = dot.v.getDefiningOp<ParallelLinearOp>();
  if (!forward || forward.getAssignment() != assignment || forward.getBias() ||
      forward.getTo() != RowOrder::Grouped)
    return Value();
  ParallelLinearOp backward = findBackward(dot.u, forward);
  return backward ? backward.getResult() : Value();
}

/// <U, A> + <V, A> -> <U + V, A>, where U + V is computed anyway.
void mergeDots(SmallVector<Dot> &dots, Value assignment) {
  for (Dot &dot : dots) {
    if (dot.kind != PortKind::Rows)
      continue;
    ParallelLinearOp forward;
    Value moved = moveDotFurther(dot, assignment, forward);
    for (Dot &other : dots) {
      if (!moved || other.kind != PortKind::Rows || moved == other.u)
        continue;
      Rows rows = Rows::of(other.v, RowOrder::Grouped, assignment);
      if (rows.value != forward.getLhs() || rows.order != forward.getFrom())
        continue;
      auto sum = llvm::find_if(other.u.getUsers(), [&](Operation *user) {
        return isSumOfRows(user, assignment) &&
               llvm::is_contained(cast<RowwiseOp>(user).getIns(), moved);
      });
      if (sum == other.u.user_end())
        continue;
      other.u = sum->getResult(0);
      dots.erase(&dot);
      return mergeDots(dots, assignment);
    }
  }
}

bool isDot(RowwiseOp op) {
  return op.getAssignment() && isBinary<arith::MulFOp>(op, PortKind::Sum) &&
         isPlain(op.inPort(0), PortKind::Rows) &&
         isPlain(op.inPort(1), PortKind::Rows);
}

} // namespace

bool mlir::moe::moveGateGradient(RowwiseOp dot) {
  if (!isDot(dot))
    return false;
  for (unsigned i : {1, 0}) {
    Value dO = dot.getIns()[1 - i];
    Rows y = Rows::of(dot.getIns()[i], RowOrder::Grouped, dot.getAssignment());
    if (!canMoveDot(dO, y, dot.getAssignment()))
      continue;
    OpBuilder b(dot);
    SmallVector<Dot> dots;
    moveDot(b, dot.getLoc(), dO, y, dot.getAssignment(), dots);
    mergeDots(dots, dot.getAssignment());
    Value all;
    for (const Dot &one : dots) {
      Value sum = buildRowwise<arith::MulFOp>(
          b, dot.getLoc(), dot.getAssignment(), one.u, one.v, one.kind,
          dot.getResult(0).getType(), PortKind::Sum);
      all = all ? arith::AddFOp::create(b, dot.getLoc(), all, sum) : sum;
    }
    dot.getResult(0).replaceAllUsesWith(all);
    dot.erase();
    return true;
  }
  return false;
}
