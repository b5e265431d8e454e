// Gathers the kernels of one instruction set into a table. Only isa.cpp includes it.
#pragma once

#include "backward.hpp"
#include "binary_loss.hpp"
#include "calibration.hpp"
#include "class_loss.hpp"
#include "copy_rows.hpp"
#include "divergence.hpp"
#include "focal.hpp"
#include "probability_loss.hpp"
#include "sample.hpp"
#include "sample_short.hpp"
#include "scores.hpp"
#include "soft_targets.hpp"
#include "sums.hpp"
#include "table.hpp"
#include "weighted_logsumexp.hpp"

namespace softloss {
namespace {

template <class S>
constexpr StorageKernels storage_kernels() {
    return {kSplitsRows<S>,
            softmax_rows<S>,
            log_softmax_rows<S>,
            log_normalize_rows<S>,
            partition_rows<S>,
            class_loss_rows<S>,
            focal_loss_rows<S>,
            soft_loss_rows<S>,
            probability_loss_rows<S, true>,
            probability_loss_rows<S, false>,
            weighted_logsumexp_rows<S>,
            kl_divergence_rows<S>,
            js_divergence_rows<S>,
            softmax_entropy_rows<S>,
            brier_score_rows<S>,
            temperature_rows<S>,
            confidence_rows<S>,
            backward_rows<S, SoftmaxBackward>,
            backward_rows<S, LogSoftmaxBackward>,
            score_rows<S>,
            top_rows<S>,
            sample_rows<S>,
            sigmoid_map<S>,
            log_sigmoid_map<S>,
            widen_map<S>,
            narrow_map<S>};
}
template <class T>
constexpr ComputeKernels<T> compute_kernels() {
    return {bce_map<T>, bce_logits_map<T>, focal_map<T>,  outside_unit<T>, not_hard<T>,
            sum<T>,     top_row<T>,        softmax_at<T>, sample_row<T>,   transpose_rows<T>};
}

constexpr KernelTable make_table(const char* name) {
    return {name,
            {storage_kernels<float16>(), storage_kernels<bfloat16>(), storage_kernels<float>(),
             storage_kernels<double>()},
            compute_kernels<float>(),
            compute_kernels<double>(),
            log_values};
}

}  // namespace
}  // namespace softloss
