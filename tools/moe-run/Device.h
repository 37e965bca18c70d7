// SPDX-License-Identifier: Apache-2.0
//
// Where a call's tensors lie and how it is timed: this process, or a CUDA
// device.

#ifndef MOE_TOOLS_MOE_RUN_DEVICE_H
#define MOE_TOOLS_MOE_RUN_DEVICE_H

#include "dlpack/dlpack.h"

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <memory>
#include <vector>

namespace mlir::moe::run {

class Device {
public:
  virtual ~Device();

  /// The host's memory.
  static Device &host();
  /// What a target's modules run on: the host for "cpu", the CUDA device of
  /// "cuda:1", the first for other GPU targets. Lives as long as the process.
  static llvm::Expected<Device *> of(llvm::StringRef target);

  virtual DLDevice description() const = 0;
  /// What a call is put on.
  virtual void *stream() const { return nullptr; }

  /// Memory at an address that any module takes; null and a problem otherwise.
  virtual llvm::Expected<void *> allocate(int64_t bytes) = 0;
  virtual void release(void *address) = 0;
  /// To the device, and back when all calls are done; at least one byte.
  virtual llvm::Error write(void *to, const void *from, int64_t bytes) = 0;
  virtual llvm::Error read(void *to, const void *from, int64_t bytes) = 0;

  /// Microseconds of each of so many calls.
  virtual llvm::Expected<std::vector<double>>
  time(unsigned repetitions, llvm::function_ref<llvm::Error()> call) = 0;
};

} // namespace mlir::moe::run

#endif // MOE_TOOLS_MOE_RUN_DEVICE_H
