// The bits of every operation are those of tests/golden_bits.json: on every instruction set, with every
// number of threads, wherever the rows lie. tests/python/golden_bits.py writes the file and says what the
// name of a case means. This file reads the names, too, and calls the C++ API, so that the check also runs
// where there is no Python.
#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include "support.hpp"

using softloss::DType;
using softloss::TensorView;

namespace {

using Shape = std::vector<std::int64_t>;

// ---- the file ---------------------------------------------------------------------------------------------

/// A case, read from its name.
struct Case {
    std::string op;
    DType dtype;
    Shape shape;
    std::map<std::string, std::string> options;

    bool has(const std::string& option) const { return options.count(option) > 0; }
    double number(const std::string& option, double otherwise) const {
        return has(option) ? std::stod(options.at(option)) : otherwise;
    }
    int axis() const { return static_cast<int>(number("axis", -1)); }
    bool is(std::string_view start) const { return op.compare(0, start.size(), start) == 0; }
};

DType dtype_named(const std::string& name) {
    return name == "float16"    ? DType::float16
           : name == "bfloat16" ? DType::bfloat16
           : name == "float32"  ? DType::float32
                                : DType::float64;
}

Case parse(const std::string& name) {
    std::istringstream words(name);
    Case c;
    std::string dtype, shape, word;
    words >> c.op >> dtype >> shape;
    c.dtype = dtype_named(dtype);
    std::istringstream sides(shape);
    while (std::getline(sides, word, 'x')) c.shape.push_back(std::stoll(word));
    while (words >> word) {
        const auto split = word.find('=');
        c.options[word.substr(0, split)] = split == std::string::npos ? "" : word.substr(split + 1);
    }
    return c;
}

/// Lines of the form "name": "hash", in the order of the file.
std::vector<std::pair<std::string, std::string>> golden_lines() {
    std::ifstream file(SOFTLOSS_GOLDEN_BITS);
    std::vector<std::pair<std::string, std::string>> lines;
    for (std::string line; std::getline(file, line);) {
        std::istringstream parts(line);
        std::string skipped, name, hash;
        std::getline(parts, skipped, '"');
        std::getline(parts, name, '"');
        std::getline(parts, skipped, '"');
        std::getline(parts, hash, '"');
        if (!hash.empty()) lines.emplace_back(name, hash);
    }
    return lines;
}

// ---- arrays -----------------------------------------------------------------------------------------------

/// The layout of an array: bytes before it, unused elements between its rows, negative strides, the order of
/// its axes.
struct Layout {
    int misaligned = 0, gap = 0;
    bool reversed = false, first_axis_fastest = false;
};

std::int64_t volume(const Shape& shape) {
    std::int64_t size = 1;
    for (const std::int64_t side : shape) size *= side;
    return size;
}

/// Elements of any dtype and layout, read and written as bit patterns in C order.
struct Array {
    DType dtype;
    Shape shape, strides;
    std::vector<unsigned char> memory;
    std::int64_t start = 0;

    Array(DType dtype_, Shape shape_, const Layout& layout = {})
        : dtype(dtype_), shape(std::move(shape_)), strides(shape.size()) {
        std::int64_t bytes = softloss::size_of(dtype);
        const std::size_t dims = shape.size();
        for (std::size_t k = 0; k < dims; ++k) {
            const std::size_t d = layout.first_axis_fastest ? k : dims - 1 - k;
            strides[d] = bytes;
            bytes *= shape[d] + (k == 0 ? layout.gap : 0);
        }
        start = layout.misaligned;
        for (std::size_t d = 0; d < dims && layout.reversed; ++d) {
            start += (shape[d] - 1) * strides[d];
            strides[d] = -strides[d];
        }
        memory.resize(bytes + layout.misaligned + 64);
    }
    std::int64_t size() const { return volume(shape); }
    TensorView view() const { return {memory.data() + start, dtype, shape, strides}; }
    softloss::MutableTensorView out() { return {memory.data() + start, dtype, shape, strides}; }
    std::int64_t offset(std::int64_t i) const {
        std::int64_t at = start;
        for (std::size_t d = shape.size(); d-- > 0; i /= shape[d]) at += i % shape[d] * strides[d];
        return at;
    }
    std::uint64_t bits(std::int64_t i) const {
        std::uint64_t b = 0;
        for (std::int64_t k = softloss::size_of(dtype); k-- > 0;) b = b << 8 | memory[offset(i) + byte(k)];
        return b;
    }
    void set_bits(std::int64_t i, std::uint64_t b) {
        for (std::int64_t k = 0; k < softloss::size_of(dtype); ++k, b >>= 8)
            memory[offset(i) + byte(k)] = b & 255;
    }
    /// Numbers that float16 and bfloat16 can represent are converted exactly.
    void set(std::int64_t i, double value) {
        const auto single = __builtin_bit_cast(std::uint32_t, static_cast<float>(value));
        const std::uint32_t sign = single >> 16 & 0x8000u, magnitude = single & 0x7fffffffu;
        switch (dtype) {
            case DType::float16:
                return set_bits(i, magnitude ? sign | (magnitude - 0x38000000u) >> 13 : sign);
            case DType::bfloat16: return set_bits(i, single >> 16);
            case DType::float32: return set_bits(i, single);
            case DType::float64: return set_bits(i, __builtin_bit_cast(std::uint64_t, value));
            default: return set_bits(i, static_cast<std::uint64_t>(static_cast<std::int64_t>(value)));
        }
    }

  private:
    std::int64_t byte(std::int64_t k) const {
        return std::endian::native == std::endian::little ? k : softloss::size_of(dtype) - 1 - k;
    }
};

int bits_of(DType dtype) {
    return dtype == DType::float16 ? 11 : dtype == DType::bfloat16 ? 8 : dtype == DType::float32 ? 24 : 53;
}

/// f(u) for numbers u in [0, 1) with the bits of c's dtype.
template <class F>
Array filled(const Case& c, DType dtype, const Shape& shape, std::uint64_t seed, const Layout& layout, F f) {
    Array a(dtype, shape, layout);
    std::uint64_t state = 2 * seed + 1;
    for (std::int64_t i = 0; i < a.size(); ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const int bits = bits_of(c.dtype);
        a.set(i, f(std::ldexp(static_cast<double>(state >> (64 - bits)), -bits)));
    }
    return a;
}

// ---- a case, computed -------------------------------------------------------------------------------------

bool is_calibration(const Case& c) {
    return c.is("fit_temperature") || c.is("calibration_error");
}
bool takes_classes(const Case& c) {
    return c.is("cross_entropy") || c.is("softmax_focal_loss") || c.is("nll_loss") || c.is("categorical") ||
           c.is("token_logprobs") || c.is("brier_score") || is_calibration(c);
}

bool is_divergence(const Case& c) {
    return c.is("kl_divergence") || c.is("js_divergence");
}
double logit(const Case& c, double u) {
    return (2 * u - 1) * c.number("scale", 16) + c.number("offset", 0);
}

/// The arguments of a case; those that it does not name stay empty.
struct Operands {
    Array x, target, where, weight, sample_weight, pos_weight, b;
    TensorView views[5];

    static double same(double u) { return u; }
    Operands(const Case& c, const Layout& layout)
        : x(filled(c, c.dtype, c.shape, 1, layout,
                   [&c](double u) {
                       if (c.is("categorical") || (c.is("binary") && !c.is("binary_cross_entropy_with")) ||
                           c.is("softmax_backward"))
                           return u;
                       if (c.is("nll_loss")) return -16 * u;
                       return logit(c, u);
                   })),
          target(targets(c, layout)),
          where(optional(c, "where", DType::boolean, c.shape, 3, layout, [](double u) { return u < 0.5; })),
          weight(optional(c, "weight", c.dtype, takes_classes(c) ? Shape{classes(c)} : c.shape, 4, {}, same)),
          sample_weight(optional(c, "sample_weight", c.dtype, rows(c), 5, {}, same)),
          pos_weight(optional(c, "pos_weight", c.dtype, c.shape, 6, {}, same)),
          b(optional(c, "b", c.dtype, c.shape, 7, layout, same)),
          views{where.view(), weight.view(), sample_weight.view(), pos_weight.view(), b.view()} {}

    template <class F>
    static Array optional(const Case& c, const char* option, DType dtype, const Shape& shape,
                          std::uint64_t seed, const Layout& layout, F f) {
        return c.has(option) ? filled(c, dtype, shape, seed, layout, f) : Array(dtype, {});
    }
    const TensorView* given(const Case& c, const char* option, int view) const {
        return c.has(option) ? &views[view] : nullptr;
    }
    static std::size_t axis(const Case& c) { return c.axis() < 0 ? c.shape.size() - 1 : c.axis(); }
    static std::int64_t classes(const Case& c) { return c.shape[axis(c)]; }
    static Shape rows(const Case& c) {
        Shape rest = c.shape;
        rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(axis(c)));
        return rest;
    }
    static Array targets(const Case& c, const Layout& layout) {
        if (is_divergence(c))
            return filled(c, c.dtype, c.shape, 2, layout, [&c](double u) { return logit(c, u); });
        if (!takes_classes(c) || c.has("soft")) {
            const bool gradient = c.op.ends_with("_backward");
            const bool hard = c.is("sigmoid_focal_loss");
            return filled(c, c.dtype, c.shape, 2, layout, [=](double u) {
                return gradient ? 8 * u - 4 : hard ? std::nearbyint(u) : u;
            });
        }
        Array labels(DType::int64, rows(c));
        for (std::int64_t i = 0; i < labels.size(); ++i)
            labels.set(i, static_cast<double>(i * 7 % classes(c)));
        return labels;
    }
};

/// The types of a loss's two functions.
template <class Options>
struct Functions {
    using Loss = double (*)(const softloss::TensorView&, const softloss::TensorView&, const Options&,
                            const softloss::MutableTensorView*);
    using LossAndGrad = double (*)(const softloss::TensorView&, const softloss::TensorView&,
                                   const softloss::MutableTensorView&, const Options&,
                                   const softloss::MutableTensorView*);
};

/// The results of a loss, reduced or not, and of its gradient if the name of the operation says so.
template <class Options>
std::vector<Array> loss_arrays(const Case& c, const Operands& in, const Layout& layout, const Shape& shape,
                               const Options& options, typename Functions<Options>::Loss loss,
                               typename Functions<Options>::LossAndGrad loss_and_grad) {
    const bool unreduced = options.reduction == softloss::Reduction::none;
    Array losses(*options.compute_dtype, unreduced ? shape : Shape{}), grad(c.dtype, c.shape, layout);
    const auto to = losses.out(), to_grad = grad.out();
    const auto* const written = unreduced ? &to : nullptr;
    const bool has_grad = c.op.ends_with("_and_grad");
    const double reduced = has_grad ? loss_and_grad(in.x.view(), in.target.view(), to_grad, options, written)
                                    : loss(in.x.view(), in.target.view(), options, written);
    if (!unreduced) losses.set(0, reduced);
    return has_grad ? std::vector{losses, grad} : std::vector{losses};
}

/// The results of softmax_topk or token_logprobs.
std::vector<Array> score_arrays(const Case& c, const Operands& in) {
    const auto k = static_cast<std::int64_t>(c.number("k", 0));
    const Shape rows = Operands::rows(c);
    Shape lists = rows;
    lists.push_back(std::min(k, Operands::classes(c)));
    if (c.op == "softmax_topk") {
        Array prob(c.dtype, lists), index(DType::int64, lists);
        softloss::softmax_topk(in.x.view(), prob.out(), index.out(), {.axis = c.axis(), .k = k});
        return {prob, index};
    }
    std::vector<Array> all{{c.dtype, rows}, {DType::int64, rows}, {DType::int64, rows},
                           {c.dtype, rows}, {c.dtype, lists},     {DType::int64, lists}};
    std::vector<softloss::MutableTensorView> to;
    for (Array& a : all) to.push_back(a.out());
    softloss::token_logprobs(in.x.view(), in.target.view(), {&to[0], &to[1], &to[2], &to[3], &to[4], &to[5]},
                             {.axis = c.axis(), .top_k = k});
    return all;
}

/// The results of fit_temperature or calibration_error.
std::vector<Array> calibration_arrays(const Case& c, const Operands& in) {
    const TensorView x = in.x.view(), target = in.target.view();
    const TensorView *const weight = in.given(c, "weight", 1), *const samples =
                                                                   in.given(c, "sample_weight", 2);
    Array first(DType::float64, {}), second(DType::float64, {});
    if (c.is("calibration_error")) {
        first.set(
            0, softloss::calibration_error(
                   x, target,
                   {.axis = c.axis(), .temperature = c.number("temperature", 1), .sample_weight = samples}));
        return {first};
    }
    const softloss::TemperatureFit fit =
        softloss::fit_temperature(x, target, {.axis = c.axis(), .weight = weight, .sample_weight = samples});
    first.set(0, fit.temperature);
    second.set(0, fit.loss);
    return {first, second};
}

std::vector<Array> result(const Case& c, const Operands& in, const Layout& layout) {
    const TensorView x = in.x.view(), target = in.target.view();
    const std::string how = c.has("reduction")            ? c.options.at("reduction")
                            : c.op.ends_with("_and_grad") ? "sum"
                                                          : "none";
    const auto reduction = how == "mean"  ? softloss::Reduction::mean
                           : how == "sum" ? softloss::Reduction::sum
                                          : softloss::Reduction::none;
    const DType compute = c.dtype == DType::float64 ? DType::float64 : DType::float32;
    if (is_divergence(c)) {
        const softloss::DivergenceOptions options{.axis = c.axis(),
                                                  .sample_weight = in.given(c, "sample_weight", 2),
                                                  .temperature = c.number("temperature", 1),
                                                  .reduction = reduction,
                                                  .compute_dtype = compute};
        using Function = Functions<softloss::DivergenceOptions>::Loss;
        const Function kl = softloss::kl_divergence, js = softloss::js_divergence;
        return loss_arrays(c, in, layout, Operands::rows(c), options, c.is("kl_divergence") ? kl : js,
                           softloss::kl_divergence_and_grad);
    }
    if (c.op == "softmax_entropy") {
        Array entropies(compute, Operands::rows(c));
        softloss::softmax_entropy(x, entropies.out(),
                                  {.axis = c.axis(), .temperature = c.number("temperature", 1)});
        return {entropies};
    }
    if (c.op == "sample") {
        const Array u = filled(c, c.dtype, Operands::rows(c), 8, {}, [](double number) { return number; });
        Array index(DType::int64, Operands::rows(c)), logprob(compute, Operands::rows(c));
        softloss::sample(x, u.view(), index.out(), logprob.out(),
                         {.axis = c.axis(),
                          .temperature = c.number("temperature", 1),
                          .top_k = static_cast<std::int64_t>(c.number("top_k", 0)),
                          .top_p = c.number("top_p", 1),
                          .min_p = c.number("min_p", 0),
                          .where = in.given(c, "where", 0)});
        return {index, logprob};
    }
    if (c.op == "log_normalize") {
        Array log_prob(c.dtype, c.shape, layout), sums(c.dtype, Operands::rows(c));
        softloss::log_normalize(x, log_prob.out(), sums.out(), c.axis());
        return {log_prob, sums};
    }
    if (is_calibration(c)) return calibration_arrays(c, in);
    const softloss::TransformOptions transform{
        .axis = c.axis(), .where = in.given(c, "where", 0), .temperature = c.number("temperature", 1)};
    Array y(c.dtype, c.op == "logsumexp" ? Operands::rows(c) : c.shape,
            c.op == "logsumexp" ? Layout{} : layout);
    if (c.op == "softmax") softloss::softmax(x, y.out(), transform);
    else if (c.op == "log_softmax") softloss::log_softmax(x, y.out(), transform);
    else if (c.op == "sigmoid") softloss::sigmoid(x, y.out());
    else if (c.op == "log_sigmoid") softloss::log_sigmoid(x, y.out());
    else if (c.op == "logsumexp")
        softloss::logsumexp(x, y.out(), {.axis = c.axis(), .b = in.given(c, "b", 4)});
    else if (c.op == "softmax_backward") softloss::softmax_backward(x, target, y.out(), c.axis());
    else if (c.op == "log_softmax_backward") softloss::log_softmax_backward(x, target, y.out(), c.axis());
    else if (c.has("k")) return score_arrays(c, in);
    else if (takes_classes(c)) {
        const softloss::ClassLossOptions options{.axis = c.axis(),
                                                 .weight = in.given(c, "weight", 1),
                                                 .sample_weight = in.given(c, "sample_weight", 2),
                                                 .label_smoothing = c.number("label_smoothing", 0),
                                                 .temperature = c.number("temperature", 1),
                                                 .reduction = reduction,
                                                 .compute_dtype = compute,
                                                 .gamma = c.number("gamma", 2)};
        const Shape rows = Operands::rows(c);
        if (c.op.ends_with("_grad_hess")) {
            Array hess(c.dtype, c.shape, layout);
            if (c.is("softmax_focal_loss"))
                softloss::softmax_focal_loss_grad_hess(x, target, y.out(), hess.out(), options);
            else softloss::cross_entropy_grad_hess(x, target, y.out(), hess.out(), options);
            return {y, hess};
        }
        if (c.is("softmax_focal_loss"))
            return loss_arrays(c, in, layout, rows, options, softloss::softmax_focal_loss,
                               softloss::softmax_focal_loss_and_grad);
        if (c.is("brier_score"))
            return loss_arrays(c, in, layout, rows, options, softloss::brier_score, nullptr);
        if (c.is("cross_entropy"))
            return loss_arrays(c, in, layout, rows, options, softloss::cross_entropy,
                               softloss::cross_entropy_and_grad);
        if (c.is("nll_loss"))
            return loss_arrays(c, in, layout, rows, options, softloss::nll_loss, softloss::nll_loss_and_grad);
        return loss_arrays(c, in, layout, rows, options, softloss::categorical_cross_entropy,
                           softloss::categorical_cross_entropy_and_grad);
    } else if (c.is("binary") || c.is("sigmoid_focal_loss")) {
        const std::optional<double> alpha =
            c.has("alpha") ? std::optional(c.number("alpha", 0)) : std::nullopt;
        const softloss::BinaryLossOptions options{.weight = in.given(c, "weight", 1),
                                                  .pos_weight = in.given(c, "pos_weight", 3),
                                                  .reduction = reduction,
                                                  .compute_dtype = compute,
                                                  .alpha = alpha,
                                                  .gamma = c.number("gamma", 2)};
        if (c.op.ends_with("_grad_hess")) {
            Array hess(c.dtype, c.shape, layout);
            if (c.is("sigmoid_focal_loss"))
                softloss::sigmoid_focal_loss_grad_hess(x, target, y.out(), hess.out(), options);
            else
                softloss::binary_cross_entropy_with_logits_grad_hess(x, target, y.out(), hess.out(), options);
            return {y, hess};
        }
        if (c.is("sigmoid_focal_loss"))
            return loss_arrays(c, in, layout, c.shape, options, softloss::sigmoid_focal_loss,
                               softloss::sigmoid_focal_loss_and_grad);
        if (c.is("binary_cross_entropy_with_logits")) {
            return loss_arrays(c, in, layout, c.shape, options, softloss::binary_cross_entropy_with_logits,
                               softloss::binary_cross_entropy_with_logits_and_grad);
        }
        return loss_arrays(c, in, layout, c.shape, options, softloss::binary_cross_entropy,
                           softloss::binary_cross_entropy_and_grad);
    } else {
        FAIL("no operation " << c.op);
    }
    return {y};
}

/// The digest that golden_bits.py computes.
std::string digest(const std::vector<Array>& arrays) {
    std::uint64_t sum = 0, place = 0;
    for (const Array& a : arrays) {
        for (std::int64_t i = 0; i < a.size(); ++i) {
            std::uint64_t z = a.bits(i) ^ ++place * 0x9e3779b97f4a7c15u;
            z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
            z = (z ^ z >> 27) * 0x94d049bb133111ebu;
            sum += z ^ z >> 31;
        }
    }
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(sum));
    return text;
}

/// A baseline without fma, that of x86-64, has hashes of its own. The baselines of RISC-V and s390x have fma.
#if defined(__FP_FAST_FMA) && defined(__FP_FAST_FMAF)
constexpr bool kBaselineHasFma = true;
#else
constexpr bool kBaselineHasFma = false;
#endif

/// Calls check(case, hash) for the cases of the active instruction set.
template <class Check>
void for_each_case(Check check) {
    const auto lines = golden_lines();
    REQUIRE(lines.size() > 100);
    const std::map<std::string, std::string> all(lines.begin(), lines.end());
    const bool own_lines = softloss::isa() == "baseline" && !kBaselineHasFma;
    for (const auto& line : lines) {
        const std::string &name = line.first, &hash = line.second;
        if (name.starts_with("baseline ")) continue;
        CAPTURE(name);
        const auto own = all.find("baseline " + name);
        check(parse(name), own_lines && own != all.end() ? own->second : hash);
    }
}

/// Checks all cases with first ... last threads; small cases with first ... last_if_small.
void check_golden_bits(int first, int last_if_small, int last) {
    const int before = softloss::get_num_threads();
    on_each_isa([&] {
        for_each_case([&](const Case& c, const std::string& hash) {
            const Operands in(c, {});
            for (int threads = first; threads <= (volume(c.shape) < 1000 ? last_if_small : last); ++threads) {
                CAPTURE(threads);
                softloss::set_num_threads(threads);
                CHECK(digest(result(c, in, {})) == hash);
            }
        });
    });
    softloss::set_num_threads(before);
}

}  // namespace

TEST_CASE("the bits on every instruction set are the stored ones") {
    check_golden_bits(1, 1, 1);
}

TEST_CASE("the bits with every number of threads are the stored ones") {
    check_golden_bits(2, 2, 7);
}

TEST_CASE("the bits do not depend on where the arrays lie") {
    const Layout layouts[] = {{.misaligned = 1},
                              {.misaligned = 4},
                              {.misaligned = 24},
                              {.misaligned = 63},
                              {.gap = 3},
                              {.misaligned = 8, .gap = 1},
                              {.first_axis_fastest = true},
                              {.gap = 5, .first_axis_fastest = true},
                              {.reversed = true},
                              {.misaligned = 2, .gap = 2, .reversed = true}};
    on_each_isa([&] {
        for_each_case([&](const Case& c, const std::string& hash) {
            if (volume(c.shape) > 20000) return;
            for (const Layout& layout : layouts) {
                CAPTURE(&layout - layouts);
                CHECK(digest(result(c, Operands(c, layout), layout)) == hash);
            }
        });
    });
}

TEST_CASE("a row has the same bits wherever it lies in a batch") {
    const auto check = [](DType dtype, std::int64_t n) {
        const Case c{"softmax", dtype, {37, n}, {}};
        const Operands in(c, {});
        Array y(dtype, c.shape), z(dtype, c.shape), loss(dtype, {37}), lse(dtype, {37});
        softloss::softmax(in.x.view(), y.out());
        softloss::log_softmax(in.x.view(), z.out());
        softloss::logsumexp(in.x.view(), lse.out());
        const softloss::ClassLossOptions options{
            .reduction = softloss::Reduction::none,
            .compute_dtype = dtype == DType::float64 ? dtype : DType::float32};
        Array label(DType::int64, {37});
        const auto losses = loss.out();
        softloss::cross_entropy(in.x.view(), label.view(), options, &losses);
        for (std::int64_t r = 0; r < 37; ++r) {
            for (std::int64_t count : {1, 2, 5}) {
                if (r + count > 37) continue;
                Array x(dtype, {count, n}), y1(dtype, x.shape), z1(dtype, x.shape), loss1(dtype, {count}),
                    lse1(dtype, {count}), label1(DType::int64, {count});
                for (std::int64_t i = 0; i < count * n; ++i) x.set_bits(i, in.x.bits(r * n + i));
                softloss::softmax(x.view(), y1.out());
                softloss::log_softmax(x.view(), z1.out());
                softloss::logsumexp(x.view(), lse1.out());
                const auto losses1 = loss1.out();
                softloss::cross_entropy(x.view(), label1.view(), options, &losses1);
                const auto same = [&](const Array& part, const Array& all, std::int64_t per_row) {
                    for (std::int64_t i = 0; i < part.size(); ++i) {
                        if (part.bits(i) != all.bits(r * per_row + i)) return false;
                    }
                    return true;
                };
                CAPTURE(n);
                CAPTURE(r);
                CHECK(same(y1, y, n));
                CHECK(same(z1, z, n));
                CHECK(same(lse1, lse, 1));
                CHECK(same(loss1, loss, 1));
            }
        }
    };
    on_each_isa([&] {
        for (const std::int64_t n : {5, 10, 70, 1000}) {
            check(DType::float32, n);
            check(DType::float64, n);
        }
    });
}
