// The row kernels of each usable instruction set, called as the public functions call them, on small arrays:
// their values against sums in long double; the same bits in every layout, with and without non-temporal
// stores, in one block or several, on every instruction set; nothing but the outputs is written.
//
// The public functions use non-temporal stores and blocks for large arrays alone. Here they are asked for, so
// that arrays stay small.
#include <memory>
#include <new>
#include <numeric>

#include "fields.hpp"

using softloss::KernelTable, softloss::RowOptions;

namespace {

// ---- operations, inputs, expected results -----------------------------------------------------------------

enum class Op { softmax, log_softmax, partition, loss, gradient, hessian, soft_loss, soft_gradient };
constexpr const char* kOps[] = {"softmax",  "log_softmax", "partition", "loss",
                                "gradient", "hessian",     "soft_loss", "soft_gradient"};
bool is_soft(Op op) {
    return op == Op::soft_loss || op == Op::soft_gradient;
}
bool writes_elements(Op op) {
    return op != Op::partition && op != Op::loss && op != Op::soft_loss;
}

constexpr double kHessScale = 1.5, kHessMin = 0x1p-20;

/// What soft_loss is given in addition to logits.
struct Distribution {
    bool probabilities = false;  ///< else labels
    bool weighted = false;
    double smoothing = 0;
};

/// The inputs of a call: logits x, probabilities q, labels, factors and weights.
template <class S>
struct Problem {
    std::int64_t rows, n;
    double temperature;
    std::vector<S> x, q;
    std::vector<std::int64_t> label, any_label;  ///< with and without ignored ones
    std::vector<double> factor, weight;          ///< of rows, of classes
    Distribution distribution;

    /// Among the rows are: one with a NaN, one far from 0, one with -inf, one with equal maxima, some that
    /// are ignored or have a factor of 0, and one of nothing but -inf.
    Problem(std::int64_t rows_, std::int64_t n_, double temperature_)
        : rows(rows_), n(n_), temperature(temperature_) {
        const auto random = numbers<double>({rows, n}, 17 * n + rows, 8);
        const auto shares = numbers<double>({rows, n}, 13 * n + rows, 1);
        for (double share : shares.data) q.push_back(element<S>(share < 0 ? 0 : share));
        // Weights are multiples of 1/8, so that their sum is exact. Behind them as many as a vector has may
        // be read.
        for (std::int64_t i = 0; i < n + 16; ++i) weight.push_back(i < n ? (i * 5 + 3) % 16 / 8.0 : 1e300);
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t i = 0; i < n; ++i) {
                double value = random.data[r * n + i];
                if (r % 6 == 1 && i == n / 2) value = std::numeric_limits<double>::quiet_NaN();
                if (r % 6 == 2) value += 2500;
                if (r % 6 == 4 && i % 3 == 1) value = -std::numeric_limits<double>::infinity();
                if (r % 6 == 5 && (i == 0 || i == n - 1)) value = 9;
                if (r % 16 == 15) value = -std::numeric_limits<double>::infinity();
                x.push_back(element<S>(value));
            }
            any_label.push_back((r * 31 + n - 1) % n);
            label.push_back(r % 5 == 2 || r % 7 == 1 ? -1 : any_label.back());
            factor.push_back(r % 8 == 6 ? 0 : 0.3 + 0.1 * static_cast<double>(r));
        }
    }
};

/// Results of a kernel, or what they should be, one for each element and one for each row. scale: the error
/// of an element is counted in units of this number, if it is larger than the result.
template <class T>
struct Results {
    std::vector<T> of_elements, of_rows, scale{};
};

template <class S>
long double share_of_class(const Problem<S>& problem, std::int64_t r, std::int64_t i) {
    const Distribution& d = problem.distribution;
    const long double q = d.probabilities             ? value_of(problem.q[r * problem.n + i])
                          : i == problem.any_label[r] ? 1
                                                      : 0;
    const long double w = d.weighted ? problem.weight[i] : 1, e = d.smoothing;
    return w * ((1 - e) * q + e / problem.n);
}

template <class S>
Results<long double> expected(const Problem<S>& problem, Op op) {
    using T = Compute<S>;
    const std::int64_t n = problem.n;
    const long double nan = std::numeric_limits<long double>::quiet_NaN(), t = problem.temperature;
    std::vector<long double> elements, second, scale, maximum, first_of_row, second_of_row;
    for (std::int64_t r = 0; r < problem.rows; ++r) {
        std::vector<long double> x(n), e(n);
        for (std::int64_t i = 0; i < n; ++i) x[i] = value_of(problem.x[r * n + i]);
        const bool has_nan = std::any_of(x.begin(), x.end(), [](long double v) { return std::isnan(v); });
        const long double largest = *std::max_element(x.begin(), x.end());
        const bool valid = !has_nan && std::isfinite(largest);
        const std::int64_t first = std::max_element(x.begin(), x.end()) - x.begin();
        long double others = 0;  // sum of the exponentials without that of the first maximum, which is 1
        for (std::int64_t i = 0; i < n; ++i) {
            e[i] = std::exp((x[i] - largest) / t);
            if (i != first) others += e[i];
        }
        const long double sum = 1 + others, log_rest = std::log1p(others);
        const std::int64_t label = problem.label[r];
        const long double factor = problem.factor[r];
        const bool counts = (is_soft(op) || label >= 0) && factor != 0;
        long double shares = 0, cost = 0;  // a share of 0 costs nothing, even if its class has probability 0
        for (std::int64_t i = 0; is_soft(op) && i < n; ++i) {
            const long double share = share_of_class(problem, r, i);
            shares += share;
            if (share != 0) cost += share * ((largest - x[i]) / t + log_rest);
        }
        for (std::int64_t i = 0; i < n; ++i) {
            const long double p = e[i] / sum, off = i == first ? others / sum : (sum - e[i]) / sum;
            if (op == Op::softmax) elements.push_back(valid ? p : nan);
            if (op == Op::log_softmax) elements.push_back(valid ? (x[i] - largest) / t - log_rest : nan);
            if (op == Op::soft_gradient) {
                const long double share = share_of_class(problem, r, i);
                elements.push_back(!counts ? 0 : valid ? factor * (p * shares - share) : nan);
                scale.push_back(counts && valid ? factor * std::max(p * shares, share) : 0);
            }
            if (op == Op::gradient || op == Op::hessian) {
                const long double g = i == label ? -factor * off : factor * p;
                elements.push_back(!counts ? 0 : valid ? g : nan);
                const long double h = std::max<long double>(kHessScale * factor * p * off, T(kHessMin));
                second.push_back(!counts ? T(kHessMin) : valid ? h : nan);
            }
        }
        if (op == Op::partition) {
            maximum.push_back(valid ? largest : 0);
            first_of_row.push_back(valid ? log_rest : nan);
            second_of_row.push_back(valid ? largest + log_rest : nan);
        } else if (is_soft(op)) {
            first_of_row.push_back(valid ? cost : nan);
        } else if (op != Op::softmax && op != Op::log_softmax) {
            first_of_row.push_back(label < 0 ? 0 : valid ? (largest - x[label]) / t + log_rest : nan);
        }
    }
    if (op == Op::hessian) elements.insert(elements.end(), second.begin(), second.end());
    Results<long double> results{elements, maximum, scale};
    results.of_rows.insert(results.of_rows.end(), first_of_row.begin(), first_of_row.end());
    results.of_rows.insert(results.of_rows.end(), second_of_row.begin(), second_of_row.end());
    return results;
}

// ---- calls ------------------------------------------------------------------------------------------------

constexpr std::int64_t kBlocks = 2;

/// One way to call a kernel.
struct Way {
    Layout x, y;
    bool nontemporal = false, in_place = false;
    std::int64_t blocks = 1;
};

void* scratch() {
    struct Delete {
        void operator()(char* p) const { ::operator delete[](p, std::align_val_t{64}); }
    };
    static const std::unique_ptr<char[], Delete> memory(
        static_cast<char*>(::operator new[](kBlocks * softloss::kScratchBytes, std::align_val_t{64})));
    return memory.get();
}

template <class S>
softloss::PairedRows soft_rows(const Problem<S>& problem, Field<S>& x, Field<S>& q, Field<S>& grad,
                               Field<double>& loss, bool gradient) {
    const Distribution& d = problem.distribution;
    const double n = static_cast<double>(problem.n), kept = 1 - d.smoothing, even = d.smoothing / n;
    softloss::PairedRows c{x.in()};
    if (d.probabilities) c.second = q.in();
    else c.label = problem.any_label.data();
    if (d.weighted) c.weight = problem.weight.data(), c.zero_weights = true;
    c.kept = {kept, (1 - kept) - d.smoothing};
    c.even = {even, std::fma(-even, n, d.smoothing) / n};
    c.weight_sum = {
        d.weighted ? std::accumulate(problem.weight.begin(), problem.weight.begin() + problem.n, 0.0) : n};
    c.loss = reinterpret_cast<double*>(loss.out().data);
    if (gradient) c.grad = grad.out(), c.factor = problem.factor.data();
    return c;
}

template <class S>
Results<double> call(const KernelTable& table, Op op, const Problem<S>& problem, const Way& way) {
    using T = Compute<S>;
    const auto& kernels = table.of(softloss::dtype_of<S>);
    const std::int64_t rows = problem.rows, n = problem.n;
    const auto in_turn = [](std::int64_t blocks, void (*body)(const void*, std::int64_t),
                            const void* context) {
        for (std::int64_t p = 0; p < blocks; ++p) body(context, p);
    };
    const RowOptions options{problem.temperature, way.nontemporal, scratch(), way.blocks, in_turn};
    Field<S> apart(rows, n, way.x), y(rows, n, way.y), other(rows, n, way.y);
    Field<S>& x = way.in_place ? y : apart;
    x.put(problem.x);
    Field<T> per_row[] = {Field<T>(1, rows, {}), Field<T>(1, rows, {}), Field<T>(1, rows, {})};
    Results<double> results;
    const auto take = [&](auto& field, std::vector<double>& into) {
        field.append_to(into);
        CHECK(field.kept_its_surroundings());
    };
    if (op == Op::softmax || op == Op::log_softmax) {
        (op == Op::softmax ? kernels.softmax : kernels.log_softmax)(x.in(), y.out(), rows, n, options);
        take(y, results.of_elements);
    } else if (op == Op::partition) {
        kernels.partition(x.in(), rows, n,
                          {per_row[0].out().data, per_row[1].out().data, per_row[2].out().data}, options);
        for (auto& values : per_row) take(values, results.of_rows);
        for (std::int64_t r = 0; r < rows; ++r) {
            if (!std::isnan(results.of_rows[rows + r])) continue;
            results.of_rows[r] =
                0;  // neither the maximum of such a row nor the bits of its NaN are specified
            for (const int k : {1, 2}) {
                double& value = results.of_rows[k * rows + r];
                if (std::isnan(value)) value = std::numeric_limits<double>::quiet_NaN();
            }
        }
    } else if (is_soft(op)) {
        Field<double> loss(1, rows, {});
        if (problem.distribution.probabilities) other.put(problem.q);
        kernels.soft_loss(soft_rows(problem, x, other, y, loss, op == Op::soft_gradient), rows, n, options);
        if (op == Op::soft_gradient) take(y, results.of_elements);
        take(loss, results.of_rows);
        if (problem.distribution.probabilities) CHECK(other.kept_its_surroundings());
    } else {
        softloss::ClassRows c{x.in(), problem.label.data()};
        Field<double> loss(1, rows, {}), low(1, rows, {});
        c.loss = reinterpret_cast<double*>(loss.out().data);
        c.loss_low = reinterpret_cast<double*>(low.out().data);
        if (op != Op::loss) c.grad = y.out(), c.factor = problem.factor.data();
        if (op == Op::hessian) c.hess = other.out(), c.hess_scale = kHessScale, c.hess_min = kHessMin;
        kernels.class_loss(c, rows, n, options);
        if (op != Op::loss) take(y, results.of_elements);
        if (op == Op::hessian) take(other, results.of_elements);
        take(loss, results.of_rows);
    }
    if (!way.in_place) CHECK(x.kept_its_surroundings());
    return results;
}

/// How many ways are tried: every offset of the output in a cache line, some offsets, or adjacent rows at
/// some offsets.
enum class Effort { all, some, little };

/// Adjacent rows or columns, without gaps, with gaps, and with gaps that make each begin at the same place in
/// a cache line; at offsets that are multiples of the element's size and at others; in place; with and
/// without non-temporal stores.
template <class S>
std::vector<Way> ways(std::int64_t rows, std::int64_t n, bool outputs, Effort effort) {
    const std::int64_t size = sizeof(S), line = 64 / size;
    std::vector<std::int64_t> offsets{0, size, 64 - size};
    if (effort == Effort::all && outputs) {
        offsets.clear();
        for (std::int64_t offset = 0; offset < 64; offset += size) offsets.push_back(offset);
    }
    std::vector<Way> all;
    const auto add = [&](const Layout& x, const Layout& y, bool in_place = false) {
        all.push_back({x, y, false, in_place});
        if (outputs) all.push_back({x, y, true, in_place});
    };
    const auto add_gaps = [&](Order order, std::int64_t x_gap, std::int64_t y_gap) {
        for (const std::int64_t offset : offsets) {
            const Layout x{order, (5 * offset + 3 * size) % 64, x_gap}, y{order, offset, y_gap};
            add(x, y);
            if (outputs && x_gap == y_gap) add(y, y, true);
        }
    };
    if (effort == Effort::little) {
        add_gaps(Order::rows, 0, 0);
        return all;
    }
    for (const Order order : {Order::rows, Order::columns}) {
        const std::int64_t side = order == Order::rows ? n : rows, whole = (line - side % line) % line;
        add_gaps(order, 0, 0);
        add_gaps(order, 2, 0);
        add_gaps(order, 0, 3);
        if (whole != 0) add_gaps(order, whole, whole);
    }
    for (const Order x : {Order::rows, Order::columns, Order::apart})
        for (const Order y : {Order::rows, Order::columns, Order::apart}) add({x, 0, 1}, {y, 2 * size, 3});
    for (const Order order : {Order::rows, Order::columns, Order::apart}) add({order, 1, 0}, {order, 7, 0});
    return all;
}

bool same(const std::vector<double>& a, const std::vector<double>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

std::string describe(const Way& way) {
    const auto layout = [](const Layout& l) {
        return std::string(l.order == Order::rows      ? "rows"
                           : l.order == Order::columns ? "columns"
                                                       : "apart") +
               " at " + std::to_string(l.offset) + " with gaps of " + std::to_string(l.gap);
    };
    return "from " + layout(way.x) + " to " + layout(way.y) + (way.nontemporal ? ", non-temporal" : "") +
           (way.in_place ? ", in place" : "") + ", blocks: " + std::to_string(way.blocks);
}

/// The largest error of the results, in units in the last place of their format.
double worst(const std::vector<double>& actual, const std::vector<long double>& exact,
             const std::vector<long double>& scale, Format format) {
    REQUIRE(actual.size() == exact.size());
    double most = 0;
    for (std::size_t i = 0; i < actual.size(); ++i)
        most = std::max(most, units(actual[i], exact[i], format, scale.empty() ? 0 : scale[i]));
    return most;
}

/// The first instruction set is checked against exact values; all others, in all ways, for the same bits.
template <class S>
void check(Op op, const Problem<S>& problem, Effort effort) {
    using T = Compute<S>;
    const auto& tables = softloss::usable_tables();
    const Results<double> first = call(*tables.front(), op, problem, {});
    const Results<long double> exact = expected(problem, op);
    // 16-bit results are rounded once more.
    const double limit =
        sizeof(S) == sizeof(T) ? 4 : 0.5 + std::ldexp(4.0, kFormat<S>.digits - kFormat<T>.digits);
    CHECK(worst(first.of_elements, exact.of_elements, exact.scale, kFormat<S>) <= limit);
    CHECK(worst(first.of_rows, exact.of_rows, {}, kFormat<T>) <= 4);

    const std::vector<Way> all = ways<S>(problem.rows, problem.n, writes_elements(op), effort);
    for (const KernelTable* table : tables) {
        CAPTURE(std::string(table->name));
        for (Way way : all) {
            const bool divisible = table->of(softloss::dtype_of<S>).splits_rows && !is_soft(op) &&
                                   problem.n >= 64 && way.x.order == Order::rows &&
                                   way.y.order == Order::rows;
            for (way.blocks = 1; way.blocks <= (divisible ? kBlocks : 1); ++way.blocks) {
                const Results<double> results = call(*table, op, problem, way);
                if (!same(results.of_elements, first.of_elements) || !same(results.of_rows, first.of_rows))
                    FAIL_CHECK("other bits ", describe(way));
            }
        }
    }
}

template <class S>
void check_shape(std::int64_t rows, std::int64_t n, double temperature, Effort effort) {
    CAPTURE(rows);
    CAPTURE(n);
    CAPTURE(temperature);
    Problem<S> problem(rows, n, temperature);
    const auto run = [&](Op op, Effort op_effort) {
        CAPTURE(std::string(kOps[static_cast<int>(op)]));
        check(op, problem, op_effort);
    };
    for (const Op op : {Op::softmax, Op::log_softmax, Op::partition, Op::loss, Op::gradient}) run(op, effort);
    if (sizeof(S) > 2) run(Op::hessian, effort);  // there is no such kernel for 16-bit types
    for (const bool probabilities : {false, true}) {
        for (const bool weighted : {false, true}) {
            for (const double smoothing : {0.0, 0.1}) {
                if (!probabilities && smoothing == 0) continue;  // labels without smoothing go to class_loss
                CAPTURE(probabilities);
                CAPTURE(weighted);
                CAPTURE(smoothing);
                problem.distribution = {probabilities, weighted, smoothing};
                run(Op::soft_loss, Effort::little);
                // At every offset, one kind of distribution is enough.
                const bool alone = probabilities && weighted && smoothing > 0;
                run(Op::soft_gradient, alone || effort == Effort::little ? effort : Effort::some);
            }
        }
    }
}

template <class S>
void check_all() {
    CAPTURE(std::string(kName<S>));
    for (const auto& [rows, n] : {std::pair<std::int64_t, std::int64_t>{3, 65}, {17, 64}, {2, 130}, {40, 3}})
        check_shape<S>(rows, n, 1, Effort::all);
    for (const auto& [rows, n] :
         {std::pair<std::int64_t, std::int64_t>{37, 66}, {40, 2}, {33, 10}, {1, 1}, {9, 700}})
        check_shape<S>(rows, n, 1, Effort::some);
    for (const auto& [rows, n] : {std::pair<std::int64_t, std::int64_t>{7, 65}, {40, 3}})
        check_shape<S>(rows, n, 0.7, Effort::some);
    for (const auto& [rows, n] : {std::pair<std::int64_t, std::int64_t>{300, 4}, {9, 700}})
        check_shape<S>(rows, n, 3, Effort::little);
}

}  // namespace

TEST_CASE("kernels: float32 rows of every layout, on every instruction set") {
    check_all<float>();
}
TEST_CASE("kernels: float64 rows of every layout, on every instruction set") {
    check_all<double>();
}
TEST_CASE("kernels: float16 rows of every layout, on every instruction set") {
    check_all<float16>();
}
TEST_CASE("kernels: bfloat16 rows of every layout, on every instruction set") {
    check_all<bfloat16>();
}
TEST_CASE("kernels: rows too long for the buffer of their exponentials, whole and in blocks") {
    check_shape<float>(2, 70001, 1, Effort::little);
    check_shape<double>(2, 35001, 1, Effort::little);
}
