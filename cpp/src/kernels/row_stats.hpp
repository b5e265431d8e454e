// Statistics of rows: the row maximum, the sum of exponentials, how many elements equal the maximum.
//
// Lives here: statistics of rows along the vectors, and of rows in a tile, which lie across them. Both sum in
// the order of reduce.hpp and so give the same bits. Must not: results (store_row.hpp), how rows get into a
// tile (tile.hpp).
//
// Shapes: x (count, n), count <= W, or a tile of n vectors, `pitch` elements apart; all statistics are
// vectors with one row per lane. Exponentials are in units of the exponent shift of their row
// (exp_shift.hpp): only their ratios mean anything.
//
// A sum may leave out the elements that equal the row maximum, and count them instead (WithoutMax): log(1 +
// rest) of a probability near 1 needs a rest that was not rounded beside the 1.
#pragma once

#include "exp_shift.hpp"
#include "prefetch.hpp"

namespace softloss {
namespace {

/// Statistics of W rows, one per lane.
template <class T>
struct Stats {
    V<T> maximum;
    Pair<V<T>> max_exp;  ///< exponential of the maximum
    Pair<V<T>> sum;      ///< of the exponentials; if WithoutMax, without the elements that equal the maximum
    V<T> max_count;      ///< if WithoutMax: how many elements equal the maximum
    const T* tile = nullptr;  ///< rows across the vectors: element i is at tile + i * pitch; else null
    std::int64_t pitch = 0;
};

/// The accumulator of one stripe.
template <class V, bool WithoutMax, bool Careful>
struct StripeSum {
    using Sum = Select<Careful, CarefulSum<V>, ExpSum<V>>;
    using I = decltype(as_int(V()));
    Sum sum;
    I max_count = splat<I>(0);

    /// Adds e, the exponential of x.
    SOFTLOSS_INLINE void add(const V& x, const V& maximum, const ExpParts<V>& e) {
        if constexpr (WithoutMax) {
            const auto is_max = equal(x, maximum);
            sum.add({select(is_max, splat<V>(0), e.scale), e.fraction});
            max_count = max_count - is_max;
        } else {
            sum.add(e);
        }
    }
    /// The same for the first `valid` lanes alone.
    SOFTLOSS_INLINE void add_first(const V& x, const V& maximum, const ExpParts<V>& e, int valid) {
        auto inside = first_lanes<I>(valid);
        if constexpr (WithoutMax) {
            const auto is_max = equal(x, maximum) & inside;
            max_count = max_count - is_max;
            inside = inside - is_max;  // -1 - -1 = 0
        }
        sum.add({select(inside, e.scale, splat<V>(0)), select(inside, e.fraction, splat<V>(0))});
    }
};

/// A sum WithoutMax that is smaller than this is formed a second time, by CarefulSum: the error of ExpSum is
/// relative to kUnit.
template <class T>
constexpr T kSmallSum = kUnit<T> / 16;
/// Whether a sum WithoutMax of a row longer than kMaxTile is formed by CarefulSum, too, if the errors that
/// ExpSum collects are 1/16 of it or more. They are added in float, where the rounding errors of equal terms
/// have one sign: a million terms that are all below the last bit of kStart put log_softmax 5.7 ULP off.
/// Shorter rows have too few, and doubles are precise enough.
template <class T, bool WithoutMax>
constexpr bool kCountsErrors = WithoutMax && sizeof(T) == 4;

// ---- rows along the vectors ------------------------------------------------------------------------------

/// x: (n) adjacent elements of any alignment, n >= W -> a vector whose largest lane is the row maximum.
template <class S>
SOFTLOSS_INLINE V<Compute<S>> row_max(const S* x, std::int64_t n) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    V<T> m0 = from_storage<W>(x), m1 = m0, m2 = m0, m3 = m0;
    std::int64_t i = aligned_head(x) % W;  // aligned loads: one that spans two cache lines costs two
    for (; i + 4 * W <= n; i += 4 * W) {
        m0 = max(m0, from_storage<W>(x + i));
        m1 = max(m1, from_storage<W>(x + i + W));
        m2 = max(m2, from_storage<W>(x + i + 2 * W));
        m3 = max(m3, from_storage<W>(x + i + 3 * W));
    }
    for (; i + W <= n; i += W) m0 = max(m0, from_storage<W>(x + i));
    if (i < n) m1 = max(m1, from_storage<W>(x + n - W));
    return max(max(m0, m1), max(m2, m3));
}

/// The largest of n elements, or NaN if one is NaN.
template <class T>
[[gnu::noinline]] T max_or_nan(const T* x, std::int64_t n) {
    constexpr int W = kLanes<T>;
    using I = IntVec<T, W>;
    V<T> m0 = splat<V<T>>(-__builtin_inff()), m1 = m0;
    I nan0 = splat<I>(0), nan1 = nan0;
    std::int64_t i = 0;
    for (; i + 2 * W <= n; i += 2 * W) {
        const V<T> a = load<V<T>>(x + i), b = load<V<T>>(x + i + W);
        m0 = max(a, m0);
        m1 = max(b, m1);
        nan0 = nan0 | not_equal(a, a);
        nan1 = nan1 | not_equal(b, b);
    }
    for (; i < n; i += W) {
        const int valid = static_cast<int>(n - i < W ? n - i : W);
        const V<T> a = load_some(x + i, valid);
        m0 = max(select(first_lanes<I>(valid), a, splat<V<T>>(-__builtin_inff())), m0);
        nan0 = nan0 | not_equal(a, a);
    }
    if (any(nan0 | nan1)) return static_cast<T>(__builtin_nanf(""));
    return fold(max(m0, m1), [](auto a, auto b) SOFTLOSS_LAMBDA { return max(a, b); });
}

/// Whether the exponentials of n elements fit into the buffer that keeps them between the passes.
template <class T>
constexpr bool fits_exp_buffer(std::int64_t n) {
    return n <= kExpBufferBytes / static_cast<std::int64_t>(sizeof(T));
}

/// Elements of a group of rows: they and their exponentials fit into the first-level cache.
constexpr std::int64_t kGroupElements = 4096;

/// The sums of a row's stripes, which are the lanes, and the number of elements that equal the maximum.
/// error_units: the sum of ExpSum::error_units of all chunks of a long row.
template <class T>
struct RowSum {
    Pair<V<T>> sum;
    IntVec<T, kLanes<T>> max_count, error_units;

    /// True if a row with this sum is to be summed by CarefulSum.
    SOFTLOSS_INLINE static bool is_imprecise(T total, IntVec<T, kLanes<T>> error_units) {
        if (!(kSmallSum<T> <= total)) return true;  // NaN, too
        const auto units = fold(error_units, [](auto a, auto b) SOFTLOSS_LAMBDA { return a + b; });
        return static_cast<T>(units) * T(16 * kErrorUnit) > total;
    }
};

/// What a row_sum calls with the index of each vector that it sums: a pipelined driver stores results there.
/// NoStores stores nothing, so that several vectors can be in flight.
struct NoStores {
    static constexpr int kUnroll = softloss::kUnroll;
    SOFTLOSS_INLINE NoStores operator[](int) const { return {}; }
    SOFTLOSS_INLINE void operator()(std::int64_t) const {}
};

/// x: (n) adjacent elements -> the sums of its stripes. exps: (n, padded to whole vectors) gets the
/// exponentials, totals: (chunks) the total of each chunk; either may be null. Meanwhile n elements at `next`
/// and at `out`, which are read and written later, are prefetched into the second-level cache: the
/// first-level cache is full of the rows at hand.
template <bool WithoutMax, bool Careful, class S, class T, Range R, class Stores = NoStores>
SOFTLOSS_INLINE RowSum<T> row_sum(const S* x, std::int64_t n, ExpShift<T, R> shift, T* exps, const char* next,
                                  const char* out, const Stores& stores = {}, Pair<V<T>>* totals = nullptr) {
    constexpr int W = kLanes<T>, K = Stores::kUnroll;
    Pair<V<T>> all = splat_pair<V<T>>(0, 0);
    auto max_count = splat<IntVec<T, W>>(0), error_units = max_count;
    const bool counts_errors =
        kCountsErrors<T, WithoutMax> && (n > kMaxTile || totals);  // blocks are of long rows
    const auto beside = [&](std::int64_t i) SOFTLOSS_LAMBDA {
        prefetch(next + i * sizeof(S), true);
        prefetch(out + i * sizeof(S), true);
        stores(i);
    };
    for (std::int64_t chunk = 0; chunk < n; chunk += kChunk<T>) {
        const std::int64_t end = chunk + kChunk<T> < n ? chunk + kChunk<T> : n;
        StripeSum<V<T>, WithoutMax, Careful> sum;
        std::int64_t first = chunk;
        if constexpr (K > 1) {
            for (; first + K * W <= end; first += K * W) {
                const auto v = from_storage<K * W>(x + first);
                const auto e = shift.exp(v);
                for_each_part<W>([&](V<T> part, V<T> scale, V<T> fraction)
                                     SOFTLOSS_LAMBDA { sum.add(part, shift.maximum, {scale, fraction}); },
                                 v, e.scale, e.fraction);
                unrolled<K>([&](int k) SOFTLOSS_LAMBDA { beside(first + k * W); });
                if (exps) store(exps + first, e.value());
            }
        }
        for_each_vector<W, (K > 1 || kEmulatedFma)>(end - first,
                                                    [&](std::int64_t at, int valid) SOFTLOSS_LAMBDA {
                                                        const std::int64_t i = first + at;
                                                        const V<T> v = load_some(x + i, valid);
                                                        const auto e = shift.exp(v);
                                                        if (valid == W) sum.add(v, shift.maximum, e);
                                                        else sum.add_first(v, shift.maximum, e, valid);
                                                        if (exps) store(exps + i, e.value());
                                                        beside(i);
                                                    });
        const auto total = sum.sum.total();
        all = chunk == 0 ? total : all + total;
        if (totals) *totals++ = total;
        max_count = max_count + sum.max_count;
        if constexpr (kCountsErrors<T, WithoutMax> && !Careful) {
            if (counts_errors) error_units = error_units + sum.sum.error_units();
        }
    }
    return {all, max_count, error_units};
}
/// The same sum by CarefulSum. Nothing is prefetched: the pointers stay in the row itself.
template <class S, class T, Range R>
[[gnu::noinline]] RowSum<T> careful_row_sum(const S* x, std::int64_t n, const ExpShift<T, R>& shift,
                                            Pair<V<T>>* totals = nullptr) {
    const char* const here = reinterpret_cast<const char*>(x);
    return row_sum<true, true>(x, n, shift, static_cast<T*>(nullptr), here, here, {}, totals);
}

/// Statistics of one thread's block of a row. The totals of its chunks are added later, in the row's order.
template <class T>
struct BlockSums {
    static constexpr std::int64_t kChunks =
        2048;  ///< most chunks of a block at a time; the last block of a row may have one more
    V<T> maximum;
    IntVec<T, kLanes<T>> max_count, error_units;
    Pair<V<T>> total[kChunks + 1];
};

/// The row maxima of up to `group` <= W rows of n >= W elements along the vectors from row `first` on, one
/// per lane; 0 in lanes without a row. Adding 0 turns -0 into 0.
template <class S>
[[gnu::noinline]] V<Compute<S>> rows_max(RowsIn x, std::int64_t first, std::int64_t rows, int group,
                                         std::int64_t n) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    if (first >= rows) return splat<V<T>>(0);
    V<T> maximum[W];
    for (int r = 0; r < W; ++r) maximum[r] = splat<V<T>>(0);
    for (int r = 0; r < group && first + r < rows; ++r)
        maximum[r] = row_max(reinterpret_cast<const S*>(x.data + (first + r) * x.row_stride), n);
    return fold_max<T>(maximum) + splat<V<T>>(0);
}

/// x: (count, n) along the vectors, count <= W, `maximum`: one per lane -> stats. Writes the exponentials of
/// row r to exps + r * pitch unless exps is null. next, out: the first of the rows that are prefetched
/// meanwhile. Each step handles all rows before the next step starts, so that arithmetic on one row hides the
/// latency of another. With `block`, the only row is one thread's block of a row: its sums go there, and
/// stats is not set.
template <bool WithoutMax, class S, class Stores = NoStores>
[[gnu::noinline]] void rows_stats(RowsIn x, int count, std::int64_t n, V<Compute<S>> maximum,
                                  const Temperature<Compute<S>>& temperature, Compute<S>* exps,
                                  std::int64_t pitch, Stats<Compute<S>>& stats, const char* next, RowsOut out,
                                  const Stores& stores = {}, BlockSums<Compute<S>>* block = nullptr) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    const auto row = [&](int r)
                         SOFTLOSS_LAMBDA { return reinterpret_cast<const S*>(x.data + r * x.row_stride); };
    Pair<V<T>> sum[W];
    IntVec<T, W> max_count[W], error_units[W];
    for (int r = count; r < W; ++r) {
        sum[r] = splat_pair<V<T>>(0, 0);
        max_count[r] = splat<IntVec<T, W>>(0);
    }
    with_exp_shift<T>(maximum, temperature, [&](const auto& all) SOFTLOSS_LAMBDA {
        using Shift = Plain<decltype(all)>;
        for (int r = 0; r < count; ++r) {
            const auto s = row_sum<WithoutMax, false>(
                row(r), n, Shift(all, r), exps ? exps + r * pitch : exps, next + r * x.row_stride,
                out.data + r * out.row_stride, stores[r], block ? block->total : nullptr);
            sum[r] = s.sum;
            max_count[r] = s.max_count;
            error_units[r] = s.error_units;
        }
        if (block) {
            block->max_count = max_count[0];
            block->error_units = error_units[0];
            return;
        }
        stats.sum = fold_sums<T>(sum);
        stats.maximum = all.maximum;
        stats.max_exp = all.exp(all.maximum).pair();
        if constexpr (WithoutMax) {
            stats.max_count = fold_counts<T>(max_count);
            // A NaN counts as a small sum; a lane without a row does not.
            using I = IntVec<T, W>;
            const auto enough = equal(max(splat<V<T>>(kSmallSum<T>), stats.sum.hi), stats.sum.hi);
            const bool long_rows = kCountsErrors<T, WithoutMax> && n > kMaxTile;
            if (!long_rows && !any(select(enough, splat<I>(0), first_lanes<I>(count)))) return;
            T hi[W], lo[W];
            store(hi, stats.sum.hi);
            store(lo, stats.sum.lo);
            for (int r = 0; r < count; ++r) {
                if (!RowSum<T>::is_imprecise(hi[r], error_units[r])) continue;
                const auto s = careful_row_sum(row(r), n, Shift(all, r));
                const auto folded = fold_lanes(s.sum);
                hi[r] = folded.hi;
                lo[r] = folded.lo;
            }
            stats.sum = {load<V<T>>(hi), load<V<T>>(lo)};
        }
    });
}

/// x, e: (n) adjacent elements; e = exp(x) in units of the exponent shift of this maximum. e may be x.
template <class S>
[[gnu::noinline]] void exp_values(const S* x, std::int64_t n, V<Compute<S>> maximum,
                                  const Temperature<Compute<S>>& temperature, Compute<S>* e) {
    using T = Compute<S>;
    with_exp_shift<T>(maximum, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
        for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            store_some(e + i, shift.exp(load_some(x + i, valid)).value(), valid);
        });
    });
}

// ---- rows across the vectors -----------------------------------------------------------------------------

/// tile: (n) vectors, `pitch` apart -> the maxima of the W rows in their lanes.
template <class T>
SOFTLOSS_INLINE V<T> tile_max(const T* tile, std::int64_t pitch, std::int64_t n) {
    V<T> m0 = load<V<T>>(tile), m1 = m0;
    std::int64_t i = 1;
    for (; i + 2 <= n; i += 2) {
        m0 = max(m0, load<V<T>>(tile + i * pitch));
        m1 = max(m1, load<V<T>>(tile + (i + 1) * pitch));
    }
    if (i < n) m0 = max(m0, load<V<T>>(tile + i * pitch));
    return max(m0, m1) + splat<V<T>>(0);
}

/// The sum of elements first, first + step, ... < end of the rows in the lanes, which are one stripe of each
/// row. Writes the exponentials to exps, laid out like tile, unless it is null. exps may be tile. Each of the
/// N / W vectors that are in flight advances the prefetch cursors.
template <bool WithoutMax, bool Careful, class T, Range R, int N>
SOFTLOSS_INLINE Pair<Vec<T, N>> stripe_sum(const T* tile, T* exps, std::int64_t pitch, std::int64_t first,
                                           std::int64_t end, std::int64_t step,
                                           const ExpShift<T, R, N>& shift, PrefetchCursors& cursors,
                                           IntVec<T, N>& max_count) {
    StripeSum<Vec<T, N>, WithoutMax, Careful> sum;
    for (std::int64_t i = first; i < end; i += step) {
        unrolled<N / kLanes<T>>([&](int) SOFTLOSS_LAMBDA { cursors.fetch(); });
        const auto x = load<Vec<T, N>>(tile + i * pitch);
        const auto e = shift.exp(x);
        sum.add(x, shift.maximum, e);
        if (exps) store(exps + i * pitch, e.value());
    }
    max_count = max_count + sum.max_count;
    return sum.sum.total();
}

/// tile: (n) vectors, n >= kShortRow -> the sums of the W rows, stripe by stripe, a chunk at a time.
template <bool WithoutMax, bool Careful, class T, Range R>
SOFTLOSS_INLINE Pair<V<T>> tile_sum(const T* tile, T* exps, std::int64_t pitch, std::int64_t n,
                                    const ExpShift<T, R>& shift, PrefetchCursors& cursors,
                                    IntVec<T, kLanes<T>>& max_count) {
    constexpr int W = kLanes<T>;
    Pair<V<T>> stripes[W];
    for (std::int64_t chunk = 0; chunk < n; chunk += kChunk<T>) {
        const std::int64_t end = n - chunk < kChunk<T> ? n : chunk + kChunk<T>;
        for (std::int64_t j = 0; j < W && chunk + j < end; ++j) {
            const auto total = stripe_sum<WithoutMax, Careful>(tile, exps, pitch, chunk + j, end, W, shift,
                                                               cursors, max_count);
            stripes[j] = chunk == 0 ? total : stripes[j] + total;
        }
    }
    return fold_stripes<T>(stripes);
}

/// The statistics of rows shorter than kShortRow in a tile, one per lane of `shift`. stats: (N / W), one
/// element for each W rows.
template <bool WithoutMax, class T, Range R, int N>
SOFTLOSS_INLINE void short_stats(const T* tile, T* exps, std::int64_t pitch, std::int64_t n,
                                 const ExpShift<T, R, N>& shift, PrefetchCursors& cursors, Stats<T>* stats) {
    using U = Vec<T, N>;
    auto max_count = splat<IntVec<T, N>>(0);
    // Without the maximum, the sum of so few elements is often small: CarefulSum at once.
    const auto sum_of = [&](std::int64_t first, std::int64_t end) SOFTLOSS_LAMBDA {
        return stripe_sum<WithoutMax, WithoutMax>(tile, exps, pitch, first, end, 1, shift, cursors,
                                                  max_count);
    };
    // Rounding errors of equal terms have one sign: losses of float far below 1 show those of 62 terms.
    constexpr bool kChunks = WithoutMax && sizeof(T) == 4;
    const bool two = kChunks && n > kTerms;
    Pair<U> sum = sum_of(0, two ? kTerms : n);
    if constexpr (kChunks) {
        if (two) sum = sum + sum_of(kTerms, n);
    }
    const Pair<U> largest = shift.exp(shift.maximum).pair();
    for_each_part<kLanes<T>>(
        [&](V<T> maximum, V<T> hi, V<T> lo, V<T> top, V<T> top_low, IntVec<T, kLanes<T>> count)
            SOFTLOSS_LAMBDA {
                *stats++ = {maximum, {top, top_low}, {hi, lo}, convert<T>(count), tile, pitch};
                tile += kLanes<T>;
            },
        shift.maximum, sum.hi, sum.lo, largest.hi, largest.lo, max_count);
}
/// The same for several times W rows at once, so that N / W independent vectors are in flight. The
/// temperature is 1. Returns false, and does nothing, if a maximum is beyond kFar.
template <bool WithoutMax, int N, class T>
[[gnu::noinline]] bool stats_unrolled(const T* tile, T* exps, std::int64_t pitch, std::int64_t n,
                                      const V<T>* maxima, const Temperature<T>& temperature,
                                      PrefetchCursors& cursors, Stats<T>* stats) {
    const auto maximum = load<Vec<T, N>>(reinterpret_cast<const T*>(maxima));
    if (any(less(splat<Vec<T, N>>(kFar<T>), abs(maximum)))) return false;
    PrefetchCursors local = cursors;
    short_stats<WithoutMax>(tile, exps, pitch, n, ExpShift<T, Range::near, N>(maximum, temperature), local,
                            stats);
    cursors = local;
    return true;
}

/// tile: (n) vectors -> the statistics of the W rows in their lanes.
template <bool WithoutMax, class T>
[[gnu::noinline]] void tile_stats(const T* tile, T* exps, std::int64_t pitch, std::int64_t n, V<T> maximum,
                                  const Temperature<T>& temperature, PrefetchCursors& cursors,
                                  Stats<T>& stats) {
    PrefetchCursors local = cursors;
    with_exp_shift<T>(maximum, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
        if (n < kShortRow) return short_stats<WithoutMax>(tile, exps, pitch, n, shift, local, &stats);
        auto max_count = splat<IntVec<T, kLanes<T>>>(0);
        stats.sum = tile_sum<WithoutMax, false>(tile, exps, pitch, n, shift, local, max_count);
        if constexpr (WithoutMax) {
            stats.max_count = convert<T>(max_count);
            const auto small = less(stats.sum.hi, splat<V<T>>(kSmallSum<T>));
            if (any(small)) {
                const auto careful =
                    tile_sum<true, true>(tile, static_cast<T*>(nullptr), pitch, n, shift, local, max_count);
                stats.sum = {select(small, careful.hi, stats.sum.hi),
                             select(small, careful.lo, stats.sum.lo)};
            }
        }
        stats.max_exp = shift.exp(shift.maximum).pair();
        stats.maximum = shift.maximum;
    });
    stats.tile = tile;
    stats.pitch = pitch;
    cursors = local;
}

// ---- sums to the precision of double ---------------------------------------------------------------------

/// The sum, in double, of c exp(x) 2^kExpBias over elements x <= 0 at first, first + step, ... < n. at(i)
/// returns the vector for index i. Each lane is a stripe of one row, or one stripe of a row of its own.
template <class T, class At>
SOFTLOSS_INLINE CompensatedSum<T> exp_sum(std::int64_t first, std::int64_t n, int step, At at) {
    Pair<D<T>> all = splat_pair<D<T>>(0, 0);
    for (std::int64_t chunk = first; chunk < n; chunk += kTerms * step) {
        const std::int64_t end = n - chunk < kTerms * step ? n : chunk + kTerms * step;
        ExpSum<D<T>> sum;
        for (std::int64_t i = chunk; i < end; i += step) sum.add(exp_scaled_for_sums(convert<double>(at(i))));
        all = all + sum.total();
    }
    return {all.hi, all.lo};
}
/// row: (n) adjacent elements -> the sum.
template <class S>
[[gnu::noinline]] Sum exp_sum_along(const char* row, std::int64_t n) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    const S* const x = reinterpret_cast<const S*>(row);
    return exp_sum<T>(0, n, W,
                      [&](std::int64_t i) SOFTLOSS_LAMBDA {
                          if (i + W <= n) return from_storage<W>(x + i);
                          const int valid = static_cast<int>(n - i);
                          const V<T> none = splat<V<T>>(-__builtin_inff());  // beyond the row
                          return select(first_lanes<IntVec<T, W>>(valid), load_some(x + i, valid), none);
                      })
        .parts();
}
/// tile: (n) vectors -> sum of exp(x) of W rows, in the same order as for rows along the vectors.
template <class T>
[[gnu::noinline]] Pair<D<T>> exp_sum_across(const T* tile, std::int64_t pitch, std::int64_t n) {
    const auto at = [&](std::int64_t i) SOFTLOSS_LAMBDA { return load<V<T>>(tile + i * pitch); };
    return join_stripes<T>(n, [&](std::int64_t first, int step)
                                  SOFTLOSS_LAMBDA { return exp_sum<T>(first, n, step, at); })
        .pair();
}

// ---- NaN -------------------------------------------------------------------------------------------------

template <class T>
SOFTLOSS_INLINE bool any_nan(V<T> v) {
    return any(not_equal(v, v));
}
/// row: (n) adjacent elements. True if one is NaN.
template <class S>
[[gnu::noinline]] bool has_nan_along(const char* row, std::int64_t n) {
    bool nan = false;
    for_each_vector<kLanes<Compute<S>>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        nan |= any_nan<Compute<S>>(load_some(reinterpret_cast<const S*>(row) + i, valid));
    });
    return nan;
}
/// The same for a row in one lane of a tile: its n elements are `pitch` apart.
template <class T>
bool has_nan_across(const T* lane, std::int64_t pitch, std::int64_t n) {
    bool nan = false;
    for (std::int64_t i = 0; i < n; ++i) nan |= lane[i * pitch] != lane[i * pitch];
    return nan;
}

}  // namespace
}  // namespace softloss
