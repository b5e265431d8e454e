// NumPy arrays <-> TensorView: dtypes, out=, results. The only place that knows NumPy.
//
// Lives here: which arrays are accepted, with errors that say what to pass instead; allocation of results.
// Must not: shapes and values of arguments (the C++ core), defaults (functional.py).
//
// A view points to NumPy's own shape and strides, so an Array must outlive its views. Python code that runs
// meanwhile may change them: views are made last.
#pragma once

#include <pybind11/gil_safe_call_once.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pool.hpp"
#include "softloss/softloss.hpp"

namespace softloss::python {

namespace py = pybind11;
using Shape = std::vector<py::ssize_t>;

static_assert(sizeof(py::ssize_t) == sizeof(std::int64_t), "NumPy's shapes are viewed as 64-bit integers");

inline std::span<const std::int64_t> as_span(const py::ssize_t* p, int n) {
    return {reinterpret_cast<const std::int64_t*>(p), static_cast<std::size_t>(n)};
}

/// The name of a value's type, from its C struct: no Python code runs, so it works while an error is set and
/// for any class.
inline std::string type_name(py::handle value) {
    const std::string_view name = Py_TYPE(value.ptr())->tp_name;
    return std::string(name.substr(name.rfind('.') + 1));  // the whole name if it has no dot
}
inline std::string name_of(py::handle dtype) {
    return py::str(dtype).cast<std::string>();
}

/// Entries of NumPy's C API that pybind11 does not wrap.
struct MoreOfNumPy {
    PyTypeObject* generic;                                  ///< numpy.generic
    PyObject* (*make_scalar)(void*, PyObject*, PyObject*);  ///< PyArray_Scalar
    PyObject* (*set_memory)(PyObject*);                     ///< PyDataMem_SetHandler
};
inline const MoreOfNumPy& more_of_numpy() {
    PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<MoreOfNumPy> storage;
    return storage
        .call_once_and_store_result([] {
            const bool first = py::module_::import("numpy").attr("__version__").cast<std::string>()[0] == '1';
            const auto core = py::module_::import(first ? "numpy.core.multiarray" : "numpy._core.multiarray");
            void** const api =
                static_cast<void**>(PyCapsule_GetPointer(core.attr("_ARRAY_API").ptr(), nullptr));
            // These entries have the same index in every version of NumPy.
            return MoreOfNumPy{static_cast<PyTypeObject*>(api[10]),
                               reinterpret_cast<PyObject* (*)(void*, PyObject*, PyObject*)>(api[60]),
                               reinterpret_cast<PyObject* (*)(PyObject*)>(api[304])};
        })
        .get_stored();
}

// ---- dtypes ----------------------------------------------------------------------------------------------

/// The fields of a NumPy dtype that are the same in NumPy 1 and 2.
struct DescrFields {
    PyObject_HEAD PyObject* typeobj;
    char kind, type, byteorder, flags;
    int type_num;
};
inline const DescrFields& fields_of(py::handle dtype) {
    return *reinterpret_cast<const DescrFields*>(dtype.ptr());
}

/// True for ml_dtypes.bfloat16. NumPy gives that dtype a number when ml_dtypes is imported; it is found by
/// name once.
inline bool is_bfloat16(py::handle dtype) {
    static std::atomic<int> known{-1};  // the same value for every writer
    const int number = fields_of(dtype).type_num;
    if (number == known.load(std::memory_order_relaxed)) return true;
    if (fields_of(dtype).kind != 'V' || number < 256 || name_of(dtype) != "bfloat16") return false;
    known.store(number, std::memory_order_relaxed);
    return true;
}

/// The DType of a NumPy dtype; std::nullopt if softloss has none for it.
inline std::optional<DType> dtype_of_numpy(py::handle dtype) {
    constexpr bool kLongIs64 = sizeof(long) == 8;
    switch (fields_of(dtype).type_num) {
        case 0: return DType::boolean;
        case 1: return DType::int8;
        case 2: return DType::uint8;
        case 3: return DType::int16;
        case 4: return DType::uint16;
        case 5: return DType::int32;
        case 6: return DType::uint32;
        case 7: return kLongIs64 ? DType::int64 : DType::int32;
        case 8: return kLongIs64 ? DType::uint64 : DType::uint32;
        case 9: return DType::int64;
        case 10: return DType::uint64;
        case 11: return DType::float32;
        case 12: return DType::float64;
        case 23: return DType::float16;
        default: return is_bfloat16(dtype) ? std::optional(DType::bfloat16) : std::nullopt;
    }
}

/// Raises the error of an argument whose dtype has no kernels.
[[noreturn]] void refuse_dtype(const char* argument, py::handle array);

/// The NumPy dtype of a DType, as a new reference.
inline py::object numpy_dtype(DType dtype) {
    const auto& api = py::detail::npy_api::get();
    const auto of = [&](int number) {
        return py::reinterpret_steal<py::object>(api.PyArray_DescrFromType_(number));
    };
    switch (dtype) {
        case DType::float16: return of(23);
        case DType::bfloat16: return py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16"));
        case DType::float32: return of(11);
        case DType::int64: return of(py::detail::npy_api::NPY_INT64_);
        default: return of(12);
    }
}

// ---- arguments -------------------------------------------------------------------------------------------

/// An argument as an array: owns a reference to it and makes views of it. An int is kept as a number, without
/// an array.
struct Array {
    py::object array;
    std::int64_t number = 0;  ///< the value of an int, if there is no array
    DType dtype = DType::float32;

    Array() = default;
    Array(const char* argument, py::handle value) {
        const auto& api = py::detail::npy_api::get();
        if (Py_TYPE(value.ptr()) == api.PyArray_Type_) {
            array = py::reinterpret_borrow<py::object>(value);
        } else if (int overflow = 0;
                   PyLong_CheckExact(value.ptr()) &&
                   (number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow), !overflow)) {
            dtype = DType::int64;
            return;
        } else {
            if (!PyObject_TypeCheck(value.ptr(), more_of_numpy().generic)) refuse_masked(argument, value);
            // A subclass, such as a memory map, is used as it is.
            if (PyObject_TypeCheck(value.ptr(), reinterpret_cast<PyTypeObject*>(api.PyArray_Type_)))
                array = py::reinterpret_borrow<py::object>(value);
            else array = converted(argument, value);
        }
        const auto known = dtype_of_numpy(fields().descr);
        if (!known) refuse_dtype(argument, array);
        dtype = *known;
    }
    Array(py::object fresh, DType dtype_) : array(std::move(fresh)), dtype(dtype_) {}

    static void refuse_masked(const char* argument, py::handle value);
    const py::detail::PyArray_Proxy& fields() const { return *py::detail::array_proxy(array.ptr()); }
    py::object descr() const {
        return array ? py::reinterpret_borrow<py::object>(fields().descr) : numpy_dtype(dtype);
    }
    int ndim() const { return array ? fields().nd : 0; }
    std::span<const std::int64_t> shape() const {
        return as_span(array ? fields().dimensions : nullptr, ndim());
    }
    std::int64_t size() const {
        std::int64_t n = 1;
        for (std::int64_t d : shape()) n *= d;
        return n;
    }
    bool writeable() const { return fields().flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_; }
    TensorView view() const { return array ? view_of<TensorView>() : TensorView{&number, dtype, {}, {}}; }
    MutableTensorView mutable_view() const { return view_of<MutableTensorView>(); }

  private:
    /// The value converted as by numpy.asarray, or a view of a bfloat16 tensor that has only DLPack. A
    /// TypeError or ValueError becomes an error that names the argument, with the original as its cause. Any
    /// other exception, such as an interrupt, passes unchanged.
    static py::object converted(const char* argument, py::handle value);

    /// Constructed in place: a copy would wait until all members are stored.
    template <class View>
    View view_of() const {
        constexpr char other = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '>' : '<';
        const py::detail::PyArray_Proxy& f = fields();
        const auto ndim = static_cast<std::size_t>(f.nd);
        return {f.data,
                dtype,
                {reinterpret_cast<const std::int64_t*>(f.dimensions), ndim},
                {reinterpret_cast<const std::int64_t*>(f.strides), ndim},
                fields_of(f.descr).byteorder == other};
    }
};

/// An optional argument; None means absent. get() views the array in its current shape: call it only when no
/// more Python code runs that could change that.
struct Optional {
    Array array;
    bool present = false;

    Optional(const char* argument, py::handle value) {
        if (value.is_none()) return;
        array = Array(argument, value);
        present = true;
    }
    Optional(const Optional&) = delete;
    const TensorView* get() {
        if (!present) return nullptr;
        view = array.view();
        return &view;
    }

  private:
    TensorView view;
};

/// The dtype of a dtype= argument. None means the floating dtype of x, or float64 for integers and bool.
inline DType result_dtype(const Array& x, py::handle dtype) {
    if (dtype.is_none()) return is_floating(x.dtype) ? x.dtype : DType::float64;
    const char* const rule = "dtype must be float16, bfloat16, float32 or float64, got ";
    py::object wanted;
    try {
        wanted = py::dtype::from_args(py::reinterpret_borrow<py::object>(dtype));
    } catch (py::error_already_set& error) {
        if (!error.matches(PyExc_TypeError)) throw;
        throw py::type_error(rule + py::repr(dtype).cast<std::string>());
    }
    const auto known = dtype_of_numpy(wanted);
    if (!known || !is_floating(*known)) throw py::type_error(rule + name_of(wanted));
    return *known;
}

// ---- results ---------------------------------------------------------------------------------------------

/// During its lifetime, NumPy takes the memory of new arrays from the pool (NEP 49). Such an array owns its
/// memory like any other: it can be resized, and sys.getsizeof and tracemalloc know its size.
class MemoryFromPool {
  public:
    MemoryFromPool();
    ~MemoryFromPool();
    MemoryFromPool(const MemoryFromPool&) = delete;

  private:
    PyObject* before_;
};

/// A new array. Large ones take their memory from the pool (pool.hpp).
Array fresh_array(DType dtype, std::span<const std::int64_t> shape);

/// A NumPy scalar.
inline py::object scalar_at(void* value, DType dtype) {
    PyObject* const made = more_of_numpy().make_scalar(value, numpy_dtype(dtype).ptr(), nullptr);
    if (!made) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(made);
}
/// A NumPy scalar of float32 or float64.
inline py::object scalar(double value, DType dtype) {
    float narrow = static_cast<float>(value);
    return scalar_at(dtype == DType::float64 ? static_cast<void*>(&value) : &narrow, dtype);
}

/// A result: the array `out`, the argument `name`, after its checks; or, if it is None, a new array. A new
/// one without dimensions is a NumPy scalar, as the reductions of NumPy return.
class Result {
  public:
    Result(py::handle out, DType dtype, std::span<const std::int64_t> shape, const char* name = "out")
        : scalar_(out.is_none() && shape.empty()) {
        if (scalar_) array_.dtype = dtype;
        else array_ = out.is_none() ? fresh_array(dtype, shape) : checked(out, dtype, name);
    }
    MutableTensorView view() {
        return scalar_ ? MutableTensorView{number_, array_.dtype, {}, {}} : array_.mutable_view();
    }
    py::object object() { return scalar_ ? scalar_at(number_, array_.dtype) : array_.array; }

  private:
    static Array checked(py::handle out, DType dtype, const char* name) {
        if (!py::isinstance<py::array>(out))
            throw py::type_error(std::string(name) + " must be a numpy.ndarray, got " + type_name(out));
        const py::handle given_dtype = py::detail::array_proxy(out.ptr())->descr;
        if (dtype_of_numpy(given_dtype) != dtype) {
            throw py::type_error(std::string(name) + " has dtype " + name_of(given_dtype) +
                                 ", but the result has dtype " + name_of(numpy_dtype(dtype)));
        }
        Array given(name, out);
        if (!given.writeable()) throw py::value_error(std::string(name) + " is read-only");
        return given;
    }

    Array array_;
    bool scalar_;
    alignas(8) char number_[8];
};

}  // namespace softloss::python
