// SPDX-License-Identifier: Apache-2.0
//
// Random ops of level 1.

#include "Generator.h"

#include "Region.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::fuzz;

/// Gates and ids of a route with random attributes; returns the ids.
Value Generator::routed(int64_t k, int64_t numExperts) {
  // What decides is not rounded twice: narrow logits come from outside.
  Item logits =
      element.isF64()
          ? rows(RowOrder::Token, -1, numExperts)
          : Item{argument(rowsType(RowOrder::Token, -1, numExperts), 1),
                 Kind::Rows};
  bool normalize = rng.percent(50);
  Score score =
      normalize ? rng.pick({Score::Softmax, Score::Sigmoid})
                : rng.pick({Score::Softmax, Score::Sigmoid, Score::Identity});
  auto late = rng.pick({RouteOrder::ScoreThenTopK, RouteOrder::TopKThenScore});
  int64_t groups = 1, topkGroups = 1, groupTop = 1;
  if (numExperts % 2 == 0 && rng.percent(40)) {
    groups = 2;
    topkGroups = k <= numExperts / 2 ? 1 + rng.below(2) : 2;
    groupTop = 1 + rng.below(numExperts / 2);
  }
  auto idType = RankedTensorType::get(
      {tokens, k}, b.getIntegerType(rng.percent(50) ? 32 : 64));
  Value bias, mask, given;
  if (rng.percent(40))
    bias = argument(RankedTensorType::get({numExperts}, element), 1);
  if (rng.percent(30))
    mask = argument(RankedTensorType::get({tokens}, b.getI1Type()), 1);
  if (rng.percent(20))
    given = argument(idType, 1);
  IntegerAttr capacity;
  if (rng.percent(30))
    capacity = b.getI64IntegerAttr(1 + rng.below(4));
  Type compute = getComputeType(element);
  auto gates = RankedTensorType::get({tokens, k}, gateElement);
  Type scores, logsumexp;
  if (rng.percent(30))
    scores = RankedTensorType::get({tokens, numExperts}, compute);
  if (rng.percent(30))
    logsumexp = RankedTensorType::get({tokens}, compute);
  auto op = RouteOp::create(
      b, loc, gates, idType, scores, logsumexp, logits.value, bias, mask, given,
      score, late, normalize, llvm::APFloat(rng.pick({0.0, 1e-20, 0.25})),
      llvm::APFloat(rng.pick({1.0, 2.5, -0.5})), groups, topkGroups, groupTop,
      rng.pick({MaskedGroups::Zero, MaskedGroups::NegInf}), capacity,
      rng.pick({Drop::Position, Drop::Score}));
  int number = assignments.size();
  items.push_back({op.getGates(), Kind::Scalars, RowOrder::Slot, number});
  if (scores && compute == element)
    items.push_back({op.getScores(), Kind::Rows, RowOrder::Token, -1});
  if (logsumexp)
    items.push_back({op.getLogsumexp(), Kind::Scalars, RowOrder::Token, -1});
  return op.getIds();
}

void Generator::addAssignment() {
  int64_t numExperts = rng.pick({1, 2, 3, 4, 4, 6});
  int64_t k = 1 + rng.below(std::min<int64_t>(numExperts, 3));
  int64_t form = rng.below(100);
  if (form < 16) {
    // Tokens per expert, at times each with room for so many.
    while (tokens > 0 && tokens % numExperts != 0)
      --numExperts;
    auto counts = RankedTensorType::get(
        {numExperts}, b.getIntegerType(rng.percent(50) ? 32 : 64));
    Value n = argument(counts, 1);
    IntegerAttr capacity;
    Value size;
    if (tokens != ShapedType::kDynamic && tokens > 0 && rng.percent(75))
      capacity = b.getI64IntegerAttr(tokens / numExperts);
    if (tokens == ShapedType::kDynamic) {
      Value zero = arith::ConstantIndexOp::create(b, loc, 0);
      size =
          tensor::DimOp::create(b, loc, rows(RowOrder::Token, -1).value, zero);
    } else {
      size = arith::ConstantIndexOp::create(b, loc, tokens);
    }
    auto type = AssignmentType::get(b.getContext(), tokens, 1, numExperts);
    assignments.push_back(AssignOp::create(b, loc, type, Value(), n, size,
                                           ValueRange(), capacity));
    return;
  }
  auto type = AssignmentType::get(b.getContext(), tokens, k, numExperts);
  if (form < 26) {
    auto slots = RankedTensorType::get({count(k)}, b.getI32Type());
    auto bounds = RankedTensorType::get({numExperts}, b.getI32Type());
    Value order = argument(slots, k), position = argument(slots, k);
    Value begin = argument(bounds, 1), end = argument(bounds, 1);
    assignments.push_back(
        PackAssignmentOp::create(b, loc, type, order, position, begin, end));
    return;
  }
  Value ids;
  if (form < 60)
    ids = routed(k, numExperts);
  else if (form < 63 && tokens != ShapedType::kDynamic) {
    SmallVector<int32_t> values;
    for (int64_t n = 0; n < tokens * k; ++n)
      values.push_back(rng.below(numExperts + 1));
    ids = arith::ConstantOp::create(
        b, loc,
        DenseElementsAttr::get(
            RankedTensorType::get({tokens, k}, b.getI32Type()),
            ArrayRef<int32_t>(values)));
  } else
    ids =
        argument(RankedTensorType::get(
                     {tokens, k}, b.getIntegerType(rng.percent(50) ? 32 : 64)),
                 1);
  assignments.push_back(AssignOp::create(b, loc, type, ids, Value(), Value(),
                                         ValueRange(), IntegerAttr()));
}

void Generator::addRouteGrad() {
  int64_t numExperts = 2 + rng.below(4);
  int64_t k = 1 + rng.below(2);
  Item logits = rows(RowOrder::Token, -1, numExperts);
  auto ids = RankedTensorType::get({tokens, k}, b.getI32Type());
  auto gates = RankedTensorType::get({tokens, k}, gateElement);
  bool normalize = rng.percent(50);
  Type compute = getComputeType(element);
  Value dScores, dLogsumexp;
  if (rng.percent(40))
    dScores = argument(RankedTensorType::get({tokens, numExperts}, compute), 1);
  if (rng.percent(40))
    dLogsumexp = argument(RankedTensorType::get({tokens}, compute), 1);
  Value grad = RouteGradOp::create(
      b, loc, logits.type(), logits.value, argument(ids, 1), argument(gates, 1),
      dScores, dLogsumexp,
      // An unnormalised sum of sigmoids is positive, of softmax too.
      rng.pick({Score::Softmax, Score::Sigmoid}),
      rng.pick({RouteOrder::ScoreThenTopK, RouteOrder::TopKThenScore}),
      normalize, llvm::APFloat(rng.pick({0.25, 1.0})),
      llvm::APFloat(rng.pick({1.0, 2.5})));
  items.push_back({grad, Kind::Rows, RowOrder::Token, -1});
}

void Generator::addGroup() {
  int a = anyAssignment();
  RowOrder from = order({RowOrder::Token, RowOrder::Slot});
  if (rng.percent(25)) {
    Item in = scalars(from, a);
    auto type =
        scalarsType(RowOrder::Grouped, a, getElementTypeOrSelf(in.type()));
    add({GroupOp::create(b, loc, type, in.value, assignments[a], from),
         Kind::Scalars, RowOrder::Grouped, a});
    return;
  }
  Item in = rows(from, a);
  add({GroupOp::create(b, loc, rowsType(RowOrder::Grouped, a, in.width()),
                       in.value, assignments[a], from),
       Kind::Rows, RowOrder::Grouped, a});
}

void Generator::addScatter() {
  int a = anyAssignment();
  if (rng.percent(25)) {
    Item in = scalars(RowOrder::Grouped, a);
    auto type = scalarsType(RowOrder::Slot, a, getElementTypeOrSelf(in.type()));
    add({ScatterOp::create(b, loc, type, in.value, assignments[a]),
         Kind::Scalars, RowOrder::Slot, a});
    return;
  }
  Item in = rows(RowOrder::Grouped, a);
  add({ScatterOp::create(b, loc, rowsType(RowOrder::Slot, a, in.width()),
                         in.value, assignments[a]),
       Kind::Rows, RowOrder::Slot, a});
}

void Generator::addCombine() {
  int a = anyAssignment();
  RowOrder from = order({RowOrder::Slot, RowOrder::Grouped});
  if (rng.percent(20)) {
    Item in = scalars(from, a);
    auto type =
        scalarsType(RowOrder::Token, a, getElementTypeOrSelf(in.type()));
    add({CombineOp::create(b, loc, type, in.value, assignments[a], Value(),
                           from),
         Kind::Scalars, RowOrder::Token, -1});
    return;
  }
  Item in = rows(from, a);
  Value gates;
  if (rng.percent(60))
    gates = scalars(RowOrder::Slot, a).value;
  add({CombineOp::create(b, loc, rowsType(RowOrder::Token, -1, in.width()),
                         in.value, assignments[a], gates, from),
       Kind::Rows, RowOrder::Token, -1});
}

void Generator::addLinear() {
  int a = anyAssignment();
  int64_t numExperts = typeOf(a).getExperts();
  RowOrder from = order({RowOrder::Token, RowOrder::Slot, RowOrder::Grouped});
  RowOrder to = order({RowOrder::Slot, RowOrder::Grouped});
  Item in = rows(from, a);
  int64_t out = width();
  bool outIn = rng.percent(50);
  Value w = outIn ? weights(numExperts, out, in.width())
                  : weights(numExperts, in.width(), out);
  Value bias;
  if (rng.percent(35))
    bias = experts(numExperts, out);
  add({ParallelLinearOp::create(
           b, loc, rowsType(to, a, out), in.value, w, assignments[a], bias,
           from, to, outIn ? WeightLayout::OutIn : WeightLayout::InOut),
       Kind::Rows, to, a});
}

void Generator::addWeightGrad() {
  int a = anyAssignment();
  int64_t numExperts = typeOf(a).getExperts();
  auto any = {RowOrder::Token, RowOrder::Slot, RowOrder::Grouped};
  RowOrder xFrom = order(any), dyFrom = order(any);
  Item x = rows(xFrom, a), dy = rows(dyFrom, a);
  bool outIn = rng.percent(50);
  SmallVector<int64_t> shape{numExperts, dy.width(), x.width()};
  if (!outIn)
    std::swap(shape[1], shape[2]);
  Value buffer;
  if (rng.percent(35))
    buffer = weights(shape[0], shape[1], shape[2]);
  add({WeightGradOp::create(b, loc, RankedTensorType::get(shape, element),
                            x.value, dy.value, assignments[a], buffer, xFrom,
                            dyFrom,
                            outIn ? WeightLayout::OutIn : WeightLayout::InOut),
       Kind::Weights});
}

void Generator::addRowwise() {
  RowOrder order =
      this->order({RowOrder::Token, RowOrder::Slot, RowOrder::Grouped});
  int a = order == RowOrder::Token ? -1 : anyAssignment();
  // Slot rows need no assignment; it says which of them are read.
  bool withAssignment = order == RowOrder::Grouped ||
                        (order == RowOrder::Slot && rng.percent(60));
  int64_t n = width();
  SmallVector<Value> ins;
  SmallVector<Attribute> inPorts, outPorts;
  SmallVector<Type> types;
  auto columns = [&](PortKind kind) {
    int64_t c = rng.pick({1, 1, 1, 2, 2, 3});
    return PortAttr::get(
        b.getContext(), kind, order,
        c == 1 ? ColumnLayout::Single
               : rng.pick({ColumnLayout::Concat, ColumnLayout::Interleave}),
        c);
  };
  for (int64_t i = 0, e = 1 + rng.below(3); i < e; ++i) {
    PortAttr port = columns(PortKind::Rows);
    inPorts.push_back(port);
    ins.push_back(rows(order, a, port.getCount() * n).value);
  }
  if (rng.percent(50)) {
    inPorts.push_back(PortAttr::get(b.getContext(), PortKind::Scalar, order));
    ins.push_back(scalars(order, a).value);
  }
  if (withAssignment && rng.percent(40)) {
    PortAttr port = columns(PortKind::Expert);
    inPorts.push_back(port);
    ins.push_back(experts(typeOf(a).getExperts(), port.getCount() * n));
  }
  for (int64_t i = 0, e = 1 + rng.below(2); i < e; ++i) {
    if (rng.percent(30)) {
      outPorts.push_back(PortAttr::get(b.getContext(), PortKind::Sum, order));
      types.push_back(scalarsType(order, a, gateElement));
      continue;
    }
    PortAttr port = columns(PortKind::Rows);
    outPorts.push_back(port);
    types.push_back(rowsType(order, a, port.getCount() * n));
  }
  auto op = RowwiseOp::create(
      b, loc, types, order, withAssignment ? assignments[a] : Value(), ins,
      b.getArrayAttr(inPorts), b.getArrayAttr(outPorts));
  unsigned numArguments = 0, numYields = 0;
  for (Attribute port : inPorts)
    numArguments += cast<PortAttr>(port).numValues();
  for (Attribute port : outPorts)
    numYields += cast<PortAttr>(port).numValues();
  buildRandomRegion(rng, op.getBody(), numArguments, numYields,
                    getComputeType(element), loc);
  for (auto [value, port] : llvm::zip_equal(op.getResults(), outPorts))
    add({value,
         cast<PortAttr>(port).getKind() == PortKind::Sum ? Kind::Scalars
                                                         : Kind::Rows,
         order, a});
}

void Generator::addExpertSum() {
  int a = anyAssignment();
  RowOrder from = order({RowOrder::Token, RowOrder::Slot, RowOrder::Grouped});
  Item in = rows(from, a);
  auto type =
      RankedTensorType::get({typeOf(a).getExperts(), in.width()}, element);
  add({ExpertSumOp::create(b, loc, type, in.value, assignments[a], from),
       Kind::Experts});
}

/// Unpack an assignment and pack it again: another assignment, to
/// moe-verify-rows.
void Generator::addTables() {
  int a = anyAssignment();
  auto slots = RankedTensorType::get({count(kOf(a))}, b.getI32Type());
  auto bounds = RankedTensorType::get({typeOf(a).getExperts()}, b.getI32Type());
  auto op = UnpackAssignmentOp::create(b, loc, slots, slots, bounds, bounds,
                                       assignments[a]);
  assignments.push_back(
      PackAssignmentOp::create(b, loc, typeOf(a), op.getOrder(),
                               op.getPosition(), op.getBegin(), op.getEnd()));
}

/// A product of slot rows that are scaled by row.
void Generator::addScaledLinear() {
  int a = assignments.size() - 1;
  Type compute = getComputeType(element);
  auto type = rowsType(RowOrder::Slot, a, 4);
  Value x = argument(type, kOf(a));
  Value gate = argument(scalarsType(RowOrder::Slot, a, gateElement), 1);
  auto rows = PortAttr::get(b.getContext(), PortKind::Rows, RowOrder::Slot);
  auto scalar = PortAttr::get(b.getContext(), PortKind::Scalar, RowOrder::Slot);
  auto scaled =
      RowwiseOp::create(b, loc, TypeRange(type), RowOrder::Slot, assignments[a],
                        ValueRange{x, gate}, b.getArrayAttr({rows, scalar}),
                        b.getArrayAttr({rows}));
  {
    OpBuilder::InsertionGuard guard(b);
    Block *block =
        b.createBlock(&scaled.getBody(), {}, {compute, compute}, {loc, loc});
    Value product = arith::MulFOp::create(b, loc, block->getArgument(0),
                                          block->getArgument(1));
    YieldOp::create(b, loc, product);
  }
  int64_t numExperts = typeOf(a).getExperts();
  Value w = argument(RankedTensorType::get({numExperts, 3, 4}, element), 1);
  add({ParallelLinearOp::create(b, loc, rowsType(RowOrder::Grouped, a, 3),
                                scaled.getResult(0), w, assignments[a], Value(),
                                RowOrder::Slot, RowOrder::Grouped,
                                WeightLayout::OutIn),
       Kind::Rows, RowOrder::Grouped, a});
}
