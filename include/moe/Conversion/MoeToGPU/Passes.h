// SPDX-License-Identifier: Apache-2.0
// The GPU target: level 2 on memrefs to kernels, and launches to calls of the
// runtime. Each pass is described in Passes.td.
#ifndef MOE_CONVERSION_MOETOGPU_PASSES_H
#define MOE_CONVERSION_MOETOGPU_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace mlir::moe {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "moe/Conversion/MoeToGPU/Passes.h.inc"

} // namespace mlir::moe

#endif // MOE_CONVERSION_MOETOGPU_PASSES_H
