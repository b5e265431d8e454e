// The logical vector Vec<T, N>: N lanes of T that behave the same on every instruction set.
//
// Lives here: the only `#if` on the instruction set; arithmetic, fma, select, lane conversions, table look-up, half
// formats. A Vec wider than a register is two halves, recursively, so that one source compiles to full-speed code
// everywhere. Each operation is one correctly rounded IEEE operation per lane, thus the same bits on every machine.
// Must not: anything that knows of exp, rows or losses.
//
// Everything in kernels/ sits in an unnamed namespace: each ISA file gets its own copy, compiled with its own flags,
// and the linker can never let one ISA's copy serve another. For the same reason nothing of std:: is called here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "softloss/types.hpp"

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace softloss {
namespace {

/// What works on vectors is inlined. Where fma is dozens of operations, and speed is lost already, the compiler chooses
/// what is, to keep the library small.
#if defined(__FMA__) || defined(__aarch64__) || (defined(__FP_FAST_FMA) && defined(__FP_FAST_FMAF))
#define SOFTLOSS_INLINE [[gnu::always_inline]] inline
#define SOFTLOSS_LAMBDA __attribute__((always_inline))
constexpr bool kEmulatedFma = false;
#else
#define SOFTLOSS_INLINE inline
#define SOFTLOSS_LAMBDA
constexpr bool kEmulatedFma = true;
#endif

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX2__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif

/// std::conditional, without std.
template <bool Condition, class A, class B>
struct SelectType {
    using type = A;
};
template <class A, class B>
struct SelectType<false, A, B> {
    using type = B;
};
template <bool Condition, class A, class B>
using Select = typename SelectType<Condition, A, B>::type;

/// std::remove_cvref, without std.
template <class T>
struct PlainType {
    using type = T;
};
template <class T>
struct PlainType<const T&> {
    using type = T;
};
template <class T>
using Plain = typename PlainType<T>::type;

/// The numbers 0 ... N - 1 as a pack (std::index_sequence, without std).
template <std::size_t... I>
struct Indices {};
template <int N, std::size_t... I>
constexpr auto make_indices() {
    if constexpr (sizeof...(I) == N) return Indices<I...>();
    else return make_indices<N, I..., sizeof...(I)>();
}

/// f(0), f(1), ... f(N - 1), written out: in a loop, an array of vectors would stay in memory.
template <int N, class F>
SOFTLOSS_INLINE void unrolled(F f) {
    [&]<std::size_t... I>(Indices<I...>)
        SOFTLOSS_LAMBDA { (f(static_cast<int>(I)), ...); }(make_indices<N>());
}

/// Logical vectors that go through a long chain of operations side by side, as one that is wider: a CPU looks only so far
/// ahead for others that it could work on while one waits for itself. Of rows, and of elements of S by themselves; where there
/// are few registers, only what is made of floats is worth the code.
#if defined(__AVX512F__)
constexpr int kInStep = 4;
template <class S>
constexpr int kElementsInStep = 4;
#elif defined(__AVX2__)
constexpr int kInStep = 1;
template <class S>
constexpr int kElementsInStep = sizeof(S) == 4 ? 2 : 1;
#else
constexpr int kInStep = 1;
template <class S>
constexpr int kElementsInStep = 1;
#endif

template <class T, int N>
constexpr bool kNative = sizeof(T) * N <= kRegisterBytes;

template <class T, int N>
struct Vec {
    Vec<T, N / 2> lo, hi;
};

template <class T, int N>
    requires kNative<T, N>
struct Vec<T, N> {
    typedef T Raw __attribute__((vector_size(sizeof(T) * N)));
    Raw raw;
};

template <class T>
struct IntOf {
    using type = T;
};
template <>
struct IntOf<float> {
    using type = std::int32_t;
};
template <>
struct IntOf<double> {
    using type = std::int64_t;
};
/// Integers of the same width as T: bit patterns, and masks (a lane is 0 or -1).
template <class T, int N>
using IntVec = Vec<typename IntOf<T>::type, N>;

// ---- construction, memory ------------------------------------------------------------------------------------

template <class V>
struct LanesOf;
template <class T, int N>
struct LanesOf<Vec<T, N>> {
    using type = T;
    static constexpr int count = N;
};

/// All lanes equal to x.
template <class V>
SOFTLOSS_INLINE V splat(typename LanesOf<V>::type x) {
    if constexpr (requires(V v) { v.raw; }) {
        typename V::Raw zero = {};
        return V{x - zero};
    } else {
        const auto half = splat<decltype(V::lo)>(x);
        return V{half, half};
    }
}

/// The lane numbers 0, 1, 2, ...
template <class V>
SOFTLOSS_INLINE V iota() {
    using T = typename LanesOf<V>::type;
    if constexpr (requires(V v) { v.raw; }) {
        // Written out: in a loop, the lanes would be put together in memory.
        return []<std::size_t... I>(Indices<I...>) SOFTLOSS_LAMBDA {
            return V{typename V::Raw{static_cast<T>(I)...}};
        }(make_indices<LanesOf<V>::count>());
    } else {
        const auto half = iota<decltype(V::lo)>();
        return V{half, half + splat<decltype(V::lo)>(LanesOf<V>::count / 2)};
    }
}

/// v as often as it goes into N lanes.
template <int N, class T, int M>
SOFTLOSS_INLINE Vec<T, N> repeat(Vec<T, M> v) {
    if constexpr (N == M) {
        return v;
    } else {
        const auto half = repeat<N / 2>(v);
        return {half, half};
    }
}
/// Calls f with the vectors of W lanes of which wider ones consist, in order.
template <int W, class F, class V, class... Others>
SOFTLOSS_INLINE void in_turn(F&& f, V v, Others... others) {
    if constexpr (LanesOf<V>::count == W) {
        f(v, others...);
    } else {
        in_turn<W>(f, v.lo, others.lo...);
        in_turn<W>(f, v.hi, others.hi...);
    }
}

// Loads, stores and halves go register by register: a copy of a whole Vec would be split into small pieces by compilers.
template <class V>
SOFTLOSS_INLINE V load(const typename LanesOf<V>::type* p) {
    if constexpr (requires(V v) { v.raw; }) {
        typedef typename V::Raw Unaligned __attribute__((aligned(1), may_alias));
        return V{*reinterpret_cast<const Unaligned*>(p)};
    } else {
        using H = decltype(V::lo);
        return V{load<H>(p), load<H>(p + LanesOf<H>::count)};
    }
}

template <class T, int N>
SOFTLOSS_INLINE void store(T* p, Vec<T, N> v) {
    if constexpr (kNative<T, N>) {
        typedef typename Vec<T, N>::Raw Unaligned __attribute__((aligned(1), may_alias));
        *reinterpret_cast<Unaligned*>(p) = v.raw;
    } else {
        store(p, v.lo);
        store(p + N / 2, v.hi);
    }
}

// ---- lane-wise arithmetic -------------------------------------------------------------------------------------

template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> operator+(Vec<T, N> a, Vec<T, N> b) {
    if constexpr (kNative<T, N>) return {a.raw + b.raw};
    else return {a.lo + b.lo, a.hi + b.hi};
}
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> operator-(Vec<T, N> a, Vec<T, N> b) {
    if constexpr (kNative<T, N>) return {a.raw - b.raw};
    else return {a.lo - b.lo, a.hi - b.hi};
}
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> operator-(Vec<T, N> a) {
    if constexpr (kNative<T, N>) return {-a.raw};
    else return {-a.lo, -a.hi};
}
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> operator*(Vec<T, N> a, Vec<T, N> b) {
    if constexpr (kNative<T, N>) return {a.raw * b.raw};
    else return {a.lo * b.lo, a.hi * b.hi};
}
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> operator/(Vec<T, N> a, Vec<T, N> b) {
    if constexpr (kNative<T, N>) return {a.raw / b.raw};
    else return {a.lo / b.lo, a.hi / b.hi};
}
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> operator&(Vec<T, N> a, Vec<T, N> b) {
    if constexpr (kNative<T, N>) return {a.raw & b.raw};
    else return {a.lo & b.lo, a.hi & b.hi};
}
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> operator|(Vec<T, N> a, Vec<T, N> b) {
    if constexpr (kNative<T, N>) return {a.raw | b.raw};
    else return {a.lo | b.lo, a.hi | b.hi};
}
template <int Bits, class T, int N>
SOFTLOSS_INLINE Vec<T, N> shift_left(Vec<T, N> a) {
    if constexpr (kNative<T, N>) return {a.raw << Bits};
    else return {shift_left<Bits>(a.lo), shift_left<Bits>(a.hi)};
}
/// Arithmetic shift: the sign is kept.
template <int Bits, class T, int N>
SOFTLOSS_INLINE Vec<T, N> shift_right(Vec<T, N> a) {
    if constexpr (kNative<T, N>) return {a.raw >> Bits};
    else return {shift_right<Bits>(a.lo), shift_right<Bits>(a.hi)};
}

// ---- comparison and choice; a mask lane is 0 or -1 --------------------------------------------------------------

template <class T, int N>
SOFTLOSS_INLINE IntVec<T, N> less(Vec<T, N> a, Vec<T, N> b) {
    if constexpr (kNative<T, N>) return {(typename IntVec<T, N>::Raw)(a.raw < b.raw)};
    else return {less(a.lo, b.lo), less(a.hi, b.hi)};
}
template <class T, int N>
SOFTLOSS_INLINE IntVec<T, N> equal(Vec<T, N> a, Vec<T, N> b) {
    if constexpr (kNative<T, N>) return {(typename IntVec<T, N>::Raw)(a.raw == b.raw)};
    else return {equal(a.lo, b.lo), equal(a.hi, b.hi)};
}
template <class T, int N>
SOFTLOSS_INLINE IntVec<T, N> not_equal(Vec<T, N> a, Vec<T, N> b) {
    if constexpr (kNative<T, N>) return {(typename IntVec<T, N>::Raw)(a.raw != b.raw)};
    else return {not_equal(a.lo, b.lo), not_equal(a.hi, b.hi)};
}
/// mask ? a : b, lane by lane.
template <class I, class T, int N>
SOFTLOSS_INLINE Vec<T, N> select(Vec<I, N> mask, Vec<T, N> a, Vec<T, N> b) {
    static_assert(sizeof(I) == sizeof(T));
    if constexpr (kNative<T, N>) return {mask.raw ? a.raw : b.raw};
    else return {select(mask.lo, a.lo, b.lo), select(mask.hi, a.hi, b.hi)};
}

/// The mask of the first `valid` lanes.
template <class I>
SOFTLOSS_INLINE I first_lanes(int valid) {
    return less(iota<I>(), splat<I>(valid));
}
/// The first `valid` lanes of a, 0 in the others.
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> keep_first(Vec<T, N> a, int valid) {
    return select(first_lanes<IntVec<T, N>>(valid), a, splat<Vec<T, N>>(0));
}

// ---- bits -------------------------------------------------------------------------------------------------------

template <class T, int N>
SOFTLOSS_INLINE IntVec<T, N> as_int(Vec<T, N> a) {
    if constexpr (kNative<T, N>) return {(typename IntVec<T, N>::Raw)a.raw};
    else return {as_int(a.lo), as_int(a.hi)};
}
template <class T, class I, int N>
SOFTLOSS_INLINE Vec<T, N> as_float(Vec<I, N> a) {
    static_assert(sizeof(I) == sizeof(T));
    if constexpr (kNative<T, N>) return {(typename Vec<T, N>::Raw)a.raw};
    else return {as_float<T>(a.lo), as_float<T>(a.hi)};
}
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> abs(Vec<T, N> a) {
    using I = IntVec<T, N>;
    constexpr auto kMagnitude = static_cast<typename IntOf<T>::type>(~(1ull << (8 * sizeof(T) - 1)));
    return as_float<T>(as_int(a) & splat<I>(kMagnitude));
}

/// -|a|
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> minus_abs(Vec<T, N> a) {
    return as_float<T>(as_int(a) | as_int(splat<Vec<T, N>>(T(-0.0))));
}

// ---- fma, max: one instruction where there is one ---------------------------------------------------------------

/// Rounding to odd keeps what a second rounding needs: a + b whose last bit is set when the sum is not exact.
template <int N>
SOFTLOSS_INLINE Vec<double, N> add_to_odd(Vec<double, N> a, Vec<double, N> b) {
    using I = IntVec<double, N>;
    const auto s = a + b;
    const auto t = s - a;
    const auto error = (a - (s - t)) + (b - t);
    const auto one = splat<I>(1), bits = as_int(s);
    // An inexact even sum moves by one unit towards the exact value: away from zero when the error has its sign.
    const auto away = equal(as_int(error) & splat<I>(INT64_MIN), bits & splat<I>(INT64_MIN));
    const auto odd = bits + select(away, one, -one);
    // The error of an infinite sum is NaN, and not inexact.
    const auto inexact_even = less(splat<Vec<double, N>>(0), abs(error)) & ((bits & one) - one);
    return select(inexact_even, as_float<double>(odd), s);
}
/// a * b + c rounded once on a machine without fma (Boldo and Melquiond, 2008). Slow, but the same bits.
template <int N>
[[gnu::noinline]] Vec<double, N> emulated_fma(Vec<double, N> a, Vec<double, N> b, Vec<double, N> c) {
    using V = Vec<double, N>;
    const auto split = [](V x, V& hi, V& lo) {
        const auto t = x * splat<V>(0x1.0000002p27);
        hi = t - (t - x);
        lo = x - hi;
    };
    const auto two_sum = [](V x, V y, V& s, V& e) {
        s = x + y;
        const auto t = s - x;
        e = (x - (s - t)) + (y - t);
    };
    V ah, al, bh, bl, th, tl, sh, sl;
    split(a, ah, al);
    split(b, bh, bl);
    const auto p = a * b;
    const auto e = ((ah * bh - p) + ah * bl + al * bh) + al * bl;
    two_sum(c, e, th, tl);
    two_sum(p, th, sh, sl);
    const auto r = sh + add_to_odd(tl, sl);
    // Infinities and NaN do not survive the splitting; the plain form has them right.
    const auto plain = p + c;
    return select(equal(r, r), r, plain);
}
template <int N>
[[gnu::noinline]] Vec<float, N> emulated_fma(Vec<float, N> a, Vec<float, N> b, Vec<float, N> c);

template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> fma(Vec<T, N> a, Vec<T, N> b, Vec<T, N> c) {
    if constexpr (!kNative<T, N>) {
        return Vec<T, N>{fma(a.lo, b.lo, c.lo), fma(a.hi, b.hi, c.hi)};
    } else {
        [[maybe_unused]] constexpr int bytes = sizeof(T) * N;
        using Raw [[maybe_unused]] = typename Vec<T, N>::Raw;
#if defined(__AVX512F__)
        if constexpr (bytes == 64 && sizeof(T) == 4) return {(Raw)_mm512_fmadd_ps(a.raw, b.raw, c.raw)};
        if constexpr (bytes == 64 && sizeof(T) == 8) return {(Raw)_mm512_fmadd_pd(a.raw, b.raw, c.raw)};
#endif
#if defined(__FMA__)
        if constexpr (bytes == 32 && sizeof(T) == 4) return {(Raw)_mm256_fmadd_ps(a.raw, b.raw, c.raw)};
        if constexpr (bytes == 32 && sizeof(T) == 8) return {(Raw)_mm256_fmadd_pd(a.raw, b.raw, c.raw)};
        if constexpr (bytes == 16 && sizeof(T) == 4) return {(Raw)_mm_fmadd_ps(a.raw, b.raw, c.raw)};
        if constexpr (bytes == 16 && sizeof(T) == 8) return {(Raw)_mm_fmadd_pd(a.raw, b.raw, c.raw)};
#elif defined(__ARM_NEON) && defined(__aarch64__)
        if constexpr (bytes == 16 && sizeof(T) == 4) return {(Raw)vfmaq_f32(c.raw, a.raw, b.raw)};
        if constexpr (bytes == 16 && sizeof(T) == 8) return {(Raw)vfmaq_f64(c.raw, a.raw, b.raw)};
#elif defined(__FP_FAST_FMA) && defined(__FP_FAST_FMAF)
        Vec<T, N> r;
        for (int i = 0; i < N; ++i) {
            if constexpr (sizeof(T) == 4) r.raw[i] = __builtin_fmaf(a.raw[i], b.raw[i], c.raw[i]);
            else r.raw[i] = __builtin_fma(a.raw[i], b.raw[i], c.raw[i]);
        }
        return r;
#else
        return emulated_fma(a, b, c);
#endif
        __builtin_unreachable();
    }
}

/// a > b ? a : b; a NaN in b comes through.
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> max(Vec<T, N> a, Vec<T, N> b) {
    if constexpr (!kNative<T, N>) {
        return {max(a.lo, b.lo), max(a.hi, b.hi)};
    } else {
        [[maybe_unused]] constexpr int bytes = sizeof(T) * N;
        using Raw [[maybe_unused]] = typename Vec<T, N>::Raw;
#if defined(__AVX512F__)
        if constexpr (bytes == 64 && sizeof(T) == 4) return {(Raw)_mm512_max_ps(a.raw, b.raw)};
        if constexpr (bytes == 64 && sizeof(T) == 8) return {(Raw)_mm512_max_pd(a.raw, b.raw)};
#endif
#if defined(__AVX2__)
        if constexpr (bytes == 32 && sizeof(T) == 4) return {(Raw)_mm256_max_ps(a.raw, b.raw)};
        if constexpr (bytes == 32 && sizeof(T) == 8) return {(Raw)_mm256_max_pd(a.raw, b.raw)};
#endif
#if defined(__SSE2__)
        if constexpr (bytes == 16 && sizeof(T) == 4) return {(Raw)_mm_max_ps(a.raw, b.raw)};
        if constexpr (bytes == 16 && sizeof(T) == 8) return {(Raw)_mm_max_pd(a.raw, b.raw)};
#elif defined(__ARM_NEON) && defined(__aarch64__)
        if constexpr (bytes == 16 && sizeof(T) == 4) return {(Raw)vmaxq_f32(a.raw, b.raw)};
        if constexpr (bytes == 16 && sizeof(T) == 8) return {(Raw)vmaxq_f64(a.raw, b.raw)};
#endif
        return {a.raw > b.raw ? a.raw : b.raw};
    }
}

// ---- lanes: halves, conversions, reductions ---------------------------------------------------------------------

/// Lanes First, First + 1, ... of a native vector, as many as To has.
template <class To, int First, class T, int N>
SOFTLOSS_INLINE To lanes_from(Vec<T, N> a) {
    return [&]<std::size_t... I>(Indices<I...>) SOFTLOSS_LAMBDA {
        return To{__builtin_shufflevector(a.raw, a.raw, (First + static_cast<int>(I))...)};
    }(make_indices<LanesOf<To>::count>());
}
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N / 2> low_half(Vec<T, N> a) {
    if constexpr (!kNative<T, N>) return a.lo;
    else return lanes_from<Vec<T, N / 2>, 0>(a);
}
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N / 2> high_half(Vec<T, N> a) {
    if constexpr (!kNative<T, N>) return a.hi;
    else return lanes_from<Vec<T, N / 2>, N / 2>(a);
}
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> join(Vec<T, N / 2> lo, Vec<T, N / 2> hi) {
    if constexpr (!kNative<T, N>) {
        return {lo, hi};
    } else {
        return [&]<std::size_t... I>(Indices<I...>) SOFTLOSS_LAMBDA {
            return Vec<T, N>{__builtin_shufflevector(lo.raw, hi.raw, static_cast<int>(I)...)};
        }(make_indices<N>());
    }
}

/// The lower or the upper half of every `Group` lanes: those of a, then those of b.
template <bool Upper, int Group, class T, int N>
SOFTLOSS_INLINE Vec<T, N> half_groups(Vec<T, N> a, Vec<T, N> b) {
    if constexpr (Group == N) {
        if constexpr (Upper) return join<T, N>(high_half(a), high_half(b));
        else return join<T, N>(low_half(a), low_half(b));
    } else if constexpr (!kNative<T, N>) {
        return {half_groups<Upper, Group>(a.lo, a.hi), half_groups<Upper, Group>(b.lo, b.hi)};
    } else {
        return [&]<std::size_t... I>(Indices<I...>) SOFTLOSS_LAMBDA {
            constexpr auto index = [](int i) {
                constexpr int half = Group / 2;
                return i / half * Group + (Upper ? half : 0) + i % half;
            };
            return Vec<T, N>{__builtin_shufflevector(a.raw, b.raw, index(static_cast<int>(I))...)};
        }(make_indices<N>());
    }
}

/// Each lane converted to To (float <-> double, integer widths); as C++ converts one value.
template <class To, class T, int N>
SOFTLOSS_INLINE Vec<To, N> convert(Vec<T, N> a) {
    if constexpr (!kNative<To, N> || !kNative<T, N>) {
        return join<To, N>(convert<To>(low_half(a)), convert<To>(high_half(a)));
    } else {
#if defined(__AVX512F__)  // where gcc would go by halves
        using Raw [[maybe_unused]] = typename Vec<To, N>::Raw;
        constexpr int from = sizeof(T), to = sizeof(To);
        constexpr bool floats = To(0.5) != To(0) && T(0.5) != T(0),
                       integers = To(0.5) == To(0) && T(0.5) == T(0);
        if constexpr (floats && N == 8 && from == 8 && to == 4) return {(Raw)_mm512_cvtpd_ps((__m512d)a.raw)};
        if constexpr (floats && N == 8 && from == 4 && to == 8) return {(Raw)_mm512_cvtps_pd((__m256)a.raw)};
        if constexpr (integers && N == 8 && from == 8 && to == 4)
            return {(Raw)_mm512_cvtepi64_epi32((__m512i)a.raw)};
        if constexpr (integers && N == 16 && from == 4 && to == 2)
            return {(Raw)_mm512_cvtepi32_epi16((__m512i)a.raw)};
        if constexpr (integers && T(-1) > T(0) && N == 16 && from == 2 && to == 4)
            return {(Raw)_mm512_cvtepu16_epi32((__m256i)a.raw)};
#endif
        return {__builtin_convertvector(a.raw, typename Vec<To, N>::Raw)};
    }
}

/// The lane for a count-th power of two: lanes i and i + N/2 are combined first, then i and i + N/4, ... .
template <class Op, class T, int N>
SOFTLOSS_INLINE T fold(Vec<T, N> a, Op op) {
    if constexpr (N == 1) {
        return a.raw[0];
    } else {
        return fold(op(low_half(a), high_half(a)), op);
    }
}

/// Lane 0.
template <class T, int N>
SOFTLOSS_INLINE T first(Vec<T, N> a) {
    if constexpr (kNative<T, N>) return a.raw[0];
    else return first(a.lo);
}

/// True if a lane of the mask is set.
template <class T, int N>
SOFTLOSS_INLINE bool any(Vec<T, N> mask) {
    if constexpr (!kNative<T, N>) {
        return any(mask.lo | mask.hi);
    } else {
        [[maybe_unused]] constexpr int bytes = sizeof(T) * N;
#if defined(__AVX512F__)
        if constexpr (bytes == 64) return _mm512_test_epi32_mask((__m512i)mask.raw, (__m512i)mask.raw) != 0;
#endif
#if defined(__AVX2__)
        if constexpr (bytes == 32) return _mm256_movemask_epi8((__m256i)mask.raw) != 0;
#endif
#if defined(__SSE2__)
        if constexpr (bytes == 16) return _mm_movemask_epi8((__m128i)mask.raw) != 0;
#elif defined(__ARM_NEON) && defined(__aarch64__)
        if constexpr (bytes == 16) return vmaxvq_u32((uint32x4_t)mask.raw) != 0;
#endif
        return fold(mask, [](auto a, auto b) SOFTLOSS_LAMBDA { return a | b; }) != 0;
    }
}

/// table[index mod 8] for each lane.
template <class T, class I, int N>
SOFTLOSS_INLINE Vec<T, N> lookup8(const T (&table)[8], Vec<I, N> index) {
    if constexpr (!kNative<T, N>) {
        return {lookup8<T>(table, index.lo), lookup8<T>(table, index.hi)};
    } else {
        [[maybe_unused]] constexpr int bytes = sizeof(T) * N;
        using Raw [[maybe_unused]] = typename Vec<T, N>::Raw;
#if defined(__AVX512F__)
        if constexpr (bytes == 64 && sizeof(T) == 4) {
            const __m512 t = _mm512_broadcast_f32x8(_mm256_loadu_ps(table));
            return {(Raw)_mm512_permutexvar_ps((__m512i)index.raw, t)};
        }
        if constexpr (bytes == 64 && sizeof(T) == 8) {
            return {(Raw)_mm512_permutexvar_pd((__m512i)index.raw, _mm512_loadu_pd(table))};
        }
#endif
#if defined(__AVX2__)
        if constexpr (bytes == 32 && sizeof(T) == 4) {
            return {(Raw)_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), (__m256i)index.raw)};
        }
        if constexpr (bytes == 32 && sizeof(T) == 8) {
            // A double is a pair of floats to the permutation: pair 2i, 2i + 1 of the lower or the upper four entries.
            const __m256i twice = _mm256_slli_epi64((__m256i)index.raw, 1);
            const __m256i pairs =
                _mm256_add_epi32(_mm256_shuffle_epi32(twice, 0xa0), _mm256_set1_epi64x(1ll << 32));
            const __m256 lower =
                _mm256_permutevar8x32_ps(_mm256_loadu_ps(reinterpret_cast<const float*>(table)), pairs);
            const __m256 upper =
                _mm256_permutevar8x32_ps(_mm256_loadu_ps(reinterpret_cast<const float*>(table + 4)), pairs);
            const __m256d bit2 = _mm256_castsi256_pd(_mm256_slli_epi64((__m256i)index.raw, 61));
            return {(Raw)_mm256_blendv_pd(_mm256_castps_pd(lower), _mm256_castps_pd(upper), bit2)};
        }
#endif
#if defined(__ARM_NEON) && defined(__aarch64__)
        if constexpr (bytes == 16 && sizeof(T) == 4) {
            const uint8x16x2_t t = {vreinterpretq_u8_f32(vld1q_f32(table)),
                                    vreinterpretq_u8_f32(vld1q_f32(table + 4))};
            const uint32x4_t entry = vandq_u32((uint32x4_t)index.raw, vdupq_n_u32(7));
            const uint32x4_t lanes = vmlaq_u32(vdupq_n_u32(0x03020100u), entry, vdupq_n_u32(0x04040404u));
            return {(Raw)vqtbl2q_u8(t, vreinterpretq_u8_u32(lanes))};
        }
#endif
        Vec<T, N> r;
        for (int i = 0; i < N; ++i) r.raw[i] = table[index.raw[i] & 7];
        return r;
    }
}

template <int N>
[[gnu::noinline]] Vec<float, N> emulated_fma(Vec<float, N> a, Vec<float, N> b, Vec<float, N> c) {
    // The product of two floats is exact in double; one rounding to odd and one to float are one rounding.
    const auto product = convert<double>(a) * convert<double>(b);
    return convert<float>(add_to_odd(product, convert<double>(c)));
}

// ---- columns of short rows: transposition in pieces of 16 bytes ----------------------------------------------------

/// Elements of a row that load_columns reads: those of 16 bytes.
template <class T>
constexpr int kColumns = 16 / sizeof(T);

/// Pieces of 16 bytes, `step` elements apart, one after the other.
template <class V, class T>
SOFTLOSS_INLINE V load_pieces(const T* p, std::int64_t step) {
    constexpr int N = LanesOf<V>::count;
    if constexpr (N == kColumns<T>) {
        return load<V>(p);
    } else {
        using H = Vec<T, N / 2>;
        return join<T, N>(load_pieces<H>(p, step), load_pieces<H>(p + N / 2 / kColumns<T> * step, step));
    }
}
/// The reverse for P vectors at once, row after row: piece q of v[k] belongs to row q P + k.
template <class T, int N, int P>
SOFTLOSS_INLINE void store_pieces(T* p, std::int64_t row, const Vec<T, N> (&v)[P]) {
    if constexpr (N == P) {
        unrolled<P>([&](int k) SOFTLOSS_LAMBDA { store(p + k * row, v[k]); });
    } else {
        Vec<T, N / 2> half[P];
        unrolled<P>([&](int k) SOFTLOSS_LAMBDA { half[k] = low_half(v[k]); });
        store_pieces(p, row, half);
        unrolled<P>([&](int k) SOFTLOSS_LAMBDA { half[k] = high_half(v[k]); });
        store_pieces(p + N / 2 * row, row, half);
    }
}

/// From every 16 bytes of a and of b: the elements (of Bytes bytes) of the lower or the upper 8, alternately.
template <bool Upper, int Bytes, class T, int N>
SOFTLOSS_INLINE Vec<T, N> interleave(Vec<T, N> a, Vec<T, N> b) {
    if constexpr (!kNative<T, N>) {
        return {interleave<Upper, Bytes>(a.lo, b.lo), interleave<Upper, Bytes>(a.hi, b.hi)};
    } else {
        return [&]<std::size_t... I>(Indices<I...>) SOFTLOSS_LAMBDA {
            constexpr auto index = [](int i) {
                constexpr int per = Bytes / sizeof(T),
                              piece = kColumns<T>;  // elements of a unit, of 16 bytes
                const int in = i % piece, unit = in / per;
                return i / piece * piece + (Upper ? piece / 2 : 0) + unit / 2 * per + in % per +
                       (unit % 2 ? N : 0);
            };
            return Vec<T, N>{__builtin_shufflevector(a.raw, b.raw, index(static_cast<int>(I))...)};
        }(make_indices<N>());
    }
}

/// The transposition between a piece of each row and columns; its own inverse.
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

/// columns[c], lane r = p[r * row + c]: N rows, the first kColumns elements of each.
template <class T, int N, int P>
SOFTLOSS_INLINE void load_columns(const T* p, std::int64_t row, Vec<T, N> (&columns)[P]) {
    unrolled<P>([&](int k) SOFTLOSS_LAMBDA { columns[k] = load_pieces<Vec<T, N>>(p + k * row, P * row); });
    transpose(columns);
}
/// The reverse, in the order of the rows: what one row's store puts beyond its end, the next one's mends.
template <class T, int N, int P>
SOFTLOSS_INLINE void store_columns(T* p, std::int64_t row, Vec<T, N> (&columns)[P]) {
    transpose(columns);
    store_pieces(p, row, columns);
}

/// Lane i: element Of::at(i) of the vectors v, one after the other; those of v[0] ... v[K] are in their place, for now.
template <class Of, int K, class T, int N, int C>
SOFTLOSS_INLINE Vec<T, N> picked(const Vec<T, N> (&v)[C]) {
    return [&]<std::size_t... I>(Indices<I...>) SOFTLOSS_LAMBDA {
        if constexpr (K == 1) {
            constexpr auto index = [](int i) { return Of::at(i) < 2 * N ? Of::at(i) : 0; };
            return Vec<T, N>{__builtin_shufflevector(v[0].raw, v[1].raw, index(static_cast<int>(I))...)};
        } else {
            constexpr auto index = [](int i) { return Of::at(i) / N == K ? Of::at(i) % N + N : i; };
            const auto before = picked<Of, K - 1>(v);
            return Vec<T, N>{__builtin_shufflevector(before.raw, v[K].raw, index(static_cast<int>(I))...)};
        }
    }(make_indices<N>());
}
/// Where the elements of column c lie in rows of C, and where those of the k-th vector of rows lie in columns of N.
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
            ((columns[c] = picked<InRows<C, static_cast<int>(c)>, C - 1>(v)), ...);
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
            (store(p + k * N, picked<InColumns<C, N, static_cast<int>(k)>, C - 1>(columns)), ...);
        }(make_indices<C>());
    } else {
        Vec<T, N / 2> half[C];
        unrolled<C>([&](int c) SOFTLOSS_LAMBDA { half[c] = columns[c].lo; });
        store_short_rows(p, half);
        unrolled<C>([&](int c) SOFTLOSS_LAMBDA { half[c] = columns[c].hi; });
        store_short_rows(p + C * N / 2, half);
    }
}

// ---- memory without computing --------------------------------------------------------------------------------------

/// Fetches what will soon be needed into the first cache; into the second where there is too much of it (`far`).
SOFTLOSS_INLINE void prefetch(const char* p, bool far = false) {
    if (far) __builtin_prefetch(p, 0, 2);
    else __builtin_prefetch(p, 0, 3);
}
/// A store past the caches, where there is one for as many bytes; p is aligned to those of v. fence() before others may
/// read it.
template <class T, int N>
SOFTLOSS_INLINE void stream(T* p, Vec<T, N> v) {
    if constexpr (!kNative<T, N>) {
        stream(p, v.lo);
        stream(p + N / 2, v.hi);
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
SOFTLOSS_INLINE void fence() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

// ---- storage types: what lies in memory <-> what is computed with -------------------------------------------------

/// Storage S computes in T: float16, bfloat16 and float in float, double in double; kLanes to a logical vector.
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

template <int N>
SOFTLOSS_INLINE Vec<float, N> from_storage(const bfloat16* p) {
    if constexpr (N > 16) {  // so that a register is filled from memory, not from another one
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

/// float16 by integer arithmetic: exact, for machines without the instruction.
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

/// The first `valid` lanes from memory, the others 0; nothing beyond them is touched.
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
/// The first `valid` lanes to memory.
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

}  // namespace
}  // namespace softloss
