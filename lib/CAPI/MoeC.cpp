// SPDX-License-Identifier: Apache-2.0
//===- MoeC.cpp - the C API -----------------------------------------------===//
#include "moe-c/moe.h"
#include "moe/Runtime/Compile.h"
#include "moe/Runtime/Version.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace llvm;
using namespace moe;

struct moe_module {
  std::shared_ptr<Module> module;
};

static thread_local std::string lastError;

static moe_status report(Error error, moe_status other) {
  if (!error)
    return MOE_OK;
  return takeStatus(std::move(error), other, lastError);
}

static moe_status refuse(const Twine &message) {
  lastError = message.str();
  return MOE_INVALID_ARGUMENT;
}

/// The options as "key=value" words; false, with a message, if they are not.
static bool readOptions(const moe_options *opts, CompileOptions &options) {
  if (!opts)
    return true;
  if (opts->struct_size < sizeof(moe_options)) {
    refuse("moe_options.struct_size is " + Twine(opts->struct_size) +
           ", expected at least " + Twine(sizeof(moe_options)) +
           ": set it to sizeof(moe_options)");
    return false;
  }
  if (opts->target)
    options.target = opts->target;
  SmallVector<StringRef> words;
  if (opts->pipeline_options)
    SplitString(opts->pipeline_options, words);
  for (StringRef word : words) {
    if (word.find('=') == StringRef::npos || word.starts_with("=")) {
      refuse("pipeline option '" + word + "' is not of the form key=value");
      return false;
    }
    options.options.push_back(word.str());
  }
  return true;
}

moe_status moe_compile(const char *text, size_t size, const moe_options *opts,
                       moe_module **out) {
  if (!out)
    return refuse("moe_compile: out is null");
  *out = nullptr;
  if (!text)
    return refuse("moe_compile: text is null");
  CompileOptions options;
  if (!readOptions(opts, options))
    return MOE_INVALID_ARGUMENT;
  Expected<std::shared_ptr<Module>> module =
      compile(StringRef(text, size), options);
  if (!module)
    return report(module.takeError(), MOE_LOAD_ERROR);
  *out = new moe_module{std::move(*module)};
  return MOE_OK;
}

moe_status moe_module_load(const char *path, moe_module **out) {
  if (!out)
    return refuse("moe_module_load: out is null");
  *out = nullptr;
  if (!path)
    return refuse("moe_module_load: path is null");
  ErrorOr<std::unique_ptr<MemoryBuffer>> bytes = MemoryBuffer::getFile(
      path, /*IsText=*/false, /*RequiresNullTerminator=*/false,
      /*IsVolatile=*/true);
  if (!bytes) {
    lastError = "'" + std::string(path) +
                "' cannot be read: " + bytes.getError().message();
    return MOE_LOAD_ERROR;
  }
  Expected<std::shared_ptr<Module>> module =
      Module::load((*bytes)->getBuffer(), path);
  if (!module)
    return report(module.takeError(), MOE_LOAD_ERROR);
  *out = new moe_module{std::move(*module)};
  return MOE_OK;
}

const char *moe_module_manifest(const moe_module *module) {
  // Null-terminated: it is a view of a std::string.
  return module ? module->module->manifestText().data() : "";
}

moe_status moe_workspace_size(const moe_module *module, const char *entry,
                              const DLTensor *const *args, size_t n,
                              uint64_t *bytes) {
  if (!module || !entry || !bytes || (n && !args))
    return refuse("moe_workspace_size: a null argument");
  *bytes = 0;
  Expected<uint64_t> size =
      module->module->workspaceSize(entry, ArrayRef(args, n));
  if (!size)
    return report(size.takeError(), MOE_INVALID_ARGUMENT);
  *bytes = *size;
  return MOE_OK;
}

moe_status moe_invoke(const moe_module *module, const char *entry,
                      const DLTensor *const *args, size_t n, void *stream) {
  if (!module || !entry || (n && !args))
    return refuse("moe_invoke: a null argument");
  return report(module->module->invoke(entry, ArrayRef(args, n), stream),
                MOE_INVALID_ARGUMENT);
}

void moe_module_release(moe_module *module) { delete module; }

const char *moe_last_error(void) { return lastError.c_str(); }

const char *moe_version(void) { return versionString(); }
