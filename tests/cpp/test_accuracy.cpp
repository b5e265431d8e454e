// The public functions on every instruction set: errors in ULP against long double.
#include <cmath>

#include "support.hpp"

namespace {

/// Every exponent from the smallest normal number to 2^8, with several mantissas and both signs.
template <class T>
Tensor<T> every_exponent() {
    const int lowest = std::numeric_limits<T>::min_exponent;
    std::vector<T> all;
    for (int exponent = lowest; exponent <= 9; ++exponent) {
        for (int step = 0; step < 37; ++step) {
            const T x = std::ldexp(T(0.5) + T(step) / T(75), exponent);
            all.push_back(x);
            all.push_back(-x);
        }
    }
    Tensor<T> t({static_cast<std::int64_t>(all.size())});
    t.data = all;
    return t;
}

template <class T>
void check_elementwise() {
    const Tensor<T> x = every_exponent<T>();
    Tensor<T> y(x.shape), l(x.shape);
    softloss::sigmoid(x.view(), y.out());
    softloss::log_sigmoid(x.view(), l.out());
    for (std::size_t i = 0; i < x.data.size(); ++i) {
        const long double v = x.data[i];
        CAPTURE(x.data[i]);
        const long double exact = v > 0 ? 1 / (1 + std::exp(-v)) : std::exp(v) / (1 + std::exp(v));
        if (exact >= std::numeric_limits<T>::min()) CHECK(ulps(y.data[i], exact) <= 2);
        const long double log_exact = v > 0 ? -std::log1p(std::exp(-v)) : v - std::log1p(std::exp(v));
        if (-log_exact >= std::numeric_limits<T>::min()) CHECK(ulps(l.data[i], log_exact) <= 2);
    }
}

template <class T>
void check_softmax(int scale, std::int64_t n) {
    const Tensor<T> x = numbers<T>({5, n}, 7, scale);
    Tensor<T> y(x.shape), l(x.shape);
    softloss::softmax(x.view(), y.out());
    softloss::log_softmax(x.view(), l.out());
    for (int r = 0; r < 5; ++r) {
        const T* const row = x.data.data() + r * n;
        long double largest = row[0], others = 0;
        std::int64_t at = 0;
        for (std::int64_t i = 1; i < n; ++i) {
            if (row[i] > largest) largest = row[at = i];
        }
        for (std::int64_t i = 0; i < n; ++i) others += i == at ? 0 : std::exp(row[i] - largest);
        for (std::int64_t i = 0; i < n; ++i) {
            const long double d = row[i] - largest, p = std::exp(d) / (1 + others);
            CAPTURE(i);
            if (p >= std::numeric_limits<T>::min()) CHECK(ulps(y.data[r * n + i], p) <= 2);
            CHECK(ulps(l.data[r * n + i], d - std::log1p(others)) <= 2);
        }
    }
}

}  // namespace

TEST_CASE("sigmoid and log_sigmoid stay within 2 ULP at every exponent") {
    on_each_isa([] {
        check_elementwise<float>();
        check_elementwise<double>();
    });
}

TEST_CASE("softmax and log_softmax stay within 2 ULP for spreads up to 80, short rows and long") {
    if (std::numeric_limits<long double>::digits < 64) return;  // the oracle needs more than double
    on_each_isa([] {
        for (const int scale : {1, 5, 40, 80}) {
            for (const std::int64_t n : {1, 2, 3, 17, 63, 64, 65, 1000}) {
                CAPTURE(scale);
                CAPTURE(n);
                check_softmax<float>(scale, n);
                check_softmax<double>(scale, n);
            }
        }
    });
}

TEST_CASE("losses near zero keep their relative accuracy") {
    on_each_isa([] {
        for (const double top : {20.0, 80.0}) {
            Tensor<float> x({1, 10});
            x.data[0] = static_cast<float>(top);
            Tensor<std::int64_t> label({1});
            Tensor<float> loss({1});
            const auto to = loss.out();
            softloss::cross_entropy(x.view(), label.view(), {.reduction = softloss::Reduction::none}, &to);
            CHECK(ulps(loss.data[0], std::log1p(9 * std::exp(-static_cast<long double>(top)))) <= 2);
        }
    });
}
