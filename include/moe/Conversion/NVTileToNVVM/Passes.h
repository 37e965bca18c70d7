// SPDX-License-Identifier: Apache-2.0
// nvtile kernels to the NVVM and LLVM dialects.
#ifndef MOE_CONVERSION_NVTILETONVVM_PASSES_H
#define MOE_CONVERSION_NVTILETONVVM_PASSES_H

#include "mlir/Pass/Pass.h"

namespace mlir::nvtile {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "moe/Conversion/NVTileToNVVM/Passes.h.inc"

} // namespace mlir::nvtile

#endif // MOE_CONVERSION_NVTILETONVVM_PASSES_H
