// Sums and stores of the lanes where a mask is set.
//
// Lives here: operations for which AVX-512 has one instruction with a mask register and other instruction
// sets need several, and their `#if`. Must not: exp, rows, losses.
#pragma once

#include "vec.hpp"

namespace softloss {
namespace {

/// sum + x where the mask, of lanes that are not wider, is set; else sum.
template <class I, class X, int N>
SOFTLOSS_INLINE Vec<X, N> add_where(Vec<X, N> sum, Vec<I, N> mask, Vec<X, N> x) {
    static_assert(sizeof(I) <= sizeof(X));
    if constexpr (!kNative<I, N>) {
        return {add_where(sum.lo, mask.lo, x.lo), add_where(sum.hi, mask.hi, x.hi)};
    } else {
#if defined(__AVX512F__)
        if constexpr (sizeof(I) == 4 && sizeof(X) == 8 && N == 16) {
            using Raw = typename Vec<X, 8>::Raw;
            const __mmask16 lanes = _mm512_test_epi32_mask((__m512i)mask.raw, (__m512i)mask.raw);
            return {{(Raw)_mm512_mask_add_epi64((__m512i)sum.lo.raw, static_cast<__mmask8>(lanes),
                                                (__m512i)sum.lo.raw, (__m512i)x.lo.raw)},
                    {(Raw)_mm512_mask_add_epi64((__m512i)sum.hi.raw, static_cast<__mmask8>(lanes >> 8),
                                                (__m512i)sum.hi.raw, (__m512i)x.hi.raw)}};
        }
#endif
        return sum + (x & convert<X>(mask));
    }
}

#if defined(__AVX2__)
/// Of each mask of eight bits, the places of the bits that are set, a byte each, lowest first.
struct SetPlaces {
    std::uint64_t of[256];
    constexpr SetPlaces() : of{} {
        for (unsigned mask = 0; mask < 256; ++mask) {
            int count = 0;
            for (unsigned place = 0; place < 8; ++place)
                if (mask >> place & 1) of[mask] |= std::uint64_t{place} << 8 * count++;
        }
    }
};
constexpr SetPlaces kSetPlaces;
#endif

/// Stores the lanes of v where the mask is set, next to each other, at p, and returns how many they are.
/// Overwrites up to N lanes at p.
template <class T, int N>
SOFTLOSS_INLINE int store_where(T* p, IntVec<T, N> mask, Vec<T, N> v) {
    if constexpr (!kNative<T, N>) {
        const int low = store_where(p, mask.lo, v.lo);
        return low + store_where(p + low, mask.hi, v.hi);
    } else {
        using Raw [[maybe_unused]] = typename Vec<T, N>::Raw;
#if defined(__AVX512F__)
        if constexpr (sizeof(T) == 4 && N == 16) {
            const __mmask16 lanes = _mm512_test_epi32_mask((__m512i)mask.raw, (__m512i)mask.raw);
            store(p, Vec<T, N>{(Raw)_mm512_maskz_compress_ps(lanes, (__m512)v.raw)});
            return __builtin_popcount(lanes);
        }
        if constexpr (sizeof(T) == 8 && N == 8) {
            const __mmask8 lanes = _mm512_test_epi64_mask((__m512i)mask.raw, (__m512i)mask.raw);
            store(p, Vec<T, N>{(Raw)_mm512_maskz_compress_pd(lanes, (__m512d)v.raw)});
            return __builtin_popcount(lanes);
        }
#endif
#if defined(__AVX2__)
        if constexpr (sizeof(T) * N == 32) {
            // The lanes move as floats: a double is two of them.
            const auto lanes = static_cast<unsigned>(_mm256_movemask_ps((__m256)mask.raw));
            const __m256i places =
                _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<std::int64_t>(kSetPlaces.of[lanes])));
            store(p, Vec<T, N>{(Raw)_mm256_permutevar8x32_ps((__m256)v.raw, places)});
            return __builtin_popcount(lanes) / static_cast<int>(sizeof(T) / 4);
        }
#endif
        if (!any(mask)) return 0;
        typename IntOf<T>::type set[N];
        T lanes[N];
        store(set, mask);
        store(lanes, v);
        int count = 0;
        for (int i = 0; i < N; ++i) {
            p[count] = lanes[i];
            count -= static_cast<int>(set[i]);
        }
        return count;
    }
}

}  // namespace
}  // namespace softloss
