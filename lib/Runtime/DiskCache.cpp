// SPDX-License-Identifier: Apache-2.0
//===- DiskCache.cpp - compiled modules kept between processes ------------===//
#include "moe/Runtime/DiskCache.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace llvm;
using namespace moe;

static double now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

DiskCache DiskCache::fromEnvironment() {
  if (const char *folder = getenv("MOE_MLIR_CACHE"))
    return DiskCache(StringRef(folder) == "off" ? "" : folder);
  if (const char *base = getenv("XDG_CACHE_HOME"); base && *base)
    return DiskCache(std::string(base) + "/moe-mlir");
  if (const char *home = getenv("HOME"); home && *home)
    return DiskCache(std::string(home) + "/.cache/moe-mlir");
  return DiskCache("");
}

std::string DiskCache::path(StringRef key) const {
  return (folder + "/" + key + ".moe").str();
}

std::unique_ptr<MemoryBuffer> DiskCache::read(StringRef key) const {
  if (!enabled())
    return nullptr;
  std::string file = path(key);
  // An entry is code that will run: nobody else may have put it there.
  struct stat status;
  if (stat(file.c_str(), &status) != 0 ||
      (status.st_uid != geteuid() && status.st_uid != 0))
    return nullptr;
  // Read, not mapped: a mapped file that is cut short meanwhile is a SIGBUS.
  ErrorOr<std::unique_ptr<MemoryBuffer>> buffer = MemoryBuffer::getFile(
      file, /*IsText=*/false, /*RequiresNullTerminator=*/false,
      /*IsVolatile=*/true);
  return buffer ? std::move(*buffer) : nullptr;
}

static bool writeAll(int descriptor, StringRef bytes) {
  while (!bytes.empty()) {
    ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return false;
    bytes = bytes.drop_front(written);
  }
  return true;
}

bool DiskCache::write(StringRef key, StringRef bytes) const {
  if (!enabled())
    return false;
  static std::atomic<unsigned> counter{0};
  std::string final = path(key);
  std::string temporary = final + "." + std::to_string(getpid()) + "." +
                          std::to_string(counter++) + ".tmp";
  // Twice: the folder may be removed between its making and its use.
  int descriptor = -1;
  for (int attempt = 0; attempt < 2 && descriptor < 0; ++attempt) {
    if (sys::fs::create_directories(folder, /*IgnoreExisting=*/true,
                                    sys::fs::owner_all))
      return false;
    descriptor =
        open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  }
  if (descriptor < 0)
    return false;
  bool ok = writeAll(descriptor, bytes);
  ok = close(descriptor) == 0 && ok;
  ok = ok && rename(temporary.c_str(), final.c_str()) == 0;
  if (!ok)
    unlink(temporary.c_str());
  return ok;
}

DiskCache::Lock::~Lock() {
  if (descriptor < 0)
    return;
  // Not close() alone: a child forked meanwhile holds the same description.
  flock(descriptor, LOCK_UN);
  close(descriptor);
}

DiskCache::Lock DiskCache::lock(StringRef key, double timeoutSeconds) const {
  Lock lock;
  if (!enabled())
    return lock;
  // A few shared lock files that stay, in place of one an entry: removing lock
  // files safely is harder than letting two entries share one.
  std::string locks = folder + "/lock";
  if (sys::fs::create_directories(locks, /*IgnoreExisting=*/true,
                                  sys::fs::owner_all))
    return lock;
  std::string file = locks + "/" + key.take_front(2).str();
  int descriptor = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0)
    return lock;
  double deadline = now() + timeoutSeconds;
  long pause = 1000 * 1000;
  for (;;) {
    if (flock(descriptor, LOCK_EX | LOCK_NB) == 0) {
      lock.descriptor = descriptor;
      return lock;
    }
    if ((errno != EWOULDBLOCK && errno != EINTR) || now() >= deadline) {
      close(descriptor);
      return lock;
    }
    timespec time{0, pause};
    nanosleep(&time, nullptr);
    pause = std::min(2 * pause, 20L * 1000 * 1000);
  }
}
