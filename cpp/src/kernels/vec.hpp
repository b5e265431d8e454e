// The logical vector Vec<T, N>: N lanes of T that behave the same on every instruction set.
//
// Lives here: arithmetic, fma, select, lane conversions, table look-up, with the `#if` on the instruction set
// (only this file, masked.hpp and storage.hpp have any). A Vec wider than a register is two halves,
// recursively, so that one source compiles to full-speed code everywhere. Each operation is one correctly
// rounded IEEE operation per lane, so its bits are the same on every machine. Must not: anything that knows
// of exp, rows or losses.
//
// Alignment: load and store take any address. Only store_nontemporal (storage.hpp) needs an aligned one.
//
// Everything in kernels/ sits in an unnamed namespace. Each instruction set then has its own copy, compiled
// with its own flags, and the linker cannot use one copy for another. For the same reason the kernels call
// nothing of std::.
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

/// Without a fused multiply-add instruction each fma takes dozens of operations.
#if defined(__FMA__) || defined(__aarch64__) || (defined(__FP_FAST_FMA) && defined(__FP_FAST_FMAF))
constexpr bool kEmulatedFma = false;
#else
#define SOFTLOSS_EMULATES_FMA
constexpr bool kEmulatedFma = true;
#endif

/// Functions on vectors are always inlined. In three kinds of build the compiler decides instead. Where fma
/// is emulated, the code is slow in any case, and the library stays small. With sanitizers, every inlined
/// copy of the code is checked, and without optimisation none gets smaller: both builds would take many times
/// as long.
#if defined(SOFTLOSS_EMULATES_FMA) || defined(SOFTLOSS_SANITIZED) || !defined(__OPTIMIZE__)
#define SOFTLOSS_INLINE inline
#define SOFTLOSS_LAMBDA
#else
#define SOFTLOSS_INLINE [[gnu::always_inline]] inline
#define SOFTLOSS_LAMBDA __attribute__((always_inline))
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

/// Calls f(0), f(1), ... f(N - 1) without a loop. If a loop indexed an array of vectors, compilers would keep
/// the array in memory.
template <int N, class F>
SOFTLOSS_INLINE void unrolled(F f) {
    [&]<std::size_t... I>(Indices<I...>)
        SOFTLOSS_LAMBDA { (f(static_cast<int>(I)), ...); }(make_indices<N>());
}

/// Unroll factors: how many independent logical vectors are in flight in a long chain of operations. A CPU
/// looks only a limited number of instructions ahead for independent work, so that one vector at a time would
/// leave it waiting. kUnroll is for rows, kElementUnroll for elementwise kernels that store S. With few
/// registers, only float32 gains enough to be worth the code.
#if defined(__AVX512F__)
constexpr int kUnroll = 4;
template <class S>
constexpr int kElementUnroll = 4;
#elif defined(__AVX2__)
constexpr int kUnroll = 1;
template <class S>
constexpr int kElementUnroll = sizeof(S) == 4 ? 2 : 1;
#else
constexpr int kUnroll = 1;
template <class S>
constexpr int kElementUnroll = 1;
#endif

/// True if N lanes of T fit into one register: with registers of 64 bytes, also vectors of 32 and 16 bytes.
/// Other vectors are two halves.
template <class T, int N>
constexpr bool kNative = sizeof(T) * N <= kRegisterBytes;

/// N lanes of T, N a power of two.
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

/// The integer type of the width of T.
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

// ---- construction, memory --------------------------------------------------------------------------------

/// Type and number of the lanes of a vector.
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
        // As a list: compilers would assemble the lanes in memory if they were set in a loop.
        return []<std::size_t... I>(Indices<I...>) SOFTLOSS_LAMBDA {
            return V{typename V::Raw{static_cast<T>(I)...}};
        }(make_indices<LanesOf<V>::count>());
    } else {
        const auto half = iota<decltype(V::lo)>();
        return V{half, half + splat<decltype(V::lo)>(LanesOf<V>::count / 2)};
    }
}

/// v repeated until it fills N lanes.
template <int N, class T, int M>
SOFTLOSS_INLINE Vec<T, N> repeat(Vec<T, M> v) {
    if constexpr (N == M) {
        return v;
    } else {
        const auto half = repeat<N / 2>(v);
        return {half, half};
    }
}
/// Calls f with each W-lane part of the given vectors, in order.
template <int W, class F, class V, class... Others>
SOFTLOSS_INLINE void for_each_part(F&& f, V v, Others... others) {
    if constexpr (LanesOf<V>::count == W) {
        f(v, others...);
    } else {
        for_each_part<W>(f, v.lo, others.lo...);
        for_each_part<W>(f, v.hi, others.hi...);
    }
}

// Loads, stores and halves work register by register: compilers would split the copy of a whole Vec into
// small pieces.
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

// ---- lane-wise arithmetic --------------------------------------------------------------------------------

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

// ---- comparison and choice; a mask lane is 0 or -1 -------------------------------------------------------

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
/// The first `valid` lanes of a; the others are 0.
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> keep_first(Vec<T, N> a, int valid) {
    return select(first_lanes<IntVec<T, N>>(valid), a, splat<Vec<T, N>>(0));
}

// ---- bits ------------------------------------------------------------------------------------------------

/// The same bits as integers; as_float is the reverse.
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

// ---- fma, max: one instruction where there is one --------------------------------------------------------

/// a + b rounded to odd: the last bit is set if the sum is not exact. A second rounding, to fewer bits, then
/// gives what a single rounding would.
template <int N>
SOFTLOSS_INLINE Vec<double, N> add_to_odd(Vec<double, N> a, Vec<double, N> b) {
    using I = IntVec<double, N>;
    const auto s = a + b;
    const auto t = s - a;
    const auto error = (a - (s - t)) + (b - t);
    const auto one = splat<I>(1), bits = as_int(s);
    // An inexact even sum moves by one unit towards the exact value: away from zero when the error has its
    // sign.
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
    // Splitting turns infinities into NaN; the plain sum has the right value for them.
    const auto plain = p + c;
    return select(less(splat<V>(0), abs(r)), r, plain);
}
/// Defined at the end: it needs convert().
template <int N>
[[gnu::noinline]] Vec<float, N> emulated_fma(Vec<float, N> a, Vec<float, N> b, Vec<float, N> c);

/// a * b + c, rounded once.
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
        __builtin_unreachable();  // each native width has a branch above: there is no general way
    }
}

/// The larger of a and b. A NaN in b is returned. What a NaN in a gives depends on the instruction set.
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
/// The larger of a and b, or b if a is NaN. b is a number.
template <class T, int N>
SOFTLOSS_INLINE Vec<T, N> max_of_number(Vec<T, N> a, Vec<T, N> b) {
#if defined(__ARM_NEON) && defined(__aarch64__)
    if constexpr (!kNative<T, N>) return {max_of_number(a.lo, b.lo), max_of_number(a.hi, b.hi)};
    else if constexpr (sizeof(T) * N == 16 && sizeof(T) == 4)
        return {(typename Vec<T, N>::Raw)vmaxnmq_f32(a.raw, b.raw)};
    else if constexpr (sizeof(T) * N == 16) return {(typename Vec<T, N>::Raw)vmaxnmq_f64(a.raw, b.raw)};
    else return {a.raw > b.raw ? a.raw : b.raw};
#else
    return max(a, b);  // which drops a NaN in a
#endif
}

// ---- lanes: halves, conversions, reductions --------------------------------------------------------------

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

/// The lower (or upper) half of each run of `Group` lanes, first those of a, then those of b.
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

/// Each lane converted to To, as C++ converts one value: float and double, or integers of other widths.
template <class To, class T, int N>
SOFTLOSS_INLINE Vec<To, N> convert(Vec<T, N> a) {
    if constexpr (!kNative<To, N> || !kNative<T, N>) {
        return join<To, N>(convert<To>(low_half(a)), convert<To>(high_half(a)));
    } else {
#if defined(__AVX2__)  // for these gcc would convert halves
        using Raw [[maybe_unused]] = typename Vec<To, N>::Raw;
        [[maybe_unused]] constexpr int from = sizeof(T), to = sizeof(To);
        [[maybe_unused]] constexpr bool floats = To(0.5) != To(0) && T(0.5) != T(0),
                                        integers = To(0.5) == To(0) && T(0.5) == T(0);
        if constexpr (floats && N == 4 && from == 8 && to == 4) return {(Raw)_mm256_cvtpd_ps((__m256d)a.raw)};
        if constexpr (floats && N == 4 && from == 4 && to == 8) return {(Raw)_mm256_cvtps_pd((__m128)a.raw)};
#endif
#if defined(__AVX512F__)
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

/// Combines all lanes into one by a binary tree: lanes i and i + N/2 first, then i and i + N/4, and so on.
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
            // The permutation moves floats, so a double moves as a pair of them: floats 2i and 2i + 1 of the
            // lower or upper four entries.
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

}  // namespace
}  // namespace softloss
