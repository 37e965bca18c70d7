// SPDX-License-Identifier: Apache-2.0
// moe.grouped_matmul as one nvtile kernel. A tile is 128 grouped rows and 256
// accumulator columns: all values of 256 / c region columns side by side, so
// that the region finds its arguments in one thread.
#include "Config.h"
#include "Epilogue.h"
#include "Weights.h"

#include "moe/Conversion/NVTileToNVVM/ScalarMath.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::nvtile;

//===----------------------------------------------------------------------===//
// What fits
//===----------------------------------------------------------------------===//

static bool alternates(PortAttr port) {
  return port.hasColumns() && port.getCount() > 1 &&
         port.getLayout() == ColumnLayout::Interleave;
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
    Type type = memrefOf(operand).getElementType();
    if (alternates(port) && port.getCount() != 2)
      return reason("its region reads ", port.getCount(),
                    " interleaved columns, not 2");
    if (!isHalf(type) && !type.isF32())
      return reason("its region reads ", type);
  }
  for (auto [result, attr] : llvm::zip_equal(op.getOuts(), op.getOutPorts())) {
    auto port = cast<PortAttr>(attr);
    Type type = memrefOf(result).getElementType();
    if (port.getKind() != PortKind::Rows && count == 4)
      return "row sums of four column blocks";
    if (!isHalf(type) && !type.isF32())
      return reason("a result is ", type);
    if (alternates(port) && (port.getCount() != 2 || type.isF32()))
      return reason("a result has ", port.getCount(),
                    " interleaved columns of ", type, ", not 2 of bf16 or f16");
  }
  if (EpilogueLayout(op).leastStages() > kMostStages)
    return "its region reads more grouped rows than fit in shared memory";
  for (Operation &inner : op.getBody().front().without_terminator())
    if (!isScalarMath(&inner))
      return reason("its region has ", inner.getName().getStringRef());
  return {};
}

KernelFacts mlir::moe::factsOf(GroupedMatmulOp op) {
  EpilogueLayout layout(op);
  return {layout.stores, layout.leastStages()};
}

//===----------------------------------------------------------------------===//
// The kernel
//===----------------------------------------------------------------------===//

namespace {
struct Pair {
  RowOrder order;
  int64_t depth;
  /// Left rows as a map (grouped) or memory (gathered).
  Value lhs;
  Weights weights;
  bool gathered() const { return order != RowOrder::Grouped; }
};

class Matmul {
public:
  Matmul(GroupedMatmulOp op, const Tables &tables);
  void build(VariantAttr variant);

private:
  SmallVector<Pair> passPairs();
  void produce();
  void load(const Pair &pair, Value ids, Value position, Value step,
            Value first, Value column, Value expert);
  void consume(Value warpgroup);
  Value fills(const Pair &pair) {
    return b.i32(llvm::divideCeil(pair.depth, kDepth));
  }

  GroupedMatmulOp op;
  const Tables &tables;
  KernelBuilder kernel;
  KernelCode &b;
  Type element;
  int64_t count, width, columns, tiles;
  SmallVector<Pair> pairs;
  bool gathers;
  Epilogue epilogue;
  Value table, ring, work, rowBlocks;
};
} // namespace

Matmul::Matmul(GroupedMatmulOp op, const Tables &tables)
    : op(op), tables(tables), kernel(op, tables, "grouped_matmul"), b(kernel.b),
      element(memrefOf(op.getLhs()[0]).getElementType()),
      count(op.getColumns().getCount()), width(op.getWidth()),
      columns(kTileColumns / count), tiles(llvm::divideCeil(width, columns)),
      pairs(passPairs()),
      gathers(llvm::any_of(pairs, [](const Pair &p) { return p.gathered(); })),
      epilogue(op, kernel, columns) {}

SmallVector<Pair> Matmul::passPairs() {
  SmallVector<Pair> all;
  for (auto [i, lhs] : llvm::enumerate(op.getLhs())) {
    RowOrder order = op.lhsOrder(i);
    int64_t depth = memrefOf(lhs).getDimSize(1);
    Value rows = order == RowOrder::Grouped
                     ? kernel.passMap(lhs, {depth, -1}, {2 * depth},
                                      {kDepth, kBlockRows})
                     : kernel.pass(lhs);
    all.push_back(
        {order, depth, rows, Weights(op, i, tables, kernel, kTileColumns)});
  }
  return all;
}

void Matmul::build(VariantAttr variant) {
  table = kernel.pass(tables.work);
  constexpr int32_t kProducers = 128;
  ring = kernel.makeRing(variant.getStages(), {kBlockRows, kTileColumns},
                         gathers ? 1 + kProducers : 1);
  epilogue.use(ring, kernel.makeStaging(variant.getBuffers()));
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
    int64_t bytes = pair.weights.getTileBytes();
    if (!pair.gathered())
      bytes += 128 * kBlockRows;
    ExpectOp::create(b, ring, position, bytes);
    if (!pair.gathered())
      LoadOp::create(b, pair.lhs, ValueRange{k, first}, ring, position, 0, 0);
    pair.weights.load(k, column, expert, ring, position, 1);
  };
  if (!gathers)
    return copies();
  b.elect(copies);
  if (pair.gathered())
    GatherOp::create(b, pair.lhs, ids, k, Value(), ring, position, 0);
  CommitOp::create(b, ring, position);
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
                 position = b.rolledLoop(
                     b.i32(0), fills(pair), b.i32(1), position,
                     [&](Value step, ValueRange carried) -> Values {
                       load(pair, Value(), carried[0], step, item.getFirst(),
                            column, item.getExpert());
                       return {b.add(carried[0], 1)};
                     })[0];
               return {epilogue.produce(position, item.getFirst(), column,
                                        /*gathers=*/false)};
             });
    });

  // Row ids are read a tile ahead, so that no copy waits for them.
  SmallVector<RowOrder, 2> orders;
  for (const Pair &pair : pairs)
    if (pair.gathered() && !llvm::is_contained(orders, pair.order))
      orders.push_back(pair.order);
  Value grid = b.gridSize(), last = b.sub(rowBlocks, 1);
  auto itemOf = [&](Value t) -> Values {
    Value index = b.op<arith::MinSIOp>(b.div(t, tiles), last);
    auto item = kernel.workItem(table, index, false);
    Values values = item.getResults();
    for (RowOrder order : orders)
      values.push_back(
          kernel.rowIds(kBlockRows, order, item.getFirst(), item.getEnd()));
    return values;
  };
  Value start = b.blockId();
  Values inits = {b.i32(0)};
  llvm::append_range(inits, itemOf(start));
  b.loop(start, work, grid, inits, [&](Value t, ValueRange carried) -> Values {
    Values next = itemOf(b.add(t, grid));
    Value column = b.mul(b.rem(t, tiles), columns);
    Value position = carried[0];
    for (const Pair &pair : pairs) {
      const auto *order = llvm::find(orders, pair.order);
      Value ids = order == orders.end() ? Value()
                                        : carried[4 + (order - orders.begin())];
      position = b.rolledLoop(b.i32(0), fills(pair), b.i32(1), position,
                              [&](Value step, ValueRange inner) -> Values {
                                load(pair, ids, inner[0], step, carried[1],
                                     column, carried[3]);
                                return {b.add(inner[0], 1)};
                              })[0];
    }
    Values yielded = {epilogue.produce(position, carried[1], column,
                                       /*gathers=*/true)};
    llvm::append_range(yielded, next);
    return yielded;
  });
  DrainOp::create(b);
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
           TileRows rows{warpgroup, b.add(item.getFirst(), half), item.getEnd(),
                         item.getExpert(), b.mul(b.rem(t, tiles), columns)};
           Values scalars = epilogue.loadScalars(rows);
           Value position = carried[0], accumulator = zero;
           for (const Pair &pair : pairs)
             std::tie(position, accumulator) = kernel.products(
                 ring, carried[0], position, fills(pair), accumulator,
                 warpgroup, element, /*lhsMN=*/false, pair.weights.isMN(),
                 epilogue.stagesHeld());
           accumulator = kernel.finishProducts(ring, position, accumulator);
           return {epilogue.run(accumulator, position, rows, scalars)};
         });
  StageFlushOp::create(b);
}

void mlir::moe::buildNVTileKernel(GroupedMatmulOp op, const Tables &tables,
                                  VariantAttr variant) {
  if (variant.getStructure() == Structure::Resident)
    return buildResidentKernel(op, tables, variant);
  Matmul(op, tables).build(variant);
}
