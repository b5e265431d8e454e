#include "parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
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

#if defined(_OPENMP)
/// Below this many elements per thread, waking a thread costs more than it saves: with 32,000 elements of softmax or
/// cross-entropy two threads took two thirds of the time of one, with 16,000 up to 1.4 times (AMD Zen 4).
constexpr std::int64_t kWorkPerThread = 16384;

std::atomic<bool> forked{false};

/// The child of a fork has none of OpenMP's threads and would wait for them for ever: it runs serially. Watched from the
/// start, because the threads may be those of another user of the same OpenMP library.
#if defined(__unix__) || defined(__APPLE__)
[[maybe_unused]] const int watching_forks = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
#endif
#endif

/// What a container's quota grants (Linux, cgroup v2), rounded up.
int cpus_of_quota() {
    double quota = 0, period = 0;
    if (std::FILE* const file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
        if (std::fscanf(file, "%lf %lf", &quota, &period) != 2) period = 0;  // "max": there is none
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

std::atomic<int>& thread_count() {
    static std::atomic<int> count{initial_threads()};
    return count;
}

#if defined(_OPENMP)
/// The threads of one call. Calls at the same time share get_num_threads(): each takes what the others leave, and has
/// its own in any case.
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
#endif

#if defined(_OPENMP)
/// All threads are waited for at the end of a loop. One whose CPU another program has just then, for a time slice of
/// milliseconds, makes the call take longer than one thread alone would have taken. When a twentieth of a second is lost, calls do
/// without threads for the rest of that second.
class CrowdedCpus {
  public:
    using Clock = std::chrono::steady_clock;
    static std::int64_t now() { return Clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }
    bool cost_too_much() const {
        return lost_.load(std::memory_order_relaxed) > kMost && now() < end_.load(std::memory_order_relaxed);
    }
    /// A loop from `begin` to `end`, in which the first thread was done at `first`, with `share` of the `tasks`. One thread alone
    /// takes less than all shares in turn do, where they wait for the same memory.
    void look(std::int64_t begin, std::int64_t first, std::int64_t end, std::int64_t share,
              std::int64_t tasks) {
        const double alone =
            static_cast<double>(first - begin) * static_cast<double>(tasks) / static_cast<double>(share);
        if (end - first < kLate || static_cast<double>(end - begin) < 0.75 * alone) return;
        if (end > end_.load(std::memory_order_relaxed)) {
            lost_.store(0, std::memory_order_relaxed);
            end_.store(end + kSecond, std::memory_order_relaxed);
        }
        lost_.fetch_add(end - first, std::memory_order_relaxed);
    }

  private:
    static constexpr std::int64_t kSecond = 1'000'000'000, kLate = kSecond / 1000,
                                  kMost = kSecond / 20;  // ns
    std::atomic<std::int64_t> lost_{0}, end_{std::numeric_limits<std::int64_t>::min()};
};
CrowdedCpus crowded_cpus;
#endif

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
    if (forked.load(std::memory_order_relaxed) || crowded_cpus.cost_too_much()) return 1;
    return static_cast<int>(std::min<std::int64_t>(get_num_threads(), work / kWorkPerThread));
#else
    return 1;
#endif
}

#if defined(_OPENMP)
namespace {
/// Apart, because small calls should not pay for the frame that it needs.
[[gnu::noinline]] void run_team(int wanted, std::int64_t tasks, std::size_t pitch, TaskBody body) {
    const Team team(wanted);
    char* const scratch = pitch ? scratch_memory(pitch * team.size()) : nullptr;
    std::exception_ptr error;
    const std::int64_t begin = CrowdedCpus::now();
    std::atomic<std::int64_t> first{std::numeric_limits<std::int64_t>::max()};
#pragma omp parallel num_threads(team.size())
    {
#pragma omp for schedule(static) nowait
        for (std::int64_t task = 0; task < tasks; ++task) {
            try {
                body(task, scratch + pitch * omp_get_thread_num());
            } catch (...) {  // must not leave the region
#pragma omp critical(softloss_error)
                error = std::current_exception();
            }
        }
        const std::int64_t done = CrowdedCpus::now();
        for (std::int64_t least = first; done < least && !first.compare_exchange_weak(least, done);) {
        }
    }
    crowded_cpus.look(begin, first, CrowdedCpus::now(), tasks / team.size(), tasks);
    if (error) std::rethrow_exception(error);
}
}  // namespace
#endif

void parallel_for(std::int64_t tasks, [[maybe_unused]] std::int64_t work, std::size_t scratch_bytes,
                  TaskBody body, [[maybe_unused]] std::int64_t most) {
    const std::size_t pitch = (scratch_bytes + 63) / 64 * 64;
#if defined(_OPENMP)
    const int wanted = static_cast<int>(std::min({std::int64_t{threads_for(work)}, tasks, most}));
    if (wanted > 1) return run_team(wanted, tasks, pitch, body);
#endif
    char* const scratch = pitch ? scratch_memory(pitch) : nullptr;
    for (std::int64_t task = 0; task < tasks; ++task) body(task, scratch);
}

}  // namespace softloss
