// SPDX-License-Identifier: Apache-2.0
//
// Several of our programs in one executable: its name says which it is.

#include <cstring>

int moe_compile_main(int argc, char **argv);
int moe_opt_main(int argc, char **argv);
int moe_run_main(int argc, char **argv);

int main(int argc, char **argv) {
  const char *path = argc ? argv[0] : "";
  const char *slash = std::strrchr(path, '/');
  const char *name = slash ? slash + 1 : path;
  if (!std::strcmp(name, "moe-opt"))
    return moe_opt_main(argc, argv);
  if (!std::strcmp(name, "moe-run"))
    return moe_run_main(argc, argv);
  return moe_compile_main(argc, argv);
}
