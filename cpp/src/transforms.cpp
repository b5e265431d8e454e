// softmax, log_softmax, logsumexp, log_normalize, softmax_entropy and backward functions of arrays: checks,
// plan, table look-up, parallel loop.
//
// Lives here: what the arguments of these functions mean. Must not: SIMD, OpenMP, NumPy.
//
// Each function has two ways. If the kernels can read and write the arrays in place, they take whole batches
// of rows. Otherwise rows are staged, some at a time (staging.hpp). Operands of the plans: 0 is the input, 1
// the output, 2 the mask and 3 the weights of logsumexp; y, dy and dx of the backward functions are 0, 1, 2.

#include "batches.hpp"
#include "checks.hpp"

namespace softloss {
namespace {

/// The index of the axis. A 0-d array is one row of one element, along axis 0 or -1.
int axis_or_scalar(const TensorView& x, int axis) {
    return x.ndim() == 0 && (axis == 0 || axis == -1) ? 0 : normalize_axis(axis, x.ndim());
}

/// An output of this shape and a floating dtype.
void check_result(const MutableTensorView& out, const char* name, std::span<const int64_t> shape) {
    if (!same_shape(out.shape, shape))
        fail(std::string(name) + " has shape " + to_string(out.shape) + ", but the result has shape " +
             to_string(shape));
    check_floats(out, name);
}

/// out = value.
void fill(const MutableTensorView& out, double value) {
    for_each_element(out.shape, out.strides, [&](int64_t, int64_t offset) {
        scatter(&value, 1, static_cast<char*>(out.data) + offset, 0, out.dtype, out.swapped);
        return true;
    });
}

/// A transform whose rows are staged: in the output if the kernels can work there, else in scratch memory.
/// masked: what masked elements become.
template <class T>
void transform_staged(const TensorView& x, const MutableTensorView& y, const TransformOptions& options,
                      const Plan& plan, RowKernel StorageKernels::* kernel, double masked) {
    const RowKernel run = active_table().of(dtype_of<T>).*kernel;
    const Staging<T> staging(x, options.where, plan);
    const bool nontemporal = wants_nontemporal(y);
    for_each_batch(plan, rows_per_task(plan), staging.bytes(!OutputRows<T>::takes_stage(y, plan, 1)),
                   [&](const Strides& at, int64_t rows, void* scratch) {
                       const OutputRows<T> output(y, plan, 1, staging.stage(scratch, 0), nontemporal);
                       for (int64_t first = 0; first < rows; first += staging.rows) {
                           const int64_t count = std::min(staging.rows, rows - first);
                           const Strides here = row_at(at, plan, first);
                           const RowsOut staged = output.stage(here), to = output.at(here);
                           staging.read_rows(here, count, staged);
                           run(in(staged), to, count, plan.n,
                               {options.temperature, output.nontemporal(), scratch});
                           staging.mask_results(here, count, to, static_cast<T>(masked));
                           output.put(here, count);
                       }
                   });
}

void transform(const TensorView& x_, const MutableTensorView& y_, const TransformOptions& given,
               RowKernel StorageKernels::* kernel, double masked) {
    const Input x_in("x", x_), where_in("where", given.where);
    const Output out("out", y_);
    const TensorView& x = *x_in;
    const MutableTensorView& y = *out;
    TransformOptions options = given;
    options.where = where_in.get();
    check_temperature(options.temperature);
    check_where(options.where);
    const int axis = axis_or_scalar(x, options.axis);
    check_like(x, "x", y, "out");
    check_memory({{"x", &x, &y}, {"where", options.where}}, {{"out", &y}});
    const Dims where =
        options.where ? broadcast("where", options.where->shape, options.where->strides, x.shape) : Dims();
    if (checked_size(x.shape) == 0) return;
    const Operand operands[] = {x.strides, y.strides, where};
    const Plan plan = make_plan(x.shape, axis, operands);
    const int64_t size = size_of(x.dtype);
    const bool direct = x.dtype == y.dtype && !x.swapped && !y.swapped && !options.where &&
                        is_dense(plan, 0, size) && is_dense(plan, 1, size);
    if (!direct) {
        if (y.dtype == DType::float64) return transform_staged<double>(x, y, options, plan, kernel, masked);
        return transform_staged<float>(x, y, options, plan, kernel, masked);
    }
    const RowKernel run = active_table().of(x.dtype).*kernel;
    const bool nontemporal = wants_nontemporal(y);
    const int64_t blocks = blocks_of_row(plan, x.dtype);
    for_each_batch(
        plan, rows_per_task(plan), kScratchBytes,
        [&](const Strides& at, int64_t rows, void* scratch) {
            run({static_cast<const char*>(x.data) + at[0], plan.row_stride[0], plan.element_stride[0]},
                {static_cast<char*>(y.data) + at[1], plan.row_stride[1], plan.element_stride[1]}, rows,
                plan.n, {options.temperature, nontemporal, scratch, blocks, run_blocks});
        },
        blocks);
}

// ---- logsumexp -------------------------------------------------------------------------------------------

/// logsumexp with weights b: log(sum(b exp(x))) of rows. Masked elements count as b = 0. Called as a
/// function, it computes a batch of rows.
template <class T>
class WeightedRows {
  public:
    WeightedRows(const TensorView& x, const LogsumexpOptions& options, const Plan& plan)
        : x_(x), b_(*options.b), plan_(plan), staging_(x, options.where, plan) {
        const bool same = b_.dtype == x.dtype && !b_.swapped;
        direct_ = same && is_readable<T>(x, options.where, plan) && is_dense(plan, 3, size_of(x.dtype));
    }
    std::size_t bytes() const { return staging_.bytes(direct_ ? 0 : 2); }
    void operator()(const Strides& at, int64_t rows, double* result, void* scratch) const {
        PairedRows batch{};
        batch.loss = result;
        if (direct_) {
            batch.x = {static_cast<const char*>(x_.data) + at[0], plan_.row_stride[0],
                       plan_.element_stride[0]};
            batch.second = {static_cast<const char*>(b_.data) + at[3], plan_.row_stride[3],
                            plan_.element_stride[3]};
            return active_table().of(x_.dtype).weighted_logsumexp(batch, rows, plan_.n, {1, false, scratch});
        }
        const RowsOut x = staging_.stage(scratch, 0), b = staging_.stage(scratch, 1);
        batch.x = in(x);
        batch.second = in(b);
        for (int64_t first = 0; first < rows; first += staging_.rows) {
            const int64_t count = std::min(staging_.rows, rows - first);
            const Strides here = row_at(at, plan_, first);
            staging_.read_rows(here, count, x);
            read_weights(here, count, b);
            batch.loss = result + first;
            active_table().of(dtype_of<T>).weighted_logsumexp(batch, count, plan_.n, {1, false, scratch});
        }
    }

  private:
    /// Stages the weights of `count` rows, the first at `at`; 0 where the mask is false.
    void read_weights(const Strides& at, int64_t count, const RowsOut& to) const {
        read_rows<T>(
            b_, {static_cast<const char*>(b_.data) + at[3], plan_.row_stride[3], plan_.element_stride[3]},
            count, plan_.n, to);
        staging_.fill_masked_rows(at, count, to, T(0));
    }

    const TensorView &x_, &b_;
    const Plan& plan_;
    Staging<T> staging_;
    bool direct_;
};

constexpr int64_t kRows = 1024;  ///< most rows of a task whose results are collected in LogsumexpRows

/// logsumexp of a row with a NaN or without a finite maximum: NaN if it has one, else its maximum. The
/// kernels give NaN for all such rows. piece: memory for kPiece elements.
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

/// logsumexp without weights: how the rows of x are read.
template <class T>
struct PlainRows {
    Staging<T> staging;
    int64_t blocks;

    /// Stores the partition (table.hpp) of `rows` rows, the first at `at`, from the start of the arrays in
    /// `to` on.
    void partition(const Strides& at, int64_t rows, void* scratch, const Partition& to) const {
        const auto from = [](void* p, int64_t first) { return p ? static_cast<T*>(p) + first : nullptr; };
        for_each_readable<T>(
            staging, at, rows, scratch,
            [&](const StorageKernels& kernels, RowsIn in, int64_t first, int64_t count) {
                const Partition here{from(to.maximum, first), from(to.log_rest, first), from(to.sum, first)};
                kernels.partition(in, count, staging.plan.n, here, {1, false, scratch, blocks, run_blocks});
            });
    }
    /// infinite_logsumexp of one row of a batch.
    double infinite(const Strides& at, int64_t row, void* scratch) const {
        return infinite_logsumexp(staging, row_at(at, staging.plan, row), static_cast<T*>(scratch));
    }
};

/// logsumexp of a batch whose results are adjacent elements of T: the kernels store them in place, at y.
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

/// The results of a task.
template <class T>
struct LogsumexpRows {
    double value[kRows];
    T sum[kRows];  ///< as the kernels leave them
};
/// logsumexp of a batch whose results are converted afterwards.
template <class T>
void plain_logsumexp(const PlainRows<T>& plain, const Strides& at, int64_t rows, void* scratch,
                     LogsumexpRows<T>& result) {
    plain.partition(at, rows, scratch, {nullptr, nullptr, result.sum});
    for (int64_t r = 0; r < rows; ++r) {
        const T sum = result.sum[r];
        result.value[r] = sum == sum ? static_cast<double>(sum) : plain.infinite(at, r, scratch);
    }
}

/// logsumexp of all rows, computed in T.
template <class T>
void logsumexp_as(const TensorView& x, const MutableTensorView& y, const LogsumexpOptions& options,
                  const Plan& plan) {
    const bool readable = is_readable<T>(x, options.where, plan);
    const int64_t blocks = readable && !options.b ? blocks_of_row(plan, x.dtype) : 1;
    const PlainRows<T> plain{Staging<T>(x, options.where, plan), blocks};
    const std::optional<WeightedRows<T>> weighted =
        options.b ? std::optional<WeightedRows<T>>(std::in_place, x, options, plan) : std::nullopt;
    const std::size_t bytes = weighted ? weighted->bytes() : plain.staging.bytes(!readable);
    const bool in_place =
        !options.b && y.dtype == dtype_of<T> && !y.swapped && plan.row_stride[1] == int64_t{sizeof(T)};
    const int64_t task_rows = rows_per_task(plan);
    for_each_batch_with<LogsumexpRows<T>>(
        plan, in_place ? task_rows : std::min(task_rows, kRows), bytes,
        [&](const Strides& at, int64_t rows, LogsumexpRows<T>& result, void* scratch) {
            char* const to = static_cast<char*>(y.data) + at[1];
            if (in_place) return put_logsumexp(plain, at, rows, scratch, to);
            if (weighted) (*weighted)(at, rows, result.value, scratch);
            else plain_logsumexp(plain, at, rows, scratch, result);
            scatter(result.value, rows, to, plan.row_stride[1], y.dtype, y.swapped);
        },
        blocks);
}

// ---- log_normalize, softmax_entropy ----------------------------------------------------------------------

/// One number for each row of a task.
template <class T>
struct RowNumbers {
    T value[kRows];
};
/// Writes one number for each row of a batch to an operand of the plan.
template <class T>
void put_rows(const MutableTensorView& out, const Plan& plan, const Strides& at, int operand, int64_t rows,
              const T* values) {
    scatter(values, rows, static_cast<char*>(out.data) + at[operand], plan.row_stride[operand], out.dtype,
            out.swapped);
}

/// Operands of the plan: x, y, sums.
template <class T>
void log_normalize_as(const TensorView& x, const MutableTensorView& y, const MutableTensorView& sums,
                      const Plan& plan) {
    const Staging<T> staging(x, nullptr, plan);
    const bool direct = x.dtype == y.dtype && !y.swapped && is_readable<T>(x, nullptr, plan) &&
                        is_dense(plan, 1, size_of(y.dtype));
    const bool nontemporal = wants_nontemporal(y);
    const int64_t blocks = direct ? blocks_of_row(plan, x.dtype) : 1;
    const auto batch = [&](const Strides& at, int64_t rows, RowNumbers<T>& sum, void* scratch) {
        if (direct) {
            active_table().of(x.dtype).log_normalize(
                {static_cast<const char*>(x.data) + at[0], plan.row_stride[0], plan.element_stride[0]},
                {static_cast<char*>(y.data) + at[1], plan.row_stride[1], plan.element_stride[1]}, rows,
                plan.n, sum.value, {1, nontemporal, scratch, blocks, run_blocks});
        } else {
            const OutputRows<T> output(y, plan, 1, staging.stage(scratch, 0), nontemporal);
            for (int64_t first = 0; first < rows; first += staging.rows) {
                const int64_t count = std::min(staging.rows, rows - first);
                const Strides here = row_at(at, plan, first);
                const RowsOut staged = output.stage(here);
                staging.read_rows(here, count, staged);
                active_table()
                    .of(dtype_of<T>)
                    .log_normalize(in(staged), output.at(here), count, plan.n, sum.value + first,
                                   {1, output.nontemporal(), scratch});
                output.put(here, count);
            }
        }
        put_rows(sums, plan, at, 2, rows, sum.value);
    };
    const bool stages = !direct && !OutputRows<T>::takes_stage(y, plan, 1);
    for_each_batch_with<RowNumbers<T>>(plan, std::min(rows_per_task(plan), kRows), staging.bytes(stages),
                                       batch, blocks);
}

/// Operands of the plan: x, entropies.
template <class T>
void softmax_entropy_as(const TensorView& x, const MutableTensorView& out, const Plan& plan,
                        double temperature) {
    const Staging<T> staging(x, nullptr, plan);
    for_each_batch_with<RowNumbers<double>>(
        plan, std::min(rows_per_task(plan), kRows), staging.bytes(!is_readable<T>(x, nullptr, plan)),
        [&](const Strides& at, int64_t rows, RowNumbers<double>& entropy, void* scratch) {
            for_each_readable<T>(staging, at, rows, scratch,
                                 [&](const StorageKernels& kernels, RowsIn in, int64_t first, int64_t count) {
                                     PairedRows batch{};
                                     batch.x = in;
                                     batch.loss = entropy.value + first;
                                     kernels.softmax_entropy(batch, count, plan.n,
                                                             {temperature, false, scratch});
                                 });
            put_rows(out, plan, at, 1, rows, entropy.value);
        });
}

// ---- backward --------------------------------------------------------------------------------------------

/// dx from y and dy, computed in T. Both operands are staged, because the kernels cannot read or write one of
/// the three arrays in place.
template <class T>
void backward_staged(const TensorView& y, const TensorView& dy, const MutableTensorView& dx, const Plan& plan,
                     BackwardKernel StorageKernels::* kernel) {
    const BackwardKernel run = active_table().of(dtype_of<T>).*kernel;
    const Staging<T> staging(y, nullptr, plan);
    for_each_batch(
        plan, rows_per_task(plan), staging.bytes(2), [&](const Strides& at, int64_t rows, void* scratch) {
            const RowsOut of_y = staging.stage(scratch, 0), of_dy = staging.stage(scratch, 1);
            const OutputRows<T> output(dx, plan, 2, of_y, false);
            for (int64_t first = 0; first < rows; first += staging.rows) {
                const int64_t count = std::min(staging.rows, rows - first);
                const Strides here = row_at(at, plan, first);
                staging.read_rows(here, count, of_y);
                read_rows<T>(
                    dy,
                    {static_cast<const char*>(dy.data) + here[1], plan.row_stride[1], plan.element_stride[1]},
                    count, plan.n, of_dy);
                run({in(of_y), in(of_dy), output.at(here)}, count, plan.n, {1, false, scratch});
                output.put(here, count);
            }
        });
}

void backward(const TensorView& y_, const TensorView& dy_, const MutableTensorView& dx_, int axis_,
              const char* name, BackwardKernel StorageKernels::* kernel) {
    const Input y_in(name, y_), dy_in("dy", dy_);
    const Output out("out", dx_);
    const TensorView &y = *y_in, &dy = *dy_in;
    const MutableTensorView& dx = *out;
    check_same_shape(y, name, dy, "dy");
    const int axis = axis_or_scalar(y, axis_);
    check_like(y, name, dx, "out");
    check_memory({{name, &y, &dx}, {"dy", &dy, &dx}}, {{"out", &dx}});
    if (checked_size(y.shape) == 0) return;
    const Operand operands[] = {y.strides, dy.strides, dx.strides};
    const Plan plan = make_plan(y.shape, axis, operands);
    const auto fits = [&](const auto& view, int operand) {
        return view.dtype == dx.dtype && !view.swapped && is_dense(plan, operand, size_of(dx.dtype));
    };
    if (!fits(y, 0) || !fits(dy, 1) || !fits(dx, 2)) {
        if (dx.dtype == DType::float64) return backward_staged<double>(y, dy, dx, plan, kernel);
        return backward_staged<float>(y, dy, dx, plan, kernel);
    }
    const BackwardKernel run = active_table().of(dx.dtype).*kernel;
    const bool nontemporal = wants_nontemporal(dx);
    for_each_batch(
        plan, rows_per_task(plan), kScratchBytes, [&](const Strides& at, int64_t rows, void* scratch) {
            const auto in = [&](const TensorView& view, int operand) {
                return RowsIn{static_cast<const char*>(view.data) + at[operand], plan.row_stride[operand],
                              plan.element_stride[operand]};
            };
            const RowsOut to{static_cast<char*>(dx.data) + at[2], plan.row_stride[2], plan.element_stride[2]};
            run({in(y, 0), in(dy, 1), to}, rows, plan.n, {1, nontemporal, scratch});
        });
}

}  // namespace

void softmax(const TensorView& x, const MutableTensorView& y, const TransformOptions& options) {
    const DefaultFloatMode mode;
    transform(x, y, options, &StorageKernels::softmax, 0);
}

void log_softmax(const TensorView& x, const MutableTensorView& y, const TransformOptions& options) {
    const DefaultFloatMode mode;
    transform(x, y, options, &StorageKernels::log_softmax, -std::numeric_limits<double>::infinity());
}

void logsumexp(const TensorView& x_, const MutableTensorView& y_, const LogsumexpOptions& given) {
    const DefaultFloatMode mode;
    const Input x_in("x", x_), b_in("b", given.b), where_in("where", given.where);
    const Output out("out", y_);
    const TensorView& x = *x_in;
    const MutableTensorView& y = *out;
    const LogsumexpOptions options{given.axis, b_in.get(), where_in.get()};
    const int axis = axis_or_scalar(x, options.axis);
    const Dims rest = x.ndim() == 0 ? Dims{} : without_axis(x.shape, axis);
    check_result(y, "out", rest);
    check_where(options.where);
    check_memory({{"x", &x}, {"b", options.b}, {"where", options.where}}, {{"out", &y}});
    const auto optional = [&](const char* name, const TensorView* view) {
        return view ? broadcast(name, view->shape, view->strides, x.shape) : Dims();
    };
    const Dims where = optional("where", options.where), b = optional("b", options.b);
    if (checked_size(rest) == 0) return;
    if (x.size() == 0) return fill(y, -std::numeric_limits<double>::infinity());
    const Operand operands[] = {x.strides, {y.strides, true}, where, b};
    const Plan plan = make_plan(x.shape, axis, operands);
    // With weights, float64 operands are not rounded to float first.
    const bool wide = y.dtype == DType::float64 ||
                      (options.b && (x.dtype == DType::float64 || options.b->dtype == DType::float64));
    if (wide) logsumexp_as<double>(x, y, options, plan);
    else logsumexp_as<float>(x, y, options, plan);
}

void log_normalize(const TensorView& x_, const MutableTensorView& y_, const MutableTensorView& sums_,
                   int given_axis) {
    const DefaultFloatMode mode;
    const Input x_in("x", x_);
    const Output out("out", y_), logsumexp("logsumexp", sums_);
    const TensorView& x = *x_in;
    const MutableTensorView &y = *out, &sums = *logsumexp;
    const int axis = axis_or_scalar(x, given_axis);
    const Dims rows = x.ndim() == 0 ? Dims{} : without_axis(x.shape, axis);
    check_like(x, "x", y, "out");
    check_result(sums, "logsumexp", rows);
    check_memory({{"x", &x, &y}}, {{"out", &y}, {"logsumexp", &sums}});
    if (checked_size(rows) == 0) return;
    if (x.size() == 0) return fill(sums, -std::numeric_limits<double>::infinity());
    const Operand operands[] = {x.strides, y.strides, {sums.strides, true}};
    const Plan plan = make_plan(x.shape, axis, operands);
    if (y.dtype == DType::float64) log_normalize_as<double>(x, y, sums, plan);
    else log_normalize_as<float>(x, y, sums, plan);
}

void softmax_entropy(const TensorView& logits, const MutableTensorView& out_, const EntropyOptions& options) {
    const DefaultFloatMode mode;
    const Input x_in("logits", logits);
    const Output result("out", out_);
    const TensorView& x = *x_in;
    const MutableTensorView& out = *result;
    if (x.ndim() == 0) fail("logits must have at least one dimension (the classes)");
    const int axis = normalize_axis(options.axis, x.ndim());
    check_temperature(options.temperature);
    const Dims rows = without_axis(x.shape, axis);
    check_result(out, "out", rows);
    check_memory({{"logits", &x}}, {{"out", &out}});
    if (checked_size(rows) == 0) return;
    check_classes(x, axis, "logits");
    const Operand operands[] = {x.strides, {out.strides, true}};
    const Plan plan = make_plan(x.shape, axis, operands);
    if (out.dtype == DType::float64) softmax_entropy_as<double>(x, out, plan, options.temperature);
    else softmax_entropy_as<float>(x, out, plan, options.temperature);
}

void softmax_backward(const TensorView& y, const TensorView& dy, const MutableTensorView& dx, int axis) {
    const DefaultFloatMode mode;
    backward(y, dy, dx, axis, "y", &StorageKernels::softmax_backward);
}
void log_softmax_backward(const TensorView& y, const TensorView& dy, const MutableTensorView& dx, int axis) {
    const DefaultFloatMode mode;
    backward(y, dy, dx, axis, "logy", &StorageKernels::log_softmax_backward);
}

}  // namespace softloss
