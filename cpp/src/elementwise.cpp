// sigmoid, log_sigmoid and the binary losses: checks, plan, table look-up, parallel loop, reduction.
//
// Lives here: what the arguments of these functions mean. Must not: SIMD, OpenMP, NumPy.
//
// All of it goes block by block: kElements elements, which the kernels read in place or from a buffer.
#include <atomic>
#include <cmath>
#include <vector>

#include "batches.hpp"
#include "checks.hpp"

namespace softloss {
namespace {

/// y = kernel(x), computed in T, if the kernel cannot read and write the elements in place.
template <class T>
void map_staged(const TensorView& x, const MutableTensorView& y, const Plan& plan,
                MapKernel StorageKernels::* kernel) {
    const MapKernel run = active_table().of(dtype_of<T>).*kernel;
    for_each_block(plan, kElements * sizeof(T), [&](int64_t, const Strides& at, int64_t n, void* scratch) {
        T* const buffer = static_cast<T*>(scratch);
        run(block_of(x, at[0], plan.element_stride[0], n, buffer), buffer, n, false);
        scatter(buffer, n, static_cast<char*>(y.data) + at[1], plan.element_stride[1], y.dtype, y.swapped);
    });
}

void map(const TensorView& x_, const MutableTensorView& y_, MapKernel StorageKernels::* kernel) {
    const Input in("x", x_);
    const Output out("out", y_);
    const TensorView& x = *in;
    const MutableTensorView& y = *out;
    check_like(x, "x", y, "out");
    check_memory({{"x", &x, &y}}, {{"out", &y}});
    if (checked_size(x.shape) == 0) return;
    const Operand operands[] = {x.strides, y.strides};
    const Plan plan = make_plan(x.shape, -1, operands);
    const int64_t item = size_of(x.dtype);
    if (x.dtype == y.dtype && !x.swapped && !y.swapped && plan.element_stride[0] == item &&
        plan.element_stride[1] == item) {
        const MapKernel run = active_table().of(x.dtype).*kernel;
        const bool nontemporal = wants_nontemporal(y);
        for_each_block(plan, 0, [&](int64_t, const Strides& at, int64_t n, void*) {
            run(static_cast<const char*>(x.data) + at[0], static_cast<char*>(y.data) + at[1], n, nontemporal);
        });
    } else if (y.dtype == DType::float64) {
        map_staged<double>(x, y, plan, kernel);
    } else {
        map_staged<float>(x, y, plan, kernel);
    }
}

/// Binary cross-entropies by what they are computed from; the focal loss of logits, with targets 0 and 1.
enum class BinaryKind { probs, logits, focal };

/// The arguments of one call, and what is derived from them. With grad and losses, the losses take the place
/// of hess in the plan: no function has all three.
struct BinaryLoss {
    BinaryKind kind;
    const TensorView &x, &target;
    const BinaryLossOptions& options;
    const MutableTensorView* losses;
    const MutableTensorView* grad = nullptr;
    const MutableTensorView* hess = nullptr;
    HessianOptions hessian{};
    Plan plan{};        ///< operands: x, grad or else losses, target, weight, pos_weight, hess or else losses
    double factor = 1;  ///< of the gradient: 1, or 1 / the number of elements

    const char* name() const { return kind == BinaryKind::probs ? "probs" : "logits"; }
    /// Without a power and without class weights the focal loss is the cross-entropy.
    bool focal() const { return kind == BinaryKind::focal && (options.gamma > 0 || options.alpha); }
    template <class T>
    BinaryKernel<T> kernel(const ComputeKernels<T>& kernels) const {
        return kind == BinaryKind::probs ? kernels.bce : focal() ? kernels.focal : kernels.bce_logits;
    }
    DType computed() const { return *options.compute_dtype; }
    /// True if elements are computed in double. That is so with weights in double, too, which are not to be
    /// rounded.
    bool wide() const {
        const auto is_double = [](const TensorView* view) { return view && view->dtype == DType::float64; };
        return computed() == DType::float64 || is_double(options.weight) || is_double(options.pos_weight);
    }
};

/// Calls f(offsets, index within the block, count) for the runs of elements at constant strides that make up
/// a block: n elements from number `first` on in C order. Blocks follow C order whatever the layout is, so
/// that sums over blocks have the same bits for every layout.
template <class F>
void for_each_run(const Plan& plan, int64_t first, int64_t n, F f) {
    for (int64_t done = 0; done < n;) {
        const int64_t batch = (first + done) / plan.n, within = (first + done) % plan.n;
        const int64_t count = std::min(n - done, plan.n - within);
        Strides at = plan.offset(batch);
        for (int k = 0; k < kMaxOperands; ++k) at[k] += within * plan.element_stride[k];
        f(at, done, count);
        done += count;
    }
}

/// The operands of one block, as adjacent elements of T. Scratch memory has a slot of kElements for each
/// operand of the plan, and one more for losses.
template <class T>
class BinaryTask {
  public:
    BinaryTask(const BinaryLoss& loss, int64_t first, int64_t n, void* scratch)
        : b_(loss), first_(first), n_(n), buffer_(static_cast<T*>(scratch)) {}

    /// Operand k: in place if the array has such elements, else converted into slot k. Null if there is no
    /// array.
    const T* operand(const TensorView* view, int k) {
        if (!view) return nullptr;
        const T* result = buffer_ + k * kElements;
        for_each_run(b_.plan, first_, n_, [&](const Strides& at, int64_t done, int64_t count) {
            if (count == n_) {
                result = block_of(*view, at[k], b_.plan.element_stride[k], n_, buffer_ + k * kElements);
            } else {
                gather(static_cast<const char*>(view->data) + at[k], b_.plan.element_stride[k], count,
                       view->dtype, view->swapped, buffer_ + k * kElements + done);
            }
        });
        return result;
    }
    /// Where the kernel writes operand k: into the array itself if possible, else into a slot, from which
    /// put() copies.
    T* output(const MutableTensorView* view, int k, int slot) {
        if (!view) return nullptr;
        T* result = buffer_ + slot * kElements;
        for_each_run(b_.plan, first_, n_, [&](const Strides& at, int64_t, int64_t count) {
            char* const p = static_cast<char*>(view->data) + at[k];
            const bool direct = count == n_ && view->dtype == dtype_of<T> && !view->swapped &&
                                b_.plan.element_stride[k] == sizeof(T) && is_aligned<T>(p);
            if (direct) result = reinterpret_cast<T*>(p);
        });
        return result;
    }
    /// Copies the results from their slot to the array, unless the kernel has written there.
    void put(const MutableTensorView* view, int k, const T* from, int slot) {
        if (!view || from != buffer_ + slot * kElements) return;
        for_each_run(b_.plan, first_, n_, [&](const Strides& at, int64_t done, int64_t count) {
            scatter(from + done, count, static_cast<char*>(view->data) + at[k], b_.plan.element_stride[k],
                    view->dtype, view->swapped);
        });
    }
    T* slot(int k) { return buffer_ + k * kElements; }

  private:
    const BinaryLoss& b_;
    int64_t first_, n_;
    T* buffer_;
};

/// Runs the kernels on all blocks. Returns the sums of their losses in the order of the blocks; none if
/// losses are written. Sets a flag if an operand lies outside [0, 1]: an exception must not leave the
/// parallel loop.
template <class T>
std::vector<double> binary_blocks(const BinaryLoss& b, std::atomic<bool>& bad_x,
                                  std::atomic<bool>& bad_target) {
    const auto& kernels = active_table().compute<T>();
    const int64_t size = b.plan.size(), blocks = (size + kElements - 1) / kElements;
    const bool summed = !b.losses && !b.hess;
    std::vector<double> sums(summed ? blocks : 0);
    const int losses_at = b.grad ? 5 : 1;  // the operand number of the losses
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
        call.slack_x = static_cast<T>(unit_slack(b.x.dtype, b.computed()));
        call.slack_target = static_cast<T>(unit_slack(b.target.dtype, b.computed()));
        call.hess_scale = b.hessian.hess_scale;
        call.hess_min = b.hessian.hess_min;
        call.summed = summed;
        call.gamma = b.options.gamma;
        call.positive = b.options.alpha.value_or(1);
        call.negative = b.options.alpha ? 1 - call.positive : 1;
        const BinaryTotal total = b.kernel(kernels)(call, n);
        if (total.bad_target) bad_target = true;
        if (total.bad_x) bad_x = true;
        task.put(b.grad, 1, call.grad, 1);
        task.put(b.hess, 5, call.hess, 5);
        task.put(b.losses, losses_at, call.loss, 6);
        if (summed) sums[block] = total.loss;
    });
    return sums;
}

/// Checks shapes and outputs, and makes the plan.
void prepare(BinaryLoss& b) {
    const TensorView& x = b.x;
    const auto optional = [&](const char* name, const TensorView* view) {
        return view ? broadcast(name, view->shape, view->strides, x.shape) : Dims();
    };
    const auto target = optional("target", &b.target);
    const auto weight = optional("weight", b.options.weight),
               pos_weight = optional("pos_weight", b.options.pos_weight);
    check_losses(b.losses, x.shape);
    if (b.grad) check_like(x, b.name(), *b.grad, "grad_out");
    if (b.hess) check_like(x, b.name(), *b.hess, "hess_out");
    check_memory({{b.name(), &x, b.grad},
                  {"target", &b.target},
                  {"weight", b.options.weight},
                  {"pos_weight", b.options.pos_weight}},
                 {{"grad_out", b.grad}, {"hess_out", b.hess}, {"losses", b.losses}});
    if (checked_size(x.shape) == 0) return;
    const MutableTensorView* const first = b.grad ? b.grad : b.losses;
    const MutableTensorView* const last = b.hess ? b.hess : b.grad ? b.losses : nullptr;
    const Operand operands[] = {x.strides, strides_of(first), target, weight, pos_weight, strides_of(last)};
    b.plan = make_plan(x.shape, -1, operands, Order::c);
    if (b.kind == BinaryKind::focal) {
        check_hard("target", b.target);
    } else if (b.grad || b.losses) {  // before anything is written
        check_unit("target", b.target, b.computed());
        if (b.kind == BinaryKind::probs) check_unit("probs", x, b.computed());
    }
}

/// Runs the kernels, then throws the error of an operand outside [0, 1].
std::vector<double> run(const BinaryLoss& b) {
    std::atomic<bool> bad_x{false}, bad_target{false};
    auto sums =
        b.wide() ? binary_blocks<double>(b, bad_x, bad_target) : binary_blocks<float>(b, bad_x, bad_target);
    if (bad_x) fail_outside("probs", b.x, b.computed());
    if (bad_target) fail_outside("target", b.target, b.computed());
    return sums;
}

/// The options of this kind of loss: without those that it does not have.
BinaryLossOptions options_of(BinaryKind kind, const BinaryLossOptions& given) {
    BinaryLossOptions options = given;
    if (kind != BinaryKind::logits) options.pos_weight = nullptr;
    if (kind == BinaryKind::focal) check_focal(given.gamma, given.alpha);
    return options;
}

[[gnu::noinline]] double binary_loss(BinaryKind kind, const TensorView& x_, const TensorView& target_,
                                     const BinaryLossOptions& given, const MutableTensorView* losses_,
                                     const MutableTensorView* grad_) {
    const bool keep = given.reduction == Reduction::none;
    check_reduction(given.reduction, losses_);
    BinaryLossOptions options = options_of(kind, given);
    const Input x_in(kind == BinaryKind::probs ? "probs" : "logits", x_), target("target", target_),
        weight("weight", options.weight), pos_weight("pos_weight", options.pos_weight);
    const Output losses("losses", keep ? losses_ : nullptr), grad("grad_out", grad_);
    const TensorView& x = *x_in;
    options.weight = weight.get();
    options.pos_weight = pos_weight.get();
    options.compute_dtype = resolved(given.compute_dtype, x);
    BinaryLoss b{kind, x, *target, options, losses.get(), grad.get()};
    prepare(b);
    const int64_t size = x.size();
    if (options.reduction == Reduction::mean) b.factor = 1 / static_cast<double>(std::max<int64_t>(size, 1));
    const std::vector<double> sums = size > 0 ? run(b) : std::vector<double>();
    if (keep) return std::numeric_limits<double>::quiet_NaN();
    const Sum sum = active_table().f64.sum(sums.data(), static_cast<int64_t>(sums.size()));
    if (std::isnan(sum.value)) return std::numeric_limits<double>::quiet_NaN();  // in its one bit pattern
    if (options.reduction == Reduction::sum) return total(sum);
    return size == 0 ? options.empty : total(quotient(sum, {static_cast<double>(size)}));
}

void binary_hessian(BinaryKind kind, const TensorView& logits, const TensorView& target,
                    const MutableTensorView& grad, const MutableTensorView& hess,
                    const BinaryLossOptions& given, const HessianOptions& hessian) {
    BinaryLossOptions options = options_of(kind, given);
    const Input x("logits", logits), labels("target", target), weight("weight", options.weight),
        pos_weight("pos_weight", options.pos_weight);
    const Output grad_to("grad_out", grad), hess_to("hess_out", hess);
    options.weight = weight.get();
    options.pos_weight = pos_weight.get();
    options.compute_dtype = compute_dtype_of(logits.dtype);
    check_hessian(hessian);
    BinaryLoss b{kind, *x, *labels, options, nullptr, grad_to.get(), hess_to.get(), hessian};
    prepare(b);
    if (logits.size() > 0) run(b);
}

}  // namespace

void sigmoid(const TensorView& x, const MutableTensorView& y) {
    const DefaultFloatMode mode;
    map(x, y, &StorageKernels::sigmoid);
}

void log_sigmoid(const TensorView& x, const MutableTensorView& y) {
    const DefaultFloatMode mode;
    map(x, y, &StorageKernels::log_sigmoid);
}

double binary_cross_entropy(const TensorView& probs, const TensorView& target,
                            const BinaryLossOptions& options, const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return binary_loss(BinaryKind::probs, probs, target, options, losses, nullptr);
}
double binary_cross_entropy_with_logits(const TensorView& logits, const TensorView& target,
                                        const BinaryLossOptions& options, const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return binary_loss(BinaryKind::logits, logits, target, options, losses, nullptr);
}
double binary_cross_entropy_and_grad(const TensorView& probs, const TensorView& target,
                                     const MutableTensorView& grad, const BinaryLossOptions& options,
                                     const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return binary_loss(BinaryKind::probs, probs, target, options, losses, &grad);
}
double binary_cross_entropy_with_logits_and_grad(const TensorView& logits, const TensorView& target,
                                                 const MutableTensorView& grad,
                                                 const BinaryLossOptions& options,
                                                 const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return binary_loss(BinaryKind::logits, logits, target, options, losses, &grad);
}

void binary_cross_entropy_with_logits_grad_hess(const TensorView& logits, const TensorView& target,
                                                const MutableTensorView& grad, const MutableTensorView& hess,
                                                const BinaryLossOptions& options,
                                                const HessianOptions& hessian) {
    const DefaultFloatMode mode;
    binary_hessian(BinaryKind::logits, logits, target, grad, hess, options, hessian);
}

double sigmoid_focal_loss(const TensorView& logits, const TensorView& target,
                          const BinaryLossOptions& options, const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return binary_loss(BinaryKind::focal, logits, target, options, losses, nullptr);
}
double sigmoid_focal_loss_and_grad(const TensorView& logits, const TensorView& target,
                                   const MutableTensorView& grad, const BinaryLossOptions& options,
                                   const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return binary_loss(BinaryKind::focal, logits, target, options, losses, &grad);
}
void sigmoid_focal_loss_grad_hess(const TensorView& logits, const TensorView& target,
                                  const MutableTensorView& grad, const MutableTensorView& hess,
                                  const BinaryLossOptions& options, const HessianOptions& hessian) {
    const DefaultFloatMode mode;
    binary_hessian(BinaryKind::focal, logits, target, grad, hess, options, hessian);
}

}  // namespace softloss
