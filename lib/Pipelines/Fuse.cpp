// SPDX-License-Identifier: Apache-2.0
// moe-fuse, shared by all targets. docs/Fusion.md has what it reaches.
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/Pipelines/Pipelines.h"

#include "mlir/Transforms/Passes.h"

using namespace mlir;
using namespace mlir::moe;

void ::moe::buildMoeFusePipeline(OpPassManager &module) {
  // Sizes lead back to arguments, not to results of kernels: what has to come
  // before a kernel is then rows that it reads, and nothing else.
  module.addPass(createCanonicalizerPass());
  module.addPass(createCSEPass());

  OpPassManager &pm = module.nest<func::FuncOp>();
  // Tensor math between kernels hides rows from the passes below: first.
  pm.addPass(createMoeFuseElementwise());
  // Then copies go, so that readers and makers of rows face each other.
  pm.addPass(createMoeFuseRowMoves());
  // A gather that scales is no move; the scalar has to leave it before the
  // product's epilogue takes in the activation that stands on its rows.
  pm.addPass(createMoeFuseRowScales());
  // K = 1: gives maps, which the epilogues below take in.
  pm.addPass(createMoeFuseSingleChoice());
  // The products first, as theirs are the largest buffers.
  pm.addPass(createMoeFuseEpilogues());
  // The sum of two products is an epilogue of one by now.
  pm.addPass(createMoeFuseProducts());
  // Maps that no product could take.
  pm.addPass(createMoeFuseRowwise());
  pm.addPass(createMoeFusePrologues());
  // After prologues: a combine's region is complete, what is added to its
  // rounded sum is not part of it.
  pm.addPass(createMoeFuseAddends());
  // After all combines and epilogues are where they stay.
  pm.addPass(createMoeFuseRowSums());
  pm.addPass(createMoeFuseAccumulation());
  // Regions that met have common parts.
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  // Last: results lost their readers on the way.
  pm.addPass(createMoeSimplifyKernels());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
}
