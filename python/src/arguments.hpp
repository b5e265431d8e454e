// The arguments of a call other than arrays, and the shapes that follow from them.
//
// Lives here: integers, numbers, flags, names and axes from Python objects, with the errors that name the
// argument; checks of an array's dtype that depend on the argument. Must not: arrays and results
// (arrays.hpp), limits that the C++ core knows, defaults (functional.py).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "arrays.hpp"

namespace softloss::python {

/// The positional arguments of a function of _core.
using Arguments = PyObject* const*;

/// Converts an integer, or raises the error of its __index__. Integers beyond int64 become the nearest int64.
std::int64_t integer(const char* argument, py::handle value, const char* kind = "an integer");
int axis_of(py::handle axis);
std::int64_t count_of(const char* argument, py::handle value);
/// Converts a number: a float, an int or a NumPy scalar.
double number(const char* argument, py::handle value);
std::optional<std::int64_t> ignore_index_of(py::handle value);
bool flag(const char* argument, py::handle value);
Reduction reduction_of(py::handle value);
CalibrationNorm calibration_norm_of(py::handle value);
/// The dtype that a loss is computed in: `dtype`, or else that of x, but at least float32.
DType loss_dtype(const Array& x, py::handle dtype);

void check_where(const Optional& where);
enum class Targets { indices, indices_or_probabilities };
/// Rejects a class target whose dtype does not fit, or whose shape fits class probabilities while its dtype
/// means class indices, or the reverse. The core checks all other shapes.
void check_class_target(const Array& x, const Array& target, int axis, Targets allowed);

/// The axis counted from the front; std::nullopt if it is out of range, which the core rejects.
std::optional<int> position_of(int axis, int ndim);
/// Extents or strides without that of the axis; all of them if there is no axis.
Shape drop(std::span<const std::int64_t> all, std::optional<int> position);
/// The shape of an array with one element per row.
Shape shape_of_rows(const Array& x, int axis);
std::string text_of(std::span<const std::int64_t> shape);

inline std::span<const std::int64_t> as_span(const Shape& shape) {
    return as_span(shape.data(), static_cast<int>(shape.size()));
}

}  // namespace softloss::python
