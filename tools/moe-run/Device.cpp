// SPDX-License-Identifier: Apache-2.0
#include "Device.h"

#include "Arguments.h"

#include "moe/Runtime/Cuda.h"

#include <chrono>
#include <cstring>
#include <new>

using namespace mlir::moe::run;
using llvm::Error;
using llvm::Expected;

Device::~Device() = default;

namespace {
class Host : public Device {
  static constexpr size_t kAlignment = 64;

public:
  DLDevice description() const override { return {kDLCPU, 0}; }
  Expected<void *> allocate(int64_t bytes) override {
    // `operator new` says what is wrong where there is no memory.
    return ::operator new(bytes + 1, std::align_val_t(kAlignment));
  }
  void release(void *address) override {
    ::operator delete(address, std::align_val_t(kAlignment));
  }
  Error write(void *to, const void *from, int64_t bytes) override {
    std::memcpy(to, from, bytes);
    return Error::success();
  }
  Error read(void *to, const void *from, int64_t bytes) override {
    return write(to, from, bytes);
  }
  Expected<std::vector<double>>
  time(unsigned repetitions, llvm::function_ref<Error()> call) override {
    using Clock = std::chrono::steady_clock;
    std::vector<double> times;
    for (unsigned i = 0; i < repetitions; ++i) {
      Clock::time_point start = Clock::now();
      if (Error error = call())
        return error;
      times.push_back(
          std::chrono::duration<double, std::micro>(Clock::now() - start)
              .count());
    }
    return times;
  }
};

/// Through the driver, as the runtime does: it allocates nothing on a device,
/// so that is done here.
class Cuda : public Device {
public:
  static Expected<std::unique_ptr<Cuda>> open(int ordinal);

  DLDevice description() const override { return {kDLCUDA, ordinal}; }
  void *stream() const override { return callStream; }
  Expected<void *> allocate(int64_t bytes) override {
    Pointer address = 0;
    if (Error error = check(memAlloc(&address, std::max<int64_t>(bytes, 1)),
                            llvm::Twine(bytes) + " bytes of device memory"))
      return error;
    return reinterpret_cast<void *>(address);
  }
  void release(void *address) override {
    memFree(reinterpret_cast<Pointer>(address));
  }
  Error write(void *to, const void *from, int64_t bytes) override {
    return check(memcpyHtoD(reinterpret_cast<Pointer>(to), from, bytes),
                 "copying to the device");
  }
  Error read(void *to, const void *from, int64_t bytes) override {
    if (Error error = check(streamSynchronize(callStream), "the call"))
      return error;
    return check(memcpyDtoH(to, reinterpret_cast<Pointer>(from), bytes),
                 "copying from the device");
  }
  Expected<std::vector<double>> time(unsigned repetitions,
                                     llvm::function_ref<Error()> call) override;

private:
  using Pointer = unsigned long long;
  using Handle = void *;

  Error check(int status, const llvm::Twine &what);

  int ordinal;
  Handle callStream = nullptr;
  // With the names of the driver's interface.
  int (*getErrorName)(int, const char **);
  int (*deviceGet)(int *, int);
  int (*primaryCtxRetain)(Handle *, int);
  int (*ctxPushCurrent)(Handle);
  int (*memAlloc)(Pointer *, size_t);
  int (*memFree)(Pointer);
  int (*memcpyHtoD)(Pointer, const void *, size_t);
  int (*memcpyDtoH)(void *, Pointer, size_t);
  int (*streamCreate)(Handle *, unsigned);
  int (*streamSynchronize)(Handle);
  int (*eventCreate)(Handle *, unsigned);
  int (*eventRecord)(Handle, Handle);
  int (*eventElapsedTime)(float *, Handle, Handle);
  int (*eventDestroy)(Handle);
};
} // namespace

Error Cuda::check(int status, const llvm::Twine &what) {
  if (!status)
    return Error::success();
  const char *name = nullptr;
  getErrorName(status, &name);
  return makeError("cuda:" + llvm::Twine(ordinal) + ": " + what + ": " +
                   (name ? name : "CUDA error") + " (" + llvm::Twine(status) +
                   ")");
}

Expected<std::unique_ptr<Cuda>> Cuda::open(int ordinal) {
  auto cuda = std::make_unique<Cuda>();
  cuda->ordinal = ordinal;
  std::string missing;
  auto look = [&](auto &function, const char *name) {
    Expected<void *> address = ::moe::cudaSymbol(name);
    if (address)
      function = reinterpret_cast<std::decay_t<decltype(function)>>(*address);
    else if (std::string why = llvm::toString(address.takeError());
             missing.empty())
      missing = why;
  };
  look(cuda->getErrorName, "cuGetErrorName");
  look(cuda->deviceGet, "cuDeviceGet");
  look(cuda->primaryCtxRetain, "cuDevicePrimaryCtxRetain");
  look(cuda->ctxPushCurrent, "cuCtxPushCurrent_v2");
  look(cuda->memAlloc, "cuMemAlloc_v2");
  look(cuda->memFree, "cuMemFree_v2");
  look(cuda->memcpyHtoD, "cuMemcpyHtoD_v2");
  look(cuda->memcpyDtoH, "cuMemcpyDtoH_v2");
  look(cuda->streamCreate, "cuStreamCreate");
  look(cuda->streamSynchronize, "cuStreamSynchronize");
  look(cuda->eventCreate, "cuEventCreate");
  look(cuda->eventRecord, "cuEventRecord");
  look(cuda->eventElapsedTime, "cuEventElapsedTime_v2");
  look(cuda->eventDestroy, "cuEventDestroy_v2");
  if (!missing.empty())
    return makeError(missing);
  int device = 0;
  Handle context = nullptr;
  constexpr unsigned kNonBlocking = 1;
  if (Error error = cuda->check(cuda->deviceGet(&device, ordinal),
                                "the device cannot be used"))
    return error;
  if (Error error =
          cuda->check(cuda->primaryCtxRetain(&context, device), "no context"))
    return error;
  if (Error error = cuda->check(cuda->ctxPushCurrent(context), "no context"))
    return error;
  if (Error error = cuda->check(
          cuda->streamCreate(&cuda->callStream, kNonBlocking), "no stream"))
    return error;
  return cuda;
}

Expected<std::vector<double>> Cuda::time(unsigned repetitions,
                                         llvm::function_ref<Error()> call) {
  // All are put on the stream before the first is waited for: launches take the
  // host longer than small kernels the device.
  std::vector<Handle> events(2 * repetitions);
  std::vector<double> times;
  Error result = [&]() -> Error {
    for (unsigned i = 0; i < repetitions; ++i) {
      for (unsigned end : {0, 1})
        if (Error error =
                check(eventCreate(&events[2 * i + end], 0), "no event"))
          return error;
      if (Error error =
              check(eventRecord(events[2 * i], callStream), "no event"))
        return error;
      if (Error error = call())
        return error;
      if (Error error =
              check(eventRecord(events[2 * i + 1], callStream), "no event"))
        return error;
    }
    if (Error error = check(streamSynchronize(callStream), "the calls"))
      return error;
    for (unsigned i = 0; i < repetitions; ++i) {
      float milliseconds = 0;
      if (Error error = check(
              eventElapsedTime(&milliseconds, events[2 * i], events[2 * i + 1]),
              "no event"))
        return error;
      times.push_back(1000.0 * milliseconds);
    }
    return Error::success();
  }();
  for (Handle event : events)
    if (event)
      eventDestroy(event);
  if (result)
    return result;
  return times;
}

Device &Device::host() {
  static Host host;
  return host;
}

Expected<Device *> Device::of(llvm::StringRef target) {
  // What is no target the compiler refuses.
  if (!::moe::findGPUTarget(target) && !target.starts_with("cuda"))
    return &host();
  int ordinal = 0;
  llvm::StringRef rest = target;
  if (rest.consume_front("cuda:") && rest.getAsInteger(10, ordinal))
    ordinal = 0; // The compiler refuses it.
  Expected<std::unique_ptr<Cuda>> cuda = Cuda::open(ordinal);
  if (!cuda)
    return makeError("target '" + target + "' needs a GPU to run: " +
                     llvm::toString(cuda.takeError()));
  return cuda->release();
}
