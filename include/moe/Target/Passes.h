// SPDX-License-Identifier: Apache-2.0
// From assembly text to binaries. Each pass is described in Passes.td.
#ifndef MOE_TARGET_PASSES_H
#define MOE_TARGET_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace mlir::moe {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "moe/Target/Passes.h.inc"

} // namespace mlir::moe

#endif // MOE_TARGET_PASSES_H
