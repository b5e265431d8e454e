// The scores of rows, and their calibration, as methods of _core.
//
// Lives here: which argument is which option, the shape of each result. Must not: how arguments are read
// (arguments.hpp), defaults and documentation (functional.py).
#include <algorithm>
#include <array>

#include "call.hpp"

namespace softloss::python {
namespace {

/// Arguments: x, k, axis, temperature, and the type of the result, TopK.
py::object softmax_topk_(Arguments a) {
    const Array x("x", a[0]);
    TopKOptions options;
    options.k = count_of("k", a[1]);
    options.axis = axis_of(a[2]);
    options.temperature = number("temperature", a[3]);
    Shape shape(x.shape().begin(), x.shape().end());
    if (const auto position = position_of(options.axis, x.ndim()))
        shape[*position] = std::clamp<py::ssize_t>(options.k, 0, shape[*position]);
    Result prob(py::none(), result_dtype(x, py::none()), as_span(shape));
    Result index(py::none(), DType::int64, as_span(shape));
    const TensorView in = x.view();
    const MutableTensorView p = prob.view(), i = index.view();
    without_gil(x.size(), [&] { softmax_topk(in, p, i, options); });
    return named(a[4], prob.object(), index.object());
}

/// Arguments: logits, target, axis, top_k, temperature, ignore_index, and the type of the result,
/// TokenScores.
py::object token_logprobs_(Arguments a) {
    const Array x("logits", a[0]), target("target", a[1]);
    TokenOptions options;
    options.axis = axis_of(a[2]);
    check_class_target(x, target, options.axis, Targets::indices);
    options.top_k = count_of("top_k", a[3]);
    options.temperature = number("temperature", a[4]);
    options.ignore_index = ignore_index_of(a[5]);
    const DType dtype = loss_dtype(x, py::none());
    const Shape rows = shape_of_rows(x, options.axis);
    Shape lists = rows;
    const auto position = position_of(options.axis, x.ndim());
    lists.push_back(std::clamp<py::ssize_t>(options.top_k, 0, position ? x.shape()[*position] : 0));
    const auto fresh = [](DType of, const Shape& shape) { return Result(py::none(), of, as_span(shape)); };
    std::array<Result, 6> results{fresh(dtype, rows), fresh(DType::int64, rows), fresh(DType::int64, rows),
                                  fresh(dtype, rows), fresh(dtype, lists),       fresh(DType::int64, lists)};
    std::array<MutableTensorView, 6> views;
    for (std::size_t i = 0; i < views.size(); ++i) views[i] = results[i].view();
    const TokenScoreViews out{&views[0], &views[1], &views[2], &views[3], &views[4], &views[5]};
    const TensorView in = x.view(), labels = target.view();
    without_gil(x.size(), [&] { token_logprobs(in, labels, out, options); });
    return named(a[6], results[0].object(), results[1].object(), results[2].object(), results[3].object(),
                 results[4].object(), results[5].object());
}

/// Arguments: logits, u, axis, temperature, top_k, top_p, min_p, where, and the type of the result, Sample.
py::object sample_(Arguments a) {
    const Array x("logits", a[0]), u("u", a[1]);
    Optional where("where", a[7]);
    check_where(where);
    SampleOptions options;
    options.axis = axis_of(a[2]);
    options.temperature = number("temperature", a[3]);
    options.top_k = count_of("top_k", a[4]);
    options.top_p = number("top_p", a[5]);
    options.min_p = number("min_p", a[6]);
    options.where = where.get();
    const Shape rows = shape_of_rows(x, options.axis);
    Result index(py::none(), DType::int64, as_span(rows));
    Result logprob(py::none(), loss_dtype(x, py::none()), as_span(rows));
    const TensorView in = x.view(), uniform = u.view();
    const MutableTensorView i = index.view(), p = logprob.view();
    without_gil(x.size(), [&] { sample(in, uniform, i, p, options); });
    return named(a[8], index.object(), logprob.object());
}

/// Arguments: logits, axis, temperature, dtype.
py::object softmax_entropy_(Arguments a) {
    const Array x("logits", a[0]);
    const EntropyOptions options{axis_of(a[1]), number("temperature", a[2])};
    const Shape rows = shape_of_rows(x, options.axis);
    Result entropy(py::none(), loss_dtype(x, a[3]), as_span(rows));
    const TensorView in = x.view();
    const MutableTensorView to = entropy.view();
    without_gil(x.size(), [&] { softmax_entropy(in, to, options); });
    return entropy.object();
}

/// Arguments: logits, target, axis, weight, sample_weight, ignore_index, and the type of the result,
/// TemperatureFit. The warning needs the GIL, so it comes after the call.
py::object fit_temperature_(Arguments a) {
    const Array x("logits", a[0]), target("target", a[1]);
    TemperatureOptions options;
    options.axis = axis_of(a[2]);
    check_class_target(x, target, options.axis, Targets::indices);
    Optional weight("weight", a[3]), sample_weight("sample_weight", a[4]);
    options.ignore_index = ignore_index_of(a[5]);
    options.weight = weight.get();
    options.sample_weight = sample_weight.get();
    const TensorView in = x.view(), labels = target.view();
    const TemperatureFit fit = without_gil(x.size(), [&] { return fit_temperature(in, labels, options); });
    if (fit.at_bound &&
        PyErr_WarnEx(PyExc_RuntimeWarning,
                     "the cross-entropy has no minimum at a temperature within 0.001 .. 1000: "
                     "fit_temperature returns the end of this range where it is lower",
                     1) != 0)
        throw py::error_already_set();
    return named(a[6], scalar(fit.temperature, DType::float64), scalar(fit.loss, DType::float64));
}

/// Arguments: logits, target, axis, bins, norm, temperature, sample_weight, ignore_index.
py::object calibration_error_(Arguments a) {
    const Array x("logits", a[0]), target("target", a[1]);
    CalibrationOptions options;
    options.axis = axis_of(a[2]);
    check_class_target(x, target, options.axis, Targets::indices);
    options.bins = count_of("bins", a[3]);
    options.norm = calibration_norm_of(a[4]);
    options.temperature = number("temperature", a[5]);
    Optional sample_weight("sample_weight", a[6]);
    options.ignore_index = ignore_index_of(a[7]);
    options.sample_weight = sample_weight.get();
    const TensorView in = x.view(), labels = target.view();
    return scalar(without_gil(x.size(), [&] { return calibration_error(in, labels, options); }),
                  DType::float64);
}

PyMethodDef kMethods[] = {
    method<softmax_topk_, 5>("softmax_topk"),
    method<token_logprobs_, 7>("token_logprobs"),
    method<sample_, 9>("sample"),
    method<softmax_entropy_, 4>("softmax_entropy"),
    method<fit_temperature_, 7>("fit_temperature"),
    method<calibration_error_, 8>("calibration_error"),
    kEndOfMethods,
};

}  // namespace

PyMethodDef* score_methods() {
    return kMethods;
}

}  // namespace softloss::python
