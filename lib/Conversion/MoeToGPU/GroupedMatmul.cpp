// SPDX-License-Identifier: Apache-2.0
// moe.grouped_matmul on the CUDA cores, for any type and width: a block has 64
// rows of one expert and 128 columns; rows are gathered as they are read.
#include "SharedTile.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

namespace {
class Matmul {
public:
  Matmul(GroupedMatmulOp op, GPUEmitter &b)
      : op(op), b(b), region(b, op, op.getColumns().getCount()),
        segments(b, region, op.getOuts()), tables(b.tables(op.getAssignment())),
        values(op.getColumns().getCount()),
        parts(llvm::divideCeil(region.width, SharedTile::kColumns)) {}
  void emit();

private:
  void findRows(Value tile);
  Values product(Value part);
  void loadLeft(unsigned pair, SharedTile &tile, Value k, Value row,
                int64_t depth);
  void loadRight(unsigned pair, SharedTile &tile, Value k, Value part,
                 int64_t depth);
  Value element(Value memref, ValueRange indices, Value present);

  GroupedMatmulOp op;
  GPUEmitter &b;
  RowRegion region;
  WarpSegments segments;
  Tables tables;
  int64_t values, parts;
  SharedTile *tile = nullptr;
  /// The block's expert (-1: none), its first row and the expert's end.
  Value expert, first, last;
};
} // namespace

/// Which expert's rows tile number `tile` is: the warp counts the tiles of 32
/// experts at a time. The table is small and in cache; a search costs far less
/// than a tile.
void Matmul::findRows(Value tileNumber) {
  Value found = b.shared({3}, b.getI32Type());
  auto put = [&](Value value, int64_t at) {
    b.storeIndex(value, found, b.index(at));
  };
  b.when(b.equal(b.thread, b.index(0)), [&] { put(b.index(-1), 0); });
  b.barrier();
  b.when(b.equal(b.warp, b.index(0)), [&] {
    int64_t experts = tables.experts;
    b.carry(
        b.index(0), b.index(experts), kWarp, b.index(0),
        [&](Value base, ValueRange total) {
          Value e = b.minimum(b.add(base, b.lane), b.index(experts - 1));
          Value begin = b.rangeBound(tables, tables.begin, e);
          Value end = b.maximum(begin, b.rangeBound(tables, tables.end, e));
          Value own = b.ceilDiv(b.sub(end, begin), SharedTile::kRows);
          own = b.select(b.less(b.add(base, b.lane), b.index(experts)), own,
                         b.index(0));
          Value sum = own;
          for (int64_t offset = 1; offset < kWarp; offset *= 2) {
            Value before = b.shuffle(sum, offset, gpu::ShuffleMode::UP);
            sum = b.select(b.less(b.lane, b.index(offset)), sum,
                           b.add(sum, before));
          }
          Value upTo = b.add(total[0], sum), from = b.sub(upTo, own);
          Value here = arith::CmpIOp::create(b, arith::CmpIPredicate::sle, from,
                                             tileNumber);
          b.when(b.both(here, b.less(tileNumber, upTo)), [&] {
            put(e, 0);
            put(b.add(begin, b.mul(b.sub(tileNumber, from), SharedTile::kRows)),
                1);
            put(end, 2);
          });
          return Values{b.shuffle(upTo, kWarp - 1, gpu::ShuffleMode::IDX)};
        });
  });
  b.barrier();
  expert = b.loadIndex(found, b.index(0));
  first = b.loadIndex(found, b.index(1));
  last = b.loadIndex(found, b.index(2));
}

/// An element, widened; zero, and not read, where it is not present.
Value Matmul::element(Value memref, ValueRange indices, Value present) {
  return b.choose(
      present,
      [&] { return Values{b.widen(b.load(memref, indices), region.compute)}; },
      [&] { return Values{b.constant(region.compute, 0.0)}; })[0];
}

/// A thread brings a few steps of one row.
void Matmul::loadLeft(unsigned pair, SharedTile &tile, Value k, Value row,
                      int64_t depth) {
  int64_t each = kBlockThreads / SharedTile::kRows; // threads of a row
  int64_t steps = tile.depth() / each;
  Value start = b.mul(b.rem(b.thread, each), steps);
  Value at = b.div(b.thread, each);
  Value lhs = op.getLhs()[pair];
  bool whole = depth % steps == 0;
  if (whole && steps > 1) {
    // All present or none.
    Value column = b.add(k, start);
    auto type = b.vectorOf(region.compute, steps);
    Type element = cast<MemRefType>(lhs.getType()).getElementType();
    Value loaded = b.choose(
        b.less(column, b.index(depth)),
        [&] {
          Value v = vector::LoadOp::create(b, b.vectorOf(element, steps), lhs,
                                           ValueRange{row, column});
          return Values{b.widen(v, region.compute)};
        },
        [&] { return Values{b.constant(type, 0.0)}; })[0];
    for (int64_t i = 0; i < steps; ++i)
      tile.storeLeft(vector::ExtractOp::create(b, loaded, i), b.add(start, i),
                     at);
    return;
  }
  for (int64_t i = 0; i < steps; ++i) {
    Value column = b.add(k, b.add(start, i));
    tile.storeLeft(element(lhs, {row, column}, b.less(column, b.index(depth))),
                   b.add(start, i), at);
  }
}

void Matmul::loadRight(unsigned pair, SharedTile &tile, Value k, Value part,
                       int64_t depth) {
  Value rhs = op.getRhs()[pair];
  bool outIn = op.rhsLayout(pair) == WeightLayout::OutIn;
  bool interleave = op.getColumns().getLayout() == ColumnLayout::Interleave;
  Value firstColumn = b.mul(part, SharedTile::kColumns);
  // The weights' index of value `number` of a region column.
  auto outOf = [&](Value column, int64_t number) {
    return interleave ? b.add(b.mul(column, values), b.index(number))
                      : b.add(column, number * region.width);
  };
  Type element = cast<MemRefType>(rhs.getType()).getElementType();
  if (outIn) {
    // Two threads a column, each some consecutive steps of it.
    int64_t each = kBlockThreads / SharedTile::kColumns;
    int64_t steps = tile.depth() / each;
    Value start = b.mul(b.rem(b.thread, each), steps);
    Value at = b.div(b.thread, each);
    Value column = b.add(firstColumn, at);
    Value present = b.less(column, b.index(region.width));
    int64_t lanes = steps;
    while (depth % lanes)
      lanes /= 2;
    for (int64_t number = 0; number < values; ++number) {
      Value out = outOf(column, number);
      for (int64_t s = 0; s < steps; s += lanes) {
        Value step = b.add(start, s), in = b.add(k, step);
        Value loaded = b.choose(
            b.both(present, b.less(in, b.index(depth))),
            [&] {
              Value v =
                  vector::LoadOp::create(b, b.vectorOf(element, lanes), rhs,
                                         ValueRange{expert, out, in});
              return Values{b.widen(v, region.compute)};
            },
            [&] {
              return Values{b.constant(b.vectorOf(region.compute, lanes), 0.0)};
            })[0];
        for (int64_t i = 0; i < lanes; ++i)
          tile.storeRight(vector::ExtractOp::create(b, loaded, i),
                          b.add(step, i), number, at);
      }
    }
    return;
  }
  // (in, out): threads along the columns.
  int64_t perStep = kBlockThreads / tile.depth();
  int64_t columns = SharedTile::kColumns / perStep;
  Value step = b.div(b.thread, perStep), in = b.add(k, step);
  Value start = b.mul(b.rem(b.thread, perStep), columns);
  Value inside = b.less(in, b.index(depth));
  for (int64_t number = 0; number < values; ++number) {
    int64_t lanes =
        interleave && values > 1 ? 1 : std::min<int64_t>(columns, 8);
    while (region.width % lanes)
      lanes /= 2;
    for (int64_t c = 0; c < columns; c += lanes) {
      Value at = b.add(start, c), column = b.add(firstColumn, at);
      Value present = b.both(inside, b.less(column, b.index(region.width)));
      Value out = outOf(column, number);
      Value loaded = b.choose(
          present,
          [&] {
            Value v = vector::LoadOp::create(b, b.vectorOf(element, lanes), rhs,
                                             ValueRange{expert, in, out});
            return Values{b.widen(v, region.compute)};
          },
          [&] {
            return Values{b.constant(b.vectorOf(region.compute, lanes), 0.0)};
          })[0];
      for (int64_t i = 0; i < lanes; ++i)
        tile.storeRight(vector::ExtractOp::create(b, loaded, i), step, number,
                        b.add(at, i));
    }
  }
}

Values Matmul::product(Value part) {
  Values acc = tile->zeros();
  // The thread's row of the left operand; the last one again past the end.
  Value at = b.div(b.thread, kBlockThreads / SharedTile::kRows);
  Value grouped = b.minimum(b.add(first, at), b.sub(last, b.index(1)));
  Row row = b.groupedRow(tables, grouped, expert);
  for (unsigned pair = 0; pair < op.getLhs().size(); ++pair) {
    int64_t depth = cast<MemRefType>(op.getLhs()[pair].getType()).getDimSize(1);
    Value source = b.rowIndex(op.lhsOrder(pair), row);
    acc = b.carry(b.index(0), b.index(depth), tile->depth(), acc,
                  [&](Value k, ValueRange sum) {
                    b.barrier();
                    loadLeft(pair, *tile, k, source, depth);
                    loadRight(pair, *tile, k, part, depth);
                    b.barrier();
                    return tile->multiply(sum);
                  });
  }
  return acc;
}

void Matmul::emit() {
  bool whole = llvm::any_of(op.getOutPorts(), [](Attribute port) {
    return cast<PortAttr>(port).getKind() == PortKind::Sum;
  });
  // Every expert has at most one tile that is not full.
  Value most =
      b.add(b.div(tables.slots, SharedTile::kRows), b.index(tables.experts));
  most = b.select(b.equal(tables.slots, b.index(0)), b.index(0), most);
  int64_t perRow = whole ? 1 : parts;
  b.launch(b.mul(most, perRow), kBlockThreads, [&] {
    SharedTile shared(b, region.compute, values);
    tile = &shared;
    findRows(b.div(b.block, perRow));
    Value exists =
        arith::CmpIOp::create(b, arith::CmpIPredicate::sge, expert, b.index(0));
    b.when(exists, [&] {
      Value firstRow = b.add(first, b.mul(b.warp, SharedTile::kWarpRows));
      // The region on the warp's rows; each row's sums of this segment.
      auto epilogue = [&](Value part, ValueRange acc, ValueRange before) {
        Values after;
        for (int64_t i = 0; i < SharedTile::kWarpRows; ++i) {
          Value grouped = b.add(firstRow, i);
          Values old(
              before.slice(i * segments.sums.size(), segments.sums.size()));
          Value present = b.less(grouped, last);
          auto map = [&] {
            Row row = b.groupedRow(tables, grouped, expert);
            Values next,
                sums = segments.segment(row, region.rowValues(row), part,
                                        b.lane, acc.slice(i * values, values));
            for (auto [total, sum] : llvm::zip_equal(old, sums))
              next.push_back(b.add(total, sum));
            return next;
          };
          if (segments.sums.empty())
            b.when(present, [&] { map(); });
          else
            llvm::append_range(after,
                               b.choose(present, map, [&] { return old; }));
        }
        return after;
      };
      Values none(segments.sums.size() * SharedTile::kWarpRows,
                  b.constant(region.compute, 0.0));
      if (!whole) {
        Value part = b.rem(b.block, parts);
        epilogue(part, product(part), none);
        return;
      }
      Values totals = b.carry(b.index(0), b.index(parts), 1, none,
                              [&](Value part, ValueRange sum) {
                                return epilogue(part, product(part), sum);
                              });
      for (int64_t i = 0; i < SharedTile::kWarpRows; ++i) {
        Value grouped = b.add(firstRow, i);
        b.when(b.less(grouped, last), [&] {
          segments.storeTotals(
              b.groupedRow(tables, grouped, expert),
              ValueRange(totals).slice(i * segments.sums.size(),
                                       segments.sums.size()),
              b.lane);
        });
      }
    });
  });
  emitZeroSentinels(b, tables, op.getOuts(), op.getOutPorts());
}

LogicalResult mlir::moe::emitGroupedMatmul(GroupedMatmulOp op, GPUEmitter &b) {
  Matmul(op, b).emit();
  return success();
}
