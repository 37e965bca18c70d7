// SPDX-License-Identifier: Apache-2.0
// moe-widen-linalg: linalg ops on bf16 and f16 compute in f32 and round once.
// See Passes.td.
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEWIDENLINALG
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

bool isNarrow(Type type) {
  return isa<FloatType>(type) && type.getIntOrFloatBitWidth() < 32;
}

/// Math whose types may all become f32; of bits and roundings they may not.
bool isWidened(Operation &op) {
  return isa_and_present<arith::ArithDialect, math::MathDialect>(
             op.getDialect()) &&
         !isa<arith::BitcastOp, arith::ExtFOp, arith::TruncFOp>(op);
}

/// Whether the body rounds where no tensor is.
bool roundsInside(linalg::LinalgOp op) {
  auto ops = op.getBlock()->without_terminator();
  if (llvm::any_of(ops, [](Operation &o) { return o.getNumRegions() != 0; }))
    return false;
  return llvm::any_of(ops, [](Operation &o) {
    return isWidened(o) && !isa<arith::ConstantOp, arith::SelectOp>(o) &&
           llvm::any_of(o.getResultTypes(), isNarrow);
  });
}

class Widening {
public:
  Widening(OpBuilder &b, Location loc) : b(b), loc(loc), wide(b.getF32Type()) {}

  Value extend(Value value) {
    return isNarrow(value.getType())
               ? arith::ExtFOp::create(b, loc, wide, value).getResult()
               : value;
  }
  Value truncate(Value value, Type type) {
    return value.getType() == type
               ? value
               : arith::TruncFOp::create(b, loc, type, value).getResult();
  }

  /// The ops of a block; `map` holds its arguments, and in the end its values,
  /// the narrow ones in f32.
  void clone(Block &block, IRMapping &map) {
    for (Operation &op : block.without_terminator()) {
      IRMapping operands;
      for (Value operand : op.getOperands()) {
        Value value = map.lookupOrDefault(operand);
        // Values from outside are as narrow as they were.
        operands.map(operand, isWidened(op)
                                  ? extend(value)
                                  : truncate(value, operand.getType()));
      }
      Operation *made = b.clone(op, operands);
      if (isWidened(op)) {
        for (Value result : made->getResults())
          if (isNarrow(result.getType()))
            result.setType(wide);
        if (auto constant = dyn_cast<arith::ConstantOp>(made))
          if (auto value = dyn_cast<FloatAttr>(constant.getValue()))
            constant.setValueAttr(
                FloatAttr::get(constant.getType(), value.getValueAsDouble()));
      }
      for (auto [from, to] :
           llvm::zip_equal(op.getResults(), made->getResults()))
        map.map(from, extend(to));
    }
  }

private:
  OpBuilder &b;
  Location loc;
  Type wide;
};

/// The init of a sum, in f32: no second buffer where it is filled.
Value widenInit(OpBuilder &b, Location loc, Value init) {
  Type wide = b.getF32Type();
  auto fill = init.getDefiningOp<linalg::FillOp>();
  auto empty = fill ? fill.getOutputs()[0].getDefiningOp<tensor::EmptyOp>()
                    : tensor::EmptyOp();
  if (!empty)
    return b.createOrFold<arith::ExtFOp>(
        loc, cast<RankedTensorType>(init.getType()).clone(wide), init);
  Value scalar = fill.getInputs()[0];
  if (isNarrow(scalar.getType()))
    scalar = b.createOrFold<arith::ExtFOp>(loc, wide, scalar);
  Value buffer = tensor::EmptyOp::create(b, loc, empty.getType().clone(wide),
                                         empty.getDynamicSizes());
  return linalg::FillOp::create(b, loc, scalar, buffer).getResult(0);
}

void widen(IRRewriter &rewriter, linalg::GenericOp op) {
  rewriter.setInsertionPoint(op);
  Location loc = op.getLoc();
  Block &body = *op.getBody();
  // A sum has its init's type in every step; another result is rounded once.
  SmallVector<Value> outs;
  for (OpOperand &init : op.getDpsInitsMutable()) {
    Value out = init.get();
    auto type = cast<RankedTensorType>(out.getType());
    bool sums = !op.getMatchingBlockArgument(&init).use_empty();
    outs.push_back(sums && isNarrow(type.getElementType())
                       ? widenInit(rewriter, loc, out)
                       : out);
  }
  auto made = linalg::GenericOp::create(
      rewriter, loc, TypeRange(ValueRange(outs)), op.getInputs(), outs,
      op.getIndexingMapsArray(), op.getIteratorTypesArray(),
      [&](OpBuilder &b, Location loc, ValueRange arguments) {
        Widening widening(b, loc);
        IRMapping map;
        for (auto [from, to] : llvm::zip_equal(body.getArguments(), arguments))
          map.map(from, from.use_empty() ? to : widening.extend(to));
        widening.clone(body, map);
        SmallVector<Value> yielded;
        for (auto [value, out] :
             llvm::zip_equal(body.getTerminator()->getOperands(), outs))
          yielded.push_back(
              widening.truncate(widening.extend(map.lookupOrDefault(value)),
                                getElementTypeOrSelf(out.getType())));
        linalg::YieldOp::create(b, loc, yielded);
      });
  SmallVector<Value> results;
  for (auto [result, type] :
       llvm::zip_equal(made.getResults(), op.getResultTypes()))
    results.push_back(Widening(rewriter, loc).truncate(result, type));
  rewriter.replaceOp(op, results);
}

struct MoeWidenLinalg : moe::impl::MoeWidenLinalgBase<MoeWidenLinalg> {
  void runOnOperation() override {
    SmallVector<linalg::LinalgOp> ops;
    getOperation().walk([&](linalg::LinalgOp op) {
      if (op.hasPureTensorSemantics() && roundsInside(op))
        ops.push_back(op);
    });
    IRRewriter rewriter(&getContext());
    for (linalg::LinalgOp op : ops) {
      rewriter.setInsertionPoint(op);
      auto generic = dyn_cast<linalg::GenericOp>(op.getOperation());
      if (generic)
        widen(rewriter, generic);
      else if (auto made = linalg::generalizeNamedOp(rewriter, op);
               succeeded(made))
        widen(rewriter, *made);
    }
  }
};

} // namespace
