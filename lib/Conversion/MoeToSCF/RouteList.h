// SPDX-License-Identifier: Apache-2.0
// Numbers of one token that routing works on: a list on the task's stack, and
// the scores and orders of such lists.
#ifndef MOE_LIB_CONVERSION_MOETOSCF_ROUTELIST_H
#define MOE_LIB_CONVERSION_MOETOSCF_ROUTELIST_H

#include "KernelEmitter.h"

namespace mlir::moe {

/// `size` numbers in whole vectors of 16, and 16 more that may be read.
class RouteList {
public:
  RouteList(KernelEmitter &b, int64_t size, Type element);

  Value at(Value i) const { return b.load(buffer, i); }
  void set(Value value, Value i) const { b.store(value, buffer, i); }
  /// 16 numbers from `column` on.
  Value vector(Value column) const;
  void setVector(Value value, Value column) const;

  /// `body(column)` for each vector, with what lies past the end.
  void each(function_ref<void(Value)> body) const;
  Values carry(ValueRange initial,
               function_ref<Values(Value, ValueRange)> body) const;

  void fill(Value scalar) const;
  /// A row of a tensor of rank 1 or 2 (`indices` but the last); `pad` past its
  /// end.
  void loadRow(Value memref, ValueRange indices, double pad) const;
  void storeRow(Value memref, ValueRange indices) const;

  KernelEmitter &b;
  const int64_t size;
  const Type element;

private:
  Value buffer;
};

/// The lanes of the last vector of a list of `size` that are in it; `value`
/// there, `other` in the rest.
Value keepLanes(KernelEmitter &b, Value value, int64_t lanes, Value other);

/// Whether some logit is finite (i1).
Value hasFinite(const RouteList &logits);

/// scores = score(logits); past the end, where logits are -inf, 0 or -inf.
/// The lists may be the same.
void emitScores(Score score, const RouteList &logits, const RouteList &scores);

/// gradient of the scores, in place, to that of their logits.
void emitScoresGrad(Score score, const RouteList &scores,
                    const RouteList &gradient);

/// log sum exp of logits that are -inf past the end.
Value emitLogSumExp(const RouteList &logits);

/// Scalars or vectors of floats as integers of the same width that compare as
/// a route orders keys: -0 as 0, NaN below -inf. No key is the least integer.
Value orderedKey(KernelEmitter &b, Value value);
Value leastKey(KernelEmitter &b, Type element);

/// The index, from `first` on, of the largest of `count` keys; ties go to the
/// lower one.
Value largestKey(const RouteList &keys, Value first, int64_t count);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOSCF_ROUTELIST_H
