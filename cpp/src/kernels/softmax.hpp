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

#include "parts.hpp"

namespace softloss {
namespace {

template <class T>
SOFTLOSS_INLINE bool any_nan(V<T> v) {
    return any(not_equal(v, v));
}

/// 1 / sum to twice the precision of T.
template <class T>
SOFTLOSS_INLINE Pair<V<T>> inverse(Pair<V<T>> sum) {
    return splat_pair<V<T>>(1, 0) / sum;
}

/// The sum of all exponentials but one of the largest.
template <class T>
SOFTLOSS_INLINE Pair<V<T>> rest_of(const Stats<T>& stats) {
    const V<T> more = stats.maxima - splat<V<T>>(1), top = more * stats.largest.hi;
    return stats.sum + Pair<V<T>>{top, fma(more, stats.largest.hi, -top) + more * stats.largest.lo};
}
template <class T>
SOFTLOSS_INLINE Pair<V<T>> log_rest(const Stats<T>& stats) {
    const auto s = rest_of(stats) / stats.largest;
    return log1p_parts(s.hi, s.lo);
}

template <class T>
struct Softmax {
    static constexpr bool kOthers = false, kExp = true, kLabels = false;
    static constexpr int kResults = 1;

    struct Finish {
        Pair<V<T>> inverse;
        bool invalid;
        SOFTLOSS_INLINE V<T> operator()(V<T> e) const { return fma(e, inverse.hi, e * inverse.lo); }
        SOFTLOSS_INLINE V<T> mended(V<T> y) const { return canonical(y); }
        SOFTLOSS_INLINE Finish row(int r) const {
            const V<T> hi = spread(inverse.hi, r);
            return {{hi, spread(inverse.lo, r)}, any_nan<T>(hi)};
        }
    };
    SOFTLOSS_INLINE void finish(const Stats<T>& stats, std::int64_t, int, Finish& f) const {
        f.inverse = softloss::inverse<T>(stats.sum);
        f.invalid = any_nan<T>(f.inverse.hi);
    }
};

template <class T>
struct LogSoftmax {
    static constexpr bool kOthers = true, kExp = false, kLabels = false;
    static constexpr int kResults = 1;
    Temperature<T> temperature;
    bool scaled;

    explicit LogSoftmax(double t) : temperature(t), scaled(t != 1) {}
    struct Finish {
        V<T> maximum, rest, inverse, inverse_low;
        bool scaled, invalid;
        SOFTLOSS_INLINE V<T> mended(V<T> y) const { return canonical(y); }
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
    [[gnu::noinline]] void finish(const Stats<T>& stats, std::int64_t, int, Finish& f) const {
        const auto l = log_rest<T>(stats);
        f.maximum = stats.maximum;
        f.rest = l.hi + l.lo;
        f.inverse = splat<V<T>>(temperature.inverse);
        f.inverse_low = splat<V<T>>(temperature.inverse_low);
        f.scaled = scaled;
        f.invalid = any_nan<T>(f.rest);
    }
};

/// Calls use(stats, first row, rows): operations without results for each element.
template <class T, class Use>
struct Collected {
    static constexpr bool kOthers = true, kExp = false, kLabels = false;
    static constexpr int kResults = 0;
    Use use;

    struct Finish {};
    SOFTLOSS_INLINE void finish(const Stats<T>& stats, std::int64_t first, int count, Finish&) const {
        use(stats, first, count);
    }
};

/// Leaves the partition of W rows.
template <class T>
struct PutPartition {
    T *maximum, *rest, *sum;
    [[gnu::noinline]] void operator()(const Stats<T>& stats, std::int64_t first, int count) const {
        const auto l = log_rest<T>(stats);
        const V<T> low = l.hi + l.lo;
        if (maximum) store_some(maximum + first, stats.maximum, count);
        if (rest) store_some(rest + first, low, count);
        if (sum)
            store_some(sum + first, convert<T>(convert<double>(stats.maximum) + convert<double>(low)), count);
    }
};

/// What the loss of W rows needs beside their statistics; as a function, it leaves the loss.
template <class T>
struct Labels {
    static constexpr int W = kLanes<T>;
    using I = IntVec<T, W>;
    const ClassRows& c;
    const Storage<T>& storage;
    const Temperature<T>& temperature;
    std::int64_t n;

    [[gnu::noinline]] void operator()(const Stats<T>& stats, std::int64_t first, int count) const {
        put_loss(stats, log_rest<T>(stats), picked(stats, first, count), first, count);
    }
    /// What there is of each of `count` rows, in its lane; 0 in the others.
    template <class X>
    SOFTLOSS_INLINE static Vec<X, W> of_rows(const X* from, std::int64_t first, int count) {
        if (count == W) return load<Vec<X, W>>(from + first);
        X padded[W] = {};
        for (int r = 0; r < count; ++r) padded[r] = from[first + r];
        return load<Vec<X, W>>(padded);
    }
    SOFTLOSS_INLINE Vec<std::int64_t, W> labels(std::int64_t first, int count) const {
        return of_rows(c.label, first, count);
    }
    SOFTLOSS_INLINE D<T> factors(std::int64_t first, int count) const {
        return of_rows(c.factor, first, count);
    }
    SOFTLOSS_INLINE I ignored(Vec<std::int64_t, W> label) const {
        return convert<typename IntOf<T>::type>(less(label, splat<Vec<std::int64_t, W>>(0)));
    }
    /// The logits at the labels of `count` rows; the maximum where a row is ignored.
    SOFTLOSS_INLINE V<T> picked(const Stats<T>& stats, std::int64_t first, int count) const {
        if (stats.tile && n < kShortRow) {
            const I label = convert<typename IntOf<T>::type>(labels(first, count));
            V<T> x = stats.maximum;
            for (int i = 0; i < n; ++i)
                x = select(equal(label, splat<I>(i)), load<V<T>>(stats.tile + i * stats.pitch), x);
            return x;
        }
        T x[W];
        store(x, stats.maximum);
        for (int r = 0; r < count; ++r) {
            const std::int64_t label = c.label[first + r];
            if (label < 0) continue;
            const char* const p = c.x.data + (first + r) * c.x.row + label * c.x.axis;
            if (storage.size == sizeof(T)) __builtin_memcpy(x + r, p, sizeof(T));
            else x[r] = storage.load_one(p);
        }
        return load<V<T>>(x);
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
        const V<T> value =
            select(ignored(labels(first, count)), splat<V<T>>(0), canonical(loss(stats.maximum, x, rest)));
        store_some(static_cast<T*>(c.loss) + first, value, count);
    }
};

/// Loss and gradient (and Hessian) in one pass.
template <class T, bool Hessian>
struct ClassGradient {
    static constexpr int W = kLanes<T>;
    static constexpr bool kOthers = true, kExp = true, kLabels = true;
    static constexpr int kResults = Hessian ? 2 : 1;
    Labels<T> labels;
    T at_label[W];  ///< of rows along the vectors, until they are written

    struct Finish {
        Pair<V<T>> scale, inverse;  ///< factor / sum, 1 / sum
        V<T> factor, largest, at_maximum, hess_min, at_label;
        IntVec<T, W> kept, label;  ///< label: across the vectors alone
        SOFTLOSS_INLINE Finish row(int r) const {
            const V<T> of = spread(inverse.hi, r);
            return {{spread(scale.hi, r), spread(scale.lo, r)},
                    {of, spread(inverse.lo, r)},
                    spread(factor, r),
                    spread(largest, r),
                    spread(at_maximum, r),
                    hess_min,
                    at_label,
                    spread(kept, r),
                    label,
                    any_nan<T>(of)};
        }
        bool invalid;
        /// A row that is ignored has its values whatever it holds.
        SOFTLOSS_INLINE V<T> mended(V<T> y) const { return select(kept, canonical(y), splat<V<T>>(0)); }
        SOFTLOSS_INLINE V<T> mended_second(V<T> y) const { return select(kept, canonical(y), hess_min); }
        SOFTLOSS_INLINE V<T> operator()(V<T> e) const { return fma(e, scale.hi, e * scale.lo); }
        SOFTLOSS_INLINE V<T> at(std::int64_t i, V<T> y) const {
            return select(equal(label, splat<IntVec<T, W>>(static_cast<typename IntOf<T>::type>(i))),
                          at_label, y);
        }
        /// factor p (1 - p)
        SOFTLOSS_INLINE V<T> second(V<T> e) const {
            const V<T> p = fma(e, inverse.hi, e * inverse.lo);
            const V<T> rest = select(equal(e, largest), at_maximum, splat<V<T>>(1) - p);
            return softloss::max(hess_min, factor * (p * rest));  // a NaN comes through
        }
    };
    [[gnu::noinline]] void finish(const Stats<T>& stats, std::int64_t first, int count, Finish& f) {
        const ClassRows& c = labels.c;
        const V<T> zero = splat<V<T>>(0), one = splat<V<T>>(1);
        const V<T> x = labels.picked(stats, first, count);
        if (c.loss) labels.put_loss(stats, log_rest<T>(stats), x, first, count);
        const auto label = labels.labels(first, count);
        const auto ignored = labels.ignored(label);
        const D<T> exact = labels.factors(first, count);
        const V<T> hi = convert<T>(exact), lo = convert<T>(exact - convert<double>(hi));
        const Pair<V<T>> factor{select(ignored, zero, hi), select(ignored, zero, lo)};
        const auto rest = rest_of(stats), inv = inverse<T>(rest + stats.largest);
        const auto kept = not_equal(factor.hi, zero);
        const auto scale = factor * inv;
        // 1 - p at the label: the rest's share if it is the only maximum; else from p <= 1/2.
        const auto share = rest * inv;
        const auto e = labels_exp(x, stats);
        const V<T> p_hi = fma(e, inv.hi, e * inv.lo);
        const V<T> off =
            select(equal(x, stats.maximum) & equal(stats.maxima, one), share.hi + share.lo, one - p_hi);
        V<T> at = -(factor.hi * off);
        at = canonical(select(kept, at, zero));
        if (!stats.tile) store(at_label, at);
        const V<T> at_maximum = select(equal(stats.maxima, one), share.hi,
                                       one - fma(stats.largest.hi, inv.hi, stats.largest.hi * inv.lo));
        f.scale = {select(kept, scale.hi, zero), select(kept, scale.lo, zero)};
        f.inverse = inv;
        f.factor = factor.hi * splat<V<T>>(static_cast<T>(c.hess_scale));
        f.largest = stats.largest.hi;
        f.at_maximum = at_maximum;
        f.hess_min = splat<V<T>>(static_cast<T>(c.hess_min));
        f.at_label = at;
        f.kept = kept;
        f.label = convert<typename IntOf<T>::type>(label);
        f.invalid = any_nan<T>(inv.hi);
    }
    /// exp(x) in the units of the row's sum.
    SOFTLOSS_INLINE V<T> labels_exp(V<T> x, const Stats<T>& stats) const {
        T value[W];
        store(value, x);
        exp_values(value, W, stats.maximum, labels.temperature, value);
        return load<V<T>>(value);
    }
    SOFTLOSS_INLINE const std::int64_t* label(std::int64_t first) const { return labels.c.label + first; }
    SOFTLOSS_INLINE void after(std::int64_t first, int count) const {
        const ClassRows& c = labels.c;
        for (int r = 0; r < count; ++r) {
            const std::int64_t label = c.label[first + r];
            if (label < 0) continue;
            char* const p = c.grad.data + (first + r) * c.grad.row + label * c.grad.axis;
            const T* const value = at_label + r;
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

/// x: (rows, n) -> maximum, rest, sum: (rows).
template <class S>
void partition_rows(RowsIn x, std::int64_t rows, std::int64_t n, const Partition& to,
                    const RowOptions& options) {
    using T = Compute<S>;
    Collected<T, PutPartition<T>> op{
        {static_cast<T*>(to.maximum), static_cast<T*>(to.log_rest), static_cast<T*>(to.sum)}};
    run_rows<S>(x, {}, {}, rows, n, options, op);
}

/// x: (rows, n), labels: (rows) -> losses: (rows), gradient and Hessian: (rows, n).
template <class S>
void class_loss_rows(const ClassRows& c, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    const Temperature<T> temperature(options.temperature);
    const Labels<T> labels{c, kStorage<S>, temperature, n};
    const auto run = [&](auto op) SOFTLOSS_LAMBDA { run_rows<S>(c.x, c.grad, c.hess, rows, n, options, op); };
    if (c.hess.data) {
        if constexpr (sizeof(S) == sizeof(T)) run(ClassGradient<T, true>{labels, {}});
    } else if (c.grad.data) {
        run(ClassGradient<T, false>{labels, {}});
    } else {
        run(Collected<T, Labels<T>>{labels});
    }
    if (options.stream) fence();
}

}  // namespace
}  // namespace softloss
