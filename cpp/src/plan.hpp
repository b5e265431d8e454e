// Shape arithmetic: turns N-d arrays and an axis into batches of rows. Integers only.
//
// Lives here: axis checks, broadcasting, merging of dimensions, offsets. Must not: floats, kernels, threads.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace softloss {

constexpr int kMaxOperands = 6;
using Strides = std::array<std::int64_t, kMaxOperands>;  ///< bytes, one per operand

/// Extents or strides of the dimensions of an array, without the allocation of a vector: a small call makes a
/// dozen of them.
class Dims {
  public:
    static constexpr int kMost = 64;  ///< as in NumPy

    Dims() = default;
    Dims(std::size_t size, std::int64_t value) {
        for (std::size_t d = 0; d < size; ++d) push_back(value);
    }
    Dims(std::span<const std::int64_t> other) {
        for (std::int64_t x : other) push_back(x);
    }
    Dims(std::initializer_list<std::int64_t> other) {
        for (std::int64_t x : other) push_back(x);
    }
    Dims(const Dims& other) : size_(other.size_) { std::copy(other.begin(), other.end(), data_); }
    Dims& operator=(const Dims& other) {
        size_ = other.size_;
        std::copy(other.begin(), other.end(), data_);
        return *this;
    }

    std::size_t size() const { return size_; }
    std::int64_t* begin() { return data_; }
    std::int64_t* end() { return data_ + size_; }
    const std::int64_t* begin() const { return data_; }
    const std::int64_t* end() const { return data_ + size_; }
    std::int64_t& operator[](std::size_t d) { return data_[d]; }
    std::int64_t operator[](std::size_t d) const { return data_[d]; }
    operator std::span<const std::int64_t>() const { return {data_, size_}; }
    bool operator==(const Dims& other) const {
        return std::equal(begin(), end(), other.begin(), other.end());
    }

    /// Throws std::invalid_argument beyond kMost.
    void push_back(std::int64_t x) { insert(size_, x); }
    void insert(std::size_t place, std::int64_t x) {
        if (size_ == kMost) throw std::invalid_argument("arrays have at most 64 dimensions");
        std::copy_backward(data_ + place, data_ + size_, data_ + size_ + 1);
        data_[place] = x;
        ++size_;
    }
    void erase(std::size_t place) {
        std::copy(data_ + place + 1, data_ + size_, data_ + place);
        --size_;
    }

  private:
    std::int64_t data_[kMost];
    std::size_t size_ = 0;
};

/// One loop over `extent` steps.
struct Loop {
    std::int64_t extent;
    Strides stride;
};

/// Where the rows of all operands lie: a batch is `rows` rows of n elements at constant strides, and the
/// outer loops repeat it.
struct Plan {
    std::int64_t n = 1;        ///< elements of a row
    Strides element_stride{};  ///< from one element of a row to the next
    std::int64_t rows = 1;     ///< rows in a batch
    Strides row_stride{};      ///< from one row of a batch to the next
    std::vector<Loop> outer;   ///< slowest first
    std::int64_t batches = 1;  ///< product of the extents of `outer`

    /// Byte offsets of batch `index` for every operand.
    Strides offset(std::int64_t index) const;
    std::int64_t size() const { return n * rows * batches; }
};

/// axis in -ndim ... ndim - 1 -> 0 ... ndim - 1. Throws std::invalid_argument.
int normalize_axis(std::int64_t axis, int ndim);

/// Which dimension the rows of a batch run along. dense: the one with the smallest stride of the first
/// operand. c: the last one.
enum class Order { dense, c };

/// The strides of an operand of a plan: 0 along the axis if the operand lacks it, all 0 if the operand is
/// absent.
struct Operand {
    std::span<const std::int64_t> strides;
    bool lacks_axis = false;

    Operand() = default;
    Operand(std::span<const std::int64_t> of, bool lacks = false) : strides(of), lacks_axis(lacks) {}
    Operand(const Dims& of, bool lacks = false) : strides(of), lacks_axis(lacks) {}
    std::int64_t stride(int d, int axis) const {
        if (strides.empty() || (lacks_axis && d == axis)) return 0;
        return strides[lacks_axis && d > axis ? d - 1 : d];
    }
};

/// Adjacent dimensions that are one loop for all operands are merged. If axis < 0, no axis is given: the
/// dimension along which a batch would run becomes the row.
Plan make_plan(std::span<const std::int64_t> shape, int axis, std::span<const Operand> operands,
               Order order = Order::dense);

/// Strides with which an array of shape `from` reads as shape `to`. Throws std::invalid_argument that names
/// `what`.
Dims broadcast(const char* what, std::span<const std::int64_t> from, std::span<const std::int64_t> strides,
               std::span<const std::int64_t> to);

/// True if every stride is at least the extent of all dimensions with smaller strides. Then no two elements
/// share memory. Slices and transposes of an array have such strides.
bool are_nested(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                std::int64_t item);

/// C-ordered strides of a fresh array.
Dims contiguous_strides(std::span<const std::int64_t> shape, std::int64_t item);

/// "(2, 3)", "(4,)", "()".
std::string to_string(std::span<const std::int64_t> shape);

/// Limit of the number of elements: more than any memory holds (a broadcast array may claim them), but small
/// enough that byte counts fit into 64 bits.
constexpr std::int64_t kMaxSize = std::int64_t{1} << 48;

/// The product of the extents. std::nullopt if an extent is negative, or if the product of those that are not
/// 0 exceeds kMaxSize.
std::optional<std::int64_t> size_of_shape(std::span<const std::int64_t> shape);
/// The product of the extents. Throws std::invalid_argument if size_of_shape has none.
std::int64_t checked_size(std::span<const std::int64_t> shape);

}  // namespace softloss
