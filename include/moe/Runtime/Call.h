// SPDX-License-Identifier: Apache-2.0
//===- Call.h - the checks of a call and its memref descriptors -*- C++ -*-===//
//
// Nothing runs before every argument of a call has been compared with the
// manifest: compiled code has no checks of its own.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_RUNTIME_CALL_H
#define MOE_RUNTIME_CALL_H

#include "moe/Runtime/Manifest.h"

namespace moe {

/// Values of the entry's symbols, read from the shapes of the first
/// `spec.tensors` that are given; shapes and dtypes of all given tensors are
/// checked against them. At least inputs and inouts must be given.
llvm::Error bindSymbols(const EntrySpec &entry,
                        llvm::ArrayRef<const DLTensor *> args,
                        llvm::SmallVectorImpl<int64_t> &symbols);

llvm::Expected<uint64_t> workspaceBytes(const EntrySpec &entry,
                                        llvm::ArrayRef<int64_t> symbols);

/// The arguments of one call, in the form that `_moe_packed_<entry>` takes:
/// one pointer a memref descriptor {allocated, aligned, offset, sizes,
/// strides}.
class PackedCall {
public:
  /// `gpu`: all tensors lie on one CUDA device; otherwise in host memory.
  explicit PackedCall(bool gpu = false) : gpu(gpu) {}

  /// Checks everything: count, device, dtype, shape, strides, alignment,
  /// overlap, workspace, constraints.
  llvm::Error prepare(const EntrySpec &entry,
                      llvm::ArrayRef<const DLTensor *> args);

  void **data() { return pointers.data(); }
  /// CUDA's number of the tensors' device.
  int deviceOrdinal() const { return ordinal; }

private:
  llvm::Error checkMemory(const EntrySpec &entry, const TensorSpec &spec,
                          const DLTensor &tensor, int64_t bytes);

  const bool gpu;
  int ordinal = -1;
  void append(void *pointer, llvm::ArrayRef<int64_t> shape);

  llvm::SmallVector<int64_t, 160> words;
  llvm::SmallVector<unsigned, 20> offsets;
  llvm::SmallVector<void *, 20> pointers;
};

} // namespace moe

#endif // MOE_RUNTIME_CALL_H
