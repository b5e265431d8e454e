// Prefetch distances and cursors: which cache lines the drivers prefetch, and in which order.
//
// Lives here: the order in which the cache lines of the next rows are prefetched. Must not: loads, stores,
// arithmetic.
#pragma once

#include "storage.hpp"
#include "table.hpp"

namespace softloss {
namespace {

/// True if elements `step` bytes apart fall into few cache sets. Elements that are prefetched early would
/// then evict one another before they are used.
constexpr bool shares_cache_sets(std::int64_t step) {
    return step % 2048 == 0;
}
/// Prefetch distance within adjacent rows, in elements.
constexpr std::int64_t kPrefetchDistance = 12;

/// Fetches one cache line with each fetch(): `lines` adjacent ones for each of `elements` elements, `jump`
/// bytes from the end of one element's lines to the next element's. After the last line it stays there.
struct PrefetchCursor {
    const char* at;
    std::int64_t lines, jump, elements, lines_left = lines;

    /// A cursor with nothing to prefetch: it stays at one line.
    static PrefetchCursor stay(const char* at) { return {at, 1, 0, 1}; }
    /// The cursor over (rows, n) elements of `size` bytes: element by element if rows are adjacent in memory,
    /// else in the order of memory.
    [[gnu::noinline]] static PrefetchCursor over(const RowsIn& x, std::int64_t rows, std::int64_t n,
                                                 std::int64_t size) {
        const bool columns = x.row_stride == size,
                   whole = (reinterpret_cast<std::uintptr_t>(x.data) | x.element_stride) % 64 == 0;
        const std::int64_t elements = columns ? n : 1;
        const std::int64_t lines = (rows * n / elements * size + 63) / 64 + !whole;
        return {x.data, lines, x.element_stride - lines * 64, elements};
    }
    /// `rows` rows of x from row `first` on if there are `more`, else nothing.
    static PrefetchCursor next(const RowsIn& x, std::int64_t first, std::int64_t rows, std::int64_t n,
                               std::int64_t size, bool more) {
        if (!more) return stay(x.data);
        return over({x.data + first * x.row_stride, x.row_stride, x.element_stride}, rows, n, size);
    }
    /// The cursor over results that are about to be written; nothing if stores are non-temporal (of adjacent
    /// rows alone), or if lines that are fetched so early would evict one another.
    static PrefetchCursor results(const RowsOut& y, std::int64_t rows, std::int64_t n, std::int64_t size,
                                  bool nontemporal) {
        const bool columns = y.row_stride == size;
        if (columns && (nontemporal || shares_cache_sets(y.element_stride))) return stay(y.data);
        return over({y.data, y.row_stride, y.element_stride}, rows, n, size);
    }
    SOFTLOSS_INLINE void fetch() {
        prefetch(at);
        at += 64;
        if (--lines_left > 0) return;
        const bool done = --elements <= 0;
        lines_left = done ? 1 : lines;
        at += done ? -64 : jump;
    }
};
/// Cursors that advance while sums are formed, one cache line of each for each vector.
struct PrefetchCursors {
    PrefetchCursor in, out;  ///< out: over results, or over a second operand

    SOFTLOSS_INLINE void fetch() {
        in.fetch();
        out.fetch();
    }
};
/// The same for two operands and a result.
struct PairedCursors {
    PrefetchCursors operands;
    PrefetchCursor result;
};

}  // namespace
}  // namespace softloss
