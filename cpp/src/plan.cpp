#include "plan.hpp"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace softloss {

Strides Plan::offset(std::int64_t index) const {
    Strides total{};
    for (auto loop = outer.rbegin(); loop != outer.rend(); ++loop) {
        const std::int64_t step = index % loop->extent;
        index /= loop->extent;
        for (int k = 0; k < kMaxOperands; ++k) total[k] += step * loop->stride[k];
    }
    return total;
}

int normalize_axis(std::int64_t axis, int ndim) {
    if (axis < -ndim || axis >= ndim) {
        throw std::invalid_argument("axis " + std::to_string(axis) +
                                    " is out of bounds for array of dimension " + std::to_string(ndim));
    }
    return static_cast<int>(axis < 0 ? axis + ndim : axis);
}

namespace {

/// True if `slow` with `fast` inside is a single loop for every operand.
bool mergeable(const Loop& slow, const Loop& fast) {
    for (int k = 0; k < kMaxOperands; ++k) {
        if (slow.stride[k] != fast.extent * fast.stride[k]) return false;
    }
    return true;
}

}  // namespace

Plan make_plan(std::span<const std::int64_t> shape, int axis, std::span<const Operand> operands,
               Order order) {
    Plan plan;
    std::array<Loop, Dims::kMost> loops;
    std::size_t count = 0;
    for (int d = 0; d < static_cast<int>(shape.size()); ++d) {
        const auto put_strides = [&](Strides& to) {
            for (std::size_t k = 0; k < operands.size(); ++k) to[k] = operands[k].stride(d, axis);
        };
        if (d == axis) {
            plan.n = shape[d];
            put_strides(plan.element_stride);
            continue;
        }
        Loop loop{shape[d], {}};
        put_strides(loop.stride);
        if (loop.extent == 0) {
            plan.rows = 0;
        } else if (loop.extent > 1) {
            if (count > 0 && mergeable(loops[count - 1], loop)) {
                loop.extent *= loops[count - 1].extent;
                loops[count - 1] = loop;
            } else {
                loops[count++] = loop;
            }
        }
    }
    if (plan.rows == 0 || count == 0) return plan;
    const auto end = loops.begin() + static_cast<std::ptrdiff_t>(count);
    const auto denser = [](const Loop& a, const Loop& b) {
        return std::abs(a.stride[0]) < std::abs(b.stride[0]);
    };
    const auto inner = order == Order::c ? end - 1 : std::min_element(loops.begin(), end, denser);
    if (axis < 0) {
        plan.n = inner->extent;
        plan.element_stride = inner->stride;
    } else {
        plan.rows = inner->extent;
        plan.row_stride = inner->stride;
    }
    plan.outer.reserve(count - 1);
    for (auto loop = loops.begin(); loop != end; ++loop) {
        if (loop == inner) continue;
        plan.outer.push_back(*loop);
        plan.batches *= loop->extent;
    }
    return plan;
}

Dims broadcast(const char* what, std::span<const std::int64_t> from, std::span<const std::int64_t> strides,
               std::span<const std::int64_t> to) {
    Dims result(to.size(), 0);
    const std::size_t shift = to.size() - std::min(from.size(), to.size());
    for (std::size_t d = 0; d < from.size(); ++d) {
        const bool fits = from.size() <= to.size() && (from[d] == 1 || from[d] == to[d + shift]);
        if (!fits) {
            throw std::invalid_argument(std::string(what) + " of shape " + to_string(from) +
                                        " does not broadcast to shape " + to_string(to));
        }
        result[d + shift] = from[d] == 1 ? 0 : strides[d];
    }
    return result;
}

bool are_nested(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                std::int64_t item) {
    bool nested = true;
    for (std::size_t d = 0; d < shape.size(); ++d) {
        if (shape[d] == 0) return true;
        if (shape[d] == 1) continue;
        std::int64_t within = item;
        for (std::size_t e = 0; e < shape.size(); ++e) {
            if (e != d && shape[e] > 1 && std::abs(strides[e]) <= std::abs(strides[d]))
                within += (shape[e] - 1) * std::abs(strides[e]);
        }
        nested &= std::abs(strides[d]) >= within;
    }
    return nested;
}

Dims contiguous_strides(std::span<const std::int64_t> shape, std::int64_t item) {
    Dims strides(shape.size(), 0);
    for (std::size_t d = shape.size(); d-- > 0;) {
        strides[d] = item;
        item *= std::max<std::int64_t>(shape[d], 1);
    }
    return strides;
}

std::string to_string(std::span<const std::int64_t> shape) {
    std::string text = "(";
    for (std::size_t d = 0; d < shape.size(); ++d) text += (d ? ", " : "") + std::to_string(shape[d]);
    return text + (shape.size() == 1 ? ",)" : ")");
}

std::optional<std::int64_t> size_of_shape(std::span<const std::int64_t> shape) {
    std::int64_t size = 1;  // 0 counts as 1, as in NumPy: partial products must fit, too
    for (std::int64_t extent : shape) {
        if (extent < 0 || __builtin_mul_overflow(size, std::max<std::int64_t>(extent, 1), &size) ||
            size > kMaxSize)
            return std::nullopt;
    }
    return std::find(shape.begin(), shape.end(), 0) != shape.end() ? 0 : size;
}

std::int64_t checked_size(std::span<const std::int64_t> shape) {
    const std::optional<std::int64_t> size = size_of_shape(shape);
    if (!size)
        throw std::invalid_argument("shape " + to_string(shape) + " has a negative or too large extent");
    return *size;
}

}  // namespace softloss
