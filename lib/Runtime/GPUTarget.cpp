// SPDX-License-Identifier: Apache-2.0
//===- GPUTarget.cpp - the GPUs that modules are compiled for -------------===//
#include "moe/Runtime/GPUTarget.h"
#include "moe/Runtime/Cuda.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

using namespace llvm;
using namespace moe;

static constexpr GPUTarget kTargets[] = {
    {"sm_80", 80, 70, 11000},   {"sm_86", 86, 71, 11010},
    {"sm_89", 89, 78, 11080},   {"sm_90", 90, 78, 11080},
    {"sm_90a", 90, 80, 12000},  {"sm_100", 100, 86, 12070},
    {"sm_120", 120, 87, 12080},
};

ArrayRef<GPUTarget> moe::gpuTargets() { return kTargets; }

bool GPUTarget::runsOn(int device, bool binary) const {
  if (exact())
    return device == capability;
  return device >= capability && (!binary || device / 10 == capability / 10);
}

std::string GPUTarget::range(bool binary) const {
  std::string first = "sm_" + std::to_string(capability);
  if (exact())
    return first + " alone";
  if (!binary)
    return first + " and later";
  return first + " to sm_" + std::to_string(capability / 10) + "9";
}

std::string moe::gpuTargetNames() {
  return join(
      map_range(kTargets, [](const GPUTarget &target) { return target.name; }),
      ", ");
}

const GPUTarget *moe::findGPUTarget(StringRef name) {
  const auto *it = find_if(
      kTargets, [&](const GPUTarget &target) { return target.name == name; });
  return it == std::end(kTargets) ? nullptr : it;
}

const GPUTarget *moe::bestGPUTarget(int capability) {
  for (bool binary : {true, false})
    for (const GPUTarget &target : reverse(kTargets))
      if (target.runsOn(capability, binary))
        return &target;
  return nullptr;
}

std::string moe::cudaVersionText(int version) {
  return std::to_string(version / 1000) + "." +
         std::to_string(version % 1000 / 10);
}

Expected<std::string>
moe::resolveTarget(StringRef name, SmallVectorImpl<std::string> &options) {
  if (name == "cpu" || findGPUTarget(name))
    return name.str();
  StringRef rest = name;
  int ordinal = -1;
  if (rest.consume_front("cuda") &&
      (rest.empty() || (rest.consume_front(":") &&
                        !rest.getAsInteger(10, ordinal) && ordinal >= 0))) {
    Expected<int> capability = cudaCapability(ordinal);
    if (!capability)
      return capability.takeError();
    const GPUTarget *best = bestGPUTarget(*capability);
    if (!best)
      return fail(MOE_UNSUPPORTED,
                  "target '" + name + "' is sm_" + Twine(*capability) +
                      " on this machine; sm_80 is the oldest that is built: "
                      "compile for 'cpu'");
    if (!best->runsOn(*capability, /*binary=*/true))
      options.push_back("ptxas=none");
    return best->name.str();
  }
  return fail(MOE_UNSUPPORTED,
              "target '" + name + "' is not built; the targets are cpu, " +
                  gpuTargetNames() + ", and cuda for this machine's GPU");
}
