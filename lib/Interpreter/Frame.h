// SPDX-License-Identifier: Apache-2.0
//
// What the files of the interpreter share: the values of a running function,
// assignments, regions of scalars, and one `run` for each group of ops.

#ifndef MOE_LIB_INTERPRETER_FRAME_H
#define MOE_LIB_INTERPRETER_FRAME_H

#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Interpreter/Interpreter.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <functional>
#include <memory>

namespace mlir::moe::interpreter {

//===----------------------------------------------------------------------===//
// Assignments
//===----------------------------------------------------------------------===//

/// One row of work: a slot that has an expert. A row without an assignment has
/// no expert, and one number for its token, slot and row.
struct Row {
  int64_t expert, row, slot, token;

  /// Its number among rows in that order.
  int64_t in(RowOrder order) const {
    return order == RowOrder::Token  ? token
           : order == RowOrder::Slot ? slot
                                     : row;
  }
};

struct Assignment {
  int64_t tokens = 0, k = 1;
  NDArray order, position, begin, end;
  /// The slots that have an expert: by expert, and within it in grouped order.
  std::vector<Row> rows;

  int64_t slots() const { return tokens * k; }
  int64_t experts() const { return begin.size(); }
  int64_t rowsIn(RowOrder order) const {
    return order == RowOrder::Token ? tokens : slots();
  }
  /// `rows`, by slot: the order in which a token's sum is taken.
  std::vector<Row> rowsBySlot() const;
};

/// The four tables of ids (T, K) or of counts (E).
Assignment sortIds(const NDArray &ids, int64_t experts);
Assignment sortCounts(const NDArray &counts, int64_t tokens,
                      std::optional<int64_t> capacity);

//===----------------------------------------------------------------------===//
// Values of a running function
//===----------------------------------------------------------------------===//

class Frame {
public:
  Frame(const InterpretOptions &options, unsigned depth)
      : options(options), depth(depth) {}

  /// A tensor, or a scalar as an array of rank 0.
  const NDArray &operator[](Value value) const {
    return *arrays.find(value)->second;
  }
  const Assignment &assignment(Value value) const {
    return *assignments.find(value)->second;
  }
  bool has(Value value) const {
    return arrays.contains(value) || assignments.contains(value);
  }
  /// The only element of an index or integer.
  int64_t integer(Value value) const { return (*this)[value].i(0); }

  /// Sets a value; a tensor's elements are rounded where the options say so.
  void set(Value value, NDArray array);
  void set(Value value, Assignment assignment);
  /// Binds a value of another frame: no copy, no rounding.
  void alias(Value value, Value source, const Frame &other);

  /// An unspecified array of a result's element type, with its shape where it
  /// is static and `dynamic` for the sizes that are not.
  NDArray resultOf(Value result, ArrayRef<int64_t> dynamic = {}) const;

  const InterpretOptions &options;
  /// Calls that are running.
  const unsigned depth;

private:
  DenseMap<Value, std::shared_ptr<const NDArray>> arrays;
  DenseMap<Value, std::shared_ptr<const Assignment>> assignments;
};

/// "wants <what> to have <size> rows, got <array>" unless its first `rows`
/// elements, or rows, are that many.
LogicalResult checkRows(Operation *op, StringRef what, const NDArray &array,
                        int64_t rows, bool scalars = false);

//===----------------------------------------------------------------------===//
// Scalars
//===----------------------------------------------------------------------===//

union Scalar {
  double f;
  int64_t i;
};
inline Scalar scalar(double f) {
  Scalar s;
  s.f = f;
  return s;
}
inline Scalar scalar(int64_t i) {
  Scalar s;
  s.i = i;
  return s;
}
inline Scalar at(const NDArray &array, int64_t index) {
  return array.isFloat() ? scalar(array.f(index)) : scalar(array.i(index));
}
inline void put(NDArray &array, int64_t index, Scalar value) {
  if (array.isFloat())
    array.f(index) = value.f;
  else
    array.i(index) = value.i;
}

using ScalarFunction = std::function<Scalar(ArrayRef<Scalar>)>;

/// What an arith or math op does to the elements of its operands; none if the
/// op is not known.
ScalarFunction getScalarFunction(Operation *op,
                                 const InterpretOptions &options);

/// A block of scalar ops, ready to be run many times.
class ScalarProgram {
public:
  /// Values from outside are read from the frame. `indices` is set before each
  /// run by whoever has a linalg.index to answer.
  static FailureOr<ScalarProgram> compile(Block &block, const Frame &frame);

  /// Returns the yielded values, valid until the next run.
  ArrayRef<Scalar> run(ArrayRef<Scalar> arguments);
  SmallVector<int64_t> indices;

private:
  struct Step {
    ScalarFunction function;
    SmallVector<unsigned, 3> operands;
    unsigned result;
    /// linalg.index: the loop it asks for.
    std::optional<unsigned> index;
  };
  std::vector<Step> steps;
  std::vector<Scalar> registers;
  SmallVector<unsigned> yielded;
  SmallVector<Scalar> results;
};

//===----------------------------------------------------------------------===//
// Rowwise regions
//===----------------------------------------------------------------------===//

/// The region of a rowwise op or kernel with its operands and results.
class RowRegion {
public:
  static FailureOr<RowRegion> create(Frame &frame, Region &region,
                                     ValueRange ins, ArrayAttr inPorts,
                                     ArrayAttr outPorts, int64_t width);

  /// Results, in the order of their ports. `expert` results are added to.
  std::vector<NDArray> outs;
  /// Whether rows are added to as well (moe.combine_rows).
  bool addRows = false;

  /// Run the region for each column of the row. `accumulator` gives the
  /// leading arguments: `leading` of them for each column, side by side.
  void run(const Row &row, ArrayRef<double> accumulator = {},
           unsigned leading = 0);

private:
  struct Port {
    PortAttr port;
    const NDArray *array = nullptr;
  };
  SmallVector<Port> ins, results;
  int64_t width = 0;
  ScalarProgram program;
};

/// Column j's value number c, of `count` for each of `width` columns.
inline int64_t columnOf(ColumnLayout layout, int64_t width, int64_t count,
                        int64_t j, int64_t c) {
  return layout == ColumnLayout::Interleave ? j * count + c : c * width + j;
}

//===----------------------------------------------------------------------===//
// Matrix products
//===----------------------------------------------------------------------===//

/// out += lhs row * W[expert]^T.
void addLinear(const double *lhs, const NDArray &weights, int64_t expert,
               WeightLayout layout, MutableArrayRef<double> out);

/// out[e] += sum of dy row (x) x row over the rows of e.
void addOuter(const Assignment &assignment, const NDArray &x, RowOrder xFrom,
              const NDArray &dy, RowOrder dyFrom, WeightLayout layout,
              NDArray &out);

//===----------------------------------------------------------------------===//
// One function for each group of ops: none if the op is not of the group
//===----------------------------------------------------------------------===//

std::optional<LogicalResult> runRouting(Operation *op, Frame &frame);
std::optional<LogicalResult> runAssignment(Operation *op, Frame &frame);
std::optional<LogicalResult> runRows(Operation *op, Frame &frame);
std::optional<LogicalResult> runMatmul(Operation *op, Frame &frame);
std::optional<LogicalResult> runRowwise(Operation *op, Frame &frame);
std::optional<LogicalResult> runKernels(Operation *op, Frame &frame);
std::optional<LogicalResult> runUpstream(Operation *op, Frame &frame);

} // namespace mlir::moe::interpreter

#endif // MOE_LIB_INTERPRETER_FRAME_H
