// SPDX-License-Identifier: Apache-2.0
// Whatever the compiler does, the process that loaded the library lives on with
// a status and a message.
#include "Fixture.h"
#include "moe/Runtime/Container.h"
#include "llvm/Support/raw_ostream.h"
#include <csignal>
#include <dlfcn.h>
#include <sys/resource.h>
#include <thread>

using namespace moe_test;
namespace fs = std::filesystem;

namespace {
bool contains(const char *text, const std::string &part) {
  return std::string(text).find(part) != std::string::npos;
}
} // namespace

TEST_F(CompileTest, Diagnostics) {
  text = "module {\n  this is not MLIR\n}\n";
  EXPECT_TRUE(refuses(compileAndRun(), MOE_COMPILE_ERROR, ":2:3: error:"));
  EXPECT_EQ(entries().size(), 0u);
}

TEST_F(CompileTest, OptionsReachTheCompiler) {
  EXPECT_TRUE(
      refuses(compileAndRun("cpu=z80"), MOE_COMPILE_ERROR, "'z80' is no CPU"));
}

TEST_F(CompileTest, ACrashHasAReproducer) {
  setenv("MOE_MLIR_TEST_CRASH", "segv", 1);
  EXPECT_TRUE(refuses(compileAndRun(), MOE_COMPILER_CRASH, "signal 11"));
  std::string file = fs::directory_iterator(folder / "crash")->path();
  EXPECT_TRUE(says(file));
  EXPECT_TRUE(contains(readFile(file).c_str(), "@_mlir_ciface_twice"));
  unsetenv("MOE_MLIR_TEST_CRASH");
  EXPECT_EQ(compileAndRun(), 0);
}

TEST_F(CompileTest, AFatalErrorOfLLVMs) {
  setenv("MOE_MLIR_TEST_CRASH", "fatal", 1);
  EXPECT_TRUE(refuses(compileAndRun(), MOE_COMPILER_CRASH,
                      "forced by MOE_MLIR_TEST_CRASH"));
}

TEST_F(CompileTest, TheCompilerIsKilled) {
  useCompiler("kill -9 $$\n");
  EXPECT_TRUE(
      refuses(compileAndRun(), MOE_COMPILER_CRASH, "ended by signal 9"));
  EXPECT_TRUE(says("reproducer: " + folder.string()));
}

TEST_F(CompileTest, TheCompilerHangs) {
  setenv("MOE_MLIR_TEST_CRASH", "hang", 1);
  setenv("MOE_MLIR_COMPILE_TIMEOUT", "0.3", 1);
  EXPECT_TRUE(refuses(compileAndRun(), MOE_COMPILER_CRASH,
                      "the compiler ran for more than 0 s "
                      "and was ended; "
                      "MOE_MLIR_COMPILE_TIMEOUT sets more"));
}

TEST_F(CompileTest, TheCompilerIsMissing) {
  setenv("MOE_MLIR_COMPILER", "/no/such/moe-compile", 1);
  EXPECT_TRUE(refuses(compileAndRun(), MOE_COMPILER_NOT_FOUND,
                      "MOE_MLIR_COMPILER is '/no/such/moe-compile', which "
                      "cannot be executed: No such file or directory; unset "
                      "it or set it to the path of moe-compile"));
}

TEST_F(CompileTest, TheLibraryStandsAlone) {
  // A copy without a compiler beside it, in a process that has not this one.
  unsetenv("MOE_MLIR_COMPILER");
  Dl_info info;
  ASSERT_NE(dladdr(reinterpret_cast<void *>(&moe_compile), &info), 0);
  fs::path copy = folder / "libmoe_mlir.so";
  fs::copy_file(info.dli_fname, copy);
  void *library = dlopen(copy.c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << dlerror();
  auto compile =
      reinterpret_cast<decltype(&moe_compile)>(dlsym(library, "moe_compile"));
  auto lastError = reinterpret_cast<decltype(&moe_last_error)>(
      dlsym(library, "moe_last_error"));
  moe_module *module = nullptr;
  EXPECT_EQ(compile(text.data(), text.size(), nullptr, &module),
            MOE_COMPILER_NOT_FOUND);
  EXPECT_TRUE(
      contains(lastError(), "moe-compile was not found in '" + folder.string() +
                                "', where this library is, nor in its ../bin: "
                                "install it there or set MOE_MLIR_COMPILER"))
      << lastError();
  dlclose(library);
}

TEST_F(CompileTest, TheCompilerDoesNotStart) {
  fs::path path = folder / "compiler";
  writeFile(path, "#!/no/such/interpreter\n");
  EXPECT_TRUE(refuses(compileAndRun(), MOE_COMPILER_NOT_FOUND,
                      "'" + path.string() +
                          "' could not be started: No such file or directory; "
                          "install it again or set MOE_MLIR_COMPILER"));
}

TEST_F(CompileTest, TheCompilerFailsInSilence) {
  useCompiler("exit 7\n");
  EXPECT_EQ(compileAndRun(), MOE_COMPILE_ERROR);
  EXPECT_STREQ(moe_last_error(),
               "the compiler failed with exit code 7 and no message");
}

TEST_F(CompileTest, TheCompilerSaysTooMuch) {
  useCompiler("head -c 20000 /dev/zero | tr '\\0' x >&2\nexit 1\n");
  EXPECT_TRUE(
      refuses(compileAndRun(), MOE_COMPILE_ERROR, "x\n... (3616 bytes more)"));
}

TEST_F(CompileTest, NoPlaceForAReproducer) {
  setenv("MOE_MLIR_REPRODUCER_DIR", "/proc/none", 1);
  useCompiler("kill -9 $$\n");
  EXPECT_TRUE(refuses(compileAndRun(), MOE_COMPILER_CRASH,
                      "; no reproducer could be written: set "
                      "MOE_MLIR_REPRODUCER_DIR"));
}

TEST_F(CompileTest, NoFileDescriptorsLeft) {
  EXPECT_EQ(finish(start([&] {
              rlimit none{0, 0};
              setrlimit(RLIMIT_NOFILE, &none);
              int status = compileAndRun();
              return says("no memory or file descriptor for the "
                          "compiler's input: Too many open files")
                         ? status
                         : -1;
            })),
            MOE_COMPILER_NOT_FOUND);
}

TEST_F(CompileTest, ModulesThatDoNotFit) {
  std::string output = compileToFile();
  std::string bytes = readFile(output);
  auto refused = [&](auto change, const std::string &message) {
    llvm::Expected<moe::Container> container =
        moe::Container::read(bytes, output);
    ASSERT_TRUE(bool(container)) << llvm::toString(container.takeError());
    change(*container);
    std::string changed;
    llvm::raw_string_ostream os(changed);
    container->write(os);
    writeFile(output, changed);
    moe_module *module = nullptr;
    EXPECT_NE(moe_module_load(output.c_str(), &module), MOE_OK);
    EXPECT_TRUE(says(message));
  };
  refused([](moe::Container &c) { c.target = "npu", c.compiler = "9.9"; },
          "the module is for target 'npu', which this library does not know: "
          "install the one of its compiler, 9.9");
  refused(
      [](moe::Container &c) {
        c.manifest.replace(c.manifest.find("\"twice\""), 7, "\"other\"");
      },
      "the compiled object lacks entry 'other' of its manifest; compile the "
      "module again");
  refused([](moe::Container &c) { c.target = "sm_90a"; },
          "the compiled object for target 'sm_90a' has no kernels; compile the "
          "module again");
  refused([](moe::Container &c) { c.object = "rubbish"; },
          "the compiled object cannot be linked: ");
  EXPECT_TRUE(says("; compile the module again"));
}

TEST_F(CompileTest, TheCompilerWritesRubbish) {
  useCompiler("echo rubbish\n");
  EXPECT_TRUE(
      refuses(compileAndRun(), MOE_LOAD_ERROR, "is no compiled module"));
  EXPECT_EQ(entries().size(), 0u);
}

TEST_F(CompileTest, AHostThatIgnoresItsChildren) {
  EXPECT_EQ(finish(start([&] {
              signal(SIGCHLD, SIG_IGN);
              return compileAndRun();
            })),
            0);
  EXPECT_EQ(finish(start([&] {
              signal(SIGCHLD, SIG_IGN);
              setenv("MOE_MLIR_TEST_CRASH", "segv", 1);
              return compileAndRun("opt-level=1") == 0 ? 1 : 0;
            })),
            0);
}

TEST_F(CompileTest, AHostWithoutStandardStreams) {
  EXPECT_EQ(finish(start([&] {
              for (int descriptor : {0, 1, 2})
                close(descriptor);
              return compileAndRun();
            })),
            0);
}

TEST_F(CompileTest, UsableAfterFork) {
  ASSERT_EQ(compileAndRun(), 0);
  EXPECT_EQ(finish(start([&] { return compileAndRun("cpu=x86-64"); })), 0);
}

TEST_F(CompileTest, AForkWhileAnotherThreadCompiles) {
  useCompiler("sleep 0.5\nexec " MOE_TEST_COMPILER " --start-at-llvm \"$@\"\n");
  int result = -1;
  std::thread thread([&] { result = compileAndRun(); });
  while (starts() == 0)
    usleep(10000);
  EXPECT_EQ(finish(start([&] { return compileAndRun(); })), 0);
  thread.join();
  EXPECT_EQ(result, 0);
}

TEST_F(CompileTest, CodeCallsNothingFromOutside) {
  size_t at = text.find("llvm.func @expf");
  ASSERT_NE(at, std::string::npos);
  text.insert(at, "llvm.func @getpid() -> i32\n");
  at = text.find("llvm.br ^head(%c0");
  text.insert(at, "%pid = llvm.call @getpid() : () -> i32\n");
  EXPECT_TRUE(refuses(compileAndRun(), MOE_LOAD_ERROR,
                      "it calls getpid, which is not on the "
                      "list of functions"));
}

TEST_F(CompileTest, CodeForAnotherCPU) {
  // Instruction sets that AMD dropped before AVX2.
  EXPECT_TRUE(refuses(compileAndRun("features=+xop,+tbm"), MOE_LOAD_ERROR,
                      "features that this machine lacks"));
}

TEST_F(CompileTest, AModuleFromAFile) {
  std::string output = compileToFile();
  moe_module *module = nullptr;
  ASSERT_EQ(moe_module_load(output.c_str(), &module), MOE_OK)
      << moe_last_error();
  EXPECT_TRUE(contains(moe_module_manifest(module), "twice"));
  moe_module_release(module);
}

TEST_F(CompileTest, ErrorsAreOfTheirThread) {
  EXPECT_EQ(compileAndRun("cpu=z80"), MOE_COMPILE_ERROR);
  std::string other = "?";
  std::thread([&] { other = moe_last_error(); }).join();
  EXPECT_EQ(other, "");
  EXPECT_TRUE(says("z80"));
}

TEST_F(CompileTest, NullArgumentsAreRefusedByName) {
  moe_module *module = nullptr;
  auto refused = [&](moe_status status, const std::string &message) {
    EXPECT_TRUE(refuses(status, MOE_INVALID_ARGUMENT, message));
  };
  refused(moe_compile(text.data(), text.size(), nullptr, nullptr),
          "moe_compile: out is null");
  refused(moe_compile(nullptr, 0, nullptr, &module),
          "moe_compile: text is null");
  refused(moe_module_load("x", nullptr), "moe_module_load: out is null");
  refused(moe_module_load(nullptr, &module), "moe_module_load: path is null");
  moe_options options{1, "cpu", nullptr};
  refused(moe_compile(text.data(), text.size(), &options, &module),
          "struct_size is 1, expected at least 24: set it to "
          "sizeof(moe_options)");
  options = {sizeof(moe_options), "cpu", "fast"};
  refused(moe_compile(text.data(), text.size(), &options, &module),
          "'fast' is not of the form key=value");
  EXPECT_EQ(module, nullptr);

  ASSERT_EQ(moe_compile(text.data(), text.size(), nullptr, &module), MOE_OK)
      << moe_last_error();
  uint64_t bytes;
  refused(moe_workspace_size(module, "twice", nullptr, 2, &bytes),
          "moe_workspace_size: a null argument");
  refused(moe_workspace_size(module, nullptr, nullptr, 0, &bytes),
          "moe_workspace_size: a null argument");
  refused(moe_invoke(nullptr, "twice", nullptr, 0, nullptr),
          "moe_invoke: a null argument");
  refused(moe_invoke(module, nullptr, nullptr, 0, nullptr),
          "moe_invoke: a null argument");
  refused(moe_invoke(module, "thrice", nullptr, 0, nullptr),
          "no entry 'thrice'; the module has: twice");
  refused(moe_invoke(module, "twice", nullptr, 0, &bytes),
          "entry 'twice' runs on the CPU: the stream must be null");
  EXPECT_STREQ(moe_module_manifest(nullptr), "");
  moe_module_release(module);
  moe_module_release(nullptr);
}
