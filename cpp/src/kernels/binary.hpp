// sigmoid, log_sigmoid and the binary cross-entropies, element by element.
//
// Lives here: elementwise kernels. Must not: broadcasting, reductions (the callers of the table).
//
//   sigmoid(x)  = 1 / (1 + e) or e / (1 + e),  e = exp(-|x|); the division is corrected by its exact remainder
//   softplus(x) = max(x, 0) + log1p(e), both terms >= 0
//   bce with logits = pos_weight z softplus(-x) + (1 - z) softplus(x): never a difference of large numbers
#pragma once

#include "rows.hpp"
#include "softmax.hpp"

namespace softloss {
namespace {

/// <= 1.6 ULP; sigmoid(+-inf) = 1, 0.
template <class V>
SOFTLOSS_INLINE V sigmoid(V x) {
    const V zero = splat<V>(0), one = splat<V>(1);
    const V e = exp_nonpositive(-abs(x));
    const V d = one + e, d_low = (one - d) + e;
    const V numerator = select(less(x, zero), e, one);
    const V q = numerator / d;
    return q + (fma(-q, d, numerator) - q * d_low) / d;
}

/// log(sigmoid(x)) = min(x, 0) - log1p(exp(-|x|)). <= 1.8 ULP.
template <class V>
SOFTLOSS_INLINE V log_sigmoid(V x) {
    const V zero = splat<V>(0);
    return select(less(x, zero), x, zero) - log1p(exp_nonpositive(-abs(x)));
}

/// x, y: (n) adjacent elements, y = f(x).
template <class S, class F>
SOFTLOSS_INLINE void map(const void* x, void* y, std::int64_t n, F f) {
    constexpr int W = kLanes<Compute<S>>;
    const S* const in = static_cast<const S*>(x);
    S* const out = static_cast<S*>(y);
    for_each_vector<W>(n, [&](std::int64_t i, int valid) {
        if (valid == W) to_storage(out + i, canonical<Compute<S>>(f(from_storage<W>(in + i))));
        else store_first(out + i, canonical<Compute<S>>(f(load_first(in + i, valid))), valid);
    });
}
template <class S>
void sigmoid_map(const void* x, void* y, std::int64_t n) {
    map<S>(x, y, n, [](auto v) { return sigmoid(v); });
}
template <class S>
void log_sigmoid_map(const void* x, void* y, std::int64_t n) {
    map<S>(x, y, n, [](auto v) { return log_sigmoid(v); });
}

/// Storage to compute type and back.
template <class S>
void widen_map(const void* x, void* y, std::int64_t n) {
    constexpr int W = kLanes<Compute<S>>;
    const S* const in = static_cast<const S*>(x);
    auto* const out = static_cast<Compute<S>*>(y);
    for_each_vector<W>(n, [&](std::int64_t i, int valid) {
        if (valid == W) store(out + i, from_storage<W>(in + i));
        else store_first(out + i, load_first(in + i, valid), valid);
    });
}
template <class S>
void narrow_map(const void* x, void* y, std::int64_t n) {
    constexpr int W = kLanes<Compute<S>>;
    const auto* const in = static_cast<const Compute<S>*>(x);
    S* const out = static_cast<S*>(y);
    for_each_vector<W>(n, [&](std::int64_t i, int valid) {
        if (valid == W) to_storage(out + i, load<V<Compute<S>>>(in + i));
        else store_first(out + i, load_first(in + i, valid), valid);
    });
}

/// Elements i ... i + valid - 1 of an operand.
template <class T>
SOFTLOSS_INLINE V<T> operand(const T* p, std::int64_t i, int valid) {
    return valid == kLanes<T> ? load<V<T>>(p + i) : load_first(p + i, valid);
}

/// Stores weight * loss, with 0 * inf = 0; a null weight is 1.
template <class T>
SOFTLOSS_INLINE void store_loss(T* loss, V<T> value, const T* weight, std::int64_t i, int valid) {
    if (weight) {
        const V<T> w = operand(weight, i, valid), zero = splat<V<T>>(0);
        value = select(equal(w, zero), zero, w * value);
    }
    store_first(loss + i, canonical<T>(value), valid);
}

/// loss = -weight (z max(log p, -100) + (1 - z) max(log(1 - p), -100)). All: (n).
template <class T>
void bce_map(const T* probs, const T* target, const T* weight, T* loss, std::int64_t n) {
    const V<T> one = splat<V<T>>(1), floor = splat<V<T>>(-100);
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) {
        const V<T> p = operand(probs, i, valid), z = operand(target, i, valid);
        const V<T> log_p = max(floor, log(p));
        const V<T> log_q = select(equal(p, one), floor, max(floor, log1p(-p)));
        store_loss(loss, -fma(z, log_p, (one - z) * log_q), weight, i, valid);
    });
}

/// loss = weight (a softplus(-x) + b softplus(x)), a = pos_weight z, b = 1 - z. All: (n).
template <class T>
void bce_logits_map(const T* logits, const T* target, const T* weight, const T* pos_weight, T* loss,
                    std::int64_t n) {
    const V<T> zero = splat<V<T>>(0), one = splat<V<T>>(1);
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) {
        const V<T> x = operand(logits, i, valid), z = operand(target, i, valid);
        const V<T> b = one - z, a = pos_weight ? operand(pos_weight, i, valid) * z : z;
        const V<T> rest = log1p(exp_nonpositive(-abs(x)));
        // a softplus(-x) + b softplus(x) = (a + b) rest + |x| (b or a)
        const V<T> share = select(less(zero, x), b, a);
        const V<T> common = pos_weight ? (a + b) * rest : rest;
        const V<T> value = select(equal(share, zero), common, fma(abs(x), share, common));
        store_loss(loss, value, weight, i, valid);
    });
}

/// True if an element is below 0 or above 1 (NaN is neither).
template <class T>
bool outside_unit(const T* x, std::int64_t n) {
    const V<T> zero = splat<V<T>>(0), one = splat<V<T>>(1);
    auto outside = less(one, one);
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) {
        const V<T> v = operand(x, i, valid);
        outside = outside | less(v, zero) | less(one, v);
    });
    return any(outside);
}

}  // namespace
}  // namespace softloss
