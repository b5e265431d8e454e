// The contract of an op of two operands, and what such ops are made of.
//
// Lives here: the members that the drivers of rows_paired.hpp ask of an op, as the concept PairedOp, and the
// sums, weights and constants that ops and drivers pass to each other. Must not: loops over rows, what an op
// computes.
#pragma once

#include "curvature.hpp"
#include "softmax.hpp"

namespace softloss {
namespace {

/// What the second operand is: an array; 1 at the label of each row and 0 elsewhere, without an array; or
/// nothing.
enum class Second { array, labels, none };
/// A vector of a second operand that is nothing, or constants that an op does not have.
struct Nothing {};

/// Of which elements a row's maximum is taken: of none, of all, or of those whose second operand is not 0.
/// both: of all elements of x, and of all of the second operand.
enum class Maximum { none, all, counted, both };

/// What the terms of the sums are relative to, one row per lane: here the maxima of x.
template <class T>
struct MaximumOfRows {
    V<T> x;
    SOFTLOSS_INLINE MaximumOfRows row(int r) const { return {spread(x, r)}; }
};
/// Exponentials of both operands, which the terms of a sum are made of: each in a unit of the row.
template <class T>
struct TermExps {
    V<T> x, second;
};
/// Those of the second operand are kept so many elements behind those of x.
template <class T>
constexpr std::int64_t kBetweenExps = kTileBytes / std::int64_t{sizeof(T)};

/// The sums of W rows, one row per lane.
template <class T, int K>
struct PairedTotals {
    Pair<D<T>> of[K];
};
/// Accumulators of K sums: each lane is a stripe of one row, or one stripe of a row of its own. Sums of
/// floats are formed in double, where the product of two floats is exact: widening costs half of what
/// compensated sums in float would cost. Sums of doubles are compensated, unless `Each` is another sum.
template <class T, int K, class Each = Select<sizeof(T) == 4, PlainSum<T>, CompensatedSum<T>>>
struct PairedSums {
    static constexpr int kCount = K;
    Each of[K];

    SOFTLOSS_INLINE void join(const PairedSums& other) {
        unrolled<K>([&](int k) SOFTLOSS_LAMBDA { of[k].join(other.of[k]); });
    }
    /// The sums where each lane is a row.
    SOFTLOSS_INLINE PairedTotals<T, K> totals() const {
        PairedTotals<T, K> all;
        unrolled<K>([&](int k) SOFTLOSS_LAMBDA { all.of[k] = of[k].pair(); });
        return all;
    }
};

/// Stands for the function that an op's with_terms() calls.
struct TermsFunction {
    template <class Add>
    void operator()(const Add& add) const;
};
/// What an op has for the gradient.
template <class Op, class T>
concept PairedGradient =
    requires(const Op& op, const Stats<T>& stats, const typename Op::Totals& totals, std::int64_t first,
             int count, typename Op::Epilogue& epilogue, int r, V<T> value,
             Select<Op::kSecond == Second::labels, IntVec<T, kLanes<T>>, V<T>> second, D<T> w) {
        // Computes the constants of the gradient of `count` rows from row `first` on, one row per lane.
        op.epilogue(stats, totals, first, count, epilogue);
        // The constants of row r, in every lane.
        { epilogue.row(r) } -> SameAs<typename Op::Epilogue>;
        // One vector of the gradient. value: exponentials if kExps, else elements of x; second, w: as in
        // with_terms(). If kTermExps, value and second are the exponentials of the terms.
        { op.gradient(epilogue, value, second, w) } -> SameAs<V<T>>;
    };
/// What an op has if there is a Hessian, which does not depend on the second operand.
template <class Op, class T>
concept PairedHessian = requires(const Op& op, const Stats<T>& stats, const typename Op::Totals& totals,
                                 std::int64_t first, int count, Curvature<T>& constants) {
    // Computes the constants of the Hessian of `count` rows from row `first` on, one row per lane.
    op.curvature(stats, totals, first, count, constants);
};
/// An op that run_paired and its drivers take.
template <class Op, class T>
concept PairedOp =
    requires(const Op& op) {
        // The operands and results of the call.
        { op.c } -> SameAs<const PairedRows&>;
        // What the second operand is.
        { Op::kSecond } -> SameAs<const Second&>;
        // Of which elements pass 1 takes the maximum. If of none, what takes its place.
        { Op::kMaximum } -> SameAs<const Maximum&>;
        requires Op::kMaximum != Maximum::none || requires {
            { op.without_maximum() } -> SameAs<V<T>>;
        };
        // Whether pass 2 runs, and at which temperature. Its sum leaves out the maximum.
        { Op::kExps } -> SameAs<const bool&>;
        requires !Op::kExps || requires {
            { op.temperature } -> SameAs<const Temperature<T>&>;
        };
        // Whether the terms of pass 3 give the exponentials of both operands: the gradient has them then.
        { Op::kTermExps } -> SameAs<const bool&>;
        // Whether some rows may need pass 3 again, with another centre.
        { Op::kAgain } -> SameAs<const bool&>;
        // What the terms are relative to, one row per lane: MaximumOfRows<T>, or a struct that begins with
        // x, the maxima, and, with Maximum::both, second. row(r) has row r in every lane.
        typename Op::Centre;
        // The sums of pass 3: PairedSums<T, kCount>.
        { Op::Sums::kCount } -> SameAs<const int&>;
        // Class weights, or null. A vector of them is read at any class: W must be readable behind the last.
        { op.weights() } -> SameAs<const double*>;
        // Whether there is a gradient, and its constants (an empty struct if there is none).
        { Op::kGradient } -> SameAs<const bool&>;
        typename Op::Epilogue;
        // What totals() returns.
        typename Op::Totals;
    } &&
    requires(const Op& op, typename Op::Centre& centre, TermsFunction f, Vec<std::int64_t, kLanes<T>>& rows,
             const PairedTotals<T, Op::Sums::kCount>& sums, const Stats<T>& stats,
             const typename Op::Totals& totals, std::int64_t first, int count) {
        // Calls f(add). add(sums, x, second, w) adds one vector to the sums: a piece of one row, with its
        // centre in every lane, or one element of W rows, with theirs. second is a vector, the mask of the
        // labels, or Nothing. Lanes beyond a row must add 0; there x is the maximum, second (its maximum with
        // Maximum::both) and w are 0. If kTermExps, add returns TermExps.
        op.with_terms(centre, f);
        // Whether some rows need the sums of another centre: changes it there, and sets their lanes of
        // `rows`.
        requires !Op::kAgain || requires {
            { op.again(sums, centre, rows) } -> SameAs<bool>;
        };
        // What follows from the sums of `count` <= W rows from row `first` on, one row per lane. What the op
        // knows of single rows comes in here. The sums are 0 if the caller wants no losses. Without kExps,
        // stats has the maximum alone.
        { op.totals(sums, stats, first, count) } -> SameAs<typename Op::Totals>;
        // The losses of these rows.
        { op.results(stats, totals) } -> SameAs<D<T>>;
    } &&
    (!Op::kGradient || PairedGradient<Op, T>);

/// Adds weight * d, where a weight of 0 gives 0 even if d is infinite or NaN. Low parts count only if T is
/// double.
template <class T, class Sum>
SOFTLOSS_INLINE void add_weighted(Sum& sum, Pair<D<T>> weight, Pair<D<T>> d) {
    const D<T> zero = splat<D<T>>(0);
    const auto none = equal(weight.hi, zero);
    const D<T> hi = select(none, zero, d.hi);
    sum.add_product(weight.hi, hi);
    if constexpr (sizeof(T) == 8) sum.add_low(fma(weight.hi, select(none, zero, d.lo), weight.lo * hi));
}
/// q w as a pair. For float, the rounding error of the product in double is too small to matter: the low part
/// is 0.
template <class T>
SOFTLOSS_INLINE Pair<D<T>> weighted_share(D<T> q, D<T> w) {
    const D<T> hi = q * w;
    if constexpr (sizeof(T) == 4) return {hi, splat<D<T>>(0)};
    else return {hi, fma(q, w, -hi)};
}

/// An exponential in double; of floats with the digits that its two parts have.
template <class T>
SOFTLOSS_INLINE D<T> widened(const ExpParts<V<T>>& e) {
    if constexpr (sizeof(T) == 8) return e.value();
    const D<T> power = convert<double>(e.scale);
    return fma(power, convert<double>(e.fraction), power);
}

/// The weights of classes i ... i + W - 1, one per lane; without weights, 1. w has W readable elements behind
/// the last class.
template <class T>
SOFTLOSS_INLINE D<T> weights_at(const double* w, std::int64_t i) {
    return w ? load<D<T>>(w + i) : splat<D<T>>(1);
}
/// The weight of class i in every lane.
template <class T>
SOFTLOSS_INLINE D<T> weight_of(const double* w, std::int64_t i) {
    return splat<D<T>>(w ? w[i] : 1);
}

}  // namespace
}  // namespace softloss
