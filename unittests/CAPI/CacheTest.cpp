// SPDX-License-Identifier: Apache-2.0
// Nothing that happens to the cache is fatal, and nothing is compiled twice
// without need.
#include "Fixture.h"
#include "moe/Runtime/DiskCache.h"
#include <csignal>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <thread>

using namespace moe_test;
namespace fs = std::filesystem;

/// Whether locks are refused, as some network file systems do.
static bool noLocks = false;

/// Seen by the library before libc's.
extern "C" __attribute__((visibility("default"))) int flock(int descriptor,
                                                            int operation) {
  if (!noLocks)
    return syscall(SYS_flock, descriptor, operation);
  errno = ENOLCK;
  return -1;
}

namespace {
class CacheTest : public CompileTest {
protected:
  /// In a new process, which has no modules of its own yet.
  int runInChild() {
    return finish(start([&] { return compileAndRun(); }));
  }
};
} // namespace

TEST_F(CacheTest, ASecondProcessDoesNotCompile) {
  EXPECT_EQ(runInChild(), 0);
  EXPECT_EQ(entries().size(), 1u);
  EXPECT_EQ(runInChild(), 0);
  EXPECT_EQ(starts(), 1);
}

TEST_F(CacheTest, OptionsAndTextAndCompilerMakeTheKey) {
  EXPECT_EQ(compileAndRun(), 0);
  EXPECT_EQ(compileAndRun("cpu=x86-64"), 0);
  EXPECT_EQ(starts(), 2);
  text += "// another comment\n";
  EXPECT_EQ(compileAndRun(), 0);
  EXPECT_EQ(starts(), 3);
  useCompiler("exec " MOE_TEST_COMPILER " --start-at-llvm \"$@\" # newer\n");
  EXPECT_EQ(compileAndRun(), 0);
  EXPECT_EQ(starts(), 4);
  EXPECT_EQ(entries().size(), 4u);
}

TEST_F(CacheTest, ThreadsCompileOnce) {
  std::vector<std::thread> threads;
  std::vector<int> results(8, -1);
  for (int &result : results)
    threads.emplace_back([&] { result = compileAndRun(); });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(results, std::vector<int>(8, 0));
  EXPECT_EQ(starts(), 1);
}

TEST_F(CacheTest, ThreadsCompileOnceWithoutADisk) {
  setenv("MOE_MLIR_CACHE", "off", 1);
  std::vector<std::thread> threads;
  std::vector<moe_module *> modules(4);
  for (moe_module *&module : modules)
    threads.emplace_back(
        [&] { moe_compile(text.data(), text.size(), nullptr, &module); });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(starts(), 1);
  for (moe_module *module : modules) {
    EXPECT_NE(module, nullptr);
    moe_module_release(module);
  }
}

TEST_F(CacheTest, ProcessesThatStartAtOnceCompileOnce) {
  std::vector<pid_t> children;
  for (int i = 0; i < 8; ++i)
    children.push_back(start([&] { return compileAndRun(); }));
  for (pid_t child : children)
    EXPECT_EQ(finish(child), 0);
  EXPECT_EQ(starts(), 1);
  EXPECT_EQ(entries().size(), 1u) << "no temporary file may be left";
}

TEST_F(CacheTest, DamagedEntriesAreCompiledAnew) {
  ASSERT_EQ(runInChild(), 0);
  ASSERT_EQ(entries().size(), 1u);
  fs::path entry = entries()[0];
  std::string good = readFile(entry);
  std::vector<std::string> damaged = {"",
                                      good.substr(0, 20),
                                      good.substr(0, good.size() / 2),
                                      good.substr(0, good.size() - 1),
                                      good + "x",
                                      std::string(5000, 'a')};
  for (size_t at :
       {size_t(3), size_t(9), size_t(40), good.size() / 2, good.size() - 5}) {
    damaged.push_back(good);
    damaged.back()[at] ^= 4;
  }
  int expected = 1;
  for (const std::string &bytes : damaged) {
    writeFile(entry, bytes);
    EXPECT_EQ(runInChild(), 0);
    EXPECT_EQ(starts(), ++expected) << bytes.size();
    EXPECT_EQ(readFile(entry), good) << bytes.size();
  }
}

TEST_F(CacheTest, TheFolderIsTheUsers) {
  for (bool xdg : {true, false}) {
    EXPECT_EQ(finish(start([&] {
                unsetenv("MOE_MLIR_CACHE");
                setenv("HOME", (folder / "home").c_str(), 1);
                if (xdg)
                  setenv("XDG_CACHE_HOME", (folder / "xdg").c_str(), 1);
                else
                  unsetenv("XDG_CACHE_HOME");
                return compileAndRun();
              })),
              0);
    fs::path place = xdg ? folder / "xdg" : folder / "home" / ".cache";
    EXPECT_FALSE(fs::is_empty(place / "moe-mlir")) << place;
  }
  EXPECT_EQ(starts(), 2);
}

TEST_F(CacheTest, AFolderThatCannotBeMade) {
  for (const char *place : {"/proc/no/folder", "/dev/null/cache"}) {
    setenv("MOE_MLIR_CACHE", place, 1);
    EXPECT_EQ(runInChild(), 0) << place;
  }
  EXPECT_EQ(starts(), 2);
}

TEST_F(CacheTest, AReadOnlyFolder) {
  ASSERT_EQ(runInChild(), 0);
  fs::path entry = entries()[0], kept = folder / "kept";
  fs::rename(entry, kept);
  fs::permissions(cache(), fs::perms::owner_read | fs::perms::owner_exec);
  fs::permissions(cache() / "lock",
                  fs::perms::owner_read | fs::perms::owner_exec);
  auto unprivileged = [&] {
    // The permissions of a folder mean nothing to root.
    if (getuid() == 0) {
      fs::permissions(folder, fs::perms::all);
      fs::permissions(cache(), fs::perms::others_read | fs::perms::others_exec);
      fs::permissions(folder / "compiler", fs::perms::all);
      fs::permissions(folder / "log", fs::perms::all);
      if (setuid(65534) != 0)
        return 98;
    }
    return compileAndRun();
  };
  EXPECT_EQ(finish(start(unprivileged)), 0);
  fs::permissions(cache(), fs::perms::owner_all);
  fs::permissions(cache() / "lock", fs::perms::owner_all);
  EXPECT_EQ(starts(), 2);
  EXPECT_EQ(entries().size(), 0u);
}

TEST_F(CacheTest, AFullDisk) {
  // A limit on file sizes stands for it: writing fails half-way.
  int code = finish(start([&] {
    moe::DiskCache cache(this->cache().string());
    signal(SIGXFSZ, SIG_IGN);
    rlimit limit{1000, 1000};
    setrlimit(RLIMIT_FSIZE, &limit);
    if (cache.write("key", std::string(5000, 'x')))
      return 1;
    return cache.read("key") ? 2 : 0;
  }));
  EXPECT_EQ(code, 0);
  EXPECT_EQ(entries().size(), 0u) << "half a file was left";
}

TEST_F(CacheTest, TheFolderIsRemovedWhileRunning) {
  EXPECT_EQ(compileAndRun(), 0);
  fs::remove_all(cache());
  EXPECT_EQ(compileAndRun("cpu=x86-64"), 0);
  fs::remove_all(cache());
  EXPECT_EQ(compileAndRun(), 0);
  EXPECT_EQ(starts(), 3);
  EXPECT_EQ(entries().size(), 1u);
}

TEST_F(CacheTest, TheFolderIsRemovedWhileCompiling) {
  useCompiler("rm -rf " + cache().string() +
              "\nexec " MOE_TEST_COMPILER " --start-at-llvm \"$@\"\n");
  EXPECT_EQ(compileAndRun(), 0);
  EXPECT_EQ(entries().size(), 1u);
}

TEST_F(CacheTest, ALockThatIsNeverGivenBack) {
  ASSERT_EQ(runInChild(), 0);
  fs::remove(entries()[0]);
  std::vector<int> held;
  for (const auto &item : fs::directory_iterator(cache() / "lock")) {
    held.push_back(open(item.path().c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(flock(held.back(), LOCK_EX), 0);
  }
  ASSERT_FALSE(held.empty());
  setenv("MOE_MLIR_LOCK_TIMEOUT", "0.2", 1);
  EXPECT_EQ(runInChild(), 0);
  EXPECT_EQ(starts(), 2);
  for (int descriptor : held)
    close(descriptor);
}

TEST_F(CacheTest, AFileSystemWithoutLocks) {
  // The place of the lock files cannot be made.
  fs::create_directories(cache());
  writeFile(cache() / "lock", "");
  EXPECT_EQ(runInChild(), 0);
  EXPECT_EQ(runInChild(), 0);
  EXPECT_EQ(starts(), 1);
}

TEST_F(CacheTest, AFileSystemThatRefusesLocks) {
  noLocks = true;
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i)
    children.push_back(start([&] { return compileAndRun(); }));
  for (pid_t child : children)
    EXPECT_EQ(finish(child), 0);
  int compiled = starts();
  EXPECT_GE(compiled, 1);
  EXPECT_EQ(runInChild(), 0);
  noLocks = false;
  EXPECT_EQ(starts(), compiled) << "what is written is found without locks";
  EXPECT_EQ(entries().size(), 1u);
}

TEST_F(CacheTest, AnotherUsersEntryIsNotRun) {
  if (getuid() != 0)
    GTEST_SKIP() << "only root can give a file away";
  ASSERT_EQ(runInChild(), 0);
  ASSERT_EQ(chown(entries()[0].c_str(), 65534, 65534), 0);
  EXPECT_EQ(runInChild(), 0);
  EXPECT_EQ(starts(), 2);
}
