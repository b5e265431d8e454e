#include "arguments.hpp"

#include <algorithm>
#include <climits>
#include <string>
#include <string_view>

namespace softloss::python {

std::int64_t integer(const char* argument, py::handle value, const char* kind) {
    int overflow = 1;
    const std::int64_t plain =
        PyLong_CheckExact(value.ptr()) ? PyLong_AsLongLongAndOverflow(value.ptr(), &overflow) : 0;
    if (!overflow) return plain;
    if (!PyIndex_Check(value.ptr()) || PyBool_Check(value.ptr()))
        throw py::type_error(std::string(argument) + " must be " + kind + ", got " + type_name(value));
    const py::ssize_t result = PyNumber_AsSsize_t(value.ptr(), nullptr);
    if (result == -1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
        PyErr_Clear();  // an array of several elements has __index__, which fails
        throw py::type_error(std::string(argument) + " must be " + kind + ", got " + type_name(value));
    }
    return result;
}

namespace {
/// Converts an integer between `least` and `most`, the range of `type`. The core knows the true limits, but
/// could not print an integer beyond that range.
std::int64_t integer_within(const char* argument, py::handle value, std::int64_t least, std::int64_t most,
                            const char* type) {
    const std::int64_t result = integer(argument, value);
    if (result < least || result > most)
        throw py::value_error(std::string(argument) + " must fit into " + type + ", got " +
                              py::str(value).cast<std::string>());
    return result;
}
}  // namespace

int axis_of(py::handle axis) {
    return static_cast<int>(integer_within("axis", axis, INT_MIN, INT_MAX, "int32"));
}
std::int64_t count_of(const char* argument, py::handle value) {
    return integer_within(argument, value, INT64_MIN + 1, INT64_MAX - 1,
                          "int64");  // integer() returns the ends for values beyond
}

double number(const char* argument, py::handle value) {
    if (PyFloat_CheckExact(value.ptr())) return PyFloat_AS_DOUBLE(value.ptr());
    const double result = PyFloat_AsDouble(value.ptr());
    if (result == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            throw py::value_error(std::string(argument) + " is too large for a float");
        }
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
        PyErr_Clear();
        throw py::type_error(std::string(argument) + " must be a number, got " + type_name(value));
    }
    return result;
}

std::optional<std::int64_t> ignore_index_of(py::handle value) {
    if (value.is_none()) return std::nullopt;
    const std::int64_t index = integer("ignore_index", value, "an integer or None");
    if ((index == INT64_MAX || index == INT64_MIN) && !py::int_(index).equal(value))
        throw py::value_error("ignore_index must fit into int64, got " + py::str(value).cast<std::string>());
    return index;
}

bool flag(const char* argument, py::handle value) {
    const int result = PyObject_IsTrue(value.ptr());
    if (result < 0) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_ValueError))
            throw py::error_already_set();
        PyErr_Clear();
        throw py::type_error(std::string(argument) + " must be a bool, got " + type_name(value));
    }
    return result != 0;
}

namespace {
/// The characters of a str; none if it is no str, or if it holds half of a surrogate pair.
std::string_view name_in(py::handle value) {
    if (!PyUnicode_Check(value.ptr())) return {};
    Py_ssize_t size = 0;
    const char* const text = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
    if (!text) PyErr_Clear();
    return {text, static_cast<std::size_t>(text ? size : 0)};
}
}  // namespace

Reduction reduction_of(py::handle value) {
    const std::string_view name = name_in(value);
    if (name == "mean") return Reduction::mean;
    if (name == "none") return Reduction::none;
    if (name == "sum") return Reduction::sum;
    throw py::value_error("reduction must be 'none', 'mean' or 'sum', got " +
                          py::repr(value).cast<std::string>());
}

CalibrationNorm calibration_norm_of(py::handle value) {
    const std::string_view name = name_in(value);
    if (name == "l1") return CalibrationNorm::l1;
    if (name == "l2") return CalibrationNorm::l2;
    if (name == "max") return CalibrationNorm::max;
    throw py::value_error("norm must be 'l1', 'l2' or 'max', got " + py::repr(value).cast<std::string>());
}

// Losses of float16 and bfloat16 are float32. So float64 is computed in double and everything else in float.
DType loss_dtype(const Array& x, py::handle dtype) {
    const DType wanted = result_dtype(x, dtype);
    if (!dtype.is_none() && wanted != DType::float32 && wanted != DType::float64) {
        throw py::type_error("dtype of a loss must be float32 or float64, got " +
                             name_of(numpy_dtype(wanted)));
    }
    return wanted == DType::float64 ? DType::float64 : DType::float32;
}

void check_where(const Optional& where) {
    if (where.present && where.array.dtype != DType::boolean) {
        throw py::type_error("where must be an array of bool, got dtype " + name_of(where.array.descr()) +
                             "; pass numpy.asarray(where, bool)");
    }
}

namespace {
/// Raises the error of a target whose dtype fits no kind of target. soft: class probabilities are allowed,
/// too. like_x: it has the shape of x. as_indices: the expression that makes class indices of it.
[[noreturn]] void refuse_dtype_of_target(const Array& target, bool soft, bool like_x,
                                         const std::string& as_indices) {
    const std::string dtype = name_of(target.descr());
    if (!soft)
        throw py::type_error("target must hold class indices (integers), got dtype " + dtype + "; pass " +
                             as_indices);
    throw py::type_error("target has unsupported dtype " + dtype + "; for class indices pass " + as_indices +
                         (like_x ? ", for class probabilities numpy.asarray(target, numpy.float64)" : ""));
}

/// Raises the error of a target whose shape does not fit what its dtype means.
[[noreturn]] void refuse_shape_of_target(const Array& target, const char* kind, const std::string& needed,
                                         const std::string& way_out) {
    throw py::value_error("target of dtype " + name_of(target.descr()) + " holds " + kind +
                          " and must have shape " + needed + ", got " + text_of(target.shape()) + "; " +
                          way_out);
}
}  // namespace

void check_class_target(const Array& x, const Array& target, int axis, Targets allowed) {
    const bool soft = allowed == Targets::indices_or_probabilities;
    const bool floating = is_floating(target.dtype), boolean = target.dtype == DType::boolean;
    const bool fits = floating ? soft && target.ndim() == x.ndim() : !boolean && target.ndim() != x.ndim();
    if (fits) return;
    const Shape rows = shape_of_rows(x, axis);
    const bool like_rows = std::ranges::equal(target.shape(), rows);
    const bool like_x = x.ndim() > 0 && std::ranges::equal(target.shape(), x.shape());
    const std::string as_indices = like_x ? "numpy.argmax(target, axis=" + std::to_string(axis) + ")"
                                          : "numpy.asarray(target, numpy.int64)";
    if (boolean || (floating && !soft)) refuse_dtype_of_target(target, soft, like_x, as_indices);
    if (!position_of(axis, x.ndim())) return;  // the core raises the error
    if (floating && like_rows)
        refuse_shape_of_target(target, "class probabilities", text_of(x.shape()),
                               "for class indices pass " + as_indices);
    if (!floating && like_x) {
        const char* const or_soft =
            soft ? "for class probabilities pass numpy.asarray(target, numpy.float64), " : "";
        refuse_shape_of_target(target, "class indices", text_of(as_span(rows)),
                               or_soft + ("for the class of each one-hot row pass " + as_indices));
    }
}

std::optional<int> position_of(int axis, int ndim) {
    if (axis < -ndim || axis >= ndim) return std::nullopt;
    return axis < 0 ? axis + ndim : axis;
}
Shape drop(std::span<const std::int64_t> all, std::optional<int> position) {
    Shape rest;  // empty for a vector: nothing is allocated
    for (int d = 0; d < static_cast<int>(all.size()); ++d) {
        if (d != position) rest.push_back(all[d]);
    }
    return rest;
}
Shape shape_of_rows(const Array& x, int axis) {
    return drop(x.shape(), position_of(axis, x.ndim()));
}
std::string text_of(std::span<const std::int64_t> shape) {
    py::list extents;
    for (const std::int64_t extent : shape) extents.append(extent);
    return py::str(py::tuple(extents)).cast<std::string>();
}

}  // namespace softloss::python
