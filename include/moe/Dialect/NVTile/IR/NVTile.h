// SPDX-License-Identifier: Apache-2.0
// The `nvtile` dialect: its types and ops.
#ifndef MOE_DIALECT_NVTILE_IR_NVTILE_H
#define MOE_DIALECT_NVTILE_IR_NVTILE_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Interfaces/ViewLikeInterface.h"

#include "moe/Dialect/NVTile/IR/NVTileDialect.h.inc"

#define GET_TYPEDEF_CLASSES
#include "moe/Dialect/NVTile/IR/NVTileTypes.h.inc"

#define GET_OP_CLASSES
#include "moe/Dialect/NVTile/IR/NVTileOps.h.inc"

namespace mlir::nvtile {

/// Rows of a row block, the unit of work of a grouped product.
constexpr int64_t kBlockRows = 128;
/// Contraction steps of a stage: 128 bytes of a 16-bit type.
constexpr int64_t kDepth = 64;
/// Threads of a block: one producing and two consuming warpgroups.
constexpr int32_t kThreads = 384;
/// Dynamic shared memory that a block can have on sm_90.
constexpr int64_t kSharedMemoryLimit = 232448;
/// Words of a work table before its entries, and of an entry.
constexpr int64_t kWorkHeader = 4, kWorkEntry = 4;

/// Attributes of a converted kernel: its threads, and bytes of dynamic shared
/// memory.
constexpr StringRef kBlockAttr = "nvtile.block";
constexpr StringRef kSharedMemoryAttr = "nvtile.shared_memory";

} // namespace mlir::nvtile

#endif // MOE_DIALECT_NVTILE_IR_NVTILE_H
