// SPDX-License-Identifier: Apache-2.0
//===- moe-compile.cpp - from a module to compiled code -------------------===//
//
// The compiler proper runs in a forked child: whatever happens in it, a crash,
// a stack overflow, an abort in LLVM, becomes an exit code, a message and a
// reproducer.
//
//===----------------------------------------------------------------------===//
#include "moe/ExecutionEngine/Compiler.h"
#include "moe/Runtime/CompilerProcess.h"
#include "moe/Runtime/GPUTarget.h"
#include "moe/Runtime/Version.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/ManagedStatic.h"
#include "llvm/Support/ToolOutputFile.h"
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace llvm;

namespace {
/// Registered when the program starts, not when it is loaded: one executable
/// may hold several of our programs.
struct Flags {
  cl::OptionCategory category{"moe-compile options"};
  cl::opt<std::string> inputName{cl::Positional, cl::init("-"),
                                 cl::desc("<module, or - for stdin>"),
                                 cl::cat(category)};
  cl::opt<std::string> target{
      "target", cl::init("cpu"),
      cl::desc("What to compile for: cpu, sm_80, sm_86, "
               "sm_89, sm_90, sm_90a, sm_100, sm_120, "
               "or cuda for this machine's GPU"),
      cl::cat(category)};
  cl::opt<std::string> outputName{"o", cl::init("-"),
                                  cl::desc("Where the result goes"),
                                  cl::value_desc("file"), cl::cat(category)};
  cl::list<std::string> pipelineOptions{
      "opt",
      cl::desc("An option of the compiler: cpu=host|<LLVM's name>, "
               "features=+a,-b, opt-level=0..3, or one of the pipeline's"),
      cl::value_desc("key=value"), cl::cat(category)};
  cl::opt<std::string> emit{
      "emit", cl::init("module"),
      cl::desc("What to write: module (the container that moe_module_load "
               "reads), mlir-stage=<stage>, llvm, object, manifest"),
      cl::cat(category)};
  cl::list<std::string> printAfter{
      "print-ir-after", cl::desc("Print the IR after a stage to stderr"),
      cl::value_desc("stage"), cl::CommaSeparated, cl::cat(category)};
  cl::opt<bool> startAtLLVM{
      "start-at-llvm", cl::desc("The input is in the LLVM dialect already"),
      cl::Hidden, cl::cat(category)};
  cl::opt<bool> inProcess{"in-process",
                          cl::desc("Compile without a child process"),
                          cl::Hidden, cl::cat(category)};
};
} // namespace
static llvm::ManagedStatic<Flags> flags;

namespace {
int complain(const Twine &message) {
  errs() << "moe-compile: error: " << message << "\n";
  return 1;
}

/// Tests ask for a compiler that fails in one of the ways that compilers do.
void crashIfAsked() {
  const char *how = getenv("MOE_MLIR_TEST_CRASH");
  if (!how)
    return;
  if (!strcmp(how, "segv"))
    raise(SIGSEGV);
  if (!strcmp(how, "fatal"))
    report_fatal_error("forced by MOE_MLIR_TEST_CRASH");
  if (!strcmp(how, "hang"))
    for (;;)
      pause();
}

int compile(moe::CompilerInvocation invocation) {
  install_fatal_error_handler([](void *, const char *reason, bool) {
    errs() << "LLVM ERROR: " << reason << "\n";
    abort();
  });
  crashIfAsked();
  std::string bytes;
  raw_string_ostream os(bytes);
  if (failed(moe::compile(std::move(invocation), os)))
    return 1;
  if (flags->outputName == "-") {
    outs() << bytes;
    outs().flush();
    if (outs().has_error()) {
      outs().clear_error();
      return complain("the result could not be written to stdout; name a file "
                      "with -o");
    }
    return 0;
  }
  // Beside it and renamed: a reader never sees half a file.
  Error error = writeToOutput(flags->outputName, [&](raw_ostream &file) {
    file << bytes;
    return Error::success();
  });
  if (error)
    return complain("'" + flags->outputName +
                    "' cannot be written: " + toString(std::move(error)));
  return 0;
}

int superviseChild(pid_t child, StringRef input) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR)
    ;
  if (WIFEXITED(status))
    return WEXITSTATUS(status);
  moe::CompileOptions given;
  given.options.assign(flags->pipelineOptions.begin(),
                       flags->pipelineOptions.end());
  Expected<std::string> target =
      moe::resolveTarget(flags->target, given.options);
  given.target = target ? *target : flags->target;
  consumeError(target.takeError());
  std::string why = ("the compiler crashed: signal " + Twine(WTERMSIG(status)) +
                     " (" + strsignal(WTERMSIG(status)) + ")")
                        .str();
  complain(why + moe::writeReproducer(input, given, why));
  return moe::kCompilerCrashExit;
}
} // namespace

int main(int argc, char **argv) {
  cl::HideUnrelatedOptions(flags->category);
  cl::SetVersionPrinter([](raw_ostream &os) {
    os << "moe-compile " << moe::versionString() << " (LLVM "
       << LLVM_VERSION_STRING << ")\n";
  });
  cl::ParseCommandLineOptions(argc, argv,
                              "compiles a module of the moe dialect\n");

  moe::CompilerInvocation invocation;
  ErrorOr<std::unique_ptr<MemoryBuffer>> input =
      MemoryBuffer::getFileOrSTDIN(flags->inputName);
  if (!input)
    return complain("'" + flags->inputName +
                    "' cannot be read: " + input.getError().message());
  invocation.input = std::move(*input);
  invocation.target = flags->target;
  invocation.options.assign(flags->pipelineOptions.begin(),
                            flags->pipelineOptions.end());
  invocation.printAfter.assign(flags->printAfter.begin(),
                               flags->printAfter.end());
  invocation.startAtLLVM = flags->startAtLLVM;
  if (!invocation.setEmit(flags->emit))
    return complain("--emit is '" + flags->emit + "', expected " +
                    moe::CompilerInvocation::emitKinds());
  // Whoever ignores its children leaves that to us, and we wait for ours.
  signal(SIGCHLD, SIG_DFL);
  StringRef text = invocation.input->getBuffer();
  pid_t parent = getpid();
  pid_t child = flags->inProcess ? -1 : fork();
  // Without a process to spare, a crash of the compiler is one of this program.
  if (child < 0)
    return compile(std::move(invocation));
  if (child == 0) {
    // It ends with its parent, which a caller may kill when time is over.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
      _exit(1);
    rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);
    int code = compile(std::move(invocation));
    // Nothing left is worth tearing down.
    outs().flush();
    errs().flush();
    _exit(code);
  }
  return superviseChild(child, text);
}
