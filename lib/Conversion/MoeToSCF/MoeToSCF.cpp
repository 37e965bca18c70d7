// SPDX-License-Identifier: Apache-2.0
// convert-moe-to-scf: see Passes.td.
#include "KernelEmitter.h"
#include "moe/Conversion/MoeToSCF/Passes.h"

#include "mlir/Dialect/AMX/AMXDialect.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/X86Vector/X86VectorDialect.h"
#include "llvm/ADT/TypeSwitch.h"

namespace mlir::moe {
#define GEN_PASS_DEF_CONVERTMOETOSCF
#include "moe/Conversion/MoeToSCF/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

LogicalResult mlir::moe::checkKernelOperands(Operation *op, StringRef pass) {
  for (auto [index, operand] : llvm::enumerate(op->getOperands())) {
    Type type = operand.getType();
    if (isa<TensorType>(type))
      return op->emitOpError() << "operand #" << index << " is the tensor "
                               << type << "; bufferize before " << pass;
    if (auto memref = dyn_cast<MemRefType>(type))
      if (!memref.getLayout().isIdentity())
        return op->emitOpError()
               << "operand #" << index << " has the layout of " << memref
               << "; rows must be contiguous, bufferize with identity layouts";
    if (isa<AssignmentType>(type) && !operand.getDefiningOp<PackAssignmentOp>())
      return op->emitOpError()
             << "has an assignment that does not come from "
                "moe.pack_assignment; run moe-expand-assignment first";
  }
  return success();
}

static LogicalResult emitKernel(Operation *op, KernelEmitter &b) {
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
                                    "convert-moe-to-scf";
      });
}

namespace {
struct ConvertMoeToSCF
    : public mlir::moe::impl::ConvertMoeToSCFBase<ConvertMoeToSCF> {
  using ConvertMoeToSCFBase::ConvertMoeToSCFBase;

  void runOnOperation() override {
    if (vectorBits != 128 && vectorBits != 256 && vectorBits != 512) {
      getOperation().emitError() << "wants vector-bits of 128, 256 or 512, got "
                                 << vectorBits.getValue();
      return signalPassFailure();
    }
    CPUTarget target{vectorBits, hasFMA, hasAVX512BF16, hasAMXBF16};
    SmallVector<Operation *> kernels, packs;
    getOperation().walk<WalkOrder::PreOrder>([&](Operation *op) {
      if (!isa_and_present<MoeDialect>(op->getDialect()))
        return WalkResult::advance();
      (isa<PackAssignmentOp>(op) ? packs : kernels).push_back(op);
      return WalkResult::skip();
    });
    for (Operation *op : kernels) {
      KernelEmitter b(op, target);
      if (failed(checkKernelOperands(op, "convert-moe-to-scf")) ||
          failed(emitKernel(op, b)))
        return signalPassFailure();
      op->erase();
    }
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
