// SPDX-License-Identifier: Apache-2.0
// Zeros in the rows of sentinel slots, which are among no expert's rows.
#include "KernelBuilder.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;

/// One warp for each slot. {0} names the kernel, {1} is a row's columns, {2}
/// the element type.
static constexpr StringRef kKernel = R"mlir(
gpu.module @{0}_module {{
  gpu.func @{0}(%position: memref<?xi32>, %rows: memref<?x{1}x{2}>) kernel {{
    %c0 = arith.constant 0 : index
    %c8 = arith.constant 8 : index
    %c32 = arith.constant 32 : index
    %columns = arith.constant {1} : index
    %none = arith.constant 0 : i32
    %zero = arith.constant 0.0 : {2}
    %block = gpu.block_id x
    %thread = gpu.thread_id x
    %lane = arith.remui %thread, %c32 : index
    %warp = arith.divui %thread, %c32 : index
    %first = arith.muli %block, %c8 : index
    %slot = arith.addi %first, %warp : index
    %slots = memref.dim %position, %c0 : memref<?xi32>
    %exists = arith.cmpi ult, %slot, %slots : index
    scf.if %exists {{
      %row = memref.load %position[%slot] : memref<?xi32>
      %sentinel = arith.cmpi slt, %row, %none : i32
      scf.if %sentinel {{
        scf.for %column = %lane to %columns step %c32 {{
          memref.store %zero, %rows[%slot, %column] : memref<?x{1}x{2}>
        }
      }
    }
    gpu.return
  }
}
)mlir";

void mlir::moe::zeroSentinels(GroupedMatmulOp op) {
  auto pack = op.getAssignment().getDefiningOp<PackAssignmentOp>();
  ImplicitLocOpBuilder b(op.getLoc(), op);
  Value slots = memref::DimOp::create(b, pack.getPosition(), 0);
  Value grid = arith::CeilDivUIOp::create(b, slots,
                                          arith::ConstantIndexOp::create(b, 8));
  Value threads = arith::ConstantIndexOp::create(b, 256);
  for (auto [i, out] : llvm::enumerate(op.getOuts())) {
    if (op.outPort(i).getOrder() != RowOrder::Slot)
      continue;
    Type element = memrefOf(out).getElementType();
    int64_t columns = memrefOf(out).getDimSize(1);
    std::string name =
        llvm::formatv("moe_zero_sentinels_{0}x{1}", columns, element).str();
    launchKernelText(
        b, name, llvm::formatv(kKernel.data(), name, columns, element).str(),
        grid, threads,
        {castToDynamic(b, pack.getPosition()), castToDynamic(b, out)});
  }
}
