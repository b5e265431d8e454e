// Shape arithmetic: axes, merging, broadcasting, offsets.
#include <stdexcept>

#include "plan.hpp"
#include "softloss/softloss.h"
#include "support.hpp"

using softloss::Plan;

TEST_CASE("axes are normalised and checked") {
    CHECK(softloss::normalize_axis(-1, 3) == 2);
    CHECK(softloss::normalize_axis(0, 1) == 0);
    CHECK_THROWS_WITH_AS(softloss::normalize_axis(3, 3), "axis 3 is out of bounds for array of dimension 3",
                         std::invalid_argument);
    CHECK_THROWS_AS(softloss::normalize_axis(-4, 3), std::invalid_argument);
}

TEST_CASE("a C-ordered array is one batch of rows for the last axis") {
    const std::int64_t shape[] = {4, 5, 6};
    const std::int64_t strides[] = {120, 24, 4}, of_rows[] = {80, 16};
    const softloss::Operand operands[] = {{strides}, {of_rows, true}};
    const Plan plan = softloss::make_plan(shape, 2, operands);
    CHECK(plan.n == 6);
    CHECK(plan.element_stride[0] == 4);
    CHECK(plan.rows == 20);
    CHECK(plan.row_stride[0] == 24);
    CHECK(plan.element_stride[1] == 0);
    CHECK(plan.row_stride[1] == 16);
    CHECK(plan.batches == 1);
}

TEST_CASE("a middle axis leaves an outer loop, and offsets walk it") {
    const std::int64_t shape[] = {4, 5, 6};
    const std::int64_t strides[] = {120, 24, 4}, wide[] = {240, 48, 8}, of_rows[] = {48, 8};
    const softloss::Operand operands[] = {{strides}, {wide}, {of_rows, true}, {}};
    const Plan plan = softloss::make_plan(shape, 1, operands);
    CHECK(plan.n == 5);
    CHECK(plan.rows == 6);
    CHECK(plan.row_stride[0] == 4);
    CHECK(plan.batches == 4);
    CHECK(plan.offset(3)[0] == 360);
    CHECK(plan.offset(3)[1] == 720);
    CHECK(plan.offset(3)[2] == 144);
    CHECK(plan.row_stride[2] == 8);
    CHECK(plan.offset(3)[3] == 0);
    CHECK(plan.size() == 120);
}

TEST_CASE("empty dimensions give no rows; dimensions of one vanish") {
    const std::int64_t empty[] = {0, 5}, ones[] = {1, 7, 1};
    const std::int64_t strides[] = {20, 4}, wide[] = {28, 4, 4};
    const softloss::Operand of_empty[] = {{strides}}, of_ones[] = {{wide}};
    CHECK(softloss::make_plan(empty, 1, of_empty).size() == 0);
    const Plan plan = softloss::make_plan(ones, 1, of_ones);
    CHECK(plan.n == 7);
    CHECK(plan.rows * plan.batches == 1);
}

TEST_CASE("broadcasting stretches with stride 0 or says what does not fit") {
    const std::int64_t row[] = {3}, bytes[] = {8}, to[] = {2, 3}, four[] = {4};
    CHECK(softloss::broadcast("where", row, bytes, to) == softloss::Dims{0, 8});
    CHECK_THROWS_WITH_AS(softloss::broadcast("where", four, bytes, to),
                         "where of shape (4,) does not broadcast to shape (2, 3)", std::invalid_argument);
}

TEST_CASE("strides that nest keep elements apart") {
    const auto nested = [](softloss::Dims shape, softloss::Dims strides) {
        return softloss::are_nested(shape, strides, 4);
    };
    CHECK(nested({}, {}));
    CHECK(nested({2, 3, 4}, {48, 16, 4}));
    CHECK(nested({4, 3, 2}, {-4, 16, -48}));  // reversed, transposed
    CHECK(nested({2, 3}, {20, 6}));           // gaps, unaligned
    CHECK(nested({1, 3, 1}, {0, 4, INT64_MIN}));
    CHECK(nested({0, 3}, {0, 0}));
    CHECK_FALSE(nested({2}, {0}));
    CHECK_FALSE(nested({2}, {3}));
    CHECK_FALSE(nested({2, 3}, {4, 4}));
    CHECK_FALSE(nested({2, 3}, {8, -4}));
    CHECK_FALSE(nested({3, 4, 2}, {4, 16, 0}));
}

TEST_CASE("sizes that overflow are refused") {
    const std::int64_t huge[] = {std::int64_t{1} << 40, std::int64_t{1} << 40};
    CHECK_THROWS_AS(softloss::checked_size(huge), std::invalid_argument);
    for (const std::int64_t wild : {softloss::kMaxSize + 1, INT64_MAX, INT64_MIN, std::int64_t{-1}}) {
        CHECK_THROWS_AS(softloss::checked_size({&wild, 1}), std::invalid_argument);
    }
    CHECK(softloss::checked_size({&softloss::kMaxSize, 1}) == softloss::kMaxSize);
}

TEST_CASE("views of wild extents are refused before anything is computed from them") {
    double cell = 7;
    const std::int64_t none[3] = {0, 0, 0};
    for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{INT64_MIN, INT64_MIN},
                                                   {-1, 3},
                                                   {INT64_MAX, INT64_MAX},
                                                   {1, INT64_MAX, 2},
                                                   {0, INT64_MAX, 2},
                                                   {INT64_MAX, 2, 0}}) {
        const std::span<const std::int64_t> strides(none, shape.size());
        const softloss::TensorView x{&cell, softloss::DType::float64, shape, strides};
        const softloss::MutableTensorView y{&cell, softloss::DType::float64, shape, strides};
        CHECK_THROWS_AS(softloss::softmax(x, y), std::invalid_argument);
        CHECK_THROWS_AS(softloss::sigmoid(x, y), std::invalid_argument);
        CHECK_THROWS_AS(softloss::logsumexp(x, y), std::invalid_argument);
        CHECK_THROWS_AS(softloss::softmax_backward(x, x, y), std::invalid_argument);
        CHECK_THROWS_AS(softloss::cross_entropy_and_grad(x, x, y), std::invalid_argument);
        CHECK_THROWS_AS(softloss::binary_cross_entropy_with_logits(x, x), std::invalid_argument);
        const softloss_mutable_array without_strides{
            &cell, shape.data(), nullptr, static_cast<std::int32_t>(shape.size()), SOFTLOSS_FLOAT64, 0};
        const softloss_array input = softloss_as_input(&without_strides);
        CHECK(softloss_softmax(&input, &without_strides, nullptr) == SOFTLOSS_INVALID_ARGUMENT);
        CHECK(cell == 7);
    }
}

TEST_CASE("losses are written to floats alone") {
    const Tensor<float> x = numbers<float>({2, 3}, 1, 2);
    const Tensor<std::int64_t> label({2});
    Tensor<std::int64_t> rows({2}), elements({2, 3});
    const auto to_rows = rows.out(), to_elements = elements.out();
    CHECK_THROWS_AS(
        softloss::cross_entropy(x.view(), label.view(), {.reduction = softloss::Reduction::none}, &to_rows),
        std::invalid_argument);
    CHECK_THROWS_AS(softloss::binary_cross_entropy_with_logits(
                        x.view(), x.view(), {.reduction = softloss::Reduction::none}, &to_elements),
                    std::invalid_argument);
}
