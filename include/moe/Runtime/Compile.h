// SPDX-License-Identifier: Apache-2.0
//===- Compile.h - from text to a loaded module -----------------*- C++ -*-===//
#ifndef MOE_RUNTIME_COMPILE_H
#define MOE_RUNTIME_COMPILE_H

#include "moe/Runtime/CompilerProcess.h"
#include "moe/Runtime/Module.h"

namespace moe {

/// From this process's modules, else the disk cache, else the compiler. Equal
/// inputs are compiled once, by whichever thread or process comes first.
llvm::Expected<std::shared_ptr<Module>> compile(llvm::StringRef input,
                                                const CompileOptions &options);

} // namespace moe

#endif // MOE_RUNTIME_COMPILE_H
