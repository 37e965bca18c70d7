// SPDX-License-Identifier: Apache-2.0
//
// The cells that have to be hit: what each pass can be given, written down
// apart from what the programs happen to hold.

#include "Coverage.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::moe::fuzz;

namespace {
struct Group {
  llvm::StringLiteral op;
  llvm::ArrayRef<llvm::StringLiteral> features;
};
} // namespace

#define FEATURES(name, ...)                                                    \
  static constexpr llvm::StringLiteral name[] = {__VA_ARGS__};

FEATURES(route, "score=softmax", "score=sigmoid", "score=identity",
         "order=score_then_topk", "order=topk_then_score", "normalize", "eps",
         "scale", "groups masked=zero", "groups masked=neg_inf",
         "capacity drop=position", "capacity drop=score", "bias", "mask", "ids",
         "scores", "logsumexp")
FEATURES(routeGrad, "score=softmax", "score=sigmoid", "order=score_then_topk",
         "order=topk_then_score", "normalize", "eps", "scale", "scores",
         "logsumexp")
FEATURES(assign, "ids=i32", "ids=i64", "counts", "counts capacity")
FEATURES(itself, "")
FEATURES(group, "from=token", "from=slot", "from=token scalars",
         "from=slot scalars")
FEATURES(scatter, "rows", "scalars")
FEATURES(combine, "from=slot", "from=grouped", "from=slot gates",
         "from=grouped gates", "from=slot scalars", "from=grouped scalars")
FEATURES(linear, "from=token to=slot", "from=token to=grouped",
         "from=slot to=slot", "from=slot to=grouped", "from=grouped to=slot",
         "from=grouped to=grouped", "out_in", "in_out", "bias")
FEATURES(weightGrad, "x=token dy=token", "x=token dy=slot",
         "x=token dy=grouped", "x=slot dy=token", "x=slot dy=slot",
         "x=slot dy=grouped", "x=grouped dy=token", "x=grouped dy=slot",
         "x=grouped dy=grouped", "out_in", "in_out", "accumulate")
FEATURES(rowwise, "order=token", "order=slot", "order=slot by", "order=grouped",
         "in=rows", "in=rows concat", "in=rows interleave", "in=scalar",
         "in=expert", "in=expert concat", "in=expert interleave", "out=rows",
         "out=rows concat", "out=rows interleave", "out=sum")
FEATURES(expertSum, "from=token", "from=slot", "from=grouped")

FEATURES(matmul, "lhs=token", "lhs=slot", "lhs=grouped", "out_in", "in_out",
         "in=expert", "out=rows slot", "out=rows grouped")
FEATURES(mapRows, "order=token", "order=slot", "order=grouped", "in=rows token",
         "in=rows slot", "in=rows grouped", "in=rows concat",
         "in=rows interleave", "in=scalar token", "in=scalar slot",
         "in=scalar grouped", "in=expert", "in=expert concat",
         "in=expert interleave", "out=rows token", "out=rows slot",
         "out=rows grouped", "out=rows concat", "out=rows interleave",
         "out=sum token", "out=sum slot", "out=sum grouped")
FEATURES(combineRows, "in=rows slot", "in=rows grouped", "in=scalar slot")
FEATURES(reduceExperts, "in=rows token", "in=rows slot", "in=rows grouped")

static const Group level1[] = {{"moe.route", route},
                               {"moe.route_grad", routeGrad},
                               {"moe.assign", assign},
                               {"moe.pack_assignment", itself},
                               {"moe.unpack_assignment", itself},
                               {"moe.group", group},
                               {"moe.scatter", scatter},
                               {"moe.combine", combine},
                               {"moe.parallel_linear", linear},
                               {"moe.weight_grad", weightGrad},
                               {"moe.rowwise", rowwise},
                               {"moe.expert_sum", expertSum}};
static const Group level2[] = {
    {"moe.route_rows", route},         {"moe.route_grad_rows", routeGrad},
    {"moe.sort_slots", assign},        {"moe.grouped_matmul", matmul},
    {"moe.grouped_outer", weightGrad}, {"moe.map_rows", mapRows},
    {"moe.combine_rows", combineRows}, {"moe.reduce_experts", reduceExperts}};

static constexpr llvm::StringLiteral level1Passes[] = {
    "canonicalize",           "cse",           "moe-differentiate",
    "moe-simplify-gradients", "moe-partition", "moe-expand-assignment"};
static constexpr llvm::StringLiteral level2Passes[] = {
    "canonicalize",
    "cse",
    "moe-fuse-elementwise",
    "moe-fuse-row-moves",
    "moe-fuse-row-scales",
    "moe-fuse-single-choice",
    "moe-fuse-epilogues",
    "moe-fuse-products",
    "moe-fuse-rowwise",
    "moe-fuse-prologues",
    "moe-fuse-addends",
    "moe-fuse-row-sums",
    "moe-fuse-accumulation",
    "moe-simplify-kernels",
    "moe-to-destination-style",
    "one-shot-bufferize",
    "moe-plan-workspace",
    "convert-moe-to-scf"};

// What only fusion makes.
FEATURES(fusedMatmul, "in=scalar slot", "in=rows grouped", "in=rows slot",
         "out=partials grouped")
FEATURES(fusedMap, "out=scalar slot", "out=scalar grouped")
FEATURES(fusedCombine, "in=expert", "addends")
static const Group fused[] = {{"moe.grouped_matmul", fusedMatmul},
                              {"moe.map_rows", fusedMap},
                              {"moe.combine_rows", fusedCombine}};
static constexpr llvm::StringLiteral bufferPasses[] = {
    "moe-to-destination-style", "one-shot-bufferize", "moe-plan-workspace",
    "convert-moe-to-scf"};

static std::string cellOf(StringRef pass, StringRef op, StringRef feature) {
  return (pass + "\t" + op + (feature.empty() ? "" : " ") + feature).str();
}

static void forEachCell(llvm::function_ref<void(std::string)> use) {
  for (const Group &group : level1)
    for (StringRef feature : group.features) {
      for (StringRef pass : level1Passes)
        use(cellOf(pass, group.op, feature));
      // Assignments are tables by then.
      if (group.op != "moe.assign" && group.op != "moe.unpack_assignment")
        use(cellOf("moe-form-kernels", group.op, feature));
    }
  for (const Group &group : level2)
    for (StringRef feature : group.features)
      for (StringRef pass : level2Passes)
        use(cellOf(pass, group.op, feature));
  for (const Group &group : fused)
    for (StringRef feature : group.features)
      for (StringRef pass : bufferPasses)
        use(cellOf(pass, group.op, feature));
}

std::vector<std::pair<std::string, int64_t>>
Coverage::below(int64_t least) const {
  std::vector<std::pair<std::string, int64_t>> cells;
  forEachCell([&](std::string cell) {
    auto it = counts.find(cell);
    int64_t count = it == counts.end() ? 0 : it->second;
    if (count < least)
      cells.emplace_back(std::move(cell), count);
  });
  return cells;
}

void Coverage::print(llvm::raw_ostream &os) const {
  std::set<std::string> passes, features;
  for (const auto &[cell, count] : counts) {
    auto [pass, feature] = StringRef(cell).split('\t');
    passes.insert(pass.str());
    features.insert(feature.str());
  }
  os << "feature";
  for (const std::string &pass : passes)
    os << "\t" << pass;
  os << "\n";
  for (const std::string &feature : features) {
    os << feature;
    for (const std::string &pass : passes) {
      auto it = counts.find(pass + "\t" + feature);
      os << "\t" << (it == counts.end() ? 0 : it->second);
    }
    os << "\n";
  }
}
