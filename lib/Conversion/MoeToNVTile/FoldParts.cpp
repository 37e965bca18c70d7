// SPDX-License-Identifier: Apache-2.0
// The sums of split experts: see "An expert with many rows is split" in
// docs/NVTile.md.
#include "KernelBuilder.h"
#include "WorkTable.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;

/// Four elements a thread at a time. {0} is the name, {1} the list's words, {2}
/// N, {3} elements of an expert's result, {4} E, {5} the word of the first
/// split expert, {6} the result's type, {7} what is between the sum and its
/// store, {8} the stored value.
static constexpr StringRef kKernel = R"mlir(
gpu.module @{0}_module {{
  gpu.func @{0}(%list: memref<{1}xi32>, %partials: memref<{2}x{3}xf32>,
                %out: memref<{4}x{3}x{6}>) kernel {{
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c2 = arith.constant 2 : index
    %c4 = arith.constant 4 : index
    %base = arith.constant {5} : index
    %most = arith.constant {2} : index
    %size = arith.constant {3} : index
    %width = arith.constant 1024 : index
    %block = gpu.block_id x
    %blocks = gpu.grid_dim x
    %thread = gpu.thread_id x
    %inBlock = arith.muli %thread, %c4 : index
    %before = arith.muli %block, %width : index
    %first = arith.addi %before, %inBlock : index
    %stride = arith.muli %blocks, %width : index
    %split = memref.load %list[%c1] : memref<{1}xi32>
    %experts = arith.index_cast %split : i32 to index
    scf.for %i = %c0 to %experts step %c1 {{
      %words = arith.muli %i, %c4 : index
      %w0 = arith.addi %words, %base : index
      %w1 = arith.addi %w0, %c1 : index
      %w2 = arith.addi %w0, %c2 : index
      %p0 = memref.load %list[%w0] : memref<{1}xi32>
      %p1 = memref.load %list[%w1] : memref<{1}xi32>
      %p2 = memref.load %list[%w2] : memref<{1}xi32>
      %part = arith.index_cast %p0 : i32 to index
      %parts = arith.index_cast %p1 : i32 to index
      %expert = arith.index_cast %p2 : i32 to index
      %second = arith.addi %part, %c1 : index
      %all = arith.addi %part, %parts : index
      %end = arith.minui %all, %most : index
      scf.for %at = %first to %size step %stride {{
        %start = vector.load %partials[%part, %at] : memref<{2}x{3}xf32>, vector<4xf32>
        %sum = scf.for %p = %second to %end step %c1 iter_args(%acc = %start) -> (vector<4xf32>) {{
          %v = vector.load %partials[%p, %at] : memref<{2}x{3}xf32>, vector<4xf32>
          %next = arith.addf %acc, %v : vector<4xf32>
          scf.yield %next : vector<4xf32>
        }
{7}
        vector.store {8}, %out[%expert, %at] : memref<{4}x{3}x{6}>, vector<4x{6}>
      }
    }
    gpu.return
  }
}
)mlir";

/// Blocks of 256 threads: some for each multiprocessor of any GPU there is.
constexpr int64_t kBlocks = 528, kFoldThreads = 256;

/// (first, rows, columns) as (first, rows * columns).
static Value flatten(ImplicitLocOpBuilder &host, Value value) {
  return memref::CollapseShapeOp::create(
      host, value, ArrayRef<ReassociationIndices>{{0}, {1, 2}});
}

void mlir::moe::emitFoldParts(ImplicitLocOpBuilder &host, Value list,
                              Value partials, Value out, Value order,
                              bool accumulate) {
  auto type = memrefOf(out);
  int64_t experts = type.getDimSize(0);
  int64_t size = type.getDimSize(1) * type.getDimSize(2);
  int64_t parts = memrefOf(partials).getDimSize(0);
  std::string element = reason(type.getElementType());
  std::string name = reason("moe_fold_", parts, "_parts_of_", experts, "x",
                            size, "x", element, accumulate ? "_added" : "");
  std::string code;
  auto line = [&](auto... text) { code += reason("        ", text..., "\n"); };
  bool narrow = !type.getElementType().isF32();
  StringRef sum = "%sum";
  if (accumulate) {
    line("%old = vector.load %out[%expert, %at] : memref<", experts, "x", size,
         "x", element, ">, vector<4x", element, ">");
    if (narrow)
      line("%wide = arith.extf %old : vector<4x", element,
           "> to vector<4xf32>");
    line("%total = arith.addf ", narrow ? "%wide" : "%old",
         ", %sum : vector<4xf32>");
    sum = "%total";
  }
  if (narrow) {
    line("%rounded = arith.truncf ", sum, " : vector<4xf32> to vector<4x",
         element, ">");
    sum = "%rounded";
  }
  std::string text = llvm::formatv(
      kKernel.data(), name, memrefOf(list).getDimSize(0), parts, size, experts,
      nvtile::kWorkHeader + nvtile::kWorkEntry * (experts + parts), element,
      code, sum);

  Value rows = memref::DimOp::create(host, order, 0);
  Value enough = arith::CmpIOp::create(
      host, arith::CmpIPredicate::sge, rows,
      arith::ConstantIndexOp::create(host, 2 * kLeastPartRows));
  auto branch = scf::IfOp::create(host, enough, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(host);
  host.setInsertionPointToStart(branch.thenBlock());
  launchKernelText(host, name, text,
                   arith::ConstantIndexOp::create(host, kBlocks),
                   arith::ConstantIndexOp::create(host, kFoldThreads),
                   {list, flatten(host, partials), flatten(host, out)});
}
