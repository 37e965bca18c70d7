// SPDX-License-Identifier: Apache-2.0
// Level 2: verifiers, memory effects and result shapes. The constraints are
// numbered in MoeKernelOps.td.
#include "MoeVerify.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Shared by every kernel
//===----------------------------------------------------------------------===//

/// On memrefs: reads every input (and the tables behind an assignment), writes
/// every out. A kernel reads its outs only where it accumulates.
static void
kernelEffects(DestinationStyleOpInterface op, bool accumulates,
              SmallVectorImpl<MemoryEffects::EffectInstance> &effects) {
  if (op.hasPureTensorSemantics())
    return;
  for (OpOperand &operand : op->getOpOperands()) {
    bool out = op.isDpsInit(&operand);
    if (isa<AssignmentType>(operand.get().getType()))
      effects.emplace_back(MemoryEffects::Read::get());
    if (!isa<MemRefType>(operand.get().getType()))
      continue;
    if (!out || accumulates)
      effects.emplace_back(MemoryEffects::Read::get(), &operand,
                           SideEffects::DefaultResource::get());
    if (out)
      effects.emplace_back(MemoryEffects::Write::get(), &operand,
                           SideEffects::DefaultResource::get());
  }
}

static LogicalResult reifyFromOuts(DestinationStyleOpInterface op, OpBuilder &b,
                                   ReifiedRankedShapedTypeDims &shapes) {
  for (OpOperand &init : op.getDpsInitsMutable())
    if (isa<TensorType>(init.get().getType()))
      shapes.push_back(tensor::getMixedSizes(b, op.getLoc(), init.get()));
  return success();
}

#define MOE_KERNEL(OP, ACCUMULATES)                                            \
  void OP::getEffects(                                                         \
      SmallVectorImpl<MemoryEffects::EffectInstance> &effects) {               \
    kernelEffects(*this, ACCUMULATES, effects);                                \
  }                                                                            \
  LogicalResult OP::reifyResultShapes(OpBuilder &b,                            \
                                      ReifiedRankedShapedTypeDims &shapes) {   \
    return reifyFromOuts(*this, b, shapes);                                    \
  }
MOE_KERNEL(SortSlotsOp, false)
MOE_KERNEL(RouteRowsOp, false)
MOE_KERNEL(RouteGradRowsOp, false)
MOE_KERNEL(GroupedMatmulOp, false)
MOE_KERNEL(GroupedOuterOp, getAccumulate())
MOE_KERNEL(MapRowsOp, false)
MOE_KERNEL(CombineRowsOp, false)
MOE_KERNEL(ReduceExpertsOp, getAccumulate())
MOE_KERNEL(FoldPartialsOp, false)
#undef MOE_KERNEL

#define MOE_REGION_KERNEL(OP, LEADING)                                         \
  LogicalResult OP::verifyRegions() {                                          \
    return verifyRowwiseRegion(*this, getBody(), LEADING, getInPorts(),        \
                               regionOutPorts(*this));                         \
  }                                                                            \
  unsigned OP::firstArgument(unsigned i) {                                     \
    return LEADING + valuesBefore(getInPorts(), i);                            \
  }                                                                            \
  unsigned OP::firstYield(unsigned i) { return valuesBefore(getOutPorts(), i); }

/// The out ports that the region yields values for: all but folded scalars.
template <typename Op> static ArrayAttr regionOutPorts(Op op) {
  return op.getOutPorts();
}
static ArrayAttr regionOutPorts(CombineRowsOp op) {
  ArrayRef<Attribute> ports = op.getOutPorts().getValue();
  size_t folds = std::min(op.getFolds().size(), ports.size());
  return ArrayAttr::get(op.getContext(), ports.drop_back(folds));
}

MOE_REGION_KERNEL(GroupedMatmulOp, getColumns().getCount())
MOE_REGION_KERNEL(MapRowsOp, 0)
MOE_REGION_KERNEL(CombineRowsOp, 0)
MOE_REGION_KERNEL(ReduceExpertsOp, 0)
#undef MOE_REGION_KERNEL

static LogicalResult verifyOuts(Operation *op, ValueRange outs,
                                unsigned wanted) {
  if (outs.size() == wanted)
    return success();
  return op->emitOpError() << "wants " << wanted << " outs, got "
                           << outs.size();
}

static LogicalResult verifyInPortKinds(Operation *op, ArrayAttr ports) {
  for (auto [index, attr] : llvm::enumerate(ports))
    if (cast<PortAttr>(attr).getKind() == PortKind::Sum)
      return op->emitOpError()
             << "operand #" << index
             << " cannot be a sum; a row sum that is read is a scalar, or "
                "partials";
  return success();
}

/// Ports of ins and outs with one N, which `width` may know already.
static LogicalResult verifyKernelPorts(Operation *op, AssignmentType assignment,
                                       ValueRange ins, ArrayAttr inPorts,
                                       ValueRange outs, ArrayAttr outPorts,
                                       int64_t width) {
  // Partials alone do not say N.
  if (ShapedType::isDynamic(width) && ins.size() == inPorts.size())
    width = widthOf(ins.getTypes(), inPorts);
  if (ShapedType::isDynamic(width) && outs.size() == outPorts.size())
    width = widthOf(outs.getTypes(), outPorts);
  if (failed(verifyInPortKinds(op, inPorts)) ||
      failed(verifyPorts(op, "operand", ins.getTypes(), inPorts, assignment,
                         width)))
    return failure();
  return verifyPorts(op, "out", outs.getTypes(), outPorts, assignment, width);
}

static int64_t kernelWidth(ValueRange ins, ArrayAttr inPorts, ValueRange outs,
                           ArrayAttr outPorts) {
  int64_t width = widthOf(ins.getTypes(), inPorts);
  if (ShapedType::isDynamic(width))
    width = widthOf(outs.getTypes(), outPorts);
  // Scalars alone: the region runs once a row.
  return ShapedType::isDynamic(width) ? 1 : width;
}

static ShapedType shaped(Value value) {
  return cast<ShapedType>(value.getType());
}

//===----------------------------------------------------------------------===//
// Routing and sorting
//===----------------------------------------------------------------------===//

LogicalResult SortSlotsOp::verify() {
  if (bool(getIds()) == bool(getCounts()))
    return emitOpError() << "wants exactly one of ids and counts";
  if (getIds() && getCapacity())
    return emitOpError() << "takes a capacity with counts, not with ids";
  if (failed(verifyOuts(*this, getOuts(), 4)))
    return failure();
  for (Value out : getOuts())
    if (!shaped(out).getElementType().isInteger(32) ||
        shaped(out).getRank() != 1)
      return emitOpError() << "wants outs of rank 1 and i32, got "
                           << out.getType();
  int64_t experts = shaped(getOuts()[2]).getDimSize(0);
  if (getCounts())
    return verifyShape(*this, "counts", getCounts().getType(), {experts});
  if (shaped(getIds()).getRank() != 2 ||
      ShapedType::isDynamic(shaped(getIds()).getDimSize(1)))
    return emitOpError() << "wants ids to be (T, K) with a static K, got "
                         << getIds().getType();
  return success();
}

LogicalResult RouteRowsOp::verify() {
  if (failed(verifyOuts(*this, getOuts(),
                        2 + getWithScores() + getWithLogsumexp())))
    return failure();
  ShapedType logits = shaped(getLogits()), gates = shaped(getOuts()[0]);
  if (logits.getRank() != 2 || logits.isDynamicDim(1) || gates.getRank() != 2 ||
      gates.isDynamicDim(1))
    return emitOpError() << "wants logits (T, E) and gates (T, K), got "
                         << logits << " and " << gates;
  int64_t tokens = logits.getDimSize(0), experts = logits.getDimSize(1);
  int64_t k = gates.getDimSize(1);
  if (failed(verifyRouteAttributes(*this, experts, k)) ||
      failed(verifyShape(*this, "gates", gates, {tokens, k})) ||
      failed(verifyShape(*this, "ids", getOuts()[1].getType(), {tokens, k})))
    return failure();
  if (getBias() &&
      failed(verifyShape(*this, "bias", getBias().getType(), {experts})))
    return failure();
  if (getMask() &&
      failed(verifyShape(*this, "mask", getMask().getType(), {tokens})))
    return failure();
  if (getGivenIds() &&
      failed(verifyShape(*this, "given ids", getGivenIds().getType(),
                         {tokens, k})))
    return failure();
  if (getWithScores() &&
      failed(verifyShape(*this, "scores", getOuts()[2].getType(),
                         {tokens, experts})))
    return failure();
  if (getWithLogsumexp() &&
      failed(verifyShape(*this, "logsumexp", getOuts().back().getType(),
                         {tokens})))
    return failure();
  return success();
}

LogicalResult RouteGradRowsOp::verify() {
  if (failed(verifyOuts(*this, getOuts(), 1)))
    return failure();
  ShapedType logits = shaped(getLogits()), gates = shaped(getDGates());
  if (logits.getRank() != 2 || logits.isDynamicDim(1) || gates.getRank() != 2 ||
      gates.isDynamicDim(1))
    return emitOpError() << "wants logits (T, E) and d_gates (T, K), got "
                         << logits << " and " << gates;
  int64_t tokens = logits.getDimSize(0);
  if (failed(verifyShape(*this, "ids", getIds().getType(), gates.getShape())) ||
      failed(verifyShape(*this, "d_logits", getOuts()[0].getType(),
                         logits.getShape())))
    return failure();
  if (getDScores() &&
      failed(verifyShape(*this, "d_scores", getDScores().getType(),
                         logits.getShape())))
    return failure();
  if (getDLogsumexp() &&
      failed(verifyShape(*this, "d_logsumexp", getDLogsumexp().getType(),
                         {tokens})))
    return failure();
  return success();
}

//===----------------------------------------------------------------------===//
// Matrix products
//===----------------------------------------------------------------------===//

LogicalResult GroupedMatmulOp::verify() {
  AssignmentType assignment = getAssignmentType(getAssignment());
  size_t pairs = getLhs().size();
  if (pairs < 1 || getRhs().size() != pairs || getLhsOrders().size() != pairs ||
      getRhsLayouts().size() != pairs)
    return emitOpError()
           << "wants at least one pair of lhs and rhs, each with a "
              "row order and a layout, got "
           << pairs << " and " << getRhs().size();
  int64_t out = ShapedType::kDynamic;
  for (size_t i = 0; i < pairs; ++i) {
    Value lhs = getLhs()[i], rhs = getRhs()[i];
    if (failed(
            verifyRows(*this, "lhs", lhs.getType(), lhsOrder(i), assignment)))
      return failure();
    if (shaped(rhs).getRank() != 3 || !shaped(rhs).hasStaticShape())
      return emitOpError() << "wants rhs to be (E, out, in) or (E, in, out), "
                              "static, got "
                           << rhs.getType();
    if (i == 0)
      out = shaped(rhs).getDimSize(rhsLayout(i) == WeightLayout::OutIn ? 1 : 2);
    if (failed(verifyWeights(*this, "rhs", rhs.getType(), rhsLayout(i),
                             assignment.getExperts(), shaped(lhs).getDimSize(1),
                             out)))
      return failure();
    if (shaped(lhs).getElementType() != shaped(rhs).getElementType())
      return emitOpError() << "wants lhs and rhs of one element type, got "
                           << lhs.getType() << " and " << rhs.getType();
  }
  int64_t count = getColumns().getCount();
  if ((getColumns().getLayout() == ColumnLayout::Single) != (count == 1) ||
      count < 1)
    return emitOpError() << "wants columns <single 1>, or c >= 2 of concat or "
                            "interleave, got "
                         << getColumns();
  if (out % count)
    return emitOpError() << "wants the " << out
                         << " accumulator columns to be a multiple of "
                         << count;
  for (auto [index, attr] : llvm::enumerate(getOutPorts())) {
    auto port = cast<PortAttr>(attr);
    if (port.getOrder() == RowOrder::Token ||
        port.getKind() == PortKind::Expert ||
        port.getKind() == PortKind::Scalar)
      return emitOpError() << "out #" << index << " cannot be " << port
                           << "; outs are rows, sum or partials in slot or "
                              "grouped order";
  }
  return verifyKernelPorts(*this, assignment, getIns(), getInPorts(), getOuts(),
                           getOutPorts(), out / count);
}

int64_t GroupedMatmulOp::getWidth() {
  unsigned dim = rhsLayout(0) == WeightLayout::OutIn ? 1 : 2;
  return shaped(getRhs()[0]).getDimSize(dim) / getColumns().getCount();
}

LogicalResult GroupedOuterOp::verify() {
  AssignmentType assignment = getAssignmentType(getAssignment());
  if (failed(verifyOuts(*this, getOuts(), 1)) ||
      failed(
          verifyRows(*this, "x", getX().getType(), getXFrom(), assignment)) ||
      failed(verifyRows(*this, "dy", getDy().getType(), getDyFrom(),
                        assignment)) ||
      failed(verifyWeights(*this, "the out", getOuts()[0].getType(),
                           getLayout(), assignment.getExperts(),
                           shaped(getX()).getDimSize(1),
                           shaped(getDy()).getDimSize(1))))
    return failure();
  if (shaped(getX()).getElementType() != shaped(getDy()).getElementType())
    return emitOpError() << "wants x and dy of one element type, got "
                         << getX().getType() << " and " << getDy().getType();
  return success();
}

//===----------------------------------------------------------------------===//
// Rowwise kernels
//===----------------------------------------------------------------------===//

LogicalResult MapRowsOp::verify() {
  AssignmentType assignment =
      getAssignment() ? getAssignmentType(getAssignment()) : AssignmentType();
  if ((getOrder() == RowOrder::Token) == bool(assignment))
    return emitOpError() << (assignment ? "takes no assignment in token order"
                                        : "wants an assignment in slot and "
                                          "grouped order");
  for (auto [index, attr] : llvm::enumerate(getOutPorts())) {
    auto port = cast<PortAttr>(attr);
    if (port.getKind() == PortKind::Expert ||
        (assignment && port.getOrder() == RowOrder::Token))
      return emitOpError() << "out #" << index << " cannot be " << port
                           << "; outs are rows, scalar, sum or partials, and "
                              "only in token order of token rows";
  }
  bool columns = llvm::any_of(
      llvm::concat<const Attribute>(getInPorts().getValue(),
                                    getOutPorts().getValue()),
      [](Attribute attr) { return cast<PortAttr>(attr).hasColumns(); });
  for (auto [index, attr] : llvm::enumerate(getOutPorts())) {
    PortKind kind = cast<PortAttr>(attr).getKind();
    bool sums = kind == PortKind::Sum || kind == PortKind::Partials;
    if (columns ? kind == PortKind::Scalar : sums)
      return emitOpError() << "out #" << index << " cannot be a "
                           << stringifyPortKind(kind)
                           << (columns ? " beside ports with columns; sum over "
                                         "them with a sum port"
                                       : " without ports with columns");
  }
  if (!assignment)
    for (Attribute attr : llvm::concat<const Attribute>(
             getInPorts().getValue(), getOutPorts().getValue()))
      if (cast<PortAttr>(attr).getOrder() != RowOrder::Token)
        return emitOpError() << "wants every port in token order, got " << attr;
  return verifyKernelPorts(*this, assignment, getIns(), getInPorts(), getOuts(),
                           getOutPorts(), ShapedType::kDynamic);
}
int64_t MapRowsOp::getWidth() {
  return kernelWidth(getIns(), getInPorts(), getOuts(), getOutPorts());
}

LogicalResult CombineRowsOp::verify() {
  AssignmentType assignment = getAssignmentType(getAssignment());
  size_t folds = getFolds().size();
  if (getOutPorts().size() < folds)
    return emitOpError() << "wants an out for each of its " << folds
                         << " folds, got " << getOutPorts().size();
  size_t sums = getOutPorts().size() - folds;
  for (auto [index, attr] : llvm::enumerate(getOutPorts())) {
    auto port = cast<PortAttr>(attr);
    bool fold = index >= sums;
    if (fold ? port.getKind() != PortKind::Scalar ||
                   port.getOrder() != RowOrder::Slot
             : port.getKind() != PortKind::Rows ||
                   port.getOrder() != RowOrder::Token)
      return emitOpError() << "out #" << index << " cannot be " << port
                           << "; outs are rows in token order, then a slot "
                              "scalar for each fold";
  }
  if (!getAddends().empty()) {
    if (getAddends().size() != sums)
      return emitOpError() << "wants an addend for each of the " << sums
                           << " sums or none, got " << getAddends().size();
    for (auto [addend, out] : llvm::zip(getAddends(), getOuts()))
      if (failed(verifyShape(*this, "an addend", addend.getType(),
                             shaped(out).getShape())))
        return failure();
  }
  for (Value fold : getFolds())
    if (failed(verifyRows(*this, "partials to fold", fold.getType(),
                          RowOrder::Grouped, assignment)))
      return failure();
  return verifyKernelPorts(*this, assignment, getIns(), getInPorts(), getOuts(),
                           getOutPorts(), ShapedType::kDynamic);
}
int64_t CombineRowsOp::getWidth() {
  return kernelWidth(getIns(), getInPorts(), getOuts(), getOutPorts());
}

LogicalResult ReduceExpertsOp::verify() {
  for (auto [index, attr] : llvm::enumerate(getOutPorts()))
    if (cast<PortAttr>(attr).getKind() != PortKind::Expert)
      return emitOpError() << "out #" << index << " cannot be "
                           << cast<PortAttr>(attr) << "; outs are expert ports";
  return verifyKernelPorts(*this, getAssignmentType(getAssignment()), getIns(),
                           getInPorts(), getOuts(), getOutPorts(),
                           ShapedType::kDynamic);
}
int64_t ReduceExpertsOp::getWidth() {
  return kernelWidth(getIns(), getInPorts(), getOuts(), getOutPorts());
}

LogicalResult FoldPartialsOp::verify() {
  AssignmentType assignment = getAssignmentType(getAssignment());
  if (getTo() == RowOrder::Token)
    return emitOpError() << "folds to slot or grouped order, not to token";
  if (failed(verifyOuts(*this, getOuts(), 1)) ||
      failed(verifyRows(*this, "partials", getPartials().getType(),
                        RowOrder::Grouped, assignment)))
    return failure();
  return verifyRowScalars(*this, "the out", getOuts()[0].getType(), getTo(),
                          assignment);
}

bool mlir::moe::multipliesHalves(Operation *op) {
  auto isHalf = [](Value rows) {
    Type element = getElementTypeOrSelf(rows);
    return element.isBF16() || element.isF16();
  };
  if (auto matmul = dyn_cast<GroupedMatmulOp>(op))
    return llvm::all_of(matmul.getLhs(), isHalf);
  auto outer = dyn_cast<GroupedOuterOp>(op);
  return outer && isHalf(outer.getX());
}
