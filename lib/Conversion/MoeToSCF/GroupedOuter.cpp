// SPDX-License-Identifier: Apache-2.0
// moe.grouped_outer: for each expert a matrix product contracted over its rows.
// A task is an (expert, block of output rows, block of output columns); both
// operands' rows are gathered and packed a few at a time.
#include "MatrixTiles.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

namespace {
/// Most rows that are packed at a time; most rows and columns of the output of
/// a task.
struct Sizes {
  int64_t depth, block, columns;
};

struct Side {
  Value rows;
  RowOrder order;
  int64_t width;
};

class Outer {
public:
  Outer(GroupedOuterOp op, KernelEmitter &b);
  void emit();

private:
  void task();
  void panelRound(Value first, Value depth, Value complete);
  void tileRound(Value first, Value depth, Value complete);
  void write(Value p, Value from, Value to);

  GroupedOuterOp op;
  KernelEmitter &b;
  Tables tables;
  /// `left` gives the output's rows, `right` its columns.
  Side left, right;
  ProductKind kind;
  Tile tile;
  Sizes sizes;
  /// Columns of a panel, panels and rows of the sums of a task.
  int64_t panel, panels, accRows;
  Value out;

  // Of the task that is being emitted: where its output begins, its rows and
  // panels that exist, and its buffers.
  Value expert, begin, firstRow, firstColumn, rows, parts;
  Value acc, leftPanel, rightPanel;
};
} // namespace

/// All that a task packs and sums fits in half of a second-level cache of 1
/// MiB; with tiles, in two thirds of one of 2 MiB. There the product takes so
/// little that packing counts: of 2 rows it costs a cycle or two a vector of 16
/// columns on the right side and four on the left, for each block of the other.
/// Sums are read and written once for all rows that are packed together, and
/// those of 32 columns just fit in the first level.
constexpr Sizes kPanelSizes = {128, 192, 256}, kTileSizes = {512, 256, 512};

/// How much of `width` a task takes, at most `most`: a multiple of `multiple`.
/// With tiles all tasks take as much; elsewhere they take as many whole tiles
/// of registers as they can.
static int64_t share(ProductKind kind, int64_t width, int64_t most,
                     int64_t multiple) {
  int64_t shares = std::max<int64_t>(1, llvm::divideCeil(width, most));
  if (kind.tiles)
    width = llvm::divideCeil(width, shares);
  return std::min<int64_t>(most, llvm::alignTo(width, multiple));
}

Outer::Outer(GroupedOuterOp op, KernelEmitter &b)
    : op(op), b(b), tables(b.tables(op.getAssignment())) {
  auto side = [](Value rows, RowOrder order) {
    return Side{rows, order, cast<MemRefType>(rows.getType()).getDimSize(1)};
  };
  left = side(op.getDy(), op.getDyFrom());
  right = side(op.getX(), op.getXFrom());
  if (op.getLayout() == WeightLayout::InOut)
    std::swap(left, right);
  kind = productKind(b.target,
                     cast<MemRefType>(left.rows.getType()).getElementType());
  tile = chooseTile(b.target, kind.compute, 1, right.width);
  if (kind.tiles)
    tile.rows = 2 * kTileRows;
  sizes = kind.tiles ? kTileSizes : kPanelSizes;
  panel = tile.columns();
  sizes.block = share(kind, left.width, sizes.block, kLanes);
  sizes.columns = share(kind, right.width, sizes.columns, panel);
  panels = sizes.columns / panel;
  // Tiles do not divide a block; the last one has rows that nobody reads.
  accRows = llvm::alignTo(sizes.block, tile.rows);
}

void Outer::emit() {
  if (!left.width || !right.width)
    return;
  out = memref::CollapseShapeOp::create(
      b, op.getOuts()[0], SmallVector<ReassociationIndices>{{0, 1}, {2}});
  int64_t blocks = llvm::divideCeil(left.width, sizes.block);
  int64_t parts = llvm::divideCeil(right.width, sizes.columns);
  b.tasks(b.index(tables.experts * blocks * parts), [&](Value number) {
    expert = b.div(number, blocks * parts);
    firstColumn = b.mul(b.rem(number, parts), sizes.columns);
    firstRow = b.mul(b.rem(b.div(number, parts), blocks), sizes.block);
    task();
  });
}

void Outer::task() {
  begin = b.rangeBound(tables, tables.begin, expert);
  Value end = b.rangeBound(tables, tables.end, expert);
  rows = b.minimum(b.index(sizes.block), b.sub(b.index(left.width), firstRow));
  parts = b.ceilDiv(b.minimum(b.index(sizes.columns),
                              b.sub(b.index(right.width), firstColumn)),
                    panel);
  Value zero = b.index(0);
  acc = b.stack({panels * accRows, panel}, kind.compute);
  if (kind.tiles) {
    int64_t lines = tileLines(sizes.depth);
    leftPanel = tileBuffer(b, accRows / kLanes * lines);
    rightPanel = tileBuffer(b, sizes.columns / kLanes * lines);
  } else {
    // The left side lies row after row, the right side and the sums panel
    // after panel: an inner loop reads consecutive memory. A row and a panel
    // are a little longer than what is used, so that no power of two lies
    // between them: stores to many would share a line of the cache.
    int64_t deep = sizes.depth / kind.step();
    leftPanel = b.stack({deep, sizes.block + kLanes}, kind.panelElement());
    rightPanel = b.stack({panels * (deep + 1), panel}, kind.panelElement());
    b.loop(zero, b.index(panels * accRows), 1, [&](Value i) {
      for (int64_t column = 0; column < panel; column += kLanes)
        b.storeVector(b.zeros(kind.compute), acc, i, b.index(column), kLanes);
    });
    // What a last tile reads past the block's rows.
    Value past = b.mul(b.ceilDiv(rows, kLanes), kLanes);
    b.loop(zero, b.index(deep), 1, [&](Value k) {
      b.storeVector(kind.pairs ? b.splat(b.integer(kind.panelElement(), 0))
                               : b.zeros(kind.compute),
                    leftPanel, k, past, kLanes);
    });
  }
  // An expert without rows has one round too, which writes its zeros.
  b.loop(begin, b.maximum(end, b.add(begin, 1)), sizes.depth, [&](Value first) {
    Value depth =
        b.maximum(zero, b.minimum(b.index(sizes.depth), b.sub(end, first)));
    Value complete = b.less(end, b.add(first, sizes.depth + 1));
    if (kind.tiles)
      tileRound(first, depth, complete);
    else
      panelRound(first, depth, complete);
  });
}

/// Adds the products of the rows [first, first + depth) to the sums, and writes
/// them where they are complete.
void Outer::panelRound(Value first, Value depth, Value complete) {
  Value zero = b.index(0);
  int64_t deep = sizes.depth / kind.step();
  auto pack = [&](const Side &side, Value start, int64_t count,
                  function_ref<void(Value, Value, Value)> store) {
    packColumns(
        b, kind, depth,
        [&](function_ref<void(Value, Value, int64_t)> body) {
          b.columns(start, count, side.width, [&](Value column, int64_t lanes) {
            body(column, b.sub(column, start), lanes);
          });
        },
        [&](Value k, Value column, int64_t lanes) {
          Row row = b.groupedRow(tables, b.add(first, k), expert);
          return b.loadVector(side.rows, b.rowIndex(side.order, row), column,
                              lanes);
        },
        store);
  };
  pack(left, firstRow, sizes.block, [&](Value values, Value k, Value to) {
    b.storeVector(values, leftPanel, k, to, kLanes);
  });
  pack(right, firstColumn, sizes.columns, [&](Value values, Value k, Value to) {
    b.storeVector(values, rightPanel,
                  b.add(b.mul(b.div(to, panel), deep + 1), k), b.rem(to, panel),
                  kLanes);
  });
  b.loop(zero, parts, 1, [&](Value p) {
    b.loop(zero, rows, tile.rows, [&](Value i) {
      auto a = [&](int64_t row, Value k) {
        return broadcastElement(b, kind, b.load(leftPanel, {k, b.add(i, row)}));
      };
      emitTile(b, tile, kind, acc, b.add(b.mul(p, accRows), i),
               /*fresh=*/false,
               Product{rightPanel, b.mul(p, deep + 1),
                       b.ceilDiv(depth, kind.step()), a});
      // Sums that are complete go out while the next ones are made.
      b.when(complete,
             [&] { write(p, i, b.minimum(b.add(i, tile.rows), rows)); });
    });
  });
}

/// The same with tiles. 32 rows of the left side stay in the first-level cache
/// for all columns; the first rows' sums start at zero.
void Outer::tileRound(Value first, Value depth, Value complete) {
  Value zero = b.index(0);
  int64_t lines = tileLines(sizes.depth);
  auto pack = [&](TileSide which, const Side &side, Value start, int64_t count,
                  Value buffer) {
    auto rowOf = [&](Value k) {
      Row row = b.groupedRow(tables, b.add(first, k), expert);
      return b.rowIndex(side.order, row);
    };
    Value columns =
        b.minimum(b.index(count), b.sub(b.index(side.width), start));
    packTileSide(b, which, side.rows, rowOf, depth, start, columns, buffer,
                 lines);
  };
  pack(TileSide::Left, left, firstRow, sizes.block, leftPanel);
  pack(TileSide::Right, right, firstColumn, sizes.columns, rightPanel);
  Value used = b.mul(b.ceilDiv(depth, kTileDepth), kTileRows);
  Value more = b.less(begin, first);
  b.loop(zero, rows, tile.rows, [&](Value i) {
    Value tall = b.less(b.add(i, kTileRows), rows);
    TileOperand leftTiles{leftPanel, b.mul(b.div(i, kTileRows), lines), lines};
    b.loop(zero, parts, 1, [&](Value p) {
      TileOperand rightTiles{rightPanel, b.mul(p, tile.vectors * lines), lines};
      Value accRow = b.add(b.mul(p, accRows), i);
      auto multiply = [&](int64_t tall, bool fresh) {
        emitTiles(b, tall, tile.vectors, leftTiles, rightTiles, acc, accRow,
                  fresh, TileProduct{0, used});
      };
      auto either = [&](bool fresh) {
        b.when(tall, [&] { multiply(2, fresh); }, [&] { multiply(1, fresh); });
      };
      b.when(more, [&] { either(false); }, [&] { either(true); });
      b.when(complete,
             [&] { write(p, i, b.minimum(b.add(i, tile.rows), rows)); });
    });
  });
}

/// Rows [from, to) of panel `p` of the sums become output.
void Outer::write(Value p, Value from, Value to) {
  Type element = cast<MemRefType>(out.getType()).getElementType();
  Value first = b.add(firstColumn, b.mul(p, panel));
  b.loop(from, to, 1, [&](Value row) {
    Value outRow = b.add(b.mul(expert, left.width), b.add(firstRow, row));
    Value accRow = b.add(b.mul(p, accRows), row);
    b.columns(first, panel, right.width, [&](Value column, int64_t lanes) {
      Value sum = b.loadVector(acc, accRow, b.sub(column, first), kLanes);
      if (op.getAccumulate())
        sum = b.add(
            b.widen(b.loadVector(out, outRow, column, lanes), kind.compute),
            sum);
      b.storeVector(b.narrow(sum, element), out, outRow, column, lanes);
    });
  });
}

LogicalResult mlir::moe::emitGroupedOuter(GroupedOuterOp op, KernelEmitter &b) {
  Outer(op, b).emit();
  return success();
}
