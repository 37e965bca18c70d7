// SPDX-License-Identifier: Apache-2.0
//===- Module.h - a loaded module -------------------------------*- C++ -*-===//
#ifndef MOE_RUNTIME_MODULE_H
#define MOE_RUNTIME_MODULE_H

#include "moe/Runtime/Container.h"
#include "moe/Runtime/Cuda.h"
#include "moe/Runtime/LinkedObject.h"
#include "moe/Runtime/Manifest.h"

namespace moe {

/// A compiled module in memory, ready to call. Immutable, so any number of
/// threads may call it.
class Module {
public:
  /// `bytes` is a container; `name` is for messages.
  static llvm::Expected<std::shared_ptr<Module>> load(llvm::StringRef bytes,
                                                      llvm::StringRef name);
  static llvm::Expected<std::shared_ptr<Module>> load(const Container &);

  llvm::StringRef manifestText() const { return text; }
  const Manifest &manifest() const { return spec; }

  llvm::Expected<const EntrySpec *> entry(llvm::StringRef name) const;
  llvm::Expected<uint64_t>
  workspaceSize(llvm::StringRef entry,
                llvm::ArrayRef<const DLTensor *> args) const;
  llvm::Error invoke(llvm::StringRef entry,
                     llvm::ArrayRef<const DLTensor *> args, void *stream) const;

private:
  Module() = default;

  std::string text;
  Manifest spec;
  std::unique_ptr<LinkedObject> object;
  /// Null for the CPU.
  std::unique_ptr<GPUKernels> kernels;
  llvm::StringMap<PackedEntry> functions;
};

} // namespace moe

#endif // MOE_RUNTIME_MODULE_H
