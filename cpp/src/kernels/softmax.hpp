// softmax, log_softmax and the log-partition (logsumexp) of rows.
//
// Lives here: what is done with a row's statistics (rows.hpp). Must not: layouts, instruction sets, threads.
//
//   softmax:      y[i] = e[i] * (hi + lo),  e = exp(x) in units of the reference, hi + lo = 1 / sum(e) to twice T
//   log_softmax:  y[i] = (x[i] - max) - L,  L = log1p(s),  s = sum of exp(x - max) without one maximum
// Both terms of log_softmax have the same sign, and s is summed without the 1 that would swallow it: nothing cancels,
// down to the smallest results.
#pragma once

#include "rows.hpp"

namespace softloss {
namespace {

template <class T>
struct Inverse {
    V<T> hi, lo;
};

/// 1 / sum to twice the precision of T.
template <class T>
SOFTLOSS_INLINE Inverse<T> inverse(const Sum<T>& sum) {
    const D<T> one = splat<D<T>>(1), q = one / sum.hi;
    if constexpr (sizeof(T) == 4) {
        const V<T> hi = convert<float>(q);
        return {hi, convert<float>(q - convert<double>(hi))};
    } else {
        return {q, q * (fma(-q, sum.hi, one) - q * sum.lo)};
    }
}

/// log1p(s), s = (others + (count - 1) e_max) / e_max, per lane.
template <class T, bool Scaled>
SOFTLOSS_INLINE D<T> log_rest(const Others<T>& others, const Reference<T, Scaled>& ref) {
    const auto e = ref.exp(ref.maximum);
    const D<T> one = splat<D<T>>(1);
    if constexpr (sizeof(T) == 4) {
        const D<T> scale = convert<double>(e.scale);
        const D<T> largest = fma(scale, convert<double>(e.fraction), scale);
        return log1p(others.sum.hi / largest + (others.count - one));
    } else {
        const D<T> largest = e.value(), below = fma(e.scale, e.fraction, e.scale - largest);
        const D<T> q = others.sum.hi / largest;
        const D<T> q_low = (fma(-q, largest, others.sum.hi) + (others.sum.lo - q * below)) / largest;
        const auto s = two_sum(others.count - one, q);
        return log1p(s.hi, s.lo + q_low);
    }
}

/// A NaN of one bit pattern for every way a NaN can arise.
template <class T>
SOFTLOSS_INLINE V<T> canonical(V<T> y) {
    return select(equal(y, y), y, splat<V<T>>(static_cast<T>(__builtin_nanf(""))));
}

template <class T, bool Scaled>
SOFTLOSS_INLINE V<T> log_probability(V<T> x, V<T> rest, const Reference<T, Scaled>& ref) {
    const V<T> d = x - ref.maximum;
    if constexpr (!Scaled) {
        return d - rest;
    } else {
        const auto& t = ref.temperature;
        // -inf must meet one product alone: the other may have the other sign, or be 0 * inf.
        const V<T> zero = splat<V<T>>(0), finite = select(equal(d - d, zero), d, zero);
        return fma(d, splat<V<T>>(t.inverse), fma(finite, splat<V<T>>(t.inverse_low), -rest));
    }
}

/// Calls put(i, valid, V) for the vectors of a row of n elements.
template <int W, class Put>
SOFTLOSS_INLINE void for_each_vector(std::int64_t n, Put put) {
    std::int64_t i = 0;
    for (; i + W <= n; i += W) put(i, W);
    if (i < n) put(i, static_cast<int>(n - i));
}

/// x, y: (n) adjacent elements.
template <class S, bool Scaled>
SOFTLOSS_INLINE void softmax_row(const S* x, S* y, std::int64_t n, const Temperature<Compute<S>>& temperature,
                                 Compute<S>* stash) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    const Reference<T, Scaled> ref(splat<V<T>>(row_max(x, n)), temperature);
    if (n > kStashBytes / static_cast<std::int64_t>(sizeof(T))) stash = nullptr;
    const auto sum = row_sum<false>(x, n, ref, stash).sum;
    const auto inv = inverse<T>(sum);
    const bool has_nan = !any(equal(sum.hi, sum.hi));
    const auto put = [&](std::int64_t i, int valid, V<T> e) {
        V<T> p = fma(e, inv.hi, e * inv.lo);
        if (has_nan) p = canonical<T>(p);
        if (valid == W) to_storage(y + i, p);
        else store_first(y + i, p, valid);
    };
    if (stash) {
        for_each_vector<W>(n, [&](std::int64_t i, int valid) { put(i, valid, load<V<T>>(stash + i)); });
    } else {
        for_each_vector<W>(n, [&](std::int64_t i, int valid) {
            put(i, valid, ref.exp(valid == W ? from_storage<W>(x + i) : load_first(x + i, valid)).value());
        });
    }
}

/// x, y: (rows, n), any strides.
template <class S, bool Scaled>
void softmax_rows(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, double t, void* scratch) {
    using T = Compute<S>;
    const Temperature<T> temperature(t);
    if (along<S>(x.axis, n) && y.axis == sizeof(S)) {
        for (std::int64_t r = 0; r < rows; ++r) {
            softmax_row<S, Scaled>(reinterpret_cast<const S*>(x.data + r * x.row),
                                   reinterpret_cast<S*>(y.data + r * y.row), n, temperature,
                                   static_cast<T*>(scratch));
        }
        return;
    }
    Inverse<T> inv[kMaxGroups];
    const auto use = [&](const Tile<S>& tile, std::int64_t first) {
        const Reference<T, Scaled> ref(tile.max(), temperature);
        const auto rest = [&](const Sum<T>& sum) { inv[first / kLanes<T> % kMaxGroups] = inverse<T>(sum); };
        if (tile.tile) {
            rest(tile.template sum<false, true>(ref).sum);
        } else {
            const auto q = inverse<T>(tile.template sum<false, false>(ref).sum);
            for (std::int64_t i = 0; i < n; ++i) {
                const V<T> e = ref.exp(tile.source(i)).value();
                store_across<S>(y.data + first * y.row + i * y.axis, y.row, tile.rows,
                                canonical<T>(fma(e, q.hi, e * q.lo)));
            }
        }
    };
    const auto finish = [&](std::int64_t first, std::int64_t left, T* tile, std::int64_t pitch) {
        if (!tile) return;
        constexpr int W = kLanes<T>;
        for (std::int64_t i = 0; i < n; ++i) {
            for (std::int64_t g = 0; g * W < left; ++g) {
                const V<T> e = load<V<T>>(tile + i * pitch + g * W);
                const auto& q = inv[(first / W + g) % kMaxGroups];
                store_across<S>(y.data + (first + g * W) * y.row + i * y.axis, y.row,
                                static_cast<int>(left - g * W < W ? left - g * W : W),
                                canonical<T>(fma(e, q.hi, e * q.lo)));
            }
        }
    };
    for_each_tile<S>(x, rows, n, scratch, use, finish);
}

/// x, y: (rows, n), any strides.
template <class S, bool Scaled>
void log_softmax_rows(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, double t, void* scratch) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    const Temperature<T> temperature(t);
    if (along<S>(x.axis, n) && y.axis == sizeof(S)) {
        for (std::int64_t r = 0; r < rows; ++r) {
            const S* const xr = reinterpret_cast<const S*>(x.data + r * x.row);
            S* const yr = reinterpret_cast<S*>(y.data + r * y.row);
            const Reference<T, Scaled> ref(splat<V<T>>(row_max(xr, n)), temperature);
            const V<T> rest =
                convert<T>(log_rest<T>(row_sum<true>(xr, n, ref, static_cast<T*>(nullptr)), ref));
            for_each_vector<W>(n, [&](std::int64_t i, int valid) {
                if (valid == W) {
                    to_storage(yr + i, canonical<T>(log_probability<T>(from_storage<W>(xr + i), rest, ref)));
                } else {
                    const V<T> v = canonical<T>(log_probability<T>(load_first(xr + i, valid), rest, ref));
                    store_first(yr + i, v, valid);
                }
            });
        }
        return;
    }
    const auto use = [&](const Tile<S>& tile, std::int64_t first) {
        const Reference<T, Scaled> ref(tile.max(), temperature);
        const V<T> rest = convert<T>(log_rest<T>(tile.template sum<true, false>(ref), ref));
        for (std::int64_t i = 0; i < n; ++i) {
            store_across<S>(y.data + first * y.row + i * y.axis, y.row, tile.rows,
                            canonical<T>(log_probability<T>(tile.at(i), rest, ref)));
        }
    };
    for_each_tile<S>(x, rows, n, scratch, use, [](auto...) {});
}

/// x: (rows, n), any strides -> maximum, log_rest: (rows).
template <class S, bool Scaled>
void partition_rows(RowsIn x, std::int64_t rows, std::int64_t n, double t, double* maximum, double* rest,
                    void* scratch) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    const Temperature<T> temperature(t);
    const auto put = [&](std::int64_t first, int valid, const Others<T>& others,
                         const Reference<T, Scaled>& ref) {
        double m[W], l[W];
        store(m, convert<double>(ref.maximum));
        store(l, log_rest<T>(others, ref));
        __builtin_memcpy(maximum + first, m, sizeof(double) * valid);
        __builtin_memcpy(rest + first, l, sizeof(double) * valid);
    };
    if (!along<S>(x.axis, n)) {
        for_each_tile<S>(
            x, rows, n, scratch,
            [&](const Tile<S>& tile, std::int64_t first) {
                const Reference<T, Scaled> ref(tile.max(), temperature);
                put(first, tile.rows, tile.template sum<true, false>(ref), ref);
            },
            [](auto...) {});
        return;
    }
    // The logarithm is taken of W rows at once: row r of a group in lane r.
    for (std::int64_t first = 0; first < rows; first += W) {
        const int valid = static_cast<int>(rows - first < W ? rows - first : W);
        T m[W] = {};
        double hi[W] = {}, lo[W] = {}, count[W] = {};
        for (int r = 0; r < valid; ++r) {
            const S* const xr = reinterpret_cast<const S*>(x.data + (first + r) * x.row);
            m[r] = row_max(xr, n);
            const Reference<T, Scaled> ref(splat<V<T>>(m[r]), temperature);
            const auto others = row_sum<true>(xr, n, ref, static_cast<T*>(nullptr));
            D<T> lanes[3] = {others.sum.hi, others.sum.lo, others.count};
            __builtin_memcpy(&hi[r], &lanes[0], sizeof(double));
            __builtin_memcpy(&lo[r], &lanes[1], sizeof(double));
            __builtin_memcpy(&count[r], &lanes[2], sizeof(double));
        }
        const Reference<T, Scaled> ref(load<V<T>>(m), temperature);
        put(first, valid, Others<T>{{load<D<T>>(hi), load<D<T>>(lo)}, load<D<T>>(count)}, ref);
    }
}

}  // namespace
}  // namespace softloss
