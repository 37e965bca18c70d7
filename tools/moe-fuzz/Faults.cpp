// SPDX-License-Identifier: Apache-2.0
#include "Faults.h"

#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::fuzz;

/// Runs `f` on the ops of that kind until it has broken one.
template <typename Op, typename F>
static bool breakFirst(Operation *root, F f) {
  return root
      ->walk([&](Op op) {
        return f(op) ? WalkResult::interrupt() : WalkResult::advance();
      })
      .wasInterrupted();
}

/// The second of two different ops of a kind and type takes the first's place.
template <typename Op> static bool mergeTwo(Operation *root) {
  SmallVector<Op> seen;
  return breakFirst<Op>(root, [&](Op op) {
    for (Op other : seen)
      if (other->getBlock() == op->getBlock() &&
          other->getResultTypes() == op->getResultTypes() && !op->use_empty()) {
        op->replaceAllUsesWith(other->getResults());
        return true;
      }
    seen.push_back(op);
    return false;
  });
}

static bool dropGates(Operation *root) {
  return breakFirst<CombineOp>(root, [](CombineOp op) {
    if (!op.getGates())
      return false;
    op.getGatesMutable().clear();
    return true;
  });
}

static bool dropSummand(Operation *root) {
  return breakFirst<arith::AddFOp>(root, [](arith::AddFOp op) {
    if (!isa<RankedTensorType>(op.getType()))
      return false;
    op.replaceAllUsesWith(op.getLhs());
    return true;
  });
}

/// In regions of rows: a product without its second factor.
static bool dropFactor(Operation *root) {
  return breakFirst<arith::MulFOp>(root, [](arith::MulFOp op) {
    if (!isa<FloatType>(op.getType()) || op.getLhs() == op.getRhs())
      return false;
    op.replaceAllUsesWith(op.getLhs());
    return true;
  });
}

static bool dropBias(Operation *root) {
  return breakFirst<GroupedMatmulOp>(root, [](GroupedMatmulOp op) {
    return breakFirst<arith::AddFOp>(op, [](arith::AddFOp add) {
      add.replaceAllUsesWith(add.getLhs());
      return true;
    });
  });
}

static bool swapResiduals(Operation *root) {
  func::FuncOp backward;
  root->walk([&](func::FuncOp f) {
    if (f.getName() == "f_backward")
      backward = f;
  });
  if (!backward)
    return false;
  auto list = backward->getAttrOfType<ArrayAttr>("moe.residuals");
  unsigned first = backward.getNumArguments() - list.size();
  for (unsigned i = 0; i < list.size(); ++i)
    for (unsigned j = i + 1; j < list.size(); ++j) {
      if (backward.getArgument(first + i).getType() !=
          backward.getArgument(first + j).getType())
        continue;
      SmallVector<Attribute> swapped(list.getValue());
      std::swap(swapped[i], swapped[j]);
      backward->setAttr("moe.residuals",
                        ArrayAttr::get(root->getContext(), swapped));
      return true;
    }
  return false;
}

static bool swapTables(Operation *root) {
  return breakFirst<PackAssignmentOp>(root, [](PackAssignmentOp op) {
    Value begin = op.getBegin(), end = op.getEnd();
    op->setOperand(2, end);
    op->setOperand(3, begin);
    return begin != end;
  });
}

static bool swapOutputs(Operation *root) {
  using Write = bufferization::MaterializeInDestinationOp;
  SmallVector<Write> seen;
  return breakFirst<Write>(root, [&](Write op) {
    for (Write other : seen)
      if (other->getBlock() == op->getBlock() &&
          other.getDest().getType() == op.getDest().getType() &&
          other.getSource().getType() == op.getSource().getType()) {
        Value mine = op.getSource();
        op->setOperand(0, other.getSource());
        other->moveAfter(op);
        other->setOperand(0, mine);
        return true;
      }
    seen.push_back(op);
    return false;
  });
}

static bool shareBuffers(Operation *root) {
  return mergeTwo<memref::AllocOp>(root);
}

static bool overlapViews(Operation *root) {
  SmallVector<memref::ViewOp> seen;
  return breakFirst<memref::ViewOp>(root, [&](memref::ViewOp op) {
    for (memref::ViewOp other : seen)
      if (other.getByteShift() != op.getByteShift() &&
          other->getBlock() == op->getBlock()) {
        op.getByteShiftMutable().assign(other.getByteShift());
        return true;
      }
    seen.push_back(op);
    return false;
  });
}

/// The first multiplication by a constant gets another constant.
static bool changeConstant(Operation *root) {
  return breakFirst<arith::ConstantOp>(root, [](arith::ConstantOp op) {
    auto broken = [&](FloatAttr attr) {
      return FloatAttr::get(attr.getType(),
                            attr.getValueAsDouble() * 1.01 + 1e-3);
    };
    if (auto attr = dyn_cast<FloatAttr>(op.getValue())) {
      op.setValueAttr(broken(attr));
      return true;
    }
    auto dense = dyn_cast<DenseFPElementsAttr>(op.getValue());
    if (!dense || !dense.isSplat() || !isa<VectorType>(op.getType()))
      return false;
    double value = dense.getSplatValue<APFloat>().convertToDouble();
    op.setValueAttr(cast<TypedAttr>(Attribute(DenseElementsAttr::get(
        dense.getType(),
        broken(FloatAttr::get(dense.getElementType(), value)).getValue()))));
    return true;
  });
}

/// Innermost loops leave out what they start from.
static bool skipIteration(Operation *root) {
  return breakFirst<scf::ForOp>(root, [](scf::ForOp op) {
    if (op.getInitArgs().empty())
      return false;
    OpBuilder b(op);
    op.getLowerBoundMutable().assign(arith::AddIOp::create(
        b, op.getLoc(), op.getLowerBound(), op.getStep()));
    return true;
  });
}

/// A task has the number of its neighbour.
static bool shiftTask(Operation *root) {
  return breakFirst<func::FuncOp>(root, [](func::FuncOp op) {
    (void)op;
    return false;
  });
}

static bool subtract(Operation *root) {
  return breakFirst<arith::AddFOp>(root, [](arith::AddFOp op) {
    OpBuilder b(op);
    op.replaceAllUsesWith(
        arith::SubFOp::create(b, op.getLoc(), op.getLhs(), op.getRhs())
            .getResult());
    return true;
  });
}

ArrayRef<Fault> fuzz::allFaults() {
  static const Fault faults[] = {
      {"canonicalize", "a combine loses its gates", dropGates},
      {"cse", "two products that differ become one",
       mergeTwo<ParallelLinearOp>},
      {"moe-differentiate", "a sum of cotangents loses a path", dropSummand},
      {"moe-simplify-gradients", "a product on rows loses a factor",
       dropFactor},
      {"moe-partition", "two residuals of one type change places",
       swapResiduals},
      {"moe-expand-assignment", "begin and end change places", swapTables},
      {"moe-form-kernels", "a matrix product loses its bias", dropBias},
      {"moe-to-destination-style", "two results change places", swapOutputs},
      {"one-shot-bufferize", "two buffers become one", shareBuffers},
      {"moe-plan-workspace", "two temporaries overlap", overlapViews},
      {"convert-moe-to-scf", "a reduction leaves out its first step",
       skipIteration},
      {"moe-approximate-math", "a coefficient is wrong in its third digit",
       changeConstant},
  };
  (void)shiftTask;
  (void)subtract;
  return faults;
}

const Fault *fuzz::findFault(StringRef pass) {
  for (const Fault &fault : allFaults())
    if (fault.pass == pass)
      return &fault;
  return nullptr;
}
