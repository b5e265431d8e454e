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

/// Scratch memory of a kernel, per thread: one row of exponentials or a tile of rows, and one vector of padding.
constexpr std::int64_t kStashBytes = 1 << 20;
constexpr std::int64_t kScratchBytes = kStashBytes + 64;

/// Row transforms. y may be x itself (same layout).
using RowKernel = void (*)(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, double temperature,
                           void* scratch);

/// Log-partition of each row as two numbers: logsumexp(x / temperature) = maximum / temperature + log1p(others / largest).
/// maximum[r] is the largest element (not divided), log_rest[r] >= 0. A row with NaN or +-inf only in the way of a finite
/// result leaves NaN in log_rest.
using PartitionKernel = void (*)(RowsIn x, std::int64_t rows, std::int64_t n, double temperature,
                                 double* maximum, double* log_rest, void* scratch);

/// Elementwise transforms of n adjacent elements. y may be x.
using MapKernel = void (*)(const void* x, void* y, std::int64_t n);

/// Kernels that compute in T, on n adjacent elements.
template <class T>
struct ComputeKernels {
    /// Binary cross-entropy of probabilities (logs clamped at -100) and of logits; weight, pos_weight may be null.
    void (*bce)(const T* probs, const T* target, const T* weight, T* loss, std::int64_t n);
    void (*bce_logits)(const T* logits, const T* target, const T* weight, const T* pos_weight, T* loss,
                       std::int64_t n);
    /// True if an element is below 0 or above 1.
    bool (*outside_unit)(const T* x, std::int64_t n);
    /// Sum in a fixed order, compensated.
    double (*sum)(const T* x, std::int64_t n);
};

/// Sums over a row weighted by q, with 0 * inf = 0, on n adjacent elements.
struct WeightedKernels {
    double (*gap)(const double* x, const double* q, std::int64_t n, double maximum);  ///< q (maximum - x)
    double (*surprisal)(const double* x, const double* q, std::int64_t n);            ///< q -log(x)
    double (*exp_sum)(const double* x, const double* q, std::int64_t n,
                      double maximum);                        ///< q exp(x - maximum)
    void (*log)(const double* x, double* y, std::int64_t n);  ///< y = log(x)
};

struct StorageKernels {
    RowKernel softmax, log_softmax;
    PartitionKernel partition;
    MapKernel sigmoid, log_sigmoid;
    MapKernel widen, narrow;  ///< storage -> compute type and back
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
