// The extension module _core: one short function per operation, positional arguments in the order of functional.py.
//
// Lives here: registrations. Must not: array rules (arrays.hpp), defaults and documentation (functional.py).
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <climits>

#include "arrays.hpp"

namespace softloss::python {
namespace {

/// Releasing the GIL costs more than a small call; below this many elements it is kept.
constexpr std::int64_t kReleaseFrom = 16384;

template <class F>
auto without_gil(std::int64_t elements, F f) {
    if (elements < kReleaseFrom) return f();
    const py::gil_scoped_release release;
    return f();
}

int axis_of(py::handle axis) {
    if (!PyIndex_Check(axis.ptr()) || PyBool_Check(axis.ptr())) {
        throw py::type_error("axis must be an integer, got " +
                             py::str(py::type::of(axis).attr("__name__")).cast<std::string>());
    }
    const py::ssize_t value = PyNumber_AsSsize_t(axis.ptr(), nullptr);
    if (value < INT_MIN || value > INT_MAX) {
        throw py::value_error("axis " + py::str(axis).cast<std::string>() + " is out of bounds");
    }
    return static_cast<int>(value);
}

/// A number given as float, int or NumPy scalar.
double number(const char* argument, py::handle value) {
    const double result = PyFloat_AsDouble(value.ptr());
    if (result == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        throw py::type_error(std::string(argument) + " must be a number, got " +
                             py::str(py::type::of(value).attr("__name__")).cast<std::string>());
    }
    return result;
}

std::optional<std::int64_t> ignore_index_of(py::handle value) {
    if (value.is_none()) return std::nullopt;
    if (!PyIndex_Check(value.ptr())) {
        throw py::type_error("ignore_index must be an integer or None, got " +
                             py::str(py::type::of(value).attr("__name__")).cast<std::string>());
    }
    return PyNumber_AsSsize_t(value.ptr(), nullptr);
}

void check_where(const Optional& where) {
    if (where.present && where.view.dtype != DType::boolean) {
        throw py::type_error("where must be an array of bool, got dtype " +
                             name_of(where.array.array.dtype()));
    }
}

using Transform = void (*)(const TensorView&, const MutableTensorView&, const TransformOptions&);

template <Transform transform>
py::object row_transform(py::object x_, py::object axis, py::object where_, py::object temperature,
                         py::object out, py::object dtype) {
    const Array x("x", x_);
    const Optional where("where", where_);
    check_where(where);
    Array y = result_array(out, dtype, x, x.shape);
    const TransformOptions options{axis_of(axis), where.get(), number("temperature", temperature)};
    const TensorView in = x.view();
    const MutableTensorView to = y.mutable_view();
    without_gil(x.array.size(), [&] { transform(in, to, options); });
    return out.is_none() ? scalar_if_0d(y.array) : out;
}

using Map = void (*)(const TensorView&, const MutableTensorView&);

template <Map map>
py::object elementwise(py::object x_, py::object out, py::object dtype) {
    const Array x("x", x_);
    Array y = result_array(out, dtype, x, x.shape);
    const TensorView in = x.view();
    const MutableTensorView to = y.mutable_view();
    without_gil(x.array.size(), [&] { map(in, to); });
    return out.is_none() ? scalar_if_0d(y.array) : out;
}

py::object logsumexp_(py::object x_, py::object axis_, py::object b_, py::object where_, bool keepdims,
                      py::object out, py::object dtype) {
    const Array x("x", x_);
    const Optional b("b", b_), where("where", where_);
    check_where(where);
    const int ndim = static_cast<int>(x.shape.size());
    int axis = axis_of(axis_);
    std::vector<std::int64_t> kept = x.shape;
    const bool fits = axis >= -ndim && axis < ndim;
    const int position = axis < 0 ? axis + ndim : axis;
    if (fits) kept[position] = 1;
    std::vector<std::int64_t> reduced = kept;
    if (fits) reduced.erase(reduced.begin() + position);
    Array y = result_array(out, dtype, x, keepdims ? kept : reduced);
    if (y.shape != (keepdims ? kept : reduced)) {
        throw py::value_error("out has shape " + py::str(y.array.attr("shape")).cast<std::string>() +
                              ", but the result has shape " +
                              py::str(py::tuple(py::cast(keepdims ? kept : reduced))).cast<std::string>());
    }
    if (keepdims && fits) {
        y.shape.erase(y.shape.begin() + position);
        y.strides.erase(y.strides.begin() + position);
    }
    const LogsumexpOptions options{axis, b.get(), where.get()};
    const TensorView in = x.view();
    const MutableTensorView to = y.mutable_view();
    without_gil(x.array.size(), [&] { logsumexp(in, to, options); });
    return out.is_none() ? scalar_if_0d(y.array) : out;
}

Reduction reduction_of(py::handle value) {
    if (py::isinstance<py::str>(value)) {
        const std::string name = value.cast<std::string>();
        if (name == "none") return Reduction::none;
        if (name == "mean") return Reduction::mean;
        if (name == "sum") return Reduction::sum;
    }
    throw py::value_error("reduction must be 'none', 'mean' or 'sum', got " +
                          py::repr(value).cast<std::string>());
}

/// Losses of half input are float32; so that float64 computes in double, everything else does in float.
DType loss_dtype(const Array& x, py::handle dtype) {
    const DType wanted = result_dtype(x, dtype);
    if (!dtype.is_none() && wanted != DType::float32 && wanted != DType::float64) {
        throw py::type_error("dtype of a loss must be float32 or float64, got " +
                             name_of(numpy_dtype(wanted, x)));
    }
    return wanted == DType::float64 ? DType::float64 : DType::float32;
}

/// Runs loss(losses or nullptr) and wraps its result.
template <class F>
py::object run_loss(const Array& x, DType dtype, Reduction reduction, const std::vector<std::int64_t>& shape,
                    F loss) {
    if (reduction == Reduction::none) {
        Array losses = result_array(py::none(), numpy_dtype(dtype, x), x, shape);
        const MutableTensorView view = losses.mutable_view();
        without_gil(x.array.size(), [&] { return loss(&view); });
        return scalar_if_0d(losses.array);
    }
    const double value = without_gil(x.array.size(), [&] { return loss(nullptr); });
    const py::array result = dtype == DType::float64
                                 ? py::array(py::array_t<double>(std::vector<py::ssize_t>{}))
                                 : py::array(py::array_t<float>(std::vector<py::ssize_t>{}));
    void* const data = const_cast<void*>(result.data());
    if (dtype == DType::float64) *static_cast<double*>(data) = value;
    else *static_cast<float*>(data) = static_cast<float>(value);
    return scalar_if_0d(result);
}

using ClassLossFunction = double (*)(const TensorView&, const TensorView&, const ClassLossOptions&,
                                     const MutableTensorView*);

py::object class_loss(ClassLossFunction function, const char* name, py::handle x_, py::handle target_,
                      py::handle axis, py::handle weight_, py::handle sample_weight_, py::handle ignore_index,
                      py::handle smoothing, py::handle temperature, py::handle reduction, py::handle empty,
                      py::handle dtype) {
    const Array x(name, x_), target("target", target_);
    if (target.dtype == DType::boolean) {
        throw py::type_error(
            "target has dtype bool; pass class indices (integers) or class probabilities (floats)");
    }
    const Optional weight("weight", weight_), sample_weight("sample_weight", sample_weight_);
    ClassLossOptions options;
    options.axis = axis_of(axis);
    options.weight = weight.get();
    options.sample_weight = sample_weight.get();
    options.ignore_index = ignore_index_of(ignore_index);
    options.label_smoothing = number("label_smoothing", smoothing);
    options.temperature = number("temperature", temperature);
    options.reduction = reduction_of(reduction);
    options.empty = number("empty", empty);
    options.dtype = loss_dtype(x, dtype);
    std::vector<std::int64_t> shape = x.shape;
    const int ndim = static_cast<int>(shape.size());
    const int position = options.axis < 0 ? options.axis + ndim : options.axis;
    if (position >= 0 && position < ndim) shape.erase(shape.begin() + position);
    const TensorView in = x.view(), labels = target.view();
    return run_loss(x, options.dtype, options.reduction, shape,
                    [&](const MutableTensorView* losses) { return function(in, labels, options, losses); });
}

py::object cross_entropy_(py::object logits, py::object target, py::object axis, py::object weight,
                          py::object sample_weight, py::object ignore_index, py::object smoothing,
                          py::object temperature, py::object reduction, py::object empty, py::object dtype) {
    return class_loss(&cross_entropy, "logits", logits, target, axis, weight, sample_weight, ignore_index,
                      smoothing, temperature, reduction, empty, dtype);
}

template <ClassLossFunction function>
py::object plain_class_loss(const char* name, py::handle x, py::handle target, py::handle axis,
                            py::handle weight, py::handle sample_weight, py::handle ignore_index,
                            py::handle reduction, py::handle empty, py::handle dtype) {
    return class_loss(function, name, x, target, axis, weight, sample_weight, ignore_index, py::int_(0),
                      py::int_(1), reduction, empty, dtype);
}

py::object binary_loss(bool logits, py::handle x_, py::handle target_, py::handle weight_,
                       py::handle pos_weight_, py::handle reduction, py::handle empty, py::handle dtype) {
    const Array x(logits ? "logits" : "probs", x_), target("target", target_);
    const Optional weight("weight", weight_), pos_weight("pos_weight", pos_weight_);
    const BinaryLossOptions options{weight.get(), pos_weight.get(), reduction_of(reduction),
                                    number("empty", empty), loss_dtype(x, dtype)};
    const TensorView in = x.view(), labels = target.view();
    return run_loss(x, options.dtype, options.reduction, x.shape, [&](const MutableTensorView* losses) {
        return logits ? binary_cross_entropy_with_logits(in, labels, options, losses)
                      : binary_cross_entropy(in, labels, options, losses);
    });
}

py::dict config() {
    py::dict d;
    d["version"] = SOFTLOSS_VERSION;
    d["isa"] = std::string(isa());
    py::list names;
    for (std::string_view name : usable_isas()) names.append(std::string(name));
    d["usable_isas"] = names;
    d["openmp"] = has_openmp();
    d["threads"] = get_num_threads();
#if defined(__clang__)
    d["compiler"] = "clang " + std::to_string(__clang_major__) + "." + std::to_string(__clang_minor__);
#else
    d["compiler"] = "gcc " + std::to_string(__GNUC__) + "." + std::to_string(__GNUC_MINOR__);
#endif
    return d;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
    m.attr("__version__") = SOFTLOSS_VERSION;
    m.def("softmax", &row_transform<softmax>);
    m.def("log_softmax", &row_transform<log_softmax>);
    m.def("logsumexp", &logsumexp_);
    m.def("sigmoid", &elementwise<sigmoid>);
    m.def("log_sigmoid", &elementwise<log_sigmoid>);
    m.def("cross_entropy", &cross_entropy_);
    m.def(
        "categorical_cross_entropy",
        [](py::object probs, py::object target, py::object axis, py::object weight, py::object sample_weight,
           py::object ignore_index, py::object reduction, py::object empty, py::object dtype) {
            return plain_class_loss<categorical_cross_entropy>(
                "probs", probs, target, axis, weight, sample_weight, ignore_index, reduction, empty, dtype);
        });
    m.def("nll_loss", [](py::object log_probs, py::object target, py::object axis, py::object weight,
                         py::object sample_weight, py::object ignore_index, py::object reduction,
                         py::object empty, py::object dtype) {
        return plain_class_loss<nll_loss>("log_probs", log_probs, target, axis, weight, sample_weight,
                                          ignore_index, reduction, empty, dtype);
    });
    m.def("binary_cross_entropy", [](py::object probs, py::object target, py::object weight,
                                     py::object reduction, py::object empty, py::object dtype) {
        return binary_loss(false, probs, target, weight, py::none(), reduction, empty, dtype);
    });
    m.def("binary_cross_entropy_with_logits",
          [](py::object logits, py::object target, py::object weight, py::object pos_weight,
             py::object reduction, py::object empty, py::object dtype) {
              return binary_loss(true, logits, target, weight, pos_weight, reduction, empty, dtype);
          });
    m.def("set_num_threads", [](const py::object& n) {
        if (!PyIndex_Check(n.ptr())) {
            throw py::type_error("n must be an integer, got " +
                                 py::str(py::type::of(n).attr("__name__")).cast<std::string>());
        }
        set_num_threads(
            static_cast<int>(std::clamp<py::ssize_t>(PyNumber_AsSsize_t(n.ptr(), nullptr), -1, 1024)));
    });
    m.def("get_num_threads", &get_num_threads);
    m.def("config", &config);
    m.def("usable_isas", [] {
        py::list names;
        for (std::string_view name : usable_isas()) names.append(std::string(name));
        return names;
    });
    m.def("isa", [] { return std::string(isa()); });
    m.def("set_isa", [](const std::string& name) { set_isa(name); });
}

}  // namespace softloss::python
