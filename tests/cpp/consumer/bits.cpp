// Calls every function of the C++ API and prints the bytes of its result: lines of "name bytes".
//
// Lives here: the same cases, in the same order, as in bits.c and test_consumer.py. Must not: checks.
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <utility>
#include <vector>

#include <softloss/softloss.hpp>

namespace {

constexpr std::int64_t kRows = 3, kClasses = 37;

template <class T>
struct Tensor {
    std::vector<std::int64_t> shape, strides;
    std::vector<T> data;

    explicit Tensor(std::vector<std::int64_t> shape_) : shape(std::move(shape_)), strides(shape.size()) {
        std::int64_t size = 1;
        for (std::size_t d = shape.size(); d-- > 0; size *= shape[d])
            strides[d] = size * std::int64_t{sizeof(T)};
        data.resize(size);
    }
    softloss::TensorView in() const { return {data.data(), softloss::dtype_of<T>, shape, strides}; }
    softloss::MutableTensorView out() { return {data.data(), softloss::dtype_of<T>, shape, strides}; }
};

/// Numbers in [low, high) of a linear congruential generator.
template <class T>
Tensor<T> numbers(std::vector<std::int64_t> shape, std::uint64_t seed, T low, T high) {
    Tensor<T> t(std::move(shape));
    std::uint64_t state = seed;
    for (T& x : t.data) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x = low + (high - low) * (static_cast<T>(state >> 44) / (1 << 20));
    }
    return t;
}

template <class T>
constexpr const char* suffix = sizeof(T) == 4 ? "float32" : "float64";

template <class T, class Run = T>
void print(const char* name, const std::vector<T>& values) {
    std::printf("%s.%s ", name, suffix<Run>);
    const auto* const bytes = reinterpret_cast<const unsigned char*>(values.data());
    for (std::size_t i = 0; i < values.size() * sizeof(T); ++i) std::printf("%02x", bytes[i]);
    std::printf("\n");
}
/// A loss that was reduced: Python gives it in the dtype of the computation.
template <class T>
void print_loss(const char* name, double loss) {
    print(name, std::vector<T>{static_cast<T>(loss)});
}

template <class T>
void print(const char* name, const softloss::LossGrad<T>& result) {
    print_loss<T>(name, result.loss);
    print("grad", result.grad);
}
template <class T>
void print(const char* name, const softloss::GradHess<T>& result) {
    print(name, result.grad);
    print("hess", result.hess);
}

template <class T>
void cases() {
    const Tensor<T> x_ = numbers<T>({kRows, kClasses}, 1, T(-20), T(20));
    const Tensor<T> probs_ = numbers<T>({kRows, kClasses}, 2, T(0), T(1));
    const std::vector<T>&x = x_.data, &probs = probs_.data;
    const std::vector<T> weights = numbers<T>({kClasses}, 3, T(0), T(2)).data;
    const softloss::Contiguous weight(weights);
    std::vector<std::int64_t> labels{5, -100, 36};
    std::vector<T> y(x.size()), row(kRows);

    // Over ranges.
    softloss::softmax(x, y, kClasses);
    print("softmax", y);
    softloss::softmax_backward(y, x, y, kClasses);
    print("softmax_backward", y);
    softloss::log_softmax(x, y, kClasses);
    print("log_softmax", y);
    softloss::log_softmax_backward(y, x, y, kClasses);
    print("log_softmax_backward", y);
    softloss::logsumexp(x, row, kClasses);
    print("logsumexp", row);
    softloss::log_normalize(x, y, row, kClasses);
    print("log_normalize", y);
    print("logsumexp", row);
    softloss::softmax_entropy(x, row, kClasses, {.temperature = 2});
    print("softmax_entropy", row);
    softloss::sigmoid(x, y);
    print("sigmoid", y);
    softloss::log_sigmoid(x, y);
    print("log_sigmoid", y);

    print_loss<T>("cross_entropy", softloss::cross_entropy(x, labels, kClasses));
    print_loss<T>("cross_entropy_options", softloss::cross_entropy(x, labels, kClasses,
                                                                   {.weight = &weight,
                                                                    .label_smoothing = 0.1,
                                                                    .temperature = 2,
                                                                    .reduction = softloss::Reduction::sum}));
    softloss::cross_entropy(x, probs, kClasses, {.reduction = softloss::Reduction::none}, row);
    print("cross_entropy_rows", row);
    print_loss<T>("nll_loss", softloss::nll_loss(x, labels, kClasses));
    print_loss<T>("categorical_cross_entropy", softloss::categorical_cross_entropy(probs, labels, kClasses));
    print_loss<T>("binary_cross_entropy", softloss::binary_cross_entropy(probs, probs));
    print_loss<T>("binary_cross_entropy_with_logits", softloss::binary_cross_entropy_with_logits(
                                                          x, probs, {.reduction = softloss::Reduction::sum}));

    softloss::kl_divergence(x, probs, kClasses, {.reduction = softloss::Reduction::none}, row);
    print("kl_divergence", row);
    print_loss<T>("js_divergence", softloss::js_divergence(x, probs, kClasses, {.temperature = 2}));
    print("kl_divergence_and_grad", softloss::kl_divergence_and_grad(x, probs, kClasses));
    print("cross_entropy_and_grad", softloss::cross_entropy_and_grad(x, labels, kClasses));
    print("nll_loss_and_grad", softloss::nll_loss_and_grad(x, labels, kClasses));
    print("categorical_cross_entropy_and_grad",
          softloss::categorical_cross_entropy_and_grad(probs, labels, kClasses));
    print("binary_cross_entropy_and_grad", softloss::binary_cross_entropy_and_grad(probs, probs));
    print("binary_cross_entropy_with_logits_and_grad",
          softloss::binary_cross_entropy_with_logits_and_grad(x, probs));
    print("cross_entropy_grad_hess",
          softloss::cross_entropy_grad_hess(x, labels, kClasses, {}, {.hess_scale = 2, .hess_min = 1e-16}));
    print("binary_cross_entropy_with_logits_grad_hess",
          softloss::binary_cross_entropy_with_logits_grad_hess(x, probs));

    const std::vector<int> hits = [&] {
        std::vector<int> all;
        for (const T p : probs) all.push_back(p > T(0.5));
        return all;
    }();
    const softloss::BinaryLossOptions focal{.alpha = 0.25, .gamma = 1.5};
    print_loss<T>("softmax_focal_loss", softloss::softmax_focal_loss(x, labels, kClasses));
    print("softmax_focal_loss_and_grad",
          softloss::softmax_focal_loss_and_grad(x, labels, kClasses, {.gamma = 0.5}));
    print("softmax_focal_loss_grad_hess", softloss::softmax_focal_loss_grad_hess(x, labels, kClasses));
    print_loss<T>("sigmoid_focal_loss", softloss::sigmoid_focal_loss(x, hits));
    print("sigmoid_focal_loss_and_grad", softloss::sigmoid_focal_loss_and_grad(x, hits, focal));
    print("sigmoid_focal_loss_grad_hess", softloss::sigmoid_focal_loss_grad_hess(x, hits, focal));
    print("cross_entropy_grad_hess_soft",
          softloss::cross_entropy_grad_hess(x, probs, kClasses, {.label_smoothing = 0.1}));

    const auto top = softloss::softmax_topk(x, kClasses, {.k = 4});
    print("softmax_topk", top.prob);
    print<std::int64_t, T>("index", top.index);
    const auto scores = softloss::token_logprobs(x, labels, kClasses, {.top_k = 2});
    print("token_logprobs", scores.logprob);
    print<std::int64_t, T>("argmax", scores.argmax);
    print<std::int64_t, T>("rank", scores.rank);
    print("entropy", scores.entropy);
    print("top_logprob", scores.top_logprob);
    print<std::int64_t, T>("top_index", scores.top_index);

    const std::vector<T> u = numbers<T>({kRows}, 9, T(0), T(1)).data;
    const auto drawn = softloss::sample(x, u, kClasses, {.temperature = 4, .top_p = 0.9});
    print<std::int64_t, T>("sample", drawn.index);
    print("logprob", drawn.logprob);
    print_loss<T>("brier_score", softloss::brier_score(x, labels, kClasses, {.temperature = 2}));
    const softloss::TemperatureFit fit = softloss::fit_temperature(x, labels, kClasses, {.weight = &weight});
    print<double, T>("fit_temperature", {fit.temperature});
    print<double, T>("loss", {fit.loss});
    print<double, T>("calibration_error",
                     {softloss::calibration_error(x, labels, kClasses,
                                                  {.bins = 4, .norm = softloss::CalibrationNorm::l2})});

    // Over views: another axis, broadcasting.
    Tensor<T> transposed({kRows, kClasses}), column({kClasses});
    softloss::softmax(x_.in(), transposed.out(), {.axis = 0, .temperature = 0.7});
    print("softmax_axis_temperature", transposed.data);
    const softloss::TensorView probs_in = probs_.in();
    softloss::logsumexp(x_.in(), column.out(), {.axis = 0, .b = &probs_in});
    print("logsumexp_axis_b", column.data);
    print_loss<T>("binary_cross_entropy_with_logits_broadcast",
                  softloss::binary_cross_entropy_with_logits(
                      x_.in(), probs_in,
                      {.weight = &weight, .pos_weight = &weight, .compute_dtype = softloss::dtype_of<T>}));

    labels[1] = kClasses;
    try {
        softloss::cross_entropy(x, labels, kClasses);
    } catch (const std::out_of_range& error) {
        std::printf("error.%s %s\n", suffix<T>, error.what());
    }
}

/// Each instruction set is chosen in turn, the fastest last.
void isas() {
    for (const std::string_view isa : softloss::usable_isas()) {
        softloss::set_isa(isa);
        std::printf("isa %s\n", softloss::isa().data());
    }
    try {
        softloss::set_isa("none");
    } catch (const std::invalid_argument& error) {
        std::printf("error.isa %s\n", error.what());
    }
}

}  // namespace

int main() {
    isas();
    cases<float>();
    cases<double>();
}
