// SPDX-License-Identifier: Apache-2.0
//
// Construction of the dialect's types and attributes from C++, and the shape
// arithmetic that passes rely on.

#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class MoeTypes : public ::testing::Test {
protected:
  MoeTypes() { context.loadDialect<MoeDialect>(); }

  /// Runs `build` with diagnostics kept, and returns the first message.
  template <typename Build> std::string firstError(Build build) {
    std::string message;
    ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
      if (message.empty())
        message = diagnostic.str();
      return success();
    });
    build();
    return message;
  }

  MLIRContext context;
};

TEST_F(MoeTypes, SlotsOfAnAssignment) {
  auto fixed = AssignmentType::get(&context, 5, 3, 8);
  EXPECT_EQ(fixed.getSlots(), 15);
  EXPECT_TRUE(fixed.hasStaticTokens());
  EXPECT_EQ(getNumRows(RowOrder::Token, fixed), 5);
  EXPECT_EQ(getNumRows(RowOrder::Slot, fixed), 15);
  EXPECT_EQ(getNumRows(RowOrder::Grouped, fixed), 15);

  auto any = AssignmentType::get(&context, ShapedType::kDynamic, 3, 8);
  EXPECT_FALSE(any.hasStaticTokens());
  EXPECT_TRUE(ShapedType::isDynamic(any.getSlots()));
  EXPECT_TRUE(ShapedType::isDynamic(getNumRows(RowOrder::Token, any)));
}

TEST_F(MoeTypes, AssignmentIsUniquedAndPrints) {
  auto type = AssignmentType::get(&context, ShapedType::kDynamic, 2, 8);
  EXPECT_EQ(type, parseType("!moe.assignment<?x2, 8>", &context));
  EXPECT_NE(type, AssignmentType::get(&context, ShapedType::kDynamic, 2, 9));
  std::string text;
  llvm::raw_string_ostream os(text);
  Type(type).print(os);
  EXPECT_EQ(text, "!moe.assignment<?x2, 8>");
}

TEST_F(MoeTypes, ImpossibleAssignmentsAreRefused) {
  Location loc = UnknownLoc::get(&context);
  // More experts a token than there are experts, and none at all.
  for (auto [tokens, k, experts] :
       {std::tuple<int64_t, int64_t, int64_t>{4, 0, 8}, {4, 2, 0}}) {
    AssignmentType type;
    std::string error = firstError([&, t = tokens, k = k, e = experts] {
      type = AssignmentType::getChecked([&] { return emitError(loc); },
                                        &context, t, k, e);
    });
    EXPECT_FALSE(type) << tokens << "x" << k << ", " << experts;
    EXPECT_FALSE(error.empty());
  }
}

TEST_F(MoeTypes, Ports) {
  auto rows = PortAttr::get(&context, PortKind::Rows, RowOrder::Grouped);
  EXPECT_TRUE(rows.hasColumns());
  EXPECT_EQ(rows.numValues(), 1);
  EXPECT_EQ(rows.withOrder(RowOrder::Token).getOrder(), RowOrder::Token);

  auto pair = PortAttr::get(&context, PortKind::Rows, RowOrder::Grouped,
                            ColumnLayout::Concat, 2);
  EXPECT_EQ(pair.numValues(), 2);

  auto scalar = PortAttr::get(&context, PortKind::Scalar, RowOrder::Slot);
  EXPECT_FALSE(scalar.hasColumns());
  EXPECT_EQ(scalar.numValues(), 1);
}

TEST_F(MoeTypes, ImpossiblePortsAndVariantsAreRefused) {
  auto refuse = [&] { return emitError(UnknownLoc::get(&context)); };
  EXPECT_EQ(firstError([&] {
              EXPECT_FALSE(PortAttr::getChecked(
                  refuse, &context, PortKind::Rows, RowOrder::Slot,
                  ColumnLayout::Single, int64_t(2)));
            }),
            "a port with single columns has count 1, got 2");
  EXPECT_EQ(firstError([&] {
              EXPECT_FALSE(VariantAttr::getChecked(
                  refuse, &context, Structure::Cooperative, int64_t(128),
                  int64_t(0), int64_t(3), int64_t(0), int64_t(0), StringAttr(),
                  HostValue::None, int64_t(0)));
            }),
            "a variant's numbers are at least 1, got tile 128x0 stages 3 "
            "buffers 0 parts 0 from 0");
}

TEST_F(MoeTypes, RowSumSegments) {
  EXPECT_EQ(numRowSumSegments(0), 0);
  EXPECT_EQ(numRowSumSegments(1), 1);
  EXPECT_EQ(numRowSumSegments(128), 1);
  EXPECT_EQ(numRowSumSegments(129), 2);
}

TEST_F(MoeTypes, RegionsComputeInF32) {
  for (Type type :
       {Type(Float16Type::get(&context)), Type(BFloat16Type::get(&context)),
        Type(Float32Type::get(&context))})
    EXPECT_TRUE(getComputeType(type).isF32());
  EXPECT_TRUE(getComputeType(Float64Type::get(&context)).isF64());
}

} // namespace
