// SPDX-License-Identifier: Apache-2.0
#include "Breaks.h"

#include "moe/Dialect/NVTile/IR/NVTile.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Matchers.h"
#include "llvm/Support/Regex.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::nvtile;

//===----------------------------------------------------------------------===//
// Finding ops
//===----------------------------------------------------------------------===//

template <typename Op>
static SmallVector<Op> allOf(Operation *kernel,
                             function_ref<bool(Op)> matches = nullptr) {
  SmallVector<Op> found;
  kernel->walk([&](Op op) {
    if (!matches || matches(op))
      found.push_back(op);
  });
  return found;
}

template <typename Op>
static bool eraseAll(Operation *kernel,
                     function_ref<bool(Op)> matches = nullptr) {
  SmallVector<Op> found = allOf<Op>(kernel, matches);
  for (Op op : found)
    op->erase();
  return !found.empty();
}

/// One of an op's results or operands takes its place.
template <typename Op> static bool replaceWith(Op op, Value value) {
  op->getResult(0).replaceAllUsesWith(value);
  return true;
}

static Value plus(Operation *at, Value value, int64_t amount) {
  OpBuilder b(at);
  Value by = arith::ConstantOp::create(
      b, at->getLoc(), b.getIntegerAttr(value.getType(), amount));
  return arith::AddIOp::create(b, at->getLoc(), value, by);
}

static bool isFloat(Type type) {
  return isa<FloatType>(getElementTypeOrSelf(type));
}

static bool isConstant(Value value) {
  return matchPattern(value, m_Constant());
}

//===----------------------------------------------------------------------===//
// The ring, and what comes through it
//===----------------------------------------------------------------------===//

static bool dropAwait(Operation *kernel) { return eraseAll<AwaitOp>(kernel); }

static bool dropAcquire(Operation *kernel) {
  return eraseAll<AcquireOp>(kernel);
}

static bool dropRelease(Operation *kernel) {
  return eraseAll<ReleaseOp>(kernel);
}

/// Results are stored while other threads still write them.
static bool dropPublish(Operation *kernel) {
  return eraseAll<PublishOp>(kernel);
}

/// Stages are released while the copy engine still reads them.
static bool dropStoreWait(Operation *kernel) {
  return eraseAll<StoreWaitOp>(kernel);
}

/// The other phase of the same stage.
static bool awaitOtherPhase(Operation *kernel) {
  SmallVector<AwaitOp> found = allOf<AwaitOp>(kernel);
  for (AwaitOp op : found)
    op.getPositionMutable().assign(
        plus(op, op.getPosition(), op.getRing().getType().getStages()));
  return !found.empty();
}

/// Every stage is signalled before its bytes have come.
static bool expectLess(Operation *kernel) {
  SmallVector<ExpectOp> found = allOf<ExpectOp>(
      kernel, [](ExpectOp op) { return op.getBytes() >= 8192; });
  for (ExpectOp op : found)
    op.setBytes(op.getBytes() - 8192);
  return !found.empty();
}

static bool waitForFewerProducts(Operation *kernel) {
  bool broken = false;
  for (MmaWaitOp op : allOf<MmaWaitOp>(kernel)) {
    broken |= op.getPending() == 0;
    op.setPending(1);
  }
  return broken;
}

/// Gathered rows past an expert's end are not replaced by zeros.
static bool dropTailMask(Operation *kernel) {
  bool broken = false;
  for (GatherOp op : allOf<GatherOp>(kernel)) {
    broken |= !!op.getCount();
    op.getCountMutable().clear();
  }
  return broken;
}

/// An expert has one row of the next, in tiles and their masks.
static bool endTooHigh(Operation *kernel) {
  SmallVector<WorkItemOp> found = allOf<WorkItemOp>(kernel);
  for (WorkItemOp op : found) {
    OpBuilder b(op);
    b.setInsertionPointAfter(op);
    Value one = arith::ConstantIntOp::create(b, op.getLoc(), 1, 32);
    auto more = arith::AddIOp::create(b, op.getLoc(), op.getEnd(), one);
    op.getEnd().replaceAllUsesExcept(more, more);
  }
  return !found.empty();
}

/// The result of an expert without rows is not written.
static bool skipEmptyExperts(Operation *kernel) {
  bool broken = false;
  auto skip = [&](Operation *store, MutableOperandRange end) {
    // The tile's work item: the last one before the store.
    WorkItemOp item;
    for (WorkItemOp each : allOf<WorkItemOp>(kernel)) {
      Operation *beside = each->getBlock()->findAncestorOpInBlock(*store);
      if (each.getByExpert() && beside && each->isBeforeInBlock(beside))
        item = each;
    }
    if (!item)
      return;
    OpBuilder b(store);
    Location at = store->getLoc();
    Value some = arith::CmpIOp::create(b, at, arith::CmpIPredicate::slt,
                                       item.getFirst(), item.getEnd());
    Value none = arith::ConstantIntOp::create(b, at, 0, 32);
    Value last = end[0].get();
    end.assign(arith::SelectOp::create(b, at, some, last, none).getResult());
    broken = true;
  };
  for (StageStoreOp op : allOf<StageStoreOp>(kernel))
    skip(op, op.getEndMutable());
  for (StoreFragmentOp op : allOf<StoreFragmentOp>(kernel))
    skip(op, op.getEndMutable());
  return broken;
}

/// Gathered rows are those of the next rows in order.
static bool shiftRowIds(Operation *kernel) {
  SmallVector<RowIdsOp> found = allOf<RowIdsOp>(kernel);
  for (RowIdsOp op : found)
    op.getFirstMutable().assign(plus(op, op.getFirst(), 1));
  return !found.empty();
}

/// The last column block of weights comes from eight columns on.
static bool shiftWeights(Operation *kernel) {
  SmallVector<LoadOp> loads =
      allOf<LoadOp>(kernel, [](LoadOp op) { return op.getTile() == 1; });
  if (loads.empty())
    return false;
  LoadOp op = loads.back();
  OpOperand &coordinate = op.getCoordinatesMutable()[1];
  coordinate.set(plus(op, coordinate.get(), 8));
  return true;
}

//===----------------------------------------------------------------------===//
// Epilogues
//===----------------------------------------------------------------------===//

/// Stores end `by` rows further.
static bool moveRowEnd(Operation *kernel, int64_t by) {
  bool broken = false;
  kernel->walk([&](Operation *op) {
    if (auto store = dyn_cast<StageStoreOp>(op))
      store.getEndMutable().assign(plus(op, store.getEnd(), by));
    else if (auto store = dyn_cast<StoreOp>(op))
      store.getEndMutable().assign(plus(op, store.getEnd(), by));
    else if (auto store = dyn_cast<StoreFragmentOp>(op))
      store.getEndMutable().assign(plus(op, store.getEnd(), by));
    else
      return;
    broken = true;
  });
  return broken;
}
static bool endStoresEarly(Operation *kernel) { return moveRowEnd(kernel, -1); }
static bool endStoresLate(Operation *kernel) { return moveRowEnd(kernel, 1); }

/// The last columns of the accumulator are those eight before.
static bool shiftColumns(Operation *kernel) {
  SmallVector<ColumnsOp> found =
      allOf<ColumnsOp>(kernel, [](ColumnsOp op) { return op.getFirst() >= 8; });
  if (found.empty())
    return false;
  // Of the first chunk, which every width has.
  found.front().setFirst(found.front().getFirst() - 8);
  return true;
}

/// One value a row is read from the row after.
static bool shiftScalars(Operation *kernel) {
  SmallVector<LoadFragmentOp> found =
      allOf<LoadFragmentOp>(kernel, [](LoadFragmentOp op) {
        return cast<FragmentType>(op.getFragments()[0].getType())
                   .getColumns() == 1;
      });
  for (LoadFragmentOp op : found)
    op.getRowMutable().assign(plus(op, op.getRow(), 1));
  return !found.empty();
}

/// An operand's two column blocks are taken for each other.
static bool confuseOperandBlocks(Operation *kernel) {
  bool broken = false;
  for (ReadOp op : allOf<ReadOp>(kernel)) {
    if (op.getTile() != 1 || op.getRow() > 128)
      continue;
    op.setRow(128 - op.getRow());
    broken = true;
  }
  return broken;
}

static bool endSumsEarly(Operation *kernel) {
  SmallVector<RowSumOp> found = allOf<RowSumOp>(kernel);
  for (RowSumOp op : found)
    op.getLimitMutable().assign(plus(op, op.getLimit(), -8));
  return !found.empty();
}

/// Sums of two fragments keep the second alone: those of column chunks, and of
/// a gradient with what its buffer held.
static bool dropSummands(Operation *kernel) {
  bool broken = false;
  for (MapOp op : allOf<MapOp>(kernel)) {
    Block &body = op.getBody().front();
    if (op.getFragments().size() != 2 || op.getNumResults() != 1 ||
        !isa<arith::AddFOp>(body.front()) ||
        body.front().getNextNode() != body.getTerminator())
      continue;
    op.getResult(0).replaceAllUsesWith(op.getFragments()[1]);
    broken = true;
  }
  return broken;
}

//===----------------------------------------------------------------------===//
// The work table
//===----------------------------------------------------------------------===//

/// Experts with equally many rows get one rank.
static bool dropTies(Operation *kernel) {
  return llvm::any_of(allOf<arith::OrIOp>(kernel), [](arith::OrIOp op) {
    return replaceWith(op, op.getLhs());
  });
}

/// A block of one row is forgotten.
static bool roundBlocksDown(Operation *kernel) {
  bool broken = false;
  for (arith::ConstantOp op : allOf<arith::ConstantOp>(kernel)) {
    auto number = dyn_cast<IntegerAttr>(op.getValue());
    if (!number || number.getInt() != 127)
      continue;
    op.setValueAttr(IntegerAttr::get(op.getType(), 126));
    broken = true;
  }
  return broken;
}

//===----------------------------------------------------------------------===//
// Plain kernels
//===----------------------------------------------------------------------===//

static bool dropBarriers(Operation *kernel) {
  return eraseAll<gpu::BarrierOp>(kernel);
}

/// The kernel's outermost guard lets one more in.
static bool guardOneMore(Operation *kernel) {
  for (arith::CmpIOp op : allOf<arith::CmpIOp>(kernel))
    if (op.getPredicate() == arith::CmpIPredicate::slt) {
      op.setPredicate(arith::CmpIPredicate::sle);
      return true;
    }
  return false;
}

/// The last of the values that are added where a flag says so is left out.
static bool dropSelected(Operation *kernel) {
  auto found = allOf<arith::SelectOp>(
      kernel, [](arith::SelectOp op) { return isFloat(op.getType()); });
  return !found.empty() &&
         replaceWith(found.back(), found.back().getFalseValue());
}

static bool dropLastAddend(Operation *kernel) {
  auto found = allOf<arith::AddFOp>(kernel);
  return !found.empty() && replaceWith(found.back(), found.back().getLhs());
}

/// Loops that carry a number leave out their first step.
static bool skipFirstStep(Operation *kernel) {
  auto found = allOf<scf::ForOp>(kernel, [](scf::ForOp op) {
    return llvm::any_of(op.getResultTypes(), isFloat);
  });
  for (scf::ForOp op : found) {
    OpBuilder b(op);
    op.getLowerBoundMutable().assign(arith::AddIOp::create(
        b, op.getLoc(), op.getLowerBound(), op.getStep()));
  }
  return !found.empty();
}

/// Sums and scans over a warp miss the exchanges over the last one's distance
/// (two for a number of 64 bits).
static bool dropShuffle(Operation *kernel) {
  auto found = allOf<gpu::ShuffleOp>(kernel, [](gpu::ShuffleOp op) {
    return op.getMode() != gpu::ShuffleMode::IDX;
  });
  if (found.empty())
    return false;
  Value distance = found.back().getOffset();
  for (gpu::ShuffleOp op : found) {
    if (op.getOffset() != distance)
      continue;
    OpBuilder b(op);
    op.getShuffleResult().replaceAllUsesWith(arith::ConstantOp::create(
        b, op.getLoc(), cast<TypedAttr>(b.getZeroAttr(op.getType(0)))));
  }
  return true;
}

/// The loop that gives slots their rows goes backwards.
static bool reversePlaces(Operation *kernel) {
  auto found = allOf<scf::ForOp>(kernel, [](scf::ForOp op) {
    return op.getNumResults() == 1 &&
           !allOf<memref::StoreOp>(op.getOperation()).empty() &&
           !allOf<scf::IfOp>(op.getOperation()).empty();
  });
  if (found.empty())
    return false;
  scf::ForOp op = found.back();
  OpBuilder b = OpBuilder::atBlockBegin(op.getBody());
  Value i = op.getInductionVar();
  Value end =
      arith::SubIOp::create(b, op.getLoc(), op.getUpperBound(), op.getStep());
  auto back = arith::SubIOp::create(b, op.getLoc(), end, i);
  i.replaceAllUsesExcept(back, back);
  return true;
}

/// What a chunk of slots stores begins where the first chunk does.
static bool dropChunk(Operation *kernel) {
  auto found = allOf<memref::StoreOp>(kernel, [](memref::StoreOp op) {
    return op.getIndices().size() == 1 &&
           op.getIndices()[0].getDefiningOp<arith::AddIOp>();
  });
  if (found.empty())
    return false;
  memref::StoreOp op = found.back();
  auto sum = op.getIndices()[0].getDefiningOp<arith::AddIOp>();
  bool first = isa<BlockArgument>(sum.getLhs());
  op.getIndicesMutable()[0].set(first ? sum.getLhs() : sum.getRhs());
  return true;
}

/// Of equal keys the higher number comes first.
static bool reverseTies(Operation *kernel) {
  bool broken = false;
  for (arith::SelectOp op : allOf<arith::SelectOp>(kernel)) {
    auto key = op.getTrueValue().getDefiningOp<arith::CmpFOp>();
    auto number = op.getFalseValue().getDefiningOp<arith::CmpIOp>();
    if (!key || !number || number.getPredicate() != arith::CmpIPredicate::slt)
      continue;
    number.setPredicate(arith::CmpIPredicate::sgt);
    broken = true;
  }
  return broken;
}

//===----------------------------------------------------------------------===//
// As NVVM
//===----------------------------------------------------------------------===//

static bool dropFences(Operation *kernel) {
  return eraseAll<NVVM::FenceProxyOp>(kernel);
}

/// A stage is signalled before a thread's gathers have landed.
static bool dropCopyWaits(Operation *kernel) {
  SmallVector<NVVM::CpAsyncMBarrierArriveOp> found =
      allOf<NVVM::CpAsyncMBarrierArriveOp>(kernel);
  for (NVVM::CpAsyncMBarrierArriveOp op : found) {
    OpBuilder b(op);
    NVVM::MBarrierArriveOp::create(b, op.getLoc(), Type(), op.getAddr(),
                                   Value());
    op->erase();
  }
  return !found.empty();
}

/// A staging buffer is written while its last store is read.
static bool dropStoreWaits(Operation *kernel) {
  return eraseAll<NVVM::CpAsyncBulkWaitGroupOp>(kernel);
}

/// A warpgroup's threads do not wait for each other around a staging buffer.
static bool dropMeetings(Operation *kernel) {
  return eraseAll<NVVM::BarrierOp>(
      kernel, [](NVVM::BarrierOp op) { return !!op.getBarrierId(); });
}

/// Shared memory is written without its swizzle: the first of the kernel's.
static bool dropSwizzle(Operation *kernel) {
  for (LLVM::XOrOp op : allOf<LLVM::XOrOp>(kernel))
    if (!isConstant(op.getRhs()) && !isConstant(op.getLhs()))
      return replaceWith(op, op.getLhs());
  return false;
}

//===----------------------------------------------------------------------===//
// All of them
//===----------------------------------------------------------------------===//

ArrayRef<Break> moe::allBreaks() {
  static const Break breaks[] = {
      {"await-dropped", "a stage is read before it is full", "kernels",
       dropAwait},
      {"await-other-phase", "a stage is awaited in its other phase", "kernels",
       awaitOtherPhase},
      {"acquire-dropped", "a stage is filled before it is released", "kernels",
       dropAcquire},
      {"release-dropped", "a stage is never released", "kernels", dropRelease},
      {"publish-dropped", "results leave a stage before all are there",
       "kernels", dropPublish},
      {"store-wait-dropped", "a stage is filled while results leave it",
       "kernels", dropStoreWait},
      {"expect-less", "a stage is full before its last bytes", "kernels",
       expectLess},
      {"mma-wait-dropped", "sums are read before the last product is done",
       "kernels", waitForFewerProducts},
      {"tail-mask-dropped", "gathered rows past the end are no zeros",
       "kernels", dropTailMask},
      {"end-too-high", "an expert has one row of the next", "kernels",
       endTooHigh},
      {"empty-experts-skipped", "an expert without rows is not written",
       "kernels", skipEmptyExperts},
      {"row-ids-shifted", "the next rows are gathered", "kernels", shiftRowIds},
      {"weights-shifted", "eight columns further are multiplied", "kernels",
       shiftWeights},
      {"stores-end-early", "an expert's last row is not stored", "kernels",
       endStoresEarly},
      {"stores-end-late", "one row past the end is stored", "kernels",
       endStoresLate},
      {"columns-shifted", "a chunk of the accumulator begins 8 columns early",
       "kernels", shiftColumns},
      {"scalars-shifted", "a row has the next row's gate", "kernels",
       shiftScalars},
      {"operand-blocks-confused", "gate and up are taken for each other",
       "kernels", confuseOperandBlocks},
      {"sums-end-early", "a row sum misses 8 columns", "kernels", endSumsEarly},
      {"summand-dropped", "one of two summed fragments is left out", "kernels",
       dropSummands},
      {"ties-dropped", "experts of one size have one rank", "kernels",
       dropTies},
      {"blocks-rounded-down", "a block of one row is forgotten", "kernels",
       roundBlocksDown},
      {"barriers-dropped", "no thread waits for the others", "kernels",
       dropBarriers},
      {"guard-one-more", "the outermost guard lets one more in", "kernels",
       guardOneMore},
      {"selected-dropped", "the last slot of a sum is left out", "kernels",
       dropSelected},
      {"addend-dropped", "the last sum misses its second part", "kernels",
       dropLastAddend},
      {"first-step-skipped", "sums leave out their first step", "kernels",
       skipFirstStep},
      {"shuffle-dropped", "a warp's exchange over one distance is lost",
       "kernels", dropShuffle},
      {"places-reversed", "slots of an expert are in reverse order", "kernels",
       reversePlaces},
      {"chunk-dropped", "every chunk is stored as the first one", "kernels",
       dropChunk},
      {"ties-reversed", "the higher of equal experts is chosen", "kernels",
       reverseTies},
      {"fences-dropped", "asynchronous copies are not made visible", "nvvm",
       dropFences},
      {"copy-waits-dropped", "gathered rows are not waited for", "nvvm",
       dropCopyWaits},
      {"store-waits-dropped", "a staging buffer is overwritten", "nvvm",
       dropStoreWaits},
      {"meetings-dropped", "threads do not meet at a staging buffer", "nvvm",
       dropMeetings},
      {"swizzle-dropped", "shared memory is written unswizzled", "nvvm",
       dropSwizzle},
  };
  return breaks;
}

const Break *moe::findBreak(StringRef name) {
  for (const Break &mistake : allBreaks())
    if (mistake.name == name)
      return &mistake;
  return nullptr;
}

/// Its name, if it is a kernel.
static StringRef kernelName(Operation *op) {
  if (auto launch = dyn_cast<gpu::LaunchOp>(op))
    return launch.getFunction().value_or(StringRef());
  if (auto kernel = dyn_cast<gpu::GPUFuncOp>(op))
    return kernel.getName();
  auto kernel = dyn_cast<LLVM::LLVMFuncOp>(op);
  return kernel && kernel->getParentOfType<gpu::GPUModuleOp>()
             ? kernel.getName()
             : StringRef();
}

SmallVector<std::string>
moe::breakKernels(Operation *module, const Break &mistake, StringRef kernels) {
  llvm::Regex regex(kernels);
  SmallVector<std::string> broken;
  module->walk<WalkOrder::PreOrder>([&](Operation *op) {
    StringRef name = kernelName(op);
    if (name.empty())
      return WalkResult::advance();
    if (regex.match(name) && mistake.apply(op))
      broken.push_back(name.str());
    return WalkResult::skip();
  });
  return broken;
}
