// Rows: their maximum, their sum of exponentials and their results, for any layout.
//
// Lives here: how rows are read and written (along the vectors or across them), the reference that keeps exp exact, the
// passes over a row. Must not: what an operation makes of them (softmax.hpp, scores.hpp), threads.
//
// The reference. The rounding of x - max alone would cost up to |x - max| / 2 ULP in exp. So x stays as it is while
// |max| <= kFar, and exp(x) is held as exp(x) * 2^(kExpBias - N), N = round(max / ln 2): a power of two costs no
// rounding. Beyond kFar max is subtracted: every x near enough to count is then within a factor of two of max, and the
// difference is exact (Sterbenz). With kExpBias, results down to the last subnormal keep their exponent in range.
//
// Layouts. Rows of kShortRow adjacent elements and more lie along the vectors. All other rows lie across them: W rows at
// a time are read into a tile, element i of the W rows being vector i. Both form the same classes (reduce.hpp), hence
// the same bits. Rows across the vectors have at most kMaxTile elements (the caller gathers longer ones), rows along them any
// number: those whose exponentials need more than kStashBytes have them computed twice. What lies across is taken in tiles
// of several W rows, and exponentials that are written past the caches, but for halves, while the next rows are summed: in
// both, something is always there to be computed. Where only sums are formed, kInStep vectors go side by side, or several W
// rows that are short. What is left of rows along the vectors is a long chain of operations: behind it stand the maxima of the
// next rows, which need not wait for it.
//
// An operation `Op` over rows has
//   Op::kOthers      the sum is without the elements that equal the maximum, which are counted;
//   Op::kExp         its results are made of exponentials, else of the elements;
//   op.finish(stats, first row, rows, finish)   leaves what is left of up to W rows, an Op::Finish: a function vector ->
//                    result, row by row in the lanes; .row(r) is the same for row r alone, in every lane; where .invalid, a
//                    result may be NaN, and goes through .mended(vector);
//   Op::kResults     how many results there are for an element: 0, 1 or 2 (the second is finish.second(vector), mended by
//                    .mended_second);
//   Op::kLabels      the result at one place of each row is another: finish.at(i, results of element i of W rows) across the
//                    vectors; along them, op.label(first row) and op.at_label[row] have them, or op.after(first row, rows)
//                    puts them there when all is written.
// The passes that all operations share are functions of their own, to keep the library small.
#pragma once

#include "reduce.hpp"
#include "table.hpp"

namespace softloss {
namespace {

/// Twice as far as anything counts below the maximum: 104 (float), 745 (double).
template <class T>
constexpr T kFar = sizeof(T) == 4 ? 1024 : 2048;

/// 1 / temperature to twice the precision.
template <class T>
struct Temperature {
    T value = 1, inverse = 1, inverse_low = 0;

    [[gnu::noinline]] explicit Temperature(double t) {
        if (t == 1) return;  // the usual case, as the members have it
        value = static_cast<T>(t);
        inverse = static_cast<T>(1 / t);
        // 1 - inverse * t, exactly, then divided by t.
        const auto residual = fma(splat<Vec<double, 2>>(-static_cast<double>(inverse)),
                                  splat<Vec<double, 2>>(t), splat<Vec<double, 2>>(1));
        inverse_low = static_cast<T>(low_half(residual).raw[0] / t);
    }
};

/// Lane r in every lane, read from where v lies.
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> spread(const Vec<T, N>& v, int r) {
    T lane;
    __builtin_memcpy(&lane, reinterpret_cast<const char*>(&v) + r * sizeof(T), sizeof(T));
    return splat<Vec<T, N>>(lane);
}

/// near: |max| <= kFar in every lane and temperature 1, the usual case. any: any maximum, any temperature.
enum class Range { near, any };

template <class T, Range R, int Lanes = kLanes<T>>
struct Reference {
    using V = Vec<T, Lanes>;
    const Temperature<T>& temperature;
    V maximum, shift, lowest, magic;

    SOFTLOSS_INLINE Reference(V m, const Temperature<T>& t) : temperature(t), maximum(m) {
        using C = MathConstants<T>;
        const V zero = splat<V>(0);
        const V z = R == Range::any ? m * splat<V>(t.inverse) : m;
        const auto far = less(splat<V>(kFar<T>), abs(z));
        shift = select(far, m, zero);
        lowest = fma(splat<V>(C::kSmallestExponent), splat<V>(t.value), m - shift);
        const V near = select(far, zero, z);
        const V n = fma(near, splat<V>(C::kEightByLn2 / 8), splat<V>(C::kMagic)) - splat<V>(C::kMagic);
        magic = exp_magic(splat<V>(C::kExpBias) - n);
    }
    /// The reference of row r of those in the lanes, in every lane.
    SOFTLOSS_INLINE Reference(const Reference& all, int r)
        : temperature(all.temperature),
          maximum(spread(all.maximum, r)),
          shift(spread(all.shift, r)),
          lowest(spread(all.lowest, r)),
          magic(spread(all.magic, r)) {}
    /// exp(x / temperature) in units of the reference, for one vector or several side by side.
    template <int N>
    SOFTLOSS_INLINE ExpParts<Vec<T, N>> exp(Vec<T, N> x) const {
        using X = Vec<T, N>;
        if constexpr (R == Range::near) {
            return exp_parts(max(repeat<N>(lowest), x), repeat<N>(magic));
        } else {
            const X d = max(repeat<N>(lowest), x - repeat<N>(shift)), inverse = splat<X>(temperature.inverse),
                    z = d * inverse;
            const X z_low = fma(d, splat<X>(temperature.inverse_low), fma(d, inverse, -z));
            return exp_parts<true>(z, repeat<N>(magic), z_low);
        }
    }
};

/// Calls f with the Reference of these maxima that does the least work.
template <class T, int N, class F>
SOFTLOSS_INLINE void with_reference(Vec<T, N> maximum, const Temperature<T>& temperature, F f) {
    if constexpr (kEmulatedFma) {  // where speed is lost already: one instance
        f(Reference<T, Range::any, N>(maximum, temperature));
    } else {
        const bool scaled = temperature.value != 1 || temperature.inverse_low != 0;
        if (scaled || any(less(splat<Vec<T, N>>(kFar<T>), abs(maximum))))
            f(Reference<T, Range::any, N>(maximum, temperature));
        else f(Reference<T, Range::near, N>(maximum, temperature));
    }
}

/// What is known of W rows, one in each lane. sum: of the exponentials in units of the reference, without those of the maxima
/// where Op::kOthers; maxima: their number, then.
template <class T>
struct Stats {
    V<T> maximum;
    Pair<V<T>> largest;  ///< the maximum's exponential, where Op::kOthers
    Pair<V<T>> sum;
    V<T> maxima;
    const T* tile = nullptr;  ///< where the rows lie across the vectors: element i at tile + i * pitch
    std::int64_t pitch = 0;
};

/// The accumulator of one class.
template <class V, bool Others, bool Careful>
struct ClassSum {
    using Sum = Select<Careful, CarefulSum<V>, ExpSum<V>>;
    using I = decltype(as_int(V()));
    Sum sum;
    I maxima = splat<I>(0);

    /// Adds e, the exponential of x.
    SOFTLOSS_INLINE void add(const V& x, const V& maximum, const ExpParts<V>& e) {
        if constexpr (Others) {
            const auto is_max = equal(x, maximum);
            sum.add({select(is_max, splat<V>(0), e.scale), e.fraction});
            maxima = maxima - is_max;
        } else {
            sum.add(e);
        }
    }
    /// The same for the first `valid` lanes alone.
    SOFTLOSS_INLINE void add_first(const V& x, const V& maximum, const ExpParts<V>& e, int valid) {
        auto inside = first_lanes<I>(valid);
        if constexpr (Others) {
            const auto is_max = equal(x, maximum) & inside;
            maxima = maxima - is_max;
            inside = inside - is_max;  // -1 - -1 = 0
        }
        sum.add({select(inside, e.scale, splat<V>(0)), select(inside, e.fraction, splat<V>(0))});
    }
};

/// Others below this are summed again by CarefulSum: ExpSum's error is relative to kUnit.
template <class T>
constexpr T kSmallOthers = kUnit<T> / 16;

/// NaN in every lane: one bit pattern for every way a NaN can arise.
template <class T>
SOFTLOSS_INLINE V<T> nans() {
    return splat<V<T>>(static_cast<T>(__builtin_nanf("")));
}
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> canonical(Vec<T, N> y) {
    return select(equal(y, y), y, splat<Vec<T, N>>(static_cast<T>(__builtin_nanf(""))));
}

/// Calls put(i, valid) for the vectors of a row of n elements. One copy of `put` serves for all where they are few, or where fma
/// is emulated: speed is lost already.
template <int W, bool Few = kEmulatedFma, class Put>
SOFTLOSS_INLINE void for_each_vector(std::int64_t n, Put put) {
    std::int64_t i = 0;
    if constexpr (Few) {
        for (; i < n; i += W) put(i, n - i < W ? static_cast<int>(n - i) : W);
    } else {
        for (; i + W <= n; i += W) put(i, W);
        if (i < n) put(i, static_cast<int>(n - i));
    }
}

// ---- rows along the vectors -----------------------------------------------------------------------------------

template <class S>
SOFTLOSS_INLINE V<Compute<S>> load_some(const S* x, int valid) {
    constexpr int W = kLanes<Compute<S>>;
    return valid == W ? from_storage<W>(x) : load_first<W>(x, valid);
}
template <class S>
SOFTLOSS_INLINE void store_some(S* y, V<Compute<S>> v, int valid) {
    if (valid == kLanes<Compute<S>>) to_storage(y, v);
    else store_first(y, v, valid);
}

/// The elements of a line of 64 bytes, and how many of y lie before its first whole line.
template <class S>
constexpr std::int64_t kLine = 64 / sizeof(S);
template <class S>
SOFTLOSS_INLINE std::int64_t before_line(const S* y) {
    return static_cast<std::int64_t>(-reinterpret_cast<std::uintptr_t>(y) % 64 / sizeof(S));
}

/// x: (n) adjacent elements, n >= W -> lanes of which the largest is the row's.
template <class S>
SOFTLOSS_INLINE V<Compute<S>> row_max(const S* x, std::int64_t n) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    V<T> m0 = from_storage<W>(x), m1 = m0, m2 = m0, m3 = m0;
    std::int64_t i = before_line(x) % W;  // a load from two lines takes the time of two
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

/// Whether the exponentials of n elements are kept.
template <class T>
constexpr bool fits_stash(std::int64_t n) {
    return n <= kStashBytes / static_cast<std::int64_t>(sizeof(T));
}

/// Elements of the rows whose passes go in turn: they and their exponentials fit into the first cache.
constexpr std::int64_t kTogether = 4096;

/// The sums of a row's classes: of all exponentials or without those of the maxima, and the number of these.
template <class T>
struct RowSum {
    Pair<V<T>> sum;
    IntVec<T, kLanes<T>> maxima;
};

/// What else is done at each vector of a row whose sum is formed: nothing, so that several vectors can go side by side.
struct NoWriters {
    static constexpr int kInStep = softloss::kInStep;
    SOFTLOSS_INLINE NoWriters operator[](int) const { return {}; }
    SOFTLOSS_INLINE void operator()(std::int64_t) const {}
};

/// x: (n) adjacent elements. Exponentials are left in stash (n, padded) where there is one, the totals of the chunks in
/// `totals` if it is wanted. `next` and `out`: what is read and written later, fetched into the second cache meanwhile (the
/// first is full of what is in hand).
template <bool Others, bool Careful, class S, class T, Range R, class Writer = NoWriters>
SOFTLOSS_INLINE RowSum<T> row_sum(const S* x, std::int64_t n, Reference<T, R> ref, T* stash, const char* next,
                                  const char* out, const Writer& writer = {}, Pair<V<T>>* totals = nullptr) {
    constexpr int W = kLanes<T>, K = Writer::kInStep;
    Pair<V<T>> all = splat_pair<V<T>>(0, 0);
    auto maxima = splat<IntVec<T, W>>(0);
    const auto beside = [&](std::int64_t i) SOFTLOSS_LAMBDA {
        prefetch(next + i * sizeof(S), true);
        prefetch(out + i * sizeof(S), true);
        writer(i);
    };
    for (std::int64_t chunk = 0; chunk < n; chunk += kChunk<T>) {
        const std::int64_t end = chunk + kChunk<T> < n ? chunk + kChunk<T> : n;
        ClassSum<V<T>, Others, Careful> sum;
        std::int64_t first = chunk;
        if constexpr (K > 1) {
            for (; first + K * W <= end; first += K * W) {
                const auto v = from_storage<K * W>(x + first);
                const auto e = ref.exp(v);
                in_turn<W>([&](V<T> x, V<T> scale, V<T> fraction)
                               SOFTLOSS_LAMBDA { sum.add(x, ref.maximum, {scale, fraction}); },
                           v, e.scale, e.fraction);
                unrolled<K>([&](int k) SOFTLOSS_LAMBDA { beside(first + k * W); });
                if (stash) store(stash + first, e.value());
            }
        }
        for_each_vector<W, (K > 1 || kEmulatedFma)>(end - first,
                                                    [&](std::int64_t at, int valid) SOFTLOSS_LAMBDA {
                                                        const std::int64_t i = first + at;
                                                        const V<T> v = load_some(x + i, valid);
                                                        const auto e = ref.exp(v);
                                                        if (valid == W) sum.add(v, ref.maximum, e);
                                                        else sum.add_first(v, ref.maximum, e, valid);
                                                        if (stash) store(stash + i, e.value());
                                                        beside(i);
                                                    });
        const auto total = sum.sum.total();
        all = chunk == 0 ? total : all + total;
        if (totals) *totals++ = total;
        maxima = maxima + sum.maxima;
    }
    return {all, maxima};
}
template <class S, class T, Range R>
[[gnu::noinline]] RowSum<T> careful_row_sum(const S* x, std::int64_t n, const Reference<T, R>& ref,
                                            Pair<V<T>>* totals = nullptr) {
    const char* const here = reinterpret_cast<const char*>(x);
    return row_sum<true, true>(x, n, ref, static_cast<T*>(nullptr), here, here, {}, totals);
}

/// What is known of a part of a row: the totals of its chunks, which are added in the row's order.
template <class T>
struct PartSums {
    static constexpr std::int64_t kChunks =
        2048;  ///< of a part at a time; the row's last part may have one more
    V<T> maximum;
    IntVec<T, kLanes<T>> maxima;
    Pair<V<T>> total[kChunks + 1];
};

/// A whole line of results, past the caches.
template <class S, class From, class Finish>
SOFTLOSS_INLINE void stream_line(const From* from, S* y, Finish finish) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    if constexpr (kLine<S> == W) {
        stream(y, finish(from_storage<W>(from)));
    } else {
        // In the pieces in which halves are stored: a load of several waits until they have left for the cache.
        using Piece = Vec<T, kRegisterBytes / 2 / static_cast<int>(sizeof(T))>;
        constexpr int lanes = sizeof(Piece) / sizeof(S);
        S line[kLine<S>];
        for (int k = 0; k < kLine<S>; k += W) to_storage(line + k, finish(from_storage<W>(from + k)));
        for (int k = 0; k < kLine<S>; k += lanes)
            stream(reinterpret_cast<T*>(y + k), load<Piece>(reinterpret_cast<const T*>(line + k)));
    }
}

/// A line that rows share, until it is whole: a part that goes through the caches would take its neighbours along. A vector of
/// results is a line.
template <class S>
struct SharedLine {
    S line[kLine<S>];
    S* to = nullptr;  ///< where it begins
    std::int64_t held = 0;

    /// What is held, as it is.
    [[gnu::noinline]] void flush() {
        if (held > 0) __builtin_memcpy(to, line, held * sizeof(S));
        held = 0;
    }
    /// What of a row at y, finish(from[0]) and so on, lies before its first whole line; finish(vector, element of its first lane).
    /// `joined`: what lies before `from` may be read.
    template <class Finish>
    SOFTLOSS_INLINE void begin(S* y, const S* from, bool joined, Finish finish) {
        using L = Vec<S, kLine<S>>;
        if (held == 0 && before_line(y) == 0) return;
        const bool whole = held > 0 && joined && to + held == y;
        const std::int64_t first = whole ? -held : 0;
        const L v = finish(load<L>(from + first), first);
        if (!whole) return begin_alone(y, v);
        const auto before = first_lanes<IntVec<S, kLine<S>>>(static_cast<int>(held));
        stream(to, select(before, load<L>(line), v));
        held = 0;
    }
    [[gnu::noinline]] void begin_alone(S* y, Vec<S, kLine<S>> v) {
        flush();
        if (const int head = static_cast<int>(before_line(y)); head > 0) store_first(y, v, head);
    }
    /// What lies behind its last one: the first n of v.
    SOFTLOSS_INLINE void end(S* y, Vec<S, kLine<S>> v, std::int64_t n) {
        store(line, v);
        to = y;
        held = n;
    }
};

/// y[i] = finish(from[i]) for n adjacent elements, in whole lines of 64 bytes; past the caches where stream_, then with the line
/// that it shares with the row before, if that is the last that `shared` has seen and is `joined`.
template <class S, class From, class Finish>
SOFTLOSS_INLINE void write_row(const From* from, S* y, std::int64_t n, bool stream_, SharedLine<S>& shared,
                               bool joined, Finish finish) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    std::int64_t i = 0;
    const auto put = [&](std::int64_t at, int valid) SOFTLOSS_LAMBDA {
        store_some(y + at, finish(valid == W ? from_storage<W>(from + at) : load_first<W>(from + at, valid)),
                   valid);
    };
    const std::int64_t head = before_line(y);
    const bool lines =
        !kEmulatedFma && n >= 2 * kLine<S> && reinterpret_cast<std::uintptr_t>(y) % sizeof(S) == 0;
    if (lines && stream_) {
        if constexpr (kLine<S> == W)
            shared.begin(y, from, joined, [&](V<T> v, std::int64_t) SOFTLOSS_LAMBDA { return finish(v); });
        else for_each_vector<W>(head, put);  // nothing of a line that goes past the caches may be in them
        for (i = head; i + kLine<S> <= n; i += kLine<S>) stream_line(from + i, y + i, finish);
        if constexpr (kLine<S> == W)
            return shared.end(y + i, finish(load_first<W>(from + i, static_cast<int>(n - i))), n - i);
    } else if (lines && static_cast<const void*>(from) != static_cast<const void*>(y)) {
        for (; i < kLine<S>; i += W)
            put(i, W);  // a line as it lies; what it shares with the next is made twice
        i = head == 0 ? kLine<S> : head;
    }
    for_each_vector<W>(n - i, [&](std::int64_t at, int valid) SOFTLOSS_LAMBDA { put(i + at, valid); });
}

template <class S>
[[gnu::noinline]] void fill_row(S* y, std::int64_t n, V<Compute<S>> value) {
    for_each_vector<kLanes<Compute<S>>>(
        n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA { store_some(y + i, value, valid); });
}

/// The maxima of up to `together` <= W rows along the vectors from `first` on, one in each lane; 0 in lanes without a row.
template <class S>
[[gnu::noinline]] V<Compute<S>> rows_max(RowsIn x, std::int64_t first, std::int64_t rows, int together,
                                         std::int64_t n) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    if (first >= rows) return splat<V<T>>(0);
    V<T> maximum[W];
    for (int r = 0; r < W; ++r) maximum[r] = splat<V<T>>(0);
    for (int r = 0; r < together && first + r < rows; ++r)
        maximum[r] = row_max(reinterpret_cast<const S*>(x.data + (first + r) * x.row), n);
    return fold_max<T>(maximum) + splat<V<T>>(0);
}

/// The statistics of `count` <= W rows along the vectors with these maxima, one in each lane; exponentials of row r at
/// stash + r * pitch where there is a stash. The passes go over all rows in turn, so that what a row waits for is computed while
/// others are read. With `part`, the only row is a part of one: its sums are left there, and no statistics.
template <bool Others, class S, class Writers = NoWriters>
[[gnu::noinline]] void rows_stats(RowsIn x, int count, std::int64_t n, V<Compute<S>> maximum,
                                  const Temperature<Compute<S>>& temperature, Compute<S>* stash,
                                  std::int64_t pitch, Stats<Compute<S>>& stats, const char* next, RowsOut out,
                                  const Writers& writers = {}, PartSums<Compute<S>>* part = nullptr) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    const auto row = [&](int r) SOFTLOSS_LAMBDA { return reinterpret_cast<const S*>(x.data + r * x.row); };
    Pair<V<T>> sum[W];
    IntVec<T, W> maxima[W];
    for (int r = count; r < W; ++r) {
        sum[r] = splat_pair<V<T>>(0, 0);
        maxima[r] = splat<IntVec<T, W>>(0);
    }
    with_reference<T>(maximum, temperature, [&](const auto& all) SOFTLOSS_LAMBDA {
        using Ref = Plain<decltype(all)>;
        for (int r = 0; r < count; ++r) {
            const auto s = row_sum<Others, false>(row(r), n, Ref(all, r), stash ? stash + r * pitch : stash,
                                                  next + r * x.row, out.data + r * out.row, writers[r],
                                                  part ? part->total : nullptr);
            sum[r] = s.sum;
            maxima[r] = s.maxima;
        }
        if (part) {
            part->maxima = maxima[0];
            return;
        }
        stats.sum = fold_sums<T>(sum);
        stats.maximum = all.maximum;
        if constexpr (Others) {
            stats.largest = all.exp(all.maximum).pair();
            stats.maxima = fold_counts<T>(maxima);
            // A NaN counts as small, but not a row that isn't there.
            using I = IntVec<T, W>;
            const auto enough = equal(max(splat<V<T>>(kSmallOthers<T>), stats.sum.hi), stats.sum.hi);
            if (!any(select(enough, splat<I>(0), first_lanes<I>(count)))) return;
            T hi[W], lo[W];
            store(hi, stats.sum.hi);
            store(lo, stats.sum.lo);
            for (int r = 0; r < count; ++r) {
                if (kSmallOthers<T> <= hi[r]) continue;
                const auto s = careful_row_sum(row(r), n, Ref(all, r));
                const auto folded = fold_lanes(s.sum);
                hi[r] = folded.hi;
                lo[r] = folded.lo;
            }
            stats.sum = {load<V<T>>(hi), load<V<T>>(lo)};
        }
    });
}

/// e = exp(x) in units of the reference that belongs to the maximum.
template <class S>
[[gnu::noinline]] void exp_values(const S* x, std::int64_t n, V<Compute<S>> maximum,
                                  const Temperature<Compute<S>>& temperature, Compute<S>* e) {
    using T = Compute<S>;
    with_reference<T>(maximum, temperature, [&](const auto& ref) SOFTLOSS_LAMBDA {
        for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            store_some(e + i, ref.exp(load_some(x + i, valid)).value(), valid);
        });
    });
}

/// y[i] = finish(e[i]) for the exponentials of n adjacent elements, which are too many to be kept: made once more for whole
/// lines, and in `memory` for what lies before and behind them.
template <class S, class T, class Finish>
SOFTLOSS_INLINE void write_exponentials(const S* x, S* y, std::int64_t n, bool stream_, V<T> maximum,
                                        const Temperature<T>& temperature, T* memory, Finish finish) {
    constexpr int W = kLanes<T>;
    const bool aligned = reinterpret_cast<std::uintptr_t>(y) % sizeof(S) == 0;
    const std::int64_t head = aligned ? before_line(y) : 0, last = head + (n - head) / kLine<S> * kLine<S>;
    for (const bool behind : {false, true}) {
        const std::int64_t from = behind ? last : 0, count = behind ? n - last : head;
        exp_values(x + from, count, maximum, temperature, memory);
        // Less than a line: write_row, which knows of lines, would be many times the code.
        for (std::int64_t i = 0; i < count; i += W)
            store_some(y + from + i, finish(load<V<T>>(memory + i)),
                       count - i < W ? static_cast<int>(count - i) : W);
    }
    with_reference<T>(maximum, temperature, [&](const auto& ref) SOFTLOSS_LAMBDA {
        const auto f = [&finish, ref](V<T> v) SOFTLOSS_LAMBDA { return finish(ref.exp(v).value()); };
        if (stream_ && aligned) {
            for (std::int64_t i = head; i < last; i += kLine<S>) stream_line(x + i, y + i, f);
        } else {
            for (std::int64_t i = head; i < last; i += W) to_storage(y + i, f(from_storage<W>(x + i)));
        }
    });
}

/// Rows of exponentials, `pitch` apart, which are written past the caches, line by line, while others are summed: a row at a
/// time, memory and arithmetic would wait for each other. Where Labels, the result at `label` of each row is another.
template <class S, class Finish, bool Labels>
struct LineWriters {
    static_assert(kLine<S> == kLanes<S>, "a vector of results is a line");
    const Finish& finish;
    std::int64_t pitch, n;
    const S* from;
    RowsOut y;
    const std::int64_t* label = nullptr;
    const S* at_label = nullptr;
    int count = 0;

    struct Row {
        static constexpr int kInStep = 1;  // a line at a time
        const S* from;
        S* y;
        std::int64_t n, head, label;
        S at_label;
        Plain<decltype(Finish().row(0))> finish;

        /// The line that belongs to vector i = 0, W, 2 W, ..., but for the label.
        SOFTLOSS_INLINE void operator()(std::int64_t i) const {
            if (head + i + kLine<S> <= n) stream_line(from + head + i, y + head + i, finish);
        }
        /// Results of the elements from `first` on, that of the label among them. No label, -1, falls before the row.
        SOFTLOSS_INLINE V<S> labelled(V<S> e, std::int64_t first) const {
            if constexpr (Labels) {
                using I = IntVec<S, kLanes<S>>;
                const auto lane = splat<I>(static_cast<typename IntOf<S>::type>(label - first));
                return select(equal(iota<I>(), lane), splat<V<S>>(at_label), finish(e));
            } else {
                return finish(e);
            }
        }
        /// What lies before and behind the lines, and the label's line once more; the exponentials go on behind the row, as far
        /// as a vector does.
        SOFTLOSS_INLINE void ends(SharedLine<S>& shared) const {
            const std::int64_t last = head + (n - head) / kLine<S> * kLine<S>;
            shared.begin(y, from, true,
                         [&](V<S> e, std::int64_t first) SOFTLOSS_LAMBDA { return labelled(e, first); });
            shared.end(y + last, labelled(load<V<S>>(from + last), last), n - last);
            if (Labels && head <= label && label < last) {
                const std::int64_t first = label - (label - head) % kLine<S>;
                stream(y + first, labelled(load<V<S>>(from + first), first));
            }
        }
    };
    SOFTLOSS_INLINE Row operator[](int r) const {
        S* const row = reinterpret_cast<S*>(y.data + r * y.row);
        const bool labels = Labels && r < count;
        return {from + r * pitch,       row,
                r < count ? n : 0,      before_line(row),
                labels ? label[r] : -1, labels ? at_label[r] : S(0),
                finish.row(r)};
    }
};

/// x, y: (rows, n) along the vectors, streamed, `together` at a time: written while the sums of the next are formed.
template <class S, class Op>
[[gnu::noinline]] void rows_overlapped(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, int together,
                                       std::int64_t pitch, const RowOptions& options, Op& op) {
    using T = Compute<S>;
    const Temperature<T> temperature(options.temperature);
    T* const stash =
        static_cast<T*>(options.scratch) + kLanes<T>;  // what lies before may be read by SharedLine
    Stats<T> stats;
    typename Op::Finish finish;
    LineWriters<S, typename Op::Finish, Op::kLabels> writers{finish, pitch, n, stash, y};
    SharedLine<S> shared;
    const auto write = [&](int r) __attribute__((noinline)) {  // seldom called
        const auto row = writers[r];
        if (row.finish.invalid) return fill_row(row.y, n, row.finish.mended(nans<T>()));
        for (std::int64_t i = 0; i < n; i += kLine<S>) row(i);
        row.ends(shared);
    };
    V<T> maximum = rows_max<S>(x, 0, rows, together, n);
    for (std::int64_t first = 0; first < rows; first += together) {
        const int count = static_cast<int>(rows - first < together ? rows - first : together);
        T* const exps = stash + first / together % 2 * together * pitch;
        char* const next =
            const_cast<char*>(x.data) + (first + 2 * together <= rows ? first + together : first) * x.row;
        rows_stats<Op::kOthers, S>({x.data + first * x.row, x.row, x.axis}, count, n, maximum, temperature,
                                   exps, pitch, stats, next, {next, x.row, x.axis}, writers);
        maximum = rows_max<S>(x, first + together, rows, together, n);
        for (int r = 0; r < writers.count; ++r) {
            if (r < count) writers[r].ends(shared);
            else write(r);
        }
        op.finish(stats, first, count, finish);
        if constexpr (Op::kLabels) {
            writers.label = op.label(first);
            writers.at_label = op.at_label;
        }
        writers.from = exps;
        writers.y = {y.data + first * y.row, y.row, y.axis};
        writers.count = count;
        if (finish.invalid) {
            for (int r = 0; r < count; ++r) write(r);
            writers.count = 0;
        }
    }
    for (int r = 0; r < writers.count; ++r) write(r);
    shared.flush();
}

/// Bytes of the shortest row worth to be streamed where its ends, or what is put in afterwards, go through the caches.
constexpr std::int64_t kStreamedRow = 768;

/// y (and second) of `count` rows along the vectors from x, or from their exponentials in stash (count, pitch) where these are
/// `stashed`; else stash is memory for less than a line of them.
template <class S, class Op>
[[gnu::noinline]] void write_rows(RowsIn x, RowsOut y, RowsOut second, int count, std::int64_t n,
                                  const typename Op::Finish& finishes, const V<Compute<S>>& maximum,
                                  const Temperature<Compute<S>>& temperature, Compute<S>* stash,
                                  std::int64_t pitch, bool stashed, bool streamed, SharedLine<S>* shared) {
    using T = Compute<S>;
    for (int r = 0; r < count; ++r) {
        const auto finish = finishes.row(r);
        const S* const xr = reinterpret_cast<const S*>(x.data + r * x.row);
        for (int k = Op::kResults; k-- > 0;) {
            const bool other = k == 1;
            const RowsOut& to = other ? second : y;
            S* const yr = reinterpret_cast<S*>(to.data + r * to.row);
            const auto f = [&](V<T> v) SOFTLOSS_LAMBDA {
                if constexpr (Op::kResults == 2) {
                    if (other) return finish.second(v);
                }
                return finish(v);
            };
            const auto mended = [&](V<T> v) SOFTLOSS_LAMBDA {
                if constexpr (Op::kResults == 2) {
                    if (other) return finish.mended_second(v);
                }
                return finish.mended(v);
            };
            if (finish.invalid) {
                fill_row(yr, n, mended(nans<T>()));
            } else if constexpr (!Op::kExp) {
                write_row(xr, yr, n, streamed, shared[k], x.row == n * std::int64_t{sizeof(S)}, f);
            } else if (stashed) {
                write_row(stash + r * pitch, yr, n, streamed, shared[k], true, f);
            } else {
                write_exponentials(xr, yr, n, streamed, spread(maximum, r), temperature, stash, f);
            }
        }
    }
}

/// x, y (and second): (rows, n) along the vectors.
template <class S, class Op>
SOFTLOSS_INLINE void rows_along(RowsIn x, RowsOut y, RowsOut second, std::int64_t rows, std::int64_t n,
                                const RowOptions& options, Op& op) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    const Temperature<T> temperature(options.temperature);
    T* const stash =
        static_cast<T*>(options.scratch) + kLanes<T>;  // what lies before may be read by SharedLine
    const std::int64_t bytes = n * std::int64_t{sizeof(S)};
    const bool stashed = Op::kExp && fits_stash<T>(n);
    // Halves are so little to write that it gains nothing.
    constexpr bool kOverlaps = Op::kExp && Op::kResults == 1 && !kEmulatedFma && sizeof(S) == sizeof(T);
    const bool overlaps =
        kOverlaps && stashed && (reinterpret_cast<std::uintptr_t>(y.data) | y.row) % sizeof(S) == 0;
    // Every line is whole: its rows are joined by SharedLine, or need not be.
    const bool whole = (y.row == bytes && kLine<S> == W) ||
                       (reinterpret_cast<std::uintptr_t>(y.data) | y.row | bytes) % 64 == 0;
    const bool streamed = options.stream && (bytes >= kStreamedRow || (whole && (!Op::kLabels || overlaps)));
    const std::int64_t pitch =
        ((n + W - 1) / W | 1) * W;  // odd: rows apart by a power of two share a part of the cache
    const int together = n > kTogether ? 1 : static_cast<int>(kTogether / n < W ? kTogether / n : W);
    if constexpr (kOverlaps) {
        if (streamed && overlaps) return rows_overlapped<S>(x, y, rows, n, together, pitch, options, op);
    }
    // The maxima of the next group come before this one is written, unless rows are long: to read the next one would drive
    // this one out of the caches. Where groups are small, what is fetched into the second cache is the group after that.
    const bool early = Op::kResults == 0 || n <= kTogether;
    const int lead = together == W ? 2 : 1;
    SharedLine<S> shared[2];  // of the results
    const auto flush = [&]() SOFTLOSS_LAMBDA {
        for (SharedLine<S>& line : shared) line.flush();
    };
    V<T> maximum = rows_max<S>(x, 0, rows, together, n);
    for (std::int64_t first = 0; first < rows; first += together) {
        const int count = static_cast<int>(rows - first < together ? rows - first : together);
        const auto from = [&](auto to) SOFTLOSS_LAMBDA {
            to.data += first * to.row;
            return to;
        };
        const std::int64_t ahead = first + lead * together;
        const char* const next = x.data + (ahead + together <= rows ? ahead : first) * x.row;
        // What is streamed, or not there, need not be fetched.
        const RowsOut out =
            Op::kResults > 0 && !streamed ? from(y) : RowsOut{const_cast<char*>(next), x.row, x.axis};
        Stats<T> stats;
        rows_stats<Op::kOthers, S>(from(x), count, n, maximum, temperature, stashed ? stash : nullptr, pitch,
                                   stats, next, out);
        typename Op::Finish finishes;
        op.finish(stats, first, count, finishes);
        if (early) maximum = rows_max<S>(x, first + together, rows, together, n);
        if constexpr (Op::kResults > 0)
            write_rows<S, Op>(from(x), from(y), from(second), count, n, finishes, stats.maximum, temperature,
                              stash, pitch, stashed, streamed, shared);
        if constexpr (Op::kLabels) {
            flush();
            op.after(first, count);
        }
        if (!early) maximum = rows_max<S>(x, first + together, rows, together, n);
    }
    flush();
}

// ---- rows across the vectors ----------------------------------------------------------------------------------

/// Whether elements `step` bytes apart share a small part of the caches: fetched long before their use, they would drive one
/// another out.
constexpr bool crowded(std::int64_t step) {
    return step % 2048 == 0;
}
/// How many elements before its use the next part of a column of lines is fetched.
constexpr std::int64_t kLead = 12;

/// Up to W * kMaxGroups rows share a tile: vector i of group g, at tile + i * pitch + g * W, holds element i of rows
/// g W ... g W + W - 1 of the tile.
constexpr int kMaxGroups = 16;

/// x: (rows, n), rows adjacent -> tile, and the maxima of each W rows, which are formed on the way.
template <class S>
[[gnu::noinline]] void load_lines(const RowsIn& x, int rows, std::int64_t n, Compute<S>* tile,
                                  std::int64_t pitch, V<Compute<S>>* maxima) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>, Many = kEmulatedFma ? 1 : kRegisterBytes / 8;  // half of the registers
    const auto columns = [&]<int K>(std::int64_t r, int valid) SOFTLOSS_LAMBDA {
        V<T> m[K];
        for (std::int64_t i = 0; i < n; ++i) {
            const S* const xi = reinterpret_cast<const S*>(x.data + i * x.axis) + r;
            const char* const ahead = x.data + (i + kLead < n ? i + kLead : i) * x.axis + r * sizeof(S);
            T* const to = tile + i * pitch + r;
            unrolled<K>([&](int k) SOFTLOSS_LAMBDA {
                prefetch(ahead + k * W * sizeof(S));
                const V<T> v = load_some(xi + k * W, valid);
                store(to + k * W, v);
                m[k] = i == 0 ? v : max(m[k], v);
            });
        }
        unrolled<K>([&](int k) SOFTLOSS_LAMBDA { maxima[r / W + k] = m[k] + splat<V<T>>(0); });
    };
    std::int64_t r = 0;
    for (; r + Many * W <= rows; r += Many * W) columns.template operator()<Many>(r, W);
    for (; r < rows; r += W) columns.template operator()<1>(r, rows - r < W ? static_cast<int>(rows - r) : W);
}

/// Rows of 2 to so many adjacent elements are taken apart, and put together, by shuffles of whole vectors.
template <class S>
constexpr std::int64_t kFew = sizeof(S) == 4 && !kEmulatedFma ? 3 : 0;
/// Calls f.operator()<n>() for such rows; false for others.
template <class S, class F>
SOFTLOSS_INLINE bool with_few(std::int64_t n, const F& f) {
    if constexpr (kFew<S> > 0) {
        if (n == 2) return f.template operator()<2>(), true;
        if (n == 3) return f.template operator()<3>(), true;
    }
    return false;
}

/// x: up to W rows of n -> n vectors, `pitch` apart; lanes without a row repeat the first. `flat` has room for W rows of
/// kShortRow elements and one vector. `more`: rows follow these, so that a few elements beyond them may be read.
template <class S>
[[gnu::noinline]] void load_tile(const RowsIn& x, int rows, std::int64_t n, Compute<S>* tile,
                                 std::int64_t pitch, Compute<S>* flat, bool more) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>, P = kColumns<T>;
    if (rows == 1) {
        for (std::int64_t i = 0; i < n; ++i)
            store(tile + i * pitch,
                  splat<V<T>>(first(load_first<W>(reinterpret_cast<const S*>(x.data + i * x.axis), 1))));
        return;
    }
    if (x.axis != sizeof(S) || n >= kShortRow) {
        for (std::int64_t i = 0; i < n; ++i) {
            S lanes[W];
            for (int r = 0; r < W; ++r)
                __builtin_memcpy(&lanes[r], x.data + i * x.axis + (r < rows ? r : 0) * x.row, sizeof(S));
            store(tile + i * pitch, from_storage<W>(lanes));
        }
        return;
    }
    const T* source = reinterpret_cast<const T*>(x.data);
    std::int64_t row = x.row / std::int64_t{sizeof(S)};
    const bool adjacent_rows = x.row == n * std::int64_t{sizeof(S)};
    const bool wide_enough = n >= P || (more && adjacent_rows);
    if (sizeof(S) != sizeof(T) || x.row % std::int64_t{sizeof(S)} != 0 || rows < W || !wide_enough) {
        if (adjacent_rows) {
            const S* const adjacent = reinterpret_cast<const S*>(x.data);
            for_each_vector<W>(rows * n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
                store(flat + i, load_some(adjacent + i, valid));
            });
        } else {
            for (int r = 0; r < rows; ++r) {
                const S* const xr = reinterpret_cast<const S*>(x.data + r * x.row);
                for_each_vector<W>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
                    store_some(flat + r * n + i, load_some(xr + i, valid), valid);
                });
            }
        }
        for (std::int64_t r = rows; r < W; ++r)
            for (std::int64_t i = 0; i < n; ++i) flat[r * n + i] = flat[i];
        source = flat;
        row = n;
    }
    if (row == n && with_few<S>(n, [&]<int C>() SOFTLOSS_LAMBDA {
            V<T> columns[C];
            load_short_rows(source, columns);
            unrolled<C>([&](int c) SOFTLOSS_LAMBDA { store(tile + c * pitch, columns[c]); });
        }))
        return;
    // P columns at a time; the last P overlap those before, or (n < P) what follows the rows.
    V<T> columns[P];
    for (std::int64_t i = 0; i < n; i += P) {
        const std::int64_t first = i + P <= n || n < P ? i : n - P;
        load_columns(source + first, row, columns);
        unrolled<P>([&](int c) SOFTLOSS_LAMBDA {
            if (first + c < n) store(tile + (first + c) * pitch, columns[c]);
        });
    }
}

/// The reverse. Adjacent elements of short rows are put together in `flat` where a store would touch what follows.
template <class S>
[[gnu::noinline]] void store_tile(const Compute<S>* tile, std::int64_t pitch, const RowsOut& y, int rows,
                                  std::int64_t n, Compute<S>* flat) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>, P = kColumns<T>;
    if (y.row == sizeof(S)) {
        for (std::int64_t i = 0; i < n; ++i) {
            S* const yi = reinterpret_cast<S*>(y.data + i * y.axis);
            const char* const ahead = y.data + (i + kLead < n ? i + kLead : i) * y.axis;
            const T* const from = tile + i * pitch;
            for_each_vector<W>(rows, [&](std::int64_t r, int valid) SOFTLOSS_LAMBDA {
                prefetch(ahead + r * sizeof(S));
                store_some(yi + r, load<V<T>>(from + r), valid);
            });
        }
        return;
    }
    if (rows == 1) {
        for (std::int64_t i = 0; i < n; ++i)
            store_first(reinterpret_cast<S*>(y.data + i * y.axis), load<V<T>>(tile + i * pitch), 1);
        return;
    }
    if (y.axis != sizeof(S) || n >= kShortRow || rows > W) {
        for (std::int64_t i = 0; i < n; ++i) {
            for (int g = 0; g < rows; g += W) {
                S lanes[W];
                to_storage(lanes, load<V<T>>(tile + i * pitch + g));
                for (int r = g; r < rows && r < g + W; ++r)
                    __builtin_memcpy(y.data + i * y.axis + r * y.row, &lanes[r - g], sizeof(S));
            }
        }
        return;
    }
    S* const adjacent = reinterpret_cast<S*>(y.data);
    const bool adjacent_rows = y.row == n * std::int64_t{sizeof(S)},
               direct = sizeof(S) == sizeof(T) && adjacent_rows && rows == W;
    const bool few = with_few<S>(n, [&]<int C>() SOFTLOSS_LAMBDA {
        V<T> columns[C];
        unrolled<C>([&](int c) SOFTLOSS_LAMBDA { columns[c] = load<V<T>>(tile + c * pitch); });
        store_short_rows(direct ? reinterpret_cast<T*>(adjacent) : flat, columns);
    });
    if (few && direct) return;
    V<T> columns[P];
    for (std::int64_t i = 0; i < n && !few; i += P) {
        const std::int64_t first = i + P <= n || n < P ? i : n - P;
        unrolled<P>([&](int c) SOFTLOSS_LAMBDA {
            columns[c] = load<V<T>>(tile + (first + c < n ? first + c : 0) * pitch);
        });
        store_columns(flat + first, n, columns);
    }
    if (adjacent_rows) {
        for_each_vector<W>(rows * n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            store_some(adjacent + i, load<V<T>>(flat + i), valid);
        });
        return;
    }
    for (int r = 0; r < rows; ++r) {
        S* const yr = reinterpret_cast<S*>(y.data + r * y.row);
        for_each_vector<W>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            store_some(yr + i, load<V<T>>(flat + r * n + i), valid);
        });
    }
}

/// Maximum of a tile's column of vectors.
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

/// Lines of memory that will be needed, in the order in which they are fetched: `lines` adjacent ones of each of `elements`,
/// `jump` bytes behind one another; then the last for ever.
struct Walk {
    const char* at;
    std::int64_t lines, jump, elements, left = lines;

    /// Nothing is needed.
    static Walk stay(const char* at) { return {at, 1, 0, 1}; }
    /// (rows, n), `size` bytes each: element by element where rows are adjacent, else as they lie one after the other.
    [[gnu::noinline]] static Walk over(const RowsIn& x, std::int64_t rows, std::int64_t n,
                                       std::int64_t size) {
        const bool columns = x.row == size,
                   whole = (reinterpret_cast<std::uintptr_t>(x.data) | x.axis) % 64 == 0;
        const std::int64_t elements = columns ? n : 1;
        const std::int64_t lines = (rows * n / elements * size + 63) / 64 + !whole;
        return {x.data, lines, x.axis - lines * 64, elements};
    }
    SOFTLOSS_INLINE void fetch() {
        prefetch(at);
        at += 64;
        if (--left > 0) return;
        const bool over = --elements <= 0;
        left = over ? 1 : lines;
        at += over ? -64 : jump;
    }
};
/// What is fetched while sums are formed, a line for each vector.
struct Ahead {
    Walk in, out;

    SOFTLOSS_INLINE void fetch() {
        in.fetch();
        out.fetch();
    }
};

/// Sums elements first, first + step, ... of the rows in the lanes: one class of each. Exponentials are left in stash (like
/// tile; maybe tile) where there is one.
template <bool Others, bool Careful, class T, Range R, int N>
SOFTLOSS_INLINE Pair<Vec<T, N>> class_sum(const T* tile, T* stash, std::int64_t pitch, std::int64_t first,
                                          std::int64_t end, std::int64_t step, const Reference<T, R, N>& ref,
                                          Ahead& ahead, IntVec<T, N>& maxima) {
    ClassSum<Vec<T, N>, Others, Careful> sum;
    for (std::int64_t i = first; i < end; i += step) {
        unrolled<N / kLanes<T>>([&](int) SOFTLOSS_LAMBDA { ahead.fetch(); });
        const auto x = load<Vec<T, N>>(tile + i * pitch);
        const auto e = ref.exp(x);
        sum.add(x, ref.maximum, e);
        if (stash) store(stash + i * pitch, e.value());
    }
    maxima = maxima + sum.maxima;
    return sum.sum.total();
}

/// Sums n >= kShortRow elements of W rows, class by class.
template <bool Others, bool Careful, class T, Range R>
SOFTLOSS_INLINE Pair<V<T>> tile_sum(const T* tile, T* stash, std::int64_t pitch, std::int64_t n,
                                    const Reference<T, R>& ref, Ahead& ahead, IntVec<T, kLanes<T>>& maxima) {
    constexpr int W = kLanes<T>;
    Pair<V<T>> classes[W];
    for (std::int64_t chunk = 0; chunk < n; chunk += kChunk<T>) {
        const std::int64_t end = n - chunk < kChunk<T> ? n : chunk + kChunk<T>;
        for (std::int64_t j = 0; j < W && chunk + j < end; ++j) {
            const auto total =
                class_sum<Others, Careful>(tile, stash, pitch, chunk + j, end, W, ref, ahead, maxima);
            classes[j] = chunk == 0 ? total : classes[j] + total;
        }
    }
    return fold_classes<T>(classes);
}

/// The statistics of rows shorter than kShortRow that lie in a tile, as many as the reference has lanes: W of them in each of
/// `stats`.
template <bool Others, class T, Range R, int N>
SOFTLOSS_INLINE void short_stats(const T* tile, T* stash, std::int64_t pitch, std::int64_t n,
                                 const Reference<T, R, N>& ref, Ahead& ahead, Stats<T>* stats) {
    using U = Vec<T, N>;
    auto count = splat<IntVec<T, N>>(0);
    // The few others may well be small: careful at once.
    const auto sum = class_sum<Others, Others>(tile, stash, pitch, 0, n, 1, ref, ahead, count);
    Pair<U> largest = splat_pair<U>(0, 0);
    if constexpr (Others) largest = ref.exp(ref.maximum).pair();
    in_turn<kLanes<T>>(
        [&](V<T> maximum, V<T> hi, V<T> lo, V<T> top, V<T> top_low, IntVec<T, kLanes<T>> count)
            SOFTLOSS_LAMBDA {
                *stats++ = {maximum, {top, top_low}, {hi, lo}, convert<T>(count), tile, pitch};
                tile += kLanes<T>;
            },
        ref.maximum, sum.hi, sum.lo, largest.hi, largest.lo, count);
}
/// The same for several W rows side by side, where they are of the usual kind; false where not.
template <bool Others, int N, class T>
[[gnu::noinline]] bool stats_in_step(const T* tile, T* stash, std::int64_t pitch, std::int64_t n,
                                     const V<T>* maxima, const Temperature<T>& temperature, Ahead& walk,
                                     Stats<T>* stats) {
    const auto maximum = load<Vec<T, N>>(reinterpret_cast<const T*>(maxima));
    if (any(less(splat<Vec<T, N>>(kFar<T>), abs(maximum)))) return false;
    Ahead ahead = walk;
    short_stats<Others>(tile, stash, pitch, n, Reference<T, Range::near, N>(maximum, temperature), ahead,
                        stats);
    walk = ahead;
    return true;
}

/// The statistics of W rows that lie in a tile.
template <bool Others, class T>
[[gnu::noinline]] void tile_stats(const T* tile, T* stash, std::int64_t pitch, std::int64_t n, V<T> maximum,
                                  const Temperature<T>& temperature, Ahead& walk, Stats<T>& stats) {
    Ahead ahead = walk;
    with_reference<T>(maximum, temperature, [&](const auto& ref) SOFTLOSS_LAMBDA {
        if (n < kShortRow) return short_stats<Others>(tile, stash, pitch, n, ref, ahead, &stats);
        auto maxima = splat<IntVec<T, kLanes<T>>>(0);
        stats.sum = tile_sum<Others, false>(tile, stash, pitch, n, ref, ahead, maxima);
        if constexpr (Others) {
            stats.maxima = convert<T>(maxima);
            const auto small = less(stats.sum.hi, splat<V<T>>(kSmallOthers<T>));
            if (any(small)) {
                const auto careful =
                    tile_sum<true, true>(tile, static_cast<T*>(nullptr), pitch, n, ref, ahead, maxima);
                stats.sum = {select(small, careful.hi, stats.sum.hi),
                             select(small, careful.lo, stats.sum.lo)};
            }
            stats.largest = ref.exp(ref.maximum).pair();
        }
        stats.maximum = ref.maximum;
    });
    stats.tile = tile;
    stats.pitch = pitch;
    walk = ahead;
}

/// How the elements of one storage type are read and written: what rows_across knows of it.
template <class T>
struct Storage {
    std::int64_t size;
    void (*load_lines)(const RowsIn&, int, std::int64_t, T*, std::int64_t, V<T>*);
    void (*load)(const RowsIn&, int, std::int64_t, T*, std::int64_t, T*, bool);
    void (*store)(const T*, std::int64_t, const RowsOut&, int, std::int64_t, T*);
    T (*load_one)(const char*);
    void (*store_one)(char*, T);
};
template <class S>
Compute<S> load_one(const char* p) {
    return first(load_first<kLanes<Compute<S>>>(reinterpret_cast<const S*>(p), 1));
}
template <class S>
void store_one(char* p, Compute<S> x) {
    store_first(reinterpret_cast<S*>(p), splat<V<Compute<S>>>(x), 1);
}
template <class S>
constexpr Storage<Compute<S>> kStorage{sizeof(S),     load_lines<S>, load_tile<S>,
                                       store_tile<S>, load_one<S>,   store_one<S>};

/// Rows of group g among `rows`.
template <class T>
SOFTLOSS_INLINE int rows_of_group(int rows, int g) {
    return rows - g * kLanes<T> < kLanes<T> ? rows - g * kLanes<T> : kLanes<T>;
}

/// y = finish(group, element, vector of the tile `from`), for all vectors; `to` is a tile that may be overwritten.
/// `more`: rows follow these and will be written, so that a few elements beyond these may be.
template <class T, class Finish>
SOFTLOSS_INLINE void write_tile(const Storage<T>& storage, const T* from, T* to, std::int64_t pitch,
                                RowsOut y, int rows, std::int64_t n, T* flat, bool more, bool stream_,
                                Finish finish) {
    constexpr int W = kLanes<T>, P = kColumns<T>;
    const bool native = storage.size == sizeof(T), in_line = y.row == storage.size;
    if (native && in_line) {
        for (std::int64_t i = 0; i < n; ++i) {
            T* const yi = reinterpret_cast<T*>(y.data + i * y.axis);
            const T* const xi = from + i * pitch;
            int g = 0;
            if (stream_) {
                for (; (g + 1) * W <= rows; ++g) stream(yi + g * W, finish(g, i, load<V<T>>(xi + g * W)));
            } else if (crowded(y.axis)) {
                const char* const ahead = y.data + (i + kLead < n ? i + kLead : i) * y.axis;
                for (int r = 0; r < rows; r += W) prefetch(ahead + r * sizeof(T));
            }
            for (; g * W < rows; ++g)
                store_some(yi + g * W, finish(g, i, load<V<T>>(xi + g * W)), rows_of_group<T>(rows, g));
        }
        return;
    }
    const bool columns_fit = native && y.axis == sizeof(T) && y.row % std::int64_t{sizeof(T)} == 0;
    const bool adjacent = y.row == n * std::int64_t{sizeof(T)};
    for (int g = 0; g * W < rows; ++g) {
        const int here = rows_of_group<T>(rows, g);
        const T* const tile = from + g * W;
        const RowsOut part{y.data + g * W * y.row, y.row, y.axis};
        if (columns_fit && here == W && n > kFew<T> &&
            (n >= P || (adjacent && (more || (g + 1) * W < rows)))) {
            // P columns at a time; the last P overlap those before, or (n < P) what follows the rows.
            V<T> columns[P];
            for (std::int64_t i = 0; i < n; i += P) {
                const std::int64_t first = i + P <= n || n < P ? i : n - P;
                unrolled<P>([&](int c) SOFTLOSS_LAMBDA {
                    const std::int64_t at = first + c < n ? first + c : 0;
                    columns[c] = finish(g, at, load<V<T>>(tile + at * pitch));
                });
                store_columns(reinterpret_cast<T*>(part.data) + first, y.row / std::int64_t{sizeof(T)},
                              columns);
            }
        } else {
            for (std::int64_t i = 0; i < n; ++i)
                store(to + i * pitch + g * W, finish(g, i, load<V<T>>(tile + i * pitch)));
            if (!in_line) storage.store(to + g * W, pitch, part, here, n, flat);
        }
    }
    if (in_line) storage.store(to, pitch, y, rows, n, flat);  // lines are written once
}

/// Groups of W rows in a tile: it fits into the second cache where the rows of an element are adjacent (so that much of
/// them is read at once, twice as much where they are crowded), else into the first.
template <class T>
SOFTLOSS_INLINE int groups_of_tile(const RowsIn& x, std::int64_t size, std::int64_t n) {
    std::int64_t groups = x.row == size ? (crowded(x.axis) ? 8192 : 4096) / n : x.axis == size ? 128 / n : 1;
    const std::int64_t least = x.row == size ? 4 : 1;
    groups = groups < least ? least : groups > kMaxGroups ? kMaxGroups : groups;
    while (groups > 1 && (groups | 1) * n > kMaxTile) groups /= 2;
    return static_cast<int>(groups);
}

/// x, y (and second): (rows, n) across the vectors.
template <class T, class Op>
[[gnu::noinline]] void rows_across(const Storage<T>& storage, RowsIn x, RowsOut y, RowsOut second,
                                   std::int64_t rows, std::int64_t n, const RowOptions& options, Op& op) {
    constexpr int W = kLanes<T>;
    const Temperature<T> temperature(options.temperature);
    T* const memory = static_cast<T*>(options.scratch);
    T* const memory2 = memory + kTileBytes / sizeof(T);
    T* const flat = memory2 + kTileBytes / sizeof(T);
    // Several W rows side by side, two where the sums are careful: there are only so many registers.
    constexpr int kSide = sizeof(T) < 8 && kInStep > 1 ? Op::kOthers ? 2 : kInStep : 1;
    const bool scaled = temperature.value != 1 || temperature.inverse_low != 0;
    const int groups = groups_of_tile<T>(x, storage.size, n);
    const std::int64_t pitch = (groups | 1) * W;  // odd: powers of two share a part of the cache
    const bool in_place = x.data == y.data, columns = y.row == storage.size;
    // A line of which a part goes through the caches would be read and written several times: whole ones or none. What lies
    // before the first is a block of its own.
    const std::int64_t lead = before_line(y.data);  // bytes
    const bool streamed = options.stream && columns && (lead % storage.size | y.axis % 64) == 0 &&
                          (!second.data || (before_line(second.data) == lead && second.axis % 64 == 0));
    const int tile_rows = groups * W, head = static_cast<int>(lead / storage.size);
    int most = streamed && head > 0 && head < tile_rows ? head : tile_rows;
    Stats<T> stats[kMaxGroups];
    V<T> maxima[kMaxGroups];
    typename Op::Finish finishes[kMaxGroups];
    int left = 0;
    for (std::int64_t first = 0; first < rows; first += left, most = tile_rows) {
        left = rows - first < most ? static_cast<int>(rows - first) : most;
        const bool more = first + left < rows;
        const RowsIn block{x.data + first * x.row, x.row, x.axis};
        const auto part = [&](RowsOut to)
                              SOFTLOSS_LAMBDA { return RowsOut{to.data + first * to.row, to.row, to.axis}; };
        if (x.row == storage.size) {
            storage.load_lines(block, left, n, memory, pitch, maxima);
        } else {
            for (int g = 0; g * W < left; ++g) {
                storage.load({block.data + g * W * x.row, x.row, x.axis}, rows_of_group<T>(left, g), n,
                             memory + g * W, pitch, flat, more || (g + 1) * W < left);
                maxima[g] = tile_max(memory + g * W, pitch, n);
            }
        }
        const bool fetch_out = Op::kResults > 0 && !(columns && (streamed || crowded(y.axis)));
        // Behind a batch of many rows there is another one, as a rule.
        Ahead ahead{Walk::stay(x.data), Walk::stay(x.data)};
        if (rows > tile_rows)
            ahead.in = Walk::over({block.data + left * x.row, x.row, x.axis}, left, n, storage.size);
        if (fetch_out && rows > W)
            ahead.out = Walk::over({part(y).data, y.row, y.axis}, left, n, storage.size);
        for (int g = 0; g * W < left;) {
            T* const tile = memory + g * W;
            // Exponentials may replace the elements, but where these may be summed again.
            T* const exps = !Op::kExp ? nullptr : Op::kOthers ? memory2 + g * W : tile;
            if constexpr (kSide > 1) {
                if (n < kShortRow && (g + kSide - 1) * W < left && !scaled &&
                    stats_in_step<Op::kOthers, kSide * W>(tile, exps, pitch, n, maxima + g, temperature,
                                                          ahead, stats + g)) {
                    g += kSide;
                    continue;
                }
            }
            tile_stats<Op::kOthers>(tile, exps, pitch, n, maxima[g], temperature, ahead, stats[g]);
            ++g;
        }
        for (int g = 0; g * W < left; ++g)
            op.finish(stats[g], first + g * W, rows_of_group<T>(left, g), finishes[g]);
        if constexpr (Op::kResults > 0) {
            const T* const from = Op::kExp && Op::kOthers ? memory2 : memory;
            for (int k = Op::kResults; k-- > 0;) {
                const bool other = k == 1;
                write_tile(storage, from, memory, pitch, part(other ? second : y), left, n, flat,
                           more && (other || !in_place), streamed,
                           [&](int g, std::int64_t i, V<T> v) SOFTLOSS_LAMBDA {
                               const auto& finish = finishes[g];
                               if constexpr (Op::kResults == 2) {
                                   if (other) {
                                       const V<T> result = finish.second(v);
                                       return finish.invalid ? finish.mended_second(result) : result;
                                   }
                               }
                               V<T> result = finish(v);
                               if (finish.invalid) result = finish.mended(result);
                               if constexpr (Op::kLabels) result = finish.at(i, result);
                               return result;
                           });
            }
        }
    }
}

}  // namespace
}  // namespace softloss
