// SPDX-License-Identifier: Apache-2.0
// moe-verify-rows: a forward dataflow analysis over (row order, assignment).
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Analysis/DataFlow/SparseAnalysis.h"
#include "mlir/Analysis/DataFlow/Utils.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/TypeSwitch.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEVERIFYROWS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// In which order an op reads and writes rows
//===----------------------------------------------------------------------===//

namespace {
/// The rows of one tensor, as an op reads or writes them.
struct RowUse {
  Value value;
  RowOrder order;
  /// Null for the gates of a route, which any assignment may be made for.
  Value assignment;
};
} // namespace

static bool isRows(PortAttr port) { return port.getKind() != PortKind::Expert; }

/// The operands and results of `op` that are rows or row scalars.
static void collectRows(Operation *op, SmallVectorImpl<RowUse> &operands,
                        SmallVectorImpl<RowUse> &results) {
  auto ports = [](ValueRange values, ArrayAttr ports, Value assignment,
                  SmallVectorImpl<RowUse> &rows) {
    for (auto [value, attr] : llvm::zip(values, ports))
      if (auto port = cast<PortAttr>(attr); isRows(port))
        rows.push_back({value, port.getOrder(), assignment});
  };
  llvm::TypeSwitch<Operation *>(op)
      .Case([&](RouteOp route) {
        results.push_back({route.getGates(), RowOrder::Slot, {}});
      })
      .Case([&](GroupOp group) {
        operands.push_back(
            {group.getRows(), group.getFrom(), group.getAssignment()});
        results.push_back(
            {group.getResult(), RowOrder::Grouped, group.getAssignment()});
      })
      .Case([&](ScatterOp scatter) {
        Value by = scatter.getAssignment();
        operands.push_back({scatter.getRows(), RowOrder::Grouped, by});
        results.push_back({scatter.getResult(), RowOrder::Slot, by});
      })
      .Case([&](CombineOp combine) {
        Value by = combine.getAssignment();
        operands.push_back({combine.getRows(), combine.getFrom(), by});
        if (Value gates = combine.getGates())
          operands.push_back({gates, RowOrder::Slot, by});
        results.push_back({combine.getResult(), RowOrder::Token, by});
      })
      .Case([&](ParallelLinearOp linear) {
        Value by = linear.getAssignment();
        operands.push_back({linear.getLhs(), linear.getFrom(), by});
        results.push_back({linear.getResult(), linear.getTo(), by});
      })
      .Case([&](WeightGradOp grad) {
        Value by = grad.getAssignment();
        operands.push_back({grad.getX(), grad.getXFrom(), by});
        operands.push_back({grad.getDy(), grad.getDyFrom(), by});
      })
      .Case([&](ExpertSumOp sum) {
        operands.push_back({sum.getRows(), sum.getFrom(), sum.getAssignment()});
      })
      .Case([&](RowwiseOp rowwise) {
        Value by = rowwise.getAssignment();
        // Without an assignment nothing says whose tokens or slots they are.
        if (!by)
          return;
        ports(rowwise.getIns(), rowwise.getInPorts(), by, operands);
        ports(rowwise.getResults(), rowwise.getOutPorts(), by, results);
      })
      .Case([&](GroupedMatmulOp matmul) {
        Value by = matmul.getAssignment();
        for (auto [i, lhs] : llvm::enumerate(matmul.getLhs()))
          operands.push_back({lhs, matmul.lhsOrder(i), by});
        ports(matmul.getIns(), matmul.getInPorts(), by, operands);
        ports(matmul.getResults(), matmul.getOutPorts(), by, results);
      })
      .Case([&](GroupedOuterOp outer) {
        Value by = outer.getAssignment();
        operands.push_back({outer.getX(), outer.getXFrom(), by});
        operands.push_back({outer.getDy(), outer.getDyFrom(), by});
      })
      .Case([&](MapRowsOp map) {
        if (!map.getAssignment())
          return;
        ports(map.getIns(), map.getInPorts(), map.getAssignment(), operands);
        ports(map.getResults(), map.getOutPorts(), map.getAssignment(),
              results);
      })
      .Case([&](CombineRowsOp combine) {
        Value by = combine.getAssignment();
        ports(combine.getIns(), combine.getInPorts(), by, operands);
        for (Value addend : combine.getAddends())
          operands.push_back({addend, RowOrder::Token, by});
        for (Value fold : combine.getFolds())
          operands.push_back({fold, RowOrder::Grouped, by});
        ports(combine.getResults(), combine.getOutPorts(), by, results);
      })
      .Case([&](ReduceExpertsOp reduce) {
        ports(reduce.getIns(), reduce.getInPorts(), reduce.getAssignment(),
              operands);
      })
      .Case([&](FoldPartialsOp fold) {
        Value by = fold.getAssignment();
        operands.push_back({fold.getPartials(), RowOrder::Grouped, by});
        for (Value result : fold.getResults())
          results.push_back({result, fold.getTo(), by});
      });
}

/// One assignment under two names: the same value, or equal ops on the same
/// operands.
static bool isSameAssignment(Value a, Value b) {
  if (a == b)
    return true;
  Operation *first = a.getDefiningOp(), *second = b.getDefiningOp();
  return first && second &&
         OperationEquivalence::isEquivalentTo(
             first, second, OperationEquivalence::IgnoreLocations);
}

/// Rows that came grouped: their order is the identity, and token, slot and
/// grouped order are one.
static bool isIdentity(Value assignment) {
  auto assign = assignment.getDefiningOp<AssignOp>();
  return assign && assign.getCounts();
}

//===----------------------------------------------------------------------===//
// The analysis
//===----------------------------------------------------------------------===//

namespace {
/// What is known of the rows of a value.
struct Rows {
  enum Kind { Unset, Known, Any } kind = Unset;
  RowOrder order = RowOrder::Token;
  Value assignment;

  static Rows any() { return {Any, RowOrder::Token, {}}; }

  bool operator==(const Rows &other) const {
    return kind == other.kind && order == other.order &&
           assignment == other.assignment;
  }

  /// Whether rows of this kind may be read as `use` says.
  bool fits(const RowUse &use) const {
    if (kind != Known)
      return true;
    if (order == RowOrder::Grouped && use.order == RowOrder::Grouped)
      return !use.assignment || isSameAssignment(assignment, use.assignment);
    Value grouping = order == RowOrder::Grouped ? assignment : use.assignment;
    if (grouping && isIdentity(grouping))
      return true;
    if (order == use.order)
      return true;
    // Slot s belongs to token s / 1.
    return order != RowOrder::Grouped && use.order != RowOrder::Grouped &&
           use.assignment && getAssignmentType(use.assignment).getK() == 1;
  }

  static Rows join(const Rows &a, const Rows &b) {
    if (a.kind == Unset || a == b)
      return b;
    return b.kind == Unset ? a : any();
  }

  void print(raw_ostream &os) const {
    if (kind == Known)
      os << stringifyRowOrder(order) << " by " << assignment;
    else
      os << (kind == Any ? "any" : "unset");
  }
};

struct RowsLattice : dataflow::Lattice<Rows> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(RowsLattice)
  using Lattice::Lattice;
};

class RowsAnalysis
    : public dataflow::SparseForwardDataFlowAnalysis<RowsLattice> {
public:
  using SparseForwardDataFlowAnalysis::SparseForwardDataFlowAnalysis;

  LogicalResult visitOperation(Operation *op,
                               ArrayRef<const RowsLattice *> operands,
                               ArrayRef<RowsLattice *> results) override {
    SmallVector<RowUse> reads, writes;
    collectRows(op, reads, writes);
    for (RowsLattice *result : results) {
      Rows rows = Rows::any();
      const auto *written = llvm::find_if(writes, [&](const RowUse &use) {
        return use.value == result->getAnchor();
      });
      if (written != writes.end())
        rows = {Rows::Known, written->order, written->assignment};
      else if (keepsRows(op))
        for (const RowsLattice *operand : operands)
          if (const Rows &given = operand->getValue();
              given.kind == Rows::Known || rows.kind == Rows::Unset) {
            rows = given;
            break;
          }
      propagateIfChanged(result, result->join(rows));
    }
    return success();
  }

  void setToEntryState(RowsLattice *lattice) override {
    propagateIfChanged(lattice, lattice->join(Rows::any()));
  }

  /// An op on tensors that keeps rows where they are, whatever their order.
  static bool keepsRows(Operation *op) {
    if (auto rowwise = dyn_cast<RowwiseOp>(op))
      return !rowwise.getAssignment();
    if (auto map = dyn_cast<MapRowsOp>(op))
      return !map.getAssignment();
    return isa<tensor::CastOp>(op) ||
           (OpTrait::hasElementwiseMappableTraits(op) &&
            op->getNumResults() == 1 &&
            isa<RankedTensorType>(op->getResult(0).getType()));
  }
};
} // namespace

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

static std::string describe(RowOrder order) {
  return (stringifyRowOrder(order) + " order").str();
}

/// Says what is wrong with reading rows of `found` as `use` says.
static LogicalResult refuse(Operation *op, const RowUse &use,
                            const Rows &found) {
  InFlightDiagnostic diag = op->emitOpError();
  bool twoAssignments =
      found.order == RowOrder::Grouped && use.order == RowOrder::Grouped;
  if (twoAssignments)
    diag << "reads rows grouped by another assignment; scatter them by theirs "
            "and group them by this one";
  else
    diag << "reads rows in " << describe(use.order) << ", got rows in "
         << describe(found.order)
         << "; move them with moe.group or moe.scatter";
  if (Operation *origin = use.value.getDefiningOp())
    diag.attachNote(origin->getLoc()) << "the rows are made here";
  if (twoAssignments && found.assignment)
    diag.attachNote(found.assignment.getLoc()) << "this is their assignment";
  return diag;
}

namespace {
struct MoeVerifyRowsPass
    : public moe::impl::MoeVerifyRowsBase<MoeVerifyRowsPass> {
  using MoeVerifyRowsBase::MoeVerifyRowsBase;

  void runOnOperation() override {
    DataFlowSolver solver(DataFlowConfig().setInterprocedural(false));
    dataflow::loadBaselineAnalyses(solver);
    solver.load<RowsAnalysis>();
    if (failed(solver.initializeAndRun(getOperation())))
      return signalPassFailure();

    // Rows from outside have the order that their first reader says.
    DenseMap<Value, Rows> outside;
    bool failed = false;
    getOperation()->walk([&](Operation *op) {
      SmallVector<RowUse> reads, writes;
      collectRows(op, reads, writes);
      for (const RowUse &use : reads) {
        const auto *state = solver.lookupState<RowsLattice>(use.value);
        if (!state || state->getValue().kind == Rows::Unset)
          continue;
        Rows found = state->getValue();
        if (found.kind == Rows::Any && !isUniform(use.value)) {
          Rows said = {Rows::Known, use.order, use.assignment};
          found = outside.try_emplace(use.value, said).first->second;
        }
        if (!found.fits(use))
          failed |= mlir::failed(refuse(op, use, found));
      }
      if (RowsAnalysis::keepsRows(op))
        failed |= mlir::failed(verifyKept(op, solver));
    });
    if (failed)
      return signalPassFailure();
    markAllAnalysesPreserved();
  }

private:
  /// Values whose rows are all alike lie in any order.
  static bool isUniform(Value value) {
    return value.getDefiningOp() &&
           (value.getDefiningOp()->hasTrait<OpTrait::ConstantLike>() ||
            isa<tensor::EmptyOp, tensor::SplatOp>(value.getDefiningOp()));
  }

  /// All rows that such an op reads are of one kind.
  static LogicalResult verifyKept(Operation *op, DataFlowSolver &solver) {
    const Rows *first = nullptr;
    for (Value operand : op->getOperands()) {
      const auto *state = solver.lookupState<RowsLattice>(operand);
      if (!state || state->getValue().kind != Rows::Known)
        continue;
      const Rows &rows = state->getValue();
      if (!first)
        first = &rows;
      else if (!first->fits({operand, rows.order, rows.assignment}))
        return refuse(op, {operand, first->order, first->assignment}, rows);
    }
    return success();
  }
};
} // namespace
