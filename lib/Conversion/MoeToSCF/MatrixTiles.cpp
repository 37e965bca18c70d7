// SPDX-License-Identifier: Apache-2.0
#include "MatrixTiles.h"

#include "mlir/Dialect/AMX/AMXDialect.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

/// A line: 32 steps of a row, or a pair of steps of 16 columns.
static VectorType lineType(KernelEmitter &b) {
  return VectorType::get({kTileDepth}, b.getBF16Type());
}

static void storeLine(KernelEmitter &b, Value values, Value buffer,
                      Value line) {
  vector::StoreOp::create(b, values, buffer, ValueRange{line, b.index(0)});
}

Value mlir::moe::tileBuffer(KernelEmitter &b, int64_t lines) {
  return b.stack({lines, kTileDepth}, b.getBF16Type());
}

void mlir::moe::stageTileRow(KernelEmitter &b, Value rows, Value row,
                             Value first, int64_t depth, Value stage,
                             Value line) {
  int64_t tail = depth % kTileDepth;
  b.loop(b.index(0), b.index(depth / kTileDepth), 1, [&](Value block) {
    Value values = vector::LoadOp::create(
        b, lineType(b), rows,
        ValueRange{row, b.add(first, b.mul(block, kTileDepth))});
    storeLine(b, values, stage, b.add(line, b.mul(block, kTileRows)));
  });
  if (!tail)
    return;
  Value mask = vector::ConstantMaskOp::create(
      b, VectorType::get({kTileDepth}, b.getI1Type()), tail);
  Value values = vector::MaskedLoadOp::create(
      b, lineType(b), rows, ValueRange{row, b.add(first, depth - tail)}, mask,
      b.constant(lineType(b), 0.0));
  storeLine(b, values, stage, b.add(line, depth / kTileDepth * kTileRows));
}

void mlir::moe::packTileRows(KernelEmitter &b, ProductKind kind, Value weights,
                             function_ref<Value(Value, int64_t)> rowOf,
                             Value first, int64_t depth, int64_t vectors,
                             Value panel, Value panelLine,
                             int64_t linesPerVector) {
  int64_t tail = depth % kTileDepth;
  b.loop(b.index(0), b.index(vectors), 1, [&](Value v) {
    Values rows;
    for (int64_t lane = 0; lane < kLanes; ++lane)
      rows.push_back(rowOf(v, lane));
    Value to = b.add(panelLine, b.mul(v, linesPerVector));
    auto block = [&](Value k, Value line, int64_t present) {
      Values columns = transposeWeights(b, kind, weights, rows, k, present);
      for (int64_t i = 0; i < kTileRows; ++i)
        storeLine(b,
                  i < int64_t(columns.size()) ? columns[i]
                                              : b.constant(lineType(b), 0.0),
                  panel, b.add(line, i));
    };
    b.loop(b.index(0), b.index(depth / kTileDepth), 1, [&](Value i) {
      block(b.add(first, b.mul(i, kTileDepth)), b.add(to, b.mul(i, kTileRows)),
            kTileDepth);
    });
    if (tail)
      block(b.add(first, depth - tail),
            b.add(to, depth / kTileDepth * kTileRows), tail);
  });
}

void mlir::moe::storeTilePair(KernelEmitter &b, Value pair, Value panel,
                              Value panelLine, int64_t linesPerVector, Value k,
                              Value column) {
  Value values = vector::BitCastOp::create(b, lineType(b), pair);
  Value vector = b.mul(b.div(column, kLanes), linesPerVector);
  storeLine(b, values, panel, b.add(b.add(panelLine, vector), k));
}

void mlir::moe::padTileColumns(KernelEmitter &b, int64_t depth, int64_t vectors,
                               Value panel, Value panelLine,
                               int64_t linesPerVector) {
  int64_t used = llvm::divideCeil(depth, 2), lines = tileLines(depth);
  if (used == lines)
    return;
  Value zeros = b.constant(lineType(b), 0.0);
  b.loop(b.index(0), b.index(vectors), 1, [&](Value v) {
    Value to = b.add(panelLine, b.mul(v, linesPerVector));
    for (int64_t line = used; line < lines; ++line)
      storeLine(b, zeros, panel, b.add(to, line));
  });
}

void mlir::moe::emitTiles(KernelEmitter &b, int64_t tall, int64_t vectors,
                          Value stage, int64_t stageLines, Value panel,
                          Value panelLine, int64_t linesPerVector, Value acc,
                          Value accRow, bool fresh,
                          ArrayRef<TileProduct> products) {
  auto operand = amx::TileType::get({kTileRows, kTileDepth}, b.getBF16Type());
  auto sums = amx::TileType::get({kTileRows, kTileRows}, b.getF32Type());
  Value zero = b.index(0);
  auto load = [&](Type type, Value buffer, Value line) -> Value {
    return amx::TileLoadOp::create(b, type, buffer, ValueRange{line, zero});
  };
  // `wide` vectors from v on, at most two: with two times 16 rows four tiles
  // are sums and four operands, as many as there are.
  auto block = [&](Value v, int64_t wide) {
    auto place = [&](int64_t i, int64_t j) {
      return Values{b.add(accRow, i * kTileRows), b.mul(b.add(v, j), kLanes)};
    };
    Values sum;
    for (int64_t i = 0; i < tall; ++i)
      for (int64_t j = 0; j < wide; ++j)
        sum.push_back(fresh ? amx::TileZeroOp::create(b, sums).getResult()
                            : amx::TileLoadOp::create(b, sums, acc, place(i, j))
                                  .getResult());
    for (const TileProduct &product : products)
      sum = b.carry(
          zero, b.index(tileLines(product.depth)), kTileRows, sum,
          [&](Value line, ValueRange sum) {
            Value at = b.add(line, product.line);
            Values next, right;
            for (int64_t i = 0; i < tall; ++i) {
              Value left = load(operand, stage, b.add(at, i * stageLines));
              for (int64_t j = 0; j < wide; ++j) {
                if (i == 0)
                  right.push_back(
                      load(operand, panel,
                           b.add(b.add(panelLine, at),
                                 b.mul(b.add(v, j), linesPerVector))));
                next.push_back(amx::TileMulFOp::create(b, sums, left, right[j],
                                                       sum[i * wide + j]));
              }
            }
            return next;
          });
    for (int64_t i = 0; i < tall; ++i)
      for (int64_t j = 0; j < wide; ++j)
        amx::TileStoreOp::create(b, acc, place(i, j), sum[i * wide + j]);
  };
  int64_t single = vectors % 2;
  b.loop(zero, b.index(vectors - single), 2, [&](Value v) { block(v, 2); });
  if (single)
    block(b.index(vectors - 1), 1);
}
