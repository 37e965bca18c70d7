// SPDX-License-Identifier: Apache-2.0
#include "moe/Runtime/HostCPU.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/TargetParser/Host.h"
#include "gtest/gtest.h"
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace llvm;
using namespace moe;

namespace {
TEST(HostCPU, TextIsTheFeaturesInOrder) {
  SmallVector<StringRef> words;
  StringRef(hostFeatureText()).split(words, ',');
  EXPECT_EQ(words.size(), hostFeatures().size());
  EXPECT_TRUE(llvm::is_sorted(words));
  for (StringRef word : words)
    EXPECT_EQ(hostFeatures().lookup(word.drop_front()), word[0] == '+')
        << word.str();
}

TEST(HostCPU, WhatIsRefusedIsOff) {
  bool tiles = sys::getHostCPUFeatures().lookup("amx-tile");
  EXPECT_EQ(refusedFeatures(),
            tiles && !hostFeatures().lookup("amx-tile") ? "-amx-tile" : "");
}

TEST(HostCPU, TilesAreThisProcess) {
  if (!hostFeatures().lookup("amx-tile"))
    GTEST_SKIP() << "no AMX";
  uint64_t permitted = 0;
  ASSERT_EQ(syscall(SYS_arch_prctl, /*ARCH_GET_XCOMP_PERM*/ 0x1022, &permitted),
            0);
  EXPECT_TRUE(permitted >> 18 & 1);
}

/// Enough for what AVX-512 keeps across a signal, and too little for tiles.
char signalStack[8192];

TEST(HostCPU, TilesThatAreRefusedAreNoFeatures) {
  if (!sys::getHostCPUFeatures().lookup("amx-tile"))
    GTEST_SKIP() << "no AMX";
  // In a process of its own: features are looked at once.
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        stack_t stack = {};
        stack.ss_sp = signalStack;
        stack.ss_size = sizeof signalStack;
        if (sigaltstack(&stack, nullptr))
          _exit(2);
        bool any = llvm::any_of(hostFeatures(), [](const auto &feature) {
          return feature.second && feature.first().starts_with("amx-");
        });
        _exit(any || refusedFeatures() != "-amx-tile");
      },
      testing::ExitedWithCode(0), "");
}
} // namespace
