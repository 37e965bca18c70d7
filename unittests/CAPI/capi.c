/* SPDX-License-Identifier: Apache-2.0 */
/* The C API from C99: compile, ask, call, refuse, release. Takes the file of a
 * module with entry "twice": f32[T] -> f32[T]. */
#include "moe-c/moe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) {                                                        \
      fprintf(stderr, "%s:%d: %s failed; last error: %s\n", __FILE__,          \
              __LINE__, #condition, moe_last_error());                         \
      exit(1);                                                                 \
    }                                                                          \
  } while (0)

static DLTensor vector_of(float *data, int64_t *shape) {
  DLTensor tensor;
  memset(&tensor, 0, sizeof(tensor));
  tensor.data = data;
  tensor.device.device_type = kDLCPU;
  tensor.ndim = 1;
  tensor.dtype.code = kDLFloat;
  tensor.dtype.bits = 32;
  tensor.dtype.lanes = 1;
  tensor.shape = shape;
  return tensor;
}

int main(int argc, char **argv) {
  static char text[1 << 16];
  FILE *file;
  size_t size;
  moe_options options;
  moe_module *module = NULL;
  float x[3] = {1.0f, -2.5f, 4.0f}, y[3] = {0.0f, 0.0f, 0.0f};
  int64_t shape[1] = {3};
  DLTensor in = vector_of(x, shape), out = vector_of(y, shape);
  const DLTensor *args[2];
  uint64_t bytes = 1;
  args[0] = &in;
  args[1] = &out;

  CHECK(argc == 2 && (file = fopen(argv[1], "rb")) != NULL);
  size = fread(text, 1, sizeof(text), file);
  fclose(file);

  CHECK(strlen(moe_version()) > 0);
  CHECK(strcmp(moe_last_error(), "") == 0);
  CHECK(moe_compile(text, size, NULL, NULL) == MOE_INVALID_ARGUMENT);
  CHECK(moe_compile(NULL, 0, NULL, &module) == MOE_INVALID_ARGUMENT);

  memset(&options, 0, sizeof(options));
  CHECK(moe_compile(text, size, &options, &module) == MOE_INVALID_ARGUMENT);
  CHECK(strstr(moe_last_error(), "struct_size is 0"));
  options.struct_size = sizeof(options);
  options.target = "abacus";
  CHECK(moe_compile(text, size, &options, &module) == MOE_UNSUPPORTED);
  options.target = "cpu";
  options.pipeline_options = "cpu";
  CHECK(moe_compile(text, size, &options, &module) == MOE_INVALID_ARGUMENT);
  options.pipeline_options = "opt-level=1 cpu=x86-64";
  CHECK(moe_compile(text, size, &options, &module) == MOE_OK);
  CHECK(module);
  CHECK(strstr(moe_module_manifest(module), "\"twice\""));

  CHECK(moe_workspace_size(module, "twice", args, 1, &bytes) == MOE_OK);
  CHECK(bytes == 0);
  CHECK(moe_workspace_size(module, "twice", args, 0, &bytes) ==
        MOE_INVALID_ARGUMENT);
  CHECK(moe_invoke(module, "twice", args, 2, NULL) == MOE_OK);
  CHECK(y[0] == 2.0f && y[1] == -5.0f && y[2] == 8.0f);

  CHECK(moe_invoke(module, "thrice", args, 2, NULL) == MOE_INVALID_ARGUMENT);
  CHECK(strcmp(moe_last_error(), "no entry 'thrice'; the module has: twice") ==
        0);
  CHECK(moe_invoke(module, "twice", args, 2, x) == MOE_INVALID_ARGUMENT);
  CHECK(moe_invoke(module, "twice", args, 1, NULL) == MOE_INVALID_ARGUMENT);
  CHECK(moe_invoke(module, "twice", NULL, 2, NULL) == MOE_INVALID_ARGUMENT);
  CHECK(moe_invoke(NULL, "twice", args, 2, NULL) == MOE_INVALID_ARGUMENT);

  moe_module_release(module);
  moe_module_release(NULL);
  CHECK(moe_module_load("/no/such/file.moe", &module) == MOE_LOAD_ERROR);
  CHECK(module == NULL);
  CHECK(moe_module_load(argv[1], &module) == MOE_LOAD_ERROR);
  CHECK(strstr(moe_last_error(), "is no compiled module"));
  return 0;
}
