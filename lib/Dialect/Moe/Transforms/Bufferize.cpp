// SPDX-License-Identifier: Apache-2.0
// The pipeline from level-2 tensors to level-2 buffers.
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Dialect/Bufferization/Transforms/OneShotAnalysis.h"
#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEEXPANDCOPIES
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::bufferization;

namespace {
struct MoeExpandCopiesPass
    : public moe::impl::MoeExpandCopiesBase<MoeExpandCopiesPass> {
  void runOnOperation() override {
    getOperation().walk([](memref::CopyOp copy) {
      auto isContiguous = [](Value buffer) {
        return cast<MemRefType>(buffer.getType()).getLayout().isIdentity();
      };
      if (isContiguous(copy.getSource()) && isContiguous(copy.getTarget()))
        return;
      OpBuilder builder(copy);
      linalg::CopyOp::create(builder, copy.getLoc(), copy.getSource(),
                             copy.getTarget());
      copy.erase();
    });
  }
};
} // namespace

void mlir::moe::buildMoeBufferizePipeline(OpPassManager &pm) {
  // Out-arguments are what kernels can write instead of tensors of their own.
  pm.addPass(createMoeToDestinationStyle());
  pm.addPass(createEmptyTensorEliminationPass());
  // The host passes contiguous buffers: their layout is the identity.
  OneShotBufferizePassOptions options;
  options.bufferizeFunctionBoundaries = true;
  options.functionBoundaryTypeConversion = LayoutMapOption::IdentityLayoutMap;
  pm.addPass(createOneShotBufferizePass(options));
  // Copies of a buffer to itself and casts disappear.
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  // Of the copies that are left.
  pm.addNestedPass<func::FuncOp>(createMoeExpandCopies());
}

void mlir::moe::registerMoeTransformsPipelines() {
  PassPipelineRegistration<>(
      "moe-bufferize",
      "level-2 kernels on tensors to kernels on buffers: "
      "moe-to-destination-style, eliminate-empty-tensors, one-shot-bufferize, "
      "canonicalize, cse, moe-expand-copies",
      [](OpPassManager &pm) { buildMoeBufferizePipeline(pm); });
}
