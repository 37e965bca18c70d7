// SPDX-License-Identifier: Apache-2.0
#include "moe/Runtime/ParallelFor.h"
#include "gtest/gtest.h"
#include <atomic>
#include <cstdlib>
#include <dlfcn.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {
using Counts = std::vector<std::atomic<int>>;

void count(int64_t i, void *ctx) { ++(*static_cast<Counts *>(ctx))[i]; }

bool eachOnce(int64_t n) {
  Counts counts(n);
  moe_rt_parallel_for(count, &counts, n);
  for (auto &c : counts)
    if (c != 1)
      return false;
  return true;
}

/// Runs `body` in a child; its exit code, or -1 if it hung or died.
template <typename Body> int inChild(Body body) {
  pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(body());
  }
  int status;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
} // namespace

TEST(ParallelForTest, RunsEachTaskOnce) {
  for (int64_t n : {-1, 0})
    moe_rt_parallel_for(count, nullptr, n);
  for (int64_t n : {1, 2, 3, 7, 1000})
    for (int round = 0; round < 20; ++round)
      ASSERT_TRUE(eachOnce(n)) << n;
}

TEST(ParallelForTest, NestedCallsRunInline) {
  std::atomic<int> total{0};
  moe_rt_parallel_for(
      [](int64_t, void *ctx) {
        moe_rt_parallel_for(
            [](int64_t, void *inner) {
              ++*static_cast<std::atomic<int> *>(inner);
            },
            ctx, 10);
      },
      &total, 10);
  EXPECT_EQ(total, 100);
}

TEST(ParallelForTest, ManyHostThreads) {
  std::atomic<bool> ok{true};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round)
        if (!eachOnce(33))
          ok = false;
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_TRUE(ok);
}

TEST(ParallelForTest, UsableAfterFork) {
  ASSERT_TRUE(eachOnce(100));
  EXPECT_EQ(inChild([] { return eachOnce(100) ? 0 : 1; }), 0);
  EXPECT_EQ(
      inChild([] { return inChild([] { return eachOnce(100) ? 0 : 1; }); }), 0);
  EXPECT_TRUE(eachOnce(100));
}

// Last, since a library once loaded stays: each test of ctest is a process of
// its own, and run alone this one starts without libgomp, too.
TEST(ParallelForTest, UsesTheHostsOpenMP) {
  ASSERT_TRUE(eachOnce(100));
  EXPECT_STRNE(moe::lastParallelForBackend(), "gomp");
  void *handle = dlopen("libgomp.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (!handle)
    GTEST_SKIP() << "no libgomp on this machine";
  ASSERT_TRUE(eachOnce(100));
  EXPECT_STREQ(moe::lastParallelForBackend(), "gomp");
  auto setThreads =
      reinterpret_cast<void (*)(int)>(dlsym(handle, "omp_set_num_threads"));
  for (int threads : {1, 2, 5}) {
    setThreads(threads);
    EXPECT_TRUE(eachOnce(1000));
  }
  // libgomp's threads do not exist in a child, and it would wait for them.
  EXPECT_EQ(inChild([] {
              bool ok = eachOnce(1000);
              bool elsewhere =
                  std::string(moe::lastParallelForBackend()) != "gomp";
              return ok && elsewhere ? 0 : 1;
            }),
            0);
  EXPECT_TRUE(eachOnce(100));
  EXPECT_STREQ(moe::lastParallelForBackend(), "gomp");
}
