// SPDX-License-Identifier: Apache-2.0
//===- CPUMachine.h - the CPU that code is generated for --------*- C++ -*-===//
#ifndef MOE_EXECUTIONENGINE_CPUMACHINE_H
#define MOE_EXECUTIONENGINE_CPUMACHINE_H

#include "llvm/Support/Error.h"
#include "llvm/Target/TargetMachine.h"
#include <memory>
#include <string>

namespace moe {

struct CPUMachine {
  /// LLVM's name of the CPU, never "host".
  std::string cpu;
  /// Every feature that generated code may use: "+avx2,+fma".
  std::string features;
  std::unique_ptr<llvm::TargetMachine> machine;

  /// `cpu` is "host" or a name of LLVM's ("x86-64-v3"); `features` are added to
  /// or taken from the CPU's: "+avx2,-fma". `optLevel` is 0 to 3.
  static llvm::Expected<CPUMachine>
  create(llvm::StringRef cpu, llvm::StringRef features, unsigned optLevel);
};

} // namespace moe

#endif // MOE_EXECUTIONENGINE_CPUMACHINE_H
