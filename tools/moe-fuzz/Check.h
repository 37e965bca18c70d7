// SPDX-License-Identifier: Apache-2.0
//
// Runs one program before and after every pass, and as compiled code.

#ifndef MOE_TOOLS_MOE_FUZZ_CHECK_H
#define MOE_TOOLS_MOE_FUZZ_CHECK_H

#include "Coverage.h"
#include "Faults.h"

#include "mlir/IR/BuiltinOps.h"

namespace mlir::moe::fuzz {

struct CheckOptions {
  /// Draws the arguments and the passes.
  uint64_t seed = 0;
  /// Run compiled code too.
  bool compile = true;
  /// Planted after each run of its pass that changed the module, for tests of
  /// the checks themselves.
  const Fault *fault = nullptr;
  /// The passes as they run, to stderr.
  bool verbose = false;
};

struct Outcome {
  enum Status {
    /// Every run agreed.
    Agreed,
    /// Every run agreed, but some result is empty or depends on no input.
    Constant,
    /// The message says after which pass, and how.
    Failed
  } status = Agreed;
  std::string message;
  /// What the passes saw, by cell of the coverage table.
  CoverageCells cells;
  /// The IR at the end of the checks that ran on tensors, for a look.
  bool faultPlanted = false;
};

/// Checks the public function @f of a module of level 1.
Outcome checkProgram(MLIRContext *context, StringRef text,
                     const CheckOptions &options);

} // namespace mlir::moe::fuzz

#endif // MOE_TOOLS_MOE_FUZZ_CHECK_H
