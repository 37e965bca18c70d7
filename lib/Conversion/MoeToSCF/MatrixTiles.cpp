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

/// 32 rows of 16 columns, as 16 rows of 32.
static Values transposeTile(KernelEmitter &b, ValueRange rows) {
  constexpr int64_t kLane = 8; // elements of 128 bits
  auto shuffle = [&](Value x, Value y, function_ref<int64_t(int64_t)> source) {
    SmallVector<int64_t> mask;
    for (int64_t i = 0; i < kTileDepth; ++i)
      mask.push_back(source(i));
    return vector::ShuffleOp::create(b, x, y, mask).getResult();
  };
  Values halves[2];
  for (int64_t half = 0; half < 2; ++half) {
    // Rows i and i + 8 of this half, side by side: four lanes of 8 columns.
    Values t;
    for (int64_t i = 0; i < kLane; ++i)
      t.push_back(shuffle(rows[half * kTileRows + i],
                          rows[half * kTileRows + kLane + i],
                          [](int64_t i) { return i; }));
    // Of an element's place (row, column) in 8 x 8, six bits, each step makes
    // the first bit the last: after three, columns come first.
    for (int64_t step = 0; step < 3; ++step) {
      Values next;
      for (int64_t i = 0; i < kLane; ++i)
        next.push_back(shuffle(t[i / 2], t[i / 2 + kLane / 2], [=](int64_t to) {
          int64_t at = to % kLane, high = i % 2 * (kLane / 2);
          return at % 2 * kTileDepth + to - at + at / 2 + high;
        }));
      t = next;
    }
    halves[half] = t;
  }
  Values columns;
  for (int64_t column = 0; column < kTileRows; ++column)
    columns.push_back(shuffle(
        halves[0][column % kLane], halves[1][column % kLane], [=](int64_t to) {
          int64_t lane = to / kLane % 2 * 2 + column / kLane;
          return to / kTileRows * kTileDepth + lane * kLane + to % kLane;
        }));
  return columns;
}

void mlir::moe::packTileSide(KernelEmitter &b, TileSide side, Value rows,
                             function_ref<Value(Value)> rowOf, Value depth,
                             Value first, Value columns, Value buffer,
                             int64_t linesPerVector) {
  Value zero = b.index(0), last = b.sub(depth, b.index(1));
  auto lanesBelow = [&](Value count, function_ref<int64_t(int64_t)> place) {
    SmallVector<int16_t> places;
    for (int64_t lane = 0; lane < kTileDepth; ++lane)
      places.push_back(place(lane));
    auto type = VectorType::get({kTileDepth}, b.getI16Type());
    return arith::CmpIOp::create(
               b, arith::CmpIPredicate::ult,
               arith::ConstantOp::create(
                   b, DenseElementsAttr::get(type, ArrayRef(places))),
               vector::BroadcastOp::create(b, type, count))
        .getResult();
  };
  b.loop(zero, b.ceilDiv(depth, kTileDepth), 1, [&](Value tile) {
    Value k = b.mul(tile, kTileDepth);
    Value whole = b.less(b.add(k, kTileDepth - 1), depth);
    Value rest = arith::IndexCastOp::create(
        b, b.getI16Type(), b.minimum(b.sub(depth, k), b.index(kTileDepth)));
    Values at;
    for (int64_t i = 0; i < kTileDepth; ++i)
      at.push_back(rowOf(b.minimum(b.add(k, i), last)));
    b.loop(zero, b.ceilDiv(columns, kLanes), 1, [&](Value v) {
      Value column = b.mul(v, kLanes);
      Value present = b.minimum(b.index(kLanes), b.sub(columns, column));
      Value line = b.add(b.mul(v, linesPerVector), b.mul(tile, kTileRows));
      column = b.add(first, column);
      auto pack = [&](bool ragged) {
        Type element = b.getBF16Type();
        Value mask;
        if (ragged)
          mask = vector::CreateMaskOp::create(b, b.vectorOf(b.getI1Type()),
                                              present);
        Values values;
        for (Value row : at)
          values.push_back(ragged ? vector::MaskedLoadOp::create(
                                        b, b.vectorOf(element), rows,
                                        ValueRange{row, column}, mask,
                                        b.zeros(element))
                                        .getResult()
                                  : b.loadVector(rows, row, column, kLanes));
        Values lines;
        if (side == TileSide::Left)
          lines = transposeTile(b, values);
        else
          for (int64_t i = 0; i < kTileDepth; i += 2)
            lines.push_back(
                vector::InterleaveOp::create(b, values[i], values[i + 1]));
        for (auto [i, values] : llvm::enumerate(lines)) {
          // Past the last row it was repeated: zeros, whatever it holds.
          if (ragged)
            values = arith::SelectOp::create(
                b,
                lanesBelow(rest,
                           [&, i = i](int64_t lane) -> int64_t {
                             return side == TileSide::Left ? lane
                                                           : 2 * i + lane % 2;
                           }),
                values, b.constant(lineType(b), 0.0));
          storeLine(b, values, buffer, b.add(line, i));
        }
      };
      b.when(
          arith::AndIOp::create(b, whole, b.less(b.index(kLanes - 1), present)),
          [&] { pack(/*ragged=*/false); }, [&] { pack(/*ragged=*/true); });
    });
  });
}

void mlir::moe::emitTiles(KernelEmitter &b, int64_t tall, int64_t vectors,
                          const TileOperand &left, const TileOperand &right,
                          Value acc, Value accRow, bool fresh,
                          ArrayRef<TileProduct> products) {
  auto operand = amx::TileType::get({kTileRows, kTileDepth}, b.getBF16Type());
  auto sums = amx::TileType::get({kTileRows, kTileRows}, b.getF32Type());
  Value zero = b.index(0);
  auto load = [&](const TileOperand &from, Value vector, Value line) -> Value {
    Value at =
        b.add(b.add(from.line, line), b.mul(vector, from.linesPerVector));
    return amx::TileLoadOp::create(b, operand, from.buffer,
                                   ValueRange{at, zero});
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
      sum = b.carry(zero, product.lines, kTileRows, sum,
                    [&](Value line, ValueRange sum) {
                      Value at = b.add(line, product.line);
                      Values next, columns;
                      for (int64_t i = 0; i < tall; ++i) {
                        Value rows = load(left, b.index(i), at);
                        for (int64_t j = 0; j < wide; ++j) {
                          if (i == 0)
                            columns.push_back(load(right, b.add(v, j), at));
                          next.push_back(amx::TileMulFOp::create(
                              b, sums, rows, columns[j], sum[i * wide + j]));
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
