/* SPDX-License-Identifier: Apache-2.0 */
/* Stands for libcuda.so.1 where there is no GPU: writes what it is asked into
 * FAKE_CUDA_LOG, says that it is version FAKE_CUDA_VERSION and its device of
 * FAKE_CUDA_CAPABILITY, refuses to launch the kernel FAKE_CUDA_REFUSE, and
 * fails in the function FAKE_CUDA_FAIL. Kernels do nothing; memory and events
 * are there for moe-run. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static void say(const char *format, const char *text, long a, long b, long c,
                long d) {
  const char *path = getenv("FAKE_CUDA_LOG");
  FILE *log = fopen(path ? path : "/dev/null", "a");
  fprintf(log, format, text, a, b, c, d);
  fclose(log);
}
static int number(const char *name, int otherwise) {
  const char *value = getenv(name);
  return value ? atoi(value) : otherwise;
}

static int fails(const char *function) {
  const char *asked = getenv("FAKE_CUDA_FAIL");
  return asked && strcmp(asked, function) == 0;
}
#define MAY_FAIL                                                               \
  if (fails(__func__))                                                         \
  return 999

EXPORT int cuInit(unsigned flags) {
  MAY_FAIL;
  return (int)flags;
}
EXPORT int cuDriverGetVersion(int *version) {
  *version = number("FAKE_CUDA_VERSION", 13000);
  return 0;
}
EXPORT int cuGetErrorName(int status, const char **name) {
  *name = status == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_OTHER";
  return 0;
}
EXPORT int cuGetErrorString(int status, const char **text) {
  *text = status == 700 ? "an illegal memory access was encountered" : "other";
  return 0;
}
EXPORT int cuDeviceGet(int *device, int ordinal) {
  *device = ordinal + 40;
  return ordinal > 1 ? 101 : 0;
}
EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device) {
  int capability = number("FAKE_CUDA_CAPABILITY", 90);
  (void)device;
  *value = attribute == 75   ? capability / 10
           : attribute == 76 ? capability % 10
                             : 132;
  return 0;
}

/* Contexts are devices. */
static __thread intptr_t stack[8];
static __thread int depth;
EXPORT int cuDevicePrimaryCtxRetain(void **context, int device) {
  MAY_FAIL;
  say("retain%s %ld\n", "", device, 0, 0, 0);
  *context = (void *)(intptr_t)device;
  return 0;
}
EXPORT int cuCtxGetCurrent(void **context) {
  *context = (void *)(depth ? stack[depth - 1] : 0);
  return 0;
}
EXPORT int cuCtxGetDevice(int *device) {
  *device = depth ? (int)stack[depth - 1] : -1;
  return 0;
}
EXPORT int cuCtxPushCurrent_v2(void *context) {
  MAY_FAIL;
  stack[depth++] = (intptr_t)context;
  return 0;
}
EXPORT int cuCtxPopCurrent_v2(void **context) {
  *context = (void *)stack[--depth];
  return 0;
}

EXPORT int cuLibraryLoadData(void **library, const void *image, void *a,
                             void *b, unsigned c, void *d, void *e,
                             unsigned f) {
  MAY_FAIL;
  (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
  say("load %.5s\n", image, 0, 0, 0, 0);
  *library = (void *)image;
  return 0;
}
EXPORT int cuLibraryUnload(void *library) {
  say("unload %.5s\n", library, 0, 0, 0, 0);
  return 0;
}
EXPORT int cuLibraryGetKernel(void **kernel, void *library, const char *name) {
  MAY_FAIL;
  (void)library;
  *kernel = (void *)name;
  return 0;
}
EXPORT int cuKernelSetAttribute(int attribute, int value, void *kernel,
                                int device) {
  MAY_FAIL;
  say("attribute %s %ld %ld %ld\n", kernel, attribute, value, device, 0);
  return 0;
}
EXPORT int cuLaunchKernel(void *kernel, unsigned gx, unsigned gy, unsigned gz,
                          unsigned bx, unsigned by, unsigned bz,
                          unsigned shared, void *stream, void **arguments,
                          void **extra) {
  const char *refuse = getenv("FAKE_CUDA_REFUSE");
  (void)gy, (void)gz, (void)by, (void)bz, (void)shared, (void)extra;
  if (refuse && strcmp(refuse, kernel) == 0)
    return 700;
  say("launch %s grid %ld block %ld stream %ld", kernel, gx, bx,
      (intptr_t)stream, 0);
  say("%s argument %ld device %ld\n", "", *(int64_t *)arguments[0],
      depth ? stack[depth - 1] : -1, 0, 0);
  return 0;
}
#ifndef FAKE_CUDA_WITHOUT_TENSOR_MAPS
EXPORT int cuTensorMapEncodeTiled(void *map, int dtype, uint32_t rank,
                                  void *address, const uint64_t *sizes,
                                  const uint64_t *strides, const uint32_t *box,
                                  const uint32_t *steps, int interleave,
                                  int swizzle, int promotion, int fill) {
  (void)dtype, (void)address, (void)sizes, (void)strides, (void)steps;
  (void)interleave, (void)swizzle, (void)promotion, (void)fill;
  memset(map, (int)box[0], 128);
  return rank > 5;
}
#endif

/* Memory is the host's. */
EXPORT int cuMemAlloc_v2(unsigned long long *address, size_t size) {
  if (size > (size_t)number("FAKE_CUDA_MEMORY", 1 << 30))
    return 2;
  say("allocate%s %ld\n", "", (long)size, 0, 0, 0);
  *address = (unsigned long long)(uintptr_t)aligned_alloc(256, (size + 255) /
                                                                   256 * 256);
  return 0;
}
EXPORT int cuMemFree_v2(unsigned long long address) {
  say("free%s\n", "", 0, 0, 0, 0);
  free((void *)(uintptr_t)address);
  return 0;
}
EXPORT int cuMemcpyHtoD_v2(unsigned long long to, const void *from,
                           size_t size) {
  MAY_FAIL;
  memcpy((void *)(uintptr_t)to, from, size);
  return 0;
}
EXPORT int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t size) {
  MAY_FAIL;
  memcpy(to, (void *)(uintptr_t)from, size);
  return 0;
}

/* The stream is 5; an event is when it was recorded, in half milliseconds. */
EXPORT int cuStreamCreate(void **stream, unsigned flags) {
  MAY_FAIL;
  *stream = (void *)5;
  return flags != 1;
}
EXPORT int cuStreamSynchronize(void *stream) {
  MAY_FAIL;
  say("synchronize%s %ld\n", "", (long)(intptr_t)stream, 0, 0, 0);
  return 0;
}
EXPORT int cuEventCreate(void **event, unsigned flags) {
  MAY_FAIL;
  *event = calloc(1, sizeof(long));
  return (int)flags;
}
EXPORT int cuEventRecord(void *event, void *stream) {
  static long now;
  *(long *)event = ++now;
  return stream != (void *)5;
}
EXPORT int cuEventElapsedTime_v2(float *milliseconds, void *start, void *end) {
  *milliseconds = 0.5f * (float)(*(long *)end - *(long *)start);
  return 0;
}
EXPORT int cuEventDestroy_v2(void *event) {
  free(event);
  return 0;
}
