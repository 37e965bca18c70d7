// SPDX-License-Identifier: Apache-2.0
//
// When two runs of a program agree.

#ifndef MOE_TOOLS_MOE_FUZZ_COMPARE_H
#define MOE_TOOLS_MOE_FUZZ_COMPARE_H

#include "moe/Interpreter/NDArray.h"

namespace mlir::moe::fuzz {

using Arrays = std::vector<NDArray>;

/// "" where `actual` has the shape, dtype and elements of `expected`, to 1e-8
/// of its largest one. NaN in `expected` is an unspecified element: anything
/// agrees with it.
std::string compareArrays(const NDArray &expected, const NDArray &actual);
std::string compareAll(ArrayRef<NDArray> expected, ArrayRef<NDArray> actual);

/// Whether some element is a number in both and differs.
bool differsSomewhere(const NDArray &a, const NDArray &b);

/// The design's rule for compiled code: root mean square errors against the
/// exact results are at most 1.1 times those of the program run op by op, and
/// one rounding; f64 agrees as above. Errors of one run are luck: a few more
/// runs on other numbers are added up before they count.
class RoundingErrors {
public:
  /// "" or what is wrong whatever the other runs are.
  std::string add(ArrayRef<NDArray> exact, ArrayRef<NDArray> rounded,
                  ArrayRef<NDArray> actual);
  /// "" where the rule holds for all that was added.
  std::string verdict() const;

private:
  struct Sums {
    double error = 0, unfused = 0, exact = 0;
    int64_t count = 0;
    DType dtype = DType::F64;
  };
  std::vector<Sums> results;
};

} // namespace mlir::moe::fuzz

#endif // MOE_TOOLS_MOE_FUZZ_COMPARE_H
