// SPDX-License-Identifier: Apache-2.0
// The named pipelines: lists of passes, with the reason for their order.
#ifndef MOE_PIPELINES_PIPELINES_H
#define MOE_PIPELINES_PIPELINES_H

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace moe {

struct MoeToCPUOptions : public mlir::PassPipelineOptions<MoeToCPUOptions> {
  Option<std::string> features{
      *this, "features",
      llvm::cl::desc("what the CPU has, as LLVM spells it: \"+avx2,+fma\"; "
                     "empty assumes nothing beyond x86-64"),
      llvm::cl::init("")};
};

/// Called with a pipeline's stages as they end: `expanded`, `fused`,
/// `bufferized`, `loops`, `llvm`.
using StageHook =
    llvm::function_ref<void(llvm::StringRef stage, mlir::OpPassManager &pm)>;

/// From level 1 on tensors to the LLVM dialect (`moe-to-cpu`).
void buildMoeToCPUPipeline(mlir::OpPassManager &pm,
                           const MoeToCPUOptions &options, StageHook atStage);
void buildMoeToCPUPipeline(mlir::OpPassManager &pm,
                           const MoeToCPUOptions &options);

/// Its second half (`moe-kernels-to-llvm`): from level 2 on memrefs.
void buildMoeKernelsToLLVMPipeline(mlir::OpPassManager &pm,
                                   const MoeToCPUOptions &options,
                                   StageHook atStage);

void registerMoePipelines();

} // namespace moe

#endif // MOE_PIPELINES_PIPELINES_H
