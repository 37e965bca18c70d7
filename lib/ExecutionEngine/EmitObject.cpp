// SPDX-License-Identifier: Apache-2.0
//===- EmitObject.cpp - from the LLVM dialect to an object file -----------===//
#include "moe/ExecutionEngine/EmitObject.h"
#include "mlir/ExecutionEngine/OptUtils.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/IR/DiagnosticHandler.h"
#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Verifier.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace moe;

namespace {
/// LLVM's own handler calls exit(1) at the first error.
class CollectErrors : public DiagnosticHandler {
public:
  bool handleDiagnostics(const DiagnosticInfo &info) override {
    if (info.getSeverity() != DS_Error)
      return true;
    raw_string_ostream os(text);
    if (!text.empty())
      os << "; ";
    DiagnosticPrinterRawOStream printer(os);
    info.print(printer);
    return true;
  }

  std::string text;
};

Error takeErrors(LLVMContext &context) {
  auto *handler =
      static_cast<const CollectErrors *>(context.getDiagHandlerPtr());
  if (handler->text.empty())
    return Error::success();
  return createStringError(handler->text);
}

/// `void _moe_packed_f(ptr args)` loads one descriptor pointer an argument and
/// calls `_mlir_ciface_f`.
LogicalResult addPackedForm(mlir::ModuleOp origin, Module &module,
                            const EntryPoint &entry) {
  Function *callee = module.getFunction("_mlir_ciface_" + entry.name);
  if (!callee || callee->isDeclaration())
    return origin.emitError()
           << "entry '" << entry.name
           << "' of moe.manifest has no function '_mlir_ciface_" << entry.name
           << "': give the function llvm.emit_c_interface";
  if (callee->arg_size() != entry.numArguments ||
      !callee->getReturnType()->isVoidTy() ||
      !all_of(callee->args(),
              [](Argument &arg) { return arg.getType()->isPointerTy(); }))
    return origin.emitError()
           << "entry '" << entry.name << "': moe.manifest says "
           << entry.numArguments
           << " memref arguments and no result, its C interface has "
           << callee->arg_size() << " arguments";
  LLVMContext &context = module.getContext();
  Type *pointer = PointerType::getUnqual(context);
  auto *packed = Function::Create(
      FunctionType::get(Type::getVoidTy(context), {pointer}, false),
      GlobalValue::ExternalLinkage, "_moe_packed_" + entry.name, module);
  IRBuilder<> builder(BasicBlock::Create(context, "", packed));
  SmallVector<Value *> arguments;
  for (unsigned i = 0; i < entry.numArguments; ++i)
    arguments.push_back(builder.CreateLoad(
        pointer,
        builder.CreateConstInBoundsGEP1_64(pointer, packed->getArg(0), i)));
  builder.CreateCall(callee, arguments);
  builder.CreateRetVoid();
  return success();
}
} // namespace

std::unique_ptr<Module> moe::translateForCPU(mlir::ModuleOp origin,
                                             ArrayRef<EntryPoint> entries,
                                             const CPUMachine &machine,
                                             LLVMContext &context) {
  context.setDiagnosticHandler(std::make_unique<CollectErrors>());
  std::unique_ptr<Module> module =
      mlir::translateModuleToLLVMIR(origin, context, "moe");
  if (!module)
    return nullptr;
  module->setDataLayout(machine.machine->createDataLayout());
  module->setTargetTriple(machine.machine->getTargetTriple());
  for (const EntryPoint &entry : entries)
    if (failed(addPackedForm(origin, *module, entry)))
      return nullptr;
  for (Function &function : *module) {
    if (function.isDeclaration())
      continue;
    // A function of the user's named expf would otherwise answer the calls
    // that the code generator makes to libm's.
    if (!function.getName().starts_with("_moe_packed_")) {
      function.setName("moe$" + function.getName());
      function.setLinkage(GlobalValue::InternalLinkage);
    }
    function.addFnAttr("target-cpu", machine.cpu);
    function.addFnAttr("target-features",
                       machine.machine->getTargetFeatureString());
    // No unwind tables: nothing throws through compiled code.
    function.addFnAttr(Attribute::NoUnwind);
    // Packed panels are large stack frames: running off a thread's stack has to
    // hit its guard page, not skip it.
    function.addFnAttr("probe-stack", "inline-asm");
  }
  return module;
}

Error moe::optimize(Module &module, const CPUMachine &machine,
                    unsigned optLevel) {
  if (Error error = mlir::makeOptimizingTransformer(
          optLevel, /*sizeLevel=*/0, machine.machine.get())(&module))
    return error;
  return takeErrors(module.getContext());
}

Error moe::emitObject(Module &module, const CPUMachine &machine,
                      SmallVectorImpl<char> &object) {
  raw_svector_ostream os(object);
  legacy::PassManager passes;
  [[maybe_unused]] bool cannot = machine.machine->addPassesToEmitFile(
      passes, os, nullptr, CodeGenFileType::ObjectFile);
  assert(!cannot && "every native code generator writes object files");
  passes.run(module);
  return takeErrors(module.getContext());
}
