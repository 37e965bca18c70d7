// SPDX-License-Identifier: Apache-2.0
//
// moe-lsp-server: the language server that editors talk to for .mlir files with
// moe and nvtile operations.

#include "moe/Registration/Registration.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-lsp-server/MlirLspServerMain.h"
#include "llvm/Support/LogicalResult.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  moe::registerAll(registry);
  return llvm::failed(mlir::MlirLspServerMain(argc, argv, registry));
}
