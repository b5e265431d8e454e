#include "arrays.hpp"

#include <cstring>

namespace softloss::python {
namespace {

using namespace std::string_literals;

// ---- arrays that are rejected ----------------------------------------------------------------------------

bool is_string(py::handle descr) {
    const char kind = fields_of(descr).kind;
    return kind == 'U' || kind == 'S' || kind == 'T';
}

/// True for an object array whose first element is a string.
bool begins_with_string(py::handle array) {
    const py::object first = array.attr("flat");
    for (const py::handle item : first) return PyUnicode_Check(item.ptr()) || PyBytes_Check(item.ptr());
    return false;
}

/// The expression that converts the array to one that is accepted.
std::string way_out(const std::string& argument, py::handle array) {
    const py::handle descr = py::detail::array_proxy(array.ptr())->descr;
    const auto as = [&](const char* dtype) { return "numpy.asarray(" + argument + ", " + dtype + ")"; };
    const char kind = fields_of(descr).kind;
    const bool is_target = argument == "target";
    if (argument == "where") return as("bool");
    if (kind == 'c') return argument + ".real or abs(" + argument + ")";
    if (is_target && (is_string(descr) || (kind == 'O' && begins_with_string(array))))
        return "numpy.unique(target, return_inverse=True)[1]";
    if (kind == 'M' || kind == 'm' || (is_target && kind == 'O')) return as("numpy.int64");
    const py::object fields = descr.attr("names");
    if (!fields.is_none())
        return "one of its fields, such as " + argument + "['" +
               py::str(fields[py::int_(0)]).cast<std::string>() + "']";
    if (fields_of(descr).type_num == 20) return argument + ".view(dtype) with a floating dtype";
    return as("numpy.float64");
}

/// The expression that converts what NumPy treats as a single object to an array; empty if there is none.
std::string array_of(const std::string& argument, py::handle value) {
    if (py::hasattr(value, "toarray")) return argument + ".toarray()";  // sparse
    if (PyMapping_Check(value.ptr()) && py::hasattr(value, "values"))
        return "list(" + argument + ".values())";
    if (py::hasattr(value, "__iter__")) return "list(" + argument + ")";
    return "";
}

[[noreturn]] void refuse_object(const std::string& argument, py::handle value) {
    if (PyLong_Check(value.ptr()))
        throw py::type_error(argument + " must fit into 64 bits, got " + py::str(value).cast<std::string>());
    const std::string line = array_of(argument, value);
    throw py::type_error(argument + " must be array_like, got " + type_name(value) +
                         (line.empty() ? "" : "; pass " + line));
}

/// Raises an error that names the argument, with the current error, of the conversion, as its cause.
[[noreturn]] void refuse_conversion(const std::string& argument, py::handle value) {
    std::string text = argument + " must be array_like, got ";
    if ((PyList_Check(value.ptr()) || PyTuple_Check(value.ptr())) &&
        PyErr_ExceptionMatches(PyExc_ValueError)) {
        text += "a ragged " + type_name(value) + "; pass rows of equal length";
    } else {
        text += type_name(value) + ", which NumPy cannot convert; pass ";
        const py::error_scope keep;
        text +=
            py::hasattr(value, "detach") ? argument + ".detach().cpu().float().numpy()" : "a numeric array"s;
    }
    py::raise_from(PyExc_TypeError, text.c_str());
    throw py::error_already_set();
}

// ---- DLPack ----------------------------------------------------------------------------------------------

/// The first members of a DLManagedTensor.
struct DLTensor {
    void* data;
    std::int32_t device_type, device_id;
    std::int32_t ndim;
    std::uint8_t code, bits;
    std::uint16_t lanes;
    std::int64_t* shape;
    std::int64_t* strides;  ///< in elements; null in C order
    std::uint64_t byte_offset;
};

/// A read-only view of a bfloat16 tensor in CPU memory, which NumPy's own DLPack reader does not support;
/// null for any other object. The view owns the capsule, which frees the tensor.
py::object view_of_bfloat16(py::handle value) {
    constexpr std::int32_t kCpu = 1;
    constexpr std::uint8_t kBfloat = 4;
    if (!py::hasattr(value, "__dlpack__")) return {};
    const py::object capsule = value.attr("__dlpack__")();
    const auto* const tensor = static_cast<const DLTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
    if (!tensor) throw py::error_already_set();
    if (tensor->device_type != kCpu || tensor->code != kBfloat || tensor->bits != 16 || tensor->lanes != 1)
        return {};
    std::vector<Py_intptr_t> strides;
    for (int d = 0; tensor->strides && d < tensor->ndim; ++d) strides.push_back(2 * tensor->strides[d]);
    const auto& api = py::detail::npy_api::get();
    PyObject* const made = api.PyArray_NewFromDescr_(
        api.PyArray_Type_, numpy_dtype(DType::bfloat16).release().ptr(), tensor->ndim,
        reinterpret_cast<const Py_intptr_t*>(tensor->shape), tensor->strides ? strides.data() : nullptr,
        static_cast<char*>(tensor->data) + tensor->byte_offset, 0, nullptr);
    if (!made) throw py::error_already_set();
    api.PyArray_SetBaseObject_(made, capsule.inc_ref().ptr());
    return py::reinterpret_steal<py::object>(made);
}

// ---- memory ----------------------------------------------------------------------------------------------

/// NumPy's PyDataMem_Handler, version 1.
struct MemoryHandler {
    char name[127];
    std::uint8_t version;
    void* context;
    void* (*allocate)(void*, std::size_t);
    void* (*allocate_zeros)(void*, std::size_t, std::size_t);
    void* (*resize)(void*, void*, std::size_t);
    void (*free)(void*, void*, std::size_t);
};

/// Never destroyed: arrays may outlive everything else at the end of the interpreter.
MemoryHandler pool_handler{
    "softloss",
    1,
    nullptr,
    [](void*, std::size_t bytes) { return pool::take(static_cast<std::int64_t>(bytes)); },
    [](void*, std::size_t count, std::size_t size) {
        void* const memory = pool::take(static_cast<std::int64_t>(count * size));
        return memory ? std::memset(memory, 0, count * size) : nullptr;
    },
    [](void*, void* memory, std::size_t bytes) {
        return pool::resize(memory, static_cast<std::int64_t>(bytes));
    },
    [](void*, void* memory, std::size_t) {
        if (memory) pool::give_back(memory);
    },
};

[[noreturn]] void too_large(DType dtype, std::span<const std::int64_t> shape) {
    py::list extents;
    for (const std::int64_t extent : shape) extents.append(extent);
    const std::string text = "Unable to allocate 2**63 bytes or more for an array with shape " +
                             py::str(py::tuple(extents)).cast<std::string>() + " and data type " +
                             name_of(numpy_dtype(dtype));
    PyErr_SetString(PyExc_MemoryError, text.c_str());
    throw py::error_already_set();
}

}  // namespace

void refuse_dtype(const char* argument, py::handle array) {
    const std::string dtype = name_of(py::detail::array_proxy(array.ptr())->descr);
    const bool where = argument == "where"s;
    throw py::type_error(argument +
                         (where ? " must be an array of bool, got dtype "s : " has unsupported dtype "s) +
                         dtype + "; pass " + way_out(argument, array));
}

void Array::refuse_masked(const char* argument, py::handle value) {
    const py::handle type =
        py::type::handle_of(value);  // of the type: a table may have columns of these names
    if (!py::hasattr(type, "mask") || !py::hasattr(type, "filled")) return;
    const std::string name = argument;
    if (name == "where")
        throw py::type_error("where must be an array of bool, got a masked array; pass where.filled(False)");
    const bool output = name.ends_with("out");
    // where= and sample_weight= leave out elements and rows of the others.
    const bool of_others = name == "u" || name == "b" || name.ends_with("weight");
    const char* const instead = output      ? ".data"
                                : of_others ? ".filled(value)"
                                            : ".filled(value), and the mask as where= or sample_weight=";
    throw py::type_error(name + " is a masked array; pass " + name + instead);
}

py::object Array::converted(const char* argument, py::handle value) {
    const auto& api = py::detail::npy_api::get();
    auto made = py::reinterpret_steal<py::object>(api.PyArray_FromAny_(
        value.ptr(), nullptr, 0, 0, py::detail::npy_api::NPY_ARRAY_ENSUREARRAY_, nullptr));
    if (made) {
        const auto& fields = *py::detail::array_proxy(made.ptr());
        if (fields.nd == 0 && fields_of(fields.descr).kind == 'O') refuse_object(argument, value);
        return made;
    }
    if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_ValueError))
        throw py::error_already_set();
    {
        const py::error_scope keep;
        try {
            made = view_of_bfloat16(value);
        } catch (const py::error_already_set&) {  // NOLINT(bugprone-empty-catch): the first error tells more
        }
    }
    if (!made) refuse_conversion(argument, value);
    PyErr_Clear();
    return made;
}

MemoryFromPool::MemoryFromPool() {
    static PyObject* const handler = PyCapsule_New(&pool_handler, "mem_handler", nullptr);
    before_ = more_of_numpy().set_memory(handler);
    if (!before_) throw py::error_already_set();
}
MemoryFromPool::~MemoryFromPool() {
    const py::error_scope keep;  // keep a MemoryError of the allocation
    Py_XDECREF(more_of_numpy().set_memory(before_));
    Py_DECREF(before_);
}

Array fresh_array(DType dtype, std::span<const std::int64_t> shape) {
    const auto& api = py::detail::npy_api::get();
    std::int64_t bytes = size_of(dtype);
    for (const std::int64_t extent : shape) {
        if (__builtin_mul_overflow(bytes, extent, &bytes)) too_large(dtype, shape);
    }
    std::optional<MemoryFromPool> recycled;
    if (pool::worthwhile(bytes)) recycled.emplace();
    PyObject* const made = api.PyArray_NewFromDescr_(
        api.PyArray_Type_, numpy_dtype(dtype).release().ptr(), static_cast<int>(shape.size()),
        reinterpret_cast<const Py_intptr_t*>(shape.data()), nullptr, nullptr, 0, nullptr);
    if (!made) throw py::error_already_set();
    return Array(py::reinterpret_steal<py::object>(made), dtype);
}

}  // namespace softloss::python
