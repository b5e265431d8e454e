// sigmoid, log_sigmoid and the binary losses: checks, plan, table look-up, parallel loop, reduction.
//
// Lives here: what the arguments of these functions mean. Must not: SIMD, OpenMP, NumPy.
#include <atomic>

#include "operands.hpp"

namespace softloss {
namespace {

template <class T>
void map_staged(const TensorView& x, const MutableTensorView& y, const Plan& plan,
                MapKernel StorageKernels::* kernel) {
    const MapKernel run = active_table().of(dtype_of<T>).*kernel;
    for_each_block(plan, kElements * sizeof(T), [&](int64_t, const Strides& at, int64_t n, void* scratch) {
        T* const buffer = static_cast<T*>(scratch);
        run(block_of(x, at[0], plan.axis[0], n, buffer), buffer, n);
        scatter(buffer, n, static_cast<char*>(y.data) + at[1], plan.axis[1], y.dtype, y.swapped);
    });
}

void map(const TensorView& x, const MutableTensorView& y, MapKernel StorageKernels::* kernel) {
    if (!same_shape(x.shape, y.shape)) {
        fail("out has shape " + to_string(y.shape) + ", but x has shape " + to_string(x.shape));
    }
    if (!is_floating(y.dtype)) fail("out must be an array of floats");
    if (checked_size(x.shape) == 0) return;
    check_overlap(x, y, "x");
    const std::vector<int64_t> operands[] = {strides_of(x), strides_of(y)};
    const Plan plan = make_plan(x.shape, -1, operands);
    const int64_t item = size_of(x.dtype);
    if (x.dtype == y.dtype && !x.swapped && !y.swapped && plan.axis[0] == item && plan.axis[1] == item) {
        const MapKernel run = active_table().of(x.dtype).*kernel;
        for_each_block(plan, 0, [&](int64_t, const Strides& at, int64_t n, void*) {
            run(static_cast<const char*>(x.data) + at[0], static_cast<char*>(y.data) + at[1], n);
        });
    } else if (y.dtype == DType::float64) {
        map_staged<double>(x, y, plan, kernel);
    } else {
        map_staged<float>(x, y, plan, kernel);
    }
}

struct BinaryLoss {
    bool logits;
    const TensorView &x, &target;
    const BinaryLossOptions& options;
    const MutableTensorView* losses;
    Plan plan;  ///< operands: x, losses, target, weight, pos_weight
};

/// Sums of the blocks in index order; sets a flag for an operand outside [0, 1] instead of throwing across threads.
template <class T>
std::vector<double> binary_blocks(const BinaryLoss& b, std::atomic<bool>& bad_x,
                                  std::atomic<bool>& bad_target) {
    const auto& kernels = active_table().compute<T>();
    const Plan& plan = b.plan;
    std::vector<double> sums(plan.batches * ((plan.n + kElements - 1) / kElements));
    for_each_block(
        plan, 5 * kElements * sizeof(T), [&](int64_t block, const Strides& at, int64_t n, void* scratch) {
            T* const buffer = static_cast<T*>(scratch);
            const auto operand = [&](const TensorView* view, int k) -> const T* {
                return view ? block_of(*view, at[k], plan.axis[k], n, buffer + k * kElements) : nullptr;
            };
            const T* const x = operand(&b.x, 0);
            const T* const z = operand(&b.target, 2);
            const T* const weight = operand(b.options.weight, 3);
            T* const loss = buffer + kElements;
            if (kernels.outside_unit(z, n)) bad_target = true;
            if (b.logits) {
                kernels.bce_logits(x, z, weight, operand(b.options.pos_weight, 4), loss, n);
            } else {
                if (kernels.outside_unit(x, n)) bad_x = true;
                kernels.bce(x, z, weight, loss, n);
            }
            if (!b.losses) {
                sums[block] = kernels.sum(loss, n);
            } else if (!bad_x && !bad_target) {
                char* const to = static_cast<char*>(b.losses->data) + at[1];
                scatter(loss, n, to, plan.axis[1], b.losses->dtype, b.losses->swapped);
            }
        });
    return sums;
}

double binary_loss(bool logits, const TensorView& x, const TensorView& target,
                   const BinaryLossOptions& options, const MutableTensorView* losses) {
    std::vector<std::vector<int64_t>> operands{strides_of(x), std::vector<int64_t>(x.ndim(), 0),
                                               broadcast("target", target.shape, target.strides, x.shape)};
    if (losses) {
        if (!same_shape(losses->shape, x.shape)) fail("losses must have shape " + to_string(x.shape));
        operands[1] = strides_of(*losses);
    }
    const std::vector<int64_t> none(x.ndim(), 0);
    const auto optional = [&](const char* name, const TensorView* view) {
        operands.push_back(view ? broadcast(name, view->shape, view->strides, x.shape) : none);
    };
    optional("weight", options.weight);
    optional("pos_weight", options.pos_weight);
    if (options.reduction == Reduction::none && !losses) fail("reduction none needs an array for the losses");
    const int64_t size = checked_size(x.shape);
    std::vector<double> sums;
    if (size > 0) {
        const BinaryLoss b{logits,
                           x,
                           target,
                           options,
                           options.reduction == Reduction::none ? losses : nullptr,
                           make_plan(x.shape, -1, operands)};
        std::atomic<bool> bad_x{false}, bad_target{false};
        sums = options.dtype == DType::float64 ? binary_blocks<double>(b, bad_x, bad_target)
                                               : binary_blocks<float>(b, bad_x, bad_target);
        if (bad_x) fail_outside("probs", x);
        if (bad_target) fail_outside("target", target);
    }
    if (options.reduction == Reduction::none) return std::numeric_limits<double>::quiet_NaN();
    const double total = active_table().f64.sum(sums.data(), static_cast<int64_t>(sums.size()));
    if (options.reduction == Reduction::sum) return total;
    return size == 0 ? options.empty : total / static_cast<double>(size);
}

}  // namespace

void sigmoid(const TensorView& x, const MutableTensorView& y) {
    map(x, y, &StorageKernels::sigmoid);
}

void log_sigmoid(const TensorView& x, const MutableTensorView& y) {
    map(x, y, &StorageKernels::log_sigmoid);
}

double binary_cross_entropy(const TensorView& probs, const TensorView& target,
                            const BinaryLossOptions& options, const MutableTensorView* losses) {
    return binary_loss(false, probs, target, options, losses);
}

double binary_cross_entropy_with_logits(const TensorView& logits, const TensorView& target,
                                        const BinaryLossOptions& options, const MutableTensorView* losses) {
    return binary_loss(true, logits, target, options, losses);
}

}  // namespace softloss
