// Reads calls from the standard input, one a line, and prints the bytes of their results: "name bytes" for
// each result.
//
//     function dtype rows classes axis columns temperature smoothing weighted reduction k seed
//
// Each call is made in C++ and in C, whose results must be the same bytes. Lives here: the calls that
// test_calls.py draws. Must not: values that are expected.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include <softloss/softloss.h>
#include <softloss/softloss.hpp>

namespace {

struct Case {
    std::string function, dtype;
    std::int64_t rows, classes;
    int axis;
    bool columns;  ///< Fortran order
    double temperature, smoothing;
    bool weighted;
    int reduction;
    std::int64_t k;
    std::uint64_t seed;
};

template <class T>
struct Array {
    std::vector<std::int64_t> shape, strides;
    std::vector<T> data;

    Array(std::vector<std::int64_t> extents, bool columns = false) : shape(extents) {
        std::int64_t size = 1;
        for (const std::int64_t extent : shape) size *= extent;
        data.resize(static_cast<std::size_t>(size));
        if (columns) strides = {std::int64_t{sizeof(T)}, shape[0] * std::int64_t{sizeof(T)}};
    }
    softloss::TensorView in() const { return {data.data(), softloss::dtype_of<T>, shape, strides}; }
    softloss::MutableTensorView out() { return {data.data(), softloss::dtype_of<T>, shape, strides}; }
    softloss_array c_in() const {
        return {data.data(),
                shape.data(),
                strides.empty() ? nullptr : strides.data(),
                static_cast<std::int32_t>(shape.size()),
                static_cast<std::int32_t>(softloss::dtype_of<T>),
                0};
    }
    softloss_mutable_array c_out() {
        return {data.data(),
                shape.data(),
                nullptr,
                static_cast<std::int32_t>(shape.size()),
                static_cast<std::int32_t>(softloss::dtype_of<T>),
                0};
    }
};

/// Numbers in [low, high) of a linear congruential generator, in C order.
template <class T>
void fill(Array<T>& array, std::uint64_t seed, T low, T high) {
    const bool columns = !array.strides.empty();
    const std::size_t n = columns ? static_cast<std::size_t>(array.shape[1]) : 1;
    for (std::size_t i = 0; i < array.data.size(); ++i) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const std::size_t place = columns ? i % n * static_cast<std::size_t>(array.shape[0]) + i / n : i;
        array.data[place] = low + (high - low) * (static_cast<T>(seed >> 44) / (1 << 20));
    }
}

void check(softloss_status status) {
    if (status == SOFTLOSS_OK) return;
    std::printf("C: status %d: %s\n", status, softloss_last_error());
    std::exit(1);
}

/// Prints what C++ and C gave, which must be the same.
template <class T>
void print(const char* name, const std::vector<T>& cpp, const std::vector<T>& c) {
    if (std::memcmp(cpp.data(), c.data(), cpp.size() * sizeof(T)) != 0) std::printf("C differs in ");
    std::printf("%s ", name);
    const auto* const bytes = reinterpret_cast<const unsigned char*>(cpp.data());
    for (std::size_t i = 0; i < cpp.size() * sizeof(T); ++i) std::printf("%02x", bytes[i]);
    std::printf("\n");
}

/// A result in C++ and one in C.
template <class T>
struct Both {
    Array<T> cpp, c;
    explicit Both(std::vector<std::int64_t> shape) : cpp(shape), c(shape) {}
    void print(const char* name) const { ::print(name, cpp.data, c.data); }
};

/// A loss and the one with its gradient, in C++ and in C.
template <class Options, class COptions>
struct Loss {
    const char* name;
    double (*loss)(const softloss::TensorView&, const softloss::TensorView&, const Options&,
                   const softloss::MutableTensorView*);
    double (*and_grad)(const softloss::TensorView&, const softloss::TensorView&,
                       const softloss::MutableTensorView&, const Options&,
                       const softloss::MutableTensorView*);
    softloss_status (*c_loss)(const softloss_array*, const softloss_array*, const COptions*, double*,
                              const softloss_mutable_array*);
    softloss_status (*c_and_grad)(const softloss_array*, const softloss_array*, const softloss_mutable_array*,
                                  const COptions*, double*, const softloss_mutable_array*);
};

/// The one of the losses with this name, without or with "_and_grad"; null if there is none.
template <class AnyLoss, std::size_t N>
const AnyLoss* named(const AnyLoss (&losses)[N], const std::string& name) {
    for (const AnyLoss& loss : losses)
        if (name == loss.name || name == std::string(loss.name) + "_and_grad") return &loss;
    return nullptr;
}
/// Of brier_score, the function without gradient.
const auto* class_loss_of(const std::string& name) {
    static constexpr Loss<softloss::ClassLossOptions, softloss_class_loss_options> losses[] = {
        {"cross_entropy", softloss::cross_entropy, softloss::cross_entropy_and_grad, softloss_cross_entropy,
         softloss_cross_entropy_and_grad},
        {"nll_loss", softloss::nll_loss, softloss::nll_loss_and_grad, softloss_nll_loss,
         softloss_nll_loss_and_grad},
        {"categorical_cross_entropy", softloss::categorical_cross_entropy,
         softloss::categorical_cross_entropy_and_grad, softloss_categorical_cross_entropy,
         softloss_categorical_cross_entropy_and_grad},
        {"brier_score", softloss::brier_score, nullptr, softloss_brier_score, nullptr}};
    return named(losses, name);
}
const auto* binary_loss_of(const std::string& name) {
    static constexpr Loss<softloss::BinaryLossOptions, softloss_binary_loss_options> losses[] = {
        {"binary_cross_entropy", softloss::binary_cross_entropy, softloss::binary_cross_entropy_and_grad,
         softloss_binary_cross_entropy, softloss_binary_cross_entropy_and_grad},
        {"binary_cross_entropy_with_logits", softloss::binary_cross_entropy_with_logits,
         softloss::binary_cross_entropy_with_logits_and_grad, softloss_binary_cross_entropy_with_logits,
         softloss_binary_cross_entropy_with_logits_and_grad}};
    return named(losses, name);
}

/// kl_divergence and its gradient; of js_divergence, the function without.
const auto* divergence_of(const std::string& name) {
    static constexpr Loss<softloss::DivergenceOptions, softloss_divergence_options> divergences[] = {
        {"kl_divergence", softloss::kl_divergence, softloss::kl_divergence_and_grad, softloss_kl_divergence,
         softloss_kl_divergence_and_grad},
        {"js_divergence", softloss::js_divergence, nullptr, softloss_js_divergence, nullptr}};
    return named(divergences, name);
}

template <class T>
void run(const Case& call) {
    const std::int64_t classes = call.axis == 0 ? call.rows : call.classes,
                       others = call.axis == 0 ? call.classes : call.rows;
    Array<T> x({call.rows, call.classes}, call.columns), probs({call.rows, call.classes}, call.columns),
        weights({classes}), b({call.rows, call.classes});
    fill(x, call.seed, T(-20), T(20));
    fill(probs, call.seed + 1, T(0), T(1));
    fill(weights, call.seed + 2, T(0), T(2));
    fill(b, call.seed + 3, T(0), T(1));
    Array<std::int64_t> labels({others});
    for (std::size_t i = 0; i < labels.data.size(); ++i)
        labels.data[i] = static_cast<std::int64_t>((7 * i + call.seed) % static_cast<std::uint64_t>(classes));
    const softloss::TensorView weight = weights.in(), of_b = b.in();
    const softloss_array c_x = x.c_in(), c_probs = probs.c_in(), c_weight = weights.c_in(),
                         c_labels = labels.c_in(), c_b = b.c_in();
    const auto reduction = static_cast<softloss::Reduction>(call.reduction);
    const bool each = reduction == softloss::Reduction::none;

    Both<T> y({call.rows, call.classes}), hess({call.rows, call.classes}), row({others}),
        losses(each ? std::vector{others} : std::vector<std::int64_t>{});
    Both<T> elements(each ? std::vector{call.rows, call.classes} : std::vector<std::int64_t>{});
    softloss_mutable_array c_y = y.c.c_out(), c_hess = hess.c.c_out(), c_row = row.c.c_out(),
                           c_losses = losses.c.c_out(), c_elements = elements.c.c_out();
    const softloss::MutableTensorView to_losses = losses.cpp.out(), to_elements = elements.cpp.out();

    softloss::ClassLossOptions o{.axis = call.axis,
                                 .weight = call.weighted ? &weight : nullptr,
                                 .label_smoothing = call.smoothing,
                                 .temperature = call.temperature,
                                 .reduction = reduction};
    softloss_class_loss_options c_o;
    softloss_class_loss_options_init(&c_o);
    c_o.axis = call.axis, c_o.weight = call.weighted ? &c_weight : nullptr,
    c_o.label_smoothing = call.smoothing, c_o.temperature = call.temperature, c_o.reduction = call.reduction;
    const softloss::BinaryLossOptions binary{.weight = call.weighted ? &of_b : nullptr,
                                             .reduction = reduction};
    softloss_binary_loss_options c_binary;
    softloss_binary_loss_options_init(&c_binary);
    c_binary.weight = call.weighted ? &c_b : nullptr, c_binary.reduction = call.reduction;

    double loss = 0, c_loss = 0;
    const auto put_loss = [&](Both<T>& all) {
        if (!each) all.cpp.data[0] = static_cast<T>(loss), all.c.data[0] = static_cast<T>(c_loss);
        all.print("loss");
    };
    const std::string& f = call.function;
    if (f == "softmax" || f == "log_softmax") {
        softloss_transform_options options;
        softloss_transform_options_init(&options);
        options.axis = call.axis, options.temperature = call.temperature;
        if (f == "softmax") {
            softloss::softmax(x.in(), y.cpp.out(), {.axis = call.axis, .temperature = call.temperature});
            check(softloss_softmax(&c_x, &c_y, &options));
        } else {
            softloss::log_softmax(x.in(), y.cpp.out(), {.axis = call.axis, .temperature = call.temperature});
            check(softloss_log_softmax(&c_x, &c_y, &options));
        }
        y.print("out");
    } else if (f == "logsumexp") {
        softloss_logsumexp_options options;
        softloss_logsumexp_options_init(&options);
        options.axis = call.axis, options.b = call.weighted ? &c_b : nullptr;
        softloss::logsumexp(x.in(), row.cpp.out(), {.axis = call.axis, .b = call.weighted ? &of_b : nullptr});
        check(softloss_logsumexp(&c_x, &c_row, &options));
        row.print("out");
    } else if (f == "sigmoid" || f == "log_sigmoid") {
        const bool log = f == "log_sigmoid";
        log ? softloss::log_sigmoid(x.in(), y.cpp.out()) : softloss::sigmoid(x.in(), y.cpp.out());
        check(log ? softloss_log_sigmoid(&c_x, &c_y) : softloss_sigmoid(&c_x, &c_y));
        y.print("out");
    } else if (f == "softmax_backward") {
        softloss::softmax_backward(probs.in(), x.in(), y.cpp.out(), call.axis);
        check(softloss_softmax_backward(&c_probs, &c_x, &c_y, call.axis));
        y.print("out");
    } else if (f == "log_softmax_backward") {
        softloss::log_softmax_backward(x.in(), probs.in(), y.cpp.out(), call.axis);
        check(softloss_log_softmax_backward(&c_x, &c_probs, &c_y, call.axis));
        y.print("out");
    } else if (const auto* const of_classes = class_loss_of(f)) {
        const bool of_probs = f.starts_with("categorical");
        const softloss::TensorView scores = of_probs ? probs.in() : x.in();
        const softloss_array* const c_scores = of_probs ? &c_probs : &c_x;
        if (f.ends_with("_and_grad")) {
            loss = of_classes->and_grad(scores, labels.in(), y.cpp.out(), o, &to_losses);
            check(of_classes->c_and_grad(c_scores, &c_labels, &c_y, &c_o, &c_loss, &c_losses));
        } else {
            loss = of_classes->loss(scores, labels.in(), o, &to_losses);
            check(of_classes->c_loss(c_scores, &c_labels, &c_o, &c_loss, &c_losses));
        }
        put_loss(losses);
        if (f.ends_with("_and_grad")) y.print("grad");
    } else if (const auto* const of_logits = divergence_of(f)) {
        Array<T> of_rows({others});
        fill(of_rows, call.seed + 3, T(0), T(1));
        const softloss::TensorView sample_weight = of_rows.in();
        const softloss_array c_sample_weight = of_rows.c_in();
        const softloss::DivergenceOptions options{.axis = call.axis,
                                                  .sample_weight = call.weighted ? &sample_weight : nullptr,
                                                  .temperature = call.temperature,
                                                  .reduction = reduction};
        softloss_divergence_options c_options;
        softloss_divergence_options_init(&c_options);
        c_options.axis = call.axis, c_options.temperature = call.temperature,
        c_options.reduction = call.reduction,
        c_options.sample_weight = call.weighted ? &c_sample_weight : nullptr;
        if (f.ends_with("_and_grad")) {
            loss = of_logits->and_grad(x.in(), b.in(), y.cpp.out(), options, &to_losses);
            check(of_logits->c_and_grad(&c_x, &c_b, &c_y, &c_options, &c_loss, &c_losses));
        } else {
            loss = of_logits->loss(x.in(), b.in(), options, &to_losses);
            check(of_logits->c_loss(&c_x, &c_b, &c_options, &c_loss, &c_losses));
        }
        put_loss(losses);
        if (f.ends_with("_and_grad")) y.print("grad");
    } else if (f == "softmax_entropy") {
        softloss_entropy_options options;
        softloss_entropy_options_init(&options);
        options.axis = call.axis, options.temperature = call.temperature;
        softloss::softmax_entropy(x.in(), row.cpp.out(),
                                  {.axis = call.axis, .temperature = call.temperature});
        check(softloss_softmax_entropy(&c_x, &c_row, &options));
        row.print("out");
    } else if (f == "log_normalize") {
        softloss::log_normalize(x.in(), y.cpp.out(), row.cpp.out(), call.axis);
        check(softloss_log_normalize(&c_x, &c_y, &c_row, call.axis));
        y.print("log_prob");
        row.print("logsumexp");
    } else if (const auto* const of_two = binary_loss_of(f)) {
        const bool of_probs = !f.starts_with("binary_cross_entropy_with_logits");
        const softloss::TensorView scores = of_probs ? probs.in() : x.in();
        const softloss_array* const c_scores = of_probs ? &c_probs : &c_x;
        if (f.ends_with("_and_grad")) {
            loss = of_two->and_grad(scores, probs.in(), y.cpp.out(), binary, &to_elements);
            check(of_two->c_and_grad(c_scores, &c_probs, &c_y, &c_binary, &c_loss, &c_elements));
        } else {
            loss = of_two->loss(scores, probs.in(), binary, &to_elements);
            check(of_two->c_loss(c_scores, &c_probs, &c_binary, &c_loss, &c_elements));
        }
        put_loss(elements);
        if (f.ends_with("_and_grad")) y.print("grad");
    } else if (f == "binary_cross_entropy_with_logits_grad_hess") {
        softloss::binary_cross_entropy_with_logits_grad_hess(x.in(), probs.in(), y.cpp.out(), hess.cpp.out(),
                                                             binary, {.hess_scale = 2});
        const softloss_hessian_options hessian = {2, 0};
        check(softloss_binary_cross_entropy_with_logits_grad_hess(&c_x, &c_probs, &c_y, &c_hess, &c_binary,
                                                                  &hessian));
        y.print("grad");
        hess.print("hess");
    } else if (f == "cross_entropy_grad_hess") {
        o.temperature = c_o.temperature = 1;
        softloss::cross_entropy_grad_hess(x.in(), labels.in(), y.cpp.out(), hess.cpp.out(), o,
                                          {.hess_scale = 2});
        const softloss_hessian_options hessian = {2, 0};
        check(softloss_cross_entropy_grad_hess(&c_x, &c_labels, &c_y, &c_hess, &c_o, &hessian));
        y.print("grad");
        hess.print("hess");
    } else if (f == "softmax_focal_loss_grad_hess") {
        o.gamma = c_o.gamma = call.temperature;
        softloss::softmax_focal_loss_grad_hess(x.in(), labels.in(), y.cpp.out(), hess.cpp.out(), o, {});
        check(softloss_softmax_focal_loss_grad_hess(&c_x, &c_labels, &c_y, &c_hess, &c_o, nullptr));
        y.print("grad");
        hess.print("hess");
    } else if (f == "sample") {
        Array<T> u({others});
        fill(u, call.seed + 3, T(0), T(1));
        Both<T> logprob({others});
        Both<std::int64_t> index({others});
        const softloss_array c_u = u.c_in();
        const softloss_mutable_array c_logprob = logprob.c.c_out(), c_index = index.c.c_out();
        softloss_sample_options options;
        softloss_sample_options_init(&options);
        options.axis = call.axis, options.temperature = call.temperature, options.min_p = 1e-6;
        options.top_k = call.weighted ? call.k : 0, options.top_p = 1 - call.reduction / 4.0;
        softloss::sample(x.in(), u.in(), index.cpp.out(), logprob.cpp.out(),
                         {.axis = call.axis,
                          .temperature = call.temperature,
                          .top_k = options.top_k,
                          .top_p = options.top_p,
                          .min_p = options.min_p});
        check(softloss_sample(&c_x, &c_u, &c_index, &c_logprob, &options));
        index.print("index");
        logprob.print("logprob");
    } else if (f == "softmax_topk") {
        std::vector<std::int64_t> shape{call.rows, call.classes};
        shape[call.axis == 0 ? 0 : 1] = call.k;
        Both<T> prob(shape);
        Both<std::int64_t> index(shape);
        const softloss_mutable_array c_prob = prob.c.c_out(), c_index = index.c.c_out();
        softloss_topk_options options;
        softloss_topk_options_init(&options);
        options.axis = call.axis, options.k = call.k, options.temperature = call.temperature;
        softloss::softmax_topk(x.in(), prob.cpp.out(), index.cpp.out(),
                               {.axis = call.axis, .k = call.k, .temperature = call.temperature});
        check(softloss_softmax_topk(&c_x, &c_prob, &c_index, &options));
        prob.print("prob");
        index.print("index");
    } else if (f == "fit_temperature") {
        Both<double> temperature({}), mean({});
        softloss_temperature_options options;
        softloss_temperature_options_init(&options);
        options.axis = call.axis, options.weight = c_o.weight;
        const softloss::TemperatureFit fit =
            softloss::fit_temperature(x.in(), labels.in(), {.axis = call.axis, .weight = o.weight});
        softloss_temperature_fit c_fit;
        check(softloss_fit_temperature(&c_x, &c_labels, &options, &c_fit));
        temperature.cpp.data = {fit.temperature}, temperature.c.data = {c_fit.temperature};
        mean.cpp.data = {fit.loss}, mean.c.data = {c_fit.loss};
        if (fit.at_bound != (c_fit.at_bound != 0)) std::printf("C differs in at_bound\n");
        temperature.print("temperature");
        mean.print("loss");
    } else if (f == "calibration_error") {
        Both<double> error({});
        softloss_calibration_options options;
        softloss_calibration_options_init(&options);
        options.axis = call.axis, options.bins = call.k, options.norm = call.reduction,
        options.temperature = call.temperature;
        error.cpp.data = {
            softloss::calibration_error(x.in(), labels.in(),
                                        {.axis = call.axis,
                                         .bins = call.k,
                                         .norm = static_cast<softloss::CalibrationNorm>(call.reduction),
                                         .temperature = call.temperature})};
        check(softloss_calibration_error(&c_x, &c_labels, &options, error.c.data.data()));
        error.print("error");
    } else if (f == "token_logprobs") {
        Both<T> logprob({others}), entropy({others}), top({others, call.k});
        Both<std::int64_t> argmax({others}), rank({others}), top_index({others, call.k});
        const softloss::MutableTensorView to[] = {logprob.cpp.out(), argmax.cpp.out(), rank.cpp.out(),
                                                  entropy.cpp.out(), top.cpp.out(),    top_index.cpp.out()};
        const softloss_mutable_array c_to[] = {logprob.c.c_out(), argmax.c.c_out(), rank.c.c_out(),
                                               entropy.c.c_out(), top.c.c_out(),    top_index.c.c_out()};
        const softloss_token_scores scores = {&c_to[0], &c_to[1], &c_to[2], &c_to[3], &c_to[4], &c_to[5]};
        softloss_token_options options;
        softloss_token_options_init(&options);
        options.axis = call.axis, options.top_k = call.k, options.temperature = call.temperature;
        softloss::token_logprobs(x.in(), labels.in(), {&to[0], &to[1], &to[2], &to[3], &to[4], &to[5]},
                                 {.axis = call.axis, .top_k = call.k, .temperature = call.temperature});
        check(softloss_token_logprobs(&c_x, &c_labels, &scores, &options));
        logprob.print("logprob");
        argmax.print("argmax");
        rank.print("rank");
        entropy.print("entropy");
        top.print("top_logprob");
        top_index.print("top_index");
    } else {
        std::printf("no function %s\n", f.c_str());
        std::exit(1);
    }
}

}  // namespace

int main() {
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        Case c;
        words >> c.function >> c.dtype >> c.rows >> c.classes >> c.axis >> c.columns >> c.temperature >>
            c.smoothing >> c.weighted >> c.reduction >> c.k >> c.seed;
        if (c.dtype == "float32") run<float>(c);
        else run<double>(c);
    }
}
