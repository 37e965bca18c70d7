// SPDX-License-Identifier: Apache-2.0
//
// What moe-run knows of an entry before it runs it, by whichever way: its
// arguments' names, types and dimensions, read from files or drawn at random.

#ifndef MOE_TOOLS_MOE_RUN_ARGUMENTS_H
#define MOE_TOOLS_MOE_RUN_ARGUMENTS_H

#include "moe/Interpreter/NDArray.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/SourceMgr.h"

namespace mlir::moe::run {

/// One argument of an entry. A dimension is a size, or an expression in named
/// sizes: "T", "2*T", "T*K+1".
struct Parameter {
  std::string name;
  mlir::moe::DType dtype;
  mlir::SmallVector<std::string> dims;
  mlir::BlockArgument value;
};

struct Entry {
  mlir::func::FuncOp function;
  std::vector<Parameter> parameters;
};

/// Function `name`, or the only public one where no name is given. Arguments
/// are called by `moe.name`, or as they are spelled in the source.
llvm::Expected<Entry> findEntry(mlir::ModuleOp module, mlir::StringRef name,
                                const llvm::SourceMgr &sources);

/// What the command line says of arguments.
struct ArgumentOptions {
  /// "x=x.npy", or "x.npy" for the next argument in order.
  std::vector<std::string> files;
  /// Draw what has no file.
  std::optional<uint64_t> seed;
  /// Let random expert ids be out of range now and then.
  bool sentinels = false;
  /// "T=16".
  std::vector<std::string> dims;
};

/// An array for each argument, of a shape that its dimensions allow.
llvm::Expected<std::vector<mlir::moe::NDArray>>
makeArguments(const Entry &entry, const ArgumentOptions &options);

/// Write results to files: "y.npy" for the next result in order, "out1=y.npy"
/// or "1=y.npy" for result 1.
llvm::Error writeResults(llvm::ArrayRef<mlir::moe::NDArray> results,
                         llvm::ArrayRef<std::string> files);

llvm::Error makeError(const llvm::Twine &message);

} // namespace mlir::moe::run

#endif // MOE_TOOLS_MOE_RUN_ARGUMENTS_H
