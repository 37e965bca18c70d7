// SPDX-License-Identifier: Apache-2.0
// Reverse-mode differentiation: of ops on tensors through their interface, and
// of regions of scalars, symbolically.
#ifndef MOE_DIALECT_MOE_TRANSFORMS_DIFFERENTIATION_H
#define MOE_DIALECT_MOE_TRANSFORMS_DIFFERENTIATION_H

#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/SmallBitVector.h"

#include <optional>

#include "moe/Dialect/Moe/Transforms/DifferentiableOpInterface.h.inc"

namespace mlir::moe {

/// Whether values of the type have cotangents: ranked tensors of floats.
bool hasCotangent(Type type);

/// The moe.name of an argument or result, else "arg<i>" or "out<i>".
std::string argumentName(func::FuncOp function, unsigned i);
std::string resultName(func::FuncOp function, unsigned i);
/// The argument of that name, or of that number.
std::optional<unsigned> findArgument(func::FuncOp function, StringRef name);

/// What an op reads: its operands, and what its regions take from outside.
llvm::SetVector<Value> getReads(Operation *op);

/// Cotangents of values, summed where paths meet. Values without an entry have
/// cotangent zero.
class Cotangents {
public:
  void add(OpBuilder &builder, Value value, Value cotangent);
  Value lookup(Value value) const { return sums.lookup(value); }

private:
  DenseMap<Value, Value> sums;
};

/// The values that depend on `sources` through floats, along `ops` in order.
DenseSet<Value> findActive(ArrayRef<Operation *> ops, ValueRange sources);

/// Walks `ops` backwards and builds at `builder` the cotangents of all active
/// values that they read. Reports an op without a derivative.
LogicalResult buildReverse(OpBuilder &builder, ArrayRef<Operation *> ops,
                           const DenseSet<Value> &active,
                           Cotangents &cotangents);

/// Reverse mode in a block of arith and math ops on scalars, with PyTorch's
/// choices where a function has no derivative. `map` takes the block's values
/// to their clones at `builder`; `seeds` has pairs (value of the block, its
/// cotangent); null seeds are skipped. Returns the cotangents of `wanted`, null
/// for zero. Ops in between that are not known are reported at `op`.
FailureOr<SmallVector<Value>> buildScalarReverse(
    OpBuilder &builder, Operation *op, Block &block, const IRMapping &map,
    ArrayRef<std::pair<Value, Value>> seeds, ArrayRef<Value> wanted);

/// Zeros of the type and sizes of `like`; sizes are read from `like`.
Value buildZeros(OpBuilder &builder, Location loc, Value like);

/// The float tensor in another element type.
Value buildCast(OpBuilder &builder, Location loc, Value tensor,
                Type elementType);

/// A tensor.empty with the sizes of `like`, its dims permuted or dropped by
/// `dims`.
Value buildEmpty(OpBuilder &builder, Location loc, Value like,
                 ArrayRef<int64_t> dims, Type elementType);

void registerLevel1DifferentiationModels(DialectRegistry &registry);
void registerUpstreamDifferentiationModels(DialectRegistry &registry);
/// Both of them.
void registerDifferentiationModels(DialectRegistry &registry);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_TRANSFORMS_DIFFERENTIATION_H
