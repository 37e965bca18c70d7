// SPDX-License-Identifier: Apache-2.0
//
// A pool of values that know their row order; each step draws an op, takes its
// operands from the pool or makes arguments of them, and adds its results.

#include "Generate.h"

#include "Region.h"
#include "Rng.h"

#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::fuzz;

namespace {

enum class Kind { Rows, Scalars, Experts, Weights };

struct Item {
  Value value;
  Kind kind;
  RowOrder order = RowOrder::Token;
  /// Number of the assignment that the rows lie by, -1 for token rows.
  int assignment = -1;

  Type type() const { return value.getType(); }
  /// Columns, or the last dimension.
  int64_t width() const {
    return cast<RankedTensorType>(value.getType()).getShape().back();
  }
};

class Generator {
public:
  Generator(MLIRContext *context, uint64_t seed)
      : seed(seed), rng(seed), b(context), loc(UnknownLoc::get(context)),
        module(ModuleOp::create(loc)) {}

  OwningOpRef<ModuleOp> generate();

private:
  // Sizes and types.
  int64_t count(int64_t k) {
    return tokens == ShapedType::kDynamic ? tokens : tokens * k;
  }
  AssignmentType typeOf(int a) { return getAssignmentType(assignments[a]); }
  int64_t kOf(int a) { return a < 0 ? 1 : typeOf(a).getK(); }
  RankedTensorType rowsType(RowOrder order, int a, int64_t width);
  RankedTensorType scalarsType(RowOrder order, int a, Type of);
  int64_t width();

  // Operands.
  ArrayAttr dimsOf(RankedTensorType type, int64_t k);
  Value argument(RankedTensorType type, int64_t k);
  Value add(Item item) {
    items.push_back(item);
    return item.value;
  }
  /// Rows of the order with that width; any where it is 0.
  Item rows(RowOrder order, int a, int64_t width = 0);
  Item scalars(RowOrder order, int a);
  Value experts(int64_t numExperts, int64_t width);
  Value weights(int64_t numExperts, int64_t rows, int64_t columns);
  int anyAssignment();
  RowOrder order(std::initializer_list<RowOrder> from) {
    return rng.pick(from);
  }

  // Ops.
  void addAssignment();
  Value routed(int64_t k, int64_t numExperts);
  void addRouteGrad();
  void addGroup();
  void addScatter();
  void addCombine();
  void addLinear();
  void addWeightGrad();
  void addRowwise();
  void addExpertSum();
  void addTables();
  void addElementwise();
  void addElementwise(Item first);
  void addMatmul();
  void addSlice();
  void addPad();
  Value addAccumulation();
  void addScaledLinear();
  void outline();

  uint64_t seed;
  Rng rng;
  OpBuilder b;
  Location loc;
  OwningOpRef<ModuleOp> module;
  func::FuncOp function;
  Block *body = nullptr;

  int64_t tokens = ShapedType::kDynamic;
  FloatType element, gateElement;
  SmallVector<int64_t> widths;
  SmallVector<Value> assignments;
  std::vector<Item> items;
  SmallVector<Attribute> dims;
};

} // namespace

//===----------------------------------------------------------------------===//
// Sizes, types, operands
//===----------------------------------------------------------------------===//

RankedTensorType Generator::rowsType(RowOrder order, int a, int64_t width) {
  int64_t k = order == RowOrder::Token ? 1 : kOf(a);
  return RankedTensorType::get({count(k), width}, element);
}

RankedTensorType Generator::scalarsType(RowOrder order, int a, Type of) {
  if (order == RowOrder::Slot)
    return RankedTensorType::get({tokens, kOf(a)}, of);
  return RankedTensorType::get({count(order == RowOrder::Token ? 1 : kOf(a))},
                               of);
}

int64_t Generator::width() { return rng.pickFrom(widths); }

/// The dynamic dimension is k*T.
ArrayAttr Generator::dimsOf(RankedTensorType type, int64_t k) {
  SmallVector<Attribute> sizes;
  for (int64_t size : type.getShape())
    if (size != ShapedType::kDynamic)
      sizes.push_back(b.getI64IntegerAttr(size));
    else
      sizes.push_back(b.getStringAttr(k == 1 ? "T" : (Twine(k) + "*T").str()));
  return b.getArrayAttr(sizes);
}

Value Generator::argument(RankedTensorType type, int64_t k) {
  dims.push_back(dimsOf(type, k));
  return body->addArgument(type, loc);
}

Item Generator::rows(RowOrder order, int a, int64_t width) {
  if (order == RowOrder::Token)
    a = -1;
  SmallVector<Item> fitting;
  for (const Item &item : items)
    if (item.kind == Kind::Rows && item.order == order &&
        item.assignment == a && (!width || item.width() == width) &&
        getElementTypeOrSelf(item.type()) == element)
      fitting.push_back(item);
  if (!fitting.empty() && rng.percent(80))
    return rng.pickFrom(fitting);
  RankedTensorType type = rowsType(order, a, width ? width : this->width());
  Item item{argument(type, order == RowOrder::Token ? 1 : kOf(a)), Kind::Rows,
            order, a};
  add(item);
  return item;
}

Item Generator::scalars(RowOrder order, int a) {
  if (order == RowOrder::Token)
    a = -1;
  SmallVector<Item> fitting;
  for (const Item &item : items)
    if (item.kind == Kind::Scalars && item.order == order &&
        item.assignment == a)
      fitting.push_back(item);
  if (!fitting.empty() && rng.percent(80))
    return rng.pickFrom(fitting);
  int64_t k = order == RowOrder::Grouped ? kOf(a) : 1;
  Item item{argument(scalarsType(order, a, gateElement), k), Kind::Scalars,
            order, a};
  add(item);
  return item;
}

Value Generator::experts(int64_t numExperts, int64_t width) {
  auto type = RankedTensorType::get({numExperts, width}, element);
  SmallVector<Value> fitting;
  for (const Item &item : items)
    if (item.kind == Kind::Experts && item.type() == type)
      fitting.push_back(item.value);
  if (!fitting.empty() && rng.percent(60))
    return rng.pickFrom(fitting);
  return add({argument(type, 1), Kind::Experts});
}

Value Generator::weights(int64_t numExperts, int64_t rows, int64_t columns) {
  auto type = RankedTensorType::get({numExperts, rows, columns}, element);
  SmallVector<Value> fitting;
  for (const Item &item : items)
    if (item.kind == Kind::Weights && item.type() == type)
      fitting.push_back(item.value);
  if (!fitting.empty() && rng.percent(60))
    return rng.pickFrom(fitting);
  return add({argument(type, 1), Kind::Weights});
}

int Generator::anyAssignment() {
  if (assignments.empty() || (assignments.size() < 3 && rng.percent(10)))
    addAssignment();
  return rng.below(assignments.size());
}

//===----------------------------------------------------------------------===//
// Ops
//===----------------------------------------------------------------------===//

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

void Generator::addElementwise() {
  addElementwise(items.empty() ? rows(RowOrder::Token, -1)
                               : rng.pickFrom(items));
}

void Generator::addElementwise(Item first) {
  SmallVector<Value> fitting;
  for (const Item &item : items)
    if (item.type() == first.type() && item.kind == first.kind &&
        item.order == first.order && item.assignment == first.assignment)
      fitting.push_back(item.value);
  Value x = first.value, y = rng.pickFrom(fitting), z;
  switch (rng.below(7)) {
  case 0:
    z = arith::AddFOp::create(b, loc, x, y);
    break;
  case 1:
    z = arith::SubFOp::create(b, loc, x, y);
    break;
  case 2:
    z = arith::MulFOp::create(b, loc, x, y);
    break;
  case 3:
    z = arith::NegFOp::create(b, loc, x);
    break;
  case 4:
    z = math::TanhOp::create(b, loc, x);
    break;
  case 5:
    z = arith::MaximumFOp::create(b, loc, x, y);
    break;
  default:
    z = math::SinOp::create(b, loc, x);
  }
  first.value = z;
  add(first);
}

/// A dense linear layer on token rows.
void Generator::addMatmul() {
  Item in = rows(RowOrder::Token, -1);
  int64_t out = width();
  Value w = argument(RankedTensorType::get({in.width(), out}, element), 1);
  auto type = rowsType(RowOrder::Token, -1, out);
  SmallVector<Value> sizes;
  if (tokens == ShapedType::kDynamic)
    sizes.push_back(tensor::DimOp::create(b, loc, in.value, 0));
  Value empty =
      tensor::EmptyOp::create(b, loc, type.getShape(), element, sizes);
  Value zero = arith::ConstantOp::create(b, loc, b.getFloatAttr(element, 0.0));
  Value filled = linalg::FillOp::create(b, loc, zero, empty).getResult(0);
  Value product =
      linalg::MatmulOp::create(b, loc, TypeRange(filled.getType()),
                               ValueRange{in.value, w}, ValueRange(filled))
          .getResult(0);
  add({product, Kind::Rows, RowOrder::Token, -1});
}

/// Some columns of rows.
void Generator::addSlice() {
  SmallVector<Item> fitting;
  for (const Item &item : items)
    if (item.kind == Kind::Rows && item.width() > 1)
      fitting.push_back(item);
  // Upstream's verifier refuses a slice of no rows.
  if (fitting.empty() || tokens == 0)
    return;
  Item in = rng.pickFrom(fitting);
  int64_t offset = rng.below(in.width() - 1);
  int64_t size = 1 + rng.below(in.width() - offset);
  auto type = cast<RankedTensorType>(in.type());
  OpFoldResult numRows = b.getIndexAttr(type.getDimSize(0));
  if (type.isDynamicDim(0))
    numRows = tensor::DimOp::create(b, loc, in.value, 0).getResult();
  OpFoldResult one = b.getIndexAttr(1);
  in.value = tensor::ExtractSliceOp::create(
      b, loc, RankedTensorType::get({type.getDimSize(0), size}, element),
      in.value,
      ArrayRef<OpFoldResult>{b.getIndexAttr(0), b.getIndexAttr(offset)},
      ArrayRef<OpFoldResult>{numRows, b.getIndexAttr(size)},
      ArrayRef<OpFoldResult>{one, one});
  add(in);
}

/// Token rows with more columns of a constant. Slot rows without an expert
/// would not stay zero.
void Generator::addPad() {
  if (tokens == 0)
    return;
  Item in = rows(RowOrder::Token, -1);
  int64_t low = rng.below(3), high = 1 + rng.below(2);
  Value padding = arith::ConstantOp::create(
      b, loc, b.getFloatAttr(element, rng.pick({0.0, 0.5, -1.5})));
  OpFoldResult none = b.getIndexAttr(0);
  in.value = tensor::PadOp::create(
      b, loc, rowsType(RowOrder::Token, -1, low + in.width() + high), in.value,
      ArrayRef<OpFoldResult>{none, b.getIndexAttr(low)},
      ArrayRef<OpFoldResult>{none, b.getIndexAttr(high)}, padding);
  add(in);
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

/// A sum over experts' rows added to a buffer that callers want updated;
/// returns its new value.
Value Generator::addAccumulation() {
  if (rng.percent(50))
    addWeightGrad();
  else
    addExpertSum();
  Value sum = items.back().value;
  Value buffer = argument(cast<RankedTensorType>(sum.getType()), 1);
  return arith::AddFOp::create(b, loc, buffer, sum);
}

/// Ops of @f become a function that it calls.
void Generator::outline() {
  SmallVector<Operation *> ops;
  for (Operation &op : body->without_terminator())
    ops.push_back(&op);
  if (ops.size() < 2)
    return;
  size_t first = rng.below(ops.size() - 1);
  size_t count = 1 + rng.below(ops.size() - first);
  auto part = ArrayRef(ops).slice(first, count);
  llvm::SetVector<Operation *> inside(part.begin(), part.end());
  llvm::SetVector<Value> used, made;
  for (Operation *op : part) {
    op->walk([&](Operation *inner) {
      for (Value operand : inner->getOperands())
        if (operand.getParentBlock() == body &&
            !inside.contains(operand.getDefiningOp()))
          used.insert(operand);
    });
    for (Value result : op->getResults())
      for (Operation *user : result.getUsers())
        if (!inside.contains(body->findAncestorOpInBlock(*user)))
          made.insert(result);
  }
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToEnd(module->getBody());
  auto callee =
      func::FuncOp::create(b, loc, "part",
                           b.getFunctionType(TypeRange(used.getArrayRef()),
                                             TypeRange(made.getArrayRef())));
  callee.setPrivate();
  Block *block = callee.addEntryBlock();
  b.setInsertionPointAfter(part.back());
  auto call = func::CallOp::create(b, loc, callee, used.getArrayRef());
  for (auto [value, result] : llvm::zip_equal(made, call.getResults()))
    Value(value).replaceUsesWithIf(result, [&](OpOperand &use) {
      return !inside.contains(body->findAncestorOpInBlock(*use.getOwner()));
    });
  for (Operation *op : part)
    op->moveBefore(block, block->end());
  for (auto [value, argument] : llvm::zip_equal(used, block->getArguments()))
    Value(value).replaceUsesWithIf(argument, [&](OpOperand &use) {
      return block->findAncestorOpInBlock(*use.getOwner());
    });
  b.setInsertionPointToEnd(block);
  func::ReturnOp::create(b, loc, made.getArrayRef());
}

OwningOpRef<ModuleOp> Generator::generate() {
  element = rng.percent(60)   ? FloatType(b.getF64Type())
            : rng.percent(60) ? FloatType(b.getBF16Type())
            : rng.percent(50) ? FloatType(b.getF32Type())
                              : FloatType(b.getF16Type());
  gateElement = rng.percent(50) ? element : FloatType(getComputeType(element));
  if (rng.percent(40))
    tokens = rng.percent(4) ? 0 : rng.pick({1, 2, 3, 4, 6, 7});
  for (int i = 0; i < 3; ++i)
    widths.push_back(rng.percent(3) ? 130
                                    : rng.pick({1, 2, 3, 4, 5, 7, 8, 2, 4}));

  function = func::FuncOp::create(b, loc, "f", b.getFunctionType({}, {}));
  module->push_back(function);
  body = function.addEntryBlock();
  b.setInsertionPointToEnd(body);

  using Add = void (Generator::*)();
  const std::pair<int, Add> choices[] = {
      {10, &Generator::addGroup},      {10, &Generator::addScatter},
      {14, &Generator::addCombine},    {18, &Generator::addLinear},
      {9, &Generator::addWeightGrad},  {18, &Generator::addRowwise},
      {7, &Generator::addExpertSum},   {3, &Generator::addTables},
      {6, &Generator::addElementwise}, {3, &Generator::addMatmul},
      {3, &Generator::addSlice},       {4, &Generator::addRouteGrad},
      {2, &Generator::addPad}};
  int total = 0;
  for (auto [weight, add] : choices)
    total += weight;
  for (int64_t step = 0, steps = 2 + rng.below(8); step < steps; ++step) {
    int64_t left = rng.below(total);
    for (auto [weight, add] : choices)
      if ((left -= weight) < 0) {
        (this->*add)();
        break;
      }
  }

  // Too rare by chance. Drawn apart, so that all other programs stay.
  if (!assignments.empty() && Rng(seed + 1).percent(6))
    addScaledLinear();

  // No sum of what @f reads elsewhere, and nobody reads the new value.
  Value updated;
  unsigned buffer = 0;
  if (rng.percent(8)) {
    updated = addAccumulation();
    buffer = body->getNumArguments() - 1;
  }

  // Callers tell T by an argument that has it as a size.
  if (tokens == ShapedType::kDynamic &&
      llvm::none_of(dims, [&](Attribute sizes) {
        return llvm::is_contained(cast<ArrayAttr>(sizes), b.getStringAttr("T"));
      }))
    addElementwise(
        {add({argument(rowsType(RowOrder::Token, -1, width()), 1), Kind::Rows}),
         Kind::Rows});

  // What nobody reads is returned, so that no op is dead.
  SmallVector<Value> results;
  for (Operation &op : *body)
    for (Value value : op.getResults())
      if (value.use_empty() && isa<RankedTensorType>(value.getType()))
        results.push_back(value);
  func::ReturnOp::create(b, loc, results);
  function.setFunctionType(b.getFunctionType(body->getArgumentTypes(),
                                             ValueRange(results).getTypes()));
  for (unsigned i = 0; i < results.size(); ++i) {
    Value value = results[i];
    auto item = llvm::find_if(
        items, [&](const Item &item) { return item.value == value; });
    bool perSlot =
        item != items.end() && item->order != RowOrder::Token &&
        !(item->kind == Kind::Scalars && item->order == RowOrder::Slot);
    if (!isa<UnpackAssignmentOp>(value.getDefiningOp()))
      function.setResultAttr(i, "moe.dims",
                             dimsOf(cast<RankedTensorType>(value.getType()),
                                    perSlot ? kOf(item->assignment) : 1));
  }
  for (auto [i, sizes] : llvm::enumerate(dims)) {
    function.setArgAttr(i, "moe.dims", sizes);
    function.setArgAttr(i, "moe.name", b.getStringAttr("a" + Twine(i)));
  }
  if (updated) {
    function.setArgAttr(buffer, "moe.inout", b.getUnitAttr());
    function.setResultAttr(llvm::find(results, updated) - results.begin(),
                           "moe.inout", b.getUnitAttr());
  }
  if (rng.percent(10)) {
    // Nobody calls it but itself: the inliner leaves it to symbol-dce.
    b.setInsertionPointToEnd(module->getBody());
    auto unused =
        func::FuncOp::create(b, loc, "unused", function.getFunctionType());
    unused.setPrivate();
    Block *block = unused.addEntryBlock();
    b.setInsertionPointToEnd(block);
    auto call = func::CallOp::create(b, loc, unused, block->getArguments());
    func::ReturnOp::create(b, loc, call.getResults());
  }
  if (rng.percent(25))
    outline();
  return std::move(module);
}

OwningOpRef<ModuleOp> fuzz::generateProgram(MLIRContext *context,
                                            uint64_t seed) {
  // Neighbouring numbers give programs that have nothing in common.
  return Generator(context, Rng(seed).next()).generate();
}
