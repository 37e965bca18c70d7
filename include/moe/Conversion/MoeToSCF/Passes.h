// SPDX-License-Identifier: Apache-2.0
// The CPU target: level 2 on memrefs to loops over tasks, and tasks to
// functions. Each pass is described in Passes.td.
#ifndef MOE_CONVERSION_MOETOSCF_PASSES_H
#define MOE_CONVERSION_MOETOSCF_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace mlir::moe {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "moe/Conversion/MoeToSCF/Passes.h.inc"

} // namespace mlir::moe

#endif // MOE_CONVERSION_MOETOSCF_PASSES_H
