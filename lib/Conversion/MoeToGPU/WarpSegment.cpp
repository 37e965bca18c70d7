// SPDX-License-Identifier: Apache-2.0
#include "WarpSegment.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

WarpSegments::WarpSegments(GPUEmitter &b, RowRegion &region, ValueRange outs)
    : b(b), region(region), outs(outs) {
  for (unsigned i = 0; i < outs.size(); ++i)
    if (!region.outPort(i).hasColumns())
      sums.push_back(i);
}

Values WarpSegments::segment(const Row &row, ValueRange once, Value number,
                             Value lane, ValueRange accumulated) {
  int64_t step = kLaneColumns;
  while (region.width % step)
    step /= 2;
  b.vectorLanes = step;
  Value first = b.add(b.mul(number, kRowSumSegment), b.mul(lane, kLaneColumns));
  Values totals(sums.size(), b.constant(region.compute, 0.0));
  for (int64_t at = 0; at < kLaneColumns; at += step) {
    Value column = b.add(first, at);
    auto inside = [&] {
      Values leading;
      for (Value value : accumulated)
        leading.push_back(step == kLaneColumns ? value
                                               : b.slice(value, at, step));
      Values yielded = region.columns(row, once, column, step, leading);
      Values next;
      for (auto [i, out] : llvm::enumerate(outs)) {
        PortAttr port = region.outPort(i);
        ValueRange values =
            ValueRange(yielded).drop_front(region.firstYield(i));
        if (port.hasColumns()) {
          b.storeColumns(values.take_front(port.getCount()), out, port, row,
                         region.width, column, step);
          continue;
        }
        Value sum = totals[next.size()];
        for (int64_t c = 0; c < step; ++c)
          sum = b.add(sum, vector::ExtractOp::create(b, b.splat(values[0]), c));
        next.push_back(sum);
      }
      return next;
    };
    bool whole = region.width % kRowSumSegment == 0;
    Value present = b.less(column, b.index(region.width));
    if (whole)
      totals = inside();
    else if (sums.empty())
      b.when(present, [&] { inside(); });
    else
      totals = b.choose(present, inside, [&] { return totals; });
  }
  for (auto [total, sum] : llvm::zip_equal(totals, sums)) {
    total = b.warpSum(total);
    PortAttr port = region.outPort(sum);
    if (port.getKind() != PortKind::Partials)
      continue;
    b.when(b.equal(lane, b.index(0)), [&, total = total, sum = sum] {
      Type element = cast<MemRefType>(outs[sum].getType()).getElementType();
      b.store(b.narrow(total, element), outs[sum],
              {b.rowIndex(port, row), number});
    });
  }
  return totals;
}

void WarpSegments::storeTotals(const Row &row, ValueRange totals, Value lane) {
  b.when(b.equal(lane, b.index(0)), [&] {
    for (auto [total, sum] : llvm::zip_equal(totals, sums))
      if (region.outPort(sum).getKind() == PortKind::Sum)
        b.storeRowValue(total, outs[sum], region.outPort(sum), row);
  });
}

void WarpSegments::mapRow(const Row &row, Value lane) {
  Values once = region.rowValues(row);
  Values zeros(sums.size(), b.constant(region.compute, 0.0));
  Values totals = b.carry(b.index(0), b.index(numRowSumSegments(region.width)),
                          1, zeros, [&](Value number, ValueRange sum) {
                            Values next;
                            for (auto [total, part] : llvm::zip_equal(
                                     sum, segment(row, once, number, lane, {})))
                              next.push_back(b.add(total, part));
                            return next;
                          });
  storeTotals(row, totals, lane);
}
