// SPDX-License-Identifier: Apache-2.0
//===- Compiler.cpp - from a module of outside to a container -------------===//
#include "moe/ExecutionEngine/Compiler.h"
#include "mlir/IR/AsmState.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "moe/ExecutionEngine/AcceptedInput.h"
#include "moe/ExecutionEngine/EmitObject.h"
#include "moe/Pipelines/Pipelines.h"
#include "moe/Registration/Registration.h"
#include "moe/Runtime/Container.h"
#include "moe/Runtime/Cuda.h"
#include "moe/Runtime/GPUTarget.h"
#include "moe/Runtime/Manifest.h"
#include "moe/Runtime/Ptxas.h"
#include "moe/Runtime/Version.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/SourceMgr.h"

using namespace mlir;
using moe::CompilerInvocation;

static constexpr llvm::StringLiteral kStages[] = {
    "input", "differentiated", "expanded", "fused", "bufferized",
    "loops", "kernels",        "nvvm",     "llvm"};

llvm::ArrayRef<StringRef> moe::stageNames() {
  static const SmallVector<StringRef> list(std::begin(kStages),
                                           std::end(kStages));
  return list;
}

bool CompilerInvocation::setEmit(StringRef kind) {
  if (kind.consume_front("mlir-stage=")) {
    emit = Emit::Stage;
    stage = kind.str();
    return true;
  }
  std::optional<Emit> known = llvm::StringSwitch<std::optional<Emit>>(kind)
                                  .Case("module", Emit::Container)
                                  .Case("llvm", Emit::LLVM)
                                  .Case("object", Emit::Object)
                                  .Case("manifest", Emit::Manifest)
                                  .Default(std::nullopt);
  if (known)
    emit = *known;
  return known.has_value();
}

namespace {
/// The options of the driver, taken out of those for the pipeline.
struct DriverOptions {
  std::string cpu = "host";
  std::string features;
  unsigned optLevel = 2;
  /// For a GPU: the assembler; none if the driver has to do it.
  std::optional<moe::Ptxas> ptxas;
  std::string pipeline;
};

/// Prints the module under a heading; or, where `ended` is given, prints it
/// alone and ends the pipeline.
class StagePrinter : public PassWrapper<StagePrinter, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(StagePrinter)

  StagePrinter(StringRef stage, raw_ostream &os, bool *ended)
      : stage(stage), os(os), ended(ended) {}
  StringRef getArgument() const override { return "moe-print-stage"; }
  void runOnOperation() override {
    markAllAnalysesPreserved();
    if (!ended)
      os << "// -----// after " << stage << " //----- //\n";
    getOperation().print(os);
    os << "\n";
    if (!ended)
      return;
    // The one way to skip the passes that follow; the driver knows it.
    *ended = true;
    signalPassFailure();
  }

private:
  std::string stage;
  raw_ostream &os;
  bool *ended;
};

class Driver {
public:
  Driver(CompilerInvocation &invocation, raw_ostream &os)
      : invocation(invocation), os(os) {}

  LogicalResult run();

private:
  LogicalResult readOptions();
  LogicalResult choosePtxas(const moe::GPUTarget &gpu,
                            const std::string &named);
  LogicalResult checkStages();
  OwningOpRef<ModuleOp> parse();
  LogicalResult buildPipeline(PassManager &pm);
  void atStage(StringRef stage, OpPassManager &pm);
  LogicalResult emit(ModuleOp module);

  /// An error that is not about a place in the input.
  LogicalResult error(const llvm::Twine &message) {
    llvm::errs() << "error: " << message << "\n";
    return failure();
  }
  LogicalResult error(llvm::Error failure) {
    return error(llvm::toString(std::move(failure)));
  }

  CompilerInvocation &invocation;
  raw_ostream &os;
  DialectRegistry registry;
  MLIRContext context{MLIRContext::Threading::DISABLED};
  std::shared_ptr<llvm::SourceMgr> source = std::make_shared<llvm::SourceMgr>();
  DriverOptions options;
  moe::CPUMachine machine;
  /// Emit::Stage has printed its stage.
  bool ended = false;
};
} // namespace

LogicalResult Driver::readOptions() {
  llvm::Expected<std::string> target =
      moe::resolveTarget(invocation.target, invocation.options);
  if (!target)
    return error(target.takeError());
  invocation.target = *target;
  const moe::GPUTarget *gpu = moe::findGPUTarget(invocation.target);
  // Host code of a GPU module only packs arguments: any CPU will do.
  if (gpu)
    options.cpu = "x86-64";
  std::string ptxas;
  SmallVector<std::string> rest;
  for (const std::string &word : invocation.options) {
    auto [key, value] = StringRef(word).split('=');
    if (key.empty() || key.size() == word.size())
      return error("option '" + word + "' is not of the form key=value");
    if (key == "cpu") {
      options.cpu = value.str();
    } else if (key == "features") {
      options.features = value.str();
    } else if (key == "opt-level") {
      if (value.getAsInteger(10, options.optLevel) || options.optLevel > 3)
        return error("opt-level is '" + value + "', expected 0, 1, 2 or 3");
    } else if (gpu && key == "ptxas") {
      ptxas = value.str();
    } else {
      rest.push_back(word);
    }
  }
  options.pipeline = llvm::join(rest, " ");
  if (gpu && failed(choosePtxas(*gpu, ptxas)))
    return failure();
  llvm::Expected<moe::CPUMachine> created =
      moe::CPUMachine::create(options.cpu, options.features, options.optLevel);
  if (!created)
    return error(created.takeError());
  machine = std::move(*created);
  return success();
}

LogicalResult Driver::choosePtxas(const moe::GPUTarget &gpu,
                                  const std::string &named) {
  if (named == "none")
    return success();
  options.ptxas = named.empty()
                      ? moe::findPtxas(moe::cudaDriverVersion() / 1000)
                      : moe::askPtxas(named);
  if (!options.ptxas)
    return named.empty() ? success()
                         : error("ptxas is '" + named +
                                 "', which does not answer as NVIDIA's "
                                 "assembler; give its path, or none");
  if (options.ptxas->cuda() < gpu.cuda)
    return error("'" + options.ptxas->path + "' is of CUDA " +
                 moe::cudaVersionText(options.ptxas->cuda()) +
                 " and does not know '" + gpu.name + "'; install CUDA " +
                 moe::cudaVersionText(gpu.cuda) +
                 " or later (pip install nvidia-cuda-nvcc), or leave PTX for "
                 "the driver with ptxas=none");
  return success();
}

LogicalResult Driver::checkStages() {
  auto check = [&](StringRef stage) {
    if (llvm::is_contained(moe::stageNames(), stage))
      return success();
    return error("no stage '" + stage + "'; the stages are " +
                 llvm::join(moe::stageNames(), ", "));
  };
  for (const std::string &stage : invocation.printAfter)
    if (failed(check(stage)))
      return failure();
  if (invocation.emit == CompilerInvocation::Emit::Stage)
    return check(invocation.stage);
  return success();
}

OwningOpRef<ModuleOp> Driver::parse() {
  if (invocation.startAtLLVM) {
    context.appendDialectRegistry(registry);
    return parseSourceFile<ModuleOp>(source, ParserConfig(&context));
  }
  moe::loadAcceptedDialects(context, registry);
  OwningOpRef<ModuleOp> module = moe::parseAccepted(source, context);
  // What the passes need is loaded only now that the input has been checked.
  context.appendDialectRegistry(registry);
  return module;
}

void Driver::atStage(StringRef stage, OpPassManager &pm) {
  if (invocation.atStage)
    invocation.atStage(stage, pm);
  if (llvm::is_contained(invocation.printAfter, stage))
    pm.addPass(
        std::make_unique<StagePrinter>(stage, llvm::errs(), /*ended=*/nullptr));
  if (invocation.emit == CompilerInvocation::Emit::Stage &&
      invocation.stage == stage)
    pm.addPass(std::make_unique<StagePrinter>(stage, os, &ended));
}

LogicalResult Driver::buildPipeline(PassManager &pm) {
  if (invocation.startAtLLVM) {
    atStage("llvm", pm);
    return success();
  }
  atStage("input", pm);
  if (invocation.emit == CompilerInvocation::Emit::Stage &&
      invocation.stage == "input")
    return success();
  if (invocation.target != "cpu") {
    moe::MoeToNVVMOptions gpuOptions;
    std::string text =
        options.pipeline + " arch=" + invocation.target +
        " ptxas=" + (options.ptxas ? options.ptxas->path : "none");
    if (failed(gpuOptions.parseFromString(text, llvm::errs())))
      return error("the options of moe-to-nvvm cannot be read: '" +
                   options.pipeline + "'; moe-opt --help lists them");
    moe::buildMoeToNVVMPipeline(
        pm, gpuOptions,
        [&](StringRef stage, OpPassManager &at) { atStage(stage, at); });
    return success();
  }
  moe::MoeToCPUOptions pipelineOptions;
  std::string text = options.pipeline + " features=" + machine.features;
  if (failed(pipelineOptions.parseFromString(text, llvm::errs())))
    return error("the options of moe-to-cpu cannot be read: '" +
                 options.pipeline + "'; moe-opt --help lists them");
  moe::buildMoeToCPUPipeline(
      pm, pipelineOptions,
      [&](StringRef stage, OpPassManager &at) { atStage(stage, at); });
  return success();
}

static llvm::json::Value toJSON(Attribute attr) {
  if (auto dict = dyn_cast<DictionaryAttr>(attr)) {
    llvm::json::Object object;
    for (NamedAttribute item : dict)
      object[item.getName().strref()] = toJSON(item.getValue());
    return object;
  }
  if (auto array = dyn_cast<ArrayAttr>(attr)) {
    llvm::json::Array list;
    for (Attribute item : array)
      list.push_back(toJSON(item));
    return list;
  }
  if (auto text = dyn_cast<StringAttr>(attr))
    return text.getValue();
  if (auto flag = dyn_cast<BoolAttr>(attr))
    return flag.getValue();
  if (auto number = dyn_cast<IntegerAttr>(attr))
    return number.getValue().getSExtValue();
  if (auto number = dyn_cast<FloatAttr>(attr))
    return number.getValueAsDouble();
  return nullptr;
}

LogicalResult Driver::emit(ModuleOp module) {
  auto attr = module->getAttrOfType<DictionaryAttr>("moe.manifest");
  if (!attr)
    return module.emitError("the module has no moe.manifest; "
                            "moe-emit-manifest makes it");
  std::string manifestText = llvm::formatv("{0}", toJSON(attr)).str();
  // As the loader will read it: an error is found here, not by the user.
  llvm::Expected<moe::Manifest> manifest = moe::Manifest::parse(manifestText);
  if (!manifest)
    return error(manifest.takeError());
  if (invocation.emit == CompilerInvocation::Emit::Manifest) {
    os << llvm::formatv("{0:2}\n", toJSON(attr));
    return success();
  }

  SmallVector<moe::EntryPoint> entries;
  for (const auto &entry : manifest->entries)
    entries.push_back(
        {entry.getKey().str(), unsigned(entry.second.tensors.size() + 1)});
  llvm::sort(entries,
             [](const auto &a, const auto &b) { return a.name < b.name; });
  llvm::LLVMContext llvmContext;
  std::unique_ptr<llvm::Module> llvmModule =
      moe::translateForCPU(module, entries, machine, llvmContext);
  if (!llvmModule)
    return failure();
  if (llvm::Error failed =
          moe::optimize(*llvmModule, machine, options.optLevel))
    return error(std::move(failed));
  if (invocation.emit == CompilerInvocation::Emit::LLVM) {
    llvmModule->print(os, nullptr);
    return success();
  }
  SmallVector<char, 0> object;
  if (llvm::Error failed = moe::emitObject(*llvmModule, machine, object))
    return error(std::move(failed));
  if (invocation.emit == CompilerInvocation::Emit::Object) {
    os.write(object.data(), object.size());
    return success();
  }
  moe::Container container;
  container.target = invocation.target;
  container.cpu = machine.cpu;
  container.features = machine.features;
  container.compiler = moe::versionString();
  if (options.ptxas)
    container.cuda = options.ptxas->cuda();
  container.manifest = manifestText;
  container.object = StringRef(object.data(), object.size());
  container.write(os);
  return success();
}

LogicalResult Driver::run() {
  moe::registerAll(registry);
  if (failed(readOptions()) || failed(checkStages()))
    return failure();
  context.printOpOnDiagnostic(false);
  source->AddNewSourceBuffer(std::move(invocation.input), llvm::SMLoc());
  SourceMgrDiagnosticHandler handler(*source, &context);
  OwningOpRef<ModuleOp> module = parse();
  if (!module)
    return failure();
  PassManager pm(&context);
  if (failed(buildPipeline(pm)))
    return failure();
  LogicalResult result = pm.run(*module);
  if (ended)
    return success();
  if (failed(result))
    return failure();
  if (invocation.emit == CompilerInvocation::Emit::Stage)
    return error("target '" + invocation.target + "' has no stage '" +
                 invocation.stage + "'" +
                 (invocation.stage == "differentiated"
                      ? " without gradients; ask for them with grad="
                      : ""));
  return emit(*module);
}

LogicalResult moe::compile(CompilerInvocation invocation, raw_ostream &os) {
  return Driver(invocation, os).run();
}
