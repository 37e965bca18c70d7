// SPDX-License-Identifier: Apache-2.0
//===- Module.cpp - a loaded module ---------------------------------------===//
#include "moe/Runtime/Module.h"
#include "moe/Runtime/Call.h"
#include "moe/Runtime/HostCPU.h"
#include "llvm/ADT/StringExtras.h"

using namespace llvm;
using namespace moe;

/// The tables of convert-gpu-launch-to-runtime.
static constexpr StringLiteral kKernelTable("_moe_gpu_kernels");
static constexpr StringLiteral kKernelCount("_moe_gpu_kernel_count");

/// Code for features that the CPU lacks would die of SIGILL.
static Error checkCPU(const Container &container) {
  const StringMap<bool> &host = hostFeatures();
  std::string lacking;
  for (StringRef feature : split(container.features, ',')) {
    if (!feature.consume_front("+"))
      continue;
    auto it = host.find(feature);
    // Names that the host query does not report are not instruction sets.
    if (it != host.end() && !it->second)
      lacking += (lacking.empty() ? "" : ", ") + feature.str();
  }
  if (lacking.empty())
    return Error::success();
  return fail(MOE_LOAD_ERROR,
              "the module was compiled for CPU '" + container.cpu +
                  "' with features that this machine lacks (" + lacking +
                  "): compile it here, or with the option cpu=x86-64");
}

Expected<std::shared_ptr<Module>> Module::load(StringRef bytes,
                                               StringRef name) {
  Expected<Container> container = Container::read(bytes, name);
  if (!container)
    return container.takeError();
  return load(*container);
}

Expected<std::shared_ptr<Module>> Module::load(const Container &container) {
  const GPUTarget *gpu = findGPUTarget(container.target);
  if (container.target != "cpu" && !gpu)
    return fail(MOE_UNSUPPORTED,
                "the module is for target '" + container.target +
                    "', which this library does not know: install the one of "
                    "its compiler, " +
                    container.compiler);
  if (Error error = checkCPU(container))
    return std::move(error);
  Expected<Manifest> manifest = Manifest::parse(container.manifest);
  if (!manifest)
    return manifest.takeError();
  Expected<std::unique_ptr<LinkedObject>> object =
      LinkedObject::link(container.object);
  if (!object)
    return object.takeError();
  std::shared_ptr<Module> module(new Module());
  module->text = container.manifest;
  module->spec = std::move(*manifest);
  module->object = std::move(*object);
  for (const auto &entry : module->spec.entries) {
    void *function = module->object->lookUp(packedSymbol(entry.getKey()));
    if (!function)
      return fail(MOE_LOAD_ERROR,
                  "the compiled object lacks entry '" + entry.getKey() +
                      "' of its manifest; compile the module again");
    module->functions[entry.getKey()] = reinterpret_cast<PackedEntry>(function);
  }
  if (gpu) {
    auto *table =
        static_cast<const KernelEntry *>(module->object->lookUp(kKernelTable));
    auto *count =
        static_cast<const int64_t *>(module->object->lookUp(kKernelCount));
    if (!table || !count)
      return fail(MOE_LOAD_ERROR,
                  "the compiled object for target '" + container.target +
                      "' has no kernels; compile the module again");
    module->kernels = std::make_unique<GPUKernels>(ArrayRef(table, *count),
                                                   container.cuda, *gpu);
  }
  return module;
}

Expected<const EntrySpec *> Module::entry(StringRef name) const {
  auto it = spec.entries.find(name);
  if (it != spec.entries.end())
    return &it->second;
  std::vector<std::string> names;
  for (const auto &entry : spec.entries)
    names.push_back(entry.getKey().str());
  llvm::sort(names);
  return fail(MOE_INVALID_ARGUMENT,
              "no entry '" + name + "'; the module has: " + join(names, ", "));
}

Expected<uint64_t>
Module::workspaceSize(StringRef name, ArrayRef<const DLTensor *> args) const {
  Expected<const EntrySpec *> spec = entry(name);
  if (!spec)
    return spec.takeError();
  size_t shapes = (*spec)->numInputs + (*spec)->numInOuts;
  SmallVector<int64_t, 4> symbols;
  if (Error error = bindSymbols(
          **spec, args.take_front(std::min(shapes, args.size())), symbols))
    return std::move(error);
  return workspaceBytes(**spec, symbols);
}

Error Module::invoke(StringRef name, ArrayRef<const DLTensor *> args,
                     void *stream) const {
  Expected<const EntrySpec *> spec = entry(name);
  if (!spec)
    return spec.takeError();
  if (stream && !kernels)
    return fail(MOE_INVALID_ARGUMENT,
                "entry '" + name +
                    "' runs on the CPU: the stream must be null");
  PackedCall call(/*gpu=*/kernels != nullptr);
  if (Error error = call.prepare(**spec, args))
    return error;
  PackedEntry function = functions.find(name)->second;
  if (kernels)
    return kernels->call(call.deviceOrdinal(), stream,
                         [&] { function(call.data()); });
  function(call.data());
  return Error::success();
}
