// SPDX-License-Identifier: Apache-2.0
// What moe-select-config chooses, and convert-moe-to-nvtile obeys.
#ifndef MOE_LIB_CONVERSION_MOETONVTILE_CONFIG_H
#define MOE_LIB_CONVERSION_MOETONVTILE_CONFIG_H

#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe {

/// The name of the attribute on an op.
constexpr StringLiteral kConfigAttr = "moe.config";

/// What a config depends on.
struct KernelFacts {
  /// Stores through staging that a tile makes. Buffers have fixed places, so
  /// their number has to divide it.
  int64_t stores;
  /// Stages that the ring of operand tiles needs at least.
  int64_t leastStages;
};
KernelFacts factsOf(GroupedMatmulOp op);
KernelFacts factsOf(GroupedOuterOp op);

/// Empty where kernels of the matrix unit can do the op, else why not.
std::string whyNotNVTile(GroupedMatmulOp op);
std::string whyNotNVTile(GroupedOuterOp op);

/// Empty where a tile's weights can stay in shared memory, else why not.
std::string whyNotResident(GroupedMatmulOp op);
/// Rows of that kernel's tiles, and steps of 64 of the weights that stay.
constexpr int64_t kResidentRows = 64, kResidentSteps = 4;

/// Refuses a variant that no kernel of the op can be.
LogicalResult verifyVariant(Operation *op, VariantAttr variant);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETONVTILE_CONFIG_H
