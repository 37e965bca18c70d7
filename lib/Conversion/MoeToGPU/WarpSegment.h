// SPDX-License-Identifier: Apache-2.0
// A row as a warp sees it: segments of 128 columns, four of them to a lane.
// Row sums are defined by this: a lane's columns left to right, the lanes by a
// butterfly, the segments left to right. Matrix products end in it too, so a
// fused row sum has the bits of an unfused one.
#ifndef MOE_LIB_CONVERSION_MOETOGPU_WARPSEGMENT_H
#define MOE_LIB_CONVERSION_MOETOGPU_WARPSEGMENT_H

#include "GPUEmitter.h"

namespace mlir::moe {

/// Columns of a segment that a lane holds.
constexpr int64_t kLaneColumns = kRowSumSegment / kWarp;

class WarpSegments {
public:
  WarpSegments(GPUEmitter &b, RowRegion &region, ValueRange outs);

  /// The region on the lane's columns of segment `number`: rows are stored, and
  /// partials; returns the segment's sum for each out that is a row sum.
  /// `accumulated` are the region's leading arguments, vectors of four.
  Values segment(const Row &row, ValueRange once, Value number, Value lane,
                 ValueRange accumulated);
  /// All segments of a row.
  void mapRow(const Row &row, Value lane);
  /// Stores the totals of `sum` outs.
  void storeTotals(const Row &row, ValueRange totals, Value lane);

  /// Outs that are row sums or their partials.
  SmallVector<unsigned> sums;

private:
  GPUEmitter &b;
  RowRegion &region;
  ValueRange outs;
};

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOGPU_WARPSEGMENT_H
