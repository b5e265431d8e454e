// Statistics of a row: its maximum and its sum of exponentials, for any layout.
//
// Lives here: how rows are read (along the vectors or across them), the reference that keeps exp exact, the sums.
// Must not: what is done with them (softmax.hpp, cross_entropy.hpp), threads.
//
// The reference. The rounding of x - max alone would cost up to |x - max| / 2 ULP in exp. So x stays as it is while
// |max| <= kFar, and exp(x) is held as exp(x) * 2^(kExpBias - N), N = round(max / ln 2): a power of two costs no
// rounding. Beyond kFar max is subtracted: every x near enough to count is then within a factor of two of max, and the
// difference is exact (Sterbenz). With kExpBias, results down to the last subnormal keep their exponent in range.
//
// Layouts. Long rows of adjacent elements lie along the vectors. All other rows lie across them: W rows at a time are
// read into a tile, element i of the W rows being vector i. Both form the same classes (reduce.hpp), hence the same bits.
#pragma once

#include "reduce.hpp"
#include "table.hpp"

namespace softloss {
namespace {

constexpr double kFar = 1024;
/// Rows shorter than this are read across the vectors, even when their elements are adjacent.
constexpr std::int64_t kShortRow = 64;

/// 1 / temperature to twice the precision.
template <class T>
struct Temperature {
    T value = 1, inverse = 1, inverse_low = 0;

    explicit Temperature(double t) {
        value = static_cast<T>(t);
        inverse = static_cast<T>(1 / t);
        // 1 - inverse * t, exactly, then divided by t.
        const Vec<double, 2> residual = fma(splat<Vec<double, 2>>(-static_cast<double>(inverse)),
                                            splat<Vec<double, 2>>(t), splat<Vec<double, 2>>(1));
        inverse_low = static_cast<T>(fold(residual, [](auto a, auto) { return a; }) / t);
    }
};

template <class T, bool Scaled>
struct Reference {
    Temperature<T> temperature;
    V<T> maximum, shift, lowest, magic;

    SOFTLOSS_INLINE Reference(V<T> m, const Temperature<T>& t) : temperature(t), maximum(m) {
        using C = MathConstants<T>;
        const V<T> zero = splat<V<T>>(0);
        const V<T> z = Scaled ? m * splat<V<T>>(t.inverse) : m;
        const auto far = less(splat<V<T>>(kFar), abs(z));
        shift = select(far, m, zero);
        lowest = fma(splat<V<T>>(C::kSmallestExponent), splat<V<T>>(Scaled ? t.value : 1), m - shift);
        const V<T> near = select(far, zero, z);
        const V<T> n =
            fma(near, splat<V<T>>(C::kEightByLn2 / 8), splat<V<T>>(C::kMagic)) - splat<V<T>>(C::kMagic);
        magic = exp_magic(splat<V<T>>(C::kExpBias) - n);
    }
    /// exp(x / temperature) in units of the reference.
    SOFTLOSS_INLINE ExpParts<V<T>> exp(V<T> x) const {
        const V<T> d = max(lowest, x - shift);
        if constexpr (!Scaled) {
            return exp_parts(d, magic);
        } else {
            const V<T> inverse = splat<V<T>>(temperature.inverse);
            const V<T> z = d * inverse;
            const V<T> z_low = fma(d, splat<V<T>>(temperature.inverse_low), fma(d, inverse, -z));
            return exp_parts<true>(z, magic, z_low);
        }
    }
};

/// What the losses need of a row: sum of exponentials without the elements equal to the maximum, and their count.
template <class T>
struct Others {
    Sum<T> sum;
    D<T> count = splat<D<T>>(0);
};

/// The accumulator of one class: all exponentials, or all but the maxima.
template <class T, bool ExcludeMaxima>
struct ClassSum {
    ExpSum<T> sum;
    IntVec<T, kLanes<T>> maxima = splat<IntVec<T, kLanes<T>>>(0);

    template <bool Scaled>
    SOFTLOSS_INLINE ExpParts<V<T>> add(V<T> x, const Reference<T, Scaled>& ref) {
        auto e = ref.exp(x);
        auto counted = e;
        if constexpr (ExcludeMaxima) {
            const auto is_max = equal(x, ref.maximum);
            counted.scale = select(is_max, splat<V<T>>(0), e.scale);
            maxima = maxima - is_max;
        }
        sum.add(counted);
        return e;
    }
    /// The same for the first `valid` lanes alone.
    template <bool Scaled>
    SOFTLOSS_INLINE ExpParts<V<T>> add_first(V<T> x, int valid, const Reference<T, Scaled>& ref) {
        using I = IntVec<T, kLanes<T>>;
        const auto e = ref.exp(x);
        auto inside = less(iota<I>(), splat<I>(valid));
        if constexpr (ExcludeMaxima) {
            const auto is_max = equal(x, ref.maximum) & inside;
            maxima = maxima - is_max;
            inside = inside - is_max;  // -1 - -1 = 0
        }
        sum.add({select(inside, e.scale, splat<V<T>>(0)), select(inside, e.fraction, splat<V<T>>(0))});
        return e;
    }
};

// ---- rows along the vectors -----------------------------------------------------------------------------------

/// The last elements of a row, padded with copies of the first of them.
template <class S>
SOFTLOSS_INLINE V<Compute<S>> load_first(const S* x, int valid) {
    constexpr int W = kLanes<Compute<S>>;
    S padded[W];
    for (int i = 0; i < W; ++i) padded[i] = x[i < valid ? i : 0];
    return from_storage<W>(padded);
}
template <class S>
SOFTLOSS_INLINE void store_first(S* y, V<Compute<S>> v, int valid) {
    S all[kLanes<Compute<S>>];
    to_storage(all, v);
    __builtin_memcpy(y, all, sizeof(S) * valid);
}

/// x: (n) adjacent elements -> the largest, with +0 for -0.
template <class S>
SOFTLOSS_INLINE Compute<S> row_max(const S* x, std::int64_t n) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    if (n < W) return fold_max<T>(load_first(x, static_cast<int>(n))) + T(0);
    V<T> m0 = from_storage<W>(x), m1 = m0, m2 = m0, m3 = m0;
    std::int64_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W) {
        m0 = max(m0, from_storage<W>(x + i));
        m1 = max(m1, from_storage<W>(x + i + W));
        m2 = max(m2, from_storage<W>(x + i + 2 * W));
        m3 = max(m3, from_storage<W>(x + i + 3 * W));
    }
    for (; i + W <= n; i += W) m0 = max(m0, from_storage<W>(x + i));
    if (i < n) m1 = max(m1, from_storage<W>(x + n - W));
    return fold_max<T>(max(max(m0, m1), max(m2, m3))) + T(0);
}

/// x: (n) adjacent elements -> class sums in the lanes. Exponentials are left in stash (n, padded) unless it is null.
template <bool ExcludeMaxima, class S, class T, bool Scaled>
SOFTLOSS_INLINE Others<T> row_sum(const S* x, std::int64_t n, const Reference<T, Scaled>& ref, T* stash) {
    constexpr int W = kLanes<T>;
    Others<T> all;
    auto maxima = splat<IntVec<T, W>>(0);
    for (std::int64_t block = 0; block < n; block += kBlock) {
        Sum<T> block_sum;
        const std::int64_t block_end = block + kBlock < n ? block + kBlock : n;
        for (std::int64_t chunk = block; chunk < block_end; chunk += kChunk<T>) {
            const std::int64_t end = chunk + kChunk<T> < block_end ? chunk + kChunk<T> : block_end;
            ClassSum<T, ExcludeMaxima> sum;
            std::int64_t i = chunk;
            if (stash) {
                for (; i + W <= end; i += W) store(stash + i, sum.add(from_storage<W>(x + i), ref).value());
            } else {
                for (; i + W <= end; i += W) sum.add(from_storage<W>(x + i), ref);
            }
            if (i < end) {
                const int valid = static_cast<int>(end - i);
                const auto e = sum.add_first(load_first(x + i, valid), valid, ref);
                if (stash) store(stash + i, e.value());
            }
            block_sum = block_sum + sum.sum.total();
            maxima = maxima + sum.maxima;
        }
        all.sum = all.sum + block_sum;
    }
    all.sum = fold_lanes(all.sum);
    if constexpr (ExcludeMaxima) {
        all.count = splat<D<T>>(static_cast<double>(fold(maxima, [](auto a, auto b) { return a + b; })));
    }
    return all;
}

// ---- rows across the vectors ----------------------------------------------------------------------------------

/// Up to W * kMaxGroups rows, read across: vector (i, g) holds element i of rows g W ... g W + W - 1.
constexpr int kMaxGroups = 4;

template <class S>
SOFTLOSS_INLINE V<Compute<S>> load_across(const char* x, std::int64_t row, int rows) {
    constexpr int W = kLanes<Compute<S>>;
    if (row == sizeof(S) && rows == W) {
        return from_storage<W>(reinterpret_cast<const S*>(x));
    }
    S lanes[W];
    for (int r = 0; r < W; ++r) __builtin_memcpy(&lanes[r], x + (r < rows ? r : 0) * row, sizeof(S));
    return from_storage<W>(lanes);
}
template <class S>
SOFTLOSS_INLINE void store_across(char* y, std::int64_t row, int rows, V<Compute<S>> v) {
    if (row == sizeof(S) && rows == kLanes<Compute<S>>) {
        return to_storage(reinterpret_cast<S*>(y), v);
    }
    S lanes[kLanes<Compute<S>>];
    to_storage(lanes, v);
    for (int r = 0; r < rows; ++r) __builtin_memcpy(y + r * row, &lanes[r], sizeof(S));
}

/// A tile of `rows` <= W rows. Its vectors come from scratch (vector i at tile + i * pitch) or, when the rows are too
/// long for it (tile is null), from where they lie.
template <class S>
struct Tile {
    using T = Compute<S>;
    RowsIn x;
    int rows;
    std::int64_t n;
    T* tile;
    std::int64_t pitch;

    SOFTLOSS_INLINE V<T> source(std::int64_t i) const {
        return load_across<S>(x.data + i * x.axis, x.row, rows);
    }
    SOFTLOSS_INLINE V<T> at(std::int64_t i) const { return tile ? load<V<T>>(tile + i * pitch) : source(i); }

    SOFTLOSS_INLINE V<T> max() const {
        V<T> m = at(0);
        for (std::int64_t i = 1; i < n; ++i) m = softloss::max(m, at(i));
        return m + splat<V<T>>(0);
    }
    /// Sums per row; exponentials replace the tile's elements when Stash.
    template <bool ExcludeMaxima, bool Stash, bool Scaled>
    SOFTLOSS_INLINE Others<T> sum(const Reference<T, Scaled>& ref) const {
        constexpr int W = kLanes<T>;
        Sum<T> all[W], block_sum[W];
        auto maxima = splat<IntVec<T, W>>(0);
        for (std::int64_t chunk = 0; chunk < n; chunk += kChunk<T>) {
            const std::int64_t end = chunk + kChunk<T> < n ? chunk + kChunk<T> : n;
            const std::int64_t classes = end - chunk < W ? end - chunk : W;
            for (std::int64_t j = 0; j < classes; ++j) {
                ClassSum<T, ExcludeMaxima> sum;
                for (std::int64_t i = chunk + j; i < end; i += W) {
                    const auto e = sum.add(at(i), ref);
                    if constexpr (Stash) store(tile + i * pitch, e.value());
                }
                block_sum[j] = block_sum[j] + sum.sum.total();
                maxima = maxima + sum.maxima;
            }
            if (end % kBlock == 0 || end == n) {
                for (int j = 0; j < W; ++j) {
                    all[j] = all[j] + block_sum[j];
                    block_sum[j] = Sum<T>();
                }
            }
        }
        Others<T> result;
        result.sum = fold_classes<T>(all, n);
        if constexpr (ExcludeMaxima) result.count = convert<double>(maxima);
        return result;
    }
};

/// Calls use(tile, first_row) for tiles of up to W rows that cover the batch; `finish(first_row, groups, tile, pitch)`
/// after each group of tiles that share scratch memory.
template <class S, class Use, class Finish>
SOFTLOSS_INLINE void for_each_tile(RowsIn x, std::int64_t rows, std::int64_t n, void* scratch, Use use,
                                   Finish finish) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    const std::int64_t vectors = kStashBytes / 64;
    std::int64_t groups = vectors / 4 / (n > 0 ? n : 1);
    groups = groups > kMaxGroups ? kMaxGroups : groups < 1 ? 1 : groups;
    T* const memory = n <= vectors ? static_cast<T*>(scratch) : nullptr;
    const std::int64_t pitch = groups * W;
    for (std::int64_t first = 0; first < rows; first += pitch) {
        const std::int64_t left = rows - first < pitch ? rows - first : pitch;
        const auto tile_at = [&](std::int64_t g) {
            const std::int64_t here = left - g * W < W ? left - g * W : W;
            return Tile<S>{{x.data + (first + g * W) * x.row, x.row, x.axis},
                           static_cast<int>(here),
                           n,
                           memory ? memory + g * W : nullptr,
                           pitch};
        };
        const std::int64_t used = (left + W - 1) / W;
        if (memory) {
            for (std::int64_t i = 0; i < n; ++i) {
                for (std::int64_t g = 0; g < used; ++g) {
                    const auto tile = tile_at(g);
                    store(tile.tile + i * pitch, tile.source(i));
                }
            }
        }
        for (std::int64_t g = 0; g < used; ++g) use(tile_at(g), first + g * W);
        finish(first, left, memory, pitch);
    }
}

/// True when rows lie along the vectors.
template <class S>
SOFTLOSS_INLINE bool along(std::int64_t axis_stride, std::int64_t n) {
    return axis_stride == sizeof(S) && n >= kShortRow;
}

}  // namespace
}  // namespace softloss
