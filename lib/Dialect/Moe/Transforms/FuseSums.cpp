// SPDX-License-Identifier: Apache-2.0
// moe-fuse-row-sums, moe-fuse-products, moe-fuse-addends,
// moe-fuse-accumulation: sums that a kernel can start from, or leave for
// another to finish.
#include "Fusion.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Analysis/TopologicalSortUtils.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEFUSEROWSUMS
#define GEN_PASS_DEF_MOEFUSEPRODUCTS
#define GEN_PASS_DEF_MOEFUSEADDENDS
#define GEN_PASS_DEF_MOEFUSEACCUMULATION
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

template <typename Op> SmallVector<Op> collect(func::FuncOp function) {
  SmallVector<Op> ops;
  function.walk([&](Op op) { ops.push_back(op); });
  return ops;
}

//===----------------------------------------------------------------------===//
// Row sums
//===----------------------------------------------------------------------===//

struct MoeFuseRowSums : moe::impl::MoeFuseRowSumsBase<MoeFuseRowSums> {
  void runOnOperation() override {
    func::FuncOp function = getOperation();
    for (GroupedMatmulOp op : collect<GroupedMatmulOp>(function))
      if (op.hasPureTensorSemantics())
        leavePartials(op);
    for (FoldPartialsOp fold : collect<FoldPartialsOp>(function))
      if (fold.hasPureTensorSemantics() && !foldInMaps(fold))
        foldInCombine(function, fold);
  }

  /// A row sum is finished only when every column is known, a segment of it
  /// earlier: sums become partials, with a kernel that folds them.
  void leavePartials(GroupedMatmulOp op) {
    RowKernel kernel(op);
    IRRewriter rewriter(op);
    AssignmentType assignment = getAssignmentType(op.getAssignment());
    SmallVector<std::pair<unsigned, RowKernel::Out>> sums;
    for (auto [i, out] : llvm::enumerate(kernel.outs)) {
      if (out.port.getKind() != PortKind::Sum)
        continue;
      sums.push_back({i, out});
      Location loc = op.getLoc();
      OpFoldResult rows = tensor::getMixedSize(rewriter, loc, out.init, 0);
      if (out.port.getOrder() == RowOrder::Slot)
        rows = isa<Attribute>(rows)
                   ? OpFoldResult(rewriter.getIndexAttr(assignment.getSlots()))
                   : OpFoldResult(arith::MulIOp::create(
                                      rewriter, loc, cast<Value>(rows),
                                      arith::ConstantIndexOp::create(
                                          rewriter, loc, assignment.getK()))
                                      .getResult());
      out.init = tensor::EmptyOp::create(
          rewriter, loc,
          {rows, rewriter.getIndexAttr(numRowSumSegments(*kernel.width()))},
          kernel.compute);
      out.port =
          PortAttr::get(op.getContext(), PortKind::Partials, RowOrder::Grouped);
    }
    if (sums.empty())
      return;
    Value pack = op.getAssignment();
    Operation *made = kernel.commit(rewriter);
    rewriter.setInsertionPointAfter(made);
    for (auto &[i, out] : sums) {
      // The sum's readers read partials now: give them the folded ones.
      Value partials = made->getResult(i);
      auto fold =
          FoldPartialsOp::create(rewriter, made->getLoc(), out.init.getType(),
                                 pack, partials, out.init, out.port.getOrder());
      partials.replaceAllUsesExcept(fold.getResults()[0], fold);
      remarkFused(made, getArgument(),
                  "a row sum of " + describe(made) + " is left as partials");
    }
    sortTopologically(made->getBlock());
  }

  /// A map over scalars folds what it reads.
  bool foldInMaps(FoldPartialsOp fold) {
    Value sum = fold.getResults()[0];
    for (OpOperand &use : sum.getUses()) {
      auto map = dyn_cast<MapRowsOp>(use.getOwner());
      if (!map || map.getAssignment() != fold.getAssignment() ||
          RowKernel(map).width() || !llvm::is_contained(map.getIns(), sum) ||
          llvm::is_contained(map.getOuts(), sum))
        return false;
    }
    for (Operation *user : llvm::make_early_inc_range(sum.getUsers())) {
      auto map = cast<MapRowsOp>(user);
      SmallVector<Attribute> ports(map.getInPorts().getValue());
      for (auto [i, in] : llvm::enumerate(map.getInsMutable()))
        if (in.get() == sum) {
          in.set(fold.getPartials());
          ports[i] = PortAttr::get(map.getContext(), PortKind::Partials,
                                   RowOrder::Grouped);
        }
      map.setInPortsAttr(ArrayAttr::get(map.getContext(), ports));
    }
    remarkFused(fold, getArgument(),
                describe(fold) + " is folded by the maps that read it",
                sum.getType());
    fold.erase();
    return true;
  }

  /// The last combine by the same assignment folds it on the way.
  void foldInCombine(func::FuncOp function, FoldPartialsOp fold) {
    std::string why = "no moe.combine_rows by the same assignment is there";
    if (fold.getTo() != RowOrder::Slot)
      why = "moe.combine_rows folds to slot order, not to grouped";
    auto combines = collect<CombineRowsOp>(function);
    if (fold.getTo() == RowOrder::Slot)
      for (CombineRowsOp combine : llvm::reverse(combines)) {
        if (combine->getBlock() != fold->getBlock() ||
            combine.getAssignment() != fold.getAssignment())
          continue;
        if (dependsOn(fold, combine) || dependsOn(combine, fold)) {
          why = "the combine and the fold need one another";
          continue;
        }
        RowKernel kernel(combine);
        kernel.folds.push_back(fold.getPartials());
        kernel.folded.push_back(
            {fold.getOuts()[0],
             PortAttr::get(fold.getContext(), PortKind::Scalar, RowOrder::Slot),
             fold.getResults()[0]});
        IRRewriter rewriter(fold.getContext());
        std::string what = describe(fold);
        Operation *made = kernel.commit(rewriter, fold.getOperation());
        remarkFused(made, getArgument(),
                    what + " moves into " + describe(made));
        return;
      }
    remarkRefused(fold, getArgument(),
                  describe(fold) + " stays a kernel of its own", why);
  }
};

//===----------------------------------------------------------------------===//
// Two products in one accumulator
//===----------------------------------------------------------------------===//

/// The sums that a value is a term of, innermost first, for as long as nothing
/// but the next one reads it.
SmallVector<arith::AddFOp> sumsAbove(Value value) {
  SmallVector<arith::AddFOp> sums;
  while (value.hasOneUse()) {
    auto sum = dyn_cast<arith::AddFOp>(*value.user_begin());
    if (!sum)
      break;
    sums.push_back(sum);
    value = sum;
  }
  return sums;
}

/// Whether both values are terms of one sum.
bool areSummed(Value x, Value y) {
  SmallVector<arith::AddFOp> sums = sumsAbove(x);
  return llvm::any_of(sumsAbove(y), [&](arith::AddFOp sum) {
    return llvm::is_contained(sums, sum);
  });
}

/// Whether `end` is `start`, or a sum that it is a term of.
bool isSumOf(Value start, Value end) {
  return start == end || llvm::is_contained(sumsAbove(start),
                                            end.getDefiningOp<arith::AddFOp>());
}

/// Gate and up weights apart, each with an adapter. Each takes its share of
/// what a GPU's kernel is passed.
constexpr unsigned kMaxPairs = 4;

struct MoeFuseProducts : moe::impl::MoeFuseProductsBase<MoeFuseProducts> {
  void runOnOperation() override {
    func::FuncOp function = getOperation();
    // What a product takes in was visited before it: readers come after.
    for (GroupedMatmulOp op : collect<GroupedMatmulOp>(function)) {
      if (!op.hasPureTensorSemantics())
        continue;
      unsigned i = 0;
      while (i < op.getIns().size()) {
        auto other = op.getIns()[i].getDefiningOp<GroupedMatmulOp>();
        std::string why;
        if (GroupedMatmulOp made =
                other ? fuse(op, i, other, why) : GroupedMatmulOp()) {
          op = made;
          i = 0;
          continue;
        }
        ++i;
        if (other)
          remarkRefused(op, getArgument(),
                        describe(other) +
                            " does not share the accumulator of " +
                            describe(op),
                        why);
      }
    }
  }

  /// The kernel of both, or null and why not.
  GroupedMatmulOp fuse(GroupedMatmulOp op, unsigned in, GroupedMatmulOp other,
                       std::string &why) {
    auto refuse = [&](const Twine &text) {
      why = text.str();
      return GroupedMatmulOp();
    };
    if (op.getLhs().size() + other.getLhs().size() > kMaxPairs)
      return refuse("an accumulator sums " + Twine(kMaxPairs) +
                    " products, not more");
    if (other.getAssignment() != op.getAssignment() ||
        other->getBlock() != op->getBlock())
      return refuse("the products are by different assignments");
    if (other.getNumResults() != 1 || !other.getResults()[0].hasOneUse())
      return refuse("the other product has other readers");
    RowKernel host(op), guest(other);
    PortAttr port = host.ins[in].port;
    ColumnsAttr columns = host.columns;
    if (port.getKind() != PortKind::Rows ||
        port.getLayout() != columns.getLayout() ||
        port.getCount() != columns.getCount())
      return refuse("the sum is not over the accumulator's own columns");
    if (guest.columns != columns &&
        failed(
            guest.splitColumns(columns.getLayout(), columns.getCount(), why)))
      return {};
    if (guest.outs[0].port != port)
      return refuse("the other product's rows are written in another way than "
                    "they are read");
    // host: a sum of accumulator, product and others; guest: accumulator and
    // others. The product leaves its place in the sum for the accumulator.
    SmallVector<Value> starts;
    SmallVector<arith::AddFOp> sums;
    for (auto [accumulator, value] :
         llvm::zip_equal(host.accumulators(), host.arguments(in))) {
      if (!areSummed(accumulator, value))
        return refuse("the two products are not summed, or not before anything "
                      "else reads them");
      auto sum = cast<arith::AddFOp>(*value.user_begin());
      sums.push_back(sum);
      starts.push_back(sum.getLhs() == value ? sum.getRhs() : sum.getLhs());
    }
    for (auto [accumulator, value] :
         llvm::zip_equal(guest.accumulators(), guest.yielded(0)))
      if (!accumulator.hasOneUse() || !value.hasOneUse() ||
          !isSumOf(accumulator, value))
        return refuse("the other product is not a plain sum");

    IRMapping map;
    map.map(guest.accumulators(), starts);
    for (auto [i, operand] : llvm::enumerate(guest.ins))
      map.map(guest.arguments(i), host.read(operand.value, operand.port));
    OpBuilder b(op.getContext());
    b.setInsertionPoint(host.yield());
    for (Operation &inner : guest.block().without_terminator())
      b.clone(inner, map);
    for (auto [sum, value] : llvm::zip_equal(sums, guest.yielded(0))) {
      sum.getResult().replaceAllUsesWith(map.lookup(value));
      sum.erase();
    }
    sortTopologically(&host.block());
    host.removeIn(in);
    llvm::append_range(host.lhs, guest.lhs);
    llvm::append_range(host.rhs, guest.rhs);
    llvm::append_range(host.lhsOrders, guest.lhsOrders);
    llvm::append_range(host.rhsLayouts, guest.rhsLayouts);
    Type buffer = other.getResults()[0].getType();
    std::string what = describe(other);
    IRRewriter rewriter(op.getContext());
    Operation *made = host.commit(rewriter, other.getOperation());
    remarkFused(made, getArgument(),
                what + " shares the accumulator of " + describe(made), buffer);
    return cast<GroupedMatmulOp>(made);
  }
};

//===----------------------------------------------------------------------===//
// Token rows that a combine starts from
//===----------------------------------------------------------------------===//

/// The two token rows that an op adds, and nothing else.
bool isSumOfTokens(Operation *op, Value &x, Value &y, Value &init) {
  if (auto add = dyn_cast<arith::AddFOp>(op)) {
    auto type = dyn_cast<RankedTensorType>(add.getType());
    x = add.getLhs();
    y = add.getRhs();
    init = Value();
    return type && type.getRank() == 2;
  }
  auto map = dyn_cast<MapRowsOp>(op);
  if (!map || !map.hasPureTensorSemantics() ||
      map.getOrder() != RowOrder::Token || map.getIns().size() != 2 ||
      map.getOuts().size() != 1)
    return false;
  for (PortAttr port : {map.inPort(0), map.inPort(1), map.outPort(0)})
    if (port.getKind() != PortKind::Rows || port.getCount() != 1)
      return false;
  Block &block = map.getBody().front();
  auto add =
      block.getTerminator()->getOperand(0).getDefiningOp<arith::AddFOp>();
  x = map.getIns()[0];
  y = map.getIns()[1];
  init = map.getOuts()[0];
  return add && llvm::range_size(block) == 2 && add.getLhs() != add.getRhs() &&
         isa<BlockArgument>(add.getLhs()) && isa<BlockArgument>(add.getRhs());
}

struct MoeFuseAddends : moe::impl::MoeFuseAddendsBase<MoeFuseAddends> {
  void runOnOperation() override {
    SmallVector<Operation *> sums;
    Value x, y, init;
    getOperation().walk([&](Operation *op) {
      if (isSumOfTokens(op, x, y, init))
        sums.push_back(op);
    });
    for (Operation *op : sums) {
      isSumOfTokens(op, x, y, init);
      // The later combine first: the other one is its addend.
      if (auto a = x.getDefiningOp<CombineRowsOp>())
        if (auto b = y.getDefiningOp<CombineRowsOp>())
          if (a != b && a->getBlock() == b->getBlock() && a->isBeforeInBlock(b))
            std::swap(x, y);
      std::string why;
      if (fuse(op, x, y, init, why) || fuse(op, y, x, init, why))
        continue;
      if (!why.empty())
        remarkRefused(op, getArgument(),
                      describe(op) + " is not added by the combine", why);
    }
  }

  bool fuse(Operation *op, Value sum, Value addend, Value init,
            std::string &why) {
    auto combine = sum.getDefiningOp<CombineRowsOp>();
    if (!combine || !combine.hasPureTensorSemantics())
      return false;
    auto refuse = [&](const Twine &text) {
      why = text.str();
      return false;
    };
    if (!sum.hasOneUse())
      return refuse("the combined rows have other readers");
    RowKernel kernel(combine);
    unsigned number = cast<OpResult>(sum).getResultNumber();
    if (number >= kernel.outs.size() || kernel.outs.size() != 1)
      return refuse("the combine makes several sums");
    if (!kernel.addends.empty())
      return refuse("the combine has an addend already");
    if (combine->getBlock() != op->getBlock() ||
        dependsThroughOthers(combine, op))
      return refuse("the addend needs the combine");
    if (failed(getComputeType({sum.getType(), addend.getType()},
                              op->getContext())))
      return refuse("the addend mixes f64 with narrower floats");
    kernel.addends.push_back(addend);
    if (init)
      kernel.outs[0].init = init;
    kernel.outs[0].old = op->getResult(0);
    IRRewriter rewriter(op->getContext());
    Type buffer = sum.getType();
    std::string what = describe(op);
    Operation *made = kernel.commit(rewriter, op);
    remarkFused(made, getArgument(),
                what + " is the start of " + describe(made), buffer,
                RowOrder::Token);
    return true;
  }
};

//===----------------------------------------------------------------------===//
// Sums onto a buffer of the caller's
//===----------------------------------------------------------------------===//

struct MoeFuseAccumulation
    : moe::impl::MoeFuseAccumulationBase<MoeFuseAccumulation> {
  void runOnOperation() override {
    func::FuncOp function = getOperation();
    for (arith::AddFOp add : collect<arith::AddFOp>(function)) {
      if (!isa<RankedTensorType>(add.getType()))
        continue;
      for (bool swap : {false, true}) {
        Value sum = swap ? add.getRhs() : add.getLhs();
        Value buffer = swap ? add.getLhs() : add.getRhs();
        Operation *kernel = sum.getDefiningOp();
        if (!isa_and_present<GroupedOuterOp, ReduceExpertsOp>(kernel))
          continue;
        std::string what =
                        describe(kernel) + " is added to a buffer afterwards",
                    why;
        if (fuse(function, add, kernel, sum, buffer, why))
          break;
        remarkRefused(kernel, getArgument(), what, why);
      }
    }
  }

  bool fuse(func::FuncOp function, arith::AddFOp add, Operation *kernel,
            Value sum, Value buffer, std::string &why) {
    auto refuse = [&](const Twine &text) {
      why = text.str();
      return false;
    };
    if (kernel->getNumResults() != 1 || !sum.hasOneUse())
      return refuse("the sum has other readers");
    auto argument = dyn_cast<BlockArgument>(buffer);
    if (!argument || argument.getOwner() != &function.front() ||
        !function.getArgAttr(argument.getArgNumber(), "moe.inout"))
      return refuse("the buffer is no argument marked moe.inout, and would be "
                    "copied first");
    if (!buffer.hasOneUse())
      return refuse("the buffer's old value has other readers");
    auto outer = dyn_cast<GroupedOuterOp>(kernel);
    auto reduce = dyn_cast<ReduceExpertsOp>(kernel);
    if (outer ? outer.getAccumulate() : reduce.getAccumulate())
      return refuse("it is added to another buffer already");
    if (outer) {
      outer.getOutsMutable().assign(buffer);
      outer.setAccumulate(true);
    } else {
      reduce.getOutsMutable().assign(buffer);
      reduce.setAccumulate(true);
    }
    std::string what = describe(kernel);
    add.getResult().replaceAllUsesWith(sum);
    add.erase();
    remarkFused(kernel, getArgument(), what + " is summed onto the buffer");
    return true;
  }
};

} // namespace
