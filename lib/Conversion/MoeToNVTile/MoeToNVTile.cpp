// SPDX-License-Identifier: Apache-2.0
// convert-moe-to-nvtile: see Passes.td.
#include "KernelBuilder.h"
#include "moe/Conversion/MoeToNVTile/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/TypeSwitch.h"

namespace mlir::moe {
#define GEN_PASS_DEF_CONVERTMOETONVTILE
#include "moe/Conversion/MoeToNVTile/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

static bool multipliesHalves(GroupedMatmulOp op) {
  return llvm::all_of(op.getLhs(), [](Value rows) {
    return isHalf(getElementTypeOrSelf(rows));
  });
}
static bool multipliesHalves(GroupedOuterOp op) {
  return isHalf(getElementTypeOrSelf(op.getX()));
}

/// What every kernel needs: contiguous buffers and known tables.
template <typename Op> static std::string whyNotAtAll(Op op, StringRef arch) {
  if (arch != "sm_90a")
    return (arch + " has no kernels for it yet, sm_90a has").str();
  for (Value operand : op->getOperands()) {
    if (isa<TensorType>(operand.getType()))
      return "its operands are tensors";
    auto memref = dyn_cast<MemRefType>(operand.getType());
    if (memref && !memref.getLayout().isIdentity())
      return "an operand is not contiguous";
  }
  if (!op.getAssignment().template getDefiningOp<PackAssignmentOp>())
    return "its assignment does not come from moe.pack_assignment";
  return whyNotNVTile(op);
}

namespace {
struct ConvertMoeToNVTile
    : public mlir::moe::impl::ConvertMoeToNVTileBase<ConvertMoeToNVTile> {
  using ConvertMoeToNVTileBase::ConvertMoeToNVTileBase;

  void runOnOperation() override {
    SmallVector<Operation *> products;
    getOperation().walk([&](Operation *op) {
      if (isa<GroupedMatmulOp, GroupedOuterOp>(op))
        products.push_back(op);
    });
    for (Operation *op : products)
      TypeSwitch<Operation *>(op).Case<GroupedMatmulOp, GroupedOuterOp>(
          [&](auto op) {
            std::string reason = whyNotAtAll(op, arch);
            if (!reason.empty()) {
              op->emitRemark() << "no kernel for the matrix unit: " << reason;
              if (multipliesHalves(op))
                op->setAttr("moe.simt", StringAttr::get(&getContext(), reason));
              return;
            }
            getOperation()->setAttr(
                gpu::GPUDialect::getContainerModuleAttrName(),
                UnitAttr::get(&getContext()));
            buildNVTileKernel(op, tablesOf(op.getAssignment()));
            op->erase();
          });
  }

private:
  Tables tablesOf(Value assignment) {
    auto pack = assignment.getDefiningOp<PackAssignmentOp>();
    Value &work = workTables[pack];
    if (!work)
      work = emitWorkTable(pack);
    AssignmentType type = getAssignmentType(assignment);
    return {pack.getOrder(),   pack.getBegin(), pack.getEnd(), work,
            type.getExperts(), type.getK()};
  }

  DenseMap<Operation *, Value> workTables;
};
} // namespace
