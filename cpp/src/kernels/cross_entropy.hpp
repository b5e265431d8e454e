// Sums over a row weighted by a distribution: what soft targets, label smoothing and probabilities as input need.
//
// Lives here: weighted sums and the logarithm of a block. Must not: targets, reductions over rows (the callers of the table).
//
// Every term is >= 0 for weights >= 0, so nothing cancels. Products and sums carry their rounding errors along
// (Ogita, Rump and Oishi, "Accurate sum and dot product", 2005), in the class order of reduce.hpp.
#pragma once

#include "reduce.hpp"
#include "rows.hpp"

namespace softloss {
namespace {

/// Sum of a * b and of a, as pairs of doubles per class.
template <class T>
struct CompensatedSum {
    D<T> hi = splat<D<T>>(0), lo = splat<D<T>>(0);

    SOFTLOSS_INLINE void add(D<T> x) {
        const auto s = two_sum(hi, x);
        hi = s.hi;
        lo = lo + s.lo;
    }
    SOFTLOSS_INLINE void add_product(D<T> a, D<T> b) {
        const D<T> p = a * b;
        add(p);
        lo = lo + fma(a, b, -p);
    }
    /// hi alone where lo is not a number: the sum is infinite or NaN.
    SOFTLOSS_INLINE double total() const {
        const auto all = fold_pairs<kLanes<T>>(hi, lo);
        return all.lo == all.lo ? all.hi + all.lo : all.hi;
    }
};

/// Calls add(sum, i, valid) over n elements and returns the total.
template <class T, class Add>
SOFTLOSS_INLINE double sum_over(std::int64_t n, Add add) {
    constexpr int W = kLanes<T>;
    CompensatedSum<T> sum;
    std::int64_t i = 0;
    for (; i + W <= n; i += W) add(sum, i, W);
    if (i < n) add(sum, i, static_cast<int>(n - i));
    return sum.total();
}

/// Elements i ... i + valid - 1 as doubles, the rest `fill`.
template <class T>
SOFTLOSS_INLINE D<T> load_double(const T* x, std::int64_t i, int valid, T fill) {
    constexpr int W = kLanes<T>;
    if (valid == W) return convert<double>(load<V<T>>(x + i));
    T padded[W];
    for (int j = 0; j < W; ++j) padded[j] = j < valid ? x[i + j] : fill;
    return convert<double>(load<V<T>>(padded));
}

double weighted_gap(const double* x, const double* q, std::int64_t n, double maximum) {
    const V<double> zero = splat<V<double>>(0), m = splat<V<double>>(maximum);
    return sum_over<double>(n, [&](auto& sum, std::int64_t i, int valid) {
        const V<double> weight = load_double(q, i, valid, 0.0);
        const V<double> gap = m - load_double(x, i, valid, 0.0);
        sum.add_product(weight, select(equal(weight, zero), zero, gap));
    });
}

double weighted_surprisal(const double* x, const double* q, std::int64_t n) {
    const V<double> zero = splat<V<double>>(0);
    return sum_over<double>(n, [&](auto& sum, std::int64_t i, int valid) {
        const V<double> weight = load_double(q, i, valid, 0.0);
        const V<double> surprisal = -log(load_double(x, i, valid, 1.0));
        sum.add_product(weight, select(equal(weight, zero), zero, surprisal));
    });
}

double weighted_exp_sum(const double* x, const double* b, std::int64_t n, double maximum) {
    const V<double> zero = splat<V<double>>(0), m = splat<V<double>>(maximum);
    return sum_over<double>(n, [&](auto& sum, std::int64_t i, int valid) {
        const V<double> weight = load_double(b, i, valid, 0.0);
        const V<double> d = load_double(x, i, valid, 0.0) - m;
        const V<double> e = exp_nonpositive(select(less(zero, d), zero, d));
        sum.add_product(weight, select(equal(weight, zero), zero, e));
    });
}

template <class T>
double sum(const T* x, std::int64_t n) {
    return sum_over<T>(
        n, [&](auto& sum, std::int64_t i, int valid) { sum.add(load_double(x, i, valid, T(0))); });
}

/// y[i] = log(x[i]).
void log_values(const double* x, double* y, std::int64_t n) {
    constexpr int W = kLanes<double>;
    std::int64_t i = 0;
    for (; i + W <= n; i += W) store(y + i, log(load<V<double>>(x + i)));
    if (i < n) store_first(y + i, log(load_first(x + i, static_cast<int>(n - i))), static_cast<int>(n - i));
}

}  // namespace
}  // namespace softloss
