// NumPy arrays <-> TensorView: dtypes, out=, results. The only place that knows NumPy.
//
// Lives here: which arrays are accepted, with the errors that say what to do instead; allocation of results. Must not:
// shapes and values of arguments (the C++ core), defaults (functional.py).
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "softloss/softloss.hpp"

namespace softloss::python {

namespace py = pybind11;

/// The dtype of an array, std::nullopt when softloss has none for it.
inline std::optional<DType> dtype_of_numpy(const py::dtype& dtype) {
    const auto size = dtype.itemsize();
    switch (dtype.kind()) {
        case 'b': return DType::boolean;
        case 'f':
            if (size == 2) return DType::float16;
            if (size == 4) return DType::float32;
            if (size == 8) return DType::float64;
            return std::nullopt;
        case 'i':
            return size == 1   ? DType::int8
                   : size == 2 ? DType::int16
                   : size == 4 ? DType::int32
                               : DType::int64;
        case 'u':
            return size == 1   ? DType::uint8
                   : size == 2 ? DType::uint16
                   : size == 4 ? DType::uint32
                               : DType::uint64;
        case 'V':
            if (size == 2 && py::str(dtype.attr("name")).cast<std::string>() == "bfloat16")
                return DType::bfloat16;
            return std::nullopt;
        default: return std::nullopt;
    }
}

inline std::string name_of(const py::dtype& dtype) {
    return py::str(dtype).cast<std::string>();
}

[[noreturn]] inline void refuse(const char* argument, const py::dtype& dtype) {
    if (std::string_view(argument) == "where") {
        throw py::type_error("where must be an array of bool, got dtype " + name_of(dtype));
    }
    std::string hint = "convert it to float32 or float64 with astype";
    if (dtype.kind() == 'f') hint = "longdouble has no kernels; use astype(numpy.float64)";
    if (dtype.kind() == 'c') hint = "take .real or numpy.abs of it first";
    if (dtype.kind() == 'O') hint = "object arrays hold Python objects; use astype(numpy.float64)";
    throw py::type_error(std::string(argument) + " has dtype " + name_of(dtype) + "; " + hint);
}

/// An argument as an array; owns the reference and lends a view of it.
struct Array {
    py::array array;
    DType dtype = DType::float32;
    std::vector<std::int64_t> shape, strides;

    Array() = default;
    Array(const char* argument, py::handle value) {
        if (py::hasattr(value, "mask") && py::hasattr(value, "filled")) {
            throw py::type_error(
                std::string(argument) +
                (std::string_view(argument) == "where"
                     ? " is a masked array; pass a plain array of bool"
                     : " is a masked array; pass .filled(value), or the mask as where= or sample_weight="));
        }
        array = py::array::ensure(value);
        if (!array) {
            PyErr_Clear();
            throw py::type_error(std::string(argument) + " cannot be made an array: got " +
                                 py::str(py::type::of(value).attr("__name__")).cast<std::string>());
        }
        const auto known = dtype_of_numpy(array.dtype());
        if (!known) refuse(argument, array.dtype());
        dtype = *known;
        shape.assign(array.shape(), array.shape() + array.ndim());
        strides.assign(array.strides(), array.strides() + array.ndim());
    }

    bool swapped() const {
        const char order = array.dtype().byteorder();
        constexpr bool little = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
        return order == (little ? '>' : '<');
    }
    TensorView view() const { return {array.data(), dtype, shape, strides, swapped()}; }
    MutableTensorView mutable_view() { return {array.mutable_data(), dtype, shape, strides, swapped()}; }
    bool half() const { return dtype == DType::float16 || dtype == DType::bfloat16; }
};

/// An optional argument: None is absent.
struct Optional {
    Array array;
    TensorView view;
    bool present = false;

    Optional(const char* argument, py::handle value) {
        if (value.is_none()) return;
        array = Array(argument, value);
        view = array.view();
        present = true;
    }
    Optional(const Optional&) = delete;
    const TensorView* get() const { return present ? &view : nullptr; }
};

inline py::dtype bfloat16_dtype(const Array& like) {
    if (like.dtype != DType::bfloat16)
        return py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16"));
    return like.array.dtype().attr("newbyteorder")("=").cast<py::dtype>();
}

inline py::dtype numpy_dtype(DType dtype, const Array& like) {
    switch (dtype) {
        case DType::float16: return py::dtype("e");
        case DType::bfloat16: return bfloat16_dtype(like);
        case DType::float32: return py::dtype::of<float>();
        default: return py::dtype::of<double>();
    }
}

/// What a dtype= argument asks for; None: x's own floating dtype, float64 for integers and bool.
inline DType result_dtype(const Array& x, py::handle dtype) {
    if (dtype.is_none()) return is_floating(x.dtype) ? x.dtype : DType::float64;
    const py::dtype wanted = py::dtype::from_args(py::reinterpret_borrow<py::object>(dtype));
    const auto known = dtype_of_numpy(wanted);
    if (!known || !is_floating(*known)) {
        throw py::type_error("dtype must be float16, bfloat16, float32 or float64, got " + name_of(wanted));
    }
    return *known;
}

/// A result: `out` after its checks, or a fresh array.
inline Array result_array(py::handle out, py::handle dtype, const Array& x,
                          const std::vector<std::int64_t>& shape) {
    if (out.is_none()) {
        Array fresh;
        fresh.dtype = result_dtype(x, dtype);
        fresh.array =
            py::array(numpy_dtype(fresh.dtype, x), std::vector<py::ssize_t>(shape.begin(), shape.end()));
        fresh.shape = shape;
        fresh.strides.assign(fresh.array.strides(), fresh.array.strides() + fresh.array.ndim());
        return fresh;
    }
    if (!py::isinstance<py::array>(out)) {
        throw py::type_error("out must be a numpy.ndarray, got " +
                             py::str(py::type::of(out).attr("__name__")).cast<std::string>());
    }
    const DType wanted = result_dtype(x, dtype);
    const py::dtype given_dtype = py::reinterpret_borrow<py::array>(out).dtype();
    if (dtype_of_numpy(given_dtype) != wanted) {
        throw py::type_error("out has dtype " + name_of(given_dtype) + ", but the result has dtype " +
                             name_of(numpy_dtype(wanted, x)));
    }
    Array given("out", out);
    if (!given.array.writeable()) throw py::value_error("out is read-only");
    return given;
}

/// A 0-d result as a NumPy scalar, as NumPy's own reductions give.
inline py::object scalar_if_0d(const py::array& array) {
    if (array.ndim() > 0) return array;
    return array[py::tuple()];
}

}  // namespace softloss::python
