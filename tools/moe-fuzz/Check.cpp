// SPDX-License-Identifier: Apache-2.0
//
// A program goes one of three ways, each ending in moe-to-cpu: as it is; as its
// joint function, simplified and cut in two; or differentiated twice. The
// module is interpreted after every pass that changes it, for as long as it is
// on tensors, and called as compiled code at the end.

#include "Check.h"

#include "../moe-run/Arguments.h"
#include "../moe-run/Compiled.h"
#include "Compare.h"
#include "Rng.h"

#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/ExecutionEngine/CPUMachine.h"
#include "moe/Interpreter/Interpreter.h"
#include "moe/Pipelines/Pipelines.h"
#include "moe/Runtime/Module.h"

#include "mlir/Bytecode/BytecodeWriter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassInstrumentation.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::fuzz;

namespace {

/// Calls an entry of a module, whichever way.
using Runner = llvm::function_ref<FailureOr<Arrays>(func::FuncOp, Arrays)>;

class Check {
public:
  Check(MLIRContext *context, const CheckOptions &options)
      : context(context), options(options), rng(options.seed * 2 + 1),
        diagnostics(context, [this](Diagnostic &diagnostic) {
          if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
            errors += diagnostic.str() + "\n";
        }) {}

  Outcome run(StringRef text);

private:
  friend class Watch;

  // The program.
  LogicalResult drawInputs();
  bool dependsOnInputs();
  func::FuncOp entry() {
    auto functions = module->getOps<func::FuncOp>();
    auto it =
        llvm::find_if(functions, [](func::FuncOp f) { return f.isPublic(); });
    return *it;
  }

  // Running it.
  FailureOr<Arrays> evaluate(ModuleOp module, const Arrays &inputs,
                             Runner runner);
  FailureOr<Arrays> interpretAll(ModuleOp module, const Arrays &inputs,
                                 bool round = false);
  void compareAfter(StringRef place, ModuleOp module);

  // Passes.
  bool runPasses(llvm::function_ref<void(OpPassManager &)> build);
  bool differentiate();
  bool compareGradients(const Arrays &before, ModuleOp primalModule,
                        ArrayRef<int64_t> wrt, ArrayRef<int64_t> without);
  std::string compareDifferences(const Arrays &joint, const Arrays &given,
                                 size_t numResults, ModuleOp primalModule,
                                 ArrayRef<int64_t> wrt,
                                 ArrayRef<int64_t> without);
  void partition();
  void toCPU();
  void compareCompiled(ModuleOp before, const ::moe::Module &compiled);

  void fail(const Twine &message) {
    if (problem.empty())
      problem = (message + (errors.empty() ? "" : "\n" + errors)).str();
  }
  bool failed() const { return !problem.empty(); }

  MLIRContext *context;
  const CheckOptions &options;
  Rng rng;
  std::string errors;
  ScopedDiagnosticHandler diagnostics;

  OwningOpRef<ModuleOp> module;
  llvm::SourceMgr sources;
  int64_t tokens = 0;
  /// Arguments of @f, then cotangents.
  Arrays inputs;
  /// Results of @f, then gradients.
  Arrays reference;
  std::string problem;
  CoverageCells cells;
  bool planted = false;
};

/// Compares after every pass; sees what each pass is given.
class Watch : public PassInstrumentation {
public:
  explicit Watch(Check &check) : check(check) {}

  void runBeforePass(Pass *pass, Operation *op) override {
    if (pass->getArgument().empty() || check.failed())
      return;
    // No op of the table is left after that, and walks take long.
    if (!lowered)
      addCells(pass->getArgument(), op, check.cells);
    lowered |= pass->getArgument() == "convert-moe-to-scf";
    before.emplace_back();
    if (!onBuffers || breaks(pass))
      before.back().emplace(op);
  }

  void runAfterPass(Pass *pass, Operation *op) override {
    if (pass->getArgument().empty() || check.failed())
      return;
    if (check.options.verbose)
      llvm::errs() << "moe-fuzz: " << pass->getArgument() << "\n";
    std::optional<OperationFingerPrint> old = before.pop_back_val();
    bool changed = !old || OperationFingerPrint(op) != *old;
    if (changed && breaks(pass))
      check.planted |= check.options.fault->plant(op);
    if (onBuffers || !changed)
      return;
    auto module = dyn_cast<ModuleOp>(op);
    if (!module)
      module = op->getParentOfType<ModuleOp>();
    // Once on buffers, the program is run again only when it is compiled.
    onBuffers |= !module || !isOnTensors(module);
    if (onBuffers)
      return;
    if (failed(verify(module)))
      return check.fail("after " + pass->getArgument() +
                        ": the module is not valid");
    check.compareAfter(pass->getArgument(), module);
  }

  void runAfterPassFailed(Pass *pass, Operation *) override {
    check.fail(pass->getArgument() + " failed");
  }

private:
  /// Whether the fault is one of that pass.
  bool breaks(Pass *pass) const {
    const Fault *fault = check.options.fault;
    return fault && fault->pass == pass->getArgument();
  }
  static bool isOnTensors(ModuleOp module) {
    return !module
                .walk([](Operation *op) {
                  auto onBuffers = [](Type type) {
                    return isa<BaseMemRefType>(type);
                  };
                  if (auto function = dyn_cast<func::FuncOp>(op))
                    return llvm::any_of(function.getArgumentTypes(), onBuffers)
                               ? WalkResult::interrupt()
                               : WalkResult::advance();
                  return llvm::any_of(op->getOperandTypes(), onBuffers) ||
                                 llvm::any_of(op->getResultTypes(), onBuffers)
                             ? WalkResult::interrupt()
                             : WalkResult::advance();
                })
                .wasInterrupted();
  }

  Check &check;
  SmallVector<std::optional<OperationFingerPrint>> before;
  bool onBuffers = false, lowered = false;
};

} // namespace

//===----------------------------------------------------------------------===//
// The program
//===----------------------------------------------------------------------===//

static FailureOr<Arrays> drawArguments(ModuleOp module, int64_t tokens,
                                       uint64_t seed,
                                       const llvm::SourceMgr &sources) {
  llvm::Expected<run::Entry> entry = run::findEntry(module, "f", sources);
  if (!entry) {
    llvm::consumeError(entry.takeError());
    return failure();
  }
  run::ArgumentOptions options;
  options.seed = seed;
  options.sentinels = seed % 3 == 0;
  for (const run::Parameter &parameter : entry->parameters)
    if (llvm::any_of(parameter.dims,
                     [](StringRef dim) { return dim.contains("T"); })) {
      options.dims = {"T=" + std::to_string(tokens)};
      break;
    }
  llvm::Expected<std::vector<NDArray>> arguments =
      run::makeArguments(*entry, options);
  if (!arguments) {
    llvm::consumeError(arguments.takeError());
    return failure();
  }
  return std::move(*arguments);
}

LogicalResult Check::drawInputs() {
  // Zero tokens now and then; they show nothing to the coverage table.
  tokens = rng.percent(4) ? 0 : 1 + rng.below(8);
  FailureOr<Arrays> drawn =
      drawArguments(*module, tokens, options.seed, sources);
  if (mlir::failed(drawn))
    return failure();
  inputs = std::move(*drawn);
  return success();
}

/// Whether every float result changes with the inputs.
bool Check::dependsOnInputs() {
  FailureOr<Arrays> other =
      drawArguments(*module, tokens, options.seed + 1, sources);
  if (mlir::failed(other))
    return false;
  FailureOr<Arrays> results = interpretAll(*module, *other);
  if (mlir::failed(results))
    return false;
  for (auto [a, b] : llvm::zip_equal(reference, *results))
    if (a.isFloat() && !differsSomewhere(a, b))
      return false;
  return !reference.empty();
}

//===----------------------------------------------------------------------===//
// Running it
//===----------------------------------------------------------------------===//

/// Results of the function and its gradients, of a module in any form; where
/// backward is split too, the gradients again.
FailureOr<Arrays> Check::evaluate(ModuleOp module, const Arrays &inputs,
                                  Runner runner) {
  auto forward = module.lookupSymbol<func::FuncOp>("f_forward");
  if (!forward) {
    for (auto function : module.getOps<func::FuncOp>())
      if (function.isPublic())
        return runner(function, inputs);
    return failure();
  }
  auto numArguments = forward->getAttrOfType<IntegerAttr>("fuzz.arguments");
  auto numResults = forward->getAttrOfType<IntegerAttr>("fuzz.results");
  auto first = inputs.begin() + numArguments.getInt();
  Arrays arguments(inputs.begin(), first), cotangents(first, inputs.end());
  FailureOr<Arrays> outs = runner(forward, arguments);
  if (mlir::failed(outs))
    return failure();
  // Arguments of a later function, as moe.residuals lists them.
  auto pass = [&](func::FuncOp function, Arrays given, const Arrays &arguments,
                  const Arrays &results) {
    for (auto item : function->getAttrOfType<ArrayAttr>("moe.residuals")
                         .getAsRange<DictionaryAttr>()) {
      int64_t index = item.getAs<IntegerAttr>("index").getInt();
      bool argument = item.getAs<StringAttr>("kind") == "argument";
      given.push_back(argument ? arguments[index] : results[index]);
    }
    return given;
  };
  auto backward = module.lookupSymbol<func::FuncOp>("f_backward");
  Arrays given = pass(backward, cotangents, arguments, *outs);
  Arrays all(outs->begin(), outs->begin() + numResults.getInt());
  FailureOr<Arrays> gradients = runner(backward, given);
  if (mlir::failed(gradients))
    return failure();
  llvm::append_range(all, *gradients);
  auto input = module.lookupSymbol<func::FuncOp>("f_backward_input");
  if (!input)
    return all;
  // The split form gives the same gradients once more.
  auto weight = module.lookupSymbol<func::FuncOp>("f_backward_weight");
  FailureOr<Arrays> early = runner(input, given);
  if (mlir::failed(early))
    return failure();
  FailureOr<Arrays> late = runner(weight, pass(weight, {}, given, *early));
  if (mlir::failed(late))
    return failure();
  auto split = forward->getAttrOfType<DenseBoolArrayAttr>("fuzz.split");
  size_t nextEarly = 0, nextLate = 0;
  for (bool isLate : split.asArrayRef())
    all.push_back(isLate ? (*late)[nextLate++] : (*early)[nextEarly++]);
  return all;
}

FailureOr<Arrays> Check::interpretAll(ModuleOp module, const Arrays &inputs,
                                      bool round) {
  return evaluate(module, inputs,
                  [&](func::FuncOp f, Arrays arguments) -> FailureOr<Arrays> {
                    auto values = interpret(f->getParentOfType<ModuleOp>(),
                                            f.getName(), arguments, {round});
                    if (mlir::failed(values))
                      return failure();
                    return Arrays(values->begin(), values->end());
                  });
}

void Check::compareAfter(StringRef place, ModuleOp module) {
  // moe-differentiate changes what the module is; it is compared apart.
  if (place == "moe-differentiate" || place == "moe-partition")
    return;
  FailureOr<Arrays> results = interpretAll(module, inputs);
  if (mlir::failed(results))
    return fail("after " + place + ": the interpreter refuses the program");
  if (std::string message = compareAll(reference, *results); !message.empty())
    fail("after " + place + ": " + message);
}

//===----------------------------------------------------------------------===//
// Passes
//===----------------------------------------------------------------------===//

bool Check::runPasses(llvm::function_ref<void(OpPassManager &)> build) {
  PassManager pm(context);
  // Watch verifies what a pass changed on tensors. Later the verifier would
  // take longer than the passes.
  pm.enableVerifier(false);
  pm.addInstrumentation(std::make_unique<Watch>(*this));
  build(pm);
  if (mlir::failed(pm.run(*module)))
    fail("the passes failed");
  return !failed();
}

/// The only public function becomes its joint function, and the only one left.
bool Check::differentiate() {
  func::FuncOp primal = entry();
  std::string name = primal.getName().str();
  MoeDifferentiateOptions pass;
  pass.entry = name;
  SmallVector<int64_t> wrt, without;
  for (auto [i, type] : llvm::enumerate(primal.getArgumentTypes()))
    if (isa<FloatType>(getElementTypeOrSelf(type)) && rng.percent(80))
      wrt.push_back(i);
  for (auto [i, type] : llvm::enumerate(primal.getResultTypes()))
    if (isa<FloatType>(getElementTypeOrSelf(type)) && rng.percent(10))
      without.push_back(i);
  if (wrt.empty())
    return false;
  for (int64_t i : wrt)
    pass.wrt.push_back(std::to_string(i));
  pass.withoutCotangent = without;
  OwningOpRef<ModuleOp> before = module->clone();
  if (!runPasses(
          [&](OpPassManager &pm) { pm.addPass(createMoeDifferentiate(pass)); }))
    return false;
  module->lookupSymbol(name)->erase();
  Arrays results = reference;
  for (auto [i, array] : llvm::enumerate(results)) {
    if (!array.isFloat() || llvm::is_contained(without, i))
      continue;
    // Unspecified rows have unspecified cotangents: nothing may read them.
    NDArray cotangent(array.dtype(), array.shape());
    for (int64_t n = 0; n < array.size(); ++n)
      cotangent.f(n) =
          std::isnan(array.f(n)) ? NAN : roundTo(array.dtype(), rng.normal());
    inputs.push_back(std::move(cotangent));
  }
  FailureOr<Arrays> joint = interpretAll(*module, inputs);
  if (mlir::failed(joint)) {
    fail("after moe-differentiate: the interpreter refuses the program");
    return false;
  }
  reference = std::move(*joint);
  if (reference.size() != results.size() + wrt.size()) {
    fail("after moe-differentiate: " + Twine(reference.size()) + " results");
    return false;
  }
  return compareGradients(results, *before, wrt, without);
}

/// The gradients of the joint function against differences, where it is and,
/// as numbers of few bits lie on kinks now and then, beside it.
bool Check::compareGradients(const Arrays &before, ModuleOp primalModule,
                             ArrayRef<int64_t> wrt, ArrayRef<int64_t> without) {
  Arrays results(reference.begin(), reference.begin() + before.size());
  if (std::string message = compareAll(before, results); !message.empty()) {
    fail("after moe-differentiate: " + message);
    return false;
  }
  std::string message = compareDifferences(reference, inputs, before.size(),
                                           primalModule, wrt, without);
  if (message.empty())
    return true;
  Arrays beside = inputs;
  for (int64_t i : wrt)
    for (int64_t j = 0; j < beside[i].size(); ++j)
      beside[i].f(j) += 1e-3 * rng.normal();
  FailureOr<Arrays> joint = interpretAll(*module, beside);
  if (succeeded(joint))
    message = compareDifferences(*joint, beside, before.size(), primalModule,
                                 wrt, without);
  if (!message.empty())
    fail("after moe-differentiate: " + message);
  return !failed();
}

/// <gradients, direction> against a central difference of <cotangents, results>
/// along a random direction. `joint` are results and gradients at `given`,
/// arguments and cotangents.
std::string Check::compareDifferences(const Arrays &joint, const Arrays &given,
                                      size_t numResults, ModuleOp primalModule,
                                      ArrayRef<int64_t> wrt,
                                      ArrayRef<int64_t> without) {
  size_t numArguments = given.size();
  for (size_t i = 0; i < numResults; ++i)
    numArguments -= joint[i].isFloat() && !llvm::is_contained(without, i);
  Arrays point(given.begin(), given.begin() + numArguments);
  std::string message;
  // A kink within a step is passed by another step.
  for (double step : {1e-5, 1e-6, 1e-4, 1e-7}) {
    Arrays above = point, below = point;
    double expected = 0, scale = 1;
    for (auto [n, i] : llvm::enumerate(wrt)) {
      const NDArray &gradient = joint[numResults + n];
      for (int64_t j = 0; j < gradient.size(); ++j) {
        if (std::isnan(point[i].f(j)) || std::isnan(gradient.f(j)))
          continue;
        double direction = rng.normal();
        expected += gradient.f(j) * direction;
        scale += std::fabs(gradient.f(j) * direction);
        above[i].f(j) += step * direction;
        below[i].f(j) -= step * direction;
      }
    }
    FailureOr<Arrays> high = interpretAll(primalModule, above);
    FailureOr<Arrays> low = interpretAll(primalModule, below);
    if (mlir::failed(high) || mlir::failed(low))
      return "the interpreter refuses a program that it ran";
    double difference = 0;
    size_t next = numArguments;
    bool decided = true;
    for (size_t i = 0; i < numResults; ++i) {
      const NDArray &up = (*high)[i], &down = (*low)[i];
      if (!joint[i].isFloat()) {
        // Another choice of experts: no derivative there.
        for (int64_t j = 0; j < joint[i].size(); ++j)
          decided &= up.i(j) == down.i(j);
        continue;
      }
      if (llvm::is_contained(without, i))
        continue;
      const NDArray &cotangent = given[next++];
      for (int64_t j = 0; j < joint[i].size(); ++j)
        if (!std::isnan(cotangent.f(j)) && !std::isnan(up.f(j)) &&
            !std::isnan(down.f(j))) {
          difference += cotangent.f(j) * (up.f(j) - down.f(j)) / (2 * step);
          scale += std::fabs(cotangent.f(j) * joint[i].f(j));
        }
    }
    if (!decided || std::fabs(difference - expected) <= 1e-5 * scale)
      return "";
    message = llvm::formatv("the gradients give {0:e9} along a direction, "
                            "differences {1:e9}",
                            expected, difference);
  }
  return message;
}

void Check::partition() {
  func::FuncOp joint = entry();
  auto info = joint->getAttrOfType<DictionaryAttr>("moe.joint");
  int64_t numArguments = info.getAs<IntegerAttr>("arguments").getInt();
  int64_t numResults = info.getAs<IntegerAttr>("results").getInt();
  MoePartitionOptions pass;
  pass.policy = rng.pick({"save-all", "recompute-elementwise",
                          "recompute-elementwise", "recompute-all"});
  if (rng.percent(25)) {
    pass.policy = "recompute-elementwise";
    pass.budgetBytes = rng.pick({0, 100, 100000});
  }
  pass.tokens = rng.pick({4096, 16});
  SmallVector<bool> isLate;
  bool splits = rng.percent(35);
  for (int64_t i : info.getAs<DenseI64ArrayAttr>("wrt").asArrayRef()) {
    bool late = splits && rng.percent(50);
    isLate.push_back(late);
    if (late)
      pass.splitWeights.push_back(std::to_string(i));
  }
  if (!runPasses(
          [&](OpPassManager &pm) { pm.addPass(createMoePartition(pass)); }))
    return;
  auto forward = module->lookupSymbol<func::FuncOp>("f_forward");
  Builder b(context);
  forward->setAttr("fuzz.arguments", b.getI64IntegerAttr(numArguments));
  forward->setAttr("fuzz.results", b.getI64IntegerAttr(numResults));
  forward->setAttr("fuzz.split", b.getDenseBoolArrayAttr(isLate));
  if (llvm::is_contained(isLate, true))
    llvm::append_range(reference,
                       Arrays(reference.begin() + numResults, reference.end()));
  compareAfter("moe-partition with policy=" + std::string(pass.policy),
               *module);
}

static const std::string &hostFeatures() {
  static const std::string features = [] {
    auto machine = ::moe::CPUMachine::create("host", "", 0);
    return machine ? machine->features : std::string();
  }();
  return features;
}

void Check::toCPU() {
  // Compiled code is called as the functions on tensors say.
  OwningOpRef<ModuleOp> before = module->clone();
  ::moe::MoeToCPUOptions cpu;
  cpu.features = rng.pick({hostFeatures(), hostFeatures(),
                           std::string("+avx2,+fma"), std::string()});
  if (!runPasses([&](OpPassManager &pm) {
        // Below kernels on buffers only compiled code answers for the passes.
        if (options.compile)
          ::moe::buildMoeToCPUPipeline(pm, cpu);
        else
          ::moe::buildMoeToKernelsPipeline(pm, cpu.gradients, "cpu",
                                           /*align=*/1,
                                           [](StringRef, OpPassManager &) {});
      }) ||
      !options.compile)
    return;
  std::string text;
  llvm::raw_string_ostream os(text);
  if (mlir::failed(writeBytecodeToFile(*module, os)))
    return fail("the module has no bytecode");
  ::moe::CompilerInvocation invocation;
  invocation.input = llvm::MemoryBuffer::getMemBuffer(
      text, "moe-fuzz", /*RequiresNullTerminator=*/false);
  invocation.options.push_back("opt-level=0");
  invocation.startAtLLVM = true;
  auto compiled = run::compileAndLoad(std::move(invocation));
  if (!compiled)
    return fail("compiling: " + llvm::toString(compiled.takeError()));
  compareCompiled(*before, **compiled);
}

/// The numbers drawn anew about where they are; unspecified ones stay.
static Arrays drawNear(const Arrays &inputs, Rng &rng) {
  Arrays others = inputs;
  for (NDArray &array : others)
    if (array.isFloat())
      for (int64_t n = 0; n < array.size(); ++n)
        array.f(n) =
            roundTo(array.dtype(), array.f(n) * (1 + 0.3 * rng.normal()));
  return others;
}

void Check::compareCompiled(ModuleOp before, const ::moe::Module &compiled) {
  RoundingErrors errors;
  // A verdict on more runs, where it is a matter of luck.
  for (auto [run, runs] : {std::pair(0, 1), {1, 16}, {16, 128}}) {
    for (; run < runs; ++run) {
      Arrays given = run == 0 ? inputs : drawNear(inputs, rng);
      std::string message;
      FailureOr<Arrays> results =
          evaluate(before, given,
                   [&](func::FuncOp f, Arrays arguments) -> FailureOr<Arrays> {
                     auto results = run::callCompiled(compiled, f, arguments);
                     if (results)
                       return std::move(*results);
                     message = llvm::toString(results.takeError());
                     return failure();
                   });
      if (mlir::failed(results))
        return fail("compiled code: " + message);
      FailureOr<Arrays> exact =
          run == 0 ? reference : interpretAll(before, given);
      FailureOr<Arrays> rounded = interpretAll(before, given, /*round=*/true);
      if (mlir::failed(exact) || mlir::failed(rounded))
        return fail("the interpreter refuses what it ran");
      message = errors.add(*exact, *rounded, *results);
      if (!message.empty())
        return fail("compiled code: " + message);
    }
    if (errors.verdict().empty())
      return;
  }
  fail("compiled code: " + errors.verdict());
}

Outcome Check::run(StringRef text) {
  Outcome outcome;
  auto finish = [&](Outcome::Status status) {
    outcome.status = failed() ? Outcome::Failed : status;
    outcome.message = problem;
    outcome.cells = std::move(cells);
    outcome.faultPlanted = planted;
    return std::move(outcome);
  };
  module = parseSourceString<ModuleOp>(text, context);
  if (!module || !module->lookupSymbol<func::FuncOp>("f")) {
    fail("the program is not valid");
    return finish(Outcome::Failed);
  }
  if (mlir::failed(drawInputs())) {
    fail("arguments cannot be drawn");
    return finish(Outcome::Failed);
  }
  FailureOr<Arrays> results = interpretAll(*module, inputs);
  if (mlir::failed(results)) {
    fail("the interpreter refuses the program");
    return finish(Outcome::Failed);
  }
  reference = std::move(*results);
  Outcome::Status status =
      dependsOnInputs() ? Outcome::Agreed : Outcome::Constant;
  errors.clear();

  // As every pipeline starts; derivatives are of functions without calls.
  if (!runPasses([](OpPassManager &pm) {
        pm.addPass(createInlinerPass({}, [](OpPassManager &) {}));
        pm.addPass(createSymbolDCEPass());
      }))
    return finish(status);
  int64_t way = rng.below(100);
  // What is updated in place has no derivative.
  func::FuncOp f = entry();
  for (unsigned i = 0; i < f.getNumArguments(); ++i)
    if (f.getArgAttr(i, "moe.inout"))
      way = 0;
  if (way >= 40 && differentiate()) {
    if (rng.percent(80))
      runPasses([&](OpPassManager &pm) {
        pm.addNestedPass<func::FuncOp>(createMoeSimplifyGradients());
        pm.addPass(createCanonicalizerPass());
        pm.addPass(createCSEPass());
      });
    if (!failed() && way < 85)
      partition();
    else if (!failed())
      differentiate();
  } else if (!failed()) {
    // Level-1 passes in any order.
    for (int64_t n = rng.below(3); n > 0 && !failed(); --n)
      runPasses([&](OpPassManager &pm) {
        switch (rng.below(3)) {
        case 0:
          return pm.addPass(createCanonicalizerPass());
        case 1:
          return pm.addPass(createCSEPass());
        default:
          return pm.addNestedPass<func::FuncOp>(createMoeSimplifyGradients());
        }
      });
  }
  if (!failed())
    toCPU();
  return finish(status);
}

Outcome fuzz::checkProgram(MLIRContext *context, StringRef text,
                           const CheckOptions &options) {
  return Check(context, options).run(text);
}
