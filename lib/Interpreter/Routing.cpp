// SPDX-License-Identifier: Apache-2.0
//
// moe.route and moe.route_grad, and their kernels. The steps are numbered as
// in the op's description.

#include "Frame.h"

#include "llvm/ADT/TypeSwitch.h"

#include <cmath>
#include <limits>
#include <numeric>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::interpreter;

static constexpr double kInf = std::numeric_limits<double>::infinity();

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

/// As PyTorch: a NaN or +inf makes every softmax of the row NaN.
static std::vector<double> softmax(ArrayRef<double> logits) {
  double largest = -kInf, sum = 0;
  for (double x : logits)
    largest = std::isnan(x) || x > largest ? x : largest;
  std::vector<double> scores;
  for (double x : logits) {
    scores.push_back(std::exp(x - largest));
    sum += scores.back();
  }
  for (double &score : scores)
    score /= sum;
  return scores;
}

static std::vector<double> scoresOf(Score score, ArrayRef<double> logits) {
  if (score == Score::Softmax)
    return softmax(logits);
  std::vector<double> scores(logits.begin(), logits.end());
  if (score == Score::Sigmoid)
    for (double &x : scores)
      x = 1 / (1 + std::exp(-x));
  return scores;
}

/// d loss / d logits from d loss / d scores of the same logits.
static std::vector<double> scoresGrad(Score score, ArrayRef<double> logits,
                                      ArrayRef<double> gradient) {
  std::vector<double> result(gradient.begin(), gradient.end());
  std::vector<double> s = scoresOf(score, logits);
  double dot = 0;
  for (size_t i = 0; i < s.size(); ++i)
    dot += s[i] * gradient[i];
  for (size_t i = 0; i < s.size(); ++i) {
    if (score == Score::Softmax)
      result[i] = s[i] * (gradient[i] - dot);
    else if (score == Score::Sigmoid)
      result[i] = gradient[i] * s[i] * (1 - s[i]);
  }
  return result;
}

static double logsumexp(ArrayRef<double> logits) {
  double largest = -kInf, sum = 0;
  for (double x : logits)
    largest = std::isnan(x) || x > largest ? x : largest;
  if (!std::isfinite(largest))
    return largest;
  for (double x : logits)
    sum += std::exp(x - largest);
  return largest + std::log(sum);
}

static bool hasFinite(ArrayRef<double> logits) {
  return llvm::any_of(logits, [](double x) { return std::isfinite(x); });
}

//===----------------------------------------------------------------------===//
// Selection
//===----------------------------------------------------------------------===//

/// Indices of `keys`, largest key first; NaN after -inf, ties by index.
static std::vector<int64_t> sorted(ArrayRef<double> keys) {
  std::vector<int64_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0);
  llvm::sort(order, [&](int64_t a, int64_t b) {
    bool aIsNaN = std::isnan(keys[a]), bIsNaN = std::isnan(keys[b]);
    if (aIsNaN != bIsNaN)
      return bIsNaN;
    if (!aIsNaN && keys[a] != keys[b])
      return keys[a] > keys[b];
    return a < b;
  });
  return order;
}

/// Step 3: keys of experts in groups that do not stay.
template <typename Op>
static void maskGroups(Op op, MutableArrayRef<double> keys) {
  int64_t groups = op.getGroups();
  if (groups == 1)
    return;
  int64_t size = keys.size() / groups;
  std::vector<double> groupKeys;
  for (int64_t g = 0; g < groups; ++g) {
    ArrayRef<double> group = keys.slice(g * size, size);
    std::vector<int64_t> best = sorted(group);
    double sum = 0;
    for (int64_t i : ArrayRef(best).take_front(op.getGroupTop()))
      sum += group[i];
    groupKeys.push_back(sum);
  }
  std::vector<int64_t> order = sorted(groupKeys);
  for (int64_t g : ArrayRef(order).drop_front(op.getTopkGroups()))
    for (double &key : keys.slice(g * size, size))
      key = op.getMaskedGroups() == MaskedGroups::Zero ? 0 : -kInf;
}

/// Gates of one token from its logits and its ids: steps 5 and 6. A sentinel
/// among given ids has gate 0 and is outside the sums.
template <typename Op>
static std::vector<double> gatesOf(Op op, ArrayRef<double> logits,
                                   ArrayRef<double> scores,
                                   ArrayRef<int64_t> ids) {
  std::vector<size_t> valid;
  std::vector<double> chosen;
  bool late = op.getRouteOrder() == RouteOrder::TopKThenScore;
  for (auto [k, id] : llvm::enumerate(ids))
    if (id >= 0 && id < static_cast<int64_t>(logits.size())) {
      valid.push_back(k);
      chosen.push_back(late ? logits[id] : scores[id]);
    }
  if (late)
    chosen = scoresOf(op.getScore(), chosen);
  double sum = op.getEps().convertToDouble();
  for (double gate : chosen)
    sum += gate;
  std::vector<double> gates(ids.size(), 0.0);
  for (auto [k, gate] : llvm::zip_equal(valid, chosen))
    gates[k] = (op.getNormalize() ? gate / sum : gate) *
               op.getScale().convertToDouble();
  return gates;
}

/// Step 9: slots over their expert's capacity become sentinels. Gates are
/// compared as they are stored.
template <typename Op>
static void dropOverCapacity(Op op, int64_t experts, NDArray &gates,
                             NDArray &ids) {
  if (!op.getCapacity())
    return;
  for (int64_t expert = 0; expert < experts; ++expert) {
    std::vector<int64_t> slots;
    std::vector<double> keys;
    for (int64_t slot = 0; slot < ids.size(); ++slot)
      if (ids.i(slot) == expert) {
        slots.push_back(slot);
        keys.push_back(op.getDrop() == Drop::Score
                           ? roundTo(gates.dtype(), gates.f(slot))
                           : 0);
      }
    int64_t kept = 0;
    for (int64_t i : sorted(keys))
      if (kept++ >= static_cast<int64_t>(*op.getCapacity())) {
        ids.i(slots[i]) = experts;
        gates.f(slots[i]) = 0;
      }
  }
}

struct RouteOutputs {
  NDArray gates, ids, scores, logsumexp;
};

/// `out` has the arrays to fill.
template <typename Op>
static LogicalResult route(Op op, Frame &frame, RouteOutputs &out) {
  const NDArray &logits = frame[op.getLogits()];
  int64_t tokens = logits.dim(0), experts = logits.dim(1);
  int64_t k = out.gates.dim(1);
  const NDArray *bias = op.getBias() ? &frame[op.getBias()] : nullptr;
  const NDArray *mask = op.getMask() ? &frame[op.getMask()] : nullptr;
  const NDArray *given = op.getGivenIds() ? &frame[op.getGivenIds()] : nullptr;
  if (mask && failed(checkRows(op, "mask", *mask, tokens)))
    return failure();
  if (given && failed(checkRows(op, "given ids", *given, tokens)))
    return failure();
  // Keys are f32 numbers, where not f64: scores that saturate are ties.
  DType keyType = logits.dtype() == DType::F64 ? DType::F64 : DType::F32;
  for (int64_t t = 0; t < tokens; ++t) {
    ArrayRef<double> row(logits.row(t), experts);
    bool alive = hasFinite(row);
    std::vector<double> scores(experts, 0.0);
    if (alive)
      scores = scoresOf(op.getScore(), row);
    std::vector<double> keys =
        op.getRouteOrder() == RouteOrder::ScoreThenTopK ? scores : row.vec();
    for (int64_t e = 0; e < experts; ++e)
      keys[e] =
          roundTo(keyType, roundTo(keyType, keys[e]) + (bias ? bias->f(e) : 0));
    maskGroups(op, keys);
    if (!alive)
      keys.assign(experts, 0.0);
    std::vector<int64_t> ids = sorted(keys);
    ids.resize(k);
    if (given)
      for (int64_t i = 0; i < k; ++i)
        ids[i] = given->i(t * k + i);
    std::vector<double> gates(k, 0.0);
    if (alive)
      gates = gatesOf(op, row, scores, ids);
    if (mask && !mask->i(t)) {
      ids.assign(k, experts);
      gates.assign(k, 0.0);
    }
    for (int64_t i = 0; i < k; ++i) {
      out.gates.f(t * k + i) = gates[i];
      out.ids.i(t * k + i) = ids[i];
    }
    if (out.scores.size())
      llvm::copy(scores, out.scores.row(t));
    if (out.logsumexp.size())
      out.logsumexp.f(t) = alive ? logsumexp(row) : 0;
  }
  dropOverCapacity(op, experts, out.gates, out.ids);
  return success();
}

static LogicalResult run(RouteOp op, Frame &frame) {
  int64_t tokens = frame[op.getLogits()].dim(0);
  RouteOutputs out{frame.resultOf(op.getGates(), tokens),
                   frame.resultOf(op.getIds(), tokens),
                   {},
                   {}};
  if (op.getScores())
    out.scores = frame.resultOf(op.getScores(), tokens);
  if (op.getLogsumexp())
    out.logsumexp = frame.resultOf(op.getLogsumexp(), tokens);
  if (failed(route(op, frame, out)))
    return failure();
  frame.set(op.getGates(), std::move(out.gates));
  frame.set(op.getIds(), std::move(out.ids));
  if (op.getScores())
    frame.set(op.getScores(), std::move(out.scores));
  if (op.getLogsumexp())
    frame.set(op.getLogsumexp(), std::move(out.logsumexp));
  return success();
}

static LogicalResult run(RouteRowsOp op, Frame &frame) {
  SmallVector<NDArray *> arrays;
  RouteOutputs out;
  arrays = {&out.gates, &out.ids};
  if (op.getWithScores())
    arrays.push_back(&out.scores);
  if (op.getWithLogsumexp())
    arrays.push_back(&out.logsumexp);
  for (auto [array, init] : llvm::zip_equal(arrays, op.getOuts())) {
    *array = NDArray(frame[init].dtype(), frame[init].shape());
    if (failed(checkRows(op, "its outs", *array, frame[op.getLogits()].dim(0))))
      return failure();
  }
  if (failed(route(op, frame, out)))
    return failure();
  for (auto [array, result] : llvm::zip_equal(arrays, op.getResults()))
    frame.set(result, std::move(*array));
  return success();
}

//===----------------------------------------------------------------------===//
// Gradient
//===----------------------------------------------------------------------===//

/// d loss / d logits of one token from its gates' cotangents.
template <typename Op>
static void addGatesGrad(Op op, ArrayRef<double> logits, ArrayRef<int64_t> ids,
                         ArrayRef<double> dGates,
                         MutableArrayRef<double> result) {
  bool late = op.getRouteOrder() == RouteOrder::TopKThenScore;
  std::vector<double> scores = scoresOf(op.getScore(), logits);
  std::vector<int64_t> valid;
  std::vector<double> inputs, chosen, gradient;
  for (auto [k, id] : llvm::enumerate(ids))
    if (id >= 0 && id < static_cast<int64_t>(logits.size())) {
      valid.push_back(id);
      inputs.push_back(logits[id]);
      chosen.push_back(scores[id]);
      gradient.push_back(dGates[k] * op.getScale().convertToDouble());
    }
  if (late)
    chosen = scoresOf(op.getScore(), inputs);
  if (op.getNormalize()) {
    // gate = s / (sum + eps)
    double sum = op.getEps().convertToDouble(), dot = 0;
    for (double s : chosen)
      sum += s;
    for (size_t i = 0; i < chosen.size(); ++i)
      dot += gradient[i] * chosen[i] / sum;
    for (double &g : gradient)
      g = (g - dot) / sum;
  }
  if (late) {
    gradient = scoresGrad(op.getScore(), inputs, gradient);
    for (auto [id, g] : llvm::zip_equal(valid, gradient))
      result[id] += g;
    return;
  }
  std::vector<double> dScores(logits.size(), 0.0);
  for (auto [id, g] : llvm::zip_equal(valid, gradient))
    dScores[id] += g;
  for (auto [r, g] :
       llvm::zip_equal(result, scoresGrad(op.getScore(), logits, dScores)))
    r += g;
}

template <typename Op>
static LogicalResult routeGrad(Op op, Frame &frame, NDArray &out) {
  const NDArray &logits = frame[op.getLogits()], &ids = frame[op.getIds()];
  const NDArray &dGates = frame[op.getDGates()];
  int64_t tokens = logits.dim(0), experts = logits.dim(1), k = ids.dim(1);
  const NDArray *dScores = op.getDScores() ? &frame[op.getDScores()] : nullptr;
  const NDArray *dLse =
      op.getDLogsumexp() ? &frame[op.getDLogsumexp()] : nullptr;
  if (failed(checkRows(op, "ids", ids, tokens)) ||
      failed(checkRows(op, "d_gates", dGates, tokens)) ||
      (dScores && failed(checkRows(op, "d_scores", *dScores, tokens))) ||
      (dLse && failed(checkRows(op, "d_logsumexp", *dLse, tokens))))
    return failure();
  for (int64_t t = 0; t < tokens; ++t) {
    ArrayRef<double> row(logits.row(t), experts);
    MutableArrayRef<double> result(out.row(t), experts);
    std::fill(result.begin(), result.end(), 0.0);
    // Such a token's gates, scores and logsumexp are zeros.
    if (!hasFinite(row))
      continue;
    SmallVector<int64_t> chosen;
    for (int64_t i = 0; i < k; ++i)
      chosen.push_back(ids.i(t * k + i));
    addGatesGrad(op, row, chosen, {dGates.row(t), static_cast<size_t>(k)},
                 result);
    if (dScores)
      for (auto [r, g] :
           llvm::zip_equal(result, scoresGrad(op.getScore(), row,
                                              {dScores->row(t), row.size()})))
        r += g;
    if (dLse)
      for (auto [r, p] : llvm::zip_equal(result, softmax(row)))
        r += dLse->f(t) * p;
  }
  return success();
}

static LogicalResult run(RouteGradOp op, Frame &frame) {
  NDArray out = frame.resultOf(op.getDLogits(), frame[op.getLogits()].dim(0));
  if (failed(routeGrad(op, frame, out)))
    return failure();
  frame.set(op.getDLogits(), std::move(out));
  return success();
}

static LogicalResult run(RouteGradRowsOp op, Frame &frame) {
  const NDArray &init = frame[op.getOuts()[0]];
  NDArray out(init.dtype(), init.shape());
  if (failed(checkRows(op, "the out", out, frame[op.getLogits()].dim(0))) ||
      failed(routeGrad(op, frame, out)))
    return failure();
  frame.set(op.getResults()[0], std::move(out));
  return success();
}

std::optional<LogicalResult> interpreter::runRouting(Operation *op,
                                                     Frame &frame) {
  return TypeSwitch<Operation *, std::optional<LogicalResult>>(op)
      .Case<RouteOp, RouteRowsOp, RouteGradOp, RouteGradRowsOp>(
          [&](auto op) { return run(op, frame); })
      .Default(std::nullopt);
}
