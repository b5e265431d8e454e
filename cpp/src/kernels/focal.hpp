// Focal losses of logits against hard targets, element by element and row by row, with gradient and Hessian.
//
// Lives here: what the probability of the target, p, makes of a loss; kernels for a block of elements and
// for rows. Must not: drivers, soft targets, gamma = 0 without class weights (that is the cross-entropy of
// binary_loss.hpp and class_loss.hpp).
//
// With q = 1 - p, cost = -log p >= 0, R = cost / q, P = q^gamma and u, the logit of p:
//   loss             P cost
//   d loss / du      -P (gamma p cost + q): both terms have one sign
//   d2 loss / du2    P p ((2 gamma + 1) q + gamma cost (gamma p - q))
// A row of classes has the gradient of the cross-entropy times a slope of the row, and a Hessian of its own:
//   slope            G = P (1 + gamma p R)
//   gradient         G p[i] and, at the label, -G q
//   Hessian          p[i] (G (1 - p[i]) + K p[i] / q),  K = gamma P (2 p + (gamma - 1) p^2 R - p cost)
//                    and, at the label, P q ((2 gamma + 1) p + gamma p R (gamma p - q))
// K / q is large where q is small, but p[i] / q <= 1.
//
// q^gamma multiplies the relative error of q by gamma. So q is a pair, to twice the precision, and its
// powers are formed from pairs. Where q = sigmoid(-u), its logarithm is -(max(u, 0) + log1p(exp(-|u|))),
// which has an absolute error far below that of a single number.
#pragma once

#include "binary_loss.hpp"
#include "class_loss.hpp"

namespace softloss {
namespace {

/// A gamma beyond this counts as this: q^gamma is then 0 or 1 for all but a few q.
constexpr double kMostGamma = 0x1p30;

/// Without the NaN of a low part whose high part is infinite.
template <class V>
SOFTLOSS_INLINE Pair<V> without_nan(Pair<V> a) {
    return {a.hi, select(equal(a.lo, a.lo), a.lo, splat<V>(0))};
}
/// e / c, c = kExpFactor.
template <class V>
SOFTLOSS_INLINE Pair<V> without_factor(Pair<V> e) {
    using T = typename LanesOf<V>::type;
    const V c = splat<V>(kExpFactor<T>), r = splat<V>(1 / kExpFactor<T>);
    return e * Pair<V>{r, fma(-r, c, splat<V>(1)) * r};
}
/// exp(y + y_low) for y <= 0, as a pair.
template <class V>
SOFTLOSS_INLINE Pair<V> exp_of_pair(Pair<V> y) {
    using T = typename LanesOf<V>::type;
    using C = MathConstants<T>;
    const V least = splat<V>(C::kSmallestExponent), down = splat<V>(kExpDown<T>);
    const V low = select(less(y.hi, least), splat<V>(0), y.lo);  // may be NaN there
    const auto e =
        without_factor(exp_parts<true>(max(least, y.hi), splat<V>(C::kMagic + 8 * C::kExpBias), low)
                           .pair());  // a NaN comes through
    return {e.hi * down, e.lo * down};
}

// ---- elements --------------------------------------------------------------------------------------------

/// What the elements of a block share. Square: gamma is 2.
template <class T, bool Square>
struct FocalElements {
    Pair<T> gamma;
    T twice_and_one;  ///< 2 gamma + 1
    bool power;       ///< gamma > 0

    explicit FocalElements(double given) {
        const double most = given < kMostGamma ? given : kMostGamma;
        gamma.hi = static_cast<T>(most);
        gamma.lo = static_cast<T>(most - static_cast<double>(gamma.hi));
        twice_and_one = static_cast<T>(2 * most + 1);
        power = most > 0;
    }
};

/// The terms of elements with logit x, whose target is 1 where `hit`. Near requires all_near(x), and gives
/// the same bits.
template <bool Near, bool Square, class V>
struct FocalTerms {
    using T = typename LanesOf<V>::type;
    Pair<V> cost, power;  ///< -log p, q^gamma
    V p_up, q;            ///< p / kExpDown, which has all its digits where p is subnormal; rounded q

    template <class Mask>
    SOFTLOSS_INLINE FocalTerms(const FocalElements<T, Square>& f, V x, Mask hit) {
        const V zero = splat<V>(0), one = splat<V>(1), up = splat<V>(1 / kExpDown<T>);
        const V c = splat<V>(kExpFactor<T>);  // takes the place of 1 beside exponentials (math.hpp)
        const auto likely = select(hit, less(zero, x), less(x, zero));  // p > 1/2
        const Pair<V> given = exp_of_minus<Near>(x), scaled = Near ? given : zero_if_gone(x, given);
        Pair<V> e = scaled;
        if constexpr (!Near) e = {scaled.hi * splat<V>(kExpDown<T>), scaled.lo * splat<V>(kExpDown<T>)};
        Pair<V> whole = fast_two_sum(c, e.hi);
        whole.lo = whole.lo + e.lo;
        const Pair<V> more = Pair<V>{c, zero} / whole, small = e / whole;
        const V more_value = more.hi + more.lo, small_value = small.hi + small.lo;
        q = select(likely, small_value, more_value);
        if constexpr (Near) {
            p_up = select(likely, more_value, small_value) * up;
        } else {
            const Pair<V> small_up = scaled / whole;
            p_up = select(likely, more_value * up, small_up.hi + small_up.lo);
        }
        // gamma multiplies the error of the logarithm: there the more precise one.
        const Pair<V> rest = Square ? log1p_of_exp<Near>(scaled) : log1p_of(without_factor(e)),
                      near = fast_two_sum(rest.hi, rest.lo), sum = two_sum(abs(x), near.hi);
        Pair<V> far{sum.hi, sum.lo + near.lo};
        if constexpr (!Near) far = without_nan(far);
        cost = {select(likely, near.hi, far.hi), select(likely, near.lo, far.lo)};
        if constexpr (Square) {
            const V hi = select(likely, small.hi, more.hi), lo = select(likely, small.lo, more.lo),
                    square = hi * hi;
            power = {square, fma(hi, lo + lo, fma(hi, hi, -square))};
        } else if (f.power) {
            const Pair<V> log{select(likely, far.hi, near.hi), select(likely, far.lo, near.lo)},
                y = Pair<V>{splat<V>(f.gamma.hi), splat<V>(f.gamma.lo)} * log;
            power = exp_of_pair(Pair<V>{-y.hi, -y.lo});
        } else {
            power = {one, zero};
        }
    }
    SOFTLOSS_INLINE static Pair<V> log1p_of(Pair<V> e) { return log1p_parts(e.hi, e.lo); }
    /// The exponential e of -|x|, 0 where it is far below the smallest number.
    SOFTLOSS_INLINE static Pair<V> zero_if_gone(V x, Pair<V> e) {
        const auto gone = less(minus_abs(x), splat<V>(MathConstants<T>::kSmallestExponent));
        return {select(gone, splat<V>(0), e.hi), select(gone, splat<V>(0), e.lo)};
    }
    /// cost, 0 where p is 0.
    SOFTLOSS_INLINE V finite_cost() const {
        if constexpr (Near) return cost.hi;
        else return select(equal(p_up, splat<V>(0)), splat<V>(0), cost.hi);
    }
    SOFTLOSS_INLINE V loss() const {
        const V all = fma(power.hi, cost.hi, fma(power.hi, cost.lo, power.lo * cost.hi));
        if constexpr (Near) return all;
        else return select(equal(all, all), all, power.hi * cost.hi);
    }
    /// gamma p
    SOFTLOSS_INLINE V gamma_p(const FocalElements<T, Square>& f) const {
        return p_up * splat<V>(f.gamma.hi * kExpDown<T>);
    }
    /// -d loss / du
    SOFTLOSS_INLINE V slope(const FocalElements<T, Square>& f) const {
        const V m = fma(gamma_p(f), finite_cost(), q);
        return fma(power.hi, m, power.lo * m);
    }
    /// d2 loss / du2, divided by kExpDown
    SOFTLOSS_INLINE V curve(const FocalElements<T, Square>& f) const {
        const V m = fma(splat<V>(f.gamma.hi) * finite_cost(), gamma_p(f) - q, splat<V>(f.twice_and_one) * q);
        return (power.hi + power.lo) * p_up * m;
    }
};

/// What results are multiplied by where targets are 1, and where they are 0.
template <class T>
struct FocalFactor {
    Pair<T> positive, negative;
    bool exact;  ///< the low parts are 0

    FocalFactor(double p, double n) : positive(split(p)), negative(split(n)) {
        exact = positive.lo == 0 && negative.lo == 0;
    }
    static Pair<T> split(double x) {
        const T hi = static_cast<T>(x);
        return {hi, static_cast<T>(x - static_cast<double>(hi))};
    }
    template <class V, class Mask>
    SOFTLOSS_INLINE Pair<V> at(Mask hit) const {
        return {select(hit, splat<V>(positive.hi), splat<V>(negative.hi)),
                select(hit, splat<V>(positive.lo), splat<V>(negative.lo))};
    }
    /// factor value, rounded once, with 0 * inf = 0. Near: the value is finite.
    template <bool Near, class V, class Mask>
    SOFTLOSS_INLINE V times(V value, Mask hit) const {
        const Pair<V> factor = at<V>(hit);
        if constexpr (Near) {
            return exact ? factor.hi * value : fma(factor.hi, value, factor.lo * value);
        } else {
            const auto infinite = not_equal(value - value, splat<V>(0));
            const V v = select(infinite & equal(factor.hi, splat<V>(0)), splat<V>(1), value);
            const V product = factor.hi * v;
            return exact ? product : select(infinite, product, fma(factor.hi, v, factor.lo * v));
        }
    }
};

/// All arrays: (n). With p the probability of the target and w the weight of its class: loss = weight w
/// focal, grad = factor weight w d focal / dx, hess = max(hess_scale weight w d2 focal / dx2, hess_min).
template <class T, bool Square>
BinaryTotal focal_elements(const BinaryBlock<T>& block, std::int64_t n) {
    const BinaryBlock<T> b = block;
    const FocalElements<T, Square> f(b.gamma);
    const FocalFactor<T> of_loss(b.positive, b.negative),
        of_grad(-b.factor * b.positive, b.factor * b.negative);
    const double curved = b.hess_scale * static_cast<double>(kExpDown<T>);
    const FocalFactor<T> of_hess(curved * b.positive, curved * b.negative);
    const bool losses = b.loss || b.summed;
    Collector<T> collector{b};
    const auto results = [&]<bool Near, class U>(std::int64_t i, int valid, U x, U z) SOFTLOSS_LAMBDA {
        const auto hit = equal(z, splat<U>(1));
        const FocalTerms<Near, Square, U> terms(f, x, hit);
        const auto scaled = [&](const FocalFactor<T>& factor, U value) SOFTLOSS_LAMBDA {
            if constexpr (!Near) {
                if (b.weight)
                    return product(weighted<T>(factor.template at<U>(hit), b.weight, i, valid),
                                   Pair<U>{value, splat<U>(0)});
            }
            return factor.template times<Near>(value, hit);
        };
        if (b.grad) put(b.grad, i, valid, scaled(of_grad, terms.slope(f)));
        if (b.hess)
            put(b.hess, i, valid,
                at_least(splat<U>(static_cast<T>(b.hess_min)), scaled(of_hess, terms.curve(f))));
        if (losses) collector.loss(i, valid, scaled(of_loss, terms.loss()));
    };
    const auto many = [&]<int N>(std::int64_t i) SOFTLOSS_LAMBDA {
        using U = Vec<T, N>;
        const U x = load<U>(b.x + i);
        if (b.weight || !all_near(x)) return false;
        results.template operator()<true>(i, N, x, load<U>(b.target + i));
        return true;
    };
    for_each_step<T, kElementUnroll<T>>(n, 0, many, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        results.template operator()<false>(i, valid, load_some(b.x + i, valid),
                                           load_some(b.target + i, valid));
    });
    return collector.total(n);
}
template <class T>
BinaryTotal focal_map(const BinaryBlock<T>& b, std::int64_t n) {
    return b.gamma == 2 ? focal_elements<T, true>(b, n) : focal_elements<T, false>(b, n);
}

/// x: (n). True if an element is neither 0 nor 1.
template <class T>
[[gnu::noinline]] bool not_hard(const T* x, std::int64_t n) {
    using U = V<T>;
    auto other = splat<IntVec<T, kLanes<T>>>(0);
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        const U v = load_some(x + i, valid);
        other = other | (not_equal(v, splat<U>(1)) & not_equal(v, splat<U>(0)) &
                         first_lanes<IntVec<T, kLanes<T>>>(valid));
    });
    return any(other);
}

// ---- rows ------------------------------------------------------------------------------------------------

/// u^gamma for u in [0, 1] or NaN, as a pair of doubles with a relative error of about gamma 2^-58. With u
/// = 2^k z, gamma k is split into an integer and a fraction, so that the argument of the exponential is
/// small.
template <class V>
SOFTLOSS_INLINE Pair<V> power_of_unit(Pair<V> u, double gamma) {
    using C = MathConstants<double>;
    if (gamma == 2) return u * u;
    using I = decltype(as_int(u.hi));
    constexpr double kUp = 0x1p52;
    const V zero = splat<V>(0), magic = splat<V>(C::kMagic), g = splat<V>(gamma);
    const auto tiny = less(u.hi, splat<V>(kSmallestNormal<double>));
    const V up = select(tiny, splat<V>(kUp), splat<V>(1)), x = u.hi * up, x_low = u.lo * up;
    const I k = shift_right<C::kMantissaBits>(as_int(x) - splat<I>(C::kLogOffset)),
            exponent = shift_left<C::kMantissaBits>(k);
    const V z = as_float<double>(as_int(x) - exponent),
            z_low = x_low * as_float<double>(as_int(splat<V>(2)) - exponent) * splat<V>(0.5);
    const Pair<V> parts = log_parts(z, z_low), log = fast_two_sum(parts.hi, parts.lo);
    const V kf = as_float<double>(k + as_int(magic)) - magic - select(tiny, splat<V>(52), zero);
    const V whole = kf * g, n = (whole + magic) - magic, fraction = (whole - n) + fma(kf, g, -whole);
    // log(2) to twice the precision: its high part has few bits.
    const Pair<V> of_fraction =
                      Pair<V>{fraction, zero} * fast_two_sum(splat<V>(C::kLn2High), splat<V>(C::kLn2Low)),
                  y = of_fraction + Pair<V>{g, zero} * log;
    // Less than 2^-1500 is 0. Otherwise all numbers are small enough.
    const V total = fma(y.hi, splat<V>(C::kEightByLn2 / 8), n);
    const auto gone = less(total, splat<V>(-1500)), none = equal(u.hi, zero);
    const V safe = select(gone, zero, y.hi), safe_low = select(gone, zero, y.lo),
            safe_n = select(gone, zero, n);
    const auto e =
        without_factor(exp_parts<true>(safe, exp_magic(safe_n + splat<V>(C::kExpBias)), safe_low).pair());
    const V down = splat<V>(kExpDown<double>), hi = select(gone, zero, e.hi * down);
    const V at_zero = select(none, zero, hi), low = select(gone, zero, e.lo * down);
    return {select(equal(u.hi, u.hi), at_zero, u.hi), select(none, zero, low)};
}

/// Results of W rows, one per lane; of floats in double.
template <class T>
struct FocalRows {
    Pair<D<T>> loss;
    D<T> slope, bend, own;  ///< G, K, and the Hessian at the label
    Pair<D<T>> q;
};

/// The statistics of rows, the labels, and what they make of a row. Called as a function, it stores the
/// losses of up to W rows.
template <class T>
struct Focal {
    static constexpr int W = kLanes<T>;
    ClassLabels<T> labels;
    double gamma;

    Focal(const ClassLabels<T>& l, double given)
        : labels(l), gamma(given < kMostGamma ? given : kMostGamma) {}

    [[gnu::noinline]] void operator()(const Stats<T>& stats, std::int64_t first, int count) const {
        labels.put(of_rows(stats, first, count).loss, first, count);
    }
    /// A pair in double: of floats, its sum.
    SOFTLOSS_INLINE static Pair<D<T>> wide(Pair<V<T>> a) {
        if constexpr (sizeof(T) == 8) return a;
        else return {convert<double>(a.hi) + convert<double>(a.lo), splat<D<T>>(0)};
    }
    /// The reverse: of floats, a double as a pair.
    SOFTLOSS_INLINE static Pair<V<T>> narrow(Pair<D<T>> a) {
        if constexpr (sizeof(T) == 8) {
            return a;
        } else {
            const V<T> hi = convert<T>(a.hi);
            return {hi, convert<T>(a.hi - convert<double>(hi))};
        }
    }
    [[gnu::noinline]] FocalRows<T> of_rows(const Stats<T>& stats, std::int64_t first, int count) const {
        using U = D<T>;
        const U zero = splat<U>(0), one = splat<U>(1);
        const auto cost =
            without_nan(labels.loss(stats, labels.logits(stats, first, count), log_rest<T>(stats)));
        const Pair<U> p = exp_of_pair(Pair<U>{-cost.hi, -cost.lo});
        // Only the maximum can have p > 1/2.
        const auto others = others_of(stats);
        const Pair<U> share = wide(others) / wide(others + stats.max_exp);
        Pair<U> rest = two_sum(one, -p.hi);
        rest.lo = rest.lo - p.lo;
        const auto likely = less(splat<U>(0.5), p.hi);
        const Pair<U> q{select(likely, share.hi, rest.hi), select(likely, share.lo, rest.lo)},
            power = power_of_unit(q, gamma);
        const auto certain = equal(q.hi, zero), impossible = equal(p.hi, zero);  // 0 / 0; 0 * inf
        const auto of_p = [&](Pair<U> a) SOFTLOSS_LAMBDA {
            const Pair<U> product = p * a;
            return Pair<U>{select(impossible, zero, product.hi), select(impossible, zero, product.lo)};
        };
        const auto number = [&](double x) SOFTLOSS_LAMBDA { return Pair<U>{splat<U>(x), zero}; };
        // The reciprocal of a subnormal number is infinite.
        const U up = select(less(q.hi, splat<U>(0x1p-500)), splat<U>(0x1p200), one);
        const Pair<U> scaled_cost{cost.hi * up, cost.lo * up},
            scaled_q{select(certain, one, q.hi * up), select(certain, zero, q.lo * up)};
        const Pair<U> p_cost = of_p(cost), p_ratio = of_p(scaled_cost / scaled_q);
        FocalRows<T> r;
        const Pair<U> all = power * cost;
        r.loss = {select(equal(all.lo, all.lo), all.hi + all.lo, power.hi * cost.hi), zero};
        r.loss.lo = select(equal(all.lo, all.lo), (all.hi - r.loss.hi) + all.lo, zero);
        const auto rounded = [](Pair<U> a) SOFTLOSS_LAMBDA { return a.hi + a.lo; };
        const Pair<U> g = number(gamma), of_ratio = g * p_ratio;
        r.q = q;
        r.slope = rounded(power * (number(1) + of_ratio));
        const Pair<U> bend =
            number(2) * p + (number(gamma - 1) * (p * p_ratio) + Pair<U>{-p_cost.hi, -p_cost.lo});
        r.bend = rounded(power * (g * bend));
        const Pair<U> own = number(2 * gamma + 1) * p + of_ratio * (g * p + Pair<U>{-q.hi, -q.lo});
        r.own = rounded(power * (q * own));
        return r;
    }
};

/// The diagonal Hessian of W rows: max(p (factor (1 - p) + bend p / q), least), at the label another.
template <class T>
struct FocalCurvature : Curvature<T> {
    V<T> others_inverse, bend, own;  ///< 1 / the sum of all exponentials but the label's

    SOFTLOSS_INLINE V<T> operator()(V<T> e) const {
        const V<T> h = fma(bend, e * others_inverse, this->factor * this->rest_of(e));
        const V<T> value = at_least(this->least, this->p_of(e) * h);
        return this->unusual ? canonical(value) : value;  // the factor may be NaN
    }
    SOFTLOSS_INLINE FocalCurvature row(int r) const {
        return {Curvature<T>::row(r), spread(others_inverse, r), spread(bend, r), spread(own, r)};
    }
};

/// The op that computes loss and gradient (and Hessian) in one pass.
template <class T, bool Hessian>
struct FocalGradient : LabelGradient<T, Select<Hessian, FocalCurvature<T>, NoHessian>> {
    using Base = LabelGradient<T, Select<Hessian, FocalCurvature<T>, NoHessian>>;
    using Epilogue = typename Base::Epilogue;
    const Focal<T> focal;

    FocalGradient(const ClassLabels<T>& l, double gamma) : Base(l), focal(l, gamma) {}

    [[gnu::noinline]] void epilogue(const Stats<T>& stats, std::int64_t first, int count, Epilogue& f) {
        const auto rows = focal.of_rows(stats, first, count);
        const ClassRows& c = this->labels.c;
        if (c.loss) this->labels.put(rows.loss, first, count);
        const D<T> given = this->labels.factors(first, count), zero = splat<D<T>>(0);
        const auto ignored = less(this->labels.labels(first, count), splat<Vec<std::int64_t, Base::W>>(0));
        const auto none = equal(given, zero) | ignored;
        const auto times_factor = [&](D<T> of) SOFTLOSS_LAMBDA { return select(none, zero, given * of); };
        this->fill(stats, first, count, limited<T>(times_factor(rows.slope)), Focal<T>::narrow(rows.q), f);
        if constexpr (Hessian) {
            const D<T> scale = splat<D<T>>(c.hess_scale), inverse = Focal<T>::wide(f.curvature.inverse).hi;
            f.curvature.bend = convert<T>(limited<T>(scale * times_factor(rows.bend)));
            const D<T> q = rows.q.hi + rows.q.lo;
            f.curvature.others_inverse = convert<T>(select(equal(q, zero), zero, inverse / q));
            const V<T> own = convert<T>(limited<T>(scale * times_factor(rows.own)));
            f.curvature.own = canonical(at_least(f.curvature.least, own));
            if (!stats.tile) store(this->hess_at_label, f.curvature.own);
        }
    }
};

/// x: (rows, n), labels: (rows) -> losses: (rows), gradient and Hessian: (rows, n).
template <class S>
void focal_loss_rows(const ClassRows& c, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    const Temperature<T> temperature(options.temperature);
    const ClassLabels<T> labels{c, kStorage<S>, temperature, options.temperature, n};
    const auto run = [&](auto op) SOFTLOSS_LAMBDA { run_rows<S>(c.x, c.grad, c.hess, rows, n, options, op); };
    if (c.hess.data) {
        if constexpr (sizeof(S) == sizeof(T)) run(FocalGradient<T, true>(labels, c.gamma));
    } else if (c.grad.data) {
        run(FocalGradient<T, false>(labels, c.gamma));
    } else {
        run(StatsOnly<T, Focal<T>>{Focal<T>(labels, c.gamma)});
    }
    if (options.nontemporal) fence();
}

}  // namespace
}  // namespace softloss
