// Weights of classes: integers in proportion to the probabilities.
//
// Lives here: how weights are made, exact products with them, the threshold of min_p, the next larger and
// smaller floating-point number. Must not: rows, top_k, top_p, the draw.
//
// Class i has the weight w[i] = round(2^s e[i]), where e[i] = c exp((x[i] - max) / temperature). All classes
// of a row share the factor c, which lies in [0.75, 1.54]. s is at most 50, and small enough that the sum of
// n weights stays below 2^63 (weight_bits). So sums of weights are exact and do not depend on their order,
// and filters and draws depend on nothing but the row.
#pragma once

#include "exp_shift.hpp"

namespace softloss {
namespace {

/// s of the weights round(2^s e) of a row of n classes: n weights sum up to less than 2^63, and a single one
/// stays below 2^52, so that Weights::kBias can be added to it.
inline int weight_bits(std::int64_t n) {
    int log = 0;
    while ((std::int64_t{1} << log) < n) ++log;
    return 62 - log < 50 ? 62 - log : 50;
}

/// floor(f x) for 0 <= f <= 1 and 0 <= x < 2^63. exact: f x is an integer.
struct WholeProduct {
    std::int64_t floor;
    bool exact;
};
inline WholeProduct whole_product(double f, std::int64_t x) {
    using U = std::uint64_t;
    const U bits = __builtin_bit_cast(U, f), exponent = bits >> 52;
    if (exponent == 0) return {0, f == 0 || x == 0};  // f is subnormal: f x < 1
    // f = m 2^-shift; m x = high 2^64 + low.
    const U m = (bits & 0xfffffffffffff) | U{1} << 52, shift = 1075 - exponent, a = static_cast<U>(x);
    const U m0 = m & 0xffffffff, m1 = m >> 32, a0 = a & 0xffffffff, a1 = a >> 32;
    const U middle = (m0 * a0 >> 32) + (m1 * a0 & 0xffffffff) + m0 * a1;  // < 2^64
    const U low = m * a, high = m1 * a1 + (m1 * a0 >> 32) + (middle >> 32);
    if (shift >= 128) return {0, x == 0};
    if (shift >= 64) {
        const U rest = shift - 64;
        return {static_cast<std::int64_t>(high >> rest), low == 0 && (high & ((U{1} << rest) - 1)) == 0};
    }
    return {static_cast<std::int64_t>(high << (64 - shift) | low >> shift),
            (low & ((U{1} << shift) - 1)) == 0};
}

template <class T>
constexpr T kLowest = sizeof(T) == 4 ? T(-0x1.fffffep127) : T(-0x1.fffffffffffffp1023);

/// The next larger number.
template <class T>
T next_up(T x) {
    using I = typename IntOf<T>::type;
    if (x == 0) return __builtin_bit_cast(T, I{1});
    const I bits = __builtin_bit_cast(I, x);
    return __builtin_bit_cast(T, bits + (x > 0 ? 1 : -1));
}
template <class T>
T abs_of(T x) {
    return x < 0 ? -x : x;
}
template <class T>
T next_down(T x) {
    return -next_up(-x);
}
/// A number about halfway between a and b in the order of floating-point numbers, a <= result < b.
template <class T>
T between(T a, T b) {
    using I = typename IntOf<T>::type;
    constexpr I kSign = static_cast<I>(1ull << (8 * sizeof(T) - 1));
    const auto key = [](T x) {
        const I bits = __builtin_bit_cast(I, x + T(0));
        return bits < 0 ? kSign - bits : bits;
    };
    const I low = key(a), high = key(b);
    const I middle = (low & high) + ((low ^ high) >> 1);
    return __builtin_bit_cast(T, middle < 0 ? kSign - middle : middle);
}

/// Sums of whole numbers, modulo 2^64, in each lane.
template <class T>
using Whole = Vec<std::uint64_t, kLanes<T>>;

/// Sum of all lanes.
template <int N>
SOFTLOSS_INLINE std::uint64_t total(Vec<std::uint64_t, N> a) {
    return fold(a, [](auto x, auto y) SOFTLOSS_LAMBDA { return x + y; });
}
/// How many mask lanes were set. counts: the sum of the masks; a set lane is -1.
template <class I>
SOFTLOSS_INLINE std::int64_t count_of(I counts) {
    return -fold(counts, [](auto x, auto y) SOFTLOSS_LAMBDA { return x + y; });
}

/// The smallest x with p >= min_p max(p), or the lowest number.
template <class T>
T least_of_min_p(T maximum, const SampleFilters& filters) {
    if (filters.min_p == 0) return kLowest<T>;
    const double gap = first(log(splat<V<double>>(filters.min_p)));
    const double least = static_cast<double>(maximum) + filters.temperature * gap;
    if (!(least > static_cast<double>(kLowest<T>))) return kLowest<T>;
    const T rounded = static_cast<T>(least);
    return static_cast<double>(rounded) < least ? next_up(rounded) : rounded;
}

/// The weights of elements: of one row, or of W rows, one per lane.
template <class T, Range R>
struct Weights {
    /// Lower limit of (x - max) / temperature: 2^50 exp(-60) rounds to the weight 0.
    static constexpr T kNone = -60;
    ExpShift<T, R> shift;

    Weights(V<T> maxima, const Temperature<T>& t, int bits) : shift(maxima, t) {
        shift.magic = shift.magic + splat<V<T>>(T(8 * (bits - MathConstants<T>::kExpBias)));
        shift.least = fma(splat<V<T>>(kNone), splat<V<T>>(t.value),
                          (shift.maximum - shift.offset) * splat<V<T>>(t.scale));
    }
    /// Added to each weight: the double 2^52 + w has the integer w in its low 52 bits.
    static constexpr double kBias = 0x1p52;
    static constexpr std::uint64_t kBiasBits = __builtin_bit_cast(std::uint64_t, kBias);

    /// The weights of the lanes that are not `dropped`, 0 for the others; each plus kBiasBits.
    SOFTLOSS_INLINE Whole<T> biased(V<T> x, IntVec<T, kLanes<T>> dropped) const {
        auto e = shift.exp(x);
        e.scale = select(dropped, splat<V<T>>(0), e.scale);
        return biased(e);
    }
    SOFTLOSS_INLINE Whole<T> biased(V<T> x) const { return biased(shift.exp(x)); }
    /// The weights alone.
    SOFTLOSS_INLINE Whole<T> operator()(V<T> x, IntVec<T, kLanes<T>> dropped) const {
        return biased(x, dropped) - splat<Whole<T>>(kBiasBits);
    }
    std::int64_t of(T x) const {
        return static_cast<std::int64_t>(first(biased(splat<V<T>>(x))) - kBiasBits);
    }

  private:
    SOFTLOSS_INLINE static Whole<T> biased(ExpParts<V<T>> e) {
        D<T> w;
        if constexpr (sizeof(T) == 4) w = convert<double>(e.scale) + convert<double>(e.scale * e.fraction);
        else w = e.value();
        const auto bits = as_int(w + splat<D<T>>(kBias));
        Whole<T> whole;
        __builtin_memcpy(&whole, &bits, sizeof whole);
        return whole;
    }
};

}  // namespace
}  // namespace softloss
