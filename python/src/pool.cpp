#include "pool.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
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

/// Buffers, with their header, are whole huge pages, so that the system may use such pages for them: new
/// memory is touched much faster then.
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kHeader = 64;  ///< bytes before the memory of a buffer, so that it stays aligned to 64

/// Lies kHeader bytes before the memory that take() returns.
struct Header {
    std::int64_t bytes;  ///< of the buffer, without the header
};
Header& header_of(void* memory) {
    return *reinterpret_cast<Header*>(static_cast<char*>(memory) - kHeader);
}

/// The number in a file, or the largest number if there is none.
std::int64_t number_in(const std::string& path) {
    long long number = std::numeric_limits<long long>::max();
    if (std::FILE* const file = std::fopen(path.c_str(), "r")) {
        if (std::fscanf(file, "%lld", &number) != 1) number = std::numeric_limits<long long>::max();  // "max"
        std::fclose(file);
    }
    return number;
}

/// SOFTLOSS_CACHE_BYTES, or else 1/16 of the memory of the machine or container, at most 1 GiB.
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
    memory = std::min(memory, container_memory("/sys/fs/cgroup"));
    return std::min(memory / 16, std::int64_t{1} << 30);
}

struct Pool {
    std::mutex mutex;           ///< of all members but `limit`, which is read without it
    std::vector<void*> unused;  ///< buffers, the oldest first
    std::int64_t held = 0;      ///< bytes of the unused buffers
    std::atomic<std::int64_t> limit{initial_limit()};

    Pool();
};

/// Never destroyed: arrays may outlive everything else at the end of the interpreter.
Pool& pool() {
    static Pool* const instance = new Pool;
    return *instance;
}

/// A child that is forked while another thread holds the mutex would wait for it for ever. So fork() takes
/// the mutex before and releases it afterwards, in parent and child.
Pool::Pool() {
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); }, [] { pool().mutex.unlock(); });
#endif
}

#if defined(__linux__)
/// Whole huge pages from the system, which knows no alignment above a page: one huge page more is reserved,
/// and what lies before and after the aligned part goes back. nullptr if there is no memory. Not malloc:
/// where that fails, glibc sets up one more arena, and the 64 MiB of addresses that it reserves are missing
/// when the allocation is tried again.
char* map_pages(std::size_t size) {
    void* const memory =
        mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    char* const first = static_cast<char*>(memory);
    const std::size_t before = -reinterpret_cast<std::uintptr_t>(first) % kHugePage;
    if (before > 0) munmap(first, before);
    munmap(first + before + size, kHugePage - before);
#if defined(MADV_HUGEPAGE)
    madvise(first + before, size, MADV_HUGEPAGE);
#endif
    return first + before;
}

void unmap_pages(char* start, std::size_t size) {
    munmap(start, size);
}
#else
char* map_pages(std::size_t size) {
    return static_cast<char*>(::operator new(size, std::align_val_t{kHugePage}, std::nothrow));
}

void unmap_pages(char* start, std::size_t) {
    ::operator delete(start, std::align_val_t{kHugePage});
}
#endif

/// Returns a buffer to the system.
void release(void* memory) {
    const std::size_t size = static_cast<std::size_t>(header_of(memory).bytes) + kHeader;
    unmap_pages(static_cast<char*>(memory) - kHeader, size);
}

/// Frees the oldest buffers until the others hold at most `bytes`. The caller has locked the mutex.
void shrink(Pool& p, std::int64_t bytes) {
    std::size_t count = 0;
    while (count < p.unused.size() && p.held > bytes) {
        p.held -= header_of(p.unused[count]).bytes;
        release(p.unused[count++]);
    }
    p.unused.erase(p.unused.begin(), p.unused.begin() + static_cast<std::ptrdiff_t>(count));
}

/// True if a buffer of this size may serve a request of `bytes`: it is large enough, and no more than about
/// half of it would be wasted.
bool fits(std::int64_t size, std::int64_t bytes) {
    return size >= bytes && size / 2 <= bytes;
}

/// New memory; if there is none, all unused buffers are freed first. nullptr if that does not help. The
/// caller has not locked the mutex.
char* system_memory(std::size_t size) {
    char* const memory = map_pages(size);
    if (memory) return memory;
    clear();
    return map_pages(size);
}

/// A new buffer; nullptr if there is no memory.
void* allocate(std::int64_t bytes) {
    if (bytes > std::numeric_limits<std::int64_t>::max() - static_cast<std::int64_t>(2 * kHugePage))
        return nullptr;
    const std::size_t size =
        (static_cast<std::size_t>(bytes) + kHeader + kHugePage - 1) / kHugePage * kHugePage;
    char* const start = system_memory(size);
    if (!start) return nullptr;
    void* const memory = start + kHeader;
    header_of(memory).bytes = static_cast<std::int64_t>(size - kHeader);
    return memory;
}

}  // namespace

std::int64_t container_memory(const std::string& cgroup) {
    return std::min(number_in(cgroup + "/memory.max"), number_in(cgroup + "/memory/memory.limit_in_bytes"));
}

bool worthwhile(std::int64_t bytes) {
    return bytes >= kSmallest && limit() > 0;
}

void* take(std::int64_t bytes) {
    Pool& p = pool();
    {
        const std::lock_guard lock(p.mutex);
        // The smallest buffer that fits.
        auto best = p.unused.end();
        for (auto it = p.unused.begin(); it != p.unused.end(); ++it) {
            const std::int64_t size = header_of(*it).bytes;
            if (fits(size, bytes) && (best == p.unused.end() || size < header_of(*best).bytes)) best = it;
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
    } catch (const std::bad_alloc&) {  // an array is being freed: nobody could handle the exception
        return release(memory);
    }
    p.held += bytes;
}

void* resize(void* memory, std::int64_t bytes) {
    const std::int64_t size = header_of(memory).bytes;
    if (fits(size, bytes)) return memory;
    void* const other = take(bytes);
    if (!other) return nullptr;
    std::memcpy(other, memory, static_cast<std::size_t>(std::min(size, bytes)));
    give_back(memory);
    return other;
}

std::int64_t limit() {
    return pool().limit.load(std::memory_order_relaxed);
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
