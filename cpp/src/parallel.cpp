#include "parallel.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

#include "float_mode.hpp"
#include "softloss/softloss.hpp"
#include "thread_record.hpp"

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

#if defined(_OPENMP)
/// Below this many elements per thread, waking a thread costs more than it saves. Softmax and cross-entropy
/// of 32,000 elements took two thirds of the time with two threads, those of 16,000 elements up to 1.4 times
/// (AMD Zen 4).
constexpr std::int64_t kWorkPerThread = 16384;

std::atomic<bool> forked{false};

/// A forked child has none of OpenMP's threads and would wait for them for ever, so it runs on one thread.
/// The handler is registered when the library is loaded, not at the first parallel loop: another library that
/// shares OpenMP may have started the threads.
#if defined(__unix__) || defined(__APPLE__)
[[maybe_unused]] const int watching_forks = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
#endif
#endif

/// CPUs that the quota of a container grants (Linux, cgroup v2), rounded up.
int cpus_of_quota() {
    double quota = 0, period = 0;
    if (std::FILE* const file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
        if (std::fscanf(file, "%lf %lf", &quota, &period) != 2) period = 0;  // "max": no quota
        std::fclose(file);
    }
    return quota > 0 && period > 0 ? static_cast<int>(std::min(std::ceil(quota / period), 1024.0)) : INT_MAX;
}

int available_cpus() {
    int cpus = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) cpus = std::max(1, CPU_COUNT(&set));
#endif
    return std::min(cpus, cpus_of_quota());
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

/// The number that set_num_threads sets.
std::atomic<int>& thread_count() {
    static std::atomic<int> count{initial_threads()};
    return count;
}

#if defined(_OPENMP)
/// Reserves the threads of one call for its lifetime. Concurrent calls share get_num_threads(): each takes
/// what the others leave, and always at least the calling thread.
class Team {
  public:
    explicit Team(int wanted) {
        int others = busy.load();
        do size_ = std::clamp(get_num_threads() - others, 1, wanted);
        while (!busy.compare_exchange_weak(others, others + size_));
    }
    ~Team() { busy.fetch_sub(size_); }
    Team(const Team&) = delete;
    int size() const { return size_; }

  private:
    inline static std::atomic<int> busy{0};
    int size_;
};

/// Nanoseconds of a clock that never goes back.
std::int64_t now() {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

/// The record of loops with this much work. Amounts of work between the same powers of two share one.
ThreadRecord& record_of(std::int64_t work) {
    static constinit ThreadRecord records[64];
    return records[std::bit_width(static_cast<std::uint64_t>(work))];
}
#endif

struct Freed {
    void operator()(void* p) const { ::operator delete(p, std::align_val_t{64}); }
};

/// Scratch memory of at least so many bytes. The calling thread keeps it until its next call.
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

#if defined(_OPENMP)
namespace {

/// How many threads may share this much work, whatever was learned of earlier loops.
int allowed_threads(std::int64_t work) {
    if (work < 2 * kWorkPerThread || omp_in_parallel() || forked.load(std::memory_order_relaxed)) return 1;
    return static_cast<int>(std::min<std::int64_t>(get_num_threads(), work / kWorkPerThread));
}

/// Runs the loop on up to `wanted` threads. The time on one thread, for the record, is estimated from the
/// calling thread's own share of the tasks. Not inlined: small calls, which run alone, should not pay for its
/// stack frame.
[[gnu::noinline]] void run_team(int wanted, std::int64_t tasks, std::size_t pitch, TaskBody body,
                                ThreadRecord& record) {
    const Team team(wanted);
    char* const scratch = pitch ? scratch_memory(pitch * team.size()) : nullptr;
    std::exception_ptr error;
    std::int64_t start = 0, done = 0,
                 share = 0;  // of the calling thread: when it began and ended, how many tasks
    const std::int64_t begin = now();
#pragma omp parallel num_threads(team.size())
    {
        const DefaultFloatMode mode;  // each thread has its own mode
        const bool caller = omp_get_thread_num() == 0;
        if (caller) start = now();
#pragma omp for schedule(static) nowait
        for (std::int64_t task = 0; task < tasks; ++task) {
            if (caller) ++share;
            try {
                body(task, scratch + pitch * omp_get_thread_num());
            } catch (...) {  // an exception must not leave the parallel region
#pragma omp critical(softloss_error)
                error = std::current_exception();
            }
        }
        if (caller) done = now();
    }
    if (team.size() > 1) record.ran_parallel(now() - begin, (done - start) * tasks / share);
    if (error) std::rethrow_exception(error);
}

}  // namespace
#endif

int threads_for([[maybe_unused]] std::int64_t work) {
#if defined(_OPENMP)
    const int allowed = allowed_threads(work);
    return allowed > 1 && !record_of(work).waits() ? allowed : 1;
#else
    return 1;
#endif
}

void parallel_for(std::int64_t tasks, [[maybe_unused]] std::int64_t work, std::size_t scratch_bytes,
                  TaskBody body, [[maybe_unused]] std::int64_t most) {
    const std::size_t pitch = (scratch_bytes + 63) / 64 * 64;
    const auto run_serial = [&] {
        char* const scratch = pitch ? scratch_memory(pitch) : nullptr;
        for (std::int64_t task = 0; task < tasks; ++task) body(task, scratch);
    };
#if defined(_OPENMP)
    const auto allowed = static_cast<int>(std::min<std::int64_t>(allowed_threads(work), most));
    if (allowed > 1 && record_of(work).waits()) {
        const std::int64_t begin = now();
        run_serial();
        return record_of(work).ran_serial(now() - begin);
    }
    const auto wanted = static_cast<int>(std::min<std::int64_t>(allowed, tasks));
    if (wanted > 1) return run_team(wanted, tasks, pitch, body, record_of(work));
#endif
    run_serial();
}

}  // namespace softloss
