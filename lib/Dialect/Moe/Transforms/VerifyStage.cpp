// SPDX-License-Identifier: Apache-2.0
// moe-verify-stage: the ops that may be there at each boundary of the
// pipelines.
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Dialect/AMX/AMXDialect.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/X86Vector/X86VectorDialect.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEVERIFYSTAGE
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

static bool isLevel1(Operation *op) {
  return isa<RouteOp, RouteGradOp, GroupOp, ScatterOp, CombineOp,
             ParallelLinearOp, WeightGradOp, RowwiseOp, ExpertSumOp>(op);
}

static bool isLevel2(Operation *op) {
  return isa<MoeDialect>(op->getDialect()) &&
         isa<DestinationStyleOpInterface>(op);
}

/// Dialects of tensor programs around the layer.
static bool isTensorMath(Operation *op) {
  return isa_and_present<arith::ArithDialect, math::MathDialect,
                         tensor::TensorDialect, linalg::LinalgDialect>(
      op->getDialect());
}

static bool isStructure(Operation *op) {
  return isa<ModuleOp, func::FuncOp, func::ReturnOp, func::CallOp>(op);
}

/// Kernels that are written already, and their launches (`nvtile` is known by
/// name: this library does not link it).
static bool isKernelCode(Operation *op) {
  Dialect *dialect = op->getDialect();
  if (op->getParentOfType<gpu::GPUModuleOp>() || isa<func::CallOp>(op))
    return true;
  return isa_and_present<gpu::GPUDialect>(dialect) ||
         (dialect && dialect->getNamespace() == "nvtile");
}

namespace {

/// What a stage allows, and what to do about the rest.
struct Stage {
  StringRef name;
  bool (*legal)(Operation *op);
  StringRef remedy;
};

} // namespace

static const Stage stages[] = {
    {"input",
     [](Operation *op) {
       return isStructure(op) || isTensorMath(op) || isLevel1(op) ||
              isa<AssignOp, PackAssignmentOp, UnpackAssignmentOp, YieldOp>(op);
     },
     "layers are written with level 1 of moe, func, arith, math, tensor and "
     "linalg"},
    {"expanded",
     [](Operation *op) {
       return isStructure(op) || isTensorMath(op) || isLevel1(op) ||
              isLevel2(op) || isa<PackAssignmentOp, YieldOp>(op);
     },
     "moe-expand-assignment makes assignments from their tables"},
    {"fused",
     [](Operation *op) {
       return isStructure(op) || isTensorMath(op) || isLevel2(op) ||
              isa<PackAssignmentOp, YieldOp>(op);
     },
     "moe-form-kernels makes kernels of level 1"},
    {"bufferized",
     [](Operation *op) {
       return isa<ModuleOp, func::FuncOp, func::ReturnOp>(op) ||
              isKernelCode(op) || isa<scf::IfOp, scf::YieldOp>(op) ||
              (isa_and_present<arith::ArithDialect, math::MathDialect,
                               linalg::LinalgDialect, memref::MemRefDialect>(
                   op->getDialect()) &&
               !isa<memref::AllocOp, memref::AllocaOp, memref::DeallocOp>(
                   op)) ||
              isLevel2(op) || isa<PackAssignmentOp, YieldOp>(op);
     },
     "bufferize, then plan temporaries with moe-plan-workspace"},
    {"loops",
     [](Operation *op) {
       return isa<ModuleOp, func::FuncOp, func::ReturnOp, func::CallOp>(op) ||
              isa_and_present<arith::ArithDialect, math::MathDialect,
                              scf::SCFDialect, vector::VectorDialect,
                              x86vector::X86VectorDialect, amx::AMXDialect,
                              LLVM::LLVMDialect>(op->getDialect()) ||
              (isa_and_present<memref::MemRefDialect>(op->getDialect()) &&
               !isa<memref::AllocOp, memref::DeallocOp>(op));
     },
     "convert-moe-to-scf makes loops of kernels"},
    {"kernels",
     [](Operation *op) {
       if (isa<ModuleOp, func::FuncOp, func::ReturnOp>(op) ||
           isKernelCode(op) ||
           isa_and_present<arith::ArithDialect, math::MathDialect,
                           scf::SCFDialect, LLVM::LLVMDialect>(
               op->getDialect()))
         return true;
       bool onDevice = op->getParentOfType<gpu::LaunchOp>();
       if (isa_and_present<vector::VectorDialect>(op->getDialect()))
         return onDevice;
       return isa_and_present<memref::MemRefDialect>(op->getDialect()) &&
              !isa<memref::AllocOp, memref::DeallocOp>(op) &&
              (onDevice ||
               !isa<memref::LoadOp, memref::StoreOp, memref::CopyOp>(op));
     },
     "convert-moe-to-gpu makes launches of all that touches a tensor"},
    {"llvm",
     [](Operation *op) {
       return isa<ModuleOp>(op) ||
              isa_and_present<LLVM::LLVMDialect>(op->getDialect());
     },
     "every op becomes LLVM's"},
};

/// Tables are read through the assignment, where bufferization does not see
/// it; that is right as long as nobody writes a table that is packed.
static LogicalResult verifyTables(PackAssignmentOp pack) {
  static constexpr StringLiteral names[] = {"order", "position", "begin",
                                            "end"};
  for (auto [name, table] : llvm::zip_equal(names, pack.getOperands()))
    for (OpOperand &use : table.getUses()) {
      auto writer = dyn_cast<DestinationStyleOpInterface>(use.getOwner());
      bool writes = writer && writer.isDpsInit(&use);
      if (!writes || (isa<MemRefType>(table.getType()) &&
                      isa<SortSlotsOp>(use.getOwner())))
        continue;
      InFlightDiagnostic diag = use.getOwner()->emitOpError()
                                << "writes a table (" << name
                                << ") of an assignment; give it a buffer of "
                                   "its own";
      diag.attachNote(pack.getLoc()) << "packed here";
      return diag;
    }
  return success();
}

static bool hasTensor(Operation *op) {
  auto isTensor = [](Type type) { return isa<TensorType>(type); };
  return llvm::any_of(op->getOperandTypes(), isTensor) ||
         llvm::any_of(op->getResultTypes(), isTensor);
}

namespace {
struct MoeVerifyStagePass
    : public moe::impl::MoeVerifyStageBase<MoeVerifyStagePass> {
  using MoeVerifyStageBase::MoeVerifyStageBase;
  void runOnOperation() override {
    StringRef wanted = stage;
    if (wanted == "differentiated")
      wanted = "input";
    const Stage *known =
        llvm::find_if(stages, [&](const Stage &s) { return s.name == wanted; });
    if (known == std::end(stages)) {
      emitError(getOperation().getLoc())
          << "moe-verify-stage knows no stage '" << stage.getValue()
          << "'; stages are input, differentiated, expanded, fused, "
             "bufferized, loops, kernels and llvm";
      return signalPassFailure();
    }
    bool tensors =
        wanted == "input" || wanted == "expanded" || wanted == "fused";
    WalkResult result = getOperation().walk([&](Operation *op) {
      if (!known->legal(op) || (!tensors && hasTensor(op))) {
        op->emitOpError() << "is not legal at stage '" << stage.getValue()
                          << "'; " << known->remedy;
        return WalkResult::interrupt();
      }
      if (auto pack = dyn_cast<PackAssignmentOp>(op);
          pack && failed(verifyTables(pack)))
        return WalkResult::interrupt();
      return WalkResult::advance();
    });
    if (result.wasInterrupted())
      return signalPassFailure();
    markAllAnalysesPreserved();
  }
};
} // namespace
