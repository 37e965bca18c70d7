// SPDX-License-Identifier: Apache-2.0
// moe-order-kernels: of kernels that may run in any order, those first that
// free memory. A list scheduling of the function's block; that it lowers the
// peak is checked, since one step ahead is all that it sees.
#include "moe/Dialect/Moe/Transforms/Dimensions.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/SetVector.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEORDERKERNELS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// A kernel, or another op that takes time: what waits for it, how much it
/// waits for, and the buffers that it touches.
struct Step {
  Operation *op;
  SmallVector<unsigned> successors;
  unsigned predecessors = 0;
  llvm::SmallSetVector<unsigned, 4> buffers;
};

/// A buffer that the function will allocate, and how many steps touch it.
struct Buffer {
  double bytes;
  unsigned uses = 0;
};

class Schedule {
public:
  Schedule(Block &block, Dimensions &dims) : block(block), dims(dims) {}
  void run();

private:
  void findBuffers();
  void findSteps();
  double peakOf(ArrayRef<unsigned> order) const;
  SmallVector<unsigned> listSchedule() const;
  /// Bytes that a step makes, and those that it is the last to use, where
  /// `left` are the uses that each buffer still has.
  std::pair<double, double> madeAndFreed(unsigned step,
                                         ArrayRef<unsigned> left) const;
  SmallVector<unsigned> usesOfBuffers() const;

  Block &block;
  Dimensions &dims;
  llvm::EquivalenceClasses<Value> aliases;
  DenseMap<Value, unsigned> bufferOf;
  SmallVector<Buffer> buffers;
  SmallVector<Step> steps;
};

/// Ops of no cost, which go wherever their users go.
bool isFree(Operation *op) {
  return isMemoryEffectFree(op) && op->getNumRegions() == 0 &&
         !isa<DestinationStyleOpInterface>(op);
}

/// Calls back for each value that an op or an op inside reads.
void forEachOperand(Operation *op, function_ref<void(Value)> callback) {
  op->walk([&](Operation *inner) {
    for (Value operand : inner->getOperands())
      callback(operand);
  });
}

} // namespace

/// Results that share a buffer with a destination or a source are one; those
/// with an argument, a constant or a result of the function are not allocated.
void Schedule::findBuffers() {
  auto join = [&](Value a, Value b) { aliases.unionSets(a, b); };
  SmallVector<Value> given(block.getArguments());
  for (Operation &op : block) {
    for (Value result : op.getResults())
      if (isa<RankedTensorType>(result.getType()))
        aliases.insert(result);
    if (op.hasTrait<OpTrait::IsTerminator>())
      llvm::append_range(given, op.getOperands());
    if (isa<tensor::EmptyOp>(op))
      continue;
    if (auto inPlace = dyn_cast<DestinationStyleOpInterface>(op)) {
      for (OpOperand &init : inPlace.getDpsInitsMutable())
        if (isa<RankedTensorType>(init.get().getType()) &&
            !init.get().getDefiningOp<tensor::EmptyOp>())
          join(inPlace.getTiedOpResult(&init), init.get());
    } else if (isFree(&op)) {
      // Views, for all that is known.
      for (Value result : op.getResults())
        for (Value operand : op.getOperands())
          if (isa<RankedTensorType>(result.getType()) &&
              isa<RankedTensorType>(operand.getType()) &&
              !operand.getDefiningOp<tensor::EmptyOp>())
            join(result, operand);
    }
  }
  llvm::SmallDenseSet<Value> notAllocated;
  for (Value value : given)
    if (isa<RankedTensorType>(value.getType()))
      notAllocated.insert(aliases.getOrInsertLeaderValue(value));
  for (Operation &op : block)
    for (Value result : op.getResults()) {
      if (!isa<RankedTensorType>(result.getType()) || isa<tensor::EmptyOp>(op))
        continue;
      Value leader = aliases.getLeaderValue(result);
      if (notAllocated.contains(leader))
        continue;
      auto [it, isNew] = bufferOf.try_emplace(leader, buffers.size());
      std::optional<LinearExpr> bytes = dims.bytesOf(result);
      double nominal = bytes ? bytes->nominal() : 0;
      if (isNew)
        buffers.push_back({nominal});
      buffers[it->second].bytes = std::max(buffers[it->second].bytes, nominal);
    }
}

void Schedule::findSteps() {
  DenseMap<Operation *, unsigned> stepOf;
  for (Operation &op : block)
    if (!isFree(&op) && !op.hasTrait<OpTrait::IsTerminator>()) {
      stepOf[&op] = steps.size();
      steps.push_back({&op, {}, 0, {}});
    }
  // Steps that a value waits for, through ops of no cost.
  DenseMap<Value, llvm::SmallSetVector<unsigned, 4>> madeBy;
  DenseMap<Value, SmallVector<unsigned>> touchedBy;
  std::optional<unsigned> lastEffect;
  for (Operation &op : block) {
    llvm::SmallSetVector<unsigned, 4> before;
    forEachOperand(&op, [&](Value operand) {
      if (auto it = madeBy.find(operand); it != madeBy.end())
        before.insert_range(it->second);
    });
    auto found = stepOf.find(&op);
    if (found == stepOf.end()) {
      for (Value result : op.getResults())
        madeBy[result] = before;
      continue;
    }
    unsigned step = found->second;
    // Who reads a buffer comes before who overwrites it, in the order given.
    if (auto inPlace = dyn_cast<DestinationStyleOpInterface>(op))
      for (Value init : inPlace.getDpsInits())
        if (isa<RankedTensorType>(init.getType()) &&
            !init.getDefiningOp<tensor::EmptyOp>())
          before.insert_range(touchedBy[aliases.getOrInsertLeaderValue(init)]);
    if (!isMemoryEffectFree(&op)) {
      if (lastEffect)
        before.insert(*lastEffect);
      lastEffect = step;
    }
    before.remove(step);
    for (unsigned other : before)
      steps[other].successors.push_back(step);
    steps[step].predecessors = before.size();
    auto touch = [&](Value value) {
      if (!isa<RankedTensorType>(value.getType()) ||
          value.getDefiningOp<tensor::EmptyOp>())
        return;
      Value leader = aliases.getOrInsertLeaderValue(value);
      touchedBy[leader].push_back(step);
      if (auto it = bufferOf.find(leader); it != bufferOf.end())
        steps[step].buffers.insert(it->second);
    };
    forEachOperand(&op, touch);
    for (Value result : op.getResults()) {
      touch(result);
      madeBy[result].insert(step);
    }
  }
  for (const Step &step : steps)
    for (unsigned buffer : step.buffers)
      ++buffers[buffer].uses;
}

std::pair<double, double>
Schedule::madeAndFreed(unsigned step, ArrayRef<unsigned> left) const {
  double made = 0, freed = 0;
  for (unsigned buffer : steps[step].buffers) {
    if (left[buffer] == buffers[buffer].uses)
      made += buffers[buffer].bytes;
    if (left[buffer] == 1)
      freed += buffers[buffer].bytes;
  }
  return {made, freed};
}

SmallVector<unsigned> Schedule::usesOfBuffers() const {
  return llvm::map_to_vector(buffers,
                             [](const Buffer &buffer) { return buffer.uses; });
}

double Schedule::peakOf(ArrayRef<unsigned> order) const {
  SmallVector<unsigned> left = usesOfBuffers();
  double live = 0, peak = 0;
  for (unsigned step : order) {
    auto [made, freed] = madeAndFreed(step, left);
    peak = std::max(peak, live + made);
    live += made - freed;
    for (unsigned buffer : steps[step].buffers)
      --left[buffer];
  }
  return peak;
}

SmallVector<unsigned> Schedule::listSchedule() const {
  SmallVector<unsigned> left = usesOfBuffers();
  SmallVector<unsigned> waits = llvm::map_to_vector(
      steps, [](const Step &step) { return step.predecessors; });
  SmallVector<unsigned> order;
  while (order.size() < steps.size()) {
    std::optional<unsigned> best;
    double least = 0;
    for (unsigned step = 0; step < steps.size(); ++step) {
      if (waits[step])
        continue;
      auto [made, freed] = madeAndFreed(step, left);
      if (!best || made - freed < least) {
        best = step;
        least = made - freed;
      }
    }
    order.push_back(*best);
    waits[*best] = ~0u;
    for (unsigned next : steps[*best].successors)
      --waits[next];
    for (unsigned buffer : steps[*best].buffers)
      --left[buffer];
  }
  return order;
}

void Schedule::run() {
  findBuffers();
  findSteps();
  auto given = llvm::to_vector(llvm::seq<unsigned>(0, steps.size()));
  SmallVector<unsigned> order = listSchedule();
  if (peakOf(order) >= peakOf(given))
    return;
  // Ops of no cost are moved before their first user alone.
  DenseSet<Operation *> placed;
  Operation *end = block.getTerminator();
  std::function<void(Operation *)> place = [&](Operation *op) {
    if (op->getBlock() != &block || !placed.insert(op).second)
      return;
    forEachOperand(op, [&](Value operand) {
      if (Operation *made = operand.getDefiningOp())
        place(made);
    });
    op->moveBefore(end);
  };
  SmallVector<Operation *> all;
  for (Operation &op : block.without_terminator())
    all.push_back(&op);
  for (unsigned step : order)
    place(steps[step].op);
  for (Operation *op : all)
    place(op);
}

namespace {
struct MoeOrderKernelsPass
    : public moe::impl::MoeOrderKernelsBase<MoeOrderKernelsPass> {
  void runOnOperation() override {
    func::FuncOp function = getOperation();
    if (function.isExternal() || !llvm::hasSingleElement(function.getBody()))
      return;
    FailureOr<Dimensions> dims = Dimensions::read(function);
    if (failed(dims))
      return signalPassFailure();
    Schedule(function.getBody().front(), *dims).run();
  }
};
} // namespace
