// SPDX-License-Identifier: Apache-2.0
#include "Faults.h"

#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
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

/// The same in kernels of one kind.
template <typename Op> static bool dropFactorIn(Operation *root) {
  return breakFirst<Op>(root, [](Op op) { return dropFactor(op); });
}

static bool dropBias(Operation *root) {
  return breakFirst<GroupedMatmulOp>(root, [](GroupedMatmulOp op) {
    return breakFirst<arith::AddFOp>(op, [](arith::AddFOp add) {
      add.replaceAllUsesWith(add.getLhs());
      return true;
    });
  });
}

/// Rows in slot order are read as grouped, or the other way round.
static bool misreadRows(Operation *root) {
  return breakFirst<GroupedMatmulOp>(root, [](GroupedMatmulOp op) {
    SmallVector<Attribute> orders(op.getLhsOrders().getValue());
    RowOrder order = op.lhsOrder(0);
    if (order == RowOrder::Token)
      return false;
    orders[0] = RowOrderAttr::get(op.getContext(), order == RowOrder::Slot
                                                       ? RowOrder::Grouped
                                                       : RowOrder::Slot);
    op.setLhsOrdersAttr(ArrayAttr::get(op.getContext(), orders));
    return true;
  });
}

/// Two arguments of a region change places.
template <typename Op> static bool swapArguments(Operation *root) {
  return breakFirst<Op>(root, [](Op op) {
    Block &body = op.getBody().front();
    if (body.getNumArguments() < 2)
      return false;
    Value first = body.getArgument(0), last = body.getArguments().back();
    if (first.use_empty() && last.use_empty())
      return false;
    first.replaceUsesWithIf(last, [](OpOperand &) { return true; });
    return true;
  });
}

static bool dropProduct(Operation *root) {
  return breakFirst<GroupedMatmulOp>(root, [](GroupedMatmulOp op) {
    if (op.getLhs().size() < 2)
      return false;
    op.setLhsOrdersAttr(ArrayAttr::get(op.getContext(), op.getLhsOrders()[0]));
    op.setRhsLayoutsAttr(
        ArrayAttr::get(op.getContext(), op.getRhsLayouts()[0]));
    op.getLhsMutable().erase(1);
    op.getRhsMutable().erase(1);
    return true;
  });
}

static bool dropAddends(Operation *root) {
  return breakFirst<CombineRowsOp>(root, [](CombineRowsOp op) {
    if (op.getAddends().empty())
      return false;
    op.getAddendsMutable().clear();
    return true;
  });
}

/// A segment of a row sum in place of all.
static bool breakPartials(Operation *root) {
  return breakFirst<GroupedMatmulOp>(root, [](GroupedMatmulOp op) {
    for (unsigned i = 0; i < op.getOutPorts().size(); ++i)
      if (op.outPort(i).getKind() == PortKind::Partials) {
        auto yield = cast<YieldOp>(op.getBody().front().getTerminator());
        yield->setOperand(op.firstYield(i), op.getBody().getArgument(0));
        return true;
      }
    return false;
  });
}

static bool overwrite(Operation *root) {
  bool broken = breakFirst<GroupedOuterOp>(root, [](GroupedOuterOp op) {
    bool accumulates = op.getAccumulate();
    op.setAccumulate(false);
    return accumulates;
  });
  return broken || breakFirst<ReduceExpertsOp>(root, [](ReduceExpertsOp op) {
           bool accumulates = op.getAccumulate();
           op.setAccumulate(false);
           return accumulates;
         });
}

/// One result of a kernel is given for another.
static bool confuseResults(Operation *root) {
  return root
      ->walk([](Operation *op) {
        if (isa_and_present<MoeDialect>(op->getDialect()))
          for (unsigned i = 1; i < op->getNumResults(); ++i)
            if (op->getResult(0).getType() == op->getResult(i).getType() &&
                !op->getResult(i).use_empty() && !isa<SortSlotsOp>(op)) {
              op->getResult(i).replaceAllUsesWith(op->getResult(0));
              return WalkResult::interrupt();
            }
        return WalkResult::advance();
      })
      .wasInterrupted();
}

static bool dropCopy(Operation *root) {
  return breakFirst<linalg::CopyOp>(root, [](linalg::CopyOp op) {
    op.erase();
    return true;
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

/// Loops over elements leave out the first.
static bool skipElement(Operation *root) {
  return breakFirst<scf::ForOp>(root, [](scf::ForOp op) {
    OpBuilder b(op);
    op.getLowerBoundMutable().assign(arith::AddIOp::create(
        b, op.getLoc(), op.getLowerBound(), op.getStep()));
    return true;
  });
}

/// An output is described with a row or column more: with one less its writer
/// would pass its end.
static bool misdescribe(Operation *root) {
  auto manifest = root->getAttrOfType<DictionaryAttr>("moe.manifest");
  MLIRContext *context = root->getContext();
  NamedAttrList entries(manifest.getAs<DictionaryAttr>("entries"));
  for (NamedAttribute item : manifest.getAs<DictionaryAttr>("entries")) {
    NamedAttrList entry(cast<DictionaryAttr>(item.getValue()));
    auto outputs =
        llvm::to_vector(cast<ArrayAttr>(entry.get("outputs")).getValue());
    for (Attribute &output : outputs) {
      NamedAttrList described(cast<DictionaryAttr>(output));
      auto dims =
          llvm::to_vector(cast<ArrayAttr>(described.get("dims")).getValue());
      auto size =
          dims.empty() ? IntegerAttr() : dyn_cast<IntegerAttr>(dims.back());
      if (!size)
        continue;
      dims.back() = IntegerAttr::get(size.getType(), size.getInt() + 1);
      described.set("dims", ArrayAttr::get(context, dims));
      output = described.getDictionary(context);
      entry.set("outputs", ArrayAttr::get(context, outputs));
      entries.set(item.getName(), entry.getDictionary(context));
      NamedAttrList changed(manifest);
      changed.set("entries", entries.getDictionary(context));
      root->setAttr("moe.manifest", changed.getDictionary(context));
      return true;
    }
  }
  return false;
}

/// In a function of tasks an offset is left out.
static bool dropOffset(Operation *root) {
  return breakFirst<arith::AddIOp>(root, [](arith::AddIOp op) {
    op.replaceAllUsesWith(op.getLhs());
    return true;
  });
}

static bool subtract(Operation *root) {
  return breakFirst<linalg::GenericOp>(root, [](linalg::GenericOp generic) {
    return breakFirst<arith::AddFOp>(generic, [](arith::AddFOp op) {
      OpBuilder b(op);
      op.replaceAllUsesWith(
          arith::SubFOp::create(b, op.getLoc(), op.getLhs(), op.getRhs())
              .getResult());
      return true;
    });
  });
}

/// One number is widened in the place of another.
static bool confuseWidened(Operation *root) {
  return breakFirst<linalg::GenericOp>(root, [](linalg::GenericOp generic) {
    SmallVector<arith::ExtFOp> widened(generic.getOps<arith::ExtFOp>());
    if (widened.size() < 2)
      return false;
    widened[1].replaceAllUsesWith(widened[0].getResult());
    return true;
  });
}

/// An argument takes another's place.
static bool confuseArguments(Operation *root) {
  return breakFirst<func::FuncOp>(root, [](func::FuncOp f) {
    if (f.isExternal())
      return false;
    for (BlockArgument x : f.getArguments())
      for (BlockArgument y : f.getArguments())
        if (x != y && x.getType() == y.getType() && !x.use_empty() &&
            isa<FloatType>(getElementTypeOrSelf(x.getType()))) {
          x.replaceAllUsesWith(y);
          return true;
        }
    return false;
  });
}

/// The last of a module's functions is thought dead.
static bool dropFunction(Operation *root) {
  func::FuncOp last;
  for (auto f : cast<ModuleOp>(root).getOps<func::FuncOp>())
    last = f;
  if (last)
    last.erase();
  return bool(last);
}

/// Rows are padded with another number.
static bool changePadding(Operation *root) {
  return breakFirst<tensor::InsertSliceOp>(
      root, [](tensor::InsertSliceOp insert) {
        auto fill = insert.getDest().getDefiningOp<linalg::FillOp>();
        if (!fill)
          return false;
        OpBuilder b(fill);
        Value value = fill.getInputs()[0];
        Value other = arith::ConstantOp::create(
            b, fill.getLoc(), b.getFloatAttr(value.getType(), 0.75));
        fill->setOperand(0, other);
        return true;
      });
}

/// What a kernel writes is read before it is written.
static bool readDestination(Operation *root) {
  return breakFirst<bufferization::ToTensorOp>(
      root, [](bufferization::ToTensorOp destination) {
        for (OpOperand &use : destination.getResult().getUses()) {
          auto writer = dyn_cast<DestinationStyleOpInterface>(use.getOwner());
          if (!writer || !writer.isDpsInit(&use))
            continue;
          Value result = writer.getTiedOpResult(&use);
          if (result.use_empty())
            continue;
          result.replaceAllUsesWith(destination);
          return true;
        }
        return false;
      });
}

/// A view starts where the buffer does.
static bool dropViewOffset(Operation *root) {
  return breakFirst<memref::ReinterpretCastOp>(
      root, [](memref::ReinterpretCastOp op) {
        MemRefType type = op.getType();
        auto [strides, offset] = type.getStridesAndOffset();
        if (offset == 0 || ShapedType::isDynamic(offset))
          return false;
        OpBuilder b(op);
        auto start = MemRefType::get(
            type.getShape(), type.getElementType(),
            StridedLayoutAttr::get(op.getContext(), 0, strides));
        op->replaceAllUsesWith(memref::ReinterpretCastOp::create(
            b, op.getLoc(), start, op.getSource(), b.getIndexAttr(0),
            op.getMixedSizes(), op.getMixedStrides()));
        return true;
      });
}

/// A branch goes one way, out of a loop.
static bool skipBranch(Operation *root) {
  return breakFirst<cf::CondBranchOp>(root, [](cf::CondBranchOp op) {
    OpBuilder b(op);
    op.getConditionMutable().assign(
        arith::ConstantIntOp::create(b, op.getLoc(), 0, 1));
    return true;
  });
}

/// Ops of that kind give their first operand.
template <typename Op> static bool dropOp(Operation *root) {
  return breakFirst<Op>(root, [](Op op) {
    if (op->getOperand(0).getType() != op->getResult(0).getType() ||
        op->use_empty())
      return false;
    op->getResult(0).replaceAllUsesWith(op->getOperand(0));
    return true;
  });
}

/// A function of the math library gives its first argument.
static bool dropCall(Operation *root) {
  return breakFirst<func::CallOp>(root, [](func::CallOp op) {
    if (op->getNumOperands() == 0 || op->getNumResults() != 1 ||
        op.getOperand(0).getType() != op.getResult(0).getType())
      return false;
    op.getResult(0).replaceAllUsesWith(op.getOperand(0));
    return true;
  });
}

/// The same of LLVM's intrinsics of one number.
static bool dropIntrinsic(Operation *root) {
  return root
      ->walk([](Operation *op) {
        if (!isa<LLVM::ExpOp, LLVM::Exp2Op, LLVM::LogOp, LLVM::SqrtOp,
                 LLVM::SinOp, LLVM::CosOp, LLVM::FAbsOp>(op) ||
            op->use_empty())
          return WalkResult::advance();
        op->getResult(0).replaceAllUsesWith(op->getOperand(0));
        return WalkResult::interrupt();
      })
      .wasInterrupted();
}

ArrayRef<Fault> fuzz::allFaults() {
  static const Fault faults[] = {
      {"inline", "an argument of a call takes another's place",
       confuseArguments},
      {"symbol-dce", "a function that callers see goes", dropFunction},
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
      {"moe-fuse-elementwise", "a factor is lost", dropFactor},
      {"moe-fuse-row-moves", "slot rows are read as grouped ones", misreadRows},
      {"moe-fuse-row-scales", "a kernel loses its scale",
       dropFactorIn<GroupedMatmulOp>},
      {"moe-fuse-single-choice", "the sum of one slot loses its gates",
       dropFactorIn<MapRowsOp>},
      {"moe-fuse-epilogues", "an operand takes the accumulator's place",
       swapArguments<GroupedMatmulOp>},
      {"moe-fuse-products", "the second product is lost", dropProduct},
      {"moe-fuse-rowwise", "an operand takes another's place",
       swapArguments<MapRowsOp>},
      {"moe-fuse-prologues", "an operand takes another's place",
       swapArguments<CombineRowsOp>},
      {"moe-fuse-addends", "what is added is lost", dropAddends},
      {"moe-fuse-row-sums", "another number is summed", breakPartials},
      {"moe-fuse-accumulation", "the buffer is overwritten", overwrite},
      {"moe-simplify-kernels", "one result is given for another",
       confuseResults},
      {"moe-widen-linalg", "a number is widened in the place of another",
       confuseWidened},
      {"convert-elementwise-to-linalg", "a sum is a difference", subtract},
      {"convert-tensor-to-linalg", "rows are padded with another number",
       changePadding},
      {"moe-to-destination-style", "two results change places", swapOutputs},
      {"eliminate-empty-tensors", "a result is read before it is written",
       readDestination},
      {"one-shot-bufferize", "two buffers become one", shareBuffers},
      {"moe-expand-copies", "a copy is lost", dropCopy},
      {"moe-plan-workspace", "two temporaries overlap", overlapViews},
      {"moe-emit-manifest", "an output has a column more", misdescribe},
      {"convert-linalg-to-loops", "the first element is left out", skipElement},
      {"convert-moe-to-scf", "a reduction leaves out its first step",
       skipIteration},
      {"moe-outline-tasks", "an offset is left out", dropOffset},
      {"moe-approximate-math", "a coefficient is wrong in its third digit",
       changeConstant},
      {"expand-strided-metadata", "a view's offset is lost", dropViewOffset},
      {"lower-affine", "an offset is left out", dropOffset},
      {"arith-expand", "a shift is lost", dropOp<arith::ShRUIOp>},
      {"convert-vector-to-scf", "the first element is left out", skipElement},
      {"convert-scf-to-cf", "a loop's body is not run", skipBranch},
      {"convert-math-to-llvm", "a function gives its argument", dropIntrinsic},
      {"convert-math-to-libm", "a function gives its argument", dropCall},
      {"convert-vector-to-llvm",
       "a product loses a factor and what it is "
       "added to",
       dropOp<LLVM::FMAOp>},
      {"finalize-memref-to-llvm", "an index is lost", dropOp<LLVM::GEPOp>},
      {"convert-arith-to-llvm", "a product loses a factor",
       dropOp<LLVM::FMulOp>},
  };
  return faults;
}

const Fault *fuzz::findFault(StringRef pass) {
  for (const Fault &fault : allFaults())
    if (fault.pass == pass)
      return &fault;
  return nullptr;
}
