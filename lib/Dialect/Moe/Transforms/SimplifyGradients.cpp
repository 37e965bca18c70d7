// SPDX-License-Identifier: Apache-2.0
// moe-simplify-gradients: algebra on a joint function. See Passes.td.
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Analysis/TopologicalSortUtils.h"
#include "mlir/IR/Dominance.h"
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

/// A grouped rowwise op of two operands and one result that is their product.
bool isProduct(RowwiseOp op, PortKind result) {
  if (op.getOrder() != RowOrder::Grouped || op.getIns().size() != 2 ||
      op.getNumResults() != 1 || !isPlain(op.outPort(0), result) ||
      !isPlain(op.inPort(0), PortKind::Rows))
    return false;
  Block &block = op.getBody().front();
  if (llvm::range_size(block) != 2)
    return false;
  auto product = dyn_cast<arith::MulFOp>(block.front());
  auto yield = cast<YieldOp>(block.getTerminator());
  return product && yield.getOperand(0) == product &&
         ((product.getLhs() == block.getArgument(0) &&
           product.getRhs() == block.getArgument(1)) ||
          (product.getLhs() == block.getArgument(1) &&
           product.getRhs() == block.getArgument(0)));
}

/// rows * gate, where the rows are a copy by group: scaling them makes a buffer
/// that reading them in place would not need.
RowwiseOp getScaledGather(Value value, Value assignment) {
  auto op = value.getDefiningOp<RowwiseOp>();
  if (!op || op.getAssignment() != assignment ||
      !isProduct(op, PortKind::Rows) ||
      !isPlain(op.inPort(1), PortKind::Scalar))
    return nullptr;
  auto group = op.getIns()[0].getDefiningOp<GroupOp>();
  return group && group.getAssignment() == assignment ? op : nullptr;
}

/// A grouped rowwise op that joins two operands by `Op`.
template <typename Op>
Value buildRowwise(OpBuilder &b, Location loc, Value assignment, Value x,
                   Value y, PortKind kindOfY, Type result,
                   PortKind kindOfResult) {
  MLIRContext *context = b.getContext();
  auto port = [&](PortKind kind) -> Attribute {
    return PortAttr::get(context, kind, RowOrder::Grouped);
  };
  auto op = RowwiseOp::create(
      b, loc, TypeRange(result), RowOrder::Grouped, assignment,
      ValueRange{x, y}, b.getArrayAttr({port(PortKind::Rows), port(kindOfY)}),
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

//===----------------------------------------------------------------------===//
// Gates move from the wide side of a product to the narrow one
//===----------------------------------------------------------------------===//

/// (gate * dO) W -> gate * (dO W)
struct MoveGatePastLinear : OpRewritePattern<ParallelLinearOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ParallelLinearOp op,
                                PatternRewriter &rewriter) const override {
    if (op.getBias() || op.getFrom() != RowOrder::Grouped ||
        op.getTo() != RowOrder::Grouped)
      return failure();
    RowwiseOp scaled = getScaledGather(op.getLhs(), op.getAssignment());
    if (!scaled)
      return failure();
    Value product = ParallelLinearOp::create(
        rewriter, op.getLoc(), op.getResult().getType(), scaled.getIns()[0],
        op.getWeights(), op.getAssignment(), Value(), RowOrder::Grouped,
        RowOrder::Grouped, op.getLayout());
    rewriter.replaceOp(op, buildRowwise<arith::MulFOp>(
                               rewriter, op.getLoc(), op.getAssignment(),
                               product, scaled.getIns()[1], PortKind::Scalar,
                               op.getResult().getType(), PortKind::Rows));
    return success();
  }
};

/// sum of (gate * dO) x A -> sum of dO x (gate * A)
struct MoveGateInWeightGrad : OpRewritePattern<WeightGradOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(WeightGradOp op,
                                PatternRewriter &rewriter) const override {
    if (op.getXFrom() != RowOrder::Grouped ||
        op.getDyFrom() != RowOrder::Grouped)
      return failure();
    RowwiseOp scaled = getScaledGather(op.getDy(), op.getAssignment());
    if (!scaled)
      return failure();
    Value x = buildRowwise<arith::MulFOp>(rewriter, op.getLoc(),
                                          op.getAssignment(), op.getX(),
                                          scaled.getIns()[1], PortKind::Scalar,
                                          op.getX().getType(), PortKind::Rows);
    rewriter.modifyOpInPlace(op, [&] {
      op.getXMutable().assign(x);
      op.getDyMutable().assign(scaled.getIns()[0]);
    });
    return success();
  }
};

//===----------------------------------------------------------------------===//
// The gradient of a gate
//===----------------------------------------------------------------------===//

/// The product whose grouped rows `y` are.
ParallelLinearOp getProduct(Value y, Value assignment) {
  if (auto group = y.getDefiningOp<GroupOp>())
    if (group.getFrom() == RowOrder::Slot &&
        group.getAssignment() == assignment) {
      auto linear = group.getRows().getDefiningOp<ParallelLinearOp>();
      if (linear && linear.getTo() == RowOrder::Slot &&
          linear.getAssignment() == assignment)
        return linear;
    }
  auto linear = y.getDefiningOp<ParallelLinearOp>();
  if (linear && linear.getTo() == RowOrder::Grouped &&
      linear.getAssignment() == assignment)
    return linear;
  return nullptr;
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

/// <dO, Y> -> <dO W, A> (+ <dO, b[e]>), where Y = A W^T (+ b).
bool moveGateGradient(RowwiseOp dot) {
  if (!dot.getAssignment() || !isProduct(dot, PortKind::Sum) ||
      !isPlain(dot.inPort(1), PortKind::Rows))
    return false;
  for (unsigned i : {1, 0}) {
    Value y = dot.getIns()[i], dO = dot.getIns()[1 - i];
    ParallelLinearOp forward = getProduct(y, dot.getAssignment());
    if (!forward)
      continue;
    ParallelLinearOp backward = findBackward(dO, forward);
    if (!backward)
      continue;
    OpBuilder b(dot);
    Location loc = dot.getLoc();
    Value a = forward.getLhs();
    if (forward.getFrom() != RowOrder::Grouped)
      a = GroupOp::create(b, loc, backward.getResult().getType(), a,
                          dot.getAssignment(), forward.getFrom());
    Type type = dot.getResult(0).getType();
    Value sum = buildRowwise<arith::MulFOp>(
        b, loc, dot.getAssignment(), backward.getResult(), a, PortKind::Rows,
        type, PortKind::Sum);
    if (forward.getBias())
      sum = arith::AddFOp::create(
          b, loc, sum,
          buildRowwise<arith::MulFOp>(b, loc, dot.getAssignment(), dO,
                                      forward.getBias(), PortKind::Expert, type,
                                      PortKind::Sum));
    dot.getResult(0).replaceAllUsesWith(sum);
    dot.erase();
    return true;
  }
  return false;
}

//===----------------------------------------------------------------------===//
// Products read rows where they lie
//===----------------------------------------------------------------------===//

struct ReadInPlace {
  template <typename Op, typename SetOrder>
  static LogicalResult fold(Op op, OpOperand &rows, RowOrder order,
                            SetOrder setOrder, PatternRewriter &rewriter) {
    auto group = rows.get().getDefiningOp<GroupOp>();
    if (order != RowOrder::Grouped || !group ||
        group.getAssignment() != op.getAssignment())
      return failure();
    rewriter.modifyOpInPlace(op, [&] {
      rows.set(group.getRows());
      setOrder(group.getFrom());
    });
    return success();
  }
};

struct LinearReadsInPlace : OpRewritePattern<ParallelLinearOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ParallelLinearOp op,
                                PatternRewriter &rewriter) const override {
    return ReadInPlace::fold(
        op, op.getLhsMutable(), op.getFrom(),
        [&](RowOrder from) { op.setFrom(from); }, rewriter);
  }
};

struct WeightGradReadsInPlace : OpRewritePattern<WeightGradOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(WeightGradOp op,
                                PatternRewriter &rewriter) const override {
    if (succeeded(ReadInPlace::fold(
            op, op.getXMutable(), op.getXFrom(),
            [&](RowOrder from) { op.setXFrom(from); }, rewriter)))
      return success();
    return ReadInPlace::fold(
        op, op.getDyMutable(), op.getDyFrom(),
        [&](RowOrder from) { op.setDyFrom(from); }, rewriter);
  }
};

struct ExpertSumReadsInPlace : OpRewritePattern<ExpertSumOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ExpertSumOp op,
                                PatternRewriter &rewriter) const override {
    return ReadInPlace::fold(
        op, op.getRowsMutable(), op.getFrom(),
        [&](RowOrder from) { op.setFrom(from); }, rewriter);
  }
};

//===----------------------------------------------------------------------===//
// Sums of paths
//===----------------------------------------------------------------------===//

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
    return applyPatternsGreedily(getOperation(), std::move(patterns));
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
    if (failed(apply<MoveGatePastLinear, MoveGateInWeightGrad>()))
      return signalPassFailure();
    SmallVector<RowwiseOp> dots;
    function.walk([&](RowwiseOp op) { dots.push_back(op); });
    bool moved = false;
    for (RowwiseOp op : dots)
      moved |= moveGateGradient(op);
    if (moved)
      for (Block &block : function.getBody())
        sortTopologically(&block);
    if (failed(apply<LinearReadsInPlace, WeightGradReadsInPlace,
                     ExpertSumReadsInPlace, MergeSums>()))
      return signalPassFailure();
    DominanceInfo again(function);
    eliminateCommonSubExpressions(rewriter, again, function);
  }
};

} // namespace
