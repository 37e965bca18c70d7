// SPDX-License-Identifier: Apache-2.0
// Which scalar ops a body of nvtile.map can hold.
#ifndef MOE_CONVERSION_NVTILETONVVM_SCALARMATH_H
#define MOE_CONVERSION_NVTILETONVVM_SCALARMATH_H

#include "mlir/IR/Operation.h"

namespace mlir::nvtile {

/// arith on f32 and narrower floats, and the functions of math that the chip
/// approximates.
bool isScalarMath(Operation *op);

} // namespace mlir::nvtile

#endif // MOE_CONVERSION_NVTILETONVVM_SCALARMATH_H
