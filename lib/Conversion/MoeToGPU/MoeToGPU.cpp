// SPDX-License-Identifier: Apache-2.0
// convert-moe-to-gpu: see Passes.td.
#include "DeviceOps.h"
#include "GPUEmitter.h"
#include "moe/Conversion/MoeToGPU/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"

namespace mlir::moe {
#define GEN_PASS_DEF_CONVERTMOETOGPU
#include "moe/Conversion/MoeToGPU/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

static LogicalResult emitKernel(Operation *op, GPUEmitter &b) {
  return TypeSwitch<Operation *, LogicalResult>(op)
      .Case([&](SortSlotsOp op) { return emitSortSlots(op, b); })
      .Case([&](RouteRowsOp op) { return emitRouteRows(op, b); })
      .Case([&](RouteGradRowsOp op) { return emitRouteGradRows(op, b); })
      .Case([&](MapRowsOp op) { return emitMapRows(op, b); })
      .Case([&](CombineRowsOp op) { return emitCombineRows(op, b); })
      .Case([&](ReduceExpertsOp op) { return emitReduceExperts(op, b); })
      .Case([&](FoldPartialsOp op) { return emitFoldPartials(op, b); })
      .Case([&](GroupedMatmulOp op) { return emitGroupedMatmul(op, b); })
      .Case([&](GroupedOuterOp op) { return emitGroupedOuter(op, b); })
      .Default([](Operation *op) {
        return op->emitOpError() << "is not a kernel on memrefs; run "
                                    "moe-form-kernels and bufferize before "
                                    "convert-moe-to-gpu";
      });
}

namespace {
struct ConvertMoeToGPU
    : public mlir::moe::impl::ConvertMoeToGPUBase<ConvertMoeToGPU> {
  void runOnOperation() override {
    unsigned number = 0;
    // A name that is one in C, and in PTX.
    auto nameOf = [&](Operation *op) {
      std::string name =
          (op->getParentOfType<func::FuncOp>().getName() + "_" +
           op->getName().stripDialect() + "_" + std::to_string(number++))
              .str();
      for (char &c : name)
        if (!llvm::isAlnum(c))
          c = '_';
      return name;
    };
    SmallVector<Operation *> kernels, packs;
    getOperation().walk<WalkOrder::PreOrder>([&](Operation *op) {
      if (!isa_and_present<MoeDialect>(op->getDialect()))
        return WalkResult::advance();
      (isa<PackAssignmentOp>(op) ? packs : kernels).push_back(op);
      return WalkResult::skip();
    });
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (failed(launchDeviceOps(function, nameOf)))
        return signalPassFailure();
    for (Operation *op : kernels) {
      GPUEmitter b(op, nameOf(op));
      if (failed(checkKernelOperands(op, "convert-moe-to-gpu")) ||
          failed(emitKernel(op, b)))
        return signalPassFailure();
    }
    // Only now: kernels look at what else uses their tables.
    for (Operation *op : kernels)
      op->erase();
    for (Operation *op : packs) {
      if (!op->use_empty()) {
        op->emitOpError() << "has users that are not kernels on memrefs; "
                             "inline functions that take or return assignments";
        return signalPassFailure();
      }
      op->erase();
    }
  }
};
} // namespace
