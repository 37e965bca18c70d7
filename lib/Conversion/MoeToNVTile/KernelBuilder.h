// SPDX-License-Identifier: Apache-2.0
// What both kernels of convert-moe-to-nvtile are built with.
#ifndef MOE_LIB_CONVERSION_MOETONVTILE_KERNELBUILDER_H
#define MOE_LIB_CONVERSION_MOETONVTILE_KERNELBUILDER_H

#include "moe/Conversion/IntegerBuilder.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/NVTile/IR/NVTile.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

namespace mlir::moe {

using Values = SmallVector<Value>;
using nvtile::FragmentType;

/// Columns of an accumulator, and of what the epilogue works on at a time.
constexpr int64_t kTileColumns = 256, kChunk = 64;

/// Warps of the two consuming warpgroups.
constexpr int64_t kConsumingWarps = 8;

/// Stages of 128 rows and 256 columns that fit in shared memory.
constexpr int64_t kMostStages = 4;

inline MemRefType memrefOf(Value value) {
  return cast<MemRefType>(value.getType());
}
inline bool isHalf(Type type) { return type.isBF16() || type.isF16(); }

/// The parts as one text.
template <typename... Parts> std::string reason(const Parts &...parts) {
  std::string text;
  llvm::raw_string_ostream os(text);
  (os << ... << parts);
  return text;
}

/// A builder of a kernel's loops and roles.
struct KernelCode : IntegerBuilder {
  using IntegerBuilder::IntegerBuilder;

  Value blockId();
  Value gridSize();

  /// A loop that carries `inits`; returns what the last turn yielded.
  Values loop(Value from, Value to, Value step, ValueRange inits,
              function_ref<Values(Value, ValueRange)> body);
  /// A loop with inits that LLVM leaves as it is: it would unroll one of few
  /// steps, which takes more registers than a producing warp has.
  Values rolledLoop(Value from, Value to, Value step, ValueRange inits,
                    function_ref<Values(Value, ValueRange)> body);
  /// `body` by one producing thread.
  void elect(function_ref<void()> body);
};

/// The tables of the assignment that an op works by.
struct Tables {
  Value order, begin, end;
  /// See nvtile.work_item.
  Value work;
  int64_t experts, k;
};

/// Where the rows of an order lie: ids[row] / divide, below `slots`. Without
/// ids the kernel's own order.
struct RowsBy {
  Value ids, slots;
  int64_t divide;
};

/// One kernel: a gpu.module with a gpu.func, and its launch.
class KernelBuilder {
public:
  KernelBuilder(Operation *op, const Tables &tables, StringRef name);

  /// Host code before the launch, and the kernel's code.
  ImplicitLocOpBuilder host;
  KernelCode b;
  const Tables &tables;

  /// The kernel's parameter for a host value.
  Value pass(Value value);
  /// A parameter with the layout of `source`; -1 among the dims stands for its
  /// rows (at least one). Strides are in bytes.
  Value passMap(Value source, ArrayRef<int64_t> dims, ArrayRef<int64_t> strides,
                ArrayRef<int64_t> box);
  /// A vector of a memref's elements, whatever its shape.
  Value passFlat(Value source);

  /// The table of rows of an order.
  RowsBy rowsBy(RowOrder order);

  /// A stage is released by `releases` warps.
  Value makeRing(int64_t stages, ArrayRef<int64_t> rows, int64_t fills,
                 int64_t releases = kConsumingWarps);
  /// Null for no buffers.
  Value makeStaging(int64_t buffers);
  /// The two roles' code.
  void specialize(bool gathers, function_ref<void()> produce,
                  function_ref<void(Value)> consume);

  /// Entry `index` of the work table's experts, or of its row blocks.
  nvtile::WorkItemOp workItem(Value table, Value index, bool byExpert);

  /// The ids of a tile's gathered rows, cut to the rows there are where
  /// `bounded`.
  Value rowIds(int64_t rows, RowOrder order, Value first, Value end,
               bool bounded = true);

  /// The sum of two fragments of one type.
  Value sum(Value left, Value right);

  /// The consumers' loop: products of `steps` fills from position `from`, added
  /// to `accumulator`. `first` is the tile's first position: what lies before
  /// it has been released, but for `held` stages, which are when their stores
  /// have read them. Returns the next position and the accumulator.
  std::pair<Value, Value> products(Value ring, Value first, Value from,
                                   Value steps, Value accumulator,
                                   Value warpgroup, Type element, bool lhsMN,
                                   bool rhsMN, int64_t held = 0);
  /// Waits for the last product before position `next`.
  Value finishProducts(Value ring, Value next, Value accumulator);

  /// The fragment in the 16-bit type of `target`.
  Value round(Value fragment, Value target);
  /// Rounded fragments go to memory through staging.
  void stageStore(ValueRange fragments, Value staging, Value warpgroup,
                  Value map, ValueRange coordinates, Value target, Value row,
                  Value column, Value end, Value limit,
                  RowsBy by = {{}, {}, 1});

  /// Ends the kernel and launches it.
  void finish();

private:
  gpu::GPUModuleOp module;
  gpu::GPUFuncOp kernel;
  Values operands;
  DenseMap<Value, Value> parameters;
  Value slots;
  int64_t staged = 0;
  bool gathers = false;
};

void buildNVTileKernel(GroupedMatmulOp op, const Tables &tables,
                       VariantAttr variant);
void buildNVTileKernel(GroupedOuterOp op, const Tables &tables,
                       VariantAttr variant);

/// The first where weights stay in shared memory.
void buildResidentKernel(GroupedMatmulOp op, const Tables &tables,
                         VariantAttr variant);

/// On the host: the GPU's multiprocessors, as an index.
Value emitProcessors(ImplicitLocOpBuilder &host);

/// A memref with a dynamic number of rows.
Value castToDynamic(ImplicitLocOpBuilder &b, Value memref);
/// Launches a kernel that is written as text: a gpu.module `name`_module with a
/// gpu.func `name`, parsed where the module has none yet.
void launchKernelText(ImplicitLocOpBuilder &b, StringRef name, StringRef text,
                      Value grid, Value threads, ValueRange operands);

/// Makes zeros of the rows of sentinel slots in an op's results in slot order.
void zeroSentinels(GroupedMatmulOp op);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETONVTILE_KERNELBUILDER_H
