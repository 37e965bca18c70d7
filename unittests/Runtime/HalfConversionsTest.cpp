// SPDX-License-Identifier: Apache-2.0
#include "HalfConversions.h"
#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/bit.h"
#include "gtest/gtest.h"
#include <cmath>

using namespace llvm;
using namespace moe;

/// What APFloat, an implementation of its own, gives.
static uint16_t expected(double value, const fltSemantics &semantics) {
  APFloat number(value);
  bool losesInfo;
  number.convert(semantics, APFloat::rmNearestTiesToEven, &losesInfo);
  return number.bitcastToAPInt().getZExtValue();
}

static void check(double value) {
  uint16_t half = bit_cast<uint16_t>(moeTruncateF64ToF16(value));
  uint16_t brain = bit_cast<uint16_t>(moeTruncateF64ToBF16(value));
  if (std::isnan(value)) {
    EXPECT_TRUE(std::isnan(moeExtendF16BitsToF32(half)));
    EXPECT_EQ(brain & 0x7f80, 0x7f80);
    EXPECT_NE(brain & 0x7f, 0);
    return;
  }
  ASSERT_EQ(half, expected(value, APFloat::IEEEhalf())) << value;
  ASSERT_EQ(brain, expected(value, APFloat::BFloat())) << value;
  if (static_cast<double>(static_cast<float>(value)) == value) {
    ASSERT_EQ(bit_cast<uint16_t>(moeTruncateF32ToF16(value)), half);
    ASSERT_EQ(bit_cast<uint16_t>(moeTruncateF32ToBF16(value)), brain);
  }
}

TEST(HalfConversionsTest, EveryHalfExtendsAndComesBack) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    float value = moeExtendF16BitsToF32(bits);
    bool isNan = (bits & 0x7c00) == 0x7c00 && (bits & 0x3ff);
    ASSERT_EQ(std::isnan(value), isNan) << bits;
    if (!isNan) {
      ASSERT_EQ(moeTruncateF32ToF16Bits(value), bits);
    }
  }
}

TEST(HalfConversionsTest, TiesAndTheirNeighbours) {
  // Halfway between every pair of neighbouring halves and bfloats, and one step
  // of a double to either side.
  for (unsigned bits = 0; bits < 0x7c00; bits += 7) {
    double a = moeExtendF16BitsToF32(bits), b = moeExtendF16BitsToF32(bits + 1);
    double middle = std::isinf(b) ? 65520.0 : (a + b) / 2;
    for (double value :
         {middle, std::nextafter(middle, 0.0), std::nextafter(middle, 1e300)}) {
      check(value);
      check(-value);
    }
  }
  for (uint32_t bits = 0; bits < 0x7f80; bits += 5) {
    double a = bit_cast<float>(bits << 16),
           b = bit_cast<float>((bits + 1) << 16);
    double middle = std::isinf(b) ? a : a + (b - a) / 2;
    for (double value :
         {middle, std::nextafter(middle, 0.0), std::nextafter(middle, 1e300)}) {
      check(value);
      check(-value);
    }
  }
}

TEST(HalfConversionsTest, Extremes) {
  for (double value :
       {0.0, -0.0, 1e-310, 5e-324, 1e-46, 1e300, -1e300, 65504.0, 65519.99,
        65520.0, 3.4e38, 5.9e-8, 2.98e-8, 2.980232238769531e-08,
        double(INFINITY), -double(INFINITY), double(NAN)})
    check(value);
}

TEST(HalfConversionsTest, RoundEven) {
  for (float value : {0.5f, 1.5f, 2.5f, -0.5f, -2.5f, 0.3f, 0.7f, -0.2f, 1e9f,
                      8388607.5f, 0.49999997f}) {
    EXPECT_EQ(moeRoundEvenF(value), std::nearbyint(value)) << value;
    EXPECT_EQ(std::signbit(moeRoundEvenF(value)), std::signbit(value));
    EXPECT_EQ(moeRoundEven(value), std::nearbyint(double(value))) << value;
  }
}
