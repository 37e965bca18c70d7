// SPDX-License-Identifier: Apache-2.0
//
// The interpreter's value: an array of doubles or of 64-bit integers, with the
// element type that its tensor has. Also its bytes and its .npy files.

#ifndef MOE_INTERPRETER_NDARRAY_H
#define MOE_INTERPRETER_NDARRAY_H

#include "mlir/IR/Types.h"
#include "mlir/Support/LLVM.h"
#include "llvm/Support/Error.h"

#include <optional>
#include <vector>

namespace mlir::moe {

enum class DType { F64, F32, F16, BF16, I64, I32, I16, I8, Bool };

/// "float32", "bfloat16", "bool": NumPy's and the manifest's names.
StringRef getDTypeName(DType dtype);
std::optional<DType> parseDType(StringRef name);
/// The dtype of an element type (index is I64); none for a type without one.
std::optional<DType> getDType(Type elementType);
int64_t getByteWidth(DType dtype);
inline bool isFloat(DType dtype) { return dtype <= DType::BF16; }

/// The nearest value of that type, ties to even. Integers wrap; they are kept
/// sign-extended from their width, so that a true Bool is -1.
double roundTo(DType dtype, double value);
int64_t wrapTo(DType dtype, int64_t value);

/// The number of elements of a shape.
int64_t getNumElements(ArrayRef<int64_t> shape);

class NDArray {
public:
  NDArray() = default;
  /// Unspecified contents: NaN, or a number that no table holds.
  NDArray(DType dtype, ArrayRef<int64_t> shape);

  static NDArray filled(DType dtype, ArrayRef<int64_t> shape, double value);
  /// From the bytes of a contiguous row-major array, little endian.
  static NDArray fromBytes(DType dtype, ArrayRef<int64_t> shape,
                           const void *bytes);
  /// Floats are rounded to the dtype.
  std::vector<char> toBytes() const;

  DType dtype() const { return type; }
  bool isFloat() const { return moe::isFloat(type); }
  ArrayRef<int64_t> shape() const { return sizes; }
  int64_t rank() const { return sizes.size(); }
  int64_t dim(unsigned i) const { return sizes[i]; }
  /// Elements, all dimensions multiplied.
  int64_t size() const { return count; }
  /// Elements of one row: all dimensions but the first multiplied.
  int64_t rowSize() const { return getNumElements(shape().drop_front()); }

  /// Elements in row-major order; f of a float array, i of any other.
  double &f(int64_t index) { return floats[index]; }
  double f(int64_t index) const { return floats[index]; }
  int64_t &i(int64_t index) { return integers[index]; }
  int64_t i(int64_t index) const { return integers[index]; }
  /// Row `index`, or one element of a rank-1 array.
  double *row(int64_t index) { return floats.data() + index * rowSize(); }
  const double *row(int64_t index) const {
    return floats.data() + index * rowSize();
  }

  /// The same elements in another shape of the same size.
  NDArray reshaped(ArrayRef<int64_t> shape) const;
  /// Round every element to the element type.
  void round();

private:
  DType type = DType::F64;
  SmallVector<int64_t, 3> sizes;
  int64_t count = 0;
  std::vector<double> floats;
  std::vector<int64_t> integers;
};

/// "float32 (16, 512)".
std::string describe(DType dtype, ArrayRef<int64_t> shape);

/// Read a .npy file that must hold `dtype`. bfloat16 comes as two-byte void
/// (what NumPy writes for ml_dtypes.bfloat16) or as uint16 bit patterns.
llvm::Expected<NDArray> readNpy(StringRef path, DType dtype);
/// Write a .npy file; bfloat16 as two-byte void.
llvm::Error writeNpy(StringRef path, const NDArray &array);

} // namespace mlir::moe

#endif // MOE_INTERPRETER_NDARRAY_H
