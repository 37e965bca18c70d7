// SPDX-License-Identifier: Apache-2.0
// What the files of moe-simplify-gradients share: the rowwise products and sums
// that they find and build.
#ifndef MOE_LIB_DIALECT_MOE_TRANSFORMS_SIMPLIFYGRADIENTS_H
#define MOE_LIB_DIALECT_MOE_TRANSFORMS_SIMPLIFYGRADIENTS_H

#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Builders.h"

namespace mlir::moe {

inline bool isPlain(PortAttr port, PortKind kind) {
  return port.getKind() == kind && port.getCount() == 1;
}

/// A rowwise op of two operands and one result that is `Op` of them.
template <typename Op>
bool isBinary(RowwiseOp op, PortKind result,
              RowOrder order = RowOrder::Grouped) {
  if (op.getOrder() != order || op.getIns().size() != 2 ||
      op.getNumResults() != 1 || !isPlain(op.outPort(0), result))
    return false;
  Block &block = op.getBody().front();
  if (llvm::range_size(block) != 2)
    return false;
  auto product = dyn_cast<Op>(block.front());
  auto yield = cast<YieldOp>(block.getTerminator());
  return product && yield.getOperand(0) == product &&
         ((product.getLhs() == block.getArgument(0) &&
           product.getRhs() == block.getArgument(1)) ||
          (product.getLhs() == block.getArgument(1) &&
           product.getRhs() == block.getArgument(0)));
}

/// A rowwise op that joins two operands by `Op`.
template <typename Op>
Value buildRowwise(OpBuilder &b, Location loc, Value assignment, Value x,
                   Value y, PortKind kindOfY, Type result,
                   PortKind kindOfResult, RowOrder order = RowOrder::Grouped) {
  MLIRContext *context = b.getContext();
  auto port = [&](PortKind kind) -> Attribute {
    return PortAttr::get(context, kind, order);
  };
  auto op = RowwiseOp::create(
      b, loc, TypeRange(result), order, assignment, ValueRange{x, y},
      b.getArrayAttr({port(PortKind::Rows), port(kindOfY)}),
      b.getArrayAttr(port(kindOfResult)));
  FloatType compute =
      *getComputeType({x.getType(), y.getType(), result}, context);
  OpBuilder::InsertionGuard guard(b);
  Block *block = b.createBlock(&op.getBody());
  Value u = block->addArgument(compute, loc);
  Value v = block->addArgument(compute, loc);
  YieldOp::create(b, loc, ValueRange(Op::create(b, loc, u, v).getResult()));
  return op.getResult(0);
}

/// rows * constant, by an op of one result; the constant.
std::optional<double> getConstantFactor(Operation *op, Value assignment);

/// rows + rows, by an op of one result.
bool isSumOfRows(Operation *op, Value assignment,
                 RowOrder order = RowOrder::Grouped);

/// Replaces a dot that is the gradient of a gate on the output, where it can be
/// had from products that are computed anyway; whether it did.
bool moveGateGradient(RowwiseOp dot);

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_TRANSFORMS_SIMPLIFYGRADIENTS_H
