// exp, log and log1p on logical vectors, and their constants.
//
// Lives here: vector math; each function states its domain and its error. Must not: rows, losses, instruction
// sets.
//
// exp and log reduce their argument with a table of eight entries, which every instruction set can look up in
// a register. The polynomial then sees a small remainder, and its rounding does not reach the last bit:
//   exp(x) = 2^(k/8) * exp(r),  k = round(8 x / ln 2), |r| <= ln2/16   (P. Tang, 1989)
//   log(u) = k ln2 - log(R_j) + log1p(z R_j - 1),  u = 2^k z,  z in [0.699, 1.398)   (table: R_j ~ 1/z, few bits)
// Coefficients: minimax (Remez) for (exp(r) - 1 - r) / r^2 and (log1p(t) - t) / t^2 on the intervals named
// below.
//
// The exponentials are multiplied by a constant c = kExpFactor. The eight numbers 2^(j/8) are not all close
// to floating-point numbers, but a search found a c for which all c 2^(j/8) are: within 2^-28.4 (float) and
// 2^-57.4 (double). c cancels in ratios of exponentials, which is all that softmax and most losses need.
// Where it would not cancel, the code divides by it or calls exp_of_minus.
#pragma once

#include "vec.hpp"

namespace softloss {
namespace {

template <class T>
struct MathConstants;

template <>
struct MathConstants<float> {
    static constexpr int kMantissaBits = 23;
    static constexpr float kMagic = 0x1.8p23f;  // adding it rounds to an integer, held in the low bits
    static constexpr float kEightByLn2 = 0x1.715476p3f;
    static constexpr float kLn2By8High = 0x1.62e43p-4f, kLn2By8Low = -0x1.05c61p-32f;
    static constexpr float kExp2[8] = {0x1.16747cp+0f, 0x1.2fa848p+0f, 0x1.4b2404p+0f, 0x1.691c8ap+0f,
                                       0x1.89cb7cp+0f, 0x1.ad6fb4p+0f, 0x1.d44dbcp+0f, 0x1.feb052p+0f};
    static constexpr float kExpPoly[] = {0x1p-1f, 0x1.555b7ep-3f, 0x1.555c2ep-5f};  // |error of exp| < 2^-31
    static constexpr float kSmallestExponent = -131.0f;  // exp of less rounds to 0, not to a subnormal
    static constexpr int kExpBias = 64;

    static constexpr std::int32_t kLogOffset = 0x3f330000;  // the bits of 0.69921875
    static constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;
    static constexpr float kLogRHigh[8] = {-0x1.4618p-2f, -0x1.c9p-3f, -0x1.5ffp-3f, -0x1.f0cp-5f,
                                           0.0f,          0x1.086p-4f, 0x1.a94p-3f,  0x1.2698p-2f};
    static constexpr float kLogRLow[8] = {
        -0x1.78438cp-19f, 0x1.070cacp-20f,  -0x1.83853cp-18f, 0x1.cf3feep-17f, 0.0f,
        -0x1.9d2988p-18f, -0x1.2c3752p-19f, -0x1.deecb2p-18f};
    // (atanh(s) / s - 1) / s^2 by powers of s^2 for 0 <= s <= 1/3, to 2^-27.7 of the inverse tangent.
    static constexpr float kAtanhPoly[] = {0x1.5555p-2f, 0x1.99d208p-3f, 0x1.1ebd12p-3f, 0x1.1ed7a8p-3f};
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
    // What rounding took from these, in terms of the entry.
    static constexpr double kExp2Low[8] = {0,
                                           0x1.00512cf12af0ap-65,
                                           0x1.76a660df4ec06p-67,
                                           0x1.5268f210cd472p-58,
                                           -0x1.8e5ca7a311bbep-59,
                                           0x1.24f3ab50fb9a0p-57,
                                           -0x1.9c00b551a49cfp-69,
                                           0x1.2036ae7f3eda6p-57};
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
    // As for float, to 2^-59.4.
    static constexpr double kAtanhPoly[] = {0x1.5555555555535p-2, 0x1.99999999a06c1p-3, 0x1.2492492091125p-3,
                                            0x1.c71c741a05cecp-4, 0x1.745cb459d82f3p-4, 0x1.3b1dd3a95253ap-4,
                                            0x1.10682f0414a18p-4, 0x1.efd18add52e1ap-5, 0x1.55cf61280dec2p-5,
                                            0x1.5c5c1c89c7600p-4};
};

/// R_j has few bits, so that z R_j - 1 is exact.
template <class T>
constexpr T kReciprocal[8] = {1.375, 1.25, 1.1875, 1.0625, 1.0, 0.9375, 0.8125, 0.75};

/// Entries 2^(j/8), or a multiple, minus j in the bits just below the exponent. Adding k = 8 n + j to those
/// bits then gives 2^(n + j/8) in one step.
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
/// a + b, to twice the precision of V if they have the same sign; else with an error relative to the larger
/// one.
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
/// a / b to nearly twice the precision of V: a quotient by a reciprocal, then a correction by its remainder.
template <class V>
SOFTLOSS_INLINE Pair<V> operator/(Pair<V> a, Pair<V> b) {
    const V r = splat<V>(1) / b.hi, q = a.hi * r;
    return {q, (fma(-q, b.hi, a.hi) + (a.lo - q * b.lo)) * r};
}

/// The larger of `least` and x, never -0: which of two zeros max returns depends on the instruction set. A
/// NaN in x is returned.
template <class V>
SOFTLOSS_INLINE V at_least(V least, V x) {
    return max(least, x + splat<V>(0));
}

template <class T>
constexpr T kHuge = sizeof(T) == 4 ? T(0x1p127) : T(0x1p1023);
/// The low part of a pair; if it is NaN, because the high part is infinite, a finite number instead. Adding
/// that to the high part leaves it infinite.
template <class V>
SOFTLOSS_INLINE V finite_low(V low) {
    return max_of_number(low, splat<V>(-kHuge<typename LanesOf<V>::type>));
}

/// c, the constant factor of every exponential: exp(0) gives it.
template <class T>
constexpr T kExpFactor = MathConstants<T>::kExp2[0];

/// c exp(x) as the unevaluated sum scale + scale * fraction: scale is a table entry times a power of two,
/// |fraction| < 0.047. Sums take the two parts one by one (reduce.hpp).
template <class V>
struct ExpParts {
    V scale, fraction;
    SOFTLOSS_INLINE V value() const { return fma(scale, fraction, scale); }
    SOFTLOSS_INLINE Pair<V> pair() const { return {value(), fma(scale, fraction, scale - value())}; }
};

/// The constant for which exp_parts returns c exp(x) 2^exponent; `exponent` holds an integer of magnitude <
/// 2^13.
template <class V>
SOFTLOSS_INLINE V exp_magic(V exponent) {
    using C = MathConstants<typename LanesOf<V>::type>;
    return splat<V>(C::kMagic) + exponent * splat<V>(8);
}

/// A reduced argument: x + x_low = (k / 8) ln2 + r. The low bits of t = k + magic hold k.
template <class V>
struct Reduced {
    V t, r;
    /// 2^(k/8), times the factor of the table.
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
/// Reduces x (and x_low, if HasLow).
template <bool HasLow, class V>
SOFTLOSS_INLINE Reduced<V> reduced(V x, V magic, [[maybe_unused]] V x_low) {
    using C = MathConstants<typename LanesOf<V>::type>;
    const V t = fma(x, splat<V>(C::kEightByLn2), magic), k = t - magic;
    // Exact: k * high has no bits below those of x, and fma does not round the product.
    const V high = fma(k, splat<V>(-C::kLn2By8High), x), r = fma(k, splat<V>(-C::kLn2By8Low), high);
    if constexpr (HasLow) return {t, r + x_low};
    else return {t, r};
}

/// c exp(x + x_low) 2^exponent for |x| <= 8192 and |x_low| <= 2^-11, if the result is normal. Relative error
/// of the unevaluated sum: < 2^-27.5 (float), < 2^-56 (double). value() rounds once more: <= 0.62 ULP
/// (float), <= 0.68 ULP (double). If x is NaN, `fraction` is NaN.
template <bool HasLow, class V>
SOFTLOSS_INLINE ExpParts<V> exp_parts(V x, V magic, V x_low) {
    const auto of = reduced<HasLow>(x, magic, x_low);
    return {of.power(kExp2Bits<typename LanesOf<V>::type>), of.fraction()};
}
template <class V>
SOFTLOSS_INLINE ExpParts<V> exp_parts(V x, V magic) {
    return exp_parts<false>(x, magic, x);
}

/// 2^-kExpBias, the ratio of exp_nonpositive to exp_scaled.
template <class T>
constexpr T kExpDown = sizeof(T) == 4 ? T(0x1p-64) : T(0x1p-512);

/// c exp(x) 2^kExpBias for x <= 0; NaN gives NaN. value(): <= 0.62 ULP (float), 0.68 ULP (double).
template <class V>
SOFTLOSS_INLINE ExpParts<V> exp_scaled(V x) {
    using C = MathConstants<typename LanesOf<V>::type>;
    return exp_parts(max(splat<V>(C::kSmallestExponent), x), splat<V>(C::kMagic + 8 * C::kExpBias));
}

/// exp_scaled of doubles without the rounding errors of the table, which do not average out in sums.
template <int N>
SOFTLOSS_INLINE ExpParts<Vec<double, N>> exp_scaled_for_sums(Vec<double, N> x) {
    using C = MathConstants<double>;
    using V = Vec<double, N>;
    const auto of =
        reduced<false>(max(splat<V>(C::kSmallestExponent), x), splat<V>(C::kMagic + 8 * C::kExpBias), x);
    const V low = lookup8<double>(C::kExp2Low, as_int(of.t));
    return {of.power(kExp2Bits<double>), of.fraction() + low};
}

/// c exp(x) for x <= 0; NaN gives NaN. The result may be subnormal. If it is normal, the errors are those of
/// exp_scaled.
template <class V>
SOFTLOSS_INLINE V exp_nonpositive(V x) {
    return exp_scaled(x).value() * splat<V>(kExpDown<typename LanesOf<V>::type>);
}

/// True if all |x| <= 32: exp(-|x|) is then far above the smallest normal number.
template <class T, int N>
SOFTLOSS_INLINE bool all_near(Vec<T, N> x) {
    using W = Vec<T, 64 / sizeof(T)>;
    auto far = as_int(splat<W>(0));  // its sign is set if |x| > 32 or NaN, compared as integers
    for_each_part<LanesOf<W>::count>(
        [&](W part) SOFTLOSS_LAMBDA { far = far | (as_int(splat<W>(32)) - as_int(abs(part))); }, x);
    return !any(less(far, as_int(splat<W>(0))));
}

/// c exp(-|x|), times 2^kExpBias unless Near, which is allowed if all_near(x). Errors are those of exp_parts;
/// NaN gives NaN.
template <bool Near, class V>
SOFTLOSS_INLINE Pair<V> exp_of_minus(V x) {
    const V y = minus_abs(x);
    if constexpr (Near)
        return exp_parts(y, splat<V>(MathConstants<typename LanesOf<V>::type>::kMagic)).pair();
    else return exp_scaled(y).pair();
}

template <class T>
constexpr T kSmallestNormal = sizeof(T) == 4 ? T(0x1p-126) : T(0x1p-1022);

/// True if every element is at least the smallest normal number, and none is NaN.
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
    // 2^(1 - k) is a normal number for every k; 2^-k is not.
    const V t_low = u_low * as_float<T>(as_int(reciprocal + reciprocal) - exponent) * splat<V>(T(0.5)),
            all = t + t_low;
    V kf;
    if constexpr (sizeof(T) == 4) kf = convert<T>(k);
    else kf = as_float<T>(k + as_int(splat<V>(C::kMagic))) - splat<V>(C::kMagic);
    // Exact: both addends are multiples of the same power of two.
    const V head = fma(kf, splat<V>(C::kLn2High), lookup8<T>(C::kLogRHigh, j));
    const V tail = fma(kf, splat<V>(C::kLn2Low), lookup8<T>(C::kLogRLow, j));
    const Pair<V> s = fast_two_sum(head, t);
    return {s.hi, fma(all * all, polynomial(all, C::kLogPoly), (s.lo + tail) + t_low)};
}

/// log for all x >= 0 and NaN, subnormal numbers included: the rare path of log().
template <class V>
[[gnu::noinline]] V log_of_any(V x, V x_low) {
    using T = typename LanesOf<V>::type;
    using C = MathConstants<T>;
    // A subnormal number is scaled by 2^kMantissaBits; kMantissaBits * ln2 is subtracted from its logarithm.
    const auto tiny = less(x, splat<V>(kSmallestNormal<T>));
    const V up = select(tiny, splat<V>(T(1ll << C::kMantissaBits)), splat<V>(1));
    const V down = select(tiny, splat<V>(T(-C::kMantissaBits)), splat<V>(0));
    const Pair<V> l = log_parts(x * up, x_low);
    const V head = fma(down, splat<V>(C::kLn2High), l.hi);
    const V r = head + fma(down, splat<V>(C::kLn2Low), l.lo);
    const V at_zero = select(equal(x, splat<V>(0)), splat<V>(-__builtin_inff()), r);
    return select(equal(x, x), at_zero, x);
}
/// log(x + x_low) for 0 <= x <= 1 or any normal x > 0. x_low is 0 if x is not normal. log(0) = -inf; NaN
/// gives NaN. <= 0.57 ULP.
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

/// log1p(y + y_low) for -1 < y < inf, |y_low| below the last bit of y; NaN gives NaN. hi + lo, rounded: <=
/// 0.75 ULP; the low part of a small y is kept.
template <class V>
SOFTLOSS_INLINE Pair<V> log1p_parts(V y, V y_low) {
    const V one = splat<V>(1);
    const auto big = less(one, y);
    const Pair<V> u = fast_two_sum(select(big, y, one), select(big, one, y));
    const Pair<V> l = log_parts(u.hi, u.lo + y_low);
    // Beside 1, the low part of a small y would be lost: the series y - y^2 / 2 + y^3 / 3 keeps it.
    using T = typename LanesOf<V>::type;
    const auto small = less(abs(y), splat<V>(sizeof(T) == 4 ? T(0x1p-9) : T(0x1p-20)));
    const V slope = fma(y, splat<V>(T(1) / 3), splat<V>(T(-0.5)));
    const V hi = select(small, y, l.hi), lo = select(small, fma(y * y, slope, y_low), l.lo);
    return {select(equal(y, y), hi, y), lo};
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

/// log1p(exp(-|x|)) / 2 from e = exp_of_minus<Near>(x), likewise times 2^kExpBias unless Near; both ways give
/// the same bits. hi + lo, rounded: <= 0.9 ULP.
template <bool Near, class V>
SOFTLOSS_INLINE Pair<V> half_log1p_of_exp(Pair<V> e) {
    using T = typename LanesOf<V>::type;
    constexpr T c = kExpFactor<T>;
    const V down = splat<V>(Near ? T(1) : kExpDown<T>);
    // log1p(y) = 2 atanh(s), s = y / (2 + y) = e / (2c + e). What follows s is at most 4 % of it, so that its
    // rounding hardly counts.
    const Pair<V> whole = fast_two_sum(splat<V>(2 * c), e.hi * down);
    const V scaled = e.hi / whole.hi, s = scaled * down, z = s * s;
    // What the quotient lacks, over 2c + e, of which a line is enough: 1 / (2 + y) = 1/2 - y/6, to 4 %.
    const V lack = fma(-scaled, whole.hi, e.hi) + fma(-scaled, whole.lo, e.lo);
    const V low = lack * fma(e.hi * down, splat<V>(T(-1) / (6 * c * c)), splat<V>(T(0.5) / c));
    // The slope of atanh is 1 / (1 - z), about 1 + z.
    return {scaled, fma(scaled * z, polynomial(z, MathConstants<T>::kAtanhPoly), fma(low, z, low))};
}
/// log1p(exp(-|x|)) as hi + lo, from exp_of_minus<Near>(x).
template <bool Near, class V>
SOFTLOSS_INLINE Pair<V> log1p_of_exp(Pair<V> e) {
    using T = typename LanesOf<V>::type;
    const Pair<V> half = half_log1p_of_exp<Near>(e);
    if constexpr (Near) return {half.hi + half.hi, half.lo + half.lo};
    // If the result is subnormal, both parts are rounded: the low one must not hold more than that takes.
    const V two = splat<V>(2 * kExpDown<T>);
    const Pair<V> sum = fast_two_sum(half.hi, half.lo);
    const auto tiny = less(half.hi, splat<V>(T(0x1p-60) / kExpDown<T>));
    return {select(tiny, sum.hi, half.hi) * two, select(tiny, sum.lo, half.lo) * two};
}

}  // namespace
}  // namespace softloss
