// Helpers of the C++ tests: arrays that own their memory, reproducible inputs, a loop over the usable ISAs.
// Must not: tests.
#pragma once

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "softloss/softloss.hpp"

/// A C-ordered array with its view.
template <class T>
struct Tensor {
    std::vector<std::int64_t> shape, strides;
    std::vector<T> data;

    explicit Tensor(std::vector<std::int64_t> shape_) : shape(std::move(shape_)), strides(shape.size()) {
        std::int64_t size = 1;
        for (std::size_t d = shape.size(); d-- > 0; size *= shape[d])
            strides[d] = size * std::int64_t{sizeof(T)};
        data.resize(size);
    }
    softloss::TensorView view() const { return {data.data(), softloss::dtype_of<T>, shape, strides}; }
    softloss::MutableTensorView out() { return {data.data(), softloss::dtype_of<T>, shape, strides}; }
};

/// Numbers in [-scale, scale) from a linear congruential generator: integers times a power of two and
/// `scale`, so that they are the same everywhere.
template <class T>
Tensor<T> numbers(std::vector<std::int64_t> shape, std::uint64_t seed, int scale) {
    Tensor<T> t(std::move(shape));
    std::uint64_t state = seed * 2 + 1;
    for (T& x : t.data) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x = static_cast<T>(static_cast<std::int32_t>(state >> 40) - (1 << 23)) * static_cast<T>(scale) /
            (1 << 23);
    }
    return t;
}

/// Distance in units in the last place of T at `exact`.
template <class T>
double ulps(T actual, long double exact) {
    int exponent;
    std::frexp(static_cast<T>(exact), &exponent);
    const int digits = std::numeric_limits<T>::digits, lowest = std::numeric_limits<T>::min_exponent;
    const long double unit = std::ldexp(1.0L, (exponent < lowest ? lowest : exponent) - digits);
    return static_cast<double>(std::fabs(actual - exact) / unit);
}

/// Runs f on every usable instruction set.
template <class F>
void on_each_isa(F f) {
    const std::string before(softloss::isa());
    for (std::string_view name : softloss::usable_isas()) {
        CAPTURE(std::string(name));
        softloss::set_isa(name);
        f();
    }
    softloss::set_isa(before);
}
