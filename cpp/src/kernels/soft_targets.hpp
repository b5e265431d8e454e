// Op: cross-entropy of logits against a distribution over the classes, with gradient.
//
// Lives here: soft targets, label smoothing and class weights: their sums over a row, and the loss, gradient
// and Hessian that follow. Must not: class indices alone (class_loss.hpp), drivers (rows_paired.hpp),
// reductions.
//
// Shapes: x, q, grad (rows, n); w (n); loss, factor (rows). x: logits, q: targets, w: class weights, T: the
// temperature. The formulas have two terms:
//   cost[i] = (max - x[i]) / T + L,  the negative log-probability; L = log1p of the other classes, softmax.hpp
//   s[i] = w[i] (kept q[i] + even),  the target after smoothing and weighting, called the share of class i;
//                                    kept = 1 - smoothing, even = smoothing / n
// The results are
//   loss = sum(s cost) = sum(s (max - x)) / T + L sum(s)
//   grad[i] = factor (p[i] sum(s) - s[i]),  p = softmax(x / T)
//   hess[i] = factor sum(s) p[i] (1 - p[i])
// The code calls sum(s (max - x)) the gap of a row, and sum(s) its mass.
//
// A class index is the distribution with 1 at that class and 0 elsewhere. Its part of the gap is that of one
// element of the row. Only the smoothing needs a sum over the row.
//
// Every term of a sum is >= 0 for weights >= 0, so nothing cancels. The gradient is a difference by
// definition. If p[i] > 1/2 it is computed as (sum(s) - s[i]) - (1 - p[i]) sum(s): the digits stay where p
// and the target are both near 1.
#pragma once

#include "rows_paired.hpp"

namespace softloss {
namespace {

/// The sums of W rows, one row per lane. Double precision leaves kept and even out of the sums, because they
/// are pairs, and multiplies them in later:
///   float:   gap = sum(s (max - x)), mass = sum(s)
///   double:  gap = sum(w q (max - x)), mass = sum(w q), even_gap = sum(w (max - x))
template <class T>
struct SoftTotals {
    Pair<D<T>> gap, mass, even_gap;
    D<T> sample = splat<D<T>>(1);  ///< the weight of the row
};

/// Constants of the gradient, one row per lane.
template <class T>
struct SoftEpilogue {
    Pair<V<T>> scale;       ///< factor sum(s) / sum(e)
    Pair<V<T>> top;         ///< factor p sum(s) of the class with p > 1/2
    Pair<V<T>> kept, even;  ///< times factor
    V<T> max_exp;           ///< exponential of the class with p > 1/2; NaN, which nothing equals, without one
    V<T> post_scale;  ///< the factor, if the other constants would overflow or underflow with it; else 1
    V<T> nan;         ///< what a NaN becomes: NaN, or 0 where factor is 0
    bool may_be_nan;  ///< results of some row may be NaN

    SOFTLOSS_INLINE SoftEpilogue row(int r) const {
        return {{spread(scale.hi, r), spread(scale.lo, r)},
                {spread(top.hi, r), spread(top.lo, r)},
                {spread(kept.hi, r), spread(kept.lo, r)},
                {spread(even.hi, r), spread(even.lo, r)},
                spread(max_exp, r),
                spread(post_scale, r),
                spread(nan, r),
                may_be_nan};
    }
};

/// The op (paired_op.hpp lists its members). Labels: the targets are class indices, with smoothing.
template <class T, bool Labels, bool Weighted, bool Smoothed>
struct SoftLoss {
    static constexpr int W = kLanes<T>;
    static constexpr bool kExps = true, kTermExps = false, kAgain = false, kGradient = true;
    static constexpr Second kSecond = Labels ? Second::labels : Second::array;
    static constexpr Maximum kMaximum = Maximum::all;
    using Sums = PairedSums<T, Labels ? 1 : sizeof(T) == 8 && Smoothed ? 3 : 2>;
    using Centre = MaximumOfRows<T>;
    using Totals = SoftTotals<T>;
    using Epilogue = SoftEpilogue<T>;
    const PairedRows& c;
    const Storage<T>& storage;
    Temperature<T> temperature;
    /// Of doubles: a power of two, so that differences of logits do not overflow where their quotients by the
    /// temperature do not.
    double before;
    double scaled_temperature;  ///< the temperature times `before`

    SoftLoss(const PairedRows& rows, const Storage<T>& s, double t)
        : c(rows),
          storage(s),
          temperature(t),
          before(sizeof(T) == 8 && temperature.scale < 1 ? static_cast<double>(temperature.scale) : 1),
          scaled_temperature(t * before) {}

    SOFTLOSS_INLINE const double* weights() const { return Weighted ? c.weight : nullptr; }

    // ---- sums --------------------------------------------------------------------------------------------

    template <class F>
    SOFTLOSS_INLINE void with_terms(const Centre& centre, F f) const {
        const V<T> maximum = centre.x;
        const D<T> m = scaled(maximum);
        const V<T> zero = splat<V<T>>(0);
        f([&](Sums& sums, V<T> x, const auto& q, D<T> w) SOFTLOSS_LAMBDA {
            if constexpr (Labels) add_even(sums.of[0], m, scaled(x), w);
            else if constexpr (sizeof(T) == 8) add_double(sums, m, scaled(x), q, w);
            else if constexpr (Smoothed) add_float(sums, m, x, q, w);
            else add_float(sums, m, select(equal(q, zero), maximum, x), q, w);  // 0 * inf = 0
        });
    }
    SOFTLOSS_INLINE D<T> scaled(V<T> x) const {
        if constexpr (sizeof(T) == 8) return x * splat<D<T>>(before);
        else return convert<double>(x);
    }
    /// maximum - x, both scaled. For float, one subtraction in double is exact unless the exponents are far
    /// apart.
    SOFTLOSS_INLINE static Pair<D<T>> distance(D<T> maximum, D<T> x) {
        if constexpr (sizeof(T) == 4) return {maximum - x, splat<D<T>>(0)};
        else return two_sum(maximum, -x);
    }
    /// Adds the smoothing's term, w (maximum - x).
    template <class Sum>
    SOFTLOSS_INLINE static void add_even(Sum& sum, D<T> maximum, D<T> x, D<T> w) {
        const auto d = distance(maximum, x);
        if constexpr (Weighted) {
            add_weighted<T>(sum, {w, splat<D<T>>(0)}, d);
        } else {
            sum.add(d.hi);
            if constexpr (sizeof(T) == 8) sum.add_low(d.lo);
        }
    }
    /// Adds to gap and mass of a row of floats.
    SOFTLOSS_INLINE void add_float(Sums& sums, D<T> maximum, V<T> x, V<T> q, D<T> w) const {
        const D<T> d = maximum - convert<double>(x), zero = splat<D<T>>(0), target = convert<double>(q);
        D<T> share = target;
        if constexpr (Smoothed) share = fma(splat<D<T>>(c.kept.value), target, splat<D<T>>(c.even.value));
        if constexpr (Weighted) share = share * w;
        if (Weighted && c.zero_weights) add_weighted<T>(sums.of[0], {share, zero}, {d, zero});
        else sums.of[0].add_product(share, d);
        // Without weights, lanes beyond the row would add `even` here, so totals() adds the smoothing's mass.
        sums.of[1].add(Weighted ? share : target);
    }
    /// Adds to gap, mass and even_gap of a row of doubles.
    SOFTLOSS_INLINE static void add_double(Sums& sums, D<T> maximum, D<T> x, D<T> q, D<T> w) {
        const auto d = distance(maximum, x);
        Pair<D<T>> share{q, splat<D<T>>(0)};
        if constexpr (Weighted) {
            share = weighted_share<T>(q, w);
            sums.of[1].add_low(share.lo);
        }
        add_weighted<T>(sums.of[0], share, d);
        sums.of[1].add(share.hi);
        if constexpr (Smoothed) add_even(sums.of[2], maximum, x, w);
    }

    /// The sums of `count` rows from row `first` on, with the terms of their labels.
    SOFTLOSS_INLINE Totals totals(const PairedTotals<T, Sums::kCount>& sums, const Stats<T>& stats,
                                  std::int64_t first, int count) const {
        Totals all = unweighted_totals(sums, stats, first, count);
        if (c.sample) all.sample = load_lanes<W>(c.sample + first, count);
        return all;
    }
    SOFTLOSS_INLINE Totals unweighted_totals(const PairedTotals<T, Sums::kCount>& sums, const Stats<T>& stats,
                                             std::int64_t first, int count) const {
        const Pair<D<T>> none = splat_pair<D<T>>(0, 0);
        if constexpr (Labels) return label_totals(sums.of[0], stats, first, count);
        else if constexpr (Sums::kCount == 3) return {sums.of[0], sums.of[1], sums.of[2]};
        else if constexpr (sizeof(T) == 4 && Smoothed && !Weighted)
            return {sums.of[0], smoothed(sums.of[1].hi), none};
        else return {sums.of[0], sums.of[1], none};
    }
    /// even_gap: the sums of the smoothing. The label's own term is that of one element.
    SOFTLOSS_INLINE Totals label_totals(const Pair<D<T>>& even_gap, const Stats<T>& stats, std::int64_t first,
                                        int count) const {
        const V<T> x = at_labels(storage, c.x, c.label, first, count, stats.maximum);
        const D<T> zero = splat<D<T>>(0);
        const Pair<D<T>> w = {weights_of_labels(first, count), zero};
        const auto d = distance(scaled(stats.maximum), scaled(x));
        const auto none = equal(w.hi, zero);
        const Pair<D<T>> gap = w * Pair<D<T>>{select(none, zero, d.hi), select(none, zero, d.lo)};
        if constexpr (sizeof(T) == 8) {
            return {{gap.hi, select(equal(gap.lo, gap.lo), gap.lo, zero)}, w, even_gap};
        } else {
            const D<T> kept = splat<D<T>>(c.kept.value), even = splat<D<T>>(c.even.value);
            const D<T> own = c.kept.value == 0 ? zero : kept * gap.hi;
            return {{fma(even, even_gap.hi, own), zero}, smoothed(w.hi), {zero, zero}};
        }
    }
    /// sum(s), from sum(w q).
    SOFTLOSS_INLINE Pair<D<T>> smoothed(D<T> mass) const {
        const D<T> even = splat<D<T>>(c.even.value * c.weight_sum.value);
        return {fma(splat<D<T>>(c.kept.value), mass, even), splat<D<T>>(0)};
    }
    SOFTLOSS_INLINE D<T> weights_of_labels(std::int64_t first, int count) const {
        if constexpr (!Weighted) return splat<D<T>>(1);
        double lanes[W] = {};
        for (int r = 0; r < count; ++r) lanes[r] = c.weight[c.label[first + r]];
        return load<D<T>>(lanes);
    }

    // ---- losses ------------------------------------------------------------------------------------------

    /// The losses. For float, they are plain double arithmetic: its few roundings do not reach the float that
    /// a loss becomes.
    [[gnu::noinline]] D<T> results(const Stats<T>& stats, const Totals& sums) const {
        const auto rest = log_rest<T>(stats);
        const D<T> zero = splat<D<T>>(0);
        const auto ignored = equal(sums.sample, zero);
        if constexpr (sizeof(T) == 8) return select(ignored, zero, exact_loss(rest, sums));
        const D<T> far = sums.gap.hi / splat<D<T>>(scaled_temperature);
        const D<T> loss = far + wide_log_rest(stats, rest) * sums.mass.hi;
        return select(ignored, zero, canonical(sums.sample * loss));
    }
    /// The losses of rows of doubles, rounded once. The low part of an infinite pair is NaN: `plain`, the
    /// same formula without low parts, is the result then. A share of 0 drops its term, even an infinite one.
    SOFTLOSS_INLINE D<T> exact_loss(const Pair<V<T>>& rest, const Totals& sums) const {
        // The reciprocal of a subnormal temperature would be infinite.
        const double up = scaled_temperature < 0x1p-1000 ? 0x1p200 : 1;
        const D<T> zero = splat<D<T>>(0), t = splat<D<T>>(scaled_temperature * up);
        const Pair<D<T>> log_sum{convert<double>(rest.hi), convert<double>(rest.lo)};
        const auto part = [&](double share, const Pair<D<T>>& gap, const Pair<D<T>>& mass) SOFTLOSS_LAMBDA {
            return share == 0 ? zero
                              : splat<D<T>>(share) * (gap.hi * splat<D<T>>(up) / t +
                                                      (log_sum.hi + finite_low(log_sum.lo)) * mass.hi);
        };
        const auto exact = [&](const Sum& share, const Pair<D<T>>& gap,
                               const Pair<D<T>>& mass) SOFTLOSS_LAMBDA {
            const Pair<D<T>> s = splat_pair<D<T>>(share.value, share.error);
            const Pair<D<T>> scaled{gap.hi * splat<D<T>>(up), gap.lo * splat<D<T>>(up)},
                far = scaled_temperature == 1 ? gap : scaled / Pair<D<T>>{t, zero};
            return share.value == 0 ? Pair<D<T>>{zero, zero} : s * (far + log_sum * mass);
        };
        const Pair<D<T>> ones = splat_pair<D<T>>(c.weight_sum.value, c.weight_sum.error);
        D<T> plain = part(c.kept.value, sums.gap, sums.mass);
        Pair<D<T>> all = exact(c.kept, sums.gap, sums.mass);
        if constexpr (Smoothed) {
            plain = plain + part(c.even.value, sums.even_gap, ones);
            all = all + exact(c.even, sums.even_gap, ones);
        }
        all = all * Pair<D<T>>{sums.sample, zero};
        const D<T> r = all.hi + all.lo;
        return canonical(select(equal(r, r), r, sums.sample * plain));
    }

    // ---- gradient ----------------------------------------------------------------------------------------

    /// sum(s), to twice the precision of T.
    SOFTLOSS_INLINE Pair<V<T>> total(const Totals& sums) const {
        if constexpr (sizeof(T) == 4) {
            const V<T> hi = convert<T>(sums.mass.hi);
            return {hi, convert<T>(sums.mass.hi - convert<double>(hi))};
        } else {
            const auto pair = [](const Sum& x) SOFTLOSS_LAMBDA { return splat_pair<V<T>>(x.value, x.error); };
            const Pair<V<T>> kept = pair(c.kept) * sums.mass;
            if constexpr (Smoothed) return kept + pair(c.even) * pair(c.weight_sum);
            else return kept;
        }
    }
    [[gnu::noinline]] void epilogue(const Stats<T>& stats, const Totals& totals, std::int64_t first,
                                    int count, Epilogue& f) const {
        const V<T> zero = splat<V<T>>(0), one = splat<V<T>>(1);
        const V<T> given = convert<T>(load_lanes<W>(c.factor + first, count)), size = abs(given);
        const auto counted = not_equal(given, zero);  // rows with a gradient other than 0
        // With a larger or smaller factor, the products would overflow or lose their low parts.
        const auto usual = less(size, splat<V<T>>(T(0x1p40))) & less(splat<V<T>>(T(0x1p-40)), size);
        const V<T> factor = select(usual, given, one);
        const Pair<V<T>> factors{factor, zero}, all = factors * total(totals);
        const auto others = others_of(stats), inv = inverse<T>(others + stats.max_exp), scale = all * inv;
        const auto others_p = others * inv;  // 1 - p of the only maximum
        const auto less_others = all * others_p;
        const auto has_top = equal(stats.max_count, one) & less(others_p.hi, splat<V<T>>(T(0.5)));
        f.post_scale = select(usual, one, given);
        f.scale = {select(counted, scale.hi, zero), select(counted, scale.lo, zero)};
        f.top = {all.hi, all.lo - (less_others.hi + less_others.lo)};
        f.max_exp = select(has_top & counted, stats.max_exp.hi, nans<T>());
        f.kept = factors * pair_of<V<T>>(c.kept.value);
        f.even = factors * pair_of<V<T>>(c.even.value);
        f.nan = select(counted, nans<T>(), zero);
        // scale is infinite or NaN, also of a row that does not count, or factor is: `usual` then differs
        // from `counted`.
        f.may_be_nan = any(not_equal(scale.hi - scale.hi, zero)) || any(not_equal(usual, counted));
    }
    [[gnu::noinline]] void curvature(const Stats<T>& stats, const Totals& totals, std::int64_t first,
                                     int count, Curvature<T>& h) const {
        const V<T> zero = splat<V<T>>(0);
        D<T> mass = totals.mass.hi;
        if constexpr (sizeof(T) == 8) {
            const Pair<V<T>> all = total(totals);
            mass = select(equal(all.lo, all.lo), all.hi + all.lo, all.hi);
        }
        const D<T> factor = load_lanes<W>(c.factor + first, count);
        const auto others = others_of(stats);
        h.set(stats, others, inverse<T>(others + stats.max_exp));
        h.factor = convert<T>(factor * splat<D<T>>(c.hess_scale) * mass);
        h.least = splat<V<T>>(static_cast<T>(c.hess_min));
        h.counted = not_equal(convert<T>(factor), zero);
        h.factor = select(h.counted, h.factor, zero);
        h.unusual = any(not_equal(h.factor - h.factor, zero));
        h.may_be_nan = any_nan<T>(h.inverse.hi) || h.unusual;
    }
    /// One vector of the gradient. e: exponentials, q: targets or the mask of the labels, w: class weights.
    template <class Q>
    SOFTLOSS_INLINE V<T> gradient(const Epilogue& f, V<T> e, const Q& q, [[maybe_unused]] D<T> w) const {
        const V<T> zero = splat<V<T>>(0);
        const auto is_top = equal(e, f.max_exp);
        V<T> p = select(is_top, f.top.hi, fma(e, f.scale.hi, e * f.scale.lo)),
             low = select(is_top, f.top.lo, zero);
        const Pair<V<T>> s = share(f, q);
        if constexpr (Weighted) {
            const V<T> weight = convert<T>(w);
            if constexpr (Smoothed) {
                p = fma(-s.hi, weight, p);
                low = fma(-s.lo, weight, low);
            } else {
                p = fma(-(f.kept.hi * weight), q, p);  // q may be subnormal, s too
            }
        } else if constexpr (Smoothed) {
            p = p - s.hi;
            low = low - s.lo;
        } else {
            p = fma(-f.kept.hi, q, p);
        }
        const V<T> sum = p + low, g = sum * f.post_scale;
        if (!f.may_be_nan) return g;
        const auto none = equal(sum, zero) & equal(f.post_scale, f.post_scale);  // 0 * inf = 0
        return select(equal(g, g), g, select(none, zero, f.nan));
    }
    /// factor (kept q + even) as a pair. Without smoothing kept is 1, and the low part is 0.
    template <class Q>
    SOFTLOSS_INLINE static Pair<V<T>> share(const Epilogue& f, const Q& q) {
        if constexpr (Labels) {
            return {select(q, f.kept.hi + f.even.hi, f.even.hi), select(q, f.kept.lo + f.even.lo, f.even.lo)};
        } else if constexpr (Smoothed) {
            return {fma(f.kept.hi, q, f.even.hi), fma(f.kept.lo, q, f.even.lo)};
        } else {
            return {f.kept.hi * q, splat<V<T>>(0)};
        }
    }
};

/// c.x: (rows, n); targets: c.second (rows, n), or c.label (rows) -> c.loss: (rows), c.grad: (rows, n).
template <class S>
void soft_loss_rows(const PairedRows& c, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    const auto run = [&]<bool Labels, bool Weighted, bool Smoothed>() SOFTLOSS_LAMBDA {
        run_paired<S>(SoftLoss<T, Labels, Weighted, Smoothed>(c, kStorage<S>, options.temperature), rows, n,
                      options);
    };
    const bool smoothed = c.even.value != 0;
    if (c.label)
        return c.weight ? run.template operator()<true, true, true>()
                        : run.template operator()<true, false, true>();
    if (c.weight)
        smoothed ? run.template operator()<false, true, true>()
                 : run.template operator()<false, true, false>();
    else
        smoothed ? run.template operator()<false, false, true>()
                 : run.template operator()<false, false, false>();
}

}  // namespace
}  // namespace softloss
