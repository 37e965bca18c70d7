// SPDX-License-Identifier: Apache-2.0
//===- Cuda.h - kernels of a module on a CUDA device ------------*- C++ -*-===//
//
// libcuda is opened when a module with kernels is loaded, never linked. Kernels
// are loaded once, at the module's first call, independent of contexts. A call
// allocates nothing, waits for nothing and uses the caller's stream only, so it
// can be captured in a graph.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_RUNTIME_CUDA_H
#define MOE_RUNTIME_CUDA_H

#include "moe/Runtime/Failure.h"
#include "moe/Runtime/GPUTarget.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include <cstdint>
#include <memory>

namespace moe {

/// What compiled code says of a kernel; `_moe_gpu_kernels` is an array of it.
struct KernelEntry {
  const void *image;
  int64_t size;
  const char *name;
};

/// The CUDA version that the driver supports, as in 13000; 0 without a driver.
/// Starts nothing.
int cudaDriverVersion();

/// The driver's library, opened and checked: a symbol of it for a program that
/// needs more of the driver than this library does.
llvm::Expected<void *> cudaSymbol(const char *name);

/// The compute capability, as in 90, of a device (CUDA's ordinal), or with -1
/// of the current context's, else of the first.
llvm::Expected<int> cudaCapability(int ordinal);

/// The kernels of one module.
class GPUKernels {
public:
  /// `cudaVersion`: what the kernels were assembled for, as in 13000; 0 for
  /// text that the driver compiles. No driver is needed before a call.
  GPUKernels(llvm::ArrayRef<KernelEntry> kernels, int cudaVersion,
             const GPUTarget &target);
  ~GPUKernels();

  /// Runs `host`, whose launches go to this stream of this device (CUDA's
  /// ordinal). The first launch that fails ends the rest of them.
  llvm::Error call(int device, void *stream,
                   llvm::function_ref<void()> host) const;

private:
  struct Impl;
  std::unique_ptr<Impl> impl;
  friend struct CudaCall;
};

} // namespace moe

// What the host part of compiled code calls, only inside GPUKernels::call.
extern "C" {
/// Kernel number `kernel` of the module; a grid with a zero is no launch.
void moe_rt_launch(int64_t kernel, int64_t gridX, int64_t gridY, int64_t gridZ,
                   int64_t blockX, int64_t blockY, int64_t blockZ,
                   int64_t sharedBytes, void **arguments);
/// Multiprocessors of the device.
int64_t moe_rt_multiprocessors();
/// cuTensorMapEncodeTiled into 128 bytes, 64-aligned: dims and box innermost
/// first, strides in bytes without the innermost; swizzle and dtype are CUDA's.
void moe_rt_tensor_map(void *map, int64_t address, int64_t dtype, int64_t rank,
                       const int64_t *dims, const int64_t *strides,
                       const int64_t *box, int64_t swizzle);
}

#endif // MOE_RUNTIME_CUDA_H
