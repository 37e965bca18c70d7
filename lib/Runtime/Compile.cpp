// SPDX-License-Identifier: Apache-2.0
//===- Compile.cpp - from text to a loaded module -------------------------===//
#include "moe/Runtime/Compile.h"
#include "moe/Runtime/Cuda.h"
#include "moe/Runtime/DiskCache.h"
#include "moe/Runtime/GPUTarget.h"
#include "moe/Runtime/HostCPU.h"
#include "moe/Runtime/Ptxas.h"
#include "moe/Runtime/Symbols.h"
#include "moe/Runtime/Version.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/SHA256.h"
#include "llvm/TargetParser/Host.h"
#include <cstdlib>
#include <new>
#include <pthread.h>
#include <sys/stat.h>

using namespace llvm;
using namespace moe;

namespace {
//===----------------------------------------------------------------------===//
// What a compilation depends on
//===----------------------------------------------------------------------===//

const std::string &hostCPU() {
  static const auto &text =
      *new std::string(sys::getHostCPUName().str() + " " + hostFeatureText());
  return text;
}

class KeyHash {
public:
  /// With its length, so that two fields cannot run into each other.
  KeyHash &add(StringRef field) {
    hash.update(std::to_string(field.size()) + ":");
    hash.update(field);
    return *this;
  }
  std::string text() { return toHex(hash.final(), /*LowerCase=*/true); }

private:
  SHA256 hash;
};

/// Changes whenever the compiler is built or installed anew, also where its
/// version does not.
std::string identityOf(const std::string &compiler) {
  struct stat status;
  if (stat(compiler.c_str(), &status) != 0)
    return compiler;
  return std::to_string(status.st_size) + "." +
         std::to_string(status.st_mtim.tv_sec) + "." +
         std::to_string(status.st_mtim.tv_nsec);
}

std::string cacheKey(StringRef input, const CompileOptions &options,
                     const std::string &compiler,
                     const std::string &assembler) {
  KeyHash hash;
  hash.add(versionString()).add(identityOf(compiler));
  hash.add(options.target).add(hostCPU()).add(assembler);
  for (const std::string &option : options.options)
    hash.add(option);
  return hash.add("input").add(input).text();
}

/// Adds the ptxas to use, unless one is named; gives what identifies it and
/// what it assembles. The search runs programs, so once for each driver is
/// enough.
std::string chooseAssembler(CompileOptions &options) {
  std::string text =
      "PTX " + std::to_string(findGPUTarget(options.target)->ptx) + " by ";
  for (StringRef option : options.options)
    if (option.consume_front("ptxas="))
      return text + identityOf(option.str());
  int driverMajor = cudaDriverVersion() / 1000;
  static const auto &found = *new std::optional<Ptxas>(findPtxas(driverMajor));
  if (!found)
    return text + "the driver's, CUDA " + std::to_string(driverMajor);
  options.options.push_back("ptxas=" + found->path);
  return text + identityOf(found->path);
}

/// The compiler is a process of its own, which may be given what this one is
/// refused.
void leaveOutRefusedFeatures(CompileOptions &options) {
  StringRef refused = refusedFeatures();
  if (refused.empty() || any_of(options.options, [](StringRef option) {
        return option.starts_with("cpu=") && option != "cpu=host";
      }))
    return;
  std::string features = "features=" + refused.str();
  for (StringRef option : options.options)
    if (option.consume_front("features="))
      features = "features=" + refused.str() + "," + option.str();
  options.options.push_back(features);
}

double lockTimeout() {
  if (const char *value = getenv("MOE_MLIR_LOCK_TIMEOUT"))
    return atof(value);
  return 300;
}

//===----------------------------------------------------------------------===//
// The modules of this process
//===----------------------------------------------------------------------===//

struct Table {
  struct Slot {
    std::weak_ptr<Module> module;
    bool compiling = false;
  };
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
  StringMap<Slot> slots;
};

Table &table() {
  static auto &instance = *new Table();
  return instance;
}

// A fork leaves a child whose other threads are gone: locks they held stay
// locked, and modules they were compiling never come.
void beforeFork() {
  hostCPU();
  lookUpRuntimeSymbol("");
  pthread_mutex_lock(&table().mutex);
}
void afterForkInParent() { pthread_mutex_unlock(&table().mutex); }
void afterForkInChild() {
  Table &t = table();
  new (&t.mutex) pthread_mutex_t PTHREAD_MUTEX_INITIALIZER;
  new (&t.changed) pthread_cond_t PTHREAD_COND_INITIALIZER;
  for (auto &slot : t.slots)
    slot.second.compiling = false;
}
__attribute__((constructor)) void watchForks() {
  pthread_atfork(beforeFork, afterForkInParent, afterForkInChild);
}

/// The one thread that compiles a key; others wait for it.
class Turn {
public:
  /// Gives the module if this process has it.
  Turn(StringRef key, std::shared_ptr<Module> &module) : key(key) {
    Table &t = table();
    pthread_mutex_lock(&t.mutex);
    for (;;) {
      Table::Slot &slot = t.slots[key];
      module = slot.module.lock();
      if (module || !slot.compiling) {
        slot.compiling = !module;
        mine = !module;
        break;
      }
      pthread_cond_wait(&t.changed, &t.mutex);
    }
    pthread_mutex_unlock(&t.mutex);
  }
  void finish(std::shared_ptr<Module> module) { result = std::move(module); }
  ~Turn() {
    if (!mine)
      return;
    Table &t = table();
    pthread_mutex_lock(&t.mutex);
    Table::Slot &slot = t.slots[key];
    slot.compiling = false;
    slot.module = result;
    pthread_cond_broadcast(&t.changed);
    pthread_mutex_unlock(&t.mutex);
  }

private:
  StringRef key;
  bool mine = false;
  std::shared_ptr<Module> result;
};

/// Null if there is no entry, or one that cannot be used.
std::shared_ptr<Module> loadCached(const DiskCache &cache, StringRef key) {
  std::unique_ptr<MemoryBuffer> bytes = cache.read(key);
  if (!bytes)
    return nullptr;
  Expected<std::shared_ptr<Module>> module =
      Module::load(bytes->getBuffer(), key);
  if (module)
    return std::move(*module);
  // Damaged: the compiler writes a new one in its place.
  consumeError(module.takeError());
  return nullptr;
}
} // namespace

Expected<std::shared_ptr<Module>> moe::compile(StringRef input,
                                               const CompileOptions &given) {
  CompileOptions options = given;
  Expected<std::string> target = resolveTarget(given.target, options.options);
  if (!target)
    return target.takeError();
  options.target = *target;
  Expected<std::string> compiler = findCompiler();
  if (!compiler)
    return compiler.takeError();
  std::string assembler;
  if (options.target == "cpu")
    leaveOutRefusedFeatures(options);
  else
    assembler = chooseAssembler(options);
  std::string key = cacheKey(input, options, *compiler, assembler);

  std::shared_ptr<Module> module;
  Turn turn(key, module);
  if (module)
    return module;
  DiskCache cache = DiskCache::fromEnvironment();
  if ((module = loadCached(cache, key))) {
    turn.finish(module);
    return module;
  }
  DiskCache::Lock lock = cache.lock(key, lockTimeout());
  // Whoever held the lock may have compiled it.
  if ((module = loadCached(cache, key))) {
    turn.finish(module);
    return module;
  }
  Expected<std::string> bytes = runCompiler(*compiler, input, options);
  if (!bytes)
    return bytes.takeError();
  Expected<std::shared_ptr<Module>> loaded =
      Module::load(*bytes, "the output of " + *compiler);
  if (!loaded)
    return loaded.takeError();
  cache.write(key, *bytes);
  turn.finish(*loaded);
  return std::move(*loaded);
}
