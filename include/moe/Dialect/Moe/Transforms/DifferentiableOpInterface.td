// SPDX-License-Identifier: Apache-2.0
// How an op says its vector-Jacobian product.
#ifndef MOE_DIALECT_MOE_TRANSFORMS_DIFFERENTIABLEOPINTERFACE_TD
#define MOE_DIALECT_MOE_TRANSFORMS_DIFFERENTIABLEOPINTERFACE_TD

include "mlir/IR/OpBase.td"

def MoeDifferentiableOpInterface : OpInterface<"MoeDifferentiableOpInterface"> {
  let description = [{
    Implemented as external models: by every level-1 op, and by the ops on
    tensors of arith, math, tensor and linalg that layers need.
  }];
  let cppNamespace = "::mlir::moe";
  let methods = [InterfaceMethod<[{
      Builds at `builder` the cotangents of the operands from those of the
      results. `cotangents` has a value for each result, null where a result has
      none; `wanted` a bit for each operand. `operandCotangents` comes with a
      null value for each operand; an operand left null has gradient zero. A
      cotangent has the type of its value. Reports why where it cannot.
    }],
    "::llvm::LogicalResult", "buildVJP",
    (ins "::mlir::OpBuilder &":$builder,
         "::llvm::ArrayRef<::mlir::Value>":$cotangents,
         "const ::llvm::SmallBitVector &":$wanted,
         "::llvm::MutableArrayRef<::mlir::Value>":$operandCotangents)>];
}

#endif // MOE_DIALECT_MOE_TRANSFORMS_DIFFERENTIABLEOPINTERFACE_TD
