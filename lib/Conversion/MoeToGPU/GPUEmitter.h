// SPDX-License-Identifier: Apache-2.0
// What every SIMT kernel is written with: launches, threads and warps, shared
// memory and shuffles, on top of the ports, rows and regions that the CPU
// target's kernels are written with.
#ifndef MOE_LIB_CONVERSION_MOETOGPU_GPUEMITTER_H
#define MOE_LIB_CONVERSION_MOETOGPU_GPUEMITTER_H

#include "../MoeToSCF/RowRegion.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"

namespace mlir::moe {

/// Threads of a warp, and of a block unless a kernel says otherwise.
constexpr int64_t kWarp = 32;
constexpr int64_t kBlockThreads = 256;
/// Bytes that one thread moves in one instruction.
constexpr int64_t kVectorBytes = 16;
/// Static shared memory of a block.
constexpr int64_t kSharedBytes = 48 * 1024;

class GPUEmitter : public KernelEmitter {
public:
  /// `name` is that of the op's first kernel.
  GPUEmitter(Operation *op, StringRef name);

  /// Emits a kernel of so many blocks; the insertion point stays behind it. No
  /// blocks, no launch.
  void launch(Value blocks, int64_t threads, function_ref<void()> body);

  // Inside a launch.
  Value block, thread, lane, warp;
  Value shared(ArrayRef<int64_t> shape, Type element);
  void barrier();
  /// The value of the lane `offset` away (xor or up), or of lane `offset`.
  Value shuffle(Value value, int64_t offset, gpu::ShuffleMode mode);
  /// Sum over the warp by a butterfly: every lane has the same bits.
  Value warpSum(Value value);
  Value equal(Value a, Value b);
  /// `count` lanes of a vector, from `first` on.
  Value slice(Value vector, int64_t first, int64_t count);
  Value both(Value a, Value b);

  /// `body(i)` for i = first, first + step, ... < end.
  void strided(Value first, int64_t end, int64_t step,
               function_ref<void(Value)> body);

  /// What a slot's row is: `body(row)` where it has an expert, `sentinel(row)`
  /// where not. `needsExpert`: fill in row.expert.
  void slot(const Tables &tables, Value slot, bool needsExpert,
            function_ref<void(const Row &)> body,
            function_ref<void(const Row &)> sentinel);
  /// The expert whose range covers a grouped row: by bisection where the tables
  /// come from a sort.
  Value findExpert(const Tables &tables, Value grouped);

private:
  std::string name;
  unsigned launches = 0;
  gpu::LaunchOp current;
};

/// Elements of the widest vector, at most `most`, that divides `width` and all
/// 16 bytes of the narrowest of the memrefs.
int64_t chooseLanes(int64_t width, ValueRange memrefs, int64_t most);

/// Whether a port reads by expert.
bool readsExperts(ArrayAttr ports);

/// Zeros in the slot-order outs of sentinel slots, as a kernel of its own.
void emitZeroSentinels(GPUEmitter &b, const Tables &tables, ValueRange outs,
                       ArrayAttr ports);

// One function for each level-2 op; the caller erases the op.
LogicalResult emitSortSlots(SortSlotsOp op, GPUEmitter &b);
LogicalResult emitRouteRows(RouteRowsOp op, GPUEmitter &b);
LogicalResult emitRouteGradRows(RouteGradRowsOp op, GPUEmitter &b);
LogicalResult emitMapRows(MapRowsOp op, GPUEmitter &b);
LogicalResult emitCombineRows(CombineRowsOp op, GPUEmitter &b);
LogicalResult emitReduceExperts(ReduceExpertsOp op, GPUEmitter &b);
LogicalResult emitFoldPartials(FoldPartialsOp op, GPUEmitter &b);
LogicalResult emitGroupedMatmul(GroupedMatmulOp op, GPUEmitter &b);
LogicalResult emitGroupedOuter(GroupedOuterOp op, GPUEmitter &b);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOGPU_GPUEMITTER_H
