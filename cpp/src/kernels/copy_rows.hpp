// Copies rows between two layouts: adjacent elements ("rows") and adjacent rows ("columns").
//
// Lives here: the transposition of long rows that are staged (staging.hpp). Must not: conversions,
// arithmetic.
#pragma once

#include "prefetch.hpp"
#include "transpose.hpp"

namespace softloss {
namespace {

/// Copies elements first ... last - 1 of rows from ... to - 1, one by one.
template <class T>
SOFTLOSS_INLINE void copy_elements(const RowsIn& x, const RowsOut& y, std::int64_t from, std::int64_t to,
                                   std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i)
        for (std::int64_t r = from; r < to; ++r)
            __builtin_memcpy(y.data + i * y.element_stride + r * y.row_stride,
                             x.data + i * x.element_stride + r * x.row_stride, sizeof(T));
}

/// Elements of W rows that are transposed before those of the next W rows: a cache line of each.
template <class T>
constexpr int kTransposed = 64 / sizeof(T);

/// x: (W, kTransposed), rows adjacent -> y: elements adjacent. more: x has more elements, which are
/// prefetched.
template <class T>
SOFTLOSS_INLINE void columns_to_rows(const RowsIn& x, const RowsOut& y, bool more) {
    constexpr int P = kColumns<T>;
    for (std::int64_t i = 0; i < kTransposed<T>; i += P) {
        V<T> columns[P];
        unrolled<P>([&](int c) SOFTLOSS_LAMBDA {
            prefetch(x.data + (more ? i + c + kTransposed<T> : i) * x.element_stride);
            columns[c] = load<V<T>>(reinterpret_cast<const T*>(x.data + (i + c) * x.element_stride));
        });
        store_columns(reinterpret_cast<T*>(y.data) + i, y.row_stride / std::int64_t{sizeof(T)}, columns);
    }
}
/// The reverse. With `nontemporal`, y and its element stride are multiples of 64.
template <class T>
SOFTLOSS_INLINE void rows_to_columns(const RowsIn& x, const RowsOut& y, bool more, bool nontemporal) {
    constexpr int P = kColumns<T>;
    for (std::int64_t i = 0; i < kTransposed<T>; i += P) {
        V<T> columns[P];
        load_columns(reinterpret_cast<const T*>(x.data) + i, x.row_stride / std::int64_t{sizeof(T)}, columns);
        unrolled<P>([&](int c) SOFTLOSS_LAMBDA {
            T* const to = reinterpret_cast<T*>(y.data + (i + c) * y.element_stride);
            if (nontemporal) return store_nontemporal(to, columns[c]);
            prefetch(y.data + (more ? i + c + kTransposed<T> : i) * y.element_stride);
            store(to, columns[c]);
        });
    }
}

/// x -> y: (rows, n), where x has adjacent rows and y adjacent elements, or the reverse. All rows of a few
/// elements come before the next elements: where rows are adjacent, these are whole stretches of memory.
/// With `nontemporal`, columns that consist of whole cache lines are written by non-temporal stores.
template <class T>
void transpose_rows(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, bool nontemporal) {
    constexpr int W = kLanes<T>, K = kTransposed<T>;
    const bool to_rows = x.row_stride == sizeof(T);
    const bool lines = nontemporal && (reinterpret_cast<std::uintptr_t>(y.data) | y.element_stride) % 64 == 0;
    const std::int64_t whole_rows = rows / W * W;
    std::int64_t i = 0;
    for (; i + K <= n; i += K) {
        const bool more = i + 2 * K <= n;
        for (std::int64_t r = 0; r < whole_rows; r += W) {
            const RowsIn from{x.data + r * x.row_stride + i * x.element_stride, x.row_stride,
                              x.element_stride};
            const RowsOut to{y.data + r * y.row_stride + i * y.element_stride, y.row_stride,
                             y.element_stride};
            if (to_rows) columns_to_rows<T>(from, to, more);
            else rows_to_columns<T>(from, to, more, lines);
        }
    }
    copy_elements<T>(x, y, 0, whole_rows, i, n);
    copy_elements<T>(x, y, whole_rows, rows, 0, n);
    if (lines) fence();
}

}  // namespace
}  // namespace softloss
