// SPDX-License-Identifier: Apache-2.0
//===- HalfConversions.cpp - 16-bit floats without instructions -----------===//
//
// Written on integers: a conversion in this file would call itself.
//
//===----------------------------------------------------------------------===//
#include "HalfConversions.h"
#include "llvm/ADT/bit.h"
#include <cmath>

using llvm::bit_cast;

namespace {
/// Rounds a double to a format of `exponentBits` and `mantissaBits`, to nearest
/// even, once: both f32 and f64 are exact in a double, so there is no double
/// rounding.
uint16_t truncate(double value, int exponentBits, int mantissaBits) {
  uint64_t bits = bit_cast<uint64_t>(value);
  uint16_t sign = static_cast<uint16_t>(bits >> 63)
                  << (exponentBits + mantissaBits);
  int exponent = static_cast<int>((bits >> 52) & 0x7ff);
  uint64_t mantissa = bits & ((uint64_t(1) << 52) - 1);
  int maxExponent = (1 << exponentBits) - 1;
  uint16_t infinity = static_cast<uint16_t>(maxExponent << mantissaBits);
  if (exponent == 0x7ff) {
    if (!mantissa)
      return sign | infinity;
    return sign | infinity | uint16_t(1 << (mantissaBits - 1)) |
           static_cast<uint16_t>(mantissa >> (52 - mantissaBits));
  }
  if (exponent == 0)
    return sign; // A denormal double is below half of the least result.
  int target = exponent - 1023 + (maxExponent >> 1);
  if (target >= maxExponent)
    return sign | infinity;
  uint64_t full = mantissa | (uint64_t(1) << 52);
  int shift = 52 - mantissaBits;
  if (target <= 0) {
    shift += 1 - target;
    target = 0;
    if (shift > 54)
      return sign;
  }
  uint64_t kept = full >> shift;
  uint64_t rest = full & ((uint64_t(1) << shift) - 1);
  uint64_t half = uint64_t(1) << (shift - 1);
  if (rest > half || (rest == half && (kept & 1)))
    ++kept;
  // The implicit bit adds one to the exponent, and a carry of the rounding
  // moves on into it, up to infinity.
  if (target > 0)
    kept += static_cast<uint64_t>(target - 1) << mantissaBits;
  return sign | static_cast<uint16_t>(kept);
}
} // namespace

uint16_t moe::moeTruncateF32ToF16Bits(float value) {
  return truncate(value, 5, 10);
}
_Float16 moe::moeTruncateF32ToF16(float value) {
  return bit_cast<_Float16>(truncate(value, 5, 10));
}
_Float16 moe::moeTruncateF64ToF16(double value) {
  return bit_cast<_Float16>(truncate(value, 5, 10));
}
__bf16 moe::moeTruncateF32ToBF16(float value) {
  return bit_cast<__bf16>(truncate(value, 8, 7));
}
__bf16 moe::moeTruncateF64ToBF16(double value) {
  return bit_cast<__bf16>(truncate(value, 8, 7));
}

float moe::moeExtendF16BitsToF32(uint16_t half) {
  uint32_t sign = uint32_t(half & 0x8000) << 16;
  uint32_t exponent = (half >> 10) & 0x1f;
  uint32_t mantissa = half & 0x3ff;
  if (exponent == 0x1f)
    return bit_cast<float>(sign | 0x7f800000 | (mantissa << 13) |
                           (mantissa ? 0x400000 : 0));
  if (exponent == 0) {
    float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return bit_cast<float>(sign | bit_cast<uint32_t>(magnitude));
  }
  return bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}
float moe::moeExtendF16ToF32(_Float16 value) {
  return moeExtendF16BitsToF32(bit_cast<uint16_t>(value));
}

// glibc has these from 2.25 on, but only under a C23 feature macro.
float moe::moeRoundEvenF(float value) {
  float rounded = std::round(value);
  if (std::fabs(value - std::trunc(value)) == 0.5f)
    rounded = 2.0f * std::round(value / 2.0f);
  return std::copysign(rounded, value);
}
double moe::moeRoundEven(double value) {
  double rounded = std::round(value);
  if (std::fabs(value - std::trunc(value)) == 0.5)
    rounded = 2.0 * std::round(value / 2.0);
  return std::copysign(rounded, value);
}
