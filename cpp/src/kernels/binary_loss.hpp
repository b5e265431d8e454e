// The binary cross-entropies, their gradients and Hessians, element by element.
//
// Lives here: kernels for one block of adjacent elements and the sum of its losses. Must not: broadcasting,
// sums over blocks (the callers of the table do both).
//
// Shapes: all arrays (n). z: target in [0, 1], x: logit, p: probability.
//   softplus(x)     = max(x, 0) + log1p(e),  e = exp(-|x|)
//   bce with logits = a softplus(-x) + b softplus(x),  a = pos_weight z, b = 1 - z
//   its gradient    = b sigmoid(x) - a sigmoid(-x)
//   its Hessian     = (a + b) sigmoid(x) sigmoid(-x)
//   bce             = -(z log(p) + (1 - z) log(1 - p)), logarithms clamped at -100
// All terms of the losses are >= 0, so nothing cancels. sigmoid(x) and sigmoid(-x) are 1 / (1 + e) and e / (1
// + e): the gradient cancels only if neither a nor b is 0.
//
// With weights, products are formed in pairs, so that a result is rounded once, after all factors. Without
// weights there is little to round, and losses and gradients do without pairs.
#pragma once

#include "elementwise.hpp"

namespace softloss {
namespace {

/// factor times the weights of elements i ... i + valid - 1; factor alone if `weight` is null.
template <class T>
SOFTLOSS_INLINE Pair<V<T>> weighted(Pair<V<T>> factor, const T* weight, std::int64_t i, int valid) {
    if (!weight) return factor;
    return factor * Pair<V<T>>{load_some(weight + i, valid), splat<V<T>>(0)};
}
/// factor * value, rounded once; a factor of 0 gives 0 even if value is infinite. An infinite product has no
/// low part: that would be NaN.
template <class V>
SOFTLOSS_INLINE V product(Pair<V> factor, Pair<V> value) {
    const V zero = splat<V>(0);
    const V all = fma(factor.hi, value.hi, fma(factor.hi, value.lo, factor.lo * value.hi));
    return select(equal(factor.hi, zero), zero, select(equal(all, all), all, factor.hi * value.hi));
}
/// to[i ... i + valid - 1] = value; valid = N unless value is one logical vector.
template <class T, int N>
SOFTLOSS_INLINE void put(T* to, std::int64_t i, int valid, Vec<T, N> value) {
    if constexpr (N == kLanes<T>) store_some(to + i, canonical(value), valid);
    else to_storage(to + i, canonical(value));
}
/// x: (n). True if an element is below 0 or above 1 by more than `slack`; NaN is neither.
template <class T>
[[gnu::noinline]] bool outside_unit(const T* x, std::int64_t n, T slack) {
    using U = Vec<T, kLanes<T>>;
    auto outside = splat<IntVec<T, kLanes<T>>>(0);
    const U least = splat<U>(-slack), most = splat<U>(1 + slack);
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        const U v = load_some(x + i, valid);
        outside = outside | less(v, least) | less(most, v);
    });
    return any(outside);
}

/// What the kernel of a block collects: the sum of its losses, and flags for elements outside [0, 1]. float32
/// losses are added in plain doubles, which hold a block's sum exactly enough.
template <class T>
struct Collector {
    using I = IntVec<T, kLanes<T>>;
    const BinaryBlock<T>& b;
    Select<sizeof(T) == 4, PlainSum<T>, CompensatedSum<T>> sum{};
    I odd_x = splat<I>(0), odd_target = odd_x;  ///< sign set: some element may lie outside [0, 1]

    /// Clamps x to [0, 1]. Sets the sign of `odd` if the bits of an element, as an integer, are not those of
    /// a number in [0, 1]. It is cheap, but -0 and NaN set it as well: outside_unit() decides in the end.
    template <int N>
    SOFTLOSS_INLINE static Vec<T, N> unit(Vec<T, N> x, I& odd) {
        for_each_part<kLanes<T>>(
            [&](V<T> part) SOFTLOSS_LAMBDA {
                const I bits = as_int(part);
                odd = odd | bits | (as_int(splat<V<T>>(1)) - bits);
            },
            x);
        const auto zero = splat<Vec<T, N>>(0), one = splat<Vec<T, N>>(1);
        return select(less(one, x), one, select(less(x, zero), zero, x));
    }
    /// Stores and sums the losses of elements i ... i + valid - 1, as far as the caller wants either.
    template <int N>
    SOFTLOSS_INLINE void loss(std::int64_t i, int valid, Vec<T, N> loss) {
        if (b.loss) put(b.loss, i, valid, loss);
        if (!b.summed) return;
        for_each_part<kLanes<T>>(
            [&](V<T> part) SOFTLOSS_LAMBDA {
                sum.add(convert<double>(valid < kLanes<T> ? keep_first(part, valid) : part));
            },
            loss);
    }
    SOFTLOSS_INLINE BinaryTotal total(std::int64_t n) const {
        const I zero = splat<I>(0);
        // If results are written, the caller has checked before. In place they have overwritten what was
        // read.
        const bool written = b.grad || b.loss;
        return {b.summed ? sum.total() : 0,
                !written && any(less(odd_x, zero)) && outside_unit(b.x, n, b.slack_x),
                !written && any(less(odd_target, zero)) && outside_unit(b.target, n, b.slack_target)};
    }
};

/// The argument of bce's logarithm if the target z is 1 or 0: p or rest = 1 - p.
template <class V>
SOFTLOSS_INLINE Pair<V> share_of_hit(V p, Pair<V> rest, V z) {
    const auto hit = equal(z, splat<V>(1));
    return {select(hit, p, rest.hi), select(hit, splat<V>(0), rest.lo)};
}
/// -max(log, -100), never -0.
template <class V>
SOFTLOSS_INLINE V cost_of(V log) {
    return splat<V>(0) - max(splat<V>(-100), log);
}
/// True if all targets are 0 or 1.
template <class V>
SOFTLOSS_INLINE bool all_hard(V z) {
    return !any(not_equal(z * z, z));
}
/// The gradient of bce with respect to p: (p - z) / max(1e-12, p (1 - p)).
template <class V>
SOFTLOSS_INLINE V bce_slope(V p, Pair<V> rest, V z) {
    using T = typename LanesOf<V>::type;
    return (p - z) / max(splat<V>(T(1e-12)), rest.hi * p);
}

/// All arrays: (n). loss = -weight (z max(log p, -100) + (1 - z) max(log(1 - p), -100)), as in PyTorch; grad
/// = factor weight (p - z) / max(p (1 - p), 1e-12), as in PyTorch.
template <class T>
BinaryTotal bce_map(const BinaryBlock<T>& b, std::int64_t n) {
    const bool losses = b.loss || b.summed;
    Collector<T> collector{b};
    const auto many = [&]<int N>(std::int64_t i) SOFTLOSS_LAMBDA {
        using U = Vec<T, N>;
        const U p = collector.unit(load<U>(b.x + i), collector.odd_x),
                z = collector.unit(load<U>(b.target + i), collector.odd_target);
        const Pair<U> rest = fast_two_sum(splat<U>(1), -p), share = share_of_hit(p, rest, z);
        if (b.weight || (losses && !(all_hard(z) && all_normal(share.hi)))) return false;
        if (b.grad) put(b.grad, i, N, splat<U>(static_cast<T>(b.factor)) * bce_slope(p, rest, z));
        if (losses) {
            const Pair<U> l = log_parts(share.hi, share.lo);
            collector.loss(i, N, cost_of(l.hi + l.lo));
        }
        return true;
    };
    for_each_step<T, kElementUnroll<T>>(n, 0, many, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        using U = V<T>;
        const U zero = splat<U>(0), one = splat<U>(1), least = splat<U>(T(1e-12));
        const U p = collector.unit(load_some(b.x + i, valid), collector.odd_x),
                z = collector.unit(load_some(b.target + i, valid), collector.odd_target);
        const Pair<U> rest = fast_two_sum(one, -p);
        if (b.grad && !b.weight) {
            put(b.grad, i, valid, splat<U>(static_cast<T>(b.factor)) * bce_slope(p, rest, z));
        } else if (b.grad) {
            const Pair<U> spread = rest * Pair<U>{p, zero};
            const auto tiny = less(spread.hi, least);
            const Pair<U> slope =
                two_sum(p, -z) / Pair<U>{select(tiny, least, spread.hi), select(tiny, zero, spread.lo)};
            put(b.grad, i, valid, product(weighted<T>(pair_of<U>(b.factor), b.weight, i, valid), slope));
        }
        if (!losses) return;
        Pair<U> cost;
        if (all_hard(z)) {
            const Pair<U> share = share_of_hit(p, rest, z);
            cost = {cost_of(log(share.hi, share.lo)), zero};
        } else {
            const U cost_p = cost_of(log(p)), cost_rest = cost_of(log(rest.hi, rest.lo));
            if (b.weight) {
                cost = add_loosely(Pair<U>{z, zero} * Pair<U>{cost_p, zero},
                                   fast_two_sum(one, -z) * Pair<U>{cost_rest, zero});
            } else {
                cost = {fma(z, cost_p, (one - z) * cost_rest), zero};
            }
        }
        collector.loss(
            i, valid,
            b.weight ? product(weighted<T>(splat_pair<U>(1, 0), b.weight, i, valid), cost) : cost.hi);
    });
    return collector.total(n);
}

/// Terms of bce with logits for an element. e is c exp(-|x|) as exp_of_minus gives it; `small` is the same,
/// rounded and not scaled. Their factor c (math.hpp) takes the place of 1 in shares. Near requires
/// all_near(x).
template <bool Near, class V>
struct Logit {
    using T = typename LanesOf<V>::type;
    V x;
    Pair<V> e;
    V small;
    decltype(as_int(V())) positive;

    SOFTLOSS_INLINE explicit Logit(V from)
        : x(from),
          e(exp_of_minus<Near>(from)),
          small(Near ? e.hi : e.hi * splat<V>(kExpDown<T>)),
          positive(less(splat<V>(0), from)) {}
    SOFTLOSS_INLINE static V one() { return splat<V>(kExpFactor<T>); }
    /// c (1 + exp(-|x|)). sigmoid(x) = up() / whole(), sigmoid(-x) = low() / whole().
    SOFTLOSS_INLINE Pair<V> whole() const { return fast_two_sum(one(), small); }
    SOFTLOSS_INLINE V up() const { return select(positive, one(), small); }
    SOFTLOSS_INLINE V low() const { return select(positive, small, one()); }
    SOFTLOSS_INLINE Pair<V> rest() const { return log1p_of_exp<Near>(e); }

    // Gradient, Hessian and loss without weights: so few roundings that they need no pairs.
    SOFTLOSS_INLINE V slope(V z) const { return share_of(fma(splat<V>(1) - z, up(), -(z * low())), whole()); }
    SOFTLOSS_INLINE V curve() const { return share_of(one(), whole()) * share_of(small, whole()); }
    SOFTLOSS_INLINE V loss(V z) const {
        const V zero = splat<V>(0);
        const Pair<V> near = rest(), other = fast_two_sum(splat<V>(1), -z);
        const V far = select(positive, other.hi, z), far_low = select(positive, other.lo, zero);
        const V distance = select(equal(far, zero), zero, abs(x));
        const V cost = distance * far, cost_low = fma(distance, far, -cost) + distance * far_low;
        const Pair<V> sum = two_sum(cost, near.hi);
        const V low = sum.lo + (cost_low + near.lo);
        return sum.hi + (Near ? low : finite_low(low));
    }
};

/// All arrays: (n). With a = pos_weight z, b = 1 - z, s = sigmoid(x): loss = weight (a softplus(-x) + b
/// softplus(x)), grad = factor weight (b s - a (1 - s)), hess = max(hess_scale weight (a + b) s (1 - s),
/// hess_min).
template <class T>
BinaryTotal bce_logits_map(const BinaryBlock<T>& block, std::int64_t n) {
    const bool losses = block.loss || block.summed, plain = !block.weight && !block.pos_weight;
    Collector<T> collector{block};
    const auto plainly = [&]<class U>(std::int64_t i, int valid, const auto& logit, U z) SOFTLOSS_LAMBDA {
        if (block.grad) put(block.grad, i, valid, splat<U>(static_cast<T>(block.factor)) * logit.slope(z));
        if (block.hess)
            put(block.hess, i, valid,
                at_least(splat<U>(static_cast<T>(block.hess_min)),
                         splat<U>(static_cast<T>(block.hess_scale)) * logit.curve()));
        if (losses) collector.loss(i, valid, logit.loss(z));
    };
    const auto many = [&]<int N>(std::int64_t i) SOFTLOSS_LAMBDA {
        using U = Vec<T, N>;
        const U x = load<U>(block.x + i);
        if (!plain || !all_near(x)) return false;
        const U z = collector.unit(load<U>(block.target + i), collector.odd_target);
        plainly(i, N, Logit<true, U>(x), z);
        return true;
    };
    for_each_step<T, kElementUnroll<T>>(n, 0, many, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        using U = V<T>;
        const U zero = splat<U>(0), one = splat<U>(1);
        const U x = load_some(block.x + i, valid),
                z = collector.unit(load_some(block.target + i, valid), collector.odd_target);
        const Logit<false, U> logit(x);
        if (plain) return plainly(i, valid, logit, z);
        const Pair<U> a = weighted<T>({z, zero}, block.pos_weight, i, valid), b = fast_two_sum(one, -z);
        if (block.grad) {
            const Pair<U> whole = logit.whole();
            const U up = logit.up(), low = logit.low(), taken = a.hi * low;
            const Pair<U> numerator{fma(b.hi, up, -taken), -fma(a.hi, low, -taken)};
            put(block.grad, i, valid,
                product(weighted<T>(pair_of<U>(block.factor), block.weight, i, valid), numerator / whole));
            if (block.hess) {
                const Pair<U> curve =
                    (Pair<U>{logit.one(), zero} / whole) * (Pair<U>{logit.small, zero} / whole);
                const U h = product(weighted<T>(pair_of<U>(block.hess_scale), block.weight, i, valid),
                                    add_loosely(a, b) * curve);
                put(block.hess, i, valid, at_least(splat<U>(static_cast<T>(block.hess_min)), h));
            }
        }
        if (!losses) return;
        // a softplus(-x) + b softplus(x) = (a + b) log1p(exp(-|x|)) + |x| (b if x > 0, else a).
        const U far = select(logit.positive, b.hi, a.hi);
        const Pair<U> distance{select(equal(far, zero), zero, abs(x)), zero};
        const Pair<U> rest = logit.rest(), weight = weighted<T>(splat_pair<U>(1, 0), block.weight, i, valid);
        const U loss =
            product(weight, add_loosely((a + b) * fast_two_sum(rest.hi, rest.lo),
                                        Pair<U>{far, select(logit.positive, b.lo, a.lo)} * distance));
        // A loss that is subnormal before the weights have made it larger is scaled down after them.
        const Pair<U> scaled = half_log1p_of_exp<false>(logit.e);
        const auto tiny = equal(far, zero) & less(logit.small, splat<U>(T(0x1p-60)));
        const U small_loss =
            product(weight, (a + b) * fast_two_sum(scaled.hi, scaled.lo)) * splat<U>(2 * kExpDown<T>);
        collector.loss(i, valid, select(tiny, small_loss, loss));
    });
    return collector.total(n);
}

}  // namespace
}  // namespace softloss
