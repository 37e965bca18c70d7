// SPDX-License-Identifier: Apache-2.0
#include "moe/Runtime/Version.h"

const char *moe::versionString() { return MOE_VERSION; }
