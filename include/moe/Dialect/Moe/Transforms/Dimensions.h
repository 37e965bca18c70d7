// SPDX-License-Identifier: Apache-2.0
// Sizes of a function's tensors as linear expressions of named dimensions: what
// the host checks before a call, and what sizes outputs and workspace.
#ifndef MOE_DIALECT_MOE_TRANSFORMS_DIMENSIONS_H
#define MOE_DIALECT_MOE_TRANSFORMS_DIMENSIONS_H

#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringSet.h"

#include <map>
#include <optional>

namespace mlir::moe {

/// constant + the sum of coefficient * symbol; coefficients are never 0.
class LinearExpr {
public:
  LinearExpr(int64_t constant = 0) : constant(constant) {}
  static LinearExpr symbol(StringRef name);
  /// "2*T+1"; nothing where the text is no such expression.
  static std::optional<LinearExpr> parse(StringRef text);

  /// These return nothing where the result is not linear, not whole, or passes
  /// 64 bits.
  static std::optional<LinearExpr> add(const LinearExpr &a,
                                       const LinearExpr &b);
  static std::optional<LinearExpr> sub(const LinearExpr &a,
                                       const LinearExpr &b);
  static std::optional<LinearExpr> mul(const LinearExpr &a,
                                       const LinearExpr &b);
  static std::optional<LinearExpr> div(const LinearExpr &a,
                                       const LinearExpr &b);

  /// The value where there are no symbols.
  std::optional<int64_t> asConstant() const;
  /// The name where the expression is that symbol alone.
  std::optional<StringRef> asSymbol() const;
  /// The factor where the expression is a positive multiple of that symbol.
  std::optional<int64_t> asMultipleOf(StringRef name) const;
  int64_t getConstant() const { return constant; }
  const std::map<std::string, int64_t> &getTerms() const { return terms; }

  /// An integer or string attribute, as in `moe.dims`.
  Attribute toAttribute(MLIRContext *context) const;
  static std::optional<LinearExpr> fromAttribute(Attribute attr);
  std::string str() const;
  /// The value for a layer of a usual size, by which sizes are compared.
  double nominal() const;

  bool operator==(const LinearExpr &other) const {
    return constant == other.constant && terms == other.terms;
  }
  bool operator!=(const LinearExpr &other) const { return !(*this == other); }

private:
  int64_t constant;
  std::map<std::string, int64_t> terms;
};

/// Sizes in one function. Its arguments' sizes are those of `moe.dims`; a
/// dynamic dimension without a name is called d<argument>_<dimension>.
class Dimensions {
public:
  /// Reads the arguments' `moe.dims`; reports what it cannot read.
  static FailureOr<Dimensions> read(func::FuncOp function);

  /// Learns from every op which sizes have to be equal, and reports where the
  /// given names forbid it. Afterwards two sizes that the ops compare are one
  /// expression, so checking the arguments' dims checks every op.
  LogicalResult unify(func::FuncOp function);

  /// The size of a tensor or memref, or the value of an index.
  std::optional<LinearExpr> sizeOf(Value shaped, unsigned dim);
  std::optional<LinearExpr> valueOf(Value index);
  /// The bytes of a tensor or memref, where they are linear in the symbols.
  std::optional<LinearExpr> bytesOf(Value shaped);

  /// Demands that two sizes be one; reports at `op` where they cannot.
  LogicalResult equate(Operation *op, StringRef what,
                       std::optional<LinearExpr> a,
                       std::optional<LinearExpr> b);

  /// The sizes of a value as `moe.dims`; null where one is not known.
  ArrayAttr dimsOf(Value shaped);

  /// The same for an argument of another function; of an assignment, for its
  /// tables of slots. Null where there is nothing to say, or a size is no
  /// multiple of a name in the arguments' `moe.dims`: a call could not tell the
  /// name from it.
  ArrayAttr boundaryDimsOf(Value value);

private:
  LinearExpr resolve(const LinearExpr &expr) const;
  std::optional<LinearExpr> divide(const LinearExpr &a, const LinearExpr &b);
  std::optional<LinearExpr> valueOf(OpFoldResult value);
  std::optional<LinearExpr> compute(Value shaped, unsigned dim);
  std::optional<LinearExpr> slotsOf(Value assignment);
  LogicalResult unifyOp(Operation *op);
  LogicalResult unifyRows(Operation *op, StringRef what, Value rows,
                          RowOrder order, Value assignment, bool scalar);
  LogicalResult unifyPorts(Operation *op, StringRef what, ValueRange values,
                           ArrayAttr ports, Value assignment);

  DenseMap<Value, SmallVector<LinearExpr>> arguments;
  /// Symbols that we named and may replace, and what they turned out to be.
  llvm::StringSet<> ours;
  std::map<std::string, LinearExpr> known;
  /// T*K and K of the assignments seen so far.
  SmallVector<std::pair<LinearExpr, int64_t>> slotCounts;
};

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_TRANSFORMS_DIMENSIONS_H
