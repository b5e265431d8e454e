// Sums with a fixed order, the reason why results have the same bits everywhere.
//
// Lives here: the class of an element, the accumulators, the tree. Must not: exp, losses, threads.
//
// The rule. Let W be the lanes of a logical vector (16 float, 8 double). Element i of a row belongs to class i mod W.
// Each class is summed in index order: a chunk of kChunk elements at a time into an accumulator, the chunks' totals
// added in index order. At the end the W totals are added by halves: classes j and j + W/2 first, then j and j + W/4, and
// so on. Rows shorter than kShortRow have one class. Nothing else enters: not the number of threads, not the layout, not
// the instruction set. A row that lies along the vector has its classes in the lanes; rows that lie across the vectors
// (one row per lane) have their classes in W accumulators. Both give the same bits.
//
// The accumulator of exponentials scale + scale * fraction loses nothing that matters, at five operations a vector:
//   head  starts at kStart, larger than any term, so that three operations give head + scale and its rounding error
//         exactly (Dekker's fast sum); head - kStart is exact;
//   error sums these errors, fraction sums scale * fraction, which is 2^-4.4 of the terms or less, both plainly, over at
//         most kTerms terms.
// Sum of exponentials: < 2^-26 (float), < 2^-55 (double) of the largest possible term or of the sum, if that is larger.
// Where the sum may be far below the largest possible term, CarefulSum has the same error relative to the sum itself; the
// sums without the maxima of rows shorter than kShortRow are of this kind always.
#pragma once

#include "math.hpp"
#include "table.hpp"

namespace softloss {
namespace {

template <class T>
using V = Vec<T, kLanes<T>>;
/// One double for each lane of V<T>.
template <class T>
using D = Vec<double, kLanes<T>>;

constexpr int kTerms = 32;
template <class T>
constexpr int kChunk = kTerms * kLanes<T>;
/// Rows shorter than this have one class and are read across the vectors.
constexpr std::int64_t kShortRow = 64;

/// 2^kExpBias, the unit of exponentials: the largest of a row lies within a factor of two of it.
template <class T>
constexpr T kUnit = sizeof(T) == 4 ? T(0x1p64) : T(0x1p512);

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
};

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

/// One step of a tree of pairs: the low parts collect what the high parts lose, and are joined at the end.
template <class V>
SOFTLOSS_INLINE Pair<V> add_loosely(Pair<V> a, Pair<V> b) {
    const Pair<V> s = two_sum(a.hi, b.hi);
    return {s.hi, s.lo + (a.lo + b.lo)};
}

/// The tree over the lanes.
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

/// The same tree for rows in the lanes: classes[j] holds class j of each row.
template <class T>
SOFTLOSS_INLINE Pair<V<T>> fold_classes(Pair<V<T>>* classes) {
    for (int half = kLanes<T> / 2; half > 0; half /= 2) {
        for (int j = 0; j < half; ++j) classes[j] = add_loosely(classes[j], classes[j + half]);
    }
    return fast_two_sum(classes[0].hi, classes[0].lo);
}

/// Sum of a * b and of a, as pairs of doubles per class: Ogita, Rump and Oishi, "Accurate sum and dot product", 2005.
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
    /// hi alone where lo is not a number: the sum is infinite or NaN.
    SOFTLOSS_INLINE Sum parts() const {
        const D<T> low = select(equal(lo, lo), lo, splat<D<T>>(0));
        const auto all = fold_lanes(Pair<D<T>>{hi, low});
        const double plain = fold(hi, [](auto a, auto b) SOFTLOSS_LAMBDA { return a + b; });
        return {all.hi == all.hi ? all.hi : plain, all.lo == all.lo ? all.lo : 0};
    }
    SOFTLOSS_INLINE double total() const { return parts().value; }
};

/// Sum of a few thousand floats in doubles, whose rounding errors do not reach the float that the sum becomes.
template <class T>
struct PlainSum {
    D<T> all = splat<D<T>>(0);

    SOFTLOSS_INLINE void add(D<T> x) { all = all + x; }
    SOFTLOSS_INLINE double total() const {
        return fold(all, [](auto a, auto b) SOFTLOSS_LAMBDA { return a + b; });
    }
};

template <bool Upper, int Group, class T, int N>
SOFTLOSS_INLINE Vec<T, N> halves(Vec<T, N> a, Vec<T, N> b) {
    return half_groups<Upper, Group>(a, b);
}
template <bool Upper, int Group, class V>
SOFTLOSS_INLINE Pair<V> halves(Pair<V> a, Pair<V> b) {
    return {half_groups<Upper, Group>(a.hi, b.hi), half_groups<Upper, Group>(a.lo, b.lo)};
}
/// The same trees for W rows at once: rows[r] holds the lanes of row r, lane r of the result is what they fold to.
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
