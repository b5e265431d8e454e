// Options: their defaults are those of Python, and a function ignores options that it does not have.
#include <cmath>
#include <stdexcept>

#include "softloss/softloss.h"
#include "support.hpp"

using softloss::ClassLossOptions;
using softloss::DType;

namespace {

/// Loss and gradient of a loss over classes.
std::pair<double, std::vector<double>> loss_and_grad(auto function, const ClassLossOptions& options) {
    const std::vector<double> scores{0.1, 0.7, 0.2, 0.3, 0.3, 0.4};
    const std::vector<int> labels{1, 2};
    const auto result = function(scores, labels, 3, options);
    return {result.loss, result.grad};
}

}  // namespace

TEST_CASE(
    "losses of probabilities have no temperature and no smoothing: they change neither loss nor gradient") {
    const auto nll = [](const auto&... a) { return softloss::nll_loss_and_grad(a...); };
    const auto categorical = [](const auto&... a) {
        return softloss::categorical_cross_entropy_and_grad(a...);
    };
    for (const auto reduction : {softloss::Reduction::mean, softloss::Reduction::sum}) {
        const ClassLossOptions plain{.reduction = reduction};
        const ClassLossOptions wild{.label_smoothing = 7, .temperature = -2, .reduction = reduction};
        CHECK(loss_and_grad(nll, wild) == loss_and_grad(nll, plain));
        CHECK(loss_and_grad(categorical, wild) == loss_and_grad(categorical, plain));
    }
    const std::vector<double> p{0.25, 0.5}, z{0, 1};
    const softloss::Contiguous weight(z);
    CHECK(softloss::binary_cross_entropy(p, z, {.pos_weight = &weight}) ==
          softloss::binary_cross_entropy(p, z));
}

TEST_CASE("the Hessian has one factor 1 / temperature for each derivative") {
    const std::vector<double> x{1, 2, 0.5};
    const std::vector<int> label{1};
    for (const double t : {0.5, 1.0, 2.0}) {
        const auto result = softloss::cross_entropy_grad_hess(x, label, 3, {.temperature = t},
                                                              {.hess_scale = 3, .hess_min = 1e-3});
        double sum = 0;
        for (const double v : x) sum += std::exp(v / t);
        for (std::size_t i = 0; i < 3; ++i) {
            const double p = std::exp(x[i] / t) / sum;
            CHECK(result.grad[i] == doctest::Approx((p - (i == 1)) / t).epsilon(1e-14));
            CHECK(result.hess[i] == doctest::Approx(3 * p * (1 - p) / (t * t)).epsilon(1e-14));
        }
    }
}

TEST_CASE("losses of float64 and of integers compute in double unless told otherwise, in C, too") {
    Tensor<double> x({1, 2});
    x.data = {1e200, 0};
    Tensor<std::int64_t> label({1});
    label.data = {1};
    CHECK(softloss::cross_entropy(x.view(), label.view()) == 1e200);
    CHECK(std::isnan(softloss::cross_entropy(x.view(), label.view(), {.compute_dtype = DType::float32})));
    const std::int64_t shape[] = {1, 2};
    const softloss_array logits{x.data.data(), shape, nullptr, 2, SOFTLOSS_FLOAT64, 0},
        target{label.data.data(), shape, nullptr, 1, SOFTLOSS_INT64, 0};
    double loss = 0;
    CHECK(softloss_cross_entropy(&logits, &target, nullptr, &loss, nullptr) == SOFTLOSS_OK);
    CHECK(loss == 1e200);

    Tensor<double> probs({2}), hits({2});
    probs.data = {1e-300, 1 - 1e-12};
    hits.data = {0, 1};
    CHECK(softloss::binary_cross_entropy(probs.view(), hits.view()) ==
          doctest::Approx(4.9998893914018926e-13).epsilon(1e-15));
    Tensor<std::int32_t> whole({1, 2});
    whole.data = {1, 0};
    CHECK(softloss::cross_entropy(whole.view(), label.view()) == 1.3132616875182228);
    CHECK_THROWS_WITH_AS(softloss::cross_entropy(x.view(), label.view(), {.compute_dtype = DType::int32}),
                         "compute_dtype must be float32 or float64", std::invalid_argument);
}
