// SPDX-License-Identifier: Apache-2.0
#include "RouteList.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <limits>

using namespace mlir;
using namespace mlir::moe;

static constexpr double kInf = std::numeric_limits<double>::infinity();

//===----------------------------------------------------------------------===//
// Lists
//===----------------------------------------------------------------------===//

RouteList::RouteList(KernelEmitter &b, int64_t size, Type element)
    : b(b), size(size), element(element),
      buffer(
          b.stack({int64_t(llvm::alignTo(size, kLanes)) + kLanes}, element)) {}

Value RouteList::vector(Value column) const {
  return vector::LoadOp::create(b, b.vectorOf(element), buffer, column);
}
void RouteList::setVector(Value value, Value column) const {
  vector::StoreOp::create(b, value, buffer, column);
}

void RouteList::each(function_ref<void(Value)> body) const {
  b.loop(b.index(0), b.index(size), kLanes, body);
}
Values RouteList::carry(ValueRange initial,
                        function_ref<Values(Value, ValueRange)> body) const {
  return b.carry(b.index(0), b.index(size), kLanes, initial, body);
}

void RouteList::fill(Value scalar) const {
  Value all = b.splat(scalar);
  each([&](Value column) { setVector(all, column); });
}

Value mlir::moe::keepLanes(KernelEmitter &b, Value value, int64_t lanes,
                           Value other) {
  if (lanes == kLanes)
    return value;
  Value mask =
      vector::ConstantMaskOp::create(b, b.vectorOf(b.getI1Type()), lanes);
  return b.select(mask, value, other);
}

void RouteList::loadRow(Value memref, ValueRange indices, double pad) const {
  Value padding = b.constant(b.vectorOf(element), pad);
  b.columnsCarry(size, {}, [&](Value column, int64_t lanes, ValueRange) {
    Values at(indices);
    at.push_back(column);
    Value value = b.widen(b.loadVector(memref, at, lanes), element);
    setVector(keepLanes(b, value, lanes, padding), column);
    return Values();
  });
}

void RouteList::storeRow(Value memref, ValueRange indices) const {
  Type type = cast<MemRefType>(memref.getType()).getElementType();
  b.columnsCarry(size, {}, [&](Value column, int64_t lanes, ValueRange) {
    Values at(indices);
    at.push_back(column);
    b.storeVector(b.narrow(vector(column), type), memref, at, lanes);
    return Values();
  });
}

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

static Value exponential(KernelEmitter &b, Value value) {
  return math::ExpOp::create(b, value);
}
static Value reduce(KernelEmitter &b, vector::CombiningKind kind, Value value) {
  return vector::ReductionOp::create(b, kind, value);
}

Value mlir::moe::hasFinite(const RouteList &logits) {
  KernelEmitter &b = logits.b;
  Value infinity = b.constant(b.vectorOf(logits.element), kInf);
  Value none = b.integer(b.vectorOf(b.getI1Type()), 0);
  Value any = logits.carry(none, [&](Value column, ValueRange found) {
    Value finite = arith::CmpFOp::create(
        b, arith::CmpFPredicate::OLT,
        math::AbsFOp::create(b, logits.vector(column)), infinity);
    return Values{arith::OrIOp::create(b, found[0], finite)};
  })[0];
  return reduce(b, vector::CombiningKind::OR, any);
}

/// As PyTorch's: NaN where some number is NaN.
static Value largest(const RouteList &list) {
  KernelEmitter &b = list.b;
  Value least = b.constant(b.vectorOf(list.element), -kInf);
  Value lanes = list.carry(least, [&](Value column, ValueRange most) {
    return Values{arith::MaximumFOp::create(b, most[0], list.vector(column))};
  })[0];
  return reduce(b, vector::CombiningKind::MAXIMUMF, lanes);
}

static void softmax(const RouteList &logits, const RouteList &scores) {
  KernelEmitter &b = logits.b;
  Value most = b.splat(largest(logits));
  Value zero = b.zeros(logits.element);
  Value lanes = logits.carry(zero, [&](Value column, ValueRange sum) {
    Value each = exponential(b, b.sub(logits.vector(column), most));
    scores.setVector(each, column);
    return Values{b.add(sum[0], each)};
  })[0];
  Value sum = b.splat(b.reduceLanes(lanes));
  scores.each([&](Value column) {
    scores.setVector(arith::DivFOp::create(b, scores.vector(column), sum),
                     column);
  });
}

void mlir::moe::emitScores(Score score, const RouteList &logits,
                           const RouteList &scores) {
  KernelEmitter &b = logits.b;
  if (score == Score::Softmax)
    return softmax(logits, scores);
  Value one = b.constant(b.vectorOf(logits.element), 1.0);
  logits.each([&](Value column) {
    Value value = logits.vector(column);
    if (score == Score::Sigmoid) {
      Value negative = arith::NegFOp::create(b, value);
      value =
          arith::DivFOp::create(b, one, b.add(one, exponential(b, negative)));
    }
    scores.setVector(value, column);
  });
}

void mlir::moe::emitScoresGrad(Score score, const RouteList &scores,
                               const RouteList &gradient) {
  KernelEmitter &b = scores.b;
  if (score == Score::Identity)
    return;
  Value dot;
  if (score == Score::Softmax) {
    Value zero = b.zeros(scores.element);
    Value lanes = scores.carry(zero, [&](Value column, ValueRange sum) {
      Value product = b.mul(scores.vector(column), gradient.vector(column));
      return Values{b.add(sum[0], product)};
    })[0];
    dot = b.splat(b.reduceLanes(lanes));
  }
  Value one = b.constant(b.vectorOf(scores.element), 1.0);
  scores.each([&](Value column) {
    Value s = scores.vector(column), g = gradient.vector(column);
    Value result = score == Score::Softmax ? b.mul(s, b.sub(g, dot))
                                           : b.mul(b.mul(g, s), b.sub(one, s));
    gradient.setVector(result, column);
  });
}

Value mlir::moe::emitLogSumExp(const RouteList &logits) {
  KernelEmitter &b = logits.b;
  Value most = largest(logits), all = b.splat(most);
  Value zero = b.zeros(logits.element);
  Value lanes = logits.carry(zero, [&](Value column, ValueRange sum) {
    return Values{
        b.add(sum[0], exponential(b, b.sub(logits.vector(column), all)))};
  })[0];
  Value result = b.add(most, math::LogOp::create(b, b.reduceLanes(lanes)));
  Value finite = arith::CmpFOp::create(b, arith::CmpFPredicate::OLT,
                                       math::AbsFOp::create(b, most),
                                       b.constant(logits.element, kInf));
  return b.select(finite, result, most);
}

//===----------------------------------------------------------------------===//
// Orders
//===----------------------------------------------------------------------===//

Value mlir::moe::leastKey(KernelEmitter &b, Type element) {
  return b.integer(
      element,
      llvm::minIntN(getElementTypeOrSelf(element).getIntOrFloatBitWidth()));
}

Value mlir::moe::orderedKey(KernelEmitter &b, Value value) {
  Type type = value.getType();
  unsigned width = getElementTypeOrSelf(type).getIntOrFloatBitWidth();
  Type keyType = b.getIntegerType(width);
  if (auto vector = dyn_cast<VectorType>(type))
    keyType = vector.clone(keyType);
  value = b.add(value, b.constant(type, 0.0));
  Value bits = arith::BitcastOp::create(b, keyType, value);
  // The numbers below zero fall as their bits grow.
  Value sign = arith::ShRSIOp::create(b, bits, b.integer(keyType, width - 1));
  Value flip =
      arith::AndIOp::create(b, sign, b.integer(keyType, llvm::maxIntN(width)));
  Value key = arith::XOrIOp::create(b, bits, flip);
  Value isNaN =
      arith::CmpFOp::create(b, arith::CmpFPredicate::UNO, value, value);
  return b.select(isNaN, b.integer(keyType, llvm::minIntN(width) + 1), key);
}

Value mlir::moe::largestKey(const RouteList &keys, Value first, int64_t count) {
  KernelEmitter &b = keys.b;
  Type type = keys.element;
  VectorType vectors = b.vectorOf(type);
  SmallVector<Attribute> numbers;
  for (int64_t i = 0; i < kLanes; ++i)
    numbers.push_back(b.getIntegerAttr(type, i));
  Value iota =
      arith::ConstantOp::create(b, DenseElementsAttr::get(vectors, numbers));
  Value least = leastKey(b, vectors);
  // The first of the largest in each lane, then over the lanes.
  Values best = b.columnsCarry(
      count, {least, b.integer(vectors, 0)},
      [&](Value column, int64_t lanes, ValueRange best) {
        Value key =
            keepLanes(b, keys.vector(b.add(first, column)), lanes, least);
        Value number =
            b.add(iota, b.splat(arith::IndexCastOp::create(b, type, column)));
        Value larger =
            arith::CmpIOp::create(b, arith::CmpIPredicate::sgt, key, best[0]);
        return Values{b.select(larger, key, best[0]),
                      b.select(larger, number, best[1])};
      });
  Value most = reduce(b, vector::CombiningKind::MAXSI, best[0]);
  Value same = arith::CmpIOp::create(b, arith::CmpIPredicate::eq, best[0],
                                     b.splat(most));
  Value last = b.integer(vectors, llvm::maxIntN(type.getIntOrFloatBitWidth()));
  Value number =
      reduce(b, vector::CombiningKind::MINSI, b.select(same, best[1], last));
  return b.add(first, arith::IndexCastOp::create(b, b.getIndexType(), number));
}
