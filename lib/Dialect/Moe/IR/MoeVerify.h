// SPDX-License-Identifier: Apache-2.0
// Shape checks that the verifiers of both levels share.
#ifndef MOE_LIB_DIALECT_MOE_IR_MOEVERIFY_H
#define MOE_LIB_DIALECT_MOE_IR_MOEVERIFY_H

#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe {

/// Two sizes that may be one: equal, or one of them dynamic.
inline bool compatible(int64_t a, int64_t b) {
  return ShapedType::isDynamic(a) || ShapedType::isDynamic(b) || a == b;
}

/// "wants `what` to be <shape>, got <type>" unless type has that shape;
/// dynamic sizes fit any.
LogicalResult verifyShape(Operation *op, StringRef what, Type type,
                          ArrayRef<int64_t> shape);

/// The same, where the type must be static: weights, expert tensors.
LogicalResult verifyStaticShape(Operation *op, StringRef what, Type type,
                                ArrayRef<int64_t> shape);

/// A (rows of `order`, any width) tensor or memref.
LogicalResult verifyRows(Operation *op, StringRef what, Type type,
                         RowOrder order, AssignmentType assignment);

/// One scalar a row: token (T), slot (T, K), grouped (T*K).
LogicalResult verifyRowScalars(Operation *op, StringRef what, Type type,
                               RowOrder order, AssignmentType assignment);

/// (E, out, in) or (E, in, out).
LogicalResult verifyWeights(Operation *op, StringRef what, Type type,
                            WeightLayout layout, int64_t experts, int64_t in,
                            int64_t out);

/// Operands or results against their ports. `width` is N, set by the first
/// port with columns (kDynamic before). Without assignment every port is in
/// token order.
LogicalResult verifyPorts(Operation *op, StringRef what, TypeRange types,
                          ArrayAttr ports, AssignmentType assignment,
                          int64_t &width);

/// Region arguments (after `leading` of them), the yielded values, and the ops
/// inside: arith and math on scalars.
LogicalResult verifyRowwiseRegion(Operation *op, Region &region,
                                  unsigned leading, ArrayAttr inPorts,
                                  ArrayAttr outPorts);

/// The score, groups, scale and capacity attributes of a route.
template <typename RouteOp>
LogicalResult verifyRouteAttributes(RouteOp op, int64_t experts, int64_t k);

/// N of a list of ports, or kDynamic.
int64_t widthOf(TypeRange types, ArrayAttr ports);

/// The values that the ports before `i` take.
unsigned valuesBefore(ArrayAttr ports, unsigned i);

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_IR_MOEVERIFY_H
