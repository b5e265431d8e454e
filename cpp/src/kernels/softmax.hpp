// Ops: softmax, log_softmax, the log-partition, and the two in one (log_normalize).
//
// Lives here: their results from the statistics of a row. Must not: layouts, loops over elements, instruction
// sets, threads.
//
// Shapes: x, y (rows, n). e = exp(x) in units of the exponent shift (exp_shift.hpp).
//   softmax:        y[i] = e[i] / sum(e); 1 / k for k equal maxima if the other classes count for nothing
//   log_softmax:    y[i] = (x[i] - max) - L,  L = log1p(s),  s = sum of exp(x - max) without one maximum
//   log-partition:  max + L = logsumexp(x)
// 1 / sum(e), max + L and L are held as pairs: twice the precision of T. s is summed without the 1 of the
// maximum, beside which its digits would be lost. So nothing cancels, down to the smallest results.
#pragma once

#include "run_rows.hpp"

namespace softloss {
namespace {

/// 1 / sum to twice the precision of T.
template <class T>
SOFTLOSS_INLINE Pair<V<T>> inverse(Pair<V<T>> sum) {
    return splat_pair<V<T>>(1, 0) / sum;
}

/// The sum of all exponentials except one that belongs to the maximum.
template <class T>
SOFTLOSS_INLINE Pair<V<T>> others_of(const Stats<T>& stats) {
    const V<T> more = stats.max_count - splat<V<T>>(1), top = more * stats.max_exp.hi;
    return stats.sum + Pair<V<T>>{top, fma(more, stats.max_exp.hi, -top) + more * stats.max_exp.lo};
}
/// L, of W rows.
template <class T>
SOFTLOSS_INLINE Pair<V<T>> log_rest(const Stats<T>& stats) {
    const auto s = others_of(stats) / stats.max_exp;
    return log1p_parts(s.hi, s.lo);
}
/// log_rest of floats, `rest`, in double: also where it is below the smallest normal float.
template <class T>
SOFTLOSS_INLINE D<T> wide_log_rest(const Stats<T>& stats, Pair<V<T>> rest) {
    const D<T> both = convert<double>(rest.hi) + convert<double>(finite_low(rest.lo));
    const auto tiny = less(rest.hi, splat<V<T>>(T(0x1p-100)));
    if (!any(tiny)) return both;
    // log1p(s) is s, and no exponential in units of the exponent shift is subnormal.
    const auto others = others_of(stats);
    const D<T> share = (convert<double>(others.hi) + convert<double>(others.lo)) /
                       (convert<double>(stats.max_exp.hi) + convert<double>(stats.max_exp.lo));
    return select(less(both, splat<D<T>>(0x1p-100)), share, both);
}

/// The other classes count for nothing if their share of the sum is smaller than this: half a unit in the
/// last place of 1, plus most of the error of the sum.
template <class T>
constexpr T kNegligible = static_cast<T>(sizeof(T) == 4 ? 0x1.ep-25 : 0x1.ep-54);

template <class T>
struct Softmax {
    static constexpr bool kWithoutMax = false, kExp = true, kLabels = false;
    static constexpr int kResults = 1;

    struct Epilogue {
        Pair<V<T>> inverse;
        V<T>
            max_exp;  ///< the exponential of the maxima if only they count; else -1, which no exponential equals
        V<T> max_result;  ///< the result of these maxima, 1 / k
        bool may_be_nan;
        SOFTLOSS_INLINE V<T> operator()(V<T> e) const {
            return select(equal(e, max_exp), max_result, fma(e, inverse.hi, e * inverse.lo));
        }
        SOFTLOSS_INLINE V<T> canonical_result(V<T> y) const { return canonical(y); }
        SOFTLOSS_INLINE Epilogue row(int r) const {
            const V<T> hi = spread(inverse.hi, r);
            return {{hi, spread(inverse.lo, r)}, spread(max_exp, r), spread(max_result, r), any_nan<T>(hi)};
        }
    };
    SOFTLOSS_INLINE void epilogue(const Stats<T>& stats, std::int64_t, int, Epilogue& f) const {
        f.inverse = softloss::inverse<T>(stats.sum);
        // The sum is that of unrounded exponentials, but results are made of rounded ones: e / sum may differ
        // from 1 / k. k: the number of maxima, if they alone make the sum.
        const V<T> whole = splat<V<T>>(MathConstants<T>::kMagic), one = splat<V<T>>(1);
        const V<T> k = (stats.sum.hi / stats.max_exp.hi + whole) - whole;
        const V<T> rest = fma(-k, stats.max_exp.hi, stats.sum.hi) + fma(-k, stats.max_exp.lo, stats.sum.lo);
        const auto alone = less(abs(rest), stats.sum.hi * splat<V<T>>(kNegligible<T>));
        f.max_exp = select(alone, stats.max_exp.hi, splat<V<T>>(-1));
        f.max_result = one / k;
        f.may_be_nan = any_nan<T>(f.inverse.hi);
    }
};

template <class T>
struct LogSoftmax {
    static constexpr bool kWithoutMax = true, kExp = false, kLabels = false;
    static constexpr int kResults = 1;
    Temperature<T> temperature;
    bool scaled;  ///< temperature is not 1

    explicit LogSoftmax(double t) : temperature(t), scaled(t != 1) {}
    struct Epilogue {
        Pair<V<T>> base;  ///< max + L; if scaled, only the maximum
        Pair<V<T>> rest;  ///< L
        Temperature<T> temperature;
        bool scaled, may_be_nan;
        SOFTLOSS_INLINE V<T> canonical_result(V<T> y) const { return canonical(y); }
        SOFTLOSS_INLINE Epilogue row(int r) const {
            const V<T> l = spread(rest.hi, r);
            return {{spread(base.hi, r), spread(base.lo, r)},
                    {l, spread(rest.lo, r)},
                    temperature,
                    scaled,
                    any_nan<T>(l)};
        }
        /// Float results are rounded once. The bound for double allows two roundings.
        SOFTLOSS_INLINE V<T> operator()(V<T> x) const {
            if (scaled) {
                const auto far = temperature.divided(base.hi, x);
                const auto s = two_sum(-far.hi, -rest.hi);
                return s.hi + finite_low(s.lo - (far.lo + rest.lo));
            }
            if constexpr (sizeof(T) == 8) return (x - base.hi) - base.lo;
            const auto d = two_sum(x, -base.hi);
            return d.hi + finite_low(d.lo - base.lo);
        }
    };
    [[gnu::noinline]] void epilogue(const Stats<T>& stats, std::int64_t, int, Epilogue& f) const {
        f.rest = log_rest<T>(stats);
        f.base = {stats.maximum, splat<V<T>>(0)};
        if (!scaled) {
            const auto s = two_sum(stats.maximum, f.rest.hi);
            f.base = {s.hi, s.lo + f.rest.lo};
        }
        f.temperature = temperature;
        f.scaled = scaled;
        f.may_be_nan = any_nan<T>(f.rest.hi);
    }
};

/// A row op without results for elements: its epilogue calls use(stats, first row, rows).
template <class T, class Use>
struct StatsOnly {
    static constexpr bool kWithoutMax = true, kExp = false, kLabels = false;
    static constexpr int kResults = 0;
    Use use;

    struct Epilogue {};
    SOFTLOSS_INLINE void epilogue(const Stats<T>& stats, std::int64_t first, int count, Epilogue&) const {
        use(stats, first, count);
    }
};

/// Stores the partition (table.hpp) of up to W rows.
template <class T>
struct StorePartition {
    static constexpr int W = kLanes<T>;
    const RowsIn& x;
    Sum (*exp_sum_of_row)(const char* row, std::int64_t n);  ///< exp_sum_along of the storage type
    bool scaled;                                             ///< temperature is not 1
    std::int64_t n;
    T *maximum, *rest, *sum;

    [[gnu::noinline]] void operator()(const Stats<T>& stats, std::int64_t first, int count) const {
        const auto l = log_rest<T>(stats);
        if (maximum) store_some(maximum + first, stats.maximum, count);
        if (rest) store_some(rest + first, l.hi + l.lo, count);
        if (!sum) return;
        const D<T> top = convert<double>(stats.maximum);
        D<T> all = top + (convert<double>(l.hi) + convert<double>(l.lo));
        if constexpr (sizeof(T) == 4) {
            // If max and L cancel, as in rows of log-probabilities, L as pair of floats has too few digits.
            const auto near = less(abs(all) + top * splat<D<T>>(0.5), splat<D<T>>(0)) &
                              first_lanes<Vec<std::int64_t, W>>(count);
            if (!scaled && any(near)) all = select(near, precise(stats, first, count), all);
        }
        store_some(sum + first, convert<T>(all), count);
    }
    /// logsumexp of rows whose elements are <= 0, to the precision of double, as log1p(sum - 1).
    [[gnu::noinline]] D<T> precise(const Stats<T>& stats, std::int64_t first, int count) const {
        Pair<D<T>> s;
        if (stats.tile) {
            s = exp_sum_across(stats.tile, stats.pitch, n);
        } else {
            double value[W] = {}, error[W] = {};
            for (int r = 0; r < count; ++r) {
                const Sum row = exp_sum_of_row(x.data + (first + r) * x.row_stride, n);
                value[r] = row.value;
                error[r] = row.error;
            }
            s = {load<D<T>>(value), load<D<T>>(error)};
        }
        const D<T> unit = splat<D<T>>(kExpFactor<double> * kUnit<double>);  // of the exponentials
        const auto more = two_sum(s.hi, -unit);
        const auto share = Pair<D<T>>{more.hi, more.lo + s.lo} / Pair<D<T>>{unit, splat<D<T>>(0)};
        const auto log = log1p_parts(share.hi, share.lo);
        return log.hi + log.lo;
    }
};

/// log_softmax, and the logsumexp of each row.
template <class T>
struct LogNormalize : LogSoftmax<T> {
    StorePartition<T> partition;
    bool (*has_nan)(const char* row, std::int64_t n);  ///< has_nan_along of the storage type
    using Epilogue = typename LogSoftmax<T>::Epilogue;

    [[gnu::noinline]] void epilogue(const Stats<T>& stats, std::int64_t first, int count, Epilogue& f) {
        LogSoftmax<T>::epilogue(stats, first, count, f);
        partition(stats, first, count);
        if (f.may_be_nan) put_infinite(stats, first, count);
    }
    /// The logsumexp of rows that have no finite one, before their elements may be overwritten: the maximum,
    /// or NaN where an element is NaN.
    void put_infinite(const Stats<T>& stats, std::int64_t first, int count) const {
        const RowsIn& x = partition.x;
        T top[kLanes<T>];
        store(top, stats.maximum);
        for (int r = 0; r < count; ++r) {
            T& to = partition.sum[first + r];
            if (to == to) continue;
            const bool nan = stats.tile ? has_nan_across(stats.tile + r, stats.pitch, partition.n)
                                        : has_nan(x.data + (first + r) * x.row_stride, partition.n);
            to = nan ? static_cast<T>(__builtin_nanf("")) : top[r];
        }
    }
};

// ---- kernels ---------------------------------------------------------------------------------------------

/// x, y: (rows, n).
template <class S>
void softmax_rows(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    Softmax<Compute<S>> op;
    run_rows<S>(x, y, {}, rows, n, options, op);
    if (options.nontemporal) fence();
}

/// x, y: (rows, n).
template <class S>
void log_softmax_rows(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    LogSoftmax<Compute<S>> op(options.temperature);
    run_rows<S>(x, y, {}, rows, n, options, op);
    if (options.nontemporal) fence();
}

/// x, y: (rows, n) -> sum: (rows).
template <class S>
void log_normalize_rows(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, void* sum,
                        const RowOptions& options) {
    using T = Compute<S>;
    LogNormalize<T> op{LogSoftmax<T>(1),
                       {x, exp_sum_along<S>, false, n, nullptr, nullptr, static_cast<T*>(sum)},
                       has_nan_along<S>};
    run_rows<S>(x, y, {}, rows, n, options, op);
    if (options.nontemporal) fence();
}

/// x: (rows, n) -> to.maximum, to.log_rest, to.sum: (rows).
template <class S>
void partition_rows(RowsIn x, std::int64_t rows, std::int64_t n, const Partition& to,
                    const RowOptions& options) {
    using T = Compute<S>;
    StatsOnly<T, StorePartition<T>> op{{x, exp_sum_along<S>, options.temperature != 1, n,
                                        static_cast<T*>(to.maximum), static_cast<T*>(to.log_rest),
                                        static_cast<T*>(to.sum)}};
    run_rows<S>(x, {}, {}, rows, n, options, op);
}

}  // namespace
}  // namespace softloss
