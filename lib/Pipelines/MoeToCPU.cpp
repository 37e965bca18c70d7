// SPDX-License-Identifier: Apache-2.0
// moe-to-cpu, the embedded default target.
#include "Stages.h"
#include "moe/Conversion/MoeToSCF/Passes.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/Pipelines/Pipelines.h"

#include "mlir/Conversion/AffineToStandard/AffineToStandard.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/ConvertToLLVM/ToLLVMPass.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVMPass.h"
#include "mlir/Conversion/IndexToLLVM/IndexToLLVM.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MathToLibm/MathToLibm.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/TensorToLinalg/TensorToLinalgPass.h"
#include "mlir/Conversion/UBToLLVM/UBToLLVM.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVMPass.h"
#include "mlir/Conversion/VectorToSCF/VectorToSCF.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

namespace {
/// What the kernels ask of a CPU, from LLVM's list of its features.
struct Features {
  explicit Features(StringRef text) {
    SmallVector<StringRef> list;
    text.split(list, ',', -1, /*KeepEmpty=*/false);
    auto has = [&](StringRef name) {
      bool on = false;
      for (StringRef feature : list)
        if (feature.trim().trim("+-") == name)
          on = feature.trim().starts_with("+");
      return on;
    };
    bool avx512 =
        has("avx512f") && has("avx512bw") && has("avx512dq") && has("avx512vl");
    fma = has("fma");
    vectorBits = avx512 && fma ? 512 : has("avx2") && fma ? 256 : 128;
    bool bf16 = vectorBits == 512 && has("avx512bf16");
    bf16Rounding = bf16;
    bf16Tiles = bf16 && has("amx-tile") && has("amx-bf16");
    // Where there is AMX (Intel), vdpbf16ps has half the rate of a fused
    // multiply-add: what is not done in tiles is faster widened
    // (docs/Performance.md).
    bf16Dot = bf16 && !has("amx-bf16");
  }
  int64_t vectorBits;
  bool fma, bf16Rounding, bf16Tiles, bf16Dot;
};
} // namespace

using ::moe::endStage;

void ::moe::buildMoeKernelsToLLVMPipeline(OpPassManager &pm,
                                          const MoeToCPUOptions &options,
                                          StageHook atStage) {
  Features features(options.features);

  // Kernels become loops over tasks. Other math stays serial: it is small.
  pm.addPass(createConvertLinalgToLoopsPass());
  mlir::moe::ConvertMoeToSCFOptions loops;
  loops.vectorBits = features.vectorBits;
  loops.hasFMA = features.fma;
  loops.hasAVX512BF16 = features.bf16Dot;
  loops.hasAMXBF16 = features.bf16Tiles;
  pm.addPass(mlir::moe::createConvertMoeToSCF(loops));
  // Before tasks are outlined, so that what does not change is captured.
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  endStage("loops", pm, atStage);

  // Loops over tasks become functions and calls of the runtime, while their
  // captured values still have types that say what they are.
  pm.addPass(mlir::moe::createMoeOutlineTasks());
  // While math is on whole vectors.
  mlir::moe::MoeApproximateMathOptions math;
  math.hasFMA = features.fma;
  pm.addPass(mlir::moe::createMoeApproximateMath(math));
  // Views become offsets; leaves affine.apply behind.
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  // Rounding to bf16 is one instruction, or integer arithmetic: a library call
  // that not every machine has otherwise.
  arith::ArithExpandOpsPassOptions expand;
  expand.includeBf16 = !features.bf16Rounding;
  pm.addPass(arith::createArithExpandOpsPass(expand));
  pm.addPass(createConvertVectorToSCFPass());
  pm.addPass(createSCFToControlFlowPass());
  // What LLVM has an intrinsic for, then the libm for the rest, an element of a
  // vector at a time.
  pm.addPass(createConvertMathToLLVMPass());
  pm.addPass(createConvertMathToLibmPass());
  // Vectors first: what they leave is scalar.
  ConvertVectorToLLVMPassOptions vectors;
  vectors.x86Vector = true;
  vectors.amx = features.bf16Tiles;
  pm.addPass(createConvertVectorToLLVMPass(vectors));
  pm.addPass(createFinalizeMemRefToLLVMConversionPass());
  pm.addPass(createArithToLLVMConversionPass());
  pm.addPass(createConvertIndexToLLVMPass());
  pm.addPass(createUBToLLVMConversionPass());
  // Functions last: their arguments' descriptors have users by now.
  pm.addPass(createConvertFuncToLLVMPass());
  if (features.bf16Tiles) {
    // Branches carry tiles, whose type only the dialect's own patterns convert.
    ConvertToLLVMPassOptions branches;
    branches.filterDialects = {"amx", "cf"};
    pm.addPass(createConvertToLLVMPass(branches));
  } else {
    pm.addPass(createConvertControlFlowToLLVMPass());
  }
  pm.addPass(createReconcileUnrealizedCastsPass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  endStage("llvm", pm, atStage);
}

void ::moe::buildMoeToKernelsPipeline(
    OpPassManager &pm, const GradientOptions &gradients, StringRef target,
    int64_t align, StageHook atStage,
    function_ref<void(OpPassManager &)> withBuffers) {
  // What a target does not change: entry points, and their gradients.
  buildMoeGradientPipeline(pm, gradients, atStage);

  // Assignments become their tables while functions still say what they take.
  pm.addPass(mlir::moe::createMoeExpandAssignment());
  endStage("expanded", pm, atStage);

  // One kernel for each op, then fewer.
  pm.addNestedPass<func::FuncOp>(mlir::moe::createMoeFormKernels());
  if (gradients.fuse) {
    buildMoeFusePipeline(pm);
  } else {
    pm.addPass(createCanonicalizerPass());
    pm.addPass(createCSEPass());
  }
  endStage("fused", pm, atStage);

  // Tensor math outside the dialect rounds where it is stored, as kernels do.
  pm.addNestedPass<func::FuncOp>(mlir::moe::createMoeWidenLinalg());
  // So that all of it is in destination style.
  pm.addPass(createConvertElementwiseToLinalgPass());
  pm.addPass(createConvertTensorToLinalgPass());
  pm.addNestedPass<func::FuncOp>(mlir::moe::createMoeOrderKernels());
  mlir::moe::buildMoeBufferizePipeline(pm);
  if (withBuffers)
    withBuffers(pm);
  // Buffers are known now: all go into one workspace, and callers are told
  // its size with everything else.
  pm.addNestedPass<func::FuncOp>(mlir::moe::createMoePlanWorkspace());
  pm.addPass(mlir::moe::createMoeEmitManifest({target.str(), align}));
  endStage("bufferized", pm, atStage);
}

void ::moe::buildMoeToCPUPipeline(OpPassManager &pm,
                                  const MoeToCPUOptions &options,
                                  StageHook atStage) {
  buildMoeToKernelsPipeline(pm, options.gradients, "cpu", /*align=*/1, atStage);
  buildMoeKernelsToLLVMPipeline(pm, options, atStage);
}
void ::moe::buildMoeToCPUPipeline(OpPassManager &pm,
                                  const MoeToCPUOptions &options) {
  buildMoeToCPUPipeline(pm, options, [](StringRef, OpPassManager &) {});
}

void ::moe::registerMoePipelines() {
  registerMoeToNVVMPipeline();
  PassPipelineRegistration<>("moe-fuse", "Level 2 with an op a kernel, fused",
                             buildMoeFusePipeline);
  PassPipelineRegistration<MoeExplainOptions>(
      "moe-explain",
      "Say which kernels and buffers a module's functions become, and why",
      [](OpPassManager &pm, const MoeExplainOptions &options) {
        pm.addPass(createMoeExplain(options));
      });
  PassPipelineRegistration<MoeToCPUOptions>(
      "moe-to-cpu", "Level 1 on tensors to the LLVM dialect, for a CPU",
      [](OpPassManager &pm, const MoeToCPUOptions &options) {
        buildMoeToCPUPipeline(pm, options);
      });
  PassPipelineRegistration<MoeToCPUOptions>(
      "moe-kernels-to-llvm",
      "the second half of moe-to-cpu: from level 2 on memrefs",
      [](OpPassManager &pm, const MoeToCPUOptions &options) {
        buildMoeKernelsToLLVMPipeline(pm, options,
                                      [](StringRef, OpPassManager &) {});
      });
}
