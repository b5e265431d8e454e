// Tiles: rows are transposed, so that element i of W rows is one vector.
//
// Lives here: rows of any layout into a tile and out of it; Storage, the storage type as function pointers.
// Must not: statistics, ops.
//
// Shapes: x, y (rows, n); tile (n, pitch), pitch >= rows rounded up to W. Element i of row r is at
// tile[i * pitch + r], so that rows g W ... g W + W - 1, group g, are the lanes of the vector at
// tile + i * pitch + g * W. A tile has up to kMaxGroups groups. Lanes without a row hold a copy of one: they
// are computed with, but never stored.
//
// There are four layouts of rows in memory, each with its own way in and out:
//   rows adjacent (row stride = element size), as with axis=0:  whole vectors, no transposition
//   elements adjacent, n >= kColumns:                           transposed in registers
//   elements adjacent, fewer of them:                           packed row behind row first, then as before;
//                                                               if n is 2 or 3, by shuffles of vectors
//   any other strides:                                          lane by lane
// Transposed rows are read and written kColumns elements at a time. The last step then overlaps the one
// before. If a row is shorter, the step goes beyond it, into the next row. So it needs rows that follow
// (`more`).
#pragma once

#include "prefetch.hpp"
#include "reduce.hpp"
#include "transpose.hpp"

namespace softloss {
namespace {

/// Most groups of W rows in a tile.
constexpr int kMaxGroups = 16;

/// The rows of an operand from `row` on.
template <class Rows>
SOFTLOSS_INLINE Rows rows_from(Rows operand, std::int64_t row) {
    operand.data += row * operand.row_stride;
    return operand;
}

/// Memory for what a driver keeps of a tile's groups, at the end of the scratch memory: it is too large for
/// the stacks of some threads.
template <class Constants>
SOFTLOSS_INLINE Constants& tile_constants(void* scratch) {
    static_assert(sizeof(Constants) <= kTileConstantsBytes);
    return *reinterpret_cast<Constants*>(static_cast<char*>(scratch) + kScratchBytes - kTileConstantsBytes);
}

/// x: (rows, n), rows adjacent -> tile, and the row maxima of each group unless `maxima` is null.
template <class S>
[[gnu::noinline]] void load_adjacent_rows(const RowsIn& x, int rows, std::int64_t n, Compute<S>* tile,
                                          std::int64_t pitch, V<Compute<S>>* maxima) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>, kInFlight = kEmulatedFma ? 1 : kRegisterBytes / 8;  // in 8 registers
    const auto columns = [&]<int K>(std::int64_t r, int valid) SOFTLOSS_LAMBDA {
        V<T> m[K];
        for (std::int64_t i = 0; i < n; ++i) {
            const S* const xi = reinterpret_cast<const S*>(x.data + i * x.element_stride) + r;
            const char* const fetched =
                x.data + (i + kPrefetchDistance < n ? i + kPrefetchDistance : i) * x.element_stride +
                r * sizeof(S);
            T* const to = tile + i * pitch + r;
            unrolled<K>([&](int k) SOFTLOSS_LAMBDA {
                prefetch(fetched + k * W * sizeof(S));
                const V<T> v = load_some(xi + k * W, valid);
                store(to + k * W, v);
                m[k] = i == 0 ? v : max(m[k], v);
            });
        }
        if (!maxima) return;
        unrolled<K>([&](int k) SOFTLOSS_LAMBDA { maxima[r / W + k] = m[k] + splat<V<T>>(0); });
    };
    std::int64_t r = 0;
    for (; r + kInFlight * W <= rows; r += kInFlight * W) columns.template operator()<kInFlight>(r, W);
    for (; r < rows; r += W) columns.template operator()<1>(r, rows - r < W ? static_cast<int>(rows - r) : W);
}

/// Rows of 2 up to this many adjacent elements are transposed by shuffles of whole vectors.
template <class S>
constexpr std::int64_t kShuffledWidth = sizeof(S) == 4 && !kEmulatedFma ? 3 : 0;
/// Calls f.operator()<n>() and returns true if rows of n elements are transposed so.
template <class S, class F>
SOFTLOSS_INLINE bool with_shuffled_width(std::int64_t n, const F& f) {
    if constexpr (kShuffledWidth<S> > 0) {
        if (n == 2) return f.template operator()<2>(), true;
        if (n == 3) return f.template operator()<3>(), true;
    }
    return false;
}

/// One row, copied to every lane.
template <class S>
SOFTLOSS_INLINE void load_single_row(const RowsIn& x, std::int64_t n, Compute<S>* tile, std::int64_t pitch) {
    using T = Compute<S>;
    for (std::int64_t i = 0; i < n; ++i) {
        const S* const xi = reinterpret_cast<const S*>(x.data + i * x.element_stride);
        store(tile + i * pitch, splat<V<T>>(first(load_first<kLanes<T>>(xi, 1))));
    }
}

/// Rows of any strides, lane by lane.
template <class S>
SOFTLOSS_INLINE void load_strided(const RowsIn& x, int rows, std::int64_t n, Compute<S>* tile,
                                  std::int64_t pitch) {
    constexpr int W = kLanes<Compute<S>>;
    for (std::int64_t i = 0; i < n; ++i) {
        S lanes[W];
        for (int r = 0; r < W; ++r)
            __builtin_memcpy(&lanes[r], x.data + i * x.element_stride + (r < rows ? r : 0) * x.row_stride,
                             sizeof(S));
        store(tile + i * pitch, from_storage<W>(lanes));
    }
}

/// x: (rows, n), adjacent elements, rows <= W -> packed: (W, n), row behind row. Missing rows are copies of
/// the first.
template <class S>
SOFTLOSS_INLINE void pack_rows(const RowsIn& x, int rows, std::int64_t n, Compute<S>* packed) {
    constexpr int W = kLanes<Compute<S>>;
    if (x.row_stride == n * std::int64_t{sizeof(S)}) {
        const S* const adjacent = reinterpret_cast<const S*>(x.data);
        for_each_vector<W>(rows * n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            store(packed + i, load_some(adjacent + i, valid));
        });
    } else {
        for (int r = 0; r < rows; ++r) {
            const S* const xr = reinterpret_cast<const S*>(x.data + r * x.row_stride);
            for_each_vector<W>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
                store_some(packed + r * n + i, load_some(xr + i, valid), valid);
            });
        }
    }
    for (std::int64_t r = rows; r < W; ++r)
        for (std::int64_t i = 0; i < n; ++i) packed[r * n + i] = packed[i];
}

/// x: (W, n), adjacent elements, `row_pitch` elements from row to row -> tile. If n < P, P - n elements
/// behind each row must be readable.
template <class T>
SOFTLOSS_INLINE void load_all_columns(const T* x, std::int64_t row_pitch, std::int64_t n, T* tile,
                                      std::int64_t pitch) {
    constexpr int P = kColumns<T>;
    V<T> columns[P];
    for (std::int64_t i = 0; i < n; i += P) {
        const std::int64_t first = i + P <= n || n < P ? i : n - P;
        load_columns(x + first, row_pitch, columns);
        unrolled<P>([&](int c) SOFTLOSS_LAMBDA {
            if (first + c < n) store(tile + (first + c) * pitch, columns[c]);
        });
    }
}

/// x: (rows, n), rows <= W -> one group of a tile; lanes without a row repeat the first. packed: room for W
/// rows of kShortRow elements and one vector. more: rows follow these in memory, so that a few elements
/// beyond them may be read.
template <class S>
[[gnu::noinline]] void load_tile(const RowsIn& x, int rows, std::int64_t n, Compute<S>* tile,
                                 std::int64_t pitch, Compute<S>* packed, bool more) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>, P = kColumns<T>;
    constexpr std::int64_t size = sizeof(S);
    if (rows == 1) return load_single_row<S>(x, n, tile, pitch);
    const bool wide_enough = n >= P || (more && x.row_stride == n * size);
    const bool in_place = size == sizeof(T) && x.row_stride % size == 0 && rows == W && wide_enough;
    if (x.element_stride != size || (n >= kShortRow && !in_place))
        return load_strided<S>(x, rows, n, tile, pitch);
    const T* source = reinterpret_cast<const T*>(x.data);
    std::int64_t row_pitch = x.row_stride / size;
    if (!in_place) {
        pack_rows<S>(x, rows, n, packed);
        source = packed;
        row_pitch = n;
    }
    const bool shuffled =
        row_pitch == n && with_shuffled_width<S>(n, [&]<int C>() SOFTLOSS_LAMBDA {
            V<T> columns[C];
            load_short_rows(source, columns);
            unrolled<C>([&](int c) SOFTLOSS_LAMBDA { store(tile + c * pitch, columns[c]); });
        });
    if (!shuffled) load_all_columns(source, row_pitch, n, tile, pitch);
}

/// tile -> y: (rows, n), rows adjacent. Prefetches the cache lines that it is about to write.
template <class S>
SOFTLOSS_INLINE void store_adjacent_rows(const Compute<S>* tile, std::int64_t pitch, const RowsOut& y,
                                         int rows, std::int64_t n) {
    using T = Compute<S>;
    for (std::int64_t i = 0; i < n; ++i) {
        S* const yi = reinterpret_cast<S*>(y.data + i * y.element_stride);
        const char* const fetched =
            y.data + (i + kPrefetchDistance < n ? i + kPrefetchDistance : i) * y.element_stride;
        const T* const from = tile + i * pitch;
        for_each_vector<kLanes<T>>(rows, [&](std::int64_t r, int valid) SOFTLOSS_LAMBDA {
            prefetch(fetched + r * sizeof(S));
            store_some(yi + r, load<V<T>>(from + r), valid);
        });
    }
}

template <class S>
SOFTLOSS_INLINE void store_single_row(const Compute<S>* tile, std::int64_t pitch, const RowsOut& y,
                                      std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i)
        store_first(reinterpret_cast<S*>(y.data + i * y.element_stride),
                    load<V<Compute<S>>>(tile + i * pitch), 1);
}

/// Rows of any strides, lane by lane.
template <class S>
SOFTLOSS_INLINE void store_strided(const Compute<S>* tile, std::int64_t pitch, const RowsOut& y, int rows,
                                   std::int64_t n) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    for (std::int64_t i = 0; i < n; ++i) {
        for (int g = 0; g < rows; g += W) {
            S lanes[W];
            to_storage(lanes, load<V<T>>(tile + i * pitch + g));
            for (int r = g; r < rows && r < g + W; ++r)
                __builtin_memcpy(y.data + i * y.element_stride + r * y.row_stride, &lanes[r - g], sizeof(S));
        }
    }
}

/// One group of a tile -> packed: (W, n), row behind row.
template <class T>
SOFTLOSS_INLINE void pack_columns(const T* tile, std::int64_t pitch, std::int64_t n, T* packed) {
    constexpr int P = kColumns<T>;
    V<T> columns[P];
    for (std::int64_t i = 0; i < n; i += P) {
        const std::int64_t first = i + P <= n || n < P ? i : n - P;
        unrolled<P>([&](int c) SOFTLOSS_LAMBDA {
            columns[c] = load<V<T>>(tile + (first + c < n ? first + c : 0) * pitch);
        });
        store_columns(packed + first, n, columns);
    }
}

/// packed: (rows, n), row behind row -> y, adjacent elements.
template <class S>
SOFTLOSS_INLINE void unpack_rows(const Compute<S>* packed, const RowsOut& y, int rows, std::int64_t n) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    const auto copy = [&](const T* from, char* to, std::int64_t count) SOFTLOSS_LAMBDA {
        for_each_vector<W>(count, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            store_some(reinterpret_cast<S*>(to) + i, load<V<T>>(from + i), valid);
        });
    };
    if (y.row_stride == n * std::int64_t{sizeof(S)}) return copy(packed, y.data, rows * n);
    for (int r = 0; r < rows; ++r) copy(packed + r * n, y.data + r * y.row_stride, n);
}

/// tile -> y: (rows, n), the reverse of load_tile. Short rows of adjacent elements come as one group; other
/// layouts may come as several. packed: where short rows are put together if a store would go beyond them.
template <class S>
[[gnu::noinline]] void store_tile(const Compute<S>* tile, std::int64_t pitch, const RowsOut& y, int rows,
                                  std::int64_t n, Compute<S>* packed) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    constexpr std::int64_t size = sizeof(S);
    if (y.row_stride == size) return store_adjacent_rows<S>(tile, pitch, y, rows, n);
    if (rows == 1) return store_single_row<S>(tile, pitch, y, n);
    if (y.element_stride != size || n >= kShortRow || rows > W)
        return store_strided<S>(tile, pitch, y, rows, n);
    const bool direct = size == sizeof(T) && y.row_stride == n * size && rows == W;
    const bool shuffled = with_shuffled_width<S>(n, [&]<int C>() SOFTLOSS_LAMBDA {
        V<T> columns[C];
        unrolled<C>([&](int c) SOFTLOSS_LAMBDA { columns[c] = load<V<T>>(tile + c * pitch); });
        store_short_rows(direct ? reinterpret_cast<T*>(y.data) : packed, columns);
    });
    if (shuffled && direct) return;
    if (!shuffled) pack_columns(tile, pitch, n, packed);
    unpack_rows<S>(packed, y, rows, n);
}

/// How the elements of one storage type are read and written. It is all that the drivers across the vectors
/// know of the type, so that they are compiled once per compute type.
template <class T>
struct Storage {
    std::int64_t size;
    void (*load_adjacent_rows)(const RowsIn&, int, std::int64_t, T*, std::int64_t, V<T>*);
    void (*load)(const RowsIn&, int, std::int64_t, T*, std::int64_t, T*, bool);
    void (*store)(const T*, std::int64_t, const RowsOut&, int, std::int64_t, T*);
    T (*load_one)(const char*);
    void (*store_one)(char*, T);
};
template <class S>
Compute<S> load_one(const char* p) {
    return first(load_first<kLanes<Compute<S>>>(reinterpret_cast<const S*>(p), 1));
}
template <class S>
void store_one(char* p, Compute<S> x) {
    store_first(reinterpret_cast<S*>(p), splat<V<Compute<S>>>(x), 1);
}
template <class S>
constexpr Storage<Compute<S>> kStorage{sizeof(S),     load_adjacent_rows<S>, load_tile<S>,
                                       store_tile<S>, load_one<S>,           store_one<S>};

/// The elements at the labels of rows first ... first + count - 1, one per lane; `otherwise` where the label
/// is below 0.
template <class T>
SOFTLOSS_INLINE V<T> at_labels(const Storage<T>& storage, const RowsIn& x, const std::int64_t* label,
                               std::int64_t first, int count, V<T> otherwise) {
    T lanes[kLanes<T>];
    store(lanes, otherwise);
    for (int r = 0; r < count; ++r) {
        const std::int64_t y = label[first + r];
        if (y < 0) continue;
        const char* const p = x.data + (first + r) * x.row_stride + y * x.element_stride;
        if (storage.size == sizeof(T)) __builtin_memcpy(lanes + r, p, sizeof(T));
        else lanes[r] = storage.load_one(p);
    }
    return load<V<T>>(lanes);
}

/// How many of a tile's `rows` rows are in group g.
template <class T>
SOFTLOSS_INLINE int rows_of_group(int rows, int g) {
    return rows - g * kLanes<T> < kLanes<T> ? rows - g * kLanes<T> : kLanes<T>;
}

/// Computes the results of a tile of `rows` rows and writes them. more: rows follow these in memory and will
/// be written later, so that a few elements beyond these rows may be overwritten.
template <class T>
struct TileWriter {
    const Storage<T>& storage;
    std::int64_t pitch;
    int rows;
    std::int64_t n;
    T* packed;
    bool more, nontemporal;

    /// y[i] of group g = epilogue(g, i, vector of the tile `from`). The results that cannot be stored from
    /// registers go through `to`, a tile that may be overwritten and may be `from`.
    template <class Epilogue>
    SOFTLOSS_INLINE void operator()(const T* from, T* to, const RowsOut& y, Epilogue epilogue) const {
        constexpr int W = kLanes<T>;
        const bool rows_adjacent = y.row_stride == storage.size;
        if (rows_adjacent && storage.size == sizeof(T)) return write_adjacent_rows(from, y, epilogue);
        for (int g = 0; g * W < rows; ++g) {
            const RowsOut part{y.data + g * W * y.row_stride, y.row_stride, y.element_stride};
            if (columns_fit(y, g)) {
                write_columns(from + g * W, part, g, epilogue);
                continue;
            }
            for (std::int64_t i = 0; i < n; ++i)
                store(to + i * pitch + g * W, epilogue(g, i, load<V<T>>(from + i * pitch + g * W)));
            if (!rows_adjacent) storage.store(to + g * W, pitch, part, rows_of_group<T>(rows, g), n, packed);
        }
        if (rows_adjacent) storage.store(to, pitch, y, rows, n, packed);  // all groups of an element in turn
    }

  private:
    /// y: rows adjacent, elements of T.
    template <class Epilogue>
    SOFTLOSS_INLINE void write_adjacent_rows(const T* from, const RowsOut& y,
                                             const Epilogue& epilogue) const {
        constexpr int W = kLanes<T>;
        for (std::int64_t i = 0; i < n; ++i) {
            T* const yi = reinterpret_cast<T*>(y.data + i * y.element_stride);
            const T* const xi = from + i * pitch;
            int g = 0;
            if (nontemporal) {
                for (; (g + 1) * W <= rows; ++g)
                    store_nontemporal(yi + g * W, epilogue(g, i, load<V<T>>(xi + g * W)));
            } else if (shares_cache_sets(y.element_stride)) {
                const char* const fetched =
                    y.data + (i + kPrefetchDistance < n ? i + kPrefetchDistance : i) * y.element_stride;
                for (int r = 0; r < rows; r += W) prefetch(fetched + r * sizeof(T));
            }
            for (; g * W < rows; ++g)
                store_some(yi + g * W, epilogue(g, i, load<V<T>>(xi + g * W)), rows_of_group<T>(rows, g));
        }
    }
    /// True if write_columns can write group g: a whole group, adjacent and aligned elements of T, and rows
    /// of P elements or, if shorter, rows that others follow.
    SOFTLOSS_INLINE bool columns_fit(const RowsOut& y, int g) const {
        constexpr int W = kLanes<T>;
        constexpr std::int64_t size = sizeof(T);
        const bool fit = storage.size == size && y.element_stride == size && y.row_stride % size == 0;
        const bool adjacent = y.row_stride == n * size;
        return fit && rows_of_group<T>(rows, g) == W && n > kShuffledWidth<T> &&
               (n >= kColumns<T> || (adjacent && (more || (g + 1) * W < rows)));
    }
    /// One group to rows of adjacent elements, P elements at a time. If n < P, it writes P - n elements
    /// behind each row, which the next row, stored later, corrects.
    template <class Epilogue>
    SOFTLOSS_INLINE void write_columns(const T* tile, const RowsOut& y, int g,
                                       const Epilogue& epilogue) const {
        constexpr int P = kColumns<T>;
        V<T> columns[P];
        for (std::int64_t i = 0; i < n; i += P) {
            const std::int64_t first = i + P <= n || n < P ? i : n - P;
            unrolled<P>([&](int c) SOFTLOSS_LAMBDA {
                const std::int64_t at = first + c < n ? first + c : 0;
                columns[c] = epilogue(g, at, load<V<T>>(tile + at * pitch));
            });
            store_columns(reinterpret_cast<T*>(y.data) + first, y.row_stride / std::int64_t{sizeof(T)},
                          columns);
        }
    }
};

/// How many groups of W rows share a tile. If rows are adjacent, the tile fits into the second-level cache:
/// the more rows at once, the longer the run of memory that is read for an element. Twice as long runs pay if
/// the elements fall into few cache sets. Otherwise the tile fits into the first-level cache.
template <class T>
SOFTLOSS_INLINE int groups_of_tile(const RowsIn& x, std::int64_t size, std::int64_t n) {
    std::int64_t groups = x.row_stride == size       ? (shares_cache_sets(x.element_stride) ? 8192 : 4096) / n
                          : x.element_stride == size ? 128 / n
                                                     : 1;
    const std::int64_t least = x.row_stride == size ? 4 : 1;
    groups = groups < least ? least : groups > kMaxGroups ? kMaxGroups : groups;
    while (groups > 1 && (groups | 1) * n > kMaxTile) groups /= 2;
    return static_cast<int>(groups);
}

}  // namespace
}  // namespace softloss
