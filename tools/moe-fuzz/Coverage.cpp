// SPDX-License-Identifier: Apache-2.0
#include "Coverage.h"

#include "moe/Dialect/Moe/IR/Moe.h"

#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/Format.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::fuzz;

//===----------------------------------------------------------------------===//
// Features
//===----------------------------------------------------------------------===//

using Use = llvm::function_ref<void(const Twine &)>;

template <typename Op> static void routeFeatures(Op op, Use use) {
  use("score=" + stringifyScore(op.getScore()));
  use("order=" + stringifyRouteOrder(op.getRouteOrder()));
  if (op.getNormalize())
    use("normalize");
  if (!op.getEps().isZero())
    use("eps");
  if (!op.getScale().isExactlyValue(1.0))
    use("scale");
}

template <typename Op> static void choiceFeatures(Op op, Use use) {
  routeFeatures(op, use);
  if (op.getGroups() > 1)
    use("groups masked=" + stringifyMaskedGroups(op.getMaskedGroups()));
  if (op.getCapacity())
    use("capacity drop=" + stringifyDrop(op.getDrop()));
  if (op.getBias())
    use("bias");
  if (op.getMask())
    use("mask");
  if (op.getGivenIds())
    use("ids");
}

static void portFeatures(StringRef what, ArrayAttr ports, bool withOrder,
                         Use use) {
  for (Attribute attr : ports) {
    auto port = cast<PortAttr>(attr);
    std::string text = (what + "=" + stringifyPortKind(port.getKind())).str();
    if (port.getLayout() != ColumnLayout::Single)
      use(Twine(text) + " " + stringifyColumnLayout(port.getLayout()));
    if (withOrder && port.getKind() != PortKind::Expert)
      use(Twine(text) + " " + stringifyRowOrder(port.getOrder()));
    else
      use(text);
  }
}

template <typename Op> static void assignFeatures(Op op, Use use) {
  if (op.getIds())
    use(getElementTypeOrSelf(op.getIds().getType()).isInteger(64) ? "ids=i64"
                                                                  : "ids=i32");
  if (op.getCounts())
    use(op.getCapacity() ? "counts capacity" : "counts");
}

void fuzz::forEachFeature(Operation *op,
                          llvm::function_ref<void(StringRef)> add) {
  std::string name = op->getName().getStringRef().str();
  auto use = [&](const Twine &feature) { add((name + " " + feature).str()); };
  auto order = [](RowOrder o) { return stringifyRowOrder(o); };
  llvm::TypeSwitch<Operation *>(op)
      .Case<RouteOp>([&](RouteOp op) {
        choiceFeatures(op, use);
        if (op.getScores())
          use("scores");
        if (op.getLogsumexp())
          use("logsumexp");
      })
      .Case<RouteRowsOp>([&](RouteRowsOp op) {
        choiceFeatures(op, use);
        if (op.getWithScores())
          use("scores");
        if (op.getWithLogsumexp())
          use("logsumexp");
      })
      .Case<RouteGradOp, RouteGradRowsOp>([&](auto op) {
        routeFeatures(op, use);
        if (op.getDScores())
          use("scores");
        if (op.getDLogsumexp())
          use("logsumexp");
      })
      .Case<AssignOp, SortSlotsOp>([&](auto op) { assignFeatures(op, use); })
      .Case<PackAssignmentOp, UnpackAssignmentOp>([&](auto) { add(name); })
      .Case<GroupOp>([&](GroupOp op) {
        bool scalars =
            cast<ShapedType>(op.getResult().getType()).getRank() == 1;
        use("from=" + order(op.getFrom()) + (scalars ? " scalars" : ""));
      })
      .Case<ScatterOp>([&](ScatterOp op) {
        use(cast<ShapedType>(op.getRows().getType()).getRank() == 1 ? "scalars"
                                                                    : "rows");
      })
      .Case<CombineOp>([&](CombineOp op) {
        bool scalars =
            cast<ShapedType>(op.getResult().getType()).getRank() == 1;
        use("from=" + order(op.getFrom()) +
            (scalars         ? " scalars"
             : op.getGates() ? " gates"
                             : ""));
      })
      .Case<ParallelLinearOp>([&](ParallelLinearOp op) {
        use("from=" + order(op.getFrom()) + " to=" + order(op.getTo()));
        use(stringifyWeightLayout(op.getLayout()));
        if (op.getBias())
          use("bias");
      })
      .Case<WeightGradOp, GroupedOuterOp>([&](auto op) {
        use("x=" + order(op.getXFrom()) + " dy=" + order(op.getDyFrom()));
        use(stringifyWeightLayout(op.getLayout()));
        if constexpr (std::is_same_v<decltype(op), WeightGradOp>) {
          if (op.getBuffer())
            use("accumulate");
        } else if (op.getAccumulate()) {
          use("accumulate");
        }
      })
      .Case<RowwiseOp>([&](RowwiseOp op) {
        use("order=" + order(op.getOrder()) +
            (op.getOrder() == RowOrder::Slot && op.getAssignment() ? " by"
                                                                   : ""));
        portFeatures("in", op.getInPorts(), false, use);
        portFeatures("out", op.getOutPorts(), false, use);
      })
      .Case<ExpertSumOp>(
          [&](ExpertSumOp op) { use("from=" + order(op.getFrom())); })
      .Case<GroupedMatmulOp>([&](GroupedMatmulOp op) {
        for (unsigned i = 0; i < op.getLhs().size(); ++i) {
          use("lhs=" + order(op.lhsOrder(i)));
          use(stringifyWeightLayout(op.rhsLayout(i)));
        }
        portFeatures("in", op.getInPorts(), true, use);
        portFeatures("out", op.getOutPorts(), true, use);
      })
      .Case<MapRowsOp>([&](MapRowsOp op) {
        use("order=" + order(op.getOrder()));
        portFeatures("in", op.getInPorts(), true, use);
        portFeatures("out", op.getOutPorts(), true, use);
      })
      .Case<CombineRowsOp>([&](CombineRowsOp op) {
        portFeatures("in", op.getInPorts(), true, use);
        if (!op.getFolds().empty())
          use("folds");
        if (!op.getAddends().empty())
          use("addends");
      })
      .Case<ReduceExpertsOp>([&](ReduceExpertsOp op) {
        portFeatures("in", op.getInPorts(), true, use);
      })
      .Case<FoldPartialsOp>(
          [&](FoldPartialsOp op) { use("to=" + order(op.getTo())); });
}

void fuzz::addCells(StringRef pass, Operation *root, CoverageCells &cells) {
  root->walk([&](Operation *op) {
    forEachFeature(op, [&](StringRef feature) {
      cells.insert((pass + "\t" + feature).str());
    });
  });
}

//===----------------------------------------------------------------------===//
// The table
//===----------------------------------------------------------------------===//

void Coverage::add(const CoverageCells &cells) {
  for (const std::string &cell : cells)
    ++counts[cell];
}
