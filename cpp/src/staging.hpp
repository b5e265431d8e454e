// Staging: rows that the kernels cannot read or write in place are copied to memory where they can, the
// stage, and results are copied back.
//
// Lives here: which layouts the kernels read and write, how many rows are staged at a time, masks. Must not:
// SIMD, parallel loops (batches.hpp), conversions of elements (elements.hpp).
//
// A stage has the order of the array. If rows of the array are adjacent, as with axis=0, those of the stage
// are, too ("columns"): both are read along adjacent memory. Only rows longer than kMaxTile, which the
// kernels take with adjacent elements alone, are transposed on the way, a cache line of each row at a time.
// So each cache line is read once; a copy row by row would read one element of each line.
#pragma once

#include <cmath>
#include <limits>

#include "elements.hpp"
#include "parallel.hpp"

namespace softloss {

/// The offsets of row number `row` of a batch that begins at `at`.
inline Strides row_at(Strides at, const Plan& plan, int64_t row) {
    for (int k = 0; k < kMaxOperands; ++k) at[k] += row * plan.row_stride[k];
    return at;
}

/// True if the kernels take an operand, whose elements have `size` bytes, at full speed: elements, or rows,
/// are adjacent.
inline bool is_dense(const Plan& plan, int operand, int64_t size) {
    return plan.element_stride[operand] == size || (plan.n <= kMaxTile && plan.row_stride[operand] == size);
}
/// True if the rows of an operand are closer to one another than the elements of a row.
inline bool has_close_rows(const Plan& plan, int operand) {
    return plan.rows > 1 && std::abs(plan.row_stride[operand]) < std::abs(plan.element_stride[operand]);
}

/// True if an array consists of elements of T in native byte order, all aligned.
template <class T>
bool holds(const auto& view) {
    bool aligned = is_aligned<T>(view.data);
    for (const int64_t stride : view.strides) aligned &= stride % int64_t{alignof(T)} == 0;
    return view.dtype == dtype_of<T> && !view.swapped && aligned;
}
/// True if the rows of an operand are adjacent elements of T.
template <class T>
bool holds_rows(const auto& view, const Plan& plan, int operand) {
    return plan.element_stride[operand] == sizeof(T) && holds<T>(view);
}

// ---- copies of rows --------------------------------------------------------------------------------------

/// A buffer for rows that are transposed and converted: up to kElements elements of kRows rows, rows
/// adjacent. Element i of its rows begins at at(i).
template <class T>
struct TransposeBuffer {
    static constexpr int64_t kRows = 16, kElements = 64, kPitch = kRows * sizeof(T);
    alignas(64) T data[kRows * kElements];

    char* at(int64_t i) { return reinterpret_cast<char*>(data) + i * kPitch; }
    RowsOut rows() { return {at(0), sizeof(T), kPitch}; }
};
/// Calls f(first row, rows, first element, elements) for (rows, n) elements, in pieces that fit into a
/// buffer.
template <class T, class F>
void for_each_buffer(int64_t rows, int64_t n, F f) {
    for (int64_t r = 0; r < rows; r += TransposeBuffer<T>::kRows)
        for (int64_t i = 0; i < n; i += TransposeBuffer<T>::kElements)
            f(r, std::min(TransposeBuffer<T>::kRows, rows - r), i,
              std::min(TransposeBuffer<T>::kElements, n - i));
}

inline RowsIn in(const RowsOut& rows) {
    return {rows.data, rows.row_stride, rows.element_stride};
}
/// The rows from element i of row r on.
inline RowsOut from(const RowsOut& rows, int64_t r, int64_t i) {
    return {rows.data + r * rows.row_stride + i * rows.element_stride, rows.row_stride, rows.element_stride};
}

/// Copies rows of `view`, converted to T, to a stage: its rows, or its elements, are adjacent. Runs of
/// elements with one stride are read at a time. They are, in this order of preference: an element of all
/// rows, if the stage has adjacent rows; all rows at once, if neither side has gaps; a row; or 16 rows by 64
/// elements, transposed.
template <class T>
void read_rows(const TensorView& view, const RowsIn& source, int64_t rows, int64_t n, const RowsOut& to) {
    const auto read_run = [&](int64_t offset, int64_t stride, int64_t count, char* place) {
        gather(source.data + offset, stride, count, view.dtype, view.swapped, reinterpret_cast<T*>(place));
    };
    if (to.row_stride == sizeof(T)) {
        for (int64_t i = 0; i < n; ++i)
            read_run(i * source.element_stride, source.row_stride, rows, to.data + i * to.element_stride);
    } else if (source.row_stride == n * source.element_stride && to.row_stride == n * int64_t{sizeof(T)}) {
        read_run(0, source.element_stride, rows * n, to.data);
    } else if (rows == 1 || std::abs(source.row_stride) >= std::abs(source.element_stride)) {
        for (int64_t r = 0; r < rows; ++r)
            read_run(r * source.row_stride, source.element_stride, n, to.data + r * to.row_stride);
    } else if (view.dtype == dtype_of<T> && !view.swapped && source.row_stride == sizeof(T)) {
        active_table().compute<T>().transpose(source, to, rows, n, false);
    } else {
        TransposeBuffer<T> block;
        for_each_buffer<T>(rows, n, [&](int64_t r, int64_t count, int64_t first, int64_t m) {
            const int64_t at = r * source.row_stride + first * source.element_stride;
            for (int64_t i = 0; i < m; ++i)
                read_run(at + i * source.element_stride, source.row_stride, count, block.at(i));
            active_table().compute<T>().transpose(in(block.rows()), from(to, r, first), count, m, false);
        });
    }
}

/// The reverse. With `nontemporal`, whole cache lines are written by non-temporal stores where possible.
template <class T>
void write_rows(const RowsOut& source, int64_t rows, int64_t n, const MutableTensorView& out,
                const RowsOut& to, bool nontemporal) {
    const auto write_run = [&](const char* place, int64_t count, int64_t offset, int64_t stride) {
        scatter(reinterpret_cast<const T*>(place), count, to.data + offset, stride, out.dtype, out.swapped);
    };
    if (source.row_stride == sizeof(T)) {
        for (int64_t i = 0; i < n; ++i)
            write_run(source.data + i * source.element_stride, rows, i * to.element_stride, to.row_stride);
    } else if (to.row_stride == n * to.element_stride && source.row_stride == n * int64_t{sizeof(T)}) {
        write_run(source.data, rows * n, 0, to.element_stride);
    } else if (rows == 1 || std::abs(to.row_stride) >= std::abs(to.element_stride)) {
        for (int64_t r = 0; r < rows; ++r)
            write_run(source.data + r * source.row_stride, n, r * to.row_stride, to.element_stride);
    } else if (out.dtype == dtype_of<T> && !out.swapped && to.row_stride == sizeof(T)) {
        active_table().compute<T>().transpose(in(source), to, rows, n, nontemporal);
    } else {
        TransposeBuffer<T> block;
        for_each_buffer<T>(rows, n, [&](int64_t r, int64_t count, int64_t first, int64_t m) {
            active_table().compute<T>().transpose(in(from(source, r, first)), block.rows(), count, m, false);
            const int64_t at = r * to.row_stride + first * to.element_stride;
            for (int64_t i = 0; i < m; ++i)
                write_run(block.at(i), count, at + i * to.element_stride, to.row_stride);
        });
    }
}

// ---- stages ----------------------------------------------------------------------------------------------

/// How much memory the stages of all threads of a call may take. Fewer threads run if each needs more than
/// its share.
constexpr int64_t kStagedBytes = 1 << 20;
/// The same for rows that are transposed. A stage has as many of these as fit into the share of a thread, at
/// most kTransposedRows: a few adjacent cache lines are read in half the time of as many single ones. A stage
/// of 16 rows, one cache line of floats, may exceed that share, but not half of the memory of all threads.
constexpr int64_t kTransposedBytes = 16 << 20, kTransposedRows = 64;

/// True if rows are too long for the kernels' tiles, and closer to one another than their elements.
inline bool is_transposed(const Plan& plan) {
    return plan.n > kMaxTile && has_close_rows(plan, 0);
}

/// How the rows of x are staged: converted to T, with -inf for masked elements. Operand 0 of the plan is x,
/// operand 2 the mask `where`. A call makes it once, before its parallel loop: the size of a stage depends on
/// the number of threads, which is another one inside the loop.
template <class T>
struct Staging {
    const TensorView& x;
    const TensorView* where;
    const Plan& plan;
    bool columns;   ///< the rows are adjacent, else the elements
    int64_t rows;   ///< rows of a stage
    int64_t pitch;  ///< bytes from one row, or column, to the next

    Staging(const TensorView& x_, const TensorView* where_, const Plan& plan_)
        : x(x_), where(where_), plan(plan_) {
        constexpr int64_t size = sizeof(T), line = 64, lanes = line / size;
        const bool run = plan.row_stride[0] == plan.n * plan.element_stride[0];
        columns = plan.rows >= 16 && plan.n <= kMaxTile &&
                  (has_close_rows(plan, 0) || (plan.n < kShortRow && !run));
        if (columns) {  // an odd number of cache lines: powers of two use few cache sets
            const int64_t lines = std::clamp<int64_t>(24576 / plan.n, lanes, 1024) / lanes;
            rows = ((lines - 1) | 1) * lanes;
            pitch = rows * size;
        } else if (is_transposed(plan)) {
            pitch = ((plan.n * size + line - 1) / line | 1) * line;
            const int64_t share = kTransposedBytes / threads_for(plan.size()) / pitch / 16 * 16;
            rows = std::clamp<int64_t>(kTransposedBytes / 2 / pitch, 1,
                                       std::clamp<int64_t>(share, 16, kTransposedRows));
        } else {
            rows = std::clamp<int64_t>(8192 / plan.n, 1, 1024);
            if (rows > 16) rows = rows / 16 * 16;
            pitch = plan.n * size;
        }
        rows = std::min(rows, plan.rows);
    }

    /// Size of scratch memory with room for so many stages: that of the kernels, then the stages.
    std::size_t bytes(int stages) const { return kScratchBytes + stages * stage_bytes(); }
    int64_t stage_bytes() const { return (columns ? plan.n : rows) * pitch; }
    static T* memory(void* scratch) {
        return reinterpret_cast<T*>(static_cast<char*>(scratch) + kScratchBytes);
    }
    /// The rows of stage 0, 1, ...
    RowsOut stage(void* scratch, int index) const {
        char* const data = reinterpret_cast<char*>(memory(scratch)) + index * stage_bytes();
        if (columns) return {data, sizeof(T), pitch};
        return {data, pitch, sizeof(T)};
    }

    /// Reads n elements of the row at `at`, from element `first` on.
    void read(const Strides& at, int64_t first, int64_t n, T* to) const {
        gather(static_cast<const char*>(x.data) + at[0] + first * plan.element_stride[0],
               plan.element_stride[0], n, x.dtype, x.swapped, to);
        if (where)
            fill_masked(mask_at(at) + first * plan.element_stride[2], plan.element_stride[2], n, to,
                        -std::numeric_limits<T>::infinity());
    }
    /// Stages `count` rows, the first at `at`.
    void read_rows(const Strides& at, int64_t count, const RowsOut& to) const {
        softloss::read_rows<T>(
            x, {static_cast<const char*>(x.data) + at[0], plan.row_stride[0], plan.element_stride[0]}, count,
            plan.n, to);
        fill_masked_rows(at, count, to, -std::numeric_limits<T>::infinity());
    }
    /// y = value where elements are masked.
    void fill_masked_rows(const Strides& at, int64_t count, const RowsOut& y, T value) const {
        if (!where) return;
        const int64_t row = plan.row_stride[2], element = plan.element_stride[2], n = plan.n;
        const auto fill = [&](int64_t offset, int64_t stride, int64_t m, char* to) {
            fill_masked(mask_at(at) + offset, stride, m, reinterpret_cast<T*>(to), value);
        };
        if (y.row_stride == sizeof(T)) {
            for (int64_t i = 0; i < n; ++i) fill(i * element, row, count, y.data + i * y.element_stride);
        } else if (row == n * element && y.row_stride == n * int64_t{sizeof(T)}) {
            fill(0, element, count * n, y.data);
        } else {  // a cache line of the mask that several rows share serves all of them before the next
            const int64_t block = has_close_rows(plan, 2) ? 64 : n;
            for (int64_t i = 0; i < n; i += block)
                for (int64_t r = 0; r < count; ++r)
                    fill(r * row + i * element, element, std::min(block, n - i),
                         y.data + r * y.row_stride + i * int64_t{sizeof(T)});
        }
    }
    /// y = value where results are masked. They are right already (exp(-inf) = 0, or -inf), unless the whole
    /// row became NaN.
    void mask_results(const Strides& at, int64_t count, const RowsOut& y, T value) const {
        bool nan = false;
        for (int64_t r = 0; where && r < count; ++r)
            nan |= std::isnan(*reinterpret_cast<const T*>(y.data + r * y.row_stride));
        if (nan) fill_masked_rows(at, count, y, value);
    }

  private:
    const char* mask_at(const Strides& at) const { return static_cast<const char*>(where->data) + at[2]; }
};

/// Where the kernels write rows of T: into the output itself if they can, else into a stage, which put()
/// copies to the output.
template <class T>
class OutputRows {
  public:
    OutputRows(const MutableTensorView& out, const Plan& plan, int operand, const RowsOut& stage,
               bool nontemporal)
        : out_(out),
          plan_(plan),
          operand_(operand),
          stage_(stage),
          direct_(is_direct(out, plan, operand)),
          takes_stage_(takes_stage(out, plan, operand)),
          nontemporal_(nontemporal) {}
    static bool is_direct(const MutableTensorView& out, const Plan& plan, int operand) {
        return holds<T>(out) && is_dense(plan, operand, sizeof(T));
    }
    /// True if rows of x are staged in the output, so that long rows need no other memory.
    static bool takes_stage(const MutableTensorView& out, const Plan& plan, int operand) {
        return plan.n > kMaxTile && is_direct(out, plan, operand);
    }
    /// Where the kernels write the rows from the one at `at` on.
    RowsOut at(const Strides& at) const { return direct_ ? own(at) : stage_; }
    /// Where the rows of x that they are computed from are staged.
    RowsOut stage(const Strides& at) const { return takes_stage_ ? own(at) : stage_; }
    /// True if the kernels use non-temporal stores: the output is not read again, as a stage is.
    bool nontemporal() const { return nontemporal_ && direct_ && !takes_stage_; }
    /// Copies the results to the output, unless they are there.
    void put(const Strides& at, int64_t rows) const {
        if (!direct_) write_rows<T>(stage_, rows, plan_.n, out_, own(at), nontemporal_);
    }

  private:
    RowsOut own(const Strides& at) const {
        return {static_cast<char*>(out_.data) + at[operand_], plan_.row_stride[operand_],
                plan_.element_stride[operand_]};
    }

    const MutableTensorView& out_;
    const Plan& plan_;
    int operand_;
    RowsOut stage_;
    bool direct_, takes_stage_, nontemporal_;
};

}  // namespace softloss
