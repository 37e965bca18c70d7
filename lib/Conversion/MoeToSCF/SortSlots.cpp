// SPDX-License-Identifier: Apache-2.0
// moe.sort_slots: a stable counting sort. `end` counts, then is the cursor.
#include "KernelEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::moe;

/// The id in its own width, and whether it names an expert.
static std::pair<Value, Value> loadExpert(KernelEmitter &b, Value ids,
                                          Value slot, int64_t experts) {
  int64_t k = cast<MemRefType>(ids.getType()).getDimSize(1);
  Value id = b.load(ids, {b.div(slot, k), b.rem(slot, k)});
  Value known = arith::CmpIOp::create(b, arith::CmpIPredicate::ult, id,
                                      b.integer(id.getType(), experts));
  return {arith::IndexCastOp::create(b, b.getIndexType(), id), known};
}

static void sortIds(SortSlotsOp op, KernelEmitter &b) {
  Value order = op.getOuts()[0], position = op.getOuts()[1];
  Value begin = op.getOuts()[2], end = op.getOuts()[3];
  int64_t experts = cast<MemRefType>(end.getType()).getDimSize(0);
  Value zero = b.index(0), one = b.index(1), all = b.index(experts);
  Value slots = b.size(order, 0);

  b.loop(zero, all, 1, [&](Value e) { b.storeIndex(zero, end, e); });
  b.loop(zero, slots, 1, [&](Value slot) {
    auto [id, known] = loadExpert(b, op.getIds(), slot, experts);
    b.when(known, [&, id = id] {
      b.storeIndex(b.add(b.loadIndex(end, id), one), end, id);
    });
  });
  Value first = b.carry(zero, all, 1, zero, [&](Value e, ValueRange next) {
    Value after = b.add(next[0], b.loadIndex(end, e));
    b.storeIndex(next[0], begin, e);
    b.storeIndex(next[0], end, e);
    return Values{after};
  })[0];
  b.carry(zero, slots, 1, first, [&](Value slot, ValueRange sentinel) {
    auto [id, known] = loadExpert(b, op.getIds(), slot, experts);
    return b.choose(
        known,
        [&, id = id] {
          Value row = b.loadIndex(end, id);
          b.storeIndex(b.add(row, one), end, id);
          b.storeIndex(slot, order, row);
          b.storeIndex(row, position, slot);
          return Values{sentinel[0]};
        },
        [&] {
          b.storeIndex(slot, order, sentinel[0]);
          b.storeIndex(b.index(-1), position, slot);
          return Values{b.add(sentinel[0], one)};
        });
  });
}

/// Rows that are grouped already: the order is the identity.
static void fromCounts(SortSlotsOp op, KernelEmitter &b) {
  Value order = op.getOuts()[0], position = op.getOuts()[1];
  Value begin = op.getOuts()[2], end = op.getOuts()[3];
  int64_t experts = cast<MemRefType>(end.getType()).getDimSize(0);
  Value zero = b.index(0), none = b.index(-1), slots = b.size(order, 0);
  b.loop(zero, slots, 1, [&](Value slot) {
    b.storeIndex(slot, order, slot);
    b.storeIndex(none, position, slot);
  });
  b.carry(zero, b.index(experts), 1, zero, [&](Value e, ValueRange next) {
    Value first = next[0];
    if (op.getCapacity())
      first = b.minimum(b.mul(e, *op.getCapacity()), slots);
    // Cut before it is added, so that no sum can overflow.
    Value count = b.maximum(b.loadIndex(op.getCounts(), e), zero);
    if (op.getCapacity())
      count = b.minimum(count, b.index(*op.getCapacity()));
    count = b.minimum(count, b.sub(slots, first));
    Value last = b.add(first, count);
    b.storeIndex(first, begin, e);
    b.storeIndex(last, end, e);
    b.loop(first, last, 1,
           [&](Value row) { b.storeIndex(row, position, row); });
    return Values{last};
  });
}

LogicalResult mlir::moe::emitSortSlots(SortSlotsOp op, KernelEmitter &b) {
  if (op.getIds())
    sortIds(op, b);
  else
    fromCounts(op, b);
  return success();
}
