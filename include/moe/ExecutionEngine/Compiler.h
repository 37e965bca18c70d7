// SPDX-License-Identifier: Apache-2.0
//===- Compiler.h - from a module of outside to a container -----*- C++ -*-===//
//
// What moe-compile does, as a library: moe-run compiles in its own process.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_EXECUTIONENGINE_COMPILER_H
#define MOE_EXECUTIONENGINE_COMPILER_H

#include "mlir/Support/LLVM.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"
#include <functional>
#include <memory>
#include <string>

namespace mlir {
class OpPassManager;
} // namespace mlir

namespace moe {

/// The stages whose IR can be printed, in order.
llvm::ArrayRef<llvm::StringRef> stageNames();

struct CompilerInvocation {
  /// Text or bytecode; its identifier is the name in diagnostics.
  std::unique_ptr<llvm::MemoryBuffer> input;
  std::string target = "cpu";
  /// "key=value" each: cpu, features and opt-level are the driver's, all others
  /// go to the pipeline.
  llvm::SmallVector<std::string> options;

  enum class Emit { Container, Stage, LLVM, Object, Manifest };
  Emit emit = Emit::Container;
  /// For Emit::Stage: compilation ends there.
  std::string stage;
  /// The IR after these stages goes to stderr.
  llvm::SmallVector<std::string> printAfter;
  /// The input is in the LLVM dialect and has its manifest: for tests of what
  /// follows the pipeline. Never set for input from outside.
  bool startAtLLVM = false;
  /// Adds passes where a stage ends, before its IR is printed: test programs
  /// break the IR there.
  std::function<void(llvm::StringRef stage, mlir::OpPassManager &pm)> atStage;

  /// Reads "module", "mlir-stage=<stage>", "llvm", "object" or "manifest";
  /// false for any other text.
  bool setEmit(llvm::StringRef kind);
  /// What setEmit reads, for messages.
  static llvm::StringRef emitKinds() {
    return "module, mlir-stage=<stage>, llvm, object or manifest";
  }
};

/// Compiles; diagnostics go to stderr. Bytes of the kind asked for go to `os`.
llvm::LogicalResult compile(CompilerInvocation invocation,
                            llvm::raw_ostream &os);

} // namespace moe

#endif // MOE_EXECUTIONENGINE_COMPILER_H
