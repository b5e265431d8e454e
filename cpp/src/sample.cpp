// sample: checks, plan, parallel loop.
//
// Lives here: what its arguments mean. Must not: SIMD, OpenMP, NumPy, how a class is drawn
// (kernels/sample.hpp).
#include "batches.hpp"
#include "checks.hpp"

namespace softloss {
namespace {

constexpr int64_t kDrawnRows = 256;  ///< most rows of a task

/// Operands of the plan: logits, none, where, u, logprob, index.
struct Rows {
    const TensorView &x, &u;
    const MutableTensorView &index, &logprob;
    const SampleOptions& options;
    const Plan& plan;
};
struct Batch {
    double u[kDrawnRows], logprob[kDrawnRows];
    int64_t index[kDrawnRows];
};

template <class T>
void sample_rows(const Rows& c) {
    const Plan& plan = c.plan;
    const Staging<T> staging(c.x, c.options.where, plan);
    const bool direct = !c.options.where && holds_rows<T>(c.x, plan, 0);
    const auto stages = static_cast<std::size_t>(staging.bytes(!direct) + 63) / 64 * 64;
    const std::size_t memory_bytes = plan.n < kShortRow ? 0 : sample_bytes(plan.n, sizeof(T));
    const SampleFilters filters{c.options.temperature, c.options.top_k, c.options.top_p, c.options.min_p};
    for_each_batch_with<Batch>(
        plan, std::min(rows_per_task(plan), kDrawnRows), stages + memory_bytes,
        [&](const Strides& at, int64_t rows, Batch& b, void* scratch) {
            void* const memory = static_cast<char*>(scratch) + stages;
            gather(static_cast<const char*>(c.u.data) + at[3], plan.row_stride[3], rows, c.u.dtype,
                   c.u.swapped, b.u);
            // check_uniform has passed, but another thread may have written the array since.
            for (int64_t r = 0; r < rows; ++r) b.u[r] = b.u[r] >= 0 && b.u[r] < 1 ? b.u[r] : 0;
            const auto draw = [&](const RowsIn& from, int64_t first, int64_t count) {
                for (int64_t r = 0; r < count; ++r) {
                    const Drawn drawn = active_table().compute<T>().sample(
                        reinterpret_cast<const T*>(from.data + r * from.row_stride), plan.n, b.u[first + r],
                        filters, memory);
                    b.index[first + r] = drawn.index;
                    b.logprob[first + r] = drawn.logprob;
                }
            };
            if (plan.n < kShortRow) {
                for_each_readable<T>(
                    staging, at, rows, scratch,
                    [&](const StorageKernels& kernels, const RowsIn& from, int64_t first, int64_t count) {
                        const double temperature = filters.temperature == 0 ? 1 : filters.temperature;
                        kernels.sample_rows({from, b.u + first, filters, b.index + first, b.logprob + first},
                                            count, plan.n, {temperature, false, scratch});
                    });
            } else if (direct) {
                draw({static_cast<const char*>(c.x.data) + at[0], plan.row_stride[0], sizeof(T)}, 0, rows);
            } else {
                const int64_t most =
                    std::max<int64_t>(staging.stage_bytes() / (plan.n * int64_t{sizeof(T)}), 1);
                const RowsOut staged{reinterpret_cast<char*>(Staging<T>::memory(scratch)),
                                     plan.n * int64_t{sizeof(T)}, sizeof(T)};
                for (int64_t first = 0; first < rows; first += most) {
                    const int64_t here = std::min(most, rows - first);
                    staging.read_rows(row_at(at, plan, first), here, staged);
                    draw(in(staged), first, here);
                }
            }
            scatter(b.logprob, rows, static_cast<char*>(c.logprob.data) + at[4], plan.row_stride[4],
                    c.logprob.dtype, c.logprob.swapped);
            scatter(b.index, rows, static_cast<char*>(c.index.data) + at[5], plan.row_stride[5],
                    c.index.dtype, c.index.swapped);
        },
        1, memory_bytes);
}

void check_filters(const SampleOptions& options, int64_t classes) {
    if (!(options.temperature >= 0 && std::isfinite(options.temperature)))
        fail("temperature must be finite and at least 0, got " + text_of(options.temperature));
    detail::check_count("top_k", options.top_k, 0, classes);
    if (!(options.top_p > 0 && options.top_p <= 1))
        fail("top_p must be above 0 and at most 1, got " + text_of(options.top_p));
    if (!(options.min_p >= 0 && options.min_p <= 1))
        fail("min_p must be between 0 and 1, got " + text_of(options.min_p));
}

}  // namespace

void sample(const TensorView& logits, const TensorView& u_, const MutableTensorView& index_,
            const MutableTensorView& logprob_, const SampleOptions& given) {
    const DefaultFloatMode mode;
    const Input x_in("logits", logits), u_in("u", u_), where_in("where", given.where);
    const Output index_out("index", index_), logprob_out("logprob", logprob_);
    const TensorView &x = *x_in, &u = *u_in;
    const MutableTensorView &index = *index_out, &logprob = *logprob_out;
    SampleOptions options = given;
    options.where = where_in.get();
    if (x.ndim() == 0) fail("logits must have at least one dimension (the classes)");
    const int axis = normalize_axis(options.axis, x.ndim());
    const Dims shape = without_axis(x.shape, axis);
    const auto check_shape = [&](const auto& view, const char* name) {
        if (!same_shape(view.shape, shape))
            fail(std::string(name) + " must have shape " + to_string(shape) +
                 ", one for each row of logits, got " + to_string(view.shape));
    };
    check_shape(u, "u");
    check_shape(index, "index");
    check_shape(logprob, "logprob");
    if (index.dtype != DType::int64) fail("index must be an array of int64");
    check_floats(logprob, "logprob");
    check_where(options.where);
    check_memory({{"logits", &x}, {"u", &u}, {"where", options.where}},
                 {{"index", &index}, {"logprob", &logprob}});
    const Dims where =
        options.where ? broadcast("where", options.where->shape, options.where->strides, x.shape) : Dims();
    check_filters(options, x.shape[axis]);
    if (checked_size(shape) == 0) return;
    check_classes(x, axis, "logits");
    check_uniform("u", u);
    const Operand operands[] = {
        x.strides, Operand(), where, {u.strides, true}, {logprob.strides, true}, {index.strides, true}};
    const Plan plan = make_plan(x.shape, axis, operands);
    const Rows rows{x, u, index, logprob, options, plan};
    if (compute_dtype_of(x.dtype) == DType::float64) sample_rows<double>(rows);
    else sample_rows<float>(rows);
}

}  // namespace softloss
