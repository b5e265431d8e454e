// Arguments: views without strides, absent arrays, overlap by elements, errors that name the argument.
#include <algorithm>
#include <random>
#include <set>
#include <stdexcept>
#include <utility>

#include "checks.hpp"
#include "softloss/softloss.h"
#include "support.hpp"

using softloss::DType;
using softloss::MutableTensorView;
using softloss::TensorView;
using std::int64_t;

// ---- element types ----------------------------------------------------------------------------------------

static_assert(softloss::dtype_of<long long> == DType::int64);
static_assert(softloss::dtype_of<unsigned long> == (sizeof(long) == 8 ? DType::uint64 : DType::uint32));
static_assert(softloss::dtype_of<char> == (std::is_signed_v<char> ? DType::int8 : DType::uint8));
static_assert(softloss::dtype_of<const short> == DType::int16);
static_assert(softloss::dtype_of<bool> == DType::boolean);

TEST_CASE("every integer type is taken by its size and sign") {
    const std::vector<float> x{1, -2, 3, 4, 0.5f, -1};
    const auto binary = [&]<class T>(T) {
        return softloss::binary_cross_entropy_with_logits(x, std::vector<T>{1, 0, 1, 1, 0, 1});
    };
    const auto labels = [&]<class T>(T) { return softloss::cross_entropy(x, std::vector<T>{0, 1, 0}, 2); };
    const double expected = binary(float{}), loss = labels(int{});
    CHECK(expected == doctest::Approx(0.465711).epsilon(1e-6));
    const auto check = [&]<class... T>(T... types) {
        for (const double value : {binary(types)...}) CHECK(value == expected);
        for (const double value : {labels(types)...}) CHECK(value == loss);
    };
    check(char{}, short{}, long{}, 0LL, 0ULL, 0U, 0UL, std::uint8_t{}, std::int8_t{}, char16_t{});
}

// ---- views ------------------------------------------------------------------------------------------------

TEST_CASE("a view without strides is in C order") {
    const Tensor<float> x = numbers<float>({2, 3, 4}, 1, 3);
    Tensor<int64_t> labels({2, 3});
    labels.data = {0, 1, 2, 3, 2, 1};
    Tensor<float> y({2, 3, 4}), z({2, 3, 4});
    softloss::softmax(x.view(), y.out());
    softloss::softmax({x.data.data(), DType::float32, x.shape}, {z.data.data(), DType::float32, x.shape});
    CHECK(y.data == z.data);
    softloss::softmax(softloss::view_of(x.data.data(), x.shape), softloss::view_of(z.data.data(), x.shape));
    CHECK(y.data == z.data);
    CHECK(softloss::cross_entropy({x.data.data(), DType::float32, x.shape},
                                  {labels.data.data(), DType::int64, labels.shape}) ==
          softloss::cross_entropy(x.view(), labels.view()));
    // The output of one call is the input of the next.
    const MutableTensorView out = y.out();
    Tensor<float> again({2, 3, 4});
    softloss::softmax_backward(out, x.view(), again.out());
    CHECK(again.data != z.data);
}

TEST_CASE("views that no function can use are refused, by name") {
    Tensor<double> x({2, 3}), y({2, 3});
    const auto refused = [&](TensorView in, const char* text) {
        CHECK_THROWS_WITH_AS(softloss::softmax(in, y.out()), text, std::invalid_argument);
        CHECK_THROWS_WITH_AS(softloss::cross_entropy(x.view(), x.view(), {.weight = &in}),
                             (std::string("weight") + (text + 1)).c_str(), std::invalid_argument);
    };
    const int64_t shape[] = {2, 3}, one[] = {8}, huge[] = {-1, 3};
    const int64_t far[] = {INT64_MAX, 8}, lowest[] = {INT64_MIN, 8};
    const double* const data = x.data.data();
    refused({data, static_cast<DType>(99), shape}, "x has dtype 99, which is not a DType");
    refused({data, DType::float64, shape, one},
            "x has 2 dimensions but 1 strides; give one stride per dimension, or none for C order");
    refused({data, DType::float64, huge}, "x has shape (-1, 3), with a negative or too large extent");
    refused({nullptr, DType::float64, shape}, "x of shape (2, 3) has no data: its pointer is null");
    refused({data, DType::float64, {static_cast<const int64_t*>(nullptr), 2}},
            "x has no shape: its pointer is null");
    refused({data, DType::float64, std::vector<int64_t>(65, 1)},
            "x has 65 dimensions; arrays have at most 64");
    refused({data, DType::float64, shape, far},
            "x has strides beyond the address space: (9223372036854775807, 8)");
    refused({data, DType::float64, shape, lowest},
            "x has strides beyond the address space: (-9223372036854775808, 8)");
    // Strides of axes of length 1 do not matter.
    const int64_t row[] = {1, 3};
    Tensor<double> from({1, 3}), to({1, 3});
    softloss::softmax({from.data.data(), DType::float64, row, lowest},
                      {to.data.data(), DType::float64, row, lowest});
    CHECK(to.data[2] == doctest::Approx(1 / 3.0));
}

TEST_CASE("reductions, and arrays for losses") {
    Tensor<float> x({2, 3});
    Tensor<int> labels({2});
    CHECK_THROWS_WITH_AS(
        softloss::cross_entropy(x.view(), labels.view(), {.reduction = static_cast<softloss::Reduction>(7)}),
        "reduction must be none, mean or sum", std::invalid_argument);
    // An argument that is not used is not checked.
    const int64_t wrong[] = {7};
    const MutableTensorView losses{nullptr, DType::int8, wrong};
    CHECK(softloss::cross_entropy(x.view(), labels.view(), {}, &losses) == doctest::Approx(std::log(3.0)));
    CHECK(softloss::binary_cross_entropy(x.view(), x.view(), {}, &losses) == 0);
    std::vector<float> none, no_losses;
    CHECK(std::isnan(softloss::cross_entropy(none, std::vector<int>{}, 3,
                                             {.reduction = softloss::Reduction::none}, no_losses)));
    CHECK_THROWS_WITH_AS(
        softloss::cross_entropy(x.data, labels.data, 3, {.reduction = softloss::Reduction::none}),
        "losses must have shape (2,), got (0,)", std::invalid_argument);
    // where and b are checked even if x is empty.
    Tensor<float> empty({0, 5}), to({0, 5}), row({0});
    const Tensor<float> b({7, 3});
    const TensorView weights = b.view();
    CHECK_THROWS_AS(softloss::logsumexp(empty.view(), row.out(), {.b = &weights}), std::invalid_argument);
    const std::vector<std::uint8_t> flags(21);
    const int64_t other[] = {7, 3};
    const TensorView where{flags.data(), DType::boolean, other};
    CHECK_THROWS_AS(softloss::softmax(empty.view(), to.out(), {.where = &where}), std::invalid_argument);
    CHECK_THROWS_AS(softloss::log_softmax(empty.view(), to.out(), {.where = &where}), std::invalid_argument);
    CHECK_THROWS_AS(softloss::logsumexp(empty.view(), row.out(), {.where = &where}), std::invalid_argument);
    // Rows without classes have a result.
    const int64_t none_of[] = {5, 0}, five[] = {5}, still[] = {0};
    float cell = 7;
    CHECK_THROWS_WITH_AS(
        softloss::logsumexp({nullptr, DType::float32, none_of}, {&cell, DType::float32, five, still}),
        "out has elements that overlap each other", std::invalid_argument);
    CHECK(cell == 7);
}

TEST_CASE("outputs of token_logprobs: strides of axes of length 1 play no part") {
    const std::vector<float> x{1, 2, 3};
    const int64_t shape[] = {1, 3}, rows[] = {1}, near[] = {4}, far[] = {1000};
    const int label = 2;
    float logprob = 0, entropy = 0;
    const MutableTensorView to[] = {{&logprob, DType::float32, rows, near},
                                    {&entropy, DType::float32, rows, far}};
    softloss::token_logprobs({x.data(), DType::float32, shape}, {&label, DType::int32, rows},
                             {.logprob = &to[0], .entropy = &to[1]});
    CHECK(logprob == doctest::Approx(-0.4076059f));
    CHECK(entropy > 0);
}

TEST_CASE("k and top_k are checked before memory is allocated") {
    const std::vector<float> x{1, 2, 3, 4, 5, 6};
    const std::vector<int> labels{0, 1};
    const auto text = [](const char* name, int64_t least, int64_t k) {
        return std::string(name) + " must be between " + std::to_string(least) +
               " and 3 (the number of classes), got " + std::to_string(k);
    };
    for (const int64_t k :
         {int64_t{0}, int64_t{-1}, int64_t{4}, int64_t{1} << 33, int64_t{1} << 62, INT64_MIN}) {
        CHECK_THROWS_WITH_AS((void)softloss::softmax_topk(x, 3, {.k = k}), text("k", 1, k).c_str(),
                             std::invalid_argument);
        if (k == 0) continue;
        CHECK_THROWS_WITH_AS((void)softloss::token_logprobs(x, labels, 3, {.top_k = k}),
                             text("top_k", 0, k).c_str(), std::invalid_argument);
    }
    CHECK(softloss::softmax_topk(x, 3, {.temperature = 2}).index == std::vector<int64_t>{2, 2});
    CHECK(softloss::token_logprobs(x, labels, 3).top_index.empty());
    CHECK_THROWS_WITH_AS(
        (void)softloss::softmax_topk(x, 3, {.axis = 0}),
        "axis must be -1 or 1 (the last) for a range of rows, got 0; pass views for other axes",
        std::invalid_argument);
    CHECK_THROWS_WITH_AS((void)softloss::softmax_topk(x, 4),
                         "x of 6 elements is not a whole number of rows of 4 classes", std::invalid_argument);
}

TEST_CASE("errors of ranges name the argument; their classes lie along the last axis") {
    const std::vector<float> x{1, 2, 3, 4}, five(5);
    const std::vector<int> labels{0, 1};
    std::vector<float> out(4);
    const auto refused = [](const std::string& name, auto call) {
        CHECK_THROWS_WITH_AS(call(),
                             (name + " of 5 elements is not a whole number of rows of 2 classes").c_str(),
                             std::invalid_argument);
    };
    refused("x", [&] { softloss::softmax(five, out, 2); });
    refused("out", [&] { softloss::log_softmax(x, std::vector<float>(5), 2); });
    refused("x", [&] { softloss::logsumexp(five, out, 2); });
    refused("y", [&] { softloss::softmax_backward(five, x, out, 2); });
    refused("dy", [&] { softloss::log_softmax_backward(x, five, out, 2); });
    refused("logits", [&] { (void)softloss::cross_entropy(five, labels, 2); });
    refused("target", [&] { (void)softloss::cross_entropy(x, five, 2); });
    refused("log_probs", [&] { (void)softloss::nll_loss_and_grad(five, labels, 2); });
    refused("probs", [&] { (void)softloss::categorical_cross_entropy_and_grad(five, labels, 2); });
    refused("logits", [&] { (void)softloss::cross_entropy_grad_hess(five, labels, 2); });
    refused("logits", [&] { (void)softloss::token_logprobs(five, labels, 2); });
    refused("logits", [&] { (void)softloss::softmax_focal_loss(five, labels, 2); });
    refused("logits", [&] { (void)softloss::softmax_focal_loss_and_grad(five, labels, 2); });
    refused("logits", [&] { (void)softloss::softmax_focal_loss_grad_hess(five, labels, 2); });
    refused("logits", [&] { (void)softloss::brier_score(five, labels, 2); });
    refused("logits", [&] { (void)softloss::fit_temperature(five, labels, 2); });
    refused("logits", [&] { (void)softloss::calibration_error(five, labels, 2); });
    const auto other_axis = [](auto call) {
        CHECK_THROWS_WITH_AS(
            call(), "axis must be -1 or 1 (the last) for a range of rows, got 0; pass views for other axes",
            std::invalid_argument);
    };
    other_axis([&] { softloss::softmax(x, out, 2, {.axis = 0}); });
    other_axis([&] { softloss::logsumexp(x, out, 2, {.axis = 0}); });
    other_axis([&] { (void)softloss::cross_entropy(x, labels, 2, {.axis = 0}); });
    other_axis([&] { (void)softloss::nll_loss_and_grad(x, labels, 2, {.axis = 0}); });
    other_axis([&] { (void)softloss::cross_entropy_grad_hess(x, labels, 2, {.axis = 0}); });
    other_axis([&] { (void)softloss::token_logprobs(x, labels, 2, {.axis = 0}); });
    other_axis([&] { (void)softloss::softmax_focal_loss(x, labels, 2, {.axis = 0}); });
    other_axis([&] { (void)softloss::softmax_focal_loss_and_grad(x, labels, 2, {.axis = 0}); });
    other_axis([&] { (void)softloss::softmax_focal_loss_grad_hess(x, labels, 2, {.axis = 0}); });
    other_axis([&] { (void)softloss::brier_score(x, labels, 2, {.axis = 0}); });
    other_axis([&] { (void)softloss::fit_temperature(x, labels, 2, {.axis = 0}); });
    other_axis([&] { (void)softloss::calibration_error(x, labels, 2, {.axis = 0}); });
    CHECK(softloss::cross_entropy(x, labels, 2, {.axis = 1}) == softloss::cross_entropy(x, labels, 2));
}

// ---- absent arrays ----------------------------------------------------------------------------------------

TEST_CASE("divergences over ranges and in C name the argument that does not fit") {
    const std::vector<double> x{1, 2, 3, 4, 5, 6}, five(5), row(2);
    CHECK_THROWS_WITH_AS((void)softloss::kl_divergence(x, five, 3), doctest::Contains("target_logits"),
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS((void)softloss::js_divergence(five, x, 3), doctest::Contains("logits"),
                         std::invalid_argument);
    CHECK_THROWS_AS((void)softloss::kl_divergence_and_grad(x, x, 3, {.axis = 0}), std::invalid_argument);
    CHECK(softloss::kl_divergence(x, x, 3) == 0);
    CHECK(softloss::kl_divergence_and_grad(x, x, 3).grad == std::vector<double>(6));
    std::vector<double> out(6), sums(3);
    CHECK_THROWS_WITH_AS(softloss::log_normalize(x, out, sums, 3), doctest::Contains("logsumexp"),
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(softloss::softmax_entropy(x, sums, 3), doctest::Contains("out"),
                         std::invalid_argument);
    double loss = 7;
    CHECK(softloss_kl_divergence(nullptr, nullptr, nullptr, &loss, nullptr) == SOFTLOSS_INVALID_ARGUMENT);
    CHECK(softloss_last_error() == std::string("logits is NULL"));
    CHECK(loss == 7);
}

TEST_CASE("token_logprobs without any of its outputs, in C++ and C") {
    const Tensor<double> x = numbers<double>({3, 4}, 5, 2);
    Tensor<int> labels({3});
    labels.data = {3, 0, 1};
    for (const int64_t k : {0, 1, 2}) {
        Tensor<double> floats[3]{Tensor<double>({3}), Tensor<double>({3}), Tensor<double>({3, k})};
        Tensor<int64_t> ints[3]{Tensor<int64_t>({3}), Tensor<int64_t>({3}), Tensor<int64_t>({3, k})};
        const MutableTensorView all[] = {floats[0].out(), ints[0].out(),   ints[1].out(),
                                         floats[1].out(), floats[2].out(), ints[2].out()};
        softloss::token_logprobs(x.view(), labels.view(),
                                 {&all[0], &all[1], &all[2], &all[3], &all[4], &all[5]}, {.top_k = k});
        const auto whole_floats = std::to_array({floats[0].data, floats[1].data, floats[2].data});
        const auto whole_ints = std::to_array({ints[0].data, ints[1].data, ints[2].data});
        for (int absent = 0; absent < 64; ++absent) {
            for (auto& f : floats) std::fill(f.data.begin(), f.data.end(), 7);
            for (auto& i : ints) std::fill(i.data.begin(), i.data.end(), 7);
            const auto view = [&](int i) { return absent >> i & 1 ? nullptr : &all[i]; };
            softloss::token_logprobs(x.view(), labels.view(),
                                     {view(0), view(1), view(2), view(3), view(4), view(5)}, {.top_k = k});
            const int place_of_float[] = {0, 3, 4}, place_of_int[] = {1, 2, 5};
            for (int i = 0; i < 3; ++i) {
                const bool no_float = absent >> place_of_float[i] & 1, no_int = absent >> place_of_int[i] & 1;
                CHECK(floats[i].data ==
                      (no_float ? std::vector<double>(floats[i].data.size(), 7) : whole_floats[i]));
                CHECK(ints[i].data ==
                      (no_int ? std::vector<int64_t>(ints[i].data.size(), 7) : whole_ints[i]));
            }
            softloss_mutable_array c[6];
            const softloss_mutable_array* to[6];
            for (int i = 0; i < 6; ++i) {
                c[i] = {all[i].data,
                        all[i].shape.data(),
                        nullptr,
                        all[i].ndim(),
                        static_cast<int32_t>(all[i].dtype),
                        0};
                to[i] = view(i) ? &c[i] : nullptr;
            }
            const softloss_array in{x.data.data(), x.shape.data(), nullptr, 2, SOFTLOSS_FLOAT64, 0},
                target{labels.data.data(), labels.shape.data(), nullptr, 1, SOFTLOSS_INT32, 0};
            const softloss_token_scores scores{to[0], to[1], to[2], to[3], to[4], to[5]};
            softloss_token_options options;
            softloss_token_options_init(&options);
            options.top_k = k;
            CHECK(softloss_token_logprobs(&in, &target, &scores, &options) == SOFTLOSS_OK);
        }
    }
}

// ---- overlap ----------------------------------------------------------------------------------------------

namespace {

/// The bytes of a view, relative to its first element.
std::set<std::intptr_t> bytes_of(const TensorView& view) {
    std::set<std::intptr_t> bytes;
    for (int64_t i = 0; i < view.size(); ++i) {
        auto at = reinterpret_cast<std::intptr_t>(view.data);
        int64_t rest = i;
        for (std::size_t d = view.shape.size(); d-- > 0; rest /= view.shape[d])
            at += rest % view.shape[d] * view.strides[d];
        for (int64_t byte = 0; byte < size_of(view.dtype); ++byte) bytes.insert(at + byte);
    }
    return bytes;
}

}  // namespace

TEST_CASE("overlap is that of elements, in any two views of one memory") {
    std::mt19937 random(1);
    const auto below = [&](int n) { return static_cast<int>(random() % n); };
    static unsigned char memory[1 << 14];
    int shared = 0, apart = 0;
    for (int round = 0; round < 20000; ++round) {
        int64_t shape[2][3], strides[2][3];
        TensorView views[2];
        for (int v = 0; v < 2; ++v) {
            const int ndim = below(4);
            for (int d = 0; d < ndim; ++d) {
                shape[v][d] = 1 + below(5);
                // Mostly strides as in slices and fields of one array, sometimes any.
                const int64_t usual[] = {4, 8, 12, 24, 40, 120, 160, 480};
                strides[v][d] = below(4) ? usual[below(8)] : below(200);
                if (below(3) == 0) strides[v][d] = -strides[v][d];
            }
            const auto n = static_cast<std::size_t>(ndim);
            const DType dtypes[] = {DType::float32, DType::float64, DType::float16, DType::int8};
            views[v] = {memory + 8000 + below(200), dtypes[below(4)], {shape[v], n}, {strides[v], n}};
        }
        const auto a = bytes_of(views[0]), b = bytes_of(views[1]);
        const bool same =
            std::any_of(a.begin(), a.end(), [&](std::intptr_t byte) { return b.contains(byte); });
        (same ? shared : apart)++;
        CHECK(softloss::overlaps(views[0], views[1]) == same);
    }
    CHECK(shared > 1000);
    CHECK(apart > 1000);
}

TEST_CASE("views whose overlap would take long to decide count as overlapping") {
    // Billions of pairs of elements, with strides that have few common divisors.
    std::vector<int64_t> shape(15, 8), a, b;
    for (int64_t d = 0; d < 15; ++d) a.push_back(2 * (1009 + 77 * d)), b.push_back(2 * (1013 + 91 * d));
    static char memory[1 << 13];
    CHECK(softloss::overlaps({memory, DType::int8, shape, a}, {memory + 4001, DType::int8, shape, b}) ==
          false);
    b[0] += 1;
    CHECK(softloss::overlaps({memory, DType::int8, shape, a}, {memory + 4001, DType::int8, shape, b}));
}

TEST_CASE("columns of one table and fields of one record do not overlap") {
    // softmax of the left half of a table into its right half.
    Tensor<float> table = numbers<float>({5, 20}, 2, 3), half({5, 10}), out({5, 10});
    const int64_t shape[] = {5, 10}, strides[] = {80, 4};
    for (int r = 0; r < 5; ++r) std::copy_n(&table.data[20 * r], 10, &half.data[10 * r]);
    softloss::softmax(half.view(), out.out());
    softloss::softmax({&table.data[0], DType::float32, shape, strides},
                      {&table.data[10], DType::float32, shape, strides});
    for (int r = 0; r < 5; ++r)
        CHECK(std::equal(&out.data[10 * r], &out.data[10 * r] + 10, &table.data[20 * r + 10]));
    CHECK_THROWS_WITH_AS(softloss::softmax({&table.data[0], DType::float32, shape, strides},
                                           {&table.data[9], DType::float32, shape, strides}),
                         "out overlaps x in part; it must be x itself or share no memory with it",
                         std::invalid_argument);
    // Gradient and Hessian as fields of one record.
    struct Record {
        float grad;
        double hess;
        float logit;
    };
    std::vector<Record> records(6);
    for (int i = 0; i < 6; ++i) records[i].logit = static_cast<float>(i % 4);
    const int64_t rows[] = {2, 3}, steps[] = {3 * sizeof(Record), sizeof(Record)};
    Tensor<int> labels({2});
    const TensorView logits{&records[0].logit, DType::float32, rows, steps};
    softloss::cross_entropy_grad_hess(logits, labels.view(), {&records[0].grad, DType::float32, rows, steps},
                                      {&records[0].hess, DType::float64, rows, steps});
    CHECK(records[0].grad < 0);
    CHECK(records[4].hess > 0);
}

TEST_CASE("an output over any other argument or output is refused, and nothing is written") {
    Tensor<float> x = numbers<float>({4, 3}, 3, 2), grad({4, 3}), hess({4, 3});
    Tensor<int64_t> labels({4});
    labels.data = {2, 0, 1, 2};
    const Tensor<float> before = x;
    const auto over = [&](const auto& tensor) {  // four losses
        static const int64_t four[] = {4};
        return MutableTensorView{const_cast<void*>(static_cast<const void*>(tensor.data.data())),
                                 DType::float32, four};
    };
    const softloss::ClassLossOptions none{.reduction = softloss::Reduction::none};
    const softloss::BinaryLossOptions each{.reduction = softloss::Reduction::none};
    const auto refused = [&](const char* text, auto call) {
        CHECK_THROWS_WITH_AS(call(), text, std::invalid_argument);
        CHECK(x.data == before.data);
        CHECK(labels.data == std::vector<int64_t>{2, 0, 1, 2});
        CHECK(grad.data == std::vector<float>(12));
    };
    const MutableTensorView over_x = over(x), over_labels = over(labels), over_grad = over(grad);
    refused("losses overlaps logits",
            [&] { softloss::cross_entropy(x.view(), labels.view(), none, &over_x); });
    refused("losses overlaps target",
            [&] { softloss::cross_entropy(x.view(), labels.view(), none, &over_labels); });
    refused("losses overlaps grad_out",
            [&] { softloss::cross_entropy_and_grad(x.view(), labels.view(), grad.out(), none, &over_grad); });
    refused("losses overlaps grad_out", [&] {
        const MutableTensorView same = grad.out();
        softloss::binary_cross_entropy_with_logits_and_grad(x.view(), hess.view(), grad.out(), each, &same);
    });
    refused("hess_out overlaps grad_out",
            [&] { softloss::cross_entropy_grad_hess(x.view(), labels.view(), grad.out(), grad.out()); });
    refused("hess_out overlaps logits",
            [&] { softloss::cross_entropy_grad_hess(x.view(), labels.view(), grad.out(), x.out()); });
    Tensor<int64_t> index({4});
    const MutableTensorView ints = index.out(), floats = over(index), target = labels.out();
    refused("entropy overlaps logprob", [&] {
        softloss::token_logprobs(x.view(), labels.view(), {.logprob = &floats, .entropy = &floats});
    });
    refused("argmax overlaps target",
            [&] { softloss::token_logprobs(x.view(), labels.view(), {.argmax = &target}); });
    refused("rank overlaps argmax",
            [&] { softloss::token_logprobs(x.view(), labels.view(), {.argmax = &ints, .rank = &ints}); });
    const int64_t one[] = {4, 1};
    refused("index overlaps prob", [&] {
        softloss::softmax_topk(x.view(), {index.data.data(), DType::float32, one},
                               {index.data.data(), DType::int64, one});
    });
}

// ---- probabilities ----------------------------------------------------------------------------------------

TEST_CASE("a rounding outside [0, 1] counts as 0 or 1, in losses and their gradients alike") {
    on_each_isa([] {
        const auto check = [&]<class T>(T) {
            const T unit = std::numeric_limits<T>::epsilon(), above = 1 + 4 * unit, below = -4 * unit;
            const auto all = [&](std::vector<T> p, std::vector<T> z) {
                const auto binary = softloss::binary_cross_entropy_and_grad(p, z);
                CHECK(softloss::binary_cross_entropy(p, z) == binary.loss);
                const auto logits = softloss::binary_cross_entropy_with_logits_and_grad(p, z);
                CHECK(softloss::binary_cross_entropy_with_logits(p, z) == logits.loss);
                const std::vector<int> label{0};
                const auto picked = softloss::categorical_cross_entropy_and_grad(p, label, 2);
                CHECK(softloss::categorical_cross_entropy(p, label, 2) == picked.loss);
                const std::vector<T> q{1, 0};
                const auto soft = softloss::categorical_cross_entropy_and_grad(p, q, 2);
                CHECK(softloss::categorical_cross_entropy(p, q, 2) == soft.loss);
                return std::tuple(binary.loss, binary.grad, logits.loss, picked.loss, picked.grad, soft.loss,
                                  soft.grad);
            };
            const auto [b, bg, l, p, pg, s, sg] = all({above, below}, {above, below});
            const auto [b1, bg1, l1, p1, pg1, s1, sg1] = all({1, 0}, {1, 0});
            CHECK(b == b1);
            CHECK(bg == bg1);
            CHECK(p == p1);
            CHECK(pg == pg1);
            CHECK(l == doctest::Approx(l1).epsilon(8 * unit));  // the logits differ
            CHECK(s == s1);
            CHECK(sg == sg1);
            const std::vector<T> wrong{T(0.5), 1 + 6 * unit}, half{T(0.5), T(0.5)};
            const auto refused = [](const char* name, auto call, const auto& probs, const auto& target) {
                try {
                    (void)call(probs, target);
                    FAIL("not refused");
                } catch (const std::invalid_argument& error) {
                    CHECK(std::string(error.what()).starts_with(name));
                }
            };
            const auto loss = [](auto& probs, auto& target) {
                return softloss::binary_cross_entropy(probs, target);
            };
            const auto grad = [](auto& probs, auto& target) {
                return softloss::binary_cross_entropy_and_grad(probs, target);
            };
            refused("probs[1] = 1.00000", loss, wrong, half);
            refused("probs[1] = 1.00000", grad, wrong, half);
            refused("target[1] = 1.00000", loss, half, wrong);
            refused("target[1] = 1.00000", grad, half, wrong);
        };
        check(float{});
        check(double{});
    });
}

TEST_CASE(
    "of probabilities against class indices, those of the labels must lie in [0, 1], with and without a "
    "gradient") {
    const std::vector<double> probs{1.5, 0.5, -3, 0.25};
    const std::vector<int> fine{1, 1}, wrong{1, 0};
    CHECK(softloss::categorical_cross_entropy(probs, fine, 2) ==
          softloss::categorical_cross_entropy_and_grad(probs, fine, 2).loss);
    const char* const text = "probs[1, 0] = -3 is outside [0, 1]";
    CHECK_THROWS_WITH_AS(softloss::categorical_cross_entropy(probs, wrong, 2), text, std::invalid_argument);
    CHECK_THROWS_WITH_AS((void)softloss::categorical_cross_entropy_and_grad(probs, wrong, 2), text,
                         std::invalid_argument);
    const std::vector<int> ignored{1, -100};
    CHECK(softloss::categorical_cross_entropy(probs, ignored, 2) == doctest::Approx(std::log(2.0)));
}

// ---- C ----------------------------------------------------------------------------------------------------

TEST_CASE("C: a NULL in a struct is an error that names the array") {
    double data[6] = {1, 2, 3, 4, 5, 6}, loss = 7;
    const int64_t shape[] = {2, 3}, labels[] = {0, 1};
    const softloss_array x{data, shape, nullptr, 2, SOFTLOSS_FLOAT64, 0},
        target{labels, shape, nullptr, 1, SOFTLOSS_INT64, 0};
    const auto refused = [&](softloss_status status, const char* text) {
        CHECK(status == SOFTLOSS_INVALID_ARGUMENT);
        CHECK(std::string(softloss_last_error()) == text);
        CHECK(loss == 7);
    };
    softloss_array wrong = target;
    wrong.data = nullptr;
    refused(softloss_cross_entropy(&x, &wrong, nullptr, &loss, nullptr),
            "target of shape (2,) has no data: its pointer is null");
    wrong = target, wrong.shape = nullptr;
    refused(softloss_cross_entropy(&x, &wrong, nullptr, &loss, nullptr),
            "target has no shape: its pointer is NULL");
    wrong = target, wrong.dtype = 99;
    refused(softloss_cross_entropy(&x, &wrong, nullptr, &loss, nullptr),
            "target has dtype = 99, which is not a softloss_dtype");
    wrong = target, wrong.ndim = -1;
    refused(softloss_cross_entropy(&x, &wrong, nullptr, &loss, nullptr),
            "target has ndim = -1, which is negative");
    refused(softloss_cross_entropy(&x, nullptr, nullptr, &loss, nullptr), "target is NULL");
    refused(softloss_cross_entropy(&x, &target, nullptr, nullptr, nullptr), "loss is NULL");
    softloss_class_loss_options options;
    softloss_class_loss_options_init(&options);
    options.weight = &wrong;
    refused(softloss_cross_entropy(&x, &target, &options, &loss, nullptr),
            "weight has ndim = -1, which is negative");
    options.weight = nullptr, options.compute_dtype = SOFTLOSS_INT8;
    refused(softloss_cross_entropy(&x, &target, &options, &loss, nullptr),
            "compute_dtype must be SOFTLOSS_FLOAT32, SOFTLOSS_FLOAT64 or SOFTLOSS_AUTO, got 5");
    softloss_mutable_array out{nullptr, shape, nullptr, 2, SOFTLOSS_FLOAT64, 0};
    refused(softloss_softmax(&x, &out, nullptr), "out of shape (2, 3) has no data: its pointer is null");
    refused(softloss_log_softmax_backward(&x, &x, nullptr, -1), "out is NULL");
    refused(softloss_cross_entropy_and_grad(&x, &target, &out, nullptr, &loss, nullptr),
            "grad_out of shape (2, 3) has no data: its pointer is null");
    const softloss_hessian_options hessian{-1, 0};
    double grad[6], hess[6];
    const softloss_mutable_array to{grad, shape, nullptr, 2, SOFTLOSS_FLOAT64, 0},
        curve{hess, shape, nullptr, 2, SOFTLOSS_FLOAT64, 0};
    refused(softloss_cross_entropy_grad_hess(&x, &target, &to, &curve, nullptr, &hessian),
            "hess_scale must be finite and at least 0, got -1");
    // Every loss that is reduced needs a place for it.
    refused(softloss_nll_loss(&x, &target, nullptr, nullptr, nullptr), "loss is NULL");
    refused(softloss_categorical_cross_entropy(&x, &target, nullptr, nullptr, nullptr), "loss is NULL");
    refused(softloss_binary_cross_entropy(&x, &x, nullptr, nullptr, nullptr), "loss is NULL");
    refused(softloss_binary_cross_entropy_with_logits(&x, &x, nullptr, nullptr, nullptr), "loss is NULL");
    // Calibration.
    refused(softloss_brier_score(&x, &target, nullptr, nullptr, nullptr), "loss is NULL");
    refused(softloss_fit_temperature(&x, &target, nullptr, nullptr), "fit is NULL");
    refused(softloss_calibration_error(&x, &target, nullptr, nullptr), "error is NULL");
    softloss_calibration_options bins;
    softloss_calibration_options_init(&bins);
    CHECK(bins.bins == 15);
    bins.norm = 3;
    refused(softloss_calibration_error(&x, &target, &bins, &loss),
            "norm = 3 is not a softloss_calibration_norm");
    bins.norm = -1;
    refused(softloss_calibration_error(&x, &target, &bins, &loss),
            "norm = -1 is not a softloss_calibration_norm");
    bins.norm = SOFTLOSS_NORM_MAX, bins.bins = 0;
    refused(softloss_calibration_error(&x, &target, &bins, &loss),
            "bins must be between 1 and 16777216, got 0");
    // Only the gradient is computed.
    CHECK(softloss_cross_entropy_and_grad(&x, &target, &to, nullptr, nullptr, nullptr) == SOFTLOSS_OK);
    // NULL for every array is no crash.
    softloss_transform_options_init(nullptr);
    softloss_token_options_init(nullptr);
    softloss_temperature_options_init(nullptr);
    softloss_calibration_options_init(nullptr);
    CHECK(softloss_as_input(nullptr).data == nullptr);
    refused(softloss_token_logprobs(&x, &target, nullptr, nullptr), "out is NULL");
    refused(softloss_set_isa(nullptr), "name is NULL");
}
