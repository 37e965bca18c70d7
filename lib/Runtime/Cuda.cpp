// SPDX-License-Identifier: Apache-2.0
//===- Cuda.cpp - kernels of a module on a CUDA device --------------------===//
#include "moe/Runtime/Cuda.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include <cstdlib>
#include <dlfcn.h>
#include <mutex>

using namespace llvm;
using namespace moe;

//===----------------------------------------------------------------------===//
// The driver
//===----------------------------------------------------------------------===//

namespace {
// Of the driver API, with the names and numbers of its ABI.
using CUresult = int;
using CUdevice = int;
using CUcontext = struct CUctx_st *;
using CUlibrary = struct CUlib_st *;
using CUkernel = struct CUkern_st *;
using CUstream = struct CUstream_st *;

constexpr int kMultiprocessorCount = 16;
constexpr int kComputeMajor = 75, kComputeMinor = 76;
constexpr int kMaxDynamicSharedBytes = 8;

struct Driver {
  CUresult (*init)(unsigned);
  CUresult (*driverGetVersion)(int *);
  CUresult (*getErrorName)(CUresult, const char **);
  CUresult (*getErrorString)(CUresult, const char **);
  CUresult (*deviceGet)(CUdevice *, int);
  CUresult (*deviceGetAttribute)(int *, int, CUdevice);
  CUresult (*primaryCtxRetain)(CUcontext *, CUdevice);
  CUresult (*ctxGetCurrent)(CUcontext *);
  CUresult (*ctxGetDevice)(CUdevice *);
  CUresult (*ctxPushCurrent)(CUcontext);
  CUresult (*ctxPopCurrent)(CUcontext *);
  CUresult (*libraryLoadData)(CUlibrary *, const void *, void *, void **,
                              unsigned, void *, void **, unsigned);
  CUresult (*libraryUnload)(CUlibrary);
  CUresult (*libraryGetKernel)(CUkernel *, CUlibrary, const char *);
  CUresult (*kernelSetAttribute)(int, int, CUkernel, CUdevice);
  CUresult (*launchKernel)(CUkernel, unsigned, unsigned, unsigned, unsigned,
                           unsigned, unsigned, unsigned, CUstream, void **,
                           void **);
  CUresult (*tensorMapEncodeTiled)(void *, int, uint32_t, void *,
                                   const uint64_t *, const uint64_t *,
                                   const uint32_t *, const uint32_t *, int, int,
                                   int, int);
  int version = 0;

  std::string text(CUresult status) const {
    const char *name = nullptr, *what = nullptr;
    getErrorName(status, &name);
    getErrorString(status, &what);
    return (Twine(name ? name : "CUDA error") + " (" + Twine(status) +
            (what ? ", " + std::string(what) : "") + ")")
        .str();
  }
};

/// Why there is no driver; "" if there is one.
struct OpenedDriver {
  Driver driver;
  void *library = nullptr;
  std::string problem;
};

/// The oldest that loads kernels without a context of their own.
constexpr int kOldestDriver = 12000;

std::string lacks(const char *symbol) {
  return "the NVIDIA driver has no " + std::string(symbol) +
         ": install a newer driver";
}

OpenedDriver openDriver() {
  OpenedDriver opened;
  const char *name = getenv("MOE_LIBCUDA");
  if (!name)
    name = "libcuda.so.1";
  opened.library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!opened.library) {
    opened.problem = "no NVIDIA driver here (" + std::string(dlerror()) + ")";
    return opened;
  }
  Driver &d = opened.driver;
  auto look = [&](auto &function, const char *symbol) {
    void *address = dlsym(opened.library, symbol);
    function = reinterpret_cast<std::decay_t<decltype(function)>>(address);
    if (!address && opened.problem.empty())
      opened.problem = lacks(symbol);
  };
  look(d.driverGetVersion, "cuDriverGetVersion");
  if (!d.driverGetVersion || d.driverGetVersion(&d.version)) {
    opened.problem = "'" + std::string(name) +
                     "' does not say its version, as an NVIDIA driver does: "
                     "install one, or set MOE_LIBCUDA to its libcuda.so.1";
    return opened;
  }
  if (d.version < kOldestDriver) {
    opened.problem = "the NVIDIA driver supports CUDA " +
                     cudaVersionText(d.version) + ", and " +
                     cudaVersionText(kOldestDriver) +
                     " is the oldest that will do: install a newer driver";
    return opened;
  }
  look(d.init, "cuInit");
  look(d.getErrorName, "cuGetErrorName");
  look(d.getErrorString, "cuGetErrorString");
  look(d.deviceGet, "cuDeviceGet");
  look(d.deviceGetAttribute, "cuDeviceGetAttribute");
  look(d.primaryCtxRetain, "cuDevicePrimaryCtxRetain");
  look(d.ctxGetCurrent, "cuCtxGetCurrent");
  look(d.ctxGetDevice, "cuCtxGetDevice");
  look(d.ctxPushCurrent, "cuCtxPushCurrent_v2");
  look(d.ctxPopCurrent, "cuCtxPopCurrent_v2");
  look(d.libraryLoadData, "cuLibraryLoadData");
  look(d.libraryUnload, "cuLibraryUnload");
  look(d.libraryGetKernel, "cuLibraryGetKernel");
  look(d.kernelSetAttribute, "cuKernelSetAttribute");
  look(d.launchKernel, "cuLaunchKernel");
  look(d.tensorMapEncodeTiled, "cuTensorMapEncodeTiled");
  return opened;
}

const OpenedDriver &driver() {
  static const auto &opened = *new OpenedDriver(openDriver());
  return opened;
}
} // namespace

int moe::cudaDriverVersion() { return driver().driver.version; }

/// The driver, started.
static Expected<const Driver *> startDriver() {
  const OpenedDriver &opened = driver();
  if (!opened.problem.empty())
    return fail(MOE_LOAD_ERROR, opened.problem);
  if (CUresult status = opened.driver.init(0))
    return fail(MOE_LOAD_ERROR, "the NVIDIA driver does not start: " +
                                    opened.driver.text(status) +
                                    "; see what nvidia-smi says");
  return &opened.driver;
}

Expected<void *> moe::cudaSymbol(const char *name) {
  Expected<const Driver *> cuda = startDriver();
  if (!cuda)
    return cuda.takeError();
  if (void *address = dlsym(driver().library, name))
    return address;
  return fail(MOE_LOAD_ERROR, lacks(name));
}

static int capabilityOf(const Driver &cuda, CUdevice device) {
  int major = 0, minor = 0;
  cuda.deviceGetAttribute(&major, kComputeMajor, device);
  cuda.deviceGetAttribute(&minor, kComputeMinor, device);
  return major * 10 + minor;
}

static Error noDevice(const Driver &cuda, int ordinal, CUresult status) {
  return fail(MOE_DEVICE_ERROR, "device cuda:" + Twine(ordinal) +
                                    " cannot be used: " + cuda.text(status));
}

Expected<int> moe::cudaCapability(int ordinal) {
  Expected<const Driver *> cuda = startDriver();
  if (!cuda)
    return cuda.takeError();
  CUdevice device;
  if (ordinal < 0 && (*cuda)->ctxGetDevice(&device) == 0)
    return capabilityOf(**cuda, device);
  ordinal = std::max(ordinal, 0);
  if (CUresult status = (*cuda)->deviceGet(&device, ordinal))
    return noDevice(**cuda, ordinal, status);
  return capabilityOf(**cuda, device);
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

struct GPUKernels::Impl {
  struct Kernel {
    KernelEntry entry;
    CUkernel handle = nullptr;
  };
  /// A device that was used: its primary context, kept.
  struct Device {
    CUdevice handle = 0;
    CUcontext context = nullptr;
    int multiprocessors = 0;
    /// The dynamic shared memory that each kernel may have on it.
    SmallVector<int64_t> sharedBytes;
  };

  /// Null before the first call.
  const Driver *cuda = nullptr;
  const GPUTarget &target;
  /// What ptxas was of; 0 where the kernels are PTX.
  int cudaVersion = 0;
  std::mutex mutex;
  SmallVector<Kernel> kernels;
  DenseMap<const void *, CUlibrary> libraries;
  DenseMap<int, std::unique_ptr<Device>> devices;
  bool loaded = false;

  Impl(const GPUTarget &target, int cudaVersion)
      : target(target), cudaVersion(cudaVersion) {}
  bool isBinary() const { return cudaVersion != 0; }
  Error start();
  Error load();
  Expected<Device *> device(int ordinal);
};

static Error deviceError(const Twine &message) {
  return fail(MOE_DEVICE_ERROR, message);
}

Error GPUKernels::Impl::start() {
  if (cuda)
    return Error::success();
  Expected<const Driver *> started = startDriver();
  if (!started)
    return fail(MOE_LOAD_ERROR,
                "the module for target '" + Twine(target.name) +
                    "' needs a GPU: " + toString(started.takeError()));
  // Within a major version of CUDA, any driver runs any binary; of PTX it takes
  // what its own version has.
  int version = (*started)->version;
  if (isBinary() && cudaVersion / 1000 > version / 1000)
    return fail(MOE_LOAD_ERROR,
                "the module was assembled for CUDA " +
                    cudaVersionText(cudaVersion) +
                    ", the NVIDIA driver supports " + cudaVersionText(version) +
                    ": install a newer driver, or compile again with MOE_PTXAS "
                    "naming the ptxas of CUDA " +
                    std::to_string(version / 1000));
  if (!isBinary() && target.cuda > version)
    return fail(MOE_LOAD_ERROR, "the module is PTX for '" + Twine(target.name) +
                                    "', which needs a driver for CUDA " +
                                    cudaVersionText(target.cuda) +
                                    "; the NVIDIA driver supports " +
                                    cudaVersionText(version) +
                                    ": install a newer driver");
  cuda = *started;
  return Error::success();
}

Error GPUKernels::Impl::load() {
  if (loaded)
    return Error::success();
  for (Kernel &kernel : kernels) {
    CUlibrary &library = libraries[kernel.entry.image];
    if (!library)
      if (CUresult status =
              cuda->libraryLoadData(&library, kernel.entry.image, nullptr,
                                    nullptr, 0, nullptr, nullptr, 0)) {
        library = nullptr;
        return deviceError("kernel '" + Twine(kernel.entry.name) +
                           "' for target '" + Twine(target.name) +
                           "' cannot be loaded: " + cuda->text(status));
      }
    if (CUresult status =
            cuda->libraryGetKernel(&kernel.handle, library, kernel.entry.name))
      return deviceError("kernel '" + Twine(kernel.entry.name) +
                         "' is not in its binary: " + cuda->text(status));
  }
  loaded = true;
  return Error::success();
}

Expected<GPUKernels::Impl::Device *> GPUKernels::Impl::device(int ordinal) {
  std::unique_ptr<Device> &known = devices[ordinal];
  if (known)
    return known.get();
  auto device = std::make_unique<Device>();
  if (CUresult status = cuda->deviceGet(&device->handle, ordinal))
    return noDevice(*cuda, ordinal, status);
  cuda->deviceGetAttribute(&device->multiprocessors, kMultiprocessorCount,
                           device->handle);
  int has = capabilityOf(*cuda, device->handle);
  if (!target.runsOn(has, isBinary())) {
    const GPUTarget *best = bestGPUTarget(has);
    return fail(MOE_LOAD_ERROR,
                "the module was compiled for '" + Twine(target.name) +
                    (isBinary() ? "'" : "' as PTX") + ", which runs on " +
                    target.range(isBinary()) + "; cuda:" + Twine(ordinal) +
                    " is sm_" + Twine(has) + ": compile for '" +
                    (best ? StringRef(best->name) : "cpu") + "'");
  }
  if (CUresult status =
          cuda->primaryCtxRetain(&device->context, device->handle))
    return deviceError("device cuda:" + Twine(ordinal) +
                       " gives no context: " + cuda->text(status));
  device->sharedBytes.assign(kernels.size(), 0);
  known = std::move(device);
  return known.get();
}

GPUKernels::GPUKernels(ArrayRef<KernelEntry> kernels, int cudaVersion,
                       const GPUTarget &target)
    : impl(std::make_unique<Impl>(target, cudaVersion)) {
  for (const KernelEntry &entry : kernels)
    impl->kernels.push_back({entry, nullptr});
}

GPUKernels::~GPUKernels() {
  // A context that went with its process has taken its kernels along: what
  // unloading says is of no use.
  for (auto &[image, library] : impl->libraries)
    if (library)
      impl->cuda->libraryUnload(library);
}

//===----------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------===//

namespace moe {
/// The call that this thread is making.
struct CudaCall {
  GPUKernels::Impl &kernels;
  GPUKernels::Impl::Device &device;
  CUstream stream;
  std::string problem;

  void launch(int64_t number, const int64_t *grid, const int64_t *block,
              int64_t sharedBytes, void **arguments);
};
} // namespace moe

static thread_local CudaCall *current = nullptr;

void CudaCall::launch(int64_t number, const int64_t *grid, const int64_t *block,
                      int64_t sharedBytes, void **arguments) {
  if (!problem.empty() || !grid[0] || !grid[1] || !grid[2])
    return;
  const auto &kernel = kernels.kernels[number];
  const Driver *cuda = kernels.cuda;
  auto describe = [&](CUresult status) {
    auto size = [](const int64_t *v) {
      return Twine(v[0]).str() + "x" + std::to_string(v[1]) + "x" +
             std::to_string(v[2]);
    };
    problem = "kernel '" + std::string(kernel.entry.name) + "' with grid " +
              size(grid) + ", block " + size(block) + " and " +
              std::to_string(sharedBytes) +
              " bytes of dynamic shared memory: " + cuda->text(status);
  };
  constexpr int kInvalidValue = 1;
  if (grid[0] > INT32_MAX || grid[1] > 65535 || grid[2] > 65535)
    return describe(kInvalidValue);
  if (sharedBytes > 48 * 1024) {
    std::lock_guard<std::mutex> lock(kernels.mutex);
    int64_t &allowed = device.sharedBytes[number];
    if (allowed < sharedBytes) {
      if (CUresult status =
              cuda->kernelSetAttribute(kMaxDynamicSharedBytes, sharedBytes,
                                       kernel.handle, device.handle))
        return describe(status);
      allowed = sharedBytes;
    }
  }
  if (CUresult status = cuda->launchKernel(
          kernel.handle, grid[0], grid[1], grid[2], block[0], block[1],
          block[2], sharedBytes, stream, arguments, nullptr))
    describe(status);
}

Error GPUKernels::call(int ordinal, void *stream,
                       function_ref<void()> host) const {
  Impl::Device *device;
  {
    std::lock_guard<std::mutex> lock(impl->mutex);
    if (Error error = impl->start())
      return error;
    Expected<Impl::Device *> found = impl->device(ordinal);
    if (!found)
      return found.takeError();
    device = *found;
  }
  const Driver *cuda = impl->cuda;
  // Threads that no framework has set up have no context, and the current one
  // may be of another device.
  CUcontext context = nullptr;
  CUdevice contextDevice = -1;
  bool push = cuda->ctxGetCurrent(&context) != 0 || !context ||
              cuda->ctxGetDevice(&contextDevice) != 0 ||
              contextDevice != device->handle;
  if (push)
    if (CUresult status = cuda->ctxPushCurrent(device->context))
      return deviceError("the context of cuda:" + Twine(ordinal) +
                         " cannot be used: " + cuda->text(status));
  Error result = [&]() -> Error {
    {
      std::lock_guard<std::mutex> lock(impl->mutex);
      if (Error error = impl->load())
        return error;
    }
    CudaCall call{*impl, *device, static_cast<CUstream>(stream), ""};
    CudaCall *outer = current;
    current = &call;
    host();
    current = outer;
    if (!call.problem.empty())
      return deviceError(call.problem);
    return Error::success();
  }();
  if (push)
    cuda->ctxPopCurrent(&context);
  return result;
}

void moe_rt_launch(int64_t kernel, int64_t gridX, int64_t gridY, int64_t gridZ,
                   int64_t blockX, int64_t blockY, int64_t blockZ,
                   int64_t sharedBytes, void **arguments) {
  int64_t grid[] = {gridX, gridY, gridZ}, block[] = {blockX, blockY, blockZ};
  current->launch(kernel, grid, block, sharedBytes, arguments);
}

int64_t moe_rt_multiprocessors() { return current->device.multiprocessors; }

void moe_rt_tensor_map(void *map, int64_t address, int64_t dtype, int64_t rank,
                       const int64_t *dims, const int64_t *strides,
                       const int64_t *box, int64_t swizzle) {
  if (!current->problem.empty())
    return;
  constexpr int64_t kMaxRank = 5;
  // Tensors without elements may have no address; any will do for them.
  if (!address)
    address = 4096;
  uint64_t size[kMaxRank], step[kMaxRank];
  uint32_t boxSize[kMaxRank], one[kMaxRank];
  for (int64_t i = 0; i < rank && i < kMaxRank; ++i) {
    // A map over no rows describes nothing; the kernel never uses it.
    size[i] = dims[i] > 0 ? dims[i] : 1;
    step[i] = i + 1 < rank ? strides[i] : 0;
    boxSize[i] = box[i];
    one[i] = 1;
  }
  constexpr int kNoInterleave = 0, kPromote256 = 3, kFillZeros = 0;
  const Driver *cuda = current->kernels.cuda;
  CUresult status = cuda->tensorMapEncodeTiled(
      map, dtype, rank, reinterpret_cast<void *>(address), size, step, boxSize,
      one, kNoInterleave, swizzle, kPromote256, kFillZeros);
  if (!status)
    return;
  std::string shape;
  for (int64_t i = 0; i < rank && i < kMaxRank; ++i)
    shape +=
        (i ? "x" : "") + std::to_string(dims[i]) + "/" + std::to_string(box[i]);
  current->problem = "a tensor map of rank " + std::to_string(rank) +
                     ", sizes/box " + shape + ", at address " +
                     utohexstr(address) +
                     " cannot be made: " + cuda->text(status);
}
