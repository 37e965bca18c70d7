// SPDX-License-Identifier: Apache-2.0
#include "Weights.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::nvtile;

Weights::Weights(GroupedMatmulOp op, unsigned pair, const Tables &tables,
                 KernelBuilder &kernel, int64_t tileColumns)
    : b(&kernel.b), layout(op.rhsLayout(pair)),
      count(op.getColumns().getCount()), tileColumns(tileColumns),
      columns(tileColumns / count) {
  int64_t width = op.getWidth(), out = count * width;
  int64_t depth = memrefOf(op.getLhs()[pair]).getDimSize(1);
  Value rhs = op.getRhs()[pair];
  // Column blocks are a dimension, so that a box ends with its block.
  if (layout == WeightLayout::InOut)
    map = kernel.passMap(rhs, {width, count, depth, tables.experts},
                         {2 * width, 2 * out, 2 * out * depth},
                         {kDepth, 1, kDepth, 1});
  else if (op.getColumns().getLayout() == ColumnLayout::Interleave)
    map = kernel.passMap(rhs, {depth, width, count, tables.experts},
                         {2 * depth * count, 2 * depth, 2 * out * depth},
                         {kDepth, columns, 1, 1});
  else
    map = kernel.passMap(rhs, {depth, width, count, tables.experts},
                         {2 * depth, 2 * depth * width, 2 * out * depth},
                         {kDepth, columns, 1, 1});
}

void Weights::load(Value k, Value column, Value expert, Value ring,
                   Value position, int32_t tile) const {
  if (!isMN()) {
    for (int64_t i = 0; i < count; ++i)
      LoadOp::create(*b, map, ValueRange{k, column, b->i32(i), expert}, ring,
                     position, tile, i * columns);
    return;
  }
  // Blocks of 64 columns x 64 contraction steps.
  for (int64_t at = 0; at < tileColumns; at += kDepth)
    LoadOp::create(*b, map,
                   ValueRange{b->add(column, at % columns),
                              b->i32(at / columns), k, expert},
                   ring, position, tile, at);
}
