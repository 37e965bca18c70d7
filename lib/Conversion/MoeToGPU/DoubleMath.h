// SPDX-License-Identifier: Apache-2.0
#ifndef MOE_LIB_CONVERSION_MOETOGPU_DOUBLEMATH_H
#define MOE_LIB_CONVERSION_MOETOGPU_DOUBLEMATH_H

#include "mlir/IR/Operation.h"

namespace mlir::moe {

/// Replaces a math op on f64 (or vectors of it) by arithmetic, to a few units
/// in the last place: exp, exp2, expm1, log, log2, log1p, tanh, rsqrt. False
/// for any other.
bool expandDoubleMath(Operation *op);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOGPU_DOUBLEMATH_H
