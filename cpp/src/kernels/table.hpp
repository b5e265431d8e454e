// KernelTable: the contract between the public functions and the instruction sets.
//
// Lives here: what a kernel is given and what it leaves, in plain C++ types. Must not: SIMD, NumPy, shapes beyond (rows, n).
#pragma once

#include <cstdint>

#include "softloss/types.hpp"

namespace softloss {

/// A batch of `rows` rows of `n` elements each: element i of row r lies at data + r * row + i * axis (bytes, any sign,
/// any alignment), in native byte order.
struct RowsIn {
    const char* data;
    std::int64_t row, axis;
};
struct RowsOut {
    char* data;
    std::int64_t row, axis;
};

/// Scratch memory of a kernel, per thread or part of a row: two tiles of rows, or two times exponentials, or exponentials and
/// the sums of a part; some padding. No more of it is touched than a call needs.
constexpr std::int64_t kTileBytes = 1 << 20, kStashBytes = 1 << 18;
constexpr std::int64_t kScratchBytes = 2 * kTileBytes + 16384;
/// Longest row that a kernel takes unless its elements, and those of its results, are adjacent.
constexpr std::int64_t kMaxTile = kTileBytes / 64;

/// How a batch is run. `stream`: results are too large to be read again from a cache, write them past it.
struct RowOptions {
    double temperature = 1;
    bool stream = false;
    void* scratch = nullptr;  ///< kScratchBytes for each part, 64-byte aligned
    /// How many threads share each row, which is long and of adjacent elements; more than 1 where StorageKernels::takes_parts.
    std::int64_t parts = 1;
    /// Calls body(context, part) for all parts, at the same time.
    void (*for_parts)(std::int64_t parts, void (*body)(const void* context, std::int64_t part),
                      const void* context) = nullptr;
};

/// Row transforms: y may be x itself (same layout).
using RowKernel = void (*)(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, const RowOptions& options);

/// Cross-entropy of logits against class indices, one label per row; a label < 0 is ignored: its loss is 0, its gradient
/// too. Per-row arrays are in the compute type T.
struct ClassRows {
    RowsIn x;
    const std::int64_t* label;  ///< (rows)
    void* loss = nullptr;       ///< T (rows); may be null
    RowsOut grad{};             ///< grad[r, i] = factor[r] (p[r, i] - [i = label[r]]); data may be null
    /// hess[r, i] = max(hess_scale factor[r] p (1 - p), hess_min); data may be null, and must be for halves
    RowsOut hess{};
    const double* factor = nullptr;  ///< (rows), with grad or hess
    double hess_scale = 1, hess_min = 0;
};
using ClassKernel = void (*)(const ClassRows& c, std::int64_t rows, std::int64_t n,
                             const RowOptions& options);

/// Partition of each row: logsumexp(x / temperature) = maximum / temperature + log_rest, log_rest = log1p(sum of the other
/// exponentials over the largest) >= 0. maximum is the largest element (not divided), sum is maximum + log_rest, rounded once.
/// Each: T (rows), native; may be null. A row with a NaN, or without a finite maximum, leaves NaN in log_rest and sum.
struct Partition {
    void *maximum, *log_rest, *sum;
};
using PartitionKernel = void (*)(RowsIn x, std::int64_t rows, std::int64_t n, const Partition& to,
                                 const RowOptions& options);

/// What token_logprobs tells of a row of n adjacent logits beside the partition.
struct RowScores {
    std::int64_t argmax;   ///< first place of the maximum, n where there is none
    std::int64_t greater;  ///< elements above `value`
    double gap;            ///< sum of p (maximum - x) / temperature
};
template <class T>
using DescribeKernel = RowScores (*)(const T* x, std::int64_t n, double maximum, double value,
                                     double temperature);
/// The k largest of n adjacent elements, largest first, ties by index. Returns how many there are: NaN and -inf are none.
template <class T>
using TopKernel = std::int64_t (*)(const T* x, std::int64_t n, std::int64_t k, double* value,
                                   std::int64_t* index);
/// prob[j] = softmax(x)[index[j]], the same bits, for k places of n adjacent elements. prob: (k).
template <class T>
using PlacesKernel = void (*)(const T* x, std::int64_t n, const std::int64_t* index, std::int64_t k, T* prob,
                              const RowOptions& options);

/// Elementwise transforms of n adjacent elements. y may be x. stream: as RowOptions has it.
using MapKernel = void (*)(const void* x, void* y, std::int64_t n, bool stream);
/// n adjacent elements in another type.
using CopyKernel = void (*)(const void* x, void* y, std::int64_t n);

/// Gradient of a transform from its result y: dx = y (dy - sum(y dy)) for softmax, dy - exp(y) sum(dy) for log_softmax;
/// n adjacent elements; dx may be dy or y.
template <class T>
using BackwardKernel = void (*)(const T* y, const T* dy, T* dx, std::int64_t n);

/// Binary cross-entropy of n adjacent elements; weight, pos_weight, loss, grad, hess may be null.
template <class T>
struct BinaryBlock {
    const T *x, *target, *weight, *pos_weight;
    T *loss, *grad, *hess;
    double factor;  ///< of the gradient
    double hess_scale, hess_min;
    bool summed;  ///< the sum of the losses is wanted
};
struct BinaryTotal {
    double loss;  ///< where summed
    /// An element of x (of probabilities), of target lies outside [0, 1]; false where something is written: the caller knows before.
    bool bad_x, bad_target;
};
template <class T>
using BinaryKernel = BinaryTotal (*)(const BinaryBlock<T>& b, std::int64_t n);

/// Kernels that compute in T, on n adjacent elements.
template <class T>
struct ComputeKernels {
    /// Of probabilities (logs clamped at -100) and of logits.
    BinaryKernel<T> bce, bce_logits;
    /// True if an element is below 0 or above 1.
    bool (*outside_unit)(const T* x, std::int64_t n);
    /// Sum in a fixed order, compensated.
    double (*sum)(const T* x, std::int64_t n);
    BackwardKernel<T> softmax_backward, log_softmax_backward;
    DescribeKernel<T> describe;
    TopKernel<T> top;
    PlacesKernel<T> softmax_at;
};

/// The sum of a piece of a row, with its rounding error: such sums are added.
struct Sum {
    double value = 0, error = 0;
};

/// A row of logits that is read in pieces: the maximum first, then the exponentials of all pieces, then what follows.
struct LogitRow {
    double temperature, maximum;
    Sum others{};  ///< of the exponentials of all elements but the maxima, in a unit that belongs to the maximum
    double maxima = 0;                      ///< how many elements equal the maximum
    double log_rest = 0, others_share = 0;  ///< see Partition; 1 - p of a maximum
    Sum inverse{};                          ///< of the sum of all exponentials, in their unit
};

/// The share that each class of a row has in its loss: kept q + even w. Their total follows from the sums of q and w; factor
/// multiplies the gradient.
struct SoftShares {
    Sum kept, even, sum_q, sum_w, factor;
};

/// What soft targets, smoothing, probabilities as input and the weights of logsumexp need: pieces of rows in double,
/// weighted by q, with 0 * inf = 0.
struct WeightedKernels {
    double (*largest)(const double* x, std::int64_t n);
    void (*add_exponentials)(const double* x, std::int64_t n, LogitRow& row);  ///< to others and maxima
    void (*finish)(LogitRow& row);                                             ///< all that follows from them
    /// g[i] = factor (total p[i] - share[i]), p = softmax(x). w may be null.
    void (*gradient)(const double* x, const double* q, const double* w, double* g, std::int64_t n,
                     const LogitRow& row, const SoftShares& shares);
    Sum (*gap)(const double* x, const double* q, std::int64_t n, double maximum);  ///< of q (maximum - x)
    Sum (*surprisal)(const double* x, const double* q, std::int64_t n);            ///< of q -log(x)
    Sum (*exp_sum)(const double* x, const double* q, std::int64_t n,
                   double maximum);                           ///< of q exp(x - maximum)
    void (*log)(const double* x, double* y, std::int64_t n);  ///< y = log(x)
};

struct StorageKernels {
    bool takes_parts;  ///< of rows, as RowOptions has them
    RowKernel softmax, log_softmax;
    PartitionKernel partition;
    ClassKernel class_loss;
    MapKernel sigmoid, log_sigmoid;
    CopyKernel widen, narrow;  ///< storage -> compute type and back
};

struct KernelTable {
    const char* name;
    StorageKernels storage[4];  ///< indexed by DType::float16 ... DType::float64
    ComputeKernels<float> f32;
    ComputeKernels<double> f64;
    WeightedKernels weighted;

    const StorageKernels& of(DType dtype) const { return storage[static_cast<int>(dtype)]; }
    template <class T>
    const ComputeKernels<T>& compute() const {
        if constexpr (sizeof(T) == 4) return f32;
        else return f64;
    }
};

}  // namespace softloss
