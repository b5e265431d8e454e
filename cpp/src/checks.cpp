#include "checks.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "batches.hpp"
#include "elements.hpp"

namespace softloss {

void fail(const std::string& message) {
    throw std::invalid_argument(message);
}

std::string text_of(double value) {
    char text[32];
    for (int digits = 6; digits <= 17; ++digits) {
        std::snprintf(text, sizeof text, "%.*g", digits, value);
        if (std::strtod(text, nullptr) == value) break;
    }
    return text;
}

std::string digits_of(int64_t value) {
    return std::to_string(value);
}

bool same_shape(std::span<const int64_t> a, std::span<const int64_t> b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

Dims without_axis(std::span<const int64_t> shape, int axis) {
    Dims rest(shape);
    rest.erase(axis);
    return rest;
}

namespace {

/// The addresses from the first byte of an array to the one after the last.
struct Extent {
    std::intptr_t first, last;
};
Extent extent_of(const TensorView& view) {
    std::intptr_t first = reinterpret_cast<std::intptr_t>(view.data), last = first + size_of(view.dtype);
    for (int d = 0; d < view.ndim(); ++d) {
        if (view.shape[d] == 1) continue;
        const int64_t span = (view.shape[d] - 1) * view.strides[d];
        (span < 0 ? first : last) += span;
    }
    return {first, last};
}

/// The bounded integer problem: is there a sum of k[i] * steps[i].stride, 0 <= k[i] <= steps[i].count, in
/// [target - slack, target]? NumPy decides in the same way whether arrays share memory.
///
/// The search takes the strides largest first. It leaves a branch if the remaining strides cannot reach the
/// target: their sum is too small (reach_), or their greatest common divisor does not fit (divisor_). If the
/// axes of the arrays nest, only two or three multiples of each stride are left. If the search has to try
/// many, it gives up and answers true.
class Reaching {
  public:
    struct Step {
        int64_t stride, count;
    };

    explicit Reaching(int64_t slack) : slack_(slack) {}

    /// stride > 0. Equal strides are merged.
    void add(int64_t stride, int64_t count) {
        for (int i = 0; i < size_; ++i) {
            if (steps_[i].stride == stride) {
                steps_[i].count += count;
                return;
            }
        }
        steps_[size_++] = {stride, count};
    }
    /// Answers the question.
    bool operator()(int64_t target) {
        std::sort(steps_, steps_ + size_, [](Step a, Step b) { return a.stride > b.stride; });
        reach_[size_] = divisor_[size_] = 0;
        for (int i = size_; i-- > 0;) {
            reach_[i] = reach_[i + 1] + steps_[i].stride * steps_[i].count;
            divisor_[i] = std::gcd(divisor_[i + 1], steps_[i].stride);
        }
        return reaches(0, target);
    }

  private:
    /// The same with steps i, i + 1, ... alone.
    bool reaches(int i, int64_t target) {
        if (target < 0 || target - slack_ > reach_[i]) return false;
        if (i == size_ || target <= slack_) return true;
        if (target % divisor_[i] > slack_) return false;
        if (++tried_ > 1000) return true;
        const auto [stride, count] = steps_[i];
        const int64_t short_of = target - slack_ - reach_[i + 1];
        const int64_t least = short_of > 0 ? (short_of + stride - 1) / stride : 0;
        for (int64_t k = std::min(count, target / stride); k >= least; --k)
            if (reaches(i + 1, target - k * stride)) return true;
        return false;
    }

    int64_t slack_;
    Step steps_[2 * Dims::kMost];
    // Of steps i, i + 1, ...: the largest sum, and the greatest common divisor of their strides.
    int64_t reach_[2 * Dims::kMost + 1], divisor_[2 * Dims::kMost + 1];
    int size_ = 0, tried_ = 0;
};

/// [0, 1] with the slack for rounding, as the kernels test it in float or double.
struct UnitRange {
    bool wide;
    double slack;
    UnitRange(DType dtype, DType computed)
        : wide(computed == DType::float64), slack(unit_slack(dtype, computed)) {}
    bool holds(double x) const {
        if (!wide) {
            const auto narrow = static_cast<float>(x), by = static_cast<float>(slack);
            return !(narrow < -by || narrow > 1 + by);
        }
        return !(x < -slack || x > 1 + slack);
    }
};

/// True if an input and an output are the same array: data, dtype, byte order, shape and strides.
bool is_same(const TensorView& x, const TensorView& out) {
    bool same = x.data == out.data && x.dtype == out.dtype && x.swapped == out.swapped &&
                same_shape(x.shape, out.shape);
    for (int d = 0; same && d < x.ndim(); ++d) same = x.shape[d] == 1 || x.strides[d] == out.strides[d];
    return same;
}

/// True if `rows` is `shape` without the axis.
bool same_without_axis(std::span<const int64_t> rows, std::span<const int64_t> shape, int axis) {
    return rows.size() + 1 == shape.size() && same_shape(rows.first(axis), shape.first(axis)) &&
           same_shape(rows.subspan(axis), shape.subspan(axis + 1));
}

/// The index of an element, as in an expression: "[1, 2]", or "" of a 0-d array.
std::string place_of(int64_t index, std::span<const int64_t> shape) {
    std::string text;
    for (std::size_t d = shape.size(); d-- > 0;) {
        const std::string here = digits_of(index % shape[d]);
        text = text.empty() ? here : here + ", " + text;
        index /= shape[d];
    }
    return shape.empty() ? "" : "[" + text + "]";
}

}  // namespace

void check_view(const char* name, const TensorView& view) {
    const auto refuse = [&](const std::string& why) { fail(name + (" " + why)); };
    if (view.dtype > DType::uint64)
        refuse("has dtype " + digits_of(static_cast<int>(view.dtype)) + ", which is not a DType");
    if (view.shape.size() > Dims::kMost)
        refuse("has " + digits_of(view.ndim()) + " dimensions; arrays have at most " +
               digits_of(Dims::kMost));
    if (!view.shape.empty() && !view.shape.data()) refuse("has no shape: its pointer is null");
    const std::optional<int64_t> size = size_of_shape(view.shape);
    if (!size) refuse("has shape " + to_string(view.shape) + ", with a negative or too large extent");
    if (!view.strides.empty() && view.strides.size() != view.shape.size()) {
        refuse("has " + digits_of(view.ndim()) + " dimensions but " +
               digits_of(static_cast<int64_t>(view.strides.size())) +
               " strides; give one stride per dimension, or none for C order");
    }
    if (*size == 0) return;
    if (!view.data) refuse("of shape " + to_string(view.shape) + " has no data: its pointer is null");
    constexpr int64_t kFar = int64_t{1} << 60;
    int64_t reach = 0;
    for (std::size_t d = 0; d < view.strides.size(); ++d) {
        int64_t span = 0;
        if (view.shape[d] > 1 && (__builtin_mul_overflow(view.shape[d] - 1, view.strides[d], &span) ||
                                  span < -kFar || span > kFar || (reach += std::abs(span)) > kFar))
            refuse("has strides beyond the address space: " + to_string(view.strides));
    }
}

bool overlaps(const TensorView& a, const TensorView& b) {
    if (checked_size(a.shape) == 0 || checked_size(b.shape) == 0) return false;
    const Extent of_a = extent_of(a), of_b = extent_of(b);
    if (of_a.first >= of_b.last || of_b.first >= of_a.last) return false;
    // Let a start at its first byte and b, in reverse, at its last. Byte i of an element of a is byte j of an
    // element of b if the steps in both arrays, plus i, plus last_byte - j, add up to the distance between
    // these two starts.
    const int64_t last_byte = size_of(b.dtype) - 1;
    Reaching reaching(size_of(a.dtype) - 1 + last_byte);
    for (const TensorView* view : {&a, &b}) {
        for (int d = 0; d < view->ndim(); ++d) {
            if (view->shape[d] > 1 && view->strides[d] != 0)
                reaching.add(std::abs(view->strides[d]), view->shape[d] - 1);
        }
    }
    return reaching(of_b.last - 1 - of_a.first);
}

void check_memory(std::initializer_list<Read> inputs, std::initializer_list<Written> outputs) {
    for (const Written* out = outputs.begin(); out != outputs.end(); ++out) {
        if (!out->view) continue;
        const std::string name = out->name;
        if (!are_nested(out->view->shape, out->view->strides, size_of(out->view->dtype)))
            fail(name + " has elements that overlap each other");
        for (const Read& in : inputs) {
            if (!in.view) continue;
            const bool may_be = in.in_place == out->view;
            if ((may_be && is_same(*in.view, *out->view)) || !overlaps(*in.view, *out->view)) continue;
            fail(name + " overlaps " + in.name +
                 (may_be
                      ? std::string(" in part; it must be ") + in.name + " itself or share no memory with it"
                      : ""));
        }
        for (const Written* other = outputs.begin(); other != out; ++other)
            if (other->view && overlaps(*other->view, *out->view)) fail(name + " overlaps " + other->name);
    }
}

void check_floats(const MutableTensorView& out, const char* name) {
    if (!is_floating(out.dtype)) fail(std::string(name) + " must have a floating dtype");
}

void check_losses(const MutableTensorView* losses, std::span<const int64_t> shape) {
    if (!losses) return;
    if (!same_shape(losses->shape, shape))
        fail("losses must have shape " + to_string(shape) + ", got " + to_string(losses->shape));
    check_floats(*losses, "losses");
}

void check_same_shape(const TensorView& x, const char* name, const TensorView& other,
                      const char* other_name) {
    if (same_shape(x.shape, other.shape)) return;
    fail(std::string(other_name) + " has shape " + to_string(other.shape) + ", but " + name + " has shape " +
         to_string(x.shape));
}

void check_like(const TensorView& x, const char* name, const MutableTensorView& out, const char* out_name) {
    check_same_shape(x, name, out, out_name);
    check_floats(out, out_name);
}

void check_hessian(const HessianOptions& h) {
    if (!(h.hess_scale >= 0 && std::isfinite(h.hess_scale)))
        fail("hess_scale must be finite and at least 0, got " + text_of(h.hess_scale));
    if (!(h.hess_min < std::numeric_limits<double>::infinity()))
        fail("hess_min must be finite or -inf, got " + text_of(h.hess_min));
}

void check_gamma(double gamma) {
    if (!(gamma >= 0 && std::isfinite(gamma)))
        fail("gamma must be finite and at least 0, got " + text_of(gamma));
}

void check_focal(double gamma, std::optional<double> alpha) {
    check_gamma(gamma);
    if (alpha && !(*alpha >= 0 && *alpha <= 1)) fail("alpha must be between 0 and 1, got " + text_of(*alpha));
}

DType resolved(std::optional<DType> compute_dtype, const TensorView& x) {
    if (!compute_dtype) return compute_dtype_of(x.dtype);
    if (compute_dtype != DType::float32 && compute_dtype != DType::float64)
        fail("compute_dtype must be float32 or float64");
    return *compute_dtype;
}

void check_reduction(Reduction reduction, const MutableTensorView* losses) {
    if (reduction > Reduction::sum) fail("reduction must be none, mean or sum");
    if (reduction == Reduction::none && !losses) fail("reduction none needs an array for the losses");
}

void check_temperature(double t) {
    if (t > 0 && std::isfinite(t)) return;
    const char* const hint = t == 0 ? "; for the limit at 0, take argmax or a small temperature" : "";
    fail("temperature must be positive and finite, got " + text_of(t) + hint);
}

void check_where(const TensorView* where) {
    if (where && where->dtype != DType::boolean) fail("where must be an array of bool");
}

void check_classes(const TensorView& x, int axis, const char* name) {
    if (x.shape[axis] > 0) return;
    fail(std::string(name) + " of shape " + to_string(x.shape) + " has no classes: axis " + digits_of(axis) +
         " has length 0");
}

void check_target_shape(const TensorView& x, const TensorView& target, int axis, const char* name) {
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

void check_weights(const TensorView* weight, int64_t classes, const TensorView* sample_weight,
                   std::span<const int64_t> row_shape) {
    if (weight && !(weight->ndim() == 1 && weight->shape[0] == classes)) {
        fail("weight must have shape (" + std::to_string(classes) + ",), one per class, got " +
             to_string(weight->shape));
    }
    if (sample_weight && !same_shape(sample_weight->shape, row_shape)) {
        fail("sample_weight must have shape " + to_string(row_shape) + ", got " +
             to_string(sample_weight->shape));
    }
}

int64_t check_labels(const TensorView& target, int64_t classes, std::optional<int64_t> ignore) {
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

double unit_slack(DType dtype, DType computed) {
    const auto unit = [](DType of) {
        switch (of) {
            case DType::bfloat16: return 0x1p-7;
            case DType::float16: return 0x1p-10;
            case DType::float32: return 0x1p-23;
            case DType::float64: return 0x1p-52;
            default: return 0.0;  // integers are exact
        }
    };
    return 4 * std::max(unit(dtype), unit(computed));
}

void fail_outside(const char* name, const TensorView& view, DType computed) {
    const UnitRange range(view.dtype, computed);
    std::string place = name;
    double value = 0;
    for_each_element(view.shape, view.strides, [&](int64_t i, int64_t offset) {
        value = element<double>(view, offset);
        if (range.holds(value)) return true;
        place += place_of(i, view.shape);
        return false;
    });
    fail(place + " = " + text_of(value) + " is outside [0, 1]");
}

void check_unit(const char* name, const TensorView& view, DType computed) {
    if (view.size() == 0) return;
    const Operand operands[] = {view.strides};
    const Plan plan = make_plan(view.shape, -1, operands);
    const double slack = unit_slack(view.dtype, computed);
    std::atomic<bool> bad{false};
    const auto check = [&]<class T>(T) {
        for_each_block(
            plan, kElements * sizeof(T), [&](int64_t, const Strides& at, int64_t n, void* scratch) {
                const T* const x = block_of(view, at[0], plan.element_stride[0], n, static_cast<T*>(scratch));
                if (active_table().compute<T>().outside_unit(x, n, static_cast<T>(slack))) bad = true;
            });
    };
    if (computed == DType::float64) check(double{});
    else check(float{});
    if (bad) fail_outside(name, view, computed);
}

void check_not_negative(const char* name, const TensorView* view) {
    if (!view) return;
    for_each_element(view->shape, view->strides, [&](int64_t i, int64_t offset) {
        const double value = element<double>(*view, offset);
        if (value < 0) fail(name + place_of(i, view->shape) + " = " + text_of(value) + " is negative");
        return true;
    });
}

void check_hard(const char* name, const TensorView& view) {
    if (view.size() == 0) return;
    const Operand operands[] = {view.strides};
    const Plan plan = make_plan(view.shape, -1, operands);
    std::atomic<bool> bad{false};
    const auto check = [&]<class T>(T) {
        for_each_block(
            plan, kElements * sizeof(T), [&](int64_t, const Strides& at, int64_t n, void* scratch) {
                const T* const x = block_of(view, at[0], plan.element_stride[0], n, static_cast<T*>(scratch));
                if (active_table().compute<T>().not_hard(x, n)) bad = true;
            });
    };
    // Elements of less than 4 bytes are exact in float, others might become 1 by rounding.
    if (size_of(view.dtype) >= 4 && view.dtype != DType::float32) check(double{});
    else check(float{});
    if (!bad) return;
    std::string message;
    for_each_element(view.shape, view.strides, [&](int64_t i, int64_t offset) {
        const double value = element<double>(view, offset);
        if (value == 0 || value == 1) return true;
        message = name + place_of(i, view.shape) + " = " + text_of(value) + " is neither 0 nor 1";
        return false;
    });
    fail(message);
}

void check_uniform(const char* name, const TensorView& view) {
    if (view.size() == 0) return;
    const Operand operands[] = {view.strides};
    const Plan plan = make_plan(view.shape, -1, operands);
    std::atomic<bool> bad{false};
    for_each_block(plan, kElements * sizeof(double),
                   [&](int64_t, const Strides& at, int64_t n, void* scratch) {
                       const double* const u =
                           block_of(view, at[0], plan.element_stride[0], n, static_cast<double*>(scratch));
                       bool inside = true;
                       for (int64_t i = 0; i < n; ++i) inside &= u[i] >= 0 && u[i] < 1;
                       if (!inside) bad = true;
                   });
    if (!bad) return;
    std::string message;
    for_each_element(view.shape, view.strides, [&](int64_t i, int64_t offset) {
        const double u = element<double>(view, offset);
        if (u >= 0 && u < 1) return true;
        message = name + place_of(i, view.shape) + " = " + text_of(u) + " is outside [0, 1)";
        return false;
    });
    fail(message);
}

void check_unit_at_labels(const char* name, const TensorView& x, int axis, const TensorView& target,
                          std::optional<int64_t> ignore) {
    const Dims step = without_axis(x.strides, axis);
    const UnitRange range(x.dtype, DType::float64);
    Dims row(step.size(), 0);  // index of the row: that of its label in target
    int64_t x_offset = 0;      // of the row in x
    const auto go_on = [&] {   // to the next row
        for (std::size_t d = row.size(); d-- > 0;) {
            x_offset += step[d];
            if (++row[d] < target.shape[d]) return;
            x_offset -= row[d] * step[d];
            row[d] = 0;
        }
    };
    for_each_element(target.shape, target.strides, [&](int64_t, int64_t offset) {
        int64_t label;
        load_labels(target, offset, 0, 1, ignore, &label);
        // check_labels reports bad labels.
        const bool counts = label != ignore && label >= 0 && label < x.shape[axis];
        const double value = counts ? element<double>(x, x_offset + label * x.strides[axis]) : 0;
        if (range.holds(value)) return go_on(), true;
        Dims place = row;
        place.insert(axis, label);
        const std::string text = to_string(place);
        fail(std::string(name) + "[" + text.substr(1, text.size() - 2 - (x.ndim() == 1)) +
             "] = " + text_of(value) + " is outside [0, 1]");
    });
}

void detail::check_count(const char* name, int64_t value, int64_t least, int64_t most) {
    if (value >= least && value <= most) return;
    fail(std::string(name) + " must be between " + digits_of(least) + " and " + digits_of(most) +
         " (the number of classes), got " + digits_of(value));
}

void detail::check_last_axis(int axis) {
    if (axis != -1 && axis != 1)
        fail("axis must be -1 or 1 (the last) for a range of rows, got " + digits_of(axis) +
             "; pass views for other axes");
}

int64_t detail::rows_of(const char* name, int64_t size, int64_t classes) {
    if (classes < 1 || size % classes != 0) {
        fail(std::string(name) + " of " + digits_of(size) + " elements is not a whole number of rows of " +
             digits_of(classes) + " classes");
    }
    return size / classes;
}

}  // namespace softloss
