// SPDX-License-Identifier: Apache-2.0
// Vector-Jacobian products of the level-1 ops but for the gradient of a route.
#include "DifferentiateModels.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

/// The type of `like` with its rows in another order. `scalars`: one number a
/// row.
RankedTensorType inOrder(RankedTensorType like, RowOrder order, bool scalars,
                         AssignmentType assignment) {
  SmallVector<int64_t> shape;
  if (scalars && order == RowOrder::Slot)
    shape = {assignment.getTokens(), assignment.getK()};
  else
    shape = {getNumRows(order, assignment)};
  if (!scalars)
    shape.push_back(like.getDimSize(1));
  return RankedTensorType::get(shape, like.getElementType());
}

RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

/// Builds rows of an assignment.
struct Rows {
  OpBuilder &b;
  Location loc;
  Value assignment;

  AssignmentType type() const { return getAssignmentType(assignment); }

  Value group(Value rows, RowOrder from, bool scalars) {
    if (from == RowOrder::Grouped)
      return rows;
    return GroupOp::create(
        b, loc, inOrder(typeOf(rows), RowOrder::Grouped, scalars, type()), rows,
        assignment, from);
  }
  Value combine(Value rows, RowOrder from, Type result) {
    return CombineOp::create(b, loc, result, rows, assignment, Value(), from);
  }
  Value scatter(Value rows, Type result) {
    return ScatterOp::create(b, loc, result, rows, assignment);
  }
  /// Grouped rows in the order that they were read from: the transpose of a
  /// gather.
  Value ungroup(Value grouped, RowOrder order, Type result) {
    if (order == RowOrder::Grouped)
      return grouped;
    if (order == RowOrder::Slot)
      return scatter(grouped, result);
    return combine(grouped, RowOrder::Grouped, result);
  }

  /// A rowwise op with ports `ins` and one result.
  Value rowwise(RowOrder order, ValueRange ins, ArrayRef<PortKind> kinds,
                Type result, PortKind resultKind,
                function_ref<Value(OpBuilder &, ValueRange)> body) {
    SmallVector<Attribute> ports;
    for (PortKind kind : kinds)
      ports.push_back(PortAttr::get(b.getContext(), kind, order));
    SmallVector<Type> types(ins.getTypes());
    types.push_back(result);
    FloatType compute = *getComputeType(types, b.getContext());
    auto op = RowwiseOp::create(
        b, loc, TypeRange(result), order, assignment, ins,
        b.getArrayAttr(ports),
        b.getArrayAttr(PortAttr::get(b.getContext(), resultKind, order)));
    OpBuilder::InsertionGuard guard(b);
    Block *block = b.createBlock(&op.getBody());
    for (size_t i = 0; i < ins.size(); ++i)
      block->addArgument(compute, loc);
    YieldOp::create(b, loc, body(b, block->getArguments()));
    return op.getResult(0);
  }
};

/// parallel_linear to the row order of an operand whose gradient it is: token
/// rows are summed over their K slots.
Value buildLinear(Rows rows, Value lhs, RowOrder from, Value weights,
                  WeightLayout layout, RowOrder to, Type result) {
  Type element = getElementTypeOrSelf(weights);
  lhs = buildCast(rows.b, rows.loc, lhs, element);
  RowOrder direct = to == RowOrder::Token ? RowOrder::Grouped : to;
  Type type = to == direct ? result
                           : inOrder(cast<RankedTensorType>(result), direct,
                                     false, rows.type());
  Value product =
      ParallelLinearOp::create(rows.b, rows.loc, type, lhs, weights,
                               rows.assignment, Value(), from, direct, layout);
  return to == direct ? product : rows.combine(product, direct, result);
}

WeightLayout flip(WeightLayout layout) {
  return layout == WeightLayout::OutIn ? WeightLayout::InOut
                                       : WeightLayout::OutIn;
}

//===----------------------------------------------------------------------===//
// Moving rows
//===----------------------------------------------------------------------===//

struct GroupModel : DifferentiableModel<GroupModel, GroupOp> {
  static LogicalResult vjp(GroupOp op, VJP &vjp) {
    Rows rows{vjp.builder, op.getLoc(), op.getAssignment()};
    vjp.set(0, rows.ungroup(vjp.cotangent(0), op.getFrom(),
                            op.getRows().getType()));
    return success();
  }
};

struct ScatterModel : DifferentiableModel<ScatterModel, ScatterOp> {
  static LogicalResult vjp(ScatterOp op, VJP &vjp) {
    // From slot order; the slot form of a scalar has rank 2, of a row too.
    vjp.set(0, GroupOp::create(vjp.builder, op.getLoc(), op.getRows().getType(),
                               vjp.cotangent(0), op.getAssignment(),
                               RowOrder::Slot));
    return success();
  }
};

struct CombineModel : DifferentiableModel<CombineModel, CombineOp> {
  static LogicalResult vjp(CombineOp op, VJP &vjp) {
    Rows rows{vjp.builder, op.getLoc(), op.getAssignment()};
    bool scalars = cast<ShapedType>(op.getResult().getType()).getRank() == 1;
    Value spread = rows.group(vjp.cotangent(0), RowOrder::Token, scalars);
    auto product = [](OpBuilder &b, ValueRange v) -> Value {
      return arith::MulFOp::create(b, v[0].getLoc(), v[0], v[1]);
    };
    if (op.getGates()) {
      Value gates = op.getGates();
      if (vjp.wants(2)) {
        Value grouped = rows.group(op.getRows(), op.getFrom(), false);
        Type type =
            inOrder(typeOf(gates), RowOrder::Grouped, true, rows.type());
        SmallVector<Type> types{spread.getType(), grouped.getType(), type};
        if (failed(getComputeType(types, op.getContext())))
          return vjp.refuse(op, "it mixes f64 with narrower floats; "
                                "make all f64, or none");
        Value dot = rows.rowwise(RowOrder::Grouped, {spread, grouped},
                                 {PortKind::Rows, PortKind::Rows}, type,
                                 PortKind::Sum, product);
        vjp.set(2, rows.scatter(dot, gates.getType()));
      }
      if (!vjp.wants(0))
        return success();
      Value groupedGates = rows.group(gates, RowOrder::Slot, true);
      SmallVector<Type> types{spread.getType(), groupedGates.getType()};
      if (failed(getComputeType(types, op.getContext())))
        return vjp.refuse(op, "it mixes f64 with narrower floats; "
                              "make all f64, or none");
      spread = rows.rowwise(RowOrder::Grouped, {spread, groupedGates},
                            {PortKind::Rows, PortKind::Scalar},
                            spread.getType(), PortKind::Rows, product);
    }
    if (vjp.wants(0))
      vjp.set(0, rows.ungroup(spread, op.getFrom(), op.getRows().getType()));
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Math by expert
//===----------------------------------------------------------------------===//

struct ParallelLinearModel
    : DifferentiableModel<ParallelLinearModel, ParallelLinearOp> {
  static LogicalResult vjp(ParallelLinearOp op, VJP &vjp) {
    Rows rows{vjp.builder, op.getLoc(), op.getAssignment()};
    Value dy = vjp.cotangent(0);
    if (vjp.wants(0))
      vjp.set(0, buildLinear(rows, dy, op.getTo(), op.getWeights(),
                             flip(op.getLayout()), op.getFrom(),
                             op.getLhs().getType()));
    if (vjp.wants(1))
      vjp.set(1,
              WeightGradOp::create(vjp.builder, op.getLoc(),
                                   op.getWeights().getType(), op.getLhs(),
                                   buildCast(vjp.builder, op.getLoc(), dy,
                                             getElementTypeOrSelf(op.getLhs())),
                                   op.getAssignment(), Value(), op.getFrom(),
                                   op.getTo(), op.getLayout()));
    if (vjp.wants(3))
      vjp.set(3, ExpertSumOp::create(vjp.builder, op.getLoc(),
                                     op.getBias().getType(), dy,
                                     op.getAssignment(), op.getTo()));
    return success();
  }
};

struct WeightGradModel : DifferentiableModel<WeightGradModel, WeightGradOp> {
  static LogicalResult vjp(WeightGradOp op, VJP &vjp) {
    Rows rows{vjp.builder, op.getLoc(), op.getAssignment()};
    Value c = vjp.cotangent(0);
    if (vjp.wants(3))
      vjp.set(3, c);
    c = buildCast(vjp.builder, op.getLoc(), c, getElementTypeOrSelf(op.getX()));
    if (vjp.wants(0))
      vjp.set(0, buildLinear(rows, op.getDy(), op.getDyFrom(), c,
                             flip(op.getLayout()), op.getXFrom(),
                             op.getX().getType()));
    if (vjp.wants(1))
      vjp.set(1, buildLinear(rows, op.getX(), op.getXFrom(), c, op.getLayout(),
                             op.getDyFrom(), op.getDy().getType()));
    return success();
  }
};

struct ExpertSumModel : DifferentiableModel<ExpertSumModel, ExpertSumOp> {
  static LogicalResult vjp(ExpertSumOp op, VJP &vjp) {
    Rows rows{vjp.builder, op.getLoc(), op.getAssignment()};
    auto type = typeOf(op.getRows());
    Value c = buildCast(vjp.builder, op.getLoc(), vjp.cotangent(0),
                        type.getElementType());
    RowOrder order =
        op.getFrom() == RowOrder::Slot ? RowOrder::Slot : RowOrder::Grouped;
    // The rows themselves are not read: they tell how many there are.
    Value like = order == op.getFrom()
                     ? op.getRows()
                     : rows.group(op.getRows(), op.getFrom(), false);
    Value spread =
        rows.rowwise(order, {like, c}, {PortKind::Rows, PortKind::Expert},
                     inOrder(type, order, false, rows.type()), PortKind::Rows,
                     [](OpBuilder &, ValueRange v) { return v[1]; });
    vjp.set(0, order == op.getFrom()
                   ? spread
                   : rows.combine(spread, RowOrder::Grouped, type));
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Rowwise
//===----------------------------------------------------------------------===//

struct RowwiseModel : DifferentiableModel<RowwiseModel, RowwiseOp> {
  static LogicalResult vjp(RowwiseOp op, VJP &vjp) {
    OpBuilder &b = vjp.builder;
    Location loc = op.getLoc();
    bool assigned = bool(op.getAssignment());
    unsigned firstIn = assigned ? 1 : 0;
    SmallVector<Value> ins(op.getIns());
    SmallVector<Attribute> inPorts(op.getInPorts().getValue());
    // Cotangents of rows are rows, those of sums are scalars of a row.
    SmallVector<unsigned> seeded;
    for (unsigned i = 0; i < op.getNumResults(); ++i) {
      if (!vjp.cotangent(i))
        continue;
      seeded.push_back(i);
      ins.push_back(vjp.cotangent(i));
      PortAttr port = op.outPort(i);
      inPorts.push_back(
          port.getKind() == PortKind::Sum
              ? PortAttr::get(b.getContext(), PortKind::Scalar, port.getOrder())
              : port);
    }
    // Gradients of scalars are sums; of expert vectors, rows that are summed
    // by expert afterwards.
    SmallVector<unsigned> outs;
    SmallVector<Type> types;
    SmallVector<Attribute> outPorts;
    for (unsigned i = 0; i < op.getIns().size(); ++i) {
      if (!vjp.wants(firstIn + i))
        continue;
      outs.push_back(i);
      PortAttr port = op.inPort(i);
      auto type = typeOf(op.getIns()[i]);
      switch (port.getKind()) {
      case PortKind::Expert:
        type = inOrder(type, op.getOrder(), false,
                       getAssignmentType(op.getAssignment()));
        port = PortAttr::get(b.getContext(), PortKind::Rows, op.getOrder(),
                             port.getLayout(), port.getCount());
        break;
      case PortKind::Scalar:
        port = PortAttr::get(b.getContext(), PortKind::Sum, op.getOrder());
        break;
      default:
        break;
      }
      types.push_back(type);
      outPorts.push_back(port);
    }
    // Where only a result had columns, it tells how many; nothing reads it.
    auto hasColumns = [](Attribute attr) {
      PortKind kind = cast<PortAttr>(attr).getKind();
      return kind != PortKind::Scalar && kind != PortKind::Sum;
    };
    unsigned unread = 0;
    if (llvm::none_of(inPorts, hasColumns) &&
        llvm::none_of(outPorts, hasColumns)) {
      ArrayRef<Attribute> ports = op.getOutPorts().getValue();
      unsigned i = llvm::find_if(ports, hasColumns) - ports.begin();
      ins.push_back(op.getResult(i));
      inPorts.push_back(ports[i]);
      unread = op.outPort(i).numValues();
    }
    auto created =
        RowwiseOp::create(b, loc, types, op.getOrder(), op.getAssignment(), ins,
                          b.getArrayAttr(inPorts), b.getArrayAttr(outPorts));
    Block &body = op.getBody().front();
    auto yield = cast<YieldOp>(body.getTerminator());
    SmallVector<Value> results;
    {
      OpBuilder::InsertionGuard guard(b);
      Block *block = b.createBlock(&created.getBody());
      IRMapping map;
      // A derivative may lack the narrow operand that made the op f32.
      FloatType compute = cast<FloatType>(body.getArgument(0).getType());
      for (BlockArgument argument : body.getArguments())
        map.map(argument, block->addArgument(compute, loc));
      for (Operation &inner : body.without_terminator())
        b.clone(inner, map);
      SmallVector<std::pair<Value, Value>> seeds;
      for (unsigned i : seeded)
        for (int64_t v = 0, e = op.outPort(i).numValues(); v < e; ++v)
          seeds.push_back({yield.getOperand(op.firstYield(i) + v),
                           block->addArgument(compute, loc)});
      for (unsigned v = 0; v < unread; ++v)
        block->addArgument(compute, loc);
      SmallVector<Value> wanted;
      for (unsigned i : outs)
        for (int64_t v = 0, e = op.inPort(i).numValues(); v < e; ++v)
          wanted.push_back(body.getArgument(op.firstArgument(i) + v));
      auto gradients = buildScalarReverse(b, op, body, map, seeds, wanted);
      if (failed(gradients)) {
        created.erase();
        return failure();
      }
      for (Value gradient : *gradients) {
        if (!gradient)
          gradient =
              arith::ConstantOp::create(b, loc, b.getFloatAttr(compute, 0.0));
        results.push_back(gradient);
      }
      YieldOp::create(b, loc, results);
      eraseDead(*block);
    }
    for (auto [n, i] : llvm::enumerate(outs)) {
      Value gradient = created.getResult(n);
      if (op.inPort(i).getKind() == PortKind::Expert)
        gradient =
            ExpertSumOp::create(b, loc, op.getIns()[i].getType(), gradient,
                                op.getAssignment(), op.getOrder());
      vjp.set(firstIn + i, gradient);
    }
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Routing
//===----------------------------------------------------------------------===//

struct RouteModel : DifferentiableModel<RouteModel, RouteOp> {
  static LogicalResult vjp(RouteOp op, VJP &vjp) {
    if (!vjp.wants(0))
      return success(); // the bias moves the choice alone
    OpBuilder &b = vjp.builder;
    Location loc = op.getLoc();
    Value dGates = vjp.cotangent(0), ids = op.getIds();
    Value dScores, dLogsumexp;
    unsigned next = 2;
    if (op.getScores())
      dScores = vjp.cotangent(next++);
    if (op.getLogsumexp())
      dLogsumexp = vjp.cotangent(next++);
    if (!dGates)
      dGates = buildZeros(b, loc, op.getGates());
    else if (op.getCapacity())
      std::tie(ids, dGates) = undrop(op, b, dGates);
    vjp.set(0,
            RouteGradOp::create(b, loc, op.getLogits().getType(),
                                op.getLogits(), ids, dGates, dScores,
                                dLogsumexp, op.getScore(), op.getRouteOrder(),
                                op.getNormalize(), op.getEps(), op.getScale()));
    return success();
  }

  /// The sums of a normalised route run over the slots that its capacity
  /// drops too: their ids are those of the route without it, and their gates
  /// have cotangent zero.
  static std::pair<Value, Value> undrop(RouteOp op, OpBuilder &b,
                                        Value dGates) {
    Location loc = op.getLoc();
    auto full = cast<RouteOp>(b.clone(*op.getOperation()));
    full.removeCapacityAttr();
    Value kept = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq,
                                       op.getIds(), full.getIds());
    Value masked = arith::SelectOp::create(b, loc, kept, dGates,
                                           buildZeros(b, loc, dGates));
    return {full.getIds(), masked};
  }
};

} // namespace

void mlir::moe::registerLevel1DifferentiationModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    GroupOp::attachInterface<GroupModel>(*context);
    ScatterOp::attachInterface<ScatterModel>(*context);
    CombineOp::attachInterface<CombineModel>(*context);
    ParallelLinearOp::attachInterface<ParallelLinearModel>(*context);
    WeightGradOp::attachInterface<WeightGradModel>(*context);
    ExpertSumOp::attachInterface<ExpertSumModel>(*context);
    RowwiseOp::attachInterface<RowwiseModel>(*context);
    RouteOp::attachInterface<RouteModel>(*context);
    attachRouteGradModel(context);
    context->loadDialect<linalg::LinalgDialect, math::MathDialect,
                         tensor::TensorDialect, arith::ArithDialect>();
  });
}
