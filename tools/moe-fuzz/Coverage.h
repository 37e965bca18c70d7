// SPDX-License-Identifier: Apache-2.0
//
// The coverage table: op x attribute x pass.

#ifndef MOE_TOOLS_MOE_FUZZ_COVERAGE_H
#define MOE_TOOLS_MOE_FUZZ_COVERAGE_H

#include "mlir/IR/Operation.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringMap.h"

#include <map>
#include <set>
#include <string>

namespace mlir::moe::fuzz {

/// "pass\top attribute=value": what one program showed to one pass.
using CoverageCells = std::set<std::string>;

/// The features of a moe op: "moe.group from=token".
void forEachFeature(Operation *op, llvm::function_ref<void(StringRef)> use);

/// Adds the features of every op below `root` as seen by `pass`.
void addCells(StringRef pass, Operation *root, CoverageCells &cells);

class Coverage {
public:
  void add(const CoverageCells &cells);
  void add(StringRef cell, int64_t count) { counts[cell.str()] += count; }
  const std::map<std::string, int64_t> &cells() const { return counts; }

  /// Cells of the table that were hit less than `least` times.
  std::vector<std::pair<std::string, int64_t>> below(int64_t least) const;
  /// A table: a line a feature, a column a pass.
  void print(llvm::raw_ostream &os) const;

private:
  std::map<std::string, int64_t> counts;
};

} // namespace mlir::moe::fuzz

#endif // MOE_TOOLS_MOE_FUZZ_COVERAGE_H
