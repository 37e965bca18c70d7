// SPDX-License-Identifier: Apache-2.0
// moe.sort_slots: a stable counting sort without atomics. A thread owns a class
// (an expert, or the sentinels) and goes over a chunk of ids in shared memory
// in order, so ranks are stable by construction. Up to one chunk, one block
// does all of it; beyond, chunks are counted, the counts of each class are
// summed over the chunks, and each chunk places its slots. The counts lie in
// `order` until it is written.
#include "GPUEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

/// Ids of a chunk that a thread has at hand; chunks are multiples of it.
constexpr int64_t kAtOnce = 8;

namespace {
class Sort {
public:
  Sort(SortSlotsOp op, GPUEmitter &b)
      : op(op), b(b), ids(op.getIds()), order(op.getOuts()[0]),
        position(op.getOuts()[1]), begin(op.getOuts()[2]), end(op.getOuts()[3]),
        experts(cast<MemRefType>(end.getType()).getDimSize(0)),
        classes(experts + 1), slots(b.size(order, 0)),
        chunk(std::max<int64_t>(1024, llvm::PowerOf2Ceil(2 * classes))) {}
  void emit();

private:
  Value loadChunk(Value first);
  Value overChunk(Value chunkIds, Value first, Value wanted, Value init,
                  function_ref<Value(Value, Value, Value)> step);
  Value countInChunk(Value chunkIds, Value first, Value wanted);
  void place(Value chunkIds, Value first, Value wanted, Value next);
  Value scanClasses(function_ref<Value(Value)> countOf,
                    function_ref<void(Value, Value, Value)> put);
  void forClasses(function_ref<void(Value)> body) {
    b.strided(b.thread, classes, kBlockThreads, body);
  }
  void oneBlock();
  void manyBlocks();
  Value i32(Value index) {
    return arith::IndexCastOp::create(b, b.getI32Type(), index);
  }

  SortSlotsOp op;
  GPUEmitter &b;
  Value ids, order, position, begin, end;
  int64_t experts, classes;
  Value slots;
  int64_t chunk;
};
} // namespace

/// The classes of the slots from `first` on in shared memory: the expert, or
/// `experts` for a sentinel. Past the last slot: no class.
Value Sort::loadChunk(Value first) {
  Value chunkIds = b.shared({chunk}, b.getI32Type());
  int64_t k = cast<MemRefType>(ids.getType()).getDimSize(1);
  b.strided(b.thread, chunk, kBlockThreads, [&](Value i) {
    Value slot = b.add(first, i);
    Value value = b.choose(
        b.less(slot, slots),
        [&] {
          // Compared in its own width, before it is narrowed.
          Value id = b.load(ids, {b.div(slot, k), b.rem(slot, k)});
          Value known = arith::CmpIOp::create(b, arith::CmpIPredicate::ult, id,
                                              b.integer(id.getType(), experts));
          Value expert = arith::IndexCastOp::create(b, b.getIndexType(), id);
          return Values{i32(b.select(known, expert, b.index(experts)))};
        },
        [&] { return Values{b.integer(b.getI32Type(), -1)}; })[0];
    b.store(value, chunkIds, i);
  });
  b.barrier();
  return chunkIds;
}

/// step(i, whether id i of the chunk is of a class, carried) for the ids there
/// are, a few of them loaded at once.
Value Sort::overChunk(Value chunkIds, Value first, Value wanted, Value init,
                      function_ref<Value(Value, Value, Value)> step) {
  Value narrow = i32(wanted);
  Value filled = b.minimum(b.index(chunk), b.sub(slots, first));
  return b.carry(b.index(0), filled, kAtOnce, init,
                 [&](Value i, ValueRange carried) {
                   Values ids;
                   for (int64_t j = 0; j < kAtOnce; ++j)
                     ids.push_back(b.load(chunkIds, b.add(i, j)));
                   Value value = carried[0];
                   for (int64_t j = 0; j < kAtOnce; ++j)
                     value = step(b.add(i, j), b.equal(ids[j], narrow), value);
                   return Values{value};
                 })[0];
}

/// How many of the chunk are of a class (i32).
Value Sort::countInChunk(Value chunkIds, Value first, Value wanted) {
  Value zero = b.integer(b.getI32Type(), 0), one = b.integer(b.getI32Type(), 1);
  return overChunk(chunkIds, first, wanted, zero,
                   [&](Value, Value mine, Value sum) {
                     return b.add(sum, b.select(mine, one, zero));
                   });
}

/// Gives the class's slots of the chunk the rows from `next` on. A sentinel's
/// is kept as -row - 1.
void Sort::place(Value chunkIds, Value first, Value wanted, Value next) {
  Value sentinel = b.equal(wanted, b.index(experts));
  overChunk(chunkIds, first, wanted, next, [&](Value i, Value mine, Value row) {
    b.when(mine, [&] {
      b.storeIndex(b.select(sentinel, b.sub(b.index(-1), row), row), position,
                   b.add(first, i));
    });
    return b.select(mine, b.add(row, 1), row);
  });
}

/// One block: `put(class, first row, end)` from the classes' counts.
Value Sort::scanClasses(function_ref<Value(Value)> countOf,
                        function_ref<void(Value, Value, Value)> put) {
  // Each thread has a run of classes; the runs' sums are scanned.
  int64_t run = llvm::divideCeil(classes, kBlockThreads);
  Value sums = b.shared({kBlockThreads}, b.getI32Type());
  Value firstClass = b.mul(b.thread, run);
  Value lastClass = b.minimum(b.add(firstClass, run), b.index(classes));
  Value own = b.carry(firstClass, lastClass, 1, b.index(0),
                      [&](Value c, ValueRange sum) {
                        return Values{b.add(sum[0], countOf(c))};
                      })[0];
  b.storeIndex(own, sums, b.thread);
  b.barrier();
  for (int64_t offset = 1; offset < kBlockThreads; offset *= 2) {
    Value from = b.maximum(b.sub(b.thread, b.index(offset)), b.index(0));
    Value before = b.loadIndex(sums, from);
    Value mine = b.loadIndex(sums, b.thread);
    b.barrier();
    b.storeIndex(
        b.select(b.less(b.thread, b.index(offset)), mine, b.add(mine, before)),
        sums, b.thread);
    b.barrier();
  }
  Value start = b.sub(b.loadIndex(sums, b.thread), own);
  b.carry(firstClass, lastClass, 1, start, [&](Value c, ValueRange next) {
    Value after = b.add(next[0], countOf(c));
    put(c, next[0], after);
    return Values{after};
  });
  return sums;
}

/// begin and end of experts, from the first row of each class.
static void storeRange(GPUEmitter &b, int64_t experts, Value c, Value from,
                       Value to, Value begin, Value end) {
  b.when(b.less(c, b.index(experts)), [&] {
    b.storeIndex(from, begin, c);
    b.storeIndex(to, end, c);
  });
}

void Sort::oneBlock() {
  b.launch(b.index(1), kBlockThreads, [&] {
    Value zero = b.index(0);
    Value chunkIds = loadChunk(zero);
    Value counts = b.shared({classes}, b.getI32Type());
    forClasses(
        [&](Value c) { b.store(countInChunk(chunkIds, zero, c), counts, c); });
    b.barrier();
    Value firsts = b.shared({classes}, b.getI32Type());
    scanClasses([&](Value c) { return b.loadIndex(counts, c); },
                [&](Value c, Value from, Value to) {
                  b.storeIndex(from, firsts, c);
                  storeRange(b, experts, c, from, to, begin, end);
                });
    b.barrier();
    forClasses(
        [&](Value c) { place(chunkIds, zero, c, b.loadIndex(firsts, c)); });
  });
}

void Sort::manyBlocks() {
  Value chunks = b.ceilDiv(slots, chunk);
  auto at = [&](Value number, Value c) {
    return b.add(b.mul(number, classes), c);
  };
  // Counts of each chunk.
  b.launch(chunks, kBlockThreads, [&] {
    Value first = b.mul(b.block, chunk);
    Value chunkIds = loadChunk(first);
    forClasses([&](Value c) {
      b.store(countInChunk(chunkIds, first, c), order, at(b.block, c));
    });
  });
  // A warp for each class: its counts become those of the chunks before, and
  // `end` its total.
  b.launch(b.index(classes), kWarp, [&] {
    Value c = b.block;
    Value total = b.carry(
        b.index(0), chunks, kWarp, b.index(0), [&](Value base, ValueRange sum) {
          Value number = b.add(base, b.lane);
          Value present = b.less(number, chunks);
          Value clamped = b.minimum(number, b.sub(chunks, b.index(1)));
          Value own =
              b.select(present, b.loadIndex(order, at(clamped, c)), b.index(0));
          Value upTo = own;
          for (int64_t offset = 1; offset < kWarp; offset *= 2) {
            Value before = b.shuffle(upTo, offset, gpu::ShuffleMode::UP);
            upTo = b.select(b.less(b.lane, b.index(offset)), upTo,
                            b.add(upTo, before));
          }
          b.when(present, [&] {
            b.storeIndex(b.add(sum[0], b.sub(upTo, own)), order, at(number, c));
          });
          return Values{
              b.add(sum[0], b.shuffle(upTo, kWarp - 1, gpu::ShuffleMode::IDX))};
        })[0];
    b.when(b.both(b.equal(b.lane, b.index(0)), b.less(c, b.index(experts))),
           [&] { b.storeIndex(total, end, c); });
  });
  // From totals to ranges: one block.
  b.launch(b.index(1), kBlockThreads, [&] {
    Value counts = b.shared({classes}, b.getI32Type());
    forClasses([&](Value c) {
      Value known = b.less(c, b.index(experts));
      Value clamped = b.minimum(c, b.index(experts - 1));
      b.storeIndex(b.select(known, b.loadIndex(end, clamped), b.index(0)),
                   counts, c);
    });
    b.barrier();
    scanClasses([&](Value c) { return b.loadIndex(counts, c); },
                [&](Value c, Value from, Value to) {
                  storeRange(b, experts, c, from, to, begin, end);
                });
  });
  // Rows of each chunk's slots. Sentinels come behind the last expert.
  b.launch(chunks, kBlockThreads, [&] {
    Value first = b.mul(b.block, chunk);
    Value chunkIds = loadChunk(first);
    forClasses([&](Value c) {
      Value last = b.index(experts - 1);
      Value base = b.select(b.less(c, b.index(experts)),
                            b.loadIndex(begin, b.minimum(c, last)),
                            b.loadIndex(end, last));
      place(chunkIds, first, c,
            b.add(base, b.loadIndex(order, at(b.block, c))));
    });
  });
}

void Sort::emit() {
  Value small = arith::CmpIOp::create(b, arith::CmpIPredicate::sle, slots,
                                      b.index(chunk));
  b.when(small, [&] { oneBlock(); }, [&] { manyBlocks(); });
  // The inverse, now that nothing but `position` is read.
  b.launch(b.ceilDiv(slots, kBlockThreads), kBlockThreads, [&] {
    Value slot = b.add(b.mul(b.block, kBlockThreads), b.thread);
    b.when(b.less(slot, slots), [&] {
      Value row = b.loadIndex(position, slot);
      Value sentinel = b.less(row, b.index(0));
      b.storeIndex(slot, order,
                   b.select(sentinel, b.sub(b.index(-1), row), row));
      b.storeIndex(b.select(sentinel, b.index(-1), row), position, slot);
    });
  });
}

/// Rows that are grouped already: the order is the identity.
static void fromCounts(SortSlotsOp op, GPUEmitter &b) {
  Value order = op.getOuts()[0], position = op.getOuts()[1];
  Value begin = op.getOuts()[2], end = op.getOuts()[3];
  int64_t experts = cast<MemRefType>(end.getType()).getDimSize(0);
  Value slots = b.size(order, 0);
  // One thread: each range follows from the one before.
  b.launch(b.index(1), kWarp, [&] {
    b.when(b.equal(b.thread, b.index(0)), [&] {
      b.carry(b.index(0), b.index(experts), 1, b.index(0),
              [&](Value e, ValueRange next) {
                Value first = next[0];
                if (op.getCapacity())
                  first = b.minimum(b.mul(e, *op.getCapacity()), slots);
                // Cut before it is added, so that no sum can overflow.
                Value count =
                    b.maximum(b.loadIndex(op.getCounts(), e), b.index(0));
                if (op.getCapacity())
                  count = b.minimum(count, b.index(*op.getCapacity()));
                count = b.minimum(count, b.sub(slots, first));
                Value last = b.add(first, count);
                b.storeIndex(first, begin, e);
                b.storeIndex(last, end, e);
                return Values{last};
              });
    });
  });
  b.launch(b.ceilDiv(slots, kBlockThreads), kBlockThreads, [&] {
    Value slot = b.add(b.mul(b.block, kBlockThreads), b.thread);
    b.when(b.less(slot, slots), [&] {
      Value last = b.index(experts - 1);
      Value expert = op.getCapacity()
                         ? b.minimum(b.div(slot, *op.getCapacity()), last)
                         : last;
      Value covered = b.less(slot, b.loadIndex(end, expert));
      b.storeIndex(slot, order, slot);
      b.storeIndex(b.select(covered, slot, b.index(-1)), position, slot);
    });
  });
}

LogicalResult mlir::moe::emitSortSlots(SortSlotsOp op, GPUEmitter &b) {
  if (op.getIds())
    Sort(op, b).emit();
  else
    fromCounts(op, b);
  return success();
}
