// SPDX-License-Identifier: Apache-2.0
// What host code of every target does to its public functions.
#ifndef MOE_CONVERSION_ENTRYPOINTS_H
#define MOE_CONVERSION_ENTRYPOINTS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace mlir::moe {

/// Gives a public function its C interface, and takes what the dialect's
/// attributes say of it: that is in the manifest by now.
void prepareEntryPoint(func::FuncOp function);

} // namespace mlir::moe

#endif // MOE_CONVERSION_ENTRYPOINTS_H
