// SPDX-License-Identifier: Apache-2.0
#include "Region.h"

#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::fuzz;

namespace {
struct Scalars {
  Rng &rng;
  OpBuilder b;
  Location loc;
  FloatType type;

  Value constant(double value) {
    return arith::ConstantOp::create(b, loc, b.getFloatAttr(type, value));
  }
  template <typename Op> Value make(ValueRange operands) {
    return Op::create(b, loc, operands)->getResult(0);
  }
  Value onePlusSquare(Value x) {
    return make<arith::AddFOp>({constant(1.0), make<arith::MulFOp>({x, x})});
  }
  Value compared(arith::CmpFPredicate predicate, Value x, Value y, Value then,
                 Value otherwise) {
    Value condition = arith::CmpFOp::create(b, loc, predicate, x, y);
    return arith::SelectOp::create(b, loc, condition, then, otherwise);
  }

  Value unary(Value x) {
    switch (rng.below(16)) {
    case 0:
      return make<arith::NegFOp>(x);
    case 1:
      return make<math::TanhOp>(x);
    case 2:
      return make<math::ErfOp>(x);
    case 3:
      return make<math::SinOp>(x);
    case 4:
      return make<math::CosOp>(x);
    case 5:
      return make<math::AbsFOp>(x);
    case 6:
      return make<math::SqrtOp>(onePlusSquare(x));
    case 7:
      // Not near 1, where it would lose the bits that its argument rounded.
      return make<math::LogOp>(
          make<arith::AddFOp>({constant(1.0), onePlusSquare(x)}));
    case 8:
      return make<math::RsqrtOp>(onePlusSquare(x));
    case 9: // sigmoid
      return make<arith::DivFOp>(
          {constant(1.0),
           make<arith::AddFOp>(
               {constant(1.0), make<math::ExpOp>(make<arith::NegFOp>(x))})});
    case 10: // relu, as a maximum and as a choice
      return make<arith::MaximumFOp>({x, constant(0.0)});
    case 11: {
      Value zero = constant(0.0);
      return compared(arith::CmpFPredicate::OGT, x, zero, x, zero);
    }
    case 12: // clamp
      return make<arith::MinimumFOp>(
          {make<arith::MaximumFOp>({x, constant(-1.0)}), constant(1.0)});
    case 13:
      return make<arith::MulFOp>({x, constant(rng.pick({0.5, -2.0, 1.702}))});
    case 14:
      return make<arith::AddFOp>({constant(rng.pick({1.0, -0.25})), x});
    default:
      return make<arith::MulFOp>({x, x});
    }
  }

  Value binary(Value x, Value y) {
    switch (rng.below(9)) {
    case 0:
    case 1:
      return make<arith::AddFOp>({x, y});
    case 2:
      return make<arith::SubFOp>({x, y});
    case 3:
    case 4:
      return make<arith::MulFOp>({x, y});
    case 5:
      return make<arith::DivFOp>({x, onePlusSquare(y)});
    case 6:
      return make<arith::MaximumFOp>({x, y});
    case 7:
      return make<math::FmaOp>({x, y, x});
    default:
      return make<arith::MinimumFOp>({x, y});
    }
  }
};
} // namespace

void fuzz::buildRandomRegion(Rng &rng, Region &region, unsigned numArguments,
                             unsigned numYields, FloatType type, Location loc) {
  Block &block = region.emplaceBlock();
  Scalars scalars{rng, OpBuilder::atBlockEnd(&block), loc, type};
  SmallVector<Value> pool;
  for (unsigned i = 0; i < numArguments; ++i)
    pool.push_back(block.addArgument(type, loc));
  // All of them meet in one value.
  Value all = pool[0];
  for (unsigned i = 1; i < numArguments; ++i)
    all = scalars.binary(all, pool[i]);
  pool.push_back(all);
  SmallVector<Value> yields;
  for (unsigned i = 0; i < numYields; ++i) {
    Value value = i == 0 ? all : rng.pickFrom(pool);
    for (int64_t step = rng.below(3); step > 0; --step)
      value = rng.percent(60) ? scalars.unary(value)
                              : scalars.binary(value, rng.pickFrom(pool));
    pool.push_back(value);
    yields.push_back(value);
  }
  YieldOp::create(scalars.b, loc, yields);
}
