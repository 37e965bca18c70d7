// SPDX-License-Identifier: Apache-2.0
// Tensor math around the layer: a thread for each element of what it computes.
#include "DeviceOps.h"
#include "GPUEmitter.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::moe;

/// Parallel dimensions first: they become the threads, reductions loops in
/// them.
static FailureOr<linalg::LinalgOp> parallelFirst(RewriterBase &rewriter,
                                                 linalg::LinalgOp op) {
  auto generic = dyn_cast<linalg::GenericOp>(op.getOperation());
  rewriter.setInsertionPoint(op);
  if (!generic) {
    FailureOr<linalg::GenericOp> general =
        linalg::generalizeNamedOp(rewriter, op);
    if (failed(general))
      return failure();
    generic = *general;
  }
  SmallVector<unsigned> order;
  for (bool parallel : {true, false})
    for (auto [i, type] : llvm::enumerate(generic.getIteratorTypesArray()))
      if ((type == utils::IteratorType::parallel) == parallel)
        order.push_back(i);
  if (llvm::is_sorted(order))
    return cast<linalg::LinalgOp>(generic.getOperation());
  FailureOr<linalg::GenericOp> changed =
      linalg::interchangeGenericOp(rewriter, generic, order);
  if (failed(changed))
    return failure();
  return cast<linalg::LinalgOp>(changed->getOperation());
}

/// The loop's iterations to threads.
static void launchLoop(scf::ParallelOp loop, const std::string &name) {
  GPUEmitter b(loop, name);
  Value total = b.index(1);
  for (Value bound : loop.getUpperBound())
    total = b.mul(total, bound);
  b.launch(b.ceilDiv(total, kBlockThreads), kBlockThreads, [&] {
    Value i = b.add(b.mul(b.block, kBlockThreads), b.thread);
    b.when(b.less(i, total), [&] {
      IRMapping map;
      Value rest = i;
      for (int64_t d = loop.getNumLoops() - 1; d >= 0; --d) {
        Value bound = loop.getUpperBound()[d];
        map.map(loop.getInductionVars()[d], b.remainder(rest, bound));
        rest = b.quotient(rest, bound);
      }
      for (Operation &op : loop.getBody()->without_terminator())
        b.clone(op, map);
    });
  });
  loop.erase();
}

/// The op in one thread.
static void launchAlone(Operation *op, const std::string &name) {
  GPUEmitter b(op, name);
  b.launch(b.index(1), 1, [&] { b.clone(*op); });
  op->erase();
}

static LogicalResult launchLinalg(linalg::LinalgOp op,
                                  const std::string &name) {
  IRRewriter rewriter(op.getContext());
  FailureOr<linalg::LinalgOp> ordered = parallelFirst(rewriter, op);
  if (failed(ordered))
    return failure();
  if ((*ordered).getNumParallelLoops() == 0) {
    // The loops are made inside the launch.
    GPUEmitter b(*ordered, name);
    linalg::LinalgOp inside;
    b.launch(b.index(1), 1, [&] {
      inside = cast<linalg::LinalgOp>(b.clone(*ordered->getOperation()));
    });
    rewriter.eraseOp(*ordered);
    rewriter.setInsertionPoint(inside);
    if (failed(linalg::linalgOpToLoops(rewriter, inside)))
      return failure();
    rewriter.eraseOp(inside);
    return success();
  }
  rewriter.setInsertionPoint(*ordered);
  FailureOr<linalg::LinalgLoops> loops =
      linalg::linalgOpToParallelLoops(rewriter, *ordered);
  if (failed(loops))
    return failure();
  auto outer = dyn_cast<scf::ParallelOp>(loops->front());
  if (!outer)
    return failure();
  rewriter.eraseOp(*ordered);
  launchLoop(outer, name);
  return success();
}

LogicalResult mlir::moe::launchDeviceOps(
    func::FuncOp function,
    llvm::function_ref<std::string(Operation *)> nameOf) {
  SmallVector<Operation *> ops;
  for (Block &block : function.getBody())
    for (Operation &op : block)
      ops.push_back(&op);
  for (Operation *op : ops) {
    if (auto copy = dyn_cast<memref::CopyOp>(op)) {
      std::string name = nameOf(op);
      OpBuilder b(op);
      auto linalgCopy = linalg::CopyOp::create(
          b, op->getLoc(), copy.getSource(), copy.getTarget());
      copy.erase();
      if (failed(launchLinalg(cast<linalg::LinalgOp>(linalgCopy.getOperation()),
                              name)))
        return failure();
    } else if (auto linalgOp = dyn_cast<linalg::LinalgOp>(op)) {
      if (!linalgOp.hasPureBufferSemantics())
        return op->emitOpError()
               << "is on tensors; bufferize before convert-moe-to-gpu";
      if (failed(launchLinalg(linalgOp, nameOf(op))))
        return failure();
    } else if (isa<memref::StoreOp>(op)) {
      launchAlone(op, nameOf(op));
    } else if (isa<memref::LoadOp>(op)) {
      return op->emitOpError()
             << "reads an element of a tensor on the host: a call on a GPU "
                "never waits for the device; keep the value in a tensor";
    }
  }
  return success();
}
