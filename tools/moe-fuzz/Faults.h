// SPDX-License-Identifier: Apache-2.0
//
// Planted miscompiles: what a pass might do wrongly, done to the IR that it
// leaves. The fuzzer has to find each of them.

#ifndef MOE_TOOLS_MOE_FUZZ_FAULTS_H
#define MOE_TOOLS_MOE_FUZZ_FAULTS_H

#include "mlir/IR/Operation.h"

namespace mlir::moe::fuzz {

struct Fault {
  /// The pass, by its flag.
  StringRef pass;
  StringRef description;
  /// Whether it found something to break below `root`.
  bool (*plant)(Operation *root);
};

ArrayRef<Fault> allFaults();
const Fault *findFault(StringRef pass);

} // namespace mlir::moe::fuzz

#endif // MOE_TOOLS_MOE_FUZZ_FAULTS_H
