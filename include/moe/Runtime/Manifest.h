// SPDX-License-Identifier: Apache-2.0
//===- Manifest.h - what a compiled module takes and gives ------*- C++ -*-===//
//
// The manifest of a compiled module, read from its JSON once when the module
// is loaded, in the form that the checks of a call need.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_RUNTIME_MANIFEST_H
#define MOE_RUNTIME_MANIFEST_H

#include "moe/Runtime/Failure.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include <string>

namespace moe {

/// The version of the contract between compiled code and this runtime.
constexpr int64_t kAbiVersion = 2;

/// constant + sum of coefficient * symbol.
struct LinearExpr {
  int64_t constant = 0;
  llvm::SmallVector<std::pair<unsigned, int64_t>, 2> terms;

  /// The symbol, if the expression is it or a positive multiple of it.
  int asMultiple() const {
    return constant == 0 && terms.size() == 1 && terms[0].second > 0
               ? static_cast<int>(terms[0].first)
               : -1;
  }
  /// False if the value does not fit in 63 bits.
  bool evaluate(llvm::ArrayRef<int64_t> symbols, int64_t &value) const;
};

struct TensorSpec {
  enum class Role { Input, InOut, Output };
  std::string name;
  std::string dtypeName;
  DLDataType dtype;
  Role role;
  llvm::SmallVector<LinearExpr, 4> dims;
  /// The dimensions as the manifest writes them, for messages.
  llvm::SmallVector<std::string, 4> dimText;

  std::string shapeText() const;
};

/// minimum <= expr <= maximum, checked at each call.
struct Constraint {
  LinearExpr expr;
  std::string text;
  int64_t minimum = INT64_MIN;
  int64_t maximum = INT64_MAX;
  std::string message;
};

/// A part of the workspace: it begins where the last of those ends that it
/// comes after, by their numbers.
struct Temporary {
  LinearExpr bytes;
  llvm::SmallVector<unsigned, 2> after;
};

struct EntrySpec {
  std::string name;
  /// Inputs, inouts, outputs: the order of the arguments.
  llvm::SmallVector<TensorSpec, 8> tensors;
  unsigned numInputs = 0, numInOuts = 0, numOutputs = 0;
  llvm::SmallVector<std::string, 2> symbols;
  llvm::SmallVector<Constraint, 2> constraints;
  llvm::SmallVector<Temporary, 4> temporaries;
  int64_t workspaceAlign = 64;
  int64_t align = 1;
};

struct Manifest {
  std::string target;
  std::string compiler;
  llvm::StringMap<EntrySpec> entries;

  static llvm::Expected<Manifest> parse(llvm::StringRef json);
};

/// "2*T+1" in the symbols given; false if it is not of this form.
bool parseLinearExpr(llvm::StringRef text, llvm::ArrayRef<std::string> symbols,
                     LinearExpr &expr);

/// "float32" and so on; false for a name that the ABI does not know.
bool parseDType(llvm::StringRef name, DLDataType &dtype);

/// The name of a DLPack type, for messages.
std::string dtypeName(DLDataType dtype);

} // namespace moe

#endif // MOE_RUNTIME_MANIFEST_H
