/* SPDX-License-Identifier: Apache-2.0 */
/*===- moe.h - the C API of moe-mlir ------------------------------*- C -*-===*
 *
 * Compile a module of the `moe` dialect, load it, and call its entry points on
 * DLPack tensors. C99. Every function is safe to call from several threads and
 * in a forked child. No function aborts or throws: a status is returned, and
 * moe_last_error() explains it. docs/RuntimeABI.md describes the whole
 * contract.
 *
 *===----------------------------------------------------------------------===*/
#ifndef MOE_C_MOE_H
#define MOE_C_MOE_H

#include <stddef.h>
#include <stdint.h>

#include "dlpack/dlpack.h"

#if defined(__GNUC__)
#define MOE_C_EXPORT __attribute__((visibility("default")))
#else
#define MOE_C_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum moe_status {
  MOE_OK = 0,
  /* An argument of the call is wrong: a null pointer, a tensor that does not
   * fit the manifest, an unknown entry, option or target. */
  MOE_INVALID_ARGUMENT = 1,
  /* The compiler refused the module; the message holds its diagnostics. */
  MOE_COMPILE_ERROR = 2,
  /* The compiler died or ran past its time; the message names a reproducer. */
  MOE_COMPILER_CRASH = 3,
  /* moe-compile was not found or could not be started. */
  MOE_COMPILER_NOT_FOUND = 4,
  /* A compiled module cannot be loaded: unreadable, damaged, of another ABI
   * version, or for CPU features that this machine lacks. */
  MOE_LOAD_ERROR = 5,
  /* Not built: the message says what is missing. */
  MOE_UNSUPPORTED = 6,
  /* The device's driver refused something; the message names the kernel and
   * its launch. */
  MOE_DEVICE_ERROR = 7
} moe_status;

/* Set struct_size to sizeof(moe_options); later versions append members. */
typedef struct moe_options {
  size_t struct_size;
  /* "cpu" (also where it is null), a GPU architecture ("sm_80", "sm_90a"), or
   * "cuda" for that of the current CUDA device, "cuda:1" for that of another.
   */
  const char *target;
  /* "key=value" pairs separated by spaces, as for `moe-compile --opt`; may be
   * null. */
  const char *pipeline_options;
} moe_options;

typedef struct moe_module moe_module;

/* Compiles `size` bytes of MLIR text or bytecode, or takes the result from the
 * cache, and loads it. `opts` may be null. The module is released with
 * moe_module_release. */
MOE_C_EXPORT moe_status moe_compile(const char *text, size_t size,
                                    const moe_options *opts, moe_module **out);

/* Loads a container written by `moe-compile -o`. */
MOE_C_EXPORT moe_status moe_module_load(const char *path, moe_module **out);

/* The manifest as JSON; lives as long as the module. */
MOE_C_EXPORT const char *moe_module_manifest(const moe_module *module);

/* Bytes of workspace that a call of `entry` needs. `args` are the inputs and
 * inouts of the call (more may follow and are not read); only their shapes are
 * used, so data pointers may be null. */
MOE_C_EXPORT moe_status moe_workspace_size(const moe_module *module,
                                           const char *entry,
                                           const DLTensor *const *args,
                                           size_t n, uint64_t *bytes);

/* Calls `entry`. `args`: inputs, inouts, outputs, workspace, all allocated by
 * the caller; the workspace may be left out when its size is 0. Everything is
 * checked before anything runs. `stream` is null for the CPU; for a GPU it is a
 * CUstream of the tensors' device, on which the call is put without waiting. */
MOE_C_EXPORT moe_status moe_invoke(const moe_module *module, const char *entry,
                                   const DLTensor *const *args, size_t n,
                                   void *stream);

/* Accepts null. */
MOE_C_EXPORT void moe_module_release(moe_module *module);

/* The message of the last call that failed in this thread; "" before any. It
 * lives until the next failing call in this thread. */
MOE_C_EXPORT const char *moe_last_error(void);

MOE_C_EXPORT const char *moe_version(void);

#ifdef __cplusplus
}
#endif

#endif /* MOE_C_MOE_H */
