// run_rows: the choice of the driver for a row op.
//
// Lives here: which driver runs when. Must not: loops over rows, what an op has to have (row_op.hpp).
//
//   n < kShortRow, or elements or results not adjacent   rows_across (rows_across.hpp)
//   else, several threads for each row                   rows_split (rows_split.hpp)
//   else                                                 rows_along (rows_along.hpp), pipelined if possible
#pragma once

#include "rows_across.hpp"
#include "rows_split.hpp"

namespace softloss {
namespace {

/// Whether kernels can split a row over threads (RowOptions::blocks). Code for float16 and bfloat16, whose
/// rows are seldom long, or with emulated fma, which is slow in any case, would only make the library larger.
template <class S>
constexpr bool kSplitsRows = sizeof(S) == sizeof(Compute<S>) && !kEmulatedFma;

/// x, y (and second): (rows, n), any layout and alignment. y and second are ignored if op has no such result.
template <class S, RowOp<Compute<S>> Op>
SOFTLOSS_INLINE void run_rows(RowsIn x, RowsOut y, RowsOut second, std::int64_t rows, std::int64_t n,
                              const RowOptions& options, Op& op) {
    const bool along = n >= kShortRow && x.element_stride == sizeof(S) &&
                       (Op::kResults < 1 || y.element_stride == sizeof(S)) &&
                       (Op::kResults < 2 || second.element_stride == sizeof(S));
    if (!along) return rows_across(kStorage<S>, x, y, second, rows, n, options, op);
    if constexpr (kSplitsRows<S>) {
        if (options.blocks > 1) return rows_split<S>(x, y, second, rows, n, options, op);
    }
    rows_along<S>(x, y, second, rows, n, options, op);
}

}  // namespace
}  // namespace softloss
