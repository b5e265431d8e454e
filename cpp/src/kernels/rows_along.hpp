// Drivers for rows along the vectors: the lanes are elements of one row.
//
// Lives here: groups of rows, the plain and the pipelined driver. Must not: what an op computes, how a row is
// stored.
//
// Shapes: x, y, second (rows, n), elements adjacent, n >= kShortRow. The passes over a group of up to W rows:
//   1. row maxima
//   2. sums; exponentials, into a buffer if they fit
//   3. the epilogue
//   4. results, from the elements or the exponentials
// A group is small enough to stay in the first-level cache from one pass to the next; a long row is a group
// of its own.
//
// The plain driver runs the passes in turn. The pipelined driver merges pass 4 of one group into pass 2 of
// the next, so that stores to memory and arithmetic overlap. It serves ops with one result that is computed
// from exponentials and stored non-temporally.
//
// Alignment: x and y may have any address and stride. A y that is no multiple of sizeof(S) gets cached
// stores.
#pragma once

#include "row_op.hpp"
#include "store_row.hpp"

namespace softloss {
namespace {

/// Pass 4 of one group, one cache line for each vector that pass 2 of the next group sums. operator[](r) is
/// what row_sum calls for row r. Memory would be idle during pass 2, and arithmetic during pass 4, if they
/// ran in turn. If Labels, the result at `label` of each row is replaced by at_label.
///
/// Row r is stored while row_sum sums row r of the next group, which is as long. It calls once for each
/// vector, a partial one included, and so at least once for each cache line of row r. The lines may be stored
/// in any order: all exponentials of the row are there, and in place its elements are not read again. But
/// each line must be stored exactly once, and before ends(), which stores the label's line a second time.
///
/// The order avoids 4K aliasing: a load waits for an earlier store if the low 12 bits of both addresses
/// agree. Large arrays of NumPy begin at the same place of a page, so that with rows of a power of two bytes
/// each store would lie where the next loads are. Such a row is stored from its middle on, or from half a
/// page behind its beginning, and its first lines last.
template <class S, class Epilogue, bool Labels>
struct PipelinedStores {
    static_assert(kCacheLine<S> == kLanes<S>, "a vector of results is a line");
    const Epilogue& epilogue;
    std::int64_t pitch, n;
    const S* from;
    RowsOut y;
    RowsIn loads{};  ///< the rows that are summed meanwhile
    const std::int64_t* label = nullptr;
    const S* at_label = nullptr;
    int count = 0;

    struct Row {
        static constexpr int kUnroll = 1;  // a line at a time
        const S* from;
        S* y;
        std::int64_t n, head, label;
        S at_label;
        Epilogue epilogue;
        std::int64_t whole;  ///< elements of whole cache lines
        std::int64_t turn;   ///< the element of them that is stored first

        /// Stores a whole cache line: that of results i ... i + W - 1 behind the head, i = 0, W, 2 W, ..., or
        /// `turn` further on; none if there is no such line. ends() corrects the label's element.
        SOFTLOSS_INLINE void operator()(std::int64_t i) const {
            if (i >= whole) return;
            const std::int64_t turned = i + turn, at = head + (turned < whole ? turned : turned - whole);
            store_line_nontemporal(from + at, y + at, epilogue);
        }
        /// Results of W elements from `first` on, with the label's element replaced. Label -1 (none) matches
        /// no lane.
        SOFTLOSS_INLINE V<S> labelled(V<S> e, std::int64_t first) const {
            if constexpr (Labels) {
                using I = IntVec<S, kLanes<S>>;
                const auto lane = splat<I>(static_cast<typename IntOf<S>::type>(label - first));
                return select(equal(iota<I>(), lane), splat<V<S>>(at_label), epilogue(e));
            } else {
                return epilogue(e);
            }
        }
        /// Stores the head and the tail of the row, and the label's cache line a second time. Reads up to one
        /// vector beyond the row's exponentials: `pitch` leaves room for it.
        SOFTLOSS_INLINE void ends(SharedCacheLine<S>& shared) const {
            const std::int64_t last = head + whole;
            shared.begin(y, from, true,
                         [&](V<S> e, std::int64_t first) SOFTLOSS_LAMBDA { return labelled(e, first); });
            shared.end(y + last, labelled(load<V<S>>(from + last), last), n - last);
            if (Labels && head <= label && label < last) {
                const std::int64_t first = label - (label - head) % kCacheLine<S>;
                store_nontemporal(y + first, labelled(load<V<S>>(from + first), first));
            }
        }
    };
    SOFTLOSS_INLINE Row operator[](int r) const {
        S* const row = reinterpret_cast<S*>(y.data + r * y.row_stride);
        const bool labels = Labels && r < count;
        const std::int64_t length = r < count ? n : 0, head = aligned_head(row),
                           whole = (length - head) / kCacheLine<S> * kCacheLine<S>;
        return {from + r * pitch,
                row,
                length,
                head,
                labels ? label[r] : -1,
                labels ? at_label[r] : S(0),
                epilogue.row(r),
                whole,
                turn_of(row + head, r, whole)};
    }
    /// The element whose line is stored first: 0, unless that line would lie where the next loads are, from
    /// two cache lines before them to eight behind.
    SOFTLOSS_INLINE std::int64_t turn_of(const S* first, int r, std::int64_t whole) const {
        constexpr std::uintptr_t kPage = 4096, kBefore = 128, kBehind = 512;
        const auto place = [](const void* p) SOFTLOSS_LAMBDA { return reinterpret_cast<std::uintptr_t>(p); };
        const std::uintptr_t ahead =
            (place(first) - place(loads.data + r * loads.row_stride) + kBefore) % kPage;
        if (ahead >= kBefore + kBehind) return 0;
        constexpr std::int64_t kHalfPage = kPage / 2 / std::int64_t{sizeof(S)};
        const std::int64_t half = whole / kCacheLine<S> / 2 * kCacheLine<S>;
        return half < kHalfPage ? half : kHalfPage;
    }
};

/// x, y: (rows, n) along the vectors, `group` rows at a time: row r of one group is stored while row r of the
/// next is summed. The address and the row stride of y are multiples of sizeof(S). y may be x: a row is
/// stored after it has been summed.
///
/// There are two exponential buffers, which take turns: stores still read the exponentials of one group while
/// those of the next group are written.
template <class S, RowOp<Compute<S>> Op>
[[gnu::noinline]] void rows_pipelined(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, int group,
                                      std::int64_t pitch, const RowOptions& options, Op& op) {
    using T = Compute<S>;
    const Temperature<T> temperature(options.temperature);
    T* const buffers =
        static_cast<T*>(options.scratch) + kLanes<T>;  // SharedCacheLine may read a line before it
    Stats<T> stats;
    typename Op::Epilogue epilogue;
    PipelinedStores<S, typename Op::Epilogue, Op::kLabels> stores{epilogue, pitch, n, buffers, y};
    SharedCacheLine<S> shared;
    // Stores a row that has no row of the next group to go with, which is rare.
    const auto write = [&](int r) __attribute__((noinline)) {
        const auto row = stores[r];
        if (row.epilogue.may_be_nan) return fill_row(row.y, n, row.epilogue.canonical_result(nans<T>()));
        for (std::int64_t i = 0; i < n; i += kCacheLine<S>) row(i);
        row.ends(shared);
    };
    V<T> maximum = rows_max<S>(x, 0, rows, group, n);
    for (std::int64_t first = 0; first < rows; first += group) {
        const int count = static_cast<int>(rows - first < group ? rows - first : group);
        T* const exps = buffers + first / group % 2 * group * pitch;
        stores.loads = {x.data + first * x.row_stride, x.row_stride, x.element_stride};
        char* const next =
            const_cast<char*>(x.data) + (first + 2 * group <= rows ? first + group : first) * x.row_stride;
        rows_stats<Op::kWithoutMax, S>(stores.loads, count, n, maximum, temperature, exps, pitch, stats, next,
                                       {next, x.row_stride, x.element_stride}, stores);
        maximum = rows_max<S>(x, first + group, rows, group, n);
        for (int r = 0; r < stores.count; ++r) {
            if (r < count) stores[r].ends(shared);
            else write(r);
        }
        op.epilogue(stats, first, count, epilogue);
        if constexpr (Op::kLabels) {
            stores.label = op.label(first);
            stores.at_label = op.at_label;
        }
        stores.from = exps;
        stores.y = {y.data + first * y.row_stride, y.row_stride, y.element_stride};
        stores.count = count;
        if (epilogue.may_be_nan) {  // PipelinedStores does not make NaN canonical
            for (int r = 0; r < count; ++r) write(r);
            stores.count = 0;
        }
    }
    for (int r = 0; r < stores.count; ++r) write(r);
    shared.flush();
}

/// Shortest row, in bytes, for which non-temporal stores pay if its head and tail, or its label's element, go
/// through the caches.
constexpr std::int64_t kMinNontemporalRow = 768;

/// x, y (and second): (count, n) along the vectors. Results come from x, or, if `buffered`, from the
/// exponentials in exps (count, pitch). If not buffered, exps is scratch memory for one cache line.
///
/// The second result is stored before the first: y may be x (in place), so x must not be overwritten while
/// the second result still needs it. `second` never overlaps x.
template <class S, RowOp<Compute<S>> Op>
[[gnu::noinline]] void write_rows(RowsIn x, RowsOut y, RowsOut second, int count, std::int64_t n,
                                  const typename Op::Epilogue& epilogues, const V<Compute<S>>& maximum,
                                  const Temperature<Compute<S>>& temperature, Compute<S>* exps,
                                  std::int64_t pitch, bool buffered, bool nontemporal,
                                  SharedCacheLine<S>* shared) {
    using T = Compute<S>;
    for (int r = 0; r < count; ++r) {
        const auto epilogue = epilogues.row(r);
        const S* const xr = reinterpret_cast<const S*>(x.data + r * x.row_stride);
        for (int k = Op::kResults; k-- > 0;) {
            const bool is_second = k == 1;
            const RowsOut& to = is_second ? second : y;
            S* const yr = reinterpret_cast<S*>(to.data + r * to.row_stride);
            const auto f = [&](V<T> v) SOFTLOSS_LAMBDA {
                if constexpr (Op::kResults == 2) {
                    if (is_second) return epilogue.second(v);
                }
                return epilogue(v);
            };
            const auto canonical_result = [&](V<T> v) SOFTLOSS_LAMBDA {
                if constexpr (Op::kResults == 2) {
                    if (is_second) return epilogue.canonical_second(v);
                }
                return epilogue.canonical_result(v);
            };
            if (epilogue.may_be_nan) {
                fill_row(yr, n, canonical_result(nans<T>()));
            } else if constexpr (!Op::kExp) {
                write_row(xr, yr, n, nontemporal, shared[k], x.row_stride == n * std::int64_t{sizeof(S)}, f);
            } else if (buffered) {
                write_row(exps + r * pitch, yr, n, nontemporal, shared[k], true, f);
            } else {
                write_exponentials(xr, yr, n, nontemporal, spread(maximum, r), temperature, exps, f);
            }
        }
    }
}

/// x, y (and second): (rows, n) along the vectors, n >= kShortRow. y may be x.
template <class S, RowOp<Compute<S>> Op>
SOFTLOSS_INLINE void rows_along(RowsIn x, RowsOut y, RowsOut second, std::int64_t rows, std::int64_t n,
                                const RowOptions& options, Op& op) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    const Temperature<T> temperature(options.temperature);
    T* const exps =
        static_cast<T*>(options.scratch) + kLanes<T>;  // SharedCacheLine may read a line before it
    const std::int64_t bytes = n * std::int64_t{sizeof(S)};
    const bool buffered = Op::kExp && fits_exp_buffer<T>(n);
    // Float16 and bfloat16 gain nothing: their results are too few bytes for stores to take long.
    constexpr bool kPipelines = Op::kExp && Op::kResults == 1 && !kEmulatedFma && sizeof(S) == sizeof(T);
    const bool pipelined =
        kPipelines && buffered && (reinterpret_cast<std::uintptr_t>(y.data) | y.row_stride) % sizeof(S) == 0;
    // True if no cached store touches a cache line that is also stored non-temporally: SharedCacheLine
    // combines the line that adjacent rows share, or all rows start and end at cache lines.
    const bool whole = (y.row_stride == bytes && kCacheLine<S> == W) ||
                       (reinterpret_cast<std::uintptr_t>(y.data) | y.row_stride | bytes) % 64 == 0;
    const bool nontemporal =
        options.nontemporal && (bytes >= kMinNontemporalRow || (whole && (!Op::kLabels || pipelined)));
    const std::int64_t pitch =
        ((n + W - 1) / W | 1) * W;  // an odd number of vectors: a power of two would use few cache sets
    const int group =
        n > kGroupElements ? 1 : static_cast<int>(kGroupElements / n < W ? kGroupElements / n : W);
    if constexpr (kPipelines) {
        if (nontemporal && pipelined) return rows_pipelined<S>(x, y, rows, n, group, pitch, options, op);
    }
    // Pass 1 of the next group runs before pass 4 of this one, unless rows are long: reading the next row
    // would then evict this one from the caches. The prefetch distance is one group; two, if groups have W
    // rows and so are small.
    const bool early = Op::kResults == 0 || n <= kGroupElements;
    const int groups_ahead = group == W ? 2 : 1;
    SharedCacheLine<S> shared[2];  // one for each result
    const auto flush = [&]() SOFTLOSS_LAMBDA {
        for (SharedCacheLine<S>& line : shared) line.flush();
    };
    V<T> maximum = rows_max<S>(x, 0, rows, group, n);
    for (std::int64_t first = 0; first < rows; first += group) {
        const int count = static_cast<int>(rows - first < group ? rows - first : group);
        const auto from = [&](auto to) SOFTLOSS_LAMBDA {
            to.data += first * to.row_stride;
            return to;
        };
        const std::int64_t fetched = first + groups_ahead * group;
        const char* const next = x.data + (fetched + group <= rows ? fetched : first) * x.row_stride;
        // Results that are stored non-temporally, or do not exist, are not prefetched.
        const RowsOut out = Op::kResults > 0 && !nontemporal
                                ? from(y)
                                : RowsOut{const_cast<char*>(next), x.row_stride, x.element_stride};
        Stats<T> stats;
        rows_stats<Op::kWithoutMax, S>(from(x), count, n, maximum, temperature, buffered ? exps : nullptr,
                                       pitch, stats, next, out);
        typename Op::Epilogue epilogues;
        op.epilogue(stats, first, count, epilogues);
        if (early) maximum = rows_max<S>(x, first + group, rows, group, n);
        if constexpr (Op::kResults > 0)
            write_rows<S, Op>(from(x), from(y), from(second), count, n, epilogues, stats.maximum, temperature,
                              exps, pitch, buffered, nontemporal, shared);
        if constexpr (Op::kLabels) {
            flush();
            op.store_at_labels(first, count);
        }
        if (!early) maximum = rows_max<S>(x, first + group, rows, group, n);
    }
    flush();
}

}  // namespace
}  // namespace softloss
