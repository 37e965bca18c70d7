// SPDX-License-Identifier: Apache-2.0
// Canonicalizations of level 1.
#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// group(scatter(g)) -> g: grouped rows outside the ranges are unspecified, so
/// g itself is one legal value.
struct GroupOfScatter : OpRewritePattern<GroupOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(GroupOp op,
                                PatternRewriter &rewriter) const override {
    auto scatter = op.getRows().getDefiningOp<ScatterOp>();
    if (!scatter || op.getFrom() != RowOrder::Slot ||
        scatter.getAssignment() != op.getAssignment() ||
        scatter.getRows().getType() != op.getResult().getType())
      return failure();
    rewriter.replaceOp(op, scatter.getRows());
    return success();
  }
};

/// combine(scatter(g) from slot) -> combine(g from grouped): a sentinel slot
/// adds nothing either way.
struct CombineOfScatter : OpRewritePattern<CombineOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(CombineOp op,
                                PatternRewriter &rewriter) const override {
    auto scatter = op.getRows().getDefiningOp<ScatterOp>();
    if (!scatter || op.getFrom() != RowOrder::Slot ||
        scatter.getAssignment() != op.getAssignment())
      return failure();
    rewriter.modifyOpInPlace(op, [&] {
      op.getRowsMutable().assign(scatter.getRows());
      op.setFrom(RowOrder::Grouped);
    });
    return success();
  }
};

} // namespace

void GroupOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                          MLIRContext *context) {
  patterns.add<GroupOfScatter>(context);
}

void ScatterOp::getCanonicalizationPatterns(RewritePatternSet &,
                                            MLIRContext *) {}

void CombineOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                            MLIRContext *context) {
  patterns.add<CombineOfScatter>(context);
}

void RowwiseOp::getCanonicalizationPatterns(RewritePatternSet &,
                                            MLIRContext *) {}
