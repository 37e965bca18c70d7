// SPDX-License-Identifier: Apache-2.0
//===- HostCPU.cpp - what the CPU of this process has ---------------------===//
#include "moe/Runtime/HostCPU.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/TargetParser/Host.h"
#include <sys/syscall.h>
#include <unistd.h>

using namespace llvm;
using namespace moe;

/// Of asm/prctl.h and the manual of XSAVE: ask for a state component, and the
/// one that holds the tiles' data.
static constexpr long kRequestPermission = 0x1023, kTileData = 18;

/// For all threads of this process, and those of its forks. Refused where a
/// thread has an alternative signal stack that is too small for the tiles.
static bool requestTiles() {
#ifdef __x86_64__
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

namespace {
struct Host {
  Host() : features(sys::getHostCPUFeatures()) {
    if (features.lookup("amx-tile") && !requestTiles()) {
      for (auto &feature : features)
        if (feature.first().starts_with("amx-"))
          feature.second = false;
      // All others of AMX imply it.
      refused = "-amx-tile";
    }
    std::vector<std::string> words;
    for (const auto &feature : features)
      words.push_back((feature.second ? "+" : "-") + feature.first().str());
    llvm::sort(words);
    text = join(words, ",");
  }
  StringMap<bool> features;
  std::string text;
  StringRef refused;
};
} // namespace

static const Host &host() {
  static const auto &instance = *new Host();
  return instance;
}

const StringMap<bool> &moe::hostFeatures() { return host().features; }
const std::string &moe::hostFeatureText() { return host().text; }
StringRef moe::refusedFeatures() { return host().refused; }
