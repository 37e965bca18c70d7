// SPDX-License-Identifier: Apache-2.0
// Level-2 matrix products to nvtile kernels.
#ifndef MOE_CONVERSION_MOETONVTILE_PASSES_H
#define MOE_CONVERSION_MOETONVTILE_PASSES_H

#include "mlir/Pass/Pass.h"

namespace mlir::moe {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "moe/Conversion/MoeToNVTile/Passes.h.inc"

} // namespace mlir::moe

#endif // MOE_CONVERSION_MOETONVTILE_PASSES_H
