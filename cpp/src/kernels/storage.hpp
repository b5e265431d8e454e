// Storage types: how elements in memory become a logical vector, and back.
//
// Lives here: the storage types (float16, bfloat16, float, double) and the type that each computes in; loads
// and stores of whole and partial vectors; non-temporal stores; prefetch; cache lines. Must not: layouts of
// rows, arithmetic.
//
// Alignment: from_storage, to_storage, load_first, store_first and what is built on them take any address.
// store_nontemporal alone needs an aligned one.
#pragma once

#include "vec.hpp"

namespace softloss {
namespace {

// ---- prefetch and non-temporal stores --------------------------------------------------------------------

/// Prefetches the cache line at p into the first-level cache; with `far`, for what is used much later, into
/// the second-level cache.
SOFTLOSS_INLINE void prefetch(const char* p, bool far = false) {
    if (far) __builtin_prefetch(p, 0, 2);
    else __builtin_prefetch(p, 0, 3);
}
/// A non-temporal (streaming) store, or an ordinary one if the instruction set has none of this size. p is
/// aligned to the size of v, at most 64 bytes. Call fence() before another thread may read the result.
template <class T, int N>
SOFTLOSS_INLINE void store_nontemporal(T* p, Vec<T, N> v) {
    if constexpr (!kNative<T, N>) {
        store_nontemporal(p, v.lo);
        store_nontemporal(p + N / 2, v.hi);
    } else {
        [[maybe_unused]] constexpr int bytes = sizeof(T) * N;
#if defined(__AVX512F__)
        if constexpr (bytes == 64) return _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v.raw);
#endif
#if defined(__AVX2__)
        if constexpr (bytes == 32) return _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v.raw);
#endif
#if defined(__SSE2__)
        if constexpr (bytes == 16) return _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v.raw);
#endif
        store(p, v);
    }
}
/// Makes non-temporal stores visible to other threads before any later store.
SOFTLOSS_INLINE void fence() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

// ---- storage types and the types that they are computed in -----------------------------------------------

/// Storage type S is computed in Compute<S>: float16, bfloat16 and float in float, double in double.
/// kLanes<T> of them fill a logical vector.
template <class S>
struct ComputeOf {
    using type = float;
};
template <>
struct ComputeOf<double> {
    using type = double;
};
template <class S>
using Compute = typename ComputeOf<S>::type;
template <class T>
constexpr int kLanes = 64 / sizeof(T);

/// from_storage, to_storage: N elements at p, at any address, as a vector of the compute type, and back.
/// Stores round to nearest, ties to even.
template <int N>
SOFTLOSS_INLINE Vec<float, N> from_storage(const bfloat16* p) {
    if constexpr (N > 16) {  // two loads are faster than one load and a move between registers
        return {from_storage<N / 2>(p), from_storage<N / 2>(p + N / 2)};
    } else {
        const auto u =
            convert<std::uint32_t>(load<Vec<std::uint16_t, N>>(reinterpret_cast<const std::uint16_t*>(p)));
        return as_float<float>(shift_left<16>(u));
    }
}
template <int N>
SOFTLOSS_INLINE void to_storage(bfloat16* p, Vec<float, N> v) {
    using U = Vec<std::uint32_t, N>;
    const auto bits = as_int(v);
    U u;
    __builtin_memcpy(&u, &bits, sizeof u);
    const auto odd = shift_right<16>(u) & splat<U>(1);
    const auto rounded = shift_right<16>(u + splat<U>(0x7fff) + odd);
    const auto quiet = shift_right<16>(u) | splat<U>(0x40);  // rounding could turn a NaN into an infinity
    const auto r = select(equal(v, v), rounded, quiet);
    store(reinterpret_cast<std::uint16_t*>(p), convert<std::uint16_t>(r));
}

/// Converts float16 by integer arithmetic, exactly, on machines without an instruction for it.
[[gnu::noinline, maybe_unused]] float half_to_float(std::uint16_t h) {
    const std::uint32_t sign = (h & 0x8000u) << 16, rest = h & 0x7fffu;
    float f;
    if (rest >= 0x7c00u) {
        const std::uint32_t bits =
            sign | 0x7f800000u | ((rest & 0x3ffu) << 13) | (rest > 0x7c00u ? 0x400000u : 0u);
        __builtin_memcpy(&f, &bits, sizeof f);
        return f;
    }
    const std::uint32_t magnitude = rest << 13;  // the value times 2^-112, subnormals included
    __builtin_memcpy(&f, &magnitude, sizeof f);
    f *= 0x1p112f;
    std::uint32_t bits;
    __builtin_memcpy(&bits, &f, sizeof bits);
    bits |= sign;
    __builtin_memcpy(&f, &bits, sizeof f);
    return f;
}
/// The reverse, rounded to nearest, ties to even.
[[gnu::noinline, maybe_unused]] std::uint16_t float_to_half(float f) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &f, sizeof bits);
    const std::uint32_t sign = (bits >> 16) & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | ((bits >> 13) & 0x3ffu));
    if (bits >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);
    if (bits < 0x38800000u) {  // subnormal: adding 0.5 puts the units of float16 at the end of the mantissa
        __builtin_memcpy(&f, &bits, sizeof f);
        f += 0.5f;
        __builtin_memcpy(&bits, &f, sizeof bits);
        return static_cast<std::uint16_t>(sign | (bits - 0x3f000000u));
    }
    bits += 0xfffu + ((bits >> 13) & 1u);
    return static_cast<std::uint16_t>(sign | ((bits - 0x38000000u) >> 13));
}

template <int N>
SOFTLOSS_INLINE Vec<float, N> from_storage(const float16* p) {
    if constexpr (!kNative<float, N>) {
        return {from_storage<N / 2>(p), from_storage<N / 2>(p + N / 2)};
    } else {
        using Raw [[maybe_unused]] = typename Vec<float, N>::Raw;
#if defined(__AVX512F__)
        if constexpr (N == 16) {
            return {(Raw)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
        }
#endif
#if defined(__F16C__)
        if constexpr (N == 8)
            return {(Raw)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
#elif defined(__ARM_NEON) && defined(__aarch64__)
        if constexpr (N == 4) {
            return {
                (Raw)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(p))))};
        }
#endif
        Vec<float, N> r;
        for (int i = 0; i < N; ++i) {
            std::uint16_t h;
            __builtin_memcpy(&h, (const char*)p + i * sizeof h, sizeof h);
            r.raw[i] = half_to_float(h);
        }
        return r;
    }
}
template <int N>
SOFTLOSS_INLINE void to_storage(float16* p, Vec<float, N> v) {
    if constexpr (!kNative<float, N>) {
        to_storage<N / 2>(p, v.lo);
        to_storage<N / 2>(p + N / 2, v.hi);
    } else {
#if defined(__AVX512F__)
        if constexpr (N == 16) {
            return _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                                       _mm512_cvtps_ph(v.raw, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
        }
#endif
#if defined(__F16C__)
        if constexpr (N == 8) {
            return _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                                    _mm256_cvtps_ph(v.raw, _MM_FROUND_TO_NEAREST_INT));
        }
#elif defined(__ARM_NEON) && defined(__aarch64__)
        if constexpr (N == 4) {
            return vst1_u16(reinterpret_cast<std::uint16_t*>(p), vreinterpret_u16_f16(vcvt_f16_f32(v.raw)));
        }
#endif
        for (int i = 0; i < N; ++i) {
            const std::uint16_t h = float_to_half(v.raw[i]);
            __builtin_memcpy((char*)p + i * sizeof h, &h, sizeof h);
        }
    }
}
template <int N>
SOFTLOSS_INLINE Vec<float, N> from_storage(const float* p) {
    return load<Vec<float, N>>(p);
}
template <int N>
SOFTLOSS_INLINE void to_storage(float* p, Vec<float, N> v) {
    store(p, v);
}
template <int N>
SOFTLOSS_INLINE Vec<double, N> from_storage(const double* p) {
    return load<Vec<double, N>>(p);
}
template <int N>
SOFTLOSS_INLINE void to_storage(double* p, Vec<double, N> v) {
    store(p, v);
}

/// Loads the first `valid` lanes; the others are 0. Memory beyond them is not touched.
template <int N, class S>
SOFTLOSS_INLINE Vec<Compute<S>, N> load_first(const S* p, int valid) {
    using T = Compute<S>;
    if constexpr (sizeof(S) == sizeof(T) && !kNative<T, N>) {
        return {load_first<N / 2>(p, valid), load_first<N / 2>(p + N / 2, valid - N / 2)};
    } else {
#if defined(__AVX512F__)
        using Raw [[maybe_unused]] = typename Vec<T, N>::Raw;
        const auto mask = static_cast<std::uint32_t>((1u << valid) - 1);
        if constexpr (sizeof(S) == 4) return {(Raw)_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), p)};
        else if constexpr (sizeof(S) == 8)
            return {(Raw)_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), p)};
        else {
            S all[N];
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(all),
                                _mm256_maskz_loadu_epi16(static_cast<__mmask16>(mask), p));
            return from_storage<N>(all);
        }
#else
#if defined(__AVX2__)
        if constexpr (sizeof(S) == sizeof(T) && N * sizeof(T) == 32) {
            using Raw = typename Vec<T, N>::Raw;
            const auto inside = first_lanes<IntVec<T, N>>(valid);
            if constexpr (sizeof(T) == 4) return {(Raw)_mm256_maskload_ps(p, (__m256i)inside.raw)};
            else return {(Raw)_mm256_maskload_pd(p, (__m256i)inside.raw)};
        }
#endif
        S all[N] = {};
        for (int i = 0; i < N; ++i) {
            if (i < valid) __builtin_memcpy(all + i, (const char*)p + i * sizeof(S), sizeof(S));
        }
        return from_storage<N>(all);
#endif
    }
}
/// Stores the first `valid` lanes. Memory beyond them is not touched.
template <class S, class T, int N>
SOFTLOSS_INLINE void store_first(S* p, Vec<T, N> v, int valid) {
    if constexpr (sizeof(S) == sizeof(T) && !kNative<T, N>) {
        store_first(p, v.lo, valid);
        store_first(p + N / 2, v.hi, valid - N / 2);
    } else {
#if defined(__AVX512F__)
        const auto mask = static_cast<std::uint32_t>((1u << valid) - 1);
        if constexpr (sizeof(S) == 4) _mm512_mask_storeu_ps(p, static_cast<__mmask16>(mask), (__m512)v.raw);
        else if constexpr (sizeof(S) == 8)
            _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), (__m512d)v.raw);
        else {
            S all[N];
            to_storage(all, v);
            _mm256_mask_storeu_epi16(p, static_cast<__mmask16>(mask),
                                     _mm256_loadu_si256(reinterpret_cast<const __m256i*>(all)));
        }
#else
#if defined(__AVX2__)
        if constexpr (sizeof(S) == sizeof(T) && N * sizeof(T) == 32) {
            const auto inside = first_lanes<IntVec<T, N>>(valid);
            if constexpr (sizeof(T) == 4) return _mm256_maskstore_ps(p, (__m256i)inside.raw, (__m256)v.raw);
            else return _mm256_maskstore_pd(p, (__m256i)inside.raw, (__m256d)v.raw);
        }
#endif
        S all[N];
        to_storage(all, v);
        for (int i = 0; i < N; ++i) {
            if (i < valid) __builtin_memcpy((char*)p + i * sizeof(S), all + i, sizeof(S));
        }
#endif
    }
}

/// A logical vector of compute type T.
template <class T>
using V = Vec<T, kLanes<T>>;
/// One double for each lane of V<T>.
template <class T>
using D = Vec<double, kLanes<T>>;

/// NaN in every lane. All NaN results have this one bit pattern, however they arise.
template <class T>
SOFTLOSS_INLINE V<T> nans() {
    return splat<V<T>>(static_cast<T>(__builtin_nanf("")));
}
/// y, with every NaN replaced by that pattern.
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> canonical(Vec<T, N> y) {
    return select(equal(y, y), y, splat<Vec<T, N>>(static_cast<T>(__builtin_nanf(""))));
}

/// Calls put(i, valid) for each vector of a row of n elements; valid < W only for the last one. With OneCopy,
/// full and partial vectors share one inlined copy of `put`: for callers with few vectors, and where fma is
/// emulated and small code matters more than speed.
template <int W, bool OneCopy = kEmulatedFma, class Put>
SOFTLOSS_INLINE void for_each_vector(std::int64_t n, Put put) {
    std::int64_t i = 0;
    if constexpr (OneCopy) {
        for (; i < n; i += W) put(i, n - i < W ? static_cast<int>(n - i) : W);
    } else {
        for (; i + W <= n; i += W) put(i, W);
        if (i < n) put(i, static_cast<int>(n - i));
    }
}

/// The first `valid` elements at x as a logical vector; the other lanes are 0. Memory beyond is not touched.
template <class S>
SOFTLOSS_INLINE V<Compute<S>> load_some(const S* x, int valid) {
    constexpr int W = kLanes<Compute<S>>;
    return valid == W ? from_storage<W>(x) : load_first<W>(x, valid);
}
/// Stores the first `valid` lanes of v. Memory beyond is not touched.
template <class S>
SOFTLOSS_INLINE void store_some(S* y, V<Compute<S>> v, int valid) {
    if (valid == kLanes<Compute<S>>) to_storage(y, v);
    else store_first(y, v, valid);
}

/// `count` adjacent numbers as lanes; 0 in the other lanes. For arrays with one number per row.
template <int W, class X>
SOFTLOSS_INLINE Vec<X, W> load_lanes(const X* from, int count) {
    if (count == W) return load<Vec<X, W>>(from);
    X padded[W] = {};
    for (int r = 0; r < count; ++r) padded[r] = from[r];
    return load<Vec<X, W>>(padded);
}
/// The reverse.
template <class X, int W>
SOFTLOSS_INLINE void store_lanes(X* to, Vec<X, W> v, int count) {
    if (count == W) return store(to, v);
    X lanes[W];
    store(lanes, v);
    for (int r = 0; r < count; ++r) to[r] = lanes[r];
}

/// Elements in a cache line of 64 bytes.
template <class S>
constexpr std::int64_t kCacheLine = 64 / sizeof(S);
/// How many elements at y lie before the first cache line boundary. y is a multiple of sizeof(S).
template <class S>
SOFTLOSS_INLINE std::int64_t aligned_head(const S* y) {
    return static_cast<std::int64_t>(-reinterpret_cast<std::uintptr_t>(y) % 64 / sizeof(S));
}

}  // namespace
}  // namespace softloss
