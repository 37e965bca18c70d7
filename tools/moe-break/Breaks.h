// SPDX-License-Identifier: Apache-2.0
//
// Breaks: mistakes that a kernel's author makes, done to the IR of a kernel.
// The tests on a GPU have to see each of them.

#ifndef MOE_TOOLS_MOE_BREAK_BREAKS_H
#define MOE_TOOLS_MOE_BREAK_BREAKS_H

#include "mlir/IR/Operation.h"

namespace mlir::moe {

struct Break {
  StringRef name;
  StringRef description;
  /// The stage whose IR it breaks: `kernels`, or `nvvm`.
  StringRef stage;
  /// Whether it found something to break in this kernel: a gpu.func, a
  /// gpu.launch or an llvm.func.
  bool (*apply)(Operation *kernel);
};

ArrayRef<Break> allBreaks();
const Break *findBreak(StringRef name);

/// Breaks each kernel of `module` whose name matches; gives their names.
SmallVector<std::string> breakKernels(Operation *module, const Break &mistake,
                                      StringRef kernels);

} // namespace mlir::moe

#endif // MOE_TOOLS_MOE_BREAK_BREAKS_H
