// SPDX-License-Identifier: Apache-2.0
//===- HalfConversions.h - 16-bit floats without instructions ---*- C++ -*-===//
//
// Conversions that LLVM calls by name on CPUs without the instructions. The
// libgcc of supported systems lacks some of them, so all are ours.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_LIB_RUNTIME_HALFCONVERSIONS_H
#define MOE_LIB_RUNTIME_HALFCONVERSIONS_H

#include <cstdint>

namespace moe {
_Float16 moeTruncateF32ToF16(float value);
_Float16 moeTruncateF64ToF16(double value);
float moeExtendF16ToF32(_Float16 value);
uint16_t moeTruncateF32ToF16Bits(float value);
float moeExtendF16BitsToF32(uint16_t bits);
__bf16 moeTruncateF32ToBF16(float value);
__bf16 moeTruncateF64ToBF16(double value);
float moeRoundEvenF(float value);
double moeRoundEven(double value);
} // namespace moe

#endif // MOE_LIB_RUNTIME_HALFCONVERSIONS_H
