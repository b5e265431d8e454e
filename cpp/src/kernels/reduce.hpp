// Sums with a fixed order, the reason why results have the same bits everywhere.
//
// Lives here: the class of an element, the accumulators, the tree. Must not: exp, losses, threads.
//
// The rule. Let W be the lanes of a logical vector (16 float, 8 double). Element i of a row belongs to class i mod W.
// Within a block of kBlock elements each class is summed in index order: kChunk elements at a time into an accumulator,
// the accumulators then added to the class's total. Block totals are added in index order; at the end the W totals are
// added by halves: classes j and j + W/2 first, then j and j + W/4, and so on. Nothing else enters: not the
// number of threads, not the layout, not the instruction set. A row that lies along the vector has its classes in the lanes; rows that
// lie across the vectors (one row per lane) have their classes in W accumulators. Both give the same bits.
//
// The accumulators lose nothing that matters:
//   float:  scale (exact in double) is summed in double, scale * fraction, which is 2^-4.4 of it or less, in float for
//           kChunk / W = 32 terms. Sum of exponentials: < 2^-25 relative, whatever the values.
//   double: the exponential is cut at 2^-30 of the largest possible one: the upper parts add exactly, the lower ones with
//           the rounding of numbers 2^-30 as large. Sum: a pair hi + lo, < 2^-55 relative before the final rounding.
#pragma once

#include "math.hpp"

namespace softloss {
namespace {

template <class T>
using V = Vec<T, kLanes<T>>;
/// One double for each lane of V<T>.
template <class T>
using D = Vec<double, kLanes<T>>;

template <class T>
constexpr int kChunk = 32 * kLanes<T>;
constexpr std::int64_t kBlock = 32768;

/// A sum per lane; `lo` stays zero for float, whose sums fit into a double.
template <class T>
struct Sum {
    D<T> hi = splat<D<T>>(0), lo = splat<D<T>>(0);

    SOFTLOSS_INLINE friend Sum operator+(Sum a, Sum b) {
        if constexpr (sizeof(T) == 4) {
            return {a.hi + b.hi, a.lo};
        } else {
            const auto s = two_sum(a.hi, b.hi);
            return {s.hi, s.lo + (a.lo + b.lo)};
        }
    }
};

/// Accumulates exponentials that are at most 1.5 * 2^kExpBias.
template <class T>
struct ExpSum;

template <>
struct ExpSum<float> {
    D<float> scale = splat<D<float>>(0);
    V<float> rest = splat<V<float>>(0);

    SOFTLOSS_INLINE void add(ExpParts<V<float>> e) {
        scale = scale + convert<double>(e.scale);
        rest = fma(e.scale, e.fraction, rest);
    }
    SOFTLOSS_INLINE Sum<float> total() const { return {scale + convert<double>(rest), splat<D<float>>(0)}; }
};

template <>
struct ExpSum<double> {
    V<double> upper = splat<V<double>>(0), lower = splat<V<double>>(0);

    SOFTLOSS_INLINE void add(ExpParts<V<double>> e) {
        constexpr double kCut = 0x1.8p22 * 0x1p512;
        const auto value = e.value();
        const auto below = fma(e.scale, e.fraction, e.scale - value);  // what value()'s rounding lost
        const auto high = (value + splat<V<double>>(kCut)) - splat<V<double>>(kCut);
        upper = upper + high;
        lower = lower + ((value - high) + below);
    }
    SOFTLOSS_INLINE Sum<double> total() const {
        const auto zero = splat<V<double>>(0);
        return Sum<double>{upper, zero} + Sum<double>{lower, zero};
    }
};

/// The tree over the lanes of a pair.
template <int N>
SOFTLOSS_INLINE Pair<double> fold_pairs(Vec<double, N> hi, Vec<double, N> lo) {
    if constexpr (N == 1) {
        Pair<double> r;
        __builtin_memcpy(&r.hi, &hi, sizeof r.hi);
        __builtin_memcpy(&r.lo, &lo, sizeof r.lo);
        return r;
    } else {
        const auto s = two_sum(low_half(hi), high_half(hi));
        return fold_pairs<N / 2>(s.hi, s.lo + (low_half(lo) + high_half(lo)));
    }
}

/// One number for a row whose classes are the lanes, in every lane.
template <class T>
SOFTLOSS_INLINE Sum<T> fold_lanes(Sum<T> sum) {
    if constexpr (sizeof(T) == 4) {
        return {splat<D<T>>(fold(sum.hi, [](auto a, auto b) { return a + b; })), sum.lo};
    } else {
        const auto p = fold_pairs<kLanes<T>>(sum.hi, sum.lo);
        return {splat<D<T>>(p.hi), splat<D<T>>(p.lo)};
    }
}

/// The same for rows in the lanes: classes[j] holds class j of each row, for j < min(n, W); the others are empty.
template <class T>
SOFTLOSS_INLINE Sum<T> fold_classes(Sum<T>* classes, std::int64_t n) {
    for (int half = kLanes<T> / 2; half > 0; half /= 2) {
        for (int j = 0; j < half && j + half < n; ++j) classes[j] = classes[j] + classes[j + half];
    }
    return classes[0];
}

template <class T>
SOFTLOSS_INLINE T fold_max(V<T> v) {
    return fold(v, [](auto a, auto b) { return max(a, b); });
}

}  // namespace
}  // namespace softloss
