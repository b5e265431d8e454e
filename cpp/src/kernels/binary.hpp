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
// In sigmoid, exp comes times kExpFactor, c (math.hpp), which takes the place of 1: only ratios count.
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
    const V c = splat<V>(kExpFactor<T>), down = splat<V>(kExpDown<T>);
    // The quotient is taken of scaled numbers: its correction would be lost below the smallest normal one.
    const V e = exp_scaled(minus_abs(x)).value();
    const Pair<V> whole = fast_two_sum(c, e * down);
    return share_of(select(less(x, splat<V>(0)), e, c / down), whole) * down;
}
/// The same bits where all_near(x), as almost everywhere.
template <class V>
SOFTLOSS_INLINE V sigmoid_near(V x) {
    const V c = splat<V>(kExpFactor<typename LanesOf<V>::type>);
    const V e = exp_parts(minus_abs(x), exp_magic(splat<V>(0))).value();
    return share_of(select(less(x, splat<V>(0)), e, c), fast_two_sum(c, e));
}

/// log(sigmoid(x)) = min(x, 0) - log1p(exp(-|x|)). <= 1.87 ULP.
template <bool Near, class V>
SOFTLOSS_INLINE V log_sigmoid(V x) {
    const V zero = splat<V>(0);
    const Pair<V> e = exp_of_minus<Near>(x), rest = log1p_unit_parts(e.hi, e.lo);
    return select(less(x, zero), x, zero) - (rest.hi + rest.lo);
}

// ---- elements of an array, several vectors at a time -----------------------------------------------------------------

/// Goes through n elements: where several vectors go side by side, many<N>(i) does it for N elements from i on and returns true,
/// or declines; one(i, valid) for those of a vector, of which the first `valid` count. The first `head` have no others beside
/// them.
template <class S, int InStep, class Many, class One>
SOFTLOSS_INLINE void for_each_step(std::int64_t n, std::int64_t head, const Many& many, const One& one) {
    constexpr int W = kLanes<Compute<S>>, N = InStep * W;
    if constexpr (N == W) {
        for_each_vector<W>(n, one);
    } else {
        for (std::int64_t i = 0; i < n;) {
            if (i >= head && i + N <= n && many.template operator()<N>(i)) {
                i += N;
                continue;
            }
            const std::int64_t step = i < head ? head : i + N, end = step < n ? step : n;
            for (; i < end; i += W) one(i, end - i < W ? static_cast<int>(end - i) : W);
            i = end;
        }
    }
}

/// Bytes before their use, elements are fetched where results go past the caches.
constexpr int kAhead = 4096;

/// x, y: (n) adjacent elements; y = f(x), or quick(x), side by side, where usual(x). These go past the caches where stream_, in
/// whole lines.
template <class From, class To, int InStep, class F, class Quick, class Usual>
SOFTLOSS_INLINE void map(const void* x, void* y, std::int64_t n, bool stream_, F f, Quick quick,
                         Usual usual) {
    using T = Compute<From>;
    constexpr bool kStreams = InStep > 1 && sizeof(From) == sizeof(T) && sizeof(To) == sizeof(T);
    const From* const in = static_cast<const From*>(x);
    To* const out = static_cast<To*>(y);
    const bool streamed = kStreams && stream_ && reinterpret_cast<std::uintptr_t>(y) % sizeof(To) == 0;
    const auto many = [&]<int N>(std::int64_t i) SOFTLOSS_LAMBDA {
        const auto v = from_storage<N>(in + i);
        if (!usual(v)) return false;
        const auto result = quick(v);
        if constexpr (kStreams) {
            if (streamed) {
                const char* const ahead = reinterpret_cast<const char*>(in + i) + kAhead;
                unrolled<InStep>([&](int k) SOFTLOSS_LAMBDA { prefetch(ahead + 64 * k); });
                To* line = out + i;
                in_turn<kLanes<T>>(
                    [&](V<T> part) SOFTLOSS_LAMBDA {
                        stream(line, part);
                        line += kLanes<T>;
                    },
                    result);
                return true;
            }
        }
        to_storage(out + i, result);
        return true;
    };
    for_each_step<From, InStep>(n, streamed ? before_line(out) : 0, many,
                                [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
                                    store_some(out + i, f(load_some(in + i, valid)), valid);
                                });
    if (streamed) fence();
}
template <class S>
void sigmoid_map(const void* x, void* y, std::int64_t n, bool stream) {
    constexpr int kMany =
        sizeof(S) == 4 && kInStep > 1 ? 2 * kInStep : kElementsInStep<S>;  // few registers do
    map<S, S, kMany>(
        x, y, n, stream, [](auto v) SOFTLOSS_LAMBDA { return canonical(sigmoid(v)); },
        [](auto v) SOFTLOSS_LAMBDA { return sigmoid_near(v); },
        [](auto v) SOFTLOSS_LAMBDA { return all_near(v); });
}
template <class S>
void log_sigmoid_map(const void* x, void* y, std::int64_t n, bool stream) {
    map<S, S, kElementsInStep<S>>(
        x, y, n, stream, [](auto v) SOFTLOSS_LAMBDA { return canonical(log_sigmoid<false>(v)); },
        [](auto v) SOFTLOSS_LAMBDA { return log_sigmoid<true>(v); },
        [](auto v) SOFTLOSS_LAMBDA { return all_near(v); });
}

/// Storage to compute type and back.
template <class From, class To>
SOFTLOSS_INLINE void copy(const void* x, void* y, std::int64_t n) {
    const auto same = [](auto v) SOFTLOSS_LAMBDA { return v; };
    map<From, To, kElementsInStep<From>>(x, y, n, false, same, same,
                                         [](const auto&) SOFTLOSS_LAMBDA { return true; });
}
template <class S>
void widen_map(const void* x, void* y, std::int64_t n) {
    copy<S, Compute<S>>(x, y, n);
}
template <class S>
void narrow_map(const void* x, void* y, std::int64_t n) {
    copy<Compute<S>, S>(x, y, n);
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
template <class T, int N>
SOFTLOSS_INLINE void put(T* to, std::int64_t i, int valid, Vec<T, N> value) {
    if constexpr (N == kLanes<T>) store_some(to + i, canonical(value), valid);
    else to_storage(to + i, canonical(value));
}
/// Nonzero where an element is below 0 or above 1 (NaN is neither).
template <class T, int N>
SOFTLOSS_INLINE IntVec<T, N> outside_unit(Vec<T, N> x) {
    return less(x, splat<Vec<T, N>>(0)) | less(splat<Vec<T, N>>(1), x);
}
/// True if an element is below 0 or above 1.
template <class T>
[[gnu::noinline]] bool outside_unit(const T* x, std::int64_t n) {
    auto outside = splat<IntVec<T, kLanes<T>>>(0);
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        outside = outside | outside_unit(load_some(x + i, valid));
    });
    return any(outside);
}

/// What a block's kernel collects: losses, of which doubles hold more than a block of floats can need, and signs of elements
/// outside [0, 1].
template <class T>
struct Collector {
    using I = IntVec<T, kLanes<T>>;
    const BinaryBlock<T>& b;
    Select<sizeof(T) == 4, PlainSum<T>, CompensatedSum<T>> sum{};
    I odd_x = splat<I>(0), odd_target = odd_x;

    /// The sign of `odd` is set where the bits of an element are those of no number from 0 to 1: of -0 and NaN, too.
    template <int N>
    SOFTLOSS_INLINE static void look_at(Vec<T, N> x, I& odd) {
        in_turn<kLanes<T>>(
            [&](V<T> x) SOFTLOSS_LAMBDA {
                const I bits = as_int(x);
                odd = odd | bits | (as_int(splat<V<T>>(1)) - bits);
            },
            x);
    }
    template <int N>
    SOFTLOSS_INLINE void loss(std::int64_t i, int valid, Vec<T, N> loss) {
        if (b.loss) put(b.loss, i, valid, loss);
        if (!b.summed) return;
        in_turn<kLanes<T>>(
            [&](V<T> part) SOFTLOSS_LAMBDA {
                sum.add(convert<double>(valid < kLanes<T> ? keep_first(part, valid) : part));
            },
            loss);
    }
    SOFTLOSS_INLINE BinaryTotal total(std::int64_t n) const {
        const I zero = splat<I>(0);
        const bool written = b.grad || b.loss;  // maybe over what was read
        return {b.summed ? sum.total() : 0, !written && any(less(odd_x, zero)) && outside_unit(b.x, n),
                !written && any(less(odd_target, zero)) && outside_unit(b.target, n)};
    }
};

/// What bce takes the logarithm of where z is 1 or 0: p, or rest = 1 - p.
template <class V>
SOFTLOSS_INLINE Pair<V> share_of_hit(V p, Pair<V> rest, V z) {
    const auto hit = equal(z, splat<V>(1));
    return {select(hit, p, rest.hi), select(hit, splat<V>(0), rest.lo)};
}
template <class V>
SOFTLOSS_INLINE V cost_of(V log) {
    return splat<V>(0) - max(splat<V>(-100), log);
}
template <class V>
SOFTLOSS_INLINE bool all_hard(V z) {
    return !any(not_equal(z * z, z));
}
/// (p - z) / max(1e-12, p (1 - p)).
template <class V>
SOFTLOSS_INLINE V bce_slope(V p, Pair<V> rest, V z) {
    using T = typename LanesOf<V>::type;
    return (p - z) / max(splat<V>(T(1e-12)), rest.hi * p);
}

/// loss = -weight (z max(log p, -100) + (1 - z) max(log(1 - p), -100)), grad = factor weight (p - z) / (p (1 - p)), as
/// PyTorch with p (1 - p) >= 1e-12. All: (n).
template <class T>
BinaryTotal bce_map(const BinaryBlock<T>& b, std::int64_t n) {
    const bool losses = b.loss || b.summed;
    Collector<T> collector{b};
    const auto many = [&]<int N>(std::int64_t i) SOFTLOSS_LAMBDA {
        using U = Vec<T, N>;
        const U p = load<U>(b.x + i), z = load<U>(b.target + i);
        const Pair<U> rest = fast_two_sum(splat<U>(1), -p), share = share_of_hit(p, rest, z);
        if (b.weight || (losses && !(all_hard(z) && all_normal(share.hi)))) return false;
        collector.look_at(p, collector.odd_x);
        collector.look_at(z, collector.odd_target);
        if (b.grad) put(b.grad, i, N, splat<U>(static_cast<T>(b.factor)) * bce_slope(p, rest, z));
        if (losses) {
            const Pair<U> l = log_parts(share.hi, share.lo);
            collector.loss(i, N, cost_of(l.hi + l.lo));
        }
        return true;
    };
    for_each_step<T, kElementsInStep<T>>(n, 0, many, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        using U = V<T>;
        const U zero = splat<U>(0), one = splat<U>(1), least = splat<U>(T(1e-12));
        const U p = load_some(b.x + i, valid), z = load_some(b.target + i, valid);
        const Pair<U> rest = fast_two_sum(one, -p);
        collector.look_at(p, collector.odd_x);
        collector.look_at(z, collector.odd_target);
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

/// What bce with logits makes of an element: exp(-|x|) as e and, rounded, as `small`. Near: all_near(x).
template <bool Near, class V>
struct Logit {
    V x;
    Pair<V> e;
    V small;
    decltype(as_int(V())) positive;

    SOFTLOSS_INLINE explicit Logit(V from)
        : x(from), e(exp_of_minus<Near>(from)), small(e.hi + e.lo), positive(less(splat<V>(0), from)) {}
    /// 1 + exp(-|x|), of which sigmoid(x) and sigmoid(-x) are shares: up() and low().
    SOFTLOSS_INLINE Pair<V> whole() const { return fast_two_sum(splat<V>(1), small); }
    SOFTLOSS_INLINE V up() const { return select(positive, splat<V>(1), small); }
    SOFTLOSS_INLINE V low() const { return select(positive, small, splat<V>(1)); }
    SOFTLOSS_INLINE Pair<V> rest() const { return log1p_unit_parts(e.hi, e.lo); }

    // For weights of 1, with few roundings, none of which need be kept.
    SOFTLOSS_INLINE V slope(V z) const { return share_of(fma(splat<V>(1) - z, up(), -(z * low())), whole()); }
    SOFTLOSS_INLINE V curve() const { return share_of(splat<V>(1), whole()) * share_of(small, whole()); }
    SOFTLOSS_INLINE V loss(V z) const {
        const Pair<V> all = rest();
        const V near = all.hi + all.lo, far = select(positive, splat<V>(1) - z, z);
        return select(equal(far, splat<V>(0)), near, fma(abs(x), far, near));
    }
};

/// With a = pos_weight z, b = 1 - z, s = sigmoid(x): loss = weight (a softplus(-x) + b softplus(x)),
/// grad = factor weight (b s - a (1 - s)), hess = max(hess_scale weight (a + b) s (1 - s), hess_min). All: (n).
template <class T>
BinaryTotal bce_logits_map(const BinaryBlock<T>& block, std::int64_t n) {
    const bool losses = block.loss || block.summed, plain = !block.weight && !block.pos_weight;
    Collector<T> collector{block};
    const auto plainly = [&]<class U>(std::int64_t i, int valid, const auto& logit, U z) SOFTLOSS_LAMBDA {
        if (block.grad) put(block.grad, i, valid, splat<U>(static_cast<T>(block.factor)) * logit.slope(z));
        if (block.hess)
            put(block.hess, i, valid,
                max(splat<U>(static_cast<T>(block.hess_min)),
                    splat<U>(static_cast<T>(block.hess_scale)) * logit.curve()));
        if (losses) collector.loss(i, valid, logit.loss(z));
    };
    const auto many = [&]<int N>(std::int64_t i) SOFTLOSS_LAMBDA {
        using U = Vec<T, N>;
        const U x = load<U>(block.x + i), z = load<U>(block.target + i);
        if (!plain || !all_near(x)) return false;
        collector.look_at(z, collector.odd_target);
        plainly(i, N, Logit<true, U>(x), z);
        return true;
    };
    for_each_step<T, kElementsInStep<T>>(n, 0, many, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        using U = V<T>;
        const U zero = splat<U>(0), one = splat<U>(1);
        const U x = load_some(block.x + i, valid), z = load_some(block.target + i, valid);
        collector.look_at(z, collector.odd_target);
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
                const Pair<U> curve = (Pair<U>{one, zero} / whole) * (Pair<U>{logit.small, zero} / whole);
                const U h = product(weighted<T>(pair_of<U>(block.hess_scale), block.weight, i, valid),
                                    add_loosely(a, b) * curve);
                put(block.hess, i, valid, max(splat<U>(static_cast<T>(block.hess_min)), h));
            }
        }
        if (!losses) return;
        // a softplus(-x) + b softplus(x) = (a + b) log1p(exp(-|x|)) + |x| (b or a)
        const U far = select(logit.positive, b.hi, a.hi);
        const Pair<U> distance{select(equal(far, zero), zero, abs(x)), zero};
        const Pair<U> loss = add_loosely(add_loosely(a, b) * logit.rest(),
                                         Pair<U>{far, select(logit.positive, b.lo, a.lo)} * distance);
        collector.loss(i, valid, product(weighted<T>(splat_pair<U>(1, 0), block.weight, i, valid), loss));
    });
    return collector.total(n);
}

}  // namespace
}  // namespace softloss
