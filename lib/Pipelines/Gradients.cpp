// SPDX-License-Identifier: Apache-2.0
// The start of every target: entry points, and their forward and backward.
#include "Stages.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

static void clean(OpPassManager &pm, bool compose = true) {
  // Rowwise ops are not composed before the cut: what lies between two of them
  // may be the least to keep.
  SmallVector<std::string> disabled;
  if (!compose)
    disabled.push_back("compose-rowwise");
  pm.addPass(createCanonicalizerPass(GreedyRewriteConfig(), disabled));
  pm.addPass(createCSEPass());
}

void ::moe::buildMoeGradientPipeline(OpPassManager &pm,
                                     const GradientOptions &options,
                                     StageHook atStage) {
  // One function for each entry point: it is differentiated, and its kernels
  // are formed, fused and given buffers, as a whole.
  pm.addPass(createInlinerPass({}, [](OpPassManager &) {}));
  pm.addPass(createSymbolDCEPass());
  clean(pm, /*compose=*/options.grad.empty());
  // While callers' ops are as they wrote them, and calls are gone.
  pm.addNestedPass<func::FuncOp>(mlir::moe::createMoeVerifyRows());
  if (options.grad.empty())
    return;

  mlir::moe::MoeDifferentiateOptions differentiate;
  bool all = options.grad.size() == 1 && options.grad[0] == "all";
  if (!all)
    differentiate.wrt.assign(options.grad.begin(), options.grad.end());
  pm.addPass(mlir::moe::createMoeDifferentiate(differentiate));
  // On the joint function, where a gate's gradient sees both sides of it.
  clean(pm, /*compose=*/false);
  if (options.simplify) {
    pm.addNestedPass<func::FuncOp>(mlir::moe::createMoeSimplifyGradients());
    clean(pm, /*compose=*/false);
  }
  mlir::moe::MoePartitionOptions partition;
  partition.policy = options.policy;
  partition.budgetBytes = options.budgetBytes;
  partition.tokens = options.tokens;
  partition.splitWeights.assign(options.splitWeights.begin(),
                                options.splitWeights.end());
  partition.accumulate.assign(options.accumulate.begin(),
                              options.accumulate.end());
  partition.accumulateF32 = options.accumulateF32;
  pm.addPass(mlir::moe::createMoePartition(partition));
  clean(pm);
  endStage("differentiated", pm, atStage);
}
