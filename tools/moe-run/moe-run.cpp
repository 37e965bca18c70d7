// SPDX-License-Identifier: Apache-2.0
//
// moe-run: runs one function of a file on .npy arrays, or on random ones.

#include "Arguments.h"
#include "Compiled.h"

#include "moe/Interpreter/Interpreter.h"
#include "moe/Registration/Registration.h"
#include "moe/Runtime/Module.h"

#include "mlir/Parser/Parser.h"
#include "mlir/Support/FileUtilities.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/ManagedStatic.h"
#include "llvm/Support/ToolOutputFile.h"
#include "llvm/Support/WithColor.h"

#include <cmath>
#include <new>
#include <unistd.h>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::run;
namespace cl = llvm::cl;

namespace {
/// Registered when the program starts, not when it is loaded: one executable
/// may hold several of our programs.
struct Flags {
  cl::OptionCategory category{"moe-run options"};
  cl::opt<std::string> input{cl::Positional, cl::desc("<layer.mlir>"),
                             cl::init("-"), cl::cat(category)};
  cl::opt<std::string> entryName{
      "entry", cl::value_desc("name"), cl::cat(category),
      cl::desc("The function to run (default: the only public one)")};
  cl::list<std::string> files{
      "arg", cl::value_desc("[name=]file.npy"), cl::cat(category),
      cl::desc("The value of an argument, by name or in order")};
  cl::list<std::string> outs{
      "out", cl::value_desc("[outN=]file.npy"), cl::cat(category),
      cl::desc("Where a result goes, by number or in order; with FOLDER/, "
               "all of them, as out0.npy, out1.npy, ...")};
  cl::opt<std::string> seed{"random", cl::ValueOptional, cl::value_desc("seed"),
                            cl::cat(category),
                            cl::desc("Draw the arguments that have no file")};
  cl::list<std::string> dims{
      "dim", cl::value_desc("T=16"), cl::cat(category),
      cl::desc("The size of a named dimension, for random arguments")};
  cl::opt<bool> sentinels{
      "sentinels", cl::cat(category),
      cl::desc("Let one random expert id in eight be out of range")};
  cl::opt<bool> interpreted{
      "interpret", cl::cat(category),
      cl::desc("Run op by op in double precision: the oracle")};
  cl::opt<bool> rounded{
      "round", cl::cat(category),
      cl::desc("With --interpret, round each tensor result to its type")};
  cl::opt<std::string> target{
      "target", cl::init("cpu"), cl::value_desc("cpu|cuda|sm_90a|..."),
      cl::cat(category),
      cl::desc("What to compile for and run on, as for moe-compile; cuda:1 is "
               "the second GPU, other GPU targets run on the first")};
  cl::list<std::string> compilerOptions{
      "opt", cl::value_desc("key=value"), cl::cat(category),
      cl::desc("An option of the compiler, as for moe-compile")};
  cl::list<std::string> printAfter{
      "print-ir-after", cl::value_desc("stage"), cl::CommaSeparated,
      cl::cat(category), cl::desc("Print the IR after a stage to stderr")};
  cl::opt<std::string> emit{
      "emit", cl::value_desc("kind"), cl::cat(category),
      cl::desc("Write what moe-compile --emit writes, and run nothing")};
  cl::opt<unsigned> benchmark{"benchmark", cl::value_desc("N"), cl::init(0),
                              cl::cat(category),
                              cl::desc("Time N calls after the first one")};
};
} // namespace
static llvm::ManagedStatic<Flags> flags;

static int fail(llvm::Error error) {
  llvm::WithColor::error(llvm::errs(), "moe-run")
      << llvm::toString(std::move(error)) << '\n';
  return 1;
}

/// One line a result, for runs without --out.
static void summarize(ArrayRef<NDArray> results) {
  for (auto [index, array] : llvm::enumerate(results)) {
    llvm::outs() << "out" << index << ": "
                 << describe(array.dtype(), array.shape());
    if (array.isFloat()) {
      double sum = 0, largest = 0;
      int64_t nans = 0;
      for (int64_t n = 0; n < array.size(); ++n) {
        nans += std::isnan(array.f(n));
        if (std::isnan(array.f(n)))
          continue;
        sum += array.f(n);
        largest = std::max(largest, std::fabs(array.f(n)));
      }
      llvm::outs() << llvm::format(" sum %.6g, largest %.6g", sum, largest);
      if (nans)
        llvm::outs() << ", " << nans << " NaN";
    }
    llvm::outs() << '\n';
  }
}

/// The module as it was read, for the compiler to read again in a context of
/// its own, where only accepted dialects are.
static ::moe::CompilerInvocation
makeInvocation(const llvm::SourceMgr &sources) {
  const llvm::MemoryBuffer *source =
      sources.getMemoryBuffer(sources.getMainFileID());
  ::moe::CompilerInvocation invocation;
  invocation.input = llvm::MemoryBuffer::getMemBuffer(
      source->getBuffer(), source->getBufferIdentifier());
  invocation.target = flags->target;
  invocation.options.assign(flags->compilerOptions.begin(),
                            flags->compilerOptions.end());
  invocation.printAfter.assign(flags->printAfter.begin(),
                               flags->printAfter.end());
  return invocation;
}

/// --emit.
static int emitOnly(const llvm::SourceMgr &sources) {
  ::moe::CompilerInvocation invocation = makeInvocation(sources);
  if (!invocation.setEmit(flags->emit))
    return fail(makeError("--emit is '" + flags->emit + "', expected " +
                          ::moe::CompilerInvocation::emitKinds()));
  return failed(::moe::compile(std::move(invocation), llvm::outs()));
}

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  std::set_new_handler([] {
    fail(makeError("no memory left: give smaller arguments"));
    _exit(1);
  });
  cl::HideUnrelatedOptions(flags->category);
  cl::ParseCommandLineOptions(argc, argv, "Run a function of moe-mlir\n");

  DialectRegistry registry;
  ::moe::registerAll(registry);
  MLIRContext context(registry);
  std::string message;
  auto file = openInputFile(flags->input, &message);
  if (!file)
    return fail(makeError(message));
  auto sources = std::make_shared<llvm::SourceMgr>();
  sources->AddNewSourceBuffer(std::move(file), SMLoc());
  if (!flags->emit.empty())
    return emitOnly(*sources);
  SourceMgrDiagnosticHandler diagnostics(*sources, &context);
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(*sources, &context);
  if (!module)
    return 1;
  llvm::Expected<Entry> entry = findEntry(*module, flags->entryName, *sources);
  if (!entry)
    return fail(entry.takeError());
  ArgumentOptions options;
  options.files = flags->files;
  options.dims = flags->dims;
  options.sentinels = flags->sentinels;
  if (flags->seed.getNumOccurrences()) {
    uint64_t number = 0;
    if (!flags->seed.empty() && StringRef(flags->seed).getAsInteger(10, number))
      return fail(
          makeError("--random=" + flags->seed + ": wants a number as seed"));
    options.seed = number;
  }
  llvm::Expected<std::vector<NDArray>> arguments =
      makeArguments(*entry, options);
  if (!arguments)
    return fail(arguments.takeError());
  std::vector<NDArray> results;
  if (flags->interpreted) {
    FailureOr<SmallVector<NDArray>> values =
        interpret(*module, entry->function.getName(), *arguments,
                  {/*round=*/flags->rounded});
    if (failed(values))
      return 1;
    results.assign(values->begin(), values->end());
  } else {
    llvm::Expected<Device *> device = Device::of(flags->target);
    if (!device)
      return fail(device.takeError());
    llvm::Expected<std::shared_ptr<::moe::Module>> compiled =
        compileAndLoad(makeInvocation(*sources));
    if (!compiled)
      return fail(compiled.takeError());
    llvm::Expected<std::vector<NDArray>> values = callCompiled(
        **compiled, entry->function, *arguments, flags->benchmark, **device);
    if (!values)
      return fail(values.takeError());
    results = std::move(*values);
  }
  if (!flags->outs.empty()) {
    if (llvm::Error error = writeResults(results, flags->outs))
      return fail(std::move(error));
  } else if (!flags->benchmark) {
    summarize(results);
  }
  return 0;
}
