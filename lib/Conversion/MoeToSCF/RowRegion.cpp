// SPDX-License-Identifier: Apache-2.0
#include "RowRegion.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::moe;

bool RowRegion::hasColumns() const {
  auto columns = [](Attribute port) {
    return cast<PortAttr>(port).hasColumns();
  };
  return llvm::any_of(inPorts, columns) || llvm::any_of(outPorts, columns);
}

unsigned RowRegion::firstYield(unsigned i) const {
  unsigned first = 0;
  for (unsigned j = 0; j < i; ++j)
    first += outPort(j).numValues();
  return first;
}

Values RowRegion::rowValues(const Row &row) {
  Values values;
  for (auto [i, in] : llvm::enumerate(ins))
    values.push_back(b.loadRowValue(in, inPort(i), row, compute));
  return values;
}

Values RowRegion::columns(const Row &row, ValueRange once, Value column,
                          int64_t lanes, ValueRange leadingValues) {
  Values arguments(leadingValues);
  for (auto [i, in] : llvm::enumerate(ins)) {
    if (once[i])
      arguments.push_back(once[i]);
    else
      b.loadColumns(in, inPort(i), row, width, column, lanes, compute,
                    arguments);
  }
  return b.inlineRegion(body, arguments);
}

void RowRegion::mapRow(const Row &row, ValueRange outs) {
  Values once = rowValues(row);
  if (!hasColumns()) {
    Values yielded = b.inlineRegion(body, once);
    for (auto [i, out] : llvm::enumerate(outs))
      b.storeRowValue(yielded[i], out, outPort(i), row);
    return;
  }

  SmallVector<unsigned> sums;
  for (unsigned i = 0; i < outs.size(); ++i)
    if (!outPort(i).hasColumns())
      sums.push_back(i);
  // 16 columns: stores rows, adds to the lanes of sums.
  auto step = [&](Value column, int64_t lanes, ValueRange sum) {
    Values yielded = columns(row, once, column, lanes), next;
    for (auto [i, out] : llvm::enumerate(outs)) {
      ValueRange values = ValueRange(yielded).drop_front(firstYield(i));
      if (outPort(i).hasColumns())
        b.storeColumns(values.take_front(outPort(i).getCount()), out,
                       outPort(i), row, width, column, lanes);
      else
        next.push_back(b.addLanes(sum[next.size()], b.splat(values[0]), lanes));
    }
    return next;
  };
  if (sums.empty()) {
    b.columnsCarry(width, {}, step);
    return;
  }

  // A segment: lanes from zero, folded, to the partials or onto the total.
  auto segment = [&](Value number, int64_t size, ValueRange totals) {
    Value first = b.mul(number, kRowSumSegment);
    Values lanes(sums.size(), b.zeros(compute));
    int64_t tail = size % kLanes;
    if (size >= kLanes)
      lanes = b.carry(first, b.add(first, size - tail), kLanes, lanes,
                      [&](Value column, ValueRange sum) {
                        return step(column, kLanes, sum);
                      });
    if (tail)
      lanes = step(b.add(first, size - tail), tail, lanes);
    Values next;
    for (auto [i, sum] : llvm::enumerate(sums)) {
      Value folded = b.reduceLanes(lanes[i]);
      if (outPort(sum).getKind() == PortKind::Partials) {
        Type element = cast<MemRefType>(outs[sum].getType()).getElementType();
        b.store(b.narrow(folded, element), outs[sum],
                {b.rowIndex(outPort(sum), row), number});
        next.push_back(totals[i]);
      } else {
        next.push_back(b.add(totals[i], folded));
      }
    }
    return next;
  };
  Values totals(sums.size(), b.constant(compute, 0.0));
  int64_t full = width / kRowSumSegment, rest = width % kRowSumSegment;
  if (full)
    totals = b.carry(b.index(0), b.index(full), 1, totals,
                     [&](Value number, ValueRange sum) {
                       return segment(number, kRowSumSegment, sum);
                     });
  if (rest)
    totals = segment(b.index(full), rest, totals);
  for (auto [i, sum] : llvm::enumerate(sums))
    if (outPort(sum).getKind() == PortKind::Sum)
      b.storeRowValue(totals[i], outs[sum], outPort(sum), row);
}
