// SPDX-License-Identifier: Apache-2.0
// moe.grouped_matmul where the contraction is so short that a tile's weights
// stay in shared memory while row after row passes by them. Each consuming
// warpgroup multiplies 64 rows of its own, and they take turns: one multiplies
// while the other one stores.
#include "Config.h"
#include "Epilogue.h"
#include "Weights.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::nvtile;

/// Rows of a tile: one warpgroup's.
static constexpr int64_t kTileRows = kResidentRows;
/// Contraction steps of the weights that stay: 128 KiB of shared memory.
static constexpr int64_t kWeightStages = kResidentSteps;
/// Row blocks of an item, at most: see Measured in docs/NVTile.md.
static constexpr int64_t kItemBlocks = 32;

std::string mlir::moe::whyNotResident(GroupedMatmulOp op) {
  if (op.getLhs().size() != 1)
    return reason("it sums ", op.getLhs().size(), " products");
  if (op.lhsOrder(0) != RowOrder::Grouped)
    return "its left rows are gathered";
  int64_t depth = memrefOf(op.getLhs()[0]).getDimSize(1);
  if (depth > kWeightStages * kDepth)
    return reason("it contracts over ", depth, ", at most ",
                  kWeightStages * kDepth, " fit");
  for (auto [operand, attr] : llvm::zip_equal(op.getIns(), op.getInPorts())) {
    auto port = cast<PortAttr>(attr);
    if (port.getKind() == PortKind::Rows &&
        port.getOrder() == RowOrder::Grouped &&
        isHalf(memrefOf(operand).getElementType()))
      return "its region reads grouped rows";
  }
  return {};
}

namespace {
/// A row block of an item, and where the kernel stands when it comes to it.
struct RowBlock {
  Value first, end, expert;
  /// The item's first column, of each column block.
  Value column;
  /// The next fill of the ring of rows, that of the weights, and the turn of
  /// warpgroup 0.
  Value position, weights, turn;
  /// The first and the last one to use its weights.
  Value fresh, last;
};

class Resident {
public:
  Resident(GroupedMatmulOp op, const Tables &tables)
      : op(op), kernel(op, tables, "grouped_matmul"), b(kernel.b),
        element(memrefOf(op.getLhs()[0]).getElementType()),
        depth(memrefOf(op.getLhs()[0]).getDimSize(1)),
        steps(llvm::divideCeil(depth, kDepth)),
        columns(kTileColumns / op.getColumns().getCount()),
        tiles(llvm::divideCeil(op.getWidth(), columns)),
        weights(op, 0, tables, kernel, kTileColumns),
        epilogue(op, kernel, columns) {}
  void build(VariantAttr variant);

private:
  void shareOut();
  Value firstOf(Value item);
  void eachBlock(function_ref<void(const RowBlock &)> body);
  /// A block of more than 64 rows.
  Value hasSecondTile(Value first, Value end) {
    return b.compare(arith::CmpIPredicate::slt, b.add(first, kTileRows), end);
  }
  void produce(const RowBlock &block);
  void consume(const RowBlock &block, Value warpgroup);
  Value startProducts(const RowBlock &block, Value position);

  GroupedMatmulOp op;
  KernelBuilder kernel;
  KernelCode &b;
  Type element;
  int64_t depth, steps, columns, tiles;
  Weights weights;
  Epilogue epilogue;
  Value table, lhs, ring, weightRing, turns, rowBlocks, each, longer, work;
};
} // namespace

void Resident::build(VariantAttr variant) {
  table = kernel.pass(kernel.tables.work);
  lhs = kernel.passMap(op.getLhs()[0], {depth, -1}, {2 * depth},
                       {kDepth, kTileRows});
  ring = kernel.makeRing(variant.getStages(), {kTileRows}, /*fills=*/1,
                         kConsumingWarps / 2);
  weightRing = kernel.makeRing(kWeightStages, {kTileColumns}, /*fills=*/1);
  epilogue.use(ring, kernel.makeStaging(variant.getBuffers()));
  turns = MakeTurnsOp::create(b, TurnsType::get(b.getContext()));
  shareOut();
  kernel.specialize(
      /*gathers=*/false,
      [&] {
        b.elect(
            [&] { eachBlock([&](const RowBlock &block) { produce(block); }); });
      },
      [&](Value warpgroup) {
        eachBlock([&](const RowBlock &block) { consume(block, warpgroup); });
        StageFlushOp::create(b);
      });
  kernel.finish();
}

//===----------------------------------------------------------------------===//
// Work
//===----------------------------------------------------------------------===//

/// An item is one tile of columns of `each` row blocks in a row, or of one more
/// in the first `longer` groups: of at most
/// kItemBlocks, and so that the items fill whole turns of the grid.
void Resident::shareOut() {
  Value most = b.mul(b.gridSize(), kItemBlocks);
  rowBlocks = WorkCountOp::create(b, b.getI32Type(), table);
  Value turnsOfGrid =
      b.div(b.add(b.mul(rowBlocks, tiles), b.sub(most, 1)), most);
  Value groups = b.div(b.mul(turnsOfGrid, b.gridSize()), tiles);
  groups = b.op<arith::MaxSIOp>(b.op<arith::MinSIOp>(groups, rowBlocks), 1);
  each = b.div(rowBlocks, groups);
  longer = b.rem(rowBlocks, groups);
  work = b.mul(groups, tiles);
}

/// The first row block of an item.
Value Resident::firstOf(Value item) {
  Value group = b.div(item, tiles);
  return b.add(b.mul(group, each), b.op<arith::MinSIOp>(group, longer));
}

/// All row blocks of all items of this thread block. The entry of the next one
/// is read early, to tell whether its weights are others, and again in its turn
/// (from the cache): carrying it along would cost the epilogue registers.
void Resident::eachBlock(function_ref<void(const RowBlock &)> body) {
  Value grid = b.gridSize(), last = b.sub(rowBlocks, 1);
  Value yes = arith::ConstantIntOp::create(b, 1, 1);
  b.loop(b.blockId(), work, grid, {b.i32(0), b.i32(0), b.i32(0)},
         [&](Value item, ValueRange carried) -> Values {
           Value begin = firstOf(item);
           Value end = firstOf(b.add(item, tiles));
           Value column = b.mul(b.rem(item, tiles), columns);
           // The next item's first block has other columns, if not rows.
           Value after = b.op<arith::MinSIOp>(firstOf(b.add(item, grid)), last);
           Values inits = llvm::to_vector(carried);
           inits.push_back(yes);
           Values ended = b.loop(
               begin, end, b.i32(1), inits,
               [&](Value index, ValueRange at) -> Values {
                 auto here = kernel.workItem(table, index, /*byExpert=*/false);
                 Value next = b.add(index, 1);
                 Value inside = b.compare(arith::CmpIPredicate::slt, next, end);
                 auto following = kernel.workItem(
                     table, arith::SelectOp::create(b, inside, next, after),
                     /*byExpert=*/false);
                 Value another =
                     b.compare(arith::CmpIPredicate::ne, following.getExpert(),
                               here.getExpert());
                 Value ends = arith::SelectOp::create(b, inside, another, yes);
                 body({here.getFirst(), here.getEnd(), here.getExpert(), column,
                       at[0], at[1], at[2], at[3], ends});
                 Value second = b.add(at[0], steps);
                 Value position = arith::SelectOp::create(
                     b, hasSecondTile(here.getFirst(), here.getEnd()),
                     b.add(second, steps), second);
                 Value weight = arith::SelectOp::create(
                     b, ends, b.add(at[1], steps), at[1]);
                 return {position, weight, b.add(at[2], 2), ends};
               });
           ended.pop_back();
           return ended;
         });
}

//===----------------------------------------------------------------------===//
// The producing thread
//===----------------------------------------------------------------------===//

void Resident::produce(const RowBlock &block) {
  auto tile = [&](Value position, Value row, bool mayBeFresh) {
    b.loop(b.i32(0), b.i32(steps), b.i32(1), {},
           [&](Value step, ValueRange) -> Values {
             Value k = b.mul(step, kDepth), at = b.add(position, step);
             AcquireOp::create(b, ring, at);
             ExpectOp::create(b, ring, at, 128 * kTileRows);
             LoadOp::create(b, lhs, ValueRange{k, row}, ring, at, 0, 0);
             if (mayBeFresh)
               b.when(block.fresh, [&] {
                 Value weight = b.add(block.weights, step);
                 AcquireOp::create(b, weightRing, weight);
                 ExpectOp::create(b, weightRing, weight,
                                  weights.getTileBytes());
                 weights.load(k, block.column, block.expert, weightRing, weight,
                              0);
               });
             return {};
           });
  };
  tile(block.position, block.first, /*mayBeFresh=*/true);
  b.when(hasSecondTile(block.first, block.end), [&] {
    tile(b.add(block.position, steps), b.add(block.first, kTileRows),
         /*mayBeFresh=*/false);
  });
}

//===----------------------------------------------------------------------===//
// The consuming warpgroups
//===----------------------------------------------------------------------===//

/// Products of the 64 rows from `position` on. The last one is not waited for.
Value Resident::startProducts(const RowBlock &block, Value position) {
  auto type = FragmentType::get(b.getContext(), kTileRows, kTileColumns);
  return b.loop(
      b.i32(0), b.i32(steps), b.i32(1), Value(ZeroOp::create(b, type)),
      [&](Value step, ValueRange carried) -> Values {
        Value at = b.add(position, step), weight = b.add(block.weights, step);
        AwaitOp::create(b, ring, at, /*gathered=*/false);
        AwaitOp::create(b, weightRing, weight, /*gathered=*/false);
        Value started = MmaOp::create(b, type, ring, at, carried[0], 0, 0,
                                      weightRing, weight, Value(), element,
                                      /*lhs_mn=*/false, weights.isMN());
        Value done = MmaWaitOp::create(b, type, started, 1);
        b.when(b.compare(arith::CmpIPredicate::ne, step, b.i32(0)), [&] {
          ReleaseOp::create(b, ring, b.sub(at, 1));
          b.when(block.last,
                 [&] { ReleaseOp::create(b, weightRing, b.sub(weight, 1)); });
        });
        return {done};
      })[0];
}

/// Warpgroup 0 has the block's first 64 rows, warpgroup 1 the others.
void Resident::consume(const RowBlock &block, Value warpgroup) {
  TileRows rows{warpgroup, b.add(block.first, b.mul(warpgroup, kTileRows)),
                block.end, block.expert, block.column};
  Value turn = b.add(block.turn, warpgroup);
  b.either(
      b.compare(arith::CmpIPredicate::slt, rows.row, rows.end),
      [&] {
        Values scalars = epilogue.loadScalars(rows);
        Value position = b.add(block.position, b.mul(warpgroup, steps));
        AwaitTurnOp::create(b, turns, turn, warpgroup);
        Value accumulator = startProducts(block, position);
        PassTurnOp::create(b, turns, warpgroup);
        accumulator =
            MmaWaitOp::create(b, accumulator.getType(), accumulator, 0);
        ReleaseOp::create(b, ring, b.add(position, steps - 1));
        b.when(block.last, [&] {
          ReleaseOp::create(b, weightRing, b.add(block.weights, steps - 1));
        });
        epilogue.run(accumulator, position, rows, scalars);
      },
      [&] {
        AwaitTurnOp::create(b, turns, turn, warpgroup);
        PassTurnOp::create(b, turns, warpgroup);
        // Both warpgroups have seen and released every fill.
        b.when(block.last, [&] {
          b.loop(b.i32(0), b.i32(steps), b.i32(1), {},
                 [&](Value step, ValueRange) -> Values {
                   Value weight = b.add(block.weights, step);
                   AwaitOp::create(b, weightRing, weight, /*gathered=*/false);
                   ReleaseOp::create(b, weightRing, weight);
                   return {};
                 });
        });
      });
}

void mlir::moe::buildResidentKernel(GroupedMatmulOp op, const Tables &tables,
                                    VariantAttr variant) {
  Resident(op, tables).build(variant);
}
