// SPDX-License-Identifier: Apache-2.0
//===- AcceptedInput.h - what may be compiled -------------------*- C++ -*-===//
//
// Modules come from outside. Only a closed list of dialects is parsed at all;
// what is left to do harm (external functions, attributes that steer later
// stages) is refused before any pass runs.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_EXECUTIONENGINE_ACCEPTEDINPUT_H
#define MOE_EXECUTIONENGINE_ACCEPTEDINPUT_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/Support/SourceMgr.h"

namespace moe {

/// The dialects that may be compiled: "builtin", "moe", ...
llvm::ArrayRef<llvm::StringRef> acceptedDialects();

/// Loads the accepted dialects, and no other, from `registry`.
void loadAcceptedDialects(mlir::MLIRContext &context,
                          const mlir::DialectRegistry &registry);

/// Parses text or bytecode in a context prepared by loadAcceptedDialects and
/// checks it. Null, with diagnostics, if it is refused.
mlir::OwningOpRef<mlir::ModuleOp>
parseAccepted(const std::shared_ptr<llvm::SourceMgr> &source,
              mlir::MLIRContext &context);

} // namespace moe

#endif // MOE_EXECUTIONENGINE_ACCEPTEDINPUT_H
