// Op: logsumexp with weights.
//
// Lives here: log(sum(b exp(x))) of a row. Must not: rows without weights (softmax.hpp), drivers
// (rows_paired.hpp).
//
// Shapes: x, b (rows, n); result (rows). With m the maximum of the elements whose weight is not 0:
//   result = m + log(sum(b exp(x - m))), NaN where the sum is negative; -inf where no element counts
// Exponentials and sums are formed in double, since the weights may span more than the range of float. If m
// is infinite or NaN, exp(x - m) makes no sense: then only elements that are inf or NaN count, each as b x.
#pragma once

#include "rows_paired.hpp"

namespace softloss {
namespace {

template <class T>
struct WeightedLogsumexp {
    static constexpr bool kExps = false, kTermExps = false, kAgain = false, kGradient = false;
    static constexpr Second kSecond = Second::array;
    static constexpr Maximum kMaximum = Maximum::counted;
    using Sums = PairedSums<T, 1>;
    using Centre = MaximumOfRows<T>;
    using Totals = PairedTotals<T, 1>;
    const PairedRows& c;

    SOFTLOSS_INLINE const double* weights() const { return nullptr; }

    /// The maximum if it is finite, else 0.
    SOFTLOSS_INLINE static V<T> finite_max(V<T> maximum) {
        const V<T> zero = splat<V<T>>(0);
        return select(equal(maximum - maximum, zero), maximum, zero);
    }
    template <class F>
    SOFTLOSS_INLINE void with_terms(const Centre& centre, F f) const {
        const V<T> maximum = centre.x, zero = splat<V<T>>(0), finite = finite_max(maximum);
        const D<T> m = convert<double>(finite), none = splat<D<T>>(0);
        const auto add = [&](Sums& sums, V<T> x, V<T> b) SOFTLOSS_LAMBDA {
            const D<T> weight = convert<double>(b), d = convert<double>(x) - m;
            // An element whose weight is 0 may be above the maximum; its exponential must not be infinite or
            // NaN.
            const D<T> e = exp_nonpositive(select(less(none, d), none, d));
            sums.of[0].add_product(weight, select(equal(weight, none), none, e));
        };
        if (!any(not_equal(finite, maximum))) {
            f([&](Sums& sums, V<T> x, V<T> b, D<T>) SOFTLOSS_LAMBDA { add(sums, x, b); });
            return;
        }
        const auto usual = equal(finite, maximum);  // rows with a finite maximum
        f([&](Sums& sums, V<T> x, V<T> b, D<T>) SOFTLOSS_LAMBDA {
            add(sums, x, select(usual, b, zero));
            const auto infinite =
                not_equal(b, zero) & (equal(x, splat<V<T>>(__builtin_inff())) | not_equal(x, x));
            sums.of[0].add(convert<double>(select(usual, zero, select(infinite, b * x, zero))));
        });
    }
    SOFTLOSS_INLINE Totals totals(const Totals& sums, const Stats<T>&, std::int64_t, int) const {
        return sums;
    }
    [[gnu::noinline]] D<T> results(const Stats<T>& stats, const Totals& totals) const {
        const D<T> none = splat<D<T>>(0), top = splat<D<T>>(__builtin_inff()), s = totals.of[0].hi;
        const D<T> positive =
            select(less(none, s), s + totals.of[0].lo, none) / splat<D<T>>(kExpFactor<double>);
        const D<T> finite = convert<double>(finite_max(stats.maximum)) + log_of_any(positive, none);
        const auto bad = less(s, none) | not_equal(s, s);
        return select(bad, splat<D<T>>(__builtin_nan("")), select(equal(s, top), top, finite));
    }
    struct Epilogue {};
};

/// x, second (the weights): (rows, n) -> c.loss: (rows).
template <class S>
void weighted_logsumexp_rows(const PairedRows& c, std::int64_t rows, std::int64_t n,
                             const RowOptions& options) {
    run_paired<S>(WeightedLogsumexp<Compute<S>>{c}, rows, n, options);
}

}  // namespace
}  // namespace softloss
