// Threads: the only home of OpenMP and of fork safety.
//
// Lives here: the number of threads, a parallel loop over independent tasks. Must not: kernels, shapes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace softloss {

/// Calls body(task, scratch) for task = 0 ... tasks - 1, each once, on at most get_num_threads() threads; fewer when
/// `work` (elements in all) is too small to gain. scratch: scratch_bytes of memory of the thread's own, 64-byte
/// aligned. body must not throw. Throws std::bad_alloc before anything runs.
void parallel_for(std::int64_t tasks, std::int64_t work, std::size_t scratch_bytes,
                  const std::function<void(std::int64_t, void*)>& body);

/// How many threads parallel_for would use for `work` elements.
int threads_for(std::int64_t work);

}  // namespace softloss
