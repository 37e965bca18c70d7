// SPDX-License-Identifier: Apache-2.0
// moe-select-config: see Passes.td.
#include "Config.h"
#include "KernelBuilder.h"
#include "moe/Conversion/MoeToNVTile/Passes.h"

#include "llvm/ADT/TypeSwitch.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOESELECTCONFIG
#include "moe/Conversion/MoeToNVTile/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// What every kernel needs, contiguous buffers and known tables; then what this
/// one does.
template <typename Op> static std::string whyNotAtAll(Op op) {
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

static std::string whyNotCooperative(Operation *op) {
  return TypeSwitch<Operation *, std::string>(op)
      .Case<GroupedMatmulOp, GroupedOuterOp>(
          [](auto op) { return whyNotAtAll(op); });
}

/// Empty where a kernel of the structure can do the op, else why not.
static std::string whyNot(Operation *op, Structure structure) {
  if (structure == Structure::Simt)
    return {};
  std::string reason = whyNotCooperative(op);
  if (!reason.empty() || structure == Structure::Cooperative)
    return reason;
  auto matmul = dyn_cast<GroupedMatmulOp>(op);
  return matmul ? whyNotResident(matmul) : "it contracts over rows";
}

/// A limit for workspace and for row numbers of 32 bits.
constexpr int64_t kMostParts = 4096;

static KernelFacts factsOfProduct(Operation *op) {
  return TypeSwitch<Operation *, KernelFacts>(op)
      .Case<GroupedMatmulOp, GroupedOuterOp>(
          [](auto op) { return factsOf(op); });
}

/// Rows of a structure's tile, and the ring of its operand tiles.
static int64_t tileRows(Structure structure) {
  return structure == Structure::Resident ? kResidentRows : nvtile::kBlockRows;
}

/// Bytes of shared memory of a kernel.
static int64_t sharedBytes(VariantAttr variant) {
  MLIRContext *context = variant.getContext();
  int64_t rows = variant.getTileRows(), columns = variant.getTileColumns();
  auto ring = [&](int64_t stages, ArrayRef<int64_t> tiles) {
    return nvtile::RingType::get(context, stages, tiles).getBytes();
  };
  int64_t bytes = variant.getStructure() == Structure::Resident
                      ? llvm::alignTo(ring(variant.getStages(), rows), 1024) +
                            ring(kResidentSteps, columns)
                      : ring(variant.getStages(), {rows, columns});
  if (int64_t buffers = variant.getBuffers())
    bytes = llvm::alignTo(bytes, 1024) +
            nvtile::StagingType::get(context, buffers).getBytes();
  return bytes;
}

//===----------------------------------------------------------------------===//
// Choosing
//===----------------------------------------------------------------------===//

/// Into how many parts a weight gradient's experts with many rows are split: so
/// that all parts are four items for each of 128 multiprocessors, and none has
/// less than a mean expert's rows. Where all tiles fill at most half of the
/// multiprocessors, each expert may be split, and the parts are two items.
static int64_t chooseParts(GroupedOuterOp op) {
  constexpr int64_t kProcessors = 128;
  ArrayRef<int64_t> shape = memrefOf(op.getOuts()[0]).getShape();
  int64_t experts = shape[0];
  int64_t tiles = llvm::divideCeil(shape[1], nvtile::kBlockRows) *
                  llvm::divideCeil(shape[2], kTileColumns);
  int64_t parts = experts * tiles <= kProcessors / 2
                      ? 2 * kProcessors / tiles
                      : std::min(4 * kProcessors / tiles, experts);
  return std::max<int64_t>(parts, 1);
}

/// The variant with the numbers that it leaves open.
static VariantAttr complete(Operation *op, VariantAttr variant) {
  if (variant.getStructure() == Structure::Simt)
    return variant;
  int64_t rows = variant.getTileRows(), columns = variant.getTileColumns();
  if (!variant.hasTile()) {
    rows = tileRows(variant.getStructure());
    columns = kTileColumns;
  }
  // A deeper ring is worth more than staging: see Measured in docs/NVTile.md.
  int64_t stages = variant.getStages();
  if (!stages)
    stages = variant.getStructure() == Structure::Resident ? 8 : 4;
  int64_t buffers = variant.getBuffers(), stores = factsOfProduct(op).stores;
  if (!buffers && stores)
    buffers = stores % 2 ? 1 : 2;
  int64_t parts = variant.getParts();
  if (auto outer = dyn_cast<GroupedOuterOp>(op); outer && !parts)
    parts = chooseParts(outer);
  return VariantAttr::get(variant.getContext(), variant.getStructure(), rows,
                          columns, stages, buffers, parts, variant.getReason(),
                          variant.getGuard(), variant.getAtLeast());
}

/// Whether weights that stay in shared memory pay: from four steps of the
/// contraction on (Measured in docs/NVTile.md). With rows among the region's
/// operands, or several results, such a kernel may spill.
static bool isFasterResident(Operation *op) {
  auto matmul = dyn_cast<GroupedMatmulOp>(op);
  return matmul && whyNotResident(matmul).empty() &&
         matmul.getOuts().size() == 1 &&
         llvm::none_of(
             matmul.getInPorts().getAsRange<PortAttr>(),
             [](PortAttr in) { return in.getKind() == PortKind::Rows; }) &&
         memrefOf(matmul.getLhs()[0]).getDimSize(1) >
             (kResidentSteps - 1) * nvtile::kDepth;
}

static VariantAttr choose(Operation *op, StringRef arch) {
  std::string reason =
      multipliesHalves(op) && arch != "sm_90a"
          ? (arch + " has no kernels for it yet, sm_90a has").str()
          : whyNotCooperative(op);
  if (reason.empty())
    return VariantAttr::get(op->getContext(), isFasterResident(op)
                                                  ? Structure::Resident
                                                  : Structure::Cooperative);
  op->emitRemark() << "no kernel for the matrix unit: " << reason;
  return VariantAttr::get(op->getContext(), Structure::Simt, reason);
}

//===----------------------------------------------------------------------===//
// Verifying
//===----------------------------------------------------------------------===//

static InFlightDiagnostic refuse(Operation *op, VariantAttr variant) {
  return op->emitOpError() << "cannot be '" << variant << "': ";
}

/// Refuses a structure that cannot do the op.
static LogicalResult verifyFits(Operation *op, VariantAttr variant) {
  std::string reason = whyNot(op, variant.getStructure());
  if (reason.empty())
    return success();
  Structure other =
      whyNotCooperative(op).empty() ? Structure::Cooperative : Structure::Simt;
  return refuse(op, variant)
         << reason << "; " << stringifyStructure(other) << " can do it";
}

LogicalResult mlir::moe::verifyVariant(Operation *op, VariantAttr variant) {
  if (failed(verifyFits(op, variant)))
    return failure();
  if (variant.getStructure() == Structure::Simt)
    return success();
  auto [stores, leastStages] = factsOfProduct(op);
  bool contractsRows = isa<GroupedOuterOp>(op);
  if (variant.getParts() && !contractsRows)
    return refuse(op, variant) << "only a weight gradient has parts";
  if (variant.getParts() > kMostParts)
    return refuse(op, variant) << "it has at most " << kMostParts << " parts";
  if (!variant.hasTile() || !variant.getStages() ||
      (stores && !variant.getBuffers()) ||
      (contractsRows && !variant.getParts()))
    return refuse(op, variant)
           << "numbers are open, which moe-select-config chooses";
  int64_t rows = tileRows(variant.getStructure());
  if (variant.getTileRows() != rows || variant.getTileColumns() != kTileColumns)
    return refuse(op, variant) << "its tile is " << rows << "x" << kTileColumns;
  if (variant.getStages() < leastStages)
    return refuse(op, variant)
           << "it needs at least " << leastStages << " stages";
  if (!stores && variant.getBuffers())
    return refuse(op, variant) << "its results pass through no buffers";
  if (stores && stores % variant.getBuffers())
    return refuse(op, variant)
           << "buffers have to divide the " << stores << " stores of a tile";
  if (int64_t bytes = sharedBytes(variant); bytes > nvtile::kSharedMemoryLimit)
    return refuse(op, variant)
           << "it needs " << bytes << " bytes of shared memory, a block has "
           << nvtile::kSharedMemoryLimit << "; fewer stages or buffers";
  return success();
}

namespace {
struct MoeSelectConfig
    : public mlir::moe::impl::MoeSelectConfigBase<MoeSelectConfig> {
  using MoeSelectConfigBase::MoeSelectConfigBase;

  void runOnOperation() override {
    WalkResult result = getOperation().walk([&](Operation *op) {
      return isa<GroupedMatmulOp, GroupedOuterOp>(op) && failed(select(op))
                 ? WalkResult::interrupt()
                 : WalkResult::advance();
    });
    if (result.wasInterrupted())
      signalPassFailure();
  }

private:
  LogicalResult select(Operation *op) {
    auto given = op->getAttrOfType<ConfigAttr>(kConfigAttr);
    SmallVector<VariantAttr> variants;
    if (given)
      llvm::append_range(variants, given.getVariants());
    else
      variants.push_back(choose(op, arch));
    for (VariantAttr &variant : variants) {
      if (given && variant.getStructure() != Structure::Simt &&
          arch != "sm_90a")
        return refuse(op, variant)
               << arch << " has simt alone, sm_90a has more";
      if (failed(verifyFits(op, variant)))
        return failure();
      variant = complete(op, variant);
      if (failed(verifyVariant(op, variant)))
        return failure();
    }
    op->setAttr(kConfigAttr, ConfigAttr::get(op->getContext(), variants));
    return success();
  }
};
} // namespace
