// SPDX-License-Identifier: Apache-2.0
//
// moe-fuzz: composes random programs of the dialect's ops and runs each before
// and after every pass, and as compiled code. docs/Testing.md says how to read
// what it prints.

#include "Check.h"
#include "Generate.h"
#include "Reduce.h"

#include "moe/Registration/Registration.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Support/FileUtilities.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/ToolOutputFile.h"
#include "llvm/Support/WithColor.h"

#include <atomic>
#include <chrono>
#include <csignal>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace mlir;
using namespace mlir::moe::fuzz;
namespace cl = llvm::cl;

static cl::OptionCategory category("moe-fuzz options");
static cl::opt<std::string> input(cl::Positional, cl::desc("[program.mlir]"),
                                  cl::cat(category));
static cl::opt<uint64_t> seed("seed", cl::init(1), cl::cat(category),
                              cl::desc("The number of the first program"));
static cl::opt<int64_t> programs("programs", cl::init(100), cl::cat(category),
                                 cl::desc("How many programs to run"));
static cl::opt<double> minutes("minutes", cl::init(0), cl::cat(category),
                               cl::desc("Run for so long instead"));
static cl::opt<unsigned> jobs("jobs", cl::init(1), cl::cat(category),
                              cl::desc("How many processes run programs"));
static cl::opt<unsigned>
    compileOneIn("compile-one-in", cl::init(1), cl::cat(category),
                 cl::desc("Run one program in so many as compiled code too; 0: "
                          "none"));
static cl::opt<std::string>
    plant("plant", cl::value_desc("pass"), cl::cat(category),
          cl::desc("Plant a miscompile after that pass, and fail unless it is "
                   "found; 'all': each in turn"));
static cl::opt<std::string>
    failures("failures", cl::value_desc("folder"), cl::cat(category),
             cl::desc("Where programs that failed are written"));
static cl::opt<std::string> coverageFile("coverage", cl::value_desc("file"),
                                         cl::cat(category),
                                         cl::desc("Write the coverage table"));
static cl::opt<int64_t>
    require("require", cl::init(0), cl::cat(category),
            cl::desc("Fail unless every cell of the table is hit so often"));
static cl::opt<bool>
    reduce("reduce", cl::cat(category),
           cl::desc("Print the smallest form of the program in the file that "
                    "fails in the same way"));
static cl::opt<bool> show("print", cl::cat(category),
                          cl::desc("Print the programs and run nothing"));
static cl::opt<bool> verbose("verbose", cl::cat(category),
                             cl::desc("Name programs and passes as they run"));

static std::string programText(MLIRContext *context, uint64_t number) {
  std::string text;
  llvm::raw_string_ostream os(text);
  OwningOpRef<ModuleOp> module = generateProgram(context, number);
  module->print(os);
  return text;
}

static CheckOptions optionsFor(uint64_t number) {
  CheckOptions options;
  options.seed = number;
  options.compile = compileOneIn && number % compileOneIn == 0;
  options.verbose = verbose;
  return options;
}

static void report(uint64_t number, StringRef text, StringRef message) {
  llvm::WithColor::error(llvm::errs(), "moe-fuzz")
      << "program " << number << ": " << message << "\n";
  if (failures.empty())
    return;
  llvm::sys::fs::create_directories(failures);
  std::string path =
      (failures + "/program-" + llvm::Twine(number) + ".mlir").str();
  if (auto file = openOutputFile(path)) {
    file->os() << "// RUN: moe-fuzz %s --seed=" << number << "\n";
    SmallVector<StringRef> lines;
    message.split(lines, '\n');
    for (StringRef line : lines)
      file->os() << "// " << line << "\n";
    file->os() << text;
    file->keep();
  }
}

//===----------------------------------------------------------------------===//
// One program from a file
//===----------------------------------------------------------------------===//

static int checkFile(MLIRContext *context) {
  std::string message;
  auto file = openInputFile(input, &message);
  if (!file) {
    llvm::WithColor::error(llvm::errs(), "moe-fuzz") << message << "\n";
    return 2;
  }
  CheckOptions options = optionsFor(seed);
  options.compile = compileOneIn != 0;
  options.fault = plant.empty() ? nullptr : findFault(plant);
  Outcome outcome = checkProgram(context, file->getBuffer(), options);
  if (outcome.status != Outcome::Failed)
    return 0;
  if (reduce) {
    // The same way: the message up to its numbers.
    auto kind = [](StringRef message) {
      return message.take_until(llvm::isDigit).str();
    };
    auto module = parseSourceString<ModuleOp>(file->getBuffer(), context);
    OwningOpRef<ModuleOp> least = reduceProgram(*module, [&](ModuleOp tried) {
      std::string text;
      llvm::raw_string_ostream os(text);
      tried.print(os);
      Outcome again = checkProgram(context, text, options);
      return again.status == Outcome::Failed &&
             kind(again.message) == kind(outcome.message);
    });
    llvm::outs() << "// RUN: moe-fuzz %s --seed=" << uint64_t(seed) << "\n";
    least->print(llvm::outs());
  }
  llvm::WithColor::error(llvm::errs(), "moe-fuzz") << outcome.message << "\n";
  return 1;
}

//===----------------------------------------------------------------------===//
// Planted miscompiles
//===----------------------------------------------------------------------===//

/// Programs until the fault is found.
static bool findPlanted(MLIRContext *context, const Fault &fault) {
  int64_t broken = 0;
  for (int64_t n = 0; n < programs; ++n) {
    CheckOptions options = optionsFor(seed + n);
    options.compile = compileOneIn != 0;
    options.fault = &fault;
    Outcome outcome =
        checkProgram(context, programText(context, seed + n), options);
    broken += outcome.faultPlanted;
    if (outcome.status != Outcome::Failed)
      continue;
    StringRef line = StringRef(outcome.message).split('\n').first;
    llvm::outs() << fault.pass << ": " << fault.description << ": found by "
                 << n + 1 << " programs, of which " << broken
                 << " were broken: " << line << "\n";
    return outcome.faultPlanted;
  }
  llvm::outs() << fault.pass << ": " << fault.description << ": NOT FOUND by "
               << int64_t(programs) << " programs, of which " << broken
               << " were broken\n";
  return false;
}

static int checkFaults(MLIRContext *context) {
  bool all = true, any = false;
  for (const Fault &fault : allFaults())
    if (plant == "all" || plant == fault.pass) {
      any = true;
      all &= findPlanted(context, fault);
    }
  if (!any) {
    SmallVector<StringRef> known;
    for (const Fault &fault : allFaults())
      known.push_back(fault.pass);
    llvm::WithColor::error(llvm::errs(), "moe-fuzz")
        << "no miscompile is known for '" << plant << "'; they are "
        << llvm::join(known, ", ") << "\n";
  }
  return all && any ? 0 : 1;
}

//===----------------------------------------------------------------------===//
// Many programs, in many processes
//===----------------------------------------------------------------------===//

namespace {
/// What all processes found.
struct Tally {
  int64_t run = 0, agreed = 0, constant = 0, failed = 0, compiled = 0;
  Coverage coverage;
};

/// The next program, shared by all processes, and the one each is at.
struct Shared {
  static constexpr unsigned kMaxJobs = 256;
  std::atomic<int64_t> next{0}, crashed{0};
  std::atomic<int64_t> current[kMaxJobs];
  std::chrono::steady_clock::time_point start =
      std::chrono::steady_clock::now();

  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() -
                                         start)
        .count();
  }
  bool isOver(int64_t n) const {
    return minutes > 0 ? seconds() > 60 * minutes : n >= programs;
  }
};
} // namespace

/// Programs until there are no more, told to `out` one by one: a crash loses
/// only the program that crashed.
static void work(Shared &shared, unsigned self, llvm::raw_fd_ostream &out) {
  DialectRegistry registry;
  ::moe::registerAll(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  for (;;) {
    int64_t n = shared.next++;
    if (shared.isOver(n))
      return;
    uint64_t number = seed + n;
    shared.current[self] = number;
    // A program that hangs ends its process.
    ::alarm(120);
    if (verbose)
      llvm::errs() << "moe-fuzz: program " << number << "\n";
    std::string text = programText(&context, number);
    CheckOptions options = optionsFor(number);
    Outcome outcome = checkProgram(&context, text, options);
    if (outcome.status == Outcome::Failed)
      report(number, text, outcome.message);
    out << "program " << int(outcome.status) << " " << options.compile << "\n";
    if (outcome.status == Outcome::Agreed)
      for (const std::string &cell : outcome.cells)
        out << cell << "\n";
    out.flush();
  }
}

static void read(StringRef text, Tally &tally) {
  while (!text.empty()) {
    auto [line, rest] = text.split('\n');
    text = rest;
    if (!line.consume_front("program ")) {
      tally.coverage.add(line, 1);
      continue;
    }
    ++tally.run;
    tally.failed += line[0] - '0' == Outcome::Failed;
    tally.constant += line[0] - '0' == Outcome::Constant;
    tally.agreed += line[0] - '0' == Outcome::Agreed;
    tally.compiled += line[2] == '1';
  }
}

static void reportCrash(uint64_t number, int status) {
  DialectRegistry registry;
  ::moe::registerAll(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  report(number, programText(&context, number),
         WIFSIGNALED(status)
             ? "the process crashed, signal " + std::to_string(WTERMSIG(status))
             : "the process ended");
}

/// Runs `work` in a process, and in another where that crashes.
static void supervise(Shared &shared, unsigned self,
                      llvm::raw_fd_ostream &out) {
  for (;;) {
    pid_t pid = ::fork();
    if (pid == 0) {
      // Without a stack trace, which may hang where memory is damaged.
      for (int signal : {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP})
        ::signal(signal, SIG_DFL);
      work(shared, self, out);
      ::_exit(0);
    }
    int status = 0;
    if (pid < 0 || ::waitpid(pid, &status, 0) < 0)
      return;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
      return;
    ++shared.crashed;
    reportCrash(shared.current[self], status);
  }
}

static int runPrograms() {
  void *memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return 2;
  auto &shared = *new (memory) Shared();
  unsigned numJobs =
      std::min<unsigned>(std::max<unsigned>(jobs, 1), Shared::kMaxJobs);
  std::vector<std::pair<pid_t, int>> children;
  for (unsigned self = 0; self < numJobs; ++self) {
    SmallString<64> path;
    int file = -1;
    if (llvm::sys::fs::createTemporaryFile("moe-fuzz", "txt", file, path))
      return 2;
    llvm::sys::fs::remove(path);
    pid_t pid = ::fork();
    if (pid == 0) {
      llvm::raw_fd_ostream out(file, /*shouldClose=*/false);
      supervise(shared, self, out);
      ::_exit(0);
    }
    children.emplace_back(pid, file);
  }
  Tally tally;
  for (auto [pid, file] : children) {
    int status = 0;
    if (::waitpid(pid, &status, 0) != pid || status != 0)
      return 2;
    auto text = llvm::MemoryBuffer::getOpenFile(file, "tally", -1);
    if (!text)
      return 2;
    read((*text)->getBuffer(), tally);
    ::close(file);
  }
  llvm::outs() << "moe-fuzz: " << tally.run + shared.crashed
               << " programs from " << seed << ": " << tally.agreed
               << " agreed, " << tally.constant
               << " more agreed and were constant or empty, " << tally.failed
               << " failed, " << shared.crashed << " crashed; "
               << tally.compiled << " were compiled; "
               << int64_t(shared.seconds()) << " s\n";
  if (!coverageFile.empty())
    if (auto file = openOutputFile(coverageFile)) {
      tally.coverage.print(file->os());
      file->keep();
    }
  bool covered = true;
  if (require > 0)
    for (const auto &[cell, count] : tally.coverage.below(require)) {
      covered = false;
      auto [pass, feature] = StringRef(cell).split('\t');
      llvm::errs() << "moe-fuzz: " << pass << " saw " << feature << " in "
                   << count << " programs, should be " << int64_t(require)
                   << "\n";
    }
  return tally.failed || shared.crashed || !covered ? 1 : 0;
}

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  cl::HideUnrelatedOptions(category);
  cl::ParseCommandLineOptions(argc, argv, "Random programs of moe-mlir\n");
  if (input.empty() && plant.empty() && !show)
    return runPrograms();
  DialectRegistry registry;
  ::moe::registerAll(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  if (!input.empty())
    return checkFile(&context);
  if (!plant.empty())
    return checkFaults(&context);
  for (int64_t n = 0; n < programs; ++n)
    llvm::outs() << "// program " << seed + n << "\n"
                 << programText(&context, seed + n) << "\n";
  return 0;
}
