// Shape arithmetic: from N-d arrays and an axis to batches of rows. Integers only.
//
// Lives here: axis checks, broadcasting, merging of dimensions, offsets. Must not: floats, kernels, threads.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace softloss {

constexpr int kMaxOperands = 6;
using Strides = std::array<std::int64_t, kMaxOperands>;  ///< bytes, one per operand

/// One loop over `extent` steps.
struct Loop {
    std::int64_t extent;
    Strides stride;
};

/// Rows of n elements: `rows` of them at constant strides, repeated over the outer loops.
struct Plan {
    std::int64_t n = 1;       ///< elements of a row
    Strides axis{};           ///< from one element of a row to the next
    std::int64_t rows = 1;    ///< rows in a batch
    Strides row{};            ///< from one row of a batch to the next
    std::vector<Loop> outer;  ///< slowest first
    std::int64_t batches = 1;

    /// Byte offsets of batch `index` for every operand.
    Strides offset(std::int64_t index) const;
    std::int64_t size() const { return n * rows * batches; }
};

/// axis in -ndim ... ndim - 1 -> 0 ... ndim - 1. Throws std::invalid_argument.
int normalize_axis(std::int64_t axis, int ndim);

/// operand_strides[k] has one stride per dimension of shape. With axis < 0 there is no row axis: the fastest merged
/// dimension becomes the row.
Plan make_plan(std::span<const std::int64_t> shape, int axis,
               std::span<const std::vector<std::int64_t>> operand_strides);

/// Strides that make an array of `from` look like `to`. Throws std::invalid_argument that names `what`.
std::vector<std::int64_t> broadcast(const char* what, std::span<const std::int64_t> from,
                                    std::span<const std::int64_t> strides, std::span<const std::int64_t> to);

/// C-ordered strides of a fresh array.
std::vector<std::int64_t> contiguous_strides(std::span<const std::int64_t> shape, std::int64_t item);

/// "(2, 3)", "(4,)", "()".
std::string to_string(std::span<const std::int64_t> shape);

/// The product of the extents. Throws std::invalid_argument if it does not fit.
std::int64_t checked_size(std::span<const std::int64_t> shape);

}  // namespace softloss
