// The public functions: checks, plan, table look-up, parallel loop; one short function per operation.
//
// Lives here: what arguments mean, staging of elements that the kernels do not read (other byte order, integers, masks),
// reductions over rows. Must not: SIMD, OpenMP, NumPy.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

#include "dispatch.hpp"
#include "parallel.hpp"
#include "plan.hpp"
#include "softloss/softloss.hpp"

namespace softloss {
namespace {

using std::int64_t;

[[noreturn]] void fail(const std::string& message) {
    throw std::invalid_argument(message);
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

/// n elements at p, `stride` bytes apart, converted to T.
template <class T>
void gather(const char* p, int64_t stride, int64_t n, DType dtype, bool swapped, T* out) {
    visit(dtype, [&]<class U>(U) {
        if constexpr (is_half<U>) {
            U raw[kBuffer];
            float wide[kBuffer];
            for (int64_t done = 0; done < n; done += kBuffer) {
                const int64_t m = std::min(kBuffer, n - done);
                for (int64_t i = 0; i < m; ++i) raw[i] = read<U>(p + (done + i) * stride, swapped);
                active_table().of(dtype).widen(raw, wide, m);
                std::copy(wide, wide + m, out + done);
            }
        } else if (dtype_of<U> == dtype_of<T> && stride == sizeof(T) && !swapped) {
            std::memcpy(out, p, sizeof(T) * n);
        } else {
            for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(read<U>(p + i * stride, swapped));
        }
    });
}

/// The opposite; dtype is a floating one.
template <class T>
void scatter(const T* in, int64_t n, char* p, int64_t stride, DType dtype, bool swapped) {
    visit(dtype, [&]<class U>(U) {
        if constexpr (is_half<U>) {
            U raw[kBuffer];
            float wide[kBuffer];
            for (int64_t done = 0; done < n; done += kBuffer) {
                const int64_t m = std::min(kBuffer, n - done);
                for (int64_t i = 0; i < m; ++i) wide[i] = static_cast<float>(in[done + i]);
                active_table().of(dtype).narrow(wide, raw, m);
                for (int64_t i = 0; i < m; ++i) write(p + (done + i) * stride, raw[i], swapped);
            }
        } else {
            for (int64_t i = 0; i < n; ++i) write(p + i * stride, static_cast<U>(in[i]), swapped);
        }
    });
}

template <class T>
T element(const TensorView& view, int64_t offset) {
    T value;
    gather(static_cast<const char*>(view.data) + offset, 0, 1, view.dtype, view.swapped, &value);
    return value;
}
int64_t label_at(const TensorView& target, int64_t offset) {
    const char* const p = static_cast<const char*>(target.data) + offset;
    return visit(target.dtype, [&]<class U>(U) -> int64_t {
        if constexpr (std::is_integral_v<U>) {
            const U value = read<U>(p, target.swapped);
            if constexpr (std::is_same_v<U, std::uint64_t>) {
                return value > INT64_MAX ? INT64_MAX : static_cast<int64_t>(value);
            }
            return static_cast<int64_t>(value);
        } else {
            return 0;
        }
    });
}

// ---- checks -----------------------------------------------------------------------------------------------------------

std::vector<int64_t> strides_of(const auto& view) {
    return {view.strides.begin(), view.strides.end()};
}
bool same_shape(std::span<const int64_t> a, std::span<const int64_t> b) {
    return std::ranges::equal(a, b);
}
std::vector<int64_t> without_axis(std::span<const int64_t> shape, int axis) {
    std::vector<int64_t> rest(shape.begin(), shape.end());
    rest.erase(rest.begin() + axis);
    return rest;
}
/// The strides of an array that lacks the axis, as if it had it, with stride 0.
std::vector<int64_t> with_axis(std::vector<int64_t> strides, int axis) {
    strides.insert(strides.begin() + axis, 0);
    return strides;
}

struct Extent {
    const char *first, *last;
};
Extent extent_of(const auto& view) {
    const char* first = static_cast<const char*>(static_cast<const void*>(view.data));
    const char* last = first + size_of(view.dtype);
    for (int d = 0; d < view.ndim(); ++d) {
        const int64_t span = (view.shape[d] - 1) * view.strides[d];
        (span < 0 ? first : last) += span;
    }
    return {first, last};
}
/// out may be x itself; any other overlap would read what was already written.
void check_overlap(const TensorView& x, const MutableTensorView& out, const char* name) {
    const Extent a = extent_of(x), b = extent_of(out);
    if (a.first >= b.last || b.first >= a.last) return;
    const bool same = x.data == out.data && x.dtype == out.dtype && x.swapped == out.swapped &&
                      std::ranges::equal(x.strides, out.strides) && same_shape(x.shape, out.shape);
    if (!same)
        fail(std::string("out overlaps ") + name + " in part; it must be " + name +
             " itself or memory of its own");
}

void check_temperature(double t) {
    if (!(t > 0 && std::isfinite(t) && std::isfinite(static_cast<float>(1 / t)) &&
          static_cast<float>(1 / t) > 0)) {
        fail("temperature must be positive and finite, got " + std::to_string(t));
    }
}
void check_where(const TensorView* where) {
    if (where && where->dtype != DType::boolean) fail("where must be an array of bool");
}

std::string place_of(int64_t index, std::span<const int64_t> shape) {
    std::string text;
    for (std::size_t d = shape.size(); d-- > 0;) {
        const std::string here = std::to_string(index % shape[d]);
        text = text.empty() ? here : here + ", " + text;
        index /= shape[d];
    }
    return shape.empty() ? "" : "[" + text + "]";
}

/// Calls f(linear index, byte offset) over an array in C order until it returns false.
template <class F>
void for_each_element(std::span<const int64_t> shape, std::span<const int64_t> strides, F f) {
    const int64_t size = checked_size(shape);
    std::vector<int64_t> at(shape.size(), 0);
    int64_t offset = 0;
    for (int64_t i = 0; i < size; ++i) {
        if (!f(i, offset)) return;
        for (std::size_t d = shape.size(); d-- > 0;) {
            offset += strides[d];
            if (++at[d] < shape[d]) break;
            offset -= at[d] * strides[d];
            at[d] = 0;
        }
    }
}

// ---- batches of rows ---------------------------------------------------------------------------------------------------

/// Rows of one task: enough work to be worth a thread's while, whole tiles.
int64_t rows_per_task(const Plan& plan) {
    const int64_t rows = (65536 + plan.n - 1) / plan.n;
    return rows < 16 && plan.n >= 4096 ? rows : (rows + 63) / 64 * 64;
}

/// Calls body(offsets of the first row, rows, scratch) for all rows of the plan.
template <class Body>
void for_each_batch(const Plan& plan, int64_t rows_per_task, std::size_t scratch_bytes, Body body) {
    const int64_t pieces = (plan.rows + rows_per_task - 1) / rows_per_task;
    parallel_for(plan.batches * pieces, plan.size(), scratch_bytes, [&](int64_t task, void* scratch) {
        const int64_t first = task % pieces * rows_per_task;
        Strides at = plan.offset(task / pieces);
        for (int k = 0; k < kMaxOperands; ++k) at[k] += first * plan.row[k];
        body(at, std::min(rows_per_task, plan.rows - first), scratch);
    });
}

/// Staged rows: converted to T, masked elements -inf, adjacent.
template <class T>
struct Staging {
    const TensorView& x;
    const TensorView* where;
    const Plan& plan;
    int64_t rows;  ///< per stage
    std::size_t bytes;

    Staging(const TensorView& x_, const TensorView* where_, const Plan& plan_)
        : x(x_),
          where(where_),
          plan(plan_),
          rows(std::clamp<int64_t>(4096 / plan_.n, 1, 64)),
          bytes(kScratchBytes + rows * plan_.n * sizeof(T)) {}

    static T* memory(void* scratch) {
        return reinterpret_cast<T*>(static_cast<char*>(scratch) + kScratchBytes);
    }

    /// Reads one row; operand 0 is x, operand 2 where.
    void read_row(const Strides& at, T* row) const {
        gather(static_cast<const char*>(x.data) + at[0], plan.axis[0], plan.n, x.dtype, x.swapped, row);
        fill_masked(at, row, -std::numeric_limits<T>::infinity());
    }
    void fill_masked(const Strides& at, T* row, T value) const {
        if (!where) return;
        const char* const mask = static_cast<const char*>(where->data) + at[2];
        for (int64_t i = 0; i < plan.n; ++i) {
            if (!mask[i * plan.axis[2]]) row[i] = value;
        }
    }
};

Strides row_at(Strides at, const Plan& plan, int64_t row) {
    for (int k = 0; k < kMaxOperands; ++k) at[k] += row * plan.row[k];
    return at;
}

template <class T>
void transform_staged(const TensorView& x, const MutableTensorView& y, const TransformOptions& options,
                      const Plan& plan, RowKernel StorageKernels::* kernel, double masked) {
    const RowKernel run = active_table().of(dtype_of<T>).*kernel;
    const Staging<T> staging(x, options.where, plan);
    const int64_t pitch = plan.n * static_cast<int64_t>(sizeof(T));
    for_each_batch(plan, rows_per_task(plan), staging.bytes,
                   [&](const Strides& at, int64_t rows, void* scratch) {
                       T* const memory = Staging<T>::memory(scratch);
                       for (int64_t first = 0; first < rows; first += staging.rows) {
                           const int64_t here = std::min(staging.rows, rows - first);
                           for (int64_t r = 0; r < here; ++r) {
                               staging.read_row(row_at(at, plan, first + r), memory + r * plan.n);
                           }
                           char* const data = reinterpret_cast<char*>(memory);
                           run({data, pitch, sizeof(T)}, {data, pitch, sizeof(T)}, here, plan.n,
                               options.temperature, scratch);
                           for (int64_t r = 0; r < here; ++r) {
                               T* const row = memory + r * plan.n;
                               const Strides to = row_at(at, plan, first + r);
                               staging.fill_masked(to, row, static_cast<T>(masked));
                               scatter(row, plan.n, static_cast<char*>(y.data) + to[1], plan.axis[1], y.dtype,
                                       y.swapped);
                           }
                       }
                   });
}

void transform(const TensorView& x, const MutableTensorView& y, const TransformOptions& options,
               RowKernel StorageKernels::* kernel, double masked) {
    if (!same_shape(x.shape, y.shape)) {
        fail("out has shape " + to_string(y.shape) + ", but x has shape " + to_string(x.shape));
    }
    if (!is_floating(y.dtype)) fail("out must be an array of floats");
    check_temperature(options.temperature);
    check_where(options.where);
    // A 0-d array is one row of one element.
    const int axis = x.ndim() == 0 && (options.axis == 0 || options.axis == -1)
                         ? 0
                         : normalize_axis(options.axis, x.ndim());
    if (checked_size(x.shape) == 0) return;
    check_overlap(x, y, "x");
    std::vector<std::vector<int64_t>> operands{strides_of(x), strides_of(y)};
    if (options.where)
        operands.push_back(broadcast("where", options.where->shape, options.where->strides, x.shape));
    const Plan plan = make_plan(x.shape, axis, operands);
    const bool direct = x.dtype == y.dtype && !x.swapped && !y.swapped && !options.where;
    if (!direct) {
        if (y.dtype == DType::float64) return transform_staged<double>(x, y, options, plan, kernel, masked);
        return transform_staged<float>(x, y, options, plan, kernel, masked);
    }
    const RowKernel run = active_table().of(x.dtype).*kernel;
    for_each_batch(plan, rows_per_task(plan), kScratchBytes,
                   [&](const Strides& at, int64_t rows, void* scratch) {
                       run({static_cast<const char*>(x.data) + at[0], plan.row[0], plan.axis[0]},
                           {static_cast<char*>(y.data) + at[1], plan.row[1], plan.axis[1]}, rows, plan.n,
                           options.temperature, scratch);
                   });
}

// ---- logsumexp ------------------------------------------------------------------------------------------------------------

/// The log-partition of `rows` rows that start at `at`, by kernel or through staging.
template <class T>
void partition(const TensorView& x, const TensorView* where, const Plan& plan, const Strides& at,
               int64_t rows, double temperature, double* maximum, double* rest, void* scratch) {
    const KernelTable& table = active_table();
    const bool direct =
        !where && !x.swapped && is_floating(x.dtype) && (x.dtype == DType::float64) == (sizeof(T) == 8);
    if (direct) {
        return table.of(x.dtype).partition(
            {static_cast<const char*>(x.data) + at[0], plan.row[0], plan.axis[0]}, rows, plan.n, temperature,
            maximum, rest, scratch);
    }
    const Staging<T> staging(x, where, plan);
    T* const memory = Staging<T>::memory(scratch);
    for (int64_t first = 0; first < rows; first += staging.rows) {
        const int64_t here = std::min(staging.rows, rows - first);
        for (int64_t r = 0; r < here; ++r) staging.read_row(row_at(at, plan, first + r), memory + r * plan.n);
        table.of(dtype_of<T>)
            .partition({reinterpret_cast<char*>(memory), plan.n * int64_t{sizeof(T)}, sizeof(T)}, here,
                       plan.n, temperature, maximum + first, rest + first, scratch);
    }
}

/// log(sum(b exp(x))) of one staged row.
double weighted_logsumexp(const double* x, double* b, int64_t n) {
    double m = -std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < n; ++i) {
        if (b[i] != 0) m = std::max(m, x[i]);
    }
    if (std::isinf(m) && m < 0) m = 0;
    double s = 0;
    if (std::isfinite(m)) {
        s = active_table().weighted.exp_sum(x, b, n, m);
    } else {
        for (int64_t i = 0; i < n; ++i)
            s += b[i] != 0 && !(x[i] < m) ? b[i] * x[i] : 0;  // the infinite terms alone
    }
    if (!(s >= 0)) return std::numeric_limits<double>::quiet_NaN();
    if (std::isinf(s)) return s;
    active_table().weighted.log(&s, &s, 1);
    return m + s;
}

template <class T>
void logsumexp_as(const TensorView& x, const MutableTensorView& y, const LogsumexpOptions& options,
                  const Plan& plan) {
    const Staging<T> staging(x, options.where, plan);
    const std::size_t row_bytes = plan.n * sizeof(double);
    const std::size_t bytes = staging.bytes + (options.b ? 2 * row_bytes : 0);
    for_each_batch(plan, std::min<int64_t>(rows_per_task(plan), 1024), bytes,
                   [&](const Strides& at, int64_t rows, void* scratch) {
                       double maximum[1024], rest[1024];
                       if (!options.b)
                           partition<T>(x, options.where, plan, at, rows, 1, maximum, rest, scratch);
                       for (int64_t r = 0; r < rows; ++r) {
                           const Strides here = row_at(at, plan, r);
                           double value = maximum[r] + rest[r];
                           if (options.b) {
                               double* const xs = reinterpret_cast<double*>(static_cast<char*>(scratch) +
                                                                            (staging.bytes + 7) / 8 * 8);
                               T* const row = Staging<T>::memory(scratch);
                               staging.read_row(here, row);
                               std::copy(row, row + plan.n, xs);
                               gather(static_cast<const char*>(options.b->data) + here[3], plan.axis[3],
                                      plan.n, options.b->dtype, options.b->swapped, xs + plan.n);
                               value = weighted_logsumexp(xs, xs + plan.n, plan.n);
                           } else if (value != value) {
                               // Infinite maximum or NaN: a NaN wins, else the maximum is the result.
                               T* const row = Staging<T>::memory(scratch);
                               staging.read_row(here, row);
                               value = *std::max_element(row, row + plan.n);
                               for (int64_t i = 0; i < plan.n; ++i) {
                                   if (row[i] != row[i]) value = std::numeric_limits<double>::quiet_NaN();
                               }
                           }
                           scatter(&value, 1, static_cast<char*>(y.data) + here[1], 0, y.dtype, y.swapped);
                       }
                   });
}

// ---- losses over classes -----------------------------------------------------------------------------------------------------

enum class Scores { logits, log_probs, probs };

/// Weighted losses of all rows in C order, and what they count for in the mean.
struct RowLosses {
    std::vector<double> loss, norm;
    int64_t counted = 0;
};

/// Targets are class indices (one for each row) or class probabilities; both as operands of the plan.
struct ClassLoss {
    Scores kind;
    const TensorView& x;
    const TensorView& target;
    const ClassLossOptions& options;
    int axis;
    Plan plan;  ///< operands: x, losses (double), where (unused), target, sample_weight
    std::vector<double> weight;

    bool indices() const { return !is_floating(target.dtype); }
    bool ignored(int64_t label) const { return options.ignore_index && label == *options.ignore_index; }
};

void check_labels(const TensorView& target, int64_t classes, const ClassLossOptions& options) {
    int64_t bad = 0, first = 0, first_label = 0;
    int64_t first_offset = 0;
    for_each_element(target.shape, target.strides, [&](int64_t i, int64_t offset) {
        const int64_t label = label_at(target, offset);
        if ((label < 0 || label >= classes) && !(options.ignore_index && label == *options.ignore_index)) {
            if (bad++ == 0) {
                first = i;
                first_label = label;
                first_offset = offset;
            }
        }
        return true;
    });
    if (bad == 0) return;
    const std::string range = "0.." + std::to_string(classes - 1);
    throw std::out_of_range(
        "target" + place_of(first, target.shape) + " = " +
        (target.dtype == DType::uint64
             ? std::to_string(
                   read<std::uint64_t>(static_cast<const char*>(target.data) + first_offset, target.swapped))
             : std::to_string(first_label)) +
        " is out of range for axis of " + std::to_string(classes) + " classes (" + std::to_string(bad) +
        " bad label" + (bad == 1 ? "" : "s") + " in all); valid are " + range +
        (options.ignore_index ? " or ignore_index=" + std::to_string(*options.ignore_index) : ""));
}

/// The weights q of one row: soft targets, smoothing and class weights in one distribution (not normalised).
void fill_weights(const ClassLoss& c, const Strides& at, int64_t label, double* q) {
    const int64_t n = c.plan.n;
    const double smoothing = c.options.label_smoothing, uniform = smoothing / static_cast<double>(n);
    if (c.indices()) {
        std::fill(q, q + n, uniform);
        q[label] += 1 - smoothing;
    } else {
        gather(static_cast<const char*>(c.target.data) + at[3], c.plan.axis[3], n, c.target.dtype,
               c.target.swapped, q);
        if (smoothing != 0) {
            for (int64_t i = 0; i < n; ++i) q[i] = (1 - smoothing) * q[i] + uniform;
        }
    }
    for (int64_t i = 0; i < n && !c.weight.empty(); ++i) q[i] *= c.weight[i];
}

/// loss = sum of q (logsumexp(x) - x), by class.
template <class T>
double soft_loss(const ClassLoss& c, const Strides& at, int64_t label, double maximum, double rest,
                 double* memory, std::atomic<bool>& bad) {
    const int64_t n = c.plan.n;
    const KernelTable& table = active_table();
    T* const row = reinterpret_cast<T*>(memory);
    gather(static_cast<const char*>(c.x.data) + at[0], c.plan.axis[0], n, c.x.dtype, c.x.swapped, row);
    if constexpr (sizeof(T) == 4) {
        for (int64_t i = n; i-- > 0;) {  // widened in place, from the end
            float value;
            std::memcpy(&value, reinterpret_cast<char*>(memory) + i * sizeof(float), sizeof value);
            const double wide = value;
            std::memcpy(reinterpret_cast<char*>(memory) + i * sizeof(double), &wide, sizeof wide);
        }
    }
    double* const q = memory + n;
    fill_weights(c, at, label, q);
    if (c.kind == Scores::probs) {
        for (int64_t i = 0; i < n; ++i) bad = bad || memory[i] < 0 || memory[i] > 1;
        return table.weighted.surprisal(memory, q, n);
    }
    if (c.kind == Scores::log_probs) return table.weighted.gap(memory, q, n, 0);
    return table.weighted.gap(memory, q, n, maximum) / c.options.temperature + rest * table.f64.sum(q, n);
}

/// Names the first probability outside [0, 1].
[[noreturn]] void fail_outside(const char* name, const TensorView& view) {
    std::string place = name;
    double value = 0;
    for_each_element(view.shape, view.strides, [&](int64_t i, int64_t offset) {
        value = element<double>(view, offset);
        if (!(value < 0 || value > 1)) return true;
        place += place_of(i, view.shape);
        return false;
    });
    fail(place + " = " + std::to_string(value) + " lies outside [0, 1]");
}

template <class T>
void row_losses(const ClassLoss& c, RowLosses& result) {
    const bool soft = !c.indices() || c.options.label_smoothing != 0;
    const Staging<T> staging(c.x, nullptr, c.plan);
    const std::size_t soft_offset = (staging.bytes + 63) / 64 * 64;
    const std::size_t bytes = soft_offset + (soft ? 2 * c.plan.n * sizeof(double) : 0);
    std::atomic<int64_t> counted{0};
    std::atomic<bool> bad{false};
    for_each_batch(
        c.plan, std::min<int64_t>(rows_per_task(c.plan), 1024), bytes,
        [&](const Strides& at, int64_t rows, void* scratch) {
            double maximum[1024], rest[1024], value[1024];
            if (c.kind == Scores::logits) {
                partition<T>(c.x, nullptr, c.plan, at, rows, c.options.temperature, maximum, rest, scratch);
            }
            if (!soft) {
                for (int64_t r = 0; r < rows; ++r) {
                    const Strides here = row_at(at, c.plan, r);
                    const int64_t label = label_at(c.target, here[3]);
                    value[r] = c.ignored(label) ? 1 : element<T>(c.x, here[0] + label * c.plan.axis[0]);
                }
                if (c.kind == Scores::probs) {
                    if (active_table().f64.outside_unit(value, rows)) bad = true;
                    active_table().weighted.log(value, value, rows);
                }
            }
            int64_t count = 0;
            for (int64_t r = 0; r < rows; ++r) {
                const Strides here = row_at(at, c.plan, r);
                const int64_t label = c.indices() ? label_at(c.target, here[3]) : 0;
                const int64_t index = here[1] / static_cast<int64_t>(sizeof(double));
                if (c.indices() && c.ignored(label)) continue;
                ++count;
                double loss = -value[r], norm = 1;
                if (soft) {
                    double* const memory =
                        reinterpret_cast<double*>(static_cast<char*>(scratch) + soft_offset);
                    loss = soft_loss<T>(c, here, label, maximum[r], rest[r], memory, bad);
                } else if (c.kind == Scores::logits) {
                    loss = (maximum[r] - value[r]) / c.options.temperature + rest[r];
                }
                if (c.indices() && !c.weight.empty()) norm = c.weight[label];
                double factor = soft ? 1 : norm;  // soft losses hold the class weights already
                if (c.options.sample_weight) {
                    const double s = element<double>(*c.options.sample_weight, here[4]);
                    norm *= s;
                    factor *= s;
                }
                result.loss[index] = factor == 0 ? 0 : factor * loss;
                if (!result.norm.empty()) result.norm[index] = norm;
            }
            counted += count;
        });
    if (bad) fail_outside("probs", c.x);
    result.counted = counted;
}

void check_target_shape(const TensorView& x, const TensorView& target, int axis, const char* name) {
    const std::vector<int64_t> rows = without_axis(x.shape, axis);
    const std::vector<int64_t> expected =
        is_floating(target.dtype) ? std::vector<int64_t>(x.shape.begin(), x.shape.end()) : rows;
    if (same_shape(target.shape, expected)) return;
    std::string hint;
    if (!is_floating(target.dtype) && x.ndim() > 2 && axis != 1 &&
        same_shape(target.shape, without_axis(x.shape, 1))) {
        hint = "; the shapes fit axis=1";
    }
    fail(std::string("target of ") + (is_floating(target.dtype) ? "class probabilities" : "class indices") +
         " must have shape " + to_string(expected) + " for " + name + " of shape " + to_string(x.shape) +
         " and axis " + std::to_string(axis) + ", got " + to_string(target.shape) + hint);
}

double reduce(const RowLosses& rows, Reduction reduction, double empty) {
    const auto sum = active_table().f64.sum;
    const double total = sum(rows.loss.data(), static_cast<int64_t>(rows.loss.size()));
    if (reduction == Reduction::sum) return total;
    const double norm = rows.norm.empty() ? static_cast<double>(rows.counted)
                                          : sum(rows.norm.data(), static_cast<int64_t>(rows.norm.size()));
    return rows.counted == 0 || norm == 0 ? empty : total / norm;
}

double class_loss(Scores kind, const char* name, const TensorView& x, const TensorView& target,
                  const ClassLossOptions& options, const MutableTensorView* losses) {
    if (x.ndim() == 0) fail(std::string(name) + " must have at least one dimension, the classes");
    const int axis = normalize_axis(options.axis, x.ndim());
    const int64_t classes = x.shape[axis];
    if (target.dtype == DType::boolean) fail("target must hold class indices or probabilities, got bool");
    check_target_shape(x, target, axis, name);
    if (!(options.label_smoothing >= 0 && options.label_smoothing <= 1)) {
        fail("label_smoothing must lie in [0, 1], got " + std::to_string(options.label_smoothing));
    }
    check_temperature(options.temperature);
    const std::vector<int64_t> row_shape = without_axis(x.shape, axis);
    const int64_t rows = checked_size(row_shape);
    if (options.weight && !(options.weight->ndim() == 1 && options.weight->shape[0] == classes)) {
        fail("weight must have shape (" + std::to_string(classes) + ",), one for each class, got " +
             to_string(options.weight->shape));
    }
    if (options.sample_weight && !same_shape(options.sample_weight->shape, row_shape)) {
        fail("sample_weight must have shape " + to_string(row_shape) + ", got " +
             to_string(options.sample_weight->shape));
    }
    if (losses && !same_shape(losses->shape, row_shape))
        fail("losses must have shape " + to_string(row_shape));
    if (classes == 0 && rows > 0)
        fail(std::string(name) + " of shape " + to_string(x.shape) + " has no classes: axis " +
             std::to_string(axis) + " has length 0");
    if (!is_floating(target.dtype)) check_labels(target, classes, options);

    RowLosses result;
    result.loss.assign(rows, 0);
    if (options.weight || options.sample_weight) result.norm.assign(rows, 0);
    if (rows > 0) {
        std::vector<std::vector<int64_t>> operands{
            strides_of(x), with_axis(contiguous_strides(row_shape, sizeof(double)), axis),
            std::vector<int64_t>(x.ndim(), 0)};
        operands.push_back(is_floating(target.dtype) ? strides_of(target)
                                                     : with_axis(strides_of(target), axis));
        if (options.sample_weight) operands.push_back(with_axis(strides_of(*options.sample_weight), axis));
        ClassLoss c{kind, x, target, options, axis, make_plan(x.shape, axis, operands), {}};
        if (options.weight) {
            c.weight.resize(classes);
            gather(static_cast<const char*>(options.weight->data), options.weight->strides[0], classes,
                   options.weight->dtype, options.weight->swapped, c.weight.data());
        }
        if (options.dtype == DType::float64) row_losses<double>(c, result);
        else row_losses<float>(c, result);
    }
    if (options.reduction != Reduction::none) return reduce(result, options.reduction, options.empty);
    if (!losses) fail("reduction none needs an array for the losses");
    for_each_element(losses->shape, losses->strides, [&](int64_t i, int64_t offset) {
        scatter(&result.loss[i], 1, static_cast<char*>(losses->data) + offset, 0, losses->dtype,
                losses->swapped);
        return true;
    });
    return std::numeric_limits<double>::quiet_NaN();
}

// ---- elementwise --------------------------------------------------------------------------------------------------------------

constexpr int64_t kElements = 4096;  ///< of one block

/// An operand of an elementwise block as adjacent elements of T: in place where possible, else through `buffer`.
template <class T>
const T* block_of(const TensorView& view, int64_t offset, int64_t stride, int64_t n, T* buffer) {
    const char* const p = static_cast<const char*>(view.data) + offset;
    const bool aligned = reinterpret_cast<std::uintptr_t>(p) % alignof(T) == 0;
    if (view.dtype == dtype_of<T> && !view.swapped && stride == sizeof(T) && aligned)
        return reinterpret_cast<const T*>(p);
    gather(p, stride, n, view.dtype, view.swapped, buffer);
    return buffer;
}

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

template <class T>
void map_staged(const TensorView& x, const MutableTensorView& y, const Plan& plan,
                MapKernel StorageKernels::* kernel) {
    const MapKernel run = active_table().of(dtype_of<T>).*kernel;
    for_each_block(plan, kElements * sizeof(T), [&](int64_t, const Strides& at, int64_t n, void* scratch) {
        T* const buffer = static_cast<T*>(scratch);
        run(block_of(x, at[0], plan.axis[0], n, buffer), buffer, n);
        scatter(buffer, n, static_cast<char*>(y.data) + at[1], plan.axis[1], y.dtype, y.swapped);
    });
}

void map(const TensorView& x, const MutableTensorView& y, MapKernel StorageKernels::* kernel) {
    if (!same_shape(x.shape, y.shape)) {
        fail("out has shape " + to_string(y.shape) + ", but x has shape " + to_string(x.shape));
    }
    if (!is_floating(y.dtype)) fail("out must be an array of floats");
    if (checked_size(x.shape) == 0) return;
    check_overlap(x, y, "x");
    const std::vector<int64_t> operands[] = {strides_of(x), strides_of(y)};
    const Plan plan = make_plan(x.shape, -1, operands);
    const int64_t item = size_of(x.dtype);
    if (x.dtype == y.dtype && !x.swapped && !y.swapped && plan.axis[0] == item && plan.axis[1] == item) {
        const MapKernel run = active_table().of(x.dtype).*kernel;
        for_each_block(plan, 0, [&](int64_t, const Strides& at, int64_t n, void*) {
            run(static_cast<const char*>(x.data) + at[0], static_cast<char*>(y.data) + at[1], n);
        });
    } else if (y.dtype == DType::float64) {
        map_staged<double>(x, y, plan, kernel);
    } else {
        map_staged<float>(x, y, plan, kernel);
    }
}

struct BinaryLoss {
    bool logits;
    const TensorView &x, &target;
    const BinaryLossOptions& options;
    const MutableTensorView* losses;
    Plan plan;  ///< operands: x, losses, target, weight, pos_weight
};

/// Sums of the blocks in index order; sets a flag for an operand outside [0, 1] instead of throwing across threads.
template <class T>
std::vector<double> binary_blocks(const BinaryLoss& b, std::atomic<bool>& bad_x,
                                  std::atomic<bool>& bad_target) {
    const auto& kernels = active_table().compute<T>();
    const Plan& plan = b.plan;
    std::vector<double> sums(plan.batches * ((plan.n + kElements - 1) / kElements));
    for_each_block(
        plan, 5 * kElements * sizeof(T), [&](int64_t block, const Strides& at, int64_t n, void* scratch) {
            T* const buffer = static_cast<T*>(scratch);
            const auto operand = [&](const TensorView* view, int k) -> const T* {
                return view ? block_of(*view, at[k], plan.axis[k], n, buffer + k * kElements) : nullptr;
            };
            const T* const x = operand(&b.x, 0);
            const T* const z = operand(&b.target, 2);
            const T* const weight = operand(b.options.weight, 3);
            T* const loss = buffer + kElements;
            if (kernels.outside_unit(z, n)) bad_target = true;
            if (b.logits) {
                kernels.bce_logits(x, z, weight, operand(b.options.pos_weight, 4), loss, n);
            } else {
                if (kernels.outside_unit(x, n)) bad_x = true;
                kernels.bce(x, z, weight, loss, n);
            }
            if (!b.losses) {
                sums[block] = kernels.sum(loss, n);
            } else if (!bad_x && !bad_target) {
                char* const to = static_cast<char*>(b.losses->data) + at[1];
                scatter(loss, n, to, plan.axis[1], b.losses->dtype, b.losses->swapped);
            }
        });
    return sums;
}

double binary_loss(bool logits, const TensorView& x, const TensorView& target,
                   const BinaryLossOptions& options, const MutableTensorView* losses) {
    std::vector<std::vector<int64_t>> operands{strides_of(x), std::vector<int64_t>(x.ndim(), 0),
                                               broadcast("target", target.shape, target.strides, x.shape)};
    if (losses) {
        if (!same_shape(losses->shape, x.shape)) fail("losses must have shape " + to_string(x.shape));
        operands[1] = strides_of(*losses);
    }
    const std::vector<int64_t> none(x.ndim(), 0);
    const auto optional = [&](const char* name, const TensorView* view) {
        operands.push_back(view ? broadcast(name, view->shape, view->strides, x.shape) : none);
    };
    optional("weight", options.weight);
    optional("pos_weight", options.pos_weight);
    if (options.reduction == Reduction::none && !losses) fail("reduction none needs an array for the losses");
    const int64_t size = checked_size(x.shape);
    std::vector<double> sums;
    if (size > 0) {
        const BinaryLoss b{logits,
                           x,
                           target,
                           options,
                           options.reduction == Reduction::none ? losses : nullptr,
                           make_plan(x.shape, -1, operands)};
        std::atomic<bool> bad_x{false}, bad_target{false};
        sums = options.dtype == DType::float64 ? binary_blocks<double>(b, bad_x, bad_target)
                                               : binary_blocks<float>(b, bad_x, bad_target);
        if (bad_x) fail_outside("probs", x);
        if (bad_target) fail_outside("target", target);
    }
    if (options.reduction == Reduction::none) return std::numeric_limits<double>::quiet_NaN();
    const double total = active_table().f64.sum(sums.data(), static_cast<int64_t>(sums.size()));
    if (options.reduction == Reduction::sum) return total;
    return size == 0 ? options.empty : total / static_cast<double>(size);
}

}  // namespace

void softmax(const TensorView& x, const MutableTensorView& y, const TransformOptions& options) {
    transform(x, y, options, &StorageKernels::softmax, 0);
}

void log_softmax(const TensorView& x, const MutableTensorView& y, const TransformOptions& options) {
    transform(x, y, options, &StorageKernels::log_softmax, -std::numeric_limits<double>::infinity());
}

void logsumexp(const TensorView& x, const MutableTensorView& y, const LogsumexpOptions& options) {
    const bool scalar = x.ndim() == 0 && (options.axis == 0 || options.axis == -1);
    const int axis = scalar ? 0 : normalize_axis(options.axis, x.ndim());
    const std::vector<int64_t> rest = scalar ? std::vector<int64_t>{} : without_axis(x.shape, axis);
    if (!same_shape(y.shape, rest)) {
        fail("out has shape " + to_string(y.shape) + ", but the result has shape " + to_string(rest));
    }
    if (!is_floating(y.dtype)) fail("out must be an array of floats");
    check_where(options.where);
    if (checked_size(rest) == 0) return;
    if (!scalar && x.shape[axis] == 0) {
        const double nothing = -std::numeric_limits<double>::infinity();
        for_each_element(y.shape, y.strides, [&](int64_t, int64_t offset) {
            scatter(&nothing, 1, static_cast<char*>(y.data) + offset, 0, y.dtype, y.swapped);
            return true;
        });
        return;
    }
    check_overlap(x, y, "x");
    const std::vector<int64_t> none(x.ndim(), 0);
    std::vector<std::vector<int64_t>> operands{strides_of(x), scalar ? none : with_axis(strides_of(y), axis)};
    const auto optional = [&](const char* name, const TensorView* view) {
        operands.push_back(view ? broadcast(name, view->shape, view->strides, x.shape) : none);
    };
    optional("where", options.where);
    optional("b", options.b);
    const Plan plan = make_plan(x.shape, axis, operands);
    if (y.dtype == DType::float64) logsumexp_as<double>(x, y, options, plan);
    else logsumexp_as<float>(x, y, options, plan);
}

void sigmoid(const TensorView& x, const MutableTensorView& y) {
    map(x, y, &StorageKernels::sigmoid);
}

void log_sigmoid(const TensorView& x, const MutableTensorView& y) {
    map(x, y, &StorageKernels::log_sigmoid);
}

double cross_entropy(const TensorView& logits, const TensorView& target, const ClassLossOptions& options,
                     const MutableTensorView* losses) {
    return class_loss(Scores::logits, "logits", logits, target, options, losses);
}

double nll_loss(const TensorView& log_probs, const TensorView& target, const ClassLossOptions& options,
                const MutableTensorView* losses) {
    return class_loss(Scores::log_probs, "log_probs", log_probs, target, options, losses);
}

double categorical_cross_entropy(const TensorView& probs, const TensorView& target,
                                 const ClassLossOptions& options, const MutableTensorView* losses) {
    return class_loss(Scores::probs, "probs", probs, target, options, losses);
}

double binary_cross_entropy(const TensorView& probs, const TensorView& target,
                            const BinaryLossOptions& options, const MutableTensorView* losses) {
    return binary_loss(false, probs, target, options, losses);
}

double binary_cross_entropy_with_logits(const TensorView& logits, const TensorView& target,
                                        const BinaryLossOptions& options, const MutableTensorView* losses) {
    return binary_loss(true, logits, target, options, losses);
}

}  // namespace softloss
