// SPDX-License-Identifier: Apache-2.0
// convert-moe-to-nvtile: see Passes.td.
#include "Config.h"
#include "KernelBuilder.h"
#include "WorkTable.h"
#include "moe/Conversion/MoeToNVTile/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/TypeSwitch.h"

namespace mlir::moe {
#define GEN_PASS_DEF_CONVERTMOETONVTILE
#include "moe/Conversion/MoeToNVTile/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Whether the guard holds for a call.
static Value emitGuard(ImplicitLocOpBuilder &b, PackAssignmentOp pack,
                       VariantAttr variant) {
  Value value;
  switch (variant.getGuard()) {
  case HostValue::None:
    llvm_unreachable("no guard");
  case HostValue::Rows:
    value = memref::DimOp::create(b, pack.getOrder(), 0);
    break;
  case HostValue::Processors:
    value = emitProcessors(b);
    break;
  }
  return arith::CmpIOp::create(
      b, arith::CmpIPredicate::sge, value,
      arith::ConstantIndexOp::create(b, variant.getAtLeast()));
}

/// An op of several variants becomes one for each, in branches on the host.
static void splitVariants(Operation *op, PackAssignmentOp pack,
                          SmallVectorImpl<Operation *> &products) {
  ArrayRef<VariantAttr> variants =
      op->getAttrOfType<ConfigAttr>(kConfigAttr).getVariants();
  auto only = [](VariantAttr variant) {
    return ConfigAttr::get(variant.getContext(), variant.withoutGuard());
  };
  for (VariantAttr variant : variants.drop_back()) {
    ImplicitLocOpBuilder b(op->getLoc(), op);
    auto branch = scf::IfOp::create(b, emitGuard(b, pack, variant),
                                    /*withElseRegion=*/true);
    b.setInsertionPointToStart(branch.thenBlock());
    products.push_back(b.clone(*op));
    products.back()->setAttr(kConfigAttr, only(variant));
    op->moveBefore(branch.elseBlock()->getTerminator());
  }
  op->setAttr(kConfigAttr, only(variants.back()));
  products.push_back(op);
}

/// A tile has not all columns of a row: sums become partials, with a kernel
/// that folds them.
static void leavePartials(GroupedMatmulOp op) {
  ImplicitLocOpBuilder before(op.getLoc(), op), after(op.getLoc(), op);
  after.setInsertionPointAfter(op);
  auto pack = op.getAssignment().getDefiningOp<PackAssignmentOp>();
  SmallVector<Attribute> ports(op.getOutPorts().getValue());
  for (auto [i, out] : llvm::enumerate(op.getOutsMutable())) {
    PortAttr port = op.outPort(i);
    if (port.getKind() != PortKind::Sum)
      continue;
    Value rows = memref::DimOp::create(before, pack.getOrder(), 0);
    auto type = MemRefType::get(
        {ShapedType::kDynamic, numRowSumSegments(op.getWidth())},
        before.getF32Type());
    Value partials = memref::AllocOp::create(before, type, ValueRange(rows));
    FoldPartialsOp::create(after, TypeRange(), op.getAssignment(), partials,
                           out.get(), port.getOrder());
    out.assign(partials);
    ports[i] =
        PortAttr::get(op.getContext(), PortKind::Partials, RowOrder::Grouped);
  }
  op.setOutPortsAttr(ArrayAttr::get(op.getContext(), ports));
}
namespace {
struct ConvertMoeToNVTile
    : public mlir::moe::impl::ConvertMoeToNVTileBase<ConvertMoeToNVTile> {
  void runOnOperation() override {
    SmallVector<Operation *> given, products;
    getOperation().walk([&](Operation *op) {
      if (isa<GroupedMatmulOp, GroupedOuterOp>(op))
        given.push_back(op);
    });
    for (Operation *op : given)
      if (failed(verify(op)))
        return signalPassFailure();
    for (Operation *op : given) {
      if (llvm::any_of(op->getAttrOfType<ConfigAttr>(kConfigAttr).getVariants(),
                       [](VariantAttr variant) {
                         return variant.getStructure() != Structure::Simt;
                       }))
        if (auto matmul = dyn_cast<GroupedMatmulOp>(op)) {
          leavePartials(matmul);
          zeroSentinels(matmul);
        }
      splitVariants(op, packOf(op), products);
    }
    for (Operation *op : products) {
      VariantAttr variant =
          op->getAttrOfType<ConfigAttr>(kConfigAttr).getVariants().front();
      if (variant.getStructure() == Structure::Simt)
        continue;
      getOperation()->setAttr(gpu::GPUDialect::getContainerModuleAttrName(),
                              UnitAttr::get(&getContext()));
      Tables tables = tablesOf(packOf(op), variant);
      TypeSwitch<Operation *>(op).Case<GroupedMatmulOp, GroupedOuterOp>(
          [&](auto op) { buildNVTileKernel(op, tables, variant); });
      op->erase();
    }
  }

private:
  static LogicalResult verify(Operation *op) {
    auto config = op->getAttrOfType<ConfigAttr>(kConfigAttr);
    if (!config)
      return op->emitOpError()
             << "has no " << kConfigAttr << "; run moe-select-config first";
    if (config.getVariants().size() > 1 && !packOf(op))
      return op->emitOpError() << "has several variants, but its assignment "
                                  "does not come from moe.pack_assignment";
    return success(llvm::all_of(config.getVariants(), [&](VariantAttr variant) {
      return succeeded(verifyVariant(op, variant));
    }));
  }

  static PackAssignmentOp packOf(Operation *op) {
    return TypeSwitch<Operation *, PackAssignmentOp>(op)
        .Case<GroupedMatmulOp, GroupedOuterOp>([](auto op) {
          return op.getAssignment().template getDefiningOp<PackAssignmentOp>();
        });
  }

  /// Where experts are split, the work table is the list of their parts.
  Tables tablesOf(PackAssignmentOp pack, VariantAttr variant) {
    WorkTables &tables = workTables[pack];
    if (!tables.work)
      tables = emitWorkTables(pack, partsOf(pack));
    Value work =
        variant.getParts() > 1 ? tables.parts[variant.getParts()] : tables.work;
    AssignmentType type = getAssignmentType(pack.getAssignment());
    return {pack.getOrder(),   pack.getBegin(), pack.getEnd(), work,
            type.getExperts(), type.getK()};
  }

  /// Into how many parts products of the assignment split experts.
  static SmallVector<int64_t> partsOf(PackAssignmentOp pack) {
    SetVector<int64_t> parts;
    for (Operation *user : pack.getAssignment().getUsers())
      if (auto config = user->getAttrOfType<ConfigAttr>(kConfigAttr))
        if (int64_t number = config.getVariants().front().getParts();
            number > 1)
          parts.insert(number);
    SmallVector<int64_t> sorted(parts.getArrayRef());
    llvm::sort(sorted);
    return sorted;
  }

  DenseMap<Operation *, WorkTables> workTables;
};
} // namespace
