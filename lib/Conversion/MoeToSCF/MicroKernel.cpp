// SPDX-License-Identifier: Apache-2.0
#include "MicroKernel.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/X86Vector/X86VectorDialect.h"

using namespace mlir;
using namespace mlir::moe;

/// Contraction steps of a loop's round. The loop's own instructions cost where
/// two threads share a core: each gets half of what the core can start.
constexpr int64_t kUnroll = 4;

Tile mlir::moe::chooseTile(const CPUTarget &target, Type compute,
                           int64_t multiple, int64_t width) {
  // Accumulators, in vectors of 16, that leave registers for the panel's
  // vectors and one row element: 24 of 32 AVX-512 registers (6 x 64 columns of
  // f32), 12 of 16 AVX2 registers, 8 of 16 SSE registers.
  int64_t perVector =
      kLanes * compute.getIntOrFloatBitWidth() / target.vectorBits;
  int64_t registers = target.vectorBits >= 512   ? 24
                      : target.vectorBits >= 256 ? 12
                                                 : 8;
  int64_t budget = std::max<int64_t>(1, registers / perVector);
  int64_t most = target.vectorBits >= 512 ? (perVector == 1 ? 4 : 2) : 1;
  int64_t vectors = multiple;
  while (vectors * 2 <= most && vectors * kLanes < width * multiple)
    vectors *= 2;
  int64_t rows = std::max<int64_t>(1, std::min<int64_t>(8, budget / vectors));
  return {rows, vectors};
}

ProductKind mlir::moe::productKind(const CPUTarget &target, Type element) {
  bool bf16 = element.isBF16(), tiles = target.bf16Tiles && bf16;
  return {element, getComputeType(element), tiles || (target.bf16Dot && bf16),
          tiles};
}

static VectorType pairsType(KernelEmitter &b) {
  return b.vectorOf(b.getBF16Type(), 2 * kLanes);
}
static Value asPairs(KernelEmitter &b, Value words) {
  return vector::BitCastOp::create(b, pairsType(b), words);
}
static Value asWords(KernelEmitter &b, Value pairs) {
  return vector::BitCastOp::create(b, b.vectorOf(b.getI32Type()), pairs);
}

static Value loadPanel(KernelEmitter &b, ProductKind kind, Value panel,
                       Value row, int64_t column) {
  Value words = b.loadVector(panel, row, b.index(column), kLanes);
  return kind.pairs ? asPairs(b, words) : words;
}

Value mlir::moe::broadcastElement(KernelEmitter &b, ProductKind kind,
                                  Value element) {
  Value all = b.splat(element);
  return kind.pairs ? asPairs(b, all) : all;
}

Value mlir::moe::broadcastPair(KernelEmitter &b, Value rows, Value row,
                               Value column, bool single) {
  Type bf16 = b.getBF16Type(), i16 = b.getI16Type(), i32 = b.getI32Type();
  if (single) {
    Value bits = arith::BitcastOp::create(b, i16, b.load(rows, {row, column}));
    return asPairs(b, b.splat(arith::ExtUIOp::create(b, i32, bits)));
  }
  Value pair = vector::LoadOp::create(b, VectorType::get({2}, bf16), rows,
                                      ValueRange{row, column});
  Value word = vector::BitCastOp::create(b, VectorType::get({1}, i32), pair);
  return asPairs(
      b, vector::BroadcastOp::create(
             b, b.vectorOf(i32),
             vector::ExtractOp::create(b, word, int64_t(0)).getResult()));
}

Value mlir::moe::multiplyPanel(KernelEmitter &b, ProductKind kind, Value a,
                               Value column, Value acc) {
  if (!kind.pairs)
    return b.multiplyAdd(a, column, acc);
  return x86vector::DotBF16Op::create(b, acc.getType(), acc, a, column);
}

void mlir::moe::emitTile(KernelEmitter &b, Tile tile, ProductKind kind,
                         Value acc, Value row, bool fresh,
                         ArrayRef<Product> products) {
  Values sum;
  for (int64_t i = 0; i < tile.rows; ++i)
    for (int64_t v = 0; v < tile.vectors; ++v)
      sum.push_back(fresh ? b.zeros(kind.compute)
                          : b.loadVector(acc, b.add(row, i),
                                         b.index(v * kLanes), kLanes));
  auto step = [&](ValueRange sum, ArrayRef<Value> columns,
                  function_ref<Value(int64_t)> a) {
    Values next;
    for (int64_t i = 0; i < tile.rows; ++i) {
      Value element = a(i);
      for (int64_t v = 0; v < tile.vectors; ++v) {
        next.push_back(multiplyPanel(b, kind, element, columns[v],
                                     sum[i * tile.vectors + v]));
      }
    }
    return next;
  };
  auto panelRow = [&](const Product &product, Value k) {
    Values columns;
    for (int64_t v = 0; v < tile.vectors; ++v)
      columns.push_back(loadPanel(b, kind, product.panel,
                                  b.add(product.panelRow, k), v * kLanes));
    return columns;
  };
  for (const Product &product : products) {
    auto steps = [&](Value first, Value last, int64_t each) {
      sum = b.carry(first, last, each, sum, [&](Value k, ValueRange sum) {
        Values next(sum);
        for (int64_t i = 0; i < each; ++i) {
          Value at = b.add(k, i);
          next = step(next, panelRow(product, at),
                      [&](int64_t row) { return product.a(row, at); });
        }
        return next;
      });
    };
    Value most = b.mul(b.div(product.steps, kUnroll), kUnroll);
    steps(b.index(0), most, kUnroll);
    steps(most, product.steps, 1);
    if (product.last)
      sum = step(sum, panelRow(product, product.steps), product.last);
  }
  for (int64_t i = 0; i < tile.rows; ++i)
    for (int64_t v = 0; v < tile.vectors; ++v)
      b.storeVector(sum[i * tile.vectors + v], acc, b.add(row, i),
                    b.index(v * kLanes), kLanes);
}

Values mlir::moe::transpose(KernelEmitter &b, ValueRange rows) {
  // Within 128-bit lanes first (unpack), then whole lanes, as the registers of
  // every x86 CPU do it cheaply.
  auto shuffle = [&](Value x, Value y, function_ref<int64_t(int64_t)> source) {
    SmallVector<int64_t> mask;
    for (int64_t i = 0; i < kLanes; ++i)
      mask.push_back(source(i));
    return vector::ShuffleOp::create(b, x, y, mask).getResult();
  };
  auto unpack = [&](Value x, Value y, int64_t size, int64_t high) {
    return shuffle(x, y, [=](int64_t i) {
      int64_t lane = i / 4 * 4, at = i % 4;
      int64_t group = at / size, from = lane + at % size;
      int64_t half = 2 / size;
      return (group % 2) * kLanes + from + (group / 2 + high * half) * size;
    });
  };
  auto lanes = [&](Value x, Value y, int64_t odd) {
    return shuffle(x, y, [=](int64_t i) {
      int64_t lane = i / 4;
      return (lane / 2) * kLanes + ((lane % 2) * 2 + odd) * 4 + i % 4;
    });
  };
  Values t(kLanes), u(kLanes), out(kLanes);
  for (int64_t i = 0; i < kLanes; i += 2)
    for (int64_t high = 0; high < 2; ++high)
      t[i + high] = unpack(rows[i], rows[i + 1], 1, high);
  for (int64_t i = 0; i < kLanes; i += 4)
    for (int64_t j = 0; j < 4; ++j)
      u[i + j] = unpack(t[i + j / 2], t[i + j / 2 + 2], 2, j % 2);
  for (int64_t j = 0; j < 4; ++j)
    for (int64_t odd = 0; odd < 2; ++odd) {
      Value low = lanes(u[j], u[4 + j], odd);
      Value high = lanes(u[8 + j], u[12 + j], odd);
      out[4 * odd + j] = lanes(low, high, 0);
      out[8 + 4 * odd + j] = lanes(low, high, 1);
    }
  return out;
}

Values mlir::moe::transposeWeights(KernelEmitter &b, ProductKind kind,
                                   Value weights, ValueRange rows, Value k,
                                   int64_t present) {
  int64_t width = kLanes * kind.step();
  auto type = b.vectorOf(kind.element, width);
  Values values;
  for (Value row : rows) {
    Values at = {row, k};
    Value value;
    // Most often the next block is that of the next rows. To the second level:
    // rows of a power of two share few lines of the first.
    if (present == width)
      memref::PrefetchOp::create(b, weights, ValueRange{b.add(row, kLanes), k},
                                 /*isWrite=*/false, /*localityHint=*/2,
                                 /*isDataCache=*/true);
    if (present == width) {
      value = vector::LoadOp::create(b, type, weights, at);
    } else {
      Value mask = vector::ConstantMaskOp::create(
          b, b.vectorOf(b.getI1Type(), width), present);
      value = vector::MaskedLoadOp::create(b, type, weights, at, mask,
                                           b.constant(type, 0.0));
    }
    values.push_back(kind.pairs ? asWords(b, value)
                                : b.widen(value, kind.compute));
  }
  values = transpose(b, values);
  values.resize(llvm::divideCeil(present, kind.step()));
  if (kind.pairs)
    for (Value &value : values)
      value = asPairs(b, value);
  return values;
}

void mlir::moe::packRows(KernelEmitter &b, ProductKind kind, Value weights,
                         function_ref<Value(Value, int64_t)> rowOf, Value first,
                         int64_t depth, int64_t vectors, Value panel,
                         Value panelRow) {
  int64_t step = kind.step(), width = kLanes * step;
  auto block = [&](ArrayRef<Value> rows, Value k, Value to, Value column,
                   int64_t present) {
    Values columns = transposeWeights(b, kind, weights, rows, k, present);
    for (auto [i, values] : llvm::enumerate(columns))
      b.storeVector(kind.pairs ? asWords(b, values) : values, panel,
                    b.add(to, i), column, kLanes);
  };
  int64_t tail = depth % width;
  b.loop(b.index(0), b.index(vectors), 1, [&](Value v) {
    Values rows;
    for (int64_t lane = 0; lane < kLanes; ++lane)
      rows.push_back(rowOf(v, lane));
    Value column = b.mul(v, kLanes);
    if (depth >= width)
      b.loop(b.index(0), b.index(depth / width), 1, [&](Value i) {
        block(rows, b.add(first, b.mul(i, width)),
              b.add(panelRow, b.mul(i, kLanes)), column, width);
      });
    if (tail)
      block(rows, b.add(first, depth - tail),
            b.add(panelRow, (depth - tail) / step), column, tail);
  });
}

void mlir::moe::packColumns(
    KernelEmitter &b, ProductKind kind, Value depth,
    function_ref<void(function_ref<void(Value, Value, int64_t)>)> eachColumn,
    function_ref<Value(Value, Value, int64_t)> load,
    function_ref<void(Value, Value, Value)> store) {
  if (!kind.pairs) {
    b.loop(b.index(0), depth, 1, [&](Value k) {
      eachColumn([&](Value column, Value to, int64_t lanes) {
        store(b.widen(load(k, column, lanes), kind.compute), k, to);
      });
    });
    return;
  }
  b.loop(b.index(0), b.ceilDiv(depth, 2), 1, [&](Value pair) {
    Value low = b.mul(pair, 2), high = b.add(low, 1);
    Value exists = b.less(high, depth);
    high = b.select(exists, high, low);
    eachColumn([&](Value column, Value to, int64_t lanes) {
      Value second =
          b.select(exists, load(high, column, lanes), b.zeros(b.getBF16Type()));
      Value both =
          vector::InterleaveOp::create(b, load(low, column, lanes), second);
      store(asWords(b, both), pair, to);
    });
  });
}
