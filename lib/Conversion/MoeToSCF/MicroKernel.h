// SPDX-License-Identifier: Apache-2.0
// The register-blocked matrix product that grouped_matmul and grouped_outer
// share: a tile of accumulators, a packed panel, and the ways to pack it.
#ifndef MOE_LIB_CONVERSION_MOETOSCF_MICROKERNEL_H
#define MOE_LIB_CONVERSION_MOETOSCF_MICROKERNEL_H

#include "KernelEmitter.h"

namespace mlir::moe {

/// Rows, and vectors of 16 columns, whose accumulators stay in registers.
struct Tile {
  int64_t rows, vectors;
  int64_t columns() const { return vectors * kLanes; }
};

/// The tile for accumulators of `compute`, its vectors a multiple of `multiple`
/// and, beyond that, no wider than `width` columns need.
Tile chooseTile(const CPUTarget &target, Type compute, int64_t multiple,
                int64_t width);

/// What a product of two operands of one element type computes with: plain
/// values of `compute`, or pairs of bf16 along the contraction, packed as i32.
/// With `tiles` pairs are multiplied 16 x 16 at a time (MatrixTiles.h).
struct ProductKind {
  Type element, compute;
  bool pairs;
  bool tiles = false;
  /// Contraction steps that one panel row holds.
  int64_t step() const { return pairs ? 2 : 1; }
  Type panelElement() const {
    return pairs ? IntegerType::get(compute.getContext(), 32) : compute;
  }
};
ProductKind productKind(const CPUTarget &target, Type element);

/// acc[row + i][v] += sum over k < steps of a(i, k) * panel[panelRow + k][v],
/// k ascending; acc is a (rows, columns) buffer. With `fresh` the sum starts at
/// zero. `a` gives a vector of compute, or of 32 bf16 for pairs.
struct Product {
  Value panel, panelRow, steps;
  function_ref<Value(int64_t, Value)> a;
  /// For pairs: one more step, whose second half is zero.
  function_ref<Value(int64_t)> last = nullptr;
};
void emitTile(KernelEmitter &b, Tile tile, ProductKind kind, Value acc,
              Value row, bool fresh, ArrayRef<Product> products);

/// A vector of compute, or of 32 bf16, that holds one element, or one pair.
Value broadcastElement(KernelEmitter &b, ProductKind kind, Value element);
Value broadcastPair(KernelEmitter &b, Value rows, Value row, Value column,
                    bool single);

/// Acc += a * column, elementwise, or over the pairs of both.
Value multiplyPanel(KernelEmitter &b, ProductKind kind, Value a, Value column,
                    Value acc);

/// 16 rows of 16 to 16 columns.
Values transpose(KernelEmitter &b, ValueRange rows);

/// 16 rows of weights (out, in), `present` <= 16 * step elements from column k
/// on, as panel rows: one vector of 16 rows for each step; zeros past the end.
Values transposeWeights(KernelEmitter &b, ProductKind kind, Value weights,
                        ValueRange rows, Value k, int64_t present);

/// panel[panelRow + k][16 v + lane] = weights[rowOf(v, lane)][first + k] for k
/// < depth: rows of (out, in) become columns.
void packRows(KernelEmitter &b, ProductKind kind, Value weights,
              function_ref<Value(Value, int64_t)> rowOf, Value first,
              int64_t depth, int64_t vectors, Value panel, Value panelRow);

/// store(row of 16 columns, k, column) for each k < depth, a row or a pair of
/// rows: rows stay rows. Of an odd number of rows the last pair's second half
/// is zero.
void packColumns(
    KernelEmitter &b, ProductKind kind, Value depth,
    function_ref<void(function_ref<void(Value, Value, int64_t)>)> eachColumn,
    function_ref<Value(Value, Value, int64_t)> load,
    function_ref<void(Value, Value, Value)> store);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOSCF_MICROKERNEL_H
