// SPDX-License-Identifier: Apache-2.0
//
// What every program of the project knows: dialects with their external models,
// and passes. There is one list, so that no two programs disagree about it.

#ifndef MOE_REGISTRATION_REGISTRATION_H
#define MOE_REGISTRATION_REGISTRATION_H

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace moe {

/// Registers our dialects, the upstream dialects that the pipelines pass
/// through, their external models, and the translations to LLVM IR.
void registerAll(mlir::DialectRegistry &registry);

/// Registers our passes and pipelines, and the upstream passes they are made
/// of, under their command-line names.
void registerAllPasses();

} // namespace moe

#endif // MOE_REGISTRATION_REGISTRATION_H
