// Turns a C++ function of positional arguments into a method of _core.
//
// Lives here: the C function that Python calls, exceptions, the GIL, named tuples. Must not: what a function
// computes (transforms.cpp, losses.cpp, scores.cpp), how its arguments are read (arguments.hpp, arrays.hpp).
//
// The methods are plain C functions, because the dispatch of pybind11 takes longer than the whole softmax of
// a short row.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <thread>

#include "arguments.hpp"
#include "float_mode.hpp"

namespace softloss::python {

/// Releasing the GIL costs more than a small call takes: with fewer elements than this it is kept.
constexpr std::int64_t kReleaseFrom = 16384;

/// Releases the GIL for its lifetime. While Python shuts down, it may end a thread that asks for the GIL by
/// unwinding its stack (up to 3.13). That would run destructors of Python objects without the GIL. So such a
/// thread waits for the end of the process instead.
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

[[noreturn]] inline void no_working_memory(std::int64_t elements) {
    PyErr_Format(
        PyExc_MemoryError,
        "Unable to allocate the working memory of a call on %lld elements, up to 1 MiB and 16 bytes for each "
        "row",
        static_cast<long long>(elements));
    throw py::error_already_set();
}

/// Calls f, a function of the core on this many elements, without the GIL if that pays.
template <class F>
auto without_gil(std::int64_t elements, F f) {
    try {
        if (elements < kReleaseFrom) return f();
        const GilReleased released;
        return f();
    } catch (const std::bad_alloc&) {
        no_working_memory(elements);
    } catch (const std::length_error&) {
        no_working_memory(elements);
    }
}

/// Calls the function. If it throws, the exception becomes a Python exception, and nullptr is returned.
inline PyObject* call_once(py::object (*function)(Arguments), Arguments arguments) {
    const DefaultFloatMode mode;  // the binding computes, too: numbers become NumPy scalars
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
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
}

/// A C function of exactly N positional arguments. If memory runs out, it frees the unused buffers of the
/// pool and makes the call again: a call that fails has written nothing.
template <py::object (*function)(Arguments), int N>
PyObject* call(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
    if (count != N) {
        PyErr_Format(PyExc_TypeError, "expected %d positional arguments, got %zd", N, count);
        return nullptr;
    }
    PyObject* const result = call_once(function, arguments);
    if (result || !PyErr_ExceptionMatches(PyExc_MemoryError) || pool::held() == 0) return result;
    PyErr_Clear();
    pool::clear();
    return call_once(function, arguments);
}

/// Makes an instance of a named tuple type.
template <class... Items>
py::object named(py::handle type, const Items&... items) {
    if (!PyType_Check(type.ptr()) ||
        !PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type.ptr()), &PyTuple_Type))
        throw py::type_error("the last argument must be a subclass of tuple");
    const auto pack = [](auto... objects) {
        PyObject* const made = PyTuple_Pack(sizeof...(objects), objects.ptr()...);
        if (!made) throw py::error_already_set();
        return py::reinterpret_steal<py::object>(made);
    };
    // Calls tuple.__new__ directly: the type's own __new__ is written in Python and slower.
    const py::object arguments = pack(pack(py::handle(items)...));
    PyObject* const made =
        PyTuple_Type.tp_new(reinterpret_cast<PyTypeObject*>(type.ptr()), arguments.ptr(), nullptr);
    if (!made) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(made);
}

template <py::object (*function)(Arguments), int N>
constexpr PyMethodDef method(const char* name) {
    return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&call<function, N>)),
            METH_FASTCALL, nullptr};
}

/// Ends a table of methods.
constexpr PyMethodDef kEndOfMethods{nullptr, nullptr, 0, nullptr};

/// The functions on arrays, for PyModule_AddFunctions.
PyMethodDef* transform_methods();
PyMethodDef* loss_methods();
PyMethodDef* score_methods();

}  // namespace softloss::python
