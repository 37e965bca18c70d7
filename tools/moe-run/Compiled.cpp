// SPDX-License-Identifier: Apache-2.0
#include "Compiled.h"

#include "Arguments.h"

#include "moe/Runtime/Call.h"
#include "moe/Runtime/Module.h"

#include "llvm/Support/Format.h"

#include <chrono>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::run;

namespace {
/// Aligned memory and the DLPack tensor that describes it.
class Buffer {
public:
  Buffer(DLDataType type, ArrayRef<int64_t> sizes, int64_t bytes)
      : shape(sizes), memory(bytes + kAlignment, char(0xff)) {
    uintptr_t address = reinterpret_cast<uintptr_t>(memory.data());
    tensor.data = reinterpret_cast<void *>(llvm::alignTo(address, kAlignment));
    tensor.device = {kDLCPU, 0};
    tensor.ndim = shape.size();
    tensor.dtype = type;
    tensor.shape = shape.data();
    tensor.strides = nullptr;
    tensor.byte_offset = 0;
  }
  Buffer(const Buffer &) = delete;

  DLTensor tensor;

private:
  static constexpr size_t kAlignment = 64;
  SmallVector<int64_t> shape;
  std::vector<char> memory;
};

/// The arguments of one call, in C order.
struct Call {
  Buffer &add(DLDataType type, ArrayRef<int64_t> shape, int64_t bytes) {
    buffers.push_back(std::make_unique<Buffer>(type, shape, bytes));
    tensors.push_back(&buffers.back()->tensor);
    return *buffers.back();
  }
  std::vector<std::unique_ptr<Buffer>> buffers;
  SmallVector<const DLTensor *> tensors;
};

/// Function arguments and results, by their index, in the order of a call:
/// inputs, inouts; outputs.
struct Order {
  explicit Order(func::FuncOp function) {
    for (bool inout : {false, true})
      for (unsigned i = 0; i < function.getNumArguments(); ++i)
        if (bool(function.getArgAttr(i, "moe.inout")) == inout)
          arguments.push_back(i);
    for (unsigned i = 0; i < function.getNumResults(); ++i)
      (function.getResultAttr(i, "moe.inout") ? inoutResults : outputResults)
          .push_back(i);
  }
  SmallVector<unsigned> arguments, inoutResults, outputResults;
};
} // namespace

static DLDataType toDLPack(DType dtype) {
  DLDataType type{};
  ::moe::parseDType(getDTypeName(dtype), type);
  return type;
}

static void benchmarkCall(const ::moe::Module &module, StringRef entry,
                          const Call &call, unsigned repetitions) {
  std::vector<double> times;
  for (unsigned i = 0; i < repetitions; ++i) {
    auto start = std::chrono::steady_clock::now();
    llvm::cantFail(module.invoke(entry, call.tensors, nullptr));
    times.push_back(std::chrono::duration<double, std::micro>(
                        std::chrono::steady_clock::now() - start)
                        .count());
  }
  llvm::sort(times);
  llvm::outs() << llvm::format(
      "%s: %u calls, least %.1f us, median %.1f us, most %.1f us\n",
      entry.str().c_str(), repetitions, times.front(), times[times.size() / 2],
      times.back());
}

llvm::Expected<std::shared_ptr<::moe::Module>>
mlir::moe::run::compileAndLoad(::moe::CompilerInvocation invocation) {
  std::string bytes;
  llvm::raw_string_ostream os(bytes);
  if (failed(::moe::compile(std::move(invocation), os)))
    return makeError("the module was not compiled");
  return ::moe::Module::load(bytes, "the compiled module");
}

llvm::Expected<std::vector<NDArray>>
mlir::moe::run::callCompiled(const ::moe::Module &module, func::FuncOp function,
                             ArrayRef<NDArray> arguments, unsigned benchmark) {
  StringRef name = function.getName();
  llvm::Expected<const ::moe::EntrySpec *> spec = module.entry(name);
  if (!spec)
    return spec.takeError();

  Order order(function);
  Call call;
  for (unsigned i : order.arguments) {
    const NDArray &array = arguments[i];
    std::vector<char> contents = array.toBytes();
    Buffer &buffer =
        call.add(toDLPack(array.dtype()), array.shape(), contents.size());
    llvm::copy(contents, static_cast<char *>(buffer.tensor.data));
  }
  SmallVector<int64_t> symbols;
  if (llvm::Error error = ::moe::bindSymbols(**spec, call.tensors, symbols))
    return std::move(error);
  size_t firstOutput = call.tensors.size();
  for (const ::moe::TensorSpec &tensor :
       llvm::drop_begin((*spec)->tensors, firstOutput)) {
    SmallVector<int64_t> shape;
    for (const ::moe::LinearExpr &dim : tensor.dims)
      if (!dim.evaluate(symbols, shape.emplace_back()))
        return makeError("the size of result '" + tensor.name +
                         "' passes 63 bits");
    call.add(tensor.dtype, shape,
             getNumElements(shape) * tensor.dtype.bits / 8);
  }
  llvm::Expected<uint64_t> workspace = ::moe::workspaceBytes(**spec, symbols);
  if (!workspace)
    return workspace.takeError();
  call.add({kDLInt, 8, 1}, {int64_t(*workspace)}, *workspace);

  if (llvm::Error error = module.invoke(name, call.tensors, nullptr))
    return std::move(error);
  std::vector<NDArray> results(function.getNumResults());
  auto take = [&](unsigned result, const DLTensor *tensor) {
    DType dtype = *getDType(
        cast<ShapedType>(function.getResultTypes()[result]).getElementType());
    results[result] = NDArray::fromBytes(
        dtype, ArrayRef(tensor->shape, tensor->ndim), tensor->data);
  };
  for (auto [i, result] : llvm::enumerate(order.inoutResults))
    take(result, call.tensors[(*spec)->numInputs + i]);
  for (auto [i, result] : llvm::enumerate(order.outputResults))
    take(result, call.tensors[firstOutput + i]);
  if (benchmark)
    benchmarkCall(module, name, call, benchmark);
  return results;
}
