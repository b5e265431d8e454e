// The functions of functional.py as they are called: straight into _core.
//
// Lives here: how the arguments and defaults of a Python function are put into the order of _core's. Must not: what they mean.
//
// Python spends as long on the frame of a function with a dozen options as _core on a short row.
#pragma once

#include <pybind11/pybind11.h>

#include <structmember.h>
#include <algorithm>

namespace softloss::python {

namespace py = pybind11;

/// Stands for a function `def f(a, b, /, c=1, *, d=2): return _core.f(a, b, c, d)` and does without its frame. Whatever does
/// not fit, keywords that need a look at their letters too, is left to that function, so that errors are Python's own; in
/// everything but calls it is that function.
class Function {
  public:
    /// function: what it stands for.
    static py::object direct(PyObject* const* a) { return make(a[0], nullptr); }
    /// last, function: likewise, where _core.f is given `last` behind the arguments.
    static py::object direct_with(PyObject* const* a) { return make(a[1], a[0]); }

  private:
    using Core = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);
    static constexpr std::size_t kMost = 16;

    static py::object make(py::handle python, py::handle last) {
        static PyTypeObject* const type = make_type();
        const py::object name = python.attr("__name__"), code = python.attr("__code__");
        const py::object core = py::module_::import("softloss._core").attr(name),
                         names = code.attr("co_varnames");
        const auto& counts = *reinterpret_cast<const PyCodeObject*>(code.ptr());
        PyObject* const defaults = PyFunction_GetDefaults(python.ptr());
        PyObject* const named = PyFunction_GetKwDefaults(python.ptr());
        const int required = counts.co_posonlyargcount, positional = counts.co_argcount;
        const int count = positional + counts.co_kwonlyargcount;
        py::list values;
        for (int i = required; i < count; ++i) {
            values.append(i < positional
                              ? py::handle(PyTuple_GET_ITEM(defaults, i - required))
                              : py::handle(PyDict_GetItem(named, PyTuple_GET_ITEM(names.ptr(), i))));
        }
        if (last) values.append(last);
        if (required + values.size() > kMost) throw py::value_error("too many arguments");
        auto* const f = reinterpret_cast<Function*>(type->tp_alloc(type, 0));
        if (!f) throw py::error_already_set();
        f->call_ = call;
        f->core_ = reinterpret_cast<Core>(reinterpret_cast<void (*)()>(PyCFunction_GET_FUNCTION(core.ptr())));
        f->python_ = python.inc_ref().ptr();
        f->names_ = names.inc_ref().ptr();
        f->values_ = PyList_AsTuple(values.ptr());
        f->required_ = required;
        f->positional_ = positional;
        f->count_ = count;
        return py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(f));
    }

    static const Function& of(PyObject* self) { return *reinterpret_cast<Function*>(self); }

    static PyObject* call(PyObject* self, PyObject* const* arguments, std::size_t flagged,
                          PyObject* keywords) {
        const Function& f = of(self);
        const Py_ssize_t given = PyVectorcall_NARGS(flagged),
                         named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
        const Py_ssize_t all = f.required_ + PyTuple_GET_SIZE(f.values_);
        bool fits = given >= f.required_ && given <= f.positional_;
        PyObject* in_order[kMost];
        if (fits) {
            std::copy(arguments, arguments + given, in_order);
            for (Py_ssize_t i = given; i < all; ++i)
                in_order[i] = PyTuple_GET_ITEM(f.values_, i - f.required_);
        }
        for (Py_ssize_t k = 0; fits && k < named; ++k) {
            Py_ssize_t i = given;
            while (i < f.count_ && PyTuple_GET_ITEM(f.names_, i) != PyTuple_GET_ITEM(keywords, k)) ++i;
            fits = i < f.count_;
            if (fits) in_order[i] = arguments[given + k];
        }
        return fits ? f.core_(nullptr, in_order, all)
                    : PyObject_Vectorcall(f.python_, arguments, flagged, keywords);
    }

    static PyTypeObject* make_type() {
        static PyMemberDef members[] = {
            {"__vectorcalloffset__", T_PYSSIZET, offsetof(Function, call_), READONLY, nullptr},
            {"__weaklistoffset__", T_PYSSIZET, offsetof(Function, weak_), READONLY, nullptr},
            {nullptr, 0, 0, 0, nullptr}};
        const auto slot = [](int which, auto* p) { return PyType_Slot{which, reinterpret_cast<void*>(p)}; };
        const auto dealloc = +[](PyObject* self) {
            const Function& f = of(self);
            PyTypeObject* const type = Py_TYPE(self);
            if (f.weak_) PyObject_ClearWeakRefs(self);
            Py_DECREF(f.python_);
            Py_DECREF(f.names_);
            Py_DECREF(f.values_);
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
        PyType_Spec spec{"softloss._core.Function", sizeof(Function), 0,
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
    Py_ssize_t required_, positional_, count_;
};

}  // namespace softloss::python
