// The diagonal Hessian of the cross-entropy, which does not depend on the kind of target.
//
// Lives here: its constants, one row per lane, and its formula. Must not: gradients and losses
// (class_loss.hpp, soft_targets.hpp), the Hessian of other losses (focal.hpp extends this one), drivers.
//
//   Hessian[i] = max(factor p[i] (1 - p[i]), least)
// 1 - p would cancel if p is near 1. p > 1/2 is possible only for a class whose logit is the only maximum,
// and there 1 - p is the share of the other classes.
#pragma once

#include "row_stats.hpp"

namespace softloss {
namespace {

/// y * by, with 0 * inf = 0.
template <class V>
SOFTLOSS_INLINE V times_or_zero(V y, V by) {
    const V zero = splat<V>(0), product = y * by;
    const auto none = not_equal(product, product) & equal(y, zero) & equal(by, by);
    return select(none, zero, canonical(product));
}

/// The diagonal Hessian of the cross-entropy of W rows, one row per lane: max(factor p (1 - p), least).
template <class T>
struct Curvature {
    Pair<V<T>> inverse;  ///< 1 / sum
    V<T> factor, largest, at_maximum, rest_at_maximum,
        least;  ///< largest: the exponential of the maximum; there p (1 - p) and 1 - p
    IntVec<T, kLanes<T>> counted;
    bool unusual, may_be_nan;  ///< unusual: a factor may be infinite or NaN

    /// Sets what follows from the statistics. others: the sum of all exponentials except one of the maximum.
    SOFTLOSS_INLINE void set(const Stats<T>& stats, Pair<V<T>> others, Pair<V<T>> inv) {
        const V<T> one = splat<V<T>>(1);
        const auto only = equal(stats.max_count, one);
        const auto share = others * inv, top = stats.max_exp * inv;
        const Pair<V<T>> rest{select(only, share.hi, one - top.hi), select(only, share.lo, -top.lo)},
            curve = top * rest;
        inverse = inv;
        largest = stats.max_exp.hi;
        at_maximum = curve.hi + curve.lo;
        rest_at_maximum = rest.hi + rest.lo;
    }
    SOFTLOSS_INLINE V<T> p_of(V<T> e) const { return fma(e, inverse.hi, e * inverse.lo); }
    /// 1 - p
    SOFTLOSS_INLINE V<T> rest_of(V<T> e) const {
        return select(equal(e, largest), rest_at_maximum, splat<V<T>>(1) - p_of(e));
    }
    SOFTLOSS_INLINE V<T> operator()(V<T> e) const {
        const V<T> p = p_of(e), h = select(equal(e, largest), at_maximum, p * (splat<V<T>>(1) - p));
        return at_least(least, unusual ? times_or_zero(h, factor) : factor * h);  // a NaN comes through
    }
    /// A row that does not count has the Hessian 0, even if its logits are NaN.
    SOFTLOSS_INLINE V<T> canonical_result(V<T> y) const {
        return select(counted, canonical(y), softloss::max(least, splat<V<T>>(0)));
    }
    SOFTLOSS_INLINE Curvature row(int r) const {
        return {{spread(inverse.hi, r), spread(inverse.lo, r)},
                spread(factor, r),
                spread(largest, r),
                spread(at_maximum, r),
                spread(rest_at_maximum, r),
                least,
                spread(counted, r),
                unusual,
                may_be_nan};
    }
};

}  // namespace
}  // namespace softloss
