// SPDX-License-Identifier: Apache-2.0
#ifndef MOE_LIB_CONVERSION_MOETONVTILE_WEIGHTS_H
#define MOE_LIB_CONVERSION_MOETONVTILE_WEIGHTS_H

#include "KernelBuilder.h"

namespace mlir::moe {

/// The right operand of a pair, as the copy engine brings it: a tile holds the
/// same columns of each of the op's column blocks, side by side.
class Weights {
public:
  /// Passes the operand to the kernel; a tile has `tileColumns` columns.
  Weights(GroupedMatmulOp op, unsigned pair, const Tables &tables,
          KernelBuilder &kernel, int64_t tileColumns);

  /// A tile's rows lie across the contraction.
  bool isMN() const { return layout == WeightLayout::InOut; }
  int64_t getTileBytes() const { return 128 * tileColumns; }
  /// One thread brings 64 contraction steps from `k` of the tile whose first
  /// column is `column` of each block.
  void load(Value k, Value column, Value expert, Value ring, Value position,
            int32_t tile) const;

private:
  KernelCode *b;
  WeightLayout layout;
  int64_t count, tileColumns, columns;
  Value map;
};

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETONVTILE_WEIGHTS_H
