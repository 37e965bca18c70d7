// SPDX-License-Identifier: Apache-2.0
// Products of bf16 on AMX. A tile is 16 rows of 64 bytes: 32 contraction steps
// of 16 rows on the left side, 16 pairs of steps of 16 columns on the right, 16
// x 16 sums in f32. Both sides are copied first, tile after tile, each padded
// with zeros to whole tiles along the contraction: a tile is then 16
// consecutive lines, and what lies beside a row is never multiplied.
#ifndef MOE_LIB_CONVERSION_MOETOSCF_MATRIXTILES_H
#define MOE_LIB_CONVERSION_MOETOSCF_MATRIXTILES_H

#include "MicroKernel.h"

namespace mlir::moe {

/// Rows of a tile, and contraction steps of one.
constexpr int64_t kTileRows = 16, kTileDepth = 32;

/// Rows of 64 bytes that `depth` contraction steps of 16 columns take.
inline int64_t tileLines(int64_t depth) {
  return llvm::divideCeil(depth, kTileDepth) * kTileRows;
}

/// A stage or a panel of `lines` rows of 64 bytes.
Value tileBuffer(KernelEmitter &b, int64_t lines);

/// A row of `rows` from column `first` on becomes line `line`, line + 16, ...
/// of the stage: its place in each tile.
void stageTileRow(KernelEmitter &b, Value rows, Value row, Value first,
                  int64_t depth, Value stage, Value line);

/// packRows for tiles: the 16 columns of vector v begin at line panelLine + v *
/// linesPerVector.
void packTileRows(KernelEmitter &b, ProductKind kind, Value weights,
                  function_ref<Value(Value, int64_t)> rowOf, Value first,
                  int64_t depth, int64_t vectors, Value panel, Value panelLine,
                  int64_t linesPerVector);

/// packColumns' `store` for tiles, and the zeros that it leaves out.
void storeTilePair(KernelEmitter &b, Value pair, Value panel, Value panelLine,
                   int64_t linesPerVector, Value k, Value column);
void padTileColumns(KernelEmitter &b, int64_t depth, int64_t vectors,
                    Value panel, Value panelLine, int64_t linesPerVector);

/// One summand of a product of tiles: where its tiles begin, and how many there
/// are along the contraction.
struct TileProduct {
  int64_t line;
  int64_t depth;
};

/// acc[accRow + i][v] (+)= stage row i * panel column v for 16 * `tall` rows
/// and `vectors` vectors; tiles of the stage's second 16 rows begin at line
/// `stageLines`. Summed over the products in turn, 32 steps at once.
void emitTiles(KernelEmitter &b, int64_t tall, int64_t vectors, Value stage,
               int64_t stageLines, Value panel, Value panelLine,
               int64_t linesPerVector, Value acc, Value accRow, bool fresh,
               ArrayRef<TileProduct> products);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOSCF_MATRIXTILES_H
