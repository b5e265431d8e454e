// Threads: the only home of OpenMP and of fork safety.
//
// Lives here: the number of threads, a parallel loop over independent tasks. Must not: kernels, shapes.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace softloss {

/// A reference to a function body(task, scratch), without the allocation of std::function.
class TaskBody {
  public:
    template <class F>
        requires(!std::is_same_v<std::remove_cvref_t<F>, TaskBody>)
    TaskBody(F&& f)
        : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
          call_([](void* object, std::int64_t task, void* scratch) {
              (*static_cast<std::remove_reference_t<F>*>(object))(task, scratch);
          }) {}
    void operator()(std::int64_t task, void* scratch) const { call_(object_, task, scratch); }

  private:
    void* object_;
    void (*call_)(void*, std::int64_t, void*);
};

/// Calls body(task, scratch) for task = 0 ... tasks - 1, each once, on at most get_num_threads() threads and
/// at most `most`. Fewer threads run if `work` (elements in all) is too little to gain from them, if other
/// calls use threads at the moment, or if earlier loops with about as much work lost time to late threads
/// (thread_record.hpp).
///
/// scratch: scratch_bytes of memory for each thread, 64-byte aligned. If that memory is not available,
/// std::bad_alloc is thrown before any task runs. An exception of a body is rethrown at the end; other tasks
/// may have run.
void parallel_for(std::int64_t tasks, std::int64_t work, std::size_t scratch_bytes, TaskBody body,
                  std::int64_t most = INT_MAX);

/// How many threads parallel_for would use for `work` elements.
int threads_for(std::int64_t work);

}  // namespace softloss
