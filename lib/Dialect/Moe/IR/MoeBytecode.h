// SPDX-License-Identifier: Apache-2.0
// Bytecode of the dialect, as the dialect sees it.
#ifndef MOE_LIB_DIALECT_MOE_IR_MOEBYTECODE_H
#define MOE_LIB_DIALECT_MOE_IR_MOEBYTECODE_H

namespace mlir::moe {
class MoeDialect;
void addBytecodeInterface(MoeDialect *dialect);
} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_IR_MOEBYTECODE_H
