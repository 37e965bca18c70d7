// SPDX-License-Identifier: Apache-2.0
// convert-nvtile-to-nvvm: see Passes.td.
#include "Emitter.h"
#include "moe/Conversion/NVTileToNVVM/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/Transforms/Patterns.h"
#include "llvm/Support/MathExtras.h"

namespace mlir::nvtile {
#define GEN_PASS_DEF_CONVERTNVTILETONVVM
#include "moe/Conversion/NVTileToNVVM/Passes.h.inc"
} // namespace mlir::nvtile

using namespace mlir;
using namespace mlir::nvtile;

/// Gives each ring and staging its part of shared memory, and the kernel what
/// a launch needs to know. The swizzle repeats every 1024 bytes.
static LogicalResult layOutSharedMemory(gpu::GPUFuncOp kernel) {
  int64_t bytes = 0;
  Builder b(kernel.getContext());
  kernel.walk([&](Operation *op) {
    int64_t size = 0;
    if (auto ring = dyn_cast<MakeRingOp>(op))
      size = ring.getType().getBytes();
    else if (auto staging = dyn_cast<MakeStagingOp>(op))
      size = staging.getType().getBytes();
    else if (auto turns = dyn_cast<MakeTurnsOp>(op))
      size = turns.getType().getBytes();
    else
      return;
    bytes = llvm::alignTo(bytes, 1024);
    op->setAttr(kOffsetAttr, b.getI64IntegerAttr(bytes));
    bytes += size;
  });
  if (bytes > kSharedMemoryLimit)
    return kernel.emitOpError()
           << "needs " << bytes << " bytes of shared memory, a block has "
           << kSharedMemoryLimit << "; fewer stages or staging buffers";
  kernel->setAttr(kSharedMemoryAttr, b.getI32IntegerAttr(bytes));
  return success();
}

namespace {
/// CUtensorMapDataType.
int64_t dataType(Type element) {
  if (element.isBF16())
    return 9;
  return element.isF16() ? 6 : 7;
}

/// 128 bytes on the host's stack, filled by the runtime.
Value encodeTensorMap(TensorMapOp op) {
  ImplicitLocOpBuilder b(op.getLoc(), op);
  auto pointer = LLVM::LLVMPointerType::get(b.getContext());
  auto map = LLVM::LLVMArrayType::get(b.getI64Type(), 16);
  auto number = [&](int64_t value) -> Value {
    return arith::ConstantIntOp::create(b, value, 64);
  };
  auto toI64 = [&](Value index) -> Value {
    return arith::IndexCastOp::create(b, b.getI64Type(), index);
  };
  auto array = [&](ArrayRef<Value> values) -> Value {
    Value memory = LLVM::AllocaOp::create(b, pointer, b.getI64Type(),
                                          number(values.size()));
    for (auto [i, value] : llvm::enumerate(values)) {
      Value at = LLVM::GEPOp::create(b, pointer, b.getI64Type(), memory,
                                     ArrayRef<LLVM::GEPArg>{int32_t(i)});
      LLVM::StoreOp::create(b, value, at);
    }
    return memory;
  };
  Value out = LLVM::AllocaOp::create(b, pointer, map, number(1), 64);
  Value address =
      toI64(memref::ExtractAlignedPointerAsIndexOp::create(b, op.getSource()));
  SmallVector<Value> dims = llvm::map_to_vector(op.getDims(), toI64);
  SmallVector<Value> strides = llvm::map_to_vector(op.getStrides(), toI64);
  SmallVector<Value> box = llvm::map_to_vector(op.getBox(), number);
  constexpr int64_t kSwizzle128B = 3;
  Value operands[] = {out,
                      address,
                      number(dataType(op.getType().getElementType())),
                      number(dims.size()),
                      array(dims),
                      array(strides),
                      array(box),
                      number(kSwizzle128B)};
  StringRef name = "moe_rt_tensor_map";
  auto module = op->getParentOfType<ModuleOp>();
  if (!module.lookupSymbol(name)) {
    OpBuilder atStart = OpBuilder::atBlockBegin(module.getBody());
    func::FuncOp::create(atStart, op.getLoc(), name,
                         b.getFunctionType(ValueRange(operands).getTypes(), {}))
        .setPrivate();
  }
  func::CallOp::create(b, name, TypeRange(), operands);
  return LLVM::LoadOp::create(b, map, out, 64);
}

void convertLaunch(gpu::LaunchFuncOp launch, LLVM::LLVMFuncOp kernel) {
  ImplicitLocOpBuilder b(launch.getLoc(), launch);
  SmallVector<Value> operands;
  SmallVector<TensorMapOp> maps;
  for (Value operand : launch.getKernelOperands()) {
    if (auto map = operand.getDefiningOp<TensorMapOp>()) {
      operands.push_back(encodeTensorMap(map));
      maps.push_back(map);
    } else if (isa<MemRefType>(operand.getType())) {
      operands.push_back(
          memref::ExtractAlignedPointerAsIndexOp::create(b, operand));
    } else {
      operands.push_back(operand);
    }
  }
  launch.getKernelOperandsMutable().assign(operands);
  auto bytes = kernel->getAttrOfType<IntegerAttr>(kSharedMemoryAttr);
  launch.getDynamicSharedMemorySizeMutable().assign(
      arith::ConstantIntOp::create(b, bytes.getInt(), 32));
  for (TensorMapOp map : maps)
    if (map->use_empty())
      map->erase();
}

struct ConvertKernel : OpConversionPattern<gpu::GPUFuncOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(gpu::GPUFuncOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    TypeConverter::SignatureConversion signature(op.getNumArguments());
    if (failed(getTypeConverter()->convertSignatureArgs(op.getArgumentTypes(),
                                                        signature)))
      return failure();
    auto type =
        LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(op.getContext()),
                                    signature.getConvertedTypes());
    auto kernel =
        LLVM::LLVMFuncOp::create(rewriter, op.getLoc(), op.getName(), type);
    UnitAttr unit = rewriter.getUnitAttr();
    kernel->setAttr(gpu::GPUDialect::getKernelFuncAttrName(), unit);
    kernel->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(), unit);
    kernel->setAttr(NVVM::NVVMDialect::getReqntidAttrName(),
                    rewriter.getDenseI32ArrayAttr({kThreads, 1, 1}));
    kernel->setAttr(NVVM::NVVMDialect::getMinctasmAttrName(),
                    rewriter.getI32IntegerAttr(1));
    kernel->setAttr(kBlockAttr, rewriter.getI32IntegerAttr(kThreads));
    kernel->setAttr(kSharedMemoryAttr, op->getAttr(kSharedMemoryAttr));
    for (auto [i, argument] : llvm::enumerate(op.getArgumentTypes())) {
      if (!isa<TensorMapType>(argument))
        continue;
      kernel.setArgAttr(
          i, LLVM::LLVMDialect::getByValAttrName(),
          TypeAttr::get(LLVM::LLVMArrayType::get(rewriter.getI64Type(), 16)));
      kernel.setArgAttr(i, LLVM::LLVMDialect::getAlignAttrName(),
                        rewriter.getI64IntegerAttr(64));
      kernel.setArgAttr(i, NVVM::NVVMDialect::getGridConstantAttrName(), unit);
    }
    rewriter.inlineRegionBefore(op.getBody(), kernel.getBody(), kernel.end());
    if (failed(rewriter.convertRegionTypes(&kernel.getBody(),
                                           *getTypeConverter(), &signature)))
      return failure();
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertReturn : OpConversionPattern<gpu::ReturnOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(gpu::ReturnOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    rewriter.replaceOpWithNewOp<LLVM::ReturnOp>(op, ValueRange());
    return success();
  }
};

/// The block's number in the grid, and the grid's size, as i32.
template <typename From, typename To>
struct ConvertIndex : OpConversionPattern<From> {
  using OpConversionPattern<From>::OpConversionPattern;
  LogicalResult
  matchAndRewrite(From op, typename From::Adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (op.getDimension() != gpu::Dimension::x)
      return op.emitOpError() << "asks for another dimension than x; nvtile "
                                 "kernels have one";
    Value number = To::create(rewriter, op.getLoc(), rewriter.getI32Type());
    rewriter.replaceOpWithNewOp<arith::IndexCastOp>(op, rewriter.getIndexType(),
                                                    number);
    return success();
  }
};

/// The kernels of one gpu.module, to LLVM and NVVM.
LogicalResult convertKernels(gpu::GPUModuleOp module) {
  MLIRContext *context = module.getContext();
  for (auto kernel : module.getOps<gpu::GPUFuncOp>())
    if (failed(layOutSharedMemory(kernel)))
      return failure();
  auto builder = OpBuilder::atBlockBegin(module.getBody());
  LLVM::GlobalOp::create(builder, module.getLoc(),
                         LLVM::LLVMArrayType::get(builder.getI8Type(), 0),
                         /*isConstant=*/false, LLVM::Linkage::External,
                         kSharedMemory, Attribute(),
                         /*alignment=*/1024, /*addrSpace=*/3);

  TypeConverter converter;
  converter.addConversion([](Type type) { return type; });
  converter.addConversion([](TensorMapType type) -> Type {
    return LLVM::LLVMPointerType::get(type.getContext());
  });
  auto shared = [](auto type) -> Type {
    return LLVM::LLVMPointerType::get(type.getContext(), 3);
  };
  converter.addConversion([=](RingType type) { return shared(type); });
  converter.addConversion([=](StagingType type) { return shared(type); });
  converter.addConversion([=](TurnsType type) { return shared(type); });
  converter.addConversion([](MemRefType type) -> Type {
    return LLVM::LLVMPointerType::get(type.getContext(), 1);
  });
  converter.addConversion([](FragmentType type) -> Type {
    bool wide = type.getElementType().isF32();
    SmallVector<Type> values(type.getRegisters(),
                             wide ? type.getElementType()
                                  : IntegerType::get(type.getContext(), 32));
    return LLVM::LLVMStructType::getLiteral(type.getContext(), values);
  });

  ConversionTarget target(*context);
  target.addLegalDialect<LLVM::LLVMDialect, NVVM::NVVMDialect,
                         arith::ArithDialect>();
  target.addIllegalDialect<NVTileDialect, gpu::GPUDialect>();
  target.addLegalOp<gpu::GPUModuleOp>();
  RewritePatternSet patterns(context);
  scf::populateSCFStructuralTypeConversionsAndLegality(converter, patterns,
                                                       target);
  patterns.add<ConvertKernel, ConvertReturn,
               ConvertIndex<gpu::BlockIdOp, NVVM::BlockIdXOp>,
               ConvertIndex<gpu::GridDimOp, NVVM::GridDimXOp>>(converter,
                                                               context);
  populateRingPatterns(converter, patterns);
  populateFragmentPatterns(converter, patterns);
  populateTilePatterns(converter, patterns);
  return applyFullConversion(module, target, std::move(patterns));
}

struct ConvertNVTileToNVVM
    : nvtile::impl::ConvertNVTileToNVVMBase<ConvertNVTileToNVVM> {
  void runOnOperation() override {
    DenseMap<StringAttr, gpu::GPUModuleOp> converted;
    for (auto module : getOperation().getOps<gpu::GPUModuleOp>()) {
      bool found = false;
      module.walk([&](Operation *op) {
        found |= isa_and_present<NVTileDialect>(op->getDialect());
      });
      if (!found)
        continue;
      if (failed(convertKernels(module)))
        return signalPassFailure();
      converted[module.getNameAttr()] = module;
    }
    SmallVector<gpu::LaunchFuncOp> launches;
    getOperation().walk([&](gpu::LaunchFuncOp launch) {
      if (converted.contains(launch.getKernelModuleName()))
        launches.push_back(launch);
    });
    for (gpu::LaunchFuncOp launch : launches) {
      auto kernel = converted[launch.getKernelModuleName()]
                        .lookupSymbol<LLVM::LLVMFuncOp>(launch.getKernelName());
      if (!kernel)
        continue; // the launch's own verifier tells
      convertLaunch(launch, kernel);
    }
  }
};
} // namespace
