// SPDX-License-Identifier: Apache-2.0
#include "RouteToken.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <limits>

using namespace mlir;
using namespace mlir::moe;

constexpr double kInf = std::numeric_limits<double>::infinity();

static Value compare(GPUEmitter &b, arith::CmpFPredicate predicate, Value x,
                     Value y) {
  return arith::CmpFOp::create(b, predicate, x, y);
}
static Value either(GPUEmitter &b, Value x, Value y) {
  return arith::OrIOp::create(b, x, y);
}

RouteToken::RouteToken(GPUEmitter &b, Value logits, Value token)
    : b(b), compute(getComputeType(
                cast<MemRefType>(logits.getType()).getElementType())),
      experts(cast<MemRefType>(logits.getType()).getDimSize(1)), logits(logits),
      token(token) {
  Value no = b.integer(b.getI1Type(), 0);
  Values found = b.carry(
      b.lane, b.index(experts), kWarp, {b.constant(compute, -kInf), no, no},
      [&](Value e, ValueRange state) {
        Value x = logit(e);
        Value finite =
            compare(b, arith::CmpFPredicate::OLT, math::AbsFOp::create(b, x),
                    b.constant(compute, kInf));
        return Values{arith::MaxNumFOp::create(b, state[0], x),
                      either(b, state[1], finite),
                      either(b, state[2], isNaN(x))};
      });
  largest = largestOf(found[0]);
  alive = any(found[1]);
  hasNaN = any(found[2]);
  sum = total([&](Value e) { return exp(b.sub(logit(e), largest)); });
}

Value RouteToken::logit(Value expert) {
  return b.widen(b.load(logits, {token, expert}), compute);
}
Value RouteToken::exp(Value x) { return math::ExpOp::create(b, x); }
Value RouteToken::isNaN(Value x) {
  return compare(b, arith::CmpFPredicate::UNO, x, x);
}

static Value sigmoid(RouteToken &t, Value x) {
  GPUEmitter &b = t.b;
  Value minus = arith::NegFOp::create(b, x);
  return arith::DivFOp::create(b, t.one(), b.add(t.one(), t.exp(minus)));
}

Value RouteToken::score(Score score, Value logit) {
  if (score == Score::Softmax)
    return arith::DivFOp::create(b, exp(b.sub(logit, largest)), sum);
  return score == Score::Sigmoid ? sigmoid(*this, logit) : logit;
}

Value RouteToken::scoreGradient(Score kind, Value score, Value gradient,
                                Value dot) {
  if (kind == Score::Softmax)
    return b.mul(score, b.sub(gradient, dot));
  if (kind == Score::Sigmoid)
    return b.mul(b.mul(gradient, score), b.sub(one(), score));
  return gradient;
}

Value RouteToken::logsumexp() {
  Value inf = b.constant(compute, kInf);
  Value finite = b.add(largest, math::LogOp::create(b, sum));
  Value result = b.select(compare(b, arith::CmpFPredicate::OEQ, largest, inf),
                          inf, finite);
  result = b.select(
      hasNaN, b.constant(compute, std::numeric_limits<double>::quiet_NaN()),
      result);
  return b.select(alive, result, zero());
}

void RouteToken::each(function_ref<void(Value)> body) {
  b.strided(b.lane, experts, kWarp, body);
}
Value RouteToken::total(function_ref<Value(Value)> term) {
  return b.warpSum(b.carry(b.lane, b.index(experts), kWarp, zero(),
                           [&](Value e, ValueRange sum) {
                             return Values{b.add(sum[0], term(e))};
                           })[0]);
}
Value RouteToken::largestOf(Value value) {
  for (int64_t offset = kWarp / 2; offset >= 1; offset /= 2)
    value = arith::MaxNumFOp::create(
        b, value, b.shuffle(value, offset, gpu::ShuffleMode::XOR));
  return value;
}
Value RouteToken::any(Value flag) {
  Value word = arith::ExtUIOp::create(b, b.getI32Type(), flag);
  for (int64_t offset = kWarp / 2; offset >= 1; offset /= 2)
    word = arith::OrIOp::create(b, word,
                                b.shuffle(word, offset, gpu::ShuffleMode::XOR));
  return arith::TruncIOp::create(b, b.getI1Type(), word);
}

ChosenExperts::ChosenExperts(RouteToken &t, int64_t k, Score score,
                             RouteOrder order, double eps,
                             std::function<Value(Value)> idOf,
                             std::function<Value(Value)> scoreOf)
    : t(t), k(k), score(score), late(order == RouteOrder::TopKThenScore),
      idOf(idOf), scoreOf(scoreOf) {
  GPUEmitter &b = t.b;
  if (late && score == Score::Softmax) {
    // Of the chosen logits alone.
    largest = b.carry(
        b.index(0), b.index(k), 1, b.constant(t.compute, -kInf),
        [&](Value i, ValueRange state) {
          Value id = idOf(i);
          Value valid = arith::CmpIOp::create(b, arith::CmpIPredicate::sge, id,
                                              b.index(0));
          Value x = t.logit(b.maximum(id, b.index(0)));
          return Values{b.select(
              valid, arith::MaxNumFOp::create(b, state[0], x), state[0])};
        })[0];
    exps = total([&](Value i) {
      return t.exp(b.sub(t.logit(b.maximum(idOf(i), b.index(0))), largest));
    });
  }
  sum = b.add(b.constant(t.compute, eps),
              total([&](Value i) { return chosen(i); }));
}

Value ChosenExperts::chosen(Value i) {
  GPUEmitter &b = t.b;
  Value id = idOf(i), clamped = b.maximum(id, b.index(0));
  Value value;
  if (!late)
    value = scoreOf(clamped);
  else if (score == Score::Softmax)
    value =
        arith::DivFOp::create(b, t.exp(b.sub(t.logit(clamped), largest)), exps);
  else
    value = t.score(score, t.logit(clamped));
  return b.select(b.less(id, b.index(0)), t.zero(), value);
}

Value ChosenExperts::total(function_ref<Value(Value)> term) {
  GPUEmitter &b = t.b;
  return b.carry(
      b.index(0), b.index(k), 1, t.zero(), [&](Value i, ValueRange sum) {
        Value sentinel = b.less(idOf(i), b.index(0));
        return Values{b.select(sentinel, sum[0], b.add(sum[0], term(i)))};
      })[0];
}

Value mlir::moe::comesBefore(GPUEmitter &b, Value a, Value i, Value other,
                             Value j) {
  Value aNaN = compare(b, arith::CmpFPredicate::UNO, a, a);
  Value otherNaN = compare(b, arith::CmpFPredicate::UNO, other, other);
  Value differ = arith::XOrIOp::create(b, aNaN, otherNaN);
  Value ordered = compare(b, arith::CmpFPredicate::ONE, a, other);
  return b.select(differ, otherNaN,
                  b.select(ordered,
                           compare(b, arith::CmpFPredicate::OGT, a, other),
                           b.less(i, j)));
}
