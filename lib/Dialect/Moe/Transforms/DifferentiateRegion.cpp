// SPDX-License-Identifier: Apache-2.0
// Derivatives of regions of scalars, symbolically, op by op. Where a function
// has no derivative the choice is PyTorch's.
#include "moe/Dialect/Moe/Transforms/Differentiation.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Scalar arithmetic in short. Folds what is constant.
struct Math {
  OpBuilder &b;
  Location loc;

  template <typename Op, typename... Args> Value make(Args... args) {
    return b.createOrFold<Op>(loc, args...);
  }
  Value constant(Value like, double value) {
    return arith::ConstantOp::create(b, loc,
                                     b.getFloatAttr(like.getType(), value));
  }
  Value add(Value x, Value y) { return make<arith::AddFOp>(x, y); }
  Value sub(Value x, Value y) { return make<arith::SubFOp>(x, y); }
  Value mul(Value x, Value y) { return make<arith::MulFOp>(x, y); }
  Value div(Value x, Value y) { return make<arith::DivFOp>(x, y); }
  Value neg(Value x) { return make<arith::NegFOp>(x); }
  Value scale(Value x, double factor) { return mul(x, constant(x, factor)); }
  Value cmp(arith::CmpFPredicate predicate, Value x, Value y) {
    return arith::CmpFOp::create(b, loc, predicate, x, y);
  }
  Value select(Value condition, Value x, Value y) {
    return arith::SelectOp::create(b, loc, condition, x, y);
  }
  Value zero(Value like) { return constant(like, 0.0); }
  Value square(Value x) { return mul(x, x); }
  /// 1 + sign * x * x
  Value onePlus(Value x, double sign) {
    Value one = constant(x, 1.0);
    return sign > 0 ? add(one, square(x)) : sub(one, square(x));
  }
};

using P = arith::CmpFPredicate;

class ScalarReverse {
public:
  ScalarReverse(OpBuilder &builder, Operation *op, const IRMapping &map)
      : math{builder, op->getLoc()}, op(op), map(map) {}

  void seed(Value value, Value cotangent) { add(value, cotangent); }

  LogicalResult run(Block &block, ArrayRef<Value> wanted) {
    active.insert(wanted.begin(), wanted.end());
    for (Operation &inner : block.without_terminator())
      if (llvm::any_of(inner.getOperands(),
                       [&](Value operand) { return active.contains(operand); }))
        for (Value result : inner.getResults())
          if (isa<FloatType>(result.getType()))
            active.insert(result);
    for (Operation &inner : llvm::reverse(block.without_terminator())) {
      if (inner.getNumResults() != 1) {
        for (Value result : inner.getResults())
          if (cotangents.lookup(result) && active.contains(result))
            return unknown(&inner);
        continue;
      }
      Value g = cotangents.lookup(inner.getResult(0));
      if (!g || !active.contains(inner.getResult(0)))
        continue;
      if (failed(visit(&inner, g)))
        return failure();
    }
    return success();
  }

  Value lookup(Value value) { return cotangents.lookup(value); }

private:
  Math math;
  Operation *op;
  const IRMapping &map;
  DenseSet<Value> active;
  DenseMap<Value, Value> cotangents;

  Value at(Value value) { return map.lookupOrDefault(value); }

  void add(Value value, Value cotangent) {
    Value &sum = cotangents[value];
    sum = sum ? math.add(sum, cotangent) : cotangent;
  }
  template <typename Build> void give(Value operand, Build build) {
    if (active.contains(operand))
      add(operand, build());
  }

  LogicalResult unknown(Operation *inner) {
    InFlightDiagnostic diag =
        op->emitOpError() << "cannot be differentiated: its region holds "
                          << inner->getName()
                          << ", whose derivative is not known; write it with "
                             "ops of arith and math that have one";
    diag.attachNote(inner->getLoc()) << "see the op here";
    return diag;
  }

  static bool isConstant(Value value) {
    return matchPattern(value, m_Constant());
  }
  static bool isZero(Value value) {
    return matchPattern(value, m_AnyZeroFloat());
  }

  /// One side of torch.maximum or torch.minimum: half each on ties.
  Value tied(Value g, Value x, Value y, P loses) {
    Value half = math.scale(g, 0.5);
    Value other = math.select(math.cmp(loses, x, y), math.zero(g), g);
    return math.select(math.cmp(P::OEQ, x, y), half, other);
  }

  /// max or min with a constant bound: relu where it is a maximum with zero
  /// alone (0 at 0), else a clamp (1 on its bounds). A maximum with zero that
  /// feeds only a minimum with a constant is the lower half of a clamp.
  Value bounded(Operation *inner, Value g, Value x, Value bound, bool isMax) {
    bool relu = isMax && isZero(bound);
    if (relu && inner->hasOneUse()) {
      Operation *user = *inner->getUsers().begin();
      if (isa<arith::MinimumFOp, arith::MinNumFOp>(user) &&
          llvm::any_of(user->getOperands(), isConstant))
        relu = false;
    }
    if (relu)
      return math.select(math.cmp(P::OLE, at(x), at(bound)), math.zero(g), g);
    return math.select(math.cmp(isMax ? P::OGE : P::OLE, at(x), at(bound)), g,
                       math.zero(g));
  }

  void extremum(Operation *inner, Value g, bool isMax, bool ignoresNaN) {
    Value x = inner->getOperand(0), y = inner->getOperand(1);
    if (isConstant(y))
      return give(x, [&] { return bounded(inner, g, x, y, isMax); });
    if (isConstant(x))
      return give(y, [&] { return bounded(inner, g, y, x, isMax); });
    if (x == y)
      return give(x, [&] { return g; });
    if (ignoresNaN) { // torch.fmax: the first where it wins or ties
      Value first = math.make<arith::OrIOp>(
          math.cmp(isMax ? P::OGE : P::OLE, at(x), at(y)),
          math.cmp(P::UNO, at(y), at(y)));
      give(x, [&] { return math.select(first, g, math.zero(g)); });
      give(y, [&] { return math.select(first, math.zero(g), g); });
      return;
    }
    P loses = isMax ? P::OLT : P::OGT;
    give(x, [&] { return tied(g, at(x), at(y), loses); });
    give(y, [&] { return tied(g, at(y), at(x), loses); });
  }

  /// z of 1 + exp(z).
  static Value getLogisticArgument(Value value) {
    auto sum = value.getDefiningOp<arith::AddFOp>();
    if (!sum)
      return nullptr;
    for (auto [x, y] : {std::pair(sum.getLhs(), sum.getRhs()),
                        std::pair(sum.getRhs(), sum.getLhs())})
      if (auto exp = y.getDefiningOp<math::ExpOp>();
          exp && matchPattern(x, m_OneFloat()))
        return exp.getOperand();
    return nullptr;
  }
  /// exp(z) / (1 + exp(z)) from the denominator, finite also where it is not.
  Value logisticRest(Value denominator) {
    Value one = math.constant(denominator, 1.0);
    return math.sub(one, math.div(one, denominator));
  }

  LogicalResult visit(Operation *inner, Value g) {
    Value r = at(inner->getResult(0));
    auto operand = [&](unsigned i) { return inner->getOperand(i); };
    auto x = [&] { return at(inner->getOperand(0)); };
    // A function of one argument: g times `derivative`.
    auto times = [&](auto derivative) {
      give(operand(0), [&] { return math.mul(g, derivative()); });
      return success();
    };
    auto over = [&](auto divisor) {
      give(operand(0), [&] { return math.div(g, divisor()); });
      return success();
    };
    return TypeSwitch<Operation *, LogicalResult>(inner)
        .Case([&](arith::AddFOp) {
          give(operand(0), [&] { return g; });
          give(operand(1), [&] { return g; });
          return success();
        })
        .Case([&](arith::SubFOp) {
          give(operand(0), [&] { return g; });
          give(operand(1), [&] { return math.neg(g); });
          return success();
        })
        .Case([&](arith::MulFOp) {
          give(operand(0), [&] { return math.mul(g, at(operand(1))); });
          give(operand(1), [&] { return math.mul(g, at(operand(0))); });
          return success();
        })
        .Case([&](arith::DivFOp) {
          give(operand(0), [&] { return math.div(g, at(operand(1))); });
          // A sigmoid's denominator, 1 + exp(z): where exp(z) overflows the
          // derivative has to stay finite, so it is taken through to z.
          if (Value z = getLogisticArgument(operand(1))) {
            give(z, [&] {
              return math.neg(
                  math.mul(math.mul(g, r), logisticRest(at(operand(1)))));
            });
            return success();
          }
          give(operand(1), [&] {
            return math.neg(math.mul(g, math.div(r, at(operand(1)))));
          });
          return success();
        })
        .Case([&](arith::RemFOp) {
          give(operand(0), [&] { return g; });
          give(operand(1), [&] {
            Value quotient = math.make<math::TruncOp>(
                math.div(at(operand(0)), at(operand(1))));
            return math.neg(math.mul(g, quotient));
          });
          return success();
        })
        .Case([&](arith::NegFOp) {
          give(operand(0), [&] { return math.neg(g); });
          return success();
        })
        .Case([&](arith::MaximumFOp) {
          extremum(inner, g, true, false);
          return success();
        })
        .Case([&](arith::MinimumFOp) {
          extremum(inner, g, false, false);
          return success();
        })
        .Case([&](arith::MaxNumFOp) {
          extremum(inner, g, true, true);
          return success();
        })
        .Case([&](arith::MinNumFOp) {
          extremum(inner, g, false, true);
          return success();
        })
        .Case<arith::ExtFOp>([&](auto op) {
          give(operand(0), [&] {
            return math.make<arith::TruncFOp>(op.getIn().getType(), g);
          });
          return success();
        })
        .Case<arith::TruncFOp>([&](auto op) {
          give(operand(0), [&] {
            return math.make<arith::ExtFOp>(op.getIn().getType(), g);
          });
          return success();
        })
        .Case([&](arith::SelectOp) {
          Value condition = at(operand(0));
          give(operand(1),
               [&] { return math.select(condition, g, math.zero(g)); });
          give(operand(2),
               [&] { return math.select(condition, math.zero(g), g); });
          return success();
        })
        .Case([&](math::AbsFOp) {
          // sign(x), 0 at 0
          give(operand(0), [&] {
            Value sign =
                math.make<math::CopySignOp>(math.constant(g, 1.0), x());
            return math.select(math.cmp(P::OEQ, x(), math.zero(g)),
                               math.zero(g), math.mul(g, sign));
          });
          return success();
        })
        .Case([&](math::CopySignOp) {
          // the sign of x times that of the result; 0 at 0
          give(operand(0), [&] {
            Value one = math.constant(g, 1.0);
            Value sign = math.mul(math.make<math::CopySignOp>(one, x()),
                                  math.make<math::CopySignOp>(one, r));
            return math.select(math.cmp(P::OEQ, x(), math.zero(g)),
                               math.zero(g), math.mul(g, sign));
          });
          return success();
        })
        .Case<math::CeilOp, math::FloorOp, math::RoundOp, math::RoundEvenOp,
              math::TruncOp>([&](auto) { return success(); })
        .Case([&](math::ExpOp) { return times([&] { return r; }); })
        .Case([&](math::Exp2Op) {
          return times([&] { return math.scale(r, std::log(2.0)); });
        })
        .Case([&](math::ExpM1Op) {
          return times([&] { return math.add(r, math.constant(r, 1.0)); });
        })
        .Case([&](math::LogOp) { return over(x); })
        .Case([&](math::Log2Op) {
          return over([&] { return math.scale(x(), std::log(2.0)); });
        })
        .Case([&](math::Log10Op) {
          return over([&] { return math.scale(x(), std::log(10.0)); });
        })
        .Case([&](math::Log1pOp) {
          if (auto exp = operand(0).getDefiningOp<math::ExpOp>()) { // softplus
            give(exp.getOperand(), [&] {
              Value one = math.constant(g, 1.0);
              return math.mul(g, logisticRest(math.add(one, x())));
            });
            return success();
          }
          return over([&] { return math.add(x(), math.constant(g, 1.0)); });
        })
        .Case([&](math::SqrtOp) {
          return over([&] { return math.scale(r, 2.0); });
        })
        .Case([&](math::RsqrtOp) {
          return times(
              [&] { return math.scale(math.mul(r, math.square(r)), -0.5); });
        })
        .Case([&](math::CbrtOp) {
          return over([&] { return math.scale(math.square(r), 3.0); });
        })
        .Case([&](math::SinOp) {
          return times([&] { return math.make<math::CosOp>(x()); });
        })
        .Case([&](math::CosOp) {
          return times([&] { return math.neg(math.make<math::SinOp>(x())); });
        })
        .Case([&](math::TanOp) {
          return times([&] { return math.onePlus(r, 1); });
        })
        .Case([&](math::SinhOp) {
          return times([&] { return math.make<math::CoshOp>(x()); });
        })
        .Case([&](math::CoshOp) {
          return times([&] { return math.make<math::SinhOp>(x()); });
        })
        .Case([&](math::TanhOp) {
          return times([&] { return math.onePlus(r, -1); });
        })
        .Case([&](math::AsinOp) {
          return over(
              [&] { return math.make<math::SqrtOp>(math.onePlus(x(), -1)); });
        })
        .Case([&](math::AcosOp) {
          return over([&] {
            return math.neg(math.make<math::SqrtOp>(math.onePlus(x(), -1)));
          });
        })
        .Case([&](math::AtanOp) {
          return over([&] { return math.onePlus(x(), 1); });
        })
        .Case([&](math::AsinhOp) {
          return over(
              [&] { return math.make<math::SqrtOp>(math.onePlus(x(), 1)); });
        })
        .Case([&](math::AcoshOp) {
          return over([&] {
            return math.make<math::SqrtOp>(
                math.sub(math.square(x()), math.constant(g, 1.0)));
          });
        })
        .Case([&](math::AtanhOp) {
          return over([&] { return math.onePlus(x(), -1); });
        })
        .Case([&](math::ErfOp) { return times([&] { return gauss(x(), 1); }); })
        .Case(
            [&](math::ErfcOp) { return times([&] { return gauss(x(), -1); }); })
        .Case([&](math::Atan2Op) {
          Value y = at(operand(0)), x = at(operand(1));
          Value norm = math.add(math.square(x), math.square(y));
          give(operand(0), [&] { return math.mul(g, math.div(x, norm)); });
          give(operand(1),
               [&] { return math.neg(math.mul(g, math.div(y, norm))); });
          return success();
        })
        .Case([&](math::FmaOp) {
          give(operand(0), [&] { return math.mul(g, at(operand(1))); });
          give(operand(1), [&] { return math.mul(g, at(operand(0))); });
          give(operand(2), [&] { return g; });
          return success();
        })
        .Case([&](math::PowFOp) {
          Value base = at(operand(0)), power = at(operand(1));
          Value zero = math.zero(g);
          give(operand(0), [&] {
            Value lower = math.make<math::PowFOp>(
                base, math.sub(power, math.constant(g, 1.0)));
            return math.select(math.cmp(P::OEQ, power, zero), zero,
                               math.mul(g, math.mul(power, lower)));
          });
          give(operand(1), [&] {
            Value gone = math.make<arith::AndIOp>(
                math.cmp(P::OEQ, base, zero), math.cmp(P::OGE, power, zero));
            return math.select(
                gone, zero,
                math.mul(g, math.mul(r, math.make<math::LogOp>(base))));
          });
          return success();
        })
        .Case([&](math::ClampFOp) {
          Value lo = at(operand(1)), hi = at(operand(2)), zero = math.zero(g);
          give(operand(0), [&] {
            Value inside = math.make<arith::AndIOp>(math.cmp(P::OGE, x(), lo),
                                                    math.cmp(P::OLE, x(), hi));
            return math.select(inside, g, zero);
          });
          Value crossed = math.cmp(P::OLT, hi, lo);
          give(operand(1), [&] {
            Value below = math.select(math.cmp(P::OLT, x(), lo), g, zero);
            return math.select(crossed, zero, below);
          });
          give(operand(2), [&] {
            Value above = math.select(math.cmp(P::OGT, x(), hi), g, zero);
            return math.select(crossed, g, above);
          });
          return success();
        })
        .Default([&](Operation *inner) { return unknown(inner); });
  }

  /// erf' = 2 / sqrt(pi) * exp(-x * x)
  Value gauss(Value x, double sign) {
    Value e = math.make<math::ExpOp>(math.neg(math.square(x)));
    return math.scale(e, sign * 2.0 / std::sqrt(M_PI));
  }
};

} // namespace

FailureOr<SmallVector<Value>> mlir::moe::buildScalarReverse(
    OpBuilder &builder, Operation *op, Block &block, const IRMapping &map,
    ArrayRef<std::pair<Value, Value>> seeds, ArrayRef<Value> wanted) {
  ScalarReverse reverse(builder, op, map);
  for (auto [value, cotangent] : seeds)
    if (cotangent)
      reverse.seed(value, cotangent);
  if (failed(reverse.run(block, wanted)))
    return failure();
  SmallVector<Value> result;
  for (Value value : wanted)
    result.push_back(reverse.lookup(value));
  return result;
}
