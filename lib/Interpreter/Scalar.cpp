// SPDX-License-Identifier: Apache-2.0
//
// arith and math on one scalar each. Floats are computed in double precision
// whatever their type; integers wrap to their width.

#include "Frame.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::interpreter;

using Unary = double (*)(double);
using Binary = double (*)(double, double);
using IntBinary = int64_t (*)(int64_t, int64_t);
using Unsigned = uint64_t (*)(uint64_t, uint64_t);

/// NaN if either is, as torch.maximum.
static double maximum(double a, double b) {
  return std::isnan(a) || std::isnan(b) ? a + b : std::max(a, b);
}
static double minimum(double a, double b) {
  return std::isnan(a) || std::isnan(b) ? a + b : std::min(a, b);
}

static Unary getUnary(StringRef name) {
  static const llvm::StringMap<Unary> table = {
      {"arith.negf", [](double a) { return -a; }},
      {"math.absf", [](double a) { return std::fabs(a); }},
      {"math.acos", [](double a) { return std::acos(a); }},
      {"math.acosh", [](double a) { return std::acosh(a); }},
      {"math.asin", [](double a) { return std::asin(a); }},
      {"math.asinh", [](double a) { return std::asinh(a); }},
      {"math.atan", [](double a) { return std::atan(a); }},
      {"math.atanh", [](double a) { return std::atanh(a); }},
      {"math.cbrt", [](double a) { return std::cbrt(a); }},
      {"math.ceil", [](double a) { return std::ceil(a); }},
      {"math.cos", [](double a) { return std::cos(a); }},
      {"math.cosh", [](double a) { return std::cosh(a); }},
      {"math.erf", [](double a) { return std::erf(a); }},
      {"math.erfc", [](double a) { return std::erfc(a); }},
      {"math.exp", [](double a) { return std::exp(a); }},
      {"math.exp2", [](double a) { return std::exp2(a); }},
      {"math.expm1", [](double a) { return std::expm1(a); }},
      {"math.floor", [](double a) { return std::floor(a); }},
      {"math.log", [](double a) { return std::log(a); }},
      {"math.log10", [](double a) { return std::log10(a); }},
      {"math.log1p", [](double a) { return std::log1p(a); }},
      {"math.log2", [](double a) { return std::log2(a); }},
      {"math.round", [](double a) { return std::round(a); }},
      {"math.roundeven", [](double a) { return std::nearbyint(a); }},
      {"math.rsqrt", [](double a) { return 1 / std::sqrt(a); }},
      {"math.sin", [](double a) { return std::sin(a); }},
      {"math.sinh", [](double a) { return std::sinh(a); }},
      {"math.sqrt", [](double a) { return std::sqrt(a); }},
      {"math.tan", [](double a) { return std::tan(a); }},
      {"math.tanh", [](double a) { return std::tanh(a); }},
      {"math.trunc", [](double a) { return std::trunc(a); }},
  };
  return table.lookup(name);
}

static Binary getBinary(StringRef name) {
  static const llvm::StringMap<Binary> table = {
      {"arith.addf", [](double a, double b) { return a + b; }},
      {"arith.divf", [](double a, double b) { return a / b; }},
      {"arith.maximumf", maximum},
      {"arith.maxnumf", [](double a, double b) { return std::fmax(a, b); }},
      {"arith.minimumf", minimum},
      {"arith.minnumf", [](double a, double b) { return std::fmin(a, b); }},
      {"arith.mulf", [](double a, double b) { return a * b; }},
      {"arith.remf", [](double a, double b) { return std::fmod(a, b); }},
      {"arith.subf", [](double a, double b) { return a - b; }},
      {"math.atan2", [](double a, double b) { return std::atan2(a, b); }},
      {"math.copysign", [](double a, double b) { return std::copysign(a, b); }},
      {"math.powf", [](double a, double b) { return std::pow(a, b); }},
  };
  return table.lookup(name);
}

/// Division by zero and its overflow are poison in arith: any number will do.
static int64_t divide(int64_t a, int64_t b) {
  return b == 0 ? 0 : b == -1 ? static_cast<int64_t>(0 - uint64_t(a)) : a / b;
}
static int64_t remainder(int64_t a, int64_t b) {
  return b == 0 || b == -1 ? 0 : a % b;
}

static IntBinary getIntBinary(StringRef name) {
  using U = uint64_t;
  static const llvm::StringMap<IntBinary> table = {
      {"arith.addi", [](int64_t a, int64_t b) { return int64_t(U(a) + U(b)); }},
      {"arith.andi", [](int64_t a, int64_t b) { return a & b; }},
      {"arith.ceildivsi",
       [](int64_t a, int64_t b) {
         return divide(a, b) + (remainder(a, b) != 0 && (a < 0) == (b < 0));
       }},
      {"arith.divsi", divide},
      {"arith.floordivsi",
       [](int64_t a, int64_t b) {
         return divide(a, b) - (remainder(a, b) != 0 && (a < 0) != (b < 0));
       }},
      {"arith.maxsi", [](int64_t a, int64_t b) { return std::max(a, b); }},
      {"arith.minsi", [](int64_t a, int64_t b) { return std::min(a, b); }},
      {"arith.muli", [](int64_t a, int64_t b) { return int64_t(U(a) * U(b)); }},
      {"arith.ori", [](int64_t a, int64_t b) { return a | b; }},
      {"arith.remsi", remainder},
      {"arith.shli",
       [](int64_t a, int64_t b) {
         return b < 0 || b > 63 ? 0 : int64_t(U(a) << b);
       }},
      {"arith.shrsi",
       [](int64_t a, int64_t b) { return b < 0 || b > 63 ? 0 : a >> b; }},
      {"arith.subi", [](int64_t a, int64_t b) { return int64_t(U(a) - U(b)); }},
      {"arith.xori", [](int64_t a, int64_t b) { return a ^ b; }},
  };
  return table.lookup(name);
}

static Unsigned getUnsigned(StringRef name) {
  using U = uint64_t;
  static const llvm::StringMap<Unsigned> table = {
      {"arith.ceildivui",
       [](U a, U b) { return b ? a / b + (a % b != 0) : 0; }},
      {"arith.divui", [](U a, U b) { return b ? a / b : 0; }},
      {"arith.maxui", [](U a, U b) { return std::max(a, b); }},
      {"arith.minui", [](U a, U b) { return std::min(a, b); }},
      {"arith.remui", [](U a, U b) { return b ? a % b : 0; }},
      {"arith.shrui", [](U a, U b) { return b > 63 ? 0 : a >> b; }},
  };
  return table.lookup(name);
}

/// The bits of an integer of that type.
static uint64_t bitsOf(DType dtype, int64_t value) {
  if (dtype == DType::Bool)
    return value & 1;
  int64_t width = 8 * getByteWidth(dtype);
  return width == 64 ? value : value & ((uint64_t(1) << width) - 1);
}

/// Saturates; NaN is 0 (arith calls both poison).
static int64_t toInteger(double value) {
  if (std::isnan(value))
    return 0;
  return static_cast<int64_t>(
      std::clamp(value, -9223372036854775808.0, 9223372036854774784.0));
}

static bool compareFloats(arith::CmpFPredicate predicate, double a, double b) {
  using P = arith::CmpFPredicate;
  bool unordered = std::isnan(a) || std::isnan(b);
  switch (predicate) {
  case P::AlwaysFalse:
    return false;
  case P::OEQ:
    return a == b;
  case P::OGT:
    return a > b;
  case P::OGE:
    return a >= b;
  case P::OLT:
    return a < b;
  case P::OLE:
    return a <= b;
  case P::ONE:
    return !unordered && a != b;
  case P::ORD:
    return !unordered;
  case P::UEQ:
    return unordered || a == b;
  case P::UGT:
    return !(a <= b);
  case P::UGE:
    return !(a < b);
  case P::ULT:
    return !(a >= b);
  case P::ULE:
    return !(a > b);
  case P::UNE:
    return a != b;
  case P::UNO:
    return unordered;
  case P::AlwaysTrue:
    return true;
  }
  llvm_unreachable("predicates are covered");
}

static bool compareIntegers(arith::CmpIPredicate predicate, DType dtype,
                            int64_t a, int64_t b) {
  using P = arith::CmpIPredicate;
  uint64_t ua = bitsOf(dtype, a), ub = bitsOf(dtype, b);
  switch (predicate) {
  case P::eq:
    return a == b;
  case P::ne:
    return a != b;
  case P::slt:
    return a < b;
  case P::sle:
    return a <= b;
  case P::sgt:
    return a > b;
  case P::sge:
    return a >= b;
  case P::ult:
    return ua < ub;
  case P::ule:
    return ua <= ub;
  case P::ugt:
    return ua > ub;
  case P::uge:
    return ua >= ub;
  }
  llvm_unreachable("predicates are covered");
}

static Scalar boolean(bool value) { return scalar(-int64_t(value)); }

/// Casts, comparisons, choices and the rest that has no table.
static ScalarFunction getOther(Operation *op, DType from, DType to,
                               const InterpretOptions &options) {
  using Args = ArrayRef<Scalar>;
  return TypeSwitch<Operation *, ScalarFunction>(op)
      .Case([&](arith::CmpFOp cmp) {
        return [p = cmp.getPredicate()](Args x) {
          return boolean(compareFloats(p, x[0].f, x[1].f));
        };
      })
      .Case([&](arith::CmpIOp cmp) {
        return [p = cmp.getPredicate(), from](Args x) {
          return boolean(compareIntegers(p, from, x[0].i, x[1].i));
        };
      })
      .Case<arith::SelectOp>(
          [&](auto) { return [](Args x) { return x[0].i ? x[1] : x[2]; }; })
      .Case<arith::ExtFOp>([&](auto) { return [](Args x) { return x[0]; }; })
      .Case<arith::TruncFOp>([&](auto) {
        return [to, round = options.round](Args x) {
          return round ? scalar(roundTo(to, x[0].f)) : x[0];
        };
      })
      .Case<arith::ExtSIOp, arith::TruncIOp, arith::IndexCastOp>([&](auto) {
        return [to](Args x) { return scalar(wrapTo(to, x[0].i)); };
      })
      .Case<arith::ExtUIOp, arith::IndexCastUIOp>([&](auto) {
        return [from, to](Args x) {
          return scalar(wrapTo(to, bitsOf(from, x[0].i)));
        };
      })
      .Case<arith::SIToFPOp>([&](auto) {
        return [](Args x) { return scalar(static_cast<double>(x[0].i)); };
      })
      .Case<arith::UIToFPOp>([&](auto) {
        return [from](Args x) {
          return scalar(static_cast<double>(bitsOf(from, x[0].i)));
        };
      })
      .Case<arith::FPToSIOp, arith::FPToUIOp>([&](auto) {
        return [to](Args x) { return scalar(wrapTo(to, toInteger(x[0].f))); };
      })
      .Case<arith::BitcastOp>([&](auto) {
        return [from, to](Args x) {
          NDArray value(from, {});
          put(value, 0, x[0]);
          return at(NDArray::fromBytes(to, {}, value.toBytes().data()), 0);
        };
      })
      .Case<math::FmaOp>([&](auto) {
        return [](Args x) { return scalar(std::fma(x[0].f, x[1].f, x[2].f)); };
      })
      .Case<math::FPowIOp>([&](auto) {
        return [](Args x) {
          return scalar(std::pow(x[0].f, static_cast<double>(x[1].i)));
        };
      })
      .Case<math::AbsIOp>([&](auto) {
        return [to](Args x) {
          uint64_t magnitude = x[0].i < 0 ? 0 - uint64_t(x[0].i) : x[0].i;
          return scalar(wrapTo(to, magnitude));
        };
      })
      .Case<math::IsNaNOp>([&](auto) {
        return [](Args x) { return boolean(std::isnan(x[0].f)); };
      })
      .Case<math::IsInfOp>([&](auto) {
        return [](Args x) { return boolean(std::isinf(x[0].f)); };
      })
      .Case<math::IsFiniteOp>([&](auto) {
        return [](Args x) { return boolean(std::isfinite(x[0].f)); };
      })
      .Default([](Operation *) { return ScalarFunction(); });
}

ScalarFunction interpreter::getScalarFunction(Operation *op,
                                              const InterpretOptions &options) {
  using Args = ArrayRef<Scalar>;
  if (op->getNumResults() != 1 || op->getNumOperands() == 0)
    return {};
  std::optional<DType> from =
      getDType(getElementTypeOrSelf(op->getOperand(0).getType()));
  std::optional<DType> to =
      getDType(getElementTypeOrSelf(op->getResult(0).getType()));
  if (!from || !to)
    return {};
  StringRef name = op->getName().getStringRef();
  if (Unary function = getUnary(name))
    return [function](Args x) { return scalar(function(x[0].f)); };
  if (Binary function = getBinary(name))
    return [function](Args x) { return scalar(function(x[0].f, x[1].f)); };
  if (IntBinary function = getIntBinary(name))
    return [function, to = *to](Args x) {
      return scalar(wrapTo(to, function(x[0].i, x[1].i)));
    };
  if (Unsigned function = getUnsigned(name))
    return [function, to = *to](Args x) {
      uint64_t value = function(bitsOf(to, x[0].i), bitsOf(to, x[1].i));
      return scalar(wrapTo(to, static_cast<int64_t>(value)));
    };
  return getOther(op, *from, *to, options);
}

//===----------------------------------------------------------------------===//
// Blocks
//===----------------------------------------------------------------------===//

/// tensor.extract from a tensor outside the block, or an arith or math op.
static ScalarFunction getStepFunction(Operation &op, const Frame &frame) {
  auto extract = dyn_cast<tensor::ExtractOp>(op);
  if (!extract || !frame.has(extract.getTensor()))
    return getScalarFunction(&op, frame.options);
  return [array = frame[extract.getTensor()]](ArrayRef<Scalar> x) {
    int64_t index = 0;
    bool inside = true;
    for (auto [size, i] : llvm::zip_equal(array.shape(), x.drop_front())) {
      inside &= i.i >= 0 && i.i < size;
      index = index * size + i.i;
    }
    return inside ? at(array, index) : at(NDArray(array.dtype(), {}), 0);
  };
}

FailureOr<ScalarProgram> ScalarProgram::compile(Block &block,
                                                const Frame &frame) {
  ScalarProgram program;
  DenseMap<Value, unsigned> numbers;
  auto define = [&](Value value) {
    unsigned number = program.registers.size();
    numbers[value] = number;
    program.registers.push_back(scalar(int64_t(0)));
    return number;
  };
  // A value from outside is put into a register here, once.
  auto use = [&](Value value) {
    auto [it, isNew] = numbers.try_emplace(value, 0);
    if (!isNew)
      return it->second;
    unsigned number = define(value);
    if (value.getType().isIntOrIndexOrFloat())
      program.registers[number] = at(frame[value], 0);
    return number;
  };
  for (Value argument : block.getArguments())
    define(argument);
  for (Operation &op : block.without_terminator()) {
    if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
      unsigned number = define(constant);
      if (auto value = dyn_cast<FloatAttr>(constant.getValue()))
        program.registers[number] = scalar(value.getValueAsDouble());
      else
        program.registers[number] = scalar(wrapTo(
            *getDType(constant.getType()),
            cast<IntegerAttr>(constant.getValue()).getValue().getSExtValue()));
      continue;
    }
    Step step;
    if (auto index = dyn_cast<linalg::IndexOp>(op))
      step.index = index.getDim();
    else if (!(step.function = getStepFunction(op, frame)))
      return op.emitOpError() << "is not known to the interpreter in a region "
                                 "of scalars";
    for (Value operand : op.getOperands())
      step.operands.push_back(use(operand));
    step.result = define(op.getResult(0));
    program.steps.push_back(std::move(step));
  }
  for (Value value : block.getTerminator()->getOperands())
    program.yielded.push_back(use(value));
  program.results.resize(program.yielded.size());
  return program;
}

ArrayRef<Scalar> ScalarProgram::run(ArrayRef<Scalar> arguments) {
  llvm::copy(arguments, registers.begin());
  SmallVector<Scalar, 4> operands;
  for (const Step &step : steps) {
    if (step.index) {
      registers[step.result] = scalar(indices[*step.index]);
      continue;
    }
    operands.clear();
    for (unsigned number : step.operands)
      operands.push_back(registers[number]);
    registers[step.result] = step.function(operands);
  }
  for (auto [result, number] : llvm::zip_equal(results, yielded))
    result = registers[number];
  return results;
}
