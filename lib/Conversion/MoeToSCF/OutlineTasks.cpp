// SPDX-License-Identifier: Apache-2.0
// moe-outline-tasks: see Passes.td.
#include "moe/Conversion/EntryPoints.h"
#include "moe/Conversion/MoeToSCF/Passes.h"

#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Transforms/RegionUtils.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEOUTLINETASKS
#include "moe/Conversion/MoeToSCF/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;

/// The runtime's entry point; both ends know it by this name.
static constexpr llvm::StringLiteral kParallelFor = "moe_rt_parallel_for";

namespace {
struct MoeOutlineTasks
    : public mlir::moe::impl::MoeOutlineTasksBase<MoeOutlineTasks> {
  void runOnOperation() override {
    SmallVector<scf::ParallelOp> loops;
    getOperation().walk([&](scf::ParallelOp loop) { loops.push_back(loop); });
    for (auto function : getOperation().getOps<func::FuncOp>())
      mlir::moe::prepareEntryPoint(function);
    SymbolTable symbols(getOperation());
    for (scf::ParallelOp loop : loops)
      if (failed(outline(loop, symbols)))
        return signalPassFailure();
  }

private:
  LogicalResult outline(scf::ParallelOp loop, SymbolTable &symbols);
  func::FuncOp runtimeFunction(SymbolTable &symbols);
};
} // namespace

static FunctionType taskType(MLIRContext *context) {
  return FunctionType::get(
      context,
      {IntegerType::get(context, 64), LLVM::LLVMPointerType::get(context)}, {});
}

void mlir::moe::prepareEntryPoint(func::FuncOp function) {
  // The host calls public functions with pointers to descriptors. Only these:
  // a wrapper would also rename the runtime's function.
  if (function.isPublic() && !function.isDeclaration())
    function->setAttr(LLVM::LLVMDialect::getEmitCWrapperAttrName(),
                      UnitAttr::get(function.getContext()));
  // What the attributes of our dialect say of tensors is in the manifest by
  // now, and is wrong of the pointers that come.
  auto ours = [](NamedAttribute attr) {
    return attr.getName().strref().starts_with("moe.");
  };
  for (NamedAttribute attr : llvm::to_vector(function->getDiscardableAttrs()))
    if (ours(attr))
      function->removeAttr(attr.getName());
  for (unsigned i = 0; i < function.getNumArguments(); ++i)
    for (NamedAttribute attr : llvm::to_vector(
             mlir::function_interface_impl::getArgAttrs(function, i)))
      if (ours(attr))
        function.removeArgAttr(i, attr.getName());
}

func::FuncOp MoeOutlineTasks::runtimeFunction(SymbolTable &symbols) {
  if (auto function = symbols.lookup<func::FuncOp>(kParallelFor))
    return function;
  MLIRContext *context = &getContext();
  auto function = func::FuncOp::create(
      getOperation().getLoc(), kParallelFor,
      FunctionType::get(context,
                        {taskType(context), LLVM::LLVMPointerType::get(context),
                         IntegerType::get(context, 64)},
                        {}));
  function.setPrivate();
  symbols.insert(function, getOperation().getBody()->begin());
  return function;
}

LogicalResult MoeOutlineTasks::outline(scf::ParallelOp loop,
                                       SymbolTable &symbols) {
  if (loop.getNumLoops() != 1 || !loop.getInitVals().empty() ||
      !matchPattern(loop.getLowerBound()[0], m_Zero()) ||
      !matchPattern(loop.getStep()[0], m_One()))
    return loop.emitOpError() << "is not a loop over tasks: one dimension from "
                                 "0 in steps of 1, without reductions";
  if (loop->getParentOfType<scf::ParallelOp>())
    return loop.emitOpError() << "is inside another parallel loop; tasks do "
                                 "not start tasks: make it scf.for";
  auto parent = loop->getParentOfType<func::FuncOp>();
  if (!parent)
    return loop.emitOpError() << "is not inside a func.func; run "
                                 "moe-outline-tasks before functions are "
                                 "converted";

  // What the body uses: constants are made again, all else is passed.
  SetVector<Value> used;
  getUsedValuesDefinedAbove(loop.getRegion(), used);
  SmallVector<Value> constants, captured;
  for (Value value : used) {
    Operation *op = value.getDefiningOp();
    (op && op->hasTrait<OpTrait::ConstantLike>() ? constants : captured)
        .push_back(value);
  }
  ImplicitLocOpBuilder b(loop.getLoc(), loop);
  LLVMTypeConverter converter(&getContext());
  SmallVector<Type> fields;
  for (Value value : captured) {
    Type type = converter.convertType(value.getType());
    if (!type)
      return loop.emitOpError() << "uses a value of type " << value.getType()
                                << ", which cannot be passed to a task; "
                                   "bufferize before moe-outline-tasks";
    fields.push_back(type);
  }
  auto context = LLVM::LLVMStructType::getLiteral(&getContext(), fields);
  auto pointer = LLVM::LLVMPointerType::get(&getContext());
  Type i64 = b.getI64Type();

  // The task.
  auto task =
      func::FuncOp::create(loop.getLoc(), (parent.getName() + "_task").str(),
                           taskType(&getContext()));
  task.setPrivate();
  task->setAttr("llvm.linkage",
                LLVM::LinkageAttr::get(&getContext(), LLVM::Linkage::Internal));
  symbols.insert(task, std::next(Block::iterator(parent)));
  Block *entry = task.addEntryBlock();
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(entry);
    IRMapping map;
    for (Value value : constants)
      b.clone(*value.getDefiningOp(), map);
    Value fromContext;
    if (!captured.empty())
      fromContext = LLVM::LoadOp::create(b, context, entry->getArgument(1));
    for (auto [index, value] : llvm::enumerate(captured)) {
      Value field = LLVM::ExtractValueOp::create(b, fromContext, index);
      if (field.getType() != value.getType())
        field = UnrealizedConversionCastOp::create(b, value.getType(), field)
                    .getResult(0);
      map.map(value, field);
    }
    map.map(
        loop.getInductionVars()[0],
        arith::IndexCastOp::create(b, b.getIndexType(), entry->getArgument(0)));
    for (Operation &op : loop.getBody()->without_terminator())
      b.clone(op, map);
    func::ReturnOp::create(b);
  }

  // The call. The context lives as long as the function's frame, so it is
  // allocated where a loop around it does not repeat it.
  func::FuncOp runtime = runtimeFunction(symbols);
  Value stack;
  if (captured.empty()) {
    stack = LLVM::ZeroOp::create(b, pointer);
  } else {
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(&parent.front());
      Value one = LLVM::ConstantOp::create(b, i64, b.getI64IntegerAttr(1));
      stack = LLVM::AllocaOp::create(b, pointer, context, one);
    }
    Value all = LLVM::UndefOp::create(b, context);
    for (auto [index, value] : llvm::enumerate(captured)) {
      Value field = value;
      if (field.getType() != fields[index])
        field = UnrealizedConversionCastOp::create(b, fields[index], field)
                    .getResult(0);
      all = LLVM::InsertValueOp::create(b, all, field, index);
    }
    LLVM::StoreOp::create(b, all, stack);
  }
  Value function = func::ConstantOp::create(b, taskType(&getContext()),
                                            FlatSymbolRefAttr::get(task));
  Value count = arith::IndexCastOp::create(b, i64, loop.getUpperBound()[0]);
  func::CallOp::create(b, runtime, ValueRange{function, stack, count});
  loop.erase();
  return success();
}
