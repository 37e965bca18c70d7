// SPDX-License-Identifier: Apache-2.0
// moe.route_rows: a warp a token, and for a capacity a block an expert.
#include "RouteToken.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

#include <limits>

using namespace mlir;
using namespace mlir::moe;

constexpr double kInf = std::numeric_limits<double>::infinity();

static Type elementOf(Value memref) {
  return cast<MemRefType>(memref.getType()).getElementType();
}

namespace {
class Route {
public:
  Route(RouteRowsOp op, GPUEmitter &b)
      : op(op), b(b), gates(op.getOuts()[0]), ids(op.getOuts()[1]),
        experts(cast<MemRefType>(op.getLogits().getType()).getDimSize(1)),
        k(cast<MemRefType>(gates.getType()).getDimSize(1)) {
    unsigned next = 2;
    if (op.getWithScores())
      scoresOut = op.getOuts()[next++];
    if (op.getWithLogsumexp())
      logsumexpOut = op.getOuts()[next++];
  }
  void emit();

private:
  void token(Value token);
  void maskGroups(RouteToken &t, Value keys);
  void choose(RouteToken &t, Value keys, Value chosen);
  Values best(function_ref<Value(Value)> keyOf, Value first, Value end,
              int64_t step, Value afterKey, Value afterId, Type compute);
  void drop();
  void dropByPosition(Value expert);
  void dropByScore(Value expert);
  void zeroSentinels();
  Values slotAt(Value slot) { return {b.div(slot, k), b.rem(slot, k)}; }

  RouteRowsOp op;
  GPUEmitter &b;
  Value gates, ids, scoresOut, logsumexpOut;
  int64_t experts, k;
};
} // namespace

/// The first in order among [first, end), of those behind (afterKey, afterId).
/// The number is `end`'s or above where there is none.
Values Route::best(function_ref<Value(Value)> keyOf, Value first, Value end,
                   int64_t step, Value afterKey, Value afterId, Type compute) {
  Value none = b.constant(compute, std::numeric_limits<double>::quiet_NaN());
  return b.carry(first, end, step, {none, b.index(experts)},
                 [&](Value e, ValueRange state) {
                   Value key = keyOf(e);
                   Value take =
                       b.both(comesBefore(b, afterKey, afterId, key, e),
                              comesBefore(b, key, e, state[0], state[1]));
                   return Values{b.select(take, key, state[0]),
                                 b.select(take, e, state[1])};
                 });
}

/// Step 3.
void Route::maskGroups(RouteToken &t, Value keys) {
  int64_t groups = op.getGroups(), size = experts / groups;
  if (groups == 1)
    return;
  auto key = [&](Value e) { return b.load(keys, e); };
  Value groupKeys = b.shared({groups}, t.compute);
  b.strided(b.lane, groups, kWarp, [&](Value g) {
    Value first = b.mul(g, size), end = b.add(first, size);
    Value sum =
        b.carry(b.index(0), b.index(int64_t(op.getGroupTop())), 1,
                {b.constant(t.compute, kInf), b.index(-1), t.zero()},
                [&](Value, ValueRange state) {
                  Values next =
                      best(key, first, end, 1, state[0], state[1], t.compute);
                  return Values{next[0], next[1], b.add(state[2], next[0])};
                })[2];
    b.store(sum, groupKeys, g);
  });
  b.barrier();
  double masked = op.getMaskedGroups() == MaskedGroups::Zero ? 0.0 : -kInf;
  t.each([&](Value e) {
    Value own = b.div(e, size), mine = b.load(groupKeys, own);
    Value before =
        b.carry(b.index(0), b.index(groups), 1, b.index(0),
                [&](Value g, ValueRange count) {
                  Value ahead =
                      comesBefore(b, b.load(groupKeys, g), g, mine, own);
                  return Values{b.select(ahead, b.add(count[0], 1), count[0])};
                })[0];
    b.when(b.less(b.index(int64_t(op.getTopkGroups()) - 1), before),
           [&] { b.store(b.constant(t.compute, masked), keys, e); });
  });
  b.barrier();
}

/// Step 4: one after the other, each the first behind the one before.
/// Step 7: without a finite logit all keys are alike. `keys` stays as it is: a
/// store here could meet loads of other lanes.
void Route::choose(RouteToken &t, Value keys, Value chosen) {
  auto keyOf = [&](Value e) {
    return b.select(t.alive, b.load(keys, e), t.zero());
  };
  b.carry(b.index(0), b.index(k), 1, {b.constant(t.compute, kInf), b.index(-1)},
          [&](Value i, ValueRange before) {
            Values found = best(keyOf, b.lane, b.index(experts), kWarp,
                                before[0], before[1], t.compute);
            for (int64_t offset = kWarp / 2; offset >= 1; offset /= 2) {
              Value key = b.shuffle(found[0], offset, gpu::ShuffleMode::XOR);
              Value id = b.shuffle(found[1], offset, gpu::ShuffleMode::XOR);
              Value take = comesBefore(b, key, id, found[0], found[1]);
              found = {b.select(take, key, found[0]),
                       b.select(take, id, found[1])};
            }
            b.when(b.equal(b.lane, b.index(0)),
                   [&, id = found[1]] { b.storeIndex(id, chosen, i); });
            return found;
          });
}

void Route::token(Value token) {
  RouteToken t(b, op.getLogits(), token);
  Value scores = b.shared({experts}, t.compute);
  Value keys = b.shared({experts}, t.compute);
  Value chosen = b.shared({k}, b.getI32Type());
  t.each([&](Value e) {
    Value x = t.logit(e);
    Value score = b.select(t.alive, t.score(op.getScore(), x), t.zero());
    b.store(score, scores, e);
    if (scoresOut)
      b.store(b.narrow(score, elementOf(scoresOut)), scoresOut, {token, e});
    Value key = op.getRouteOrder() == RouteOrder::ScoreThenTopK ? score : x;
    if (op.getBias())
      key = b.add(key, b.widen(b.load(op.getBias(), e), t.compute));
    b.store(key, keys, e);
  });
  if (logsumexpOut) {
    Value sum = t.logsumexp();
    b.when(b.equal(b.lane, b.index(0)), [&] {
      b.store(b.narrow(sum, elementOf(logsumexpOut)), logsumexpOut, token);
    });
  }
  b.barrier();
  maskGroups(t, keys);
  if (Value given = op.getGivenIds())
    b.strided(b.lane, k, kWarp, [&](Value i) {
      Value id = b.load(given, {token, i});
      Value known = arith::CmpIOp::create(b, arith::CmpIPredicate::ult, id,
                                          b.integer(id.getType(), experts));
      Value expert = arith::IndexCastOp::create(b, b.getIndexType(), id);
      b.storeIndex(b.select(known, expert, b.index(-1)), chosen, i);
    });
  else
    choose(t, keys, chosen);
  b.barrier();

  ChosenExperts all(
      t, k, op.getScore(), op.getRouteOrder(), op.getEps().convertToDouble(),
      [&](Value i) { return b.loadIndex(chosen, i); },
      [&](Value e) { return b.load(scores, e); });
  Value present = t.alive, kept;
  if (op.getMask()) {
    kept = b.load(op.getMask(), token);
    present = b.both(present, kept);
  }
  b.strided(b.lane, k, kWarp, [&](Value i) {
    Value gate = all.chosen(i);
    if (op.getNormalize())
      gate = arith::DivFOp::create(b, gate, all.sum);
    gate = b.mul(gate, b.constant(t.compute, op.getScale().convertToDouble()));
    Value sentinel = b.less(b.loadIndex(chosen, i), b.index(0));
    gate = b.select(
        b.both(present,
               arith::XOrIOp::create(b, sentinel, b.integer(b.getI1Type(), 1))),
        gate, t.zero());
    b.store(b.narrow(gate, elementOf(gates)), gates, {token, i});
    // A sentinel that was given stays as it is.
    Value id;
    if (Value given = op.getGivenIds()) {
      id = b.load(given, {token, i});
      if (id.getType() != elementOf(ids))
        id = elementOf(ids).getIntOrFloatBitWidth() == 64
                 ? Value(arith::ExtSIOp::create(b, elementOf(ids), id))
                 : Value(arith::TruncIOp::create(b, elementOf(ids), id));
    } else {
      id =
          arith::IndexCastOp::create(b, elementOf(ids), b.loadIndex(chosen, i));
    }
    if (kept)
      id = b.select(kept, id, b.integer(elementOf(ids), experts));
    b.store(id, ids, {token, i});
  });
}

//===----------------------------------------------------------------------===//
// Step 9
//===----------------------------------------------------------------------===//

/// Slots in order: those past the capacity become sentinels.
void Route::dropByPosition(Value expert) {
  constexpr int64_t kWarps = kBlockThreads / kWarp;
  Value slots = b.mul(b.size(ids, 0), k);
  Value counts = b.shared({kWarps}, b.getI32Type());
  b.carry(
      b.index(0), slots, kBlockThreads, b.index(0),
      [&](Value base, ValueRange before) {
        Value slot = b.add(base, b.thread);
        Value clamped = b.minimum(slot, b.sub(slots, b.index(1)));
        Values at{b.div(clamped, k), b.rem(clamped, k)};
        Value mine =
            b.both(b.less(slot, slots), b.equal(b.loadIndex(ids, at), expert));
        Value own = b.select(mine, b.index(1), b.index(0)), upTo = own;
        for (int64_t offset = 1; offset < kWarp; offset *= 2) {
          Value other = b.shuffle(upTo, offset, gpu::ShuffleMode::UP);
          upTo = b.select(b.less(b.lane, b.index(offset)), upTo,
                          b.add(upTo, other));
        }
        b.when(b.equal(b.lane, b.index(kWarp - 1)),
               [&] { b.storeIndex(upTo, counts, b.warp); });
        b.barrier();
        Value rank = b.sub(b.add(before[0], upTo), own), total = before[0];
        for (int64_t w = 0; w < kWarps; ++w) {
          Value count = b.loadIndex(counts, b.index(w));
          rank = b.select(b.less(b.index(w), b.warp), b.add(rank, count), rank);
          total = b.add(total, count);
        }
        Value over = arith::CmpIOp::create(b, arith::CmpIPredicate::sge, rank,
                                           b.index(int64_t(*op.getCapacity())));
        b.when(b.both(mine, over), [&] {
          b.store(b.integer(elementOf(ids), experts), ids, at);
          b.store(b.constant(elementOf(gates), 0.0), gates, at);
        });
        b.barrier();
        return Values{total};
      });
}

/// A slot is dropped if so many of the expert's come before it. Its id becomes
/// a sentinel at once, whoever counts: what comes before a slot that stays,
/// stays too, and the slots that stay are enough to drop any other. Gates are
/// still compared, so that they wait for a kernel of their own.
void Route::dropByScore(Value expert) {
  Value slots = b.mul(b.size(ids, 0), k);
  Type compute = getComputeType(elementOf(gates));
  auto mine = [&](Value slot) {
    return b.equal(b.loadIndex(ids, slotAt(slot)), expert);
  };
  auto gate = [&](Value slot) {
    return b.widen(b.load(gates, slotAt(slot)), compute);
  };
  b.loop(b.thread, slots, kBlockThreads, [&](Value slot) {
    b.when(mine(slot), [&] {
      Value own = gate(slot);
      Value before = b.carry(
          b.index(0), slots, 1, b.index(0), [&](Value other, ValueRange count) {
            Value ahead = b.both(mine(other),
                                 comesBefore(b, gate(other), other, own, slot));
            return Values{b.select(ahead, b.add(count[0], 1), count[0])};
          })[0];
      b.when(b.less(b.index(int64_t(*op.getCapacity()) - 1), before), [&] {
        b.store(b.integer(elementOf(ids), experts), ids, slotAt(slot));
      });
    });
  });
}

/// Gates of sentinels are 0: those of dropped slots become so.
void Route::zeroSentinels() {
  Value slots = b.mul(b.size(ids, 0), k);
  b.launch(b.ceilDiv(slots, kBlockThreads), kBlockThreads, [&] {
    Value slot = b.add(b.mul(b.block, kBlockThreads), b.thread);
    b.when(b.less(slot, slots), [&] {
      Value dropped = b.equal(b.loadIndex(ids, slotAt(slot)), b.index(experts));
      b.when(dropped, [&] {
        b.store(b.constant(elementOf(gates), 0.0), gates, slotAt(slot));
      });
    });
  });
}

void Route::drop() {
  bool byPosition = op.getDrop() == Drop::Position;
  b.launch(b.index(experts), kBlockThreads, [&] {
    if (byPosition)
      dropByPosition(b.block);
    else
      dropByScore(b.block);
  });
  if (!byPosition)
    zeroSentinels();
}

void Route::emit() {
  b.launch(b.size(gates, 0), kWarp, [&] { token(b.block); });
  if (op.getCapacity())
    drop();
}

LogicalResult mlir::moe::emitRouteRows(RouteRowsOp op, GPUEmitter &b) {
  Route(op, b).emit();
  return success();
}
