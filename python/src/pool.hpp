// Recycled memory for large results.
//
// Lives here: a bounded pool of buffers that arrays gave back. Must not: Python, NumPy.
//
// The first touch of fresh memory costs more than the whole softmax: the system clears each page before it hands it out.
// Buffers of kSmallest bytes and more are therefore kept when the array that held them dies, up to a limit, and handed
// out again, still holding old bytes: every kernel writes all of its result before the caller sees it, and a result
// whose kernel fails is never seen. Buffers lie in memory that the system may back by huge pages.
#pragma once

#include <cstdint>

namespace softloss::python::pool {

constexpr std::int64_t kSmallest = std::int64_t{1} << 20;

/// True for results that are worth recycling.
bool worthwhile(std::int64_t bytes);
/// Memory of at least this size, 64-byte aligned. Throws std::bad_alloc.
void* take(std::int64_t bytes);
/// Gives memory from take() back, from any thread.
void give_back(void* memory);
/// Keeps at most this many bytes of unused buffers; 0 keeps none.
void set_limit(std::int64_t bytes);
/// Frees all unused buffers.
void clear();
/// Bytes held in unused buffers.
std::int64_t held();

}  // namespace softloss::python::pool
