// SPDX-License-Identifier: Apache-2.0
// What the fusion passes share: a kernel taken apart, and the joining of two.
#ifndef MOE_LIB_DIALECT_MOE_TRANSFORMS_FUSION_H
#define MOE_LIB_DIALECT_MOE_TRANSFORMS_FUSION_H

#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/Remarks.h"

namespace mlir::moe {

/// On an arith.truncf in a region: its operand is also a result of the kernel,
/// and is read as it is stored.
constexpr StringLiteral kStoredAttr = "moe.stored";

/// A kernel with a rowwise region (grouped_matmul, map_rows, combine_rows or
/// reduce_experts on tensors), taken apart: a copy that can be changed piece by
/// piece, and then takes the op's place.
class RowKernel {
public:
  struct In {
    Value value;
    PortAttr port;
  };
  struct Out {
    Value init;
    PortAttr port;
    /// What the result is put in place of.
    Value old;
  };

  explicit RowKernel(Operation *op);

  Operation *op;
  SmallVector<In> ins;
  /// What the region yields, and (combine_rows) the sums of `folds`.
  SmallVector<Out> outs, folded;
  FloatType compute;
  // grouped_matmul
  SmallVector<Value> lhs, rhs;
  SmallVector<Attribute> lhsOrders, rhsLayouts;
  ColumnsAttr columns;
  // combine_rows
  SmallVector<Value> addends, folds;

  Block &block() { return body.front(); }
  YieldOp yield() { return cast<YieldOp>(block().getTerminator()); }
  /// N, or nullopt where nothing has columns.
  std::optional<int64_t> width();

  /// The accumulators; the arguments of operand i; the yielded values of out i.
  SmallVector<Value> accumulators();
  SmallVector<Value> arguments(unsigned i);
  SmallVector<Value> yielded(unsigned i);

  /// The arguments of an operand that is read so; a new one where none is.
  SmallVector<Value> read(Value value, PortAttr port);
  /// Drops operand i, whose arguments have no uses.
  void removeIn(unsigned i);
  void addOut(Out out, ValueRange values);
  void removeOut(unsigned i);

  /// From N columns of one value each to N / count columns of `count` values,
  /// which lie as `layout` says. A row sum adds the values of a column first,
  /// then the columns. Fails, with the reason, where a port has several values
  /// already, or partials, whose segments would change.
  LogicalResult splitColumns(ColumnLayout layout, int64_t count,
                             std::string &why);

  /// The kernel in place of `op` and all that its outs replace; `op` goes, and
  /// the ops of its block are sorted again.
  Operation *commit(RewriterBase &rewriter,
                    ArrayRef<Operation *> alsoErased = {});

private:
  void setArguments(ArrayRef<Value> values);
  Region body;
};

/// The assignment of a kernel; null for a map over tokens, or another op.
Value getAssignment(Operation *op);
bool isRowKernel(Operation *op);

/// `guest` computed inside `host`: what either reads of the other becomes a
/// value of the region, rounded where the other stores it. Null, with the
/// reason, where that is not possible.
std::unique_ptr<RowKernel> join(Operation *host, MapRowsOp guest,
                                std::string &why);

/// Whether `to` depends on `from` through a third op of the block.
bool dependsThroughOthers(Operation *from, Operation *to);
/// Whether `to` depends on `from`.
bool dependsOn(Operation *from, Operation *to);

/// A region's value as a tensor of that element type would give it back.
Value asStored(OpBuilder &b, Location loc, Value value, Type element);

/// As in "moe.map_rows -> tensor<?x32xbf16>", for remarks.
std::string describe(Operation *op);

/// A fusion that was made, with the buffer of rows that it removed (or null),
/// or was not, and why.
void remarkFused(Operation *op, StringRef pass, const Twine &what,
                 Type buffer = Type(), RowOrder order = RowOrder::Grouped);
void remarkRefused(Operation *op, StringRef pass, const Twine &what,
                   const Twine &reason);

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_TRANSFORMS_FUSION_H
