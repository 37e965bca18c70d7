// SPDX-License-Identifier: Apache-2.0
// What every kernel of the CPU target is written with: loops, tasks, the
// assignment's tables, and rows read and written through ports in vectors of 16
// lanes (the lanes of a row sum, whatever registers the CPU has).
#ifndef MOE_LIB_CONVERSION_MOETOSCF_KERNELEMITTER_H
#define MOE_LIB_CONVERSION_MOETOSCF_KERNELEMITTER_H

#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::moe {

/// Columns that are computed at a time.
constexpr int64_t kLanes = 16;

/// What the CPU has.
struct CPUTarget {
  int64_t vectorBits = 128;
  bool fma = false;
  bool bf16Dot = false;
  /// Products of bf16 tiles (AMX).
  bool bf16Tiles = false;
};

/// The tables behind an assignment, and its sizes.
struct Tables {
  Value order, position, begin, end;
  int64_t k = 0, experts = 0;
  Value slots; // T*K
};

/// Where one row of work lies in each row order. In token order there is only
/// the token.
struct Row {
  Value grouped, slot, token, expert;
};

using Values = SmallVector<Value>;

class KernelEmitter : public ImplicitLocOpBuilder {
public:
  KernelEmitter(Operation *op, CPUTarget target)
      : ImplicitLocOpBuilder(op->getLoc(), op), target(target) {}

  const CPUTarget target;
  /// Lanes of the vectors that rows are read and written in: 16 on a CPU,
  /// whose row sums are defined by them; what a thread moves at once on a GPU.
  int64_t vectorLanes = kLanes;

  // Scalars. Index arithmetic is 64-bit.
  Value index(int64_t value);
  Value constant(Type type, double value);
  Value integer(Type type, int64_t value);
  Value add(Value a, Value b);
  Value add(Value a, int64_t b) { return add(a, index(b)); }
  Value sub(Value a, Value b);
  Value mul(Value a, int64_t b);
  Value mul(Value a, Value b);
  Value div(Value a, int64_t b);
  Value rem(Value a, int64_t b);
  Value quotient(Value a, Value b);
  Value remainder(Value a, Value b);
  Value ceilDiv(Value a, int64_t b);
  Value minimum(Value a, Value b);
  Value maximum(Value a, Value b);
  Value less(Value a, Value b);
  Value select(Value condition, Value a, Value b);
  /// a * b + c, fused where the CPU does it in one instruction.
  Value multiplyAdd(Value a, Value b, Value c);

  // Loops.
  void loop(Value lower, Value upper, int64_t step,
            function_ref<void(Value)> body);
  Values carry(Value lower, Value upper, int64_t step, ValueRange initial,
               function_ref<Values(Value, ValueRange)> body);
  void when(Value condition, function_ref<void()> then,
            function_ref<void()> otherwise = nullptr);
  Values choose(Value condition, function_ref<Values()> then,
                function_ref<Values()> otherwise);
  /// `body(i)` for each task i < count, in any order and on any thread.
  void tasks(Value count, function_ref<void(Value)> body);
  /// Tasks of `chunk` consecutive i < count each.
  void chunked(Value count, int64_t chunk, function_ref<void(Value)> body);
  /// Tasks (expert, share of its rows, part < parts); the shares of an expert
  /// are equal, multiples of `multiple` and at most `chunk` rows.
  void groupedTasks(
      const Tables &tables, int64_t chunk, int64_t multiple, int64_t parts,
      function_ref<void(Value expert, Value first, Value last, Value part)>
          body);

  // Memory.
  Value size(Value memref, int64_t dim);
  Value load(Value memref, ValueRange indices);
  void store(Value value, Value memref, ValueRange indices);
  /// An i32 or i64 element as an index.
  Value loadIndex(Value memref, ValueRange indices);
  void storeIndex(Value value, Value memref, ValueRange indices);
  /// A buffer on the task's stack. Stacks only shrink at the task's end, so it
  /// goes to the task's beginning.
  Value stack(ArrayRef<int64_t> shape, Type element);

  // Rows.
  Tables tables(Value assignment);
  /// begin or end of an expert, inside [0, T*K] whatever the table says.
  Value rangeBound(const Tables &tables, Value table, Value expert);
  Row groupedRow(const Tables &tables, Value grouped, Value expert);
  /// The grouped row of a slot; `valid` is whether it has one.
  Row slotRow(const Tables &tables, Value slot, Value &valid);
  /// The expert whose range covers a grouped row.
  Value expertOf(const Tables &tables, Value grouped);
  Value rowIndex(PortAttr port, const Row &row);
  Value rowIndex(RowOrder order, const Row &row);

  // Vectors of 16.
  VectorType vectorOf(Type element, int64_t lanes) {
    return VectorType::get({lanes}, element);
  }
  VectorType vectorOf(Type element) { return vectorOf(element, vectorLanes); }
  Value splat(Value scalar);
  Value zeros(Type element);
  /// To and from what regions compute in.
  Value widen(Value value, Type compute);
  Value narrow(Value value, Type element);
  /// `lanes` < 16 reads or writes only that many; the rest is zero.
  Value loadVector(Value memref, ValueRange indices, int64_t lanes);
  void storeVector(Value value, Value memref, ValueRange indices,
                   int64_t lanes);
  Value loadVector(Value memref, Value row, Value column, int64_t lanes) {
    return loadVector(memref, {row, column}, lanes);
  }
  void storeVector(Value value, Value memref, Value row, Value column,
                   int64_t lanes) {
    storeVector(value, memref, {row, column}, lanes);
  }
  /// `body(column, lanes)` over [first, first + count) of `width` columns in
  /// steps of 16, where count is fixed and first a multiple of it.
  void columns(Value first, int64_t count, int64_t width,
               function_ref<void(Value, int64_t)> body);
  Values columnsCarry(int64_t width, ValueRange initial,
                      function_ref<Values(Value, int64_t, ValueRange)> body);
  Value addLanes(Value sum, Value value, int64_t lanes);
  /// The lanes of a segment in their fixed tree.
  Value reduceLanes(Value sum);

  // Ports.
  /// A scalar port's value, or folded partials; null for ports with columns.
  Value loadRowValue(Value memref, PortAttr port, const Row &row, Type compute);
  void storeRowValue(Value value, Value memref, PortAttr port, const Row &row);
  Value foldPartials(Value memref, Value row, Type compute);
  void loadColumns(Value memref, PortAttr port, const Row &row, int64_t width,
                   Value column, int64_t lanes, Type compute, Values &values);
  void storeColumns(ValueRange values, Value memref, PortAttr port,
                    const Row &row, int64_t width, Value column, int64_t lanes);
  /// The yielded values of a rowwise region for these arguments: all scalars,
  /// or all vectors.
  Values inlineRegion(Block &body, ValueRange arguments);
  /// Zeros in the slot-order outs for sentinel slots.
  void zeroSentinels(const Tables &tables, ValueRange outs, ArrayAttr ports);

private:
  Block *taskBlock = nullptr;
};

/// What the conversions of level-2 ops ask of one: memrefs of identity layout,
/// assignments that are packed. `pass` is named in the remedy.
LogicalResult checkKernelOperands(Operation *op, StringRef pass);

// One function for each level-2 op; the caller erases the op.
LogicalResult emitSortSlots(SortSlotsOp op, KernelEmitter &b);
LogicalResult emitRouteRows(RouteRowsOp op, KernelEmitter &b);
LogicalResult emitRouteGradRows(RouteGradRowsOp op, KernelEmitter &b);
LogicalResult emitMapRows(MapRowsOp op, KernelEmitter &b);
LogicalResult emitCombineRows(CombineRowsOp op, KernelEmitter &b);
LogicalResult emitReduceExperts(ReduceExpertsOp op, KernelEmitter &b);
LogicalResult emitFoldPartials(FoldPartialsOp op, KernelEmitter &b);
LogicalResult emitGroupedMatmul(GroupedMatmulOp op, KernelEmitter &b);
LogicalResult emitGroupedOuter(GroupedOuterOp op, KernelEmitter &b);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOSCF_KERNELEMITTER_H
