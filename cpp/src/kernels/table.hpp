// KernelTable: the contract between the public functions and the instruction sets.
//
// Lives here: the inputs and results of each kernel, in plain C++ types. Must not: SIMD, NumPy, shapes beyond
// (rows, n).
//
// Alignment: rows and their results (RowsIn, RowsOut) may have any address and stride. Pointers to T or
// double are aligned to their type. Scratch memory is aligned to 64 bytes.
#pragma once

#include <atomic>
#include <cstdint>

#include "softloss/types.hpp"

namespace softloss {

/// A batch of `rows` rows of `n` elements each: element i of row r is at data + r * row_stride + i *
/// element_stride. Strides are in bytes, of any sign; any alignment; native byte order.
struct RowsIn {
    const char* data;
    std::int64_t row_stride, element_stride;
};
struct RowsOut {
    char* data;
    std::int64_t row_stride, element_stride;
};

/// Scratch memory of a kernel, for each thread: four tiles, or two exponential buffers, or the exponentials
/// and the sums of a block; then memory to pack short rows; then the constants of a tile's groups. No more of
/// it is touched than a call needs.
constexpr std::int64_t kTileBytes = 1 << 20, kExpBufferBytes = 1 << 18, kTileConstantsBytes = 1 << 15;
constexpr std::int64_t kScratchBytes = 4 * kTileBytes + 16384 + kTileConstantsBytes;
/// Longest row that a kernel takes unless its elements, and those of its results, are adjacent.
constexpr std::int64_t kMaxTile = kTileBytes / 64;

/// Outputs of at least this many bytes are written with non-temporal stores.
constexpr std::int64_t kNontemporalBytes = std::int64_t{24} << 20;
/// Rows shorter than this lie across the vectors, whatever their layout.
constexpr std::int64_t kShortRow = 64;

/// How a batch is run.
struct RowOptions {
    double temperature = 1;
    bool nontemporal = false;  ///< results are too large to be read again from a cache: store them past it
    void* scratch = nullptr;   ///< kScratchBytes for each block, 64-byte aligned
    /// Into how many blocks each row is split, one for each thread. More than 1 only for long rows of
    /// adjacent elements, if StorageKernels::splits_rows.
    std::int64_t blocks = 1;
    /// Calls body(context, block) for all blocks, in parallel.
    void (*for_blocks)(std::int64_t blocks, void (*body)(const void* context, std::int64_t block),
                       const void* context) = nullptr;
};

/// Row transforms. x, y: (rows, n); y may be x (same layout).
using RowKernel = void (*)(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, const RowOptions& options);

/// A sum and its rounding error: value + error has twice the precision of double.
struct Sum {
    double value = 0, error = 0;
};

/// Row transforms that also give one number of each row. sum: T (rows).
using RowSumKernel = void (*)(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, void* sum,
                              const RowOptions& options);

/// Cross-entropy of logits against class indices, one label per row. A row with a label < 0 is ignored: its
/// loss and its gradient are 0.
struct ClassRows {
    RowsIn x;
    const std::int64_t* label;  ///< (rows)
    double* loss = nullptr;     ///< (rows); may be null
    double* loss_low =
        nullptr;     ///< (rows), of rows of doubles, with `loss`: the rounding errors of the losses
    RowsOut grad{};  ///< grad[r, i] = factor[r] (p[r, i] - [i = label[r]]); data may be null
    /// hess[r, i] = max(hess_scale factor[r] p (1 - p), hess_min); data may be null, and must be for float16
    /// and bfloat16
    RowsOut hess{};
    const double* factor = nullptr;  ///< (rows), with grad or hess
    double hess_scale = 1, hess_min = 0;
    /// > 0, of focal_loss alone: its loss is (1 - p[label])^gamma times the cross-entropy, with a gradient
    /// and a Hessian of its own (focal.hpp).
    double gamma = 0;
};
using ClassKernel = void (*)(const ClassRows& c, std::int64_t rows, std::int64_t n,
                             const RowOptions& options);

/// Rows of x and of a second operand. For losses against a distribution q over the classes, with class
/// weights w and label smoothing e, this gives s[i] = w[i] (kept q[i] + even), kept = 1 - e, even = e / n. It
/// also serves logsumexp with weights, and divergences.
struct PairedRows {
    RowsIn x;
    /// q, the weights of logsumexp, or other logits: (rows, n), of x's storage type; data is null if there
    /// are labels, or no second operand
    RowsIn second{};
    const std::int64_t* label = nullptr;  ///< (rows), 0 .. n - 1: q is 1 there and 0 elsewhere; else null
    const double* weight = nullptr;  ///< w: (n), with the lanes of a vector readable behind it; may be null
    bool zero_weights = false;       ///< some of them are 0
    Sum kept{1}, even{}, weight_sum{};  ///< weight_sum: sum(w), n without weights
    double* loss = nullptr;          ///< (rows): the results; may be null for losses of (log-)probabilities
    const double* sample = nullptr;  ///< (rows): what losses of logits are multiplied by; may be null
    RowsOut grad{};                  ///< data may be null
    const double* factor = nullptr;  ///< (rows), with grad; where it is 0, so is the gradient
    /// hess[r, i] = max(hess_scale factor[r] sum(s) p (1 - p), hess_min), of soft_loss alone; data may be
    /// null, and must be for float16 and bfloat16
    RowsOut hess{};
    double hess_scale = 1, hess_min = 0;
    double slack = 0;  ///< how far a probability may lie outside [0, 1]
    /// Of losses of probabilities: becomes true if a probability lies further outside.
    std::atomic<bool>* outside = nullptr;
};
using PairedKernel = void (*)(const PairedRows& c, std::int64_t rows, std::int64_t n,
                              const RowOptions& options);

/// Vector-Jacobian product of a transform, from its result y and the gradient dy (backward.hpp): (rows, n)
/// each. dx may be y or dy.
struct BackwardRows {
    RowsIn y, dy;
    RowsOut dx;
};
using BackwardKernel = void (*)(const BackwardRows& c, std::int64_t rows, std::int64_t n,
                                const RowOptions& options);

/// The partition of each row: logsumexp(x / temperature) = maximum / temperature + log_rest. maximum is the
/// largest element, not divided by the temperature. log_rest = log1p(sum of the other exponentials / largest
/// exponential) >= 0. sum = maximum + log_rest, rounded once: the logsumexp if temperature = 1. Each: T
/// (rows), may be null. If a row has a NaN or no finite maximum, log_rest and sum are NaN.
struct Partition {
    void *maximum, *log_rest, *sum;
};
using PartitionKernel = void (*)(RowsIn x, std::int64_t rows, std::int64_t n, const Partition& to,
                                 const RowOptions& options);

/// The scores of token_logprobs (scores.hpp): (rows) each. A row with a label < 0 is ignored: its logprob and
/// its rank are 0.
struct ScoreRows {
    RowsIn x;
    const std::int64_t* label;
    void *maximum, *log_rest;  ///< T; as Partition has them
    double *logprob, *entropy;
    std::int64_t* argmax;  ///< index of the first maximum, or of the first NaN if there is one
    std::int64_t* rank;    ///< 1 + elements above that of the label
};
using ScoreKernel = void (*)(const ScoreRows& c, std::int64_t rows, std::int64_t n,
                             const RowOptions& options);

/// What fit_temperature sums (calibration.hpp): (rows) each. d = max - x; its mean and its variance are those
/// of the softmax at the temperature. A row with a label < 0 has the gap 0.
struct TemperatureRows {
    RowsIn x;
    const std::int64_t* label;
    double *loss, *gap, *mean, *variance;  ///< gap: d at the label
};
using TemperatureKernel = void (*)(const TemperatureRows& c, std::int64_t rows, std::int64_t n,
                                   const RowOptions& options);

/// The largest probability of each row, negative if its first class is not the label: (rows).
struct ConfidenceRows {
    RowsIn x;
    const std::int64_t* label;
    double* confidence;
};
using ConfidenceKernel = void (*)(const ConfidenceRows& c, std::int64_t rows, std::int64_t n,
                                  const RowOptions& options);

/// The k largest of rows of n < kShortRow elements, largest first, ties by index; NaN and -inf come last.
/// Entry j of row r is at [j * pitch + r].
struct TopRows {
    RowsIn x;
    std::int64_t k;
    void *value, *prob;  ///< T; the elements (NaN as -inf) and their softmax; may be null
    std::int64_t* index;
    std::int64_t pitch;
};
using TopRowsKernel = void (*)(const TopRows& c, std::int64_t rows, std::int64_t n,
                               const RowOptions& options);

/// The k largest of n adjacent elements, largest first, ties by index. Returns how many there are: NaN and
/// -inf are none.
template <class T>
using TopKernel = std::int64_t (*)(const T* x, std::int64_t n, std::int64_t k, double* value,
                                   std::int64_t* index);
/// prob[j] = softmax(x)[index[j]], with the same bits, for k indices. x: (n >= kShortRow) adjacent elements.
template <class T>
using PlacesKernel = void (*)(const T* x, std::int64_t n, const std::int64_t* index, std::int64_t k, T* prob,
                              const RowOptions& options);

/// What sample() draws from: a row's softmax, with the classes that the filters keep. temperature: >= 0, 0
/// for the largest; top_k: 0 for all; 0 < top_p <= 1; 0 <= min_p <= 1.
struct SampleFilters {
    double temperature = 1;
    std::int64_t top_k = 0;
    double top_p = 1, min_p = 0;
};
/// Draws from rows of n < kShortRow elements: u, index, logprob: (rows).
struct SampleRows {
    RowsIn x;
    const double* u;
    SampleFilters filters;
    std::int64_t* index;
    double* logprob;
};
using SampleRowsKernel = void (*)(const SampleRows& c, std::int64_t rows, std::int64_t n,
                                  const RowOptions& options);
/// A class, and the logarithm of its probability.
struct Drawn {
    std::int64_t index;
    double logprob;
};
/// x: (n) adjacent elements, 0 <= u < 1 -> the class that u draws. memory: sample_bytes(n, sizeof(T)),
/// aligned to 64 bytes.
template <class T>
using SampleKernel = Drawn (*)(const T* x, std::int64_t n, double u, const SampleFilters& filters,
                               void* memory);
// Sizes of sample.hpp, in elements.
constexpr std::int64_t kSampleSize = 4096;   ///< of a sample of the row
constexpr std::int64_t kSampleWhole = 1024;  ///< rows up to this length need no sample
constexpr std::int64_t kSampleShort = 128;   ///< lists up to this length are searched element by element
constexpr std::int64_t kSampleList = 128;    ///< top_k up to this: the draw is from a list of the k largest
constexpr std::int64_t kSampleBlock = 512;   ///< of a block whose weights have a sum of their own
/// Elements of a list of n, with a vector behind it, in whole cache lines.
constexpr std::int64_t sample_list(std::int64_t n) {
    return (n + 31) / 16 * 16;
}
constexpr std::int64_t sample_bytes(std::int64_t n, std::int64_t size) {
    return (2 * kSampleSize + 2 * sample_list(n)) * size + (n / kSampleBlock + 1) * 16;
}

/// Elementwise transforms. x, y: (n) adjacent elements, at any address; y may be x. nontemporal: see
/// RowOptions.
using MapKernel = void (*)(const void* x, void* y, std::int64_t n, bool nontemporal);
/// Converts n adjacent elements to another type.
using CopyKernel = void (*)(const void* x, void* y, std::int64_t n);

/// Copies x to y: (rows, n), native elements. One of them has adjacent rows, the other adjacent elements.
using TransposeKernel = void (*)(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, bool nontemporal);

/// Binary cross-entropy. All arrays: (n) adjacent elements; weight, pos_weight, loss, grad, hess may be null.
template <class T>
struct BinaryBlock {
    const T *x, *target, *weight, *pos_weight;
    T *loss, *grad, *hess;
    double factor;  ///< of the gradient
    double hess_scale, hess_min;
    /// How far probabilities (x) and targets may lie outside [0, 1]: they count as 0 or 1 then.
    T slack_x, slack_target;
    bool summed;                                   ///< whether to sum the losses
    double gamma = 0, positive = 1, negative = 1;  ///< of focal: the exponent, the weights of targets 1 and 0
};
struct BinaryTotal {
    double loss;  ///< if BinaryBlock::summed
    /// An element of x (probabilities only) or of target lies outside [0, 1] by more than the slack. Always
    /// false if losses or gradients are written: the caller has checked before.
    bool bad_x, bad_target;
};
template <class T>
using BinaryKernel = BinaryTotal (*)(const BinaryBlock<T>& b, std::int64_t n);

/// Kernels on n adjacent elements of T.
template <class T>
struct ComputeKernels {
    /// bce: of probabilities, logarithms clamped at -100. bce_logits: of logits.
    BinaryKernel<T> bce, bce_logits;
    /// The focal loss of logits; targets are 0 or 1.
    BinaryKernel<T> focal;
    /// True if an element is below 0 or above 1 by more than `slack`.
    bool (*outside_unit)(const T* x, std::int64_t n, T slack);
    /// True if an element is neither 0 nor 1.
    bool (*not_hard)(const T* x, std::int64_t n);
    /// Compensated sum in a fixed order.
    Sum (*sum)(const T* x, std::int64_t n);
    TopKernel<T> top;
    PlacesKernel<T> softmax_at;
    SampleKernel<T> sample;
    TransposeKernel transpose;
};

struct StorageKernels {
    bool splits_rows;  ///< whether RowOptions::blocks may be more than 1
    RowKernel softmax, log_softmax;
    RowSumKernel log_normalize;  ///< log_softmax and logsumexp
    PartitionKernel partition;
    ClassKernel class_loss;
    ClassKernel focal_loss;
    /// Cross-entropy of logits: loss = sum(s cost), grad = factor (p sum(s) - s), p = softmax(x /
    /// temperature), cost = -log p.
    PairedKernel soft_loss;
    /// Losses of log-probabilities and of probabilities: loss = sum(w q cost), cost = -x or -log(x), and
    /// their gradients.
    PairedKernel log_prob_loss, prob_loss;
    PairedKernel weighted_logsumexp;  ///< log(sum(second exp(x)))
    /// Divergences of p = softmax(second / temperature) and q = softmax(x / temperature): sum(p log(p / q)),
    /// with the gradient factor (q - p); its mean over p and q against (p + q) / 2, without.
    PairedKernel kl_divergence, js_divergence;
    PairedKernel softmax_entropy;  ///< of softmax(x / temperature), without second
    PairedKernel brier_score;      ///< of softmax(x / temperature) against the labels
    TemperatureKernel temperature_rows;
    ConfidenceKernel confidence;
    BackwardKernel softmax_backward, log_softmax_backward;
    ScoreKernel scores;
    TopRowsKernel top_rows;
    SampleRowsKernel sample_rows;
    MapKernel sigmoid, log_sigmoid;
    CopyKernel widen, narrow;  ///< storage -> compute type and back
};

struct KernelTable {
    const char* name;
    StorageKernels storage[4];  ///< indexed by DType::float16 ... DType::float64
    ComputeKernels<float> f32;
    ComputeKernels<double> f64;
    void (*log)(const double* x, double* y, std::int64_t n);  ///< y = log(x)

    const StorageKernels& of(DType dtype) const { return storage[static_cast<int>(dtype)]; }
    template <class T>
    const ComputeKernels<T>& compute() const {
        if constexpr (sizeof(T) == 4) return f32;
        else return f64;
    }
};

}  // namespace softloss
