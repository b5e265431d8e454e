// Losses over classes, with gradients and Hessians: checks, plan, table look-up, parallel loop, reduction.
//
// Lives here: what targets, weights and reductions mean. Must not: SIMD, OpenMP, NumPy.
//
// Two ways. Logits against class indices without smoothing, the usual case, go to the class_loss kernels, a batch of rows
// at a time. All else goes row by row in double, each row in pieces, through a distribution q over the classes that holds
// soft targets, smoothing and class weights alike: loss = sum of q (-log p).
#include <atomic>
#include <cmath>
#include <optional>
#include <type_traits>

#include "operands.hpp"

namespace softloss {
namespace {

enum class Scores { logits, log_probs, probs };

/// Rows of one task, and of one partial sum: a fixed number, so that sums do not depend on the tasks.
constexpr int64_t kRows = 1024;

struct Gradients {
    const MutableTensorView* grad = nullptr;
    const MutableTensorView* hess = nullptr;
    HessianOptions hessian;
};

/// Targets are class indices (one for each row) or class probabilities; both as operands of the plan.
struct ClassLoss {
    Scores kind;
    const char* name;
    const TensorView& x;
    const TensorView& target;
    const ClassLossOptions& options;
    Gradients gradients;
    int axis = 0;
    int64_t rows = 0;
    Plan plan{};              ///< operands: x, row index (double), grad, target, sample_weight, hess
    Sum denominator{1};       ///< of the gradient
    bool sums_norms = false;  ///< what the rows count for is summed beside their losses

    bool indices() const { return !is_floating(target.dtype); }
    bool weighted() const { return options.weight || options.sample_weight; }
    /// Of each row, one score counts.
    bool picked() const { return kind != Scores::logits && indices() && !gradients.grad; }
    bool plain() const { return kind == Scores::logits && indices() && options.label_smoothing == 0; }
};

/// a / b to twice the precision.
Sum quotient(const Sum& a, const Sum& b) {
    const double q = a.value / b.value;
    const double rest = std::fma(-q, b.value, a.value) + (a.error - q * b.error);
    return {q, std::isfinite(rest) ? rest / b.value : 0};
}
/// What the gradient of a row that counts for `norm` is multiplied by.
Sum factor_of(const ClassLoss& c, const Sum& norm) {
    return quotient(quotient(norm, c.denominator), {c.options.temperature});
}

/// The sums of blocks of rows; that of a single one needs no allocation.
class BlockSums {
  public:
    void resize(std::size_t size) {
        size_ = size;
        if (size > 1) many_.resize(size);
    }
    std::size_t size() const { return size_; }
    double& operator[](std::size_t block) { return size_ > 1 ? many_[block] : one_; }

  private:
    std::size_t size_ = 0;
    double one_ = 0;
    std::vector<double> many_;
};

/// Losses of all rows, weighted, in C order (or their partial sums alone), and what the rows count for in the mean.
struct RowLosses {
    std::vector<double> loss, norm;
    BlockSums loss_sums, norm_sums;
    std::atomic<int64_t> counted{0};
    std::atomic<bool> bad_label{false}, bad_prob{false};
};

// ---- labels -----------------------------------------------------------------------------------------------------------

struct LabelCounts {
    int64_t ignored = 0;
    bool bad = false;  ///< one is out of range (0 stands in its place)
};

/// The labels of `rows` rows, -1 where ignored.
LabelCounts gather_labels(const ClassLoss& c, const Strides& at, int64_t rows, int64_t* label) {
    const std::optional<int64_t>& ignore = c.options.ignore_index;
    LabelCounts counts;
    load_labels(c.target, at[3], c.plan.row[3], rows, ignore, label);
    if (all_classes(label, rows, c.plan.n, ignore)) return counts;
    for (int64_t r = 0; r < rows; ++r) {
        const bool ignored = label[r] == ignore, outside = label[r] < 0 || label[r] >= c.plan.n;
        counts.ignored += ignored;
        counts.bad |= outside && !ignored;
        label[r] = ignored ? -1 : outside ? 0 : label[r];
    }
    return counts;
}

/// f(element that its label picks, or of class 0 where there is none; label) of each row: row r starts at data + r * row.
template <class F>
void pick(const TensorView& view, const char* data, int64_t row, int64_t axis, const int64_t* label,
          int64_t rows, double* picked, F f) {
    const int64_t ahead = std::abs(row) <= 64 ? 64 * row : 0;  // longer rows have lines of their own
    const auto read_with = [&](auto element) {
        for (int64_t r = 0; r < rows; ++r) {
            const char* const p = data + r * row + std::max<int64_t>(label[r], 0) * axis;
            __builtin_prefetch(p + ahead);
            picked[r] = f(element(p), label[r]);
        }
    };
    if (view.dtype == DType::float32 && !view.swapped)
        return read_with([](const char* p) { return static_cast<double>(read<float>(p, false)); });
    if (view.dtype == DType::float64 && !view.swapped)
        return read_with([](const char* p) { return read<double>(p, false); });
    read_with([&](const char* p) {
        double value;
        gather(p, 0, 1, view.dtype, view.swapped, &value);
        return value;
    });
}

/// The weight of each row's sample, 0 where ignored, and what the row counts for: that times its class's weight, which leaves
/// the error `rest` (may be null).
void fill_norms(const ClassLoss& c, const Strides& at, int64_t rows, const int64_t* label, double* sample,
                double* norm, double* rest) {
    if (c.options.sample_weight) {
        const TensorView& view = *c.options.sample_weight;
        gather(static_cast<const char*>(view.data) + at[4], c.plan.row[4], rows, view.dtype, view.swapped,
               sample);
    } else {
        std::fill(sample, sample + rows, 1);
    }
    if (c.indices() && c.options.weight) {
        const TensorView& view = *c.options.weight;
        pick(view, static_cast<const char*>(view.data), 0, view.strides[0], label, rows, norm,
             [](double weight, int64_t) { return weight; });
    } else {
        std::fill(norm, norm + rows, 1);
    }
    for (int64_t r = 0; r < rows; ++r) {
        const bool kept = !c.indices() || label[r] >= 0;
        if (!kept) sample[r] = 0;
        const double weight = norm[r];
        norm[r] = weight == 0 || sample[r] == 0 ? 0 : weight * sample[r];
        if (rest) rest[r] = norm[r] == 0 ? 0 : std::fma(weight, sample[r], -norm[r]);
    }
}

// ---- logits against class indices ---------------------------------------------------------------------------------------

/// True if the kernels take the rows of the logits and of the results as they lie.
template <class T>
bool is_direct(const ClassLoss& c) {
    const auto fits = [&](const MutableTensorView* out, int operand) {
        return !out || (out->dtype == c.x.dtype && !out->swapped &&
                        (c.plan.axis[operand] == size_of(out->dtype) || c.plan.n <= kMaxTile));
    };
    // Hessians of halves have no kernels of their own.
    return is_readable<T>(c.x, nullptr, c.plan) && fits(c.gradients.grad, 2) && fits(c.gradients.hess, 5) &&
           !(c.gradients.hess && size_of(c.x.dtype) < 4);
}

/// Scratch memory of plain_batch: a stage for the logits, unless the gradients take them; one for the Hessians.
template <class T>
std::size_t plain_bytes(const ClassLoss& c) {
    const auto takes_rows = [&](const MutableTensorView* view, int k) {
        return view && holds_rows<T>(*view, c.plan, k);
    };
    const bool second = c.gradients.hess && !takes_rows(c.gradients.hess, 5);
    const int stages = is_direct<T>(c) ? 0 : second ? 2 : takes_rows(c.gradients.grad, 2) ? 0 : 1;
    return Staging<T>(c.x, nullptr, c.plan).bytes(stages);
}

template <class T>
void plain_batch(const ClassLoss& c, const Strides& at, int64_t rows, int64_t parts, const int64_t* label,
                 const double* factor, T* loss, void* scratch) {
    const KernelTable& table = active_table();
    const auto* grad = c.gradients.grad;
    const auto* hess = c.gradients.hess;
    ClassRows batch{};
    batch.hess_scale = c.gradients.hessian.scale;
    batch.hess_min = c.gradients.hessian.floor;
    if (is_direct<T>(c)) {
        batch.x = {static_cast<const char*>(c.x.data) + at[0], c.plan.row[0], c.plan.axis[0]};
        batch.label = label;
        batch.loss = loss;
        batch.factor = factor;
        if (grad) batch.grad = {static_cast<char*>(grad->data) + at[2], c.plan.row[2], c.plan.axis[2]};
        if (hess) batch.hess = {static_cast<char*>(hess->data) + at[5], c.plan.row[5], c.plan.axis[5]};
        const RowOptions options{c.options.temperature, grad && streams(*grad), scratch, parts, run_parts};
        return table.of(c.x.dtype).class_loss(batch, rows, c.plan.n, options);
    }
    const Staging<T> staging(c.x, nullptr, c.plan);
    T* const memory = Staging<T>::memory(scratch);
    const RowsOut staged = staging.rows_in(memory),
                  second = staging.rows_in(memory + staging.rows * c.plan.n);
    // Rows are staged where their gradients go, if the kernels can work there.
    std::optional<OutputRows<T>> grads, hessians;
    if (grad) grads.emplace(*grad, c.plan, 2, staged);
    if (hess) hessians.emplace(*hess, c.plan, 5, second);
    for (int64_t first = 0; first < rows; first += staging.rows) {
        const int64_t count = std::min(staging.rows, rows - first);
        const Strides here = row_at(at, c.plan, first);
        const RowsOut x = grads ? grads->at(here) : staged;
        staging.read_rows(here, count, x);
        batch.x = {x.data, x.row, x.axis};
        batch.label = label + first;
        batch.loss = loss + first;
        batch.factor = factor ? factor + first : nullptr;
        if (grads) batch.grad = x;
        if (hessians) batch.hess = hessians->at(here);
        table.of(dtype_of<T>).class_loss(batch, count, c.plan.n, {c.options.temperature, false, scratch});
        if (grads) grads->put(here, count);
        if (hessians) hessians->put(here, count);
    }
}

// ---- everything else: a distribution q over the classes -------------------------------------------------------------------

/// Rows the general way, a piece at a time.
///
/// The target's part and the smoothing's are summed apart, since their sum would round each weight:
/// loss = (1 - e) sum of w q cost + e / C sum of w cost, with cost = -log p.
class GeneralRows {
  public:
    static constexpr std::size_t kBytes = 5 * kPiece * sizeof(double);

    /// memory: kBytes.
    GeneralRows(const ClassLoss& loss, std::atomic<bool>& bad_prob, double* memory)
        : c_(loss),
          bad_prob_(bad_prob),
          pitch_(std::min(kPiece, loss.plan.n)),
          scores_(&loss.x, loss.plan.axis[0], memory),
          targets_(&loss.target, loss.plan.axis[3], memory + pitch_),
          weights_(loss.options.weight, weight_stride(), memory + 2 * pitch_),
          mixed_(memory + 3 * pitch_),
          gradient_(memory + 4 * pitch_) {
        if (!c_.options.weight && smoothing() != 0) std::fill(memory + 2 * pitch_, memory + 3 * pitch_, 1);
    }

    /// The loss of the row at `at`, not yet weighted by sample; its gradient times `factor` is written where there is one.
    double operator()(const Strides& at, int64_t label, const Sum& factor) {
        at_ = at;
        label_ = label;
        factor_ = factor;
        return c_.kind == Scores::logits ? of_logits() : of_probabilities();
    }

  private:
    double smoothing() const { return c_.options.label_smoothing; }
    int64_t weight_stride() const { return c_.options.weight ? c_.options.weight->strides[0] : 0; }

    template <class F>
    void for_each_piece(F f) const {
        for_each_piece_of_row(c_.plan.n, f);
    }
    const double* scores(int64_t first, int64_t n) { return scores_.at(at_[0] + first * c_.plan.axis[0], n); }
    /// w
    const double* weights(int64_t first, int64_t n) { return weights_.at(first * weight_stride(), n); }
    /// w q
    const double* targets(int64_t first, int64_t n) {
        const double* q = mixed_;
        if (c_.indices()) {
            std::fill(mixed_, mixed_ + n, 0);
            if (label_ >= first && label_ < first + n) mixed_[label_ - first] = 1;
        } else {
            q = targets_.at(at_[3] + first * c_.plan.axis[3], n);
        }
        if (!c_.options.weight) return q;
        const double* const w = weights(first, n);
        for (int64_t i = 0; i < n; ++i) mixed_[i] = q[i] * w[i];
        return mixed_;
    }
    void put_gradient(int64_t first, int64_t n) {
        if (factor_.value == 0) std::fill(gradient_, gradient_ + n, 0);
        const MutableTensorView& to = *c_.gradients.grad;
        const int64_t stride = c_.plan.axis[2];
        scatter(gradient_, n, static_cast<char*>(to.data) + at_[2] + first * stride, stride, to.dtype,
                to.swapped);
    }

    double of_logits() {
        const WeightedKernels& kernels = table_.weighted;
        const auto sum = table_.f64.sum;
        LogitRow row{c_.options.temperature, -std::numeric_limits<double>::infinity()};
        for_each_piece([&](int64_t first, int64_t n) {
            row.maximum = std::max(row.maximum, kernels.largest(scores(first, n), n));
        });
        Sum gap, mass, even_gap, even_mass;
        for_each_piece([&](int64_t first, int64_t n) {
            const double* const x = scores(first, n);
            kernels.add_exponentials(x, n, row);
            const double* const q = targets(first, n);
            add(gap, kernels.gap(x, q, n, row.maximum));
            add(mass, {sum(q, n), 0});
            if (smoothing() == 0) return;
            const double* const w = weights(first, n);
            add(even_gap, kernels.gap(x, w, n, row.maximum));
            add(even_mass, {sum(w, n), 0});
        });
        kernels.finish(row);
        const double kept = 1 - smoothing();
        const SoftShares shares{{kept, (1 - kept) - smoothing()},
                                quotient({smoothing()}, {static_cast<double>(c_.plan.n)}),
                                mass,
                                even_mass,
                                factor_};
        for_each_piece([&](int64_t first, int64_t n) {
            if (!c_.gradients.grad) return;
            kernels.gradient(scores(first, n), targets(first, n),
                             smoothing() == 0 ? nullptr : weights(first, n), gradient_, n, row, shares);
            put_gradient(first, n);
        });
        const auto part = [&](double share, const Sum& gaps, const Sum& masses) {  // 0 x inf = 0
            return share == 0 ? 0
                              : share * (total(gaps) / c_.options.temperature + row.log_rest * total(masses));
        };
        return part(kept, gap, mass) + part(shares.even.value, even_gap, even_mass);
    }

    double of_probabilities() {
        const bool logs = c_.kind == Scores::log_probs;
        Sum loss;
        for_each_piece([&](int64_t first, int64_t n) {
            const double *const x = scores(first, n), *const q = targets(first, n);
            if (!logs && table_.f64.outside_unit(x, n)) bad_prob_ = true;
            add(loss, logs ? table_.weighted.gap(x, q, n, 0) : table_.weighted.surprisal(x, q, n));
            if (!c_.gradients.grad) return;
            for (int64_t i = 0; i < n; ++i)
                gradient_[i] = q[i] == 0 ? 0 : total(factor_) * (logs ? -q[i] : -q[i] / x[i]);
            put_gradient(first, n);
        });
        return total(loss);
    }

    const ClassLoss& c_;
    std::atomic<bool>& bad_prob_;
    const KernelTable& table_ = active_table();
    int64_t pitch_;
    Pieces<double> scores_, targets_, weights_;
    double *mixed_, *gradient_;
    Strides at_{};
    int64_t label_ = 0;
    Sum factor_;
};

/// The scores at the labels: all that losses of (log-)probabilities against class indices read.
void picked_losses(const ClassLoss& c, const Strides& at, int64_t rows, const int64_t* label, double* loss,
                   std::atomic<bool>& bad) {
    const bool probs = c.kind == Scores::probs;
    pick(c.x, static_cast<const char*>(c.x.data) + at[0], c.plan.row[0], c.plan.axis[0], label, rows, loss,
         [probs](double score, int64_t y) { return y < 0   ? probs
                                                   : probs ? score
                                                           : 0 - score; });  // never -0
    if (!probs) return;
    if (active_table().f64.outside_unit(loss, rows)) bad = true;
    active_table().weighted.log(loss, loss, rows);
    for (int64_t r = 0; r < rows; ++r) loss[r] = 0 - loss[r];
}

/// As the kernel has it, which takes its time for a single one.
double sum_of(const double* x, int64_t n) {
    return n == 1 ? 0 + *x : active_table().f64.sum(x, n);
}

// ---- all rows ---------------------------------------------------------------------------------------------------------------

/// A task's rows, on its stack.
struct Batch {
    int64_t label[kRows];
    double loss[kRows], sample[kRows], norm[kRows], rest[kRows], factor[kRows];
};

/// Whether rounding errors in double reach results of this type.
template <class T>
constexpr bool kWide = std::is_same_v<T, double>;

/// Logits against class indices: losses and gradients of a batch by the kernels.
template <class T>
void plain_losses(const ClassLoss& c, const Strides& at, int64_t rows, int64_t parts, Batch& b,
                  void* scratch) {
    const bool gradient = c.gradients.grad || c.gradients.hess;
    const double share = gradient ? total(factor_of(c, {1})) : 0;
    for (int64_t r = 0; gradient && r < rows; ++r) {
        b.factor[r] = !c.weighted()    ? share
                      : b.norm[r] == 0 ? 0
                      : kWide<T>       ? total(factor_of(c, {b.norm[r], b.rest[r]}))
                                       : b.norm[r] / c.denominator.value / c.options.temperature;
    }
    T raw[kRows];
    plain_batch<T>(c, at, rows, parts, b.label, gradient ? b.factor : nullptr, raw, scratch);
    std::copy(raw, raw + rows, b.loss);
}

/// One NaN for all: which of two a sum returns differs from CPU to CPU.
double canonical(double x) {
    return std::isnan(x) ? std::numeric_limits<double>::quiet_NaN() : x;
}

/// Row by row, by a distribution over the classes that holds the class weights: the sample's weight is left.
void general_losses(const ClassLoss& c, const Strides& at, int64_t rows, Batch& b, std::atomic<bool>& bad,
                    void* scratch) {
    GeneralRows general(c, bad, static_cast<double*>(scratch));
    for (int64_t r = 0; r < rows; ++r) {
        const int64_t label = c.indices() ? std::max<int64_t>(b.label[r], 0) : 0;
        const double loss = general(row_at(at, c.plan, r), label, factor_of(c, {b.sample[r]}));
        b.loss[r] = b.sample[r] == 0 ? 0 : canonical(b.sample[r] * loss);
    }
}

template <class T>
void row_losses(const ClassLoss& c, RowLosses& result) {
    const bool plain = c.plain();
    const bool picked = c.picked();
    // Rows of a task in C order give their partial sum at once; otherwise all losses are kept and summed later.
    const bool in_order = result.loss.empty();
    // Picking is little work however long the rows are.
    const int64_t task_rows = in_order || picked ? kRows : std::min(rows_per_task(c.plan), kRows);
    const std::size_t bytes = picked ? 0 : plain ? plain_bytes<T>(c) : GeneralRows::kBytes;
    const int64_t parts = plain && is_direct<T>(c) ? parts_of_row(c.plan, c.x.dtype) : 1;
    const auto batch = [&](const Strides& at, int64_t rows, void* scratch) {
        Batch b;
        const LabelCounts labels = c.indices() ? gather_labels(c, at, rows, b.label) : LabelCounts();
        if (labels.bad) result.bad_label = true;
        result.counted += rows - labels.ignored;
        if (c.weighted() || !(plain || picked))
            fill_norms(c, at, rows, b.label, b.sample, b.norm, plain && kWide<T> ? b.rest : nullptr);
        if (plain) plain_losses<T>(c, at, rows, parts, b, scratch);
        else if (picked) picked_losses(c, at, rows, b.label, b.loss, result.bad_prob);
        else general_losses(c, at, rows, b, result.bad_prob, scratch);
        for (int64_t r = 0; c.weighted() && (plain || picked) && r < rows; ++r)
            b.loss[r] = b.norm[r] == 0 ? 0 : b.norm[r] * b.loss[r];
        if (in_order) {
            const int64_t block = at[1] / int64_t{sizeof(double)} / kRows;
            result.loss_sums[block] = sum_of(b.loss, rows);
            if (c.sums_norms) result.norm_sums[block] = sum_of(b.norm, rows);
            return;
        }
        for (int64_t r = 0; r < rows; ++r) {
            const int64_t index = (at[1] + r * c.plan.row[1]) / int64_t{sizeof(double)};
            result.loss[index] = b.loss[r];
            if (c.sums_norms) result.norm[index] = b.norm[r];
        }
    };
    for_each_batch(c.plan, task_rows, bytes, batch, parts);
}

/// Sums of blocks of kRows, in C order of the rows.
double sum_in_blocks(const std::vector<double>& values, BlockSums& sums) {
    const auto rows = static_cast<int64_t>(values.size());
    if (rows > 0) sums.resize((rows + kRows - 1) / kRows);
    for (int64_t first = 0; first < rows; first += kRows)
        sums[first / kRows] = sum_of(values.data() + first, std::min(kRows, rows - first));
    return sums.size() == 1 ? sums[0] : active_table().f64.sum(&sums[0], static_cast<int64_t>(sums.size()));
}

/// The sum of what the rows count for: the denominator of the gradient of a mean.
Sum total_norm(const ClassLoss& c, int64_t ignored) {
    if (!c.weighted()) return {static_cast<double>(c.rows - ignored)};
    std::vector<double> norms(c.rows);
    for_each_batch(c.plan, std::min(rows_per_task(c.plan), kRows), 0,
                   [&](const Strides& at, int64_t rows, void*) {
                       int64_t label[kRows];
                       double sample[kRows], norm[kRows];
                       if (c.indices()) gather_labels(c, at, rows, label);
                       fill_norms(c, at, rows, label, sample, norm, nullptr);
                       for (int64_t r = 0; r < rows; ++r)
                           norms[(at[1] + r * c.plan.row[1]) / int64_t{sizeof(double)}] = norm[r];
                   });
    if (c.options.dtype != DType::float64) return {sum_of(norms.data(), c.rows)};
    Sum sum;
    for (double norm : norms) add(sum, {norm});
    return sum;
}

// ---- checks -------------------------------------------------------------------------------------------------------------------

void check_gradient(const ClassLoss& c, const MutableTensorView* out, const char* name) {
    if (!out) return;
    check_output(c.x, *out, name, c.name);
    check_separate({&c.target, c.options.weight, c.options.sample_weight}, *out, name, c.name);
}

/// Shapes, ranges, the plan; labels are checked later.
void prepare(ClassLoss& c, const MutableTensorView* losses) {
    const TensorView& x = c.x;
    const ClassLossOptions& options = c.options;
    if (x.ndim() == 0) fail(std::string(c.name) + " must have at least one dimension, the classes");
    c.axis = normalize_axis(options.axis, x.ndim());
    const int64_t classes = x.shape[c.axis];
    if (c.target.dtype == DType::boolean) fail("target must hold class indices or probabilities, got bool");
    check_target_shape(x, c.target, c.axis, c.name);
    if (!(options.label_smoothing >= 0 && options.label_smoothing <= 1)) {
        fail("label_smoothing must lie in [0, 1], got " + text_of(options.label_smoothing));
    }
    check_temperature(options.temperature);
    const Dims row_shape = without_axis(x.shape, c.axis);
    c.rows = checked_size(row_shape);
    checked_size(x.shape);
    if (options.weight && !(options.weight->ndim() == 1 && options.weight->shape[0] == classes)) {
        fail("weight must have shape (" + std::to_string(classes) + ",), one for each class, got " +
             to_string(options.weight->shape));
    }
    if (options.sample_weight && !same_shape(options.sample_weight->shape, row_shape)) {
        fail("sample_weight must have shape " + to_string(row_shape) + ", got " +
             to_string(options.sample_weight->shape));
    }
    check_losses(losses, row_shape);
    check_gradient(c, c.gradients.grad, "grad_out");
    check_gradient(c, c.gradients.hess, "hess_out");
    if (c.rows == 0) return;
    check_classes(x, c.axis, c.name);
    const Dims in_order = contiguous_strides(row_shape, sizeof(double));
    const Operand operands[] = {x.strides,
                                {in_order, true},
                                strides_of(c.gradients.grad),
                                {c.target.strides, c.indices()},
                                {strides_of(options.sample_weight), true},
                                strides_of(c.gradients.hess)};
    c.plan = make_plan(x.shape, c.axis, operands);
}

void run(ClassLoss& c, RowLosses& result, bool keep_rows) {
    if (c.rows == 0) return;
    const bool whole_blocks = c.plan.batches == 1 || c.plan.rows % kRows == 0;
    const bool in_order =
        !keep_rows &&
        (c.rows == 1 || (whole_blocks && c.plan.row[1] == sizeof(double) &&
                         (c.plan.n <= 64 || c.picked())));  // else kRows rows are much for a task
    if (in_order) {
        result.loss_sums.resize((c.rows + kRows - 1) / kRows);
        if (c.sums_norms) result.norm_sums.resize(result.loss_sums.size());
    } else {
        result.loss.resize(c.rows);
        if (c.sums_norms) result.norm.resize(c.rows);
    }
    const bool wide = c.options.dtype == DType::float64;
    if (wide) row_losses<double>(c, result);
    else row_losses<float>(c, result);
    if (result.bad_label) check_labels(c.target, c.x.shape[c.axis], c.options.ignore_index);
    if (result.bad_prob) fail_outside("probs", c.x);
}

double class_loss(Scores kind, const char* name, const TensorView& x, const TensorView& target,
                  const ClassLossOptions& options, const MutableTensorView* losses,
                  const MutableTensorView* grad) {
    ClassLoss c{kind, name, x, target, options, {grad, nullptr, {}}};
    const bool keep_rows = options.reduction == Reduction::none, mean = options.reduction == Reduction::mean;
    double norm = 0;
    if (keep_rows && !losses) fail("reduction none needs an array for the losses");
    prepare(c, losses);
    if (grad && c.rows > 0) {
        // The gradient is written in the same pass as the losses: everything must be known to be good before.
        const int64_t ignored = c.indices() ? check_labels(target, x.shape[c.axis], options.ignore_index) : 0;
        if (kind == Scores::probs) check_unit("probs", x);
        if (mean) {
            c.denominator = total_norm(c, ignored);
            norm = total(c.denominator);
            if (norm == 0) c.denominator = {std::numeric_limits<double>::infinity()};
        }
    }
    c.sums_norms = mean && !grad && c.weighted();
    RowLosses result;
    run(c, result, keep_rows);
    if (keep_rows) {
        for_each_element(losses->shape, losses->strides, [&](int64_t i, int64_t offset) {
            scatter(&result.loss[i], 1, static_cast<char*>(losses->data) + offset, 0, losses->dtype,
                    losses->swapped);
            return true;
        });
        return std::numeric_limits<double>::quiet_NaN();
    }
    const double total = sum_in_blocks(result.loss, result.loss_sums);
    if (!mean) return total;
    if (!grad) {
        norm = c.weighted() ? sum_in_blocks(result.norm, result.norm_sums)
                            : static_cast<double>(result.counted.load());
    }
    return norm == 0 ? options.empty : total / norm;
}

}  // namespace

double cross_entropy(const TensorView& logits, const TensorView& target, const ClassLossOptions& options,
                     const MutableTensorView* losses) {
    return class_loss(Scores::logits, "logits", logits, target, options, losses, nullptr);
}
double nll_loss(const TensorView& log_probs, const TensorView& target, const ClassLossOptions& options,
                const MutableTensorView* losses) {
    return class_loss(Scores::log_probs, "log_probs", log_probs, target, options, losses, nullptr);
}
double categorical_cross_entropy(const TensorView& probs, const TensorView& target,
                                 const ClassLossOptions& options, const MutableTensorView* losses) {
    return class_loss(Scores::probs, "probs", probs, target, options, losses, nullptr);
}

double cross_entropy_and_grad(const TensorView& logits, const TensorView& target,
                              const MutableTensorView& grad, const ClassLossOptions& options,
                              const MutableTensorView* losses) {
    return class_loss(Scores::logits, "logits", logits, target, options, losses, &grad);
}
double nll_loss_and_grad(const TensorView& log_probs, const TensorView& target, const MutableTensorView& grad,
                         const ClassLossOptions& options, const MutableTensorView* losses) {
    return class_loss(Scores::log_probs, "log_probs", log_probs, target, options, losses, &grad);
}
double categorical_cross_entropy_and_grad(const TensorView& probs, const TensorView& target,
                                          const MutableTensorView& grad, const ClassLossOptions& options,
                                          const MutableTensorView* losses) {
    return class_loss(Scores::probs, "probs", probs, target, options, losses, &grad);
}

void cross_entropy_grad_hess(const TensorView& logits, const TensorView& target,
                             const MutableTensorView& grad, const MutableTensorView& hess,
                             const ClassLossOptions& options, const HessianOptions& hessian) {
    ClassLossOptions plain = options;
    plain.label_smoothing = 0;
    plain.dtype = compute_dtype(logits);
    check_hessian(hessian);
    ClassLoss c{Scores::logits, "logits", logits, target, plain, {&grad, &hess, hessian}};
    if (is_floating(target.dtype)) fail("target must hold class indices, got class probabilities");
    prepare(c, nullptr);
    if (overlaps(grad, hess) || overlaps(logits, hess)) fail("hess_out overlaps grad_out or logits");
    if (c.rows == 0) return;
    check_labels(target, logits.shape[c.axis], options.ignore_index);
    RowLosses result;
    run(c, result, false);
}

}  // namespace softloss
