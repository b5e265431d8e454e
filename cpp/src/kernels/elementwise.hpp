// sigmoid and log_sigmoid, and the loops of all elementwise kernels.
//
// Lives here: maps over adjacent elements with several vectors in flight; sigmoid's formulas. Must not:
// losses (binary_loss.hpp).
//
//   sigmoid(x)  = 1 / (1 + e) or e / (1 + e),  e = exp(-|x|); the division is corrected by its exact remainder
//
// In sigmoid the exponentials have the constant factor c = kExpFactor (math.hpp), so that c stands for 1:
// only the ratio counts.
#pragma once

#include "reduce.hpp"

namespace softloss {
namespace {

/// numerator / whole, corrected by the remainder of the division.
template <class V>
SOFTLOSS_INLINE V share_of(V numerator, Pair<V> whole) {
    const V r = splat<V>(1) / whole.hi, q = numerator * r;
    return fma(fma(-q, whole.lo, fma(-q, whole.hi, numerator)), r, q);
}

/// Any x. <= 1.6 ULP; sigmoid(inf) = 1, sigmoid(-inf) = 0.
template <class V>
SOFTLOSS_INLINE V sigmoid(V x) {
    using T = typename LanesOf<V>::type;
    const V c = splat<V>(kExpFactor<T>), down = splat<V>(kExpDown<T>);
    // e and the numerator are scaled up before the division: its correction would underflow if the result is
    // subnormal.
    const V e = exp_scaled(minus_abs(x)).value();
    const Pair<V> whole = fast_two_sum(c, e * down);
    return share_of(select(less(x, splat<V>(0)), e, c / down), whole) * down;
}
/// sigmoid if all_near(x), which is nearly always so: faster, with the same bits.
template <class V>
SOFTLOSS_INLINE V sigmoid_near(V x) {
    const V c = splat<V>(kExpFactor<typename LanesOf<V>::type>);
    const V e = exp_parts(minus_abs(x), exp_magic(splat<V>(0))).value();
    return share_of(select(less(x, splat<V>(0)), e, c), fast_two_sum(c, e));
}

/// log(sigmoid(x)) = min(x, 0) - log1p(exp(-|x|)), rounded once. Near requires all_near(x).
template <bool Near, class V>
SOFTLOSS_INLINE V log_sigmoid(V x) {
    const V zero = splat<V>(0);
    const Pair<V> rest = log1p_of_exp<Near>(exp_of_minus<Near>(x));
    const Pair<V> sum = two_sum(select(less(x, zero), x, zero), -rest.hi);
    return sum.hi + ((Near ? sum.lo : finite_low(sum.lo)) - rest.lo);
}

// ---- elements of an array, several vectors in flight -----------------------------------------------------

/// Loops over n elements. many<N>(i) handles the usual case: N = Unroll * W elements from i on. It returns
/// false to decline them. one(i, valid) handles the first `valid` elements of one vector: of those that
/// `many` declines, of the rest at the end, and of the first `head` elements.
template <class S, int Unroll, class Many, class One>
SOFTLOSS_INLINE void for_each_step(std::int64_t n, std::int64_t head, const Many& many, const One& one) {
    constexpr int W = kLanes<Compute<S>>, N = Unroll * W;
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

/// Prefetch distance, in bytes, with non-temporal stores.
constexpr int kPrefetchBytes = 4096;

/// y[i] = f(x[i]) for n adjacent elements, at any address; y may be x. Vectors with usual(x) take quick(x), a
/// faster form with the same bits. want_nontemporal: their results are written by non-temporal stores of
/// whole cache lines, where From, To and the alignment allow it.
template <class From, class To, int Unroll, class F, class Quick, class Usual>
SOFTLOSS_INLINE void map(const void* x, void* y, std::int64_t n, bool want_nontemporal, F f, Quick quick,
                         Usual usual) {
    using T = Compute<From>;
    constexpr bool kNontemporal = Unroll > 1 && sizeof(From) == sizeof(T) && sizeof(To) == sizeof(T);
    const From* const in = static_cast<const From*>(x);
    To* const out = static_cast<To*>(y);
    const bool nontemporal =
        kNontemporal && want_nontemporal && reinterpret_cast<std::uintptr_t>(y) % sizeof(To) == 0;
    const auto many = [&]<int N>(std::int64_t i) SOFTLOSS_LAMBDA {
        const auto v = from_storage<N>(in + i);
        if (!usual(v)) return false;
        const auto result = quick(v);
        if constexpr (kNontemporal) {
            if (nontemporal) {
                const char* const ahead = reinterpret_cast<const char*>(in + i) + kPrefetchBytes;
                unrolled<Unroll>([&](int k) SOFTLOSS_LAMBDA { prefetch(ahead + 64 * k); });
                To* line = out + i;
                for_each_part<kLanes<T>>(
                    [&](V<T> part) SOFTLOSS_LAMBDA {
                        store_nontemporal(line, part);
                        line += kLanes<T>;
                    },
                    result);
                return true;
            }
        }
        to_storage(out + i, result);
        return true;
    };
    for_each_step<From, Unroll>(n, nontemporal ? aligned_head(out) : 0, many,
                                [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
                                    store_some(out + i, f(load_some(in + i, valid)), valid);
                                });
    if (nontemporal) fence();
}
template <class S>
void sigmoid_map(const void* x, void* y, std::int64_t n, bool nontemporal) {
    constexpr int kMany =
        sizeof(S) == 4 && kUnroll > 1 ? 2 * kUnroll : kElementUnroll<S>;  // sigmoid needs few registers
    map<S, S, kMany>(
        x, y, n, nontemporal, [](auto v) SOFTLOSS_LAMBDA { return canonical(sigmoid(v)); },
        [](auto v) SOFTLOSS_LAMBDA { return sigmoid_near(v); },
        [](auto v) SOFTLOSS_LAMBDA { return all_near(v); });
}
template <class S>
void log_sigmoid_map(const void* x, void* y, std::int64_t n, bool nontemporal) {
    map<S, S, kElementUnroll<S>>(
        x, y, n, nontemporal, [](auto v) SOFTLOSS_LAMBDA { return canonical(log_sigmoid<false>(v)); },
        [](auto v) SOFTLOSS_LAMBDA { return log_sigmoid<true>(v); },
        [](auto v) SOFTLOSS_LAMBDA { return all_near(v); });
}

/// Converts n adjacent elements between storage and compute type.
template <class From, class To>
SOFTLOSS_INLINE void copy(const void* x, void* y, std::int64_t n) {
    const auto same = [](auto v) SOFTLOSS_LAMBDA { return v; };
    map<From, To, kElementUnroll<From>>(x, y, n, false, same, same,
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

}  // namespace
}  // namespace softloss
