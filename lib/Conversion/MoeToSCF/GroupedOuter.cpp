// SPDX-License-Identifier: Apache-2.0
// moe.grouped_outer: for each expert a matrix product contracted over its rows.
// A task is an (expert, block of output rows, panel of output columns); both
// operands' rows are gathered and packed a few at a time.
#include "MicroKernel.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace mlir::moe;

/// Rows that are packed at a time, and output rows of a task.
constexpr int64_t kDepth = 128;
constexpr int64_t kBlock = 192;

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

  ProductKind kind = productKind(
      b.target, cast<MemRefType>(left.rows.getType()).getElementType());
  Tile tile = chooseTile(b.target, kind.compute, 1, right.width);
  int64_t most = kBlock / tile.rows * tile.rows;
  int64_t block = std::min<int64_t>(
      most, llvm::divideCeil(left.width, tile.rows) * tile.rows);
  int64_t panel = tile.columns();
  int64_t blocks = llvm::divideCeil(left.width, block);
  int64_t panels = llvm::divideCeil(right.width, panel);
  Value out = memref::CollapseShapeOp::create(
      b, op.getOuts()[0], SmallVector<ReassociationIndices>{{0, 1}, {2}});
  Type element = cast<MemRefType>(out.getType()).getElementType();

  b.tasks(b.index(tables.experts * blocks * panels), [&](Value task) {
    Value expert = b.div(task, blocks * panels);
    Value firstColumn = b.mul(b.rem(task, panels), panel);
    Value firstRow = b.mul(b.rem(b.div(task, panels), blocks), block);
    Value begin = b.rangeBound(tables, tables.begin, expert);
    Value end = b.rangeBound(tables, tables.end, expert);

    int64_t wide = llvm::divideCeil(block, kLanes) * kLanes;
    int64_t deep = kDepth / kind.step();
    Value acc = b.stack({block, panel}, kind.compute);
    Value leftPanel = b.stack({deep, wide}, kind.panelElement());
    Value rightPanel = b.stack({deep, panel}, kind.panelElement());
    b.loop(b.index(0), b.index(block), 1, [&](Value i) {
      b.loop(b.index(0), b.index(panel), kLanes, [&](Value column) {
        b.storeVector(b.zeros(kind.compute), acc, i, column, kLanes);
      });
    });

    b.loop(begin, end, kDepth, [&](Value first) {
      Value depth = b.minimum(b.index(kDepth), b.sub(end, first));
      auto pack = [&](const Side &side, Value start, int64_t count, Value to) {
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
            to, b.index(0));
      };
      pack(left, firstRow, wide, leftPanel);
      pack(right, firstColumn, panel, rightPanel);
      b.loop(b.index(0), b.index(block), tile.rows, [&](Value i) {
        auto a = [&](int64_t row, Value k) {
          return broadcastElement(b, kind,
                                  b.load(leftPanel, {k, b.add(i, row)}));
        };
        emitTile(
            b, tile, kind, acc, i, /*fresh=*/false,
            Product{rightPanel, b.index(0), b.ceilDiv(depth, kind.step()), a});
      });
    });

    Value rows =
        b.minimum(b.index(block), b.sub(b.index(left.width), firstRow));
    b.loop(b.index(0), rows, 1, [&](Value i) {
      Value row = b.add(b.mul(expert, left.width), b.add(firstRow, i));
      b.columns(
          firstColumn, panel, right.width, [&](Value column, int64_t lanes) {
            Value sum =
                b.loadVector(acc, i, b.sub(column, firstColumn), kLanes);
            if (op.getAccumulate())
              sum = b.add(
                  b.widen(b.loadVector(out, row, column, lanes), kind.compute),
                  sum);
            b.storeVector(b.narrow(sum, element), out, row, column, lanes);
          });
    });
  });
  return success();
}
