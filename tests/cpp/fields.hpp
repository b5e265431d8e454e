// Arrays of the kernels' storage types in any layout, surrounded by bytes that must not change.
//
// Lives here: elements of each storage type and their values, layouts, errors in units in the last place.
// Must not: kernels.
#pragma once

#include <algorithm>

#include "dispatch.hpp"
#include "support.hpp"

using softloss::bfloat16, softloss::float16;

// ---- elements ---------------------------------------------------------------------------------------------

template <class S>
using Compute = std::conditional_t<sizeof(S) == 8, double, float>;

template <class S>
constexpr const char* kName = "float64";
template <>
inline constexpr const char* kName<float> = "float32";
template <>
inline constexpr const char* kName<float16> = "float16";
template <>
inline constexpr const char* kName<bfloat16> = "bfloat16";

/// Bits of the significand, and the exponent below which numbers are subnormal (as std::numeric_limits
/// counts).
struct Format {
    int digits, min_exponent;
};
template <class S>
constexpr Format kFormat{std::numeric_limits<S>::digits, std::numeric_limits<S>::min_exponent};
template <>
inline constexpr Format kFormat<float16>{11, -13};
template <>
inline constexpr Format kFormat<bfloat16>{8, -125};

inline double value_of(double x) {
    return x;
}
inline double value_of(float x) {
    return x;
}
inline double value_of(bfloat16 x) {
    return __builtin_bit_cast(float, std::uint32_t{x.bits} << 16);
}
inline double value_of(float16 x) {
    const std::uint32_t sign = (x.bits & 0x8000u) << 16, rest = x.bits & 0x7fffu;
    if (rest >= 0x7c00u) return __builtin_bit_cast(float, sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    return __builtin_bit_cast(float, sign | rest << 13) * 0x1p112f;
}
/// x as an element of S. 16-bit types drop the bits that they have no room for, and subnormal numbers become
/// 0.
template <class S>
S element(double x) {
    if constexpr (sizeof(S) > 2) {
        return static_cast<S>(x);
    } else {
        const auto bits = __builtin_bit_cast(std::uint32_t, static_cast<float>(x));
        const std::uint32_t magnitude = bits & 0x7fffffffu;
        std::uint32_t half = magnitude >> 16;
        if (std::is_same_v<S, float16>)
            half = magnitude >= 0x7f800000u  ? (magnitude - 0x7f800000u) >> 13 | 0x7c00u
                   : magnitude < 0x38800000u ? 0
                                             : (magnitude - 0x38000000u) >> 13;
        return {static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | half)};
    }
}

/// |actual - exact| in units in the last place of the format at `exact`, or at `scale` where that is larger.
inline double units(double actual, long double exact, Format format, long double scale = 0) {
    if (std::isnan(exact) || std::isinf(exact)) {
        const bool same = std::isnan(exact) ? std::isnan(actual) : actual == static_cast<double>(exact);
        return same ? 0 : std::numeric_limits<double>::infinity();
    }
    int exponent;
    std::frexp(std::max(std::fabs(exact), scale), &exponent);
    const long double unit = std::ldexp(1.0L, std::max(exponent, format.min_exponent) - format.digits);
    return static_cast<double>(std::fabs(actual - exact) / unit);
}

// ---- layouts ----------------------------------------------------------------------------------------------

/// What is adjacent: the elements of a row (rows), the elements of a column (columns), nothing (apart).
enum class Order { rows, columns, apart };
struct Layout {
    Order order = Order::rows;
    std::int64_t offset = 0;  ///< bytes from the start of a cache line to the first element
    std::int64_t gap = 0;     ///< unused elements between rows (columns)
};

/// (rows, n) elements, surrounded by bytes that must not change.
template <class S>
class Field {
  public:
    static constexpr std::int64_t kMargin = 128;
    static constexpr unsigned char kUntouched = 0xa5;

    Field(std::int64_t rows, std::int64_t n, const Layout& layout) : rows_(rows), n_(n) {
        const std::int64_t size = sizeof(S);
        switch (layout.order) {
            case Order::rows: axis_ = size, row_ = (n + layout.gap) * size; break;
            case Order::columns: row_ = size, axis_ = (rows + layout.gap) * size; break;
            case Order::apart: axis_ = 2 * size, row_ = (2 * n + layout.gap) * size; break;
        }
        const std::int64_t extent = (rows - 1) * row_ + (n - 1) * axis_ + size;
        memory_.assign(extent + 2 * kMargin + 64, kUntouched);
        const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
        start_ = static_cast<std::int64_t>(-address % 64) + 64 + layout.offset;
    }
    Field(Field&&) = default;  // a copy would lie elsewhere in a cache line

    softloss::RowsIn in() const { return {data(), row_, axis_}; }
    softloss::RowsOut out() { return {const_cast<char*>(data()), row_, axis_}; }

    void put(const std::vector<S>& values) {
        for (std::int64_t i = 0; i < rows_ * n_; ++i)
            std::memcpy(memory_.data() + at(i), &values[i], sizeof(S));
    }
    void append_to(std::vector<double>& values) const {
        S x;
        for (std::int64_t i = 0; i < rows_ * n_; ++i) {
            std::memcpy(&x, memory_.data() + at(i), sizeof(S));
            values.push_back(value_of(x));
        }
    }
    bool kept_its_surroundings() const {
        std::vector<unsigned char> rest = memory_;
        for (std::int64_t i = 0; i < rows_ * n_; ++i) std::memset(rest.data() + at(i), kUntouched, sizeof(S));
        return std::all_of(rest.begin(), rest.end(), [](unsigned char c) { return c == kUntouched; });
    }

  private:
    const char* data() const { return reinterpret_cast<const char*>(memory_.data()) + start_; }
    std::int64_t at(std::int64_t i) const { return start_ + i / n_ * row_ + i % n_ * axis_; }

    std::int64_t rows_, n_, row_ = 0, axis_ = 0, start_ = 0;
    std::vector<unsigned char> memory_;
};
