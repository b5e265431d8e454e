// Gathers the kernels of one instruction set into a table; included by the isa_ files alone.
#pragma once

#include "binary.hpp"
#include "cross_entropy.hpp"
#include "softmax.hpp"
#include "table.hpp"

namespace softloss {
namespace {

/// A temperature of 1, the usual case, has its own kernels.
template <class S>
void softmax_any(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, double t, void* scratch) {
    (t == 1 ? softmax_rows<S, false> : softmax_rows<S, true>)(x, y, rows, n, t, scratch);
}
template <class S>
void log_softmax_any(RowsIn x, RowsOut y, std::int64_t rows, std::int64_t n, double t, void* scratch) {
    (t == 1 ? log_softmax_rows<S, false> : log_softmax_rows<S, true>)(x, y, rows, n, t, scratch);
}
template <class S>
void partition_any(RowsIn x, std::int64_t rows, std::int64_t n, double t, double* maximum, double* rest,
                   void* scratch) {
    (t == 1 ? partition_rows<S, false> : partition_rows<S, true>)(x, rows, n, t, maximum, rest, scratch);
}

template <class S>
constexpr StorageKernels storage_kernels() {
    return {softmax_any<S>,     log_softmax_any<S>, partition_any<S>, sigmoid_map<S>,
            log_sigmoid_map<S>, widen_map<S>,       narrow_map<S>};
}
template <class T>
constexpr ComputeKernels<T> compute_kernels() {
    return {bce_map<T>, bce_logits_map<T>, outside_unit<T>, sum<T>};
}

constexpr KernelTable make_table(const char* name) {
    return {name,
            {storage_kernels<float16>(), storage_kernels<bfloat16>(), storage_kernels<float>(),
             storage_kernels<double>()},
            compute_kernels<float>(),
            compute_kernels<double>(),
            {weighted_gap, weighted_surprisal, weighted_exp_sum, log_values}};
}

}  // namespace
}  // namespace softloss
