// SPDX-License-Identifier: Apache-2.0
#ifndef MOE_LIB_CONVERSION_MOETOGPU_DEVICEOPS_H
#define MOE_LIB_CONVERSION_MOETOGPU_DEVICEOPS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace mlir::moe {

/// Launches for the ops of a function, outside the dialect, that touch device
/// memory: linalg ops, copies and stores. `nameOf` gives an op's kernel a name.
LogicalResult
launchDeviceOps(func::FuncOp function,
                llvm::function_ref<std::string(Operation *)> nameOf);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOGPU_DEVICEOPS_H
