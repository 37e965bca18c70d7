// SPDX-License-Identifier: Apache-2.0
#include "KernelEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Scalars
//===----------------------------------------------------------------------===//

Value KernelEmitter::index(int64_t value) {
  return arith::ConstantIndexOp::create(*this, value);
}
Value KernelEmitter::constant(Type type, double value) {
  TypedAttr attr = getFloatAttr(getElementTypeOrSelf(type), value);
  if (auto vector = dyn_cast<VectorType>(type))
    attr = DenseElementsAttr::get(vector, attr);
  return arith::ConstantOp::create(*this, attr);
}
Value KernelEmitter::integer(Type type, int64_t value) {
  TypedAttr attr = getIntegerAttr(getElementTypeOrSelf(type), value);
  if (auto vector = dyn_cast<VectorType>(type))
    attr = DenseElementsAttr::get(vector, attr);
  return arith::ConstantOp::create(*this, attr);
}
Value KernelEmitter::add(Value a, Value b) {
  if (isa<FloatType>(getElementTypeOrSelf(a)))
    return arith::AddFOp::create(*this, a, b);
  return arith::AddIOp::create(*this, a, b);
}
Value KernelEmitter::sub(Value a, Value b) {
  if (isa<FloatType>(getElementTypeOrSelf(a)))
    return arith::SubFOp::create(*this, a, b);
  return arith::SubIOp::create(*this, a, b);
}
Value KernelEmitter::mul(Value a, int64_t b) {
  return b == 1 ? a : mul(a, index(b));
}
Value KernelEmitter::mul(Value a, Value b) {
  if (isa<FloatType>(getElementTypeOrSelf(a)))
    return arith::MulFOp::create(*this, a, b);
  return arith::MulIOp::create(*this, a, b);
}
// Counts and indices are never negative, so unsigned division is enough.
Value KernelEmitter::div(Value a, int64_t b) {
  return b == 1 ? a : arith::DivUIOp::create(*this, a, index(b)).getResult();
}
Value KernelEmitter::rem(Value a, int64_t b) {
  return b == 1 ? index(0)
                : arith::RemUIOp::create(*this, a, index(b)).getResult();
}
Value KernelEmitter::quotient(Value a, Value b) {
  return arith::DivUIOp::create(*this, a, b);
}
Value KernelEmitter::remainder(Value a, Value b) {
  return arith::RemUIOp::create(*this, a, b);
}
Value KernelEmitter::ceilDiv(Value a, int64_t b) {
  return div(add(a, b - 1), b);
}
Value KernelEmitter::minimum(Value a, Value b) {
  return arith::MinSIOp::create(*this, a, b);
}
Value KernelEmitter::maximum(Value a, Value b) {
  return arith::MaxSIOp::create(*this, a, b);
}
Value KernelEmitter::less(Value a, Value b) {
  return arith::CmpIOp::create(*this, arith::CmpIPredicate::slt, a, b);
}
Value KernelEmitter::select(Value condition, Value a, Value b) {
  return arith::SelectOp::create(*this, condition, a, b);
}
Value KernelEmitter::multiplyAdd(Value a, Value b, Value c) {
  if (!target.fma)
    return add(mul(a, b), c);
  if (isa<VectorType>(a.getType()))
    return vector::FMAOp::create(*this, a, b, c);
  return math::FmaOp::create(*this, a, b, c);
}

//===----------------------------------------------------------------------===//
// Loops
//===----------------------------------------------------------------------===//

void KernelEmitter::loop(Value lower, Value upper, int64_t step,
                         function_ref<void(Value)> body) {
  scf::ForOp::create(*this, lower, upper, index(step), ValueRange(),
                     [&](OpBuilder &, Location, Value iv, ValueRange) {
                       body(iv);
                       scf::YieldOp::create(*this);
                     });
}

Values KernelEmitter::carry(Value lower, Value upper, int64_t step,
                            ValueRange initial,
                            function_ref<Values(Value, ValueRange)> body) {
  auto loop =
      scf::ForOp::create(*this, lower, upper, index(step), initial,
                         [&](OpBuilder &, Location, Value iv, ValueRange args) {
                           scf::YieldOp::create(*this, body(iv, args));
                         });
  return Values(loop.getResults());
}

void KernelEmitter::when(Value condition, function_ref<void()> then,
                         function_ref<void()> otherwise) {
  auto build = [&](function_ref<void()> body) {
    return [this, body](OpBuilder &, Location) {
      body();
      scf::YieldOp::create(*this);
    };
  };
  if (otherwise)
    scf::IfOp::create(*this, condition, build(then), build(otherwise));
  else
    scf::IfOp::create(*this, condition, build(then));
}

Values KernelEmitter::choose(Value condition, function_ref<Values()> then,
                             function_ref<Values()> otherwise) {
  auto result = scf::IfOp::create(
      *this, condition,
      [&](OpBuilder &, Location) { scf::YieldOp::create(*this, then()); },
      [&](OpBuilder &, Location) { scf::YieldOp::create(*this, otherwise()); });
  return Values(result.getResults());
}

void KernelEmitter::tasks(Value count, function_ref<void(Value)> body) {
  scf::ParallelOp::create(*this, index(0), count, index(1),
                          [&](OpBuilder &, Location, ValueRange ivs) {
                            Block *outer = taskBlock;
                            taskBlock = getInsertionBlock();
                            body(ivs[0]);
                            taskBlock = outer;
                          });
}

void KernelEmitter::chunked(Value count, int64_t chunk,
                            function_ref<void(Value)> body) {
  tasks(ceilDiv(count, chunk), [&](Value task) {
    Value first = mul(task, chunk);
    loop(first, minimum(add(first, chunk), count), 1, body);
  });
}

void KernelEmitter::groupedTasks(
    const Tables &tables, int64_t chunk, int64_t multiple, int64_t parts,
    function_ref<void(Value, Value, Value, Value)> body) {
  Value zero = index(0), experts = index(tables.experts);
  // The rows of an expert, and the shares they make.
  auto bounds = [&](Value expert) -> std::pair<Value, Value> {
    Value begin = rangeBound(tables, tables.begin, expert);
    Value end = rangeBound(tables, tables.end, expert);
    return {begin, maximum(begin, end)};
  };
  auto shares = [&](Value expert) {
    auto [begin, end] = bounds(expert);
    return ceilDiv(sub(end, begin), chunk);
  };
  Value total =
      carry(zero, experts, 1, zero, [&](Value expert, ValueRange sum) {
        return Values{add(sum[0], shares(expert))};
      })[0];
  tasks(mul(total, parts), [&](Value task) {
    Value share = div(task, parts), part = rem(task, parts);
    // Which expert's share it is: the scan costs far less than a task.
    Values found =
        carry(zero, experts, 1, {zero, zero, zero},
              [&](Value expert, ValueRange state) {
                Value next = add(state[0], shares(expert));
                Value here = arith::AndIOp::create(
                    *this,
                    arith::CmpIOp::create(*this, arith::CmpIPredicate::sge,
                                          share, state[0]),
                    less(share, next));
                return Values{next, select(here, expert, state[1]),
                              select(here, sub(share, state[0]), state[2])};
              });
    Value expert = found[1];
    auto [begin, end] = bounds(expert);
    Value count = maximum(ceilDiv(sub(end, begin), chunk), index(1));
    Value rows = arith::DivUIOp::create(
        *this, add(sub(end, begin), sub(count, index(1))), count);
    rows = mul(ceilDiv(rows, multiple), multiple);
    Value first = minimum(add(begin, mul(found[2], rows)), end);
    body(expert, first, minimum(add(first, rows), end), part);
  });
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Value KernelEmitter::size(Value memref, int64_t dim) {
  auto type = cast<MemRefType>(memref.getType());
  if (!type.isDynamicDim(dim))
    return index(type.getDimSize(dim));
  return memref::DimOp::create(*this, memref, dim);
}
Value KernelEmitter::load(Value memref, ValueRange indices) {
  return memref::LoadOp::create(*this, memref, indices);
}
void KernelEmitter::store(Value value, Value memref, ValueRange indices) {
  memref::StoreOp::create(*this, value, memref, indices);
}
Value KernelEmitter::loadIndex(Value memref, ValueRange indices) {
  return arith::IndexCastOp::create(*this, getIndexType(),
                                    load(memref, indices));
}
void KernelEmitter::storeIndex(Value value, Value memref, ValueRange indices) {
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  store(arith::IndexCastOp::create(*this, element, value), memref, indices);
}
Value KernelEmitter::stack(ArrayRef<int64_t> shape, Type element) {
  OpBuilder::InsertionGuard guard(*this);
  if (taskBlock)
    setInsertionPointToStart(taskBlock);
  return memref::AllocaOp::create(*this, MemRefType::get(shape, element),
                                  getI64IntegerAttr(64));
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

Tables KernelEmitter::tables(Value assignment) {
  auto pack = assignment.getDefiningOp<PackAssignmentOp>();
  AssignmentType type = getAssignmentType(assignment);
  return {pack.getOrder(),         pack.getPosition(), pack.getBegin(),
          pack.getEnd(),           type.getK(),        type.getExperts(),
          size(pack.getOrder(), 0)};
}

// Tables can come from the caller. What they hold is clamped, so that wrong
// tables give wrong rows, never a read outside a tensor.

Value KernelEmitter::rangeBound(const Tables &tables, Value table,
                                Value expert) {
  return maximum(index(0), minimum(loadIndex(table, expert), tables.slots));
}

Row KernelEmitter::groupedRow(const Tables &tables, Value grouped,
                              Value expert) {
  Value slot = arith::MinUIOp::create(*this, loadIndex(tables.order, grouped),
                                      sub(tables.slots, index(1)));
  return {grouped, slot, div(slot, tables.k), expert};
}

Row KernelEmitter::slotRow(const Tables &tables, Value slot, Value &valid) {
  Value grouped = loadIndex(tables.position, slot);
  // Negative positions are large when unsigned.
  valid = arith::CmpIOp::create(*this, arith::CmpIPredicate::ult, grouped,
                                tables.slots);
  return {grouped, slot, div(slot, tables.k), Value()};
}

Value KernelEmitter::expertOf(const Tables &tables, Value grouped) {
  return carry(
      index(0), index(tables.experts), 1, index(0),
      [&](Value expert, ValueRange found) {
        Value after =
            arith::CmpIOp::create(*this, arith::CmpIPredicate::sge, grouped,
                                  loadIndex(tables.begin, expert));
        Value before = less(grouped, loadIndex(tables.end, expert));
        return Values{select(arith::AndIOp::create(*this, after, before),
                             expert, found[0])};
      })[0];
}

Value KernelEmitter::rowIndex(RowOrder order, const Row &row) {
  switch (order) {
  case RowOrder::Token:
    return row.token;
  case RowOrder::Slot:
    return row.slot;
  case RowOrder::Grouped:
    return row.grouped;
  }
  llvm_unreachable("row orders are covered");
}
Value KernelEmitter::rowIndex(PortAttr port, const Row &row) {
  return port.getKind() == PortKind::Expert ? row.expert
                                            : rowIndex(port.getOrder(), row);
}

//===----------------------------------------------------------------------===//
// Vectors
//===----------------------------------------------------------------------===//

Value KernelEmitter::splat(Value scalar) {
  if (isa<VectorType>(scalar.getType()))
    return scalar;
  return vector::BroadcastOp::create(*this, vectorOf(scalar.getType()), scalar);
}
Value KernelEmitter::zeros(Type element) {
  return constant(vectorOf(element), 0.0);
}

static Type withElement(Type type, Type element) {
  if (auto vector = dyn_cast<VectorType>(type))
    return vector.clone(element);
  return element;
}
Value KernelEmitter::widen(Value value, Type compute) {
  Type element = getElementTypeOrSelf(value);
  if (element == compute)
    return value;
  if (element.getIntOrFloatBitWidth() > compute.getIntOrFloatBitWidth())
    return narrow(value, compute);
  return arith::ExtFOp::create(*this, withElement(value.getType(), compute),
                               value);
}
Value KernelEmitter::narrow(Value value, Type element) {
  if (getElementTypeOrSelf(value) == element)
    return value;
  if (getElementTypeOrSelf(value).getIntOrFloatBitWidth() <
      element.getIntOrFloatBitWidth())
    return widen(value, element);
  return arith::TruncFOp::create(*this, withElement(value.getType(), element),
                                 value);
}

Value KernelEmitter::loadVector(Value memref, ValueRange indices,
                                int64_t lanes) {
  auto type = vectorOf(cast<MemRefType>(memref.getType()).getElementType());
  if (lanes == vectorLanes)
    return vector::LoadOp::create(*this, type, memref, indices);
  Value mask =
      vector::ConstantMaskOp::create(*this, vectorOf(getI1Type()), lanes);
  return vector::MaskedLoadOp::create(*this, type, memref, indices, mask,
                                      zeros(type.getElementType()));
}
void KernelEmitter::storeVector(Value value, Value memref, ValueRange indices,
                                int64_t lanes) {
  if (lanes == vectorLanes) {
    vector::StoreOp::create(*this, value, memref, indices);
    return;
  }
  Value mask =
      vector::ConstantMaskOp::create(*this, vectorOf(getI1Type()), lanes);
  vector::MaskedStoreOp::create(*this, memref, indices, mask, value);
}

void KernelEmitter::columns(Value first, int64_t count, int64_t width,
                            function_ref<void(Value, int64_t)> body) {
  int64_t tail = width % kLanes;
  Value end = add(first, count);
  if (width % count)
    end = minimum(end, index(width - tail));
  loop(first, end, kLanes, [&](Value column) { body(column, kLanes); });
  if (width % count && tail)
    when(less(index(width), add(first, count)),
         [&] { body(index(width - tail), tail); });
}

Values KernelEmitter::columnsCarry(
    int64_t width, ValueRange initial,
    function_ref<Values(Value, int64_t, ValueRange)> body) {
  int64_t tail = width % kLanes;
  Values state(initial);
  if (width >= kLanes)
    state = carry(index(0), index(width - tail), kLanes, state,
                  [&](Value column, ValueRange args) {
                    return body(column, kLanes, args);
                  });
  if (tail)
    state = body(index(width - tail), tail, state);
  return state;
}

Value KernelEmitter::addLanes(Value sum, Value value, int64_t lanes) {
  Value added = add(sum, value);
  if (lanes == kLanes)
    return added;
  // Lanes past the row's end keep what they have.
  Value mask =
      vector::ConstantMaskOp::create(*this, vectorOf(getI1Type()), lanes);
  return select(mask, added, sum);
}

Value KernelEmitter::reduceLanes(Value sum) {
  for (int64_t half = kLanes / 2; half >= 1; half /= 2) {
    SmallVector<int64_t> low, high;
    for (int64_t i = 0; i < half; ++i) {
      low.push_back(i);
      high.push_back(i + half);
    }
    sum = add(vector::ShuffleOp::create(*this, sum, sum, low),
              vector::ShuffleOp::create(*this, sum, sum, high));
  }
  return vector::ExtractOp::create(*this, sum, int64_t(0));
}

//===----------------------------------------------------------------------===//
// Ports
//===----------------------------------------------------------------------===//

/// Scalars in slot order are (T, K), all others have one dimension.
static Values scalarIndices(KernelEmitter &b, Value memref, PortAttr port,
                            const Row &row) {
  auto type = cast<MemRefType>(memref.getType());
  Value at = b.rowIndex(port, row);
  if (type.getRank() == 1)
    return {at};
  int64_t k = type.getDimSize(1);
  return {b.div(at, k), b.rem(at, k)};
}

Value KernelEmitter::foldPartials(Value memref, Value row, Type compute) {
  int64_t segments = cast<MemRefType>(memref.getType()).getDimSize(1);
  if (ShapedType::isDynamic(segments) || segments < 1) {
    return carry(index(0), size(memref, 1), 1, constant(compute, 0.0),
                 [&](Value segment, ValueRange sum) {
                   return Values{add(
                       sum[0], widen(load(memref, {row, segment}), compute))};
                 })[0];
  }
  Value first = widen(load(memref, {row, index(0)}), compute);
  return carry(index(1), index(segments), 1, first,
               [&](Value segment, ValueRange sum) {
                 return Values{
                     add(sum[0], widen(load(memref, {row, segment}), compute))};
               })[0];
}

Value KernelEmitter::loadRowValue(Value memref, PortAttr port, const Row &row,
                                  Type compute) {
  if (port.hasColumns())
    return Value();
  if (port.getKind() == PortKind::Partials)
    return foldPartials(memref, rowIndex(port, row), compute);
  return widen(load(memref, scalarIndices(*this, memref, port, row)), compute);
}

void KernelEmitter::storeRowValue(Value value, Value memref, PortAttr port,
                                  const Row &row) {
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  store(narrow(value, element), memref,
        scalarIndices(*this, memref, port, row));
}

void KernelEmitter::loadColumns(Value memref, PortAttr port, const Row &row,
                                int64_t width, Value column, int64_t lanes,
                                Type compute, Values &values) {
  Value at = rowIndex(port, row);
  int64_t count = port.getCount();
  if (port.getLayout() != ColumnLayout::Interleave || count == 1) {
    for (int64_t i = 0; i < count; ++i)
      values.push_back(widen(
          loadVector(memref, at, i ? add(column, i * width) : column, lanes),
          compute));
    return;
  }
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  Value first = mul(column, count);
  if (count == 2 && lanes == vectorLanes) {
    Value both =
        vector::LoadOp::create(*this, vectorOf(element, 2 * vectorLanes),
                               memref, ValueRange{at, first});
    auto apart = vector::DeinterleaveOp::create(*this, both);
    for (Value value : apart.getResults())
      values.push_back(widen(value, compute));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    Value value = zeros(element);
    for (int64_t lane = 0; lane < lanes; ++lane)
      value = vector::InsertOp::create(
          *this, load(memref, {at, add(first, lane * count + i)}), value, lane);
    values.push_back(widen(value, compute));
  }
}

void KernelEmitter::storeColumns(ValueRange values, Value memref, PortAttr port,
                                 const Row &row, int64_t width, Value column,
                                 int64_t lanes) {
  Value at = rowIndex(port, row);
  int64_t count = port.getCount();
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  if (port.getLayout() != ColumnLayout::Interleave || count == 1) {
    for (int64_t i = 0; i < count; ++i)
      storeVector(narrow(splat(values[i]), element), memref, at,
                  i ? add(column, i * width) : column, lanes);
    return;
  }
  Value first = mul(column, count);
  if (count == 2 && lanes == vectorLanes) {
    Value both =
        vector::InterleaveOp::create(*this, narrow(splat(values[0]), element),
                                     narrow(splat(values[1]), element));
    vector::StoreOp::create(*this, both, memref, ValueRange{at, first});
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    Value value = narrow(splat(values[i]), element);
    for (int64_t lane = 0; lane < lanes; ++lane)
      store(vector::ExtractOp::create(*this, value, lane), memref,
            {at, add(first, lane * count + i)});
  }
}

Values KernelEmitter::inlineRegion(Block &body, ValueRange arguments) {
  IRMapping map;
  map.map(body.getArguments(), arguments);
  for (Operation &op : body.without_terminator()) {
    bool vectors = llvm::any_of(op.getOperands(), [&](Value operand) {
      return isa<VectorType>(map.lookup(operand).getType());
    });
    if (!vectors) {
      clone(op, map);
      continue;
    }
    OperationState state(getLoc(), op.getName());
    for (Value operand : op.getOperands())
      state.addOperands(splat(map.lookup(operand)));
    for (Type type : op.getResultTypes())
      state.addTypes(vectorOf(type));
    state.addAttributes(llvm::to_vector(op.getDiscardableAttrs()));
    state.propertiesAttr = op.getPropertiesAsAttribute();
    Operation *wide = create(state);
    map.map(op.getResults(), wide->getResults());
  }
  Values yielded;
  for (Value value : body.getTerminator()->getOperands())
    yielded.push_back(map.lookup(value));
  return yielded;
}

void KernelEmitter::zeroSentinels(const Tables &tables, ValueRange outs,
                                  ArrayAttr ports) {
  if (llvm::none_of(ports, [](Attribute port) {
        return cast<PortAttr>(port).getOrder() == RowOrder::Slot;
      }))
    return;
  chunked(tables.slots, 1024, [&](Value slot) {
    Value valid;
    slotRow(tables, slot, valid);
    when(
        valid, [] {},
        [&] {
          for (unsigned i = 0; i < outs.size(); ++i) {
            Value out = outs[i];
            auto port = cast<PortAttr>(ports[i]);
            if (port.getOrder() != RowOrder::Slot)
              continue;
            auto type = cast<MemRefType>(out.getType());
            Value zero = constant(type.getElementType(), 0.0);
            if (port.getKind() == PortKind::Scalar ||
                port.getKind() == PortKind::Sum)
              storeRowValue(zero, out, port, {Value(), slot, Value(), Value()});
            else
              loop(index(0), size(out, 1), 1,
                   [&](Value column) { store(zero, out, {slot, column}); });
          }
        });
  });
}
