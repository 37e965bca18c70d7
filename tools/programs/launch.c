/* SPDX-License-Identifier: Apache-2.0
 *
 * moe-launch: under the name of a program, starts the executable beside it that
 * holds it, moe-compile, by that name. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
  char self[4096], target[4096 + 16];
  ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
  char *slash;
  (void)argc;
  if (length < 0) {
    fprintf(stderr, "moe-launch: error: /proc/self/exe: %s\n", strerror(errno));
    return 1;
  }
  self[length] = 0;
  slash = strrchr(self, '/');
  snprintf(target, sizeof(target), "%.*s/moe-compile", (int)(slash - self),
           self);
  argv[0] = slash + 1;
  execv(target, argv);
  fprintf(stderr, "%s: error: '%s' cannot be started: %s\n", argv[0], target,
          strerror(errno));
  return 1;
}
