// SPDX-License-Identifier: Apache-2.0
// What becomes of a grouped product's accumulator: the op's region runs on it
// and on its operands, and its results go to memory.
#ifndef MOE_LIB_CONVERSION_MOETONVTILE_EPILOGUE_H
#define MOE_LIB_CONVERSION_MOETONVTILE_EPILOGUE_H

#include "KernelBuilder.h"

namespace mlir::moe {

/// 64 rows of a tile: those of one consuming warpgroup.
struct TileRows {
  Value warpgroup;
  /// The first one, in grouped order, and where the expert's rows end.
  Value row, end;
  Value expert;
  /// The tile's first column, of each column block.
  Value column;
};

/// An operand or a result of an epilogue.
struct EpiloguePort {
  PortAttr port;
  /// Its parameter, and the map of rows of 16 bits that pass shared memory.
  Value memory, map;
  /// Those rows come and go in blocks of 64 columns of 128 rows: `blocks` for
  /// each 64 region columns, the first one in this place of the ring's stages.
  int64_t blocks = 0, place = 0;
  /// Two values alternate in memory: a block is 32 columns of both.
  bool alternates() const {
    return port.getLayout() == ColumnLayout::Interleave && port.getCount() == 2;
  }
};

/// What passes through shared memory, and where: a matter of the op alone.
struct EpilogueLayout {
  EpilogueLayout(GroupedMatmulOp op);

  SmallVector<EpiloguePort> ins, outs;
  /// Stages of the ring that the operands of 64 columns come in.
  int64_t stages = 0;
  /// Whether results leave by those stages, which then are held until the next
  /// ones have been stored.
  bool fromRing = false;
  /// Whether sums of rows are made beside them.
  bool sumsRows = false;
  /// Where results do not: stores through staging that a tile makes.
  int64_t stores = 0;
  /// Columns that the region's body runs on at a time.
  int64_t step;
  /// Stages that a tile leaves to be stored from when the next tile's products
  /// begin.
  int64_t stagesHeld() const { return fromRing ? stages : 0; }
  /// Stages that the ring needs at least, so that no role waits for the other
  /// for ever.
  int64_t leastStages() const;
};

/// The epilogue of a kernel whose accumulator holds `columns` region columns of
/// each of the op's column blocks side by side. Both roles take part: operands
/// come through the ring, after the tile's products, and where there are such
/// operands, results leave by the same stages.
class Epilogue : EpilogueLayout {
public:
  using EpilogueLayout::stagesHeld;

  /// Passes the operands and results to the kernel.
  Epilogue(GroupedMatmulOp op, KernelBuilder &kernel, int64_t columns);

  /// The shared memory to use; before any code. No staging where results leave
  /// by the ring.
  void use(Value ring, Value staging);

  /// The producer: brings the operands of a tile whose rows begin at `first`.
  /// Returns the next position.
  Value produce(Value position, Value first, Value firstColumn, bool gathers);

  /// The consumers: operands with one value a row, to be asked for before the
  /// products.
  Values loadScalars(const TileRows &rows);
  /// Runs the region on a tile and stores its results. Returns the next
  /// position.
  Value run(Value accumulator, Value position, const TileRows &rows,
            ValueRange scalars);

private:
  using Port = EpiloguePort;
  /// Where block `place` of a chunk lies: in which of its stages, tile and row.
  struct Place {
    int64_t stage;
    int32_t tile, row;
  };
  static Place placeOf(int64_t place);

  Value passRows(Value rows, PortAttr port, int64_t boxRows);
  /// The coordinates of a block, and the memory's first column and the end of
  /// its columns.
  Values coordinates(const Port &port, int64_t block, Value column, Value row);
  std::pair<Value, Value> columnsOf(const Port &port, int64_t block,
                                    Value column);

  Value loadScalar(const Port &in, const TileRows &rows);
  Values loadValues(const Port &in, int64_t at, Value position,
                    const TileRows &rows, Value column);
  SmallVector<Values> mapColumns(Value accumulator, int64_t at, Value position,
                                 const TileRows &rows, Value column,
                                 ValueRange scalars);
  void storeStep(const Port &out, ValueRange values, int64_t at, Value position,
                 const TileRows &rows, Value column);
  void storeChunk(const Port &out, ValueRange left, ValueRange right,
                  const TileRows &rows, Value column);
  void storeBlocks(Value position, const TileRows &rows, Value column);

  GroupedMatmulOp op;
  KernelBuilder &kernel;
  KernelCode &b;
  int64_t count, width, columns;
  Value ring, staging;
};

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETONVTILE_EPILOGUE_H
