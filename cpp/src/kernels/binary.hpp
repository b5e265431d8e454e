// sigmoid, log_sigmoid and the binary cross-entropies with their gradients, element by element.
//
// Lives here: elementwise kernels, the sum of a block. Must not: broadcasting, sums of blocks (the callers of the table).
//
//   sigmoid(x)  = 1 / (1 + e) or e / (1 + e),  e = exp(-|x|); the division is corrected by its exact remainder
//   softplus(x) = max(x, 0) + log1p(e), both terms >= 0
//   bce with logits = a softplus(-x) + b softplus(x),  a = pos_weight z, b = 1 - z: never a difference of large numbers
//   its gradient    = b sigmoid(x) - a sigmoid(-x): exact shares of 1 + e, which cancel only where a and b both count
// exp comes times kExpFactor, c (math.hpp): c takes the place of 1 where only ratios count.
#pragma once

#include "rows.hpp"

namespace softloss {
namespace {

/// numerator / whole.
template <class V>
SOFTLOSS_INLINE V share_of(V numerator, Pair<V> whole) {
    const V r = splat<V>(1) / whole.hi, q = numerator * r;
    return fma(fma(-q, whole.lo, fma(-q, whole.hi, numerator)), r, q);
}

/// <= 1.6 ULP; sigmoid(+-inf) = 1, 0.
template <class V>
SOFTLOSS_INLINE V sigmoid(V x) {
    using T = typename LanesOf<V>::type;
    const V zero = splat<V>(0), c = splat<V>(kExpFactor<T>), down = splat<V>(kExpDown<T>);
    // The quotient is taken of scaled numbers: its correction would be lost below the smallest normal one.
    const V scaled = exp_scaled(-abs(x)).value();
    return share_of(select(less(x, zero), scaled, c / down), fast_two_sum(c, scaled * down)) * down;
}

/// log1p(exp(-|x|)) from c exp(-|x|) 2^kExpBias. <= 1.5 ULP.
template <class V>
SOFTLOSS_INLINE V log1p_share(ExpParts<V> parts) {
    using T = typename LanesOf<V>::type;
    using C = MathConstants<T>;
    const V inverse = splat<V>(C::kExpInverse), low = splat<V>(C::kExpInverseLow),
            down = splat<V>(kExpDown<T>);
    const Pair<V> e = parts.pair();
    const V y = e.hi * inverse;
    return log1p_unit(y * down, fma(e.hi, inverse, fma(e.hi, low, fma(e.lo, inverse, -y))) * down);
}

/// log(sigmoid(x)) = min(x, 0) - log1p(exp(-|x|)). <= 1.87 ULP.
template <class V>
SOFTLOSS_INLINE V log_sigmoid(V x) {
    const V zero = splat<V>(0);
    return select(less(x, zero), x, zero) - log1p_share(exp_scaled(-abs(x)));
}

/// x, y: (n) adjacent elements, y = f(x).
template <class S, class F>
SOFTLOSS_INLINE void map(const void* x, void* y, std::int64_t n, F f) {
    using T = Compute<S>;
    const S* const in = static_cast<const S*>(x);
    S* const out = static_cast<S*>(y);
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        store_some(out + i, canonical<T>(f(load_some(in + i, valid))), valid);
    });
}
template <class S>
void sigmoid_map(const void* x, void* y, std::int64_t n) {
    map<S>(x, y, n, [](auto v) SOFTLOSS_LAMBDA { return sigmoid(v); });
}
template <class S>
void log_sigmoid_map(const void* x, void* y, std::int64_t n) {
    map<S>(x, y, n, [](auto v) SOFTLOSS_LAMBDA { return log_sigmoid(v); });
}

/// Storage to compute type and back.
template <class S>
void widen_map(const void* x, void* y, std::int64_t n) {
    const S* const in = static_cast<const S*>(x);
    auto* const out = static_cast<Compute<S>*>(y);
    for_each_vector<kLanes<Compute<S>>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        store_some(out + i, load_some(in + i, valid), valid);
    });
}
template <class S>
void narrow_map(const void* x, void* y, std::int64_t n) {
    const auto* const in = static_cast<const Compute<S>*>(x);
    S* const out = static_cast<S*>(y);
    for_each_vector<kLanes<Compute<S>>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        store_some(out + i, load_some(in + i, valid), valid);
    });
}

/// weight * value with 0 * inf = 0; a null weight is 1.
template <class T>
SOFTLOSS_INLINE V<T> weighted(V<T> value, const T* weight, std::int64_t i, int valid) {
    if (!weight) return value;
    const V<T> w = load_some(weight + i, valid), zero = splat<V<T>>(0);
    return select(equal(w, zero), zero, w * value);
}
template <class T>
SOFTLOSS_INLINE void put(T* to, std::int64_t i, int valid, V<T> value) {
    store_some(to + i, canonical<T>(value), valid);
}
/// Nonzero where an element is below 0 or above 1 (NaN is neither).
template <class T, int N>
SOFTLOSS_INLINE IntVec<T, N> outside_unit(Vec<T, N> x) {
    return less(x, splat<Vec<T, N>>(0)) | less(splat<Vec<T, N>>(1), x);
}

/// What a block's kernel collects: losses, of which doubles hold more than a block of floats can need.
template <class T>
struct Collector {
    const BinaryBlock<T>& b;
    Select<sizeof(T) == 4, PlainSum<T>, CompensatedSum<T>> sum{};
    IntVec<T, kLanes<T>> bad_x = splat<IntVec<T, kLanes<T>>>(0), bad_target = bad_x;

    SOFTLOSS_INLINE void loss(std::int64_t i, int valid, V<T> value) {
        const V<T> loss = weighted<T>(value, b.weight, i, valid);
        if (b.loss) put(b.loss, i, valid, loss);
        if (b.summed) sum.add(convert<double>(valid == kLanes<T> ? loss : keep_first(loss, valid)));
    }
    SOFTLOSS_INLINE BinaryTotal total() const {
        return {b.summed ? sum.total() : 0, any(bad_x), any(bad_target)};
    }
};

/// loss = -weight (z max(log p, -100) + (1 - z) max(log(1 - p), -100)), grad = factor weight (p - z) / (p (1 - p)), as
/// PyTorch with p (1 - p) >= 1e-12. All: (n).
template <class T>
BinaryTotal bce_map(const BinaryBlock<T>& b, std::int64_t n) {
    const V<T> zero = splat<V<T>>(0), one = splat<V<T>>(1), floor = splat<V<T>>(-100);
    const V<T> factor = splat<V<T>>(b.factor);
    Collector<T> collector{b};
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        const V<T> p = load_some(b.x + i, valid), z = load_some(b.target + i, valid);
        collector.bad_x = collector.bad_x | outside_unit(p);
        collector.bad_target = collector.bad_target | outside_unit(z);
        if (b.grad) {
            const V<T> slope = (p - z) / max(splat<V<T>>(T(1e-12)), (one - p) * p);
            put(b.grad, i, valid, weighted<T>(factor * slope, b.weight, i, valid));
        }
        if (!b.loss && !b.summed) return;
        const Pair<V<T>> rest = fast_two_sum(one, -p);
        if (!any(not_equal(z * z, z))) {  // all 0 or 1: one logarithm of the two
            const auto hit = equal(z, one);
            const V<T> value = log(select(hit, p, rest.hi), select(hit, zero, rest.lo));
            collector.loss(i, valid, -max(floor, value));
        } else {
            const V<T> log_p = max(floor, log(p)), log_rest = max(floor, log(rest.hi, rest.lo));
            collector.loss(i, valid, -fma(z, log_p, (one - z) * log_rest));
        }
    });
    return collector.total();
}

/// With a = pos_weight z, b = 1 - z, s = sigmoid(x): loss = weight (a softplus(-x) + b softplus(x)),
/// grad = factor weight (b s - a (1 - s)), hess = max(hess_scale weight (a + b) s (1 - s), hess_min). All: (n).
template <class T>
BinaryTotal bce_logits_map(const BinaryBlock<T>& block, std::int64_t n) {
    const V<T> zero = splat<V<T>>(0), one = splat<V<T>>(1), c = splat<V<T>>(kExpFactor<T>);
    const V<T> factor = splat<V<T>>(block.factor);
    Collector<T> collector{block};
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        const V<T> x = load_some(block.x + i, valid), z = load_some(block.target + i, valid);
        collector.bad_target = collector.bad_target | outside_unit(z);
        const V<T> b = one - z, a = block.pos_weight ? load_some(block.pos_weight + i, valid) * z : z;
        const auto positive = less(zero, x);
        const auto parts = exp_scaled(-abs(x));
        if (block.grad) {
            // s and 1 - s are c and e over c + e, in one order or the other.
            const V<T> e = parts.value() * splat<V<T>>(kExpDown<T>);
            const auto whole = fast_two_sum(c, e);
            const V<T> numerator = select(positive, fma(b, c, -(a * e)), fma(b, e, -(a * c)));
            const V<T> slope = share_of(numerator, whole);
            put(block.grad, i, valid, weighted<T>(factor * slope, block.weight, i, valid));
            if (block.hess) {
                const V<T> curve = (a + b) * (share_of(c, whole) * share_of(e, whole));
                const V<T> h = splat<V<T>>(block.hess_scale) * weighted<T>(curve, block.weight, i, valid);
                put(block.hess, i, valid, max(splat<V<T>>(block.hess_min), h));
            }
        }
        if (!block.loss && !block.summed) return;
        const V<T> rest = log1p_share(parts);
        // a softplus(-x) + b softplus(x) = (a + b) rest + |x| (b or a)
        const V<T> share = select(positive, b, a);
        const V<T> common = block.pos_weight ? (a + b) * rest : rest;
        collector.loss(i, valid, select(equal(share, zero), common, fma(abs(x), share, common)));
    });
    return collector.total();
}

/// True if an element is below 0 or above 1.
template <class T>
bool outside_unit(const T* x, std::int64_t n) {
    auto outside = splat<IntVec<T, kLanes<T>>>(0);
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        outside = outside | outside_unit(load_some(x + i, valid));
    });
    return any(outside);
}

}  // namespace
}  // namespace softloss
