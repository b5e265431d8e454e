// Ops: losses of probabilities and log-probabilities against a distribution over the classes, with gradient.
//
// Lives here: the cost of a class, its sum over a row, the gradient. Must not: logits (soft_targets.hpp),
// drivers (rows_paired.hpp), losses of class indices, which need one element of each row (the callers).
//
// Shapes: x, q, grad (rows, n); w (n); loss, factor (rows).
//   loss = sum(w q cost),  cost = -x for log-probabilities, -log(x) for probabilities (clamped to [0, 1])
//   grad = -factor w q for log-probabilities, -factor w q / x for probabilities
// with 0 * inf = 0. Every term of the sum is >= 0 for weights >= 0, so nothing cancels.
#pragma once

#include "rows_paired.hpp"

namespace softloss {
namespace {

/// -log(x) for 0 <= x <= 1 as a pair of doubles. Relative error: below 2^-27 for float, below one rounding
/// for double. Only vectors of normal numbers take the fast path. The slow path gives the same bits in lanes
/// with normal numbers, so that a result depends on its own lane alone.
template <class T>
SOFTLOSS_INLINE Pair<D<T>> surprisal(V<T> x) {
    const auto of_normal = [](V<T> v) SOFTLOSS_LAMBDA {
        const auto l = log_parts(v, splat<V<T>>(0));
        const D<T> hi = convert<double>(l.hi), lo = convert<double>(l.lo);
        if constexpr (sizeof(T) == 4) return Pair<D<T>>{-(hi + lo), splat<D<T>>(0)};
        else return Pair<D<T>>{-hi, -lo};
    };
    if (all_normal(x)) return of_normal(x);
    const V<T> least = splat<V<T>>(kSmallestNormal<T>);
    const auto is_normal = equal(max(least, x), x);
    const auto usual = of_normal(select(is_normal, x, least));
    const D<T> wide = convert<double>(x), zero = splat<D<T>>(0), other = -log_of_any(wide, zero);
    const auto normal = less(zero, convert<double>(select(is_normal, splat<V<T>>(1), splat<V<T>>(0))));
    return {select(normal, usual.hi, other), select(normal, usual.lo, zero)};
}

/// Loss and gradient of rows of probabilities or, with Logs, of their logarithms.
template <class T, bool Logs, bool Labels, bool Weighted>
struct ProbabilityLoss {
    static constexpr bool kExps = false, kTermExps = false, kAgain = false, kGradient = true;
    static constexpr Second kSecond = Labels ? Second::labels : Second::array;
    static constexpr Maximum kMaximum = Maximum::none;
    static constexpr int W = kLanes<T>;
    using Sums = PairedSums<T, 1>;
    using Centre = MaximumOfRows<T>;
    using Totals = PairedTotals<T, 1>;
    const PairedRows& c;

    /// An element whose cost is 0.
    SOFTLOSS_INLINE V<T> without_maximum() const { return splat<V<T>>(Logs ? 0 : 1); }
    SOFTLOSS_INLINE const double* weights() const { return Weighted ? c.weight : nullptr; }
    SOFTLOSS_INLINE static V<T> in_unit(V<T> x) {
        const V<T> zero = splat<V<T>>(0), one = splat<V<T>>(1);
        return select(less(one, x), one, select(less(x, zero), zero, x));
    }
    template <class Q>
    SOFTLOSS_INLINE static D<T> target(const Q& q) {
        if constexpr (Labels) return convert<double>(select(q, splat<V<T>>(1), splat<V<T>>(0)));
        else return convert<double>(q);
    }
    /// Sets *c.outside if a probability lies outside [0, 1] by more than the slack.
    template <class F>
    SOFTLOSS_INLINE void with_terms(const Centre&, F f) const {
        const V<T> least = splat<V<T>>(static_cast<T>(-c.slack)),
                   most = splat<V<T>>(static_cast<T>(1 + c.slack));
        auto outside = splat<IntVec<T, W>>(0);
        f([&](Sums& sums, V<T> x, const auto& q, D<T> w) SOFTLOSS_LAMBDA {
            const D<T> one = target(q);
            const Pair<D<T>> share = Weighted ? weighted_share<T>(one, w) : Pair<D<T>>{one, splat<D<T>>(0)};
            if constexpr (Logs) {
                add_weighted<T>(sums.of[0], share, {-convert<double>(x), splat<D<T>>(0)});
            } else {
                outside = outside | less(x, least) | less(most, x);
                add_weighted<T>(sums.of[0], share, surprisal<T>(in_unit(x)));
            }
        });
        if constexpr (!Logs) {
            if (any(outside)) *c.outside = true;
        }
    }
    SOFTLOSS_INLINE Totals totals(const Totals& sums, const Stats<T>&, std::int64_t, int) const {
        return sums;
    }
    SOFTLOSS_INLINE D<T> results(const Stats<T>&, const Totals& totals) const {
        const D<T> all = totals.of[0].hi + totals.of[0].lo;
        return canonical(select(equal(all, all), all, totals.of[0].hi));
    }

    /// Factors of the gradient, one row per lane.
    struct Epilogue {
        D<T> factor;
        SOFTLOSS_INLINE Epilogue row(int r) const { return {spread(factor, r)}; }
    };
    SOFTLOSS_INLINE void epilogue(const Stats<T>&, const Totals&, std::int64_t first, int count,
                                  Epilogue& f) const {
        f.factor = load_lanes<W>(c.factor + first, count);
    }
    template <class Q>
    SOFTLOSS_INLINE V<T> gradient(const Epilogue& f, V<T> x, const Q& q, D<T> w) const {
        const D<T> zero = splat<D<T>>(0);
        D<T> share = target(q);
        if constexpr (Weighted) share = share * w;
        D<T> g = -share;
        if constexpr (!Logs) g = g / convert<double>(in_unit(x));
        g = select(equal(share, zero), zero, f.factor * g);
        return canonical(convert<T>(select(equal(f.factor, zero), zero, g)));
    }
};

/// c.x: (rows, n); targets: c.second (rows, n), or c.label (rows) -> c.loss: (rows), c.grad: (rows, n).
/// Labels come without class weights: the callers multiply them into the factors.
template <class S, bool Logs>
void probability_loss_rows(const PairedRows& c, std::int64_t rows, std::int64_t n,
                           const RowOptions& options) {
    using T = Compute<S>;
    if (c.label) run_paired<S>(ProbabilityLoss<T, Logs, true, false>{c}, rows, n, options);
    else if (c.weight) run_paired<S>(ProbabilityLoss<T, Logs, false, true>{c}, rows, n, options);
    else run_paired<S>(ProbabilityLoss<T, Logs, false, false>{c}, rows, n, options);
}

}  // namespace
}  // namespace softloss
