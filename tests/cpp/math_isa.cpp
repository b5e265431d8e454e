// kernels/math.hpp, and the sigmoids of elementwise.hpp, compiled with the flags of one instruction set,
// whose name CMake gives as SOFTLOSS_TEST_ISA.
#include "kernels/elementwise.hpp"

#include "math_table.hpp"

#define SOFTLOSS_TEXT(x) #x
#define SOFTLOSS_NAME(x) SOFTLOSS_TEXT(x)

namespace SOFTLOSS_TEST_ISA {
namespace {

template <class T, class F>
void map(const T* x, T* y, std::int64_t n, F f) {
    using V = softloss::Vec<T, 64 / sizeof(T)>;
    for (std::int64_t i = 0; i < n; i += 64 / sizeof(T)) softloss::store(y + i, f(softloss::load<V>(x + i)));
}

template <class T>
constexpr MathFunctions<T> functions() {
    return {
        [](const T* x, T* y, std::int64_t n) {
            map(x, y, n, [](auto v) {
                const auto zero = softloss::splat<decltype(v)>(0);
                return softloss::exp_parts(v, softloss::exp_magic(zero)).value();
            });
        },
        [](const T* x, T* y, std::int64_t n) {
            map(x, y, n, [](auto v) { return softloss::exp_nonpositive(v); });
        },
        [](const T* x, T* y, std::int64_t n) { map(x, y, n, [](auto v) { return softloss::log(v); }); },
        [](const T* x, T* y, std::int64_t n) { map(x, y, n, [](auto v) { return softloss::log1p(v); }); },
        [](const T* x, T* y, std::int64_t n) {
            map(x, y, n, [](auto v) {
                const auto l = softloss::log1p_of_exp<false>(softloss::exp_of_minus<false>(v));
                return l.hi + l.lo;
            });
        },
        [](const T* x, T* y, std::int64_t n) { map(x, y, n, [](auto v) { return softloss::sigmoid(v); }); },
        [](const T* x, T* y, std::int64_t n) {
            map(x, y, n, [](auto v) { return softloss::log_sigmoid<false>(v); });
        },
    };
}

}  // namespace

constexpr MathTable math_table = {SOFTLOSS_NAME(SOFTLOSS_TEST_ISA), functions<float>(), functions<double>()};

}  // namespace SOFTLOSS_TEST_ISA
