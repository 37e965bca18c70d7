// SPDX-License-Identifier: Apache-2.0
// Whatever the compiler does, the process that loaded the library lives on with
// a status and a message.
#include "Fixture.h"
#include <csignal>
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
  EXPECT_EQ(compileAndRun(), MOE_COMPILE_ERROR);
  EXPECT_TRUE(contains(moe_last_error(), ":2:3: error:")) << moe_last_error();
  EXPECT_EQ(entries().size(), 0u);
}

TEST_F(CompileTest, OptionsReachTheCompiler) {
  EXPECT_EQ(compileAndRun("cpu=z80"), MOE_COMPILE_ERROR);
  EXPECT_TRUE(contains(moe_last_error(), "'z80' is no CPU"))
      << moe_last_error();
}

TEST_F(CompileTest, ACrashHasAReproducer) {
  setenv("MOE_MLIR_TEST_CRASH", "segv", 1);
  EXPECT_EQ(compileAndRun(), MOE_COMPILER_CRASH);
  EXPECT_TRUE(contains(moe_last_error(), "signal 11")) << moe_last_error();
  std::string file = fs::directory_iterator(folder / "crash")->path();
  EXPECT_TRUE(contains(moe_last_error(), file)) << moe_last_error();
  EXPECT_TRUE(contains(readFile(file).c_str(), "@_mlir_ciface_twice"));
  unsetenv("MOE_MLIR_TEST_CRASH");
  EXPECT_EQ(compileAndRun(), 0);
}

TEST_F(CompileTest, AFatalErrorOfLLVMs) {
  setenv("MOE_MLIR_TEST_CRASH", "fatal", 1);
  EXPECT_EQ(compileAndRun(), MOE_COMPILER_CRASH);
  EXPECT_TRUE(contains(moe_last_error(), "forced by MOE_MLIR_TEST_CRASH"));
}

TEST_F(CompileTest, TheCompilerIsKilled) {
  useCompiler("kill -9 $$\n");
  EXPECT_EQ(compileAndRun(), MOE_COMPILER_CRASH);
  EXPECT_TRUE(contains(moe_last_error(), "ended by signal 9"));
  EXPECT_TRUE(contains(moe_last_error(), "reproducer: " + folder.string()));
}

TEST_F(CompileTest, TheCompilerHangs) {
  setenv("MOE_MLIR_TEST_CRASH", "hang", 1);
  setenv("MOE_MLIR_COMPILE_TIMEOUT", "0.3", 1);
  EXPECT_EQ(compileAndRun(), MOE_COMPILER_CRASH);
  EXPECT_TRUE(contains(moe_last_error(), "MOE_MLIR_COMPILE_TIMEOUT"));
}

TEST_F(CompileTest, TheCompilerIsMissing) {
  setenv("MOE_MLIR_COMPILER", "/no/such/moe-compile", 1);
  EXPECT_EQ(compileAndRun(), MOE_COMPILER_NOT_FOUND);
  EXPECT_TRUE(contains(moe_last_error(), "/no/such/moe-compile"));
}

TEST_F(CompileTest, TheCompilerWritesRubbish) {
  useCompiler("echo rubbish\n");
  EXPECT_EQ(compileAndRun(), MOE_LOAD_ERROR);
  EXPECT_TRUE(contains(moe_last_error(), "is no compiled module"));
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
  EXPECT_EQ(compileAndRun(), MOE_LOAD_ERROR);
  EXPECT_TRUE(contains(moe_last_error(), "it calls getpid, which is not on the "
                                         "list of functions"))
      << moe_last_error();
}

TEST_F(CompileTest, CodeForAnotherCPU) {
  // Instruction sets that AMD dropped before AVX2.
  EXPECT_EQ(compileAndRun("features=+xop,+tbm"), MOE_LOAD_ERROR);
  EXPECT_TRUE(contains(moe_last_error(), "features that this machine lacks"))
      << moe_last_error();
}

TEST_F(CompileTest, AModuleFromAFile) {
  std::string input = (folder / "in.mlir").string();
  std::string output = (folder / "out.moe").string();
  writeFile(input, text);
  ASSERT_EQ(
      system((MOE_TEST_COMPILER " --start-at-llvm " + input + " -o " + output)
                 .c_str()),
      0);
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
  EXPECT_TRUE(contains(moe_last_error(), "z80"));
}

TEST_F(CompileTest, NullArgumentsAreRefusedByName) {
  moe_module *module = nullptr;
  auto refused = [](moe_status status, const std::string &message) {
    EXPECT_EQ(status, MOE_INVALID_ARGUMENT);
    EXPECT_TRUE(contains(moe_last_error(), message)) << moe_last_error();
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
