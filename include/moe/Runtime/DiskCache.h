// SPDX-License-Identifier: Apache-2.0
//===- DiskCache.h - compiled modules kept between processes ----*- C++ -*-===//
//
// One file an entry, written beside its final name and renamed. Nothing here is
// ever fatal: a cache that cannot be read or written is a slower compiler.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_RUNTIME_DISKCACHE_H
#define MOE_RUNTIME_DISKCACHE_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/MemoryBuffer.h"
#include <memory>
#include <string>

namespace moe {

class DiskCache {
public:
  /// `MOE_MLIR_CACHE` ("off" or empty: none), else `$XDG_CACHE_HOME/moe-mlir`,
  /// else `~/.cache/moe-mlir`, else none.
  static DiskCache fromEnvironment();

  explicit DiskCache(std::string folder) : folder(std::move(folder)) {}

  bool enabled() const { return !folder.empty(); }

  /// The bytes of an entry, unchecked; null if there is none that can be read.
  std::unique_ptr<llvm::MemoryBuffer> read(llvm::StringRef key) const;

  /// False if it could not be written; the folder is made if it is missing.
  bool write(llvm::StringRef key, llvm::StringRef bytes) const;

  /// Held while an entry is compiled, so that processes that start at once
  /// compile it once. Released by its destructor, or by the kernel when the
  /// process dies.
  class Lock {
  public:
    Lock() = default;
    Lock(Lock &&other) : descriptor(other.descriptor) { other.descriptor = -1; }
    Lock &operator=(Lock &&) = delete;
    ~Lock();
    bool held() const { return descriptor >= 0; }

  private:
    friend class DiskCache;
    int descriptor = -1;
  };

  /// Waits at most `timeoutSeconds`; gives a lock that is not held if the time
  /// is over or the file system has no locks.
  Lock lock(llvm::StringRef key, double timeoutSeconds) const;

private:
  std::string path(llvm::StringRef key) const;

  std::string folder;
};

} // namespace moe

#endif // MOE_RUNTIME_DISKCACHE_H
