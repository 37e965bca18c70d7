// SPDX-License-Identifier: Apache-2.0
// The sizes of level-1 results, for upstream's analysis of value bounds.
#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Interfaces/ValueBoundsOpInterface.h"

using namespace mlir;
using namespace mlir::moe;

namespace {
template <typename Op>
struct RowBounds : ValueBoundsOpInterface::ExternalModel<RowBounds<Op>, Op> {
  void populateBoundsForShapedValueDim(Operation *, Value value, int64_t dim,
                                       ValueBoundsConstraintSet &cstr) const {
    std::optional<RowCount> count = getRowCount(cast<OpResult>(value));
    if (dim != 0 || !count)
      return;
    AffineExpr rows = cstr.getExpr(count->source, 0);
    if (count->over == 1)
      cstr.bound(value)[dim] == rows * count->times;
    else
      cstr.bound(value)[dim] == rows.floorDiv(count->over);
  }
};
} // namespace

void mlir::moe::registerValueBoundsOpInterfaceExternalModels(
    DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    RouteOp::attachInterface<RowBounds<RouteOp>>(*context);
    RouteGradOp::attachInterface<RowBounds<RouteGradOp>>(*context);
    GroupOp::attachInterface<RowBounds<GroupOp>>(*context);
    ScatterOp::attachInterface<RowBounds<ScatterOp>>(*context);
    CombineOp::attachInterface<RowBounds<CombineOp>>(*context);
    ParallelLinearOp::attachInterface<RowBounds<ParallelLinearOp>>(*context);
    RowwiseOp::attachInterface<RowBounds<RowwiseOp>>(*context);
  });
}
