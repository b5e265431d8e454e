// Ops: divergences of two rows of logits, and the entropy of one.
//
// Lives here: Kullback-Leibler divergence with gradient, Jensen-Shannon divergence, entropy of a row's
// softmax. Must not: drivers (rows_paired.hpp), reductions.
//
// Shapes: x, second, grad (rows, n); loss, factor (rows). With p = softmax(second / T), q = softmax(x / T)
// and d[i] = log(q[i] / p[i]) + s, where s is any constant of the row:
//   m  = sum(p (exp(d) - 1)) = exp(s) - 1
//   KL(p || q) = sum(p (exp(d) - 1 - d)) - (m - log1p(m)),  grad = factor (q - p)
//   JS(p, q)   = sum(p j(d)) where s = 0,  j(d) = (1 + exp(d)) / 2 G(|d|),  G: half_divergence
//   H(q)       = log1p(sum of all exponentials but one of the maximum, over that one) + sum(q (max - x)) / T
// No term is negative, and each is formed without cancellation, down to the smallest: d is a difference of
// logits, and p only weighs the terms, so that its relative error is that of the result. At first s comes
// from the row maxima. That makes m - log1p(m) small beside the sum before it in most rows. The others, and
// all rows of JS, have a second pass with s = 0.
//
// Limits. p below the range of exponentials is raised to the smallest of them, so that p exp(d) keeps q;
// where q lies below the range, too, d is 0. Where exp(d) would overflow, p is raised until it does not: it
// stays negligible beside q.
#pragma once

#include "rows_paired.hpp"

namespace softloss {
namespace {

/// kExcess: (exp(r) - 1 - r) / r^2 for |r| <= ln2/16, to 2^-37 for float, 2^-59 for double. kHalfDivergence:
/// G(t) / t^2 by powers of t^2 for t <= 2, to 2^-33 and 2^-55. kMostCorrection: how large m - log1p(m) may
/// be, relative to KL.
template <class T>
struct DivergenceConstants;
template <>
struct DivergenceConstants<float> {
    static constexpr double kExcess[] = {0x1p-1, 0x1.5555554dd37c3p-3, 0x1.55555551946a6p-5,
                                         0x1.1114f8e104197p-7, 0x1.6c1aa93ab420ep-10};
    static constexpr double kHalfDivergence[] = {
        0x1.ffffffff7d390p-4,  -0x1.ffffff333e7e8p-7,  0x1.c71c3c71dd6d2p-10, -0x1.82d2bd6a6a958p-13,
        0x1.4231a382b5f36p-16, -0x1.07ff9752b9451p-19, 0x1.9f67ad352dc3fp-23, -0x1.20f2cca3a18cdp-26,
        0x1.2a7c08143b6f0p-30, -0x1.40a04c3086b5ep-35};
    static constexpr double kMostCorrection = 32;
};
template <>
struct DivergenceConstants<double> {
    static constexpr double kExcess[] = {0x1p-1,
                                         0x1.5555555555555p-3,
                                         0x1.5555555555597p-5,
                                         0x1.1111111111129p-7,
                                         0x1.6c16c166c01e1p-10,
                                         0x1.a01a019c38178p-13,
                                         0x1.a01e732ea4c45p-16,
                                         0x1.71e175a52e435p-19};
    static constexpr double kHalfDivergence[] = {0x1p-3,
                                                 -0x1.fffffffffffecp-7,
                                                 0x1.c71c71c71b806p-10,
                                                 -0x1.82d82d82900e1p-13,
                                                 0x1.427a8e03e67e6p-16,
                                                 -0x1.0a3a5a7ec00a0p-19,
                                                 0x1.b53242ef9a0b0p-23,
                                                 -0x1.65c79907f580bp-26,
                                                 0x1.241b8a68245eep-29,
                                                 -0x1.dbcaefdccd9d5p-33,
                                                 0x1.8124fdc242854p-36,
                                                 -0x1.31b064d2e7cf1p-39,
                                                 0x1.cb8cd4956e52ap-43,
                                                 -0x1.32550b632ad0bp-46,
                                                 0x1.47179bca8ea53p-50,
                                                 -0x1.dec20b409b4bdp-55,
                                                 0x1.5d6ddb4f68adep-60};
    static constexpr double kMostCorrection = 0.25;
};

/// 2^(j/8) without the factor of math.hpp's exponentials, so that exp(0) is 1; and the rounding errors of
/// these entries, relative to them.
constexpr double kPowers[8] = {0x1p+0,
                               0x1.172b83c7d517bp+0,
                               0x1.306fe0a31b715p+0,
                               0x1.4bfdad5362a27p+0,
                               0x1.6a09e667f3bcdp+0,
                               0x1.8ace5422aa0dbp+0,
                               0x1.ae89f995ad3adp+0,
                               0x1.d5818dcfba487p+0};
constexpr double kPowersLow[8] = {0,
                                  -0x1.01b15eaa59348p-55,
                                  0x1.34d754db0abb6p-55,
                                  0x1.690cebb7aafb0p-56,
                                  -0x1.3b3efbf5e2229p-54,
                                  0x1.db72fc1f0eab4p-55,
                                  0x1.c1a7792cb3386p-55,
                                  0x1.4a385a63d07a7p-56};
constexpr Exp2Bits<double> kPowerBits{kPowers};

/// Limits of d.
constexpr double kLeastRatio = -700, kMostRatio = 700;

// ---- functions of d --------------------------------------------------------------------------------------

/// x = (k / 8) ln2 + r for a number that float gives rise to: k times the lower bits of ln2 does not count.
template <class V>
SOFTLOSS_INLINE Reduced<V> reduced_shortly(V x) {
    using C = MathConstants<double>;
    const V magic = splat<V>(C::kMagic), t = fma(x, splat<V>(C::kEightByLn2), magic);
    return {t, fma(t - magic, splat<V>(-C::kLn2By8High), x)};
}

/// exp(d) = power + tail, and exp(d) - 1 - d, which is not negative. Errors, relative to each: < 2^-36 for
/// float, < 2 ULP for double. d is in -700 .. 709.
template <class T>
struct ExpOfRatio {
    D<T> power, tail, excess;

    SOFTLOSS_INLINE explicit ExpOfRatio(const Pair<D<T>>& d) {
        using C = MathConstants<double>;
        const D<T> one = splat<D<T>>(1), magic = splat<D<T>>(C::kMagic);
        Reduced<D<T>> of;
        if constexpr (sizeof(T) == 4) of = reduced_shortly(d.hi);
        else of = reduced<true>(d.hi, magic, d.lo);
        power = of.power(kPowerBits);
        const D<T> r = of.r, square = r * r, curve = polynomial(r, DivergenceConstants<T>::kExcess);
        // With k as in `reduced`: (power - 1) (1 + r) - (k / 8) ln2 + power r^2 curve. For k = 0, all but
        // the last is 0.
        if constexpr (sizeof(T) == 4) {
            excess = fma(power * square, curve, fma(power, one + r, -(one + d.hi)));
            tail = power * fma(square, curve, r);
        } else {
            const D<T> k = of.t - magic, above = power - one;
            const D<T> power_low = power * lookup8<double>(kPowersLow, as_int(of.t));
            const D<T> line = fma(-k, splat<D<T>>(C::kLn2By8High), above);
            const D<T> low = fma(power_low, r, fma(-k, splat<D<T>>(C::kLn2By8Low), power_low));
            excess = fma(power * square, curve, fma(above, r, line) + low);
            tail = fma(power, fma(square, curve, r), power_low);
        }
    }
    SOFTLOSS_INLINE D<T> value() const { return power + tail; }
    /// p exp(d)
    SOFTLOSS_INLINE D<T> times(D<T> p) const { return fma(p, power, p * tail); }
    /// exp(d) - 1
    SOFTLOSS_INLINE D<T> less_one(const Pair<D<T>>& d) const {
        if constexpr (sizeof(T) == 4) return excess + d.hi;
        const auto is_near =
            less(abs(d.hi), splat<D<T>>(0.5));  // else excess has more places before the point
        return select(is_near, (excess + d.lo) + d.hi, value() - splat<D<T>>(1));
    }
};

/// -log(m + 1), from both.
template <class T>
SOFTLOSS_INLINE Pair<D<T>> minus_log(D<T> m, D<T> more) {
    const D<T> zero = splat<D<T>>(0);
    const auto near = log1p_parts(m, zero), far = log_parts(more, zero);
    const auto is_near = less(abs(m), splat<D<T>>(0.5));
    return fast_two_sum(-select(is_near, near.hi, far.hi), -select(is_near, near.lo, far.lo));
}
/// m - log1p(m) for m > -1, >= 0. Error: below 2^-50 of it, or 2^-55 if m is 1/32 or more.
template <class T>
SOFTLOSS_INLINE D<T> log_excess(D<T> m) {
    const D<T> near = m * m * -polynomial(m, MathConstants<double>::kLogPoly);
    const auto l = log1p_parts(m, splat<D<T>>(0));
    return select(less(abs(m), splat<D<T>>(1.0 / 32)), near, (m - l.hi) - l.lo);
}

/// G(t) = ((1 + s) log(1 + s) + (1 - s) log(1 - s)) / 2 for s = tanh(t / 2), from t >= 0 and y = exp(-t):
/// the mean of KL(p || m) and KL(q || m) over classes with m = (p + q) / 2 and t = |log(q / p)|, relative to
/// m. 0 .. log 2; <= 4 ULP.
template <class T>
SOFTLOSS_INLINE D<T> half_divergence(D<T> t, D<T> y) {
    const D<T> square = t * t, two = splat<D<T>>(2);
    const D<T> near = square * polynomial(square, DivergenceConstants<T>::kHalfDivergence);
    const auto is_far = less(two, t);
    if (!any(is_far)) return near;
    const auto l = log1p_parts(y, splat<D<T>>(0));
    const D<T> log2 = splat<D<T>>(0x1.62e42fefa39efp-1), one = splat<D<T>>(1);
    return select(is_far, ((log2 - l.hi) - l.lo) - t * y / (one + y), near);
}

// ---- p and d ---------------------------------------------------------------------------------------------

/// The maxima of both operands, and what a second pass adds to d.
template <class T>
struct DivergenceCentre {
    V<T> x, second;
    Pair<D<T>> shift = splat_pair<D<T>>(0, 0);
    bool again = false;

    SOFTLOSS_INLINE DivergenceCentre row(int r) const {
        return {spread(x, r), spread(second, r), {spread(shift.hi, r), spread(shift.lo, r)}, again};
    }
};

/// The logits of rows as p and d, of which a term is made. What lanes get does not depend on the others.
///
/// use(p, d, beyond): p in any unit of the row; beyond is how far d, which is limited, lies below its limit;
/// Nothing if no lane is limited.
///
/// Differences of floats in double lose nothing that counts. General: the temperature is not 1, or something
/// is added to d.
template <bool General>
struct FloatRatios {
    using T = float;
    static constexpr double kLeastLog = -600;  ///< for p: exp(-kLeastLog) is far from infinite
    V<T> least_x, least_second;                ///< the lowest logits without limits
    D<T> top_x, top_second, inverse, added;

    SOFTLOSS_INLINE FloatRatios(const DivergenceCentre<T>& centre, double temperature)
        : top_x(convert<double>(centre.x)),
          top_second(convert<double>(centre.second)),
          added(centre.shift.hi) {
        const double gap = 128 * temperature;
        const V<T> far = splat<V<T>>(static_cast<T>(gap < double{kHuge<T>} ? gap : double{kHuge<T>}));
        least_x = centre.x - far;
        least_second = centre.second - far;
        constexpr double kMost = 0x1p1000;
        const double over = 1 / temperature;
        inverse = splat<D<T>>(over < kMost ? over : kMost);
    }
    template <class Use>
    SOFTLOSS_INLINE auto with_terms(V<T> x, V<T> second, const Use& use) const {
        const D<T> of_x = convert<double>(x) - top_x, of_second = convert<double>(second) - top_second;
        D<T> d = of_x - of_second, log = of_second;
        if constexpr (General) {
            d = fma(d, inverse, added);
            log = log * inverse;
        }
        if (__builtin_expect(!any(less(second, least_second) | less(x, least_x)), 1))
            return use(weight(log), Pair<D<T>>{d, splat<D<T>>(0)}, Nothing{});
        return with_limited_terms(of_x, of_second, d, use);
    }
    template <class Use>
    SOFTLOSS_INLINE auto with_limited_terms(D<T> of_x, D<T> of_second, D<T> given, const Use& use) const {
        const D<T> zero = splat<D<T>>(0), none = splat<D<T>>(-__builtin_inff()),
                   least = splat<D<T>>(kLeastLog);
        const D<T> given_log = of_second * inverse, log = max(least, given_log);
        // A finite logit of the second operand against -inf of x is infinitely far, however low it is.
        const auto counts = equal(of_second, none) | not_equal(of_x, none);
        const auto is_low = less(given_log, least);
        const D<T> above = fma(of_x, inverse, added) - log;  // beside the smallest p
        const D<T> d = select(is_low, select(counts, max(zero, above), above), given);
        const D<T> hi = max(splat<D<T>>(kLeastRatio), d);
        return use(weight(log), Pair<D<T>>{hi, zero}, hi - d);
    }
    /// Relative error: < 2^-30.
    SOFTLOSS_INLINE static D<T> weight(D<T> log) {
        const auto of = reduced_shortly(log);
        const D<T> r = of.r, power = of.power(kPowerBits);
        return fma(power, fma(r * r, polynomial(r, kShortExpPoly), r), power);
    }
    static constexpr double kShortExpPoly[] = {0x1p-1, 0x1.555b7ep-3, 0x1.555c2ep-5};
};

template <Range R>
struct DoubleRatios {
    using T = double;
    ExpShift<T, R> shift;  ///< of the second operand
    V<T> top_x, top_second;
    Pair<D<T>> added;

    SOFTLOSS_INLINE DoubleRatios(const ExpShift<T, R>& of_second, const DivergenceCentre<T>& centre)
        : shift(of_second), top_x(centre.x), top_second(shift.scaled(shift.maximum)), added(centre.shift) {}
    /// From an element of x, and a scaled one of the second operand.
    SOFTLOSS_INLINE Pair<D<T>> log_ratio(V<T> x, V<T> a) const {
        Pair<V<T>> of_x, of_a = two_sum(a, -top_second);
        if constexpr (R == Range::near) {
            of_x = two_sum(x, -top_x);
        } else {
            const Temperature<T>& t = shift.temperature;
            of_x = t.divided(x, top_x);
            of_a = of_a * splat_pair<V<T>>(t.inverse, t.inverse_low);
        }
        const auto d = two_sum(of_x.hi, -of_a.hi), all = two_sum(d.hi, added.hi);
        const V<T> low = all.lo + ((d.lo + (of_x.lo - of_a.lo)) + added.lo);
        return two_sum(all.hi, select(equal(low, low), low, splat<V<T>>(0)));  // NaN where d is infinite
    }
    template <class Use>
    SOFTLOSS_INLINE auto with_terms(V<T> x, V<T> second, const Use& use) const {
        const V<T> a = shift.scaled(second);
        const Pair<D<T>> d = log_ratio(x, a);
        const auto out = less(d.hi, splat<D<T>>(kLeastRatio)) | less(splat<D<T>>(kMostRatio), d.hi);
        if (__builtin_expect(!any(less(a, shift.least) | out), 1))
            return use(shift.of_scaled(a).value(), d, Nothing{});
        return with_limited_terms(x, a, use);
    }
    template <class Use>
    SOFTLOSS_INLINE auto with_limited_terms(V<T> x, V<T> a, const Use& use) const {
        const D<T> zero = splat<D<T>>(0), none = splat<D<T>>(-__builtin_inff());
        V<T> limited = max(shift.least, a);
        const V<T> over = max(zero, log_ratio(x, limited).hi - splat<V<T>>(kMostRatio));
        limited = limited + over * splat<V<T>>(shift.temperature.value);
        const Pair<D<T>> given = log_ratio(x, limited);
        // A finite logit of the second operand against -inf of x is infinitely far, however low it is.
        const auto is_low = less(a, shift.least) & (equal(a, none) | not_equal(x, none));
        const D<T> d = select(is_low, max(zero, given.hi), given.hi), hi = max(splat<D<T>>(kLeastRatio), d);
        const Pair<D<T>> within{hi, select(equal(hi, given.hi), given.lo, zero)};
        return use(shift.of_scaled(limited).value(), within, hi - d);
    }
};

/// Calls f with the ratios of rows with this centre.
template <class T, class F>
SOFTLOSS_INLINE void with_log_ratios(const DivergenceCentre<T>& centre, const Temperature<T>& temperature,
                                     double given_temperature, F f) {
    if constexpr (sizeof(T) == 4) {
        if (kEmulatedFma || given_temperature != 1 || centre.again)
            f(FloatRatios<true>(centre, given_temperature));
        else f(FloatRatios<false>(centre, given_temperature));
    } else {
        with_exp_shift<T>(centre.second, temperature,
                          [&]<Range R>(const ExpShift<T, R>& of_second)
                              SOFTLOSS_LAMBDA { f(DoubleRatios<R>(of_second, centre)); });
    }
}

// ---- Kullback-Leibler divergence -------------------------------------------------------------------------

/// Constants of the gradient, one row per lane.
template <class T>
struct KlEpilogue {
    Pair<V<T>> of_x, of_second;  ///< the row's factor over the sum of the exponentials
    V<T> after;  ///< the factor, if it is too large or too small to be part of the other constants, else 1
    V<T> nan;
    bool may_be_nan;  ///< results of some row may be NaN

    SOFTLOSS_INLINE KlEpilogue row(int r) const {
        return {{spread(of_x.hi, r), spread(of_x.lo, r)},
                {spread(of_second.hi, r), spread(of_second.lo, r)},
                spread(after, r),
                spread(nan, r),
                may_be_nan};
    }
};

/// Of W rows: sum(p (exp(d) - 1 - d)), m, and m - log1p(m), all relative to sum(p).
template <class T>
struct KlParts {
    D<T> gap, m, correction;
};

template <class T, bool Gradient>
struct KlDivergence {
    static constexpr int W = kLanes<T>;
    static constexpr bool kExps = false, kTermExps = Gradient, kAgain = true, kGradient = Gradient;
    static constexpr Second kSecond = Second::array;
    static constexpr Maximum kMaximum = Maximum::both;
    using Sums = PairedSums<T, Gradient ? 4 : 3>;  ///< of p, p (exp(d) - 1 - d), p d, p exp(d)
    using Totals = PairedTotals<T, Sums::kCount>;
    using Centre = DivergenceCentre<T>;
    using Epilogue = KlEpilogue<T>;
    const PairedRows& c;
    Temperature<T> temperature;
    double given_temperature;

    SOFTLOSS_INLINE const double* weights() const { return nullptr; }
    template <class F>
    SOFTLOSS_INLINE void with_terms(const Centre& centre, F f) const {
        with_log_ratios<T>(centre, temperature, given_temperature, [&](const auto& ratios) SOFTLOSS_LAMBDA {
            f([&](Sums& sums, V<T> x, V<T> second, D<T> w) SOFTLOSS_LAMBDA {
                return ratios.with_terms(x, second,
                                         [&](D<T> p, const Pair<D<T>>& d, auto beyond)
                                             SOFTLOSS_LAMBDA { return add(sums, p, d, beyond, w); });
            });
        });
    }
    template <class Beyond>
    SOFTLOSS_INLINE static auto add(Sums& sums, D<T> p, const Pair<D<T>>& d, const Beyond& beyond, D<T> w) {
        const ExpOfRatio<T> e(d);
        D<T> excess = e.excess, ratio = d.hi;
        if constexpr (requires { excess + beyond; }) {
            excess = excess + beyond;
            ratio = ratio - beyond;
        }
        const D<T> weight = p * w;
        sums.of[0].add(weight);
        sums.of[1].add_product(weight, excess);
        sums.of[2].add_product(weight, ratio);
        if constexpr (sizeof(T) == 8) sums.of[2].add_low(weight * d.lo);
        if constexpr (Gradient) {
            const D<T> of_x = e.times(p);
            sums.of[3].add(of_x * w);
            return TermExps<T>{convert<T>(of_x), convert<T>(p)};
        }
    }

    SOFTLOSS_INLINE static KlParts<T> parts(const Totals& sums) {
        const D<T> all = sums.of[0].hi + sums.of[0].lo;
        const D<T> gap = (sums.of[1].hi + sums.of[1].lo) / all;
        // m has few digits beside a large gap, but it is above -1, and does not count there.
        const D<T> sum = gap + (sums.of[2].hi + sums.of[2].lo) / all, m = max(splat<D<T>>(-1 + 0x1p-30), sum);
        return {gap, m, log_excess<T>(m)};
    }
    [[gnu::noinline]] bool again(const Totals& sums, Centre& centre, Vec<std::int64_t, W>& rows) const {
        constexpr double kMost = DivergenceConstants<T>::kMostCorrection;
        const auto is = parts(sums);
        const D<T> one = splat<D<T>>(1), zero = splat<D<T>>(0);
        rows = less(splat<D<T>>(kMost) * (is.gap - is.correction), is.correction) |
               less(one + is.m, splat<D<T>>(1 / (1 + kMost)));
        if (!any(rows)) return false;
        const auto s = minus_log<T>(is.m, one + is.m);
        centre.shift = {select(rows, s.hi, zero), select(rows, s.lo, zero)};
        centre.again = true;
        return true;
    }
    SOFTLOSS_INLINE Totals totals(const Totals& sums, const Stats<T>&, std::int64_t, int) const {
        return sums;
    }
    [[gnu::noinline]] D<T> results(const Stats<T>&, const Totals& sums) const {
        const auto is = parts(sums);
        const D<T> kl = max(splat<D<T>>(0), is.gap - is.correction), infinite = splat<D<T>>(__builtin_inff());
        return canonical(select(equal(is.gap, infinite), infinite, kl));
    }

    // ---- gradient ----------------------------------------------------------------------------------------

    [[gnu::noinline]] void epilogue(const Stats<T>&, const Totals& sums, std::int64_t first, int count,
                                    Epilogue& f) const {
        const V<T> zero = splat<V<T>>(0), one = splat<V<T>>(1);
        const V<T> given = convert<T>(load_lanes<W>(c.factor + first, count)), size = abs(given);
        const auto counted = not_equal(given, zero);
        // With a larger or smaller factor, the products would overflow or lose their low parts.
        const auto usual = less(size, splat<V<T>>(T(0x1p40))) & less(splat<V<T>>(T(0x1p-40)), size);
        const D<T> factor = convert<double>(select(usual, given, one));
        const auto over = [&](const Pair<D<T>>& sum) SOFTLOSS_LAMBDA {
            const auto q = Pair<D<T>>{factor, splat<D<T>>(0)} / sum;
            const V<T> hi = convert<T>(q.hi), lo = convert<T>((q.hi - convert<double>(hi)) + q.lo);
            return Pair<V<T>>{select(counted, hi, zero), select(counted, lo, zero)};
        };
        f.of_second = over(sums.of[0]);
        f.of_x = over(sums.of[3]);
        f.after = select(usual, one, given);
        f.nan = select(counted, nans<T>(), zero);
        const D<T> all = sums.of[3].hi;
        f.may_be_nan = any(not_equal(all - all, splat<D<T>>(0))) || any(not_equal(usual, counted));
    }
    SOFTLOSS_INLINE V<T> gradient(const Epilogue& f, V<T> x, V<T> second, D<T>) const {
        const V<T> q = fma(x, f.of_x.hi, x * f.of_x.lo),
                   p = fma(second, f.of_second.hi, second * f.of_second.lo);
        V<T> g = (q - p) * f.after;
        if (f.may_be_nan) g = select(equal(g, g), g, f.nan);
        return g;
    }
};

/// x, second: (rows, n) -> c.loss: (rows), gradient: (rows, n).
template <class S>
void kl_divergence_rows(const PairedRows& c, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    const Temperature<T> temperature(options.temperature);
    if (c.grad.data)
        run_paired<S>(KlDivergence<T, true>{c, temperature, options.temperature}, rows, n, options);
    else run_paired<S>(KlDivergence<T, false>{c, temperature, options.temperature}, rows, n, options);
}

// ---- Jensen-Shannon divergence ---------------------------------------------------------------------------

template <class T>
struct JsDivergence {
    static constexpr int W = kLanes<T>;
    static constexpr bool kExps = false, kTermExps = false, kAgain = true, kGradient = false;
    static constexpr Second kSecond = Second::array;
    static constexpr Maximum kMaximum = Maximum::both;
    using Sums = PairedSums<T, 3>;  ///< of p, p (exp(d) - 1), p exp(d); in the second pass of p, p j(d)
    using Totals = PairedTotals<T, 3>;
    using Centre = DivergenceCentre<T>;
    const PairedRows& c;
    Temperature<T> temperature;
    double given_temperature;

    SOFTLOSS_INLINE const double* weights() const { return nullptr; }
    template <class F>
    SOFTLOSS_INLINE void with_terms(const Centre& centre, F f) const {
        with_log_ratios<T>(centre, temperature, given_temperature, [&](const auto& ratios) SOFTLOSS_LAMBDA {
            const auto with = [&](auto add) SOFTLOSS_LAMBDA {
                f([&](Sums& sums, V<T> x, V<T> second, D<T> w) SOFTLOSS_LAMBDA {
                    ratios.with_terms(x, second, [&](D<T> p, const Pair<D<T>>& d, auto) SOFTLOSS_LAMBDA {
                        sums.of[0].add(p * w);
                        add(sums, p * w, d);
                    });
                });
            };
            if (centre.again)
                with([](Sums& sums, D<T> p, const Pair<D<T>>& d)
                         SOFTLOSS_LAMBDA { add_divergence(sums, p, d); });
            else with([](Sums& sums, D<T> p, const Pair<D<T>>& d) SOFTLOSS_LAMBDA { add_ratio(sums, p, d); });
        });
    }
    SOFTLOSS_INLINE static void add_ratio(Sums& sums, D<T> p, const Pair<D<T>>& d) {
        const ExpOfRatio<T> e(d);
        sums.of[1].add_product(p, e.less_one(d));
        sums.of[2].add(e.times(p));
    }
    SOFTLOSS_INLINE static void add_divergence(Sums& sums, D<T> p, const Pair<D<T>>& d) {
        const D<T> zero = splat<D<T>>(0), one = splat<D<T>>(1);
        const auto above = less(zero, d.hi);
        const Pair<D<T>> minus{select(above, -d.hi, d.hi), select(above, -d.lo, d.lo)};
        const D<T> y = ExpOfRatio<T>(minus).value();
        const D<T> mean = select(above, p / y, p) * ((one + y) * splat<D<T>>(0.5));
        sums.of[1].add_product(mean, half_divergence<T>(-minus.hi, y));
    }
    [[gnu::noinline]] bool again(const Totals& sums, Centre& centre, Vec<std::int64_t, W>& rows) const {
        const D<T> all = sums.of[0].hi + sums.of[0].lo;
        centre.shift =
            minus_log<T>((sums.of[1].hi + sums.of[1].lo) / all, (sums.of[2].hi + sums.of[2].lo) / all);
        centre.again = true;
        rows = splat<Vec<std::int64_t, W>>(-1);
        return true;
    }
    SOFTLOSS_INLINE Totals totals(const Totals& sums, const Stats<T>&, std::int64_t, int) const {
        return sums;
    }
    SOFTLOSS_INLINE D<T> results(const Stats<T>&, const Totals& sums) const {
        const D<T> js = (sums.of[1].hi + sums.of[1].lo) / (sums.of[0].hi + sums.of[0].lo);
        const D<T> most = splat<D<T>>(0x1.62e42fefa39efp-1);
        return canonical(select(less(most, js), most, js));
    }
    struct Epilogue {};
};

/// x, second: (rows, n) -> c.loss: (rows).
template <class S>
void js_divergence_rows(const PairedRows& c, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    run_paired<S>(JsDivergence<T>{c, Temperature<T>(options.temperature), options.temperature}, rows, n,
                  options);
}

// ---- entropy ---------------------------------------------------------------------------------------------

template <class T>
struct SoftmaxEntropy {
    static constexpr int W = kLanes<T>;
    static constexpr bool kExps = false, kTermExps = false, kAgain = false, kGradient = false;
    static constexpr Second kSecond = Second::none;
    static constexpr Maximum kMaximum = Maximum::all;
    using Sums =
        PairedSums<T, 3>;  ///< of e, e (max - x) / T, both without the maxima, and of the number of these
    using Totals = PairedTotals<T, 3>;
    using Centre = MaximumOfRows<T>;
    const PairedRows& c;
    Temperature<T> temperature;

    SOFTLOSS_INLINE const double* weights() const { return nullptr; }
    template <class F>
    SOFTLOSS_INLINE void with_terms(const Centre& centre, F f) const {
        const V<T> zero = splat<V<T>>(0), one = splat<V<T>>(1);
        const auto inverse = splat_pair<V<T>>(temperature.inverse, temperature.inverse_low);
        with_exp_shift<T>(centre.x, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
            const V<T> top = shift.scaled(centre.x);
            f([&](Sums& sums, V<T> x, Nothing, D<T> w) SOFTLOSS_LAMBDA {
                const V<T> scaled = max(shift.least, shift.scaled(x));
                const auto is_max = equal(x, centre.x);
                const auto parts = shift.of_scaled(scaled);
                const D<T> e = widened<T>({select(is_max, zero, parts.scale), parts.fraction});
                sums.of[0].add(e);
                if constexpr (sizeof(T) == 4) {
                    const D<T> gap = convert<double>(top) - convert<double>(scaled);
                    sums.of[1].add_product(e,
                                           gap * (convert<double>(inverse.hi) + convert<double>(inverse.lo)));
                } else {
                    const Pair<V<T>> gap = two_sum(top, -scaled) * inverse;
                    sums.of[1].add_product(e, gap.hi);
                    sums.of[1].add_low(e * gap.lo);
                }
                sums.of[2].add(w * convert<double>(select(is_max, one, zero)));
            });
        });
    }
    SOFTLOSS_INLINE Totals totals(const Totals& sums, const Stats<T>&, std::int64_t, int) const {
        return sums;
    }
    [[gnu::noinline]] D<T> results(const Stats<T>& stats, const Totals& sums) const {
        D<T> top;
        with_exp_shift<T>(stats.maximum, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
            top = widened<T>(shift.exp(shift.maximum));
        });
        const D<T> zero = splat<D<T>>(0), one = splat<D<T>>(1);
        const Pair<D<T>> others = sums.of[0] + Pair<D<T>>{(sums.of[2].hi - one) * top, zero};
        const Pair<D<T>> rest = others / Pair<D<T>>{top, zero};
        const auto l = log1p_parts(rest.hi, rest.lo);
        return canonical((l.hi + l.lo) + (sums.of[1].hi + sums.of[1].lo) / (others.hi + top));
    }
    struct Epilogue {};
};

/// x: (rows, n) -> c.loss: (rows).
template <class S>
void softmax_entropy_rows(const PairedRows& c, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    run_paired<S>(SoftmaxEntropy<T>{c, Temperature<T>(options.temperature)}, rows, n, options);
}

}  // namespace
}  // namespace softloss
