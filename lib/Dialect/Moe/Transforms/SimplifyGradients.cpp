// SPDX-License-Identifier: Apache-2.0
// moe-simplify-gradients: algebra on a joint function. See Passes.td.
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Analysis/TopologicalSortUtils.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/CSE.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOESIMPLIFYGRADIENTS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

//===----------------------------------------------------------------------===//
// Rowwise products
//===----------------------------------------------------------------------===//

bool isPlain(PortAttr port, PortKind kind) {
  return port.getKind() == kind && port.getCount() == 1;
}

/// A rowwise op of two operands and one result that is `Op` of them.
template <typename Op>
bool isBinary(RowwiseOp op, PortKind result,
              RowOrder order = RowOrder::Grouped) {
  if (op.getOrder() != order || op.getIns().size() != 2 ||
      op.getNumResults() != 1 || !isPlain(op.outPort(0), result))
    return false;
  Block &block = op.getBody().front();
  if (llvm::range_size(block) != 2)
    return false;
  auto product = dyn_cast<Op>(block.front());
  auto yield = cast<YieldOp>(block.getTerminator());
  return product && yield.getOperand(0) == product &&
         ((product.getLhs() == block.getArgument(0) &&
           product.getRhs() == block.getArgument(1)) ||
          (product.getLhs() == block.getArgument(1) &&
           product.getRhs() == block.getArgument(0)));
}

/// rows * gate, by an op of one result.
struct Scaled {
  Value rows, gate;
};
std::optional<Scaled> getScaled(Operation *op, Value assignment) {
  auto rowwise = dyn_cast_or_null<RowwiseOp>(op);
  if (!rowwise || rowwise.getAssignment() != assignment ||
      !isBinary<arith::MulFOp>(rowwise, PortKind::Rows))
    return std::nullopt;
  for (unsigned i : {0, 1})
    if (isPlain(rowwise.inPort(i), PortKind::Rows) &&
        isPlain(rowwise.inPort(1 - i), PortKind::Scalar))
      return Scaled{rowwise.getIns()[i], rowwise.getIns()[1 - i]};
  return std::nullopt;
}

/// rows * gate, where the rows are a copy by group: scaling them makes a buffer
/// that reading them in place would not need.
std::optional<Scaled> getScaledGather(Value value, Value assignment) {
  auto scaled = getScaled(value.getDefiningOp(), assignment);
  auto group = scaled ? scaled->rows.getDefiningOp<GroupOp>() : nullptr;
  return group && group.getAssignment() == assignment ? scaled : std::nullopt;
}

/// A rowwise op that joins two operands by `Op`.
template <typename Op>
Value buildRowwise(OpBuilder &b, Location loc, Value assignment, Value x,
                   Value y, PortKind kindOfY, Type result,
                   PortKind kindOfResult, RowOrder order = RowOrder::Grouped) {
  MLIRContext *context = b.getContext();
  auto port = [&](PortKind kind) -> Attribute {
    return PortAttr::get(context, kind, order);
  };
  auto op = RowwiseOp::create(
      b, loc, TypeRange(result), order, assignment, ValueRange{x, y},
      b.getArrayAttr({port(PortKind::Rows), port(kindOfY)}),
      b.getArrayAttr(port(kindOfResult)));
  FloatType compute =
      *getComputeType({x.getType(), y.getType(), result}, context);
  OpBuilder::InsertionGuard guard(b);
  Block *block = b.createBlock(&op.getBody());
  Value u = block->addArgument(compute, loc);
  Value v = block->addArgument(compute, loc);
  YieldOp::create(b, loc, ValueRange(Op::create(b, loc, u, v).getResult()));
  return op.getResult(0);
}

/// A sum of a product of two operands, beside other results, becomes an op of
/// its own, which the patterns below know.
struct SplitDots : OpRewritePattern<RowwiseOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(RowwiseOp op,
                                PatternRewriter &rewriter) const override {
    if (op.getOrder() != RowOrder::Grouped || op.getNumResults() < 2)
      return failure();
    auto yield = cast<YieldOp>(op.getBody().front().getTerminator());
    for (unsigned i = 0; i < op.getNumResults(); ++i) {
      auto product =
          yield.getOperand(op.firstYield(i)).getDefiningOp<arith::MulFOp>();
      if (op.outPort(i).getKind() != PortKind::Sum || !product ||
          op.getResult(i).use_empty())
        continue;
      Value u = getRows(op, product.getLhs()),
            v = getRows(op, product.getRhs());
      if (!u || !v)
        continue;
      rewriter.replaceAllUsesWith(
          op.getResult(i),
          buildRowwise<arith::MulFOp>(
              rewriter, op.getLoc(), op.getAssignment(), u, v, PortKind::Rows,
              op.getResult(i).getType(), PortKind::Sum));
      return success();
    }
    return failure();
  }

  /// The operand of single columns that a region value is.
  static Value getRows(RowwiseOp op, Value value) {
    auto argument = dyn_cast<BlockArgument>(value);
    for (unsigned i = 0; argument && i < op.getIns().size(); ++i)
      if (op.firstArgument(i) == argument.getArgNumber() &&
          isPlain(op.inPort(i), PortKind::Rows))
        return op.getIns()[i];
    return nullptr;
  }
};

//===----------------------------------------------------------------------===//
// Gates move from the wide side of a product to the narrow one
//===----------------------------------------------------------------------===//

/// (gate * dO) W + b -> gate * (dO W) + b
struct MoveGatePastLinear : OpRewritePattern<ParallelLinearOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ParallelLinearOp op,
                                PatternRewriter &rewriter) const override {
    if (op.getFrom() != RowOrder::Grouped)
      return failure();
    auto scaled = getScaledGather(op.getLhs(), op.getAssignment());
    if (!scaled)
      return failure();
    // T*K rows have one type in either order.
    Value product = ParallelLinearOp::create(
        rewriter, op.getLoc(), op.getResult().getType(), scaled->rows,
        op.getWeights(), op.getAssignment(), Value(), RowOrder::Grouped,
        RowOrder::Grouped, op.getLayout());
    Value result = buildRowwise<arith::MulFOp>(
        rewriter, op.getLoc(), op.getAssignment(), product, scaled->gate,
        PortKind::Scalar, op.getResult().getType(), PortKind::Rows);
    if (op.getBias())
      result = buildRowwise<arith::AddFOp>(
          rewriter, op.getLoc(), op.getAssignment(), result, op.getBias(),
          PortKind::Expert, op.getResult().getType(), PortKind::Rows);
    if (op.getTo() == RowOrder::Slot)
      result = ScatterOp::create(rewriter, op.getLoc(), result.getType(),
                                 result, op.getAssignment());
    rewriter.replaceOp(op, result);
    return success();
  }
};

/// gate * (dH W) -> (gate * dH) W, where gate * dH is computed anyway and dH W
/// has no other reader.
struct MoveGateBeforeLinear : OpRewritePattern<RowwiseOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(RowwiseOp op,
                                PatternRewriter &rewriter) const override {
    Value assignment = op.getAssignment();
    auto scaled = assignment ? getScaled(op, assignment) : std::nullopt;
    auto product =
        scaled ? scaled->rows.getDefiningOp<ParallelLinearOp>() : nullptr;
    if (!product || product.getBias() || !product->hasOneUse() ||
        product.getAssignment() != assignment ||
        product.getFrom() != RowOrder::Grouped ||
        product.getTo() != RowOrder::Grouped)
      return failure();
    for (Operation *user : product.getLhs().getUsers()) {
      auto other = getScaled(user, assignment);
      if (!other || other->rows != product.getLhs() ||
          other->gate != scaled->gate)
        continue;
      Value lhs = cast<RowwiseOp>(user).getResult(0);
      if (lhs.getType() != product.getLhs().getType())
        continue;
      // In the product's place: where gate * dH lies is settled by sorting.
      rewriter.replaceOpWithNewOp<ParallelLinearOp>(
          op, op.getResult(0).getType(), lhs, product.getWeights(), assignment,
          Value(), RowOrder::Grouped, RowOrder::Grouped, product.getLayout());
      return success();
    }
    return failure();
  }
};

bool isTokenGather(Value rows) {
  auto group = rows.getDefiningOp<GroupOp>();
  return group && group.getFrom() == RowOrder::Token;
}

/// sum of (gate * dO) x A -> sum of dO x (gate * A), on either side
struct MoveGateInWeightGrad : OpRewritePattern<WeightGradOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(WeightGradOp op,
                                PatternRewriter &rewriter) const override {
    for (bool ofX : {false, true}) {
      OpOperand &from = ofX ? op.getXMutable() : op.getDyMutable();
      OpOperand &to = ofX ? op.getDyMutable() : op.getXMutable();
      RowOrder fromOrder = ofX ? op.getXFrom() : op.getDyFrom();
      RowOrder toOrder = ofX ? op.getDyFrom() : op.getXFrom();
      auto scaled = getScaledGather(from.get(), op.getAssignment());
      // Not between two gathers of token rows: it would go to and fro.
      if (fromOrder != RowOrder::Grouped || !scaled ||
          !isTokenGather(scaled->rows) || toOrder == RowOrder::Token ||
          isTokenGather(to.get()))
        continue;
      Value rows = to.get();
      if (toOrder == RowOrder::Slot)
        rows = GroupOp::create(rewriter, op.getLoc(), rows.getType(), rows,
                               op.getAssignment(), RowOrder::Slot);
      rows = buildRowwise<arith::MulFOp>(
          rewriter, op.getLoc(), op.getAssignment(), rows, scaled->gate,
          PortKind::Scalar, rows.getType(), PortKind::Rows);
      rewriter.modifyOpInPlace(op, [&] {
        from.set(scaled->rows);
        to.set(rows);
        ofX ? op.setDyFrom(RowOrder::Grouped) : op.setXFrom(RowOrder::Grouped);
      });
      return success();
    }
    return failure();
  }
};

//===----------------------------------------------------------------------===//
// Gates move out of sums of products
//===----------------------------------------------------------------------===//

/// rows * constant, by an op of one result; the constant.
std::optional<double> getConstantFactor(Operation *op, Value assignment) {
  auto rowwise = dyn_cast_or_null<RowwiseOp>(op);
  if (!rowwise || rowwise.getAssignment() != assignment ||
      rowwise.getOrder() != RowOrder::Grouped || rowwise.getIns().size() != 1 ||
      rowwise.getNumResults() != 1 ||
      !isPlain(rowwise.inPort(0), PortKind::Rows) ||
      !isPlain(rowwise.outPort(0), PortKind::Rows))
    return std::nullopt;
  Block &block = rowwise.getBody().front();
  auto product =
      block.getTerminator()->getOperand(0).getDefiningOp<arith::MulFOp>();
  if (!product || llvm::range_size(block) != 3)
    return std::nullopt;
  for (auto [value, other] : {std::pair(product.getLhs(), product.getRhs()),
                              {product.getRhs(), product.getLhs()}}) {
    FloatAttr factor;
    if (other == block.getArgument(0) &&
        matchPattern(value, m_Constant(&factor)))
      return factor.getValueAsDouble();
  }
  return std::nullopt;
}

bool isSumOfRows(Operation *op, Value assignment,
                 RowOrder order = RowOrder::Grouped) {
  auto sum = dyn_cast_or_null<RowwiseOp>(op);
  return sum && sum.getAssignment() == assignment &&
         isBinary<arith::AddFOp>(sum, PortKind::Rows, order) &&
         isPlain(sum.inPort(0), PortKind::Rows) &&
         isPlain(sum.inPort(1), PortKind::Rows);
}

/// scatter(x) + (dY W to slot rows) -> scatter(x + dY W): products meet where
/// gates leave sums. Rows without an expert are zero either way.
struct AddBeforeScatter : OpRewritePattern<RowwiseOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(RowwiseOp op,
                                PatternRewriter &rewriter) const override {
    Value assignment = op.getAssignment();
    if (!assignment || !isSumOfRows(op, assignment, RowOrder::Slot) ||
        op.getIns()[0] == op.getIns()[1])
      return failure();
    bool scatters = false;
    for (Value term : op.getIns()) {
      auto scatter = term.getDefiningOp<ScatterOp>();
      auto linear = term.getDefiningOp<ParallelLinearOp>();
      scatters |= bool(scatter);
      if (!term.hasOneUse() || !(scatter || linear) ||
          (scatter ? scatter.getAssignment() : linear.getAssignment()) !=
              assignment)
        return failure();
    }
    if (!scatters)
      return failure();
    SmallVector<Value> terms;
    for (Value term : op.getIns()) {
      if (auto scatter = term.getDefiningOp<ScatterOp>()) {
        terms.push_back(scatter.getRows());
        continue;
      }
      auto linear = term.getDefiningOp<ParallelLinearOp>();
      rewriter.modifyOpInPlace(linear,
                               [&] { linear.setTo(RowOrder::Grouped); });
      terms.push_back(linear.getResult());
    }
    Value sum = buildRowwise<arith::AddFOp>(
        rewriter, op.getLoc(), assignment, terms[0], terms[1], PortKind::Rows,
        op.getResult(0).getType(), PortKind::Rows);
    rewriter.replaceOpWithNewOp<ScatterOp>(op, sum.getType(), sum, assignment);
    return success();
  }
};

/// gate * (dO W) + (c * gate * (dO B)) A -> gate * (dO W + (c * (dO B)) A):
/// the two products can share an accumulator, and the sum is what d-gate reads.
struct MoveGateOutOfSum : OpRewritePattern<RowwiseOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(RowwiseOp op,
                                PatternRewriter &rewriter) const override {
    Value assignment = op.getAssignment();
    if (!assignment || !isSumOfRows(op, assignment))
      return failure();
    Value gate;
    for (Value term : op.getIns())
      if (auto scaled = getScaled(term.getDefiningOp(), assignment))
        gate = scaled->gate;
    if (!gate || op.getIns()[0] == op.getIns()[1])
      return failure();
    bool products = false;
    for (Value term : op.getIns())
      if (!canDivide(term, assignment, gate, products))
        return failure();
    if (!products)
      return failure();
    SmallVector<Value> terms;
    for (Value term : op.getIns())
      terms.push_back(divide(rewriter, term, assignment, gate));
    rewriter.setInsertionPoint(op);
    Value sum = buildRowwise<arith::AddFOp>(
        rewriter, op.getLoc(), assignment, terms[0], terms[1], PortKind::Rows,
        op.getResult(0).getType(), PortKind::Rows);
    rewriter.replaceOp(
        op, buildRowwise<arith::MulFOp>(rewriter, op.getLoc(), assignment, sum,
                                        gate, PortKind::Scalar, sum.getType(),
                                        PortKind::Rows));
    return success();
  }

  /// Whether the rows are gate * others, of which nobody but sums over the
  /// experts' rows needs both. `products`: through a product.
  static bool canDivide(Value rows, Value assignment, Value gate,
                        bool &products) {
    Operation *op = rows.getDefiningOp();
    if (auto scaled = getScaled(op, assignment))
      return scaled->gate == gate;
    if (auto linear = dyn_cast_or_null<ParallelLinearOp>(op)) {
      products = true;
      Value lhs = linear.getLhs();
      return linear.getAssignment() == assignment && !linear.getBias() &&
             linear.getFrom() == RowOrder::Grouped &&
             linear.getTo() == RowOrder::Grouped && linear->hasOneUse() &&
             // Gathers are read in place, by MoveGatePastLinear.
             !getScaledGather(lhs, assignment) &&
             llvm::all_of(lhs.getUses(),
                          [&](OpOperand &use) {
                            return use.getOwner() == op ||
                                   canScaleOtherSide(use, assignment);
                          }) &&
             canDivide(lhs, assignment, gate, products);
    }
    return getConstantFactor(op, assignment) &&
           canDivide(cast<RowwiseOp>(op).getIns()[0], assignment, gate,
                     products);
  }

  static bool canScaleOtherSide(OpOperand &use, Value assignment) {
    auto grad = dyn_cast<WeightGradOp>(use.getOwner());
    if (!grad || grad.getAssignment() != assignment ||
        grad.getX() == grad.getDy())
      return false;
    bool ofX = use.get() == grad.getX();
    RowOrder order = ofX ? grad.getXFrom() : grad.getDyFrom();
    RowOrder otherOrder = ofX ? grad.getDyFrom() : grad.getXFrom();
    return order == RowOrder::Grouped && otherOrder != RowOrder::Token &&
           !isTokenGather(ofX ? grad.getDy() : grad.getX());
  }

  /// The rows without the gate.
  static Value divide(PatternRewriter &rewriter, Value rows, Value assignment,
                      Value gate) {
    Operation *op = rows.getDefiningOp();
    if (auto scaled = getScaled(op, assignment))
      return scaled->rows;
    auto linear = dyn_cast<ParallelLinearOp>(op);
    OpOperand &from = linear ? linear.getLhsMutable()
                             : cast<RowwiseOp>(op).getInsMutable()[0];
    Value divided = divide(rewriter, from.get(), assignment, gate);
    if (linear)
      for (OpOperand &use : llvm::make_early_inc_range(from.get().getUses()))
        if (auto grad = dyn_cast<WeightGradOp>(use.getOwner())) {
          bool ofX = use.get() == grad.getX();
          OpOperand &other = ofX ? grad.getDyMutable() : grad.getXMutable();
          rewriter.setInsertionPoint(grad);
          Value scaled = other.get();
          if ((ofX ? grad.getDyFrom() : grad.getXFrom()) == RowOrder::Slot)
            scaled = GroupOp::create(rewriter, grad.getLoc(), scaled.getType(),
                                     scaled, assignment, RowOrder::Slot);
          scaled = buildRowwise<arith::MulFOp>(
              rewriter, grad.getLoc(), assignment, scaled, gate,
              PortKind::Scalar, scaled.getType(), PortKind::Rows);
          rewriter.modifyOpInPlace(grad, [&] {
            other.set(scaled);
            use.set(divided);
            ofX ? grad.setDyFrom(RowOrder::Grouped)
                : grad.setXFrom(RowOrder::Grouped);
          });
        }
    rewriter.setInsertionPoint(op);
    IRMapping map;
    map.map(from.get(), divided);
    return rewriter.clone(*op, map)->getResult(0);
  }
};

//===----------------------------------------------------------------------===//
// The gradient of a gate
//===----------------------------------------------------------------------===//

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
  if (!op || op.getAssignment() != assignment ||
      !isBinary<arith::AddFOp>(op, PortKind::Rows, y.order) ||
      !isPlain(op.inPort(0), PortKind::Rows) ||
      !isPlain(op.inPort(1), PortKind::Rows))
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

/// The gradient of a gate on the output.
bool moveGateGradient(RowwiseOp dot) {
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

//===----------------------------------------------------------------------===//
// Products read rows where they lie
//===----------------------------------------------------------------------===//

/// For ops that read the rows of experts alone: through scatters, and through
/// slot rows that were made zero where there is no expert; with `Groups`, which
/// ends all matching on groups, through those too.
template <bool Groups> struct ReadInPlace {
  template <typename Op, typename SetOrder>
  static LogicalResult fold(Op op, OpOperand &rows, RowOrder order,
                            SetOrder setOrder, PatternRewriter &rewriter) {
    Value source;
    RowOrder from = RowOrder::Grouped;
    Operation *producer = rows.get().getDefiningOp();
    if (auto group = dyn_cast_or_null<GroupOp>(producer)) {
      if (Groups && order == RowOrder::Grouped &&
          group.getAssignment() == op.getAssignment()) {
        source = group.getRows();
        from = group.getFrom();
      }
    } else if (auto scatter = dyn_cast_or_null<ScatterOp>(producer)) {
      if (order == RowOrder::Slot &&
          scatter.getAssignment() == op.getAssignment())
        source = scatter.getRows();
    } else if (auto copy = dyn_cast_or_null<RowwiseOp>(producer)) {
      if (order == RowOrder::Slot &&
          copy.getAssignment() == op.getAssignment() && isCopy(copy)) {
        source = copy.getIns()[0];
        from = RowOrder::Slot;
      }
    }
    if (!source)
      return failure();
    rewriter.modifyOpInPlace(op, [&] {
      rows.set(source);
      setOrder(from);
    });
    return success();
  }

  static bool isCopy(RowwiseOp op) {
    auto yield = cast<YieldOp>(op.getBody().front().getTerminator());
    return op.getIns().size() == 1 && op.getNumResults() == 1 &&
           op.inPort(0) == op.outPort(0) &&
           op.getIns()[0].getType() == op.getResult(0).getType() &&
           yield.getOperands() == ValueRange(op.getBody().getArguments());
  }
};

template <bool Groups>
struct LinearReadsInPlace : OpRewritePattern<ParallelLinearOp> {
  using OpRewritePattern<ParallelLinearOp>::OpRewritePattern;
  LogicalResult matchAndRewrite(ParallelLinearOp op,
                                PatternRewriter &rewriter) const override {
    return ReadInPlace<Groups>::fold(
        op, op.getLhsMutable(), op.getFrom(),
        [&](RowOrder from) { op.setFrom(from); }, rewriter);
  }
};

template <bool Groups>
struct WeightGradReadsInPlace : OpRewritePattern<WeightGradOp> {
  using OpRewritePattern<WeightGradOp>::OpRewritePattern;
  LogicalResult matchAndRewrite(WeightGradOp op,
                                PatternRewriter &rewriter) const override {
    if (succeeded(ReadInPlace<Groups>::fold(
            op, op.getXMutable(), op.getXFrom(),
            [&](RowOrder from) { op.setXFrom(from); }, rewriter)))
      return success();
    return ReadInPlace<Groups>::fold(
        op, op.getDyMutable(), op.getDyFrom(),
        [&](RowOrder from) { op.setDyFrom(from); }, rewriter);
  }
};

template <bool Groups>
struct ExpertSumReadsInPlace : OpRewritePattern<ExpertSumOp> {
  using OpRewritePattern<ExpertSumOp>::OpRewritePattern;
  LogicalResult matchAndRewrite(ExpertSumOp op,
                                PatternRewriter &rewriter) const override {
    return ReadInPlace<Groups>::fold(
        op, op.getRowsMutable(), op.getFrom(),
        [&](RowOrder from) { op.setFrom(from); }, rewriter);
  }
};

//===----------------------------------------------------------------------===//
// Sums of paths
//===----------------------------------------------------------------------===//

/// The assignment of rows that grouped, or slot, order: their rows without an
/// expert are unspecified, or zero.
std::pair<Value, RowOrder> getRowsOf(Value value) {
  if (auto linear = value.getDefiningOp<ParallelLinearOp>())
    return {linear.getAssignment(), linear.getTo()};
  if (auto rowwise = value.getDefiningOp<RowwiseOp>())
    return {rowwise.getAssignment(), rowwise.getOrder()};
  if (auto group = value.getDefiningOp<GroupOp>())
    return {group.getAssignment(), RowOrder::Grouped};
  return {};
}

/// Sums of rows are rowwise ops, which kernels take in.
struct AddRows : OpRewritePattern<arith::AddFOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(arith::AddFOp op,
                                PatternRewriter &rewriter) const override {
    auto type = dyn_cast<RankedTensorType>(op.getType());
    auto [assignment, order] = getRowsOf(op.getLhs());
    if (!type || type.getRank() != 2 || !assignment ||
        getRowsOf(op.getRhs()) != std::pair(assignment, order) ||
        order == RowOrder::Token ||
        (order == RowOrder::Slot &&
         type.getDimSize(1) == getAssignmentType(assignment).getK()))
      return failure();
    rewriter.replaceOp(op, buildRowwise<arith::AddFOp>(
                               rewriter, op.getLoc(), assignment, op.getLhs(),
                               op.getRhs(), PortKind::Rows, type,
                               PortKind::Rows, order));
    return success();
  }
};

struct MergeSums : OpRewritePattern<arith::AddFOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(arith::AddFOp op,
                                PatternRewriter &rewriter) const override {
    Operation *x = op.getLhs().getDefiningOp();
    Operation *y = op.getRhs().getDefiningOp();
    if (!x || !y || x == y || !x->hasOneUse() || !y->hasOneUse())
      return failure();
    // combine(a) + combine(b) -> combine(a + b)
    auto first = dyn_cast<CombineOp>(x), second = dyn_cast<CombineOp>(y);
    if (first && second) {
      if (first.getGates() || second.getGates() ||
          first.getFrom() != RowOrder::Grouped ||
          second.getFrom() != RowOrder::Grouped ||
          first.getAssignment() != second.getAssignment() ||
          cast<ShapedType>(op.getType()).getRank() != 2)
        return failure();
      Value sum = buildRowwise<arith::AddFOp>(
          rewriter, op.getLoc(), first.getAssignment(), first.getRows(),
          second.getRows(), PortKind::Rows, first.getRows().getType(),
          PortKind::Rows);
      rewriter.replaceOpWithNewOp<CombineOp>(op, op.getType(), sum,
                                             first.getAssignment(), Value(),
                                             RowOrder::Grouped);
      return success();
    }
    // sum of products + sum of products -> the second onto the first
    auto into = dyn_cast<WeightGradOp>(x), onto = dyn_cast<WeightGradOp>(y);
    if (!into || !onto || onto.getBuffer())
      return failure();
    rewriter.replaceOpWithNewOp<WeightGradOp>(
        op, op.getType(), onto.getX(), onto.getDy(), onto.getAssignment(),
        into.getResult(), onto.getXFrom(), onto.getDyFrom(), onto.getLayout());
    return success();
  }
};

struct MoeSimplifyGradients
    : moe::impl::MoeSimplifyGradientsBase<MoeSimplifyGradients> {
  template <typename... Patterns> LogicalResult apply() {
    RewritePatternSet patterns(&getContext());
    patterns.add<Patterns...>(&getContext());
    // What nobody reads any more goes, but rowwise ops stay small: the patterns
    // know them so, and what lies between two of them may be kept for backward.
    RowwiseOp::getCanonicalizationPatterns(patterns, &getContext());
    FrozenRewritePatternSet frozen(std::move(patterns), {"compose-rowwise"});
    return applyPatternsGreedily(getOperation(), frozen);
  }

  void runOnOperation() override {
    func::FuncOp function = getOperation();
    if (function.isExternal())
      return;
    IRRewriter rewriter(&getContext());
    DominanceInfo dominance(function);
    eliminateCommonSubExpressions(rewriter, dominance, function);
    // In this order: the gate has to leave dO before <dO W, A> can be found,
    // and a group is folded away only when nothing matches on it any more.
    if (failed(
            apply<SplitDots, MoveGatePastLinear, MoveGateInWeightGrad, AddRows,
                  LinearReadsInPlace<false>, WeightGradReadsInPlace<false>,
                  ExpertSumReadsInPlace<false>>()))
      return signalPassFailure();
    if (failed(apply<AddBeforeScatter, MoveGateOutOfSum>()))
      return signalPassFailure();
    SmallVector<RowwiseOp> dots;
    function.walk([&](RowwiseOp op) { dots.push_back(op); });
    for (RowwiseOp op : dots)
      moveGateGradient(op);
    if (failed(apply<MoveGateBeforeLinear>()))
      return signalPassFailure();
    for (Block &block : function.getBody())
      sortTopologically(&block);
    if (failed(apply<LinearReadsInPlace<true>, WeightGradReadsInPlace<true>,
                     ExpertSumReadsInPlace<true>, MergeSums>()))
      return signalPassFailure();
    DominanceInfo again(function);
    eliminateCommonSubExpressions(rewriter, again, function);
  }
};

} // namespace
