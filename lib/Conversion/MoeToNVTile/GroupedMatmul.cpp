// SPDX-License-Identifier: Apache-2.0
// moe.grouped_matmul as one nvtile kernel. A tile is 128 grouped rows and 256
// accumulator columns: all values of 256 / c region columns side by side, so
// that the region finds its arguments in one thread.
#include "KernelBuilder.h"

#include "moe/Conversion/NVTileToNVVM/ScalarMath.h"

#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::nvtile;

static MemRefType memrefOf(Value value) {
  return cast<MemRefType>(value.getType());
}

static bool isHalf(Type type) { return type.isBF16() || type.isF16(); }

//===----------------------------------------------------------------------===//
// What fits
//===----------------------------------------------------------------------===//

template <typename... Parts> static std::string reason(const Parts &...parts) {
  std::string text;
  llvm::raw_string_ostream os(text);
  (os << ... << parts);
  return text;
}

std::string mlir::moe::whyNotNVTile(GroupedMatmulOp op) {
  int64_t count = op.getColumns().getCount(), width = op.getWidth();
  Type element = memrefOf(op.getLhs()[0]).getElementType();
  if (!isHalf(element))
    return reason("its operands are ", element, ", not bf16 or f16");
  if (count != 1 && count != 2 && count != 4)
    return reason("its accumulator has ", count,
                  " column blocks, not 1, 2 or 4");
  if (width % 8)
    return reason("its ", width, " columns are no multiple of 8");
  for (auto [i, lhs] : llvm::enumerate(op.getLhs())) {
    if (memrefOf(lhs).getElementType() != element ||
        memrefOf(op.getRhs()[i]).getElementType() != element)
      return "its operands differ in type";
    if (memrefOf(lhs).isDynamicDim(1) || memrefOf(lhs).getDimSize(1) % 8)
      return reason("the ", memrefOf(lhs).getDimSize(1),
                    " columns of its left rows are no multiple of 8");
    if (op.rhsLayout(i) == WeightLayout::InOut &&
        op.getColumns().getLayout() == ColumnLayout::Interleave)
      return "interleaved columns of (E, in, out) weights";
  }
  for (auto [operand, attr] : llvm::zip_equal(op.getIns(), op.getInPorts())) {
    auto port = cast<PortAttr>(attr);
    if (port.getKind() == PortKind::Partials)
      return "its region reads partials";
    if (port.hasColumns() && port.getLayout() == ColumnLayout::Interleave)
      return "its region reads interleaved columns";
    if (!isHalf(memrefOf(operand).getElementType()) &&
        !memrefOf(operand).getElementType().isF32())
      return reason("its region reads ", memrefOf(operand).getElementType());
  }
  for (auto [result, attr] : llvm::zip_equal(op.getOuts(), op.getOutPorts())) {
    auto port = cast<PortAttr>(attr);
    if (port.getKind() != PortKind::Rows &&
        port.getKind() != PortKind::Partials)
      return "a result is no rows or partials";
    if (port.getOrder() != RowOrder::Grouped)
      return "a result is not in grouped order";
    if (port.hasColumns() && port.getLayout() == ColumnLayout::Interleave)
      return "a result has interleaved columns";
    if (port.getKind() == PortKind::Partials && count == 4)
      return "partials of four column blocks";
    Type type = memrefOf(result).getElementType();
    if (!isHalf(type) && !type.isF32())
      return reason("a result is ", type);
  }
  for (Operation &inner : op.getBody().front().without_terminator())
    if (!isScalarMath(&inner))
      return reason("its region has ", inner.getName().getStringRef());
  return {};
}

//===----------------------------------------------------------------------===//
// The kernel
//===----------------------------------------------------------------------===//

namespace {
struct Pair {
  RowOrder order;
  WeightLayout layout;
  int64_t depth;
  /// Left rows as a map (grouped) or memory (gathered), and the weights' map.
  Value lhs, rhs;
  bool gathered() const { return order != RowOrder::Grouped; }
};

/// A result: its parameter and, for 16-bit rows, its map.
struct Result {
  PortAttr port;
  Value memory, map;
};

/// Columns that a region's body runs on at a time: half a chunk, so that its
/// operands and results fit beside the accumulator.
constexpr int64_t kStep = 32;

/// A gathered stage is signalled so many positions late.
constexpr int64_t kLag = 1;

/// A column block of an operand that comes through the ring: 128 rows of 64
/// columns.
struct Staged {
  unsigned operand;
  int64_t block;
  Value map;
};
/// Staged blocks that a stage has room for, and where they go: tile and row.
constexpr int64_t kStagedPerStage = 3;
constexpr std::pair<int32_t, int32_t> kStagedPlaces[] = {
    {1, 0}, {1, 128}, {0, 0}};

class Matmul {
public:
  Matmul(GroupedMatmulOp op, const Tables &tables);
  void build();

private:
  void passPairs();
  void passPorts();
  void produce();
  void load(const Pair &pair, Value ids, Value position, Value step,
            Value first, Value column, Value expert);
  Value loadStaged(Value position, Value first, Value column);
  void consume(Value warpgroup);
  /// The operands with one value a row.
  Values loadScalars(Value row, Value end, Value expert);
  Value epilogue(Value accumulator, Value position, Value warpgroup, Value row,
                 Value end, Value expert, Value column, ValueRange scalars);
  Values mapColumns(Value accumulator, int64_t at, Value position,
                    Value warpgroup, Value row, Value end, Value expert,
                    Value column, ValueRange scalars);
  Value loadPort(unsigned index, int64_t value, Value row, Value end,
                 Value expert, Value column);
  /// Row order of an operand in memory: what `by` and `divide` say.
  Value idsOf(RowOrder order) {
    return order == RowOrder::Grouped ? Value() : rowTable;
  }
  int64_t divideOf(RowOrder order) {
    return order == RowOrder::Token ? tables.k : 1;
  }
  Value fills(const Pair &pair) {
    return b.i32(llvm::divideCeil(pair.depth, kDepth));
  }

  GroupedMatmulOp op;
  const Tables &tables;
  KernelBuilder kernel;
  KernelCode &b;
  Type element;
  int64_t count, width, columns, tiles;
  bool interleaved, gathers = false;

  SmallVector<Pair> pairs;
  Values ins;
  SmallVector<Staged> staged;
  SmallVector<Result> results;
  Value table, rowTable, ring, staging, work, rowBlocks;
};
} // namespace

Matmul::Matmul(GroupedMatmulOp op, const Tables &tables)
    : op(op), tables(tables), kernel(op, tables, "grouped_matmul"), b(kernel.b),
      element(memrefOf(op.getLhs()[0]).getElementType()),
      count(op.getColumns().getCount()), width(op.getWidth()),
      columns(kTileColumns / count), tiles(llvm::divideCeil(width, columns)),
      interleaved(op.getColumns().getLayout() == ColumnLayout::Interleave) {}

void Matmul::passPairs() {
  for (auto [i, lhs] : llvm::enumerate(op.getLhs())) {
    Pair pair{
        op.lhsOrder(i), op.rhsLayout(i), memrefOf(lhs).getDimSize(1), {}, {}};
    int64_t depth = pair.depth, out = count * width;
    gathers |= pair.gathered();
    pair.lhs = pair.gathered() ? kernel.pass(lhs)
                               : kernel.passMap(lhs, {depth, -1}, {2 * depth},
                                                {kDepth, kBlockRows});
    Value rhs = op.getRhs()[i];
    // Column blocks are a dimension, so that a box ends with its block.
    if (pair.layout == WeightLayout::InOut)
      pair.rhs = kernel.passMap(rhs, {width, count, depth, tables.experts},
                                {2 * width, 2 * out, 2 * out * depth},
                                {kDepth, 1, kDepth, 1});
    else if (interleaved)
      pair.rhs = kernel.passMap(rhs, {depth, width, count, tables.experts},
                                {2 * depth * count, 2 * depth, 2 * out * depth},
                                {kDepth, columns, 1, 1});
    else
      pair.rhs = kernel.passMap(rhs, {depth, width, count, tables.experts},
                                {2 * depth, 2 * depth * width, 2 * out * depth},
                                {kDepth, columns, 1, 1});
    pairs.push_back(pair);
  }
}

void Matmul::passPorts() {
  for (auto [i, operand] : llvm::enumerate(op.getIns())) {
    PortAttr port = op.inPort(i);
    if (port.getKind() == PortKind::Scalar) {
      ins.push_back(kernel.passFlat(operand));
    } else if (port.getKind() == PortKind::Rows &&
               port.getOrder() == RowOrder::Grouped &&
               isHalf(memrefOf(operand).getElementType())) {
      int64_t blocks = port.getCount();
      Value map = kernel.passMap(operand, {width, blocks, -1},
                                 {2 * width, 2 * width * blocks},
                                 {kChunk, 1, kBlockRows});
      for (int64_t block = 0; block < blocks; ++block)
        staged.push_back({static_cast<unsigned>(i), block, map});
      ins.push_back(Value());
    } else {
      ins.push_back(kernel.pass(operand));
    }
  }
  for (auto [out, attr] : llvm::zip_equal(op.getOuts(), op.getOutPorts())) {
    Result result{cast<PortAttr>(attr), kernel.pass(out), {}};
    int64_t blocks = result.port.getCount();
    if (result.port.hasColumns() && isHalf(memrefOf(out).getElementType()))
      result.map =
          kernel.passMap(out, {width, blocks, -1},
                         {2 * width, 2 * width * blocks}, {kChunk, 1, 64});
    results.push_back(result);
  }
}

void Matmul::build() {
  passPairs();
  passPorts();
  table = kernel.pass(tables.work);
  rowTable = kernel.pass(tables.order);

  // Staging buffers have fixed places, so a tile fills each equally often.
  int64_t stores = 0;
  for (const Result &result : results)
    if (result.map)
      stores += result.port.getCount() * columns / kChunk;
  int64_t stages = kernel.config("stages", gathers || stores % 4 ? 4 : 3);
  int64_t buffers = kernel.config("buffers", stages == 3 ? 4 : 2);
  while (buffers > 1 && stores % buffers)
    --buffers;

  constexpr int32_t kProducers = 128;
  ring = kernel.makeRing(stages, {kBlockRows, kTileColumns},
                         gathers ? 1 + kProducers : 1);
  staging = kernel.makeStaging(buffers);
  rowBlocks = WorkCountOp::create(b, b.getI32Type(), table);
  work = b.mul(rowBlocks, tiles);
  kernel.specialize(
      gathers, [&] { produce(); },
      [&](Value warpgroup) { consume(warpgroup); });
  kernel.finish();
}

//===----------------------------------------------------------------------===//
// The producing warpgroup
//===----------------------------------------------------------------------===//

void Matmul::load(const Pair &pair, Value ids, Value position, Value step,
                  Value first, Value column, Value expert) {
  Value k = b.mul(step, kDepth);
  AcquireOp::create(b, ring, position);
  auto copies = [&] {
    int64_t bytes = 128 * (kTileColumns + (pair.gathered() ? 0 : kBlockRows));
    ExpectOp::create(b, ring, position, bytes);
    if (!pair.gathered())
      LoadOp::create(b, pair.lhs, ValueRange{k, first}, ring, position, 0, 0);
    if (pair.layout == WeightLayout::OutIn) {
      for (int64_t i = 0; i < count; ++i)
        LoadOp::create(b, pair.rhs, ValueRange{k, column, b.i32(i), expert},
                       ring, position, 1, i * columns);
      return;
    }
    // Blocks of 64 columns x 64 contraction steps.
    for (int64_t at = 0; at < kTileColumns; at += kDepth)
      LoadOp::create(b, pair.rhs,
                     ValueRange{b.add(column, at % columns),
                                b.i32(at / columns), k, expert},
                     ring, position, 1, at);
  };
  if (!gathers)
    return copies();
  b.elect(copies);
  if (pair.gathered())
    GatherOp::create(b, pair.lhs, ids, k, Value(), ring, position, 0);
  CommitOp::create(b, ring, position, kLag);
}

/// After a tile's products its operands of the epilogue, a chunk of columns at
/// a time. Returns the next position.
Value Matmul::loadStaged(Value position, Value first, Value firstColumn) {
  for (int64_t chunk = 0; chunk < columns / kChunk; ++chunk) {
    Value column = b.add(firstColumn, chunk * kChunk);
    for (ArrayRef<Staged> rest = staged; !rest.empty();) {
      ArrayRef<Staged> here = rest.take_front(kStagedPerStage);
      rest = rest.drop_front(here.size());
      AcquireOp::create(b, ring, position);
      auto copies = [&] {
        ExpectOp::create(b, ring, position, 128 * kBlockRows * here.size());
        for (auto [block, place] : llvm::zip(here, kStagedPlaces))
          LoadOp::create(b, block.map,
                         ValueRange{column, b.i32(block.block), first}, ring,
                         position, place.first, place.second);
      };
      if (gathers) {
        b.elect(copies);
        CommitOp::create(b, ring, position, kLag);
      } else {
        copies();
      }
      position = b.add(position, 1);
    }
  }
  return position;
}

void Matmul::produce() {
  if (!gathers)
    return b.elect([&] {
      b.loop(b.blockId(), work, b.gridSize(), b.i32(0),
             [&](Value t, ValueRange carried) -> Values {
               auto item = kernel.workItem(table, b.div(t, tiles), false);
               Value column = b.mul(b.rem(t, tiles), columns);
               Value position = carried[0];
               for (const Pair &pair : pairs)
                 position =
                     b.loop(b.i32(0), fills(pair), b.i32(1), position,
                            [&](Value step, ValueRange carried) -> Values {
                              load(pair, Value(), carried[0], step,
                                   item.getFirst(), column, item.getExpert());
                              return {b.add(carried[0], 1)};
                            })[0];
               return {loadStaged(position, item.getFirst(), column)};
             });
    });

  // Row ids are read a tile ahead, so that no copy waits for them.
  SmallVector<RowOrder, 2> orders;
  for (const Pair &pair : pairs)
    if (pair.gathered() && !llvm::is_contained(orders, pair.order))
      orders.push_back(pair.order);
  auto idsType = VectorType::get(kBlockRows / 16, b.getI32Type());
  Value grid = b.gridSize(), last = b.sub(rowBlocks, 1);
  auto itemOf = [&](Value t) -> Values {
    Value index = b.op<arith::MinSIOp>(b.div(t, tiles), last);
    auto item = kernel.workItem(table, index, false);
    Values values = item.getResults();
    for (RowOrder order : orders)
      values.push_back(RowIdsOp::create(b, idsType, rowTable, item.getFirst(),
                                        item.getEnd(), divideOf(order)));
    return values;
  };
  Value start = b.blockId();
  Values inits = {b.i32(0)};
  llvm::append_range(inits, itemOf(start));
  Value end = b.loop(
      start, work, grid, inits, [&](Value t, ValueRange carried) -> Values {
        Values next = itemOf(b.add(t, grid));
        Value column = b.mul(b.rem(t, tiles), columns);
        Value position = carried[0];
        for (const Pair &pair : pairs) {
          const auto *order = llvm::find(orders, pair.order);
          Value ids = order == orders.end()
                          ? Value()
                          : carried[4 + (order - orders.begin())];
          position = b.loop(b.i32(0), fills(pair), b.i32(1), position,
                            [&](Value step, ValueRange inner) -> Values {
                              load(pair, ids, inner[0], step, carried[1],
                                   column, carried[3]);
                              return {b.add(inner[0], 1)};
                            })[0];
        }
        Values yielded = {loadStaged(position, carried[1], column)};
        llvm::append_range(yielded, next);
        return yielded;
      })[0];
  DrainOp::create(b, ring, end, kLag);
}

//===----------------------------------------------------------------------===//
// The consuming warpgroups
//===----------------------------------------------------------------------===//

void Matmul::consume(Value warpgroup) {
  auto type = FragmentType::get(b.getContext(), 64, kTileColumns);
  Value half = b.mul(warpgroup, 64), zero = ZeroOp::create(b, type);
  b.loop(b.blockId(), work, b.gridSize(), b.i32(0),
         [&](Value t, ValueRange carried) -> Values {
           auto item = kernel.workItem(table, b.div(t, tiles), false);
           Value column = b.mul(b.rem(t, tiles), columns);
           Value row = b.add(item.getFirst(), half);
           Values scalars = loadScalars(row, item.getEnd(), item.getExpert());
           Value position = carried[0], accumulator = zero;
           for (const Pair &pair : pairs)
             std::tie(position, accumulator) = kernel.products(
                 ring, carried[0], position, fills(pair), accumulator,
                 warpgroup, element, /*lhsMN=*/false,
                 pair.layout == WeightLayout::InOut);
           accumulator = kernel.finishProducts(ring, position, accumulator);
           return {epilogue(accumulator, position, warpgroup, row,
                            item.getEnd(), item.getExpert(), column, scalars)};
         });
  StageFlushOp::create(b);
}

/// Value `value` of region operand `index`, as a fragment for the columns from
/// `column`.
Value Matmul::loadPort(unsigned index, int64_t value, Value row, Value end,
                       Value expert, Value column) {
  PortAttr port = op.inPort(index);
  auto fragment = [&](int64_t rows, int64_t columns) {
    return FragmentType::get(b.getContext(), rows, columns);
  };
  Value first = value ? b.add(column, value * width) : column;
  Value limit = b.i32((value + 1) * width);
  if (port.getKind() == PortKind::Expert)
    return LoadFragmentOp::create(b, fragment(1, kStep), ins[index], expert,
                                  first, end, limit, Value(), 1);
  bool scalar = port.getKind() == PortKind::Scalar;
  return LoadFragmentOp::create(
      b, scalar ? fragment(64, 1) : fragment(64, kStep), ins[index], row,
      scalar ? b.i32(0) : first, end, scalar ? b.i32(1) : limit,
      idsOf(port.getOrder()), divideOf(port.getOrder()));
}

Values Matmul::loadScalars(Value row, Value end, Value expert) {
  Values scalars(ins.size());
  for (size_t i = 0; i < ins.size(); ++i)
    if (op.inPort(i).getKind() == PortKind::Scalar)
      scalars[i] = loadPort(i, 0, row, end, expert, Value());
  return scalars;
}

/// The region on 32 columns: from `at` of the accumulator's blocks and of the
/// chunk that `position` has staged, from `column` of memory.
Values Matmul::mapColumns(Value accumulator, int64_t at, Value position,
                          Value warpgroup, Value row, Value end, Value expert,
                          Value column, ValueRange scalars) {
  auto fragment = [&](Type element) {
    return FragmentType::get(b.getContext(), 64, kStep, element);
  };
  Values arguments;
  for (int64_t i = 0; i < count; ++i)
    arguments.push_back(ColumnsOp::create(b, fragment(b.getF32Type()),
                                          accumulator, i * columns + at));
  size_t next = 0;
  for (size_t i = 0; i < ins.size(); ++i)
    for (int64_t v = 0; v < op.inPort(i).numValues(); ++v) {
      if (scalars[i]) {
        arguments.push_back(scalars[i]);
      } else if (ins[i]) {
        arguments.push_back(loadPort(i, v, row, end, expert, column));
      } else {
        Value from = b.add(position, next / kStagedPerStage);
        auto [tile, first] = kStagedPlaces[next++ % kStagedPerStage];
        arguments.push_back(ReadOp::create(
            b, fragment(memrefOf(op.getIns()[i]).getElementType()), ring, from,
            tile, first, at % kChunk, warpgroup));
      }
    }

  Block &body = op.getBody().front();
  Operation *yield = body.getTerminator();
  SmallVector<Type> types;
  for (const Result &result : results)
    types.append(result.port.numValues(), fragment(b.getF32Type()));
  auto map = MapOp::create(b, types, arguments);
  OpBuilder::InsertionGuard guard(b);
  Block *inner = b.createBlock(&map.getBody());
  IRMapping mapping;
  for (BlockArgument argument : body.getArguments())
    mapping.map(argument,
                inner->addArgument(argument.getType(), argument.getLoc()));
  for (Operation &scalar : body.without_terminator())
    b.clone(scalar, mapping);
  Values yielded;
  for (Value value : yield->getOperands())
    yielded.push_back(mapping.lookup(value));
  nvtile::YieldOp::create(b, yielded);
  return map.getResults();
}

Value Matmul::epilogue(Value accumulator, Value position, Value warpgroup,
                       Value row, Value end, Value expert, Value firstColumn,
                       ValueRange scalars) {
  auto sumType = FragmentType::get(b.getContext(), 64, 1);
  int64_t stages = llvm::divideCeil(staged.size(), kStagedPerStage);
  Values sums(results.size());
  for (int64_t chunk = 0; chunk < columns; chunk += kChunk) {
    Value column = b.add(firstColumn, chunk);
    for (int64_t i = 0; i < stages; ++i)
      AwaitOp::create(b, ring, b.add(position, i));
    Values halves[2];
    for (int64_t half = 0; half < 2; ++half) {
      Value from = b.add(column, half * kStep);
      halves[half] = mapColumns(accumulator, chunk + half * kStep, position,
                                warpgroup, row, end, expert, from, scalars);
      unsigned number = 0;
      for (auto [i, result] : llvm::enumerate(results)) {
        Value value = halves[half][number];
        number += result.port.numValues();
        if (result.port.getKind() != PortKind::Partials)
          continue;
        Value sum =
            RowSumOp::create(b, sumType, value, b.sub(b.i32(width), from));
        sums[i] = sums[i] ? kernel.sum(sums[i], sum) : sum;
      }
    }
    for (int64_t i = 0; i < stages; ++i)
      ReleaseOp::create(b, ring, b.add(position, i));
    position = b.add(position, stages);

    unsigned number = 0;
    for (auto [i, result] : llvm::enumerate(results)) {
      if (result.port.getKind() == PortKind::Partials) {
        ++number;
        if ((chunk + kChunk) % kRowSumSegment)
          continue;
        StoreFragmentOp::create(b, sums[i], result.memory, row,
                                b.div(column, kRowSumSegment), end,
                                b.i32(numRowSumSegments(width)), Value(), 1);
        sums[i] = Value();
        continue;
      }
      for (int64_t v = 0; v < result.port.getCount(); ++v, ++number) {
        Value at = v ? b.add(column, v * width) : column;
        Value limit = b.i32((v + 1) * width);
        if (result.map) {
          Type element = memrefOf(result.memory).getElementType();
          Value both = JoinOp::create(
              b, FragmentType::get(b.getContext(), 64, kChunk, element),
              kernel.round(halves[0][number], result.memory),
              kernel.round(halves[1][number], result.memory));
          kernel.stageStore(both, staging, warpgroup, result.map,
                            {column, b.i32(v), row}, result.memory, row, at,
                            end, limit);
          continue;
        }
        for (int64_t half = 0; half < 2; ++half)
          StoreFragmentOp::create(b, halves[half][number], result.memory, row,
                                  b.add(at, half * kStep), end, limit, Value(),
                                  1);
      }
    }
  }
  return position;
}

void mlir::moe::buildNVTileKernel(GroupedMatmulOp op, const Tables &tables) {
  Matmul(op, tables).build();
}
