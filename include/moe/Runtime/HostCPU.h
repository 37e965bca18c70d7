// SPDX-License-Identifier: Apache-2.0
//===- HostCPU.h - what the CPU of this process has -------------*- C++ -*-===//
#ifndef MOE_RUNTIME_HOSTCPU_H
#define MOE_RUNTIME_HOSTCPU_H

#include "llvm/ADT/StringMap.h"
#include <string>

namespace moe {

/// LLVM's list of the features of the host's CPU that this process may use.
/// Linux gives the tiles of AMX to processes that ask for them, once; the first
/// call asks where there are any. Features that are refused are off.
const llvm::StringMap<bool> &hostFeatures();

/// The features that are on and off, as LLVM spells them, in a fixed order.
const std::string &hostFeatureText();

/// The features that the CPU has and this process is refused, off; most often
/// empty.
llvm::StringRef refusedFeatures();

} // namespace moe

#endif // MOE_RUNTIME_HOSTCPU_H
