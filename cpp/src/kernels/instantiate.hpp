// Gathers the kernels of one instruction set into a table; included by the isa_ files alone.
#pragma once

#include "binary.hpp"
#include "cross_entropy.hpp"
#include "scores.hpp"
#include "softmax.hpp"
#include "table.hpp"

namespace softloss {
namespace {

template <class S>
constexpr StorageKernels storage_kernels() {
    return {kTakesParts<S>, softmax_rows<S>,    log_softmax_rows<S>, partition_rows<S>, class_loss_rows<S>,
            sigmoid_map<S>, log_sigmoid_map<S>, widen_map<S>,        narrow_map<S>};
}
template <class T>
constexpr ComputeKernels<T> compute_kernels() {
    return {bce_map<T>,
            bce_logits_map<T>,
            outside_unit<T>,
            sum<T>,
            softmax_backward_row<T>,
            log_softmax_backward_row<T>,
            describe_row<T>,
            top_row<T>,
            softmax_at<T>};
}

constexpr KernelTable make_table(const char* name) {
    return {name,
            {storage_kernels<float16>(), storage_kernels<bfloat16>(), storage_kernels<float>(),
             storage_kernels<double>()},
            compute_kernels<float>(),
            compute_kernels<double>(),
            {largest, add_exponentials, finish_logits, soft_gradient, weighted_gap, weighted_surprisal,
             weighted_exp_sum, log_values}};
}

}  // namespace
}  // namespace softloss
