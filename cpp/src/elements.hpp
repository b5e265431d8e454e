// Elements of any dtype: reads, writes and conversions of arrays that the kernels cannot read in place.
//
// Lives here: other byte orders, integers, any strides, labels, iteration over an array in C order. Must not:
// SIMD, checks and errors (checks.hpp), parallel loops (batches.hpp).
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>
#include <type_traits>

#include "dispatch.hpp"
#include "plan.hpp"
#include "softloss/softloss.hpp"

namespace softloss {

using std::int64_t;

/// Calls f(U{}) with the C++ type that stores `dtype`.
template <class F>
auto visit(DType dtype, F f) {
    switch (dtype) {
        case DType::float16: return f(float16{});
        case DType::bfloat16: return f(bfloat16{});
        case DType::float32: return f(float{});
        case DType::float64: return f(double{});
        case DType::boolean:
        case DType::uint8: return f(std::uint8_t{});
        case DType::int8: return f(std::int8_t{});
        case DType::int16: return f(std::int16_t{});
        case DType::int32: return f(std::int32_t{});
        case DType::uint16: return f(std::uint16_t{});
        case DType::uint32: return f(std::uint32_t{});
        case DType::uint64: return f(std::uint64_t{});
        default: return f(std::int64_t{});
    }
}

/// read, write: one element at any address; swapped: its bytes are not in native order.
template <class U>
U read(const char* p, bool swapped) {
    unsigned char bytes[sizeof(U)];
    std::memcpy(bytes, p, sizeof(U));
    if (swapped) std::reverse(bytes, bytes + sizeof(U));
    U value;
    std::memcpy(&value, bytes, sizeof(U));
    return value;
}
template <class U>
void write(char* p, U value, bool swapped) {
    unsigned char bytes[sizeof(U)];
    std::memcpy(bytes, &value, sizeof(U));
    if (swapped) std::reverse(bytes, bytes + sizeof(U));
    std::memcpy(p, bytes, sizeof(U));
}

template <class U>
constexpr bool is_half = std::is_same_v<U, float16> || std::is_same_v<U, bfloat16>;
constexpr int64_t kBuffer = 256;  ///< elements that are converted at a time

/// Converts n elements at p, `stride` bytes apart, to adjacent elements of T: float or double; int64, if
/// dtype is an integer type. out may be p if they are such elements already.
template <class T>
void gather(const char* p, int64_t stride, int64_t n, DType dtype, bool swapped, T* out);

/// The reverse. dtype is a floating one, or that of T.
template <class T>
void scatter(const T* in, int64_t n, char* p, int64_t stride, DType dtype, bool swapped);

/// x[i] = value where the mask, whose elements are `stride` bytes apart, is false.
template <class T>
void fill_masked(const char* mask, int64_t stride, int64_t n, T* x, T value);

/// True if p is aligned for T.
template <class T>
bool is_aligned(const void* p) {
    return reinterpret_cast<std::uintptr_t>(p) % alignof(T) == 0;
}
/// The element at a byte offset.
template <class T>
T element(const TensorView& view, int64_t offset) {
    T value;
    gather(static_cast<const char*>(view.data) + offset, 0, 1, view.dtype, view.swapped, &value);
    return value;
}
/// n elements of a view as adjacent, aligned elements of T: in place if possible, else converted into
/// `buffer`.
template <class T>
const T* block_of(const TensorView& view, int64_t offset, int64_t stride, int64_t n, T* buffer) {
    const char* const p = static_cast<const char*>(view.data) + offset;
    if (view.dtype == dtype_of<T> && !view.swapped && stride == sizeof(T) && is_aligned<T>(p))
        return reinterpret_cast<const T*>(p);
    gather(p, stride, n, view.dtype, view.swapped, buffer);
    return buffer;
}
/// Reads n labels as int64. A label too large for int64 cannot equal ignore_index. It becomes a value that is
/// neither a class nor ignored.
inline void load_labels(const TensorView& target, int64_t offset, int64_t stride, int64_t n,
                        const std::optional<int64_t>& ignore, int64_t* label) {
    const char* const from = static_cast<const char*>(target.data) + offset;
    gather(from, stride, n, target.dtype, target.swapped, label);
    if (stride == sizeof(int64_t)) {  // the caller reads the next n labels soon
        for (int64_t i = 0; i < n; i += 8) __builtin_prefetch(from + (n + i) * stride);
    }
    if (target.dtype != DType::uint64) return;
    for (int64_t i = 0; i < n; ++i) label[i] = label[i] >= 0 ? label[i] : ignore == -1 ? -2 : -1;
}

/// True if all n labels are classes and none can be an ignored one: a fast test that settles most calls.
inline bool all_classes(const int64_t* label, int64_t n, int64_t classes,
                        const std::optional<int64_t>& ignore) {
    std::uint64_t outside = 0;  // its highest bit is set if a label is < 0 or >= classes
    for (int64_t i = 0; i < n; ++i) {
        const auto y = static_cast<std::uint64_t>(label[i]);
        outside |= y | (static_cast<std::uint64_t>(classes) - 1 - y);
    }
    return outside >> 63 == 0 && !(ignore && 0 <= *ignore && *ignore < classes);
}

/// Calls f(linear index, byte offset) for the elements of an array in C order, until f returns false.
template <class F>
void for_each_element(std::span<const int64_t> shape, std::span<const int64_t> strides, F f) {
    const int64_t size = checked_size(shape);
    const std::size_t outer = shape.empty() ? 0 : shape.size() - 1;
    const int64_t inner = shape.empty() ? 1 : shape[outer], step = shape.empty() ? 0 : strides[outer];
    Dims at(outer, 0);
    int64_t offset = 0;
    for (int64_t i = 0; i < size; i += inner) {
        for (int64_t k = 0; k < inner; ++k) {
            if (!f(i + k, offset + k * step)) return;
        }
        for (std::size_t d = outer; d-- > 0;) {
            offset += strides[d];
            if (++at[d] < shape[d]) break;
            offset -= at[d] * strides[d];
            at[d] = 0;
        }
    }
}

}  // namespace softloss
