// SPDX-License-Identifier: Apache-2.0
// moe-kernel-math: see Passes.td.
#include "DoubleMath.h"
#include "moe/Conversion/MoeToGPU/Passes.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/PatternMatch.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEKERNELMATH
#include "moe/Conversion/MoeToGPU/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;

namespace {
struct MoeKernelMath
    : public mlir::moe::impl::MoeKernelMathBase<MoeKernelMath> {
  /// As a call of the intrinsic: convert-gpu-to-nvvm would make the ops of the
  /// LLVM dialect calls of the device library. Scalars and vectors are LLVM's
  /// types already.
  template <typename From>
  static bool replace(Operation *op, StringRef intrinsic) {
    if (!isa<From>(op))
      return false;
    IRRewriter rewriter(op);
    rewriter.replaceOpWithNewOp<LLVM::CallIntrinsicOp>(
        op, op->getResult(0).getType(), rewriter.getStringAttr(intrinsic),
        op->getOperands());
    return true;
  }

  void runOnOperation() override {
    WalkResult result = getOperation().walk([&](Operation *op) {
      if (!isa_and_present<math::MathDialect>(op->getDialect()))
        return WalkResult::advance();
      if (replace<math::FmaOp>(op, "llvm.fma") ||
          replace<math::SqrtOp>(op, "llvm.sqrt") ||
          replace<math::AbsFOp>(op, "llvm.fabs") ||
          replace<math::CopySignOp>(op, "llvm.copysign") ||
          replace<math::FloorOp>(op, "llvm.floor") ||
          replace<math::CeilOp>(op, "llvm.ceil") ||
          replace<math::TruncOp>(op, "llvm.trunc") ||
          replace<math::RoundEvenOp>(op, "llvm.roundeven"))
        return WalkResult::advance();
      if (mlir::moe::expandDoubleMath(op))
        return WalkResult::advance();
      if (isa<math::IsNaNOp, math::IsFiniteOp, math::IsInfOp>(op))
        return WalkResult::advance();
      op->emitOpError() << "on " << op->getResult(0).getType()
                        << " is not built for GPUs; compute it from arith and "
                           "math's functions of floats";
      return WalkResult::interrupt();
    });
    if (result.wasInterrupted())
      signalPassFailure();
  }
};
} // namespace
