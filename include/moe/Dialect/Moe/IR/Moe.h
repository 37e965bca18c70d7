// SPDX-License-Identifier: Apache-2.0
// The `moe` dialect: its types, attributes and ops, and the shapes of rows.
#ifndef MOE_DIALECT_MOE_IR_MOE_H
#define MOE_DIALECT_MOE_IR_MOE_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "moe/Dialect/Moe/IR/MoeDialect.h.inc"
#include "moe/Dialect/Moe/IR/MoeEnums.h.inc"

#define GET_TYPEDEF_CLASSES
#include "moe/Dialect/Moe/IR/MoeTypes.h.inc"
#define GET_ATTRDEF_CLASSES
#include "moe/Dialect/Moe/IR/MoeAttrs.h.inc"

#define GET_OP_CLASSES
#include "moe/Dialect/Moe/IR/MoeOps.h.inc"

namespace mlir::moe {

/// Columns a segment of a row sum has (see #moe.port).
constexpr int64_t kRowSumSegment = 128;

/// ceil(width / kRowSumSegment): the partials of a row sum over that width.
inline int64_t numRowSumSegments(int64_t width) {
  return (width + kRowSumSegment - 1) / kRowSumSegment;
}

/// The type of an op's assignment operand or result.
inline AssignmentType getAssignmentType(Value assignment) {
  return cast<AssignmentType>(assignment.getType());
}

/// Rows in that order: T, or T*K; ShapedType::kDynamic where T is dynamic.
int64_t getNumRows(RowOrder order, AssignmentType assignment);

/// How many rows (T, or T*K) a result of level 1 has, from an operand:
/// size 0 of the result is size 0 of `source` times `times` over `over`.
struct RowCount {
  Value source;
  int64_t times, over;
};
/// None where the result has no dynamic size, or no operand says.
std::optional<RowCount> getRowCount(OpResult result);

/// reifyResultShapes of level 1, by getRowCount.
LogicalResult reifyRowCounts(Operation *op, OpBuilder &b,
                             ReifiedRankedShapedTypeDims &shapes);

/// Bounds of the sizes of level-1 results, by getRowCount. Those of level 2
/// are their destinations', which upstream knows.
void registerValueBoundsOpInterfaceExternalModels(DialectRegistry &registry);

/// f64 for f64, f32 for every narrower float: what regions and accumulators
/// compute in.
FloatType getComputeType(Type elementType);

/// The compute type of a kernel or rowwise op over these types: f64 where every
/// float is f64, else f32. Fails where f64 is mixed with narrower floats.
FailureOr<FloatType> getComputeType(TypeRange types, MLIRContext *context);

/// Whether an op of level 2 multiplies matrices of bf16 or f16, as matrix units
/// do.
bool multipliesHalves(Operation *op);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_IR_MOE_H
