// SPDX-License-Identifier: Apache-2.0
//===- Container.h - a compiled module as a file ----------------*- C++ -*-===//
//
// "MOEC1\n", the length of the header (u64, little endian), the header (JSON),
// the object, and the SHA-256 of all of that. A flipped bit in an object can
// link and crash, so the checksum covers every byte.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_RUNTIME_CONTAINER_H
#define MOE_RUNTIME_CONTAINER_H

#include "moe/Runtime/Failure.h"
#include <string>

namespace moe {

struct Container {
  std::string target;
  /// The CPU and the features that the object was compiled for, in LLVM's
  /// names, as in "+avx2,+fma".
  std::string cpu, features;
  std::string compiler;
  /// The CUDA version that kernels were assembled for, as in 13000; 0: none
  /// are, or the driver compiles them.
  int64_t cuda = 0;
  std::string manifest;
  /// A view into the bytes that were read.
  llvm::StringRef object;

  void write(llvm::raw_ostream &os) const;
  /// `bytes` must outlive the result.
  static llvm::Expected<Container> read(llvm::StringRef bytes,
                                        llvm::StringRef name);
};

} // namespace moe

#endif // MOE_RUNTIME_CONTAINER_H
