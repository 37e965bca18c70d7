// SPDX-License-Identifier: Apache-2.0
// One token of a router, by a warp that is a block: lane l has the experts l,
// l + 32, ... What routing and its gradient share. The steps are numbered as in
// the description of moe.route.
#ifndef MOE_LIB_CONVERSION_MOETOGPU_ROUTETOKEN_H
#define MOE_LIB_CONVERSION_MOETOGPU_ROUTETOKEN_H

#include "GPUEmitter.h"

namespace mlir::moe {

class RouteToken {
public:
  /// Inside a launch of one warp a token.
  RouteToken(GPUEmitter &b, Value logits, Value token);

  GPUEmitter &b;
  Type compute;
  int64_t experts;
  /// Whether a logit is finite (i1), the largest that is no NaN, whether one is
  /// NaN, and the sum of exp(logit - largest).
  Value alive, largest, hasNaN, sum;

  Value zero() { return b.constant(compute, 0.0); }
  Value one() { return b.constant(compute, 1.0); }
  Value logit(Value expert);
  Value exp(Value x);
  Value isNaN(Value x);
  /// Step 1: the score of a logit among all.
  Value score(Score score, Value logit);
  /// Its derivative's product with `gradient`; `dot` is the sum of score times
  /// gradient over the same logits.
  Value scoreGradient(Score kind, Value score, Value gradient, Value dot);
  Value logsumexp();

  /// `body(expert)` for the lane's experts.
  void each(function_ref<void(Value)> body);
  /// Sums over all experts.
  Value total(function_ref<Value(Value)> term);
  Value largestOf(Value value);
  Value any(Value flag);

private:
  Value logits, token;
};

/// The chosen of a token: steps 5 and 6, computed by every lane.
class ChosenExperts {
public:
  /// `idOf(i)` is the expert of choice i, or a negative number for a sentinel;
  /// `scoreOf(expert)` its score among all.
  ChosenExperts(RouteToken &t, int64_t k, Score score, RouteOrder order,
                double eps, std::function<Value(Value)> idOf,
                std::function<Value(Value)> scoreOf);

  /// The sum of step 6 (with eps).
  Value sum;
  /// Choice i's gate before it is normalized: 0 for a sentinel.
  Value chosen(Value i);
  /// Sum over the choices that are no sentinels.
  Value total(function_ref<Value(Value)> term);

private:
  RouteToken &t;
  int64_t k;
  Score score;
  bool late;
  std::function<Value(Value)> idOf, scoreOf;
  Value largest, exps;
};

/// Whether (a, i) comes before (b, j): larger first, NaN last, ties by number.
Value comesBefore(GPUEmitter &b, Value a, Value i, Value other, Value j);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOGPU_ROUTETOKEN_H
