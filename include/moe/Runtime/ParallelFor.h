// SPDX-License-Identifier: Apache-2.0
//===- ParallelFor.h - the one thread primitive of compiled code -*- C++ -*-==//
#ifndef MOE_RUNTIME_PARALLELFOR_H
#define MOE_RUNTIME_PARALLELFOR_H

#include <cstdint>

extern "C" {
/// Runs task(0, ctx) .. task(n - 1, ctx), each once, and returns when all are
/// done: on the host program's OpenMP threads where it has libgomp (so
/// torch.set_num_threads is obeyed and no second pool competes), else on a pool
/// of our own. Nested calls and n <= 1 run in the calling thread. The order is
/// unspecified: results must not depend on it.
void moe_rt_parallel_for(void (*task)(int64_t, void *), void *ctx, int64_t n);
}

namespace moe {
/// Which threads the last call from this thread used: "inline", "gomp", "pool".
const char *lastParallelForBackend();
} // namespace moe

#endif // MOE_RUNTIME_PARALLELFOR_H
