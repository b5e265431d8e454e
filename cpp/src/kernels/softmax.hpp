// softmax, log_softmax, the log-partition and the class losses with their gradients, row by row.
//
// Lives here: what is made of a row's statistics (rows.hpp). Must not: layouts, instruction sets, threads.
//
//   softmax:      y[i] = e[i] / sum(e),  e = exp(x) in units of the reference, 1 / sum to twice T
//   log_softmax:  y[i] = (x[i] - max) - L,  L = log1p(s),  s = sum of exp(x - max) without one maximum
//   loss:         (max - x[label]) + L
//   gradient:     factor (p[i] - [i = label]); at the label 1 - p = s / (1 + s) where it is the only maximum, else p <= 1/2
//   Hessian:      factor p[i] (1 - p[i]), likewise
// No difference of nearly equal numbers is ever taken, and s is summed without the 1 that would swallow it: nothing
// cancels, down to the smallest results.
#pragma once

#include "rows.hpp"

namespace softloss {
namespace {

/// What an operation without results of its own per element has in their place.
struct NoFinish {
    bool invalid = false;
};

template <class T>
SOFTLOSS_INLINE bool any_nan(V<T> v) {
    return any(not_equal(v, v));
}

/// 1 / sum to twice the precision of T.
template <class T>
SOFTLOSS_INLINE Pair<V<T>> inverse(Pair<V<T>> sum) {
    return splat_pair<V<T>>(1, 0) / sum;
}

/// s = (others + (maxima - 1) largest) / largest.
template <class T>
SOFTLOSS_INLINE Pair<V<T>> relative_rest(const Stats<T>& stats) {
    const auto q = stats.sum / stats.largest;
    const auto s = two_sum(stats.maxima - splat<V<T>>(1), q.hi);
    return {s.hi, s.lo + q.lo};
}
template <class T>
SOFTLOSS_INLINE Pair<V<T>> log_rest(const Stats<T>& stats) {
    const auto s = relative_rest(stats);
    return log1p_parts(s.hi, s.lo);
}

template <class T>
struct Softmax {
    static constexpr bool kOthers = false, kExp = true;
    static constexpr int kResults = 1;

    struct Finish {
        Pair<V<T>> inverse;
        bool invalid;
        SOFTLOSS_INLINE V<T> operator()(V<T> e) const { return fma(e, inverse.hi, e * inverse.lo); }
        SOFTLOSS_INLINE V<T> mended(V<T> y) const { return canonical<T>(y); }
        SOFTLOSS_INLINE Finish row(int r) const {
            const V<T> hi = spread(inverse.hi, r);
            return {{hi, spread(inverse.lo, r)}, any_nan<T>(hi)};
        }
    };
    SOFTLOSS_INLINE Finish finish(const Stats<T>& stats, std::int64_t, int) const {
        const auto i = inverse<T>(stats.sum);
        return {i, any_nan<T>(i.hi)};
    }
    SOFTLOSS_INLINE void after(std::int64_t, int) const {}
};

template <class T>
struct LogSoftmax {
    static constexpr bool kOthers = true, kExp = false;
    static constexpr int kResults = 1;
    Temperature<T> temperature;
    bool scaled;

    explicit LogSoftmax(double t) : temperature(t), scaled(t != 1) {}
    struct Finish {
        V<T> maximum, rest, inverse, inverse_low;
        bool scaled, invalid;
        SOFTLOSS_INLINE V<T> mended(V<T> y) const { return canonical<T>(y); }
        SOFTLOSS_INLINE Finish row(int r) const {
            const V<T> l = spread(rest, r);
            return {spread(maximum, r), l, inverse, inverse_low, scaled, any_nan<T>(l)};
        }
        SOFTLOSS_INLINE V<T> operator()(V<T> x) const {
            const V<T> d = x - maximum;
            if (!scaled) return d - rest;
            // -inf must meet one product alone: the other may have the other sign, or be 0 * inf.
            const V<T> zero = splat<V<T>>(0), finite = select(equal(d - d, zero), d, zero);
            return fma(d, inverse, fma(finite, inverse_low, -rest));
        }
    };
    [[gnu::noinline]] Finish finish(const Stats<T>& stats, std::int64_t, int) const {
        const auto l = log_rest<T>(stats);
        const V<T> rest = l.hi + l.lo;
        return {stats.maximum,
                rest,
                splat<V<T>>(temperature.inverse),
                splat<V<T>>(temperature.inverse_low),
                scaled,
                any_nan<T>(rest)};
    }
    SOFTLOSS_INLINE void after(std::int64_t, int) const {}
};

/// Calls use(stats, first row, rows): operations without results for each element.
template <class T, class Use>
struct Collected {
    static constexpr bool kOthers = true, kExp = false;
    static constexpr int kResults = 0;
    Use use;

    SOFTLOSS_INLINE NoFinish finish(const Stats<T>& stats, std::int64_t first, int count) const {
        use(stats, first, count);
        return {};
    }
    SOFTLOSS_INLINE void after(std::int64_t, int) const {}
};

/// Leaves the partition of W rows.
template <class T>
struct PutPartition {
    T *maximum, *rest;
    [[gnu::noinline]] void operator()(const Stats<T>& stats, std::int64_t first, int count) const {
        const auto l = log_rest<T>(stats);
        store_some(maximum + first, stats.maximum, count);
        store_some(rest + first, l.hi + l.lo, count);
    }
};

/// What the loss of W rows needs beside their statistics; as a function, it leaves the loss.
template <class T>
struct Labels {
    const ClassRows& c;
    const Storage<T>& storage;
    const Temperature<T>& temperature;

    [[gnu::noinline]] void operator()(const Stats<T>& stats, std::int64_t first, int count) const {
        put_loss(stats, log_rest<T>(stats), picked(first, count, stats.maximum), first, count);
    }
    /// The logits at the labels of `count` rows; the maximum where a row is ignored.
    SOFTLOSS_INLINE V<T> picked(std::int64_t first, int count, V<T> maximum) const {
        T x[kLanes<T>];
        store(x, maximum);
        for (int r = 0; r < count; ++r) {
            const std::int64_t label = c.label[first + r];
            if (label < 0) continue;
            const char* const p = c.x.data + (first + r) * c.x.row + label * c.x.axis;
            if (storage.size == sizeof(T)) __builtin_memcpy(x + r, p, sizeof(T));
            else x[r] = storage.load_one(p);
        }
        return load<V<T>>(x);
    }
    SOFTLOSS_INLINE IntVec<T, kLanes<T>> kept(std::int64_t first, int count) const {
        typename IntOf<T>::type mask[kLanes<T>] = {};
        for (int r = 0; r < count; ++r) mask[r] = c.label[first + r] < 0 ? 0 : -1;
        return load<IntVec<T, kLanes<T>>>(mask);
    }
    /// (maximum - x) / temperature + rest.
    SOFTLOSS_INLINE V<T> loss(V<T> maximum, V<T> x, Pair<V<T>> rest) const {
        const auto d = two_sum(maximum, -x);
        const V<T> low = select(equal(d.lo, d.lo), d.lo, splat<V<T>>(0));  // inf - inf where x is -inf
        if (temperature.value == 1 && temperature.inverse_low == 0) return d.hi + (rest.hi + (rest.lo + low));
        const V<T> inverse = splat<V<T>>(temperature.inverse), zero = splat<V<T>>(0);
        const V<T> finite = select(equal(d.hi - d.hi, zero), d.hi, zero);
        return fma(d.hi, inverse,
                   rest.hi + (fma(finite, splat<V<T>>(temperature.inverse_low), low * inverse) + rest.lo));
    }
    SOFTLOSS_INLINE void put_loss(const Stats<T>& stats, Pair<V<T>> rest, V<T> x, std::int64_t first,
                                  int count) const {
        V<T> value = loss(stats.maximum, x, rest);
        for (int r = 0; r < count; ++r) {
            if (c.label[first + r] >= 0) continue;
            value = select(kept(first, count), value, splat<V<T>>(0));
            break;
        }
        store_some(static_cast<T*>(c.loss) + first, canonical<T>(value), count);
    }
};

/// Loss and gradient (and Hessian) in one pass.
template <class T, bool Hessian>
struct ClassGradient {
    static constexpr int W = kLanes<T>;
    static constexpr bool kOthers = true, kExp = true;
    static constexpr int kResults = Hessian ? 2 : 1;
    Labels<T> labels;
    T at_label[W * (kMaxGroups + 1)];  ///< of the rows that are not yet written

    struct Finish {
        Pair<V<T>> scale, inverse;  ///< factor / sum, 1 / sum
        V<T> factor, largest, at_maximum, hess_min;
        IntVec<T, W> kept;
        SOFTLOSS_INLINE Finish row(int r) const {
            const V<T> of = spread(inverse.hi, r);
            return {{spread(scale.hi, r), spread(scale.lo, r)},
                    {of, spread(inverse.lo, r)},
                    spread(factor, r),
                    spread(largest, r),
                    spread(at_maximum, r),
                    hess_min,
                    spread(kept, r),
                    any_nan<T>(of)};
        }
        bool invalid;
        /// A row that is ignored has its values whatever it holds.
        SOFTLOSS_INLINE V<T> mended(V<T> y) const { return select(kept, canonical<T>(y), splat<V<T>>(0)); }
        SOFTLOSS_INLINE V<T> mended_second(V<T> y) const { return select(kept, canonical<T>(y), hess_min); }
        SOFTLOSS_INLINE V<T> operator()(V<T> e) const { return fma(e, scale.hi, e * scale.lo); }
        /// factor p (1 - p)
        SOFTLOSS_INLINE V<T> second(V<T> e) const {
            const V<T> p = fma(e, inverse.hi, e * inverse.lo);
            const V<T> rest = select(equal(e, largest), at_maximum, splat<V<T>>(1) - p);
            return softloss::max(hess_min, factor * (p * rest));  // a NaN comes through
        }
    };
    [[gnu::noinline]] Finish finish(const Stats<T>& stats, std::int64_t first, int count) {
        const ClassRows& c = labels.c;
        const V<T> zero = splat<V<T>>(0), one = splat<V<T>>(1);
        const V<T> x = labels.picked(first, count, stats.maximum);
        if (c.loss) labels.put_loss(stats, log_rest<T>(stats), x, first, count);
        T hi[W] = {}, lo[W] = {};
        for (int r = 0; r < count; ++r) {
            const double f = c.label[first + r] < 0 ? 0 : c.factor[first + r];
            hi[r] = static_cast<T>(f);
            lo[r] = static_cast<T>(f - static_cast<double>(hi[r]));
        }
        const Pair<V<T>> factor{load<V<T>>(hi), load<V<T>>(lo)};
        const auto rest = relative_rest(stats);  // s; 1 + s = sum / largest
        const auto all = two_sum(rest.hi, one);
        const Pair<V<T>> whole = {all.hi, all.lo + rest.lo};
        const V<T> top = stats.maxima * stats.largest.hi;
        const auto sum = stats.sum + Pair<V<T>>{top, fma(stats.maxima, stats.largest.hi, -top) +
                                                         stats.maxima * stats.largest.lo};
        const auto inv = inverse<T>(sum);
        const auto kept = not_equal(factor.hi, zero);
        const auto scale = factor / sum;
        // 1 - p at the label: s / (1 + s) if it is the only maximum; else from p <= 1/2.
        const auto share = rest / whole;
        const auto e = labels_exp(x, stats);
        const V<T> p_hi = fma(e, inv.hi, e * inv.lo);
        const V<T> off =
            select(equal(x, stats.maximum) & equal(stats.maxima, one), share.hi + share.lo, one - p_hi);
        V<T> at = -(factor.hi * off);
        at = select(kept, at, zero);
        store(at_label + slot(first), canonical<T>(at));
        const V<T> at_maximum = select(equal(stats.maxima, one), share.hi,
                                       one - fma(stats.largest.hi, inv.hi, stats.largest.hi * inv.lo));
        return {{select(kept, scale.hi, zero), select(kept, scale.lo, zero)},
                inv,
                factor.hi * splat<V<T>>(static_cast<T>(c.hess_scale)),
                stats.largest.hi,
                at_maximum,
                splat<V<T>>(static_cast<T>(c.hess_min)),
                kept,
                any_nan<T>(inv.hi)};
    }
    static std::int64_t slot(std::int64_t row) { return row % (W * kMaxGroups); }
    /// exp(x) in the units of the row's sum.
    SOFTLOSS_INLINE V<T> labels_exp(V<T> x, const Stats<T>& stats) const {
        T value[W];
        store(value, x);
        exp_values(value, W, stats.maximum, labels.temperature, value);
        return load<V<T>>(value);
    }
    SOFTLOSS_INLINE void after(std::int64_t first, int count) const {
        const ClassRows& c = labels.c;
        for (int r = 0; r < count; ++r) {
            const std::int64_t label = c.label[first + r];
            if (label < 0) continue;
            char* const p = c.grad.data + (first + r) * c.grad.row + label * c.grad.axis;
            const T* const value = at_label + slot(first) + r;
            if (labels.storage.size == sizeof(T)) __builtin_memcpy(p, value, sizeof(T));
            else labels.storage.store_one(p, *value);
        }
    }
};

// ---- kernels --------------------------------------------------------------------------------------------------

/// x, y: (rows, n).
template <class S>
void softmax_rows(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    Softmax<Compute<S>> op;
    run_rows<S>(x, y, {}, rows, n, options, op);
    if (options.stream) fence();
}

/// x, y: (rows, n).
template <class S>
void log_softmax_rows(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    LogSoftmax<Compute<S>> op(options.temperature);
    run_rows<S>(x, y, {}, rows, n, options, op);
    if (options.stream) fence();
}

/// x: (rows, n) -> maximum, rest: (rows).
template <class S>
void partition_rows(RowsIn x, std::int64_t rows, std::int64_t n, void* maximum, void* rest,
                    const RowOptions& options) {
    using T = Compute<S>;
    Collected<T, PutPartition<T>> op{{static_cast<T*>(maximum), static_cast<T*>(rest)}};
    run_rows<S>(x, {}, {}, rows, n, options, op);
}

/// x: (rows, n), labels: (rows) -> losses: (rows), gradient and Hessian: (rows, n).
template <class S>
void class_loss_rows(const ClassRows& c, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    const Temperature<T> temperature(options.temperature);
    const Labels<T> labels{c, kStorage<S>, temperature};
    if (c.hess.data) {
        ClassGradient<T, true> op{labels, {}};
        run_rows<S>(c.x, c.grad, c.hess, rows, n, options, op);
    } else if (c.grad.data) {
        ClassGradient<T, false> op{labels, {}};
        run_rows<S>(c.x, c.grad, {}, rows, n, options, op);
    } else {
        Collected<T, Labels<T>> op{labels};
        run_rows<S>(c.x, {}, {}, rows, n, options, op);
    }
    if (options.stream) fence();
}

}  // namespace
}  // namespace softloss
