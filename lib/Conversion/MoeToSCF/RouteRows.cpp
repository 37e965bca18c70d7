// SPDX-License-Identifier: Apache-2.0
// moe.route_rows. A task is a few tokens; where experts have a capacity, the
// slots over it are found afterwards, an expert a task. The steps are numbered
// as in the description of moe.route.
#include "RouteList.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <limits>

using namespace mlir;
using namespace mlir::moe;

/// Tokens of one task.
constexpr int64_t kChunk = 32;
static constexpr double kInf = std::numeric_limits<double>::infinity();

static Type elementOf(Value memref) {
  return cast<MemRefType>(memref.getType()).getElementType();
}

namespace {
class RouteRows {
public:
  RouteRows(RouteRowsOp op, KernelEmitter &b)
      : op(op), b(b), compute(getComputeType(elementOf(op.getLogits()))),
        integer(b.getIntegerType(compute.getIntOrFloatBitWidth())),
        gates(op.getOuts()[0]), ids(op.getOuts()[1]),
        tokens(b.size(op.getLogits(), 0)),
        experts(cast<MemRefType>(op.getLogits().getType()).getDimSize(1)),
        k(cast<MemRefType>(gates.getType()).getDimSize(1)) {}

  void emit();

private:
  void token(Value token, const RouteList *bias);
  void makeKeys(const RouteList &from, const RouteList *bias);
  void maskGroups();
  Values chooseIds(Value token, Value alive, Value i);
  void dropOverCapacity();
  Value capacityThreshold(Value expert, Value slots);
  Value gateKey(Value slot);
  Values slotIndices(Value slot) { return {b.div(slot, k), b.rem(slot, k)}; }

  RouteRowsOp op;
  KernelEmitter &b;
  Type compute, integer;
  Value gates, ids, tokens;
  int64_t experts, k;

  // Of the task that is being emitted: keys as floats and as integers.
  std::optional<RouteList> values, keys;
};
} // namespace

void RouteRows::emit() {
  b.tasks(b.ceilDiv(tokens, kChunk), [&](Value task) {
    values.emplace(b, experts, compute);
    keys.emplace(b, experts, integer);
    std::optional<RouteList> bias;
    if (op.getBias()) {
      bias.emplace(b, experts, compute);
      bias->loadRow(op.getBias(), {}, 0.0);
    }
    Value first = b.mul(task, kChunk);
    b.loop(first, b.minimum(b.add(first, kChunk), tokens), 1,
           [&](Value t) { token(t, bias ? &*bias : nullptr); });
  });
  if (op.getCapacity())
    dropOverCapacity();
}

void RouteRows::token(Value token, const RouteList *bias) {
  RouteList logits(b, experts, compute), scores(b, experts, compute);
  logits.loadRow(op.getLogits(), token, -kInf);
  Value alive = hasFinite(logits);
  // 1: scores, 0 in a row without a finite logit.
  emitScores(op.getScore(), logits, scores);
  bool late = op.getRouteOrder() == RouteOrder::TopKThenScore;
  unsigned out = 2;
  Value zeros = b.zeros(compute), zero = b.constant(compute, 0.0);
  if (op.getWithScores()) {
    RouteList shown(b, experts, compute);
    Value all = b.splat(alive);
    scores.each([&](Value column) {
      shown.setVector(b.select(all, scores.vector(column), zeros), column);
    });
    shown.storeRow(op.getOuts()[out++], token);
  }
  if (op.getWithLogsumexp()) {
    Value sum = b.select(alive, emitLogSumExp(logits), zero);
    Value to = op.getOuts()[out];
    b.store(b.narrow(sum, elementOf(to)), to, token);
  }
  if (!op.getGivenIds()) {
    makeKeys(late ? logits : scores, bias);
    maskGroups();
  }

  // 4, 5: the ids, and the scores of those that are experts.
  RouteList chosen(b, k, compute);
  Value valid = b.stack(k, b.getI1Type());
  Value absent = b.constant(compute, late ? -kInf : 0.0);
  chosen.fill(absent);
  Value routed;
  if (op.getMask())
    routed = b.load(op.getMask(), token);
  b.loop(b.index(0), b.index(k), 1, [&](Value i) {
    Values found = chooseIds(token, alive, i);
    Value id = found[0], known = found[1];
    b.store(known, valid, i);
    Value safe = b.select(known, id, b.index(0));
    chosen.set(b.select(known, (late ? logits : scores).at(safe), absent), i);
    if (routed)
      id = b.select(routed, id, b.index(experts));
    b.storeIndex(id, ids, {token, i});
  });
  if (late)
    emitScores(op.getScore(), chosen, chosen);
  // 6 to 8.
  Value sum = b.constant(compute, op.getEps().convertToDouble());
  sum = b.carry(b.index(0), b.index(k), 1, sum, [&](Value i, ValueRange sum) {
    Value gate = b.select(b.load(valid, i), chosen.at(i), zero);
    chosen.set(gate, i);
    return Values{b.add(sum[0], gate)};
  })[0];
  Value some =
      routed ? arith::AndIOp::create(b, alive, routed).getResult() : alive;
  double scale = op.getScale().convertToDouble();
  b.loop(b.index(0), b.index(k), 1, [&](Value i) {
    Value gate = chosen.at(i);
    if (op.getNormalize())
      gate =
          b.select(b.load(valid, i), arith::DivFOp::create(b, gate, sum), zero);
    if (scale != 1)
      gate = b.mul(gate, b.constant(compute, scale));
    b.store(b.narrow(b.select(some, gate, zero), elementOf(gates)), gates,
            {token, i});
  });
}

/// 2: keys = from + bias.
void RouteRows::makeKeys(const RouteList &from, const RouteList *bias) {
  Value least = leastKey(b, b.vectorOf(integer));
  b.columnsCarry(experts, {}, [&](Value column, int64_t lanes, ValueRange) {
    Value value = from.vector(column);
    if (bias)
      value = b.add(value, bias->vector(column));
    values->setVector(value, column);
    keys->setVector(keepLanes(b, orderedKey(b, value), lanes, least), column);
    return Values();
  });
}

/// 3: keys of experts in groups that do not stay.
void RouteRows::maskGroups() {
  int64_t groups = op.getGroups();
  if (groups == 1)
    return;
  int64_t size = experts / groups;
  RouteList groupKeys(b, groups, integer), group(b, size, integer);
  Value least = leastKey(b, integer);
  groupKeys.fill(least);
  Value zero = b.index(0);
  b.loop(zero, b.index(groups), 1, [&](Value g) {
    Value first = b.mul(g, size);
    b.columnsCarry(size, {}, [&](Value column, int64_t, ValueRange) {
      group.setVector(keys->vector(b.add(first, column)), column);
      return Values();
    });
    Value sum =
        b.carry(zero, b.index(op.getGroupTop()), 1, b.constant(compute, 0.0),
                [&](Value, ValueRange sum) {
                  Value i = largestKey(group, zero, size);
                  group.set(least, i);
                  return Values{b.add(sum[0], values->at(b.add(first, i)))};
                })[0];
    groupKeys.set(orderedKey(b, sum), g);
  });
  // Groups that stay are taken out of the list.
  b.loop(zero, b.index(op.getTopkGroups()), 1, [&](Value) {
    groupKeys.set(least, largestKey(groupKeys, zero, groups));
  });
  bool zeroed = op.getMaskedGroups() == MaskedGroups::Zero;
  Value masked = orderedKey(b, b.constant(compute, zeroed ? 0.0 : -kInf));
  b.loop(zero, b.index(groups), 1, [&](Value g) {
    Value goes = arith::CmpIOp::create(b, arith::CmpIPredicate::ne,
                                       groupKeys.at(g), least);
    b.when(goes, [&] {
      Value first = b.mul(g, size);
      b.loop(first, b.add(first, size), 1,
             [&](Value e) { keys->set(masked, e); });
    });
  });
}

/// The token's id number i and whether it is an expert.
Values RouteRows::chooseIds(Value token, Value alive, Value i) {
  Value given = op.getGivenIds();
  if (!given) {
    Value id = largestKey(*keys, b.index(0), experts);
    keys->set(leastKey(b, integer), id);
    // 7: without a finite logit, the lowest ids.
    return {b.select(alive, id, i), b.integer(b.getI1Type(), 1)};
  }
  Value id = b.loadIndex(given, {token, i});
  Value known =
      arith::CmpIOp::create(b, arith::CmpIPredicate::ult, id, b.index(experts));
  // A sentinel must not become an expert where ids are narrower than given.
  if (elementOf(given).getIntOrFloatBitWidth() >
      elementOf(ids).getIntOrFloatBitWidth())
    id = b.select(known, id, b.index(experts));
  return {id, known};
}

//===----------------------------------------------------------------------===//
// Capacity
//===----------------------------------------------------------------------===//

/// The gate of a slot as stored, as an integer that compares unsigned.
Value RouteRows::gateKey(Value slot) {
  Type type = getComputeType(elementOf(gates));
  Value key = orderedKey(b, b.widen(b.load(gates, slotIndices(slot)), type));
  return arith::XOrIOp::create(b, key, leastKey(b, key.getType()));
}

/// 9, `score`: the key of the last gate that is kept, found bit by bit: the
/// largest that at least `capacity` of the expert's gates reach, else 0.
Value RouteRows::capacityThreshold(Value expert, Value slots) {
  Type type = b.getIntegerType(
      getComputeType(elementOf(gates)).getIntOrFloatBitWidth());
  Value highest = leastKey(b, type), zero = b.index(0);
  return b.carry(
      zero, b.index(type.getIntOrFloatBitWidth()), 1, b.integer(type, 0),
      [&](Value bit, ValueRange found) {
        Value mask = arith::ShRUIOp::create(
            b, highest, arith::IndexCastOp::create(b, type, bit));
        Value candidate = arith::OrIOp::create(b, found[0], mask);
        Value count =
            b.carry(zero, slots, 1, zero, [&](Value slot, ValueRange count) {
              Value ours = arith::CmpIOp::create(
                  b, arith::CmpIPredicate::eq,
                  b.loadIndex(ids, slotIndices(slot)), expert);
              Value reaches = arith::CmpIOp::create(
                  b, arith::CmpIPredicate::uge, gateKey(slot), candidate);
              Value both = arith::AndIOp::create(b, ours, reaches);
              return Values{b.add(count[0], arith::IndexCastUIOp::create(
                                                b, b.getIndexType(), both))};
            })[0];
        Value enough = arith::CmpIOp::create(b, arith::CmpIPredicate::uge,
                                             count, b.index(*op.getCapacity()));
        return Values{b.select(enough, candidate, found[0])};
      })[0];
}

/// 9: slots over their expert's capacity become sentinels. A task changes only
/// slots of its expert, and no other task takes those for its own.
void RouteRows::dropOverCapacity() {
  bool byScore = op.getDrop() == Drop::Score;
  Value slots = b.mul(tokens, k), zero = b.index(0);
  Value capacity = b.index(*op.getCapacity());
  b.tasks(b.index(experts), [&](Value expert) {
    auto isOurs = [&](Value slot) {
      return arith::CmpIOp::create(b, arith::CmpIPredicate::eq,
                                   b.loadIndex(ids, slotIndices(slot)), expert);
    };
    // Slots before the threshold are kept at once, those at it while there is
    // room. By position all are at it.
    Value threshold, room = capacity;
    if (byScore) {
      threshold = capacityThreshold(expert, slots);
      Value above =
          b.carry(zero, slots, 1, zero, [&](Value slot, ValueRange count) {
            Value larger = arith::CmpIOp::create(b, arith::CmpIPredicate::ugt,
                                                 gateKey(slot), threshold);
            Value both = arith::AndIOp::create(b, isOurs(slot), larger);
            return Values{b.add(count[0], arith::IndexCastUIOp::create(
                                              b, b.getIndexType(), both))};
          })[0];
      room = b.sub(capacity, above);
    }
    b.carry(zero, slots, 1, zero, [&](Value slot, ValueRange used) {
      Value candidate = isOurs(slot);
      if (byScore)
        candidate = arith::AndIOp::create(
            b, candidate,
            arith::CmpIOp::create(b, arith::CmpIPredicate::ule, gateKey(slot),
                                  threshold));
      return b.choose(
          candidate,
          [&] {
            Value full = arith::CmpIOp::create(b, arith::CmpIPredicate::sge,
                                               used[0], room);
            if (byScore)
              full = arith::OrIOp::create(
                  b, full,
                  arith::CmpIOp::create(b, arith::CmpIPredicate::ult,
                                        gateKey(slot), threshold));
            b.when(full, [&] {
              b.storeIndex(b.index(experts), ids, slotIndices(slot));
              b.store(b.constant(elementOf(gates), 0.0), gates,
                      slotIndices(slot));
            });
            return Values{b.select(full, used[0], b.add(used[0], 1))};
          },
          [&] { return Values{used[0]}; });
    });
  });
}

LogicalResult mlir::moe::emitRouteRows(RouteRowsOp op, KernelEmitter &b) {
  RouteRows(op, b).emit();
  return success();
}
