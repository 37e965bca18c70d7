// SPDX-License-Identifier: Apache-2.0
//===- Symbols.h - what compiled code may call ------------------*- C++ -*-===//
#ifndef MOE_RUNTIME_SYMBOLS_H
#define MOE_RUNTIME_SYMBOLS_H

#include "llvm/ADT/StringRef.h"

namespace moe {

/// The address of a host function that compiled code may call; null for any
/// other name. The list is closed: nothing of the host process can be reached
/// by name.
void *lookUpRuntimeSymbol(llvm::StringRef name);

} // namespace moe

#endif // MOE_RUNTIME_SYMBOLS_H
