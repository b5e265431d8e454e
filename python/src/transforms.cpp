// The transforms and their gradients as methods of _core.
//
// Lives here: which argument is which option, the shape of each result. Must not: how arguments are read
// (arguments.hpp), defaults and documentation (functional.py).
#include <algorithm>
#include <optional>

#include "call.hpp"

namespace softloss::python {
namespace {

using Transform = void (*)(const TensorView&, const MutableTensorView&, const TransformOptions&);

/// Arguments: x, axis, where, temperature, out, dtype.
template <Transform transform>
py::object row_transform(Arguments a) {
    const Array x("x", a[0]);
    Optional where("where", a[2]);
    check_where(where);
    TransformOptions options{axis_of(a[1]), nullptr, number("temperature", a[3])};
    Result y{a[4], result_dtype(x, a[5]),
             x.shape()};  // before the views: reading a dtype may run Python code
    options.where = where.get();
    const TensorView in = x.view();
    const MutableTensorView to = y.view();
    without_gil(x.size(), [&] { transform(in, to, options); });
    return y.object();
}

using Map = void (*)(const TensorView&, const MutableTensorView&);

/// Arguments: x, out, dtype.
template <Map map>
py::object elementwise(Arguments a) {
    const Array x("x", a[0]);
    Result y{a[1], result_dtype(x, a[2]), x.shape()};
    const TensorView in = x.view();
    const MutableTensorView to = y.view();
    without_gil(x.size(), [&] { map(in, to); });
    return y.object();
}

/// Arguments: x, axis, b, where, keepdims, out, dtype.
py::object logsumexp_(Arguments a) {
    const Array x("x", a[0]);
    Optional b("b", a[2]), where("where", a[3]);
    check_where(where);
    LogsumexpOptions options{axis_of(a[1]), nullptr, nullptr};
    const bool keepdims = flag("keepdims", a[4]);
    const std::optional<int> kept = keepdims ? position_of(options.axis, x.ndim()) : std::nullopt;
    Shape shape = shape_of_rows(x, options.axis);
    if (kept) shape.insert(shape.begin() + *kept, 1);
    Result y(a[5], result_dtype(x, a[6]), as_span(shape));
    MutableTensorView to = y.view();
    Shape rest, strides;
    if (kept) {  // the core has no keepdims
        if (!std::ranges::equal(to.shape, shape)) {
            throw py::value_error("out has shape " + text_of(to.shape) + ", but the result has shape " +
                                  text_of(as_span(shape)));
        }
        rest = drop(to.shape, kept);
        strides = drop(to.strides, kept);
        to.shape = as_span(rest);
        to.strides = as_span(strides);
    }
    options.b = b.get();
    options.where = where.get();
    const TensorView in = x.view();
    without_gil(x.size(), [&] { logsumexp(in, to, options); });
    return y.object();
}

/// x, axis, out, dtype, LogNormalized
py::object log_normalize_(Arguments a) {
    const Array x("x", a[0]);
    const int axis = axis_of(a[1]);
    const DType dtype = result_dtype(x, a[3]);
    const Shape rows = shape_of_rows(x, axis);
    Result log_prob(a[2], dtype, x.shape()), sum(py::none(), dtype, as_span(rows));
    const TensorView in = x.view();
    const MutableTensorView to = log_prob.view(), sums = sum.view();
    without_gil(x.size(), [&] { log_normalize(in, to, sums, axis); });
    return named(a[4], log_prob.object(), sum.object());
}

using Backward = void (*)(const TensorView&, const TensorView&, const MutableTensorView&, int);

/// Arguments: y, dy, axis, out.
template <Backward backward>
py::object row_backward(const char* name, Arguments a) {
    const Array y(name, a[0]), dy("dy", a[1]);
    const int axis = axis_of(a[2]);
    Result dx(a[3], result_dtype(y, py::none()), y.shape());
    const TensorView of_y = y.view(), of_dy = dy.view();
    const MutableTensorView to = dx.view();
    without_gil(y.size(), [&] { backward(of_y, of_dy, to, axis); });
    return dx.object();
}
py::object softmax_backward_(Arguments a) {
    return row_backward<softmax_backward>("y", a);
}
py::object log_softmax_backward_(Arguments a) {
    return row_backward<log_softmax_backward>("logy", a);
}

PyMethodDef kMethods[] = {
    method<row_transform<softmax>, 6>("softmax"),
    method<row_transform<log_softmax>, 6>("log_softmax"),
    method<logsumexp_, 7>("logsumexp"),
    method<log_normalize_, 5>("log_normalize"),
    method<elementwise<sigmoid>, 3>("sigmoid"),
    method<elementwise<log_sigmoid>, 3>("log_sigmoid"),
    method<softmax_backward_, 4>("softmax_backward"),
    method<log_softmax_backward_, 4>("log_softmax_backward"),
    kEndOfMethods,
};

}  // namespace

PyMethodDef* transform_methods() {
    return kMethods;
}

}  // namespace softloss::python
