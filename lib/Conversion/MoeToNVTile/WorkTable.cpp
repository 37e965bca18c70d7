// SPDX-License-Identifier: Apache-2.0
// The work table of an assignment: see nvtile.work_item.
#include "KernelBuilder.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;

/// One warp for each expert: it finds its rank among all, and writes its entry
/// and its row blocks. {0} is E, {1} where row blocks start. Ranges are cut to
/// the rows there are, so that wrong ones read nothing else.
static constexpr StringRef kKernel = R"mlir(
gpu.module @moe_work_table_{0}_module {{
  gpu.func @moe_work_table_{0}(%begin: memref<{0}xi32>, %end: memref<{0}xi32>,
                           %order: memref<?xi32>, %table: memref<?xi32>) kernel {{
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c2 = arith.constant 2 : index
    %c3 = arith.constant 3 : index
    %c4 = arith.constant 4 : index
    %c5 = arith.constant 5 : index
    %c32 = arith.constant 32 : index
    %experts = arith.constant {0} : index
    %firstBlock = arith.constant {1} : index
    %zero = arith.constant 0 : i32
    %one = arith.constant 1 : i32
    %lanes = arith.constant 32 : i32
    %block = arith.constant 128 : i32
    %round = arith.constant 127 : i32
    %count = arith.constant {0} : i32
    %expert = gpu.block_id x
    %lane = gpu.thread_id x
    %id = arith.index_cast %expert : index to i32
    %rows = memref.dim %order, %c0 : memref<?xi32>
    %slots = arith.index_cast %rows : index to i32
    %b0 = memref.load %begin[%expert] : memref<{0}xi32>
    %b1 = arith.maxsi %b0, %zero : i32
    %mine = arith.minsi %b1, %slots : i32
    %e0 = memref.load %end[%expert] : memref<{0}xi32>
    %e1 = arith.maxsi %e0, %mine : i32
    %last = arith.minsi %e1, %slots : i32
    %size = arith.subi %last, %mine : i32
    %more = arith.addi %size, %round : i32
    %blocks = arith.divui %more, %block : i32
    %sums:3 = scf.for %other = %lane to %experts step %c32
        iter_args(%rank = %zero, %before = %zero, %all = %zero) -> (i32, i32, i32) {{
      %f0 = memref.load %begin[%other] : memref<{0}xi32>
      %f1 = arith.maxsi %f0, %zero : i32
      %f2 = arith.minsi %f1, %slots : i32
      %g0 = memref.load %end[%other] : memref<{0}xi32>
      %g1 = arith.maxsi %g0, %f2 : i32
      %g2 = arith.minsi %g1, %slots : i32
      %itsSize = arith.subi %g2, %f2 : i32
      %itsMore = arith.addi %itsSize, %round : i32
      %itsBlocks = arith.divui %itsMore, %block : i32
      %larger = arith.cmpi sgt, %itsSize, %size : i32
      %equal = arith.cmpi eq, %itsSize, %size : i32
      %lower = arith.cmpi ult, %other, %expert : index
      %tie = arith.andi %equal, %lower : i1
      %first = arith.ori %larger, %tie : i1
      %step = arith.extui %first : i1 to i32
      %rank1 = arith.addi %rank, %step : i32
      %counted = arith.select %first, %itsBlocks, %zero : i32
      %before1 = arith.addi %before, %counted : i32
      %all1 = arith.addi %all, %itsBlocks : i32
      scf.yield %rank1, %before1, %all1 : i32, i32, i32
    }
    %tree:4 = scf.for %i = %c0 to %c5 step %c1
        iter_args(%rank = %sums#0, %before = %sums#1, %all = %sums#2, %distance = %one)
        -> (i32, i32, i32, i32) {{
      %r, %v0 = gpu.shuffle xor %rank, %distance, %lanes : i32
      %q, %v1 = gpu.shuffle xor %before, %distance, %lanes : i32
      %a, %v2 = gpu.shuffle xor %all, %distance, %lanes : i32
      %rank1 = arith.addi %rank, %r : i32
      %before1 = arith.addi %before, %q : i32
      %all1 = arith.addi %all, %a : i32
      %further = arith.addi %distance, %distance : i32
      scf.yield %rank1, %before1, %all1, %further : i32, i32, i32, i32
    }
    %writes = arith.cmpi eq, %lane, %c0 : index
    scf.if %writes {{
      %rankIndex = arith.index_cast %tree#0 : i32 to index
      %words = arith.muli %rankIndex, %c4 : index
      %w0 = arith.addi %words, %c4 : index
      %w1 = arith.addi %w0, %c1 : index
      %w2 = arith.addi %w0, %c2 : index
      %w3 = arith.addi %w0, %c3 : index
      memref.store %mine, %table[%w0] : memref<?xi32>
      memref.store %last, %table[%w1] : memref<?xi32>
      memref.store %id, %table[%w2] : memref<?xi32>
      memref.store %zero, %table[%w3] : memref<?xi32>
      %isFirst = arith.cmpi eq, %expert, %c0 : index
      scf.if %isFirst {{
        memref.store %tree#2, %table[%c0] : memref<?xi32>
        memref.store %count, %table[%c1] : memref<?xi32>
        memref.store %slots, %table[%c2] : memref<?xi32>
        memref.store %zero, %table[%c3] : memref<?xi32>
      }
    }
    %blockCount = arith.index_cast %blocks : i32 to index
    %blocksBefore = arith.index_cast %tree#1 : i32 to index
    scf.for %i = %lane to %blockCount step %c32 {{
      %number = arith.addi %blocksBefore, %i : index
      %words = arith.muli %number, %c4 : index
      %w0 = arith.addi %words, %firstBlock : index
      %w1 = arith.addi %w0, %c1 : index
      %w2 = arith.addi %w0, %c2 : index
      %w3 = arith.addi %w0, %c3 : index
      %i32 = arith.index_cast %i : index to i32
      %offset = arith.muli %i32, %block : i32
      %row = arith.addi %mine, %offset : i32
      memref.store %row, %table[%w0] : memref<?xi32>
      memref.store %last, %table[%w1] : memref<?xi32>
      memref.store %id, %table[%w2] : memref<?xi32>
      memref.store %zero, %table[%w3] : memref<?xi32>
    }
    gpu.return
  }
}
)mlir";

Value mlir::moe::emitWorkTable(PackAssignmentOp pack) {
  int64_t experts = getAssignmentType(pack.getAssignment()).getExperts();
  int64_t firstBlock = nvtile::kWorkHeader + nvtile::kWorkEntry * experts;
  ImplicitLocOpBuilder b(pack.getLoc(), pack);
  b.setInsertionPointAfter(pack);
  // At most one block for each row, and one short one for each expert.
  Value rows = memref::DimOp::create(b, pack.getOrder(), 0);
  Value words =
      arith::AddIOp::create(b, rows,
                            arith::ConstantIndexOp::create(
                                b, firstBlock + nvtile::kWorkEntry * experts));
  auto dynamic = MemRefType::get({ShapedType::kDynamic}, b.getI32Type());
  Value table = memref::AllocOp::create(b, dynamic, ValueRange(words));
  launchKernelText(b, ("moe_work_table_" + Twine(experts)).str(),
                   llvm::formatv(kKernel.data(), experts, firstBlock).str(),
                   arith::ConstantIndexOp::create(b, experts),
                   arith::ConstantIndexOp::create(b, 32),
                   {pack.getBegin(), pack.getEnd(),
                    castToDynamic(b, pack.getOrder()), table});
  return table;
}
