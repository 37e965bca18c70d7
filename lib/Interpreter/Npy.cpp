// SPDX-License-Identifier: Apache-2.0
//
// NumPy's .npy files (versions 1 to 3): a magic word, a Python dictionary as
// text, then the bytes.

#include "moe/Interpreter/NDArray.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::moe;

static constexpr StringRef kMagic("\x93NUMPY", 6);

static llvm::Error fail(const Twine &path, const Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(),
                                 path + ": " + message);
}

static StringRef getDescr(DType dtype) {
  switch (dtype) {
  case DType::F64:
    return "<f8";
  case DType::F32:
    return "<f4";
  case DType::F16:
    return "<f2";
  case DType::BF16:
    return "<V2";
  case DType::I64:
    return "<i8";
  case DType::I32:
    return "<i4";
  case DType::I16:
    return "<i2";
  case DType::I8:
    return "|i1";
  case DType::Bool:
    return "|b1";
  }
  llvm_unreachable("dtypes are covered");
}

static bool holds(StringRef descr, DType dtype) {
  if (dtype == DType::BF16)
    return llvm::is_contained<StringRef>(
        {"<V2", "|V2", "V2", "bfloat16", "<u2"}, descr);
  return descr == getDescr(dtype);
}

/// NumPy's word for a descr, for errors.
static std::string nameOf(StringRef descr) {
  for (int i = 0; i <= static_cast<int>(DType::Bool); ++i)
    if (holds(descr, static_cast<DType>(i)) && descr != "<u2")
      return getDTypeName(static_cast<DType>(i)).str();
  if (descr.starts_with(">"))
    return ("big-endian " + descr).str();
  return ("dtype '" + descr + "'").str();
}

/// What follows `'key':` in the header.
static StringRef valueOf(StringRef header, StringRef key) {
  size_t at = header.find(("'" + key + "'").str());
  if (at == StringRef::npos)
    return {};
  return header.substr(at + key.size() + 2).ltrim(": ");
}

static bool parseShape(StringRef text, SmallVectorImpl<int64_t> &shape) {
  if (!text.consume_front("("))
    return false;
  text = text.take_until([](char c) { return c == ')'; });
  SmallVector<StringRef> parts;
  text.split(parts, ',', -1, /*KeepEmpty=*/false);
  for (StringRef part : parts) {
    part = part.trim();
    if (part.empty())
      continue;
    int64_t size;
    if (part.getAsInteger(10, size) || size < 0)
      return false;
    shape.push_back(size);
  }
  return true;
}

/// Fortran order to row-major.
static std::vector<char> toRowMajor(StringRef data, ArrayRef<int64_t> shape,
                                    int64_t width) {
  std::vector<char> bytes(data.size());
  SmallVector<int64_t> index(shape.size());
  for (int64_t n = 0, size = getNumElements(shape); n < size; ++n) {
    int64_t at = 0, stride = 1;
    for (auto [i, dim] : llvm::zip_equal(index, shape)) {
      at += i * stride;
      stride *= dim;
    }
    std::copy_n(data.data() + at * width, width, bytes.data() + n * width);
    for (int64_t d = shape.size() - 1; d >= 0 && ++index[d] == shape[d]; --d)
      index[d] = 0;
  }
  return bytes;
}

llvm::Expected<NDArray> mlir::moe::readNpy(StringRef path, DType dtype) {
  auto file = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                          /*RequiresNullTerminator=*/false);
  if (!file)
    return fail(path, "cannot be read: " + file.getError().message());
  StringRef data = (*file)->getBuffer();
  if (!data.consume_front(kMagic) || data.size() < 4)
    return fail(path, "is not a .npy file; write one with numpy.save");
  unsigned wide = data[0] == 1 ? 2 : 4;
  data = data.drop_front(2);
  if (data.size() < wide)
    return fail(path, "ends within its header");
  uint64_t length = wide == 2 ? llvm::support::endian::read16le(data.data())
                              : llvm::support::endian::read32le(data.data());
  data = data.drop_front(wide);
  if (data.size() < length)
    return fail(path, "ends within its header");
  StringRef header = data.take_front(length);
  data = data.drop_front(length);

  StringRef descr = valueOf(header, "descr");
  descr = descr.consume_front("'")
              ? descr.take_until([](char c) { return c == '\''; })
              : StringRef();
  SmallVector<int64_t> shape;
  if (descr.empty() || !parseShape(valueOf(header, "shape"), shape))
    return fail(path, "has a header that is not understood: " + header.trim());
  if (!holds(descr, dtype))
    return fail(path, "holds " + nameOf(descr) + ", wanted " +
                          getDTypeName(dtype) + "; convert it with astype");
  uint64_t size = getByteWidth(dtype);
  for (int64_t dim : shape)
    if (__builtin_mul_overflow(size, static_cast<uint64_t>(dim), &size))
      return fail(path, "has a shape that is too large");
  if (data.size() < size)
    return fail(path, "holds " + Twine(data.size()) +
                          " bytes, its shape wants " + Twine(size));
  data = data.take_front(size);
  std::vector<char> reordered;
  if (valueOf(header, "fortran_order").starts_with("True")) {
    reordered = toRowMajor(data, shape, getByteWidth(dtype));
    data = StringRef(reordered.data(), reordered.size());
  }
  return NDArray::fromBytes(dtype, shape, data.data());
}

llvm::Error mlir::moe::writeNpy(StringRef path, const NDArray &array) {
  std::string header;
  llvm::raw_string_ostream text(header);
  text << "{'descr': '" << getDescr(array.dtype())
       << "', 'fortran_order': False, 'shape': (";
  for (int64_t dim : array.shape())
    text << dim << ", ";
  text << "), }";
  // The data begins at a multiple of 64; the header ends in a newline.
  size_t total = kMagic.size() + 4 + header.size() + 1;
  header.append(llvm::alignTo(total, 64) - total, ' ');
  header.push_back('\n');

  std::error_code error;
  llvm::raw_fd_ostream os(path, error);
  if (error)
    return fail(path, "cannot be written: " + error.message());
  char length[2];
  llvm::support::endian::write16le(length, header.size());
  os << kMagic << '\1' << '\0' << StringRef(length, 2) << header;
  std::vector<char> bytes = array.toBytes();
  os << StringRef(bytes.data(), bytes.size());
  os.close();
  if (os.has_error()) {
    std::string message = os.error().message();
    os.clear_error();
    return fail(path, "cannot be written: " + message);
  }
  return llvm::Error::success();
}
