// The store layer for rows along the vectors: cached or non-temporal stores of whole cache lines.
//
// Lives here: how the results of one row are stored, computed from its elements or exponentials. Must not:
// statistics, the choice of rows.
//
// Shapes: y (n) adjacent elements. It has a head, the elements before its first whole cache line
// (aligned_head), whole cache lines, and a tail.
//
// If one half of a cache line were stored non-temporally and the other through the caches, memory would read
// and write the line several times. So non-temporal stores always write whole cache lines. A cache line that
// two adjacent rows share, the tail of one and the head of the next, is combined in a buffer first.
//
// Alignment: y is a multiple of sizeof(S) for non-temporal stores; cached stores and loads take any address.
#pragma once

#include "row_stats.hpp"

namespace softloss {
namespace {

/// Stores one cache line of results non-temporally: y[i] = epilogue(from[i]), i < kCacheLine. y is aligned to
/// 64 bytes; `from` may have any address.
template <class S, class From, class Epilogue>
SOFTLOSS_INLINE void store_line_nontemporal(const From* from, S* y, Epilogue epilogue) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    if constexpr (kCacheLine<S> == W) {
        store_nontemporal(y, epilogue(from_storage<W>(from)));
    } else {
        // Reloads in pieces no wider than the stores before: a load that spans several stores cannot be
        // forwarded and waits until they reach the cache.
        using Piece = Vec<T, kRegisterBytes / 2 / static_cast<int>(sizeof(T))>;
        constexpr int lanes = sizeof(Piece) / sizeof(S);
        S line[kCacheLine<S>];
        for (int k = 0; k < kCacheLine<S>; k += W) to_storage(line + k, epilogue(from_storage<W>(from + k)));
        for (int k = 0; k < kCacheLine<S>; k += lanes)
            store_nontemporal(reinterpret_cast<T*>(y + k), load<Piece>(reinterpret_cast<const T*>(line + k)));
    }
}

/// The cache line that two adjacent rows share. It is held until the second row completes it, and then stored
/// non-temporally: a cached store of the tail would bring the whole line into the caches. A vector of results
/// is a cache line.
template <class S>
struct SharedCacheLine {
    S line[kCacheLine<S>];
    S* to = nullptr;  ///< address of the first held element, aligned to 64 bytes
    std::int64_t held = 0;

    /// Stores the held elements through the caches: no row completes the cache line.
    [[gnu::noinline]] void flush() {
        if (held > 0) __builtin_memcpy(to, line, held * sizeof(S));
        held = 0;
    }
    /// Stores the head of a row at y, together with the held elements if these end where y begins.
    /// epilogue(vector, index of its first lane) computes results from `from`. joined: up to kCacheLine
    /// elements before `from` are readable; otherwise head and held elements are stored each for itself.
    template <class Epilogue>
    SOFTLOSS_INLINE void begin(S* y, const S* from, bool joined, Epilogue epilogue) {
        using L = Vec<S, kCacheLine<S>>;
        if (held == 0 && aligned_head(y) == 0) return;
        const bool whole = held > 0 && joined && to + held == y;
        const std::int64_t first = whole ? -held : 0;
        const L v = epilogue(load<L>(from + first), first);
        if (!whole) return begin_alone(y, v);
        const auto before = first_lanes<IntVec<S, kCacheLine<S>>>(static_cast<int>(held));
        store_nontemporal(to, select(before, load<L>(line), v));
        held = 0;
    }
    /// Stores the held elements and the head v, which do not share a cache line, through the caches.
    [[gnu::noinline]] void begin_alone(S* y, Vec<S, kCacheLine<S>> v) {
        flush();
        if (const int head = static_cast<int>(aligned_head(y)); head > 0) store_first(y, v, head);
    }
    /// Holds the tail of a row: the first n elements of v, which belong to the cache line at y.
    SOFTLOSS_INLINE void end(S* y, Vec<S, kCacheLine<S>> v, std::int64_t n) {
        store(line, v);
        to = y;
        held = n;
    }
};

/// y[i] = epilogue(from[i]) for n adjacent elements. y may be `from`. With non-temporal stores, the tail is
/// left in `shared`, and the head is combined with what `shared` holds (SharedCacheLine::begin explains
/// `joined`).
template <class S, class From, class Epilogue>
SOFTLOSS_INLINE void write_row(const From* from, S* y, std::int64_t n, bool nontemporal,
                               SharedCacheLine<S>& shared, bool joined, Epilogue epilogue) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    std::int64_t i = 0;
    const auto put = [&](std::int64_t at, int valid) SOFTLOSS_LAMBDA {
        store_some(y + at,
                   epilogue(valid == W ? from_storage<W>(from + at) : load_first<W>(from + at, valid)),
                   valid);
    };
    const std::int64_t head = aligned_head(y);
    // True if the row is long enough for a loop over cache lines, and no element of y spans two of them.
    const bool lines =
        !kEmulatedFma && n >= 2 * kCacheLine<S> && reinterpret_cast<std::uintptr_t>(y) % sizeof(S) == 0;
    if (lines && nontemporal) {
        if constexpr (kCacheLine<S> == W)
            shared.begin(y, from, joined, [&](V<T> v, std::int64_t) SOFTLOSS_LAMBDA { return epilogue(v); });
        else for_each_vector<W>(head, put);  // the head shares no cache line with the stores below
        for (i = head; i + kCacheLine<S> <= n; i += kCacheLine<S>)
            store_line_nontemporal(from + i, y + i, epilogue);
        if constexpr (kCacheLine<S> == W)
            return shared.end(y + i, epilogue(load_first<W>(from + i, static_cast<int>(n - i))), n - i);
    } else if (lines && static_cast<const void*>(from) != static_cast<const void*>(y)) {
        for (; i < kCacheLine<S>; i += W)
            put(i, W);  // unaligned, at y; the aligned vectors that follow may store some of it again
        i = head == 0 ? kCacheLine<S> : head;
    }
    for_each_vector<W>(n - i, [&](std::int64_t at, int valid) SOFTLOSS_LAMBDA { put(i + at, valid); });
}

/// y[i] = value for n adjacent elements.
template <class S>
[[gnu::noinline]] void fill_row(S* y, std::int64_t n, V<Compute<S>> value) {
    for_each_vector<kLanes<Compute<S>>>(
        n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA { store_some(y + i, value, valid); });
}

/// y[i] = epilogue(exp(x[i])) for n adjacent elements whose exponentials did not fit into the buffer and are
/// computed a second time. y may be x. Exponentials of whole cache lines stay in registers; `memory` (one
/// cache line) holds those of the head, then of the tail.
template <class S, class T, class Epilogue>
SOFTLOSS_INLINE void write_exponentials(const S* x, S* y, std::int64_t n, bool nontemporal, V<T> maximum,
                                        const Temperature<T>& temperature, T* memory, Epilogue epilogue) {
    constexpr int W = kLanes<T>;
    const bool aligned = reinterpret_cast<std::uintptr_t>(y) % sizeof(S) == 0;
    const std::int64_t head = aligned ? aligned_head(y) : 0,
                       last = head + (n - head) / kCacheLine<S> * kCacheLine<S>;
    for (const bool behind : {false, true}) {
        const std::int64_t from = behind ? last : 0, count = behind ? n - last : head;
        exp_values(x + from, count, maximum, temperature, memory);
        // Less than a cache line: a plain loop is enough.
        for (std::int64_t i = 0; i < count; i += W)
            store_some(y + from + i, epilogue(load<V<T>>(memory + i)),
                       count - i < W ? static_cast<int>(count - i) : W);
    }
    with_exp_shift<T>(maximum, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
        const auto f = [&epilogue, shift](V<T> v) SOFTLOSS_LAMBDA { return epilogue(shift.exp(v).value()); };
        if (nontemporal && aligned) {
            for (std::int64_t i = head; i < last; i += kCacheLine<S>) store_line_nontemporal(x + i, y + i, f);
        } else {
            for (std::int64_t i = head; i < last; i += W) to_storage(y + i, f(from_storage<W>(x + i)));
        }
    });
}

/// y[i ... i + valid - 1] = result(i, valid), a vector, for n adjacent elements. With `nontemporal`, whole
/// cache lines are written by non-temporal stores, head and tail through the caches.
template <class S, class Result>
SOFTLOSS_INLINE void store_results(S* y, std::int64_t n, bool nontemporal, Result result) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    const auto put = [&](std::int64_t i, int valid)
                         SOFTLOSS_LAMBDA { store_some(y + i, result(i, valid), valid); };
    std::int64_t i = 0;
    if constexpr (sizeof(S) == sizeof(T) && !kEmulatedFma) {
        if (nontemporal && n >= 2 * W && reinterpret_cast<std::uintptr_t>(y) % sizeof(S) == 0) {
            i = aligned_head(y);
            if (i > 0) put(0, static_cast<int>(i));
            for (; i + W <= n; i += W) store_nontemporal(y + i, result(i, W));
        }
    }
    for (; i + W <= n; i += W) put(i, W);
    if (i < n) put(i, static_cast<int>(n - i));
}

}  // namespace
}  // namespace softloss
