// SPDX-License-Identifier: Apache-2.0
// Vector-Jacobian products of upstream's ops on tensors: elementwise arith and
// math, structured linalg ops that map or sum, and reshapes and slices.
#include "DifferentiateModels.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "llvm/Support/ScopedPrinter.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

//===----------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------===//

/// Linear ones stay ops on tensors; of the others the product of the cotangent
/// and the derivative is one linalg.generic.
template <typename Op>
struct ElementwiseModel : DifferentiableModel<ElementwiseModel<Op>, Op> {
  static LogicalResult vjp(Op op, VJP &vjp) {
    auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
    if (!type)
      return vjp.refuse(op, "it is no op on ranked tensors");
    OpBuilder &b = vjp.builder;
    Location loc = op->getLoc();
    Value g = vjp.cotangent(0);
    if (isa<arith::AddFOp>(op)) {
      vjp.set(0, g);
      vjp.set(1, g);
      return success();
    }
    if (isa<arith::SubFOp>(op)) {
      vjp.set(0, g);
      if (vjp.wants(1))
        vjp.set(1, arith::NegFOp::create(b, loc, g));
      return success();
    }
    if (isa<arith::NegFOp>(op)) {
      vjp.set(0, arith::NegFOp::create(b, loc, g));
      return success();
    }
    if (isa<arith::MulFOp>(op)) {
      for (unsigned i : {0, 1})
        if (vjp.wants(i))
          vjp.set(i, arith::MulFOp::create(b, loc, g, op->getOperand(1 - i)));
      return success();
    }
    if (isa<arith::ExtFOp, arith::TruncFOp>(op)) {
      vjp.set(0, buildCast(b, loc, g, getElementTypeOrSelf(op->getOperand(0))));
      return success();
    }
    for (unsigned i = 0; i < op->getNumOperands(); ++i) {
      if (!vjp.wants(i))
        continue;
      Value gradient;
      if (failed(build(op, b, g, i, gradient)))
        return failure();
      vjp.set(i, gradient);
    }
    return success();
  }

  /// One generic of the operands and the cotangent.
  static LogicalResult build(Operation *op, OpBuilder &b, Value g, unsigned i,
                             Value &gradient) {
    Location loc = op->getLoc();
    auto type = cast<RankedTensorType>(op->getOperand(i).getType());
    SmallVector<Value> ins{g};
    llvm::append_range(ins, op->getOperands());
    AffineMap identity = b.getMultiDimIdentityMap(type.getRank());
    SmallVector<AffineMap> maps;
    for (Value in : ins)
      maps.push_back(isa<RankedTensorType>(in.getType())
                         ? identity
                         : AffineMap::get(type.getRank(), 0, b.getContext()));
    maps.push_back(identity);
    auto dims = llvm::to_vector(llvm::seq<int64_t>(0, type.getRank()));
    Value init = buildEmpty(b, loc, g, dims, type.getElementType());
    if (init.getType() != type)
      init = tensor::CastOp::create(b, loc, type, init);
    bool failedInside = false;
    auto generic = linalg::GenericOp::create(
        b, loc, TypeRange(type), ins, ValueRange(init), maps,
        SmallVector<utils::IteratorType>(type.getRank(),
                                         utils::IteratorType::parallel),
        [&](OpBuilder &inner, Location loc, ValueRange v) {
          // The op on scalars, in a block of its own for a moment.
          Block scratch;
          SmallVector<Value> scalars;
          for (Value operand : op->getOperands())
            scalars.push_back(scratch.addArgument(
                getElementTypeOrSelf(operand.getType()), loc));
          OpBuilder scratchBuilder(op->getContext());
          scratchBuilder.setInsertionPointToEnd(&scratch);
          OperationState state(loc, op->getName(), scalars,
                               getElementTypeOrSelf(op->getResult(0)));
          state.attributes = op->getAttrDictionary();
          Operation *scalar = scratchBuilder.create(state);
          linalg::YieldOp::create(scratchBuilder, loc, scalar->getResults());
          IRMapping map;
          for (auto [from, to] :
               llvm::zip_equal(scalars, v.slice(1, scalars.size())))
            map.map(from, to);
          inner.clone(*scalar, map);
          auto gradients =
              buildScalarReverse(inner, op, scratch, map,
                                 {{scalar->getResult(0), v[0]}}, {scalars[i]});
          Value result;
          if (failed(gradients))
            failedInside = true;
          else
            result = gradients->front();
          if (!result)
            result = arith::ConstantOp::create(
                inner, loc, inner.getFloatAttr(type.getElementType(), 0.0));
          linalg::YieldOp::create(inner, loc, result);
          scratch.clear();
        });
    if (failedInside) {
      generic.erase();
      return failure();
    }
    eraseDead(*generic.getBody());
    gradient = dropUnusedInputs(b, generic);
    return success();
  }

  static Value dropUnusedInputs(OpBuilder &b, linalg::GenericOp generic);
};

/// Inputs that the body does not read go, but for those that alone tell the
/// size of a loop.
Value dropInputs(OpBuilder &b, linalg::GenericOp generic) {
  SmallVector<Value> ins;
  SmallVector<AffineMap> maps;
  llvm::SmallBitVector seen(generic.getNumLoops());
  auto see = [&](AffineMap map) {
    for (AffineExpr expr : map.getResults())
      if (auto dim = dyn_cast<AffineDimExpr>(expr))
        seen.set(dim.getPosition());
  };
  see(generic.getIndexingMapsArray().back());
  SmallVector<bool> keep;
  for (auto [i, in] : llvm::enumerate(generic.getInputs())) {
    keep.push_back(!generic.getBody()->getArgument(i).use_empty());
    if (keep.back())
      see(generic.getIndexingMapsArray()[i]);
  }
  for (auto [i, in] : llvm::enumerate(generic.getInputs())) {
    AffineMap map = generic.getIndexingMapsArray()[i];
    bool tells = llvm::any_of(map.getResults(), [&](AffineExpr expr) {
      auto dim = dyn_cast<AffineDimExpr>(expr);
      return dim && !seen.test(dim.getPosition());
    });
    if (!keep[i] && tells) {
      keep[i] = true;
      see(map);
    }
    if (keep[i]) {
      ins.push_back(in);
      maps.push_back(map);
    }
  }
  if (ins.size() == generic.getInputs().size())
    return generic.getResult(0);
  maps.push_back(generic.getIndexingMapsArray().back());
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(generic);
  auto created = linalg::GenericOp::create(
      b, generic.getLoc(), generic.getResultTypes(), ins, generic.getOutputs(),
      maps, generic.getIteratorTypesArray(),
      [&](OpBuilder &inner, Location, ValueRange v) {
        IRMapping map;
        unsigned next = 0;
        for (auto [i, argument] :
             llvm::enumerate(generic.getBody()->getArguments()))
          if (i >= keep.size() || keep[i])
            map.map(argument, v[next++]);
        for (Operation &op : *generic.getBody())
          inner.clone(op, map);
      });
  generic.erase();
  return created.getResult(0);
}

template <typename Op>
Value ElementwiseModel<Op>::dropUnusedInputs(OpBuilder &b,
                                             linalg::GenericOp generic) {
  return dropInputs(b, generic);
}

//===----------------------------------------------------------------------===//
// linalg
//===----------------------------------------------------------------------===//

/// Ops whose results are maps of the inputs, or sums of them onto the init.
template <typename Op>
struct LinalgModel : DifferentiableModel<LinalgModel<Op>, Op> {
  static LogicalResult vjp(Op concrete, VJP &vjp) {
    auto op = cast<linalg::LinalgOp>(concrete.getOperation());
    Block *body = op.getBlock();
    Operation *yield = body->getTerminator();
    for (AffineMap map : op.getIndexingMapsArray())
      if (!map.isProjectedPermutation())
        return vjp.refuse(op, "its indexing map " + llvm::to_string(map) +
                                  " is no permutation of loops; write it with "
                                  "slices");
    // The value that each result maps or sums.
    SmallVector<Value> mapped;
    for (OpOperand &init : op.getDpsInitsMutable()) {
      unsigned n = init.getOperandNumber() - op.getNumDpsInputs();
      BlockArgument out = op.getMatchingBlockArgument(&init);
      Value value = yield->getOperand(n);
      if (out.use_empty()) {
        mapped.push_back(value);
        continue;
      }
      auto sum = value.getDefiningOp<arith::AddFOp>();
      if (!sum || !out.hasOneUse() ||
          (sum.getLhs() != out && sum.getRhs() != out))
        return vjp.refuse(op, "it reduces with something other than a sum");
      mapped.push_back(sum.getLhs() == out ? sum.getRhs() : sum.getLhs());
      vjp.set(init.getOperandNumber(), vjp.cotangent(n));
    }
    for (OpOperand *input : op.getDpsInputOperands()) {
      if (!vjp.wants(input->getOperandNumber()))
        continue;
      if (!isa<RankedTensorType>(input->get().getType()))
        return vjp.refuse(op, "it reads a scalar that depends on the "
                              "differentiated arguments; use a tensor of rank "
                              "0");
      Value gradient;
      if (failed(build(op, vjp, *input, mapped, gradient)))
        return failure();
      vjp.set(input->getOperandNumber(), gradient);
    }
    return success();
  }

  static LogicalResult build(linalg::LinalgOp op, VJP &vjp, OpOperand &wanted,
                             ArrayRef<Value> mapped, Value &gradient) {
    OpBuilder &b = vjp.builder;
    Location loc = op.getLoc();
    Block *body = op.getBlock();
    auto type = cast<RankedTensorType>(wanted.get().getType());
    SmallVector<Value> ins;
    SmallVector<AffineMap> maps;
    SmallVector<BlockArgument> arguments;
    for (OpOperand *input : op.getDpsInputOperands()) {
      ins.push_back(input->get());
      maps.push_back(op.getMatchingIndexingMap(input));
      arguments.push_back(op.getMatchingBlockArgument(input));
    }
    SmallVector<unsigned> seeded;
    for (OpOperand &init : op.getDpsInitsMutable()) {
      unsigned n = init.getOperandNumber() - op.getNumDpsInputs();
      if (!vjp.cotangent(n))
        continue;
      seeded.push_back(n);
      ins.push_back(vjp.cotangent(n));
      maps.push_back(op.getMatchingIndexingMap(&init));
    }
    AffineMap out = op.getMatchingIndexingMap(&wanted);
    maps.push_back(out);
    bool sums = out.getNumResults() < op.getNumLoops();
    SmallVector<utils::IteratorType> iterators(op.getNumLoops(),
                                               utils::IteratorType::reduction);
    for (AffineExpr expr : out.getResults())
      iterators[cast<AffineDimExpr>(expr).getPosition()] =
          utils::IteratorType::parallel;
    Value init = initOf(b, loc, wanted.get(), out, ins, maps);
    Value zero = arith::ConstantOp::create(
        b, loc, b.getFloatAttr(type.getElementType(), 0.0));
    if (sums)
      init = linalg::FillOp::create(b, loc, zero, init).getResult(0);
    bool failedInside = false;
    auto generic = linalg::GenericOp::create(
        b, loc, TypeRange(type), ins, ValueRange(init), maps, iterators,
        [&](OpBuilder &inner, Location loc, ValueRange v) {
          IRMapping map;
          for (auto [argument, value] :
               llvm::zip(arguments, v.take_front(arguments.size())))
            map.map(argument, value);
          // What adds to the init reads it, and is not part of the map.
          for (Operation &scalar : body->without_terminator())
            if (llvm::all_of(scalar.getOperands(), [&](Value operand) {
                  return operand.getParentBlock() != body ||
                         map.contains(operand);
                }))
              inner.clone(scalar, map);
          SmallVector<std::pair<Value, Value>> seeds;
          for (auto [i, n] : llvm::enumerate(seeded))
            seeds.push_back({mapped[n], v[arguments.size() + i]});
          auto gradients =
              buildScalarReverse(inner, op, *body, map, seeds,
                                 {op.getMatchingBlockArgument(&wanted)});
          Value result;
          if (failed(gradients))
            failedInside = true;
          else
            result = gradients->front();
          if (!result)
            result = zero;
          if (sums)
            result = arith::AddFOp::create(inner, loc, v.back(), result);
          linalg::YieldOp::create(inner, loc, result);
        });
    if (failedInside) {
      generic.erase();
      return failure();
    }
    eraseDead(*generic.getBody());
    gradient = dropInputs(b, generic);
    return success();
  }

  /// Sizes are read from a cotangent where one has them all, so that the
  /// operand itself is not kept for its shape.
  static Value initOf(OpBuilder &b, Location loc, Value wanted, AffineMap out,
                      ArrayRef<Value> ins, ArrayRef<AffineMap> maps) {
    auto type = cast<RankedTensorType>(wanted.getType());
    SmallVector<Value> sizes;
    for (int64_t d = 0; d < type.getRank(); ++d) {
      if (!type.isDynamicDim(d))
        continue;
      Value size;
      for (int64_t i = ins.size() - 1; i >= 0 && !size; --i)
        if (isa<RankedTensorType>(ins[i].getType()))
          if (auto place = maps[i].getResultPosition(out.getResult(d)))
            size = tensor::DimOp::create(b, loc, ins[i], *place);
      sizes.push_back(size);
    }
    return tensor::EmptyOp::create(b, loc, type, sizes);
  }
};

//===----------------------------------------------------------------------===//
// tensor
//===----------------------------------------------------------------------===//

struct CastModel : DifferentiableModel<CastModel, tensor::CastOp> {
  static LogicalResult vjp(tensor::CastOp op, VJP &vjp) {
    vjp.set(0,
            tensor::CastOp::create(vjp.builder, op.getLoc(),
                                   op.getSource().getType(), vjp.cotangent(0)));
    return success();
  }
};

struct CollapseModel
    : DifferentiableModel<CollapseModel, tensor::CollapseShapeOp> {
  static LogicalResult vjp(tensor::CollapseShapeOp op, VJP &vjp) {
    SmallVector<OpFoldResult> sizes =
        tensor::getMixedSizes(vjp.builder, op.getLoc(), op.getSrc());
    vjp.set(0, tensor::ExpandShapeOp::create(
                   vjp.builder, op.getLoc(), op.getSrcType(), vjp.cotangent(0),
                   op.getReassociationIndices(), sizes));
    return success();
  }
};

struct ExpandModel : DifferentiableModel<ExpandModel, tensor::ExpandShapeOp> {
  static LogicalResult vjp(tensor::ExpandShapeOp op, VJP &vjp) {
    vjp.set(0, tensor::CollapseShapeOp::create(
                   vjp.builder, op.getLoc(), op.getSrcType(), vjp.cotangent(0),
                   op.getReassociationIndices()));
    return success();
  }
};

struct ExtractSliceModel
    : DifferentiableModel<ExtractSliceModel, tensor::ExtractSliceOp> {
  static LogicalResult vjp(tensor::ExtractSliceOp op, VJP &vjp) {
    Value zeros = buildZeros(vjp.builder, op.getLoc(), op.getSource());
    vjp.set(0, tensor::InsertSliceOp::create(
                   vjp.builder, op.getLoc(), vjp.cotangent(0), zeros,
                   op.getMixedOffsets(), op.getMixedSizes(),
                   op.getMixedStrides()));
    return success();
  }
};

struct InsertSliceModel
    : DifferentiableModel<InsertSliceModel, tensor::InsertSliceOp> {
  static LogicalResult vjp(tensor::InsertSliceOp op, VJP &vjp) {
    if (vjp.wants(0))
      vjp.set(0, tensor::ExtractSliceOp::create(
                     vjp.builder, op.getLoc(), op.getSourceType(),
                     vjp.cotangent(0), op.getMixedOffsets(), op.getMixedSizes(),
                     op.getMixedStrides()));
    if (vjp.wants(1)) {
      Value zeros = buildZeros(vjp.builder, op.getLoc(), op.getSource());
      vjp.set(1, tensor::InsertSliceOp::create(
                     vjp.builder, op.getLoc(), zeros, vjp.cotangent(0),
                     op.getMixedOffsets(), op.getMixedSizes(),
                     op.getMixedStrides()));
    }
    return success();
  }
};

struct PadModel : DifferentiableModel<PadModel, tensor::PadOp> {
  static LogicalResult vjp(tensor::PadOp op, VJP &vjp) {
    // A padding that is computed would have a gradient of its own.
    Value padding = op.getConstantPaddingValue();
    if (!padding || !matchPattern(padding, m_Constant()))
      return op.emitOpError()
             << "pads with a value that is computed; its derivative is known "
                "for a constant";
    OpBuilder &b = vjp.builder;
    Location loc = op.getLoc();
    vjp.set(0, tensor::ExtractSliceOp::create(
                   b, loc, op.getSourceType(), vjp.cotangent(0),
                   op.getMixedLowPad(),
                   tensor::getMixedSizes(b, loc, op.getSource()),
                   SmallVector<OpFoldResult>(op.getSourceType().getRank(),
                                             b.getIndexAttr(1))));
    return success();
  }
};

struct ConcatModel : DifferentiableModel<ConcatModel, tensor::ConcatOp> {
  static LogicalResult vjp(tensor::ConcatOp op, VJP &vjp) {
    OpBuilder &b = vjp.builder;
    Location loc = op.getLoc();
    int64_t rank = op.getType().getRank(), dim = op.getDim();
    OpFoldResult offset = b.getIndexAttr(0);
    for (auto [i, input] : llvm::enumerate(op.getInputs())) {
      SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, input);
      SmallVector<OpFoldResult> offsets(rank, b.getIndexAttr(0));
      offsets[dim] = offset;
      if (vjp.wants(i))
        vjp.set(i, tensor::ExtractSliceOp::create(
                       b, loc, cast<RankedTensorType>(input.getType()),
                       vjp.cotangent(0), offsets, sizes,
                       SmallVector<OpFoldResult>(rank, b.getIndexAttr(1))));
      auto before = getConstantIntValue(offset);
      auto size = getConstantIntValue(sizes[dim]);
      if (before && size)
        offset = b.getIndexAttr(*before + *size);
      else
        offset = b.createOrFold<arith::AddIOp>(
            loc, getValueOrCreateConstantIndexOp(b, loc, offset),
            getValueOrCreateConstantIndexOp(b, loc, sizes[dim]));
    }
    return success();
  }
};

template <typename... Ops> void attachElementwise(MLIRContext *context) {
  (Ops::template attachInterface<ElementwiseModel<Ops>>(*context), ...);
}
template <typename... Ops> void attachLinalg(MLIRContext *context) {
  (Ops::template attachInterface<LinalgModel<Ops>>(*context), ...);
}

} // namespace

void mlir::moe::registerUpstreamDifferentiationModels(
    DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, arith::ArithDialect *) {
    attachElementwise<arith::AddFOp, arith::SubFOp, arith::MulFOp,
                      arith::DivFOp, arith::RemFOp, arith::NegFOp,
                      arith::ExtFOp, arith::TruncFOp, arith::SelectOp,
                      arith::MaximumFOp, arith::MinimumFOp, arith::MaxNumFOp,
                      arith::MinNumFOp>(context);
  });
  registry.addExtension(+[](MLIRContext *context, math::MathDialect *) {
    attachElementwise<
        math::AbsFOp, math::AcosOp, math::AcoshOp, math::AsinOp, math::AsinhOp,
        math::AtanOp, math::AtanhOp, math::Atan2Op, math::CbrtOp, math::CeilOp,
        math::ClampFOp, math::CopySignOp, math::CosOp, math::CoshOp,
        math::ErfOp, math::ErfcOp, math::ExpOp, math::Exp2Op, math::ExpM1Op,
        math::FloorOp, math::FmaOp, math::LogOp, math::Log10Op, math::Log1pOp,
        math::Log2Op, math::PowFOp, math::RoundOp, math::RoundEvenOp,
        math::RsqrtOp, math::SinOp, math::SinhOp, math::SqrtOp, math::TanOp,
        math::TanhOp, math::TruncOp>(context);
  });
  registry.addExtension(+[](MLIRContext *context, linalg::LinalgDialect *) {
    attachLinalg<linalg::GenericOp, linalg::MapOp, linalg::ReduceOp,
                 linalg::BroadcastOp, linalg::TransposeOp, linalg::FillOp,
                 linalg::MatmulOp, linalg::BatchMatmulOp, linalg::MatvecOp,
                 linalg::VecmatOp, linalg::DotOp, linalg::AddOp, linalg::SubOp,
                 linalg::MulOp, linalg::DivOp, linalg::ExpOp, linalg::LogOp,
                 linalg::TanhOp, linalg::SqrtOp, linalg::RsqrtOp,
                 linalg::SquareOp, linalg::NegFOp, linalg::ReciprocalOp,
                 linalg::AbsOp, linalg::ErfOp, linalg::ElementwiseOp>(context);
  });
  registry.addExtension(+[](MLIRContext *context, tensor::TensorDialect *) {
    tensor::CastOp::attachInterface<CastModel>(*context);
    tensor::CollapseShapeOp::attachInterface<CollapseModel>(*context);
    tensor::ExpandShapeOp::attachInterface<ExpandModel>(*context);
    tensor::ExtractSliceOp::attachInterface<ExtractSliceModel>(*context);
    tensor::InsertSliceOp::attachInterface<InsertSliceModel>(*context);
    tensor::ConcatOp::attachInterface<ConcatModel>(*context);
    tensor::PadOp::attachInterface<PadModel>(*context);
  });
}

void mlir::moe::registerDifferentiationModels(DialectRegistry &registry) {
  registerLevel1DifferentiationModels(registry);
  registerUpstreamDifferentiationModels(registry);
}
