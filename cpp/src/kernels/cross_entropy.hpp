// Sums over a piece of a row, weighted by a distribution: what soft targets, label smoothing, probabilities as input and
// the backward forms of the transforms need.
//
// Lives here: weighted sums, rows of logits in pieces, the logarithm of a block, gradients that follow from such sums. Must
// not: losses against class indices (softmax.hpp), targets, the loop over the pieces and rows (the callers of the table).
//
// Every term is >= 0 for weights >= 0, so nothing cancels. Products and sums carry their rounding errors along, in
// the class order of reduce.hpp (CompensatedSum).
#pragma once

#include "softmax.hpp"

namespace softloss {
namespace {

/// Calls add(sum, i, valid) over n elements and returns the total.
template <class T, class Add>
SOFTLOSS_INLINE Sum sum_over(std::int64_t n, Add add) {
    CompensatedSum<T> sum;
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA { add(sum, i, valid); });
    return sum.parts();
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

Sum weighted_gap(const double* x, const double* q, std::int64_t n, double maximum) {
    const V<double> zero = splat<V<double>>(0), m = splat<V<double>>(maximum);
    return sum_over<double>(n, [&](auto& sum, std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        const V<double> weight = load_double(q, i, valid, 0.0);
        const V<double> gap = m - load_double(x, i, valid, 0.0);
        sum.add_product(weight, select(equal(weight, zero), zero, gap));
    });
}

Sum weighted_surprisal(const double* x, const double* q, std::int64_t n) {
    const V<double> zero = splat<V<double>>(0);
    return sum_over<double>(n, [&](auto& sum, std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        const V<double> weight = load_double(q, i, valid, 0.0);
        const V<double> surprisal = -log(load_double(x, i, valid, 1.0));
        sum.add_product(weight, select(equal(weight, zero), zero, surprisal));
    });
}

Sum weighted_exp_sum(const double* x, const double* b, std::int64_t n, double maximum) {
    const V<double> zero = splat<V<double>>(0), m = splat<V<double>>(maximum);
    const Sum s = sum_over<double>(n, [&](auto& sum, std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        const V<double> weight = load_double(b, i, valid, 0.0);
        const V<double> d = load_double(x, i, valid, 0.0) - m;
        const V<double> e = exp_nonpositive(select(less(zero, d), zero, d));
        sum.add_product(weight, select(equal(weight, zero), zero, e));
    });
    return {s.value / kExpFactor<double>, s.error / kExpFactor<double>};
}

template <class T>
double sum(const T* x, std::int64_t n) {
    return sum_over<T>(n, [&](auto& sum, std::int64_t i, int valid)
                              SOFTLOSS_LAMBDA { sum.add(load_double(x, i, valid, T(0))); })
        .value;
}

// ---- a row of logits in pieces ------------------------------------------------------------------------------------

/// x: (n) -> the largest.
double largest(const double* x, std::int64_t n) {
    constexpr int W = kLanes<double>;
    double padded[W];
    for (int i = 0; i < W; ++i) padded[i] = x[i < n ? i : 0];
    const V<double> most = n < W ? load<V<double>>(padded) : row_max(x, n);
    return fold(most, [](auto a, auto b) SOFTLOSS_LAMBDA { return max(a, b); }) + 0.0;
}

void add_exponentials(const double* x, std::int64_t n, LogitRow& row) {
    const Temperature<double> temperature(row.temperature);
    with_reference<double>(splat<V<double>>(row.maximum), temperature, [&](const auto& ref) SOFTLOSS_LAMBDA {
        const auto piece = careful_row_sum(x, n, ref);
        const auto all = Pair<double>{row.others.value, row.others.error} + fold_lanes(piece.sum);
        row.others = {all.hi, all.lo};
        row.maxima +=
            static_cast<double>(fold(piece.maxima, [](auto a, auto b) SOFTLOSS_LAMBDA { return a + b; }));
    });
}

void finish_logits(LogitRow& row) {
    using D = V<double>;
    const Temperature<double> temperature(row.temperature);
    Stats<double> stats{};
    stats.maximum = splat<D>(row.maximum);
    stats.sum = splat_pair<D>(row.others.value, row.others.error);
    stats.maxima = splat<D>(row.maxima);
    with_reference<double>(stats.maximum, temperature, [&](const auto& ref) SOFTLOSS_LAMBDA {
        stats.largest = ref.exp(stats.maximum).pair();
    });
    const auto l = log_rest<double>(stats);
    const auto rest = rest_of(stats), inverse = softloss::inverse<double>(rest + stats.largest);
    row.log_rest = first(l.hi + l.lo);
    row.others_share = first((rest * inverse).hi);
    row.inverse = {first(inverse.hi), first(inverse.lo)};
}

/// g[i] = factor (total p[i] - share[i]); where x is the maximum, p = 1 - others_share. In pairs, rounded once: each product
/// counts in full where the two cancel in part.
void soft_gradient(const double* x, const double* q, const double* w, double* g, std::int64_t n,
                   const LogitRow& row, const SoftShares& shares) {
    using D = V<double>;
    const auto pair = [](const Sum& s) SOFTLOSS_LAMBDA { return splat_pair<D>(s.value, s.error); };
    const auto minus = [](const Pair<D>& a) SOFTLOSS_LAMBDA { return Pair<D>{-a.hi, -a.lo}; };
    const Temperature<double> temperature(row.temperature);
    const D zero = splat<D>(0);
    const Pair<D> kept = pair(shares.kept), even = pair(shares.even), factor = pair(shares.factor),
                  inverse = pair(row.inverse), total = kept * pair(shares.sum_q) + even * pair(shares.sum_w),
                  others = total * splat_pair<D>(row.others_share, 0);
    with_reference<double>(splat<D>(row.maximum), temperature, [&](const auto& ref) SOFTLOSS_LAMBDA {
        for_each_vector<kLanes<double>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            const D xi = load_some(x + i, valid);
            Pair<D> share = kept * Pair<D>{load_some(q + i, valid), zero};
            if (w) share = share + even * Pair<D>{load_some(w + i, valid), zero};
            Pair<D> slope = total * (ref.exp(xi).pair() * inverse) + minus(share);
            if (row.others_share < 0.5) {  // only above 1/2 is 1 - p the smaller of the two
                const Pair<D> rest = (total + minus(share)) + minus(others);
                const auto is_maximum = equal(xi, ref.maximum);
                slope = {select(is_maximum, rest.hi, slope.hi), select(is_maximum, rest.lo, slope.lo)};
            }
            const Pair<D> result = factor * slope;
            const D low =
                select(equal(result.lo, result.lo), result.lo, zero);  // inf - inf where it is infinite
            store_some(g + i, canonical(result.hi + low), valid);
        });
    });
}

// ---- backward ---------------------------------------------------------------------------------------------------

/// Sum of a * b, compensated.
template <class T>
SOFTLOSS_INLINE double dot(const T* a, const T* b, std::int64_t n) {
    return sum_over<T>(n,
                       [&](auto& sum, std::int64_t i, int valid) SOFTLOSS_LAMBDA {
                           sum.add_product(load_double(a, i, valid, T(0)), load_double(b, i, valid, T(0)));
                       })
        .value;
}

/// y, dy, dx: (n). dx = y (dy - sum(y dy)), with 0 * inf = 0 nowhere: y > 0 takes part as it is.
template <class T>
void softmax_backward_row(const T* y, const T* dy, T* dx, std::int64_t n) {
    const auto s = pair_of<V<T>>(dot(y, dy, n));
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        const V<T> d = (load_some(dy + i, valid) - s.hi) - s.lo;
        store_some(dx + i, canonical(load_some(y + i, valid) * d), valid);
    });
}
/// y = log_softmax(x), dy, dx: (n). dx = dy - exp(y) sum(dy).
template <class T>
void log_softmax_backward_row(const T* y, const T* dy, T* dx, std::int64_t n) {
    const auto s = pair_of<V<T>>(sum(dy, n) / static_cast<double>(kExpFactor<T>));
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        const V<T> e = exp_nonpositive(load_some(y + i, valid)), d = load_some(dy + i, valid);
        store_some(dx + i, canonical(d - fma(e, s.hi, e * s.lo)), valid);
    });
}

/// y[i] = log(x[i]).
void log_values(const double* x, double* y, std::int64_t n) {
    for_each_vector<kLanes<double>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        store_some(y + i, log(load_some(x + i, valid)), valid);
    });
}

}  // namespace
}  // namespace softloss
