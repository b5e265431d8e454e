// The extension module _core: its functions, and the settings of threads, memory and instruction set.
//
// Lives here: registrations, the report of the build. Must not: functions on arrays (transforms.cpp,
// losses.cpp, scores.cpp).
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "call.hpp"
#include "frameless_function.hpp"
#include "kernels/table.hpp"

namespace softloss::python {
namespace {

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

/// name, value: the value as an array, after the checks of an argument of this name.
py::object checked_array(Arguments a) {
    const char* const name = PyUnicode_AsUTF8(a[0]);
    if (!name) throw py::error_already_set();
    const Array array(name, a[1]);
    return array.array ? array.array : py::reinterpret_borrow<py::object>(a[1]);
}

PyMethodDef kMethods[] = {
    method<checked_array, 2>("checked_array"),
    method<FramelessFunction::frameless, 1>("frameless"),
    method<FramelessFunction::frameless_with, 2>("frameless_with"),
    kEndOfMethods,
};

}  // namespace

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
    // Loads NumPy's API now, before other threads run: a thread that Python ends while it loads would end the
    // process.
    scalar(0, DType::float32);
    m.attr("__version__") = SOFTLOSS_VERSION;
    m.attr("nontemporal_bytes") = kNontemporalBytes;  // for tests
    for (PyMethodDef* methods : {transform_methods(), loss_methods(), score_methods(), kMethods}) {
        if (PyModule_AddFunctions(m.ptr(), methods) != 0) throw py::error_already_set();
    }
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
    m.def("cache_limit", &pool::limit);
    m.def("container_memory", &pool::container_memory);
    m.def("config", &config);
    m.def("usable_isas", &names_of_isas);
    m.def("isa", [] { return std::string(isa()); });
    m.def("set_isa", [](const std::string& name) { set_isa(name); });
}

}  // namespace softloss::python
