// SPDX-License-Identifier: Apache-2.0
#ifndef MOE_LIB_CONVERSION_MOETOGPU_DOUBLEMATH_H
#define MOE_LIB_CONVERSION_MOETOGPU_DOUBLEMATH_H

#include "mlir/IR/Operation.h"

namespace mlir::moe {

/// Replaces an elementary function of floats (or vectors of them) by arithmetic
/// in f64, to a few units in the last place; powers to 1e-13. False for any
/// other op.
bool expandDoubleMath(Operation *op);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOGPU_DOUBLEMATH_H
