// The vector layer against plain scalar code, compiled with the flags of one instruction set, whose name
// CMake gives as SOFTLOSS_TEST_ISA. An operation is written as one lambda for vectors and scalars if
// possible. Must not: std::, of which the linker could take the copy of another instruction set.
#include "kernels/masked.hpp"
#include "kernels/softmax.hpp"  // the whole vector layer

#include "vec_table.hpp"

#define SOFTLOSS_TEXT(x) #x
#define SOFTLOSS_NAME(x) SOFTLOSS_TEXT(x)

namespace SOFTLOSS_TEST_ISA {
namespace {

using softloss::bfloat16, softloss::float16, softloss::Compute, softloss::IntOf, softloss::IntVec,
    softloss::kLanes, softloss::load, softloss::Select, softloss::splat, softloss::store, softloss::Vec;
using Report = VecReport;

// ---- comparing --------------------------------------------------------------------------------------------

template <class T>
using BitsOf = Select<sizeof(T) == 2, std::uint16_t, Select<sizeof(T) == 4, std::uint32_t, std::uint64_t>>;
template <class To, class From>
To bit_cast(From x) {
    static_assert(sizeof(To) == sizeof(From));
    To y;
    __builtin_memcpy(&y, &x, sizeof y);
    return y;
}

void compare_bits(Report& report, const char* operation, int lanes, std::int64_t place, std::uint64_t actual,
                  std::uint64_t expected) {
    ++report.compared;
    if (actual != expected) report.mismatch(operation, lanes, place, actual, expected);
}
template <class T>
void compare_exactly(Report& report, const char* operation, int lanes, std::int64_t place, T actual,
                     T expected) {
    compare_bits(report, operation, lanes, place, bit_cast<BitsOf<T>>(actual), bit_cast<BitsOf<T>>(expected));
}
/// Any two NaN are equal: the bits of a NaN that arithmetic makes may differ from those of scalar code.
template <class T>
void compare(Report& report, const char* operation, int lanes, std::int64_t place, T actual, T expected) {
    if (actual != actual && expected != expected) ++report.compared;
    else compare_exactly(report, operation, lanes, place, actual, expected);
}
template <class T, int N>
void compare_lanes(Report& report, const char* operation, Vec<T, N> actual, const T (&expected)[N]) {
    T lanes[N];
    store(lanes, actual);
    for (int i = 0; i < N; ++i) compare_exactly(report, operation, N, i, lanes[i], expected[i]);
}

/// vector(elements) against scalar(element), for `count` elements of each array in turn.
template <int N, class Vector, class Scalar, class... T>
void compare_map(Report& report, const char* operation, std::int64_t count, Vector vector, Scalar scalar,
                 const T*... in) {
    using R = decltype(scalar(*in...));
    for (std::int64_t i = 0; i + N <= count; i += N) {
        R actual[N];
        store(actual, vector(load<Vec<T, N>>(in + i)...));
        for (int k = 0; k < N; ++k)
            compare(report, operation, N, i + k, actual[k], static_cast<R>(scalar(in[i + k]...)));
    }
}

/// Calls f.operator()<N>() for vectors narrower than a register, as wide, and wider, on each instruction set.
template <class T, class F>
void each_width(F f) {
    f.template operator()<16 / sizeof(T)>();
    f.template operator()<32 / sizeof(T)>();
    f.template operator()<64 / sizeof(T)>();
    f.template operator()<256 / sizeof(T)>();
}

// ---- inputs -----------------------------------------------------------------------------------------------

struct Random {
    std::uint64_t state = 1;
    std::uint64_t operator()() {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return state ^ state >> 29;
    }
};

/// All triples of special values, then random ones.
template <class T, int M>
struct Inputs {
    static constexpr int kTriples = M * M * M, kCount = (kTriples + 4096 + 127) / 128 * 128;
    T a[kCount], b[kCount], c[kCount];

    template <class F>
    Inputs(const T (&special)[M], F random) {
        for (int i = 0; i < kCount; ++i) {
            const bool listed = i < kTriples;
            a[i] = listed ? special[i % M] : random();
            b[i] = listed ? special[i / M % M] : random();
            c[i] = listed ? special[i / M / M] : random();
        }
    }
};

template <class T>
struct Limits;
template <>
struct Limits<float> {
    static constexpr float tiny = 0x1p-149f, normal = 0x1p-126f, largest = 0x1.fffffep127f, unit = 0x1p-23f;
};
template <>
struct Limits<double> {
    static constexpr double tiny = 0x1p-1074, normal = 0x1p-1022, largest = 0x1.fffffffffffffp1023,
                            unit = 0x1p-52;
};

template <class T>
auto float_inputs() {
    using L = Limits<T>;
    const T inf = static_cast<T>(__builtin_inf()), nan = static_cast<T>(__builtin_nan(""));
    const T special[] = {0,          T(-0.0),     1,       -1,       1 + L::unit, T(1.5),
                         T(-2.5),    3,           L::tiny, -L::tiny, -L::normal,  L::normal / 3,
                         L::largest, -L::largest, inf,     -inf,     nan};
    return Inputs<T, 17>(special, [random = Random()]() mutable {
        return bit_cast<T>(static_cast<BitsOf<T>>(random() >> (64 - 8 * sizeof(T))));
    });
}

// ---- arithmetic -------------------------------------------------------------------------------------------

/// each(name, function of vectors, function of scalars, inputs) compares the two; mask(set) is a lane of a
/// comparison.
template <class Each, class Mask, class X>
void check_comparisons(const Each& each, const Mask& mask, const X& x) {
    each(
        "less", [](auto a, auto b) { return less(a, b); }, [&](auto a, auto b) { return mask(a < b); }, x.a,
        x.b);
    each(
        "equal", [](auto a, auto b) { return equal(a, b); }, [&](auto a, auto b) { return mask(a == b); },
        x.a, x.b);
    each(
        "not_equal", [](auto a, auto b) { return not_equal(a, b); },
        [&](auto a, auto b) { return mask(a != b); }, x.a, x.b);
    each(
        "select", [](auto a, auto b, auto c) { return select(less(a, b), b, c); },
        [](auto a, auto b, auto c) { return a < b ? b : c; }, x.a, x.b, x.c);
}

template <class T, int N, class X>
void check_arithmetic(Report& report, const X& x) {
    using I = typename IntOf<T>::type;
    const auto both = [&](const char* name, auto op, const auto*... in) {
        compare_map<N>(report, name, X::kCount, op, op, in...);
    };
    const auto each = [&](const char* name, auto vector, auto scalar, const auto*... in) {
        compare_map<N>(report, name, X::kCount, vector, scalar, in...);
    };
    const auto mask = [](bool set) { return set ? I(-1) : I(0); };
    both("a + b", [](auto a, auto b) { return a + b; }, x.a, x.b);
    both("a - b", [](auto a, auto b) { return a - b; }, x.a, x.b);
    both("a * b", [](auto a, auto b) { return a * b; }, x.a, x.b);
    both("a / b", [](auto a, auto b) { return a / b; }, x.a, x.b);
    both("-a", [](auto a) { return -a; }, x.a);
    each("abs", [](auto a) { return abs(a); }, [](T a) { return a < 0 || bit_cast<I>(a) < 0 ? -a : a; }, x.a);
    each(
        "minus_abs", [](auto a) { return minus_abs(a); }, [](T a) { return bit_cast<I>(a) < 0 ? a : -a; },
        x.a);
    check_comparisons(each, mask, x);
    // What a NaN in a gives depends on the instruction set, and so does which of two zeros is the larger.
    const T zero = 0;
    const auto number = [](auto v) { return select(equal(v, v), v, splat<decltype(v)>(1)); };
    each(
        "max", [&](auto a, auto b) { return max(number(a), b) + splat<decltype(a)>(zero); },
        [&](T a, T b) {
            const T left = a == a ? a : T(1);
            return (left > b ? left : b) + zero;
        },
        x.a, x.b);
    each("as_int", [](auto a) { return as_int(a); }, [](T a) { return bit_cast<I>(a); }, x.a);
}

/// Values of integer types whose sums, differences and products stay in range.
template <class I>
auto integer_inputs() {
    constexpr I kLeast = I(-1) < I(0) ? -(I(1) << (8 * sizeof(I) - 3)) : I(3), kMost = I(1)
                                                                                       << (8 * sizeof(I) - 3);
    const I special[] = {0, 1, kLeast, kMost, 7, kMost - 1, I(kLeast + 1)};
    return Inputs<I, 7>(special, [random = Random()]() mutable {
        const auto magnitude = static_cast<I>(random() >> (64 - 8 * sizeof(I) + 3));
        return I(-1) < I(0) && random() % 2 ? static_cast<I>(-magnitude) : magnitude;
    });
}

template <class I, int N, class X>
void check_integers(Report& report, const X& x) {
    const auto both = [&](const char* name, auto op, const auto*... in) {
        compare_map<N>(report, name, X::kCount, op, op, in...);
    };
    const auto each = [&](const char* name, auto vector, auto scalar, const auto*... in) {
        compare_map<N>(report, name, X::kCount, vector, scalar, in...);
    };
    const auto mask = [](bool set) { return set ? I(-1) : I(0); };
    both("a + b", [](auto a, auto b) { return a + b; }, x.a, x.b);
    both("a - b", [](auto a, auto b) { return a - b; }, x.a, x.b);
    both("-a", [](auto a) { return -a; }, x.a);
    both("a & b", [](auto a, auto b) { return a & b; }, x.a, x.b);
    both("a | b", [](auto a, auto b) { return a | b; }, x.a, x.b);
    each("shift_left<1>", [](auto a) { return softloss::shift_left<1>(a); }, [](I a) { return a << 1; }, x.a);
    each(
        "shift_left<16>", [](auto a) { return softloss::shift_left<16>(a); }, [](I a) { return a << 16; },
        x.a);
    each(
        "shift_right<1>", [](auto a) { return softloss::shift_right<1>(a); }, [](I a) { return a >> 1; },
        x.a);
    each(
        "shift_right<20>", [](auto a) { return softloss::shift_right<20>(a); }, [](I a) { return a >> 20; },
        x.a);
    check_comparisons(each, mask, x);
    if constexpr (I(-1) < I(0)) {
        using F = Select<sizeof(I) == 4, float, double>;
        each("as_float", [](auto a) { return as_int(softloss::as_float<F>(a)); }, [](I a) { return a; }, x.a);
    }
}

void arithmetic(Report& report) {
    const auto check = [&]<class T>(T) {
        [[maybe_unused]] static const auto x = float_inputs<T>();
        each_width<T>([&]<int N>() { check_arithmetic<T, N>(report, x); });
    };
    check(float());
    check(double());
}
void integers(Report& report) {
    const auto check = [&]<class I>(I) {
        [[maybe_unused]] static const auto x = integer_inputs<I>();
        each_width<I>([&]<int N>() { check_integers<I, N>(report, x); });
    };
    check(std::int32_t());
    check(std::int64_t());
    check(std::uint32_t());
}

// ---- fma --------------------------------------------------------------------------------------------------

template <class T>
T scalar_fma(T a, T b, T c) {
    if constexpr (sizeof(T) == 4) return __builtin_fmaf(a, b, c);
    else return __builtin_fma(a, b, c);
}

/// Numbers whose products, and the rounding errors of these, are in the range of T. c also has numbers that
/// nearly cancel the product, or are half a unit in its last place.
template <class T>
auto products() {
    const T inf = static_cast<T>(__builtin_inf()), nan = static_cast<T>(__builtin_nan("")),
            unit = Limits<T>::unit;
    const T special[] = {0,        T(-0.0), 1,         -1,       1 + unit, -1 + unit / 2, T(3),
                         T(1) / 3, unit,    -unit / 2, 1 / unit, inf,      -inf,          nan};
    using Bits = BitsOf<T>;
    constexpr int kDigits = sizeof(T) == 4 ? 23 : 52, kBias = sizeof(T) == 4 ? 127 : 1023;
    Inputs<T, 14> x(special, [random = Random()]() mutable {
        const auto bits = static_cast<Bits>(random() >> (64 - 8 * sizeof(T)));
        const Bits sign = bits & Bits(1) << (8 * sizeof(T) - 1), mantissa = bits & ((Bits(1) << kDigits) - 1);
        const auto exponent = static_cast<Bits>(kBias - 15 + static_cast<int>(random() >> 40) % 30);
        return bit_cast<T>(static_cast<Bits>(sign | exponent << kDigits | mantissa));
    });
    for (int i = x.kTriples; i < x.kCount; ++i) {
        const T product = x.a[i] * x.b[i];
        if (i % 4 == 1) x.c[i] = -product;
        if (i % 4 == 2) x.c[i] = product * unit / 2;
        if (i % 4 == 3) x.c[i] = -product * (1 + unit * (i % 5));
    }
    return x;
}

void fma(Report& report) {
    const auto check = [&]<class T>(T) {
        [[maybe_unused]] static const auto x = products<T>();
        const auto compare_with = [&]<int N>(const char* name, auto vector) {
            compare_map<N>(report, name, x.kCount, vector, scalar_fma<T>, x.a, x.b, x.c);
        };
        each_width<T>([&]<int N>() {
            compare_with.template operator()<N>("fma", [](auto a, auto b, auto c) { return fma(a, b, c); });
        });
        // The emulation is checked also if the instruction set has fma.
        compare_with.template operator()<16 / sizeof(T)>(
            "emulated_fma", [](auto a, auto b, auto c) { return emulated_fma(a, b, c); });
    };
    check(float());
    check(double());
}

// ---- conversions ------------------------------------------------------------------------------------------

template <class To, class X>
void check_conversion(Report& report, const X& x) {
    using From = softloss::Plain<decltype(x.a[0])>;
    constexpr int kWider = sizeof(To) > sizeof(From) ? sizeof(To) : sizeof(From);
    const auto width = [&]<int N>() {
        compare_map<N>(
            report, "convert", x.kCount, [](auto a) { return softloss::convert<To>(a); },
            [](From a) { return static_cast<To>(a); }, x.a);
    };
    width.template operator()<16 / kWider>();
    width.template operator()<32 / kWider>();
    width.template operator()<64 / kWider>();
    width.template operator()<256 / kWider>();
}

template <class T, int M>
struct Column {
    static constexpr int kCount = M;
    T a[M];
};

void conversions(Report& report) {
    static const auto floats = float_inputs<float>();
    static const auto doubles = float_inputs<double>();
    static const auto ints = integer_inputs<std::int32_t>();
    static const auto longs = integer_inputs<std::int64_t>();
    check_conversion<double>(report, floats);
    check_conversion<float>(report, doubles);
    check_conversion<float>(report, ints);
    check_conversion<double>(report, longs);
    check_conversion<std::int32_t>(report, longs);
    static Column<std::uint16_t, 65536> shorts;
    static Column<std::uint32_t, 65536> words;
    for (int i = 0; i < 65536; ++i) {
        shorts.a[i] = static_cast<std::uint16_t>(i);
        words.a[i] = static_cast<std::uint32_t>(i) * 65537u + 12345u;
    }
    check_conversion<std::uint32_t>(report, shorts);
    check_conversion<std::uint16_t>(report, words);
}

// ---- lanes ------------------------------------------------------------------------------------------------

/// Numbers that differ from one another, whose sums depend on the order.
template <class T, int N>
void fill(T (&x)[N], T first) {
    for (int i = 0; i < N; ++i) x[i] = first + static_cast<T>(i) * static_cast<T>(i % 2 ? 1 : -3) / 7;
}

template <class T, int N, int Group>
void check_half_groups(Report& report, const T (&a)[N], const T (&b)[N]) {
    const auto va = load<Vec<T, N>>(a), vb = load<Vec<T, N>>(b);
    for (const bool upper : {false, true}) {
        T expected[N];
        for (int i = 0; i < N; ++i) {
            const int from = i / (Group / 2) * Group + (upper ? Group / 2 : 0) + i % (Group / 2);
            expected[i] = from < N ? a[from] : b[from - N];
        }
        compare_lanes(
            report, "half_groups",
            upper ? softloss::half_groups<true, Group>(va, vb) : softloss::half_groups<false, Group>(va, vb),
            expected);
    }
    if constexpr (Group > 2) check_half_groups<T, N, Group / 2>(report, a, b);
}

/// What fold() computes: lanes i and i + N/2 first, then i and i + N/4, ...
template <class T, int N>
T folded(const T (&x)[N]) {
    T sums[N];
    for (int i = 0; i < N; ++i) sums[i] = x[i];
    for (int half = N / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) sums[i] = sums[i] / 2 - sums[i + half];
    return sums[0];
}

/// repeat, which makes wide vectors of narrow ones, and for_each_part, which takes them apart.
template <class T, int N>
void check_pieces(Report& report, const T (&a)[N], const T (&b)[N]) {
    T expected[N];
    const auto va = load<Vec<T, N>>(a);
    for (int i = 0; i < N; ++i) expected[i] = a[i % (N / 2)];
    compare_lanes(report, "repeat", softloss::repeat<N>(low_half(va)), expected);
    constexpr int W = softloss::kRegisterBytes / sizeof(T);
    T x[N], y[N];
    int calls = 0;
    softloss::for_each_part<W>(
        [&](Vec<T, W> piece, Vec<T, W> beside) {
            store(x + calls * W, piece);
            store(y + calls * W, beside);
            ++calls;
        },
        va, load<Vec<T, N>>(b));
    compare_exactly<std::int32_t>(report, "for_each_part, calls", N, 0, calls, N / W);
    compare_lanes(report, "for_each_part", load<Vec<T, N>>(x), a);
    compare_lanes(report, "for_each_part, second vector", load<Vec<T, N>>(y), b);
}

template <class T, int N>
void check_lanes(Report& report) {
    using V = Vec<T, N>;
    using I = typename IntOf<T>::type;
    T a[N], b[N], expected[N];
    fill(a, T(2));
    fill(b, T(1000));
    const auto va = load<V>(a), vb = load<V>(b);
    compare_lanes(report, "join of halves", softloss::join<T, N>(low_half(va), high_half(vb)),
                  [&]() -> const T(&)[N] {
                      for (int i = 0; i < N; ++i) expected[i] = i < N / 2 ? a[i] : b[i];
                      return expected;
                  }());
    check_half_groups<T, N, N>(report, a, b);
    compare_exactly(report, "fold", N, 0,
                    fold(va, [](auto x, auto y) { return x / splat<decltype(x)>(2) - y; }), folded(a));
    compare_exactly(report, "first", N, 0, first(va), a[0]);
    for (int i = 0; i < N; ++i) expected[i] = T(-0.0);
    compare_lanes(report, "splat", splat<V>(T(-0.0)), expected);
    for (int i = 0; i < N; ++i) expected[i] = static_cast<T>(i);
    compare_lanes(report, "iota", softloss::iota<V>(), expected);
    for (int valid = 0; valid <= N; ++valid) {
        for (int i = 0; i < N; ++i) expected[i] = i < valid ? a[i] : T(0);
        compare_lanes(report, "keep_first", keep_first(va, valid), expected);
    }
    I mask[N] = {};
    compare_exactly<I>(report, "any of none", N, 0, any(load<Vec<I, N>>(mask)), 0);
    for (int i = 0; i < N; ++i) {
        mask[i] = -1;
        compare_exactly<I>(report, "any of one", N, i, any(load<Vec<I, N>>(mask)), 1);
        mask[i] = 0;
    }
    if constexpr (!softloss::kNative<T, N>) check_pieces(report, a, b);
    T table[8];
    fill(table, T(5));
    for (int start = -9; start < 9; ++start) {
        I index[N];
        for (int i = 0; i < N; ++i) {
            index[i] = static_cast<I>(start + 3 * i);
            expected[i] = table[index[i] & 7];
        }
        compare_lanes(report, "lookup8", softloss::lookup8<T>(table, load<Vec<I, N>>(index)), expected);
    }
}

/// Sums and stores of the lanes whose mask is set, for masks of every pattern of 8 lanes, repeated.
template <class T, int N>
void check_masked(Report& report) {
    using I = typename IntOf<T>::type;
    T values[N];
    std::uint64_t terms[N], sums[N], expected[N];
    for (int i = 0; i < N; ++i) {
        values[i] = static_cast<T>(i + 1);
        terms[i] = 0x9e3779b97f4a7c15u * static_cast<std::uint64_t>(i + 1);
        sums[i] = ~terms[i] << 1;
    }
    for (int pattern = 0; pattern < 256; ++pattern) {
        I mask[N];
        T stored[N + 1], kept[N + 1] = {};
        int count = 0;
        for (int i = 0; i < N; ++i) {
            const bool set = (pattern >> i % 8 & 1) != 0;
            mask[i] = set ? I(-1) : I(0);
            expected[i] = sums[i] + (set ? terms[i] : 0);
            if (set) kept[count++] = values[i];
        }
        stored[N] = T(-7);
        const auto set = load<Vec<I, N>>(mask);
        compare_lanes(
            report, "add_where",
            softloss::add_where(load<Vec<std::uint64_t, N>>(sums), set, load<Vec<std::uint64_t, N>>(terms)),
            expected);
        compare_exactly(report, "store_where", N, -1,
                        softloss::store_where(stored, set, load<Vec<T, N>>(values)), count);
        for (int i = 0; i < count; ++i) compare_exactly(report, "store_where", N, i, stored[i], kept[i]);
        compare_exactly(report, "store_where", N, N, stored[N], T(-7));
    }
}

void lanes(Report& report) {
    each_width<float>([&]<int N>() { check_masked<float, N>(report); });
    each_width<double>([&]<int N>() { check_masked<double, N>(report); });
    each_width<float>([&]<int N>() { check_lanes<float, N>(report); });
    each_width<double>([&]<int N>() { check_lanes<double, N>(report); });
}

// ---- transposes -------------------------------------------------------------------------------------------

constexpr unsigned char kUntouched = 0xa5;

/// What guarded memory should hold after a vector operation: a scalar loop writes the same into this copy.
struct Shadow {
    unsigned char bytes[16384];
    char* from;
    int size;

    Shadow(char* from_, std::int64_t size_) : from(from_), size(static_cast<int>(size_)) {
        __builtin_memset(from, kUntouched, size_);
        __builtin_memset(bytes, kUntouched, size_);
    }
    template <class T>
    void put(std::int64_t at, T x) {
        __builtin_memcpy(bytes + at, &x, sizeof x);
    }
    void compare(Report& report, const char* operation, int lanes) const {
        for (int i = 0; i < size; ++i)
            compare_bits(report, operation, lanes, i, static_cast<unsigned char>(from[i]), bytes[i]);
    }
};

template <int Bytes, class T, int N>
void check_interleave(Report& report, const T (&a)[N], const T (&b)[N]) {
    const auto va = load<Vec<T, N>>(a), vb = load<Vec<T, N>>(b);
    for (const bool upper : {false, true}) {
        T expected[N];
        const int unit = Bytes / sizeof(T), piece = 16 / sizeof(T);
        for (int i = 0; i < N; ++i) {
            const int start = i / piece * piece, pair = i % piece / (2 * unit);
            const T* const from = i % piece / unit % 2 ? b : a;
            expected[i] = from[start + (upper ? piece / 2 : 0) + pair * unit + i % unit];
        }
        compare_lanes(
            report, "interleave",
            upper ? softloss::interleave<true, Bytes>(va, vb) : softloss::interleave<false, Bytes>(va, vb),
            expected);
    }
}

/// N rows of P elements, `row` elements from one to the next; the last ends where the guarded memory does.
/// Rows may overlap.
template <class T, int N>
void check_columns(Report& report, GuardedMemory memory, int row) {
    constexpr int P = softloss::kColumns<T>;
    const int size = static_cast<int>(((N - 1) * row + P) * sizeof(T));
    T* const p = reinterpret_cast<T*>(memory.end - size);
    for (int i = 0; i < (N - 1) * row + P; ++i) p[i] = static_cast<T>(i) / 3;
    Vec<T, N> columns[P];
    load_columns(p, row, columns);
    T values[P][N];
    for (int c = 0; c < P; ++c) {
        for (int r = 0; r < N; ++r) values[c][r] = p[r * row + c];
        compare_lanes(report, "load_columns", columns[c], values[c]);
    }
    Shadow shadow(memory.end - size, size);
    for (int r = 0; r < N;
         ++r) {  // in the order of the rows: the next one mends what this one puts behind its end
        for (int c = 0; c < P; ++c) {
            values[c][r] = static_cast<T>(r * P + c) / 5;
            shadow.put((r * row + c) * sizeof(T), values[c][r]);
        }
    }
    for (int c = 0; c < P; ++c) columns[c] = load<Vec<T, N>>(values[c]);
    store_columns(p, row, columns);
    shadow.compare(report, "store_columns", N);
}

template <int C, class T, int N>
void check_short_rows(Report& report, GuardedMemory memory) {
    constexpr int kSize = C * N * sizeof(T);
    T* const p = reinterpret_cast<T*>(memory.end - kSize);
    for (int i = 0; i < C * N; ++i) p[i] = static_cast<T>(i) / 3;
    Vec<T, N> columns[C];
    load_short_rows(p, columns);
    T values[C][N];
    for (int c = 0; c < C; ++c) {
        for (int r = 0; r < N; ++r) values[c][r] = p[r * C + c];
        compare_lanes(report, "load_short_rows", columns[c], values[c]);
    }
    for (char* const to : {memory.begin, memory.end - kSize}) {
        Shadow shadow(to, kSize);
        for (int i = 0; i < C * N; ++i) shadow.put(i * sizeof(T), values[i % C][i / C]);
        store_short_rows(reinterpret_cast<T*>(to), columns);
        shadow.compare(report, "store_short_rows", N);
    }
}

template <class T, int N>
void check_transposes(Report& report, GuardedMemory memory) {
    T a[N], b[N];
    fill(a, T(2));
    fill(b, T(1000));
    check_interleave<8>(report, a, b);
    if constexpr (sizeof(T) == 4) check_interleave<4>(report, a, b);
    for (int row = 1; row <= 9; ++row) check_columns<T, N>(report, memory, row);
    check_short_rows<2, T, N>(report, memory);
    check_short_rows<3, T, N>(report, memory);
}

void transposes(Report& report, GuardedMemory memory) {
    each_width<float>([&]<int N>() { check_transposes<float, N>(report, memory); });
    each_width<double>([&]<int N>() { check_transposes<double, N>(report, memory); });
}

// ---- storage ----------------------------------------------------------------------------------------------

double power_of_two(int exponent) {
    return bit_cast<double>(static_cast<std::uint64_t>(1023 + exponent) << 52);
}
/// Mantissa bits of a 16-bit format. magnitude() is the value of such a number by definition; not of
/// infinities and NaN.
template <class S>
constexpr int kMantissa = 10;
template <>
constexpr int kMantissa<bfloat16> = 7;
template <class S>
constexpr int kTop = (1 << (15 - kMantissa<S>)) - 1;  ///< exponent of infinities and NaN
template <class S>
double magnitude(std::uint16_t bits) {
    constexpr int M = kMantissa<S>;
    const int exponent = bits >> M & kTop<S>, mantissa = bits & ((1 << M) - 1);
    const int unit = (exponent ? exponent : 1) - kTop<S> / 2 - M;
    return (mantissa + (exponent ? 1 << M : 0)) * power_of_two(unit);
}
/// f rounded to S: to nearest, ties to an even mantissa; infinite from half a unit beyond the largest number.
template <class S>
std::uint16_t rounded(float f) {
    const auto bits = bit_cast<std::uint32_t>(f);
    const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
    constexpr int M = kMantissa<S>;
    if (f != f) {  // a quiet NaN with the upper bits of the payload
        const auto rest = static_cast<std::uint16_t>(bits >> (23 - M) & ((1u << M) - 1));
        return static_cast<std::uint16_t>(sign | kTop<S> << M | 1 << (M - 1) | rest);
    }
    const double wide = f < 0 ? -static_cast<double>(f) : f;
    // Magnitudes have the order of their bits, and infinity follows the largest number. Finds the last one
    // not above f.
    int low = 0, high = kTop<S> << M;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (magnitude<S>(static_cast<std::uint16_t>(middle)) <= wide) low = middle;
        else high = middle;
    }
    const double below = wide - magnitude<S>(static_cast<std::uint16_t>(low)),
                 above = magnitude<S>(static_cast<std::uint16_t>(high)) - wide;
    const bool up =
        wide == static_cast<double>(__builtin_inf()) || above < below || (above == below && low % 2);
    return static_cast<std::uint16_t>(sign | (up ? high : low));
}

template <class S, int N>
void check_from_storage(Report& report) {
    constexpr int M = kMantissa<S>;
    for (int first = 0; first < 65536; first += N) {
        S in[N];
        float out[N];
        for (int i = 0; i < N; ++i) in[i].bits = static_cast<std::uint16_t>(first + i);
        store(out, softloss::from_storage<N>(in));
        for (int i = 0; i < N; ++i) {
            const std::uint16_t bits = in[i].bits;
            const bool finite = (bits >> M & kTop<S>) != kTop<S>;
            const bool nan = !finite && (bits & ((1 << M) - 1)) != 0;
            const std::uint32_t sign = (bits & 0x8000u) << 16, rest = bits & ((1u << M) - 1);
            // Conversion makes a NaN of float16 quiet. One of bfloat16, the upper half of a float, stays as
            // it is.
            const std::uint32_t quiet = nan && M == 10 ? 0x400000u : 0u;
            const float expected = static_cast<float>(magnitude<S>(bits & 0x7fff));
            compare_exactly(report, "from_storage", N, bits, bit_cast<std::uint32_t>(out[i]),
                            finite ? bit_cast<std::uint32_t>(expected) | sign
                                   : sign | 0x7f800000u | rest << (23 - M) | quiet);
        }
    }
}
/// All numbers of S, the floats next to them, and those about halfway between them.
template <class S, int N>
void check_to_storage(Report& report) {
    for (int first = 0; first < 65536; first += N) {
        for (const int beside : {-1, 0, 1, 0x1000, 0xfff, 0x1001, 0x8000, 0x7fff, 0x8001}) {
            float in[N];
            S out[N];
            for (int i = 0; i < N; ++i) {
                const auto bits = static_cast<std::uint16_t>(first + i);
                const bool half = kMantissa<S> == 10, finite = (bits & 0x7c00) != 0x7c00;
                const auto number = static_cast<float>(magnitude<float16>(bits & 0x7fff));
                const std::uint32_t exact = half && finite
                                                ? bit_cast<std::uint32_t>(number) | (bits & 0x8000u) << 16
                                                : static_cast<std::uint32_t>(bits) << 16;
                in[i] = bit_cast<float>(exact + static_cast<std::uint32_t>(beside));
            }
            softloss::to_storage(out, load<Vec<float, N>>(in));
            for (int i = 0; i < N; ++i)
                compare_exactly(report, "to_storage", N, bit_cast<std::int32_t>(in[i]), out[i].bits,
                                rounded<S>(in[i]));
        }
    }
}

void storage(Report& report) {
    each_width<float>([&]<int N>() {
        check_from_storage<float16, N>(report);
        check_from_storage<bfloat16, N>(report);
    });
    check_to_storage<float16, 4>(report);
    check_to_storage<float16, kLanes<float>>(report);
    check_to_storage<bfloat16, 4>(report);
    check_to_storage<bfloat16, kLanes<float>>(report);
    const auto native = [&]<class T>(T) {
        constexpr int N = kLanes<T>;
        T in[N], out[N];
        fill(in, T(3));
        softloss::to_storage(out, softloss::from_storage<N>(in));
        for (int i = 0; i < N; ++i) compare_exactly(report, "storage of its own", N, i, out[i], in[i]);
    };
    native(float());
    native(double());
}

// ---- the first lanes --------------------------------------------------------------------------------------

template <class S>
void check_partial(Report& report, GuardedMemory memory) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>, kRoom = 2 * W * sizeof(S);
    S values[W];
    T wide[W];
    fill(wide, T(3));
    softloss::to_storage(values, load<Vec<T, W>>(wide));
    store(wide, softloss::from_storage<W>(values));  // the values as rounded to S
    for (int valid = 0; valid <= W; ++valid) {
        const int bytes = valid * static_cast<int>(sizeof(S));
        for (char* const at : {memory.begin, memory.end - bytes}) {
            __builtin_memset(memory.begin, kUntouched, kRoom);
            __builtin_memset(memory.end - kRoom, kUntouched, kRoom);
            __builtin_memcpy(at, values, bytes);
            T expected[W];
            for (int i = 0; i < W; ++i) expected[i] = i < valid ? wide[i] : T(0);
            compare_lanes(report, "load_first",
                          softloss::load_first<W>(reinterpret_cast<const S*>(at), valid), expected);

            char* const room = at == memory.begin ? at : memory.end - kRoom;
            Shadow shadow(room, kRoom);
            for (int i = 0; i < valid; ++i) shadow.put(at - room + i * sizeof(S), values[i]);
            store_first(reinterpret_cast<S*>(at), load<Vec<T, W>>(wide), valid);
            shadow.compare(report, "store_first", valid);
        }
    }
}

void partial(Report& report, GuardedMemory memory) {
    check_partial<float16>(report, memory);
    check_partial<bfloat16>(report, memory);
    check_partial<float>(report, memory);
    check_partial<double>(report, memory);
}

// ---- whole vectors in memory ------------------------------------------------------------------------------

template <class T, int N>
void check_memory(Report& report, GuardedMemory memory) {
    constexpr int kSize = N * sizeof(T), kRoom = 2 * kSize;
    T values[N];
    fill(values, T(3));
    const auto v = load<Vec<T, N>>(values);
    const auto check_store = [&](const char* operation, char* room, int offset, auto put) {
        Shadow shadow(room, kRoom);
        for (int i = 0; i < N; ++i) shadow.put(offset + i * sizeof(T), values[i]);
        put(reinterpret_cast<T*>(room + offset));
        shadow.compare(report, operation, N);
        compare_lanes(report, "load", load<Vec<T, N>>(reinterpret_cast<const T*>(room + offset)), values);
    };
    for (int offset = 0; offset <= kSize; ++offset)  // any alignment, even odd addresses
        check_store("store", memory.end - kRoom, offset, [&](T* p) { store(p, v); });
    for (const int offset : {0, kSize}) {
        for (char* const room : {memory.begin, memory.end - kRoom}) {
            check_store("store_nontemporal", room, offset, [&](T* p) {
                store_nontemporal(p, v);
                softloss::fence();
            });
        }
    }
}

void memory(Report& report, GuardedMemory guarded) {
    each_width<float>([&]<int N>() { check_memory<float, N>(report, guarded); });
    each_width<double>([&]<int N>() { check_memory<double, N>(report, guarded); });
    Shadow shadow(guarded.begin, 256);
    for (const bool far : {false, true}) {
        for (const char* const p :
             {static_cast<const char*>(nullptr), static_cast<const char*>(guarded.begin),
              static_cast<const char*>(guarded.begin - 1), static_cast<const char*>(guarded.end)})
            softloss::prefetch(p, far);
    }
    shadow.compare(report, "prefetch", 0);
}

}  // namespace

constexpr VecTable vec_table = {SOFTLOSS_NAME(SOFTLOSS_TEST_ISA),
                                arithmetic,
                                integers,
                                fma,
                                conversions,
                                lanes,
                                transposes,
                                storage,
                                partial,
                                memory};

}  // namespace SOFTLOSS_TEST_ISA
