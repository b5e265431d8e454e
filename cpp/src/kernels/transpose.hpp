// Transposition between rows and columns, in registers.
//
// Lives here: W rows read as columns (element i of each row in the lanes of vector i) and the reverse, for
// rows of any length and, faster, for adjacent rows of 2 or 3 elements. Must not: layouts, strides of arrays,
// partial vectors.
//
// A step reads P = kColumns elements, 16 bytes, of each of N rows. Loads put such pieces of N / P rows into
// one vector, P vectors in all: piece q of vector k is that of row q P + k. Interleaving the P vectors then
// transposes all N / P squares of P x P elements at once.
#pragma once

#include "vec.hpp"

namespace softloss {
namespace {

/// How many elements of a row load_columns reads: 16 bytes.
template <class T>
constexpr int kColumns = 16 / sizeof(T);

/// A vector of pieces of 16 bytes, `piece_pitch` elements apart in memory.
template <class V, class T>
SOFTLOSS_INLINE V load_pieces(const T* p, std::int64_t piece_pitch) {
    constexpr int N = LanesOf<V>::count;
    if constexpr (N == kColumns<T>) {
        return load<V>(p);
    } else {
        using H = Vec<T, N / 2>;
        return join<T, N>(load_pieces<H>(p, piece_pitch),
                          load_pieces<H>(p + N / 2 / kColumns<T> * piece_pitch, piece_pitch));
    }
}
/// The reverse for P vectors at once, stored in the order of the rows: piece q of v[k] belongs to row q P +
/// k.
template <class T, int N, int P>
SOFTLOSS_INLINE void store_pieces(T* p, std::int64_t row_pitch, const Vec<T, N> (&v)[P]) {
    if constexpr (N == P) {
        unrolled<P>([&](int k) SOFTLOSS_LAMBDA { store(p + k * row_pitch, v[k]); });
    } else {
        Vec<T, N / 2> half[P];
        unrolled<P>([&](int k) SOFTLOSS_LAMBDA { half[k] = low_half(v[k]); });
        store_pieces(p, row_pitch, half);
        unrolled<P>([&](int k) SOFTLOSS_LAMBDA { half[k] = high_half(v[k]); });
        store_pieces(p + N / 2 * row_pitch, row_pitch, half);
    }
}

/// Interleaves a and b within every 16 bytes: elements of `Bytes` bytes, alternately from a and b, of the
/// lower (or upper) 8 bytes.
template <bool Upper, int Bytes, class T, int N>
SOFTLOSS_INLINE Vec<T, N> interleave(Vec<T, N> a, Vec<T, N> b) {
    if constexpr (!kNative<T, N>) {
        return {interleave<Upper, Bytes>(a.lo, b.lo), interleave<Upper, Bytes>(a.hi, b.hi)};
    } else {
        return [&]<std::size_t... I>(Indices<I...>) SOFTLOSS_LAMBDA {
            constexpr auto index = [](int i) {
                constexpr int per = Bytes / sizeof(T),
                              piece = kColumns<T>;  // elements in a unit of Bytes bytes, in 16 bytes
                const int in = i % piece, unit = in / per;
                return i / piece * piece + (Upper ? piece / 2 : 0) + unit / 2 * per + in % per +
                       (unit % 2 ? N : 0);
            };
            return Vec<T, N>{__builtin_shufflevector(a.raw, b.raw, index(static_cast<int>(I))...)};
        }(make_indices<N>());
    }
}

/// Turns vectors of pieces into columns, or columns into vectors of pieces: the transposition is its own
/// inverse.
template <int N>
SOFTLOSS_INLINE void transpose(Vec<float, N> (&v)[4]) {
    const auto a = interleave<false, 4>(v[0], v[1]), b = interleave<true, 4>(v[0], v[1]);
    const auto c = interleave<false, 4>(v[2], v[3]), d = interleave<true, 4>(v[2], v[3]);
    v[0] = interleave<false, 8>(a, c);
    v[1] = interleave<true, 8>(a, c);
    v[2] = interleave<false, 8>(b, d);
    v[3] = interleave<true, 8>(b, d);
}
template <int N>
SOFTLOSS_INLINE void transpose(Vec<double, N> (&v)[2]) {
    const auto a = interleave<false, 8>(v[0], v[1]);
    v[1] = interleave<true, 8>(v[0], v[1]);
    v[0] = a;
}

/// columns[c], lane r = p[r * row_pitch + c]: N rows, the first kColumns elements of each. Any alignment.
/// Reads kColumns elements of every row, so a shorter row needs as much readable memory behind it.
template <class T, int N, int P>
SOFTLOSS_INLINE void load_columns(const T* p, std::int64_t row_pitch, Vec<T, N> (&columns)[P]) {
    unrolled<P>([&](int k) SOFTLOSS_LAMBDA {
        columns[k] = load_pieces<Vec<T, N>>(p + k * row_pitch, P * row_pitch);
    });
    transpose(columns);
}
/// The reverse. Rows are stored in order: a store that runs past the end of its row overwrites the start of
/// the next one, whose own store then corrects it.
template <class T, int N, int P>
SOFTLOSS_INLINE void store_columns(T* p, std::int64_t row_pitch, Vec<T, N> (&columns)[P]) {
    transpose(columns);
    store_pieces(p, row_pitch, columns);
}

/// Lane i of the result is element Of::at(i) of the concatenation v[0], v[1], ... An instruction takes lanes
/// of two vectors, so each level of the recursion adds one: shuffle<Of, K> is right where the element is in
/// v[0] ... v[K].
template <class Of, int K, class T, int N, int C>
SOFTLOSS_INLINE Vec<T, N> shuffle(const Vec<T, N> (&v)[C]) {
    return [&]<std::size_t... I>(Indices<I...>) SOFTLOSS_LAMBDA {
        if constexpr (K == 1) {
            constexpr auto index = [](int i) { return Of::at(i) < 2 * N ? Of::at(i) : 0; };
            return Vec<T, N>{__builtin_shufflevector(v[0].raw, v[1].raw, index(static_cast<int>(I))...)};
        } else {
            constexpr auto index = [](int i) { return Of::at(i) / N == K ? Of::at(i) % N + N : i; };
            const auto before = shuffle<Of, K - 1>(v);
            return Vec<T, N>{__builtin_shufflevector(before.raw, v[K].raw, index(static_cast<int>(I))...)};
        }
    }(make_indices<N>());
}
/// Index maps for shuffle(). InRows: where the elements of column c lie in adjacent rows of C elements.
/// InColumns: where the elements of the k-th vector of such rows lie in C columns of N elements.
template <int C, int c>
struct InRows {
    static constexpr int at(int i) { return C * i + c; }
};
template <int C, int N, int k>
struct InColumns {
    static constexpr int at(int i) { return (k * N + i) % C * N + (k * N + i) / C; }
};
/// columns[c], lane r = p[C r + c]: N adjacent rows of C elements.
template <int C, class T, int N>
SOFTLOSS_INLINE void load_short_rows(const T* p, Vec<T, N> (&columns)[C]) {
    if constexpr (kNative<T, N>) {
        Vec<T, N> v[C];
        unrolled<C>([&](int k) SOFTLOSS_LAMBDA { v[k] = load<Vec<T, N>>(p + k * N); });
        [&]<std::size_t... c>(Indices<c...>) SOFTLOSS_LAMBDA {
            ((columns[c] = shuffle<InRows<C, static_cast<int>(c)>, C - 1>(v)), ...);
        }(make_indices<C>());
    } else {
        Vec<T, N / 2> lo[C], hi[C];
        load_short_rows(p, lo);
        load_short_rows(p + C * N / 2, hi);
        unrolled<C>([&](int c) SOFTLOSS_LAMBDA { columns[c] = {lo[c], hi[c]}; });
    }
}
/// The reverse.
template <int C, class T, int N>
SOFTLOSS_INLINE void store_short_rows(T* p, const Vec<T, N> (&columns)[C]) {
    if constexpr (kNative<T, N>) {
        [&]<std::size_t... k>(Indices<k...>) SOFTLOSS_LAMBDA {
            (store(p + k * N, shuffle<InColumns<C, N, static_cast<int>(k)>, C - 1>(columns)), ...);
        }(make_indices<C>());
    } else {
        Vec<T, N / 2> half[C];
        unrolled<C>([&](int c) SOFTLOSS_LAMBDA { half[c] = columns[c].lo; });
        store_short_rows(p, half);
        unrolled<C>([&](int c) SOFTLOSS_LAMBDA { half[c] = columns[c].hi; });
        store_short_rows(p + C * N / 2, half);
    }
}

}  // namespace
}  // namespace softloss
