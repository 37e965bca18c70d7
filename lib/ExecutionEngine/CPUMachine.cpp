// SPDX-License-Identifier: Apache-2.0
//===- CPUMachine.cpp - the CPU that code is generated for ----------------===//
#include "moe/ExecutionEngine/CPUMachine.h"
#include "moe/Runtime/HostCPU.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/TargetParser/Host.h"

using namespace llvm;
using namespace moe;

/// LLVM itself ignores a feature it does not know, with a warning.
static Error checkFeatureNames(StringRef features, const MCSubtargetInfo &info,
                               StringRef cpu) {
  for (StringRef feature : split(features, ',')) {
    feature = feature.trim();
    if (feature.empty())
      continue;
    bool sign = feature.consume_front("+") || feature.consume_front("-");
    bool known = any_of(info.getAllProcessorFeatures(), [&](const auto &entry) {
      return feature == entry.Key;
    });
    if (!sign || !known)
      return createStringError("features: '" + feature + "' is " +
                               (sign ? "no feature of CPU '" + cpu.str() + "'"
                                     : "written without + or -") +
                               "; write them as in features=+avx2,-fma");
  }
  return Error::success();
}

Expected<CPUMachine> CPUMachine::create(StringRef cpu, StringRef features,
                                        unsigned optLevel) {
  InitializeNativeTarget();
  InitializeNativeTargetAsmPrinter();
  Triple triple(sys::getProcessTriple());
  std::string error;
  const Target *target = TargetRegistry::lookupTarget(triple, error);
  assert(target && "this machine's code generator is linked in");
  CPUMachine result;
  std::string all;
  if (cpu == "host") {
    result.cpu = sys::getHostCPUName().str();
    all = hostFeatureText();
  } else {
    result.cpu = cpu.str();
  }

  auto makeMachine = [&](StringRef cpuName, StringRef featureText) {
    return std::unique_ptr<TargetMachine>(target->createTargetMachine(
        triple, cpuName, featureText, TargetOptions(), Reloc::PIC_,
        CodeModel::Small, static_cast<CodeGenOptLevel>(optLevel),
        /*JIT=*/true));
  };
  // A machine for no CPU in particular answers which names exist.
  std::unique_ptr<TargetMachine> plain = makeMachine("", "");
  const MCSubtargetInfo &known = *plain->getMCSubtargetInfo();
  if (!known.isCPUStringValid(result.cpu))
    return createStringError("cpu: '" + result.cpu +
                             "' is no CPU that LLVM knows for '" +
                             triple.str() + "'; try host, x86-64-v3 or x86-64");
  if (Error bad = checkFeatureNames(features, known, result.cpu))
    return std::move(bad);
  if (!features.empty())
    all += (all.empty() ? "" : ",") + features.str();
  // Without optimizations LLVM has no registers for tiles that a loop carries.
  if (optLevel == 0)
    all += all.empty() ? "-amx-tile" : ",-amx-tile";
  result.machine = makeMachine(result.cpu, all);
  std::vector<std::string> enabled;
  for (const SubtargetFeatureKV &feature :
       result.machine->getMCSubtargetInfo()->getEnabledProcessorFeatures())
    enabled.push_back(std::string("+") + feature.Key);
  llvm::sort(enabled);
  result.features = join(enabled, ",");
  return result;
}
