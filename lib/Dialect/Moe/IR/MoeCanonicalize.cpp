// SPDX-License-Identifier: Apache-2.0
// Canonicalizations of level 1.
#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/PatternMatch.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/SmallBitVector.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

//===----------------------------------------------------------------------===//
// Moving rows
//===----------------------------------------------------------------------===//

/// group(scatter(g)) -> g: grouped rows outside the ranges are unspecified, so
/// g itself is one legal value. (scatter(group(s)) is not s: it zeroes the rows
/// of sentinel slots.)
struct GroupOfScatter : OpRewritePattern<GroupOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(GroupOp op,
                                PatternRewriter &rewriter) const override {
    auto scatter = op.getRows().getDefiningOp<ScatterOp>();
    if (!scatter || op.getFrom() != RowOrder::Slot ||
        scatter.getAssignment() != op.getAssignment() ||
        scatter.getRows().getType() != op.getResult().getType())
      return failure();
    rewriter.replaceOp(op, scatter.getRows());
    return success();
  }
};

/// scatter(group(s from slot)) -> s, where s has zeros in its sentinel rows
/// already.
struct ScatterOfGroupZeroed : OpRewritePattern<ScatterOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ScatterOp op,
                                PatternRewriter &rewriter) const override {
    auto group = op.getRows().getDefiningOp<GroupOp>();
    if (!group || group.getFrom() != RowOrder::Slot ||
        group.getAssignment() != op.getAssignment())
      return failure();
    Operation *source = group.getRows().getDefiningOp();
    bool zeroed = false;
    if (auto linear = dyn_cast_or_null<ParallelLinearOp>(source))
      zeroed = linear.getTo() == RowOrder::Slot &&
               linear.getAssignment() == op.getAssignment();
    else if (auto rowwise = dyn_cast_or_null<RowwiseOp>(source))
      zeroed = rowwise.getOrder() == RowOrder::Slot &&
               rowwise.getAssignment() == op.getAssignment();
    if (!zeroed || group.getRows().getType() != op.getResult().getType())
      return failure();
    rewriter.replaceOp(op, group.getRows());
    return success();
  }
};

/// combine(scatter(g) from slot) -> combine(g from grouped): a sentinel slot
/// adds nothing either way.
struct CombineOfScatter : OpRewritePattern<CombineOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(CombineOp op,
                                PatternRewriter &rewriter) const override {
    auto scatter = op.getRows().getDefiningOp<ScatterOp>();
    if (!scatter || op.getFrom() != RowOrder::Slot ||
        scatter.getAssignment() != op.getAssignment())
      return failure();
    rewriter.modifyOpInPlace(op, [&] {
      op.getRowsMutable().assign(scatter.getRows());
      op.setFrom(RowOrder::Grouped);
    });
    return success();
  }
};

/// combine(linear to slot) -> combine(linear to grouped), where nobody else
/// reads the rows: they need no zeros in sentinel rows, and gates then have one
/// form.
struct CombineOfSlotLinear : OpRewritePattern<CombineOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(CombineOp op,
                                PatternRewriter &rewriter) const override {
    auto linear = op.getRows().getDefiningOp<ParallelLinearOp>();
    if (!linear || op.getFrom() != RowOrder::Slot ||
        linear.getTo() != RowOrder::Slot || !linear->hasOneUse() ||
        linear.getAssignment() != op.getAssignment())
      return failure();
    rewriter.modifyOpInPlace(linear, [&] { linear.setTo(RowOrder::Grouped); });
    rewriter.modifyOpInPlace(op, [&] { op.setFrom(RowOrder::Grouped); });
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Routing and assignment
//===----------------------------------------------------------------------===//

/// A route whose scores or logsumexp nobody reads does not compute them.
struct DropUnusedRouteResults : OpRewritePattern<RouteOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(RouteOp op,
                                PatternRewriter &rewriter) const override {
    bool scores = op.getScores() && !op.getScores().use_empty();
    bool logsumexp = op.getLogsumexp() && !op.getLogsumexp().use_empty();
    if (scores == bool(op.getScores()) && logsumexp == bool(op.getLogsumexp()))
      return failure();
    SmallVector<Type> types{op.getGates().getType(), op.getIds().getType()};
    if (scores)
      types.push_back(op.getScores().getType());
    if (logsumexp)
      types.push_back(op.getLogsumexp().getType());
    auto properties = op.getProperties();
    properties.setResultSegmentSizes({1, 1, scores, logsumexp});
    OperationState state(op.getLoc(), RouteOp::getOperationName());
    state.addOperands(op->getOperands());
    state.addTypes(types);
    state.getOrAddProperties<RouteOp::Properties>() = properties;
    state.addAttributes(op->getDiscardableAttrDictionary().getValue());
    auto route = cast<RouteOp>(rewriter.create(state));
    SmallVector<Value> replacements{route.getGates(), route.getIds()};
    if (op.getScores())
      replacements.push_back(route.getScores());
    if (op.getLogsumexp())
      replacements.push_back(route.getLogsumexp());
    rewriter.replaceOp(op, replacements);
    return success();
  }
};

/// The assignment of constant ids is constant.
struct AssignConstantIds : OpRewritePattern<AssignOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(AssignOp op,
                                PatternRewriter &rewriter) const override {
    DenseIntElementsAttr ids;
    if (!op.getIds() || !matchPattern(op.getIds(), m_Constant(&ids)))
      return failure();
    AssignmentType type = getAssignmentType(op.getAssignment());
    if (!type.hasStaticTokens())
      return failure();
    int64_t experts = type.getExperts(), slots = type.getSlots();
    SmallVector<int32_t> order, position(slots, -1), begin(experts),
        end(experts);
    SmallVector<APInt> values(ids.getValues<APInt>());
    auto belongs = [&](int64_t slot, int64_t expert) {
      // In the ids' own width: a wide id is never narrowed into the range.
      return !values[slot].isNegative() && values[slot].ult(experts) &&
             values[slot].getZExtValue() == static_cast<uint64_t>(expert);
    };
    for (int64_t expert = 0; expert < experts; ++expert) {
      begin[expert] = order.size();
      for (int64_t slot = 0; slot < slots; ++slot)
        if (belongs(slot, expert)) {
          position[slot] = order.size();
          order.push_back(slot);
        }
      end[expert] = order.size();
    }
    for (int64_t slot = 0; slot < slots; ++slot)
      if (position[slot] < 0)
        order.push_back(slot);
    auto constant = [&](ArrayRef<int32_t> table) -> Value {
      auto tableType = RankedTensorType::get(
          {static_cast<int64_t>(table.size())}, rewriter.getI32Type());
      return arith::ConstantOp::create(
          rewriter, op.getLoc(), DenseElementsAttr::get(tableType, table));
    };
    rewriter.replaceOpWithNewOp<PackAssignmentOp>(
        op, type, constant(order), constant(position), constant(begin),
        constant(end));
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Rowwise
//===----------------------------------------------------------------------===//

SmallVector<Attribute> keptPorts(ArrayAttr ports,
                                 const llvm::SmallBitVector &keep) {
  SmallVector<Attribute> kept;
  for (unsigned i : keep.set_bits())
    kept.push_back(ports[i]);
  return kept;
}

bool anyColumns(ArrayRef<Attribute> ports) {
  return llvm::any_of(
      ports, [](Attribute port) { return cast<PortAttr>(port).hasColumns(); });
}

/// Results nobody reads, operands the region does not read and operands that
/// stand twice are dropped.
struct DropUnusedRowwisePorts : OpRewritePattern<RowwiseOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(RowwiseOp op,
                                PatternRewriter &rewriter) const override {
    Block &block = op.getBody().front();
    auto yield = cast<YieldOp>(block.getTerminator());
    unsigned numIns = op.getIns().size(), numOuts = op.getNumResults();
    llvm::SmallBitVector keepIns(numIns), keepOuts(numOuts);
    SmallVector<Value> values;
    for (unsigned i = 0; i < numOuts; ++i) {
      if (op.getResult(i).use_empty())
        continue;
      keepOuts.set(i);
      for (int64_t v = 0, e = op.outPort(i).numValues(); v < e; ++v)
        values.push_back(yield.getOperand(op.firstYield(i) + v));
    }
    if (keepOuts.none())
      return failure(); // dead as a whole

    // What the kept values need, backwards.
    llvm::SmallDenseSet<Value> needed(values.begin(), values.end());
    for (Operation &inner : llvm::reverse(block.without_terminator()))
      if (llvm::any_of(inner.getResults(),
                       [&](Value value) { return needed.contains(value); }))
        needed.insert(inner.operand_begin(), inner.operand_end());
    // An operand that stands twice is read through its first place.
    SmallVector<unsigned> place(numIns);
    for (unsigned i = 0; i < numIns; ++i) {
      place[i] = i;
      for (unsigned j = 0; j < i; ++j)
        if (op.getIns()[i] == op.getIns()[j] && op.inPort(i) == op.inPort(j)) {
          place[i] = j;
          break;
        }
      auto arguments = block.getArguments().slice(op.firstArgument(i),
                                                  op.inPort(i).numValues());
      if (llvm::any_of(arguments,
                       [&](Value value) { return needed.contains(value); }))
        keepIns.set(place[i]);
    }
    SmallVector<Attribute> outPorts = keptPorts(op.getOutPorts(), keepOuts);
    auto seen = [&] {
      SmallVector<Attribute> inPorts = keptPorts(op.getInPorts(), keepIns);
      bool rows = llvm::any_of(inPorts, [](Attribute port) {
        return cast<PortAttr>(port).getKind() != PortKind::Expert;
      });
      return rows && (anyColumns(outPorts) || anyColumns(inPorts));
    };
    // The numbers of rows and columns have to be seen somewhere: keep one
    // operand that tells them.
    for (unsigned i = 0; i < numIns && !seen(); ++i)
      if (op.inPort(i).getKind() == PortKind::Rows)
        keepIns.set(i);
    if (!seen() || (keepOuts.all() && keepIns.all()))
      return failure();

    SmallVector<Value> ins;
    for (unsigned i : keepIns.set_bits())
      ins.push_back(op.getIns()[i]);
    SmallVector<Type> types;
    for (unsigned i : keepOuts.set_bits())
      types.push_back(op.getResult(i).getType());
    auto created = RowwiseOp::create(
        rewriter, op.getLoc(), types, op.getOrder(), op.getAssignment(), ins,
        rewriter.getArrayAttr(keptPorts(op.getInPorts(), keepIns)),
        rewriter.getArrayAttr(outPorts));
    created->setDiscardableAttrs(op->getDiscardableAttrDictionary());
    {
      OpBuilder::InsertionGuard guard(rewriter);
      Block *body = rewriter.createBlock(&created.getBody());
      IRMapping map;
      for (unsigned i = 0; i < numIns; ++i)
        for (int64_t v = 0, e = op.inPort(i).numValues(); v < e; ++v) {
          BlockArgument from = block.getArgument(op.firstArgument(i) + v);
          if (keepIns.test(i))
            map.map(from, body->addArgument(from.getType(), from.getLoc()));
          else if (keepIns.test(place[i]))
            map.map(from, map.lookup(block.getArgument(
                              op.firstArgument(place[i]) + v)));
        }
      for (Operation &inner : block.without_terminator())
        if (llvm::any_of(inner.getResults(),
                         [&](Value value) { return needed.contains(value); }))
          rewriter.clone(inner, map);
      for (Value &value : values)
        value = map.lookup(value);
      YieldOp::create(rewriter, yield.getLoc(), values);
    }
    unsigned kept = 0;
    for (unsigned i : keepOuts.set_bits())
      rewriter.replaceAllUsesWith(op.getResult(i), created.getResult(kept++));
    rewriter.eraseOp(op);
    return success();
  }
};

/// A result that is an operand unchanged is that operand, and one that another
/// result repeats is that result. (A slot-order result by an assignment has
/// zeros in sentinel rows, which its operand may not have.)
struct ForwardRowwiseResults : OpRewritePattern<RowwiseOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(RowwiseOp op,
                                PatternRewriter &rewriter) const override {
    Block &block = op.getBody().front();
    auto yield = cast<YieldOp>(block.getTerminator());
    bool zeroes = op.getOrder() == RowOrder::Slot && op.getAssignment();
    bool changed = false;
    for (OpResult result : op.getResults()) {
      unsigned i = result.getResultNumber();
      if (result.use_empty())
        continue;
      auto yielded = [&](unsigned i) {
        return yield.getOperands().slice(op.firstYield(i),
                                         op.outPort(i).numValues());
      };
      auto same = [&](Value other, PortAttr port, ValueRange values) {
        if (other.getType() != result.getType() || port != op.outPort(i) ||
            !llvm::equal(values, yielded(i)))
          return false;
        rewriter.replaceAllUsesWith(result, other);
        changed = true;
        return true;
      };
      bool done = false;
      for (unsigned j = 0; j < i && !done; ++j)
        done = same(op.getResult(j), op.outPort(j), yielded(j));
      for (unsigned j = 0; j < op.getIns().size() && !done && !zeroes; ++j)
        done = op.inPort(j).getKind() == PortKind::Rows &&
               same(op.getIns()[j], op.inPort(j),
                    ValueRange(block.getArguments().slice(
                        op.firstArgument(j), op.inPort(j).numValues())));
    }
    return success(changed);
  }
};

/// rowwise(rowwise(x)) -> one rowwise, where the first one's results have no
/// other reader: the region of the first is inlined, and a rounding goes.
struct ComposeRowwise : OpRewritePattern<RowwiseOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(RowwiseOp op,
                                PatternRewriter &rewriter) const override {
    for (auto [index, value] : llvm::enumerate(op.getIns())) {
      auto producer = value.getDefiningOp<RowwiseOp>();
      if (!producer || producer == op || producer.getOrder() != op.getOrder() ||
          producer.getWidth() != op.getWidth() ||
          (producer.getAssignment() && op.getAssignment() &&
           producer.getAssignment() != op.getAssignment()))
        continue;
      // A slot-order producer zeroes sentinel rows; a consumer without the
      // assignment would read them.
      if (bool(producer.getAssignment()) && !op.getAssignment())
        continue;
      if (producer->getBlock() != op->getBlock())
        continue;
      bool onlyUser = llvm::all_of(producer->getUsers(), [&](Operation *user) {
        return user == op.getOperation();
      });
      bool columnsAgree = true;
      for (auto [i, in] : llvm::enumerate(op.getIns())) {
        if (in.getDefiningOp() != producer)
          continue;
        PortAttr read = op.inPort(i);
        PortAttr written =
            producer.outPort(cast<OpResult>(in).getResultNumber());
        columnsAgree &= read == written && read.getKind() == PortKind::Rows;
      }
      if (!onlyUser || !columnsAgree)
        continue;
      compose(op, producer, rewriter);
      return success();
    }
    return failure();
  }

  static void compose(RowwiseOp op, RowwiseOp producer,
                      PatternRewriter &rewriter) {
    SmallVector<Value> ins(producer.getIns());
    SmallVector<Attribute> ports(producer.getInPorts().getValue());
    for (auto [i, in] : llvm::enumerate(op.getIns()))
      if (in.getDefiningOp() != producer) {
        ins.push_back(in);
        ports.push_back(op.inPort(i));
      }
    Value assignment =
        op.getAssignment() ? op.getAssignment() : producer.getAssignment();
    auto composed = RowwiseOp::create(
        rewriter, op.getLoc(), op.getResultTypes(), op.getOrder(), assignment,
        ins, rewriter.getArrayAttr(ports), op.getOutPorts());
    composed->setDiscardableAttrs(op->getDiscardableAttrDictionary());
    OpBuilder::InsertionGuard guard(rewriter);
    Block *body = rewriter.createBlock(&composed.getBody());
    IRMapping map;
    for (BlockArgument argument : producer.getBody().getArguments())
      map.map(argument,
              body->addArgument(argument.getType(), argument.getLoc()));
    for (Operation &inner : producer.getBody().front().without_terminator())
      rewriter.clone(inner, map);
    auto yield = cast<YieldOp>(producer.getBody().front().getTerminator());
    for (auto [i, in] : llvm::enumerate(op.getIns())) {
      unsigned first = op.firstArgument(i);
      for (int64_t v = 0, e = op.inPort(i).numValues(); v < e; ++v) {
        BlockArgument argument = op.getBody().getArgument(first + v);
        if (in.getDefiningOp() != producer) {
          map.map(argument,
                  body->addArgument(argument.getType(), argument.getLoc()));
          continue;
        }
        unsigned result = cast<OpResult>(in).getResultNumber();
        map.map(argument,
                map.lookup(yield.getOperand(producer.firstYield(result) + v)));
      }
    }
    for (Operation &inner : op.getBody().front())
      rewriter.clone(inner, map);
    rewriter.replaceOp(op, composed.getResults());
    rewriter.eraseOp(producer);
  }
};

} // namespace

void RouteOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                          MLIRContext *context) {
  patterns.add<DropUnusedRouteResults>(context);
}

void AssignOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                           MLIRContext *context) {
  patterns.add<AssignConstantIds>(context);
}

void GroupOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                          MLIRContext *context) {
  patterns.add<GroupOfScatter>(context);
}

void ScatterOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                            MLIRContext *context) {
  patterns.add<ScatterOfGroupZeroed>(context);
}

void CombineOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                            MLIRContext *context) {
  patterns.add<CombineOfScatter, CombineOfSlotLinear>(context);
}

void RowwiseOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                            MLIRContext *context) {
  patterns.add<DropUnusedRowwisePorts, ForwardRowwiseResults>(context);
  // What forward keeps is chosen before: h = y + z, not y and z.
  patterns.addWithLabel<ComposeRowwise>({"compose-rowwise"}, context);
}
