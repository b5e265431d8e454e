// Shape arithmetic: from N-d arrays and an axis to batches of rows. Integers only.
//
// Lives here: axis checks, broadcasting, merging of dimensions, offsets. Must not: floats, kernels, threads.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace softloss {

constexpr int kMaxOperands = 6;
using Strides = std::array<std::int64_t, kMaxOperands>;  ///< bytes, one per operand

/// Extents or strides of the dimensions of an array, without the cost of a vector: a small call makes a dozen of them.
class Dims {
  public:
    static constexpr int kMost = 64;  ///< as NumPy has it

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
    bool operator==(const Dims& other) const { return std::ranges::equal(*this, other); }

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

/// dense: a batch runs along the dimension in which the first operand is densest. c: along the last one.
enum class Order { dense, c };

/// The strides of an array that the operations of a plan read or write; where it lacks the axis, or is none, they are 0.
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

/// With axis < 0 there is no row axis: the dimension along which a batch would run becomes the row.
Plan make_plan(std::span<const std::int64_t> shape, int axis, std::span<const Operand> operands,
               Order order = Order::dense);

/// Strides that make an array of `from` look like `to`. Throws std::invalid_argument that names `what`.
Dims broadcast(const char* what, std::span<const std::int64_t> from, std::span<const std::int64_t> strides,
               std::span<const std::int64_t> to);

/// True if every stride steps over all that lies within the smaller ones: no elements share memory then. It is so in every
/// slice and transpose of an array.
bool are_nested(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                std::int64_t item);

/// C-ordered strides of a fresh array.
Dims contiguous_strides(std::span<const std::int64_t> shape, std::int64_t item);

/// "(2, 3)", "(4,)", "()".
std::string to_string(std::span<const std::int64_t> shape);

/// More elements than any memory holds (a broadcast array may claim them), few enough for all arithmetic on their bytes.
constexpr std::int64_t kMaxSize = std::int64_t{1} << 48;

/// The product of the extents. Throws std::invalid_argument where it, or that of those that are not 0, is beyond kMaxSize.
std::int64_t checked_size(std::span<const std::int64_t> shape);

}  // namespace softloss
