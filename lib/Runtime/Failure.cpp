// SPDX-License-Identifier: Apache-2.0
//===- Failure.cpp - a status and its message -----------------------------===//
#include "moe/Runtime/Failure.h"

char moe::Failure::ID = 0;

moe_status moe::takeStatus(llvm::Error error, moe_status other,
                           std::string &message) {
  moe_status status = other;
  message.clear();
  llvm::handleAllErrors(
      std::move(error),
      [&](const Failure &failure) {
        status = failure.status;
        message += failure.text;
      },
      [&](const llvm::ErrorInfoBase &info) {
        if (!message.empty())
          message += "; ";
        message += info.message();
      });
  return status;
}
