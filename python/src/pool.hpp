// Recycled memory for large results.
//
// Lives here: a bounded pool of buffers that arrays gave back. Must not: Python, NumPy.
//
// New memory costs more at its first touch than the softmax that is written into it, because the system
// clears each page. So a buffer of at least kSmallest bytes is kept when its array is freed, and serves a
// later array. All kept buffers together have a limit.
//
// A recycled buffer still holds old bytes. Nobody sees them: a kernel writes its whole result before the
// caller gets it, and the caller never gets the result of a kernel that failed.
//
// Functions may be called from any thread, with or without the GIL.
#pragma once

#include <cstdint>
#include <string>

namespace softloss::python::pool {

constexpr std::int64_t kSmallest = std::int64_t{1} << 20;

/// True if results of this size are worth recycling.
bool worthwhile(std::int64_t bytes);
/// Memory of at least this size, 64-byte aligned: an unused buffer, or else new memory. The caller owns it
/// until give_back(). nullptr if there is none even after all unused buffers are freed.
void* take(std::int64_t bytes);
/// Takes memory from take() back, to keep it or to free it.
void give_back(void* memory);
/// Resizes memory from take() and keeps its content. If there is not enough memory, returns nullptr and
/// leaves `memory` as it is.
void* resize(void* memory, std::int64_t bytes);
/// Most bytes that unused buffers may hold; with 0, none is kept.
std::int64_t limit();
void set_limit(std::int64_t bytes);
/// Frees all unused buffers.
void clear();
/// Bytes that unused buffers hold.
std::int64_t held();
/// The memory limit in the files of a cgroup (version 2 or 1), in bytes; the largest number if there is none.
std::int64_t container_memory(const std::string& cgroup);

}  // namespace softloss::python::pool
