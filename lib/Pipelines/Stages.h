// SPDX-License-Identifier: Apache-2.0
// What the pipelines share.
#ifndef MOE_LIB_PIPELINES_STAGES_H
#define MOE_LIB_PIPELINES_STAGES_H

#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/Pipelines/Pipelines.h"

namespace moe {

/// Ends a stage: what it leaves is checked, then shown.
inline void endStage(llvm::StringRef stage, mlir::OpPassManager &pm,
                     StageHook atStage) {
  pm.addPass(mlir::moe::createMoeVerifyStage({stage.str()}));
  atStage(stage, pm);
}

} // namespace moe

#endif // MOE_LIB_PIPELINES_STAGES_H
