// SPDX-License-Identifier: Apache-2.0
//
// The oracle: runs a function of tensors op by op, in double precision and with
// the plainest loops. Every other way to run a layer is tested against it.

#ifndef MOE_INTERPRETER_INTERPRETER_H
#define MOE_INTERPRETER_INTERPRETER_H

#include "moe/Interpreter/NDArray.h"

#include "mlir/IR/BuiltinOps.h"

namespace mlir::moe {

struct InterpretOptions {
  /// Round each tensor result to its element type, as a program would that
  /// runs op by op and accumulates exactly.
  bool round = false;
};

/// Call `entry` of the module, on arguments that fit its types. Rows that the
/// dialect leaves unspecified are NaN. On failure a diagnostic names the op and
/// its place.
FailureOr<SmallVector<NDArray>> interpret(ModuleOp module, StringRef entry,
                                          ArrayRef<NDArray> arguments,
                                          const InterpretOptions &options = {});

} // namespace mlir::moe

#endif // MOE_INTERPRETER_INTERPRETER_H
