// Speed of the kernels as a C++ program sees it: each instruction set, operation, dtype and shape, on one
// thread.
//
// Lives here: the calls and their registration with Google Benchmark. Must not: what is inside the library;
// peers and targets, which are run.py's. Items are elements of the input; "roof exp" is roof.cpp's, to
// compare items with.
#include <benchmark/benchmark.h>

#include <random>
#include <softloss/softloss.hpp>
#include <string>
#include <vector>

extern "C" void roof_exp(int bytes_of_element, std::int64_t repeat, int threads);

namespace {

using softloss::Contiguous;
using softloss::MutableContiguous;

struct Shape {
    std::int64_t rows, columns;
    int axis = -1;

    std::int64_t losses() const { return axis == 0 ? columns : rows; }
    std::int64_t classes() const { return axis == 0 ? rows : columns; }
    std::string name() const {
        return std::to_string(rows) + "x" + std::to_string(columns) + (axis == 0 ? " axis=0" : "");
    }
};
const Shape kShapes[] = {{1, 10}, {1, 32768}, {1000, 3}, {1000, 10}, {64, 100}, {64, 1000}, {1000, 64, 0}};

/// What an operation may read and write.
template <class T>
struct Data {
    explicit Data(Shape shape)
        : logits(shape.rows * shape.columns),
          probabilities(logits.size()),
          result(logits.size()),
          row_results(shape.losses()),
          labels(shape.losses()),
          loss{.axis = shape.axis},
          x(logits, shape.columns),
          p(probabilities, shape.columns),
          target(labels),
          y(result, shape.columns),
          per_row(row_results) {
        std::mt19937 random;
        std::normal_distribution<float> normal(0, 3);
        std::vector<float> drawn(logits.size());
        for (float& value : drawn) value = normal(random);
        for (std::int64_t& label : labels) label = random() % shape.classes();
        softloss::log_softmax(Contiguous(drawn), MutableContiguous(logits));  // these are logits, too
        softloss::sigmoid(Contiguous(drawn), MutableContiguous(probabilities));
    }

    std::vector<T> logits, probabilities, result, row_results;
    std::vector<std::int64_t> labels;
    softloss::ClassLossOptions loss;
    softloss::BinaryLossOptions binary;
    Contiguous x, p, target;
    MutableContiguous y, per_row;
};

template <class T>
struct Operation {
    const char* name;
    bool of_rows;
    void (*call)(Data<T>&);
};

template <class T>
const Operation<T> kOperations[] = {
    {"softmax", true, [](Data<T>& d) { softloss::softmax(d.x, d.y, {.axis = d.loss.axis}); }},
    {"log_softmax", true, [](Data<T>& d) { softloss::log_softmax(d.x, d.y, {.axis = d.loss.axis}); }},
    {"logsumexp", true, [](Data<T>& d) { softloss::logsumexp(d.x, d.per_row, {.axis = d.loss.axis}); }},
    {"cross_entropy", true, [](Data<T>& d) { softloss::cross_entropy(d.x, d.target, d.loss); }},
    {"cross_entropy_and_grad", true,
     [](Data<T>& d) { softloss::cross_entropy_and_grad(d.x, d.target, d.y, d.loss); }},
    {"sigmoid", false, [](Data<T>& d) { softloss::sigmoid(d.x, d.y); }},
    {"bce_with_logits", false,
     [](Data<T>& d) { softloss::binary_cross_entropy_with_logits(d.x, d.p, d.binary); }},
    {"bce_with_logits_and_grad", false,
     [](Data<T>& d) { softloss::binary_cross_entropy_with_logits_and_grad(d.x, d.p, d.y, d.binary); }},
};

template <class T>
void add(std::string_view isa, const std::string& dtype) {
    for (const Operation<T>& operation : kOperations<T>) {
        for (const Shape& shape : kShapes) {
            if (!operation.of_rows && shape.rows > 1) continue;
            const std::string name =
                std::string(isa) + "/" + operation.name + "/" + dtype + "/" + shape.name();
            benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
                softloss::set_isa(isa);
                Data<T> data(shape);
                for (auto _ : state) operation.call(data);
                state.SetItemsProcessed(state.iterations() * shape.rows * shape.columns);
            });
        }
    }
}

void add_roof(const std::string& dtype, int bytes_of_element) {
    benchmark::RegisterBenchmark(("roof exp/" + dtype).c_str(), [=](benchmark::State& state) {
        for (auto _ : state) roof_exp(bytes_of_element, 1, 1);
        state.SetItemsProcessed(state.iterations() << 20);
    });
}

}  // namespace

int main(int argc, char** argv) {
    softloss::set_num_threads(1);
    add_roof("float32", 4);
    add_roof("float64", 8);
    for (const std::string_view isa : softloss::usable_isas()) {
        add<float>(isa, "float32");
        add<double>(isa, "float64");
        add<softloss::float16>(isa, "float16");
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
}
