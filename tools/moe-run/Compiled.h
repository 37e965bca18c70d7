// SPDX-License-Identifier: Apache-2.0
//
// Running an entry as compiled code, from this process.

#ifndef MOE_TOOLS_MOE_RUN_COMPILED_H
#define MOE_TOOLS_MOE_RUN_COMPILED_H

#include "Device.h"

#include "moe/ExecutionEngine/Compiler.h"
#include "moe/Interpreter/NDArray.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace moe {
class Module;
}

namespace mlir::moe::run {

/// Compiles and loads a module.
llvm::Expected<std::shared_ptr<::moe::Module>>
compileAndLoad(::moe::CompilerInvocation invocation);

/// Calls an entry, whose arguments and results are those of `function`.
/// Outputs and workspace hold NaN before the call: what is not written shows.
/// The call is then repeated and timed `benchmark` times.
llvm::Expected<std::vector<NDArray>>
callCompiled(const ::moe::Module &module, func::FuncOp function,
             ArrayRef<NDArray> arguments, unsigned benchmark = 0,
             Device &device = Device::host());

} // namespace mlir::moe::run

#endif // MOE_TOOLS_MOE_RUN_COMPILED_H
