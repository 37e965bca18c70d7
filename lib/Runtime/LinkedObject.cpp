// SPDX-License-Identifier: Apache-2.0
//===- LinkedObject.cpp - an object file linked into this process ---------===//
//
// JITLink alone, without ORC's sessions above it: one object, linked at once,
// in the calling thread, against a fixed list of addresses.
//
//===----------------------------------------------------------------------===//
#include "moe/Runtime/LinkedObject.h"
#include "moe/Runtime/Symbols.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ExecutionEngine/JITLink/JITLink.h"
#include "llvm/ExecutionEngine/JITLink/JITLinkMemoryManager.h"
#include "llvm/ExecutionEngine/Orc/SymbolStringPool.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace llvm;
using namespace moe;

struct LinkedObject::Impl {
  std::unique_ptr<jitlink::InProcessMemoryManager> memory;
  jitlink::JITLinkMemoryManager::FinalizedAlloc allocation;
  StringMap<void *> symbols;
};

/// What JITLink calls back during one link.
class LinkedObject::Context : public jitlink::JITLinkContext {
public:
  Context(LinkedObject::Impl &impl, std::string &error)
      : JITLinkContext(nullptr), impl(impl), error(error) {}

  jitlink::JITLinkMemoryManager &getMemoryManager() override {
    return *impl.memory;
  }

  void notifyFailed(Error failure) override {
    error = toString(std::move(failure));
  }

  void lookup(const LookupMap &symbols,
              std::unique_ptr<jitlink::JITLinkAsyncLookupContinuation>
                  continuation) override {
    jitlink::AsyncLookupResult result;
    std::vector<std::string> missing;
    for (const auto &[name, flags] : symbols) {
      void *address = lookUpRuntimeSymbol(*name);
      if (!address && flags == jitlink::SymbolLookupFlags::RequiredSymbol)
        missing.push_back((*name).str());
      result[name] = {orc::ExecutorAddr::fromPtr(address),
                      JITSymbolFlags::Exported};
    }
    if (missing.empty())
      return continuation->run(std::move(result));
    llvm::sort(missing);
    continuation->run(createStringError(
        "it calls " + join(missing, ", ") +
        ", which is not on the list of functions that compiled code may call"));
  }

  Error notifyResolved(jitlink::LinkGraph &graph) override {
    for (jitlink::Symbol *symbol : graph.defined_symbols())
      if (symbol->hasName() && symbol->getScope() == jitlink::Scope::Default)
        impl.symbols[*symbol->getName()] = symbol->getAddress().toPtr<void *>();
    return Error::success();
  }

  void notifyFinalized(
      jitlink::JITLinkMemoryManager::FinalizedAlloc allocation) override {
    impl.allocation = std::move(allocation);
  }

private:
  LinkedObject::Impl &impl;
  std::string &error;
};

std::string moe::packedSymbol(StringRef entry) {
  return ("_moe_packed_" + entry).str();
}

LinkedObject::LinkedObject(std::unique_ptr<Impl> impl)
    : impl(std::move(impl)) {}

LinkedObject::~LinkedObject() {
  if (impl->allocation)
    consumeError(impl->memory->deallocate(std::move(impl->allocation)));
}

void *LinkedObject::lookUp(StringRef symbol) const {
  return impl->symbols.lookup(symbol);
}

Expected<std::unique_ptr<LinkedObject>> LinkedObject::link(StringRef object) {
  auto refused = [](const Twine &why) {
    return fail(MOE_LOAD_ERROR, "the compiled object cannot be linked: " + why +
                                    "; compile the module again");
  };
  auto impl = std::make_unique<Impl>();
  Expected<std::unique_ptr<jitlink::InProcessMemoryManager>> memory =
      jitlink::InProcessMemoryManager::Create();
  if (!memory)
    return refused(toString(memory.takeError()));
  impl->memory = std::move(*memory);
  // The graph points into the buffer and needs it aligned.
  std::unique_ptr<MemoryBuffer> buffer =
      MemoryBuffer::getMemBufferCopy(object, "moe-module");
  auto pool = std::make_shared<orc::SymbolStringPool>();
  Expected<std::unique_ptr<jitlink::LinkGraph>> graph =
      jitlink::createLinkGraphFromObject(buffer->getMemBufferRef(), pool);
  if (!graph)
    return refused(toString(graph.takeError()));
  std::string error;
  // Every step of the in-process manager is synchronous: when link() returns,
  // the object is finalized or `error` is set.
  jitlink::link(std::move(*graph), std::make_unique<Context>(*impl, error));
  if (!error.empty())
    return refused(error);
  return std::unique_ptr<LinkedObject>(new LinkedObject(std::move(impl)));
}
