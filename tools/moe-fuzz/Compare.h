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

/// The design's rule for compiled code: root mean square errors against `exact`
/// are at most 1.1 times those of `rounded`, the program run op by op, and one
/// rounding; f64 agrees as above.
std::string compareRounded(ArrayRef<NDArray> exact, ArrayRef<NDArray> rounded,
                           ArrayRef<NDArray> actual);

} // namespace mlir::moe::fuzz

#endif // MOE_TOOLS_MOE_FUZZ_COMPARE_H
