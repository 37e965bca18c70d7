// SPDX-License-Identifier: Apache-2.0
// moe-to-nvvm: from level 1 to host code with CUDA binaries in it.
#include "Stages.h"
#include "moe/Conversion/MoeToGPU/Passes.h"
#include "moe/Conversion/MoeToNVTile/Passes.h"
#include "moe/Conversion/MoeToSCF/Passes.h"
#include "moe/Conversion/NVTileToNVVM/Passes.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/Pipelines/Pipelines.h"
#include "moe/Runtime/GPUTarget.h"
#include "moe/Target/Passes.h"

#include "mlir/Conversion/AffineToStandard/AffineToStandard.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVMPass.h"
#include "mlir/Conversion/GPUToNVVM/GPUToNVVMPass.h"
#include "mlir/Conversion/IndexToLLVM/IndexToLLVM.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/NVVMToLLVM/NVVMToLLVM.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/GPU/Transforms/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

/// What is in a gpu.module, to the LLVM dialect.
static void buildDevicePipeline(OpPassManager &pm) {
  // While loads still say what they load.
  pm.addPass(mlir::moe::createMoeAlignKernels());
  // exp and its like in arithmetic: NVIDIA's library is not on every machine.
  mlir::moe::MoeApproximateMathOptions math;
  math.hasFMA = true;
  pm.addPass(mlir::moe::createMoeApproximateMath(math));
  pm.addPass(mlir::moe::createMoeKernelMath());
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  pm.addPass(arith::createArithExpandOpsPass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addPass(createLoopInvariantCodeMotionPass());
  pm.addPass(createSCFToControlFlowPass());
  pm.addPass(createConvertGpuOpsToNVVMOps());
  pm.addPass(createConvertNVVMToLLVMPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
}

void ::moe::buildMoeToNVVMPipeline(OpPassManager &pm,
                                   const MoeToNVVMOptions &options,
                                   StageHook atStage) {
  // Vectors of 16 bytes need rows, so tensors, that begin at multiples of it.
  buildMoeToKernelsPipeline(
      pm, options.gradients, options.arch, /*align=*/16, atStage,
      [&](OpPassManager &pm) {
        // On buffers, whose layouts are known: what fits is
        // decided by them too.
        pm.addPass(mlir::moe::createMoeSelectConfig({options.arch}));
        // Matrix products on the tensor cores. Their work
        // tables go into the workspace.
        pm.addPass(mlir::moe::createConvertMoeToNVTile());
      });

  pm.addPass(mlir::moe::createConvertMoeToGPU());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  endStage("kernels", pm, atStage);

  // Sizes are computed in the kernel again rather than passed.
  pm.addPass(createGpuLaunchSinkIndexComputationsPass());
  pm.addPass(createGpuKernelOutliningPass());
  // Makes tensor maps on the host, beside the launches.
  pm.addPass(mlir::nvtile::createConvertNVTileToNVVM());
  buildDevicePipeline(pm.nest<gpu::GPUModuleOp>());
  GpuNVVMAttachTargetOptions target;
  target.chip = options.arch;
  // The lowest that has the architecture: any driver that has it too will do.
  const GPUTarget *gpu = findGPUTarget(options.arch);
  assert(gpu && "callers look it up");
  target.features = "+ptx" + std::to_string(gpu->ptx);
  target.optLevel = 3;
  pm.addPass(createGpuNVVMAttachTarget(target));
  atStage("nvvm", pm);

  // Text first: our own runs of ptxas are parallel, and their reports are read.
  GpuModuleToBinaryPassOptions text;
  text.compilationTarget = "isa";
  pm.addPass(createGpuModuleToBinaryPass(text));
  mlir::moe::MoeAssembleKernelsOptions assemble;
  assemble.ptxas = options.ptxas;
  assemble.check = options.check;
  pm.addPass(mlir::moe::createMoeAssembleKernels(assemble));

  // The host: while arguments are memrefs.
  pm.addPass(mlir::moe::createConvertGPULaunchToRuntime());
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  pm.addPass(arith::createArithExpandOpsPass());
  pm.addPass(createSCFToControlFlowPass());
  pm.addPass(createFinalizeMemRefToLLVMConversionPass());
  pm.addPass(createConvertMathToLLVMPass());
  pm.addPass(createArithToLLVMConversionPass());
  pm.addPass(createConvertIndexToLLVMPass());
  pm.addPass(createConvertFuncToLLVMPass());
  pm.addPass(createConvertControlFlowToLLVMPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  endStage("llvm", pm, atStage);
}

void ::moe::registerMoeToNVVMPipeline() {
  // PassPipelineRegistration has no way to refuse an option's value.
  registerPassPipeline(
      "moe-to-nvvm",
      "Level 1 on tensors to host code with CUDA binaries in it, for a GPU",
      [](OpPassManager &pm, StringRef text,
         function_ref<LogicalResult(const Twine &)> refuse) -> LogicalResult {
        MoeToNVVMOptions options;
        if (failed(options.parseFromString(text)))
          return failure();
        if (!findGPUTarget(options.arch))
          return refuse("arch is '" + options.arch + "', expected one of " +
                        gpuTargetNames());
        buildMoeToNVVMPipeline(pm, options, [](StringRef, OpPassManager &) {});
        return success();
      },
      [](function_ref<void(const detail::PassOptions &)> handle) {
        handle(MoeToNVVMOptions());
      });
}
