// sigmoid, log_sigmoid and the binary cross-entropies with their gradients, element by element.
//
// Lives here: elementwise kernels, the sum of a block. Must not: broadcasting, sums of blocks (the callers of the table).
//
//   sigmoid(x)  = 1 / (1 + e) or e / (1 + e),  e = exp(-|x|); the division is corrected by its exact remainder
//   softplus(x) = max(x, 0) + log1p(e), both terms >= 0
//   bce with logits = a softplus(-x) + b softplus(x),  a = pos_weight z, b = 1 - z: never a difference of large numbers
//   its gradient    = b sigmoid(x) - a sigmoid(-x): exact shares of 1 + e, which cancel only where a and b both count
// Weights, and the factors that go with them, are multiplied in pairs: a result is rounded once, after them all. Without
// weights there is little to round: losses and gradients do without pairs.
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

/// <= 1.6 ULP; sigmoid(+-inf) = 1, 0. K vectors side by side.
template <int K, class V>
SOFTLOSS_INLINE void sigmoid(const V (&x)[K], V (&y)[K]) {
    using T = typename LanesOf<V>::type;
    const V c = splat<V>(kExpFactor<T>), down = splat<V>(kExpDown<T>);
    V t[K], r[K];
    ExpParts<V> e[K];
    Pair<V> whole[K];
    const auto step = [](auto f) SOFTLOSS_LAMBDA { unrolled<K>(f); };
    step([&](int k) SOFTLOSS_LAMBDA { t[k] = -abs(x[k]); });
    exp_scaled(t, e);
    // The quotient is taken of scaled numbers: its correction would be lost below the smallest normal one.
    step([&](int k) SOFTLOSS_LAMBDA { t[k] = e[k].value(); });
    step([&](int k) SOFTLOSS_LAMBDA { whole[k] = fast_two_sum(c, t[k] * down); });
    step([&](int k) SOFTLOSS_LAMBDA { r[k] = splat<V>(1) / whole[k].hi; });
    step([&](int k) SOFTLOSS_LAMBDA { t[k] = select(less(x[k], splat<V>(0)), t[k], c / down); });
    step([&](int k) SOFTLOSS_LAMBDA { y[k] = t[k] * r[k]; });
    step([&](int k) SOFTLOSS_LAMBDA { t[k] = fma(-y[k], whole[k].hi, t[k]); });
    step([&](int k) SOFTLOSS_LAMBDA { t[k] = fma(-y[k], whole[k].lo, t[k]); });
    step([&](int k) SOFTLOSS_LAMBDA { y[k] = fma(t[k], r[k], y[k]) * down; });
}

/// log1p(exp(-|x|)) from c exp(-|x|) 2^kExpBias. Rounded: <= 1.5 ULP.
template <class V>
SOFTLOSS_INLINE Pair<V> log1p_share(ExpParts<V> parts) {
    using T = typename LanesOf<V>::type;
    using C = MathConstants<T>;
    const V inverse = splat<V>(C::kExpInverse), low = splat<V>(C::kExpInverseLow),
            down = splat<V>(kExpDown<T>);
    const Pair<V> e = parts.pair();
    const V y = e.hi * inverse;
    return log1p_unit_parts(y * down, fma(e.hi, inverse, fma(e.hi, low, fma(e.lo, inverse, -y))) * down);
}

/// log(sigmoid(x)) = min(x, 0) - log1p(exp(-|x|)). <= 1.87 ULP.
template <class V>
SOFTLOSS_INLINE V log_sigmoid(V x) {
    const V zero = splat<V>(0);
    const Pair<V> rest = log1p_share(exp_scaled(-abs(x)));
    return select(less(x, zero), x, zero) - (rest.hi + rest.lo);
}

/// Calls f(i, valid, v) for all of x, n adjacent elements: v holds those from i on, as several vectors side by side or as one
/// of which `valid` lanes count.
template <class S, class F>
SOFTLOSS_INLINE void for_each_in_step(const S* x, std::int64_t n, F f) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>, K = kInStep;
    std::int64_t first = 0;
    if constexpr (K > 1) {
        for (; first + K * W <= n; first += K * W) {
            V<T> v[K];
            unrolled<K>([&](int k) SOFTLOSS_LAMBDA { v[k] = from_storage<W>(x + first + k * W); });
            f(first, W, v);
        }
    }
    for_each_vector<W>(n - first, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        const V<T> v[1] = {load_some(x + first + i, valid)};
        f(first + i, valid, v);
    });
}

/// x, y: (n) adjacent elements; f(x, y) computes y for several vectors side by side.
template <class S, class F>
SOFTLOSS_INLINE void map(const void* x, void* y, std::int64_t n, F f) {
    using T = Compute<S>;
    S* const out = static_cast<S*>(y);
    for_each_in_step(static_cast<const S*>(x), n,
                     [&]<int K>(std::int64_t i, int valid, const V<T>(&v)[K]) SOFTLOSS_LAMBDA {
                         V<T> result[K];
                         f(v, result);
                         unrolled<K>([&](int k) SOFTLOSS_LAMBDA {
                             store_some(out + i + k * kLanes<T>, canonical<T>(result[k]), valid);
                         });
                     });
}
template <class S>
void sigmoid_map(const void* x, void* y, std::int64_t n) {
    map<S>(x, y, n, [](const auto& v, auto& result) SOFTLOSS_LAMBDA { sigmoid(v, result); });
}
template <class S>
void log_sigmoid_map(const void* x, void* y, std::int64_t n) {
    map<S>(x, y, n, []<int K>(const V<Compute<S>>(&v)[K], V<Compute<S>>(&result)[K]) SOFTLOSS_LAMBDA {
        unrolled<K>([&](int k) SOFTLOSS_LAMBDA { result[k] = log_sigmoid(v[k]); });
    });
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

/// factor * weight of the elements from i on; a null weight is 1.
template <class T>
SOFTLOSS_INLINE Pair<V<T>> weighted(Pair<V<T>> factor, const T* weight, std::int64_t i, int valid) {
    if (!weight) return factor;
    return factor * Pair<V<T>>{load_some(weight + i, valid), splat<V<T>>(0)};
}
/// factor * value, rounded once, with 0 * inf = 0. The low part of an infinite number is NaN and does not count.
template <class V>
SOFTLOSS_INLINE V product(Pair<V> factor, Pair<V> value) {
    const V zero = splat<V>(0);
    const V all = fma(factor.hi, value.hi, fma(factor.hi, value.lo, factor.lo * value.hi));
    return select(equal(factor.hi, zero), zero, select(equal(all, all), all, factor.hi * value.hi));
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

    SOFTLOSS_INLINE void loss(std::int64_t i, int valid, V<T> loss) {
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
    const V<T> zero = splat<V<T>>(0), one = splat<V<T>>(1), floor = splat<V<T>>(-100),
               least = splat<V<T>>(T(1e-12));
    const Pair<V<T>> factor = pair_of<V<T>>(b.factor), minus = splat_pair<V<T>>(-1, 0);
    Collector<T> collector{b};
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        const V<T> p = load_some(b.x + i, valid), z = load_some(b.target + i, valid);
        collector.bad_x = collector.bad_x | outside_unit(p);
        collector.bad_target = collector.bad_target | outside_unit(z);
        const Pair<V<T>> rest = fast_two_sum(one, -p);
        if (b.grad && !b.weight) {
            put(b.grad, i, valid, factor.hi * ((p - z) / max(least, rest.hi * p)));
        } else if (b.grad) {
            const Pair<V<T>> spread = rest * Pair<V<T>>{p, zero};
            const auto tiny = less(spread.hi, least);
            const Pair<V<T>> slope =
                two_sum(p, -z) / Pair<V<T>>{select(tiny, least, spread.hi), select(tiny, zero, spread.lo)};
            put(b.grad, i, valid, product(weighted<T>(factor, b.weight, i, valid), slope));
        }
        if (!b.loss && !b.summed) return;
        Pair<V<T>> cost;
        if (!any(not_equal(z * z, z))) {  // all 0 or 1: one logarithm of the two
            const auto hit = equal(z, one);
            cost = {max(floor, log(select(hit, p, rest.hi), select(hit, zero, rest.lo))), zero};
        } else {
            const V<T> log_p = max(floor, log(p)), log_rest = max(floor, log(rest.hi, rest.lo));
            if (b.weight) {
                cost = add_loosely(Pair<V<T>>{z, zero} * Pair<V<T>>{log_p, zero},
                                   fast_two_sum(one, -z) * Pair<V<T>>{log_rest, zero});
            } else {
                cost = {fma(z, log_p, (one - z) * log_rest), zero};
            }
        }
        collector.loss(i, valid, b.weight ? product(weighted<T>(minus, b.weight, i, valid), cost) : -cost.hi);
    });
    return collector.total();
}

/// With a = pos_weight z, b = 1 - z, s = sigmoid(x): loss = weight (a softplus(-x) + b softplus(x)),
/// grad = factor weight (b s - a (1 - s)), hess = max(hess_scale weight (a + b) s (1 - s), hess_min). All: (n).
template <class T>
BinaryTotal bce_logits_map(const BinaryBlock<T>& block, std::int64_t n) {
    const V<T> zero = splat<V<T>>(0), one = splat<V<T>>(1), c = splat<V<T>>(kExpFactor<T>);
    const Pair<V<T>> factor = pair_of<V<T>>(block.factor), scale = pair_of<V<T>>(block.hess_scale),
                     unit = splat_pair<V<T>>(1, 0);
    const bool plain = !block.weight && !block.pos_weight;  // few roundings, none of which need be kept
    Collector<T> collector{block};
    const auto element = [&](std::int64_t i, int valid, V<T> x, const ExpParts<V<T>>& parts) SOFTLOSS_LAMBDA {
        const V<T> z = load_some(block.target + i, valid);
        collector.bad_target = collector.bad_target | outside_unit(z);
        const Pair<V<T>> a = weighted<T>({z, zero}, block.pos_weight, i, valid), b = fast_two_sum(one, -z);
        const auto positive = less(zero, x);
        if (block.grad) {
            // s and 1 - s are c and e over c + e, in one order or the other.
            const V<T> e = parts.value() * splat<V<T>>(kExpDown<T>);
            const Pair<V<T>> whole = fast_two_sum(c, e);
            const V<T> up = select(positive, c, e), down = select(positive, e, c), taken = a.hi * down;
            const Pair<V<T>> numerator{fma(b.hi, up, -taken), -fma(a.hi, down, -taken)};
            put(block.grad, i, valid,
                plain ? factor.hi * share_of(numerator.hi, whole)
                      : product(weighted<T>(factor, block.weight, i, valid), numerator / whole));
            if (block.hess) {
                const Pair<V<T>> curve = (Pair<V<T>>{c, zero} / whole) * (Pair<V<T>>{e, zero} / whole);
                const V<T> h = product(weighted<T>(scale, block.weight, i, valid), add_loosely(a, b) * curve);
                put(block.hess, i, valid, max(splat<V<T>>(static_cast<T>(block.hess_min)), h));
            }
        }
        if (!block.loss && !block.summed) return;
        // a softplus(-x) + b softplus(x) = (a + b) rest + |x| (b or a)
        const Pair<V<T>> rest = log1p_share(parts);
        const V<T> far = select(positive, b.hi, a.hi);
        const auto none = equal(far, zero);
        if (plain) {
            const V<T> near = rest.hi + rest.lo;
            return collector.loss(i, valid, select(none, near, fma(abs(x), far, near)));
        }
        const Pair<V<T>> distance{select(none, zero, abs(x)), zero};
        const Pair<V<T>> loss =
            add_loosely(add_loosely(a, b) * rest, Pair<V<T>>{far, select(positive, b.lo, a.lo)} * distance);
        collector.loss(i, valid, product(weighted<T>(unit, block.weight, i, valid), loss));
    };
    for_each_in_step(block.x, n, [&]<int K>(std::int64_t i, int valid, const V<T>(&x)[K]) SOFTLOSS_LAMBDA {
        V<T> below[K];
        ExpParts<V<T>> parts[K];
        unrolled<K>([&](int k) SOFTLOSS_LAMBDA { below[k] = -abs(x[k]); });
        exp_scaled(below, parts);
        unrolled<K>([&](int k) SOFTLOSS_LAMBDA { element(i + k * kLanes<T>, valid, x[k], parts[k]); });
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
