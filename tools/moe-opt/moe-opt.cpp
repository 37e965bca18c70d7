// SPDX-License-Identifier: Apache-2.0
//
// moe-opt: reads MLIR, runs the passes named on the command line, prints MLIR.
// Each pass and each pipeline of the project is one flag of it.

#include "moe/Registration/Registration.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  moe::registerAll(registry);
  moe::registerAllPasses();
  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, "moe-mlir modular optimizer\n", registry));
}
