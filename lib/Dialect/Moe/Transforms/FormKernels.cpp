// SPDX-License-Identifier: Apache-2.0
// moe-form-kernels: each level-1 op becomes the kernel that computes it alone.
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/WalkPatternRewriteDriver.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEFORMKERNELS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Pieces
//===----------------------------------------------------------------------===//

/// An uninitialised tensor of that type, its dynamic sizes taken from `shape`.
static Value emptyOf(OpBuilder &b, Location loc, Type type,
                     ArrayRef<OpFoldResult> shape) {
  auto tensor = cast<RankedTensorType>(type);
  SmallVector<Value> sizes;
  for (auto [size, known] : llvm::zip_equal(shape, tensor.getShape()))
    if (ShapedType::isDynamic(known))
      sizes.push_back(getValueOrCreateConstantIndexOp(b, loc, size));
  return tensor::EmptyOp::create(b, loc, tensor, sizes);
}

/// The outs of a kernel that takes the op's place.
static FailureOr<SmallVector<Value>> emptyResults(RewriterBase &b,
                                                  Operation *op) {
  Location loc = op->getLoc();
  SmallVector<Value> outs;
  auto isStatic = [](Type type) {
    return cast<ShapedType>(type).hasStaticShape();
  };
  if (llvm::all_of(op->getResultTypes(), isStatic)) {
    for (Type type : op->getResultTypes())
      outs.push_back(tensor::EmptyOp::create(b, loc, type, ValueRange()));
    return outs;
  }
  ReifiedRankedShapedTypeDims shapes;
  if (failed(reifyResultShapes(b, op, shapes)))
    return failure();
  for (auto [result, shape] : llvm::zip_equal(op->getResults(), shapes))
    outs.push_back(emptyOf(b, loc, result.getType(), shape));
  return outs;
}

static PortAttr port(Operation *op, PortKind kind, RowOrder order) {
  return PortAttr::get(op->getContext(), kind, order, ColumnLayout::Single, 1);
}

static ArrayAttr ports(Operation *op, ArrayRef<Attribute> ports) {
  return ArrayAttr::get(op->getContext(), ports);
}

/// The region of a kernel: `count` values of the op's compute type, of which
/// `body` yields some function.
static void
fillRegion(RewriterBase &b, Operation *source, Region &region, unsigned count,
           function_ref<Value(OpBuilder &, Location, ValueRange)> body) {
  OpBuilder::InsertionGuard guard(b);
  SmallVector<Type> types(source->getOperandTypes());
  llvm::append_range(types, source->getResultTypes());
  // The verifiers refuse f64 beside narrower floats.
  Type compute = *getComputeType(types, source->getContext());
  SmallVector<Type> arguments(count, compute);
  SmallVector<Location> locations(count, source->getLoc());
  Block *block = b.createBlock(&region, region.begin(), arguments, locations);
  Value value = body(b, source->getLoc(), block->getArguments());
  YieldOp::create(b, source->getLoc(), value);
}

static Value first(OpBuilder &, Location, ValueRange values) {
  return values.front();
}

static bool hasRank1(Value value) {
  return cast<ShapedType>(value.getType()).getRank() == 1;
}

//===----------------------------------------------------------------------===//
// One pattern an op
//===----------------------------------------------------------------------===//

namespace {

struct FormRoute : OpRewritePattern<RouteOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(RouteOp op,
                                PatternRewriter &rewriter) const override {
    auto outs = emptyResults(rewriter, op);
    if (failed(outs))
      return failure();
    auto flag = [&](bool set) {
      return set ? rewriter.getUnitAttr() : UnitAttr();
    };
    rewriter.replaceOpWithNewOp<RouteRowsOp>(
        op, op->getResultTypes(), op.getLogits(), op.getBias(), op.getMask(),
        op.getGivenIds(), *outs, op.getScoreAttr(), op.getRouteOrderAttr(),
        op.getNormalizeAttr(), op.getEpsAttr(), op.getScaleAttr(),
        op.getGroupsAttr(), op.getTopkGroupsAttr(), op.getGroupTopAttr(),
        op.getMaskedGroupsAttr(), op.getCapacityAttr(), op.getDropAttr(),
        flag(bool(op.getScores())), flag(bool(op.getLogsumexp())));
    return success();
  }
};

struct FormRouteGrad : OpRewritePattern<RouteGradOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(RouteGradOp op,
                                PatternRewriter &rewriter) const override {
    auto outs = emptyResults(rewriter, op);
    if (failed(outs))
      return failure();
    rewriter.replaceOpWithNewOp<RouteGradRowsOp>(
        op, op->getResultTypes(), op.getLogits(), op.getIds(), op.getDGates(),
        op.getDScores(), op.getDLogsumexp(), *outs, op.getScoreAttr(),
        op.getRouteOrderAttr(), op.getNormalizeAttr(), op.getEpsAttr(),
        op.getScaleAttr());
    return success();
  }
};

/// group and scatter: the region is the identity.
template <typename Op> struct FormMove : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;
  LogicalResult matchAndRewrite(Op op,
                                PatternRewriter &rewriter) const override {
    auto outs = emptyResults(rewriter, op);
    if (failed(outs))
      return failure();
    RowOrder from = RowOrder::Grouped, to = RowOrder::Slot;
    bool scalars = hasRank1(op.getRows());
    if constexpr (std::is_same_v<Op, GroupOp>) {
      from = op.getFrom();
      to = RowOrder::Grouped;
      scalars = hasRank1(op.getResult());
    }
    PortKind kind = scalars ? PortKind::Scalar : PortKind::Rows;
    auto map = MapRowsOp::create(rewriter, op.getLoc(), op->getResultTypes(),
                                 to, op.getAssignment(), op.getRows(), *outs,
                                 ports(op, port(op, kind, from)),
                                 ports(op, port(op, kind, to)));
    fillRegion(rewriter, op, map.getBody(), 1, first);
    rewriter.replaceOp(op, map);
    return success();
  }
};

struct FormCombine : OpRewritePattern<CombineOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(CombineOp op,
                                PatternRewriter &rewriter) const override {
    auto outs = emptyResults(rewriter, op);
    if (failed(outs))
      return failure();
    Location loc = op.getLoc();
    bool scalars = hasRank1(op.getResult());
    SmallVector<Value> ins = {op.getRows()};
    SmallVector<Attribute> inPorts = {port(op, PortKind::Rows, op.getFrom())};
    Value out = outs->front();
    if (scalars) {
      // Scalars are rows of one column.
      ins[0] = asColumn(rewriter, loc, op.getRows());
      out = asColumn(rewriter, loc, out);
    }
    if (op.getGates()) {
      ins.push_back(op.getGates());
      inPorts.push_back(port(op, PortKind::Scalar, RowOrder::Slot));
    }
    auto combine = CombineRowsOp::create(
        rewriter, loc, out.getType(), op.getAssignment(), ins,
        /*addends=*/ValueRange(), /*folds=*/ValueRange(), out,
        ports(op, inPorts),
        ports(op, port(op, PortKind::Rows, RowOrder::Token)));
    fillRegion(rewriter, op, combine.getBody(), ins.size(),
               [](OpBuilder &b, Location loc, ValueRange values) -> Value {
                 if (values.size() == 1)
                   return values[0];
                 return arith::MulFOp::create(b, loc, values[1], values[0]);
               });
    Value result = combine.getResults().front();
    if (scalars)
      result = tensor::CollapseShapeOp::create(
          rewriter, loc, op.getResult().getType(), result,
          SmallVector<ReassociationIndices>{{0, 1}});
    rewriter.replaceOp(op, result);
    return success();
  }

private:
  /// (R) or (T, K) as (R, 1) or (T*K, 1).
  static Value asColumn(OpBuilder &b, Location loc, Value scalars) {
    auto type = cast<RankedTensorType>(scalars.getType());
    if (type.getRank() == 2)
      scalars = tensor::CollapseShapeOp::create(
          b, loc, scalars, SmallVector<ReassociationIndices>{{0, 1}});
    SmallVector<OpFoldResult> shape = {tensor::getMixedSize(b, loc, scalars, 0),
                                       b.getIndexAttr(1)};
    type = cast<RankedTensorType>(scalars.getType());
    return tensor::ExpandShapeOp::create(
        b, loc,
        RankedTensorType::get({type.getDimSize(0), 1}, type.getElementType()),
        scalars, SmallVector<ReassociationIndices>{{0, 1}}, shape);
  }
};

struct FormParallelLinear : OpRewritePattern<ParallelLinearOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ParallelLinearOp op,
                                PatternRewriter &rewriter) const override {
    auto outs = emptyResults(rewriter, op);
    if (failed(outs))
      return failure();
    SmallVector<Value> ins;
    SmallVector<Attribute> inPorts;
    if (op.getBias()) {
      ins.push_back(op.getBias());
      inPorts.push_back(port(op, PortKind::Expert, RowOrder::Grouped));
    }
    auto matmul = GroupedMatmulOp::create(
        rewriter, op.getLoc(), op->getResultTypes(), op.getAssignment(),
        op.getLhs(), op.getWeights(), ins, *outs,
        rewriter.getArrayAttr(op.getFromAttr()),
        rewriter.getArrayAttr(op.getLayoutAttr()),
        ColumnsAttr::get(getContext(), ColumnLayout::Single, 1),
        ports(op, inPorts), ports(op, port(op, PortKind::Rows, op.getTo())));
    fillRegion(rewriter, op, matmul.getBody(), 1 + ins.size(),
               [](OpBuilder &b, Location loc, ValueRange values) -> Value {
                 if (values.size() == 1)
                   return values[0];
                 return arith::AddFOp::create(b, loc, values[0], values[1]);
               });
    rewriter.replaceOp(op, matmul);
    return success();
  }
};

struct FormWeightGrad : OpRewritePattern<WeightGradOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(WeightGradOp op,
                                PatternRewriter &rewriter) const override {
    Value out = op.getBuffer();
    if (!out)
      out = tensor::EmptyOp::create(rewriter, op.getLoc(),
                                    op.getResult().getType(), ValueRange());
    rewriter.replaceOpWithNewOp<GroupedOuterOp>(
        op, op->getResultTypes(), op.getAssignment(), op.getX(), op.getDy(),
        out, op.getXFrom(), op.getDyFrom(), op.getLayout(),
        /*accumulate=*/bool(op.getBuffer()));
    return success();
  }
};

struct FormExpertSum : OpRewritePattern<ExpertSumOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ExpertSumOp op,
                                PatternRewriter &rewriter) const override {
    auto outs = emptyResults(rewriter, op);
    if (failed(outs))
      return failure();
    auto reduce = ReduceExpertsOp::create(
        rewriter, op.getLoc(), op->getResultTypes(), op.getAssignment(),
        op.getRows(), *outs, ports(op, port(op, PortKind::Rows, op.getFrom())),
        ports(op, port(op, PortKind::Expert, RowOrder::Grouped)));
    fillRegion(rewriter, op, reduce.getBody(), 1, first);
    rewriter.replaceOp(op, reduce);
    return success();
  }
};

struct FormRowwise : OpRewritePattern<RowwiseOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(RowwiseOp op,
                                PatternRewriter &rewriter) const override {
    if (op.getOrder() == RowOrder::Slot && !op.getAssignment())
      return formSlotsAlone(op, rewriter);
    auto outs = emptyResults(rewriter, op);
    if (failed(outs))
      return failure();
    auto map = MapRowsOp::create(rewriter, op.getLoc(), op->getResultTypes(),
                                 op.getOrder(), op.getAssignment(), op.getIns(),
                                 *outs, op.getInPorts(), op.getOutPorts());
    rewriter.inlineRegionBefore(op.getBody(), map.getBody(),
                                map.getBody().end());
    rewriter.replaceOp(op, map);
    return success();
  }

private:
  /// Slot order without an assignment knows no sentinels: T*K rows like any
  /// other, so they are mapped as tokens, (T, K) scalars flattened.
  static LogicalResult formSlotsAlone(RowwiseOp op, PatternRewriter &rewriter) {
    Location loc = op.getLoc();
    SmallVector<ReassociationIndices> flat = {{0, 1}};
    auto asTokens = [&](ArrayAttr ports) {
      return ArrayAttr::get(
          op.getContext(), llvm::map_to_vector(ports, [](Attribute attr) {
            return Attribute(cast<PortAttr>(attr).withOrder(RowOrder::Token));
          }));
    };
    SmallVector<Value> ins;
    OpFoldResult rows;
    for (auto [i, value] : llvm::enumerate(op.getIns())) {
      if (op.inPort(i).getKind() == PortKind::Scalar)
        value = tensor::CollapseShapeOp::create(rewriter, loc, value, flat);
      ins.push_back(value);
      bool known = !cast<ShapedType>(value.getType()).isDynamicDim(0);
      if (!rows || (known && isa<Value>(rows)))
        rows = tensor::getMixedSize(rewriter, loc, value, 0);
    }
    if (!rows)
      return failure();
    SmallVector<Value> outs;
    SmallVector<Type> types;
    for (auto [i, result] : llvm::enumerate(op.getResults())) {
      auto type = cast<RankedTensorType>(result.getType());
      if (op.outPort(i).getKind() == PortKind::Sum)
        type = tensor::CollapseShapeOp::inferCollapsedType(type, flat);
      SmallVector<OpFoldResult> shape =
          getAsIndexOpFoldResult(op.getContext(), type.getShape());
      shape[0] = rows;
      outs.push_back(emptyOf(rewriter, loc, type, shape));
      types.push_back(type);
    }
    auto map = MapRowsOp::create(rewriter, loc, types, RowOrder::Token,
                                 /*assignment=*/Value(), ins, outs,
                                 asTokens(op.getInPorts()),
                                 asTokens(op.getOutPorts()));
    rewriter.inlineRegionBefore(op.getBody(), map.getBody(),
                                map.getBody().end());
    SmallVector<Value> results;
    for (auto [i, result] : llvm::enumerate(map.getResults())) {
      Value value = result;
      auto type = cast<RankedTensorType>(op.getResult(i).getType());
      if (type.getRank() != cast<RankedTensorType>(types[i]).getRank())
        value = unflatten(rewriter, loc, value, type, rows);
      results.push_back(value);
    }
    rewriter.replaceOp(op, results);
    return success();
  }

  /// (T*K) as (T, K).
  static Value unflatten(OpBuilder &b, Location loc, Value value,
                         RankedTensorType type, OpFoldResult rows) {
    SmallVector<OpFoldResult> shape =
        getAsIndexOpFoldResult(b.getContext(), type.getShape());
    if (type.isDynamicDim(0)) {
      Value k = arith::ConstantIndexOp::create(b, loc, type.getDimSize(1));
      Value slots = getValueOrCreateConstantIndexOp(b, loc, rows);
      shape[0] = arith::DivUIOp::create(b, loc, slots, k).getResult();
    }
    return tensor::ExpandShapeOp::create(
        b, loc, type, value, SmallVector<ReassociationIndices>{{0, 1}}, shape);
  }
};

struct MoeFormKernelsPass
    : public moe::impl::MoeFormKernelsBase<MoeFormKernelsPass> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<FormRoute, FormRouteGrad, FormMove<GroupOp>,
                 FormMove<ScatterOp>, FormCombine, FormParallelLinear,
                 FormWeightGrad, FormExpertSum, FormRowwise>(&getContext());
    walkAndApplyPatterns(getOperation(), std::move(patterns));
    WalkResult rest = getOperation()->walk([](Operation *op) {
      if (!isa<RouteOp, RouteGradOp, GroupOp, ScatterOp, CombineOp,
               ParallelLinearOp, WeightGradOp, RowwiseOp, ExpertSumOp>(op))
        return WalkResult::advance();
      op->emitOpError() << "cannot become a kernel: the size of a result "
                           "follows from no operand";
      return WalkResult::interrupt();
    });
    if (rest.wasInterrupted())
      signalPassFailure();
  }
};

} // namespace
