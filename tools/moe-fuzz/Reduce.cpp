// SPDX-License-Identifier: Apache-2.0
#include "Reduce.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::fuzz;

/// Ops and arguments that nobody reads.
static void dropUnused(func::FuncOp function) {
  Block &body = function.getBody().front();
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(body)))
    if (isOpTriviallyDead(&op))
      op.erase();
  for (int i = function.getNumArguments() - 1; i >= 0; --i)
    if (function.getArgument(i).use_empty())
      (void)function.eraseArgument(i);
}

static void setType(func::FuncOp function) {
  Block &body = function.getBody().front();
  function.setFunctionType(
      FunctionType::get(function.getContext(), body.getArgumentTypes(),
                        body.getTerminator()->getOperandTypes()));
}

static bool dropResult(func::FuncOp function, unsigned i) {
  Operation *ret = function.getBody().front().getTerminator();
  if (i >= ret->getNumOperands() || ret->getNumOperands() == 1)
    return false;
  ret->eraseOperand(i);
  function.removeResAttrsAttr();
  setType(function);
  dropUnused(function);
  return true;
}

/// Result `i` of all ops' becomes an argument; dynamic sizes are `dim`.
static bool makeArgument(func::FuncOp function, unsigned i, StringRef dim) {
  Block &body = function.getBody().front();
  for (Operation &op : body)
    for (Value value : op.getResults()) {
      if (i-- != 0)
        continue;
      auto type = dyn_cast<RankedTensorType>(value.getType());
      if (!type || value.use_empty() || (type.hasStaticShape() && dim != "T"))
        return false;
      Builder b(function.getContext());
      SmallVector<Attribute> dims;
      for (int64_t size : type.getShape())
        dims.push_back(ShapedType::isDynamic(size)
                           ? Attribute(b.getStringAttr(dim))
                           : b.getI64IntegerAttr(size));
      auto attrs =
          b.getDictionaryAttr(b.getNamedAttr("moe.dims", b.getArrayAttr(dims)));
      unsigned at = function.getNumArguments();
      if (failed(function.insertArgument(at, type, attrs, value.getLoc())))
        return false;
      value.replaceAllUsesWith(function.getArgument(at));
      dropUnused(function);
      return true;
    }
  return false;
}

OwningOpRef<ModuleOp>
fuzz::reduceProgram(ModuleOp module, llvm::function_ref<bool(ModuleOp)> fails) {
  OwningOpRef<ModuleOp> best = module.clone();
  auto attempt = [&](llvm::function_ref<bool(func::FuncOp)> change) {
    OwningOpRef<ModuleOp> smaller = best->clone();
    if (!change(smaller->lookupSymbol<func::FuncOp>("f")) || !fails(*smaller))
      return false;
    best = std::move(smaller);
    return true;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (unsigned i = 0; i < 64; ++i)
      while (attempt([&](func::FuncOp f) { return dropResult(f, i); }))
        changed = true;
    for (unsigned i = 0; i < 64; ++i)
      for (StringRef dim : {"T", "2*T", "3*T"})
        if (attempt([&](func::FuncOp f) { return makeArgument(f, i, dim); })) {
          changed = true;
          break;
        }
  }
  return best;
}
