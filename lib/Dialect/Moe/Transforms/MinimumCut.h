// SPDX-License-Identifier: Apache-2.0
// Minimum cut of a directed graph by maximum flow (Dinic).
#ifndef MOE_LIB_DIALECT_MOE_TRANSFORMS_MINIMUMCUT_H
#define MOE_LIB_DIALECT_MOE_TRANSFORMS_MINIMUMCUT_H

#include "mlir/Support/LLVM.h"
#include "llvm/ADT/SmallVector.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace mlir::moe {

class MinimumCut {
public:
  static constexpr int64_t kInfinite = std::numeric_limits<int64_t>::max() / 4;

  unsigned addNode() {
    edgesOf.emplace_back();
    return edgesOf.size() - 1;
  }
  void addEdge(unsigned from, unsigned to, int64_t capacity) {
    edgesOf[from].push_back(edges.size());
    edges.push_back({to, capacity});
    edgesOf[to].push_back(edges.size());
    edges.push_back({from, 0});
  }

  /// After this, the nodes on the sink's side of the minimum cut that is
  /// nearest to the sink.
  void solve(unsigned source, unsigned sink) {
    while (label(source, sink)) {
      next.assign(edgesOf.size(), 0);
      while (push(source, sink))
        ;
    }
    reaches.assign(edgesOf.size(), false);
    SmallVector<unsigned> work{sink};
    reaches[sink] = true;
    while (!work.empty()) {
      unsigned node = work.pop_back_val();
      for (unsigned e : edgesOf[node]) {
        unsigned from = edges[e].to;
        if (!reaches[from] && edges[e ^ 1].left > 0) {
          reaches[from] = true;
          work.push_back(from);
        }
      }
    }
  }
  bool onSinkSide(unsigned node) const { return reaches[node]; }

private:
  struct Edge {
    unsigned to;
    int64_t left;
  };
  std::vector<Edge> edges; // an edge and its reverse, in turn
  std::vector<SmallVector<unsigned>> edgesOf;
  std::vector<int64_t> level;
  std::vector<size_t> next;
  std::vector<bool> reaches;

  bool label(unsigned source, unsigned sink) {
    level.assign(edgesOf.size(), -1);
    level[source] = 0;
    std::vector<unsigned> queue{source};
    for (size_t i = 0; i < queue.size(); ++i)
      for (unsigned e : edgesOf[queue[i]])
        if (edges[e].left > 0 && level[edges[e].to] < 0) {
          level[edges[e].to] = level[queue[i]] + 1;
          queue.push_back(edges[e].to);
        }
    return level[sink] >= 0;
  }

  /// Pushes along one path; without recursion, as graphs are deep.
  bool push(unsigned source, unsigned sink) {
    SmallVector<unsigned> path;
    unsigned node = source;
    while (node != sink) {
      bool moved = false;
      for (size_t &i = next[node]; i < edgesOf[node].size(); ++i) {
        unsigned e = edgesOf[node][i];
        if (edges[e].left > 0 && level[edges[e].to] == level[node] + 1) {
          path.push_back(e);
          node = edges[e].to;
          moved = true;
          break;
        }
      }
      if (moved)
        continue;
      if (path.empty())
        return false;
      node = edges[path.back() ^ 1].to;
      ++next[node];
      path.pop_back();
    }
    int64_t flow = kInfinite;
    for (unsigned e : path)
      flow = std::min(flow, edges[e].left);
    for (unsigned e : path) {
      edges[e].left -= flow;
      edges[e ^ 1].left += flow;
    }
    return true;
  }
};

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_TRANSFORMS_MINIMUMCUT_H
