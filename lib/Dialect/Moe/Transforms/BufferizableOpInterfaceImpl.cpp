// SPDX-License-Identifier: Apache-2.0
// What one-shot bufferization has to know about level 2 of the dialect.
#include "moe/Dialect/Moe/Transforms/Passes.h"

using namespace mlir;

void mlir::moe::registerBufferizableOpInterfaceExternalModels(
    DialectRegistry &) {}
