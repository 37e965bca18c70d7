// SPDX-License-Identifier: Apache-2.0
//
// Random choices: splitmix64, the same numbers on every machine.

#ifndef MOE_TOOLS_MOE_FUZZ_RNG_H
#define MOE_TOOLS_MOE_FUZZ_RNG_H

#include "mlir/Support/LLVM.h"

#include <cmath>
#include <initializer_list>

namespace mlir::moe::fuzz {

class Rng {
public:
  explicit Rng(uint64_t seed) : state(seed) {}

  uint64_t next() {
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  /// 0 to bound - 1.
  int64_t below(int64_t bound) { return next() % bound; }
  /// True in so many cases of a hundred.
  bool percent(int64_t chance) { return below(100) < chance; }
  template <typename T> T pick(std::initializer_list<T> values) {
    return values.begin()[below(values.size())];
  }
  template <typename Range> auto &pickFrom(Range &&range) {
    return range[below(range.size())];
  }
  double uniform() { return ((next() >> 11) + 0.5) * 0x1p-53; }
  double normal() {
    return std::sqrt(-2 * std::log(uniform())) *
           std::cos(6.283185307179586 * uniform());
  }

private:
  uint64_t state;
};

} // namespace mlir::moe::fuzz

#endif // MOE_TOOLS_MOE_FUZZ_RNG_H
