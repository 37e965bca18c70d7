// SPDX-License-Identifier: Apache-2.0
#include "Compare.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::fuzz;

static std::string compareTypes(const NDArray &expected,
                                const NDArray &actual) {
  if (expected.dtype() == actual.dtype() && expected.shape() == actual.shape())
    return "";
  return "is " + describe(actual.dtype(), actual.shape()) + ", should be " +
         describe(expected.dtype(), expected.shape());
}

static double largest(const NDArray &array) {
  double most = 0;
  for (int64_t n = 0; n < array.size(); ++n)
    if (std::isfinite(array.f(n)))
      most = std::max(most, std::fabs(array.f(n)));
  return most;
}

std::string fuzz::compareArrays(const NDArray &expected,
                                const NDArray &actual) {
  if (std::string message = compareTypes(expected, actual); !message.empty())
    return message;
  double bound = expected.isFloat() ? 1e-8 * (1 + largest(expected)) : 0;
  for (int64_t n = 0; n < expected.size(); ++n) {
    if (!expected.isFloat()) {
      if (expected.i(n) != actual.i(n))
        return llvm::formatv("element {0} is {1}, should be {2}", n,
                             actual.i(n), expected.i(n));
      continue;
    }
    double want = expected.f(n), got = actual.f(n);
    if (std::isnan(want) || want == got || std::fabs(want - got) <= bound)
      continue;
    return llvm::formatv("element {0} is {1:e12}, should be {2:e12}", n, got,
                         want);
  }
  return "";
}

std::string fuzz::compareAll(ArrayRef<NDArray> expected,
                             ArrayRef<NDArray> actual) {
  if (expected.size() != actual.size())
    return llvm::formatv("{0} results, should be {1}", actual.size(),
                         expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    if (std::string message = compareArrays(expected[i], actual[i]);
        !message.empty())
      return llvm::formatv("result {0}: {1}", i, message);
  return "";
}

bool fuzz::differsSomewhere(const NDArray &a, const NDArray &b) {
  if (a.shape() != b.shape())
    return true;
  for (int64_t n = 0; n < a.size(); ++n)
    if (!std::isnan(a.f(n)) && !std::isnan(b.f(n)) && a.f(n) != b.f(n))
      return true;
  return false;
}

static double unitRoundoff(DType dtype) {
  switch (dtype) {
  case DType::BF16:
    return 0x1p-8;
  case DType::F16:
    return 0x1p-11;
  case DType::F32:
    return 0x1p-24;
  default:
    return 0x1p-53;
  }
}

std::string RoundingErrors::add(ArrayRef<NDArray> exact,
                                ArrayRef<NDArray> rounded,
                                ArrayRef<NDArray> actual) {
  if (exact.size() != actual.size())
    return llvm::formatv("{0} results, should be {1}", actual.size(),
                         exact.size());
  results.resize(exact.size());
  for (size_t i = 0; i < exact.size(); ++i) {
    const NDArray &want = exact[i], &got = actual[i], &unfused = rounded[i];
    bool isExact = !want.isFloat() || want.dtype() == DType::F64;
    if (std::string message =
            isExact ? compareArrays(want, got) : compareTypes(want, got);
        !message.empty())
      return llvm::formatv("result {0}: {1}", i, message);
    if (isExact)
      continue;
    Sums &sums = results[i];
    sums.dtype = want.dtype();
    for (int64_t n = 0; n < want.size(); ++n) {
      if (!std::isfinite(want.f(n)))
        continue;
      auto square = [](double x) { return x * x; };
      sums.error += square(got.f(n) - want.f(n));
      sums.unfused += square(unfused.f(n) - want.f(n));
      sums.exact += square(want.f(n));
      ++sums.count;
    }
  }
  return "";
}

std::string RoundingErrors::verdict() const {
  for (auto [i, sums] : llvm::enumerate(results)) {
    if (sums.count == 0)
      continue;
    double error = std::sqrt(sums.error / sums.count);
    double unfused = std::sqrt(sums.unfused / sums.count);
    double rounding =
        unitRoundoff(sums.dtype) * std::sqrt(sums.exact / sums.count);
    // The oracle accumulates in f64 what a program accumulates in f32, which
    // also shows where terms of unit scale cancel.
    if (sums.dtype == DType::F32)
      rounding *= 64;
    rounding += 1e-12;
    // False for NaN, which is no error of rounding.
    if (error <= 1.1 * unfused + rounding)
      continue;
    return llvm::formatv("result {0}: the error is {1:e3}, run op by op it is "
                         "{2:e3} and one rounding is {3:e3}",
                         i, error, unfused, rounding);
  }
  return "";
}
