// SPDX-License-Identifier: Apache-2.0
// What the vector-Jacobian products of all ops are written in.
#ifndef MOE_LIB_DIALECT_MOE_TRANSFORMS_DIFFERENTIATEMODELS_H
#define MOE_LIB_DIALECT_MOE_TRANSFORMS_DIFFERENTIATEMODELS_H

#include "moe/Dialect/Moe/Transforms/Differentiation.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace mlir::moe {

/// One call of buildVJP.
struct VJP {
  OpBuilder &builder;
  ArrayRef<Value> cotangents;
  const llvm::SmallBitVector &wanted;
  MutableArrayRef<Value> gradients;

  Value cotangent(unsigned result) const { return cotangents[result]; }
  bool wants(unsigned operand) const {
    return operand < wanted.size() && wanted.test(operand);
  }
  void set(unsigned operand, Value gradient) {
    if (wants(operand))
      gradients[operand] = gradient;
  }
  LogicalResult refuse(Operation *op, const Twine &why) const {
    return op->emitOpError() << "cannot be differentiated: " << why;
  }
};

template <typename Model, typename Op>
struct DifferentiableModel
    : MoeDifferentiableOpInterface::ExternalModel<Model, Op> {
  LogicalResult buildVJP(Operation *op, OpBuilder &builder,
                         ArrayRef<Value> cotangents,
                         const llvm::SmallBitVector &wanted,
                         MutableArrayRef<Value> gradients) const {
    VJP vjp{builder, cotangents, wanted, gradients};
    return Model::vjp(cast<Op>(op), vjp);
  }
};

/// Erases the ops of a region's block that nobody reads.
inline void eraseDead(Block &block) {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (isOpTriviallyDead(&op))
      op.erase();
}

void attachRouteGradModel(MLIRContext *context);

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_TRANSFORMS_DIFFERENTIATEMODELS_H
