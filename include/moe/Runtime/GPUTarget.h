// SPDX-License-Identifier: Apache-2.0
//===- GPUTarget.h - the GPUs that modules are compiled for -----*- C++ -*-===//
#ifndef MOE_RUNTIME_GPUTARGET_H
#define MOE_RUNTIME_GPUTARGET_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <string>

namespace moe {

/// A GPU architecture. Its kernels are binaries (by ptxas), or PTX that the
/// driver assembles when they are loaded.
struct GPUTarget {
  /// As ptxas spells it: "sm_90a".
  llvm::StringLiteral name;
  /// The compute capability: 90 for 9.0.
  int capability;
  /// The lowest PTX version that has it, 78 for 7.8, and the CUDA version of
  /// that, 11080 for 11.8.
  int ptx, cuda;

  /// For one capability alone ("a"), with instructions that no other has.
  bool exact() const { return name.ends_with("a"); }
  /// Whether a GPU of this capability runs it.
  bool runsOn(int device, bool binary) const;
  /// The GPUs that run it, for messages: "sm_80 to sm_89".
  std::string range(bool binary) const;
};

/// From old to new; of one capability, the one to prefer last.
llvm::ArrayRef<GPUTarget> gpuTargets();

/// Their names: "sm_80, sm_86, ...".
std::string gpuTargetNames();

/// Null for other names.
const GPUTarget *findGPUTarget(llvm::StringRef name);

/// The best for a GPU of this capability: one whose binaries run there, else
/// one whose PTX does. Null for GPUs older than all targets.
const GPUTarget *bestGPUTarget(int capability);

/// 12080 as "12.8".
std::string cudaVersionText(int version);

/// The target that is meant: itself, or for "cuda" (the current device) and
/// "cuda:1" the best for that GPU of this machine. Where no target's binaries
/// run there, `options` gets "ptxas=none". Refuses what is no target.
llvm::Expected<std::string>
resolveTarget(llvm::StringRef name,
              llvm::SmallVectorImpl<std::string> &options);

} // namespace moe

#endif // MOE_RUNTIME_GPUTARGET_H
