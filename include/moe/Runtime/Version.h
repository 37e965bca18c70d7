// SPDX-License-Identifier: Apache-2.0
#ifndef MOE_RUNTIME_VERSION_H
#define MOE_RUNTIME_VERSION_H

namespace moe {
/// "0.1.0": the version in CMake's project().
const char *versionString();
} // namespace moe

#endif // MOE_RUNTIME_VERSION_H
