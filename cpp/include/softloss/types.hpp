// Element types and array views of the public API.
//
// Lives here: DType, the storage types float16 and bfloat16, TensorView (pointer, dtype, shape, strides).
// Must not: operations, SIMD, Python.
#pragma once

#include "softloss/requirements.hpp"

#ifndef SOFTLOSS_UNUSABLE

#include <cstdint>
#include <span>
#include <type_traits>

namespace softloss {

/// Element type of a TensorView. Integers and bool are accepted as inputs, and are computed in float64. Class
/// indices have an integer type.
enum class DType : std::uint8_t {
    float16,
    bfloat16,
    float32,
    float64,
    boolean,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
};

/// IEEE 754 binary16, for storage only: arithmetic is in float32.
struct float16 {
    std::uint16_t bits;
};

/// The upper half of an IEEE 754 binary32, for storage only: arithmetic is in float32.
struct bfloat16 {
    std::uint16_t bits;
};

/// Size of one element in bytes.
constexpr std::int64_t size_of(DType dtype) noexcept {
    switch (dtype) {
        case DType::boolean:
        case DType::int8:
        case DType::uint8: return 1;
        case DType::float16:
        case DType::bfloat16:
        case DType::int16:
        case DType::uint16: return 2;
        case DType::float32:
        case DType::int32:
        case DType::uint32: return 4;
        default: return 8;
    }
}

constexpr bool is_floating(DType dtype) noexcept {
    return dtype <= DType::float64;
}

namespace detail {

template <class T>
constexpr DType integer_dtype() {
    constexpr int size = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;
    constexpr DType is_signed[] = {DType::int8, DType::int16, DType::int32, DType::int64};
    constexpr DType is_unsigned[] = {DType::uint8, DType::uint16, DType::uint32, DType::uint64};
    return std::is_signed_v<T> ? is_signed[size] : is_unsigned[size];
}
template <class T>
constexpr DType element_dtype() {
    constexpr bool is_integer = std::is_integral_v<T> && sizeof(T) <= 8;
    constexpr bool is_float = std::is_same_v<T, float> || std::is_same_v<T, double> ||
                              std::is_same_v<T, float16> || std::is_same_v<T, bfloat16>;
    static_assert(
        is_integer || is_float,
        "softloss takes elements of float, double, softloss::float16, softloss::bfloat16, bool and integers");
    if constexpr (std::is_same_v<T, bool>) return DType::boolean;
    else if constexpr (is_integer) return integer_dtype<T>();
    else if constexpr (std::is_same_v<T, float16>) return DType::float16;
    else if constexpr (std::is_same_v<T, bfloat16>) return DType::bfloat16;
    else if constexpr (std::is_same_v<T, float>) return DType::float32;
    else return DType::float64;
}

}  // namespace detail

/// The DType of a C++ element type; for an integer, the one of its size and sign. Other element types do not
/// compile.
template <class T>
inline constexpr DType dtype_of = detail::element_dtype<std::remove_cv_t<T>>();

/// A view of an N-dimensional array that the caller owns. Strides are in bytes and may be negative, zero or
/// odd; without strides the array is in C order. `data` need not be aligned. `swapped`: the elements have the
/// other byte order.
template <class Pointer>
struct BasicTensorView {
    Pointer data = nullptr;
    DType dtype = DType::float32;
    std::span<const std::int64_t> shape = {};
    std::span<const std::int64_t> strides = {};
    bool swapped = false;

    int ndim() const noexcept { return static_cast<int>(shape.size()); }
    std::int64_t size() const noexcept {
        std::uint64_t n = 1;  // may wrap: every function rejects such shapes
        for (std::int64_t d : shape) n *= static_cast<std::uint64_t>(d);
        return static_cast<std::int64_t>(n);
    }
    /// A writable view is also a readable one.
    template <class Read>
        requires(std::is_same_v<Pointer, void*> && std::is_same_v<Read, const void*>)
    operator BasicTensorView<Read>() const noexcept {
        return {data, dtype, shape, strides, swapped};
    }
};

using TensorView = BasicTensorView<const void*>;
using MutableTensorView = BasicTensorView<void*>;

/// Views of the elements at `data`, in C order; `shape` must outlive them.
template <class T>
TensorView view_of(const T* data, std::span<const std::int64_t> shape) {
    return {data, dtype_of<T>, shape};
}
template <class T>
MutableTensorView view_of(T* data, std::span<const std::int64_t> shape) {
    return {data, dtype_of<T>, shape};
}

}  // namespace softloss

#endif
