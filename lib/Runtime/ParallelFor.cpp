// SPDX-License-Identifier: Apache-2.0
//===- ParallelFor.cpp - the one thread primitive of compiled code --------===//
//
// libgomp is never linked: it is looked for in the process, because a second
// pool beside torch's halves the speed of both. It may be loaded after us, so
// the search is repeated whenever the set of loaded libraries has grown.
//
// After fork() the threads of either pool do not exist in the child. libgomp
// would wait for them for ever, so a child of a process that had it loaded
// stays on our pool, which starts anew.
//
//===----------------------------------------------------------------------===//
#include "moe/Runtime/ParallelFor.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <link.h>
#include <new>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

namespace {
using Task = void (*)(int64_t, void *);
using GompParallel = void (*)(void (*)(void *), void *, unsigned, unsigned);
using GompMaxThreads = int (*)();

thread_local bool insideParallelFor = false;
thread_local const char *lastBackend = "inline";

struct Job {
  Task task;
  void *ctx;
  int64_t n;
  std::atomic<int64_t> next{0};

  void work() {
    insideParallelFor = true;
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;)
      task(i, ctx);
    insideParallelFor = false;
  }
};

//===----------------------------------------------------------------------===//
// The host's libgomp
//===----------------------------------------------------------------------===//

struct Gomp {
  std::atomic<GompParallel> parallel{nullptr};
  std::atomic<GompMaxThreads> maxThreads{nullptr};
  /// dlpi_adds when the search last failed.
  std::atomic<unsigned long long> searchedAt{0};
  std::atomic<bool> forked{false};
} gomp;

/// Wheels rename the library ("libgomp-a34b3233.so.1"), so its loaded path is
/// taken, not its usual soname.
struct GompSearch {
  unsigned long long adds = 0;
  char path[4096] = "";
};

int findGomp(dl_phdr_info *info, size_t size, void *data) {
  auto &search = *static_cast<GompSearch *>(data);
  if (size >= offsetof(dl_phdr_info, dlpi_adds) + sizeof(info->dlpi_adds)) {
    search.adds = info->dlpi_adds;
    if (search.adds == gomp.searchedAt.load(std::memory_order_relaxed))
      return 1;
  }
  const char *name = info->dlpi_name;
  if (!name)
    return 0;
  const char *slash = strrchr(name, '/');
  const char *base = slash ? slash + 1 : name;
  if (strncmp(base, "libgomp", 7) != 0 || strlen(name) >= sizeof(search.path))
    return 0;
  strcpy(search.path, name);
  return 1;
}

GompParallel lookUpGomp() {
  if (GompParallel found = gomp.parallel.load(std::memory_order_acquire))
    return found;
  GompSearch search;
  dl_iterate_phdr(findGomp, &search);
  if (!search.path[0]) {
    gomp.searchedAt.store(search.adds, std::memory_order_relaxed);
    return nullptr;
  }
  // RTLD_NOLOAD still takes a reference, so the library stays from here on.
  void *handle = dlopen(search.path, RTLD_LAZY | RTLD_NOLOAD);
  if (!handle)
    return nullptr;
  auto parallel =
      reinterpret_cast<GompParallel>(dlsym(handle, "GOMP_parallel"));
  gomp.maxThreads.store(
      reinterpret_cast<GompMaxThreads>(dlsym(handle, "omp_get_max_threads")));
  gomp.parallel.store(parallel, std::memory_order_release);
  return parallel;
}

//===----------------------------------------------------------------------===//
// Our own pool
//===----------------------------------------------------------------------===//

/// The count that OMP_NUM_THREADS or the affinity mask allows.
int allowedThreads() {
  if (GompMaxThreads maxThreads = gomp.maxThreads.load())
    return std::max(1, maxThreads());
  for (const char *name : {"MOE_NUM_THREADS", "OMP_NUM_THREADS"})
    if (const char *value = getenv(name)) {
      int count = atoi(value);
      if (count > 0)
        return std::min(count, 1024);
    }
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0)
    return std::max(1, CPU_COUNT(&set));
  return std::max(1L, sysconf(_SC_NPROCESSORS_ONLN));
}

/// Workers sleep between jobs. One job at a time: a second host thread that
/// calls meanwhile runs its tasks itself.
class Pool {
public:
  bool run(Job &job) {
    if (pthread_mutex_trylock(&busy) != 0)
      return false;
    start();
    if (numWorkers == 0) {
      pthread_mutex_unlock(&busy);
      return false;
    }
    pthread_mutex_lock(&mutex);
    current = &job;
    unfinished = numWorkers;
    ++generation;
    pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&mutex);
    job.work();
    pthread_mutex_lock(&mutex);
    while (unfinished > 0)
      pthread_cond_wait(&done, &mutex);
    current = nullptr;
    pthread_mutex_unlock(&mutex);
    pthread_mutex_unlock(&busy);
    return true;
  }

private:
  void start() {
    if (started)
      return;
    started = true;
    int wanted = allowedThreads() - 1;
    // Signals are the host program's: none is delivered to a worker.
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    // Compiled tasks keep packed panels of up to 1.3 MiB on the stack.
    pthread_attr_setstacksize(&attributes, 8u << 20);
    for (int i = 0; i < wanted; ++i) {
      pthread_t thread;
      // Fewer threads than wanted are fewer threads, not an error.
      if (pthread_create(&thread, &attributes, &Pool::main, this) != 0)
        break;
      ++numWorkers;
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
  }

  static void *main(void *self) {
    auto &pool = *static_cast<Pool *>(self);
    uint64_t seen = 0;
    pthread_mutex_lock(&pool.mutex);
    for (;;) {
      while (pool.generation == seen)
        pthread_cond_wait(&pool.wake, &pool.mutex);
      seen = pool.generation;
      Job *job = pool.current;
      pthread_mutex_unlock(&pool.mutex);
      job->work();
      pthread_mutex_lock(&pool.mutex);
      if (--pool.unfinished == 0)
        pthread_cond_signal(&pool.done);
    }
  }

  pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
  pthread_cond_t done = PTHREAD_COND_INITIALIZER;
  bool started = false;
  int numWorkers = 0;
  int unfinished = 0;
  uint64_t generation = 0;
  Job *current = nullptr;
};

/// Never destroyed: workers outlive main() and static destructors.
alignas(Pool) char poolStorage[sizeof(Pool)];

Pool &pool() { return *std::launder(reinterpret_cast<Pool *>(poolStorage)); }

/// Finds libgomp even if only the host has used it so far: its threads are lost
/// in the child all the same.
void beforeFork() { lookUpGomp(); }

void afterForkInChild() {
  if (gomp.parallel.load())
    gomp.forked.store(true);
  insideParallelFor = false;
  new (poolStorage) Pool();
}

/// At load, not at first use: a fork in between would go unnoticed.
__attribute__((constructor)) void createPool() {
  new (poolStorage) Pool();
  pthread_atfork(beforeFork, nullptr, afterForkInChild);
}
} // namespace

const char *moe::lastParallelForBackend() { return lastBackend; }

extern "C" void moe_rt_parallel_for(Task task, void *ctx, int64_t n) {
  if (n > 1 && !insideParallelFor) {
    Job job{task, ctx, n};
    if (!gomp.forked.load(std::memory_order_relaxed)) {
      if (GompParallel parallel = lookUpGomp()) {
        // Zero asks for as many threads as torch would take, however few tasks
        // there are: libgomp ends and restarts threads when a team's size
        // changes. Inside a parallel region of the host it is a team of one.
        lastBackend = "gomp";
        parallel([](void *data) { static_cast<Job *>(data)->work(); }, &job, 0,
                 0);
        return;
      }
    }
    lastBackend = "pool";
    if (pool().run(job))
      return;
  }
  lastBackend = "inline";
  bool outer = insideParallelFor;
  insideParallelFor = true;
  for (int64_t i = 0; i < n; ++i)
    task(i, ctx);
  insideParallelFor = outer;
}
