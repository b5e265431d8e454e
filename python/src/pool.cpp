#include "pool.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <unistd.h>
#endif

namespace softloss::python::pool {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kHeader = 64;

/// Before every buffer: its size without the header.
struct Header {
    std::int64_t bytes;
};
Header& header_of(void* memory) {
    return *reinterpret_cast<Header*>(static_cast<char*>(memory) - kHeader);
}

/// SOFTLOSS_CACHE_BYTES, else a sixteenth of the machine's memory, at most 1 GiB.
std::int64_t initial_limit() {
    if (const char* const text = std::getenv("SOFTLOSS_CACHE_BYTES")) {
        char* end = nullptr;
        const long long bytes = std::strtoll(text, &end, 10);
        if (end != text && *end == 0 && bytes >= 0) return bytes;
    }
    std::int64_t memory = std::int64_t{8} << 30;
#if defined(_SC_PHYS_PAGES)
    memory = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
#endif
    return std::min(memory / 16, std::int64_t{1} << 30);
}

struct Pool {
    std::mutex mutex;
    std::vector<void*> unused;  ///< oldest first
    std::int64_t held = 0;
    std::atomic<std::int64_t> limit{initial_limit()};

    Pool();
};

/// Never destroyed: arrays may outlive everything else at the end of the interpreter.
Pool& pool() {
    static Pool* const the = new Pool;
    return *the;
}

/// A child forked while another thread held the mutex must not wait for it for ever.
Pool::Pool() {
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); }, [] { pool().mutex.unlock(); });
#endif
}

void release(void* memory) {
    ::operator delete(static_cast<char*>(memory) - kHeader, std::align_val_t{kHugePage});
}

/// Frees the oldest buffers until at most `bytes` are held; the mutex is locked.
void shrink(Pool& p, std::int64_t bytes) {
    std::size_t count = 0;
    while (count < p.unused.size() && p.held > bytes) {
        p.held -= header_of(p.unused[count]).bytes;
        release(p.unused[count++]);
    }
    p.unused.erase(p.unused.begin(), p.unused.begin() + static_cast<std::ptrdiff_t>(count));
}

void* allocate(std::int64_t bytes) {
    const std::size_t size =
        (static_cast<std::size_t>(bytes) + kHeader + kHugePage - 1) / kHugePage * kHugePage;
    char* const start = static_cast<char*>(::operator new(size, std::align_val_t{kHugePage}));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    madvise(start, size, MADV_HUGEPAGE);
#endif
    void* const memory = start + kHeader;
    header_of(memory).bytes = static_cast<std::int64_t>(size - kHeader);
    return memory;
}

}  // namespace

bool worthwhile(std::int64_t bytes) {
    return bytes >= kSmallest && pool().limit.load(std::memory_order_relaxed) > 0;
}

void* take(std::int64_t bytes) {
    Pool& p = pool();
    {
        const std::lock_guard lock(p.mutex);
        // The smallest that fits, unless more than half of it would lie idle.
        auto best = p.unused.end();
        for (auto it = p.unused.begin(); it != p.unused.end(); ++it) {
            const std::int64_t size = header_of(*it).bytes;
            if (size >= bytes && size / 2 <= bytes &&
                (best == p.unused.end() || size < header_of(*best).bytes))
                best = it;
        }
        if (best != p.unused.end()) {
            void* const memory = *best;
            p.held -= header_of(memory).bytes;
            p.unused.erase(best);
            return memory;
        }
    }
    return allocate(bytes);
}

void give_back(void* memory) {
    Pool& p = pool();
    const std::lock_guard lock(p.mutex);
    const std::int64_t bytes = header_of(memory).bytes, limit = p.limit.load(std::memory_order_relaxed);
    if (bytes > limit) return release(memory);
    shrink(p, limit - bytes);
    try {
        p.unused.push_back(memory);
    } catch (const std::bad_alloc&) {  // which nobody above could catch: an array is dying
        return release(memory);
    }
    p.held += bytes;
}

void set_limit(std::int64_t bytes) {
    Pool& p = pool();
    const std::lock_guard lock(p.mutex);
    p.limit.store(bytes, std::memory_order_relaxed);
    shrink(p, bytes);
}

void clear() {
    Pool& p = pool();
    const std::lock_guard lock(p.mutex);
    shrink(p, 0);
}

std::int64_t held() {
    Pool& p = pool();
    const std::lock_guard lock(p.mutex);
    return p.held;
}

}  // namespace softloss::python::pool
