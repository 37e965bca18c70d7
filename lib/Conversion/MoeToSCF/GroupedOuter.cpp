// SPDX-License-Identifier: Apache-2.0
// moe.grouped_outer: for each expert a matrix product contracted over its rows.
// A task is an (expert, block of output rows, panel of output columns); both
// operands' rows are gathered and packed a few at a time.
#include "MicroKernel.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/bit.h"

using namespace mlir;
using namespace mlir::moe;

/// Rows that are packed at a time; rows and columns of the output of a task.
/// All that a task packs and sums fits in half of a second-level cache.
constexpr int64_t kDepth = 128;
constexpr int64_t kBlock = 192;
constexpr int64_t kColumns = 128;

/// Rows by a power of two, so that whole tiles are cut from vectors of 16; no
/// wider than keeps the right panel in the first-level cache.
static Tile chooseOuterTile(const CPUTarget &target, Type compute,
                            int64_t width) {
  Tile tile = chooseTile(target, compute, 1, width);
  int64_t budget = tile.rows * tile.vectors;
  tile.vectors = std::min<int64_t>(2, tile.vectors);
  tile.rows =
      llvm::bit_floor<uint64_t>(std::min<int64_t>(8, budget / tile.vectors));
  return tile;
}

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
  Tile tile = chooseOuterTile(b.target, kind.compute, right.width);
  int64_t block = std::min<int64_t>(kBlock, llvm::alignTo(left.width, kLanes));
  int64_t panel = tile.columns();
  int64_t columns =
      std::min<int64_t>(kColumns, llvm::alignTo(right.width, panel));
  int64_t blocks = llvm::divideCeil(left.width, block);
  int64_t parts = llvm::divideCeil(right.width, columns);
  Value out = memref::CollapseShapeOp::create(
      b, op.getOuts()[0], SmallVector<ReassociationIndices>{{0, 1}, {2}});
  Type element = cast<MemRefType>(out.getType()).getElementType();

  b.tasks(b.index(tables.experts * blocks * parts), [&](Value task) {
    Value expert = b.div(task, blocks * parts);
    Value firstColumn = b.mul(b.rem(task, parts), columns);
    Value firstRow = b.mul(b.rem(b.div(task, parts), blocks), block);
    Value begin = b.rangeBound(tables, tables.begin, expert);
    Value end = b.rangeBound(tables, tables.end, expert);

    // The left side lies tile after tile, the right side and the sums panel
    // after panel: an inner loop reads consecutive memory. A tile and a panel
    // have `deep` rows, some not used, so that no power of two lies between
    // them: stores to many would share a line of the cache.
    int64_t deep = kDepth / kind.step() + kLanes / tile.rows;
    Value acc = b.stack({columns / panel * block, panel}, kind.compute);
    Value leftPanel =
        b.stack({block / tile.rows * deep, tile.rows}, kind.panelElement());
    Value rightPanel =
        b.stack({columns / panel * deep, panel}, kind.panelElement());
    b.loop(b.index(0), b.index(columns / panel * block), 1, [&](Value i) {
      for (int64_t column = 0; column < panel; column += kLanes)
        b.storeVector(b.zeros(kind.compute), acc, i, b.index(column), kLanes);
    });

    b.loop(begin, end, kDepth, [&](Value first) {
      Value depth = b.minimum(b.index(kDepth), b.sub(end, first));
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
        Value at = b.add(b.mul(b.div(to, tile.rows), deep), k);
        for (int64_t i = 0; i < kLanes; i += tile.rows)
          vector::StoreOp::create(
              b,
              vector::ExtractStridedSliceOp::create(b, values, i, tile.rows, 1),
              leftPanel,
              ValueRange{b.add(at, i / tile.rows * deep), b.index(0)});
      });
      pack(right, firstColumn, columns, [&](Value values, Value k, Value to) {
        b.storeVector(values, rightPanel,
                      b.add(b.mul(b.div(to, panel), deep), k), b.rem(to, panel),
                      kLanes);
      });
      b.loop(b.index(0), b.index(columns / panel), 1, [&](Value p) {
        b.loop(b.index(0), b.index(block), tile.rows, [&](Value i) {
          Value first = b.mul(b.div(i, tile.rows), deep);
          auto a = [&](int64_t row, Value k) {
            return broadcastElement(
                b, kind, b.load(leftPanel, {b.add(first, k), b.index(row)}));
          };
          emitTile(b, tile, kind, acc, b.add(b.mul(p, block), i),
                   /*fresh=*/false,
                   Product{rightPanel, b.mul(p, deep),
                           b.ceilDiv(depth, kind.step()), a});
        });
      });
    });

    Value rows =
        b.minimum(b.index(block), b.sub(b.index(left.width), firstRow));
    b.loop(b.index(0), rows, 1, [&](Value i) {
      Value row = b.add(b.mul(expert, left.width), b.add(firstRow, i));
      b.columns(
          firstColumn, columns, right.width, [&](Value column, int64_t lanes) {
            Value at = b.sub(column, firstColumn);
            Value sum =
                b.loadVector(acc, b.add(b.mul(b.div(at, panel), block), i),
                             b.rem(at, panel), kLanes);
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
