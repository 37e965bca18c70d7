// SPDX-License-Identifier: Apache-2.0
//===- Fixture.h - a folder, a counted compiler and children ----*- C++ -*-===//
//
// Each test has a cache folder of its own and a compiler that logs its starts.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_UNITTESTS_CAPI_FIXTURE_H
#define MOE_UNITTESTS_CAPI_FIXTURE_H

#include "moe-c/moe.h"
#include "gtest/gtest.h"
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace moe_test {

inline std::string readFile(const std::filesystem::path &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void writeFile(const std::filesystem::path &path,
                      const std::string &text) {
  std::ofstream(path, std::ios::binary) << text;
}

/// Runs `body` in a forked child; its exit code, or -1 if it hung or died.
template <typename Body> pid_t start(Body body) {
  pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(body());
  }
  return child;
}
inline int finish(pid_t child) {
  int status;
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
    return -1;
  return WEXITSTATUS(status);
}

class CompileTest : public testing::Test {
protected:
  void SetUp() override {
    char name[] = "/tmp/moe-capi-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder = name;
    setenv("MOE_MLIR_CACHE", cache().c_str(), 1);
    setenv("MOE_MLIR_REPRODUCER_DIR", (folder / "crash").c_str(), 1);
    for (const char *unset : {"MOE_MLIR_TEST_CRASH", "MOE_MLIR_LOCK_TIMEOUT",
                              "MOE_MLIR_COMPILE_TIMEOUT"})
      unsetenv(unset);
    useCompiler("exec " MOE_TEST_COMPILER " --start-at-llvm \"$@\"\n");
    text = readFile(MOE_TEST_MODULE);
    ASSERT_FALSE(text.empty());
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  /// A compiler that logs one line and runs `script`.
  void useCompiler(const std::string &script) {
    std::filesystem::path path = folder / "compiler";
    writeFile(path, "#!/bin/sh\necho started >> " + (folder / "log").string() +
                        "\n" + script);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    setenv("MOE_MLIR_COMPILER", path.c_str(), 1);
  }

  std::filesystem::path cache() const { return folder / "cache"; }

  int starts() const {
    int lines = 0;
    for (char c : readFile(folder / "log"))
      lines += c == '\n';
    return lines;
  }

  std::vector<std::filesystem::path> entries() const {
    std::vector<std::filesystem::path> result;
    if (std::filesystem::exists(cache()))
      for (const auto &item : std::filesystem::directory_iterator(cache()))
        if (item.is_regular_file())
          result.push_back(item.path());
    return result;
  }

  /// Compiles, calls, checks the result and releases; 0 if all went well.
  int compileAndRun(const char *pipelineOptions = nullptr) const {
    moe_options options{sizeof(moe_options), "cpu", pipelineOptions};
    moe_module *module = nullptr;
    moe_status status =
        moe_compile(text.data(), text.size(), &options, &module);
    if (status != MOE_OK)
      return status;
    float x[4] = {1, 2, 3, 4}, y[4] = {};
    int64_t shape[1] = {4};
    DLTensor in{x, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, shape, nullptr, 0};
    DLTensor out = in;
    out.data = y;
    const DLTensor *args[] = {&in, &out};
    status = moe_invoke(module, "twice", args, 2, nullptr);
    moe_module_release(module);
    if (status != MOE_OK)
      return status;
    return y[0] == 2 && y[3] == 8 ? 0 : 99;
  }

  /// Compiles into a file; its path.
  std::string compileToFile() const {
    std::string input = folder / "in.mlir", output = folder / "out.moe";
    writeFile(input, text);
    std::string command =
        MOE_TEST_COMPILER " --start-at-llvm " + input + " -o " + output;
    EXPECT_EQ(system(command.c_str()), 0);
    return output;
  }

  /// What the last call that failed said.
  virtual std::string said() const { return moe_last_error(); }
  testing::AssertionResult says(const std::string &part) const {
    if (said().find(part) != std::string::npos)
      return testing::AssertionSuccess();
    return testing::AssertionFailure() << "it says: " << said();
  }
  /// Whether a call ended with the status and says that.
  testing::AssertionResult refuses(int status, int expected,
                                   const std::string &part) const {
    if (status == expected)
      return says(part);
    return testing::AssertionFailure() << "status " << status << " and not "
                                       << expected << "; it says: " << said();
  }

  std::filesystem::path folder;
  std::string text;
};

} // namespace moe_test

#endif // MOE_UNITTESTS_CAPI_FIXTURE_H
