// What the machine allows: kernels that only move memory or only compute exp, as fast as simple code can.
//
// Lives here: read, write, copy and two-reads-one-write over arrays, with regular or non-temporal stores, and
// exp on data that stays in the first cache. C functions, for Python's ctypes and for the micro-benchmarks.
// Must not: softloss.
//
// Each call repeats its work `repeat` times on `threads` threads and does nothing else, so that its time
// divided by `repeat` is the time of the work alone.
#include <cstdint>
#include <cstring>
#include <initializer_list>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
typedef float Vector __attribute__((vector_size(kBytes), aligned(kBytes), may_alias));

void stream(Vector* to, Vector v) {
#if defined(__AVX512F__)
    _mm512_stream_ps(reinterpret_cast<float*>(to), v);
#elif defined(__AVX__)
    _mm256_stream_ps(reinterpret_cast<float*>(to), v);
#elif defined(__SSE2__)
    _mm_stream_ps(reinterpret_cast<float*>(to), v);
#else
    *to = v;
#endif
}

void fence() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

Vector loaded(const char* p) {
    Vector v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

/// Keeps a value that nobody uses.
void keep(Vector v) {
    asm volatile("" : : "x"(v));
}

/// `vectors` vectors: reads a and b, writes y; any of them may be null. y is aligned to a vector.
template <bool A, bool B, bool Y, bool NonTemporal>
void move(const char* a, const char* b, char* y, std::int64_t vectors) {
    Vector sum[4] = {};
    const auto step = [&](std::int64_t i, Vector& s) {
        const std::int64_t at = i * kBytes;
        Vector v{};
        if constexpr (A) v = loaded(a + at);
        if constexpr (B) v += loaded(b + at);
        if constexpr (!Y) s += v;
        else if constexpr (NonTemporal) stream(reinterpret_cast<Vector*>(y + at), v);
        else *reinterpret_cast<Vector*>(y + at) = v;
    };
    std::int64_t i = 0;
    for (; i + 4 <= vectors; i += 4)
        for (int k = 0; k < 4; ++k) step(i + k, sum[k]);
    for (; i < vectors; ++i) step(i, sum[0]);
    if constexpr (!Y) keep(sum[0] + sum[1] + (sum[2] + sum[3]));
    if constexpr (NonTemporal) fence();
}

using Move = void (*)(const char*, const char*, char*, std::int64_t);

Move choose(bool a, bool b, bool y, bool non_temporal) {
    if (!y) return b ? move<true, true, false, false> : move<true, false, false, false>;
    if (!a) return non_temporal ? move<false, false, true, true> : move<false, false, true, false>;
    if (!b) return non_temporal ? move<true, false, true, true> : move<true, false, true, false>;
    return non_temporal ? move<true, true, true, true> : move<true, true, true, false>;
}

/// exp by the textbook: n = round(x / ln 2), a polynomial of r = x - n ln 2 (two constants), n added to the
/// exponent.
inline float exp_of(float x) {
    x = x < -87.0f ? -87.0f : x;
    const float magic = 0x1.8p23f, t = x * 0x1.715476p0f + magic, n = t - magic;
    const float r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    float p = 1.0f / 720;
    for (float c : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = p * r + c;
    std::uint32_t bits, shift;
    std::memcpy(&bits, &p, 4);
    std::memcpy(&shift, &t, 4);
    bits += shift << 23;
    std::memcpy(&p, &bits, 4);
    return p;
}

inline double exp_of(double x) {
    x = x < -708.0 ? -708.0 : x;
    const double magic = 0x1.8p52, t = x * 0x1.71547652b82fep0 + magic, n = t - magic;
    const double r = (x - n * 0x1.62e42fefa39efp-1) - n * 0x1.abc9e3b39803fp-56;
    double p = 1.0 / 479001600;
    for (double c : {1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
                     1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0})
        p = p * r + c;
    std::uint64_t bits, shift;
    std::memcpy(&bits, &p, 8);
    std::memcpy(&shift, &t, 8);
    bits += shift << 52;
    std::memcpy(&p, &bits, 8);
    return p;
}

template <class T>
void exp_sums(std::int64_t elements, std::int64_t repeat, int threads) {
    constexpr int kElements = 8192 / sizeof(T);
#pragma omp parallel num_threads(threads)
    {
        alignas(64) T x[kElements];
        T largest = 0;
        for (int i = 0; i < kElements; ++i) x[i] = static_cast<T>(-8) * i / kElements;
#pragma omp for schedule(static)
        for (std::int64_t block = 0; block < repeat * (elements / kElements); ++block) {
            asm volatile("" : "+x"(largest) : "r"(x) : "memory");
            T sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int i = 0; i < kElements; ++i) sum += exp_of(x[i] - largest);
            asm volatile("" : : "x"(sum));
        }
    }
}

}  // namespace

extern "C" {

/// Reads `bytes` of a and of b, writes as many to y; any pointer may be null.
__attribute__((visibility("default"))) void roof_move(const char* a, const char* b, char* y,
                                                      std::int64_t bytes, int non_temporal,
                                                      std::int64_t repeat, int threads) {
    if (y) {  // aligned stores: the few bytes before are left out
        const std::int64_t skip = -reinterpret_cast<std::intptr_t>(y) & (kBytes - 1);
        y += skip;
        bytes -= skip;
    }
    const Move f = choose(a, b, y, non_temporal);
    const std::int64_t vectors = bytes / kBytes;
#pragma omp parallel num_threads(threads)
    for (std::int64_t r = 0; r < repeat; ++r) {
#pragma omp for schedule(static)
        for (int t = 0; t < threads; ++t) {
            const std::int64_t first = vectors * t / threads, last = vectors * (t + 1) / threads;
            const auto at = [&](auto* p) { return p ? p + first * kBytes : p; };
            f(at(a), at(b), at(y), last - first);
        }
    }
}

/// exp of 2^20 elements, in float32 (4) or float64 (8).
__attribute__((visibility("default"))) void roof_exp(int bytes_of_element, std::int64_t repeat, int threads) {
    if (bytes_of_element == 8) exp_sums<double>(1 << 20, repeat, threads);
    else exp_sums<float>(1 << 20, repeat, threads);
}
}
