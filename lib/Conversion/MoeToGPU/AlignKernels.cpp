// SPDX-License-Identifier: Apache-2.0
// moe-align-kernels: see Passes.td.
#include "GPUEmitter.h"
#include "moe/Conversion/MoeToGPU/Passes.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEALIGNKERNELS
#include "moe/Conversion/MoeToGPU/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

static int64_t bytesOf(ShapedType type) {
  return type.getNumElements() *
         llvm::divideCeil(type.getElementTypeBitWidth(), 8);
}

template <typename Op> static void align(Op op) {
  int64_t bytes = bytesOf(op.getVectorType());
  op.setAlignment(std::min(kVectorBytes, bytes & -bytes));
}

namespace {
struct MoeAlignKernels
    : public mlir::moe::impl::MoeAlignKernelsBase<MoeAlignKernels> {
  void runOnOperation() override {
    getOperation().walk([](vector::LoadOp op) { align(op); });
    getOperation().walk([](vector::StoreOp op) { align(op); });
    for (auto kernel : getOperation().getOps<gpu::GPUFuncOp>()) {
      int64_t total = 0;
      for (auto [i, buffer] :
           llvm::enumerate(kernel.getWorkgroupAttributions())) {
        total += llvm::alignTo(bytesOf(cast<ShapedType>(buffer.getType())),
                               kVectorBytes);
        kernel.setWorkgroupAttributionAttr(
            i, LLVM::LLVMDialect::getAlignAttrName(),
            IntegerAttr::get(IntegerType::get(&getContext(), 64),
                             kVectorBytes));
      }
      if (total > kSharedBytes) {
        kernel.emitOpError()
            << "wants " << total << " bytes of static shared memory, "
            << kSharedBytes << " can be had: use fewer experts";
        return signalPassFailure();
      }
    }
  }
};
} // namespace
