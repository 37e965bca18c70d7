// SPDX-License-Identifier: Apache-2.0
//
// Random programs: one public function @f of level-1 ops, and ops of upstream
// beside them, put together within the dialect's constraints.

#ifndef MOE_TOOLS_MOE_FUZZ_GENERATE_H
#define MOE_TOOLS_MOE_FUZZ_GENERATE_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace mlir::moe::fuzz {

/// The program of that number. Every op's result reaches a result of @f.
OwningOpRef<ModuleOp> generateProgram(MLIRContext *context, uint64_t seed);

} // namespace mlir::moe::fuzz

#endif // MOE_TOOLS_MOE_FUZZ_GENERATE_H
