// SPDX-License-Identifier: Apache-2.0
//===- Ptxas.cpp - NVIDIA's assembler on this machine ---------------------===//
#include "moe/Runtime/Ptxas.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include <cstdlib>

using namespace llvm;
using namespace moe;

std::optional<Ptxas> moe::askPtxas(const std::string &path) {
  if (!sys::fs::can_execute(path))
    return std::nullopt;
  SmallString<64> log;
  if (sys::fs::createTemporaryFile("moe-ptxas", "log", log))
    return std::nullopt;
  StringRef out = log.str(), none;
  std::optional<StringRef> redirects[] = {none, out, none};
  int status = sys::ExecuteAndWait(path, {path, "--version"}, std::nullopt,
                                   redirects, /*SecondsToWait=*/20);
  ErrorOr<std::unique_ptr<MemoryBuffer>> text = MemoryBuffer::getFile(log);
  sys::fs::remove(log);
  if (status != 0 || !text)
    return std::nullopt;
  // "Cuda compilation tools, release 13.0, V13.0.88"
  StringRef rest = (*text)->getBuffer();
  rest = rest.substr(rest.find("release "));
  Ptxas found{path};
  if (!rest.consume_front("release ") || rest.consumeInteger(10, found.major) ||
      !rest.consume_front(".") || rest.consumeInteger(10, found.minor))
    return std::nullopt;
  return found;
}

std::optional<Ptxas> moe::findPtxas(int driverMajor) {
  if (const char *own = getenv("MOE_PTXAS"))
    return askPtxas(own);
  SmallVector<std::string> places;
  if (const char *home = getenv("CUDA_HOME"))
    places.push_back(std::string(home) + "/bin/ptxas");
  places.push_back("/usr/local/cuda/bin/ptxas");
  if (ErrorOr<std::string> onPath = sys::findProgramByName("ptxas"))
    places.push_back(*onPath);
  if (const char *more = getenv("MOE_PTXAS_FALLBACK")) {
    SmallVector<StringRef> list;
    StringRef(more).split(list, ':', -1, /*KeepEmpty=*/false);
    for (StringRef place : list)
      places.push_back(place.str());
  }
  std::optional<Ptxas> best;
  for (const std::string &place : places) {
    std::optional<Ptxas> found = askPtxas(place);
    if (!found || (driverMajor && found->major > driverMajor))
      continue;
    if (!best || std::make_pair(found->major, found->minor) >
                     std::make_pair(best->major, best->minor))
      best = found;
  }
  return best;
}
