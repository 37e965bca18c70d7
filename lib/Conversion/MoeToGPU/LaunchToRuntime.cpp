// SPDX-License-Identifier: Apache-2.0
// convert-gpu-launch-to-runtime: see Passes.td.
#include "moe/Conversion/EntryPoints.h"
#include "moe/Conversion/MoeToGPU/Passes.h"

#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/SymbolTable.h"

namespace mlir::moe {
#define GEN_PASS_DEF_CONVERTGPULAUNCHTORUNTIME
#include "moe/Conversion/MoeToGPU/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;

/// The runtime's entry point and its table of kernels; both ends know them by
/// these names.
static constexpr llvm::StringLiteral kLaunch = "moe_rt_launch";
static constexpr llvm::StringLiteral kKernels = "_moe_gpu_kernels";
static constexpr llvm::StringLiteral kKernelCount = "_moe_gpu_kernel_count";

namespace {
class Converter {
public:
  explicit Converter(ModuleOp module)
      : module(module), context(module.getContext()), symbols(module),
        types(context), pointer(LLVM::LLVMPointerType::get(context)),
        i64(IntegerType::get(context, 64)) {}

  LogicalResult convert(gpu::LaunchFuncOp launch);
  LogicalResult makeTable();

private:
  unsigned numberOf(gpu::LaunchFuncOp launch);
  LogicalResult scalarsOf(gpu::LaunchFuncOp launch, ImplicitLocOpBuilder &b,
                          Value argument, SmallVectorImpl<Value> &scalars);
  Value stack(ImplicitLocOpBuilder &b, func::FuncOp function, Type type);
  func::FuncOp runtimeFunction();
  LLVM::GlobalOp constant(StringRef name, StringRef bytes, int64_t align);

  ModuleOp module;
  MLIRContext *context;
  SymbolTable symbols;
  LLVMTypeConverter types;
  Type pointer, i64;
  SmallVector<SymbolRefAttr> kernels;
};
} // namespace

unsigned Converter::numberOf(gpu::LaunchFuncOp launch) {
  auto *it = llvm::find(kernels, launch.getKernelAttr());
  if (it == kernels.end()) {
    kernels.push_back(launch.getKernelAttr());
    return kernels.size() - 1;
  }
  return it - kernels.begin();
}

/// A kernel's parameters as convert-gpu-to-nvvm makes them: a memref is its
/// descriptor's words.
LogicalResult Converter::scalarsOf(gpu::LaunchFuncOp launch,
                                   ImplicitLocOpBuilder &b, Value argument,
                                   SmallVectorImpl<Value> &scalars) {
  Type type = types.convertType(argument.getType());
  if (!type)
    return launch.emitOpError()
           << "passes a value of type " << argument.getType()
           << ", which no kernel can take; bufferize before the kernel is "
              "outlined";
  Value value = argument;
  if (type != argument.getType())
    value = UnrealizedConversionCastOp::create(b, type, argument).getResult(0);
  if (!isa<MemRefType>(argument.getType())) {
    scalars.push_back(value);
    return success();
  }
  auto add = [&](ArrayRef<int64_t> position) {
    scalars.push_back(LLVM::ExtractValueOp::create(b, value, position));
  };
  int64_t rank = cast<MemRefType>(argument.getType()).getRank();
  for (int64_t field : {0, 1, 2})
    add(field);
  for (int64_t field : {3, 4})
    for (int64_t i = 0; i < rank; ++i)
      add({field, i});
  return success();
}

/// In the function's frame, whatever loops are around its use.
Value Converter::stack(ImplicitLocOpBuilder &b, func::FuncOp function,
                       Type type) {
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(&function.front());
  Value one = LLVM::ConstantOp::create(b, i64, b.getI64IntegerAttr(1));
  return LLVM::AllocaOp::create(b, pointer, type, one, /*alignment=*/64);
}

func::FuncOp Converter::runtimeFunction() {
  if (auto function = symbols.lookup<func::FuncOp>(kLaunch))
    return function;
  SmallVector<Type> inputs(8, i64);
  inputs.push_back(pointer);
  auto function = func::FuncOp::create(module.getLoc(), kLaunch,
                                       FunctionType::get(context, inputs, {}));
  function.setPrivate();
  symbols.insert(function, module.getBody()->begin());
  return function;
}

LogicalResult Converter::convert(gpu::LaunchFuncOp launch) {
  auto function = launch->getParentOfType<func::FuncOp>();
  if (!function)
    return launch.emitOpError() << "is not inside a func.func; run "
                                   "convert-gpu-launch-to-runtime before "
                                   "functions are converted";
  if (launch.getAsyncToken() || !launch.getAsyncDependencies().empty() ||
      launch.hasClusterSize())
    return launch.emitOpError() << "is asynchronous or has clusters; launches "
                                   "follow each other on the caller's stream: "
                                   "make it a plain launch";
  ImplicitLocOpBuilder b(launch.getLoc(), launch);
  auto number = [&](int64_t value) -> Value {
    return LLVM::ConstantOp::create(b, i64, b.getI64IntegerAttr(value));
  };
  auto wide = [&](Value value) -> Value {
    if (value.getType() == i64)
      return value;
    if (value.getType().isIndex())
      return arith::IndexCastOp::create(b, i64, value);
    return arith::ExtUIOp::create(b, i64, value);
  };
  SmallVector<Value> scalars;
  for (Value argument : launch.getKernelOperands())
    if (failed(scalarsOf(launch, b, argument, scalars)))
      return failure();

  auto list = LLVM::LLVMArrayType::get(pointer, scalars.size());
  Value pointers = scalars.empty() ? LLVM::ZeroOp::create(b, pointer)
                                   : stack(b, function, list);
  for (auto [i, scalar] : llvm::enumerate(scalars)) {
    Value slot = stack(b, function, scalar.getType());
    LLVM::StoreOp::create(b, scalar, slot);
    Value at = LLVM::GEPOp::create(b, pointer, pointer, pointers,
                                   ArrayRef<LLVM::GEPArg>{int32_t(i)});
    LLVM::StoreOp::create(b, slot, at);
  }
  Value shared = launch.getDynamicSharedMemorySize()
                     ? wide(launch.getDynamicSharedMemorySize())
                     : number(0);
  gpu::KernelDim3 grid = launch.getGridSizeOperandValues();
  gpu::KernelDim3 block = launch.getBlockSizeOperandValues();
  func::CallOp::create(b, runtimeFunction(),
                       ValueRange{number(numberOf(launch)), wide(grid.x),
                                  wide(grid.y), wide(grid.z), wide(block.x),
                                  wide(block.y), wide(block.z), shared,
                                  pointers});
  launch.erase();
  return success();
}

LLVM::GlobalOp Converter::constant(StringRef name, StringRef bytes,
                                   int64_t align) {
  OpBuilder b(context);
  b.setInsertionPointToEnd(module.getBody());
  auto type = LLVM::LLVMArrayType::get(b.getI8Type(), bytes.size());
  auto global = LLVM::GlobalOp::create(
      b, module.getLoc(), type, /*isConstant=*/true, LLVM::Linkage::Internal,
      name, b.getStringAttr(bytes), align);
  symbols.insert(global);
  return global;
}

LogicalResult Converter::makeTable() {
  llvm::StringMap<std::pair<LLVM::GlobalOp, int64_t>> images;
  for (auto binary :
       llvm::make_early_inc_range(module.getOps<gpu::BinaryOp>())) {
    auto object = cast<gpu::ObjectAttr>(binary.getObjects()[0]);
    // Text for the driver's compiler ends with a zero.
    std::string bytes = object.getObject().getValue().str();
    if (object.getFormat() == gpu::CompilationTarget::Assembly)
      bytes.push_back('\0');
    std::string name = binary.getSymName().str();
    symbols.erase(binary);
    images[name] = {constant("moe_gpu_image_" + name, bytes, 64),
                    int64_t(bytes.size())};
  }
  auto entry =
      LLVM::LLVMStructType::getLiteral(context, {pointer, i64, pointer});
  auto table = LLVM::LLVMArrayType::get(entry, kernels.size());
  OpBuilder top(context);
  top.setInsertionPointToEnd(module.getBody());
  auto count = LLVM::GlobalOp::create(
      top, module.getLoc(), i64, /*isConstant=*/true, LLVM::Linkage::External,
      kKernelCount, top.getI64IntegerAttr(kernels.size()));
  symbols.insert(count);
  auto global = LLVM::GlobalOp::create(
      top, module.getLoc(), table,
      /*isConstant=*/true, LLVM::Linkage::External, kKernels, Attribute());
  symbols.insert(global);
  SmallVector<LLVM::GlobalOp> names;
  for (SymbolRefAttr kernel : kernels) {
    std::string name = kernel.getLeafReference().str();
    names.push_back(constant("moe_gpu_name_" + name, name + '\0', 1));
  }
  ImplicitLocOpBuilder b(module.getLoc(), context);
  b.createBlock(&global.getInitializerRegion());
  Value all = LLVM::UndefOp::create(b, table);
  for (auto [i, kernel] : llvm::enumerate(kernels)) {
    auto image = images.find(kernel.getRootReference().getValue());
    if (image == images.end())
      return module.emitError() << "no gpu.binary has the kernel " << kernel
                                << "; assemble before "
                                   "convert-gpu-launch-to-runtime";
    int64_t at = i;
    auto put = [&](Value value, int64_t field) {
      all = LLVM::InsertValueOp::create(b, all, value,
                                        ArrayRef<int64_t>{at, field});
    };
    put(LLVM::AddressOfOp::create(b, image->second.first), 0);
    put(LLVM::ConstantOp::create(b, i64,
                                 b.getI64IntegerAttr(image->second.second)),
        1);
    put(LLVM::AddressOfOp::create(b, names[i]), 2);
  }
  LLVM::ReturnOp::create(b, all);
  return success();
}

namespace {
struct ConvertGPULaunchToRuntime
    : public mlir::moe::impl::ConvertGPULaunchToRuntimeBase<
          ConvertGPULaunchToRuntime> {
  void runOnOperation() override {
    SmallVector<gpu::LaunchFuncOp> launches;
    getOperation().walk(
        [&](gpu::LaunchFuncOp launch) { launches.push_back(launch); });
    for (auto function : getOperation().getOps<func::FuncOp>())
      mlir::moe::prepareEntryPoint(function);
    Converter converter(getOperation());
    for (gpu::LaunchFuncOp launch : launches)
      if (failed(converter.convert(launch)))
        return signalPassFailure();
    if (failed(converter.makeTable()))
      return signalPassFailure();
    getOperation()->removeAttr(gpu::GPUDialect::getContainerModuleAttrName());
  }
};
} // namespace
