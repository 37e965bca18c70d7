// SPDX-License-Identifier: Apache-2.0
#include "KernelEmitter.h"
using namespace mlir;
using namespace mlir::moe;
LogicalResult mlir::moe::emitRouteGradRows(RouteGradRowsOp op,
                                           KernelEmitter &) {
  return op.emitOpError() << "is not built for the CPU yet";
}
