// softmax, log_softmax and logsumexp of arrays: checks, plan, table look-up, parallel loop.
//
// Lives here: what the arguments of these functions mean. Must not: SIMD, OpenMP, NumPy.

#include "operands.hpp"

namespace softloss {
namespace {

/// Rows are staged where their results go, if the kernels can work there.
template <class T>
void transform_staged(const TensorView& x, const MutableTensorView& y, const TransformOptions& options,
                      const Plan& plan, RowKernel StorageKernels::* kernel, double masked) {
    const RowKernel run = active_table().of(dtype_of<T>).*kernel;
    const Staging<T> staging(x, options.where, plan);
    for_each_batch(
        plan, rows_per_task(plan), staging.bytes(!holds_rows<T>(y, plan, 1)),
        [&](const Strides& at, int64_t rows, void* scratch) {
            const OutputRows<T> output(y, plan, 1, staging.rows_in(Staging<T>::memory(scratch)));
            for (int64_t first = 0; first < rows; first += staging.rows) {
                const int64_t count = std::min(staging.rows, rows - first);
                const Strides here = row_at(at, plan, first);
                const RowsOut to = output.at(here);
                staging.read_rows(here, count, to);
                run({to.data, to.row, to.axis}, to, count, plan.n, {options.temperature, false, scratch});
                for (int64_t r = 0; r < count; ++r)
                    fill_masked(options.where, row_at(here, plan, r)[2], plan.axis[2], plan.n,
                                reinterpret_cast<T*>(to.data + r * to.row), static_cast<T>(masked));
                output.put(here, count);
            }
        });
}

void transform(const TensorView& x, const MutableTensorView& y, const TransformOptions& options,
               RowKernel StorageKernels::* kernel, double masked) {
    check_temperature(options.temperature);
    check_where(options.where);
    // A 0-d array is one row of one element.
    const int axis = x.ndim() == 0 && (options.axis == 0 || options.axis == -1)
                         ? 0
                         : normalize_axis(options.axis, x.ndim());
    check_output(x, y, "out", "x");
    check_separate({options.where}, y, "out", "x");
    if (checked_size(x.shape) == 0) return;
    const Dims where =
        options.where ? broadcast("where", options.where->shape, options.where->strides, x.shape) : Dims();
    const Operand operands[] = {x.strides, y.strides, where};
    const Plan plan = make_plan(x.shape, axis, operands);
    const bool adjacent = plan.axis[0] == size_of(x.dtype) && plan.axis[1] == size_of(x.dtype);
    const bool direct =
        x.dtype == y.dtype && !x.swapped && !y.swapped && !options.where && (adjacent || plan.n <= kMaxTile);
    if (!direct) {
        if (y.dtype == DType::float64) return transform_staged<double>(x, y, options, plan, kernel, masked);
        return transform_staged<float>(x, y, options, plan, kernel, masked);
    }
    const RowKernel run = active_table().of(x.dtype).*kernel;
    const bool stream = streams(y);
    const int64_t parts = parts_of_row(plan, x.dtype);
    for_each_batch(
        plan, rows_per_task(plan), kScratchBytes,
        [&](const Strides& at, int64_t rows, void* scratch) {
            run({static_cast<const char*>(x.data) + at[0], plan.row[0], plan.axis[0]},
                {static_cast<char*>(y.data) + at[1], plan.row[1], plan.axis[1]}, rows, plan.n,
                {options.temperature, stream, scratch, parts, run_parts});
        },
        parts);
}

// ---- logsumexp ------------------------------------------------------------------

/// log(sum(b exp(x))) of rows, a piece at a time; masked elements have b = 0.
class WeightedLogsumexp {
  public:
    static constexpr std::size_t kBytes = 4 * kPiece * sizeof(double);

    /// memory: kBytes.
    WeightedLogsumexp(const TensorView& x, const LogsumexpOptions& options, const Plan& plan, double* memory)
        : plan_(plan),
          where_(options.where),
          scores_(&x, plan.axis[0], memory),
          weights_(options.b, plan.axis[3], memory + kPiece),
          masked_(memory + 2 * kPiece),
          counted_(memory + 3 * kPiece) {}

    double operator()(const Strides& at) {
        const WeightedKernels& kernels = active_table().weighted;
        constexpr double kNone = -std::numeric_limits<double>::infinity();
        double m = kNone;
        for_each_piece(at, [&](const double* x, const double* b, int64_t n) {
            for (int64_t i = 0; i < n; ++i) counted_[i] = b[i] == 0 ? kNone : x[i];
            m = std::max(m, kernels.largest(counted_, n));
        });
        if (m == kNone) m = 0;
        Sum sum;
        for_each_piece(at, [&](const double* x, const double* b, int64_t n) {
            if (std::isfinite(m)) return add(sum, kernels.exp_sum(x, b, n, m));
            for (int64_t i = 0; i < n; ++i)  // the infinite terms alone
                sum.value += b[i] != 0 && !(x[i] < m) ? b[i] * x[i] : 0;
        });
        double s = total(sum);
        if (!(s >= 0)) return std::numeric_limits<double>::quiet_NaN();
        if (std::isinf(s)) return s;
        kernels.log(&s, &s, 1);
        return m + s;
    }

  private:
    template <class F>
    void for_each_piece(const Strides& at, F f) {
        for_each_piece_of_row(plan_.n, [&](int64_t first, int64_t n) {
            const double* const x = scores_.at(at[0] + first * plan_.axis[0], n);
            const double* const b = weights_.at(at[3] + first * plan_.axis[3], n);
            if (!where_) return f(x, b, n);
            std::copy(b, b + n, masked_);
            fill_masked(where_, at[2] + first * plan_.axis[2], plan_.axis[2], n, masked_, 0.0);
            f(x, masked_, n);
        });
    }

    const Plan& plan_;
    const TensorView* where_;
    Pieces<double> scores_, weights_;
    double *masked_, *counted_;
};

constexpr int64_t kRows = 1024;  ///< of a task whose results wait on the stack

/// logsumexp of a row that has no finite maximum or a NaN: a NaN wins, else the maximum is the result. piece: kPiece.
template <class T>
double infinite_logsumexp(const Staging<T>& staging, const Strides& at, T* piece) {
    double result = -std::numeric_limits<double>::infinity();
    for_each_piece_of_row(staging.plan.n, [&](int64_t first, int64_t n) {
        staging.read(at, first, n, piece);
        for (int64_t i = 0; i < n; ++i) {
            if (!(piece[i] <= result) && result == result) result = static_cast<double>(piece[i]);
        }
    });
    return result == result ? result : std::numeric_limits<double>::quiet_NaN();
}

/// How rows of x are read: all that their logsumexp without weights depends on.
template <class T>
struct PlainRows {
    const TensorView& x;
    const TensorView* where;
    const Plan& plan;
    Staging<T> staging;
    int64_t parts;

    /// The partition of the rows from the one at `at` on; `to` belongs to the first.
    void partition(const Strides& at, int64_t rows, void* scratch, const Partition& to) const {
        const auto from = [](void* p, int64_t first) { return p ? static_cast<T*>(p) + first : nullptr; };
        for_each_readable<T>(
            x, where, plan, at, rows, scratch,
            [&](const StorageKernels& kernels, RowsIn in, int64_t first, int64_t count) {
                const Partition here{from(to.maximum, first), from(to.log_rest, first), from(to.sum, first)};
                kernels.partition(in, count, plan.n, here, {1, false, scratch, parts, run_parts});
            });
    }
    double infinite(const Strides& at, int64_t row, void* scratch) const {
        return infinite_logsumexp(staging, row_at(at, plan, row), static_cast<T*>(scratch));
    }
};

/// Rows whose results are adjacent elements of T: the kernels leave them there.
template <class T>
void put_logsumexp(const PlainRows<T>& plain, const Strides& at, int64_t rows, void* scratch, char* y) {
    plain.partition(at, rows, scratch, {nullptr, nullptr, y});
    const auto is_nan = [&](int64_t r) {
        const T value = read<T>(y + r * sizeof(T), false);
        return value != value;
    };
    bool infinite = false;
    for (int64_t r = 0; r < rows; ++r) infinite |= is_nan(r);
    for (int64_t r = 0; infinite && r < rows; ++r) {
        if (is_nan(r)) write(y + r * sizeof(T), static_cast<T>(plain.infinite(at, r, scratch)), false);
    }
}

template <class T>
void plain_logsumexp(const PlainRows<T>& plain, const Strides& at, int64_t rows, void* scratch,
                     double* value) {
    T maximum[kRows], rest[kRows];
    plain.partition(at, rows, scratch, {maximum, rest, nullptr});
    for (int64_t r = 0; r < rows; ++r) {
        const bool infinite = rest[r] != rest[r];
        value[r] = infinite ? plain.infinite(at, r, scratch)
                            : static_cast<double>(maximum[r]) + static_cast<double>(rest[r]);
    }
}

template <class T>
void logsumexp_as(const TensorView& x, const MutableTensorView& y, const LogsumexpOptions& options,
                  const Plan& plan) {
    const bool readable = is_readable<T>(x, options.where, plan);
    const int64_t parts = readable && !options.b ? parts_of_row(plan, x.dtype) : 1;
    const PlainRows<T> plain{x, options.where, plan, Staging<T>(x, options.where, plan), parts};
    const std::size_t bytes = options.b ? WeightedLogsumexp::kBytes : plain.staging.bytes(!readable);
    const bool in_place =
        !options.b && y.dtype == dtype_of<T> && !y.swapped && plan.row[1] == int64_t{sizeof(T)};
    const int64_t task_rows = rows_per_task(plan);
    for_each_batch(
        plan, in_place ? task_rows : std::min(task_rows, kRows), bytes,
        [&](const Strides& at, int64_t rows, void* scratch) {
            char* const to = static_cast<char*>(y.data) + at[1];
            if (in_place) return put_logsumexp(plain, at, rows, scratch, to);
            double value[kRows];
            if (options.b) {
                WeightedLogsumexp weighted(x, options, plan, static_cast<double*>(scratch));
                for (int64_t r = 0; r < rows; ++r) value[r] = weighted(row_at(at, plan, r));
            } else {
                plain_logsumexp(plain, at, rows, scratch, value);
            }
            scatter(value, rows, to, plan.row[1], y.dtype, y.swapped);
        },
        parts);
}

/// dx from y and dy, row by row, in T.
template <class T>
void backward(const TensorView& y, const TensorView& dy, const MutableTensorView& dx, const Plan& plan,
              BackwardKernel<T> ComputeKernels<T>::* kernel) {
    const BackwardKernel<T> run = active_table().compute<T>().*kernel;
    const int64_t n = plan.n;
    const Staging<T> staging(y, nullptr, plan);
    // The second row is for results, and for dy where dx has no room.
    const bool second = !holds_rows<T>(dx, plan, 2) || (dx.data == y.data && !holds_rows<T>(dy, plan, 1));
    for_each_batch(plan, rows_per_task(plan), staging.bytes(second ? 2 : !holds_rows<T>(y, plan, 0)),
                   [&](const Strides& at, int64_t rows, void* scratch) {
                       T* const buffer = Staging<T>::memory(scratch);
                       const RowsOut memory{reinterpret_cast<char*>(buffer + n), 0, sizeof(T)};
                       const OutputRows<T> output(dx, plan, 2, memory);
                       for (int64_t r = 0; r < rows; ++r) {
                           const Strides here = row_at(at, plan, r);
                           T* const to = reinterpret_cast<T*>(output.at(here).data);
                           const T* const a = block_of(y, here[0], plan.axis[0], n, buffer);
                           // dx has room for dy, unless it is y.
                           const T* const b =
                               block_of(dy, here[1], plan.axis[1], n, a == to ? buffer + n : to);
                           run(a, b, to, n);
                           output.put(here, 1);
                       }
                   });
}

void backward(const TensorView& y, const TensorView& dy, const MutableTensorView& dx, int axis_,
              const char* name, BackwardKernel<float> ComputeKernels<float>::* f32,
              BackwardKernel<double> ComputeKernels<double>::* f64) {
    if (!same_shape(y.shape, dy.shape))
        fail("dy has shape " + to_string(dy.shape) + ", but " + name + " has shape " + to_string(y.shape));
    const int axis = y.ndim() == 0 && (axis_ == 0 || axis_ == -1) ? 0 : normalize_axis(axis_, y.ndim());
    check_output(dy, dx, "out", "dy");
    check_overlap(y, dx, name);
    if (checked_size(y.shape) == 0) return;
    const Operand operands[] = {y.strides, dy.strides, dx.strides};
    const Plan plan = make_plan(y.shape, axis, operands);
    if (dx.dtype == DType::float64) backward<double>(y, dy, dx, plan, f64);
    else backward<float>(y, dy, dx, plan, f32);
}

}  // namespace

void softmax(const TensorView& x, const MutableTensorView& y, const TransformOptions& options) {
    transform(x, y, options, &StorageKernels::softmax, 0);
}

void log_softmax(const TensorView& x, const MutableTensorView& y, const TransformOptions& options) {
    transform(x, y, options, &StorageKernels::log_softmax, -std::numeric_limits<double>::infinity());
}

void logsumexp(const TensorView& x, const MutableTensorView& y, const LogsumexpOptions& options) {
    checked_size(x.shape);
    const bool scalar = x.ndim() == 0 && (options.axis == 0 || options.axis == -1);
    const int axis = scalar ? 0 : normalize_axis(options.axis, x.ndim());
    const Dims rest = scalar ? Dims{} : without_axis(x.shape, axis);
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
    if (overlaps(x, y)) fail("out overlaps x");
    check_distinct(y, "out");
    check_separate({options.where, options.b}, y, "out", "x");
    const auto optional = [&](const char* name, const TensorView* view) {
        return view ? broadcast(name, view->shape, view->strides, x.shape) : Dims();
    };
    const Dims where = optional("where", options.where), b = optional("b", options.b);
    const Operand operands[] = {x.strides, {y.strides, true}, where, b};
    const Plan plan = make_plan(x.shape, axis, operands);
    if (y.dtype == DType::float64) logsumexp_as<double>(x, y, options, plan);
    else logsumexp_as<float>(x, y, options, plan);
}

void softmax_backward(const TensorView& y, const TensorView& dy, const MutableTensorView& dx, int axis) {
    backward(y, dy, dx, axis, "y", &ComputeKernels<float>::softmax_backward,
             &ComputeKernels<double>::softmax_backward);
}
void log_softmax_backward(const TensorView& y, const TensorView& dy, const MutableTensorView& dx, int axis) {
    backward(y, dy, dx, axis, "logy", &ComputeKernels<float>::log_softmax_backward,
             &ComputeKernels<double>::log_softmax_backward);
}

}  // namespace softloss
