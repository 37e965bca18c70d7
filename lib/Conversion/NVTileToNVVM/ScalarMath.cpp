// SPDX-License-Identifier: Apache-2.0
// The scalar ops of an nvtile.map. Where the chip has a fast instruction that
// is good to about 1e-6 it is taken: a map's results are rounded to 16 bits.
#include "Emitter.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::nvtile;

bool mlir::nvtile::isScalarMath(Operation *op) {
  if (op->getNumRegions() || op->getNumResults() != 1)
    return false;
  for (Type type : op->getResultTypes())
    if (!type.isF32() && !type.isInteger(1) && !type.isBF16() && !type.isF16())
      return false;
  if (isa<arith::ConstantOp, arith::AddFOp, arith::SubFOp, arith::MulFOp,
          arith::DivFOp, arith::NegFOp, arith::MaximumFOp, arith::MinimumFOp,
          arith::MaxNumFOp, arith::MinNumFOp, arith::CmpFOp, arith::SelectOp,
          arith::TruncFOp, arith::ExtFOp, arith::AndIOp, arith::OrIOp,
          arith::XOrIOp>(op))
    return true;
  return isa<math::ExpOp, math::Exp2Op, math::TanhOp, math::ErfOp, math::AbsFOp,
             math::SqrtOp, math::RsqrtOp, math::LogOp, math::FmaOp,
             math::CopySignOp>(op);
}

namespace {
/// Functions of f32 values.
struct Math {
  Emitter &b;

  Value add(Value x, Value y) {
    return arith::AddFOp::create(b, x, y, arith::FastMathFlags::contract);
  }
  Value mul(Value x, Value y) {
    return arith::MulFOp::create(b, x, y, arith::FastMathFlags::contract);
  }
  Value mul(Value x, double y) { return mul(x, b.f32(y)); }
  /// A call, also where the LLVM dialect has an op: convert-gpu-to-nvvm would
  /// make a call of the device library of that.
  Value intrinsic(StringRef name, ValueRange operands) {
    return LLVM::CallIntrinsicOp::create(b, b.getF32Type(),
                                         b.getStringAttr(name), operands)
        .getResult(0);
  }
  Value reciprocal(Value x) {
    return NVVM::RcpApproxFtzF32Op::create(b, b.getF32Type(), x);
  }
  Value exp2(Value x) { return intrinsic("llvm.nvvm.ex2.approx.ftz.f32", x); }
  Value exp(Value x) { return exp2(mul(x, 1.4426950408889634)); }
  Value log(Value x) {
    return mul(intrinsic("llvm.nvvm.lg2.approx.ftz.f", x), 0.6931471805599453);
  }
  Value abs(Value x) { return intrinsic("llvm.fabs", x); }
  Value copySign(Value x, Value sign) {
    return intrinsic("llvm.copysign", {x, sign});
  }
  /// 1 - 2 / (exp(2 |x|) + 1), with x's sign.
  Value tanh(Value x) {
    Value e = exp2(mul(abs(x), 2 * 1.4426950408889634));
    Value y = add(b.f32(1.0), mul(reciprocal(add(e, b.f32(1.0))), -2.0));
    return copySign(y, x);
  }
  /// Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26:
  /// absolute error 1.5e-7.
  Value erf(Value x) {
    Value positive = abs(x);
    Value t = reciprocal(add(b.f32(1.0), mul(positive, 0.3275911)));
    Value sum = b.f32(1.061405429);
    for (double c : {-1.453152027, 1.421413741, -0.284496736, 0.254829592})
      sum = add(b.f32(c), mul(sum, t));
    Value square = mul(mul(x, x), -1.4426950408889634);
    Value y = add(b.f32(1.0), mul(mul(mul(sum, t), exp2(square)), -1.0));
    return copySign(y, x);
  }
};
} // namespace

void mlir::nvtile::emitScalarMath(Operation *op, IRMapping &mapping,
                                  Emitter &b) {
  Math math{b};
  auto operand = [&](unsigned i) {
    return mapping.lookupOrDefault(op->getOperand(i));
  };
  bool wide = op->getResult(0).getType().isF32();
  Value value;
  if (wide && isa<arith::DivFOp>(op)) {
    Value reciprocal = math.reciprocal(operand(1));
    value = matchPattern(op->getOperand(0), m_OneFloat())
                ? reciprocal
                : math.mul(operand(0), reciprocal);
  } else if (wide && isa<arith::AddFOp>(op)) {
    value = math.add(operand(0), operand(1));
  } else if (wide && isa<arith::MulFOp>(op)) {
    value = math.mul(operand(0), operand(1));
  } else if (isa<math::ExpOp>(op)) {
    value = math.exp(operand(0));
  } else if (isa<math::Exp2Op>(op)) {
    value = math.exp2(operand(0));
  } else if (isa<math::LogOp>(op)) {
    value = math.log(operand(0));
  } else if (isa<math::TanhOp>(op)) {
    value = math.tanh(operand(0));
  } else if (isa<math::ErfOp>(op)) {
    value = math.erf(operand(0));
  } else if (isa<math::AbsFOp>(op)) {
    value = math.abs(operand(0));
  } else if (isa<math::SqrtOp>(op)) {
    value = math.intrinsic("llvm.nvvm.sqrt.approx.ftz.f", operand(0));
  } else if (isa<math::RsqrtOp>(op)) {
    value = math.intrinsic("llvm.nvvm.rsqrt.approx.ftz.f", operand(0));
  } else if (isa<math::FmaOp>(op)) {
    value = math.intrinsic("llvm.fma", {operand(0), operand(1), operand(2)});
  } else if (isa<math::CopySignOp>(op)) {
    value = math.copySign(operand(0), operand(1));
  }
  if (value)
    mapping.map(op->getResult(0), value);
  else
    b.clone(*op, mapping);
}
