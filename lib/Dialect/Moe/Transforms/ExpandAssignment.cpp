// SPDX-License-Identifier: Apache-2.0
// moe-expand-assignment: every assignment comes from a pack of its four tables.
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Func/Transforms/FuncConversions.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Transforms/DialectConversion.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEEXPANDASSIGNMENT
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// order, position (T*K), begin, end (E).
static void tableTypes(AssignmentType type, SmallVectorImpl<Type> &types) {
  Type i32 = IntegerType::get(type.getContext(), 32);
  auto slots = RankedTensorType::get({type.getSlots()}, i32);
  auto experts = RankedTensorType::get({type.getExperts()}, i32);
  types.append({slots, slots, experts, experts});
}

/// The number of slots of an assign where T is dynamic.
static Value slotCount(OpBuilder &b, AssignOp op) {
  if (op.getRows())
    return op.getRows(); // K is 1.
  Location loc = op.getLoc();
  Value tokens = tensor::DimOp::create(b, loc, op.getIds(), 0);
  Value k = arith::ConstantIndexOp::create(
      b, loc, getAssignmentType(op.getAssignment()).getK());
  return arith::MulIOp::create(b, loc, tokens, k);
}

namespace {

struct ExpandAssign : OpConversionPattern<AssignOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(AssignOp op, OneToNOpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    AssignmentType type = getAssignmentType(op.getAssignment());
    SmallVector<Type> types;
    tableTypes(type, types);
    SmallVector<Value> sizes;
    if (!type.hasStaticTokens())
      sizes.push_back(slotCount(rewriter, op));
    SmallVector<Value> outs;
    for (Type table : types)
      outs.push_back(tensor::EmptyOp::create(
          rewriter, op.getLoc(), table,
          cast<RankedTensorType>(table).hasStaticShape() ? ValueRange()
                                                         : ValueRange(sizes)));
    auto sort = SortSlotsOp::create(rewriter, op.getLoc(), types, op.getIds(),
                                    op.getCounts(), outs, op.getCapacityAttr());
    rewriter.replaceOpWithMultiple(op, {sort.getResults()});
    return success();
  }
};

struct ExpandUnpack : OpConversionPattern<UnpackAssignmentOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(UnpackAssignmentOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    SmallVector<Value> tables;
    for (auto [table, type] :
         llvm::zip_equal(adaptor.getAssignment(), op.getResultTypes())) {
      Value value = table;
      if (value.getType() != type)
        value = tensor::CastOp::create(rewriter, op.getLoc(), type, value);
      tables.push_back(value);
    }
    rewriter.replaceOp(op, tables);
    return success();
  }
};

/// Upstream's 1:N signature conversion leaves attributes where they were, which
/// is beside the wrong arguments; these are the right ones.
struct BoundaryAttributes {
  BoundaryAttributes(func::FuncOp function) {
    for (unsigned i = 0, e = function.getNumArguments(); i < e; ++i)
      expand(function.getArgumentTypes()[i], function.getArgAttrDict(i),
             arguments);
    for (unsigned i = 0, e = function.getNumResults(); i < e; ++i)
      expand(function.getResultTypes()[i], function.getResultAttrDict(i),
             results);
  }

  void apply(func::FuncOp function) const {
    function.setAllArgAttrs(arguments);
    function.setAllResultAttrs(results);
  }

private:
  /// The tables of an assignment named "a" are "a.order", and so on.
  static void expand(Type type, DictionaryAttr attrs,
                     SmallVectorImpl<DictionaryAttr> &expanded) {
    MLIRContext *context = type.getContext();
    if (!attrs)
      attrs = DictionaryAttr::get(context);
    if (!isa<AssignmentType>(type)) {
      expanded.push_back(attrs);
      return;
    }
    auto name = attrs.getAs<StringAttr>("moe.name");
    for (StringRef table : {"order", "position", "begin", "end"}) {
      NamedAttrList own(attrs);
      if (name)
        own.set("moe.name",
                StringAttr::get(context, name.getValue() + "." + table));
      expanded.push_back(own.getDictionary(context));
    }
  }

  SmallVector<DictionaryAttr> arguments, results;
};

struct MoeExpandAssignmentPass
    : public moe::impl::MoeExpandAssignmentBase<MoeExpandAssignmentPass> {
  void runOnOperation() override {
    MLIRContext *context = &getContext();
    TypeConverter converter;
    converter.addConversion([](Type type) { return type; });
    converter.addConversion(
        [](AssignmentType type, SmallVectorImpl<Type> &types) {
          tableTypes(type, types);
          return success();
        });
    converter.addSourceMaterialization([](OpBuilder &b, AssignmentType type,
                                          ValueRange tables,
                                          Location loc) -> Value {
      if (tables.size() != 4)
        return {};
      return PackAssignmentOp::create(b, loc, type, tables[0], tables[1],
                                      tables[2], tables[3]);
    });
    converter.addTargetMaterialization([](OpBuilder &b, TypeRange types,
                                          ValueRange values,
                                          Location loc) -> SmallVector<Value> {
      if (values.size() != 1 || !isa<AssignmentType>(values[0].getType()))
        return {};
      if (auto pack = values[0].getDefiningOp<PackAssignmentOp>();
          pack && pack.getOperandTypes() == types)
        return llvm::to_vector_of<Value>(pack.getOperands());
      auto unpack = UnpackAssignmentOp::create(b, loc, types, values[0]);
      return llvm::to_vector_of<Value>(unpack.getResults());
    });

    ConversionTarget target(*context);
    target.addIllegalOp<AssignOp, UnpackAssignmentOp>();
    target.addDynamicallyLegalOp<func::FuncOp>([&](func::FuncOp op) {
      return converter.isSignatureLegal(op.getFunctionType()) &&
             converter.isLegal(&op.getBody());
    });
    target.addDynamicallyLegalOp<func::ReturnOp, func::CallOp>(
        [&](Operation *op) { return converter.isLegal(op); });
    target.markUnknownOpDynamicallyLegal([](Operation *) { return true; });

    RewritePatternSet patterns(context);
    patterns.add<ExpandAssign, ExpandUnpack>(converter, context);
    populateFunctionOpInterfaceTypeConversionPattern<func::FuncOp>(patterns,
                                                                   converter);
    populateReturnOpTypeConversionPattern(patterns, converter);
    populateCallOpTypeConversionPattern(patterns, converter);
    SmallVector<std::pair<StringAttr, BoundaryAttributes>> attributes;
    for (auto function : getOperation().getOps<func::FuncOp>())
      attributes.emplace_back(function.getSymNameAttr(), function);
    if (failed(applyPartialConversion(getOperation(), target,
                                      std::move(patterns))))
      return signalPassFailure();
    WalkResult rest = getOperation().walk([](Operation *op) {
      for (Value result : op->getResults())
        if (isa<AssignmentType>(result.getType()) &&
            !isa<PackAssignmentOp>(op)) {
          op->emitOpError() << "makes an assignment without tables; "
                               "assignments come from moe.assign and "
                               "moe.pack_assignment";
          return WalkResult::interrupt();
        }
      return WalkResult::advance();
    });
    if (rest.wasInterrupted())
      return signalPassFailure();
    SymbolTable symbols(getOperation());
    for (auto &[name, attrs] : attributes)
      attrs.apply(symbols.lookup<func::FuncOp>(name));
  }
};

} // namespace
