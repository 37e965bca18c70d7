// SPDX-License-Identifier: Apache-2.0
//
// moe-reduce: makes a failing input smaller while a test script keeps finding
// it interesting. Found failures are committed in the form it leaves.

#include "moe/Registration/Registration.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/Tools/mlir-reduce/MlirReduceMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  moe::registerAll(registry);
  moe::registerAllPasses();
  mlir::MLIRContext context(registry);
  return llvm::failed(mlir::mlirReduceMain(argc, argv, context));
}
