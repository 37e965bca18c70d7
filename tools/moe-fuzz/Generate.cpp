// SPDX-License-Identifier: Apache-2.0
//
// A pool of values that know their row order; each step draws an op, takes its
// operands from the pool or makes arguments of them, and adds its results.

#include "Generate.h"

#include "Generator.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::fuzz;

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
// Ops of upstream
//===----------------------------------------------------------------------===//

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

//===----------------------------------------------------------------------===//
// The whole program
//===----------------------------------------------------------------------===//

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
