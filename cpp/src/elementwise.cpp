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
    check_output(x, y, "out", "x");
    if (checked_size(x.shape) == 0) return;
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
    const MutableTensorView* grad = nullptr;
    const MutableTensorView* hess = nullptr;
    HessianOptions hessian{};
    Plan plan{};        ///< operands: x, losses or grad, target, weight, pos_weight, hess
    double factor = 1;  ///< of the gradient

    const char* name() const { return logits ? "logits" : "probs"; }
};

/// Sums of the blocks in index order; sets a flag for an operand outside [0, 1] instead of throwing across threads.
template <class T>
std::vector<double> binary_blocks(const BinaryLoss& b, std::atomic<bool>& bad_x,
                                  std::atomic<bool>& bad_target) {
    const auto& kernels = active_table().compute<T>();
    const Plan& plan = b.plan;
    const bool summed = !b.losses && !b.hess;
    std::vector<double> sums(summed ? plan.batches * ((plan.n + kElements - 1) / kElements) : 0);
    for_each_block(
        plan, 7 * kElements * sizeof(T), [&](int64_t block, const Strides& at, int64_t n, void* scratch) {
            T* const buffer = static_cast<T*>(scratch);
            const auto operand = [&](const TensorView* view, int k) -> const T* {
                return view ? block_of(*view, at[k], plan.axis[k], n, buffer + k * kElements) : nullptr;
            };
            // An output in place where it is like T, else by a buffer.
            const auto output = [&](const MutableTensorView* view, int k, T* own) -> T* {
                if (!view) return nullptr;
                char* const p = static_cast<char*>(view->data) + at[k];
                const bool direct = view->dtype == dtype_of<T> && !view->swapped &&
                                    plan.axis[k] == sizeof(T) && is_aligned<T>(p);
                return direct ? reinterpret_cast<T*>(p) : own;
            };
            const auto put = [&](const MutableTensorView* view, int k, const T* from, const T* own) {
                if (view && from == own)
                    scatter(from, n, static_cast<char*>(view->data) + at[k], plan.axis[k], view->dtype,
                            view->swapped);
            };
            T *const own_grad = buffer + kElements, *const own_hess = buffer + 5 * kElements,
                     *const loss = buffer + 6 * kElements;
            BinaryBlock<T> call{};
            call.x = operand(&b.x, 0);
            call.target = operand(&b.target, 2);
            call.weight = operand(b.options.weight, 3);
            call.pos_weight = operand(b.options.pos_weight, 4);
            call.loss = b.hess ? nullptr : loss;
            call.grad = output(b.grad, 1, own_grad);
            call.hess = output(b.hess, 5, own_hess);
            call.factor = static_cast<T>(b.factor);
            call.hess_scale = static_cast<T>(b.hessian.scale);
            call.hess_min = static_cast<T>(b.hessian.floor);
            if (!b.grad) {
                if (kernels.outside_unit(call.target, n)) bad_target = true;
                if (!b.logits && kernels.outside_unit(call.x, n)) bad_x = true;
            }
            (b.logits ? kernels.bce_logits : kernels.bce)(call, n);
            put(b.grad, 1, call.grad, own_grad);
            put(b.hess, 5, call.hess, own_hess);
            if (summed) sums[block] = kernels.sum(loss, n);
            if (b.losses) {
                scatter(loss, n, static_cast<char*>(b.losses->data) + at[b.grad ? 5 : 1],
                        plan.axis[b.grad ? 5 : 1], b.losses->dtype, b.losses->swapped);
            }
        });
    return sums;
}

/// Shapes, outputs, the plan.
void prepare(BinaryLoss& b) {
    const TensorView& x = b.x;
    const std::vector<int64_t> none(x.ndim(), 0);
    const auto optional = [&](const char* name, const TensorView* view) {
        return view ? broadcast(name, view->shape, view->strides, x.shape) : none;
    };
    const auto target = optional("target", &b.target);
    const auto weight = optional("weight", b.options.weight),
               pos_weight = optional("pos_weight", b.options.pos_weight);
    if (b.losses && !same_shape(b.losses->shape, x.shape))
        fail("losses must have shape " + to_string(x.shape));
    for (const auto& [out, name] : {std::pair{b.grad, "grad_out"}, std::pair{b.hess, "hess_out"}}) {
        if (!out) continue;
        check_output(x, *out, name, b.name());
        check_separate({&b.target, b.options.weight, b.options.pos_weight}, *out, name, b.name());
    }
    if (b.hess && (overlaps(*b.hess, *b.grad) || overlaps(x, *b.hess)))
        fail("hess_out overlaps grad_out or logits");
    if (checked_size(x.shape) == 0) return;
    const MutableTensorView* const first = b.grad ? b.grad : b.losses;
    const MutableTensorView* const last = b.hess ? b.hess : b.grad ? b.losses : nullptr;
    const std::vector<int64_t> operands[] = {strides_of(x), first ? strides_of(*first) : none, target, weight,
                                             pos_weight,    last ? strides_of(*last) : none};
    b.plan = make_plan(x.shape, -1, operands);
    if (b.losses)
        check_separate({&x, &b.target, b.options.weight, b.options.pos_weight}, *b.losses, "losses",
                       "itself");
    if (b.grad || b.losses) {  // nothing may be written before all is known to be good
        check_unit("target", b.target);
        if (!b.logits) check_unit("probs", x);
    }
}

std::vector<double> run(const BinaryLoss& b) {
    std::atomic<bool> bad_x{false}, bad_target{false};
    auto sums = b.options.dtype == DType::float64 ? binary_blocks<double>(b, bad_x, bad_target)
                                                  : binary_blocks<float>(b, bad_x, bad_target);
    if (bad_x) fail_outside("probs", b.x);
    if (bad_target) fail_outside("target", b.target);
    return sums;
}

double binary_loss(bool logits, const TensorView& x, const TensorView& target,
                   const BinaryLossOptions& options, const MutableTensorView* losses,
                   const MutableTensorView* grad) {
    const bool keep = options.reduction == Reduction::none;
    if (keep && !losses) fail("reduction none needs an array for the losses");
    BinaryLoss b{logits, x, target, options, keep ? losses : nullptr, grad};
    prepare(b);
    const int64_t size = x.size();
    if (options.reduction == Reduction::mean) b.factor = 1 / static_cast<double>(std::max<int64_t>(size, 1));
    const std::vector<double> sums = size > 0 ? run(b) : std::vector<double>();
    if (keep) return std::numeric_limits<double>::quiet_NaN();
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
    return binary_loss(false, probs, target, options, losses, nullptr);
}
double binary_cross_entropy_with_logits(const TensorView& logits, const TensorView& target,
                                        const BinaryLossOptions& options, const MutableTensorView* losses) {
    return binary_loss(true, logits, target, options, losses, nullptr);
}
double binary_cross_entropy_and_grad(const TensorView& probs, const TensorView& target,
                                     const MutableTensorView& grad, const BinaryLossOptions& options,
                                     const MutableTensorView* losses) {
    return binary_loss(false, probs, target, options, losses, &grad);
}
double binary_cross_entropy_with_logits_and_grad(const TensorView& logits, const TensorView& target,
                                                 const MutableTensorView& grad,
                                                 const BinaryLossOptions& options,
                                                 const MutableTensorView* losses) {
    return binary_loss(true, logits, target, options, losses, &grad);
}

void binary_cross_entropy_with_logits_grad_hess(const TensorView& logits, const TensorView& target,
                                                const MutableTensorView& grad, const MutableTensorView& hess,
                                                const BinaryLossOptions& options,
                                                const HessianOptions& hessian) {
    BinaryLoss b{true, logits, target, options, nullptr, &grad, &hess, hessian};
    prepare(b);
    if (logits.size() > 0) run(b);
}

}  // namespace softloss
