// The extension module _core: one short function per operation, positional arguments in the order of functional.py.
//
// Lives here: registrations, options from Python objects. Must not: array rules (arrays.hpp), defaults and documentation
// (functional.py).
//
// Functions on arrays are plain C functions with positional arguments: pybind11's own dispatch takes longer than the
// whole softmax of a short row.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <cstdint>
#include <optional>
#include <thread>

#include "arrays.hpp"
#include "function.hpp"

namespace softloss::python {
namespace {

/// Releasing the GIL costs more than a small call; below this many elements it is kept.
constexpr std::int64_t kReleaseFrom = 16384;

/// Releases the GIL for as long as it lives. When Python ends it may end a thread that asks for the GIL by unwinding its
/// stack (up to 3.13), which the objects on it would not survive: such a thread waits for the end of the process instead.
class GilReleased {
  public:
    GilReleased() = default;
    ~GilReleased() {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {
            for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
        }
    }
    GilReleased(const GilReleased&) = delete;

  private:
    PyThreadState* const state_ = PyEval_SaveThread();
};

template <class F>
auto without_gil(std::int64_t elements, F f) {
    if (elements < kReleaseFrom) return f();
    const GilReleased released;
    return f();
}

// ---- arguments that are no arrays -----------------------------------------------------------------------------------------

/// An integer, or the error that its __index__ raised; too large ones become the largest.
std::int64_t integer(const char* argument, py::handle value, const char* kind = "an integer") {
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

/// An integer. The core, which knows the true limits, could not name one beyond these.
std::int64_t integer_within(const char* argument, py::handle value, std::int64_t least, std::int64_t most) {
    const std::int64_t result = integer(argument, value);
    if (result < least || result > most)
        throw py::value_error(argument + (" " + py::str(value).cast<std::string>()) + " is out of bounds");
    return result;
}
int axis_of(py::handle axis) {
    return static_cast<int>(integer_within("axis", axis, INT_MIN, INT_MAX));
}
std::int64_t count_of(const char* argument, py::handle value) {
    return integer_within(argument, value, INT64_MIN + 1,
                          INT64_MAX - 1);  // which integer() gives for what is beyond
}

/// A number given as float, int or NumPy scalar.
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

Reduction reduction_of(py::handle value) {
    if (PyUnicode_Check(value.ptr())) {
        Py_ssize_t size = 0;
        const char* const text = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
        if (!text) PyErr_Clear();  // half of a surrogate pair
        const std::string_view name(text, text ? size : 0);
        if (name == "mean") return Reduction::mean;
        if (name == "none") return Reduction::none;
        if (name == "sum") return Reduction::sum;
    }
    throw py::value_error("reduction must be 'none', 'mean' or 'sum', got " +
                          py::repr(value).cast<std::string>());
}

void check_where(const Optional& where) {
    if (where.present && where.array.dtype != DType::boolean)
        throw py::type_error("where must be an array of bool, got dtype " + name_of(where.array.descr()));
}

void check_indices(const Array& target) {
    if (is_floating(target.dtype) || target.dtype == DType::boolean)
        throw py::type_error("target must hold class indices (integers), got dtype " +
                             name_of(target.descr()));
}

/// The axis counted from the front; std::nullopt where it is out of range, which the core will refuse.
std::optional<int> position_of(int axis, int ndim) {
    if (axis < -ndim || axis >= ndim) return std::nullopt;
    return axis < 0 ? axis + ndim : axis;
}
/// Extents or strides without those of an axis; all where there is none.
Shape drop(std::span<const std::int64_t> all, std::optional<int> position) {
    Shape rest;  // of a vector's there is nothing to allocate
    for (int d = 0; d < static_cast<int>(all.size()); ++d) {
        if (d != position) rest.push_back(all[d]);
    }
    return rest;
}
/// The shape of what there is one of for each row.
Shape shape_of_rows(const Array& x, int axis) {
    return drop(x.shape(), position_of(axis, x.ndim()));
}
std::span<const std::int64_t> as_span(const Shape& shape) {
    return python::as_span(shape.data(), static_cast<int>(shape.size()));
}
std::string text_of(std::span<const std::int64_t> shape) {
    py::list extents;
    for (const std::int64_t extent : shape) extents.append(extent);
    return py::str(py::tuple(extents)).cast<std::string>();
}

// ---- calls ------------------------------------------------------------------------------------------------------------------

using Arguments = PyObject* const*;

/// A C function of exactly N positional arguments; C++ exceptions become Python's.
template <py::object (*function)(Arguments), int N>
PyObject* call(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
    if (count != N) {
        PyErr_Format(PyExc_TypeError, "expected %d positional arguments, got %zd", N, count);
        return nullptr;
    }
    try {
        return function(arguments).release().ptr();
    } catch (py::error_already_set& error) {
        error.restore();
    } catch (const py::builtin_exception& error) {
        error.set_error();
    } catch (const std::out_of_range& error) {
        PyErr_SetString(PyExc_IndexError, error.what());
    } catch (const std::invalid_argument& error) {
        PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::length_error&) {
        PyErr_NoMemory();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
}

/// An instance of a named tuple's type.
template <class... Items>
py::object named(py::handle type, const Items&... items) {
    if (!PyType_Check(type.ptr()) ||
        !PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type.ptr()), &PyTuple_Type))
        throw py::type_error("the last argument must be a type of tuples");
    const auto pack = [](auto... objects) {
        PyObject* const made = PyTuple_Pack(sizeof...(objects), objects.ptr()...);
        if (!made) throw py::error_already_set();
        return py::reinterpret_steal<py::object>(made);
    };
    // As tuple.__new__ does it: the type's own __new__ is written in Python.
    const py::object arguments = pack(pack(py::handle(items)...));
    PyObject* const made =
        PyTuple_Type.tp_new(reinterpret_cast<PyTypeObject*>(type.ptr()), arguments.ptr(), nullptr);
    if (!made) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(made);
}

// ---- transforms ---------------------------------------------------------------------------------------------------------------

using Transform = void (*)(const TensorView&, const MutableTensorView&, const TransformOptions&);

/// x, axis, where, temperature, out, dtype
template <Transform transform>
py::object row_transform(Arguments a) {
    const Array x("x", a[0]);
    Optional where("where", a[2]);
    check_where(where);
    TransformOptions options{axis_of(a[1]), nullptr, number("temperature", a[3])};
    Result y{a[4], result_dtype(x, a[5]), x.shape()};  // in this order: a dtype may be read by foreign code
    options.where = where.get();
    const TensorView in = x.view();
    const MutableTensorView to = y.view();
    without_gil(x.size(), [&] { transform(in, to, options); });
    return y.object();
}

using Map = void (*)(const TensorView&, const MutableTensorView&);

/// x, out, dtype
template <Map map>
py::object elementwise(Arguments a) {
    const Array x("x", a[0]);
    Result y{a[1], result_dtype(x, a[2]), x.shape()};
    const TensorView in = x.view();
    const MutableTensorView to = y.view();
    without_gil(x.size(), [&] { map(in, to); });
    return y.object();
}

/// x, axis, b, where, keepdims, out, dtype
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
    if (kept) {  // the core knows no kept axis
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

using Backward = void (*)(const TensorView&, const TensorView&, const MutableTensorView&, int);

/// y, dy, axis, out
py::object row_backward(Backward backward, const char* name, Arguments a) {
    const Array y(name, a[0]), dy("dy", a[1]);
    const int axis = axis_of(a[2]);
    Result dx(a[3], result_dtype(y, py::none()), y.shape());
    const TensorView of_y = y.view(), of_dy = dy.view();
    const MutableTensorView to = dx.view();
    without_gil(y.size(), [&] { backward(of_y, of_dy, to, axis); });
    return dx.object();
}
py::object softmax_backward_(Arguments a) {
    return row_backward(softmax_backward, "y", a);
}
py::object log_softmax_backward_(Arguments a) {
    return row_backward(log_softmax_backward, "logy", a);
}

// ---- losses -----------------------------------------------------------------------------------------------------------------------

/// Losses of half input are float32; so that float64 computes in double, everything else does in float.
DType loss_dtype(const Array& x, py::handle dtype) {
    const DType wanted = result_dtype(x, dtype);
    if (!dtype.is_none() && wanted != DType::float32 && wanted != DType::float64) {
        throw py::type_error("dtype of a loss must be float32 or float64, got " +
                             name_of(numpy_dtype(wanted)));
    }
    return wanted == DType::float64 ? DType::float64 : DType::float32;
}

/// Runs loss(losses or nullptr) and wraps its result. axis: of the classes, which the losses lack, if there is one.
template <class Loss>
py::object run_loss(const Array& x, DType dtype, Reduction reduction, std::optional<int> axis, Loss loss) {
    if (reduction == Reduction::none) {
        Result losses(py::none(), dtype, axis ? as_span(shape_of_rows(x, *axis)) : x.shape());
        const MutableTensorView view = losses.view();
        without_gil(x.size(), [&] { return loss(&view); });
        return losses.object();
    }
    return scalar(without_gil(x.size(), [&] { return loss(nullptr); }), dtype);
}

/// grad_out, or a fresh gradient in the dtype asked for, else that of a transform of x.
Result gradient_of(const Array& x, py::handle grad_out, py::handle dtype, const char* name = "grad_out") {
    return {grad_out, result_dtype(x, dtype), x.shape(), name};
}

/// The arguments of losses over classes: scores, target, axis, weight, sample_weight, ignore_index; label_smoothing and
/// temperature for logits; reduction, empty, dtype; then grad_out and LossGrad for those with a gradient.
struct ClassArguments {
    Array x, target;
    Optional weight, sample_weight;
    Arguments rest;  ///< from reduction on
    ClassLossOptions options;

    ClassArguments(const char* name, bool logits, Arguments a)
        : x(name, a[0]),
          target("target", a[1]),
          weight("weight", a[3]),
          sample_weight("sample_weight", a[4]),
          rest(a + (logits ? 8 : 6)) {
        if (target.dtype == DType::boolean) {
            throw py::type_error(
                "target has dtype bool; pass class indices (integers) or class probabilities (floats)");
        }
        options.axis = axis_of(a[2]);
        options.ignore_index = ignore_index_of(a[5]);
        if (logits) options.label_smoothing = number("label_smoothing", a[6]);
        if (logits) options.temperature = number("temperature", a[7]);
        options.reduction = reduction_of(rest[0]);
        options.empty = number("empty", rest[1]);
        options.dtype = loss_dtype(x, rest[2]);
    }
    void view() {
        options.weight = weight.get();
        options.sample_weight = sample_weight.get();
    }
};

using ClassLossFunction = double (*)(const TensorView&, const TensorView&, const ClassLossOptions&,
                                     const MutableTensorView*);
using ClassGradientFunction = double (*)(const TensorView&, const TensorView&, const MutableTensorView&,
                                         const ClassLossOptions&, const MutableTensorView*);

py::object class_loss(ClassLossFunction function, const char* name, bool logits, Arguments a) {
    ClassArguments c(name, logits, a);
    c.view();
    const TensorView in = c.x.view(), labels = c.target.view();
    return run_loss(c.x, c.options.dtype, c.options.reduction, c.options.axis,
                    [&](const MutableTensorView* losses) { return function(in, labels, c.options, losses); });
}
py::object cross_entropy_(Arguments a) {
    return class_loss(cross_entropy, "logits", true, a);
}
py::object nll_loss_(Arguments a) {
    return class_loss(nll_loss, "log_probs", false, a);
}
py::object categorical_cross_entropy_(Arguments a) {
    return class_loss(categorical_cross_entropy, "probs", false, a);
}

py::object class_loss_and_grad(ClassGradientFunction function, const char* name, bool logits, Arguments a) {
    ClassArguments c(name, logits, a);
    Result grad = gradient_of(c.x, c.rest[3], c.rest[2]);
    c.view();
    const TensorView in = c.x.view(), labels = c.target.view();
    const MutableTensorView to = grad.view();
    const py::object loss = run_loss(
        c.x, c.options.dtype, c.options.reduction, c.options.axis,
        [&](const MutableTensorView* losses) { return function(in, labels, to, c.options, losses); });
    return named(c.rest[4], loss, grad.object());
}
py::object cross_entropy_and_grad_(Arguments a) {
    return class_loss_and_grad(cross_entropy_and_grad, "logits", true, a);
}
py::object nll_loss_and_grad_(Arguments a) {
    return class_loss_and_grad(nll_loss_and_grad, "log_probs", false, a);
}
py::object categorical_cross_entropy_and_grad_(Arguments a) {
    return class_loss_and_grad(categorical_cross_entropy_and_grad, "probs", false, a);
}

/// logits, target, axis, weight, sample_weight, ignore_index, hess_scale, hess_min, grad_out, hess_out, GradHess
py::object cross_entropy_grad_hess_(Arguments a) {
    const Array x("logits", a[0]), target("target", a[1]);
    check_indices(target);
    Optional weight("weight", a[3]), sample_weight("sample_weight", a[4]);
    ClassLossOptions options;
    options.axis = axis_of(a[2]);
    options.ignore_index = ignore_index_of(a[5]);
    options.dtype = loss_dtype(x, py::none());
    const HessianOptions hessian{number("hess_scale", a[6]), number("hess_min", a[7])};
    Result grad = gradient_of(x, a[8], py::none());
    Result hess = gradient_of(x, a[9], py::none(), "hess_out");
    options.weight = weight.get();
    options.sample_weight = sample_weight.get();
    const TensorView in = x.view(), labels = target.view();
    const MutableTensorView g = grad.view(), h = hess.view();
    without_gil(x.size(), [&] { cross_entropy_grad_hess(in, labels, g, h, options, hessian); });
    return named(a[10], grad.object(), hess.object());
}

/// The arguments of binary losses: scores, target, weight; pos_weight for logits; reduction, empty, dtype; then grad_out and
/// LossGrad.
struct BinaryArguments {
    Array x, target;
    Optional weight, pos_weight;
    Arguments rest;  ///< from reduction on
    BinaryLossOptions options;

    BinaryArguments(const char* name, bool logits, Arguments a)
        : x(name, a[0]),
          target("target", a[1]),
          weight("weight", a[2]),
          pos_weight("pos_weight", logits ? a[3] : Py_None),
          rest(a + (logits ? 4 : 3)) {
        options = {nullptr, nullptr, reduction_of(rest[0]), number("empty", rest[1]), loss_dtype(x, rest[2])};
    }
    void view() {
        options.weight = weight.get();
        options.pos_weight = pos_weight.get();
    }
};

using BinaryLossFunction = double (*)(const TensorView&, const TensorView&, const BinaryLossOptions&,
                                      const MutableTensorView*);
using BinaryGradientFunction = double (*)(const TensorView&, const TensorView&, const MutableTensorView&,
                                          const BinaryLossOptions&, const MutableTensorView*);

py::object binary_loss(BinaryLossFunction function, const char* name, bool logits, Arguments a) {
    BinaryArguments b(name, logits, a);
    b.view();
    const TensorView in = b.x.view(), labels = b.target.view();
    return run_loss(b.x, b.options.dtype, b.options.reduction, std::nullopt,
                    [&](const MutableTensorView* losses) { return function(in, labels, b.options, losses); });
}
py::object binary_cross_entropy_(Arguments a) {
    return binary_loss(binary_cross_entropy, "probs", false, a);
}
py::object binary_cross_entropy_with_logits_(Arguments a) {
    return binary_loss(binary_cross_entropy_with_logits, "logits", true, a);
}

py::object binary_loss_and_grad(BinaryGradientFunction function, const char* name, bool logits, Arguments a) {
    BinaryArguments b(name, logits, a);
    Result grad = gradient_of(b.x, b.rest[3], b.rest[2]);
    b.view();
    const TensorView in = b.x.view(), labels = b.target.view();
    const MutableTensorView to = grad.view();
    const py::object loss = run_loss(
        b.x, b.options.dtype, b.options.reduction, std::nullopt,
        [&](const MutableTensorView* losses) { return function(in, labels, to, b.options, losses); });
    return named(b.rest[4], loss, grad.object());
}
py::object binary_cross_entropy_and_grad_(Arguments a) {
    return binary_loss_and_grad(binary_cross_entropy_and_grad, "probs", false, a);
}
py::object binary_cross_entropy_with_logits_and_grad_(Arguments a) {
    return binary_loss_and_grad(binary_cross_entropy_with_logits_and_grad, "logits", true, a);
}

/// logits, target, weight, pos_weight, hess_scale, hess_min, grad_out, hess_out, GradHess
py::object binary_cross_entropy_with_logits_grad_hess_(Arguments a) {
    const Array x("logits", a[0]), target("target", a[1]);
    Optional weight("weight", a[2]), pos_weight("pos_weight", a[3]);
    BinaryLossOptions options{nullptr, nullptr, Reduction::sum, 0, loss_dtype(x, py::none())};
    const HessianOptions hessian{number("hess_scale", a[4]), number("hess_min", a[5])};
    Result grad = gradient_of(x, a[6], py::none());
    Result hess = gradient_of(x, a[7], py::none(), "hess_out");
    options.weight = weight.get();
    options.pos_weight = pos_weight.get();
    const TensorView in = x.view(), labels = target.view();
    const MutableTensorView g = grad.view(), h = hess.view();
    without_gil(x.size(),
                [&] { binary_cross_entropy_with_logits_grad_hess(in, labels, g, h, options, hessian); });
    return named(a[8], grad.object(), hess.object());
}

// ---- scores -----------------------------------------------------------------------------------------------------------------------

/// x, k, axis, temperature, TopK
py::object softmax_topk_(Arguments a) {
    const Array x("x", a[0]);
    ScoreOptions options;
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

/// logits, target, axis, top_k, temperature, ignore_index, TokenScores
py::object token_logprobs_(Arguments a) {
    const Array x("logits", a[0]), target("target", a[1]);
    check_indices(target);
    ScoreOptions options;
    options.axis = axis_of(a[2]);
    options.k = count_of("top_k", a[3]);
    options.temperature = number("temperature", a[4]);
    options.ignore_index = ignore_index_of(a[5]);
    const DType dtype = loss_dtype(x, py::none());
    const Shape rows = shape_of_rows(x, options.axis);
    Shape lists = rows;
    const auto position = position_of(options.axis, x.ndim());
    lists.push_back(std::clamp<py::ssize_t>(options.k, 0, position ? x.shape()[*position] : 0));
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

// ---- settings ---------------------------------------------------------------------------------------------------------------------

py::list names_of_isas() {
    py::list names;
    for (std::string_view name : usable_isas()) names.append(std::string(name));
    return names;
}

py::dict config() {
    py::dict d;
    d["version"] = SOFTLOSS_VERSION;
    d["isa"] = std::string(isa());
    d["usable_isas"] = names_of_isas();
    d["openmp"] = has_openmp();
    d["threads"] = get_num_threads();
#if defined(__clang__)
    d["compiler"] = "clang " + std::to_string(__clang_major__) + "." + std::to_string(__clang_minor__);
#else
    d["compiler"] = "gcc " + std::to_string(__GNUC__) + "." + std::to_string(__GNUC_MINOR__);
#endif
    return d;
}

template <py::object (*function)(Arguments), int N>
constexpr PyMethodDef method(const char* name) {
    return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&call<function, N>)),
            METH_FASTCALL, nullptr};
}

PyMethodDef kMethods[] = {
    method<row_transform<softmax>, 6>("softmax"),
    method<row_transform<log_softmax>, 6>("log_softmax"),
    method<logsumexp_, 7>("logsumexp"),
    method<elementwise<sigmoid>, 3>("sigmoid"),
    method<elementwise<log_sigmoid>, 3>("log_sigmoid"),
    method<softmax_backward_, 4>("softmax_backward"),
    method<log_softmax_backward_, 4>("log_softmax_backward"),
    method<cross_entropy_, 11>("cross_entropy"),
    method<nll_loss_, 9>("nll_loss"),
    method<categorical_cross_entropy_, 9>("categorical_cross_entropy"),
    method<cross_entropy_and_grad_, 13>("cross_entropy_and_grad"),
    method<nll_loss_and_grad_, 11>("nll_loss_and_grad"),
    method<categorical_cross_entropy_and_grad_, 11>("categorical_cross_entropy_and_grad"),
    method<cross_entropy_grad_hess_, 11>("cross_entropy_grad_hess"),
    method<binary_cross_entropy_, 6>("binary_cross_entropy"),
    method<binary_cross_entropy_with_logits_, 7>("binary_cross_entropy_with_logits"),
    method<binary_cross_entropy_and_grad_, 8>("binary_cross_entropy_and_grad"),
    method<binary_cross_entropy_with_logits_and_grad_, 9>("binary_cross_entropy_with_logits_and_grad"),
    method<binary_cross_entropy_with_logits_grad_hess_, 9>("binary_cross_entropy_with_logits_grad_hess"),
    method<softmax_topk_, 5>("softmax_topk"),
    method<token_logprobs_, 7>("token_logprobs"),
    method<Function::direct, 1>("direct"),
    method<Function::direct_with, 2>("direct_with"),
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
    // Finds NumPy's API, before any thread does: one that Python ends meanwhile would end the process.
    scalar(0, DType::float32);
    m.attr("__version__") = SOFTLOSS_VERSION;
    if (PyModule_AddFunctions(m.ptr(), kMethods) != 0) throw py::error_already_set();
    m.def("set_num_threads", [](const py::object& n) {
        set_num_threads(static_cast<int>(std::clamp<std::int64_t>(integer("n", n), -1, 1024)));
    });
    m.def("get_num_threads", &get_num_threads);
    m.def("set_cache_limit", [](const py::object& nbytes) {
        const std::int64_t bytes = integer("nbytes", nbytes);
        if (bytes < 0) throw py::value_error("nbytes must be at least 0, got " + std::to_string(bytes));
        pool::set_limit(bytes);
    });
    m.def("empty_cache", &pool::clear);
    m.def("cached_bytes", &pool::held);
    m.def("config", &config);
    m.def("usable_isas", &names_of_isas);
    m.def("isa", [] { return std::string(isa()); });
    m.def("set_isa", [](const std::string& name) { set_isa(name); });
}

}  // namespace softloss::python
