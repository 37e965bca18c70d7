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

/// The epilogue of a kernel whose accumulator holds `columns` region columns of
/// each of the op's column blocks side by side. Both roles take part: operands
/// come through the ring, after the tile's products.
class Epilogue {
public:
  /// Passes the operands and results to the kernel.
  Epilogue(GroupedMatmulOp op, const Tables &tables, KernelBuilder &kernel,
           int64_t columns);

  /// The shared memory to use; before any code.
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
  /// A result: its parameter and, for 16-bit rows, its map.
  struct Result {
    PortAttr port;
    Value memory, map;
  };
  /// A column block of an operand that comes through the ring: 128 rows of 64
  /// columns.
  struct Staged {
    int64_t block;
    Value map;
  };

  Value loadPort(unsigned index, int64_t value, const TileRows &rows,
                 Value column);
  Values mapColumns(Value accumulator, int64_t at, Value position,
                    const TileRows &rows, Value column, ValueRange scalars);
  int64_t stagesOfChunk() const;

  GroupedMatmulOp op;
  const Tables &tables;
  KernelBuilder &kernel;
  KernelCode &b;
  int64_t count, width, columns;
  Value rowTable;
  /// Null where the operand comes through the ring.
  Values ins;
  SmallVector<Staged> staged;
  SmallVector<Result> results;
  Value ring, staging;
};

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETONVTILE_EPILOGUE_H
