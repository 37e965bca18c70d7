// SPDX-License-Identifier: Apache-2.0
//
// Row counts as upstream's analysis of value bounds sees them, on both levels.

#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/ValueBoundsOpInterface.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace mlir::moe;
using Variable = ValueBoundsConstraintSet::Variable;

namespace {

class MoeValueBounds : public ::testing::Test {
protected:
  MoeValueBounds() {
    DialectRegistry registry;
    registry.insert<MoeDialect, func::FuncDialect, tensor::TensorDialect>();
    mlir::moe::registerValueBoundsOpInterfaceExternalModels(registry);
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
  }

  /// The one op of that kind in `text`.
  template <typename Op> Op parse(StringRef text) {
    module = parseSourceString<ModuleOp>(text, &context);
    Op found;
    if (module)
      module->walk([&](Op op) { found = op; });
    return found;
  }

  static bool equal(Value a, Value b) {
    return succeeded(ValueBoundsConstraintSet::areEqual(Variable(a, 0),
                                                        Variable(b, 0))) &&
           *ValueBoundsConstraintSet::areEqual(Variable(a, 0), Variable(b, 0));
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
};

constexpr char layer[] = R"mlir(
  func.func @f(%x: tensor<?x16xf32>, %w: tensor<8x16x16xf32>,
               %a: !moe.assignment<?x2, 8>) -> tensor<?x16xf32> {
    %h = moe.parallel_linear %x, %w by %a from token to grouped out_in
        : tensor<?x16xf32>, tensor<8x16x16xf32>, !moe.assignment<?x2, 8>
        -> tensor<?x16xf32>
    %r = moe.rowwise grouped by %a : !moe.assignment<?x2, 8>
        ins(%h : tensor<?x16xf32> rows) outs(tensor<?x16xf32> rows) {
    ^bb0(%v: f32):
      moe.yield %v : f32
    }
    %y = moe.combine %r from grouped by %a
        : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  })mlir";

TEST_F(MoeValueBounds, SlotsAreKTimesTokens) {
  auto linear = parse<ParallelLinearOp>(layer);
  ASSERT_TRUE(linear);
  Value h = linear.getResult(), x = linear.getLhs();
  AffineMap twice = AffineMap::get(1, 0, getAffineDimExpr(0, &context) * 2);
  EXPECT_TRUE(*ValueBoundsConstraintSet::areEqual(
      Variable(h, 0), Variable(twice, {Variable(x, 0)})));
  EXPECT_FALSE(equal(h, x));
}

TEST_F(MoeValueBounds, CombinedRowsAreTokens) {
  auto combine = parse<CombineOp>(layer);
  ASSERT_TRUE(combine);
  Value x = combine->getBlock()->getArgument(0);
  EXPECT_TRUE(equal(combine.getResult(), x));
  // The rowwise op between keeps the number of rows.
  EXPECT_FALSE(equal(combine.getRows(), x));
}

TEST_F(MoeValueBounds, KernelsHaveTheRowsOfTheirDestinations) {
  auto map = parse<MapRowsOp>(R"mlir(
    func.func @f(%x: tensor<?x16xf32>, %n: index,
                 %a: !moe.assignment<?x2, 8>) -> tensor<?x16xf32> {
      %init = tensor.empty(%n) : tensor<?x16xf32>
      %g = moe.map_rows grouped by %a : !moe.assignment<?x2, 8>
          ins(%x : tensor<?x16xf32> rows token)
          outs(%init : tensor<?x16xf32> rows grouped) {
      ^bb0(%v: f32):
        moe.yield %v : f32
      }
      return %g : tensor<?x16xf32>
    })mlir");
  ASSERT_TRUE(map);
  EXPECT_TRUE(equal(map.getResult(0), map.getOuts()[0]));
  EXPECT_FALSE(equal(map.getResult(0), map.getIns()[0]));
}

} // namespace
