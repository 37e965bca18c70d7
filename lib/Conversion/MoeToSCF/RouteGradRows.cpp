// SPDX-License-Identifier: Apache-2.0
// moe.route_grad_rows: a task is a few tokens.
#include "RouteList.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <limits>

using namespace mlir;
using namespace mlir::moe;

/// Tokens of one task.
constexpr int64_t kChunk = 32;

static Type elementOf(Value memref) {
  return cast<MemRefType>(memref.getType()).getElementType();
}

namespace {
class RouteGradRows {
public:
  RouteGradRows(RouteGradRowsOp op, KernelEmitter &b)
      : op(op), b(b), compute(getComputeType(elementOf(op.getLogits()))),
        experts(cast<MemRefType>(op.getLogits().getType()).getDimSize(1)),
        k(cast<MemRefType>(op.getIds().getType()).getDimSize(1)) {}

  void token(Value token);

private:
  void addChosen(Value token, const RouteList &logits, const RouteList &scores,
                 const RouteList &result);

  RouteGradRowsOp op;
  KernelEmitter &b;
  Type compute;
  int64_t experts, k;
};
} // namespace

/// Adds the gradient of the K chosen scores (logits with `topk_then_score`) to
/// `result`.
void RouteGradRows::addChosen(Value token, const RouteList &logits,
                              const RouteList &scores,
                              const RouteList &result) {
  bool late = op.getRouteOrder() == RouteOrder::TopKThenScore;
  RouteList chosen(b, k, compute), gradient(b, k, compute);
  Value valid = b.stack(k, b.getI1Type()), experts = b.index(this->experts);
  Value zero = b.constant(compute, 0.0), none = b.index(0), all = b.index(k);
  Value absent = b.constant(
      compute, late ? -std::numeric_limits<double>::infinity() : 0.0);
  Value scale = b.constant(compute, op.getScale().convertToDouble());
  chosen.fill(absent);
  gradient.fill(zero);
  // A sentinel reads expert 0, and its value is not taken.
  auto idOf = [&](Value i) {
    Value id = b.loadIndex(op.getIds(), {token, i});
    Value known =
        arith::CmpIOp::create(b, arith::CmpIPredicate::ult, id, experts);
    return std::pair{b.select(known, id, none), known};
  };
  b.loop(none, all, 1, [&](Value i) {
    auto [id, known] = idOf(i);
    b.store(known, valid, i);
    chosen.set(b.select(known, (late ? logits : scores).at(id), absent), i);
    Value g = b.widen(b.load(op.getDGates(), {token, i}), compute);
    gradient.set(b.select(known, b.mul(g, scale), zero), i);
  });
  if (late)
    emitScores(op.getScore(), chosen, chosen);
  if (op.getNormalize()) {
    // gate = s / (sum + eps)
    Value eps = b.constant(compute, op.getEps().convertToDouble());
    Value sum = b.carry(none, all, 1, eps, [&](Value i, ValueRange sum) {
      return Values{
          b.add(sum[0], b.select(b.load(valid, i), chosen.at(i), zero))};
    })[0];
    Value dot = b.carry(none, all, 1, zero, [&](Value i, ValueRange dot) {
      Value gate = arith::DivFOp::create(b, chosen.at(i), sum);
      Value product = b.mul(gradient.at(i), gate);
      return Values{b.add(dot[0], b.select(b.load(valid, i), product, zero))};
    })[0];
    b.loop(none, all, 1, [&](Value i) {
      Value g = arith::DivFOp::create(b, b.sub(gradient.at(i), dot), sum);
      gradient.set(b.select(b.load(valid, i), g, zero), i);
    });
  }
  if (late)
    emitScoresGrad(op.getScore(), chosen, gradient);
  b.loop(none, all, 1, [&](Value i) {
    auto [id, known] = idOf(i);
    Value old = result.at(id);
    result.set(b.select(known, b.add(old, gradient.at(i)), old), id);
  });
}

void RouteGradRows::token(Value token) {
  double infinity = std::numeric_limits<double>::infinity();
  bool late = op.getRouteOrder() == RouteOrder::TopKThenScore;
  RouteList logits(b, experts, compute), scores(b, experts, compute);
  RouteList result(b, experts, compute);
  logits.loadRow(op.getLogits(), token, -infinity);
  emitScores(op.getScore(), logits, scores);
  auto addDense = [&] {
    RouteList dense(b, experts, compute);
    dense.loadRow(op.getDScores(), token, 0.0);
    result.each([&](Value column) {
      result.setVector(b.add(result.vector(column), dense.vector(column)),
                       column);
    });
  };
  // Cotangents of scores become those of logits together; those of the chosen
  // logits come after.
  result.fill(b.constant(compute, 0.0));
  if (!late)
    addChosen(token, logits, scores, result);
  if (op.getDScores())
    addDense();
  if (!late || op.getDScores())
    emitScoresGrad(op.getScore(), scores, result);
  if (late)
    addChosen(token, logits, scores, result);
  if (op.getDLogsumexp()) {
    Value d = b.splat(b.widen(b.load(op.getDLogsumexp(), token), compute));
    emitScores(Score::Softmax, logits, scores);
    result.each([&](Value column) {
      result.setVector(
          b.add(result.vector(column), b.mul(d, scores.vector(column))),
          column);
    });
  }
  // Such a token's gates, scores and logsumexp are zeros.
  Value alive = b.splat(hasFinite(logits)), zeros = b.zeros(compute);
  result.each([&](Value column) {
    result.setVector(b.select(alive, result.vector(column), zeros), column);
  });
  result.storeRow(op.getOuts()[0], token);
}

LogicalResult mlir::moe::emitRouteGradRows(RouteGradRowsOp op,
                                           KernelEmitter &b) {
  b.chunked(b.size(op.getLogits(), 0), kChunk,
            [&](Value token) { RouteGradRows(op, b).token(token); });
  return success();
}
