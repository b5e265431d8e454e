// The losses through the public header: values, reductions, errors.
#include <cmath>
#include <stdexcept>

#include "support.hpp"

using softloss::Reduction;

TEST_CASE("three samples of the classic lesson") {
    on_each_isa([] {
        Tensor<double> x({3, 3});
        x.data = {0.1, 1, 2.1, 2, 1, 0.1, 0.1, 3, 0.1};
        Tensor<std::int32_t> y({3});
        y.data = {2, 0, 1};
        const double loss =
            softloss::cross_entropy(x.view(), y.view(), {.compute_dtype = softloss::DType::float64});
        CHECK(loss == doctest::Approx(0.30182445530322294).epsilon(1e-15));
        Tensor<double> log_probs({3, 3}), probs({3, 3});
        softloss::log_softmax(x.view(), log_probs.out());
        softloss::softmax(x.view(), probs.out());
        const softloss::ClassLossOptions options{.compute_dtype = softloss::DType::float64};
        CHECK(softloss::nll_loss(log_probs.view(), y.view(), options) ==
              doctest::Approx(loss).epsilon(1e-15));
        CHECK(softloss::categorical_cross_entropy(probs.view(), y.view(), options) ==
              doctest::Approx(loss).epsilon(1e-14));
    });
}

TEST_CASE("binary losses agree, and infinite logits give the limit") {
    on_each_isa([] {
        Tensor<double> x({4}), z({4}), p({4});
        x.data = {2, -1, 0.5, -3};
        z.data = {1, 0, 0.25, 1};
        softloss::sigmoid(x.view(), p.out());
        const softloss::BinaryLossOptions options{.compute_dtype = softloss::DType::float64};
        CHECK(softloss::binary_cross_entropy(p.view(), z.view(), options) ==
              doctest::Approx(softloss::binary_cross_entropy_with_logits(x.view(), z.view(), options))
                  .epsilon(1e-14));
        const double inf = std::numeric_limits<double>::infinity();
        x.data = {inf, -inf, inf, -inf};
        z.data = {1, 0, 0, 1};
        Tensor<double> loss({4});
        const auto to = loss.out();
        softloss::binary_cross_entropy_with_logits(
            x.view(), z.view(), {.reduction = Reduction::none, .compute_dtype = softloss::DType::float64},
            &to);
        CHECK(loss.data == std::vector<double>{0, 0, inf, inf});
    });
}

TEST_CASE("a bad label is named, and nothing is written") {
    Tensor<float> x({2, 3}), loss({2});
    loss.data = {-1, -1};
    Tensor<std::int64_t> y({2});
    y.data = {1, 3};
    const auto to = loss.out();
    CHECK_THROWS_WITH_AS(softloss::cross_entropy(x.view(), y.view(), {.reduction = Reduction::none}, &to),
                         "target[1] = 3 is out of range for axis of 3 classes (1 bad label in all); "
                         "valid are 0..2 or ignore_index=-100",
                         std::out_of_range);
    CHECK(loss.data == std::vector<float>{-1, -1});
}

TEST_CASE("a bad probability is named, and nothing is written") {
    Tensor<float> p({2, 3}), loss({2});
    p.data = {0.2f, 0.3f, 0.5f, 0.2f, 2, 0.3f};
    loss.data = {-1, -1};
    Tensor<std::int64_t> y({2});
    y.data = {1, 1};
    const auto to = loss.out();
    CHECK_THROWS_WITH_AS(
        softloss::categorical_cross_entropy(p.view(), y.view(), {.reduction = Reduction::none}, &to),
        "probs[1, 1] = 2 is outside [0, 1]", std::invalid_argument);
    CHECK(loss.data == std::vector<float>{-1, -1});
}

TEST_CASE("losses of rows go to arrays of every layout and dtype, with and without weights") {
    constexpr std::int64_t kBatches = 3, kClasses = 5, kPixels = 1500;
    const auto x = numbers<float>({kBatches, kClasses, kPixels}, 1, 8);
    const auto weight = numbers<float>({kBatches, kPixels}, 2, 1);
    Tensor<float> q({kBatches, kClasses, kPixels});
    softloss::softmax(x.view(), q.out(), {.axis = 1});
    Tensor<std::int32_t> y({kBatches, kPixels});
    for (std::size_t i = 0; i < y.data.size(); ++i) y.data[i] = i % 7 == 6 ? -100 : static_cast<int>(i % 5);
    const std::vector<std::int64_t> shape{kBatches, kPixels};
    const auto weights = weight.view();
    on_each_isa([&] {
        for (const int kind : {0, 1, 2, 3, 4, 5}) {
            CAPTURE(kind);
            softloss::ClassLossOptions options{.axis = 1, .reduction = Reduction::none};
            if (kind == 1) options.sample_weight = &weights;
            if (kind == 2) options.label_smoothing = 0.1;
            const auto losses_to = [&](const softloss::MutableTensorView& to) {
                if (kind == 3) softloss::cross_entropy(x.view(), q.view(), options, &to);
                else if (kind == 4) softloss::categorical_cross_entropy(q.view(), y.view(), options, &to);
                else if (kind == 5) softloss::nll_loss(x.view(), y.view(), options, &to);
                else softloss::cross_entropy(x.view(), y.view(), options, &to);
            };
            Tensor<float> direct({kBatches, kPixels});
            losses_to(direct.out());
            Tensor<double> wide({kBatches, kPixels});
            losses_to(wide.out());
            for (std::size_t i = 0; i < direct.data.size(); ++i)
                REQUIRE(static_cast<float>(wide.data[i]) == direct.data[i]);
            std::vector<float> spread(2 * direct.data.size(), -7);
            const std::vector<std::int64_t> transposed{
                8, 8 * kBatches};  // every other element, first axis fastest
            losses_to({spread.data(), softloss::DType::float32, shape, transposed});
            for (std::int64_t b = 0; b < kBatches; ++b) {
                for (std::int64_t i = 0; i < kPixels; ++i) {
                    REQUIRE(spread[2 * (i * kBatches + b)] == direct.data[b * kPixels + i]);
                    REQUIRE(spread[2 * (i * kBatches + b) + 1] == -7);
                }
            }
            std::vector<float> reversed(direct.data.size());
            const std::vector<std::int64_t> backwards{-4 * kPixels, -4};
            losses_to({&reversed.back(), softloss::DType::float32, shape, backwards});
            for (std::size_t i = 0; i < reversed.size(); ++i)
                REQUIRE(reversed[reversed.size() - 1 - i] == direct.data[i]);
            options.reduction = Reduction::sum;
            double total = 0, sum = 0;
            for (const double loss : wide.data) total += loss;
            if (kind == 3) sum = softloss::cross_entropy(x.view(), q.view(), options);
            else if (kind == 4) sum = softloss::categorical_cross_entropy(q.view(), y.view(), options);
            else if (kind == 5) sum = softloss::nll_loss(x.view(), y.view(), options);
            else sum = softloss::cross_entropy(x.view(), y.view(), options);
            CHECK(sum == doctest::Approx(total).epsilon(1e-6));
        }
    });
}

TEST_CASE("losses that overlap one another are refused, of classes and of yes or no") {
    const float x[] = {0.5f, 1, 2, 3}, targets[] = {0, 1};
    const std::int64_t labels[] = {0, 1}, classes[] = {2, 2}, rows[] = {2}, of_classes[] = {8, 4},
                       of_rows[] = {4}, of_labels[] = {8}, still[] = {0};
    float loss = -1;
    const softloss::MutableTensorView losses{&loss, softloss::DType::float32, rows, still};
    const softloss::TensorView logits{x, softloss::DType::float32, classes, of_classes},
        label{labels, softloss::DType::int64, rows, of_labels},
        logit{x, softloss::DType::float32, rows, of_rows},
        target{targets, softloss::DType::float32, rows, of_rows};
    const char* const text = "losses has elements that overlap each other";
    CHECK_THROWS_WITH_AS(
        softloss::cross_entropy(logits, label, {.reduction = softloss::Reduction::none}, &losses), text,
        std::invalid_argument);
    CHECK_THROWS_WITH_AS(softloss::binary_cross_entropy_with_logits(
                             logit, target, {.reduction = softloss::Reduction::none}, &losses),
                         text, std::invalid_argument);
    CHECK(loss == -1);
}

TEST_CASE("an unknown instruction set is refused") {
    CHECK_THROWS_AS(softloss::set_isa("sse9"), std::invalid_argument);
}
