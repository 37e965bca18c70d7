// SPDX-License-Identifier: Apache-2.0
// Elementary functions in f64, and through it those in narrower types that have
// no approximation of their own. A GPU has instructions for none, and NVIDIA's
// library of them is not on every machine. f64 is for checking layers, and no
// layer's activation comes here in f32: these are short rather than fast.
#include "DoubleMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/TypeSwitch.h"

#include <limits>

using namespace mlir;
using namespace mlir::moe;

static constexpr double kLn2 = 0.69314718055994530942;
/// Beyond, x^2 + 1 is x^2.
static constexpr double kLarge = 1e9;

namespace {
class Doubles : public ImplicitLocOpBuilder {
public:
  explicit Doubles(Operation *op)
      : ImplicitLocOpBuilder(op->getLoc(), op),
        type(op->getResult(0).getType()) {
    type = like(getF64Type());
    words = like(getI64Type());
  }

  /// A float or an integer, or a vector of them, in f64.
  Value widen(Value x);

  Value exp(Value x);
  Value expm1(Value x);
  Value log(Value x);
  Value log1p(Value x);
  Value tanh(Value x);
  Value erf(Value x);
  Value erfc(Value x);
  Value sin(Value x) {
    // -0 too.
    Value zero = compare(arith::CmpFPredicate::OEQ, x, number(0));
    return select(zero, x, wave(x, /*quarters=*/0));
  }
  Value cos(Value x) { return wave(x, /*quarters=*/1); }
  Value atan(Value x);
  Value atan2(Value y, Value x);
  /// sqrt(1 - x^2): the other side of the triangle of asin and acos.
  Value leg(Value x) { return sqrt(mul(sub(number(1), x), add(number(1), x))); }
  Value sinh(Value x);
  Value cosh(Value x);
  Value asinh(Value x);
  Value acosh(Value x);
  Value atanh(Value x);
  Value cbrt(Value x);
  Value pow(Value x, Value y);
  Value round(Value x);

  Value number(double value) { return splat(getF64FloatAttr(value)); }
  Value add(Value a, Value b) { return arith::AddFOp::create(*this, a, b); }
  Value sub(Value a, Value b) { return arith::SubFOp::create(*this, a, b); }
  Value mul(Value a, Value b) { return arith::MulFOp::create(*this, a, b); }
  Value div(Value a, Value b) { return arith::DivFOp::create(*this, a, b); }
  Value sqrt(Value x) { return intrinsic("llvm.sqrt", x); }
  Value abs(Value x) { return intrinsic("llvm.fabs", x); }
  Value copySign(Value x, Value sign) {
    return intrinsic("llvm.copysign", {x, sign});
  }
  Value intrinsic(StringRef name, ValueRange operands) {
    return LLVM::CallIntrinsicOp::create(*this, type, getStringAttr(name),
                                         operands)
        .getResult(0);
  }

private:
  Type like(Type element) {
    if (auto vector = dyn_cast<VectorType>(type))
      return vector.clone(element);
    return element;
  }
  Value splat(TypedAttr attr) {
    if (auto vector = dyn_cast<VectorType>(type))
      attr = DenseElementsAttr::get(
          cast<ShapedType>(vector.clone(attr.getType())), Attribute(attr));
    return arith::ConstantOp::create(*this, attr);
  }
  Value word(int64_t value) { return splat(getI64IntegerAttr(value)); }
  Value fma(Value a, Value b, Value c) {
    return intrinsic("llvm.fma", {a, b, c});
  }
  Value compare(arith::CmpFPredicate predicate, Value a, Value b) {
    return arith::CmpFOp::create(*this, predicate, a, b);
  }
  Value select(Value condition, Value a, Value b) {
    return arith::SelectOp::create(*this, condition, a, b);
  }
  Value both(Value a, Value b) { return arith::AndIOp::create(*this, a, b); }
  /// The sign bit, of -0 and NaN too.
  Value negative(Value x) {
    Value bits = arith::BitcastOp::create(*this, words, x);
    return arith::CmpIOp::create(*this, arith::CmpIPredicate::slt, bits,
                                 word(0));
  }
  /// exp(-a^2): a large square turns its rounding into an error of exp.
  Value gauss(Value a);
  /// `step(carried, n)` for n = terms, terms - 1, ... 1, a float.
  Value descend(int64_t terms, Value first,
                llvm::function_ref<Value(Value, Value)> step);
  /// sin(x + quarters * pi / 2).
  Value wave(Value x, int64_t quarters);
  /// Twice cosh and sinh beyond 22, where exp(-a) is nothing beside exp(a).
  Value halfExp(Value a);
  /// 2^n for a whole n in [-1022, 1023], a float.
  Value power(Value n) {
    Value whole = arith::FPToSIOp::create(*this, words, n);
    Value exponent = arith::AddIOp::create(*this, whole, word(1023));
    return arith::BitcastOp::create(
        *this, type, arith::ShLIOp::create(*this, exponent, word(52)));
  }

  Type type, words;
};
} // namespace

/// x = n ln 2 + r, |r| <= ln 2 / 2; a Taylor series of r, times 2^n in two
/// steps for the ends of the range.
Value Doubles::exp(Value x) {
  Value low = compare(arith::CmpFPredicate::OLT, x, number(-746));
  Value high = compare(arith::CmpFPredicate::OGT, x, number(710));
  Value inside = select(low, number(-746), select(high, number(710), x));
  Value n =
      intrinsic("llvm.roundeven", mul(inside, number(1.4426950408889634074)));
  // A NaN has no whole part.
  n = select(compare(arith::CmpFPredicate::UNO, x, x), number(0), n);
  Value r = fma(n, number(-6.93147180369123816490e-01), inside);
  r = fma(n, number(-1.90821492927058770002e-10), r);
  double factorial = 6227020800.0; // 13!
  Value sum = number(1 / factorial);
  for (int i = 13; i >= 1; --i) {
    factorial /= i;
    sum = fma(sum, r, number(1 / factorial));
  }
  Value half = intrinsic("llvm.floor", mul(n, number(0.5)));
  return mul(mul(sum, power(half)), power(sub(n, half)));
}

/// Kahan's: exp(x) - 1, made right by the error of its own logarithm.
Value Doubles::expm1(Value x) {
  Value u = exp(x), minus = sub(u, number(1));
  Value exact = div(mul(minus, x), log(u));
  Value tiny = compare(arith::CmpFPredicate::OEQ, u, number(1));
  // Far from 0 nothing cancels, and at the ends the quotient is no number.
  Value far = compare(arith::CmpFPredicate::OGT, abs(x), number(1));
  return select(tiny, x, select(far, minus, exact));
}

/// x = 2^e m with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(s), s =
/// (m-1)/(m+1).
Value Doubles::log(Value x) {
  // Subnormal numbers first become normal ones.
  Value small =
      compare(arith::CmpFPredicate::OLT, x, number(2.2250738585072014e-308));
  Value scaled = select(small, mul(x, number(18014398509481984.0)), x);
  Value bits = arith::BitcastOp::create(*this, words, scaled);
  // The exponent that leaves m next to 1 on both sides.
  constexpr int64_t kRootHalf = 0x3fe6a09e667f3bcd;
  Value biased = arith::SubIOp::create(*this, bits, word(kRootHalf));
  Value e = arith::ShRSIOp::create(*this, biased, word(52));
  Value m = arith::BitcastOp::create(
      *this, type,
      arith::SubIOp::create(*this, bits,
                            arith::ShLIOp::create(*this, e, word(52))));
  Value exponent = arith::SIToFPOp::create(*this, type, e);
  exponent = select(small, sub(exponent, number(54)), exponent);
  Value s = div(sub(m, number(1)), add(m, number(1))), square = mul(s, s);
  Value series = number(1.0 / 23);
  for (int i = 21; i >= 3; i -= 2)
    series = fma(series, square, number(1.0 / i));
  Value twice = add(s, s);
  Value result = fma(mul(twice, square), series, twice);
  result = fma(exponent, number(1.90821492927058770002e-10), result);
  result = fma(exponent, number(6.93147180369123816490e-01), result);
  // 0, infinity, and what is not in the domain.
  constexpr double kInf = std::numeric_limits<double>::infinity();
  result = select(compare(arith::CmpFPredicate::OEQ, x, number(0)),
                  number(-kInf), result);
  result =
      select(compare(arith::CmpFPredicate::OEQ, x, number(kInf)), x, result);
  return select(compare(arith::CmpFPredicate::UGE, x, number(0)),
                select(compare(arith::CmpFPredicate::UNO, x, x), x, result),
                number(std::numeric_limits<double>::quiet_NaN()));
}

/// log(1 + x), made right by the rounding of 1 + x.
Value Doubles::log1p(Value x) {
  Value u = add(number(1), x);
  Value lost = sub(sub(u, number(1)), x);
  Value corrected = sub(log(u), div(lost, u));
  Value tiny = compare(arith::CmpFPredicate::OEQ, u, number(1));
  // Of 0, the logarithm itself says what it is.
  Value large = compare(arith::CmpFPredicate::OGT, x, number(1e16));
  Value nothing = compare(arith::CmpFPredicate::OEQ, u, number(0));
  Value exact = select(large, log(u), select(nothing, log(u), corrected));
  return select(tiny, x, exact);
}

Value Doubles::tanh(Value x) {
  // 1 to the last bit beyond.
  Value magnitude = abs(x);
  Value far = compare(arith::CmpFPredicate::OGT, magnitude, number(20));
  Value t = expm1(mul(select(far, number(20), magnitude), number(2)));
  Value result = div(t, add(t, number(2)));
  return copySign(result, x);
}

Value Doubles::widen(Value x) {
  Type element = getElementTypeOrSelf(x.getType());
  if (element.isF64())
    return x;
  if (isa<FloatType>(element))
    return arith::ExtFOp::create(*this, type, x);
  return arith::SIToFPOp::create(*this, type, x);
}

Value Doubles::gauss(Value a) {
  Value square = mul(a, a), zero = number(0);
  Value lost = fma(a, a, sub(zero, square));
  Value decay = exp(sub(zero, square));
  return sub(decay, mul(decay, lost));
}

Value Doubles::descend(int64_t terms, Value first,
                       llvm::function_ref<Value(Value, Value)> step) {
  Value from = arith::ConstantIndexOp::create(*this, 0);
  Value to = arith::ConstantIndexOp::create(*this, terms);
  Value one = arith::ConstantIndexOp::create(*this, 1);
  auto loop = scf::ForOp::create(
      *this, from, to, one, ValueRange{first, number(terms)},
      [&](OpBuilder &, Location, Value, ValueRange carried) {
        Value next = step(carried[0], carried[1]);
        scf::YieldOp::create(*this,
                             ValueRange{next, sub(carried[1], number(1))});
      });
  return loop.getResult(0);
}

/// 2 x exp(-x^2) / sqrt(pi) times the sum of (2 x^2)^n / (2n + 1)!!, whose
/// terms are all positive; from the last one that counts to the first.
Value Doubles::erf(Value x) {
  // 1 to the last bit beyond.
  Value magnitude = abs(x), one = number(1);
  Value far = compare(arith::CmpFPredicate::OGT, magnitude, number(6));
  Value a = select(far, number(6), magnitude);
  Value square = mul(a, a);
  Value sum = descend(150, one, [&](Value sum, Value n) {
    return fma(sum, div(square, add(n, number(0.5))), one);
  });
  constexpr double kTwoOverRootPi = 1.1283791670955125739;
  Value result = mul(mul(mul(a, number(kTwoOverRootPi)), gauss(a)), sum);
  return copySign(select(far, one, result), x);
}

/// Beyond 1 as a continued fraction, so that the tail keeps its digits.
Value Doubles::erfc(Value x) {
  Value near = sub(number(1), erf(x));
  Value tail = compare(arith::CmpFPredicate::OGT, x, number(1));
  Value beyond = compare(arith::CmpFPredicate::OGT, x, number(30));
  Value a = select(beyond, number(30), select(tail, x, number(1)));
  Value fraction = descend(150, a, [&](Value f, Value n) {
    return add(a, div(mul(n, number(0.5)), f));
  });
  constexpr double kOneOverRootPi = 0.56418958354775628695;
  Value far = div(mul(gauss(a), number(kOneOverRootPi)), fraction);
  return select(tail, far, near);
}

/// x = n pi/2 + r with |r| <= pi/4, by three parts of pi/2; Taylor series of r.
Value Doubles::wave(Value x, int64_t quarters) {
  // Beyond, n has no last digit: NaN rather than any number.
  Value inside = compare(arith::CmpFPredicate::OLT, abs(x), number(1e15));
  x = select(inside, x, number(std::numeric_limits<double>::quiet_NaN()));
  Value whole = select(inside, x, number(0));
  Value n =
      intrinsic("llvm.roundeven", mul(whole, number(0.63661977236758134308)));
  Value r = fma(n, number(-1.5707963267948966), x);
  r = fma(n, number(-6.123233995736766e-17), r);
  r = fma(n, number(1.4973849048591833e-33), r);
  Value square = mul(r, r), sine = number(1), cosine = number(1);
  for (int i = 18; i >= 2; i -= 2) {
    // 1 - r^2 / (i (i + 1)) (...), and with i (i - 1).
    sine = fma(mul(square, number(-1.0 / (i * (i + 1)))), sine, number(1));
    cosine = fma(mul(square, number(-1.0 / (i * (i - 1)))), cosine, number(1));
  }
  sine = mul(sine, r);
  Value quadrant = arith::AddIOp::create(
      *this, arith::FPToSIOp::create(*this, words, n), word(quarters));
  auto bit = [&](int64_t mask) -> Value {
    return arith::CmpIOp::create(
        *this, arith::CmpIPredicate::ne,
        arith::AndIOp::create(*this, quadrant, word(mask)), word(0));
  };
  Value result = select(bit(1), cosine, sine);
  return select(bit(2), sub(number(0), result), result);
}

/// Of 1/x beyond 1; then a quarter of the angle, twice halved.
Value Doubles::atan(Value x) {
  Value magnitude = abs(x), one = number(1);
  Value large = compare(arith::CmpFPredicate::OGT, magnitude, one);
  Value t = select(large, div(one, magnitude), magnitude);
  for (int i = 0; i < 2; ++i)
    t = div(t, add(one, sqrt(fma(t, t, one))));
  Value square = mul(t, t), series = number(0);
  for (int i = 25; i >= 3; i -= 2)
    series = fma(series, square, number(i % 4 == 1 ? 1.0 / i : -1.0 / i));
  Value angle = mul(number(4), fma(mul(t, square), series, t));
  constexpr double kHalfPi = 1.5707963267948966;
  return copySign(select(large, sub(number(kHalfPi), angle), angle), x);
}

Value Doubles::atan2(Value y, Value x) {
  Value up = abs(y), across = abs(x);
  constexpr double kInf = std::numeric_limits<double>::infinity();
  Value quotient = div(up, across);
  // 0/0 and inf/inf are directions too.
  Value flat = both(compare(arith::CmpFPredicate::OEQ, up, number(0)),
                    compare(arith::CmpFPredicate::OEQ, across, number(0)));
  Value far = both(compare(arith::CmpFPredicate::OEQ, up, number(kInf)),
                   compare(arith::CmpFPredicate::OEQ, across, number(kInf)));
  quotient = select(flat, number(0), select(far, number(1), quotient));
  Value angle = atan(quotient);
  constexpr double kPi = 3.1415926535897931;
  angle = select(negative(x), sub(number(kPi), angle), angle);
  return copySign(angle, y);
}

Value Doubles::halfExp(Value a) {
  Value root = exp(mul(a, number(0.5)));
  return mul(mul(root, number(0.5)), root);
}

Value Doubles::sinh(Value x) {
  Value a = abs(x), e = expm1(a);
  Value near = mul(add(e, div(e, add(e, number(1)))), number(0.5));
  Value far = compare(arith::CmpFPredicate::OGT, a, number(22));
  return copySign(select(far, halfExp(a), near), x);
}

Value Doubles::cosh(Value x) {
  Value a = abs(x), e = exp(a);
  Value near = mul(add(e, div(number(1), e)), number(0.5));
  Value far = compare(arith::CmpFPredicate::OGT, a, number(22));
  return select(far, halfExp(a), near);
}

Value Doubles::asinh(Value x) {
  Value a = abs(x), square = mul(a, a);
  Value near =
      log1p(add(a, div(square, add(number(1), sqrt(add(square, number(1)))))));
  Value far = compare(arith::CmpFPredicate::OGT, a, number(kLarge));
  return copySign(select(far, add(log(a), number(kLn2)), near), x);
}

Value Doubles::acosh(Value x) {
  Value t = sub(x, number(1));
  Value near = log1p(add(t, sqrt(mul(t, add(x, number(1))))));
  Value far = compare(arith::CmpFPredicate::OGT, x, number(kLarge));
  Value result = select(far, add(log(x), number(kLn2)), near);
  return select(compare(arith::CmpFPredicate::OLT, x, number(1)),
                number(std::numeric_limits<double>::quiet_NaN()), result);
}

Value Doubles::atanh(Value x) {
  Value a = abs(x);
  Value result = mul(number(0.5), log1p(div(add(a, a), sub(number(1), a))));
  return copySign(result, x);
}

/// By its logarithm, and one step of Newton's.
Value Doubles::cbrt(Value x) {
  Value a = abs(x);
  Value y = exp(div(log(a), number(3)));
  Value square = mul(y, y);
  y = sub(y, div(fma(square, y, sub(number(0), a)), mul(number(3), square)));
  constexpr double kInf = std::numeric_limits<double>::infinity();
  y = select(compare(arith::CmpFPredicate::OEQ, a, number(0)), a, y);
  y = select(compare(arith::CmpFPredicate::OEQ, a, number(kInf)), a, y);
  return copySign(y, x);
}

/// exp(y log |x|): its error grows with the result's exponent, to 1e-13.
Value Doubles::pow(Value x, Value y) {
  Value a = abs(x), one = number(1);
  Value result = exp(mul(y, log(a)));
  // Of a negative x: whole powers alone, and odd ones are negative.
  auto isWhole = [&](Value v) {
    return compare(arith::CmpFPredicate::OEQ, intrinsic("llvm.trunc", v), v);
  };
  Value whole = isWhole(y), even = isWhole(mul(y, number(0.5)));
  Value odd = select(even, number(0), select(whole, one, number(0)));
  Value flips = both(negative(x), compare(arith::CmpFPredicate::OEQ, odd, one));
  result = select(flips, mul(number(-1), result), result);
  Value undefined =
      both(compare(arith::CmpFPredicate::OLT, x, number(0)),
           compare(arith::CmpFPredicate::ONE, intrinsic("llvm.trunc", y), y));
  constexpr double kInf = std::numeric_limits<double>::infinity();
  // An infinite x is past it: 0 or infinity, whatever the power.
  undefined =
      both(undefined, compare(arith::CmpFPredicate::ONE, a, number(kInf)));
  result = select(undefined, number(std::numeric_limits<double>::quiet_NaN()),
                  result);
  // 1, whatever the other is.
  Value unit = both(compare(arith::CmpFPredicate::OEQ, a, one),
                    compare(arith::CmpFPredicate::OEQ, abs(y), number(kInf)));
  result = select(unit, one, result);
  result = select(compare(arith::CmpFPredicate::OEQ, x, one), one, result);
  return select(compare(arith::CmpFPredicate::OEQ, y, number(0)), one, result);
}

/// To the nearest, halves away from 0.
Value Doubles::round(Value x) {
  Value whole = intrinsic("llvm.trunc", x);
  Value half =
      compare(arith::CmpFPredicate::OGE, abs(sub(x, whole)), number(0.5));
  return select(half, add(whole, copySign(number(1), x)), whole);
}

bool mlir::moe::expandDoubleMath(Operation *op) {
  Type given = op->getNumResults() == 1 ? op->getResult(0).getType() : Type();
  if (!given || !isa<FloatType>(getElementTypeOrSelf(given)))
    return false;
  Doubles b(op);
  Value x = b.widen(op->getOperand(0));
  Value y = op->getNumOperands() == 2 ? b.widen(op->getOperand(1)) : Value();
  constexpr double kLog2E = 1.4426950408889634074,
                   kLog10E = 0.43429448190325182765;
  Value result =
      TypeSwitch<Operation *, Value>(op)
          .Case([&](math::ExpOp) { return b.exp(x); })
          .Case([&](math::Exp2Op) { return b.exp(b.mul(x, b.number(kLn2))); })
          .Case([&](math::ExpM1Op) { return b.expm1(x); })
          .Case([&](math::LogOp) { return b.log(x); })
          .Case([&](math::Log2Op) { return b.mul(b.log(x), b.number(kLog2E)); })
          .Case(
              [&](math::Log10Op) { return b.mul(b.log(x), b.number(kLog10E)); })
          .Case([&](math::Log1pOp) { return b.log1p(x); })
          .Case([&](math::TanhOp) { return b.tanh(x); })
          .Case([&](math::ErfOp) { return b.erf(x); })
          .Case([&](math::ErfcOp) { return b.erfc(x); })
          .Case([&](math::SinOp) { return b.sin(x); })
          .Case([&](math::CosOp) { return b.cos(x); })
          .Case([&](math::TanOp) { return b.div(b.sin(x), b.cos(x)); })
          .Case([&](math::AsinOp) { return b.atan2(x, b.leg(x)); })
          .Case([&](math::AcosOp) { return b.atan2(b.leg(x), x); })
          .Case([&](math::AtanOp) { return b.atan(x); })
          .Case([&](math::Atan2Op) { return b.atan2(x, y); })
          .Case([&](math::SinhOp) { return b.sinh(x); })
          .Case([&](math::CoshOp) { return b.cosh(x); })
          .Case([&](math::AsinhOp) { return b.asinh(x); })
          .Case([&](math::AcoshOp) { return b.acosh(x); })
          .Case([&](math::AtanhOp) { return b.atanh(x); })
          .Case([&](math::CbrtOp) { return b.cbrt(x); })
          .Case<math::PowFOp, math::FPowIOp>([&](auto) { return b.pow(x, y); })
          .Case([&](math::RoundOp) { return b.round(x); })
          .Case([&](math::RsqrtOp) { return b.div(b.number(1), b.sqrt(x)); })
          .Default(Value());
  if (!result)
    return false;
  if (given != result.getType())
    result = arith::TruncFOp::create(b, given, result);
  op->replaceAllUsesWith(ValueRange{result});
  op->erase();
  return true;
}
