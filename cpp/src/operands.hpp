// What the public functions share: elements of any dtype, checks of operands, loops over rows and blocks.
//
// Lives here: conversion of elements that the kernels do not read (other byte order, integers, masks), checks that name
// an operand, staging, pieces of rows, parallel loops. Must not: SIMD, OpenMP, NumPy, what an operation means.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "dispatch.hpp"
#include "parallel.hpp"
#include "plan.hpp"
#include "softloss/softloss.hpp"

namespace softloss {

using std::int64_t;

[[noreturn]] inline void fail(const std::string& message) {
    throw std::invalid_argument(message);
}

/// A number in as few digits as tell it from all others: what lies just outside a range must not look as if it were inside.
inline std::string text_of(double value) {
    char text[32];
    for (int digits = 6; digits <= 17; ++digits) {
        std::snprintf(text, sizeof text, "%.*g", digits, value);
        if (std::strtod(text, nullptr) == value) break;
    }
    return text;
}

/// std::to_string in one place: a text of an error has up to four, each of which would be inlined.
[[gnu::noinline]] inline std::string digits_of(int64_t value) {
    return std::to_string(value);
}

// ---- elements of any dtype ------------------------------------------------------------------------------------------

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
constexpr int64_t kBuffer = 256;

/// n elements at p, `stride` bytes apart, converted to T. Large, and called for many elements at a time: one copy is enough.
template <class T>
[[gnu::noinline]] void gather(const char* p, int64_t stride, int64_t n, DType dtype, bool swapped, T* out) {
    visit(dtype, [&]<class U>(U) {
        if constexpr (std::is_integral_v<T> && !std::is_integral_v<U>) {
            return;  // labels are integers
        } else if constexpr (is_half<U>) {
            const bool adjacent = stride == sizeof(U) && !swapped;
            U raw[kBuffer];
            float wide[kBuffer];
            for (int64_t done = 0; done < n; done += kBuffer) {
                const int64_t m = std::min(kBuffer, n - done);
                const char* const here = p + done * stride;
                for (int64_t i = 0; !adjacent && i < m; ++i) raw[i] = read<U>(here + i * stride, swapped);
                active_table().of(dtype).widen(adjacent ? static_cast<const void*>(here) : raw, wide, m);
                std::copy(wide, wide + m, out + done);
            }
        } else if (dtype_of<U> == dtype_of<T> && stride == sizeof(T) && !swapped) {
            std::memmove(out, p, sizeof(T) * n);       // out may be p
        } else if (stride == sizeof(U) && !swapped) {  // a stride that the compiler knows
            for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(read<U>(p + i * sizeof(U), false));
        } else {
            for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(read<U>(p + i * stride, swapped));
        }
    });
}

/// The opposite; dtype is a floating one.
template <class T>
[[gnu::noinline]] void scatter(const T* in, int64_t n, char* p, int64_t stride, DType dtype, bool swapped) {
    visit(dtype, [&]<class U>(U) {
        if constexpr (is_half<U>) {
            const bool adjacent = stride == sizeof(U) && !swapped;
            U raw[kBuffer];
            float wide[kBuffer];
            for (int64_t done = 0; done < n; done += kBuffer) {
                const int64_t m = std::min(kBuffer, n - done);
                char* const here = p + done * stride;
                for (int64_t i = 0; i < m; ++i) wide[i] = static_cast<float>(in[done + i]);
                active_table().of(dtype).narrow(wide, adjacent ? static_cast<void*>(here) : raw, m);
                for (int64_t i = 0; !adjacent && i < m; ++i) write(here + i * stride, raw[i], swapped);
            }
        } else if (stride == sizeof(U) && !swapped) {
            for (int64_t i = 0; i < n; ++i) write(p + i * sizeof(U), static_cast<U>(in[i]), false);
        } else {
            for (int64_t i = 0; i < n; ++i) write(p + i * stride, static_cast<U>(in[i]), swapped);
        }
    });
}

template <class T>
bool is_aligned(const void* p) {
    return reinterpret_cast<std::uintptr_t>(p) % alignof(T) == 0;
}
template <class T>
T element(const TensorView& view, int64_t offset) {
    T value;
    gather(static_cast<const char*>(view.data) + offset, 0, 1, view.dtype, view.swapped, &value);
    return value;
}
/// n elements of an operand as adjacent elements of T: in place where possible, else through `buffer`.
template <class T>
const T* block_of(const TensorView& view, int64_t offset, int64_t stride, int64_t n, T* buffer) {
    const char* const p = static_cast<const char*>(view.data) + offset;
    if (view.dtype == dtype_of<T> && !view.swapped && stride == sizeof(T) && is_aligned<T>(p))
        return reinterpret_cast<const T*>(p);
    gather(p, stride, n, view.dtype, view.swapped, buffer);
    return buffer;
}
/// n labels as int64. One that int64 does not hold, and that no ignore_index equals therefore, becomes one that is neither a
/// class nor ignored.
inline void load_labels(const TensorView& target, int64_t offset, int64_t stride, int64_t n,
                        const std::optional<int64_t>& ignore, int64_t* label) {
    const char* const from = static_cast<const char*>(target.data) + offset;
    gather(from, stride, n, target.dtype, target.swapped, label);
    if (stride == sizeof(int64_t)) {  // the next n are wanted soon
        for (int64_t i = 0; i < n; i += 8) __builtin_prefetch(from + (n + i) * stride);
    }
    if (target.dtype != DType::uint64) return;
    for (int64_t i = 0; i < n; ++i) label[i] = label[i] >= 0 ? label[i] : ignore == -1 ? -2 : -1;
}

/// True if n labels are classes, and none is ignored: what most calls need to know of them.
inline bool all_classes(const int64_t* label, int64_t n, int64_t classes,
                        const std::optional<int64_t>& ignore) {
    std::uint64_t outside = 0;  // its highest bit: the sign of a label or of what it lacks to the last class
    for (int64_t i = 0; i < n; ++i) {
        const auto y = static_cast<std::uint64_t>(label[i]);
        outside |= y | (static_cast<std::uint64_t>(classes) - 1 - y);
    }
    return outside >> 63 == 0 && !(ignore && 0 <= *ignore && *ignore < classes);
}

// ---- checks -----------------------------------------------------------------------------------------------------------

inline bool same_shape(std::span<const int64_t> a, std::span<const int64_t> b) {
    return std::ranges::equal(a, b);
}
inline Dims without_axis(std::span<const int64_t> shape, int axis) {
    Dims rest(shape);
    rest.erase(axis);
    return rest;
}
/// Of an array that may be absent.
inline std::span<const int64_t> strides_of(const auto* view) {
    return view ? view->strides : std::span<const int64_t>();
}
inline bool same_without_axis(std::span<const int64_t> rows, std::span<const int64_t> shape, int axis) {
    return rows.size() + 1 == shape.size() && same_shape(rows.first(axis), shape.first(axis)) &&
           same_shape(rows.subspan(axis), shape.subspan(axis + 1));
}

struct Extent {
    const char *first, *last;
};
inline Extent extent_of(const auto& view) {
    const char* first = static_cast<const char*>(static_cast<const void*>(view.data));
    const char* last = first + size_of(view.dtype);
    for (int d = 0; d < view.ndim(); ++d) {
        const int64_t span = (view.shape[d] - 1) * view.strides[d];
        (span < 0 ? first : last) += span;
    }
    return {first, last};
}
inline bool overlaps(const auto& x, const MutableTensorView& out) {
    if (checked_size(x.shape) == 0 || checked_size(out.shape) == 0) return false;
    const Extent a = extent_of(x), b = extent_of(out);
    return a.first < b.last && b.first < a.last;
}
/// No two elements of an output share memory.
inline void check_distinct(const MutableTensorView& out, const char* name) {
    if (!are_nested(out.shape, out.strides, size_of(out.dtype)))
        fail(std::string(name) + " has elements that overlap each other");
}
/// out may be x itself; any other overlap would read what was already written.
inline void check_overlap(const TensorView& x, const MutableTensorView& out, const char* name,
                          const char* out_name = "out") {
    const bool same = x.data == out.data && x.dtype == out.dtype && x.swapped == out.swapped &&
                      std::ranges::equal(x.strides, out.strides) && same_shape(x.shape, out.shape);
    if (overlaps(x, out) && !same)
        fail(std::string(out_name) + " overlaps " + name + " in part; it must be " + name +
             " itself or memory of its own");
}
inline void check_floats(const MutableTensorView& out, const char* name) {
    if (!is_floating(out.dtype)) fail(std::string(name) + " must be an array of floats");
}
/// An array for losses, one for each element of `shape`; it may be absent.
inline void check_losses(const MutableTensorView* losses, std::span<const int64_t> shape) {
    if (!losses) return;
    if (!same_shape(losses->shape, shape)) fail("losses must have shape " + to_string(shape));
    check_floats(*losses, "losses");
    check_distinct(*losses, "losses");
}
/// An output of x's shape, of a floating dtype, that is x itself or memory of its own, in which no elements overlap.
inline void check_output(const TensorView& x, const MutableTensorView& out, const char* out_name,
                         const char* name) {
    if (!same_shape(x.shape, out.shape)) {
        fail(std::string(out_name) + " has shape " + to_string(out.shape) + ", but " + name + " has shape " +
             to_string(x.shape));
    }
    check_floats(out, out_name);
    check_overlap(x, out, name, out_name);
    check_distinct(out, out_name);
}
/// An output shares no memory with the other arguments, which may be null.
inline void check_separate(std::initializer_list<const TensorView*> others, const MutableTensorView& out,
                           const char* out_name, const char* name) {
    for (const TensorView* other : others) {
        if (other && overlaps(*other, out))
            fail(std::string(out_name) + " overlaps an argument other than " + name);
    }
}
/// Results of this many bytes and more are written past the caches: nobody reads them again from there.
constexpr int64_t kStreamBytes = int64_t{24} << 20;
inline bool streams(const MutableTensorView& out) {
    return out.size() * size_of(out.dtype) >= kStreamBytes;
}

/// What x computes in where nothing else is asked for.
inline DType compute_dtype(const TensorView& x) {
    return x.dtype == DType::float64 || !is_floating(x.dtype) ? DType::float64 : DType::float32;
}
inline void check_hessian(const HessianOptions& h) {
    const auto check = [](const char* name, double value) {
        if (!(value >= 0 && std::isfinite(value)))
            fail(std::string(name) + " must be finite and not negative, got " + text_of(value));
    };
    check("hess_scale", h.scale);
    check("hess_min", h.floor);
}
inline void check_temperature(double t) {
    if (!(t > 0 && std::isfinite(t) && std::isfinite(static_cast<float>(1 / t)) &&
          static_cast<float>(1 / t) > 0)) {
        fail("temperature must be positive and finite, got " + text_of(t));
    }
}
inline void check_where(const TensorView* where) {
    if (where && where->dtype != DType::boolean) fail("where must be an array of bool");
}

inline std::string place_of(int64_t index, std::span<const int64_t> shape) {
    std::string text;
    for (std::size_t d = shape.size(); d-- > 0;) {
        const std::string here = digits_of(index % shape[d]);
        text = text.empty() ? here : here + ", " + text;
        index /= shape[d];
    }
    return shape.empty() ? "" : "[" + text + "]";
}

/// Calls f(linear index, byte offset) over an array in C order until it returns false.
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

/// Refuses rows with nothing in them.
inline void check_classes(const TensorView& x, int axis, const char* name) {
    if (x.shape[axis] > 0) return;
    fail(std::string(name) + " of shape " + to_string(x.shape) + " has no classes: axis " + digits_of(axis) +
         " has length 0");
}

/// target fits x without the axis (class indices) or x (class probabilities).
inline void check_target_shape(const TensorView& x, const TensorView& target, int axis, const char* name) {
    const bool soft = is_floating(target.dtype);
    if (soft ? same_shape(target.shape, x.shape) : same_without_axis(target.shape, x.shape, axis)) return;
    const Dims expected = soft ? Dims(x.shape) : without_axis(x.shape, axis);
    const bool fits_second =
        !soft && x.ndim() > 2 && axis != 1 && same_without_axis(target.shape, x.shape, 1);
    const std::string hint = fits_second ? "; the shapes fit axis=1" : "";
    fail(std::string("target of ") + (soft ? "class probabilities" : "class indices") + " must have shape " +
         to_string(expected) + " for " + name + " of shape " + to_string(x.shape) + " and axis " +
         digits_of(axis) + ", got " + to_string(target.shape) + hint);
}

/// Refuses labels that are neither a class nor ignored: names the first and counts them. Returns how many are ignored.
inline int64_t check_labels(const TensorView& target, int64_t classes, std::optional<int64_t> ignore) {
    const int64_t size = checked_size(target.shape), item = size_of(target.dtype);
    const bool adjacent =
        target.ndim() == 0 || same_shape(target.strides, contiguous_strides(target.shape, item));
    const std::size_t outer = adjacent ? 0 : target.shape.size() - 1;
    const int64_t inner = adjacent ? size : target.shape[outer],
                  step = adjacent ? item : target.strides[outer];
    int64_t bad = 0, first = 0, place = 0, ignored = 0, label[kBuffer];
    for_each_element(target.shape.first(outer), target.strides.first(outer),
                     [&](int64_t row, int64_t offset) {
                         for (int64_t i = 0; i < inner; i += kBuffer) {
                             const int64_t n = std::min(kBuffer, inner - i);
                             load_labels(target, offset + i * step, step, n, ignore, label);
                             if (all_classes(label, n, classes, ignore)) continue;
                             for (int64_t k = 0; k < n; ++k) {
                                 const bool skipped = label[k] == ignore;
                                 ignored += skipped;
                                 if (skipped || (label[k] >= 0 && label[k] < classes) || bad++ > 0) continue;
                                 first = row * inner + i + k;
                                 place = offset + (i + k) * step;
                             }
                         }
                         return true;
                     });
    if (bad == 0) return ignored;
    const std::string value = visit(target.dtype, [&]<class U>(U) {
        if constexpr (!std::is_integral_v<U>) return std::string();
        else return std::to_string(read<U>(static_cast<const char*>(target.data) + place, target.swapped));
    });
    throw std::out_of_range("target" + place_of(first, target.shape) + " = " + value +
                            " is out of range for axis of " + digits_of(classes) + " classes (" +
                            digits_of(bad) + " bad label" + (bad == 1 ? "" : "s") +
                            " in all); valid are 0.." + digits_of(classes - 1) +
                            (ignore ? " or ignore_index=" + digits_of(*ignore) : ""));
}

/// Names the first probability outside [0, 1].
[[noreturn]] inline void fail_outside(const char* name, const TensorView& view) {
    std::string place = name;
    double value = 0;
    for_each_element(view.shape, view.strides, [&](int64_t i, int64_t offset) {
        value = element<double>(view, offset);
        if (!(value < 0 || value > 1)) return true;
        place += place_of(i, view.shape);
        return false;
    });
    fail(place + " = " + text_of(value) + " lies outside [0, 1]");
}

// ---- batches of rows ---------------------------------------------------------------------------------------------------

/// Rows of one task: enough work to be worth a thread's while; not many more tasks than it takes to share the work evenly,
/// since kernels fetch the next row, and write the last, while they work at one; whole tiles.
inline int64_t rows_per_task(const Plan& plan) {
    const int threads = threads_for(plan.size());
    const int64_t enough = (16384 + plan.n - 1) / plan.n;
    const int64_t share = threads == 1 ? plan.rows : plan.batches * plan.rows / (8 * threads);
    const int64_t rows = std::max(enough, share);
    if (rows < 16 && plan.n >= 4096) return rows;
    const int64_t tile = plan.n >= 64 && std::abs(plan.axis[0]) < std::abs(plan.row[0]) ? 16 : 64;
    return (rows + tile - 1) / tile * tile;
}

/// How many threads share each row that the kernels take as it lies: more than one where rows are fewer than the threads, and
/// long. The threads meet three times a row: with 65,536 elements two took up to 1.2 times as long as one, with 128,256
/// 0.5 to 0.9 times, and up to 1.1 times beside threads of other libraries (AMD Zen 5).
inline int64_t parts_of_row(const Plan& plan, DType dtype) {
    constexpr int64_t kLeast = 60000;  // elements of a part
    static_assert(kLeast > kMaxTile, "rows that are shared are adjacent");
    const int threads = threads_for(plan.size());
    if (plan.batches * plan.rows >= threads || !active_table().of(dtype).takes_parts) return 1;
    return std::clamp<int64_t>(plan.n / kLeast, 1, threads);
}
/// RowOptions::for_parts
inline void run_parts(int64_t parts, void (*body)(const void*, int64_t), const void* context) {
    parallel_for(parts, std::numeric_limits<int64_t>::max(), 0,
                 [&](int64_t part, void*) { body(context, part); });
}

/// What the threads of a call may stage of rows, all together. Where each stages more than its share, fewer run.
constexpr int64_t kStagedBytes = 1 << 20;

/// Calls body(offsets of the first row, rows, scratch) for all rows of the plan. What scratch_bytes has beyond
/// kScratchBytes is for staged rows, and the lists of scores. Where rows have parts, these share the threads.
template <class Body>
void for_each_batch(const Plan& plan, int64_t rows_per_task, std::size_t scratch_bytes, Body body,
                    int64_t parts = 1) {
    const bool single = plan.batches == 1 && plan.rows <= rows_per_task;
    const int64_t pieces = single ? 1 : (plan.rows + rows_per_task - 1) / rows_per_task;
    const int64_t staged = std::max<int64_t>(static_cast<int64_t>(scratch_bytes) - kScratchBytes, 1);
    parallel_for(
        plan.batches * pieces, plan.size(), parts * scratch_bytes,
        [&](int64_t task, void* scratch) {
            if (single) return body(Strides{}, plan.rows, scratch);
            const int64_t first = task % pieces * rows_per_task;
            Strides at = plan.offset(task / pieces);
            for (int k = 0; k < kMaxOperands; ++k) at[k] += first * plan.row[k];
            body(at, std::min(rows_per_task, plan.rows - first), scratch);
        },
        parts > 1 ? 1 : std::max<int64_t>(kStagedBytes / staged, 1));
}

inline Strides row_at(Strides at, const Plan& plan, int64_t row) {
    for (int k = 0; k < kMaxOperands; ++k) at[k] += row * plan.row[k];
    return at;
}

/// x[i] = value where the mask, if there is one, is false. offset, stride: of the mask.
template <class T>
void fill_masked(const TensorView* where, int64_t offset, int64_t stride, int64_t n, T* x, T value) {
    if (!where) return;
    const char* const mask = static_cast<const char*>(where->data) + offset;
    const auto fill = [&](auto step) {
        for (int64_t i = 0; i < n; ++i) x[i] = mask[i * step] ? x[i] : value;
    };
    if (stride == 1) fill(std::integral_constant<int64_t, 1>());  // a stride that the compiler knows
    else fill(stride);
}

/// Staged rows: converted to T, masked elements -inf, adjacent.
template <class T>
struct Staging {
    const TensorView& x;
    const TensorView* where;
    const Plan& plan;
    int64_t rows;  ///< per stage

    Staging(const TensorView& x_, const TensorView* where_, const Plan& plan_)
        : x(x_), where(where_), plan(plan_), rows(std::clamp<int64_t>(4096 / plan_.n, 1, 64)) {}

    /// Of scratch memory with room for so many stages.
    std::size_t bytes(int stages) const { return kScratchBytes + stages * rows * plan.n * sizeof(T); }
    static T* memory(void* scratch) {
        return reinterpret_cast<T*>(static_cast<char*>(scratch) + kScratchBytes);
    }
    RowsOut rows_in(T* memory) const {
        return {reinterpret_cast<char*>(memory), plan.n * int64_t{sizeof(T)}, sizeof(T)};
    }

    /// Reads n elements of a row from `first` on; operand 0 is x, operand 2 where.
    void read(const Strides& at, int64_t first, int64_t n, T* to) const {
        gather(static_cast<const char*>(x.data) + at[0] + first * plan.axis[0], plan.axis[0], n, x.dtype,
               x.swapped, to);
        fill_masked(where, at[2] + first * plan.axis[2], plan.axis[2], n, to,
                    -std::numeric_limits<T>::infinity());
    }
    void read_rows(const Strides& at, int64_t count, RowsOut to) const {
        for (int64_t r = 0; r < count; ++r)
            read(row_at(at, plan, r), 0, plan.n, reinterpret_cast<T*>(to.data + r * to.row));
    }
};

/// True if the rows of an operand are adjacent elements of T, which the kernels take in place.
template <class T>
bool holds_rows(const auto& view, const Plan& plan, int operand) {
    bool holds = view.dtype == dtype_of<T> && !view.swapped && plan.axis[operand] == sizeof(T) &&
                 is_aligned<T>(view.data);
    for (const int64_t stride : view.strides) holds &= stride % int64_t{alignof(T)} == 0;
    return holds;
}

/// Rows of T that the kernels write: an output's own where it holds such rows, else rows in memory that put() takes there.
template <class T>
class OutputRows {
  public:
    OutputRows(const MutableTensorView& out, const Plan& plan, int operand, RowsOut memory)
        : out_(out),
          plan_(plan),
          operand_(operand),
          memory_(memory),
          inside_(holds_rows<T>(out, plan, operand)) {}
    /// The rows from the one at `at` on.
    RowsOut at(const Strides& at) const {
        if (!inside_) return memory_;
        return {static_cast<char*>(out_.data) + at[operand_], plan_.row[operand_], sizeof(T)};
    }
    void put(const Strides& at, int64_t rows) const {
        for (int64_t r = 0; !inside_ && r < rows; ++r) {
            scatter(reinterpret_cast<const T*>(memory_.data + r * memory_.row), plan_.n,
                    static_cast<char*>(out_.data) + row_at(at, plan_, r)[operand_], plan_.axis[operand_],
                    out_.dtype, out_.swapped);
        }
    }

  private:
    const MutableTensorView& out_;
    const Plan& plan_;
    int operand_;
    RowsOut memory_;
    bool inside_;
};

/// True if the kernels read the rows of x, operand 0, in place.
template <class T>
bool is_readable(const TensorView& x, const TensorView* where, const Plan& plan) {
    return !where && !x.swapped && is_floating(x.dtype) && (x.dtype == DType::float64) == (sizeof(T) == 8) &&
           (plan.axis[0] == size_of(x.dtype) || plan.n <= kMaxTile);
}

/// A batch of rows of x as the kernels read them: in place where they can, else staged `staging.rows` at a time. Calls
/// run(table of the storage, rows, first, count).
template <class T, class Run>
void for_each_readable(const TensorView& x, const TensorView* where, const Plan& plan, const Strides& at,
                       int64_t rows, void* scratch, Run run) {
    if (is_readable<T>(x, where, plan)) {
        run(active_table().of(x.dtype),
            RowsIn{static_cast<const char*>(x.data) + at[0], plan.row[0], plan.axis[0]}, int64_t{0}, rows);
        return;
    }
    const Staging<T> staging(x, where, plan);
    const RowsOut staged = staging.rows_in(Staging<T>::memory(scratch));
    for (int64_t first = 0; first < rows; first += staging.rows) {
        const int64_t here = std::min(staging.rows, rows - first);
        staging.read_rows(row_at(at, plan, first), here, staged);
        run(active_table().of(dtype_of<T>), RowsIn{staged.data, staged.row, staged.axis}, first, here);
    }
}

// ---- pieces of a row ----------------------------------------------------------------------------------------------------

/// Elements: what is made of a row in pieces needs no more memory than these.
constexpr int64_t kPiece = 4096;

/// Calls f(first, count) for the pieces of a row of n elements, in the order of their index.
template <class F>
void for_each_piece_of_row(int64_t n, F f) {
    for (int64_t first = 0; first < n; first += kPiece) f(first, std::min(kPiece, n - first));
}

/// An operand as pieces of adjacent elements of T: in place where possible, else in `buffer` (kPiece), which is filled only
/// for another piece than the last. Without a view they are what the buffer holds.
template <class T>
class Pieces {
  public:
    Pieces(const TensorView* view, int64_t stride, T* buffer)
        : view_(view), stride_(stride), buffer_(buffer), data_(buffer) {}
    const T* at(int64_t offset, int64_t n) {
        if (view_ && offset != held_) data_ = block_of(*view_, offset, stride_, n, buffer_);
        held_ = offset;
        return data_;
    }

  private:
    const TensorView* view_;
    int64_t stride_, held_ = std::numeric_limits<int64_t>::min();
    T* buffer_;
    const T* data_;
};

/// Adds the sum of a further piece.
inline void add(Sum& sum, const Sum& piece) {
    const double all = sum.value + piece.value, taken = all - sum.value;
    const double error = (sum.value - (all - taken)) + (piece.value - taken);
    sum.error = std::isfinite(all) ? sum.error + (error + piece.error) : 0;
    sum.value = all;
}
inline double total(const Sum& sum) {
    return sum.value + sum.error;
}

// ---- elementwise --------------------------------------------------------------------------------------------------------------

constexpr int64_t kElements = 4096;  ///< of one block

/// Calls body(block, offsets, n, scratch) over blocks of at most kElements.
template <class Body>
int64_t for_each_block(const Plan& plan, std::size_t scratch_bytes, Body body) {
    const int64_t pieces = (plan.n + kElements - 1) / kElements, blocks = plan.batches * pieces;
    parallel_for(blocks, plan.size(), scratch_bytes, [&](int64_t block, void* scratch) {
        const int64_t first = block % pieces * kElements;
        Strides at = plan.offset(block / pieces);
        for (int k = 0; k < kMaxOperands; ++k) at[k] += first * plan.axis[k];
        body(block, at, std::min(kElements, plan.n - first), scratch);
    });
    return blocks;
}

/// Refuses elements outside [0, 1] before anything is written.
inline void check_unit(const char* name, const TensorView& view) {
    if (view.size() == 0) return;
    const Operand operands[] = {view.strides};
    const Plan plan = make_plan(view.shape, -1, operands);
    std::atomic<bool> bad{false};
    const auto check = [&]<class T>(T) {
        for_each_block(
            plan, kElements * sizeof(T), [&](int64_t, const Strides& at, int64_t n, void* scratch) {
                const T* const x = block_of(view, at[0], plan.axis[0], n, static_cast<T*>(scratch));
                if (active_table().compute<T>().outside_unit(x, n)) bad = true;
            });
    };
    if (view.dtype == DType::float32) check(float{});
    else check(double{});
    if (bad) fail_outside(name, view);
}

}  // namespace softloss
