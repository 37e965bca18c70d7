// SPDX-License-Identifier: Apache-2.0
//===- CompilerProcess.h - running moe-compile ------------------*- C++ -*-===//
#ifndef MOE_RUNTIME_COMPILERPROCESS_H
#define MOE_RUNTIME_COMPILERPROCESS_H

#include "moe/Runtime/Failure.h"
#include "llvm/ADT/SmallVector.h"
#include <string>

namespace moe {

/// Exit code of moe-compile when the compiler in it crashed (EX_SOFTWARE).
constexpr int kCompilerCrashExit = 70;

struct CompileOptions {
  std::string target = "cpu";
  /// "key=value" each.
  llvm::SmallVector<std::string, 4> options;
};

/// The path of moe-compile: `MOE_MLIR_COMPILER`, else beside this library,
/// else in `../bin` from it.
llvm::Expected<std::string> findCompiler();

/// Runs the compiler on `input`; gives the bytes of the container. The input
/// goes in and the result comes out through anonymous memory, so no folder
/// needs to be writable. `MOE_MLIR_COMPILE_TIMEOUT` is in seconds (600).
llvm::Expected<std::string> runCompiler(llvm::StringRef compiler,
                                        llvm::StringRef input,
                                        const CompileOptions &options);

/// Writes the input of a crashed compilation to a file that `moe-opt
/// --run-reproducer` takes, into `MOE_MLIR_REPRODUCER_DIR`, else the folder for
/// temporary files. Returns what to say of it: its path, or the remedy.
std::string writeReproducer(llvm::StringRef input,
                            const CompileOptions &options, llvm::StringRef why);

} // namespace moe

#endif // MOE_RUNTIME_COMPILERPROCESS_H
