// SPDX-License-Identifier: Apache-2.0
//
// Makes a failing program smaller where moe-reduce cannot: results go one by
// one with what only they need, and values become arguments.

#ifndef MOE_TOOLS_MOE_FUZZ_REDUCE_H
#define MOE_TOOLS_MOE_FUZZ_REDUCE_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace mlir::moe::fuzz {

/// The smallest module found of which `fails` is still true.
OwningOpRef<ModuleOp> reduceProgram(ModuleOp module,
                                    llvm::function_ref<bool(ModuleOp)> fails);

} // namespace mlir::moe::fuzz

#endif // MOE_TOOLS_MOE_FUZZ_REDUCE_H
