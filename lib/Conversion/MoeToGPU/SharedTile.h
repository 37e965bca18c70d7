// SPDX-License-Identifier: Apache-2.0
// The matrix product of a block on the CUDA cores: 64 rows by 128 columns (for
// each of the accumulator's values) in registers, operands through shared
// memory 16 contraction steps at a time, one fused multiply-add a term: exact
// f32, f64 for f64.
#ifndef MOE_LIB_CONVERSION_MOETOGPU_SHAREDTILE_H
#define MOE_LIB_CONVERSION_MOETOGPU_SHAREDTILE_H

#include "WarpSegment.h"

namespace mlir::moe {

class SharedTile {
public:
  static constexpr int64_t kRows = 64;
  static constexpr int64_t kColumns = kRowSumSegment;
  /// Rows of a warp: warp w has rows 8w, ..., 8w+7, lane l columns 4l, ...,
  /// 4l+3.
  static constexpr int64_t kWarpRows = kRows / (kBlockThreads / kWarp);

  /// Inside a launch. `values`: how many columns an accumulator column has.
  SharedTile(GPUEmitter &b, Type compute, int64_t values);

  /// Contraction steps of one pass.
  int64_t depth() const { return steps; }
  /// kWarpRows x values vectors of four zeros.
  Values zeros();
  /// The tiles of one pass, (step, row) and (step, column).
  void storeLeft(Value value, Value step, Value row);
  void storeRight(Value value, Value step, int64_t number, Value column);
  /// acc + left * right, over the pass.
  Values multiply(ValueRange acc);

private:
  GPUEmitter &b;
  Type compute;
  int64_t values, steps;
  Value left;
  SmallVector<Value> right;
};

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOGPU_SHAREDTILE_H
