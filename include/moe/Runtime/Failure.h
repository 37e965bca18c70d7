// SPDX-License-Identifier: Apache-2.0
//===- Failure.h - a status and its message --------------------*- C++ -*-===//
//
// The one error of the runtime: what the C API returns as a status and a
// message, carried inside as an llvm::Error.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_RUNTIME_FAILURE_H
#define MOE_RUNTIME_FAILURE_H

#include "moe-c/moe.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"

namespace moe {

class Failure : public llvm::ErrorInfo<Failure> {
public:
  static char ID;

  Failure(moe_status status, std::string message)
      : status(status), text(std::move(message)) {}

  void log(llvm::raw_ostream &os) const override { os << text; }
  std::error_code convertToErrorCode() const override {
    return llvm::inconvertibleErrorCode();
  }

  const moe_status status;
  const std::string text;
};

inline llvm::Error fail(moe_status status, const llvm::Twine &message) {
  return llvm::make_error<Failure>(status, message.str());
}

/// Consumes an error that is not a success; errors of LLVM's own get `other`.
moe_status takeStatus(llvm::Error error, moe_status other,
                      std::string &message);

} // namespace moe

#endif // MOE_RUNTIME_FAILURE_H
