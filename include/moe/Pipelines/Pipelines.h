// SPDX-License-Identifier: Apache-2.0
// The named pipelines: lists of passes, with the reason for their order.
#ifndef MOE_PIPELINES_PIPELINES_H
#define MOE_PIPELINES_PIPELINES_H

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace moe {

/// Options of every target: which gradients are wanted, what forward may keep
/// for them, and whether kernels are joined.
struct GradientOptions {
  using Options = mlir::detail::PassOptions;
  explicit GradientOptions(Options &parent) : parent(parent) {}
  Options &parent;

  Options::ListOption<std::string> grad{
      parent, "grad",
      llvm::cl::desc("arguments (moe.name, or number) whose gradients are "
                     "wanted, or `all`: functions that have one of them become "
                     "forward and backward")};
  Options::ListOption<std::string> splitWeights{
      parent, "split-weights",
      llvm::cl::desc("arguments whose gradients a function of their own gives: "
                     "backward_input and backward_weight beside backward")};
  Options::Option<std::string> policy{
      parent, "policy",
      llvm::cl::desc("what forward keeps for backward: save-all, "
                     "recompute-elementwise or recompute-all"),
      llvm::cl::init("recompute-elementwise")};
  Options::Option<int64_t> budgetBytes{
      parent, "budget-bytes",
      llvm::cl::desc("bytes that forward may keep: products are computed again "
                     "until that holds; negative: no budget"),
      llvm::cl::init(-1)};
  Options::ListOption<std::string> accumulate{
      parent, "accumulate",
      llvm::cl::desc("arguments (moe.name) whose gradients are added to "
                     "buffers that backward takes")};
  Options::Option<bool> accumulateF32{
      parent, "accumulate-f32",
      llvm::cl::desc("those buffers are f32, whatever the gradient's type"),
      llvm::cl::init(false)};
  Options::Option<int64_t> tokens{
      parent, "tokens",
      llvm::cl::desc(
          "tokens that dynamic sizes are weighed at, for the budget"),
      llvm::cl::init(4096)};
  Options::Option<bool> simplify{
      parent, "simplify",
      llvm::cl::desc("algebra on gradients (moe-simplify-gradients); without "
                     "it each op has the gradient of its definition"),
      llvm::cl::init(true)};
  Options::Option<bool> fuse{
      parent, "fuse",
      llvm::cl::desc("join kernels (moe-fuse); without it each op is one"),
      llvm::cl::init(true)};
};

struct MoeToCPUOptions : public mlir::PassPipelineOptions<MoeToCPUOptions> {
  GradientOptions gradients{*this};
  Option<std::string> features{
      *this, "features",
      llvm::cl::desc("what the CPU has, as LLVM spells it: \"+avx2,+fma\"; "
                     "empty assumes nothing beyond x86-64"),
      llvm::cl::init("")};
};

struct MoeToNVVMOptions : public mlir::PassPipelineOptions<MoeToNVVMOptions> {
  GradientOptions gradients{*this};
  Option<std::string> arch{
      *this, "arch",
      llvm::cl::desc("the GPU architecture, as ptxas spells it: sm_80, "
                     "sm_86, sm_89, sm_90, sm_90a, sm_100 or sm_120"),
      llvm::cl::init("sm_90a")};
  Option<std::string> ptxas{
      *this, "ptxas",
      llvm::cl::desc("the ptxas to assemble with; empty: look for one; none: "
                     "leave PTX for the driver"),
      llvm::cl::init("")};
  Option<bool> check{
      *this, "check",
      llvm::cl::desc("whether spills, local memory and serialized wgmma are "
                     "errors"),
      llvm::cl::init(false)};
};

/// Options of `moe-explain`.
struct MoeExplainOptions : public mlir::PassPipelineOptions<MoeExplainOptions> {
  GradientOptions gradients{*this};
  Option<bool> json{*this, "json",
                    llvm::cl::desc("JSON in place of a table; sizes are {T: "
                                   "bytes a token, const: bytes}"),
                    llvm::cl::init(false)};
  Option<int64_t> at{
      *this, "at",
      llvm::cl::desc("the number of tokens that sizes are stated at; negative: "
                     "in terms of T"),
      llvm::cl::init(-1)};
  Option<std::string> target{
      *this, "target",
      llvm::cl::desc("what the module would be compiled for, cpu or a GPU: "
                     "then which kernels matrix products have"),
      llvm::cl::init("cpu")};
  Option<std::string> output{*this, "output",
                             llvm::cl::desc("file to write; `-`: stdout"),
                             llvm::cl::init("-")};
};

/// Called with a pipeline's stages as they end: `differentiated` (where
/// gradients are asked for), `expanded`, `fused`, `bufferized`, then `loops`,
/// `llvm` for a CPU, `kernels`, `nvvm`, `llvm` for a GPU.
using StageHook =
    llvm::function_ref<void(llvm::StringRef stage, mlir::OpPassManager &pm)>;

/// The start of every target: one function for each entry point; with `grad`
/// they become forward and backward.
void buildMoeGradientPipeline(mlir::OpPassManager &pm,
                              const GradientOptions &options,
                              StageHook atStage);

/// Level 2 with an op a kernel to level 2 as it will run (`moe-fuse`).
void buildMoeFusePipeline(mlir::OpPassManager &pm);

/// A report of a module's kernels and buffers (`moe-explain`): changes nothing.
std::unique_ptr<mlir::Pass> createMoeExplain(const MoeExplainOptions &options);

/// From level 1 on tensors to the LLVM dialect (`moe-to-cpu`).
void buildMoeToCPUPipeline(mlir::OpPassManager &pm,
                           const MoeToCPUOptions &options, StageHook atStage);
void buildMoeToCPUPipeline(mlir::OpPassManager &pm,
                           const MoeToCPUOptions &options);

/// Its second half (`moe-kernels-to-llvm`): from level 2 on memrefs.
void buildMoeKernelsToLLVMPipeline(mlir::OpPassManager &pm,
                                   const MoeToCPUOptions &options,
                                   StageHook atStage);

/// What targets share: from level 1 on tensors to level 2 on memrefs, with the
/// manifest of `target`, whose tensors are aligned to `align` bytes. Passes
/// that `withBuffers` adds may still allocate what the workspace then holds.
void buildMoeToKernelsPipeline(
    mlir::OpPassManager &pm, const GradientOptions &gradients,
    llvm::StringRef target, int64_t align, StageHook atStage,
    llvm::function_ref<void(mlir::OpPassManager &)> withBuffers = nullptr);

/// From level 1 on tensors to host code in the LLVM dialect that launches
/// kernels embedded in it (`moe-to-nvvm`).
void buildMoeToNVVMPipeline(mlir::OpPassManager &pm,
                            const MoeToNVVMOptions &options, StageHook atStage);

void registerMoePipelines();
void registerMoeToNVVMPipeline();

} // namespace moe

#endif // MOE_PIPELINES_PIPELINES_H
