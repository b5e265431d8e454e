// A Python function that is called without a Python frame: its arguments go straight to the C function of
// _core.
//
// Lives here: how the arguments and defaults of a Python function are put into the order that _core expects.
// Must not: what they mean, how they are converted (arguments.hpp, arrays.hpp).
//
// Why: the functions of functional.py are signatures and documentation, and the body of each is one call of
// _core. Its Python frame takes 190 to 240 ns. A softmax of three numbers takes 470 ns without it and 660 ns
// with it; cross_entropy 630 ns and 820 ns (CPython 3.11, AMD Zen 3).
#pragma once

#include <pybind11/pybind11.h>

#include <structmember.h>
#include <algorithm>
#include <string>

namespace softloss::python {

namespace py = pybind11;

/// Replaces a function `def f(a, b, /, c=1, *, d=2): return _core.f(a, b, c, d)`. If the arguments of a call
/// do not fit, or if its keywords are not interned strings, the call goes to the Python function, so that
/// errors are Python's own. Name, signature, documentation and source are those of the Python function.
///
/// The Python function must have no default for a positional-only argument, a default for every other one,
/// and no *args or **kwargs. _core must have a plain C function of positional arguments with the same name.
/// Otherwise a TypeError says what is wrong. Defaults are read once.
class FramelessFunction {
  public:
    /// The decorator: frameless(function).
    static py::object frameless(PyObject* const* a) { return make(a[0], nullptr); }
    /// frameless_with(last, function): the same, and _core.f receives `last` after the arguments.
    static py::object frameless_with(PyObject* const* a) { return make(a[1], a[0]); }

  private:
    using Core = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);
    static constexpr Py_ssize_t kMost = 16;

    /// Numbers of arguments: positional-only, all positional, all.
    struct Counts {
        Py_ssize_t required, positional, all;
    };

    static py::object make(py::handle python, py::handle last) {
        static PyTypeObject* const type = make_type();
        if (!PyFunction_Check(python.ptr())) refuse("it is not a Python function");
        const Counts counts = checked_counts(python, last);
        const py::object names = python.attr("__code__").attr("co_varnames");
        auto* const f = reinterpret_cast<FramelessFunction*>(type->tp_alloc(type, 0));
        if (!f) throw py::error_already_set();
        const auto made = py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(f));
        f->call_ = call;
        f->counts_ = counts;
        f->values_ = values_of(python, names, counts, last).release().ptr();
        f->names_ = names.inc_ref().ptr();
        f->core_ = core_of(python);
        f->python_ = python.inc_ref().ptr();
        return made;
    }

    [[noreturn]] static void refuse(const std::string& why) {
        throw py::type_error("a function cannot be called without a frame: " + why);
    }

    static Counts checked_counts(py::handle python, py::handle last) {
        const py::object code = python.attr("__code__");
        const auto number = [&](const char* name) { return code.attr(name).cast<Py_ssize_t>(); };
        const Counts counts{number("co_posonlyargcount"), number("co_argcount"),
                            number("co_argcount") + number("co_kwonlyargcount")};
        if (number("co_flags") & (CO_VARARGS | CO_VARKEYWORDS)) refuse("it takes *args or **kwargs");
        if (counts.all + (last ? 1 : 0) > kMost)
            refuse("it has more than " + std::to_string(kMost) + " arguments");
        return counts;
    }

    /// The defaults in the order of the arguments, then `last`.
    static py::tuple values_of(py::handle python, const py::tuple& names, const Counts& counts,
                               py::handle last) {
        PyObject* const defaults = PyFunction_GetDefaults(python.ptr());
        PyObject* const named = PyFunction_GetKwDefaults(python.ptr());
        const Py_ssize_t given = defaults ? PyTuple_GET_SIZE(defaults) : 0;
        if (given > counts.positional - counts.required) refuse("a positional-only argument has a default");
        if (given < counts.positional - counts.required) refuse("an argument has no default");
        py::list values;
        for (Py_ssize_t i = 0; i < given; ++i) values.append(py::handle(PyTuple_GET_ITEM(defaults, i)));
        for (Py_ssize_t i = counts.positional; i < counts.all; ++i) {
            PyObject* const value = named ? PyDict_GetItem(named, PyTuple_GET_ITEM(names.ptr(), i)) : nullptr;
            if (!value)
                refuse("the keyword-only argument " + names[i].cast<std::string>() + " has no default");
            values.append(py::handle(value));
        }
        if (last) values.append(last);
        return py::tuple(values);
    }

    /// The function of _core with the same name.
    static Core core_of(py::handle python) {
        const py::object core =
            py::getattr(py::module_::import("softloss._core"), python.attr("__name__"), py::none());
        if (!PyCFunction_CheckExact(core.ptr()) || PyCFunction_GET_FLAGS(core.ptr()) != METH_FASTCALL) {
            refuse("_core has no function of positional arguments named " +
                   python.attr("__name__").cast<std::string>());
        }
        return reinterpret_cast<Core>(reinterpret_cast<void (*)()>(PyCFunction_GET_FUNCTION(core.ptr())));
    }

    static const FramelessFunction& of(PyObject* self) { return *reinterpret_cast<FramelessFunction*>(self); }

    static PyObject* call(PyObject* self, PyObject* const* arguments, std::size_t flagged,
                          PyObject* keywords) {
        const FramelessFunction& f = of(self);
        const Py_ssize_t given = PyVectorcall_NARGS(flagged),
                         named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
        const Py_ssize_t all = f.counts_.required + PyTuple_GET_SIZE(f.values_);
        bool fits = given >= f.counts_.required && given <= f.counts_.positional;
        PyObject* in_order[kMost];
        if (fits) {
            std::copy(arguments, arguments + given, in_order);
            for (Py_ssize_t i = given; i < all; ++i)
                in_order[i] = PyTuple_GET_ITEM(f.values_, i - f.counts_.required);
        }
        for (Py_ssize_t k = 0; fits && k < named; ++k) {
            Py_ssize_t i = given;
            while (i < f.counts_.all && PyTuple_GET_ITEM(f.names_, i) != PyTuple_GET_ITEM(keywords, k)) ++i;
            fits = i < f.counts_.all;
            if (fits) in_order[i] = arguments[given + k];
        }
        return fits ? f.core_(nullptr, in_order, all)
                    : PyObject_Vectorcall(f.python_, arguments, flagged, keywords);
    }

    static PyTypeObject* make_type() {
        static PyMemberDef members[] = {
            {"__vectorcalloffset__", T_PYSSIZET, offsetof(FramelessFunction, call_), READONLY, nullptr},
            {"__weaklistoffset__", T_PYSSIZET, offsetof(FramelessFunction, weak_), READONLY, nullptr},
            {nullptr, 0, 0, 0, nullptr}};
        const auto slot = [](int which, auto* p) { return PyType_Slot{which, reinterpret_cast<void*>(p)}; };
        const auto dealloc = +[](PyObject* self) {
            const FramelessFunction& f = of(self);
            PyTypeObject* const type = Py_TYPE(self);
            if (f.weak_) PyObject_ClearWeakRefs(self);
            Py_XDECREF(f.python_);  // null if construction failed
            Py_XDECREF(f.names_);
            Py_XDECREF(f.values_);
            type->tp_free(self);
            Py_DECREF(type);
        };
        const auto get =
            +[](PyObject* self, PyObject* name) { return PyObject_GetAttr(of(self).python_, name); };
        const auto set = +[](PyObject* self, PyObject* name, PyObject* value) {
            return PyObject_SetAttr(of(self).python_, name, value);
        };
        const auto bind = +[](PyObject* self, PyObject* object, PyObject*) {
            return object ? PyMethod_New(self, object) : Py_NewRef(self);
        };
        const auto repr = +[](PyObject* self) { return PyObject_Repr(of(self).python_); };
        PyType_Slot slots[] = {slot(Py_tp_members, members), slot(Py_tp_call, &PyVectorcall_Call),
                               slot(Py_tp_dealloc, dealloc), slot(Py_tp_getattro, get),
                               slot(Py_tp_setattro, set),    slot(Py_tp_descr_get, bind),
                               slot(Py_tp_repr, repr),       {0, nullptr}};
        PyType_Spec spec{"softloss._core.FramelessFunction", sizeof(FramelessFunction), 0,
                         Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_VECTORCALL |
                             Py_TPFLAGS_METHOD_DESCRIPTOR,
                         slots};
        PyObject* const type = PyType_FromSpec(&spec);
        if (!type) throw py::error_already_set();
        py::module_::import("copyreg").attr("pickle")(  // by name, as functions are
            py::handle(type), py::module_::import("operator").attr("attrgetter")("__qualname__"));
        return reinterpret_cast<PyTypeObject*>(type);
    }

    PyObject_HEAD vectorcallfunc call_;
    Core core_;
    PyObject *python_, *names_, *values_, *weak_;
    Counts counts_;
};

}  // namespace softloss::python
