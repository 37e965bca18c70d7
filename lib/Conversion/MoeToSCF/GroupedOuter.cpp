// SPDX-License-Identifier: Apache-2.0
// moe.grouped_outer: for each expert a matrix product contracted over its rows.
// A task is an (expert, block of output rows, panel of output columns); both
// operands' rows are gathered and packed a few at a time.
#include "MicroKernel.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

/// Rows that are packed at a time; rows and columns of the output of a task.
/// All that a task packs and sums fits in half of a second-level cache of 1
/// MiB.
constexpr int64_t kDepth = 128;
constexpr int64_t kBlock = 192;
constexpr int64_t kColumns = 256;

LogicalResult mlir::moe::emitGroupedOuter(GroupedOuterOp op, KernelEmitter &b) {
  Tables tables = b.tables(op.getAssignment());
  struct Side {
    Value rows;
    RowOrder order;
    int64_t width;
  };
  auto side = [](Value rows, RowOrder order) {
    return Side{rows, order, cast<MemRefType>(rows.getType()).getDimSize(1)};
  };
  // `left` gives the output's rows, `right` its columns.
  Side left = side(op.getDy(), op.getDyFrom());
  Side right = side(op.getX(), op.getXFrom());
  if (op.getLayout() == WeightLayout::InOut)
    std::swap(left, right);
  if (!left.width || !right.width)
    return success();

  ProductKind kind = productKind(
      b.target, cast<MemRefType>(left.rows.getType()).getElementType());
  Tile tile = chooseTile(b.target, kind.compute, 1, right.width);
  int64_t block = std::min<int64_t>(kBlock, llvm::alignTo(left.width, kLanes));
  int64_t panel = tile.columns();
  int64_t columns =
      std::min<int64_t>(kColumns, llvm::alignTo(right.width, panel));
  int64_t blocks = llvm::divideCeil(left.width, block);
  int64_t parts = llvm::divideCeil(right.width, columns);
  // Tiles do not divide a block; the last one has rows that nobody reads.
  int64_t accRows = llvm::alignTo(block, tile.rows);
  Value out = memref::CollapseShapeOp::create(
      b, op.getOuts()[0], SmallVector<ReassociationIndices>{{0, 1}, {2}});
  Type element = cast<MemRefType>(out.getType()).getElementType();

  b.tasks(b.index(tables.experts * blocks * parts), [&](Value task) {
    Value expert = b.div(task, blocks * parts);
    Value firstColumn = b.mul(b.rem(task, parts), columns);
    Value firstRow = b.mul(b.rem(b.div(task, parts), blocks), block);
    Value begin = b.rangeBound(tables, tables.begin, expert);
    Value end = b.rangeBound(tables, tables.end, expert);
    Value rows =
        b.minimum(b.index(block), b.sub(b.index(left.width), firstRow));
    Value panels = b.ceilDiv(
        b.minimum(b.index(columns), b.sub(b.index(right.width), firstColumn)),
        panel);

    // The left side lies row after row, the right side and the sums panel
    // after panel: an inner loop reads consecutive memory. A row and a panel
    // are a little longer than what is used, so that no power of two lies
    // between them: stores to many would share a line of the cache.
    int64_t deep = kDepth / kind.step();
    Value zero = b.index(0);
    Value acc = b.stack({columns / panel * accRows, panel}, kind.compute);
    Value leftPanel = b.stack({deep, block + kLanes}, kind.panelElement());
    Value rightPanel =
        b.stack({columns / panel * (deep + 1), panel}, kind.panelElement());
    b.loop(zero, b.index(columns / panel * accRows), 1, [&](Value i) {
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

    // An expert without rows has one round too, which writes its zeros.
    b.loop(begin, b.maximum(end, b.add(begin, 1)), kDepth, [&](Value first) {
      Value depth =
          b.maximum(zero, b.minimum(b.index(kDepth), b.sub(end, first)));
      Value last = b.less(end, b.add(first, kDepth + 1));
      auto pack = [&](const Side &side, Value start, int64_t count,
                      function_ref<void(Value, Value, Value)> store) {
        packColumns(
            b, kind, depth,
            [&](function_ref<void(Value, Value, int64_t)> body) {
              b.columns(start, count, side.width,
                        [&](Value column, int64_t lanes) {
                          body(column, b.sub(column, start), lanes);
                        });
            },
            [&](Value k, Value column, int64_t lanes) {
              Row row = b.groupedRow(tables, b.add(first, k), expert);
              return b.loadVector(side.rows, b.rowIndex(side.order, row),
                                  column, lanes);
            },
            store);
      };
      pack(left, firstRow, block, [&](Value values, Value k, Value to) {
        b.storeVector(values, leftPanel, k, to, kLanes);
      });
      pack(right, firstColumn, columns, [&](Value values, Value k, Value to) {
        b.storeVector(values, rightPanel,
                      b.add(b.mul(b.div(to, panel), deep + 1), k),
                      b.rem(to, panel), kLanes);
      });
      b.loop(zero, panels, 1, [&](Value p) {
        b.loop(zero, rows, tile.rows, [&](Value i) {
          auto a = [&](int64_t row, Value k) {
            return broadcastElement(b, kind,
                                    b.load(leftPanel, {k, b.add(i, row)}));
          };
          Value accRow = b.add(b.mul(p, accRows), i);
          emitTile(b, tile, kind, acc, accRow,
                   /*fresh=*/false,
                   Product{rightPanel, b.mul(p, deep + 1),
                           b.ceilDiv(depth, kind.step()), a});
          // Sums that are complete go out while the next ones are made.
          b.when(last, [&] {
            Value first = b.add(firstColumn, b.mul(p, panel));
            b.loop(i, b.minimum(b.add(i, tile.rows), rows), 1, [&](Value row) {
              Value outRow =
                  b.add(b.mul(expert, left.width), b.add(firstRow, row));
              Value from = b.add(b.mul(p, accRows), row);
              b.columns(
                  first, panel, right.width, [&](Value column, int64_t lanes) {
                    Value sum =
                        b.loadVector(acc, from, b.sub(column, first), kLanes);
                    if (op.getAccumulate())
                      sum = b.add(
                          b.widen(b.loadVector(out, outRow, column, lanes),
                                  kind.compute),
                          sum);
                    b.storeVector(b.narrow(sum, element), out, outRow, column,
                                  lanes);
                  });
            });
          });
        });
      });
    });
  });
  return success();
}
