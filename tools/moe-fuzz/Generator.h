// SPDX-License-Identifier: Apache-2.0
//
// One random program while it is put together: its pool of values, and a method
// for each op.

#ifndef MOE_TOOLS_MOE_FUZZ_GENERATOR_H
#define MOE_TOOLS_MOE_FUZZ_GENERATOR_H

#include "Rng.h"

#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

namespace mlir::moe::fuzz {

enum class Kind { Rows, Scalars, Experts, Weights };

struct Item {
  Value value;
  Kind kind;
  RowOrder order = RowOrder::Token;
  /// Number of the assignment that the rows lie by, -1 for token rows.
  int assignment = -1;

  Type type() const { return value.getType(); }
  /// Columns, or the last dimension.
  int64_t width() const {
    return cast<RankedTensorType>(value.getType()).getShape().back();
  }
};

class Generator {
public:
  Generator(MLIRContext *context, uint64_t seed)
      : seed(seed), rng(seed), b(context), loc(UnknownLoc::get(context)),
        module(ModuleOp::create(loc)) {}

  OwningOpRef<ModuleOp> generate();

private:
  // Sizes and types.
  int64_t count(int64_t k) {
    return tokens == ShapedType::kDynamic ? tokens : tokens * k;
  }
  AssignmentType typeOf(int a) { return getAssignmentType(assignments[a]); }
  int64_t kOf(int a) { return a < 0 ? 1 : typeOf(a).getK(); }
  RankedTensorType rowsType(RowOrder order, int a, int64_t width);
  RankedTensorType scalarsType(RowOrder order, int a, Type of);
  int64_t width();

  // Operands.
  ArrayAttr dimsOf(RankedTensorType type, int64_t k);
  Value argument(RankedTensorType type, int64_t k);
  Value add(Item item) {
    items.push_back(item);
    return item.value;
  }
  /// Rows of the order with that width; any where it is 0.
  Item rows(RowOrder order, int a, int64_t width = 0);
  Item scalars(RowOrder order, int a);
  Value experts(int64_t numExperts, int64_t width);
  Value weights(int64_t numExperts, int64_t rows, int64_t columns);
  int anyAssignment();
  RowOrder order(std::initializer_list<RowOrder> from) {
    return rng.pick(from);
  }

  // Ops.
  void addAssignment();
  Value routed(int64_t k, int64_t numExperts);
  void addRouteGrad();
  void addGroup();
  void addScatter();
  void addCombine();
  void addLinear();
  void addWeightGrad();
  void addRowwise();
  void addExpertSum();
  void addTables();
  void addElementwise();
  void addElementwise(Item first);
  void addMatmul();
  void addSlice();
  void addPad();
  Value addAccumulation();
  void addScaledLinear();
  void outline();

  uint64_t seed;
  Rng rng;
  OpBuilder b;
  Location loc;
  OwningOpRef<ModuleOp> module;
  func::FuncOp function;
  Block *body = nullptr;

  int64_t tokens = ShapedType::kDynamic;
  FloatType element, gateElement;
  SmallVector<int64_t> widths;
  SmallVector<Value> assignments;
  std::vector<Item> items;
  SmallVector<Attribute> dims;
};

} // namespace mlir::moe::fuzz

#endif // MOE_TOOLS_MOE_FUZZ_GENERATOR_H
