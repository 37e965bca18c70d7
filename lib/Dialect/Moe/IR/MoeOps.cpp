// SPDX-License-Identifier: Apache-2.0
// Level 1: verifiers and result shapes. The constraints are numbered in
// MoeOps.td.
#include "MoeVerify.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Routing
//===----------------------------------------------------------------------===//

template <typename RouteOp>
LogicalResult mlir::moe::verifyRouteAttributes(RouteOp op, int64_t experts,
                                               int64_t k) {
  int64_t groups = op.getGroups(), chosen = op.getTopkGroups();
  int64_t top = op.getGroupTop();
  if (k < 1 || k > experts)
    return op.emitOpError()
           << "wants 1 <= K <= E, got K = " << k << " and E = " << experts;
  if (groups < 1 || experts % groups)
    return op.emitOpError()
           << "wants groups to divide E = " << experts << ", got " << groups;
  if (chosen < 1 || chosen > groups)
    return op.emitOpError() << "wants 1 <= topk_groups <= groups = " << groups
                            << ", got " << chosen;
  if (top < 1 || top > experts / groups)
    return op.emitOpError()
           << "wants 1 <= group_top <= E / groups = " << experts / groups
           << ", got " << top;
  if (k > chosen * (experts / groups))
    return op.emitOpError() << "wants K <= topk_groups * E / groups = "
                            << chosen * (experts / groups) << ", got K = " << k;
  double eps = op.getEps().convertToDouble();
  double scale = op.getScale().convertToDouble();
  if (!(eps >= 0))
    return op.emitOpError() << "wants eps >= 0, got " << eps;
  if (!std::isfinite(scale))
    return op.emitOpError() << "wants a finite scale, got " << scale;
  if (op.getCapacity() && *op.getCapacity() < 1)
    return op.emitOpError() << "wants capacity >= 1, got " << *op.getCapacity();
  if (op.getNormalize() && op.getScore() == Score::Identity)
    return op.emitOpError()
           << "wants a score other than identity with normalize: the sum of "
              "logits may be zero or negative";
  return success();
}

template LogicalResult mlir::moe::verifyRouteAttributes(RouteOp, int64_t,
                                                        int64_t);
template LogicalResult mlir::moe::verifyRouteAttributes(RouteRowsOp, int64_t,
                                                        int64_t);

/// (rows, columns) of a rank-2 tensor with static columns.
static LogicalResult verifyTable(Operation *op, StringRef what, Type type) {
  auto shaped = cast<ShapedType>(type);
  if (shaped.getRank() == 2 && !ShapedType::isDynamic(shaped.getDimSize(1)))
    return success();
  return op->emitOpError() << "wants " << what
                           << " to have rank 2 and a static number of "
                              "columns, got "
                           << type;
}

LogicalResult RouteOp::verify() {
  auto logits = cast<ShapedType>(getLogits().getType());
  auto gates = cast<ShapedType>(getGates().getType());
  if (failed(verifyTable(*this, "logits", logits)) ||
      failed(verifyTable(*this, "gates", gates)))
    return failure();
  int64_t tokens = logits.getDimSize(0), experts = logits.getDimSize(1);
  int64_t k = gates.getDimSize(1);
  if (failed(verifyRouteAttributes(*this, experts, k)) ||
      failed(verifyShape(*this, "gates", gates, {tokens, k})) ||
      failed(verifyShape(*this, "ids", getIds().getType(), {tokens, k})))
    return failure();
  if (getBias() &&
      failed(verifyShape(*this, "bias", getBias().getType(), {experts})))
    return failure();
  if (getMask() &&
      failed(verifyShape(*this, "mask", getMask().getType(), {tokens})))
    return failure();
  if (getGivenIds()) {
    if (failed(verifyShape(*this, "given ids", getGivenIds().getType(),
                           {tokens, k})))
      return failure();
    if (getElementTypeOrSelf(getGivenIds()) != getElementTypeOrSelf(getIds()))
      return emitOpError() << "wants given ids of the type of ids, got "
                           << getGivenIds().getType() << " and "
                           << getIds().getType();
  }
  if (getScores() && failed(verifyShape(*this, "scores", getScores().getType(),
                                        {tokens, experts})))
    return failure();
  if (getLogsumexp() && failed(verifyShape(*this, "logsumexp",
                                           getLogsumexp().getType(), {tokens})))
    return failure();
  return success();
}

LogicalResult RouteGradOp::verify() {
  auto logits = cast<ShapedType>(getLogits().getType());
  auto gates = cast<ShapedType>(getDGates().getType());
  if (failed(verifyTable(*this, "logits", logits)) ||
      failed(verifyTable(*this, "d_gates", gates)))
    return failure();
  int64_t tokens = logits.getDimSize(0), experts = logits.getDimSize(1);
  int64_t k = gates.getDimSize(1);
  if (k < 1 || k > experts)
    return emitOpError() << "wants 1 <= K <= E, got K = " << k
                         << " and E = " << experts;
  if (failed(verifyShape(*this, "d_gates", gates, {tokens, k})) ||
      failed(verifyShape(*this, "ids", getIds().getType(), {tokens, k})) ||
      failed(verifyShape(*this, "d_logits", getDLogits().getType(),
                         {tokens, experts})))
    return failure();
  if (getDScores() &&
      failed(verifyShape(*this, "d_scores", getDScores().getType(),
                         {tokens, experts})))
    return failure();
  if (getDLogsumexp() &&
      failed(verifyShape(*this, "d_logsumexp", getDLogsumexp().getType(),
                         {tokens})))
    return failure();
  return success();
}

//===----------------------------------------------------------------------===//
// Assignment
//===----------------------------------------------------------------------===//

LogicalResult AssignOp::verify() {
  if (!getList().empty())
    return emitOpError() << "the list form is not built yet; give ids (T, K), "
                            "or counts (E) with rows grouped already";
  if (bool(getIds()) == bool(getCounts()))
    return emitOpError() << "wants exactly one of ids and counts";
  AssignmentType type = getAssignmentType(getAssignment());
  if (getIds()) {
    if (getRows() || getCapacity())
      return emitOpError()
             << "rows and capacity go with counts, not with ids; moe.route "
                "has a capacity that drops slots";
    return verifyShape(*this, "ids", getIds().getType(),
                       {type.getTokens(), type.getK()});
  }
  if (!getRows())
    return emitOpError() << "wants rows, the number of rows, with counts";
  if (type.getK() != 1)
    return emitOpError() << "wants K = 1 with counts: each row is a token of "
                            "its own, got K = "
                         << type.getK();
  if (getCapacity()) {
    int64_t capacity = *getCapacity();
    if (capacity < 1)
      return emitOpError() << "wants capacity >= 1, got " << capacity;
    if (type.hasStaticTokens() &&
        capacity * type.getExperts() != type.getTokens())
      return emitOpError() << "wants E * capacity = "
                           << capacity * type.getExperts() << " rows, got "
                           << type.getTokens();
  }
  return verifyShape(*this, "counts", getCounts().getType(),
                     {type.getExperts()});
}

static LogicalResult verifyTables(Operation *op, AssignmentType type,
                                  TypeRange tables) {
  static constexpr StringRef names[] = {"order", "position", "begin", "end"};
  for (unsigned i = 0; i < 4; ++i) {
    int64_t size = i < 2 ? type.getSlots() : type.getExperts();
    if (isa<MemRefType>(tables[i]) != isa<MemRefType>(tables[0]))
      return op->emitOpError() << "wants four tensors or four memrefs, got "
                               << tables[0] << " and " << tables[i];
    if (failed(verifyShape(op, names[i], tables[i], {size})))
      return failure();
  }
  return success();
}

LogicalResult PackAssignmentOp::verify() {
  return verifyTables(*this, getAssignmentType(getAssignment()),
                      getOperandTypes());
}

LogicalResult UnpackAssignmentOp::verify() {
  return verifyTables(*this, getAssignmentType(getAssignment()),
                      getResultTypes());
}

LogicalResult UnpackAssignmentOp::fold(FoldAdaptor,
                                       SmallVectorImpl<OpFoldResult> &results) {
  auto pack = getAssignment().getDefiningOp<PackAssignmentOp>();
  if (!pack || pack.getOperandTypes() != getResultTypes())
    return failure();
  llvm::append_range(results, pack.getOperands());
  return success();
}

//===----------------------------------------------------------------------===//
// Moving rows
//===----------------------------------------------------------------------===//

/// Rows (rank 2, equal widths) or scalars, told apart by `scalars`.
static LogicalResult verifyMove(Operation *op, bool scalars, Type operand,
                                RowOrder from, Type result, RowOrder to,
                                AssignmentType assignment) {
  auto in = cast<ShapedType>(operand), out = cast<ShapedType>(result);
  if (in.getElementType() != out.getElementType())
    return op->emitOpError() << "wants operand and result of one element "
                                "type, got "
                             << operand << " and " << result;
  if (scalars) {
    if (failed(verifyRowScalars(op, "the operand", operand, from, assignment)))
      return failure();
    return verifyRowScalars(op, "the result", result, to, assignment);
  }
  if (failed(verifyRows(op, "the operand", operand, from, assignment)) ||
      failed(verifyRows(op, "the result", result, to, assignment)))
    return failure();
  if (in.getDimSize(1) != out.getDimSize(1))
    return op->emitOpError() << "wants operand and result of one width, got "
                             << operand << " and " << result;
  return success();
}

static bool hasRank1(Value value) {
  return cast<ShapedType>(value.getType()).getRank() == 1;
}

LogicalResult GroupOp::verify() {
  if (getFrom() == RowOrder::Grouped)
    return emitOpError() << "wants rows from token or slot order; grouped rows "
                            "are grouped already";
  return verifyMove(*this, hasRank1(getResult()), getRows().getType(),
                    getFrom(), getResult().getType(), RowOrder::Grouped,
                    getAssignmentType(getAssignment()));
}

LogicalResult ScatterOp::verify() {
  return verifyMove(*this, hasRank1(getRows()), getRows().getType(),
                    RowOrder::Grouped, getResult().getType(), RowOrder::Slot,
                    getAssignmentType(getAssignment()));
}

LogicalResult CombineOp::verify() {
  if (getFrom() == RowOrder::Token)
    return emitOpError() << "wants rows from slot or grouped order; token rows "
                            "are combined already";
  bool scalars = hasRank1(getResult());
  AssignmentType assignment = getAssignmentType(getAssignment());
  if (getGates()) {
    if (scalars)
      return emitOpError() << "takes gates with rows, not with scalars";
    if (failed(verifyRowScalars(*this, "gates", getGates().getType(),
                                RowOrder::Slot, assignment)))
      return failure();
  }
  return verifyMove(*this, scalars, getRows().getType(), getFrom(),
                    getResult().getType(), RowOrder::Token, assignment);
}

//===----------------------------------------------------------------------===//
// Math by expert
//===----------------------------------------------------------------------===//

static int64_t columnsOf(Value rows) {
  return cast<ShapedType>(rows.getType()).getDimSize(1);
}

static LogicalResult verifyOneElementType(Operation *op, StringRef what,
                                          Value a, Value b) {
  if (getElementTypeOrSelf(a) == getElementTypeOrSelf(b))
    return success();
  return op->emitOpError() << "wants " << what << " of one element type, got "
                           << a.getType() << " and " << b.getType()
                           << "; cast one of them";
}

static LogicalResult verifyNoMixedF64(Operation *op) {
  SmallVector<Type> types(op->getOperandTypes());
  llvm::append_range(types, op->getResultTypes());
  if (failed(getComputeType(types, op->getContext())))
    return op->emitOpError()
           << "mixes f64 with narrower floats; make all f64, or none";
  return success();
}

LogicalResult ParallelLinearOp::verify() {
  AssignmentType assignment = getAssignmentType(getAssignment());
  if (getTo() == RowOrder::Token)
    return emitOpError() << "wants its result in slot or grouped order; "
                            "moe.combine makes token rows";
  if (failed(verifyRows(*this, "lhs", getLhs().getType(), getFrom(),
                        assignment)) ||
      failed(verifyRows(*this, "the result", getResult().getType(), getTo(),
                        assignment)))
    return failure();
  int64_t in = columnsOf(getLhs()), out = columnsOf(getResult());
  if (failed(verifyWeights(*this, "weights", getWeights().getType(),
                           getLayout(), assignment.getExperts(), in, out)))
    return failure();
  if (getBias() && failed(verifyShape(*this, "bias", getBias().getType(),
                                      {assignment.getExperts(), out})))
    return failure();
  if (failed(verifyOneElementType(*this, "lhs and weights", getLhs(),
                                  getWeights())))
    return failure();
  return verifyNoMixedF64(*this);
}

LogicalResult WeightGradOp::verify() {
  AssignmentType assignment = getAssignmentType(getAssignment());
  if (failed(
          verifyRows(*this, "x", getX().getType(), getXFrom(), assignment)) ||
      failed(verifyRows(*this, "dy", getDy().getType(), getDyFrom(),
                        assignment)) ||
      failed(verifyOneElementType(*this, "x and dy", getX(), getDy())) ||
      failed(verifyWeights(*this, "the result", getResult().getType(),
                           getLayout(), assignment.getExperts(),
                           columnsOf(getX()), columnsOf(getDy()))))
    return failure();
  if (getBuffer() && getBuffer().getType() != getResult().getType())
    return emitOpError() << "wants the accumulated buffer to be "
                         << getResult().getType() << ", got "
                         << getBuffer().getType();
  return verifyNoMixedF64(*this);
}

LogicalResult ExpertSumOp::verify() {
  AssignmentType assignment = getAssignmentType(getAssignment());
  if (failed(verifyRows(*this, "the operand", getRows().getType(), getFrom(),
                        assignment)) ||
      failed(
          verifyStaticShape(*this, "the result", getResult().getType(),
                            {assignment.getExperts(), columnsOf(getRows())})))
    return failure();
  return verifyNoMixedF64(*this);
}

LogicalResult RowwiseOp::verify() {
  for (auto [index, attr] : llvm::enumerate(getInPorts()))
    if (PortKind kind = cast<PortAttr>(attr).getKind();
        kind == PortKind::Sum || kind == PortKind::Partials)
      return emitOpError() << "operand #" << index << " cannot be a "
                           << stringifyPortKind(kind)
                           << "; operands are rows, scalar or expert";
  for (auto [index, attr] : llvm::enumerate(getOutPorts()))
    if (PortKind kind = cast<PortAttr>(attr).getKind();
        kind != PortKind::Rows && kind != PortKind::Sum)
      return emitOpError() << "result #" << index << " cannot be a "
                           << stringifyPortKind(kind)
                           << "; results are rows or sum";
  RowOrder order = getOrder();
  for (Attribute attr : llvm::concat<const Attribute>(
           getInPorts().getValue(), getOutPorts().getValue())) {
    auto port = cast<PortAttr>(attr);
    if (port.getKind() != PortKind::Expert && port.getOrder() != order)
      return emitOpError() << "wants every row in " << stringifyRowOrder(order)
                           << " order, got the port " << port;
  }
  if (order == RowOrder::Token && getAssignment())
    return emitOpError() << "takes no assignment in token order";
  if (order == RowOrder::Grouped && !getAssignment())
    return emitOpError() << "wants an assignment in grouped order";
  AssignmentType assignment =
      getAssignment() ? getAssignmentType(getAssignment()) : AssignmentType();
  int64_t width = widthOf(getIns().getTypes(), getInPorts());
  if (ShapedType::isDynamic(width))
    width = widthOf(getResultTypes(), getOutPorts());
  if (ShapedType::isDynamic(width))
    return emitOpError() << "wants an operand or result with columns";
  if (failed(verifyPorts(*this, "operand", getIns().getTypes(), getInPorts(),
                         assignment, width)))
    return failure();
  return verifyPorts(*this, "result", getResultTypes(), getOutPorts(),
                     assignment, width);
}

LogicalResult RowwiseOp::verifyRegions() {
  return verifyRowwiseRegion(*this, getBody(), 0, getInPorts(), getOutPorts());
}

int64_t RowwiseOp::getWidth() {
  int64_t width = widthOf(getIns().getTypes(), getInPorts());
  return ShapedType::isDynamic(width) ? widthOf(getResultTypes(), getOutPorts())
                                      : width;
}
unsigned RowwiseOp::firstArgument(unsigned i) {
  return valuesBefore(getInPorts(), i);
}
unsigned RowwiseOp::firstYield(unsigned i) {
  return valuesBefore(getOutPorts(), i);
}

//===----------------------------------------------------------------------===//
// Result shapes
//===----------------------------------------------------------------------===//

/// Rows of a tensor in a known order, whose number says how many a result has.
static RowCount rowsLike(Value source, bool fromScalars, RowOrder from,
                         bool toScalars, RowOrder to, int64_t k) {
  // (T, K) scalars count tokens in their first dimension.
  bool inTokens =
      from == RowOrder::Token || (fromScalars && from == RowOrder::Slot);
  bool outTokens = to == RowOrder::Token || (toScalars && to == RowOrder::Slot);
  if (inTokens == outTokens)
    return {source, 1, 1};
  return inTokens ? RowCount{source, k, 1} : RowCount{source, 1, k};
}

std::optional<RowCount> mlir::moe::getRowCount(OpResult result) {
  using Count = std::optional<RowCount>;
  auto k = [](Value assignment) {
    return getAssignmentType(assignment).getK();
  };
  return llvm::TypeSwitch<Operation *, Count>(result.getOwner())
      .Case([](RouteOp op) { return RowCount{op.getLogits(), 1, 1}; })
      .Case([](RouteGradOp op) { return RowCount{op.getLogits(), 1, 1}; })
      .Case([&](GroupOp op) {
        bool scalars = hasRank1(op.getResult());
        return rowsLike(op.getRows(), scalars, op.getFrom(), scalars,
                        RowOrder::Grouped, k(op.getAssignment()));
      })
      .Case([&](ScatterOp op) {
        bool scalars = hasRank1(op.getRows());
        return rowsLike(op.getRows(), scalars, RowOrder::Grouped, scalars,
                        RowOrder::Slot, k(op.getAssignment()));
      })
      .Case([&](CombineOp op) {
        bool scalars = hasRank1(op.getResult());
        return rowsLike(op.getRows(), scalars, op.getFrom(), scalars,
                        RowOrder::Token, k(op.getAssignment()));
      })
      .Case([&](ParallelLinearOp op) {
        return rowsLike(op.getLhs(), false, op.getFrom(), false, op.getTo(),
                        k(op.getAssignment()));
      })
      .Case([&](RowwiseOp op) -> Count {
        bool sum =
            op.outPort(result.getResultNumber()).getKind() == PortKind::Sum;
        for (auto [i, operand] : llvm::enumerate(op.getIns())) {
          PortKind kind = op.inPort(i).getKind();
          if (kind == PortKind::Expert)
            continue;
          bool scalar = kind == PortKind::Scalar;
          if (op.getAssignment())
            return rowsLike(operand, scalar, op.getOrder(), sum, op.getOrder(),
                            k(op.getAssignment()));
          // Without an assignment K is not known here.
          if (op.getOrder() != RowOrder::Slot || scalar == sum)
            return RowCount{operand, 1, 1};
        }
        return std::nullopt;
      })
      .Default([](Operation *) { return Count(); });
}

LogicalResult mlir::moe::reifyRowCounts(Operation *op, OpBuilder &b,
                                        ReifiedRankedShapedTypeDims &shapes) {
  Location loc = op->getLoc();
  for (OpResult result : op->getResults()) {
    SmallVector<OpFoldResult> shape;
    for (int64_t size : cast<ShapedType>(result.getType()).getShape()) {
      if (!ShapedType::isDynamic(size)) {
        shape.push_back(b.getIndexAttr(size));
        continue;
      }
      std::optional<RowCount> count = getRowCount(result);
      if (!count)
        return failure();
      OpFoldResult rows = tensor::getMixedSize(b, loc, count->source, 0);
      if (auto known = getConstantIntValue(rows)) {
        rows = b.getIndexAttr(*known * count->times / count->over);
      } else if (count->times != 1 || count->over != 1) {
        Value value = getValueOrCreateConstantIndexOp(b, loc, rows);
        Value factor = arith::ConstantIndexOp::create(
            b, loc, std::max(count->times, count->over));
        rows = count->times != 1
                   ? arith::MulIOp::create(b, loc, value, factor).getResult()
                   : arith::DivUIOp::create(b, loc, value, factor).getResult();
      }
      shape.push_back(rows);
    }
    shapes.push_back(std::move(shape));
  }
  return success();
}
