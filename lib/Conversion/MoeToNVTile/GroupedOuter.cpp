// SPDX-License-Identifier: Apache-2.0
// moe.grouped_outer as one nvtile kernel. A tile is 128 x 256 elements of one
// expert's result; the contraction runs over the expert's rows, so operands are
// MN-major, and rows past the expert's end read as zero.
#include "Config.h"
#include "KernelBuilder.h"
#include "WorkTable.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::nvtile;

std::string mlir::moe::whyNotNVTile(GroupedOuterOp op) {
  std::string text;
  llvm::raw_string_ostream os(text);
  Type element = memrefOf(op.getX()).getElementType();
  Type result = memrefOf(op.getOuts()[0]).getElementType();
  if (!isHalf(element))
    os << "its operands are " << element << ", not bf16 or f16";
  else if (memrefOf(op.getDy()).getElementType() != element)
    os << "its operands differ in type";
  else if (!isHalf(result) && !result.isF32())
    os << "its result is " << result;
  else
    for (Value rows : {op.getX(), op.getDy()})
      if (memrefOf(rows).isDynamicDim(1) || memrefOf(rows).getDimSize(1) % 8) {
        os << "the columns of " << memrefOf(rows) << " are no multiple of 8";
        break;
      }
  return text;
}

KernelFacts mlir::moe::factsOf(GroupedOuterOp op) {
  bool staged = isHalf(memrefOf(op.getOuts()[0]).getElementType());
  return {staged ? kTileColumns / kChunk : 0, /*leastStages=*/2};
}

/// A coordinate so far out that, with the strides of a ragged map, row 2^30 is
/// the expert's end: addresses wrap modulo 2^64.
constexpr int64_t kFar = 1 << 30;

namespace {
struct Side {
  Value rows;
  RowOrder order;
  /// Its tile in a stage: number, and features in it.
  int64_t tile, features, width;
  /// A ragged map (grouped rows) or memory (gathered rows).
  Value from;
  bool gathered() const { return order != RowOrder::Grouped; }
};

class Outer {
public:
  Outer(GroupedOuterOp op, const Tables &tables);
  void build(VariantAttr variant);

private:
  /// What one tile needs to know.
  struct Item {
    Value first, end, expert, size, steps, m, n;
  };
  void passSide(Side &side);
  Value allocatePartials(int64_t parts);
  /// Carries a position over the tiles of this block.
  Value eachTile(Value position, function_ref<Value(const Item &, Value)> body);
  Value produceTile(const Item &item, Value position);
  void consume(Value warpgroup);
  void store(Value accumulator, Value warpgroup, const Item &item);
  void storePart(Value accumulator, Value warpgroup, const Item &item);

  GroupedOuterOp op;
  const Tables &tables;
  KernelBuilder kernel;
  KernelCode &b;
  Type element;
  Side sides[2];
  Value out, map, table, ring, staging;
  /// Sums of parts of experts, where they are split.
  Value partials;
  bool gathers;
};
} // namespace

Outer::Outer(GroupedOuterOp op, const Tables &tables)
    : op(op), tables(tables), kernel(op, tables, "grouped_outer"), b(kernel.b),
      element(memrefOf(op.getX()).getElementType()) {
  Side x{op.getX(), op.getXFrom(), 0, 0, memrefOf(op.getX()).getDimSize(1), {}};
  Side dy{op.getDy(), op.getDyFrom(), 0, 0, memrefOf(op.getDy()).getDimSize(1),
          {}};
  bool outIn = op.getLayout() == WeightLayout::OutIn;
  sides[0] = outIn ? dy : x;
  sides[1] = outIn ? x : dy;
  sides[1].tile = 1;
  sides[0].features = kBlockRows;
  sides[1].features = kTileColumns;
  gathers = sides[0].gathered() || sides[1].gathered();
}

void Outer::passSide(Side &side) {
  if (side.gathered()) {
    side.from = kernel.pass(side.rows);
    return;
  }
  int64_t pitch = 2 * side.width;
  constexpr int64_t kMany = 0x7fff0000;
  side.from = kernel.passMap(side.rows, {side.width, kFar, kMany, kMany},
                             {pitch, pitch, (int64_t(1) << 34) - pitch},
                             {kDepth, kDepth, 1, 1});
}

void Outer::build(VariantAttr variant) {
  for (Side &side : sides)
    passSide(side);
  out = kernel.pass(op.getOuts()[0]);
  if (isHalf(memrefOf(out).getElementType()))
    map = kernel.passMap(
        op.getOuts()[0], {sides[1].width, sides[0].width, tables.experts},
        {2 * sides[1].width, 2 * sides[1].width * sides[0].width},
        {kChunk, 64, 1});
  table = kernel.pass(tables.work);
  Value hostPartials = allocatePartials(variant.getParts());
  if (hostPartials)
    partials = kernel.pass(hostPartials);
  constexpr int32_t kProducers = 128;
  ring = kernel.makeRing(variant.getStages(), {kBlockRows, kTileColumns},
                         gathers ? 1 + kProducers : 1);
  staging = kernel.makeStaging(variant.getBuffers());
  kernel.specialize(
      gathers,
      [&] {
        auto all = [&] {
          return eachTile(b.i32(0), [&](const Item &item, Value position) {
            return produceTile(item, position);
          });
        };
        if (!gathers)
          return b.elect([&] { all(); });
        all();
        DrainOp::create(b);
      },
      [&](Value warpgroup) { consume(warpgroup); });
  kernel.finish();
  if (hostPartials)
    emitFoldParts(kernel.host, tables.work, hostPartials, op.getOuts()[0],
                  tables.order, op.getAccumulate());
}

/// Memory for the sums of parts, beside the work table; null without parts.
Value Outer::allocatePartials(int64_t parts) {
  if (parts <= 1)
    return {};
  Operation *table = tables.work.getDefiningOp();
  OpBuilder::InsertionGuard guard(kernel.host);
  kernel.host.setInsertionPointAfter(table);
  SmallVector<int64_t> shape(memrefOf(op.getOuts()[0]).getShape());
  shape[0] = parts;
  return memref::AllocOp::create(kernel.host,
                                 MemRefType::get(shape, b.getF32Type()));
}

/// Experts come largest first, and blocks go to and fro over them, so that the
/// last tiles are short ones evenly spread.
Value Outer::eachTile(Value start,
                      function_ref<Value(const Item &, Value)> body) {
  int64_t rows = llvm::divideCeil(sides[0].width, kBlockRows);
  int64_t columns = llvm::divideCeil(sides[1].width, kTileColumns);
  int64_t each = rows * columns;
  Value work = b.i32(each * tables.experts);
  if (partials)
    work = b.mul(WorkCountOp::create(b, b.getI32Type(), table), b.i32(each));
  else if (each * tables.experts == 1)
    // A single tile: LLVM would find that there is one turn and take its first
    // product out of the loop. The accumulator's zeros would then lie between
    // wgmma's fence and that product, and ptxas add a fence of its own (C7519).
    // So the number comes from memory: the first expert is 0.
    work = b.add(
        kernel.workItem(table, b.i32(0), /*byExpert=*/true).getExpert(), 1);
  Value block = b.blockId(), blocks = b.gridSize();
  Value back = b.sub(b.sub(blocks, 1), block);
  Value turns = b.div(b.add(work, b.sub(blocks, 1)), blocks);
  return b.loop(
      b.i32(0), turns, b.i32(1), start,
      [&](Value turn, ValueRange carried) -> Values {
        Value odd = b.compare(arith::CmpIPredicate::ne,
                              b.op<arith::AndIOp>(turn, 1), b.i32(0));
        Value mine = arith::SelectOp::create(b, odd, back, block);
        Value t = b.add(b.mul(turn, blocks), mine);
        auto some = scf::IfOp::create(
            b, TypeRange(b.getI32Type()),
            b.compare(arith::CmpIPredicate::slt, t, work), /*withElse=*/true);
        OpBuilder::InsertionGuard guard(b);
        b.setInsertionPointToStart(some.elseBlock());
        scf::YieldOp::create(b, carried[0]);
        b.setInsertionPointToStart(some.thenBlock());
        auto entry = kernel.workItem(table, b.div(t, each), /*byExpert=*/true);
        Item item{entry.getFirst(),
                  entry.getEnd(),
                  entry.getExpert(),
                  {},
                  {},
                  {},
                  {}};
        Value tile = b.rem(t, each);
        item.m = b.mul(b.rem(tile, rows), kBlockRows);
        item.n = b.mul(b.div(tile, rows), kTileColumns);
        item.size = b.sub(item.end, item.first);
        // An empty expert has one step of zeros.
        item.steps = b.op<arith::MaxSIOp>(
            b.div(b.add(item.size, kDepth - 1), kDepth), 1);
        scf::YieldOp::create(b, body(item, carried[0]));
        return {some.getResult(0)};
      })[0];
}

Value Outer::produceTile(const Item &item, Value start) {
  Value far = b.i32(kFar), offset = b.sub(far, item.size);
  // Ids of gathered rows are read two steps ahead.
  SmallVector<RowOrder, 2> orders;
  for (const Side &side : sides)
    if (side.gathered() && !llvm::is_contained(orders, side.order))
      orders.push_back(side.order);
  auto idsAt = [&](RowOrder order, Value row) -> Value {
    return kernel.rowIds(kDepth, order, row, item.end, /*bounded=*/false);
  };
  Values inits = {start};
  for (int64_t ahead : {0, 1})
    for (RowOrder order : orders)
      inits.push_back(idsAt(order, b.add(item.first, ahead * kDepth)));
  Values end = b.loop(
      b.i32(0), item.steps, b.i32(1), inits,
      [&](Value step, ValueRange carried) -> Values {
        Value position = carried[0], k = b.mul(step, kDepth);
        Values next = {b.add(position, 1)};
        llvm::append_range(next, carried.drop_front(1 + orders.size()));
        for (RowOrder order : orders)
          next.push_back(idsAt(order, b.add(item.first, b.add(k, 2 * kDepth))));
        AcquireOp::create(b, ring, position);
        auto copies = [&] {
          int64_t bytes = 0;
          for (const Side &side : sides)
            bytes += side.gathered() ? 0 : 128 * side.features;
          ExpectOp::create(b, ring, position, bytes);
          Value y = b.add(offset, k);
          for (const Side &side : sides)
            for (int64_t at = 0; !side.gathered() && at < side.features;
                 at += kDepth)
              LoadOp::create(b, side.from,
                             ValueRange{b.add(side.tile ? item.n : item.m, at),
                                        y, item.end, far},
                             ring, position, side.tile, at);
        };
        if (!gathers) {
          copies();
          return next;
        }
        b.elect(copies);
        for (const Side &side : sides)
          if (side.gathered())
            GatherOp::create(
                b, side.from,
                carried[1 + (llvm::find(orders, side.order) - orders.begin())],
                side.tile ? item.n : item.m, b.sub(item.size, k), ring,
                position, side.tile);
        CommitOp::create(b, ring, position);
        return next;
      });
  return end[0];
}

void Outer::consume(Value warpgroup) {
  auto type = FragmentType::get(b.getContext(), 64, kTileColumns);
  Value zero = ZeroOp::create(b, type);
  eachTile(b.i32(0), [&](const Item &item, Value start) -> Value {
    Value position, accumulator;
    std::tie(position, accumulator) =
        kernel.products(ring, start, start, item.steps, zero, warpgroup,
                        element, /*lhsMN=*/true, /*rhsMN=*/true);
    accumulator = kernel.finishProducts(ring, position, accumulator);
    auto whole = [&] { store(accumulator, warpgroup, item); };
    if (partials)
      b.either(b.compare(arith::CmpIPredicate::slt, item.expert,
                         b.i32(tables.experts)),
               whole, [&] { storePart(accumulator, warpgroup, item); });
    else
      whole();
    return position;
  });
  StageFlushOp::create(b);
}

void Outer::store(Value accumulator, Value warpgroup, const Item &item) {
  auto chunkType = FragmentType::get(b.getContext(), 64, kChunk);
  int64_t rows = sides[0].width;
  Value m = b.add(item.m, b.mul(warpgroup, 64));
  // Rows of all experts' results, one below the other.
  Value firstRow = b.mul(item.expert, rows);
  Value row = b.add(firstRow, m), end = b.add(firstRow, rows);
  Value limit = b.i32(sides[1].width);
  for (int64_t chunk = 0; chunk < kTileColumns / kChunk; ++chunk) {
    Value column = b.add(item.n, chunk * kChunk);
    Value fragment =
        ColumnsOp::create(b, chunkType, accumulator, chunk * kChunk);
    if (op.getAccumulate()) {
      Value before =
          LoadFragmentOp::create(b, TypeRange(chunkType), out, row, column, end,
                                 limit, Value(), Value(), 1)
              .getResult(0);
      fragment = kernel.sum(before, fragment);
    }
    // The map ends with the expert, so the copy engine may always write.
    if (staging)
      kernel.stageStore(kernel.round(fragment, out), staging, warpgroup, map,
                        {column, m, item.expert}, out, b.i32(0), column,
                        b.i32(64), limit);
    else
      StoreFragmentOp::create(b, fragment, out, row, column, end, limit,
                              Value(), Value(), 1);
  }
}

/// The sum of a part, as it is: parts are added to the result by a kernel of
/// their own.
void Outer::storePart(Value accumulator, Value warpgroup, const Item &item) {
  auto chunkType = FragmentType::get(b.getContext(), 64, kChunk);
  int64_t rows = sides[0].width, parts = memrefOf(partials).getDimSize(0);
  Value part = b.sub(item.expert, tables.experts);
  Value firstRow = b.mul(part, rows);
  Value row = b.add(firstRow, b.add(item.m, b.mul(warpgroup, 64)));
  // Parts that a wrong table has too many are not stored.
  Value end = b.op<arith::MinSIOp>(b.add(firstRow, rows), b.i32(parts * rows));
  for (int64_t at = 0; at < kTileColumns; at += kChunk)
    StoreFragmentOp::create(b, ColumnsOp::create(b, chunkType, accumulator, at),
                            partials, row, b.add(item.n, at), end,
                            b.i32(sides[1].width), Value(), Value(), 1);
}

void mlir::moe::buildNVTileKernel(GroupedOuterOp op, const Tables &tables,
                                  VariantAttr variant) {
  Outer(op, tables).build(variant);
}
