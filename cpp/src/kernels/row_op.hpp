// RowOp: what the drivers ask of a row op, as a concept.
//
// Lives here: the members of a row op and of its epilogue, one comment each. Must not: ops, drivers. Ops that
// read two operands have other members: PairedOp (paired_op.hpp), BackwardOp (backward.hpp).
//
// A row op turns the statistics of rows into results. It has no loop, and neither reads nor writes rows: the
// drivers do. T is the compute type (an op does not know the storage type), W = kLanes<T>.
//
// The compiler names a member that an op lacks. GCC does so for members of an epilogue with
// -fconcepts-diagnostics-depth=3.
#pragma once

#include "row_stats.hpp"

namespace softloss {
namespace {

/// std::same_as, without std.
template <class A, class B>
concept SameAs = __is_same(A, B);

/// The epilogue of an op with results: the constants, one row per lane, that turn elements into results.
/// Drivers across the vectors call it as it is: there a vector is one element of W rows. Drivers along the
/// vectors call row(r): there a vector is a piece of row r.
template <class Epilogue, class T, int Results, bool Labels>
concept RowEpilogue = requires(const Epilogue& e, int r, std::int64_t i, V<T> v, V<T> y) {
    // The constants of row r, in every lane.
    { e.row(r) } -> SameAs<Epilogue>;
    // The results of a vector of elements (of exponentials, if Op::kExp); the second results.
    { e(v) } -> SameAs<V<T>>;
    requires Results == 1 || requires {
        { e.second(v) } -> SameAs<V<T>>;
    };
    // Whether a result may be NaN: results then pass through canonical_result. Of row(r) it means that all
    // results of the row are NaN: drivers along the vectors fill such a row with canonical_result(NaN).
    { e.may_be_nan } -> SameAs<const bool&>;
    // The results y, with NaN in its one bit pattern; the same of second results.
    { e.canonical_result(y) } -> SameAs<V<T>>;
    requires Results == 1 || requires {
        { e.canonical_second(y) } -> SameAs<V<T>>;
    };
    // For rows across the vectors: y, the results of element i of W rows, with those at the labels put in;
    // the same of second results.
    requires !Labels || requires {
        { e.at(i, y) } -> SameAs<V<T>>;
        requires Results == 1 || requires {
            { e.second_at(i, y) } -> SameAs<V<T>>;
        };
    };
};

/// What an op with kLabels has for rows along the vectors.
template <class Op, class T>
concept LabelledOp = requires(Op& op, std::int64_t first, int count) {
    // The labels of the rows from row `first` on; a label below 0 is none.
    { op.label(first) } -> SameAs<const std::int64_t*>;
    // [r]: the result at the label of row r of the last epilogue.
    { op.at_label } -> SameAs<T(&)[kLanes<T>]>;
    // Stores at_label of `count` rows from row `first` on, and second results at the labels where they have
    // another formula, when all other results of these rows are stored.
    op.store_at_labels(first, count);
};

/// An op that run_rows and its drivers take.
template <class Op, class T>
concept RowOp =
    requires {
        // Whether Stats::sum leaves out the elements that equal the row maximum, and max_count counts them.
        { Op::kWithoutMax } -> SameAs<const bool&>;
        // Whether results are computed from exponentials, or from the elements themselves.
        { Op::kExp } -> SameAs<const bool&>;
        // How many results each element has: 0, 1 or 2. With 0, epilogue() stores what the op has of a row.
        { Op::kResults } -> SameAs<const int&>;
        // Whether the (first) result at one element of each row, the label's, is another.
        { Op::kLabels } -> SameAs<const bool&>;
    } &&
    requires(Op& op, const Stats<T>& stats, std::int64_t first, int count, typename Op::Epilogue& epilogue) {
        // Computes the epilogue of `count` <= W rows from row `first` on: once for each group of rows.
        op.epilogue(stats, first, count, epilogue);
    } && (Op::kResults == 0 || RowEpilogue<typename Op::Epilogue, T, Op::kResults, Op::kLabels>) &&
    (!Op::kLabels || LabelledOp<Op, T>);

}  // namespace
}  // namespace softloss
