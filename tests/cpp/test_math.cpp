// exp, log and log1p of kernels/math.hpp and the sigmoids of elementwise.hpp on every instruction set: the
// largest error in ULP, and that all instruction sets give the same bits.
//
// Each function is tested on intervals. A test run takes a sample of each interval, evenly spread over the
// bit patterns and therefore over the exponents; "every float32" takes all numbers, in fourteen minutes:
//   softloss_tests --no-skip --test-case='every float32*'
#include <algorithm>
#include <cstdio>

#include "isa_tables.hpp"

namespace {

/// The type of exact values: wider than T. Functions of the standard library in it are right to about one ULP
/// of it.
template <class T>
using Wide = std::conditional_t<sizeof(T) == 4, double, long double>;
template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

/// An interval of numbers of one sign, from `from` to `to` in the order of their bit patterns, and the
/// largest error in it that is allowed.
template <class T>
struct Stretch {
    std::string name;
    typename MathFunctions<T>::Map MathFunctions<T>::* function;
    Wide<T> (*exact)(Wide<T>);
    T from, to;
    double limit;
};

template <class T>
const MathFunctions<T>& functions_of(const MathTable& table) {
    if constexpr (sizeof(T) == 4) return table.f32;
    else return table.f64;
}

/// The inverse of the constant factor that exponentials have (kExpFactor, kernels/math.hpp), to twice the
/// precision of T.
template <class T>
constexpr Wide<T> kExpInverse = sizeof(T) == 4 ? Wide<T>(0x1.d6b62ap-1f) - 0x1.20cdaap-28f
                                               : Wide<T>(0x1.dfed3241a509ap-1) + 0x1.14bc69b901005p-55;

template <class T>
std::vector<Stretch<T>> stretches() {
    using F = MathFunctions<T>;
    using L = std::numeric_limits<T>;
    const auto exp = [](Wide<T> x) { return std::exp(x) / kExpInverse<T>; };
    const auto log = [](Wide<T> x) { return std::log(x); };
    const auto log1p = [](Wide<T> x) { return std::log1p(x); };
    // The emulated fma of the baseline needs the low halves of its products to be in range: not at the ends
    // of double's.
    const T edge = sizeof(T) == 4 ? T(0.999) : T(0.94);
    const T low = edge * std::log(L::min()), high = edge * std::log(L::max());
    const T smallest = std::log(L::min()), zero = std::log(L::denorm_min()), small = T(1e-3);
    return {
        {"exp", &F::exp, exp, 0, high, 0.70},
        {"exp", &F::exp, exp, small, high, 0.70},
        {"exp", &F::exp, exp, T(-0.0), low, 0.70},
        {"exp", &F::exp, exp, -small, low, 0.70},
        {"exp_nonpositive", &F::exp_nonpositive, exp, T(-0.0), smallest, 0.70},
        {"exp_nonpositive", &F::exp_nonpositive, exp, -small, smallest, 0.70},
        {"exp_nonpositive, subnormal", &F::exp_nonpositive, exp, smallest, zero, 1},
        {"exp_nonpositive, zero", &F::exp_nonpositive, exp, 2 * zero, -L::infinity(), 1e-40},
        {"log", &F::log, log, L::denorm_min(), L::max() / 4, 0.57},
        {"log", &F::log, log, T(0.25), 4, 0.57},
        {"log1p", &F::log1p, log1p, 0, L::max() / 4, 0.76},
        {"log1p", &F::log1p, log1p, small, 4, 0.76},
        {"log1p", &F::log1p, log1p, T(-0.0), T(-1) + L::epsilon() / 2, 0.76},
        {"log1p", &F::log1p, log1p, -small, T(-1) + L::epsilon() / 2, 0.76},
    };
}

template <class T>
std::vector<Stretch<T>> sigmoids() {
    using F = MathFunctions<T>;
    const auto sigmoid = [](Wide<T> x) {
        const Wide<T> e = std::exp(-std::fabs(x));
        return (x < 0 ? e : 1) / (1 + e);
    };
    const auto log_sigmoid = [](Wide<T> x) {
        return std::min<Wide<T>>(x, 0) - std::log1p(std::exp(-std::fabs(x)));
    };
    const auto log1p_of_exp = [](Wide<T> x) { return std::log1p(std::exp(-std::fabs(x))); };
    const T end = T(-1.01) * std::log(std::numeric_limits<T>::denorm_min()), small = T(1e-3);
    std::vector<Stretch<T>> all;
    for (const T sign : {T(1), T(-1)}) {
        for (const T from : {T(0), small}) {
            all.push_back({"sigmoid", &F::sigmoid, sigmoid, sign * from, sign * end, 1.6});
            all.push_back({"log_sigmoid", &F::log_sigmoid, log_sigmoid, sign * from, sign * end, 0.95});
            all.push_back({"log1p_of_exp", &F::log1p_of_exp, log1p_of_exp, sign * from, sign * end, 0.9});
        }
    }
    return all;
}

/// The error in units in the last place of T at `exact`; of subnormal numbers, in those of the smallest
/// normal one.
template <class T>
double distance(T actual, Wide<T> exact) {
    constexpr int digits = std::numeric_limits<T>::digits, bias = std::numeric_limits<T>::max_exponent - 1;
    const auto magnitude =
        __builtin_bit_cast(Bits<T>, static_cast<T>(exact)) & ~(Bits<T>{1} << (8 * sizeof(T) - 1));
    const int exponent = std::max<int>(static_cast<int>(magnitude >> (digits - 1)), 1) - bias;
    return static_cast<double>(std::ldexp(std::fabs(actual - exact), digits - 1 - exponent));
}

struct Worst {
    double error = 0, at = 0;
};

/// The largest error over `count` numbers of the interval (0: over all of them). All instruction sets must
/// agree.
template <class T>
Worst worst(const Stretch<T>& s, std::uint64_t count) {
    constexpr int kBlock = 4096;
    const auto first = __builtin_bit_cast(Bits<T>, s.from), last = __builtin_bit_cast(Bits<T>, s.to);
    const std::uint64_t all = std::uint64_t{last} - first + 1,
                        step = count == 0 || count > all ? 1 : all / count;
    const std::vector<const MathTable*> tables = usable(compiled_math_tables());
    std::vector<T> x(kBlock), y(kBlock), y0(kBlock);
    Worst result;
    for (std::uint64_t start = 0; start < all; start += kBlock * step) {
        for (int i = 0; i < kBlock; ++i)
            x[i] = __builtin_bit_cast(T, static_cast<Bits<T>>(first + std::min(start + i * step, all - 1)));
        for (const MathTable* table : tables) {
            (functions_of<T>(*table).*s.function)(x.data(), y.data(), kBlock);
            if (table == tables.front()) y0 = y;
            else REQUIRE(std::memcmp(y.data(), y0.data(), kBlock * sizeof(T)) == 0);
        }
        for (int i = 0; i < kBlock; ++i) {
            const double error = distance<T>(y0[i], s.exact(x[i]));
            if (!(error <= result.error)) result = {error, x[i]};
        }
    }
    return result;
}

template <class T>
void check(const std::vector<Stretch<T>>& stretches, std::uint64_t count, bool print) {
    for (const Stretch<T>& s : stretches) {
        const Worst w = worst(s, count);
        if (print) {
            std::printf("float%zu %s on [%g, %g]: %.4f ULP at %a\n", 8 * sizeof(T), s.name.c_str(),
                        static_cast<double>(s.from), static_cast<double>(s.to), w.error, w.at);
        }
        CAPTURE(s.name);
        CAPTURE(w.at);
        CHECK(w.error <= s.limit);
    }
}

}  // namespace

TEST_CASE("exp, log, log1p and the sigmoids of float32: a sample of each exponent") {
    check(stretches<float>(), 200000, false);
    check(sigmoids<float>(), 200000, false);
}

TEST_CASE("exp, log, log1p and the sigmoids of float64: a sample of each exponent") {
    if (std::numeric_limits<long double>::digits < 64) return;  // no type is wide enough for exact values
    check(stretches<double>(), 200000, false);
    check(sigmoids<double>(), 200000, false);
}

TEST_CASE("every float32: exp, log and log1p; with them more float64" * doctest::skip()) {
    check(stretches<float>(), 0, true);
    if (std::numeric_limits<long double>::digits >= 64) check(stretches<double>(), 3000000, true);
}

TEST_CASE("every float32: sigmoid and log_sigmoid; with them more float64" * doctest::skip()) {
    check(sigmoids<float>(), 0, true);
    if (std::numeric_limits<long double>::digits >= 64) check(sigmoids<double>(), 3000000, true);
}
