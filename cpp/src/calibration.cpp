// fit_temperature and calibration_error: checks, plan, table look-up, parallel loop; Newton's method, bins.
//
// Lives here: what their arguments mean, and what is made of the numbers of single rows. Must not: SIMD,
// OpenMP, NumPy. The Brier score is a loss over classes (class_losses.cpp).
//
// Both write nothing, so labels are checked in the first pass that reads them, and the error follows. Sums
// over rows have a fixed order: rows in C order, kRows of them at a time.
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "checks.hpp"
#include "class_rows.hpp"

namespace softloss {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// The operands of a plan. kRow is a double for each row in C order: its offset divided by 8 is the index of
/// the row.
enum Operands { kLogits, kRow, kTarget, kSampleWeight };

/// The arguments that both functions have. weight: of classes, or null.
struct LabelledRows {
    const TensorView &x, &target;
    const TensorView *weight, *sample_weight;
    std::optional<int64_t> ignore;
    int axis = 0;
    int64_t rows = 0;
    Plan plan{};

    bool wide() const { return compute_dtype_of(x.dtype) == DType::float64; }
    int64_t index(const Strides& at) const { return at[kRow] / int64_t{sizeof(double)}; }
    int64_t stride() const { return plan.row_stride[kRow] / int64_t{sizeof(double)}; }
};

/// Checks shapes and weights, and makes the plan; labels are checked later.
void prepare(LabelledRows& c, int axis) {
    const TensorView& x = c.x;
    if (x.ndim() == 0) fail("logits must have at least one dimension (the classes)");
    c.axis = normalize_axis(axis, x.ndim());
    if (is_floating(c.target.dtype) || c.target.dtype == DType::boolean)
        fail("target must hold class indices (integers)");
    check_target_shape(x, c.target, c.axis, "logits");
    const Dims row_shape = without_axis(x.shape, c.axis);
    check_weights(c.weight, x.shape[c.axis], c.sample_weight, row_shape);
    check_not_negative("weight", c.weight);
    check_not_negative("sample_weight", c.sample_weight);
    c.rows = checked_size(row_shape);
    if (c.rows == 0) return;
    check_classes(x, c.axis, "logits");
    const Dims in_order = contiguous_strides(row_shape, sizeof(double));
    const Operand operands[] = {x.strides,
                                {std::span<const int64_t>(in_order), true},
                                {c.target.strides, true},
                                {strides_of(c.sample_weight), true}};
    c.plan = make_plan(x.shape, c.axis, operands);
}

/// Labels and weights of the rows of a task.
struct Labels {
    int64_t label[kRows];
    double sample[kRows], norm[kRows];
};

/// Reads the labels and weights of the rows of a task, then calls use(kernels, rows of x, index of the first
/// row in the task, rows) for these rows. Returns whether all labels are valid.
template <class T, class Use>
bool read_labelled(const LabelledRows& c, const Staging<T>& staging, const Strides& at, int64_t rows,
                   Labels& labels, void* scratch, Use use) {
    const LabelCounts counts = gather_labels(c.target, at[kTarget], c.plan.row_stride[kTarget], c.plan.n,
                                             c.ignore, rows, labels.label);
    fill_norms({c.weight, c.sample_weight, c.plan.row_stride[kSampleWeight]}, at[kSampleWeight], rows,
               labels.label, labels.sample, labels.norm, nullptr);
    for_each_readable<T>(staging, at, rows, scratch, use);
    return !counts.bad;
}

// ---- temperature -----------------------------------------------------------------------------------------

/// The sums over rows, each weighted: gap, mean, variance and loss of TemperatureRows; of the weights.
enum Column { kGap, kNorm, kMean, kVariance, kLoss };
constexpr int kColumns = 5;

struct TemperatureTask : Labels {
    double column[kColumns][kRows];
};

/// The derivative of the loss with respect to 1 / T is gap - mean. All are means over rows.
struct SlopeAt {
    double gap, mean, variance;
};

/// Passes over the logits, and the totals that they form. A partial sum covers block_ rows in C order. block_
/// depends on the number of classes alone, so that totals have the same bits in every layout. If tasks
/// consist of whole blocks, one pass forms all totals. If not, a pass first stores the values of the single
/// rows, of at most two columns (16 bytes for each row), and then sums them.
class LossPasses {
  public:
    explicit LossPasses(const LabelledRows& c) : c_(c) {
        while (block_ > 4 && block_ * c.plan.n > 65536) block_ /= 2;
        in_order_ =
            c.plan.row_stride[kRow] == sizeof(double) && (c.plan.batches == 1 || c.plan.rows % block_ == 0);
        if (in_order_) {
            for (std::vector<double>& sums : partial_) sums.resize((c.rows + block_ - 1) / block_);
        }
    }

    SlopeAt slope_at(double temperature) {
        if (in_order_) {
            pass(temperature, kGap, kColumns);
        } else {
            if (total_[kNorm] == 0) pass(temperature, kGap, kMean);
            pass(temperature, kMean, kLoss);
        }
        return {mean(kGap), mean(kMean), mean(kVariance)};
    }
    /// After slope_at for the same temperature.
    double loss_at(double temperature) {
        if (!in_order_) pass(temperature, kLoss, kColumns);
        const double loss = mean(kLoss);
        return std::isnan(loss) ? kNan : loss;  // NaN has one bit pattern
    }

  private:
    double mean(int column) const { return total_[column] / total_[kNorm]; }
    /// Forms the totals of columns first ... last - 1.
    void pass(double temperature, int first, int last) {
        for (int k = first; !in_order_ && k < last; ++k) rows_[k - first].resize(c_.rows);
        if (c_.wide()) read<double>(temperature, first, last);
        else read<float>(temperature, first, last);
        if (bad_label_) check_labels(c_.target, c_.x.shape[c_.axis], c_.ignore);
        for (int k = first; k < last; ++k) {
            if (!in_order_) sum_blocks(rows_[k - first].data(), c_.rows, partial_[k]);
            total_[k] = total(sum_of(partial_[k].data(), static_cast<int64_t>(partial_[k].size())));
        }
    }
    /// Appends the sums of the blocks of n rows.
    void sum_blocks(const double* rows, int64_t n, std::vector<double>& sums) const {
        sums.clear();
        for (int64_t r = 0; r < n; r += block_)
            sums.push_back(total(sum_of(rows + r, std::min(block_, n - r))));
    }
    template <class T>
    void read(double temperature, int first, int last) {
        const LabelledRows& c = c_;
        const Staging<T> staging(c.x, nullptr, c.plan);
        const std::size_t bytes = staging.bytes(is_readable<T>(c.x, nullptr, c.plan) ? 0 : 1);
        const int64_t blocks = (rows_per_task(c.plan) + block_ - 1) / block_;
        for_each_batch_with<TemperatureTask>(
            c.plan, std::min(blocks * block_, kRows), bytes,
            [&](const Strides& at, int64_t rows, TemperatureTask& task, void* scratch) {
                auto& of = task.column;
                const bool good = read_labelled<T>(
                    c, staging, at, rows, task, scratch,
                    [&](const StorageKernels& kernels, const RowsIn& from, int64_t r, int64_t count) {
                        kernels.temperature_rows({from, task.label + r, of[kLoss] + r, of[kGap] + r,
                                                  of[kMean] + r, of[kVariance] + r},
                                                 count, c.plan.n, {temperature, false, scratch});
                    });
                if (!good) bad_label_ = true;
                std::copy(task.norm, task.norm + rows, of[kNorm]);
                for (int k = first; k < last; ++k) put(at, rows, task.norm, of[k], k, k - first);
            });
    }
    /// Weighs the numbers of the rows of a task, and sums or keeps them.
    void put(const Strides& at, int64_t rows, const double* norm, double* values, int column, int kept) {
        for (int64_t r = 0; column != kNorm && r < rows; ++r)
            values[r] = norm[r] == 0 ? 0 : norm[r] * values[r];
        const int64_t first = c_.index(at), stride = c_.stride();
        if (in_order_) {
            for (int64_t r = 0; r < rows; r += block_)
                partial_[column][(first + r) / block_] =
                    total(sum_of(values + r, std::min(block_, rows - r)));
        } else {
            for (int64_t r = 0; r < rows; ++r) rows_[kept][first + r * stride] = values[r];
        }
    }

    const LabelledRows& c_;
    int64_t block_ = kRows;
    bool in_order_;
    std::array<std::vector<double>, kColumns> partial_;
    std::array<std::vector<double>, 2> rows_;
    double total_[kColumns] = {};
    std::atomic<bool> bad_label_{false};
};

constexpr double kLeastTemperature = 1e-3, kMostTemperature = 1e3;

/// One end of the bracket, a logarithm of 1 / T. known: the slope there was found to point inwards.
struct End {
    double place;
    bool known = false;
};

/// The minimum of the loss over b = 1 / T. There the mean of d, which falls as b grows, equals that of the
/// gap at the label, which is constant: Newton's method is applied to the logarithm of their ratio, a
/// function of b that is nearly straight for exponentials as well as near b = 0. A step that leaves the
/// bracket goes to its end, if the slope there is not known, else to its middle; so does every eighth step,
/// lest many small ones follow each other.
class TemperatureSearch {
  public:
    TemperatureSearch(LossPasses& passes, double tolerance) : passes_(passes), tolerance_(tolerance) {}

    TemperatureFit run() {
        double place = 0, before = 0;
        for (int step = 1;; ++step) {
            const double temperature = temperature_at(place);
            const SlopeAt f = passes_.slope_at(temperature);
            const auto found = [&](bool at_bound) {
                return TemperatureFit{temperature, passes_.loss_at(temperature), at_bound};
            };
            const double slope = f.gap - f.mean;
            if (std::isnan(slope)) return {kNan, kNan};
            if (f.gap == 0) return without_gaps(f);  // of the first step: it is the same at all
            if (slope == 0 || step == kMostSteps) return found(false);
            if (slope > 0 ? place == low_.place : place == high_.place) return found(true);
            (slope > 0 ? high_ : low_) = {place, true};
            const double ratio = std::log1p(-slope / f.gap), b = 1 / temperature;
            const double change = f.mean * ratio / f.variance, relative = change / b;
            const double bend = before == 0 ? 1 : std::max(1.0, std::abs(relative) / (before * before));
            if (std::abs(relative) < 0.1 && bend * relative * relative <= tolerance_ && within(b + change))
                return {1 / (b + change), found(false).loss + change * (slope + 0.5 * f.variance * change)};
            before = relative;
            const double next = place + (relative > -0.5 ? std::log1p(relative) : relative);
            const bool inside = next > low_.place && next < high_.place;  // NaN is not
            if (inside && step % 8 != 0) {
                place = next;
                continue;
            }
            const End& ahead = slope > 0 ? low_ : high_;
            place = ahead.known ? 0.5 * (low_.place + high_.place) : ahead.place;
            before = 0;
        }
    }

  private:
    static constexpr int kMostSteps = 200;
    static bool within(double b) { return b >= 1 / kMostTemperature && b <= 1 / kLeastTemperature; }
    /// Of the ends, exactly the bounds.
    double temperature_at(double place) const {
        if (place == std::log(1 / kMostTemperature)) return kMostTemperature;
        if (place == std::log(1 / kLeastTemperature)) return kLeastTemperature;
        return std::exp(-place);
    }
    /// Every label has the largest logit: the smaller T, the smaller the loss, unless it is constant. The
    /// mean of d tells the two cases apart. At T = 1 the other exponentials may underflow; at T = 1e300 none
    /// does.
    TemperatureFit without_gaps(const SlopeAt& at_one) {
        double temperature = 1;
        if (at_one.mean != 0 || passes_.slope_at(1e300).mean != 0) temperature = kLeastTemperature;
        passes_.slope_at(temperature);
        return {temperature, passes_.loss_at(temperature), temperature != 1};
    }

    LossPasses& passes_;
    double tolerance_;
    End low_{std::log(1 / kMostTemperature)}, high_{std::log(1 / kLeastTemperature)};
};

// ---- bins ------------------------------------------------------------------------------------------------

struct CalibrationTask : Labels {
    double confidence[kRows];
};

/// The confidence of each row in C order, negative if the answer is wrong; its weight, if there are sample
/// weights. An ignored row has confidence 0.
struct Confidences {
    std::vector<double> value, weight;
    std::atomic<bool> bad_label{false};
};

template <class T>
void read_confidences(const LabelledRows& c, double temperature, Confidences& result) {
    const Staging<T> staging(c.x, nullptr, c.plan);
    const std::size_t bytes = staging.bytes(is_readable<T>(c.x, nullptr, c.plan) ? 0 : 1);
    for_each_batch_with<CalibrationTask>(
        c.plan, std::min(rows_per_task(c.plan), kRows), bytes,
        [&](const Strides& at, int64_t rows, CalibrationTask& task, void* scratch) {
            const bool good = read_labelled<T>(
                c, staging, at, rows, task, scratch,
                [&](const StorageKernels& kernels, const RowsIn& from, int64_t first, int64_t count) {
                    kernels.confidence({from, task.label + first, task.confidence + first}, count, c.plan.n,
                                       {temperature, false, scratch});
                });
            if (!good) result.bad_label = true;
            for (int64_t r = 0; r < rows; ++r) {
                const int64_t i = c.index(at) + r * c.stride();
                result.value[i] = task.norm[r] == 0 ? 0 : task.confidence[r];
                if (c.sample_weight) result.weight[i] = task.norm[r];
            }
        });
}

/// The rows of a bin: the sum of their weights, and the weighted sum of (1 if right, else 0) - confidence.
struct Bin {
    Sum weight, distance;
    double end;  ///< the largest confidence
};

class Bins {
  public:
    explicit Bins(int64_t count) : bins_(count), count_(static_cast<double>(count)) {
        for (int64_t b = 0; b < count; ++b) bins_[b].end = static_cast<double>(b + 1) / count_;
    }
    /// The bin of p in (0, 1].
    Bin& operator[](double p) {
        const auto last = static_cast<int64_t>(bins_.size()) - 1;
        auto b = std::clamp<int64_t>(static_cast<int64_t>(p * count_), 0, last);
        while (b > 0 && p <= bins_[b - 1].end) --b;
        while (b < last && p > bins_[b].end) ++b;
        return bins_[b];
    }
    const std::vector<Bin>& all() const { return bins_; }

  private:
    std::vector<Bin> bins_;
    double count_;
};

double error_of(const std::vector<Bin>& bins, CalibrationNorm norm) {
    Sum weight, all;
    double most = 0;
    for (const Bin& bin : bins) {
        const double w = total(bin.weight), distance = std::abs(total(bin.distance));
        if (w == 0) continue;
        add(weight, {w});
        add(all, {norm == CalibrationNorm::l2 ? distance * (distance / w) : distance});
        most = std::max(most, distance / w);
    }
    const double w = total(weight);
    if (!(w > 0) || std::isinf(w) || std::isnan(total(all))) return kNan;
    if (norm == CalibrationNorm::max) return most;
    return norm == CalibrationNorm::l2 ? std::sqrt(total(all) / w) : total(all) / w;
}

}  // namespace

TemperatureFit fit_temperature(const TensorView& logits_, const TensorView& target_,
                               const TemperatureOptions& options) {
    const DefaultFloatMode mode;
    const Input logits("logits", logits_), target("target", target_), weight("weight", options.weight),
        sample_weight("sample_weight", options.sample_weight);
    LabelledRows c{*logits, *target, weight.get(), sample_weight.get(), options.ignore_index};
    prepare(c, options.axis);
    if (c.rows == 0) return {kNan, kNan};
    LossPasses passes(c);
    return TemperatureSearch(passes, c.wide() ? 1e-10 : 1e-7).run();
}

double calibration_error(const TensorView& logits_, const TensorView& target_,
                         const CalibrationOptions& options) {
    const DefaultFloatMode mode;
    const Input logits("logits", logits_), target("target", target_),
        sample_weight("sample_weight", options.sample_weight);
    LabelledRows c{*logits, *target, nullptr, sample_weight.get(), options.ignore_index};
    constexpr int64_t kMostBins = int64_t{1} << 24;
    if (options.bins < 1 || options.bins > kMostBins)
        fail("bins must be between 1 and " + digits_of(kMostBins) + ", got " + digits_of(options.bins));
    if (options.norm > CalibrationNorm::max) fail("norm must be l1, l2 or max");
    check_temperature(options.temperature);
    prepare(c, options.axis);
    if (c.rows == 0) return kNan;
    Confidences rows;
    rows.value.resize(c.rows);
    if (c.sample_weight) rows.weight.resize(c.rows);
    if (c.wide()) read_confidences<double>(c, options.temperature, rows);
    else read_confidences<float>(c, options.temperature, rows);
    if (rows.bad_label) check_labels(c.target, c.x.shape[c.axis], c.ignore);
    Bins bins(options.bins);
    for (int64_t i = 0; i < c.rows; ++i) {
        const double value = rows.value[i], p = std::abs(value);
        if (value == 0) continue;
        if (std::isnan(value)) return kNan;
        const double distance = (value > 0 ? 1 : 0) - p;
        Bin& bin = bins[p];
        if (c.sample_weight) {
            add(bin.weight, {rows.weight[i]});
            add(bin.distance, {rows.weight[i] * distance});
        } else {
            bin.weight.value += 1;
            add(bin.distance, {distance});
        }
    }
    return error_of(bins.all(), options.norm);
}

}  // namespace softloss
