// exp, log and log1p on logical vectors, and the constants that they rest on.
//
// Lives here: vector math; each function states its domain and its error. Must not: rows, losses, instruction sets.
//
// exp and log split their argument with a table of eight entries, which every instruction set looks up in a
// register, so that the polynomial sees a small remainder and its rounding does not reach the last bit:
//   exp(x) = 2^(k/8) * exp(r),  k = round(8 x / ln 2), |r| <= ln2/16   (P. Tang, 1989)
//   log(u) = k ln2 - log(R_j) + log1p(z R_j - 1),  u = 2^k z,  z in [0.699, 1.398)   (table: R_j ~ 1/z, few bits)
// Coefficients: minimax (Remez) for (exp(r) - 1 - r) / r^2 and (log1p(t) - t) / t^2 on the intervals named below.
//
// exp comes times kExpFactor, c. No eight numbers 2^(j/8) are all close to floating-point numbers, but c 2^(j/8) can be:
// c was searched so that the eight are within 2^-28.4 (float) and 2^-57.4 (double). Ratios of exponentials, which is all
// that softmax and the losses need, do not see c; who does divides by it, or takes exp_of_minus.
#pragma once

#include "vec.hpp"

namespace softloss {
namespace {

template <class T>
struct MathConstants;

template <>
struct MathConstants<float> {
    static constexpr int kMantissaBits = 23;
    static constexpr float kMagic = 0x1.8p23f;  // adding it rounds to an integer, kept in the low bits
    static constexpr float kEightByLn2 = 0x1.715476p3f;
    static constexpr float kLn2By8High = 0x1.62e43p-4f, kLn2By8Low = -0x1.05c61p-32f;
    static constexpr float kExp2[8] = {0x1.16747cp+0f, 0x1.2fa848p+0f, 0x1.4b2404p+0f, 0x1.691c8ap+0f,
                                       0x1.89cb7cp+0f, 0x1.ad6fb4p+0f, 0x1.d44dbcp+0f, 0x1.feb052p+0f};
    // 2^(j/8) and, relative to it, what its rounding leaves.
    static constexpr float kPlainExp2[8] = {0x1p+0f,        0x1.172b84p+0f, 0x1.306fep+0f,  0x1.4bfdaep+0f,
                                            0x1.6a09e6p+0f, 0x1.8ace54p+0f, 0x1.ae89fap+0f, 0x1.d5818ep+0f};
    static constexpr float kPlainExp2Low[8] = {0.0f,
                                               -0x1.9c0c22p-27f,
                                               0x1.125002p-25f,
                                               -0x1.0a3552p-25f,
                                               0x1.26055cp-26f,
                                               0x1.67a1cap-28f,
                                               -0x1.f9c306p-27f,
                                               -0x1.a5217cp-28f};
    static constexpr float kExpPoly[] = {0x1p-1f, 0x1.555b7ep-3f, 0x1.555c2ep-5f};  // |error of exp| < 2^-31
    static constexpr float kSmallestExponent = -131.0f;  // exp of less is 0 beside 1, subnormals included
    static constexpr int kExpBias = 64;

    static constexpr std::int32_t kLogOffset = 0x3f330000;  // the bits of 0.69921875
    static constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;
    static constexpr float kLogRHigh[8] = {-0x1.4618p-2f, -0x1.c9p-3f, -0x1.5ffp-3f, -0x1.f0cp-5f,
                                           0.0f,          0x1.086p-4f, 0x1.a94p-3f,  0x1.2698p-2f};
    static constexpr float kLogRLow[8] = {
        -0x1.78438cp-19f, 0x1.070cacp-20f,  -0x1.83853cp-18f, 0x1.cf3feep-17f, 0.0f,
        -0x1.9d2988p-18f, -0x1.2c3752p-19f, -0x1.deecb2p-18f};
    // (log((1 + s) / (1 - s)) / s - 2) / s^2 by powers of s^2 for 0 <= s <= 1/3, to 2^-27.4 of the logarithm.
    static constexpr float kLog1pPoly[] = {0x1.555502p-1f, 0x1.99d208p-2f, 0x1.1ebd0ep-2f, 0x1.1ed7bep-2f};
    static constexpr float kLogPoly[] = {-0x1p-1f, 0x1.5554ecp-2f, -0x1.fffe24p-3f, 0x1.9bc304p-3f,
                                         -0x1.57fc3p-3f};
};

template <>
struct MathConstants<double> {
    static constexpr int kMantissaBits = 52;
    static constexpr double kMagic = 0x1.8p52;
    static constexpr double kEightByLn2 = 0x1.71547652b82fep3;
    static constexpr double kLn2By8High = 0x1.62e42fefa39efp-4, kLn2By8Low = 0x1.abc9e3b39803fp-59;
    static constexpr double kExp2[8] = {0x1.111bc3f894d49p+0, 0x1.29d3aed43a279p+0, 0x1.44c8536776f31p+0,
                                        0x1.622d87bbcdc36p+0, 0x1.823bd2e53e75cp+0, 0x1.a530d9b65e7f9p+0,
                                        0x1.cb4fd54b19991p+0, 0x1.f4e2144e100b4p+0};
    static constexpr double kPlainExp2[8] = {0x1p+0,
                                             0x1.172b83c7d517bp+0,
                                             0x1.306fe0a31b715p+0,
                                             0x1.4bfdad5362a27p+0,
                                             0x1.6a09e667f3bcdp+0,
                                             0x1.8ace5422aa0dbp+0,
                                             0x1.ae89f995ad3adp+0,
                                             0x1.d5818dcfba487p+0};
    static constexpr double kPlainExp2Low[8] = {0,
                                                -0x1.01b15eaa59348p-55,
                                                0x1.34d754db0abb6p-55,
                                                0x1.690cebb7aafb0p-56,
                                                -0x1.3b3efbf5e2229p-54,
                                                0x1.db72fc1f0eab4p-55,
                                                0x1.c1a7792cb3386p-55,
                                                0x1.4a385a63d07a7p-56};
    static constexpr double kExpPoly[] = {0x1.000000000002ep-1, 0x1.55555555555d1p-3,  0x1.5555554e8d74bp-5,
                                          0x1.1111110ab75e3p-7, 0x1.6c1b7359ef355p-10, 0x1.a01f90dfb8849p-13};
    static constexpr double kSmallestExponent = -1060.0;
    static constexpr int kExpBias = 512;

    static constexpr std::int64_t kLogOffset = 0x3fe6600000000000;
    static constexpr double kLn2High = 0x1.62e42fefa4p-1, kLn2Low = -0x1.8432a1b0e2634p-43;
    static constexpr double kLogRHigh[8] = {
        -0x1.4618bc21c6p-2, -0x1.c8ff7c79a8p-3, -0x1.5ff3070a78p-3, -0x1.f0a30c0110p-5, 0.0,
        0x1.08598b59e0p-4,  0x1.a93ed3c8acp-3,  0x1.269621134ep-2};
    static constexpr double kLogRLow[8] = {
        0x1.3d82f484c84ccp-46, -0x1.a21ac25d81ef3p-43, -0x1.3d3c873e20a07p-43, -0x1.8a9985f325c5cp-43, 0.0,
        0x1.d034451fecdfbp-43, 0x1.9e36f2bea77a6p-43,  -0x1.1b61f10522625p-44};
    static constexpr double kLogPoly[] = {-0x1.0000000000000p-1, 0x1.5555555555555p-2,  -0x1.0000000000144p-2,
                                          0x1.999999999a32ap-3,  -0x1.555555541bea2p-3, 0x1.24924921c1702p-3,
                                          -0x1.0000037727340p-3, 0x1.c71c7d52b2d81p-4,  -0x1.9990bcf6b8ae7p-4,
                                          0x1.7451732a0a43ap-4,  -0x1.5a8c17e54e2e1p-4, 0x1.40c1c6da53f49p-4};
};

/// R_j, with few bits, so that z R_j - 1 is exact.
template <class T>
constexpr T kReciprocal[8] = {1.375, 1.25, 1.1875, 1.0625, 1.0, 0.9375, 0.8125, 0.75};

/// 2^(j/8), or a multiple of it, with j taken off the exponent's fraction: adding k = 8 n + j to these bits gives
/// 2^(n + j/8) in one step.
template <class T>
struct Exp2Bits {
    T entry[8];
    constexpr explicit Exp2Bits(const T (&power)[8]) : entry{} {
        using I = typename IntOf<T>::type;
        for (int j = 0; j < 8; ++j) {
            const I bits = __builtin_bit_cast(I, power[j]);
            entry[j] = __builtin_bit_cast(T, bits - (I{j} << (MathConstants<T>::kMantissaBits - 3)));
        }
    }
};
template <class T>
constexpr Exp2Bits<T> kExp2Bits{MathConstants<T>::kExp2};
template <class T>
constexpr Exp2Bits<T> kPlainExp2Bits{MathConstants<T>::kPlainExp2};

/// c[0] + c[1] x + ... by Horner's rule.
template <class V, class T, std::size_t N>
SOFTLOSS_INLINE V polynomial(V x, const T (&c)[N]) {
    V p = splat<V>(c[N - 1]);
    for (std::size_t i = N - 1; i-- > 0;) p = fma(p, x, splat<V>(c[i]));
    return p;
}

/// A number as the unevaluated sum hi + lo.
template <class V>
struct Pair {
    V hi, lo;
};
/// hi + lo = a + b exactly, for |a| >= |b| or a = 0.
template <class V>
SOFTLOSS_INLINE Pair<V> fast_two_sum(V a, V b) {
    const V s = a + b;
    return {s, (a - s) + b};
}
/// hi + lo = a + b exactly.
template <class V>
SOFTLOSS_INLINE Pair<V> two_sum(V a, V b) {
    const V s = a + b, t = s - a;
    return {s, (a - (s - t)) + (b - t)};
}
/// Twice the precision of V for addends of one sign; where they cancel, that of the larger one.
template <class V>
SOFTLOSS_INLINE Pair<V> operator+(Pair<V> a, Pair<V> b) {
    const Pair<V> s = two_sum(a.hi, b.hi);
    return fast_two_sum(s.hi, s.lo + (a.lo + b.lo));
}
/// a b to nearly twice the precision of V.
template <class V>
SOFTLOSS_INLINE Pair<V> operator*(Pair<V> a, Pair<V> b) {
    const V p = a.hi * b.hi;
    return {p, fma(a.hi, b.hi, -p) + fma(a.hi, b.lo, a.lo * b.hi)};
}
/// a / b to nearly twice the precision of V: the quotient by a reciprocal, then what it lacks.
template <class V>
SOFTLOSS_INLINE Pair<V> operator/(Pair<V> a, Pair<V> b) {
    const V r = splat<V>(1) / b.hi, q = a.hi * r;
    return {q, (fma(-q, b.hi, a.hi) + (a.lo - q * b.lo)) * r};
}

/// The factor of every exponential, c 2^(0/8).
template <class T>
constexpr T kExpFactor = MathConstants<T>::kExp2[0];

/// c exp(x) as scale + scale * fraction, unevaluated: |fraction| < 0.047, scale a table entry times a power of two.
template <class V>
struct ExpParts {
    V scale, fraction;
    SOFTLOSS_INLINE V value() const { return fma(scale, fraction, scale); }
    SOFTLOSS_INLINE Pair<V> pair() const { return {value(), fma(scale, fraction, scale - value())}; }
};

/// The constant that makes exp_parts return exp(x) * 2^exponent; `exponent` holds an integer of magnitude < 2^13.
template <class V>
SOFTLOSS_INLINE V exp_magic(V exponent) {
    using C = MathConstants<typename LanesOf<V>::type>;
    return splat<V>(C::kMagic) + exponent * splat<V>(8);
}

/// x + x_low = (k / 8) ln2 + r, with k in the low bits of t, which is k plus `magic`.
template <class V>
struct Reduced {
    V t, r;
    /// 2^(k/8), or the multiple that the table has.
    template <class T>
    SOFTLOSS_INLINE V power(const Exp2Bits<T>& table) const {
        const auto bits = as_int(t);
        return as_float<T>(as_int(lookup8<T>(table.entry, bits)) +
                           shift_left<MathConstants<T>::kMantissaBits - 3>(bits));
    }
    /// exp(r) - 1.
    SOFTLOSS_INLINE V fraction() const {
        return fma(r * r, polynomial(r, MathConstants<typename LanesOf<V>::type>::kExpPoly), r);
    }
};
template <bool HasLow, class V>
SOFTLOSS_INLINE Reduced<V> reduced(V x, V magic, [[maybe_unused]] V x_low) {
    using C = MathConstants<typename LanesOf<V>::type>;
    const V t = fma(x, splat<V>(C::kEightByLn2), magic), k = t - magic;
    // Exact: k * high has no bits below x's, and fma does not round the product.
    const V high = fma(k, splat<V>(-C::kLn2By8High), x), r = fma(k, splat<V>(-C::kLn2By8Low), high);
    if constexpr (HasLow) return {t, r + x_low};
    else return {t, r};
}

/// c exp(x + x_low) * 2^exponent for |x| <= 8192, |x_low| <= 2^-11, results in the normal range.
/// Unevaluated error: float < 2^-27.5 relative, double < 2^-56 relative; value() adds one rounding: <= 0.62 ULP (float),
/// <= 0.68 ULP (double).
/// A NaN in x comes through in `fraction`.
template <bool HasLow, class V>
SOFTLOSS_INLINE ExpParts<V> exp_parts(V x, V magic, V x_low) {
    const auto of = reduced<HasLow>(x, magic, x_low);
    return {of.power(kExp2Bits<typename LanesOf<V>::type>), of.fraction()};
}
template <class V>
SOFTLOSS_INLINE ExpParts<V> exp_parts(V x, V magic) {
    return exp_parts<false>(x, magic, x);
}

/// 2^-kExpBias, which takes exp_scaled to exp_nonpositive.
template <class T>
constexpr T kExpDown = sizeof(T) == 4 ? T(0x1p-64) : T(0x1p-512);

/// c exp(x) 2^kExpBias for x <= 0 (NaN comes through). value(): <= 0.62 ULP (float), 0.68 ULP (double).
template <class V>
SOFTLOSS_INLINE ExpParts<V> exp_scaled(V x) {
    using C = MathConstants<typename LanesOf<V>::type>;
    return exp_parts(max(splat<V>(C::kSmallestExponent), x), splat<V>(C::kMagic + 8 * C::kExpBias));
}

/// c exp(x) for x <= 0 (NaN comes through), subnormal results included; errors of exp_scaled where the result is normal.
template <class V>
SOFTLOSS_INLINE V exp_nonpositive(V x) {
    return exp_scaled(x).value() * splat<V>(kExpDown<typename LanesOf<V>::type>);
}

/// True if all |x| <= 32: no exponential of these comes near the smallest normal number.
template <class T, int N>
SOFTLOSS_INLINE bool all_near(Vec<T, N> x) {
    using W = Vec<T, 64 / sizeof(T)>;
    auto far = as_int(splat<W>(0));  // a sign is set where a number, or NaN, has bits above those of 32
    in_turn<LanesOf<W>::count>(
        [&](W part) SOFTLOSS_LAMBDA { far = far | (as_int(splat<W>(32)) - as_int(abs(part))); }, x);
    return !any(less(far, as_int(splat<W>(0))));
}

/// exp(-|x|) = hi + lo, unevaluated: < 2^-27.5 (float), 2^-56 (double) relative where it is normal. NaN comes through. The same
/// bits where Near, which all_near allows.
template <bool Near, class V>
SOFTLOSS_INLINE Pair<V> exp_of_minus(V x) {
    using T = typename LanesOf<V>::type;
    using C = MathConstants<T>;
    const V down = splat<V>(kExpDown<T>), y = minus_abs(x),
            z = Near ? y : max(splat<V>(C::kSmallestExponent), y);
    const auto of = reduced<false>(z, splat<V>(Near ? C::kMagic : C::kMagic + 8 * C::kExpBias), z);
    const V power = of.power(kPlainExp2Bits<T>), fraction = of.fraction();
    const V hi = fma(power, fraction, power), lost = fma(power, fraction, power - hi);
    const V lo = fma(power, lookup8<T>(C::kPlainExp2Low, as_int(of.t)), lost);
    if constexpr (Near) return {hi, lo};
    else return {hi * down, lo * down};
}

template <class T>
constexpr T kSmallestNormal = sizeof(T) == 4 ? T(0x1p-126) : T(0x1p-1022);

/// True if no element is less than the smallest normal number, or NaN.
template <class V>
SOFTLOSS_INLINE bool all_normal(V x) {
    return !any(not_equal(max(splat<V>(kSmallestNormal<typename LanesOf<V>::type>), x), x));
}

/// log(u + u_low) as hi + lo, for normal positive u and |u_low| <= ulp(u). hi + lo rounded: <= 0.57 ULP.
template <class V>
SOFTLOSS_INLINE Pair<V> log_parts(V u, V u_low) {
    using T = typename LanesOf<V>::type;
    using C = MathConstants<T>;
    using I = decltype(as_int(u));
    const I above = as_int(u) - splat<I>(C::kLogOffset);
    const I k = shift_right<C::kMantissaBits>(above);
    const I exponent = shift_left<C::kMantissaBits>(k);
    const V z = as_float<T>(as_int(u) - exponent);
    const I j = shift_right<C::kMantissaBits - 3>(above);
    const V reciprocal = lookup8<T>(kReciprocal<T>, j);
    const V t = fma(z, reciprocal, splat<V>(-1));  // exact
    // 2^(1 - k) is a number for every k.
    const V t_low = u_low * as_float<T>(as_int(reciprocal + reciprocal) - exponent) * splat<V>(T(0.5)),
            all = t + t_low;
    V kf;
    if constexpr (sizeof(T) == 4) kf = convert<T>(k);
    else kf = as_float<T>(k + as_int(splat<V>(C::kMagic))) - splat<V>(C::kMagic);
    // Exact: both addends are multiples of one small unit.
    const V head = fma(kf, splat<V>(C::kLn2High), lookup8<T>(C::kLogRHigh, j));
    const V tail = fma(kf, splat<V>(C::kLn2Low), lookup8<T>(C::kLogRLow, j));
    const Pair<V> s = fast_two_sum(head, t);
    return {s.hi, fma(all * all, polynomial(all, C::kLogPoly), (s.lo + tail) + t_low)};
}

/// The same for any x, as log has it.
template <class V>
[[gnu::noinline]] V log_of_any(V x, V x_low) {
    using T = typename LanesOf<V>::type;
    using C = MathConstants<T>;
    // A subnormal number is scaled by 2^mantissa bits, which are subtracted again as k ln2.
    const auto tiny = less(x, splat<V>(kSmallestNormal<T>));
    const V up = select(tiny, splat<V>(T(1ll << C::kMantissaBits)), splat<V>(1));
    const V down = select(tiny, splat<V>(T(-C::kMantissaBits)), splat<V>(0));
    const Pair<V> l = log_parts(x * up, x_low);
    const V head = fma(down, splat<V>(C::kLn2High), l.hi);
    const V r = head + fma(down, splat<V>(C::kLn2Low), l.lo);
    const V at_zero = select(equal(x, splat<V>(0)), splat<V>(-__builtin_inff()), r);
    return select(equal(x, x), at_zero, x);
}
/// log(x + x_low) for 0 <= x <= 1 or any normal x > 0; x_low = 0 where x is not normal; log(0) = -inf; NaN comes through.
/// <= 0.57 ULP.
template <class V>
SOFTLOSS_INLINE V log(V x, V x_low) {
    if (kEmulatedFma || !all_normal(x)) return log_of_any(x, x_low);
    const Pair<V> l = log_parts(x, x_low);
    return l.hi + l.lo;
}
template <class V>
SOFTLOSS_INLINE V log(V x) {
    return log(x, splat<V>(0));
}

/// log1p(y) for -1 < y < inf; NaN comes through; y_low extends y below its last bit. hi + lo rounded: <= 0.75 ULP.
template <class V>
SOFTLOSS_INLINE Pair<V> log1p_parts(V y, V y_low) {
    const V one = splat<V>(1);
    const auto big = less(one, y);
    const Pair<V> u = fast_two_sum(select(big, y, one), select(big, one, y));
    const Pair<V> l = log_parts(u.hi, u.lo + y_low);
    return {select(equal(y, y), l.hi, y), l.lo};
}
template <class V>
SOFTLOSS_INLINE V log1p(V y, V y_low) {
    const Pair<V> l = log1p_parts(y, y_low);
    return l.hi + l.lo;
}
template <class V>
SOFTLOSS_INLINE V log1p(V y) {
    return log1p(y, splat<V>(0));
}

/// The same for 0 <= y <= 1, where a polynomial is enough for float: rounded, <= 1.31 ULP; double as above.
template <class V>
SOFTLOSS_INLINE Pair<V> log1p_unit_parts(V y, V y_low) {
    using T = typename LanesOf<V>::type;
    if constexpr (sizeof(T) == 8) {
        return log1p_parts(y, y_low);
    } else {
        // s = y / (2 + y): log1p(y) = log((1 + s) / (1 - s)) = y - s (y - s^2 poly(s^2)).
        const V s = y / (splat<V>(2) + y), z = s * s;
        const V d = fma(-z, polynomial(z, MathConstants<T>::kLog1pPoly), y);
        const V slope = fma(y, splat<V>(T(-0.5)), splat<V>(1));  // about 1 / (1 + y)
        return {y, fma(-s, d, y_low * slope)};
    }
}

}  // namespace
}  // namespace softloss
