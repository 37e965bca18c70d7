// SPDX-License-Identifier: Apache-2.0
//
// Running an entry as compiled code, in this process.

#ifndef MOE_TOOLS_MOE_RUN_COMPILED_H
#define MOE_TOOLS_MOE_RUN_COMPILED_H

#include "Arguments.h"

#include "moe/ExecutionEngine/Compiler.h"

namespace mlir::moe::run {

/// Compiles `invocation` and calls the entry on `arguments`. Outputs and
/// workspace hold NaN before the call: what is not written shows. The call is
/// then repeated and timed `benchmark` times.
llvm::Expected<std::vector<NDArray>>
runCompiled(::moe::CompilerInvocation invocation, const Entry &entry,
            ArrayRef<NDArray> arguments, unsigned benchmark);

} // namespace mlir::moe::run

#endif // MOE_TOOLS_MOE_RUN_COMPILED_H
