// The decision whether threads pay, learned from the times of earlier loops.
//
// Lives here: the choice between one thread and several, from times that the caller measures. Must not:
// OpenMP, clocks.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace softloss {

/// The record of loops with about the same work.
///
/// A parallel loop ends when its last thread ends. A thread may find no free CPU, because another program
/// uses it, or because the idle threads of another library spin there. The thread then starts a time slice
/// late, which can be a hundred times the loop's own time, and nothing predicts it. So the record adds up the
/// time that parallel loops lost against one thread: its debt. The loss may be a tenth of the loops' time. If
/// it is more, the next loops run on one thread, and wait until all loops together took ten times the loss.
/// Then threads are tried again. Each failure in turn doubles the wait, and each debt that good loops have
/// paid halves it.
///
/// The debt is counted in loops, so that short and long ones weigh alike. A loop on threads
///   that was faster than on one thread subtracts 1;
///   that took r times as long adds 10 (r - 1), since the time of so many loops is ten times what it lost; but
///   at least 10, since no more than one loop in ten may be slow.
///
/// Example: debt 0; a loop takes 4 times as long as on one thread. It lost 3 loops, so the debt is 30, more
/// than kMostDebt. Loops run on one thread until they have used the time of 30 loops.
class alignas(64) ThreadRecord {
  public:
    /// Whether the next loop should run on one thread.
    bool waits() const { return wait_.load(std::memory_order_relaxed) > 0; }

    /// Call it after a loop on one thread, while waits(): it took `ns`.
    void ran_serial(std::int64_t ns) { wait_.fetch_sub(ns, std::memory_order_relaxed); }

    /// Call it after a loop on several threads: it took `ns`, and would have taken `alone` ns on one thread.
    void ran_parallel(std::int64_t ns, std::int64_t alone) {
        const bool trial = trial_.load(std::memory_order_relaxed);
        const std::int64_t lost = std::min(ns - alone, kMostLost) - (trial ? kWaking : 0);
        const std::int64_t loops = 10 * lost / std::max<std::int64_t>(alone, 1);
        std::int64_t debt = debt_.load(std::memory_order_relaxed);
        int failures = failures_.load(std::memory_order_relaxed);
        debt += loops <= 0 ? -1 : std::max(loops, kBad);
        const bool failed = debt > kMostDebt;
        if (failed) {
            wait_.store(debt * alone << failures, std::memory_order_relaxed);
            failures = std::min(failures + 1, kMostDoublings);
            debt = kTrialDebt;
        } else if (debt < 0) {
            debt = failures > 0 ? kTrialDebt : 0;
            failures = std::max(failures - 1, 0);
        }
        debt_.store(debt, std::memory_order_relaxed);
        failures_.store(failures, std::memory_order_relaxed);
        if (trial != failed) trial_.store(failed, std::memory_order_relaxed);
    }

  private:
    static constexpr std::int64_t kBad = 10;        // loops: what a slow loop adds at least
    static constexpr std::int64_t kMostDebt = 20;   // loops: with more, loops run on one thread
    static constexpr std::int64_t kTrialDebt = 10;  // loops: the debt after a failure, half of the limit
    static constexpr std::int64_t kMostLost =
        50'000'000;  // ns; more has another cause, such as a suspended system
    static constexpr std::int64_t kWaking = 200'000;  // ns that threads may take to wake up after a wait
    static constexpr int kMostDoublings = 5;

    // Concurrent calls may overwrite each other's numbers, which costs a loop or two.
    std::atomic<std::int64_t> wait_{0};  ///< ns of loops on one thread until threads are tried again
    std::atomic<std::int64_t> debt_{0};  ///< loops
    std::atomic<int> failures_{0};       ///< how often the wait is doubled
    std::atomic<bool> trial_{false};  ///< the next loop is the first after a wait and must wake its threads
};

}  // namespace softloss
