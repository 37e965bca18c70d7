// SPDX-License-Identifier: Apache-2.0
// Elementary functions in f64. A GPU has instructions for none, and NVIDIA's
// library of them is not on every machine. f64 is for checking layers, so these
// are short rather than fast.
#include "DoubleMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

#include <limits>

using namespace mlir;
using namespace mlir::moe;

namespace {
class Doubles : public ImplicitLocOpBuilder {
public:
  explicit Doubles(Operation *op)
      : ImplicitLocOpBuilder(op->getLoc(), op),
        type(op->getResult(0).getType()), words(like(getI64Type())) {}

  Value exp(Value x);
  Value expm1(Value x);
  Value log(Value x);
  Value log1p(Value x);
  Value tanh(Value x);
  Value erf(Value x);

  Value number(double value) { return splat(getF64FloatAttr(value)); }
  Value add(Value a, Value b) { return arith::AddFOp::create(*this, a, b); }
  Value sub(Value a, Value b) { return arith::SubFOp::create(*this, a, b); }
  Value mul(Value a, Value b) { return arith::MulFOp::create(*this, a, b); }
  Value div(Value a, Value b) { return arith::DivFOp::create(*this, a, b); }
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
  Value far =
      compare(arith::CmpFPredicate::OGT, intrinsic("llvm.fabs", x), number(1));
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
  Value large = compare(arith::CmpFPredicate::OGT, x, number(1e16));
  return select(tiny, x, select(large, log(u), corrected));
}

Value Doubles::tanh(Value x) {
  // 1 to the last bit beyond.
  Value magnitude = intrinsic("llvm.fabs", x);
  Value far = compare(arith::CmpFPredicate::OGT, magnitude, number(20));
  Value t = expm1(mul(select(far, number(20), magnitude), number(2)));
  Value result = div(t, add(t, number(2)));
  return intrinsic("llvm.copysign", {result, x});
}

/// 2 x exp(-x^2) / sqrt(pi) times the sum of (2 x^2)^n / (2n + 1)!!, whose
/// terms are all positive; from the last one that counts to the first.
Value Doubles::erf(Value x) {
  // 1 to the last bit beyond.
  Value magnitude = intrinsic("llvm.fabs", x);
  Value far = compare(arith::CmpFPredicate::OGT, magnitude, number(6));
  Value a = select(far, number(6), magnitude);
  Value square = mul(a, a), twice = add(square, square);
  // exp of a large number turns its rounding into an error of the result.
  Value lost = fma(a, a, sub(number(0), square));
  Value decay = exp(sub(number(0), square));
  decay = sub(decay, mul(decay, lost));
  constexpr int64_t kTerms = 150;
  Value first = arith::ConstantIndexOp::create(*this, 0);
  Value end = arith::ConstantIndexOp::create(*this, kTerms);
  Value step = arith::ConstantIndexOp::create(*this, 1);
  Value odd = number(2 * kTerms + 1), one = number(1);
  auto loop = scf::ForOp::create(
      *this, first, end, step, ValueRange{one, odd},
      [&](OpBuilder &, Location, Value, ValueRange carried) {
        Value sum = fma(carried[0], div(twice, carried[1]), one);
        scf::YieldOp::create(*this,
                             ValueRange{sum, sub(carried[1], number(2))});
      });
  constexpr double kTwoOverRootPi = 1.1283791670955125739;
  Value result =
      mul(mul(mul(a, number(kTwoOverRootPi)), decay), loop.getResult(0));
  result = select(far, one, result);
  return intrinsic("llvm.copysign", {result, x});
}

bool mlir::moe::expandDoubleMath(Operation *op) {
  if (op->getNumResults() != 1 ||
      !getElementTypeOrSelf(op->getResult(0).getType()).isF64())
    return false;
  Doubles b(op);
  Value x = op->getOperand(0), result;
  constexpr double kLog2E = 1.4426950408889634074,
                   kLn2 = 0.69314718055994530942;
  if (isa<math::ExpOp>(op))
    result = b.exp(x);
  else if (isa<math::Exp2Op>(op))
    result = b.exp(b.mul(x, b.number(kLn2)));
  else if (isa<math::ExpM1Op>(op))
    result = b.expm1(x);
  else if (isa<math::LogOp>(op))
    result = b.log(x);
  else if (isa<math::Log2Op>(op))
    result = b.mul(b.log(x), b.number(kLog2E));
  else if (isa<math::Log1pOp>(op))
    result = b.log1p(x);
  else if (isa<math::TanhOp>(op))
    result = b.tanh(x);
  else if (isa<math::ErfOp>(op))
    result = b.erf(x);
  else if (isa<math::RsqrtOp>(op))
    result = b.div(b.number(1), b.intrinsic("llvm.sqrt", x));
  else
    return false;
  op->replaceAllUsesWith(ValueRange{result});
  op->erase();
  return true;
}
