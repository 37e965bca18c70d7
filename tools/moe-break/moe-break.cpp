// SPDX-License-Identifier: Apache-2.0
//===- moe-break.cpp - moe-compile that breaks a kernel on purpose --------===//
//
// Takes the place of moe-compile (MOE_MLIR_COMPILER) in tests of the tests: the
// kernels whose names match are compiled with a mistake in them.
//
//===----------------------------------------------------------------------===//
#include "Breaks.h"

#include "moe/ExecutionEngine/Compiler.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Regex.h"
#include "llvm/Support/ToolOutputFile.h"

using namespace llvm;
using mlir::moe::Break;

namespace {
/// Breaks the kernels that match, and tells `log` which they were.
class BreakKernels
    : public mlir::PassWrapper<BreakKernels,
                               mlir::OperationPass<mlir::ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(BreakKernels)

  BreakKernels(const Break &mistake, std::string kernels, std::string log)
      : mistake(mistake), kernels(std::move(kernels)), log(std::move(log)) {}
  StringRef getArgument() const override { return "moe-break-kernels"; }
  void runOnOperation() override {
    SmallVector<std::string> broken =
        mlir::moe::breakKernels(getOperation(), mistake, kernels);
    if (log.empty())
      return;
    std::error_code error;
    raw_fd_ostream os(log, error, sys::fs::OF_Append);
    for (const std::string &kernel : broken)
      os << kernel << "\n";
  }

private:
  const Break &mistake;
  std::string kernels, log;
};

int complain(const Twine &message) {
  errs() << "moe-break: error: " << message << "\n";
  return 1;
}

std::string fromEnvironment(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}
} // namespace

int main(int argc, char **argv) {
  cl::opt<std::string> inputName(cl::Positional, cl::init("-"),
                                 cl::desc("<module, or - for stdin>"));
  cl::opt<std::string> target("target", cl::init("sm_90a"));
  cl::opt<std::string> outputName("o", cl::init("-"));
  cl::list<std::string> pipelineOptions("opt", cl::value_desc("key=value"));
  cl::opt<std::string> emit("emit", cl::init("module"));
  cl::opt<std::string> mistakeName("break",
                                   cl::init(fromEnvironment("MOE_BREAK")),
                                   cl::desc("The mistake; default: MOE_BREAK"));
  cl::opt<std::string> kernels(
      "kernels", cl::init(fromEnvironment("MOE_BREAK_KERNELS")),
      cl::desc("Regular expression of kernels; default: MOE_BREAK_KERNELS"));
  cl::opt<std::string> log(
      "log", cl::init(fromEnvironment("MOE_BREAK_LOG")),
      cl::desc("File that is told what was broken; default: MOE_BREAK_LOG"));
  cl::opt<bool> list("list", cl::desc("List the mistakes"));
  cl::ParseCommandLineOptions(argc, argv,
                              "moe-compile that breaks kernels, for tests\n");
  if (list) {
    for (const Break &mistake : mlir::moe::allBreaks())
      outs() << mistake.name << "\t" << mistake.stage << "\t"
             << mistake.description << "\n";
    return 0;
  }
  const Break *mistake = mlir::moe::findBreak(mistakeName);
  if (!mistake)
    return complain("no mistake '" + mistakeName + "'; --list names them");
  std::string why;
  if (!Regex(kernels).isValid(why))
    return complain("--kernels is '" + kernels + "': " + why);

  moe::CompilerInvocation invocation;
  ErrorOr<std::unique_ptr<MemoryBuffer>> input =
      MemoryBuffer::getFileOrSTDIN(inputName);
  if (!input)
    return complain("'" + inputName +
                    "' cannot be read: " + input.getError().message());
  invocation.input = std::move(*input);
  invocation.target = target;
  invocation.options.assign(pipelineOptions.begin(), pipelineOptions.end());
  if (!invocation.setEmit(emit))
    return complain("--emit is '" + emit + "', expected " +
                    moe::CompilerInvocation::emitKinds());
  invocation.atStage = [&](StringRef stage, mlir::OpPassManager &pm) {
    if (stage == mistake->stage)
      pm.addPass(std::make_unique<BreakKernels>(*mistake, kernels, log));
  };
  std::string bytes;
  raw_string_ostream os(bytes);
  if (failed(moe::compile(std::move(invocation), os)))
    return 1;
  Error error = writeToOutput(outputName, [&](raw_ostream &file) {
    file << bytes;
    return Error::success();
  });
  return error ? complain(toString(std::move(error))) : 0;
}
