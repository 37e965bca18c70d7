// SPDX-License-Identifier: Apache-2.0
// moe-fuse-elementwise and moe-simplify-kernels: tensor math that only kernels
// read moves into them; what no kernel needs goes.
#include "Fusion.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEFUSEELEMENTWISE
#define GEN_PASS_DEF_MOESIMPLIFYKERNELS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

//===----------------------------------------------------------------------===//
// Elementwise math on rows
//===----------------------------------------------------------------------===//

/// arith or math on float tensors of one type, an element at a time.
bool isElementwise(Operation *op) {
  if (!isa_and_present<arith::ArithDialect, math::MathDialect>(
          op->getDialect()) ||
      op->getNumResults() != 1 || op->getNumOperands() == 0 ||
      !OpTrait::hasElementwiseMappableTraits(op) || !isPure(op))
    return false;
  auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
  return type && isa<FloatType>(type.getElementType()) &&
         llvm::all_of(op->getOperandTypes(),
                      [&](Type other) { return other == type; });
}

struct MoeFuseElementwise
    : moe::impl::MoeFuseElementwiseBase<MoeFuseElementwise> {
  void runOnOperation() override {
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (isElementwise(op))
        ops.push_back(op);
    });
    // Who only asks for a size asks the operand instead.
    for (Operation *op : llvm::reverse(ops))
      for (Operation *user : llvm::make_early_inc_range(op->getUsers()))
        if (auto dim = dyn_cast<tensor::DimOp>(user))
          dim.getSourceMutable().assign(sizeSource(op->getOperand(0)));
    // Readers first, so that chains of math move in as a whole.
    for (Operation *op : llvm::reverse(ops)) {
      Value result = op->getResult(0);
      auto reading = llvm::find_if(result.getUsers(), isRowKernel);
      if (reading == result.user_end())
        continue;
      Operation *reader = *reading;
      std::string why;
      if (!fuse(op, reader, why))
        remarkRefused(op, getArgument(),
                      describe(op) + " does not move into " + describe(reader),
                      why);
    }
  }

  /// A kernel's result has the size of its out.
  static Value sizeSource(Value value) {
    while (auto kernel = value.getDefiningOp<DestinationStyleOpInterface>())
      value = kernel.getTiedOpOperand(cast<OpResult>(value))->get();
    return value;
  }

  /// The one number that a tensor holds everywhere, if that is known.
  static std::optional<APFloat> splatOf(Value value) {
    DenseFPElementsAttr dense;
    if (matchPattern(value, m_Constant(&dense)) && dense.isSplat())
      return dense.getSplatValue<APFloat>();
    FloatAttr scalar;
    auto splat = value.getDefiningOp<tensor::SplatOp>();
    if (splat && matchPattern(splat.getInput(), m_Constant(&scalar)))
      return scalar.getValue();
    return std::nullopt;
  }

  bool fuse(Operation *op, Operation *reader, std::string &why) {
    Value result = op->getResult(0);
    RowKernel kernel(reader);
    auto in = llvm::find_if(kernel.ins, [&](const RowKernel::In &in) {
      return in.value == result;
    });
    if (!result.hasOneUse() || in == kernel.ins.end()) {
      why = "it has other readers, or is needed whole";
      return false;
    }
    PortAttr port = in->port;
    if (port.getKind() == PortKind::Partials) {
      why = "it is folded before it is read";
      return false;
    }
    unsigned number = in - kernel.ins.begin();
    SmallVector<SmallVector<Value>> operands;
    OpBuilder b(op->getContext());
    for (Value operand : op->getOperands()) {
      std::optional<APFloat> number = splatOf(operand);
      if (!number) {
        operands.push_back(kernel.read(operand, port));
        continue;
      }
      bool inexact;
      number->convert(kernel.compute.getFloatSemantics(),
                      APFloat::rmNearestTiesToEven, &inexact);
      b.setInsertionPointToStart(&kernel.block());
      Value constant = arith::ConstantOp::create(
          b, op->getLoc(), FloatAttr::get(kernel.compute, *number));
      operands.emplace_back(port.numValues(), constant);
    }
    // After the constants, before every reader.
    Operation *after = nullptr;
    for (Operation &inner : kernel.block())
      if (!inner.hasTrait<OpTrait::ConstantLike>()) {
        after = &inner;
        break;
      }
    b.setInsertionPoint(after);
    for (auto [v, argument] : llvm::enumerate(kernel.arguments(number))) {
      IRMapping map;
      for (auto [operand, values] :
           llvm::zip_equal(op->getOperands(), operands))
        map.map(operand, values[v]);
      Operation *scalar = b.clone(*op, map);
      scalar->getResult(0).setType(kernel.compute);
      argument.replaceAllUsesWith(scalar->getResult(0));
    }
    kernel.removeIn(number);
    Type buffer = result.getType();
    std::string what = describe(op);
    IRRewriter rewriter(op->getContext());
    Operation *made = kernel.commit(rewriter, op);
    remarkFused(made, getArgument(), what + " moves into " + describe(made),
                buffer, port.getOrder());
    return true;
  }
};

//===----------------------------------------------------------------------===//
// What nobody needs
//===----------------------------------------------------------------------===//

struct MoeSimplifyKernels
    : moe::impl::MoeSimplifyKernelsBase<MoeSimplifyKernels> {
  void runOnOperation() override {
    SmallVector<Operation *> kernels;
    getOperation().walk([&](Operation *op) {
      if (isRowKernel(op))
        kernels.push_back(op);
    });
    // Readers first: what they do not read any more is a dead result.
    for (Operation *op : llvm::reverse(kernels)) {
      if (isOpTriviallyDead(op)) {
        remarkFused(op, getArgument(), describe(op) + " is read by nobody");
        op->erase();
        continue;
      }
      RowKernel kernel(op);
      std::string before = describe(op);
      bool changed = dropResults(kernel);
      changed |= dropRoundings(kernel);
      changed |= dropDeadOps(kernel);
      changed |= dropOperands(kernel);
      if (!changed)
        continue;
      IRRewriter rewriter(&getContext());
      Operation *made = kernel.commit(rewriter);
      remarkFused(made, getArgument(),
                  before + " is simplified to " + describe(made));
    }
  }

  static bool dropResults(RowKernel &kernel) {
    bool changed = false;
    for (unsigned i = kernel.outs.size(); i-- > 0;) {
      if (!kernel.outs[i].old.use_empty() ||
          kernel.outs.size() + kernel.folded.size() == 1)
        continue;
      // One result with columns has to say how many there are.
      RowKernel::Out out = kernel.outs[i];
      bool needed = out.port.hasColumns() && !kernel.columns &&
                    !hasColumnsWithout(kernel, i);
      if (needed)
        continue;
      if (!kernel.addends.empty())
        kernel.addends.erase(kernel.addends.begin() + i);
      kernel.removeOut(i);
      changed = true;
    }
    return changed;
  }

  static bool hasColumnsWithout(RowKernel &kernel, unsigned out) {
    for (const RowKernel::In &in : kernel.ins)
      if (in.port.hasColumns())
        return true;
    for (auto [i, other] : llvm::enumerate(kernel.outs))
      if (i != out && other.port.hasColumns())
        return true;
    return false;
  }

  /// Roundings of fusion whose rows are not stored any more.
  static bool dropRoundings(RowKernel &kernel) {
    bool changed = false;
    for (Operation &inner :
         llvm::make_early_inc_range(kernel.block().without_terminator())) {
      auto stored = dyn_cast<arith::TruncFOp>(inner);
      if (!stored || !stored->hasAttr(kStoredAttr))
        continue;
      bool kept = false;
      for (auto [i, out] : llvm::enumerate(kernel.outs))
        kept |= out.port.getKind() == PortKind::Rows &&
                cast<ShapedType>(out.init.getType()).getElementType() ==
                    stored.getType() &&
                llvm::is_contained(kernel.yielded(i), stored.getIn());
      if (kept)
        continue;
      for (Operation *user : llvm::make_early_inc_range(stored->getUsers()))
        if (auto back = dyn_cast<arith::ExtFOp>(user);
            back && back.getType() == stored.getIn().getType()) {
          back.getResult().replaceAllUsesWith(stored.getIn());
          changed = true;
        }
    }
    return changed;
  }

  static bool dropDeadOps(RowKernel &kernel) {
    bool changed = false;
    SmallVector<Operation *> inner;
    for (Operation &op : kernel.block().without_terminator())
      inner.push_back(&op);
    for (Operation *op : llvm::reverse(inner))
      if (isOpTriviallyDead(op)) {
        op->erase();
        changed = true;
      }
    return changed;
  }

  static bool dropOperands(RowKernel &kernel) {
    bool changed = false;
    for (unsigned i = kernel.ins.size(); i-- > 0;) {
      // What stands twice is read through its first place.
      for (unsigned j = 0; j < i; ++j)
        if (kernel.ins[i].value == kernel.ins[j].value &&
            kernel.ins[i].port == kernel.ins[j].port) {
          for (auto [second, first] :
               llvm::zip_equal(kernel.arguments(i), kernel.arguments(j)))
            second.replaceAllUsesWith(first);
          break;
        }
      if (!llvm::all_of(kernel.arguments(i),
                        [](Value value) { return value.use_empty(); }))
        continue;
      // Somebody has to say the number of columns.
      RowKernel::In in = kernel.ins[i];
      if (in.port.hasColumns() && !kernel.columns) {
        bool said = llvm::any_of(kernel.outs, [](const RowKernel::Out &out) {
          return out.port.hasColumns();
        });
        for (auto [j, other] : llvm::enumerate(kernel.ins))
          said |= j != i && other.port.hasColumns();
        if (!said)
          continue;
      }
      kernel.removeIn(i);
      changed = true;
    }
    return changed;
  }
};

} // namespace
