// SPDX-License-Identifier: Apache-2.0
//===- Call.cpp - the checks of a call and its memref descriptors ---------===//
#include "moe/Runtime/Call.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

using namespace llvm;
using namespace moe;

namespace {
std::string where(const EntrySpec &entry, const TensorSpec &spec) {
  return ("entry '" + entry.name + "', argument '" + spec.name + "': ");
}

Error invalid(const Twine &message) {
  return fail(MOE_INVALID_ARGUMENT, message);
}

ArrayRef<int64_t> shapeOf(const DLTensor &tensor) {
  return ArrayRef(tensor.shape, tensor.ndim);
}

std::string shapeText(const DLTensor &tensor) {
  std::string text = "[";
  for (auto [i, dim] : enumerate(shapeOf(tensor)))
    text += (i ? ", " : "") + std::to_string(dim);
  return text + "]";
}

/// Bytes of a compact tensor; false if they pass 63 bits.
bool byteSize(const DLTensor &tensor, int64_t &bytes) {
  bytes = (int64_t(tensor.dtype.bits) * tensor.dtype.lanes + 7) / 8;
  // A zero anywhere makes the tensor empty, however large the rest is.
  if (is_contained(shapeOf(tensor), 0)) {
    bytes = 0;
    return true;
  }
  for (int64_t dim : shapeOf(tensor))
    if (__builtin_mul_overflow(bytes, dim, &bytes))
      return false;
  return true;
}

bool isHostDevice(DLDevice device) {
  return device.device_type == kDLCPU || device.device_type == kDLCUDAHost ||
         device.device_type == kDLROCMHost;
}

/// Compact in row-major order; dimensions of size 1 and empty tensors may have
/// any stride.
bool isRowMajor(const DLTensor &tensor) {
  if (!tensor.strides || is_contained(shapeOf(tensor), 0))
    return true;
  int64_t expected = 1;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.shape[i] == 1)
      continue;
    if (tensor.strides[i] != expected)
      return false;
    expected *= tensor.shape[i];
  }
  return true;
}

uintptr_t addressOf(const DLTensor &tensor) {
  return reinterpret_cast<uintptr_t>(tensor.data) + tensor.byte_offset;
}

Error checkNotNull(const EntrySpec &entry, const TensorSpec &spec,
                   const DLTensor *tensor) {
  if (!tensor)
    return invalid(where(entry, spec) + "the tensor is a null pointer");
  if (tensor->ndim < 0 || (tensor->ndim > 0 && !tensor->shape))
    return invalid(where(entry, spec) + "the tensor has no shape");
  return Error::success();
}

struct Region {
  uintptr_t begin, end;
  StringRef name;
  bool written;
};

Error checkOverlap(const EntrySpec &entry, ArrayRef<Region> regions) {
  for (auto [i, a] : enumerate(regions))
    for (const Region &b : regions.drop_front(i + 1))
      if ((a.written || b.written) && a.begin < b.end && b.begin < a.end)
        return invalid("entry '" + entry.name + "': '" + a.name + "' and '" +
                       b.name +
                       "' overlap in memory, and the call writes one of "
                       "them: give each its own buffer");
  return Error::success();
}
} // namespace

Error moe::bindSymbols(const EntrySpec &entry, ArrayRef<const DLTensor *> args,
                       SmallVectorImpl<int64_t> &symbols) {
  unsigned needed = entry.numInputs + entry.numInOuts;
  if (args.size() < needed)
    return invalid("entry '" + entry.name + "' takes " + Twine(needed) +
                   " inputs and inouts, got " + Twine(args.size()));
  args = args.take_front(entry.tensors.size());

  constexpr int64_t kUnbound = -1;
  symbols.assign(entry.symbols.size(), kUnbound);
  SmallVector<unsigned, 4> binder(entry.symbols.size(), 0);
  SmallVector<int64_t, 4> factors(entry.symbols.size(), 0);
  for (auto [i, tensor] : enumerate(args)) {
    const TensorSpec &spec = entry.tensors[i];
    if (Error error = checkNotNull(entry, spec, tensor))
      return error;
    if (tensor->dtype.code != spec.dtype.code ||
        tensor->dtype.bits != spec.dtype.bits || tensor->dtype.lanes != 1)
      return invalid(where(entry, spec) + "dtype is " +
                     dtypeName(tensor->dtype) + ", expected " + spec.dtypeName +
                     ": convert it");
    if (static_cast<size_t>(tensor->ndim) != spec.dims.size())
      return invalid(where(entry, spec) + "shape is " + shapeText(*tensor) +
                     " of rank " + Twine(tensor->ndim) + ", expected " +
                     spec.shapeText() + " of rank " + Twine(spec.dims.size()));
    for (auto [d, dim] : enumerate(spec.dims)) {
      if (tensor->shape[d] < 0)
        return invalid(where(entry, spec) + "dimension " + Twine(d) + " is " +
                       Twine(tensor->shape[d]) + ", which is negative");
      // The dimension that is the symbol itself, or the first multiple of it.
      int symbol = dim.asMultiple();
      if (symbol < 0 || i >= needed)
        continue;
      int64_t factor = dim.terms[0].second;
      if (symbols[symbol] == kUnbound || factor < factors[symbol]) {
        symbols[symbol] = tensor->shape[d] / factor;
        factors[symbol] = factor;
        binder[symbol] = i;
      }
    }
  }

  for (auto [i, tensor] : enumerate(args)) {
    const TensorSpec &spec = entry.tensors[i];
    for (auto [d, dim] : enumerate(spec.dims)) {
      int64_t expected;
      if (!dim.evaluate(symbols, expected))
        return invalid(where(entry, spec) + "dimension '" + spec.dimText[d] +
                       "' passes 63 bits: use fewer rows");
      if (tensor->shape[d] == expected)
        continue;
      std::string bindings;
      for (auto [s, unused] : dim.terms)
        bindings += (bindings.empty() ? ", where " : ", ") + entry.symbols[s] +
                    " = " + std::to_string(symbols[s]) + " from '" +
                    entry.tensors[binder[s]].name + "'";
      return invalid(where(entry, spec) + "dimension " + Twine(d) + " is " +
                     Twine(tensor->shape[d]) + ", expected " +
                     (dim.terms.empty() ? Twine(expected).str()
                                        : spec.dimText[d] + " = " +
                                              std::to_string(expected)) +
                     bindings + " (shape " + shapeText(*tensor) +
                     ", expected " + spec.shapeText() + ")");
    }
  }

  for (const Constraint &constraint : entry.constraints) {
    int64_t value;
    if (!constraint.expr.evaluate(symbols, value) ||
        value < constraint.minimum || value > constraint.maximum) {
      std::string range;
      if (constraint.minimum != INT64_MIN)
        range += " >= " + std::to_string(constraint.minimum);
      if (constraint.maximum != INT64_MAX)
        range += (range.empty() ? " <= " : " and <= ") +
                 std::to_string(constraint.maximum);
      std::string bindings;
      for (auto [s, unused] : constraint.expr.terms)
        bindings +=
            ", " + entry.symbols[s] + " = " + std::to_string(symbols[s]);
      return invalid(
          "entry '" + entry.name + "' needs " + constraint.text + range +
          bindings +
          (constraint.message.empty() ? "" : ": " + constraint.message));
    }
  }
  return Error::success();
}

Expected<uint64_t> moe::workspaceBytes(const EntrySpec &entry,
                                       ArrayRef<int64_t> symbols) {
  int64_t total = 0;
  SmallVector<int64_t> ends;
  for (const Temporary &temporary : entry.temporaries) {
    int64_t bytes, end = 0;
    bool ok = temporary.bytes.evaluate(symbols, bytes) && bytes >= 0 &&
              !__builtin_add_overflow(bytes, entry.workspaceAlign - 1, &bytes);
    bytes &= ~(entry.workspaceAlign - 1);
    for (unsigned below : temporary.after)
      end = std::max(end, ends[below]);
    if (!ok || __builtin_add_overflow(end, bytes, &end))
      return invalid("entry '" + entry.name +
                     "': the workspace size passes 63 bits: use fewer rows");
    ends.push_back(end);
    total = std::max(total, end);
  }
  return static_cast<uint64_t>(total);
}

Error PackedCall::checkMemory(const EntrySpec &entry, const TensorSpec &spec,
                              const DLTensor &tensor, int64_t bytes) {
  DLDevice device = tensor.device;
  auto elsewhere = [&](const Twine &runs) {
    return invalid(where(entry, spec) + "it is on DLPack device (" +
                   Twine(int(device.device_type)) + ", " +
                   Twine(device.device_id) + "), " + runs);
  };
  if (!gpu && !isHostDevice(device))
    return elsewhere("the module runs on the CPU: copy it to the CPU");
  if (gpu && device.device_type != kDLCUDA &&
      device.device_type != kDLCUDAManaged)
    return elsewhere("the module runs on a GPU: copy it to one");
  if (gpu && ordinal >= 0 && device.device_id != ordinal)
    return elsewhere("the arguments before it on cuda:" + Twine(ordinal) +
                     ": copy all to one device");
  ordinal = device.device_id;
  if (!isRowMajor(tensor)) {
    std::string strides;
    for (int i = 0; i < tensor.ndim; ++i)
      strides += (i ? ", " : "") + std::to_string(tensor.strides[i]);
    return invalid(where(entry, spec) + "strides [" + strides + "] of shape " +
                   shapeText(tensor) +
                   " are not row-major contiguous: pass a contiguous copy");
  }
  if (bytes == 0)
    return Error::success();
  if (!tensor.data)
    return invalid(where(entry, spec) + "the data pointer is null, " +
                   Twine(bytes) + " bytes are needed");
  int64_t element = (int64_t(spec.dtype.bits) + 7) / 8;
  int64_t align = std::max(entry.align, element);
  if (addressOf(tensor) % align != 0)
    return invalid(where(entry, spec) + "the data is not aligned to " +
                   Twine(align) + " bytes: pass a copy in aligned memory");
  return Error::success();
}

void PackedCall::append(void *pointer, ArrayRef<int64_t> shape) {
  offsets.push_back(words.size());
  int64_t address = reinterpret_cast<intptr_t>(pointer);
  words.append({address, address, 0});
  words.append(shape.begin(), shape.end());
  size_t stridesAt = words.size();
  words.append(shape.size(), 1);
  // Not the tensor's own strides: those of dimensions of size 1 may be
  // anything, and compiled code was promised the identity layout.
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    words[stridesAt + i] = stride;
    if (__builtin_mul_overflow(stride, shape[i], &stride))
      stride = 0; // Only an empty tensor gets here; nothing reads the stride.
  }
}

Error PackedCall::prepare(const EntrySpec &entry,
                          ArrayRef<const DLTensor *> args) {
  size_t tensors = entry.tensors.size();
  if (args.size() != tensors && args.size() != tensors + 1)
    return invalid("entry '" + entry.name + "' takes " + Twine(tensors + 1) +
                   " arguments (" + Twine(entry.numInputs) + " inputs, " +
                   Twine(entry.numInOuts) + " inouts, " +
                   Twine(entry.numOutputs) + " outputs, workspace), got " +
                   Twine(args.size()));
  SmallVector<int64_t, 4> symbols;
  if (Error error = bindSymbols(entry, args.take_front(tensors), symbols))
    return error;

  SmallVector<Region, 20> regions;
  words.clear();
  offsets.clear();
  for (auto [spec, tensor] : zip(entry.tensors, args)) {
    int64_t bytes;
    if (!byteSize(*tensor, bytes))
      return invalid(where(entry, spec) + "the size of shape " +
                     shapeText(*tensor) + " passes 63 bits: use fewer rows");
    if (Error error = checkMemory(entry, spec, *tensor, bytes))
      return error;
    uintptr_t begin = addressOf(*tensor);
    if (bytes > 0)
      regions.push_back({begin, begin + bytes, spec.name,
                         spec.role != TensorSpec::Role::Input});
    append(reinterpret_cast<void *>(begin), shapeOf(*tensor));
  }

  Expected<uint64_t> needed = workspaceBytes(entry, symbols);
  if (!needed)
    return needed.takeError();
  const DLTensor *workspace = args.size() > tensors ? args.back() : nullptr;
  int64_t given = 0;
  uintptr_t begin = 0;
  if (workspace) {
    TensorSpec spec;
    spec.name = "workspace";
    spec.dtype = {kDLInt, 8, 1};
    if (Error error = checkNotNull(entry, spec, workspace))
      return error;
    DLDataType type = workspace->dtype;
    if (workspace->ndim != 1 || type.bits != 8 || type.lanes != 1 ||
        (type.code != kDLInt && type.code != kDLUInt))
      return invalid(where(entry, spec) + "it is " + dtypeName(type) + " " +
                     shapeText(*workspace) +
                     ", expected one dimension of int8 or uint8");
    if (workspace->shape[0] < 0)
      return invalid(where(entry, spec) + "dimension 0 is " +
                     Twine(workspace->shape[0]) + ", which is negative");
    given = workspace->shape[0];
    if (Error error = checkMemory(entry, spec, *workspace, given))
      return error;
    begin = addressOf(*workspace);
  }
  if (static_cast<uint64_t>(given) < *needed)
    return invalid("entry '" + entry.name + "': the workspace has " +
                   Twine(given) + " bytes, " + Twine(*needed) +
                   " are needed for these shapes: ask moe_workspace_size");
  if (*needed > 0) {
    if (begin % entry.workspaceAlign != 0)
      return invalid("entry '" + entry.name +
                     "': the workspace is not aligned to " +
                     Twine(entry.workspaceAlign) + " bytes");
    regions.push_back({begin, begin + *needed, "workspace", true});
  }
  append(reinterpret_cast<void *>(begin), {given});
  if (Error error = checkOverlap(entry, regions))
    return error;

  // Frameworks give empty tensors the address 0. No kernel reads their
  // elements, but the copy engine faults on a tensor that lies at 0, read or
  // not: on a GPU they lie where some other tensor of the call does.
  if (gpu && !regions.empty())
    for (unsigned offset : offsets)
      if (words[offset] == 0)
        words[offset] = words[offset + 1] = regions.front().begin;

  pointers.clear();
  for (unsigned offset : offsets)
    pointers.push_back(&words[offset]);
  return Error::success();
}
