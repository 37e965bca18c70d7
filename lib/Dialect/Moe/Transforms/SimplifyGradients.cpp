// SPDX-License-Identifier: Apache-2.0
// moe-simplify-gradients: algebra on a joint function. See Passes.td.
#include "SimplifyGradients.h"
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

//===----------------------------------------------------------------------===//
// Rowwise products and sums
//===----------------------------------------------------------------------===//

std::optional<double> mlir::moe::getConstantFactor(Operation *op,
                                                   Value assignment) {
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

bool mlir::moe::isSumOfRows(Operation *op, Value assignment, RowOrder order) {
  auto sum = dyn_cast_or_null<RowwiseOp>(op);
  return sum && sum.getAssignment() == assignment &&
         isBinary<arith::AddFOp>(sum, PortKind::Rows, order) &&
         isPlain(sum.inPort(0), PortKind::Rows) &&
         isPlain(sum.inPort(1), PortKind::Rows);
}

namespace {

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
