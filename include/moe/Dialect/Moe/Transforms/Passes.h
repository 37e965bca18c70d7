// SPDX-License-Identifier: Apache-2.0
// Passes from the `moe` dialect to itself. Each is described in Passes.td.
#ifndef MOE_DIALECT_MOE_TRANSFORMS_PASSES_H
#define MOE_DIALECT_MOE_TRANSFORMS_PASSES_H

#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace mlir::moe {

#define GEN_PASS_DECL
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"

/// How level 2 becomes buffers: one-shot bufferization's view of the dialect.
void registerBufferizableOpInterfaceExternalModels(DialectRegistry &registry);

/// From level-2 tensors to level-2 buffers: `--moe-bufferize`.
void buildMoeBufferizePipeline(OpPassManager &pm);
void registerMoeTransformsPipelines();

#define GEN_PASS_REGISTRATION
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_TRANSFORMS_PASSES_H
