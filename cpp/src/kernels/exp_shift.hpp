// The exponent shift: exponentials in units of a power of two near that of the row maximum.
//
// Lives here: temperature to twice the precision, the exact shift. Must not: rows, sums, memory.
//
// exp(x) itself would overflow, and rounding x - max before exp would cost up to |x - max| / 2 ULP of the
// exponential. So x stays as it is and the result is scaled: exp(x) is held as exp(x) * 2^(kExpBias - N),
// N = round(max / ln 2). A power of two costs no rounding. kExpBias keeps the exponents of results in range,
// down to the smallest subnormal.
//
// That works while |max| <= kFar, as exp_parts takes arguments of limited magnitude. Beyond kFar, max is
// subtracted from x. Every x that matters is then within a factor of two of max, so that the difference is
// exact (Sterbenz).
#pragma once

#include "reduce.hpp"

namespace softloss {
namespace {

template <class T>
constexpr T kFar = sizeof(T) == 4 ? 1024 : 2048;

/// 1 / temperature as scale * (inverse + inverse_low), to twice the precision. scale is a power of two: so
/// x * scale overflows only if x / temperature does, and inverse is no subnormal number. value = temperature
/// * scale, and inverse its reciprocal.
template <class T>
struct Temperature {
    T value = 1, scale = 1, inverse = 1, inverse_low = 0;

    Temperature() = default;
    [[gnu::noinline]] explicit Temperature(double t) {
        if (t == 1) return;  // the usual case: the members' defaults
        // scale is near 1 / t if t > 1, and large if 1 / t would overflow. A temperature beyond the limits of
        // T is replaced by the limit: then all finite logits are as good as equal, or any two differ too much
        // to count.
        constexpr double kTiny = sizeof(T) == 4 ? 0x1p-100 : 0x1p-900,
                         kLeastScale = sizeof(T) == 4 ? 0x1p-126 : 0x1p-1022;
        double power = t < kTiny ? 1 / kTiny : 1;
        while (t * power > 1 && power > kLeastScale) power *= 0.5;
        double rest = t * power;
        if (rest > 0x1p100) rest = 0x1p100;
        if (rest < 1 / double{kHuge<T>}) rest = 1 / double{kHuge<T>};
        scale = static_cast<T>(power);
        value = static_cast<T>(rest);
        inverse = static_cast<T>(1 / rest);
        // (1 - inverse * rest) / rest; the numerator is exact.
        const auto residual = fma(splat<Vec<double, 2>>(-static_cast<double>(inverse)),
                                  splat<Vec<double, 2>>(rest), splat<Vec<double, 2>>(1));
        inverse_low = static_cast<T>(low_half(residual).raw[0] / rest);
    }
    SOFTLOSS_INLINE bool is_one() const { return value == 1 && scale == 1 && inverse_low == 0; }
    /// (a - b) / temperature to nearly twice the precision; lo is NaN where the quotient is infinite.
    template <class V>
    SOFTLOSS_INLINE Pair<V> divided(V a, V b) const {
        const V before = splat<V>(scale < 1 ? scale : T(1)), after = splat<V>(scale < 1 ? T(1) : scale);
        const auto d = two_sum(a * before, -(b * before));
        const V hi = d.hi * after, p = hi * splat<V>(inverse);
        return {p, fma(hi, splat<V>(inverse), -p) +
                       fma(hi, splat<V>(inverse_low), d.lo * after * splat<V>(inverse))};
    }
};

/// Broadcasts lane r of v to all lanes, by a load from memory.
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> spread(const Vec<T, N>& v, int r) {
    T lane;
    __builtin_memcpy(&lane, reinterpret_cast<const char*>(&v) + r * sizeof(T), sizeof(T));
    return splat<Vec<T, N>>(lane);
}

/// Which maxima and temperatures an ExpShift handles. near: |max| <= kFar in every lane and temperature 1,
/// the usual case. any: all.
enum class Range { near, any };

/// The exponent shifts of rows, one row per lane.
template <class T, Range R, int Lanes = kLanes<T>>
struct ExpShift {
    using V = Vec<T, Lanes>;
    const Temperature<T>& temperature;
    V maximum;
    V offset;  ///< subtracted from x: the maximum where it is beyond kFar, else 0
    V magic;   ///< of exp_parts: adds kExpBias - N to the exponent
    V least;   ///< lower limit of (x - offset) * scale: below it exponentials count for nothing

    SOFTLOSS_INLINE ExpShift(V m, const Temperature<T>& t) : temperature(t), maximum(m) {
        using C = MathConstants<T>;
        const V zero = splat<V>(0);
        const V z = R == Range::any ? m * splat<V>(t.scale) * splat<V>(t.inverse) : m;
        const auto far = less(splat<V>(kFar<T>), abs(z));
        offset = select(far, m, zero);
        least = fma(splat<V>(C::kSmallestExponent), splat<V>(t.value), (m - offset) * splat<V>(t.scale));
        const V near = select(far, zero, z);
        const V n = fma(near, splat<V>(C::kEightByLn2 / 8), splat<V>(C::kMagic)) - splat<V>(C::kMagic);
        magic = exp_magic(splat<V>(C::kExpBias) - n);
    }
    /// The shift of the row in lane r, broadcast to all lanes.
    SOFTLOSS_INLINE ExpShift(const ExpShift& all, int r)
        : temperature(all.temperature),
          maximum(spread(all.maximum, r)),
          offset(spread(all.offset, r)),
          magic(spread(all.magic, r)),
          least(spread(all.least, r)) {}
    /// What of_scaled takes: the offset subtracted, and multiplied by the temperature's scale.
    template <int N>
    SOFTLOSS_INLINE Vec<T, N> scaled(Vec<T, N> x) const {
        if constexpr (R == Range::near) return x;
        else return (x - repeat<N>(offset)) * splat<Vec<T, N>>(temperature.scale);
    }
    /// The exponential of an element from scaled(element), which is at least `least`.
    template <int N>
    SOFTLOSS_INLINE ExpParts<Vec<T, N>> of_scaled(Vec<T, N> d) const {
        using X = Vec<T, N>;
        if constexpr (R == Range::near) {
            return exp_parts(d, repeat<N>(magic));
        } else {
            const X inverse = splat<X>(temperature.inverse), z = d * inverse;
            const X z_low = fma(d, splat<X>(temperature.inverse_low), fma(d, inverse, -z));
            return exp_parts<true>(z, repeat<N>(magic), z_low);
        }
    }
    /// exp(x / temperature) in units of the exponent shift, for one or several logical vectors.
    template <int N>
    SOFTLOSS_INLINE ExpParts<Vec<T, N>> exp(Vec<T, N> x) const {
        return of_scaled(max(repeat<N>(least), scaled(x)));
    }
};

/// Calls f with the ExpShift for these maxima: the fast kind if it handles all of them.
template <class T, int N, class F>
SOFTLOSS_INLINE void with_exp_shift(Vec<T, N> maximum, const Temperature<T>& temperature, F f) {
    if constexpr (kEmulatedFma) {  // slow in any case: one instance keeps the code small
        f(ExpShift<T, Range::any, N>(maximum, temperature));
    } else {
        if (!temperature.is_one() || any(less(splat<Vec<T, N>>(kFar<T>), abs(maximum))))
            f(ExpShift<T, Range::any, N>(maximum, temperature));
        else f(ExpShift<T, Range::near, N>(maximum, temperature));
    }
}

}  // namespace
}  // namespace softloss
