// SPDX-License-Identifier: Apache-2.0
#include "moe/Interpreter/NDArray.h"

#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <cstring>
#include <limits>

using namespace mlir;
using namespace mlir::moe;

StringRef mlir::moe::getDTypeName(DType dtype) {
  switch (dtype) {
  case DType::F64:
    return "float64";
  case DType::F32:
    return "float32";
  case DType::F16:
    return "float16";
  case DType::BF16:
    return "bfloat16";
  case DType::I64:
    return "int64";
  case DType::I32:
    return "int32";
  case DType::I16:
    return "int16";
  case DType::I8:
    return "int8";
  case DType::Bool:
    return "bool";
  }
  llvm_unreachable("dtypes are covered");
}

std::optional<DType> mlir::moe::parseDType(StringRef name) {
  for (int i = 0; i <= static_cast<int>(DType::Bool); ++i)
    if (getDTypeName(static_cast<DType>(i)) == name)
      return static_cast<DType>(i);
  return std::nullopt;
}

std::optional<DType> mlir::moe::getDType(Type type) {
  if (type.isF64())
    return DType::F64;
  if (type.isF32())
    return DType::F32;
  if (type.isF16())
    return DType::F16;
  if (type.isBF16())
    return DType::BF16;
  if (type.isIndex() || type.isInteger(64))
    return DType::I64;
  if (type.isInteger(32))
    return DType::I32;
  if (type.isInteger(16))
    return DType::I16;
  if (type.isInteger(8))
    return DType::I8;
  if (type.isInteger(1))
    return DType::Bool;
  return std::nullopt;
}

int64_t mlir::moe::getByteWidth(DType dtype) {
  switch (dtype) {
  case DType::F64:
  case DType::I64:
    return 8;
  case DType::F32:
  case DType::I32:
    return 4;
  case DType::F16:
  case DType::BF16:
  case DType::I16:
    return 2;
  case DType::I8:
  case DType::Bool:
    return 1;
  }
  llvm_unreachable("dtypes are covered");
}

/// The nearest number with that many significant bits, exponents from `low`
/// (of the least normal number) to `high`.
static double roundToBits(double value, int bits, int low, int high) {
  if (!std::isfinite(value) || value == 0)
    return value;
  // Below the least normal number the spacing stays what it is there.
  int exponent = std::max(std::ilogb(value), low);
  double spacing = std::ldexp(1.0, exponent - bits + 1);
  double rounded = std::nearbyint(value / spacing) * spacing;
  if (std::ilogb(rounded) > high && rounded != 0)
    return std::copysign(std::numeric_limits<double>::infinity(), value);
  return rounded;
}

double mlir::moe::roundTo(DType dtype, double value) {
  switch (dtype) {
  case DType::F32:
    return static_cast<float>(value);
  case DType::F16:
    return roundToBits(value, 11, -14, 15);
  case DType::BF16:
    return roundToBits(value, 8, -126, 127);
  default:
    return value;
  }
}

int64_t mlir::moe::wrapTo(DType dtype, int64_t value) {
  switch (dtype) {
  case DType::I32:
    return static_cast<int32_t>(value);
  case DType::I16:
    return static_cast<int16_t>(value);
  case DType::I8:
    return static_cast<int8_t>(value);
  case DType::Bool:
    return -(value & 1);
  default:
    return value;
  }
}

int64_t mlir::moe::getNumElements(ArrayRef<int64_t> shape) {
  int64_t size = 1;
  for (int64_t dim : shape)
    size *= dim;
  return size;
}

NDArray::NDArray(DType dtype, ArrayRef<int64_t> shape)
    : type(dtype), sizes(shape), count(getNumElements(shape)) {
  if (isFloat())
    floats.assign(count, std::numeric_limits<double>::quiet_NaN());
  else
    integers.assign(count, wrapTo(dtype, 0x5eadbeef5eadbeef));
}

NDArray NDArray::filled(DType dtype, ArrayRef<int64_t> shape, double value) {
  NDArray array(dtype, shape);
  if (array.isFloat())
    array.floats.assign(array.count, value);
  else
    array.integers.assign(array.count,
                          wrapTo(dtype, static_cast<int64_t>(value)));
  return array;
}

template <typename T> static T load(const char *bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}
template <typename T> static void store(char *bytes, T value) {
  std::memcpy(bytes, &value, sizeof(T));
}

/// Half and bfloat16 by way of APFloat, from and to their bits.
static double fromBits(const llvm::fltSemantics &semantics, uint16_t bits) {
  llvm::APFloat value(semantics, llvm::APInt(16, bits));
  bool loses;
  value.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven,
                &loses);
  return value.convertToDouble();
}
static uint16_t toBits(const llvm::fltSemantics &semantics, double number) {
  llvm::APFloat value(number);
  bool loses;
  value.convert(semantics, llvm::APFloat::rmNearestTiesToEven, &loses);
  return static_cast<uint16_t>(value.bitcastToAPInt().getZExtValue());
}

NDArray NDArray::fromBytes(DType dtype, ArrayRef<int64_t> shape,
                           const void *bytes) {
  NDArray array(dtype, shape);
  const char *p = static_cast<const char *>(bytes);
  for (int64_t n = 0; n < array.count; ++n, p += getByteWidth(dtype)) {
    switch (dtype) {
    case DType::F64:
      array.f(n) = load<double>(p);
      break;
    case DType::F32:
      array.f(n) = load<float>(p);
      break;
    case DType::F16:
      array.f(n) = fromBits(llvm::APFloat::IEEEhalf(), load<uint16_t>(p));
      break;
    case DType::BF16:
      array.f(n) = fromBits(llvm::APFloat::BFloat(), load<uint16_t>(p));
      break;
    case DType::I64:
      array.i(n) = load<int64_t>(p);
      break;
    case DType::I32:
      array.i(n) = load<int32_t>(p);
      break;
    case DType::I16:
      array.i(n) = load<int16_t>(p);
      break;
    case DType::I8:
      array.i(n) = load<int8_t>(p);
      break;
    case DType::Bool:
      array.i(n) = -static_cast<int64_t>(*p != 0);
      break;
    }
  }
  return array;
}

std::vector<char> NDArray::toBytes() const {
  std::vector<char> bytes(count * getByteWidth(type));
  char *p = bytes.data();
  for (int64_t n = 0; n < count; ++n, p += getByteWidth(type)) {
    switch (type) {
    case DType::F64:
      store(p, f(n));
      break;
    case DType::F32:
      store(p, static_cast<float>(f(n)));
      break;
    case DType::F16:
      store(p, toBits(llvm::APFloat::IEEEhalf(), f(n)));
      break;
    case DType::BF16:
      store(p, toBits(llvm::APFloat::BFloat(), f(n)));
      break;
    case DType::I64:
      store(p, i(n));
      break;
    case DType::I32:
      store(p, static_cast<int32_t>(i(n)));
      break;
    case DType::I16:
      store(p, static_cast<int16_t>(i(n)));
      break;
    case DType::I8:
      store(p, static_cast<int8_t>(i(n)));
      break;
    case DType::Bool:
      store(p, static_cast<char>(i(n) & 1));
      break;
    }
  }
  return bytes;
}

NDArray NDArray::reshaped(ArrayRef<int64_t> shape) const {
  assert(getNumElements(shape) == count && "a reshape keeps the elements");
  NDArray array = *this;
  array.sizes.assign(shape.begin(), shape.end());
  return array;
}

void NDArray::round() {
  for (double &value : floats)
    value = roundTo(type, value);
}

std::string mlir::moe::describe(DType dtype, ArrayRef<int64_t> shape) {
  std::string text = (getDTypeName(dtype) + " (").str();
  llvm::raw_string_ostream os(text);
  llvm::interleaveComma(shape, os);
  os << (shape.size() == 1 ? ",)" : ")");
  return text;
}
