// SPDX-License-Identifier: Apache-2.0
// What one-shot bufferization has to know about level 2 of the dialect.
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Bufferization/IR/DstBufferizableOpInterfaceImpl.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace mlir::bufferization;
using namespace mlir::moe;

/// The same op on the buffers of its tensors.
static FailureOr<SmallVector<Value>>
bufferOperands(Operation *op, RewriterBase &rewriter,
               const BufferizationOptions &options, BufferizationState &state) {
  SmallVector<Value> operands;
  for (Value operand : op->getOperands()) {
    if (isa<TensorType>(operand.getType())) {
      FailureOr<Value> buffer = getBuffer(rewriter, operand, options, state);
      if (failed(buffer))
        return failure();
      operand = *buffer;
    }
    operands.push_back(operand);
  }
  return operands;
}

/// Whether the kernel adds to what its outs hold.
template <typename Op> static bool readsOuts(Op) { return false; }
template <> bool readsOuts(GroupedOuterOp op) { return op.getAccumulate(); }
template <> bool readsOuts(ReduceExpertsOp op) { return op.getAccumulate(); }

namespace {

template <typename Op>
struct KernelInterface
    : DstBufferizableOpInterfaceExternalModel<KernelInterface<Op>, Op> {
  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand,
                              const AnalysisState &) const {
    return !cast<DestinationStyleOpInterface>(op).isDpsInit(&operand) ||
           readsOuts(cast<Op>(op));
  }

  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    auto kernel = cast<DestinationStyleOpInterface>(op);
    if (kernel.hasPureBufferSemantics())
      return success();
    auto operands = bufferOperands(op, rewriter, options, state);
    if (failed(operands))
      return failure();
    Operation *onBuffers =
        clone(rewriter, op, /*newResultTypes=*/TypeRange(), *operands);
    replaceOpWithBufferizedValues(
        rewriter, op,
        llvm::to_vector_of<Value>(
            cast<DestinationStyleOpInterface>(onBuffers).getDpsInits()));
    return success();
  }
};

/// The pack reads its tables for all readers of the assignment. It may: nobody
/// writes the tables after they are made, which moe-verify-stage checks.
struct PackInterface
    : BufferizableOpInterface::ExternalModel<PackInterface, PackAssignmentOp> {
  bool bufferizesToMemoryRead(Operation *, OpOperand &,
                              const AnalysisState &) const {
    return true;
  }
  bool bufferizesToMemoryWrite(Operation *, OpOperand &,
                               const AnalysisState &) const {
    return false;
  }
  AliasingValueList getAliasingValues(Operation *, OpOperand &,
                                      const AnalysisState &) const {
    return {};
  }

  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    auto tables = bufferOperands(op, rewriter, options, state);
    if (failed(tables))
      return failure();
    rewriter.replaceOpWithNewOp<PackAssignmentOp>(op, op->getResultTypes(),
                                                  *tables);
    return success();
  }
};

template <typename... Ops> void attachKernels(MLIRContext *context) {
  (Ops::template attachInterface<KernelInterface<Ops>>(*context), ...);
}

} // namespace

void mlir::moe::registerBufferizableOpInterfaceExternalModels(
    DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    attachKernels<SortSlotsOp, RouteRowsOp, RouteGradRowsOp, GroupedMatmulOp,
                  GroupedOuterOp, MapRowsOp, CombineRowsOp, ReduceExpertsOp,
                  FoldPartialsOp>(context);
    PackAssignmentOp::attachInterface<PackInterface>(*context);
    context->loadDialect<bufferization::BufferizationDialect,
                         memref::MemRefDialect>();
  });
}
