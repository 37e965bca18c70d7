// SPDX-License-Identifier: Apache-2.0
//
// Random arguments that a layer can use: floats of unit scale, expert ids in
// range, the tables of one assignment that fit each other.

#ifndef MOE_TOOLS_MOE_RUN_RANDOM_H
#define MOE_TOOLS_MOE_RUN_RANDOM_H

#include "moe/Interpreter/NDArray.h"

#include "mlir/IR/Value.h"
#include "llvm/ADT/DenseMap.h"

namespace mlir::moe::run {

class RandomArrays {
public:
  RandomArrays(uint64_t seed, bool sentinels)
      : state(seed), sentinels(sentinels) {}

  /// An array for an argument, after what its users make of it.
  mlir::moe::NDArray draw(mlir::Value argument, mlir::moe::DType dtype,
                          mlir::ArrayRef<int64_t> shape);

private:
  /// splitmix64: the same numbers on every machine.
  uint64_t next();
  double uniform();
  double normal();
  int64_t below(int64_t bound) { return next() % bound; }

  mlir::moe::NDArray drawIds(mlir::moe::DType dtype,
                             mlir::ArrayRef<int64_t> shape, int64_t experts);

  uint64_t state;
  bool sentinels;
  /// The tables of each moe.pack_assignment, drawn with its first argument.
  llvm::DenseMap<mlir::Operation *, std::vector<mlir::moe::NDArray>> tables;
};

} // namespace mlir::moe::run

#endif // MOE_TOOLS_MOE_RUN_RANDOM_H
