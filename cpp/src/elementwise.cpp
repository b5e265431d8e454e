// sigmoid, log_sigmoid and the binary losses: checks, plan, table look-up, parallel loop, reduction.
//
// Lives here: what the arguments of these functions mean. Must not: SIMD, OpenMP, NumPy.
#include <atomic>
#include <vector>

#include "operands.hpp"

namespace softloss {
namespace {

template <class T>
void map_staged(const TensorView& x, const MutableTensorView& y, const Plan& plan,
                MapKernel StorageKernels::* kernel) {
    const MapKernel run = active_table().of(dtype_of<T>).*kernel;
    for_each_block(plan, kElements * sizeof(T), [&](int64_t, const Strides& at, int64_t n, void* scratch) {
        T* const buffer = static_cast<T*>(scratch);
        run(block_of(x, at[0], plan.axis[0], n, buffer), buffer, n, false);
        scatter(buffer, n, static_cast<char*>(y.data) + at[1], plan.axis[1], y.dtype, y.swapped);
    });
}

void map(const TensorView& x, const MutableTensorView& y, MapKernel StorageKernels::* kernel) {
    check_output(x, y, "out", "x");
    if (checked_size(x.shape) == 0) return;
    const Operand operands[] = {x.strides, y.strides};
    const Plan plan = make_plan(x.shape, -1, operands);
    const int64_t item = size_of(x.dtype);
    if (x.dtype == y.dtype && !x.swapped && !y.swapped && plan.axis[0] == item && plan.axis[1] == item) {
        const MapKernel run = active_table().of(x.dtype).*kernel;
        const bool stream = streams(y);
        for_each_block(plan, 0, [&](int64_t, const Strides& at, int64_t n, void*) {
            run(static_cast<const char*>(x.data) + at[0], static_cast<char*>(y.data) + at[1], n, stream);
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

/// The pieces of a block: f(offsets, first element of the block, count). Blocks hold kElements elements in C order whatever
/// the layout, so that their sums have the same bits for every one.
template <class F>
void for_each_piece(const Plan& plan, int64_t first, int64_t n, F f) {
    for (int64_t done = 0; done < n;) {
        const int64_t batch = (first + done) / plan.n, within = (first + done) % plan.n;
        const int64_t count = std::min(n - done, plan.n - within);
        Strides at = plan.offset(batch);
        for (int k = 0; k < kMaxOperands; ++k) at[k] += within * plan.axis[k];
        f(at, done, count);
        done += count;
    }
}

template <class T>
class BinaryTask {
  public:
    BinaryTask(const BinaryLoss& loss, int64_t first, int64_t n, void* scratch)
        : b_(loss), first_(first), n_(n), buffer_(static_cast<T*>(scratch)) {}

    /// The operand as adjacent elements: in place where it is one piece like that.
    const T* operand(const TensorView* view, int k) {
        if (!view) return nullptr;
        const T* result = buffer_ + k * kElements;
        for_each_piece(b_.plan, first_, n_, [&](const Strides& at, int64_t done, int64_t count) {
            if (count == n_) {
                result = block_of(*view, at[k], b_.plan.axis[k], n_, buffer_ + k * kElements);
            } else {
                gather(static_cast<const char*>(view->data) + at[k], b_.plan.axis[k], count, view->dtype,
                       view->swapped, buffer_ + k * kElements + done);
            }
        });
        return result;
    }
    /// Where the kernel puts an output: in place where it can, else in a buffer that put() writes from.
    T* output(const MutableTensorView* view, int k, int slot) {
        if (!view) return nullptr;
        T* result = buffer_ + slot * kElements;
        for_each_piece(b_.plan, first_, n_, [&](const Strides& at, int64_t, int64_t count) {
            char* const p = static_cast<char*>(view->data) + at[k];
            const bool direct = count == n_ && view->dtype == dtype_of<T> && !view->swapped &&
                                b_.plan.axis[k] == sizeof(T) && is_aligned<T>(p);
            if (direct) result = reinterpret_cast<T*>(p);
        });
        return result;
    }
    void put(const MutableTensorView* view, int k, const T* from, int slot) {
        if (!view || from != buffer_ + slot * kElements) return;
        for_each_piece(b_.plan, first_, n_, [&](const Strides& at, int64_t done, int64_t count) {
            scatter(from + done, count, static_cast<char*>(view->data) + at[k], b_.plan.axis[k], view->dtype,
                    view->swapped);
        });
    }
    T* slot(int k) { return buffer_ + k * kElements; }

  private:
    const BinaryLoss& b_;
    int64_t first_, n_;
    T* buffer_;
};

/// Sums of the blocks in index order; sets a flag for an operand outside [0, 1] instead of throwing across threads.
template <class T>
std::vector<double> binary_blocks(const BinaryLoss& b, std::atomic<bool>& bad_x,
                                  std::atomic<bool>& bad_target) {
    const auto& kernels = active_table().compute<T>();
    const int64_t size = b.plan.size(), blocks = (size + kElements - 1) / kElements;
    const bool summed = !b.losses && !b.hess;
    std::vector<double> sums(summed ? blocks : 0);
    const int losses_at = b.grad ? 5 : 1;  // the operand that the losses are
    parallel_for(blocks, size, 7 * kElements * sizeof(T), [&](int64_t block, void* scratch) {
        const int64_t first = block * kElements, n = std::min(kElements, size - first);
        BinaryTask<T> task(b, first, n, scratch);
        BinaryBlock<T> call{};
        call.x = task.operand(&b.x, 0);
        call.target = task.operand(&b.target, 2);
        call.weight = task.operand(b.options.weight, 3);
        call.pos_weight = task.operand(b.options.pos_weight, 4);
        call.loss = b.losses ? task.slot(6) : nullptr;
        call.grad = task.output(b.grad, 1, 1);
        call.hess = task.output(b.hess, 5, 5);
        call.factor = b.factor;
        call.hess_scale = b.hessian.scale;
        call.hess_min = b.hessian.floor;
        call.summed = summed;
        const BinaryTotal total = (b.logits ? kernels.bce_logits : kernels.bce)(call, n);
        if (total.bad_target) bad_target = true;
        if (total.bad_x) bad_x = true;
        task.put(b.grad, 1, call.grad, 1);
        task.put(b.hess, 5, call.hess, 5);
        task.put(b.losses, losses_at, call.loss, 6);
        if (summed) sums[block] = total.loss;
    });
    return sums;
}

/// Shapes, outputs, the plan.
void prepare(BinaryLoss& b) {
    const TensorView& x = b.x;
    const auto optional = [&](const char* name, const TensorView* view) {
        return view ? broadcast(name, view->shape, view->strides, x.shape) : Dims();
    };
    const auto target = optional("target", &b.target);
    const auto weight = optional("weight", b.options.weight),
               pos_weight = optional("pos_weight", b.options.pos_weight);
    check_losses(b.losses, x.shape);
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
    const Operand operands[] = {x.strides, strides_of(first), target, weight, pos_weight, strides_of(last)};
    b.plan = make_plan(x.shape, -1, operands, Order::c);
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
    BinaryLossOptions own = options;
    own.dtype = compute_dtype(logits);
    check_hessian(hessian);
    BinaryLoss b{true, logits, target, own, nullptr, &grad, &hess, hessian};
    prepare(b);
    if (logits.size() > 0) run(b);
}

}  // namespace softloss
