// SPDX-License-Identifier: Apache-2.0
#include "SharedTile.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

/// Added to a tile's rows so that transposing stores meet fewer banks twice;
/// four keeps vectors aligned.
constexpr int64_t kPad = 4;

SharedTile::SharedTile(GPUEmitter &b, Type compute, int64_t values)
    : b(b), compute(compute), values(values), steps(16) {
  int64_t element = compute.getIntOrFloatBitWidth() / 8;
  auto bytes = [&] {
    return steps * (kRows + kPad + values * (kColumns + kPad)) * element;
  };
  while (bytes() > kSharedBytes - 64)
    steps /= 2;
  left = b.shared({steps, kRows + kPad}, compute);
  for (int64_t i = 0; i < values; ++i)
    right.push_back(b.shared({steps, kColumns + kPad}, compute));
}

Values SharedTile::zeros() {
  return Values(kWarpRows * values,
                b.constant(b.vectorOf(compute, kLaneColumns), 0.0));
}

void SharedTile::storeLeft(Value value, Value step, Value row) {
  b.store(value, left, {step, row});
}
void SharedTile::storeRight(Value value, Value step, int64_t number,
                            Value column) {
  b.store(value, right[number], {step, column});
}

Values SharedTile::multiply(ValueRange acc) {
  Value row = b.mul(b.warp, kWarpRows), column = b.mul(b.lane, kLaneColumns);
  auto four = b.vectorOf(compute, kLaneColumns);
  auto load = [&](Value from, Value step, Value at) -> Value {
    return vector::LoadOp::create(b, four, from, ValueRange{step, at});
  };
  return b.carry(b.index(0), b.index(steps), 1, acc,
                 [&](Value step, ValueRange acc) {
                   Values rows, columns, next;
                   for (int64_t i = 0; i < kWarpRows; i += kLaneColumns) {
                     Value part = load(left, step, b.add(row, i));
                     for (int64_t j = 0; j < kLaneColumns; ++j)
                       rows.push_back(vector::BroadcastOp::create(
                           b, four, vector::ExtractOp::create(b, part, j)));
                   }
                   for (Value from : right)
                     columns.push_back(load(from, step, column));
                   for (Value a : rows)
                     for (Value c : columns)
                       next.push_back(b.multiplyAdd(a, c, acc[next.size()]));
                   return next;
                 });
}
