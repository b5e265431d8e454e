// Parallel loops over the rows and elements of a plan.
//
// Lives here: tasks and their memory, rows in place or staged, pieces of rows, blocks of elements. Must not:
// SIMD, OpenMP, which rows are staged and how (staging.hpp), checks and errors (checks.hpp), what an
// operation means.
#pragma once

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "softloss cannot be built with -ffast-math: errors of a few ULP, NaN and infinity would be lost"
#endif

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <type_traits>

#include "dispatch.hpp"
#include "elements.hpp"
#include "float_mode.hpp"
#include "parallel.hpp"
#include "plan.hpp"
#include "softloss/softloss.hpp"
#include "staging.hpp"

namespace softloss {

/// Strides of an array that may be absent.
inline std::span<const int64_t> strides_of(const auto* view) {
    return view ? view->strides : std::span<const int64_t>();
}
/// True if the results are too large to be read again from a cache: they are stored past it.
inline bool wants_nontemporal(const MutableTensorView& out) {
    return out.size() * size_of(out.dtype) >= kNontemporalBytes;
}

// ---- batches of rows -------------------------------------------------------------------------------------

/// Rows of one task: enough work to pay for a thread, whole tiles, and eight tasks for each thread, so that
/// the work is shared evenly. More tasks would cost: kernels prefetch the next row, and store the last one,
/// while they compute one, and that ends with the task.
inline int64_t rows_per_task(const Plan& plan) {
    const int threads = threads_for(plan.size());
    const int64_t enough = (16384 + plan.n - 1) / plan.n;
    const int64_t share = threads == 1 ? plan.rows : plan.batches * plan.rows / (8 * threads);
    const int64_t rows = std::max(enough, share);
    const bool close_rows = has_close_rows(plan, 0);
    if (rows < 16 && plan.n >= 4096 && !close_rows) return rows;
    const int64_t tile = plan.n >= kShortRow && (!close_rows || plan.n > kMaxTile) ? 16 : 64;
    return (rows + tile - 1) / tile * tile;
}

/// Into how many blocks, one for each thread, each row of adjacent elements is split: more than one if there
/// are fewer rows than threads and the rows are long. The threads wait for each other three times per row.
/// With 65,536 elements, two threads took up to 1.2 times as long as one; with 128,256, 0.5 to 0.9 times, and
/// up to 1.1 times beside threads of other libraries (AMD Zen 5).
inline int64_t blocks_of_row(const Plan& plan, DType dtype) {
    constexpr int64_t kLeast = 60000;  // elements of a block
    static_assert(kLeast > kMaxTile, "rows that are split have adjacent elements");
    const int threads = threads_for(plan.size());
    if (plan.batches * plan.rows >= threads || !active_table().of(dtype).splits_rows) return 1;
    return std::clamp<int64_t>(plan.n / kLeast, 1, threads);
}
/// The function for RowOptions::for_blocks.
inline void run_blocks(int64_t blocks, void (*body)(const void*, int64_t), const void* context) {
    parallel_for(blocks, std::numeric_limits<int64_t>::max(), 0,
                 [&](int64_t block, void*) { body(context, block); });
}

/// Calls body(offsets of the first row, rows, arrays, scratch) for all rows of the plan, in parallel. Each
/// call is a task of up to rows_per_task rows. `arrays`, uninitialised, is memory of the task: the stacks of
/// threads may be too small for it. scratch_bytes is kScratchBytes plus memory for staged rows and lists of
/// scores. With blocks > 1, one thread runs the tasks, and the kernels split each row into as many blocks.
/// Calls that stage much run on fewer threads, so that the memory of all threads keeps its limit; unlimited:
/// bytes of the scratch memory that do not count for it.
template <class Arrays, class Body>
void for_each_batch_with(const Plan& plan, int64_t rows_per_task, std::size_t scratch_bytes, Body body,
                         int64_t blocks = 1, std::size_t unlimited = 0) {
    constexpr std::size_t kArrays = std::is_empty_v<Arrays> ? 0 : (sizeof(Arrays) + 63) / 64 * 64;
    const bool single = plan.batches == 1 && plan.rows <= rows_per_task;
    const int64_t tasks_per_batch = single ? 1 : (plan.rows + rows_per_task - 1) / rows_per_task;
    const int64_t staged =
        std::max<int64_t>(static_cast<int64_t>(scratch_bytes - unlimited) - kScratchBytes, 1);
    parallel_for(
        plan.batches * tasks_per_batch, plan.size(), kArrays + blocks * scratch_bytes,
        [&](int64_t task, void* memory) {
            Arrays& arrays = *new (memory) Arrays;
            void* const scratch = static_cast<char*>(memory) + kArrays;
            if (single) return body(Strides{}, plan.rows, arrays, scratch);
            const int64_t first = task % tasks_per_batch * rows_per_task;
            Strides at = plan.offset(task / tasks_per_batch);
            for (int k = 0; k < kMaxOperands; ++k) at[k] += first * plan.row_stride[k];
            body(at, std::min(rows_per_task, plan.rows - first), arrays, scratch);
        },
        blocks > 1 ? 1
                   : std::max<int64_t>((is_transposed(plan) ? kTransposedBytes : kStagedBytes) / staged, 1));
}
/// The same without arrays: calls body(offsets of the first row, rows, scratch).
template <class Body>
void for_each_batch(const Plan& plan, int64_t rows_per_task, std::size_t scratch_bytes, Body body,
                    int64_t blocks = 1) {
    struct Nothing {};
    for_each_batch_with<Nothing>(
        plan, rows_per_task, scratch_bytes,
        [&](const Strides& at, int64_t rows, Nothing&, void* scratch) { body(at, rows, scratch); }, blocks);
}

/// True if the kernels can read the rows of x, operand 0, in place. where: the mask, or null.
template <class T>
bool is_readable(const TensorView& x, const TensorView* where, const Plan& plan) {
    return !where && !x.swapped && is_floating(x.dtype) && (x.dtype == DType::float64) == (sizeof(T) == 8) &&
           is_dense(plan, 0, size_of(x.dtype));
}

/// Calls run(kernels of the storage type, RowsIn, index of the first row, count) for a batch of rows of x:
/// once, if the kernels can read them in place; else for as many rows at a time as a stage holds.
template <class T, class Run>
void for_each_readable(const Staging<T>& staging, const Strides& at, int64_t rows, void* scratch, Run run) {
    const TensorView& x = staging.x;
    const Plan& plan = staging.plan;
    if (is_readable<T>(x, staging.where, plan)) {
        run(active_table().of(x.dtype),
            RowsIn{static_cast<const char*>(x.data) + at[0], plan.row_stride[0], plan.element_stride[0]},
            int64_t{0}, rows);
        return;
    }
    const RowsOut staged = staging.stage(scratch, 0);
    for (int64_t first = 0; first < rows; first += staging.rows) {
        const int64_t here = std::min(staging.rows, rows - first);
        staging.read_rows(row_at(at, plan, first), here, staged);
        run(active_table().of(dtype_of<T>), in(staged), first, here);
    }
}

// ---- pieces of a row, sums -------------------------------------------------------------------------------

/// Elements of a piece. An operation on pieces needs memory for one piece, however long the row is.
constexpr int64_t kPiece = 4096;

/// Calls f(first, count) for the pieces of a row of n elements, in the order of their index.
template <class F>
void for_each_piece_of_row(int64_t n, F f) {
    for (int64_t first = 0; first < n; first += kPiece) f(first, std::min(kPiece, n - first));
}

/// Adds a sum with its rounding error to another.
inline void add(Sum& sum, const Sum& piece) {
    const double all = sum.value + piece.value, taken = all - sum.value;
    const double error = (sum.value - (all - taken)) + (piece.value - taken);
    sum.error = std::isfinite(all) ? sum.error + (error + piece.error) : 0;
    sum.value = all;
}
inline double total(const Sum& sum) {
    return sum.value + sum.error;
}
/// a / b to twice the precision of double.
inline Sum quotient(const Sum& a, const Sum& b) {
    const double q = a.value / b.value;
    const double rest = std::fma(-q, b.value, a.value) + (a.error - q * b.error);
    return {q, std::isfinite(rest) ? rest / b.value : 0};
}

// ---- elementwise -----------------------------------------------------------------------------------------

constexpr int64_t kElements = 4096;  ///< elements of a block

/// Calls body(index of the block, offsets of its first element, n, scratch) for all elements of the plan, in
/// blocks of at most kElements, in parallel. Returns the number of blocks.
template <class Body>
int64_t for_each_block(const Plan& plan, std::size_t scratch_bytes, Body body) {
    const int64_t blocks_per_batch = (plan.n + kElements - 1) / kElements,
                  blocks = plan.batches * blocks_per_batch;
    parallel_for(blocks, plan.size(), scratch_bytes, [&](int64_t block, void* scratch) {
        const int64_t first = block % blocks_per_batch * kElements;
        Strides at = plan.offset(block / blocks_per_batch);
        for (int k = 0; k < kMaxOperands; ++k) at[k] += first * plan.element_stride[k];
        body(block, at, std::min(kElements, plan.n - first), scratch);
    });
    return blocks;
}

}  // namespace softloss
