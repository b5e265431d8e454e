// Sums in a fixed order: the reason why results have the same bits everywhere.
//
// Lives here: stripes, accumulators, the tree over the stripes. Must not: exp, losses, threads.
//
// The rule. Let W be the number of lanes of a logical vector (16 float, 8 double). Element i of a row belongs
// to stripe i mod W.
//
// 1. Within a stripe, elements are added in index order, a chunk of kChunk elements of the row at a time,
//    into an accumulator that starts anew for each chunk.
// 2. The totals of the chunks are added in index order.
// 3. The W stripes are added by a binary tree: j and j + W/2 first, then j and j + W/4, and so on.
//
// Rows shorter than kShortRow have one stripe. Sums of floats that leave out the maximum take it in chunks of
// kTerms elements.
// Nothing else matters: neither the number of threads, nor the layout, nor the instruction set. If a row lies
// along the vectors, its stripes are the lanes; if rows lie across the vectors (one row per lane), the
// stripes are W accumulators. Both give the same bits.
//
// ExpSum accumulates exponentials, each given as scale + scale * fraction, with five operations per vector:
//
// - head starts at kStart, which is larger than any term. Three operations then give head + scale and its
//   exact rounding error (Dekker's fast two-sum). head - kStart is exact.
// - error adds up those rounding errors, fraction adds up scale * fraction. Both are plain sums over at most
//   kTerms terms, each at most 2^-4.4 of its exponential.
//
// Error of a sum of exponentials: < 2^-26 (float), < 2^-55 (double), relative to the larger of the sum and
// the largest possible term. CarefulSum has the same error relative to the sum itself, for sums that may be
// far below the largest possible term. Sums that leave out the row maximum of rows shorter than kShortRow
// always use it. ExpSum is less precise where many equal terms lie below the last bit of kStart
// (kCountsErrors, row_stats.hpp).
#pragma once

#include "math.hpp"
#include "storage.hpp"
#include "table.hpp"

namespace softloss {
namespace {

constexpr int kTerms = 32;  ///< most terms that an accumulator takes
/// Elements of a chunk of a row.
template <class T>
constexpr int kChunk = kTerms * kLanes<T>;

/// 2^kExpBias, the unit of exponentials: the largest exponential of a row is within a factor of two of it.
template <class T>
constexpr T kUnit = sizeof(T) == 4 ? T(0x1p64) : T(0x1p512);

/// ExpSum::error is below 2^13 of these.
constexpr float kErrorUnit = kUnit<float> * 0x1p-26F;

/// The fast accumulator of exponentials, see above.
template <class V>
struct ExpSum {
    static constexpr auto kStart = 4 * kUnit<typename LanesOf<V>::type>;
    V head = splat<V>(kStart), error = splat<V>(0), fraction = splat<V>(0);

    SOFTLOSS_INLINE void add(ExpParts<V> e) {
        const V s = head + e.scale;
        error = error + (e.scale - (s - head));
        fraction = fma(e.scale, e.fraction, fraction);
        head = s;
    }
    SOFTLOSS_INLINE Pair<V> total() const { return two_sum(head - splat<V>(kStart), error + fraction); }
    /// The magnitude of `error`, of floats, as a whole number of kErrorUnit, so that sums of it are the same
    /// in any order.
    SOFTLOSS_INLINE auto error_units() const {
        const V magic = splat<V>(0x1.8p23F);  // the sum with it has no fraction
        return as_int(fma(abs(error), splat<V>(1 / kErrorUnit), magic)) - as_int(magic);
    }
};

/// The accumulator for sums that may be far below the largest possible term. head starts at 0, so that its
/// rounding error takes the longer two-sum.
template <class V>
struct CarefulSum {
    V head = splat<V>(0), error = splat<V>(0), fraction = splat<V>(0);

    SOFTLOSS_INLINE void add(ExpParts<V> e) {
        const auto s = two_sum(head, e.scale);
        error = error + s.lo;
        fraction = fma(e.scale, e.fraction, fraction);
        head = s.hi;
    }
    SOFTLOSS_INLINE Pair<V> total() const { return two_sum(head, error + fraction); }
};

template <class V>
SOFTLOSS_INLINE Pair<V> splat_pair(typename LanesOf<V>::type hi, typename LanesOf<V>::type lo) {
    return {splat<V>(hi), splat<V>(lo)};
}

/// A double as a pair.
template <class V>
SOFTLOSS_INLINE Pair<V> pair_of(double x) {
    using T = typename LanesOf<V>::type;
    const T hi = static_cast<T>(x);
    return splat_pair<V>(hi, static_cast<T>(x - static_cast<double>(hi)));
}

/// The sum of two pairs in one step of a tree. Low parts collect the rounding errors; they are added to the
/// high parts only at the root.
template <class V>
SOFTLOSS_INLINE Pair<V> add_loosely(Pair<V> a, Pair<V> b) {
    const Pair<V> s = two_sum(a.hi, b.hi);
    return {s.hi, s.lo + (a.lo + b.lo)};
}

/// Adds the stripes of one row, which are the lanes of a, by the tree of rule 3.
template <class T, int N>
SOFTLOSS_INLINE Pair<T> fold_lanes(Pair<Vec<T, N>> a) {
    if constexpr (N == 1) {
        const T s = a.hi.raw[0] + a.lo.raw[0];
        return {s, (a.hi.raw[0] - s) + a.lo.raw[0]};
    } else {
        return fold_lanes(add_loosely(Pair<Vec<T, N / 2>>{low_half(a.hi), low_half(a.lo)},
                                      Pair<Vec<T, N / 2>>{high_half(a.hi), high_half(a.lo)}));
    }
}

/// The same tree for rows across the vectors: stripes[j] holds stripe j of each row. With count < W, the
/// others are missing. Overwrites `stripes`.
template <class T>
SOFTLOSS_INLINE Pair<V<T>> fold_stripes(Pair<V<T>>* stripes, int count = kLanes<T>) {
    for (int half = kLanes<T> / 2; half > 0; half /= 2) {
        for (int j = 0; j < half && j + half < count; ++j)
            stripes[j] = add_loosely(stripes[j], stripes[j + half]);
    }
    return fast_two_sum(stripes[0].hi, stripes[0].lo);
}

/// Compensated sums of a or a * b in pairs of doubles, one per stripe (Ogita, Rump and Oishi, "Accurate sum
/// and dot product", 2005).
template <class T>
struct CompensatedSum {
    D<T> hi = splat<D<T>>(0), lo = splat<D<T>>(0);

    SOFTLOSS_INLINE void add(D<T> x) {
        const auto s = two_sum(hi, x);
        hi = s.hi;
        lo = lo + s.lo;
    }
    SOFTLOSS_INLINE void add_product(D<T> a, D<T> b) {
        const D<T> p = a * b;
        add(p);
        lo = lo + fma(a, b, -p);
    }
    /// Adds a correction x, which must be far smaller than the terms.
    SOFTLOSS_INLINE void add_low(D<T> x) { lo = lo + x; }
    /// The total of all stripes. If it is infinite or NaN, lo is NaN, and hi alone counts.
    SOFTLOSS_INLINE Sum parts() const {
        const D<T> low = select(equal(lo, lo), lo, splat<D<T>>(0));
        const auto all = fold_lanes(Pair<D<T>>{hi, low});
        const double plain = fold(hi, [](auto a, auto b) SOFTLOSS_LAMBDA { return a + b; });
        return {all.hi == all.hi ? all.hi : plain, all.lo == all.lo ? all.lo : 0};
    }
    SOFTLOSS_INLINE double total() const { return parts().value; }
    /// The sum of each lane by itself, normalised. If it is infinite or NaN, the low part is 0.
    SOFTLOSS_INLINE Pair<D<T>> pair() const {
        const D<T> s = hi + lo;
        return {select(equal(s, s), s, hi), select(equal(lo, lo), (hi - s) + lo, splat<D<T>>(0))};
    }
    /// Adds the stripes of another sum, lane by lane.
    SOFTLOSS_INLINE void join(const CompensatedSum& other) {
        const auto s = two_sum(hi, other.hi);
        hi = s.hi;
        lo = s.lo + (lo + other.lo);
    }
};

/// Plain sum in double of floats or their products, with the members of CompensatedSum. The result becomes a
/// float, which the rounding errors of a few thousand terms do not reach.
template <class T>
struct PlainSum {
    D<T> all = splat<D<T>>(0);

    SOFTLOSS_INLINE void add(D<T> x) { all = all + x; }
    SOFTLOSS_INLINE void add_product(D<T> a, D<T> b) { all = fma(a, b, all); }
    SOFTLOSS_INLINE double total() const {
        return fold(all, [](auto a, auto b) SOFTLOSS_LAMBDA { return a + b; });
    }
    SOFTLOSS_INLINE Sum parts() const { return {total(), 0}; }
    SOFTLOSS_INLINE Pair<D<T>> pair() const { return {all, splat<D<T>>(0)}; }
    SOFTLOSS_INLINE void join(const PlainSum& other) { all = all + other.all; }
};

/// The sums of n elements of rows in the lanes, with the stripes, and the tree, of rows along the vectors.
/// stripe(first, step) returns the sum of elements first, first + step, ...
template <class T, class Stripe>
SOFTLOSS_INLINE auto join_stripes(std::int64_t n, const Stripe& stripe) {
    constexpr int W = kLanes<T>;
    if (n < kShortRow) return stripe(0, 1);
    decltype(stripe(0, 1)) stripes[W];
    for (int j = 0; j < W; ++j) stripes[j] = stripe(j, W);
    for (int half = W / 2; half > 0; half /= 2) {
        for (int j = 0; j < half; ++j) stripes[j].join(stripes[j + half]);
    }
    return stripes[0];
}

/// half_groups (vec.hpp) for vectors and for pairs.
template <bool Upper, int Group, class T, int N>
SOFTLOSS_INLINE Vec<T, N> halves(Vec<T, N> a, Vec<T, N> b) {
    return half_groups<Upper, Group>(a, b);
}
template <bool Upper, int Group, class V>
SOFTLOSS_INLINE Pair<V> halves(Pair<V> a, Pair<V> b) {
    return {half_groups<Upper, Group>(a.hi, b.hi), half_groups<Upper, Group>(a.lo, b.lo)};
}
/// The same tree for W rows at once: the lanes of rows[r] are the stripes of row r, lane r of the result is
/// their total. Each level adds the two halves of the lanes, and puts the sums of two rows into one vector.
template <class Row, std::size_t M, class Add>
SOFTLOSS_INLINE Row fold_rows(const Row (&rows)[M], Add add) {
    if constexpr (M == 1) {
        return rows[0];
    } else {
        Row half[M / 2];
        unrolled<M / 2>([&](int k) SOFTLOSS_LAMBDA {
            half[k] = add(halves<false, M>(rows[2 * k], rows[2 * k + 1]),
                          halves<true, M>(rows[2 * k], rows[2 * k + 1]));
        });
        return fold_rows(half, add);
    }
}

template <class T>
[[gnu::noinline]] V<T> fold_max(const V<T> (&rows)[kLanes<T>]) {
    return fold_rows(rows, [](auto a, auto b) SOFTLOSS_LAMBDA { return max(a, b); });
}
template <class T>
[[gnu::noinline]] Pair<V<T>> fold_sums(const Pair<V<T>> (&rows)[kLanes<T>]) {
    const auto s = fold_rows(rows, [](auto a, auto b) SOFTLOSS_LAMBDA { return add_loosely(a, b); });
    return fast_two_sum(s.hi, s.lo);
}
template <class T>
[[gnu::noinline]] V<T> fold_counts(const IntVec<T, kLanes<T>> (&rows)[kLanes<T>]) {
    return convert<T>(fold_rows(rows, [](auto a, auto b) SOFTLOSS_LAMBDA { return a + b; }));
}

}  // namespace
}  // namespace softloss
