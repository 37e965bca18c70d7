// SPDX-License-Identifier: Apache-2.0
//===- Ptxas.h - NVIDIA's assembler on this machine -------------*- C++ -*-===//
#ifndef MOE_RUNTIME_PTXAS_H
#define MOE_RUNTIME_PTXAS_H

#include "llvm/ADT/StringRef.h"
#include <optional>
#include <string>

namespace moe {

struct Ptxas {
  std::string path;
  /// As in "13.0".
  int major = 0, minor = 0;
  /// As CUDA numbers it: 13000.
  int cuda() const { return major * 1000 + minor * 10; }
};

/// A program's own answer to --version.
std::optional<Ptxas> askPtxas(const std::string &path);

/// MOE_PTXAS, if it is set. Otherwise the newest of CUDA_HOME, /usr/local/cuda,
/// PATH and MOE_PTXAS_FALLBACK (several, between colons) whose CUDA major
/// version is at most `driverMajor` (0: any). None: nothing of the kind here.
std::optional<Ptxas> findPtxas(int driverMajor);

} // namespace moe

#endif // MOE_RUNTIME_PTXAS_H
