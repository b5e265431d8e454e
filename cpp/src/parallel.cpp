#include "parallel.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

#include "softloss/softloss.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace softloss {
namespace {

/// Below this many elements per thread, waking a thread costs more than it saves.
constexpr std::int64_t kWorkPerThread = 32768;

std::atomic<bool> forked{false};

/// The child of a fork has none of OpenMP's threads and would wait for them for ever: it runs serially.
void watch_forks() {
#if defined(__unix__) || defined(__APPLE__)
    [[maybe_unused]] static const int registered =
        pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
#endif
}

int available_cpus() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1u, std::thread::hardware_concurrency());
}

/// SOFTLOSS_NUM_THREADS, else the first number of OMP_NUM_THREADS, else the CPUs that the process may use.
int initial_threads() {
    for (const char* name : {"SOFTLOSS_NUM_THREADS", "OMP_NUM_THREADS"}) {
        const char* const text = std::getenv(name);
        const long n = text ? std::strtol(text, nullptr, 10) : 0;
        if (n > 0) return static_cast<int>(std::min(n, 1024l));
    }
    return available_cpus();
}

std::atomic<int>& thread_count() {
    static std::atomic<int> count{initial_threads()};
    return count;
}

struct Freed {
    void operator()(void* p) const { ::operator delete(p, std::align_val_t{64}); }
};

/// Memory kept by the calling thread between calls.
char* scratch_memory(std::size_t bytes) {
    thread_local std::unique_ptr<void, Freed> memory;
    thread_local std::size_t size = 0;
    if (size < bytes) {
        memory.reset();
        size = 0;
        memory.reset(::operator new(bytes, std::align_val_t{64}));
        size = bytes;
    }
    return static_cast<char*>(memory.get());
}

}  // namespace

void set_num_threads(int n) {
    if (n < 1) throw std::invalid_argument("n must be at least 1, got " + std::to_string(n));
    thread_count().store(std::min(n, 1024), std::memory_order_relaxed);
}

int get_num_threads() {
    return thread_count().load(std::memory_order_relaxed);
}

bool has_openmp() {
#if defined(_OPENMP)
    return true;
#else
    return false;
#endif
}

int threads_for([[maybe_unused]] std::int64_t work) {
#if defined(_OPENMP)
    if (work < 2 * kWorkPerThread || omp_in_parallel()) return 1;
    watch_forks();
    if (forked.load(std::memory_order_relaxed)) return 1;
    return static_cast<int>(std::min<std::int64_t>(get_num_threads(), work / kWorkPerThread));
#else
    return 1;
#endif
}

void parallel_for(std::int64_t tasks, std::int64_t work, std::size_t scratch_bytes, TaskBody body) {
    const int threads = static_cast<int>(std::min<std::int64_t>(threads_for(work), tasks));
    const std::size_t pitch = (scratch_bytes + 63) / 64 * 64;
    char* const scratch = pitch ? scratch_memory(pitch * std::max(threads, 1)) : nullptr;
#if defined(_OPENMP)
    if (threads > 1) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (std::int64_t task = 0; task < tasks; ++task) body(task, scratch + pitch * omp_get_thread_num());
        return;
    }
#endif
    for (std::int64_t task = 0; task < tasks; ++task) body(task, scratch);
}

}  // namespace softloss
