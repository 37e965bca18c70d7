// SPDX-License-Identifier: Apache-2.0
// The derivative of moe.route_grad, for second derivatives. Its value is built
// again from ops that have derivatives themselves (dense math over tokens,
// choices and experts, and the scores and gates of routes), and that is
// differentiated: so derivatives of every order follow.
#include "DifferentiateModels.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// The value of a route_grad, from differentiable parts.
class Parts {
public:
  Parts(RouteGradOp op, OpBuilder &builder)
      : op(op), b(builder), loc(op.getLoc()) {
    compute = getComputeType(getElementTypeOrSelf(op.getLogits()));
    tokens = cast<ShapedType>(op.getLogits().getType()).getDimSize(0);
    experts = cast<ShapedType>(op.getLogits().getType()).getDimSize(1);
    choices = cast<ShapedType>(op.getIds().getType()).getDimSize(1);
  }

  Value build() {
    bool late = op.getRouteOrder() == RouteOrder::TopKThenScore;
    bool identity = op.getScore() == Score::Identity;
    Value scores;
    if (!identity && (!late || op.getDScores()))
      scores = routeScores(op.getScore());
    // Cotangents of the chosen scores.
    Value h =
        map({buildCast(b, loc, op.getDGates(), compute)}, tk(), "tk", {"tk"},
            [&](OpBuilder &b, ValueRange v) -> Value {
              return arith::MulFOp::create(
                  b, loc, v[0], constant(b, op.getScale().convertToDouble()));
            });
    Value chosen;
    if (late && !identity)
      chosen = lateGates();
    else if (!identity)
      chosen = gather(scores);
    if (op.getNormalize()) {
      Value sum = map({chosen}, t(), "tk", {"tk"}, first, "t");
      Value dot = map({h, chosen}, t(), "tk", {"tk", "tk"}, times, "t");
      h = map({h, dot, sum}, tk(), "tk", {"tk", "t", "t"},
              [&](OpBuilder &b, ValueRange v) -> Value {
                Value s = arith::AddFOp::create(
                    b, loc, v[2], constant(b, op.getEps().convertToDouble()));
                // A token without gates has no sum.
                Value empty = arith::CmpFOp::create(
                    b, loc, arith::CmpFPredicate::OEQ, s, constant(b, 0.0));
                s = arith::SelectOp::create(b, loc, empty, constant(b, 1.0), s);
                Value mean = arith::DivFOp::create(b, loc, v[1], s);
                Value rest = arith::SubFOp::create(b, loc, v[0], mean);
                return arith::DivFOp::create(b, loc, rest, s);
              });
    }
    Value total;
    Value dScores = op.getDScores();
    if (dScores)
      dScores = buildCast(b, loc, dScores, compute);
    if (late) {
      if (!identity)
        h = ofScore(chosen, h, tk(), "tk");
      total = scatter(h);
      if (identity)
        total = add(total, dScores);
      else if (dScores)
        total = add(total, ofScore(scores, dScores, te(), "te"));
    } else {
      total = add(scatter(h), dScores);
      if (!identity)
        total = ofScore(scores, total, te(), "te");
    }
    if (identity)
      total = map({total, alive()}, te(), "te", {"te", "te"}, times);
    if (op.getDLogsumexp()) {
      Value p = scores && op.getScore() == Score::Softmax
                    ? scores
                    : routeScores(Score::Softmax);
      Value d = buildCast(b, loc, op.getDLogsumexp(), compute);
      total = add(total, map({p, d}, te(), "te", {"te", "t"}, times));
    }
    return buildCast(b, loc, total, getElementTypeOrSelf(op.getDLogits()));
  }

private:
  RouteGradOp op;
  OpBuilder &b;
  Location loc;
  FloatType compute;
  int64_t tokens, experts, choices;

  RankedTensorType t() { return RankedTensorType::get({tokens}, compute); }
  RankedTensorType tk() {
    return RankedTensorType::get({tokens, choices}, compute);
  }
  RankedTensorType te() {
    return RankedTensorType::get({tokens, experts}, compute);
  }

  static Value times(OpBuilder &b, ValueRange v) {
    return arith::MulFOp::create(b, v[0].getLoc(), v[0], v[1]);
  }
  static Value first(OpBuilder &, ValueRange v) { return v[0]; }
  Value constant(OpBuilder &b, double value) {
    return arith::ConstantOp::create(b, loc, b.getFloatAttr(compute, value));
  }

  /// Dense math over the loops named by `loops` (t first); operands and result
  /// name the loops they have. Loops that the result lacks are summed.
  Value map(ValueRange ins, RankedTensorType type, StringRef loops,
            ArrayRef<StringRef> maps,
            function_ref<Value(OpBuilder &, ValueRange)> body,
            StringRef result = "") {
    if (result.empty())
      result = loops;
    auto toMap = [&](StringRef names) {
      SmallVector<AffineExpr> exprs;
      for (char name : names)
        exprs.push_back(b.getAffineDimExpr(loops.find(name)));
      return AffineMap::get(loops.size(), 0, exprs, b.getContext());
    };
    SmallVector<AffineMap> affine;
    for (StringRef names : maps)
      affine.push_back(toMap(names));
    affine.push_back(toMap(result));
    SmallVector<utils::IteratorType> iterators;
    for (char name : loops)
      iterators.push_back(result.contains(name)
                              ? utils::IteratorType::parallel
                              : utils::IteratorType::reduction);
    Value init = emptyOf(type);
    bool sums = result.size() < loops.size();
    if (sums) {
      Value zero = constant(b, 0.0);
      init = linalg::FillOp::create(b, loc, zero, init).getResult(0);
    }
    return linalg::GenericOp::create(
               b, loc, TypeRange(type), ins, ValueRange(init), affine,
               iterators,
               [&](OpBuilder &b, Location loc, ValueRange v) {
                 Value value = body(b, v.drop_back());
                 if (sums)
                   value = arith::AddFOp::create(b, loc, v.back(), value);
                 linalg::YieldOp::create(b, loc, value);
               })
        .getResult(0);
  }

  Value emptyOf(RankedTensorType type) {
    SmallVector<Value> sizes;
    if (type.isDynamicDim(0))
      sizes.push_back(
          tensor::DimOp::create(b, loc, op.getDGates(), 0).getResult());
    return tensor::EmptyOp::create(b, loc, type, sizes);
  }

  Value add(Value x, Value y) {
    if (!y)
      return x;
    return arith::AddFOp::create(b, loc, x, y);
  }

  Value isChosen(OpBuilder &b, Value id, unsigned loop) {
    Value expert = linalg::IndexOp::create(b, loc, loop);
    expert = arith::IndexCastOp::create(b, loc, id.getType(), expert);
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, id, expert);
  }
  /// (T, K): the chosen experts' values; 0 for a sentinel.
  Value gather(Value values) {
    return map(
        {values, op.getIds()}, tk(), "tke", {"te", "tk"},
        [&](OpBuilder &b, ValueRange v) -> Value {
          return arith::SelectOp::create(b, loc, isChosen(b, v[1], 2), v[0],
                                         constant(b, 0.0));
        },
        "tk");
  }
  /// (T, E): each expert's sum over the slots that chose it.
  Value scatter(Value values) {
    return map(
        {values, op.getIds()}, te(), "tke", {"tk", "tk"},
        [&](OpBuilder &b, ValueRange v) -> Value {
          return arith::SelectOp::create(b, loc, isChosen(b, v[1], 2), v[0],
                                         constant(b, 0.0));
        },
        "te");
  }

  /// Through a score of value s: from its cotangent to the logits'.
  Value ofScore(Value s, Value g, RankedTensorType type, StringRef loops) {
    if (op.getScore() == Score::Sigmoid)
      return map({s, g}, type, loops, {loops, loops},
                 [&](OpBuilder &b, ValueRange v) -> Value {
                   Value rest =
                       arith::SubFOp::create(b, loc, constant(b, 1.0), v[0]);
                   Value slope = arith::MulFOp::create(b, loc, v[0], rest);
                   return arith::MulFOp::create(b, loc, v[1], slope);
                 });
    Value dot = map({s, g}, t(), loops, {loops, loops}, times, "t");
    return map({s, g, dot}, type, loops, {loops, loops, "t"},
               [&](OpBuilder &b, ValueRange v) -> Value {
                 Value rest = arith::SubFOp::create(b, loc, v[1], v[2]);
                 return arith::MulFOp::create(b, loc, v[0], rest);
               });
  }

  RouteOp route(Score score, RouteOrder order, Type scores) {
    return RouteOp::create(b, loc, tk(), op.getIds().getType(), scores, Type(),
                           op.getLogits(), Value(), Value(), op.getIds(), score,
                           order, false, APFloat(0.0), APFloat(1.0), 1, 1, 1,
                           MaskedGroups::NegInf, IntegerAttr(), Drop::Position);
  }
  /// Scores of all experts; 0 for a token without a finite logit.
  Value routeScores(Score score) {
    return route(score, RouteOrder::ScoreThenTopK, te()).getScores();
  }
  /// The score over the chosen logits alone, neither normalised nor scaled.
  Value lateGates() {
    return route(op.getScore(), RouteOrder::TopKThenScore, Type()).getGates();
  }
  /// (T, E): 1 for tokens with a finite logit, else 0: what route_grad makes of
  /// ones.
  Value alive() {
    Value one = constant(b, 1.0);
    Value ones =
        linalg::FillOp::create(b, loc, one, emptyOf(te())).getResult(0);
    Value none = linalg::FillOp::create(b, loc, constant(b, 0.0), emptyOf(tk()))
                     .getResult(0);
    return RouteGradOp::create(b, loc, te(), op.getLogits(), op.getIds(), none,
                               ones, Value(), Score::Identity,
                               RouteOrder::ScoreThenTopK, false, APFloat(0.0),
                               APFloat(1.0));
  }
};

struct RouteGradModel : DifferentiableModel<RouteGradModel, RouteGradOp> {
  static LogicalResult vjp(RouteGradOp op, VJP &vjp) {
    // The parts are built into the block, so that their derivatives can read
    // them.
    Block *block = vjp.builder.getInsertionBlock();
    Block::iterator end = vjp.builder.getInsertionPoint();
    Operation *before = end == block->begin() ? nullptr : &*std::prev(end);
    Value value = Parts(op, vjp.builder).build();
    Block::iterator begin =
        before ? std::next(Block::iterator(before)) : block->begin();
    SmallVector<Operation *> parts;
    SmallVector<Value> sources;
    for (auto [i, operand] : llvm::enumerate(op->getOperands()))
      if (vjp.wants(i))
        sources.push_back(operand);
    for (Block::iterator it = begin; it != vjp.builder.getInsertionPoint();
         ++it) {
      // An identity route_grad is the mask of alive tokens: constant.
      if (auto grad = dyn_cast<RouteGradOp>(&*it);
          grad && grad.getScore() == Score::Identity)
        continue;
      parts.push_back(&*it);
    }
    Cotangents cotangents;
    cotangents.add(vjp.builder, value, vjp.cotangent(0));
    if (failed(buildReverse(vjp.builder, parts, findActive(parts, sources),
                            cotangents)))
      return failure();
    for (auto [i, operand] : llvm::enumerate(op->getOperands()))
      if (vjp.wants(i))
        vjp.set(i, cotangents.lookup(operand));
    for (Operation *part : llvm::reverse(parts))
      if (isOpTriviallyDead(part))
        part->erase();
    return success();
  }
};

} // namespace

void mlir::moe::attachRouteGradModel(MLIRContext *context) {
  RouteGradOp::attachInterface<RouteGradModel>(*context);
}
