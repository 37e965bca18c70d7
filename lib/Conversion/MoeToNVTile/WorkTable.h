// SPDX-License-Identifier: Apache-2.0
// What the kernels of an assignment take their work from, and the second half
// of weight gradients whose experts are split. See nvtile.work_item, and "An
// expert with many rows is split" in docs/NVTile.md.
#ifndef MOE_LIB_CONVERSION_MOETONVTILE_WORKTABLE_H
#define MOE_LIB_CONVERSION_MOETONVTILE_WORKTABLE_H

#include "moe/Dialect/Moe/IR/Moe.h"

#include "llvm/ADT/MapVector.h"

namespace mlir::moe {

/// A part has at least so many rows.
constexpr int64_t kLeastPartRows = 256;

/// The tables of one assignment, filled by one kernel.
struct WorkTables {
  Value work;
  /// By N: the experts in the form of a work table, those of at least twice
  /// max(rows / N, kLeastPartRows) rows as several entries.
  ///
  /// [0] entries, [1] split experts, [2], [3] zero; then (first row, end,
  /// expert, 0) of each entry, the largest expert's first, its parts ascending,
  /// where part i of all has the expert E + i. From entry E + N on, for each
  /// split expert (its first part, its parts, expert, 0).
  llvm::MapVector<int64_t, Value> parts;
};

/// Allocates the tables and launches what fills them; a list of parts for each
/// number in `parts`.
WorkTables emitWorkTables(PackAssignmentOp pack, ArrayRef<int64_t> parts);

/// Launches what adds the parts of each split expert to its result:
/// `partials` is (N, rows, columns) of f32, `out` (E, rows, columns). Nothing
/// is launched where `order` has too few rows for a split.
void emitFoldParts(ImplicitLocOpBuilder &host, Value list, Value partials,
                   Value out, Value order, bool accumulate);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETONVTILE_WORKTABLE_H
