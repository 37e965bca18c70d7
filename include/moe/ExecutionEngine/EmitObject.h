// SPDX-License-Identifier: Apache-2.0
//===- EmitObject.h - from the LLVM dialect to an object file ---*- C++ -*-===//
#ifndef MOE_EXECUTIONENGINE_EMITOBJECT_H
#define MOE_EXECUTIONENGINE_EMITOBJECT_H

#include "mlir/IR/BuiltinOps.h"
#include "moe/ExecutionEngine/CPUMachine.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

namespace moe {

/// An entry and the number of memref descriptors that it takes.
struct EntryPoint {
  std::string name;
  unsigned numArguments;
};

/// Translates a module in the LLVM dialect. In the result every function is
/// internal and carries a name that no library function has, and each entry has
/// its packed form `void _moe_packed_<entry>(void **descriptors)`. Errors are
/// diagnosed on `module`.
std::unique_ptr<llvm::Module>
translateForCPU(mlir::ModuleOp module, llvm::ArrayRef<EntryPoint> entries,
                const CPUMachine &machine, llvm::LLVMContext &context);

/// Runs LLVM's optimizer at `optLevel`.
llvm::Error optimize(llvm::Module &module, const CPUMachine &machine,
                     unsigned optLevel);

/// Generates the object file. No diagnostic of LLVM's ends the process.
llvm::Error emitObject(llvm::Module &module, const CPUMachine &machine,
                       llvm::SmallVectorImpl<char> &object);

} // namespace moe

#endif // MOE_EXECUTIONENGINE_EMITOBJECT_H
