// SPDX-License-Identifier: Apache-2.0
// Integers and branches of a kernel's code, for nvtile and for what it becomes.
#ifndef MOE_CONVERSION_INTEGERBUILDER_H
#define MOE_CONVERSION_INTEGERBUILDER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::moe {

/// A builder of integer arithmetic and branches.
struct IntegerBuilder : ImplicitLocOpBuilder {
  using ImplicitLocOpBuilder::ImplicitLocOpBuilder;

  Value i32(int64_t value) {
    return arith::ConstantIntOp::create(*this, value, 32);
  }
  /// Arithmetic on equal types; a number becomes a constant of the other side.
  template <typename Op> Value op(Value a, Value b) {
    return Op::create(*this, a, b);
  }
  template <typename Op> Value op(Value a, int64_t b) {
    return Op::create(*this, a,
                      arith::ConstantIntOp::create(
                          *this, b, a.getType().getIntOrFloatBitWidth()));
  }
  template <typename T> Value add(Value a, T b) {
    return op<arith::AddIOp>(a, b);
  }
  template <typename T> Value sub(Value a, T b) {
    return op<arith::SubIOp>(a, b);
  }
  template <typename T> Value mul(Value a, T b) {
    return op<arith::MulIOp>(a, b);
  }
  template <typename T> Value div(Value a, T b) {
    return op<arith::DivUIOp>(a, b);
  }
  template <typename T> Value rem(Value a, T b) {
    return op<arith::RemUIOp>(a, b);
  }
  template <typename T> Value band(Value a, T b) {
    return op<arith::AndIOp>(a, b);
  }
  template <typename T> Value bor(Value a, T b) {
    return op<arith::OrIOp>(a, b);
  }
  template <typename T> Value bxor(Value a, T b) {
    return op<arith::XOrIOp>(a, b);
  }
  template <typename T> Value shr(Value a, T b) {
    return op<arith::ShRUIOp>(a, b);
  }
  template <typename T> Value shl(Value a, T b) {
    return op<arith::ShLIOp>(a, b);
  }
  template <typename T> Value minimum(Value a, T b) {
    return op<arith::MinSIOp>(a, b);
  }
  Value compare(arith::CmpIPredicate predicate, Value a, Value b) {
    return arith::CmpIOp::create(*this, predicate, a, b);
  }
  Value compare(arith::CmpIPredicate predicate, Value a, int64_t b) {
    return compare(predicate, a, i32(b));
  }
  template <typename T> Value equal(Value a, T b) {
    return compare(arith::CmpIPredicate::eq, a, b);
  }
  template <typename T> Value less(Value a, T b) {
    return compare(arith::CmpIPredicate::slt, a, b);
  }
  template <typename T> Value atLeast(Value a, T b) {
    return compare(arith::CmpIPredicate::sge, a, b);
  }

  void when(Value condition, function_ref<void()> body) {
    auto branch = scf::IfOp::create(*this, condition, /*withElse=*/false);
    OpBuilder::InsertionGuard guard(*this);
    setInsertionPointToStart(branch.thenBlock());
    body();
  }
  void either(Value condition, function_ref<void()> yes,
              function_ref<void()> no) {
    auto branch = scf::IfOp::create(*this, condition, /*withElse=*/true);
    OpBuilder::InsertionGuard guard(*this);
    setInsertionPointToStart(branch.thenBlock());
    yes();
    setInsertionPointToStart(branch.elseBlock());
    no();
  }
};

} // namespace mlir::moe

#endif // MOE_CONVERSION_INTEGERBUILDER_H
