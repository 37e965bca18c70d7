// SPDX-License-Identifier: Apache-2.0
// The version of the `moe` dialect in MLIR bytecode.
#ifndef MOE_DIALECT_MOE_IR_BYTECODE_H
#define MOE_DIALECT_MOE_IR_BYTECODE_H

#include "mlir/Bytecode/BytecodeImplementation.h"

#include <cstdint>

namespace mlir::moe {

/// Raised by one whenever bytecode gains something that older releases cannot
/// read. Bytecode of every version up to `current` is read; newer bytecode is
/// refused.
struct MoeDialectVersion : public DialectVersion {
  static constexpr uint64_t current = 3;

  explicit MoeDialectVersion(uint64_t number) : number(number) {}
  uint64_t number;
};

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_IR_BYTECODE_H
