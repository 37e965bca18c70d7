// SPDX-License-Identifier: Apache-2.0
//===- Symbols.cpp - what compiled code may call --------------------------===//
//
// By address, not by dlsym: with hidden symbols the process finds neither our
// runtime nor, in some hosts, libm.
//
//===----------------------------------------------------------------------===//
#include "moe/Runtime/Symbols.h"
#include "HalfConversions.h"
#include "moe/Runtime/Cuda.h"
#include "moe/Runtime/ParallelFor.h"
#include "llvm/ADT/StringMap.h"
#include <cmath>
#include <cstring>

using namespace moe;

namespace {
template <typename Fn> void *address(Fn *fn) {
  return reinterpret_cast<void *>(fn);
}

using F1 = float(float);
using D1 = double(double);
using F2 = float(float, float);
using D2 = double(double, double);

llvm::StringMap<void *> makeTable() {
  llvm::StringMap<void *> table;
  table["moe_rt_parallel_for"] = address(&moe_rt_parallel_for);
  table["moe_rt_launch"] = address(&moe_rt_launch);
  table["moe_rt_multiprocessors"] = address(&moe_rt_multiprocessors);
  table["moe_rt_tensor_map"] = address(&moe_rt_tensor_map);
  table["memcpy"] = address(&memcpy);
  table["memmove"] = address(&memmove);
  table["memset"] = address(&memset);
  table["memcmp"] = address(&memcmp);
  table["bcmp"] = address(&memcmp);
#define MOE_MATH1(name)                                                        \
  table[#name "f"] = address(static_cast<F1 *>(&name##f));                     \
  table[#name] = address(static_cast<D1 *>(&name));
  MOE_MATH1(exp)
  MOE_MATH1(exp2)
  MOE_MATH1(expm1)
  MOE_MATH1(log)
  MOE_MATH1(log2)
  MOE_MATH1(log10)
  MOE_MATH1(log1p)
  MOE_MATH1(sin)
  MOE_MATH1(cos)
  MOE_MATH1(tan)
  MOE_MATH1(asin)
  MOE_MATH1(acos)
  MOE_MATH1(atan)
  MOE_MATH1(sinh)
  MOE_MATH1(cosh)
  MOE_MATH1(tanh)
  MOE_MATH1(asinh)
  MOE_MATH1(acosh)
  MOE_MATH1(atanh)
  MOE_MATH1(erf)
  MOE_MATH1(erfc)
  MOE_MATH1(sqrt)
  MOE_MATH1(cbrt)
  MOE_MATH1(floor)
  MOE_MATH1(ceil)
  MOE_MATH1(round)
  MOE_MATH1(rint)
  MOE_MATH1(nearbyint)
  MOE_MATH1(trunc)
  MOE_MATH1(fabs)
#undef MOE_MATH1
  // What LLVM makes of a sine and a cosine of one number.
  table["sincosf"] =
      address(static_cast<void (*)(float, float *, float *)>(&sincosf));
  table["sincos"] =
      address(static_cast<void (*)(double, double *, double *)>(&sincos));
  table["roundevenf"] = address(&moeRoundEvenF);
  table["roundeven"] = address(&moeRoundEven);
#define MOE_MATH2(name)                                                        \
  table[#name "f"] = address(static_cast<F2 *>(&name##f));                     \
  table[#name] = address(static_cast<D2 *>(&name));
  MOE_MATH2(pow)
  MOE_MATH2(atan2)
  MOE_MATH2(fmod)
  MOE_MATH2(fmin)
  MOE_MATH2(fmax)
  MOE_MATH2(copysign)
#undef MOE_MATH2
  table["fmaf"] = address(static_cast<float (*)(float, float, float)>(&fmaf));
  table["fma"] = address(static_cast<double (*)(double, double, double)>(&fma));
  table["ldexpf"] = address(static_cast<float (*)(float, int)>(&ldexpf));
  table["ldexp"] = address(static_cast<double (*)(double, int)>(&ldexp));
  // What LLVM calls where the CPU has no instruction for it.
  table["__truncsfhf2"] = address(&moeTruncateF32ToF16);
  table["__truncdfhf2"] = address(&moeTruncateF64ToF16);
  table["__extendhfsf2"] = address(&moeExtendF16ToF32);
  table["__gnu_h2f_ieee"] = address(&moeExtendF16BitsToF32);
  table["__gnu_f2h_ieee"] = address(&moeTruncateF32ToF16Bits);
  table["__truncsfbf2"] = address(&moeTruncateF32ToBF16);
  table["__truncdfbf2"] = address(&moeTruncateF64ToBF16);
  return table;
}
} // namespace

void *moe::lookUpRuntimeSymbol(llvm::StringRef name) {
  // Never destroyed: modules may be loaded by static destructors of the host.
  static const auto &table = *new llvm::StringMap<void *>(makeTable());
  return table.lookup(name);
}
