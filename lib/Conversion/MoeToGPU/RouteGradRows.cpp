// SPDX-License-Identifier: Apache-2.0
// moe.route_grad_rows: a warp a token.
#include "RouteToken.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult mlir::moe::emitRouteGradRows(RouteGradRowsOp op, GPUEmitter &b) {
  Value out = op.getOuts()[0], ids = op.getIds();
  Type element = cast<MemRefType>(out.getType()).getElementType();
  int64_t experts = cast<MemRefType>(op.getLogits().getType()).getDimSize(1);
  int64_t k = cast<MemRefType>(ids.getType()).getDimSize(1);
  bool late = op.getRouteOrder() == RouteOrder::TopKThenScore;
  Score kind = op.getScore();

  b.launch(b.size(out, 0), kWarp, [&] {
    Value token = b.block;
    RouteToken t(b, op.getLogits(), token);
    // What flows into the scores of all (into the logits, where scores are
    // taken of the chosen alone).
    Value into = b.shared({experts}, t.compute);
    t.each([&](Value e) { b.store(t.zero(), into, e); });
    b.barrier();

    auto idOf = [&](Value i) {
      Value id = b.load(ids, {token, i});
      Value known = arith::CmpIOp::create(b, arith::CmpIPredicate::ult, id,
                                          b.integer(id.getType(), experts));
      Value expert = arith::IndexCastOp::create(b, b.getIndexType(), id);
      return b.select(known, expert, b.index(-1));
    };
    ChosenExperts all(t, k, kind, op.getRouteOrder(),
                      op.getEps().convertToDouble(), idOf,
                      [&](Value e) { return t.score(kind, t.logit(e)); });
    Value scale = b.constant(t.compute, op.getScale().convertToDouble());
    auto cotangent = [&](Value i) {
      return b.mul(b.widen(b.load(op.getDGates(), {token, i}), t.compute),
                   scale);
    };
    auto divide = [&](Value x, Value y) -> Value {
      return arith::DivFOp::create(b, x, y);
    };
    // gate = s / (sum + eps)
    Value dot;
    if (op.getNormalize())
      dot = all.total([&](Value i) {
        return divide(b.mul(cotangent(i), all.chosen(i)), all.sum);
      });
    auto gradient = [&](Value i) {
      Value g = cotangent(i);
      return dot ? divide(b.sub(g, dot), all.sum) : g;
    };
    Value chosenDot;
    if (late && kind == Score::Softmax)
      chosenDot =
          all.total([&](Value i) { return b.mul(all.chosen(i), gradient(i)); });
    // One lane: ids that were given may be there twice.
    b.when(b.equal(b.lane, b.index(0)), [&] {
      b.loop(b.index(0), b.index(k), 1, [&](Value i) {
        Value id = idOf(i), g = gradient(i);
        if (late)
          g = t.scoreGradient(kind, all.chosen(i), g, chosenDot);
        Value valid =
            arith::CmpIOp::create(b, arith::CmpIPredicate::sge, id, b.index(0));
        b.when(valid, [&] { b.store(b.add(b.load(into, id), g), into, id); });
      });
    });
    b.barrier();

    // Into the score of expert e, among all.
    auto scoreCotangent = [&](Value e) {
      Value g = late ? t.zero() : b.load(into, e);
      if (op.getDScores())
        g = b.add(g, b.widen(b.load(op.getDScores(), {token, e}), t.compute));
      return g;
    };
    bool throughScores = !late || op.getDScores();
    Value scoreDot;
    if (throughScores && kind == Score::Softmax)
      scoreDot = t.total([&](Value e) {
        return b.mul(t.score(kind, t.logit(e)), scoreCotangent(e));
      });
    Value lse;
    if (op.getDLogsumexp())
      lse = b.widen(b.load(op.getDLogsumexp(), token), t.compute);
    t.each([&](Value e) {
      Value x = t.logit(e);
      Value result = late ? b.load(into, e) : t.zero();
      if (throughScores)
        result = b.add(result, t.scoreGradient(kind, t.score(kind, x),
                                               scoreCotangent(e), scoreDot));
      if (lse)
        result = b.add(result, b.mul(lse, t.score(Score::Softmax, x)));
      result = b.select(t.alive, result, t.zero());
      b.store(b.narrow(result, element), out, {token, e});
    });
  });
  return success();
}
