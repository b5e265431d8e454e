// The kernels of adjacent elements of each usable instruction set, on small arrays at every place in a cache
// line: their values against long double; the same bits everywhere, in place and not, with and without
// non-temporal stores; nothing but the outputs is written.
#include <functional>
#include <memory>
#include <numeric>

#include "fields.hpp"

using softloss::KernelTable;

namespace {

constexpr std::int64_t kMost = 300;
constexpr std::int64_t kLengths[] = {1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 130, kMost};

/// Exact results. scale: errors are counted in units of this number, if it is larger than the result.
struct Exact {
    std::vector<long double> value, scale;

    void add(long double v, long double s = 0) {
        value.push_back(v);
        scale.push_back(s);
    }
};

/// A kernel and its test. inputs: (kMost) each, of which the first n take part. run(table, inputs, outputs,
/// n) writes `outputs` arrays and returns further results. exact(n): the elements of the arrays, then the
/// further results.
template <class S, class Out>
struct Kernel {
    std::vector<std::vector<S>> inputs;
    std::size_t outputs;
    std::function<std::vector<double>(const KernelTable&, const std::vector<const S*>&,
                                      const std::vector<Out*>&, std::int64_t)>
        run;
    std::function<Exact(std::int64_t)> exact;
    double limit = 4;  ///< units in the last place
};

/// The results of one call: the elements of the arrays, then what run() returns. in_place: the first output
/// is the first input. offset: that of the outputs in a cache line.
template <class S, class Out>
std::vector<double> results_of(const Kernel<S, Out>& kernel, const KernelTable& table, std::int64_t n,
                               std::int64_t offset, bool in_place) {
    std::vector<Field<S>> inputs;
    for (const std::vector<S>& values : kernel.inputs) {
        inputs.emplace_back(1, n, Layout{Order::rows, (5 * offset + 3 * std::int64_t{sizeof(S)}) % 64, 0});
        inputs.back().put(values);
    }
    std::vector<Field<Out>> outputs;
    while (outputs.size() < kernel.outputs) outputs.emplace_back(1, n, Layout{Order::rows, offset, 0});
    std::vector<const S*> in;
    std::vector<Out*> out;
    for (Field<S>& x : inputs) in.push_back(reinterpret_cast<const S*>(x.in().data));
    for (Field<Out>& y : outputs) out.push_back(reinterpret_cast<Out*>(y.out().data));
    if (in_place) out[0] = reinterpret_cast<Out*>(inputs[0].out().data);
    const std::vector<double> numbers = kernel.run(table, in, out, n);
    std::vector<double> results;
    for (std::size_t k = 0; k < outputs.size(); ++k) {
        if (in_place && k == 0) inputs[0].append_to(results);
        else outputs[k].append_to(results);
        CHECK(outputs[k].kept_its_surroundings());
    }
    for (const Field<S>& x : inputs) CHECK(x.kept_its_surroundings());
    results.insert(results.end(), numbers.begin(), numbers.end());
    return results;
}

/// The first instruction set is checked against exact values; all others, at all offsets and in place, for
/// the same bits.
template <class S, class Out>
void check(const char* name, const Kernel<S, Out>& kernel) {
    CAPTURE(std::string(name));
    for (const std::int64_t n : kLengths) {
        CAPTURE(n);
        const std::vector<double> first = results_of(kernel, *softloss::usable_tables().front(), n, 0, false);
        const Exact exact = kernel.exact(n);
        REQUIRE(first.size() == exact.value.size());
        for (std::size_t i = 0; i < first.size(); ++i) {
            CAPTURE(i);
            CHECK(units(first[i], exact.value[i], kFormat<Out>, exact.scale[i]) <= kernel.limit);
        }
        for (const KernelTable* table : softloss::usable_tables()) {
            CAPTURE(std::string(table->name));
            for (std::int64_t offset = 0; offset < 64; offset += sizeof(Out)) {
                CAPTURE(offset);
                for (const bool in_place : {false, true}) {
                    if (in_place && !(std::is_same_v<S, Out> && kernel.outputs > 0)) continue;
                    const std::vector<double> results = results_of(kernel, *table, n, offset, in_place);
                    CHECK(std::memcmp(results.data(), first.data(), first.size() * sizeof(double)) == 0);
                }
            }
        }
    }
}

// ---- inputs -----------------------------------------------------------------------------------------------

template <class S>
std::vector<S> uniform(double low, double high, std::uint64_t seed) {
    std::vector<S> values;
    for (const double x : numbers<double>({kMost}, seed, 1).data)
        values.push_back(element<S>(low + (high - low) * (x + 1) / 2));
    return values;
}
template <class S>
std::vector<S> logits(std::uint64_t seed) {
    std::vector<S> x = uniform<S>(-12, 12, seed);
    const double inf = std::numeric_limits<double>::infinity();
    const double special[] = {0, -0.0, inf, -inf, std::numeric_limits<double>::quiet_NaN(), 88, -104, 0.5};
    for (std::size_t i = 0; i < std::size(special); ++i) x[5 * i + 2] = element<S>(special[i]);
    return x;
}

long double softplus(long double x) {
    return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}
long double logistic(long double x) {
    return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
}

// ---- maps -------------------------------------------------------------------------------------------------

template <class S>
void check_maps(const char* dtype) {
    CAPTURE(std::string(dtype));
    using T = std::conditional_t<sizeof(S) == 8, double, float>;
    const std::vector<S> x = logits<S>(3);
    const double half = 0.5 + std::ldexp(4.0, kFormat<S>.digits - kFormat<T>.digits);
    const double limit = sizeof(S) == 2 ? half : 4;  // 16-bit results are rounded once more
    const auto map = [&](softloss::MapKernel softloss::StorageKernels::* kernel, bool nontemporal,
                         long double (*f)(long double)) {
        return Kernel<S, S>{{x},
                            1,
                            [=](const KernelTable& table, const auto& in, const auto& out, std::int64_t n) {
                                (table.of(softloss::dtype_of<S>).*kernel)(in[0], out[0], n, nontemporal);
                                return std::vector<double>();
                            },
                            [=](std::int64_t n) {
                                Exact exact;
                                for (std::int64_t i = 0; i < n; ++i) exact.add(f(value_of(x[i])));
                                return exact;
                            },
                            limit};
    };
    for (const bool nontemporal : {false, true}) {
        CAPTURE(nontemporal);
        check("sigmoid", map(&softloss::StorageKernels::sigmoid, nontemporal, logistic));
        check("log_sigmoid", map(&softloss::StorageKernels::log_sigmoid, nontemporal,
                                 [](long double v) { return -softplus(-v); }));
    }
    const auto exactly = [&](std::int64_t n) {
        Exact exact;
        for (std::int64_t i = 0; i < n; ++i) exact.add(value_of(x[i]));
        return exact;
    };
    const auto copy = [](softloss::CopyKernel softloss::StorageKernels::* kernel) {
        return [=](const KernelTable& table, const auto& in, const auto& out, std::int64_t n) {
            (table.of(softloss::dtype_of<S>).*kernel)(in[0], out[0], n);
            return std::vector<double>();
        };
    };
    check("widen", Kernel<S, T>{{x}, 1, copy(&softloss::StorageKernels::widen), exactly, 0});
    std::vector<T> wide;
    for (const S& v : x) wide.push_back(static_cast<T>(value_of(v)));
    check("narrow", Kernel<T, S>{{wide}, 1, copy(&softloss::StorageKernels::narrow), exactly, 0});
}

// ---- binary losses ----------------------------------------------------------------------------------------

constexpr double kFactor = 0.3, kHessScale = 0.75, kHessMin = 0x1p-20;

/// Loss, gradient and Hessian of one element. grad_scale: what the error of the gradient is relative to.
struct BinaryElement {
    long double loss, grad, grad_scale, hess;
};
using BinaryFormula = BinaryElement (*)(long double x, long double z, long double pos_weight);

BinaryElement of_logits(long double x, long double z, long double pos_weight) {
    const long double a = z == 0 ? 0 : pos_weight * z, b = 1 - z, s = logistic(x), rest = logistic(-x);
    return {(a == 0 ? 0 : a * softplus(-x)) + (b == 0 ? 0 : b * softplus(x)), b * s - a * rest,
            b * s + a * rest, (a + b) * s * rest};
}
BinaryElement of_probabilities(long double p, long double z, long double) {
    const long double log_p = std::max(-100.0L, std::log(p)), log_rest = std::max(-100.0L, std::log1p(-p));
    const long double slope = (p - z) / std::max(1e-12L, p * (1 - p));
    return {-(z * log_p + (1 - z) * log_rest), slope, std::fabs(slope), 0};
}

/// Which of the optional arguments and results are there.
struct BinaryOptions {
    bool weight, pos_weight, gradient, hessian;
};

template <class T>
Kernel<T, T> binary(softloss::BinaryKernel<T> softloss::ComputeKernels<T>::* kernel, BinaryFormula formula,
                    const std::vector<T>& x, const BinaryOptions& options) {
    std::vector<T> target = uniform<T>(0, 1, 8);
    for (std::size_t i = 0; i < target.size(); i += 3) target[i] = i % 2;
    const std::vector<std::vector<T>> inputs{x, target, uniform<T>(0, 2, 9), uniform<T>(0.5, 3, 10)};
    const std::size_t outputs = 1 + options.gradient + options.hessian;
    const auto run = [=](const KernelTable& table, const auto& in, const auto& out, std::int64_t n) {
        softloss::BinaryBlock<T> b{};
        b.x = in[0], b.target = in[1];
        if (options.weight) b.weight = in[2];
        if (options.pos_weight) b.pos_weight = in[3];
        b.loss = out[0];
        if (options.gradient) b.grad = out[1];
        if (options.hessian) b.hess = out[2];
        b.factor = kFactor, b.hess_scale = kHessScale, b.hess_min = kHessMin;
        b.summed = true;
        return std::vector<double>{(table.compute<T>().*kernel)(b, n).loss};
    };
    const auto exact = [=](std::int64_t n) {
        Exact losses, gradients, hessians;
        long double sum = 0, magnitude = 0;
        for (std::int64_t i = 0; i < n; ++i) {
            const long double w = options.weight ? inputs[2][i] : T(1);
            const auto e = formula(inputs[0][i], inputs[1][i], options.pos_weight ? inputs[3][i] : T(1));
            losses.add(w == 0 ? 0 : w * e.loss);
            sum += losses.value.back();
            magnitude += std::fabs(losses.value.back());
            gradients.add(T(kFactor) * w * e.grad, T(kFactor) * w * e.grad_scale);
            hessians.add(std::max<long double>(T(kHessScale) * w * e.hess, T(kHessMin)));
        }
        for (const auto& [there, more] : {std::pair<bool, const Exact&>{options.gradient, gradients},
                                          std::pair<bool, const Exact&>{options.hessian, hessians}}) {
            for (std::size_t i = 0; there && i < more.value.size(); ++i)
                losses.add(more.value[i], more.scale[i]);
        }
        losses.add(sum, magnitude);
        return losses;
    };
    return {inputs, outputs, run, exact, 4};
}

template <class T>
void check_binary() {
    using Kernels = softloss::ComputeKernels<T>;
    std::vector<T> x = uniform<T>(-12, 12, 5), p = uniform<T>(0, 1, 6);
    x[2] = 0, x[7] = 40, x[12] = -40;
    p[2] = 0, p[7] = 1, p[12] = T(1e-6);
    for (const bool weight : {false, true}) {
        CAPTURE(weight);
        for (const int more : {0, 1, 2}) {
            CAPTURE(more);
            for (const bool pos_weight : {false, true}) {
                CAPTURE(pos_weight);
                check("bce_logits", binary<T>(&Kernels::bce_logits, of_logits, x,
                                              {weight, pos_weight, more > 0, more > 1}));
            }
            if (more < 2)
                check("bce", binary<T>(&Kernels::bce, of_probabilities, p, {weight, false, more > 0, false}));
        }
    }
}

// ---- sums -------------------------------------------------------------------------------------------------

template <class S>
using Reduce =
    std::function<std::vector<double>(const KernelTable&, const std::vector<const S*>&, std::int64_t)>;

template <class S>
Kernel<S, double> reduction(const std::vector<std::vector<S>>& inputs, const Reduce<S>& reduce,
                            const std::function<Exact(std::int64_t)>& exact, double limit) {
    return {inputs, 0,
            [=](const KernelTable& table, const auto& in, const auto&, std::int64_t n) {
                return reduce(table, in, n);
            },
            exact, limit};
}

template <class T>
void check_sums() {
    const std::vector<T> x = uniform<T>(-3, 5, 20);
    check("sum", reduction<T>(
                     {x},
                     [](const KernelTable& table, const auto& in, std::int64_t n) {
                         return std::vector<double>{table.compute<T>().sum(in[0], n).value};
                     },
                     [&](std::int64_t n) {
                         Exact exact;
                         exact.add(std::accumulate(x.begin(), x.begin() + n, 0.0L));
                         return exact;
                     },
                     1));
    for (const double beyond : {0.0, -1e-3, 1.5}) {  // the value of the last element
        for (const std::int64_t n : kLengths) {
            std::vector<T> unit = uniform<T>(0, 1, 21);
            unit[n - 1] = T(beyond);
            for (const KernelTable* table : softloss::usable_tables()) {
                CHECK(table->compute<T>().outside_unit(unit.data(), n, T(1e-4)) == (beyond != 0));
                CHECK_FALSE(table->compute<T>().outside_unit(unit.data(), n - 1, T(1e-4)));
                CHECK_FALSE(table->compute<T>().outside_unit(unit.data(), n, T(0.6)));
            }
        }
    }
}

void check_log() {
    const std::vector<double> p = uniform<double>(0, 1, 31);
    check("log", Kernel<double, double>{
                     {p},
                     1,
                     [](const KernelTable& table, const auto& in, const auto& out, std::int64_t n) {
                         table.log(in[0], out[0], n);
                         return std::vector<double>();
                     },
                     [&](std::int64_t n) {
                         Exact exact;
                         for (std::int64_t i = 0; i < n; ++i)
                             exact.add(std::log(static_cast<long double>(p[i])));
                         return exact;
                     }});
}

// ---- scores -----------------------------------------------------------------------------------------------

template <class T>
void check_scores() {
    std::vector<T> x = uniform<T>(-6, 6, 50);
    for (std::size_t i = 4; i < x.size(); i += 9) x[i] = x[i - 4];  // equal ones
    constexpr std::int64_t kK = 6;
    std::vector<std::int64_t> order(kMost);
    const auto sort = [&](std::int64_t n) {
        std::iota(order.begin(), order.end(), 0);
        std::sort(order.begin(), order.begin() + n,
                  [&](std::int64_t a, std::int64_t b) { return x[a] != x[b] ? x[a] > x[b] : a < b; });
        return std::min(n, kK);
    };
    const auto top = [&](const KernelTable& table, const auto& in, std::int64_t n) {
        std::vector<double> values(kK + 1, -1), found;
        std::vector<std::int64_t> index(kK + 1, -1);
        const std::int64_t held = table.compute<T>().top(in[0], n, kK, values.data(), index.data());
        for (std::int64_t i = 0; i < held; ++i) {
            found.push_back(values[i]);
            found.push_back(static_cast<double>(index[i]));
        }
        CHECK(index[held] == -1);
        CHECK(values[held] == -1);
        return found;
    };
    const auto sorted = [&](std::int64_t n) {
        Exact exact;
        for (std::int64_t i = 0, k = sort(n); i < k; ++i) exact.add(x[order[i]]), exact.add(order[i]);
        return exact;
    };
    check("top", reduction<T>({x}, top, sorted, 0));
}

/// softmax_at has the bits of softmax.
template <class T>
void check_softmax_at() {
    const std::vector<T> x = uniform<T>(-6, 6, 60);
    const std::unique_ptr<char[]> memory(new char[softloss::kScratchBytes + 64]);
    char* const scratch = memory.get() + -reinterpret_cast<std::uintptr_t>(memory.get()) % 64;
    for (const KernelTable* table : softloss::usable_tables()) {
        for (const std::int64_t n : {std::int64_t{64}, std::int64_t{65}, std::int64_t{130}, kMost}) {
            Field<T> in(1, n, {Order::rows, 3 * sizeof(T), 0}), all(1, n, {}), some(1, n, {});
            in.put(x);
            const softloss::RowOptions options{0.7, false, scratch};
            table->of(softloss::dtype_of<T>).softmax(in.in(), all.out(), 1, n, options);
            std::vector<std::int64_t> index(n);
            for (std::int64_t i = 0; i < n; ++i) index[i] = n - 1 - i;
            table->compute<T>().softmax_at(reinterpret_cast<const T*>(in.in().data), n, index.data(), n,
                                           reinterpret_cast<T*>(some.out().data), options);
            std::vector<double> forward, backward;
            all.append_to(forward);
            some.append_to(backward);
            std::reverse(backward.begin(), backward.end());
            CHECK(forward == backward);
            CHECK(some.kept_its_surroundings());
        }
    }
}

}  // namespace

TEST_CASE("kernels: sigmoid, log_sigmoid and conversions of storage types, at every place in a line") {
    check_maps<float>("float32");
    check_maps<double>("float64");
    check_maps<float16>("float16");
    check_maps<bfloat16>("bfloat16");
}
TEST_CASE("kernels: binary losses with every set of arguments, at every place in a line") {
    check_binary<float>();
    check_binary<double>();
}
TEST_CASE("kernels: sums and logarithms of adjacent elements") {
    check_sums<float>();
    check_sums<double>();
    check_log();
}
TEST_CASE("kernels: places and probabilities of the largest") {
    check_scores<float>();
    check_scores<double>();
    check_softmax_at<float>();
    check_softmax_at<double>();
}
