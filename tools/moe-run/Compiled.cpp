// SPDX-License-Identifier: Apache-2.0
#include "Compiled.h"

#include "Arguments.h"

#include "moe/Runtime/Call.h"
#include "moe/Runtime/Module.h"

#include "llvm/Support/Format.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::run;

namespace {
/// A device's memory and the DLPack tensor that describes it.
class Buffer {
public:
  Buffer(Device &device, DLDataType type, ArrayRef<int64_t> sizes)
      : device(device), shape(sizes) {
    tensor.data = nullptr;
    tensor.device = device.description();
    tensor.ndim = shape.size();
    tensor.dtype = type;
    tensor.shape = shape.data();
    tensor.strides = nullptr;
    tensor.byte_offset = 0;
  }
  Buffer(const Buffer &) = delete;
  ~Buffer() {
    if (tensor.data)
      device.release(tensor.data);
  }

  llvm::Error fill(ArrayRef<char> contents) {
    llvm::Expected<void *> address = device.allocate(contents.size());
    if (!address)
      return address.takeError();
    tensor.data = *address;
    if (contents.empty())
      return llvm::Error::success();
    return device.write(tensor.data, contents.data(), contents.size());
  }
  llvm::Expected<std::vector<char>> contents() const {
    std::vector<char> bytes(getNumElements(shape) * tensor.dtype.bits / 8);
    if (bytes.empty())
      return bytes;
    if (llvm::Error error =
            device.read(bytes.data(), tensor.data, bytes.size()))
      return error;
    return bytes;
  }

  DLTensor tensor;

private:
  Device &device;
  SmallVector<int64_t> shape;
};

/// The arguments of one call, in C order.
struct Call {
  explicit Call(Device &device) : device(device) {}

  llvm::Error add(DLDataType type, ArrayRef<int64_t> shape,
                  ArrayRef<char> contents) {
    buffers.push_back(std::make_unique<Buffer>(device, type, shape));
    tensors.push_back(&buffers.back()->tensor);
    return buffers.back()->fill(contents);
  }
  /// Of NaN: what is not written shows.
  llvm::Error add(DLDataType type, ArrayRef<int64_t> shape) {
    std::vector<char> ones(getNumElements(shape) * type.bits / 8, char(0xff));
    return add(type, shape, ones);
  }

  Device &device;
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

static llvm::Error benchmarkCall(const ::moe::Module &module, StringRef entry,
                                 const Call &call, unsigned repetitions) {
  llvm::Expected<std::vector<double>> times =
      call.device.time(repetitions, [&] {
        return module.invoke(entry, call.tensors, call.device.stream());
      });
  if (!times)
    return times.takeError();
  llvm::sort(*times);
  llvm::outs() << llvm::format(
      "%s: %u calls, least %.1f us, median %.1f us, most %.1f us\n",
      entry.str().c_str(), repetitions, times->front(),
      (*times)[times->size() / 2], times->back());
  return llvm::Error::success();
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
                             ArrayRef<NDArray> arguments, unsigned benchmark,
                             Device &device) {
  StringRef name = function.getName();
  llvm::Expected<const ::moe::EntrySpec *> spec = module.entry(name);
  if (!spec)
    return spec.takeError();

  Order order(function);
  Call call(device);
  for (unsigned i : order.arguments) {
    const NDArray &array = arguments[i];
    if (llvm::Error error =
            call.add(toDLPack(array.dtype()), array.shape(), array.toBytes()))
      return std::move(error);
  }
  SmallVector<int64_t> symbols;
  if (llvm::Error error = ::moe::bindSymbols(**spec, call.tensors, symbols))
    return std::move(error);
  size_t firstOutput = call.tensors.size();
  for (const ::moe::TensorSpec &tensor :
       llvm::drop_begin((*spec)->tensors, firstOutput)) {
    SmallVector<int64_t> shape;
    int64_t bytes = tensor.dtype.bits / 8;
    for (const ::moe::LinearExpr &dim : tensor.dims)
      if (!dim.evaluate(symbols, shape.emplace_back()) ||
          __builtin_mul_overflow(bytes, shape.back(), &bytes))
        return makeError("the size of result '" + tensor.name + "', " +
                         tensor.dtypeName + " " + tensor.shapeText() +
                         ", passes 63 bits: give smaller arguments");
    if (llvm::Error error = call.add(tensor.dtype, shape))
      return std::move(error);
  }
  llvm::Expected<uint64_t> workspace = ::moe::workspaceBytes(**spec, symbols);
  if (!workspace)
    return workspace.takeError();
  if (llvm::Error error = call.add({kDLInt, 8, 1}, {int64_t(*workspace)}))
    return std::move(error);

  if (llvm::Error error = module.invoke(name, call.tensors, device.stream()))
    return std::move(error);
  std::vector<NDArray> results(function.getNumResults());
  auto take = [&](unsigned result, const Buffer &buffer) -> llvm::Error {
    llvm::Expected<std::vector<char>> bytes = buffer.contents();
    if (!bytes)
      return bytes.takeError();
    DType dtype = *getDType(
        cast<ShapedType>(function.getResultTypes()[result]).getElementType());
    results[result] = NDArray::fromBytes(
        dtype, ArrayRef(buffer.tensor.shape, buffer.tensor.ndim),
        bytes->data());
    return llvm::Error::success();
  };
  for (auto [i, result] : llvm::enumerate(order.inoutResults))
    if (llvm::Error error = take(result, *call.buffers[(*spec)->numInputs + i]))
      return std::move(error);
  for (auto [i, result] : llvm::enumerate(order.outputResults))
    if (llvm::Error error = take(result, *call.buffers[firstOutput + i]))
      return std::move(error);
  if (benchmark)
    if (llvm::Error error = benchmarkCall(module, name, call, benchmark))
      return std::move(error);
  return results;
}
