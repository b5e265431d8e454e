// Element types and array views of the public API.
//
// Lives here: DType, the storage types float16 and bfloat16, TensorView (pointer, dtype, shape, strides).
// Must not: operations, SIMD, Python.
#pragma once

#include <cstdint>
#include <span>

namespace softloss {

/// Element type of a TensorView. Integers and bool are accepted as input (they compute in float64) and as class indices.
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

/// IEEE 754 binary16, stored; arithmetic happens in float32.
struct float16 {
    std::uint16_t bits;
};

/// The upper half of an IEEE 754 binary32, stored; arithmetic happens in float32.
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

/// The DType of a C++ element type.
template <class T>
inline constexpr DType dtype_of = DType::float64;
template <>
inline constexpr DType dtype_of<float16> = DType::float16;
template <>
inline constexpr DType dtype_of<bfloat16> = DType::bfloat16;
template <>
inline constexpr DType dtype_of<float> = DType::float32;
template <>
inline constexpr DType dtype_of<bool> = DType::boolean;
template <>
inline constexpr DType dtype_of<std::int8_t> = DType::int8;
template <>
inline constexpr DType dtype_of<std::int16_t> = DType::int16;
template <>
inline constexpr DType dtype_of<std::int32_t> = DType::int32;
template <>
inline constexpr DType dtype_of<std::int64_t> = DType::int64;
template <>
inline constexpr DType dtype_of<std::uint8_t> = DType::uint8;
template <>
inline constexpr DType dtype_of<std::uint16_t> = DType::uint16;
template <>
inline constexpr DType dtype_of<std::uint32_t> = DType::uint32;
template <>
inline constexpr DType dtype_of<std::uint64_t> = DType::uint64;

/// A view of an N-dimensional array that somebody else owns. Strides are in bytes and may be negative, zero or odd;
/// `data` may be unaligned; `swapped` says that the elements are of the other byte order.
template <class Pointer>
struct BasicTensorView {
    Pointer data = nullptr;
    DType dtype = DType::float32;
    std::span<const std::int64_t> shape;
    std::span<const std::int64_t> strides;
    bool swapped = false;

    int ndim() const noexcept { return static_cast<int>(shape.size()); }
    std::int64_t size() const noexcept {
        std::int64_t n = 1;
        for (std::int64_t d : shape) n *= d;
        return n;
    }
};

using TensorView = BasicTensorView<const void*>;
using MutableTensorView = BasicTensorView<void*>;

}  // namespace softloss
