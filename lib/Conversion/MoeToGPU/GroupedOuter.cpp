// SPDX-License-Identifier: Apache-2.0
// moe.grouped_outer on the CUDA cores: a block has 64 x 128 of one expert's
// result and goes over the expert's rows in grouped order.
#include "SharedTile.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult mlir::moe::emitGroupedOuter(GroupedOuterOp op, GPUEmitter &b) {
  Tables tables = b.tables(op.getAssignment());
  Value out = op.getOuts()[0];
  auto outType = cast<MemRefType>(out.getType());
  struct Side {
    Value rows;
    RowOrder order;
    int64_t width;
  };
  auto side = [](Value rows, RowOrder order) {
    return Side{rows, order, cast<MemRefType>(rows.getType()).getDimSize(1)};
  };
  // `left` gives the result's rows, `right` its columns.
  Side left = side(op.getDy(), op.getDyFrom());
  Side right = side(op.getX(), op.getXFrom());
  if (op.getLayout() == WeightLayout::InOut)
    std::swap(left, right);
  Type compute =
      getComputeType(cast<MemRefType>(left.rows.getType()).getElementType());
  int64_t tilesDown = llvm::divideCeil(left.width, SharedTile::kRows);
  int64_t tilesAcross = llvm::divideCeil(right.width, SharedTile::kColumns);

  b.launch(
      b.index(tables.experts * tilesDown * tilesAcross), kBlockThreads, [&] {
        SharedTile tile(b, compute, 1);
        Value across = b.rem(b.block, tilesAcross);
        Value down = b.rem(b.div(b.block, tilesAcross), tilesDown);
        Value expert = b.div(b.block, tilesAcross * tilesDown);
        Value begin = b.rangeBound(tables, tables.begin, expert);
        Value end = b.rangeBound(tables, tables.end, expert);
        Value firstRow = b.mul(down, SharedTile::kRows);
        Value firstColumn = b.mul(across, SharedTile::kColumns);

        // One step is one row of the operands; a thread brings part of it.
        int64_t perStep = kBlockThreads / tile.depth();
        Value step = b.div(b.thread, perStep);
        auto bring = [&](const Side &side, Value first, int64_t count,
                         Value grouped, Value present,
                         function_ref<void(Value, Value)> put) {
          int64_t each = count / perStep;
          int64_t lanes = each;
          while (side.width % lanes)
            lanes /= 2;
          Type element = cast<MemRefType>(side.rows.getType()).getElementType();
          Value start = b.mul(b.rem(b.thread, perStep), each);
          for (int64_t c = 0; c < each; c += lanes) {
            Value at = b.add(start, c), column = b.add(first, at);
            Value loaded = b.choose(
                b.both(present, b.less(column, b.index(side.width))),
                [&] {
                  Row row = b.groupedRow(tables, grouped, expert);
                  Value v = vector::LoadOp::create(
                      b, b.vectorOf(element, lanes), side.rows,
                      ValueRange{b.rowIndex(side.order, row), column});
                  return Values{b.widen(v, compute)};
                },
                [&] {
                  return Values{b.constant(b.vectorOf(compute, lanes), 0.0)};
                })[0];
            for (int64_t i = 0; i < lanes; ++i)
              put(vector::ExtractOp::create(b, loaded, i), b.add(at, i));
          }
        };
        Values acc =
            b.carry(begin, end, tile.depth(), tile.zeros(),
                    [&](Value base, ValueRange sum) {
                      b.barrier();
                      Value grouped = b.add(base, step);
                      Value present = b.less(grouped, end);
                      bring(left, firstRow, SharedTile::kRows, grouped, present,
                            [&](Value value, Value at) {
                              tile.storeLeft(value, step, at);
                            });
                      bring(right, firstColumn, SharedTile::kColumns, grouped,
                            present, [&](Value value, Value at) {
                              tile.storeRight(value, step, 0, at);
                            });
                      b.barrier();
                      return tile.multiply(sum);
                    });

        int64_t lanes = kLaneColumns;
        while (right.width % lanes)
          lanes /= 2;
        Type element = outType.getElementType();
        Value columnOfLane = b.add(firstColumn, b.mul(b.lane, kLaneColumns));
        for (int64_t i = 0; i < SharedTile::kWarpRows; ++i) {
          Value row =
              b.add(firstRow, b.add(b.mul(b.warp, SharedTile::kWarpRows), i));
          b.when(b.less(row, b.index(left.width)), [&] {
            for (int64_t c = 0; c < kLaneColumns; c += lanes) {
              Value column = b.add(columnOfLane, c);
              b.when(b.less(column, b.index(right.width)), [&] {
                Value sum = acc[i];
                if (lanes < kLaneColumns)
                  sum = b.slice(sum, c, lanes);
                Values at{expert, row, column};
                if (op.getAccumulate()) {
                  Value old = vector::LoadOp::create(
                      b, b.vectorOf(element, lanes), out, at);
                  sum = b.add(b.widen(old, compute), sum);
                }
                vector::StoreOp::create(b, b.narrow(sum, element), out, at);
              });
            }
          });
        }
      });
  return success();
}
