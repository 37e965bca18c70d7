// SPDX-License-Identifier: Apache-2.0
//===- LinkedObject.h - an object file linked into this process -*- C++ -*-===//
#ifndef MOE_RUNTIME_LINKEDOBJECT_H
#define MOE_RUNTIME_LINKEDOBJECT_H

#include "moe/Runtime/Failure.h"
#include <memory>

namespace moe {

/// Takes `void **`: one pointer a memref descriptor.
using PackedEntry = void (*)(void **);

/// The symbol of an entry's packed form.
std::string packedSymbol(llvm::StringRef entry);

/// Memory of one linked object; unmapped when destroyed.
class LinkedObject {
public:
  /// Links with JITLink against the closed list of runtime symbols. No code is
  /// generated, no thread is started, nothing is looked up in the process.
  static llvm::Expected<std::unique_ptr<LinkedObject>>
  link(llvm::StringRef object);

  ~LinkedObject();

  /// Null if the object does not define it.
  void *lookUp(llvm::StringRef symbol) const;

private:
  class Context;
  struct Impl;
  explicit LinkedObject(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

} // namespace moe

#endif // MOE_RUNTIME_LINKEDOBJECT_H
