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
void print(const char* name, const T* data, std::size_t n) {
    std::printf("%s.%s ", name, sizeof(T) == 4 ? "float32" : "float64");
    const auto* const bytes = reinterpret_cast<const unsigned char*>(data);
    for (std::size_t i = 0; i < n * sizeof(T); ++i) std::printf("%02x", bytes[i]);
    std::printf("\n");
}
template <class T>
void print(const char* name, const Tensor<T>& t) {
    print(name, t.data.data(), t.data.size());
}
/// A loss that was reduced: Python gives it in the dtype of the computation.
template <class T>
void print_loss(const char* name, double loss) {
    const T value = static_cast<T>(loss);
    print(name, &value, 1);
}

template <class T>
void cases() {
    const Tensor<T> x = numbers<T>({kRows, kClasses}, 1, T(-20), T(20));
    const Tensor<T> probs = numbers<T>({kRows, kClasses}, 2, T(0), T(1));
    const Tensor<T> weight = numbers<T>({kClasses}, 3, T(0), T(2));
    Tensor<std::int64_t> labels({kRows});
    labels.data = {5, -100, 36};
    Tensor<T> y({kRows, kClasses}), row({kRows}), column({kClasses});
    const auto x_in = x.in(), probs_in = probs.in(), weight_in = weight.in(), labels_in = labels.in();
    const softloss::MutableTensorView row_out = row.out();
    constexpr auto dtype = softloss::dtype_of<T>;

    softloss::softmax(x_in, y.out());
    print("softmax", y);
    softloss::softmax(x_in, y.out(), {.axis = 0, .temperature = 0.7});
    print("softmax_axis_temperature", y);
    softloss::log_softmax(x_in, y.out());
    print("log_softmax", y);
    softloss::logsumexp(x_in, row.out());
    print("logsumexp", row);
    softloss::logsumexp(x_in, column.out(), {.axis = 0, .b = &probs_in});
    print("logsumexp_axis_b", column);
    softloss::sigmoid(x_in, y.out());
    print("sigmoid", y);
    softloss::log_sigmoid(x_in, y.out());
    print("log_sigmoid", y);

    print_loss<T>("cross_entropy", softloss::cross_entropy(x_in, labels_in, {.dtype = dtype}));
    print_loss<T>("cross_entropy_options", softloss::cross_entropy(x_in, labels_in,
                                                                   {.weight = &weight_in,
                                                                    .label_smoothing = 0.1,
                                                                    .temperature = 2,
                                                                    .reduction = softloss::Reduction::sum,
                                                                    .dtype = dtype}));
    softloss::cross_entropy(x_in, probs_in, {.reduction = softloss::Reduction::none, .dtype = dtype},
                            &row_out);
    print("cross_entropy_rows", row);
    print_loss<T>("nll_loss", softloss::nll_loss(x_in, labels_in, {.dtype = dtype}));
    print_loss<T>("categorical_cross_entropy",
                  softloss::categorical_cross_entropy(probs_in, labels_in, {.dtype = dtype}));
    print_loss<T>("binary_cross_entropy",
                  softloss::binary_cross_entropy(probs_in, probs_in, {.dtype = dtype}));
    print_loss<T>("binary_cross_entropy_with_logits",
                  softloss::binary_cross_entropy_with_logits(
                      x_in, probs_in, {.weight = &weight_in, .pos_weight = &weight_in, .dtype = dtype}));

    labels.data[1] = kClasses;
    try {
        softloss::cross_entropy(x_in, labels_in, {.dtype = dtype});
    } catch (const std::out_of_range& error) {
        std::printf("error.%s %s\n", sizeof(T) == 4 ? "float32" : "float64", error.what());
    }
}

}  // namespace

int main() {
    cases<float>();
    cases<double>();
}
