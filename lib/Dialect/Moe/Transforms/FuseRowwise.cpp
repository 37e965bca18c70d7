// SPDX-License-Identifier: Apache-2.0
// moe-fuse-epilogues, moe-fuse-rowwise, moe-fuse-prologues: rowwise kernels
// move into the kernels beside them.
#include "Fusion.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEFUSEEPILOGUES
#define GEN_PASS_DEF_MOEFUSEROWWISE
#define GEN_PASS_DEF_MOEFUSEPROLOGUES
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// The kernels that `guest` may join, first choice first.
using Hosts = llvm::SmallSetVector<Operation *, 4>;
using FindHosts = function_ref<void(MapRowsOp guest, Hosts &hosts)>;

template <typename Op> SmallVector<Op> collect(func::FuncOp function) {
  SmallVector<Op> ops;
  function.walk([&](Op op) {
    if (op.hasPureTensorSemantics())
      ops.push_back(op);
  });
  return ops;
}

bool fuseOne(func::FuncOp function, StringRef pass, FindHosts findHosts,
             bool explain) {
  for (MapRowsOp guest : collect<MapRowsOp>(function)) {
    SmallVector<std::pair<Operation *, std::string>> refusals;
    Hosts hosts;
    findHosts(guest, hosts);
    for (Operation *host : hosts) {
      std::string why;
      std::unique_ptr<RowKernel> joined = join(host, guest, why);
      if (!joined) {
        refusals.push_back({host, why});
        continue;
      }
      if (explain)
        continue;
      // Rows that one wrote and only the other read are no buffer any more.
      Type gone;
      RowOrder order = RowOrder::Grouped;
      for (auto [writer, reader] :
           {std::pair<Operation *, Operation *>{host, guest}, {guest, host}})
        for (auto [i, result] : llvm::enumerate(writer->getResults()))
          if (!result.use_empty() &&
              llvm::all_of(result.getUsers(),
                           [&, reader = reader](Operation *user) {
                             return user == reader;
                           })) {
            gone = result.getType();
            if (writer == guest)
              order = guest.outPort(i).getOrder();
          }
      remarkFused(host, pass, describe(guest) + " moves into " + describe(host),
                  gone, order);
      IRRewriter rewriter(function.getContext());
      joined->commit(rewriter, guest.getOperation());
      return true;
    }
    if (explain)
      for (auto &[host, why] : refusals)
        remarkRefused(guest, pass,
                      describe(guest) + " does not move into " + describe(host),
                      why);
  }
  return false;
}

void fuseAll(func::FuncOp function, StringRef pass, FindHosts findHosts) {
  while (fuseOne(function, pass, findHosts, /*explain=*/false))
    ;
  // What is left, with the reasons.
  fuseOne(function, pass, findHosts, /*explain=*/true);
}

/// Whether the rowwise region of `host` reads a result of `guest`, or the other
/// way round.
bool feeds(Operation *writer, Operation *reader) {
  return llvm::is_contained(writer->getUsers(), reader);
}

/// Whether both read the same rows.
bool sharesRows(GroupedMatmulOp host, MapRowsOp guest) {
  for (auto [value, port] : llvm::zip_equal(host.getIns(), host.getInPorts()))
    if (cast<PortAttr>(port).getKind() == PortKind::Rows &&
        llvm::is_contained(guest.getIns(), value))
      return true;
  return false;
}

struct MoeFuseEpilogues : moe::impl::MoeFuseEpiloguesBase<MoeFuseEpilogues> {
  void runOnOperation() override {
    func::FuncOp function = getOperation();
    fuseAll(function, getArgument(), [&](MapRowsOp guest, Hosts &hosts) {
      if (!guest.getAssignment())
        return;
      // The last product first: it may read what the others write.
      auto products = collect<GroupedMatmulOp>(function);
      for (GroupedMatmulOp host : llvm::reverse(products))
        if (feeds(host, guest))
          hosts.insert(host);
      for (GroupedMatmulOp host : llvm::reverse(products)) {
        bool reads = llvm::any_of(host.getIns(), [&](Value in) {
          return in.getDefiningOp() == guest;
        });
        if (!feeds(host, guest) &&
            host.getAssignment() == guest.getAssignment() &&
            (reads || sharesRows(host, guest)))
          hosts.insert(host);
      }
    });
  }
};

struct MoeFuseRowwise : moe::impl::MoeFuseRowwiseBase<MoeFuseRowwise> {
  void runOnOperation() override {
    fuseAll(getOperation(), getArgument(), [](MapRowsOp guest, Hosts &hosts) {
      for (Value in : guest.getIns())
        if (auto host = in.getDefiningOp<MapRowsOp>())
          hosts.insert(host);
    });
  }
};

struct MoeFusePrologues : moe::impl::MoeFuseProloguesBase<MoeFusePrologues> {
  void runOnOperation() override {
    fuseAll(getOperation(), getArgument(), [](MapRowsOp guest, Hosts &hosts) {
      if (!guest.getAssignment())
        return;
      for (Operation *user : guest->getUsers())
        if (isa<CombineRowsOp, ReduceExpertsOp>(user) && isRowKernel(user))
          hosts.insert(user);
    });
  }
};

} // namespace
