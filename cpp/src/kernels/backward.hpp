// Vector-Jacobian products of softmax and log_softmax: dx from the result y and the gradient dy with respect
// to it.
//
// Lives here: the two ops, and their drivers along and across the vectors. They are not the drivers of
// rows_along.hpp and rows_across.hpp: an op here reads two operands, and no exponent shift. Must not: layouts
// that the kernels cannot read (the callers stage such rows).
//
// Shapes: y, dy, dx (rows, n). dx may be y or dy. Let m be the index of the largest y of a row, the first of
// equals. Then
//   softmax:      a = sum of y[j] (dy[m] - dy[j]);  dx[i] = y[i] ((dy[i] - dy[m]) + a)
//   log_softmax:  p = exp(y), s = sum of dy[j];  dx[i] = dy[i] - p[i] s,  but
//                 dx[m] = dy[m] (sum of p[j]) - p[m] (sum of dy[j]), both over j != m
// The usual forms y (dy - sum(y dy)) and dy - p s are equal to these if the probabilities sum to 1. But if
// y[m] is near 1, they compute dx[m] as the difference of two numbers near dy[m], and its digits cancel.
//
// The passes over a group of rows, or over a tile:
//   1. the maximum of y, and the index m of each row
//   2. the op's sums over y and dy, in the order of reduce.hpp (PairedSums of paired_op.hpp)
//   3. the epilogue: the constants of each row
//   4. dx
//
// Sums of float. Widening floats to double costs more than all other arithmetic of a row. So the stripes of
// rows of kShortRow elements and more are added two elements at a time: two terms are added in float, and
// their sum is widened. Over so many terms the roundings average out, and dx stays within 3 ULP of the sum of
// its absolute terms. Floats can overflow or underflow where doubles cannot: a row with an unusual sum is
// summed again, element by element. Only such rows can have a result that is NaN.
#pragma once

#include "rows_paired.hpp"

namespace softloss {
namespace {

// ---- ops -------------------------------------------------------------------------------------------------

/// y[m] and dy[m] of W rows, one row per lane.
template <class T>
struct LargestClass {
    V<T> y, dy;
};

/// Elements of y (or exponentials) and of dy.
template <class T>
struct Operands {
    V<T> y, dy;
};
template <class T>
SOFTLOSS_INLINE Operands<T> no_operands() {
    return {splat<V<T>>(0), splat<V<T>>(0)};
}

/// An op of these drivers: static members alone.
template <class Op, class T>
concept BackwardOp =
    requires {
        // Whether sums and results are formed from e = exp(y), or from y.
        { Op::kExp } -> SameAs<const bool&>;
        // The number of sums.
        { Op::kSums } -> SameAs<const int&>;
        // Sums are unusual if checked() is not larger than this in magnitude, or very large, or NaN.
        { Op::kSmallest } -> SameAs<const double&>;
    } && requires(V<T> y, V<T> dy, int r, PairedSums<T, Op::kSums>& sums, const Operands<T>& a,
                  const Operands<T>& b, const LargestClass<T>& largest,
                  const PairedTotals<T, Op::kSums>& totals, const typename Op::Epilogue& epilogue) {
        // y, or e.
        { Op::value(y) } -> SameAs<V<T>>;
        // Adds one vector to the sums. If kExp, both operands are 0 at the largest class, whose dy is `dy`.
        Op::add(sums, a, dy);
        // The same for two vectors, in float (see above).
        Op::add_two(sums, a, b, dy);
        // A number for each row that tells whether its sums are unusual (see kSmallest).
        { Op::checked(largest, totals) } -> SameAs<D<T>>;
        // The constants of up to W rows, one row per lane.
        { Op::epilogue(largest, totals) } -> SameAs<typename Op::Epilogue>;
        // Those of row r, in every lane.
        { epilogue.row(r) } -> SameAs<typename Op::Epilogue>;
        // One vector of dx. y: e if kExp.
        { epilogue(y, dy) } -> SameAs<V<T>>;
        // If kExp: dx of the largest class, which takes the place of what the call gives there.
        requires !Op::kExp || requires {
            { epilogue.dx_max } -> SameAs<const V<T>&>;
        };
    };

template <class T>
struct SoftmaxBackward {
    static constexpr bool kExp = false;
    static constexpr int kSums = 1;

    struct Epilogue {
        V<T> dy_max, a;  ///< dy_max: dy[m]

        SOFTLOSS_INLINE Epilogue row(int r) const { return {spread(dy_max, r), spread(a, r)}; }
        SOFTLOSS_INLINE V<T> operator()(V<T> y, V<T> dy) const { return fma(y, dy - dy_max, y * a); }
    };
    SOFTLOSS_INLINE static V<T> value(V<T> y) { return y; }
    /// Adds y[j] (dy[m] - dy[j]). The term of j = m is 0, so it needs no mask.
    SOFTLOSS_INLINE static void add(PairedSums<T, kSums>& sums, const Operands<T>& of, V<T> dy_max) {
        const D<T> y = convert<double>(of.y), dy = convert<double>(of.dy), top = convert<double>(dy_max);
        if constexpr (sizeof(T) == 4) {
            sums.of[0].add_product(y, top - dy);
        } else {
            const Pair<D<T>> d = two_sum(top, -dy);
            sums.of[0].add_product(y, d.hi);
            sums.of[0].add_low(y * d.lo);
        }
    }
    SOFTLOSS_INLINE static void add_two(PairedSums<T, kSums>& sums, const Operands<T>& a,
                                        const Operands<T>& b, V<T> dy_max) {
        const V<T> term = a.y * (dy_max - a.dy);
        sums.of[0].add(convert<double>(fma(b.y, dy_max - b.dy, term)));
    }
    /// If the sum is not larger, terms that count may have underflowed.
    static constexpr double kSmallest = sizeof(T) == 4 ? 0x1p-100 : -1;
    SOFTLOSS_INLINE static D<T> checked(const LargestClass<T>&, const PairedTotals<T, kSums>& sums) {
        return sums.of[0].hi;
    }
    SOFTLOSS_INLINE static Epilogue epilogue(const LargestClass<T>& largest,
                                             const PairedTotals<T, kSums>& sums) {
        return {largest.dy, convert<T>(sums.of[0].hi + sums.of[0].lo)};
    }
};

/// e = exp(y) has the constant factor c = kExpFactor (math.hpp). The epilogue divides by it.
template <class T>
struct LogSoftmaxBackward {
    static constexpr bool kExp = true;
    static constexpr int kSums = 2;

    struct Epilogue {
        V<T> dy_sum, dx_max;  ///< s / c, dx[m]

        SOFTLOSS_INLINE Epilogue row(int r) const { return {spread(dy_sum, r), spread(dx_max, r)}; }
        SOFTLOSS_INLINE V<T> operator()(V<T> e, V<T> dy) const { return fma(-e, dy_sum, dy); }
    };
    SOFTLOSS_INLINE static V<T> value(V<T> y) { return exp_nonpositive(y); }
    /// Adds e and dy, both 0 at the largest class.
    SOFTLOSS_INLINE static void add(PairedSums<T, kSums>& sums, const Operands<T>& of, V<T>) {
        sums.of[0].add(convert<double>(of.y));
        sums.of[1].add(convert<double>(of.dy));
    }
    SOFTLOSS_INLINE static void add_two(PairedSums<T, kSums>& sums, const Operands<T>& a,
                                        const Operands<T>& b, V<T> dy_max) {
        add(sums, {a.y + b.y, a.dy + b.dy}, dy_max);
    }
    static constexpr double kSmallest = -1;
    SOFTLOSS_INLINE static D<T> checked(const LargestClass<T>& largest, const PairedTotals<T, kSums>& sums) {
        return convert<double>(largest.dy) + (sums.of[0].hi + sums.of[1].hi);
    }
    /// A NaN in y makes only the sum of exponentials NaN. The whole row must be NaN then, so s gets it from
    /// there.
    SOFTLOSS_INLINE static Epilogue epilogue(const LargestClass<T>& largest,
                                             const PairedTotals<T, kSums>& sums) {
        const D<T> zero = splat<D<T>>(0), e = convert<double>(value(largest.y)),
                   dy = convert<double>(largest.dy), e_sum = e + sums.of[0].hi;
        const auto over_c = [&](const Pair<D<T>>& exact, D<T> plain) SOFTLOSS_LAMBDA {
            const Pair<D<T>> q = exact / Pair<D<T>>{splat<D<T>>(kExpFactor<T>), zero};
            const D<T> r = q.hi + q.lo;
            // The low part of an infinite pair is NaN, but the plain result is right.
            const D<T> finite = select(equal(r, r), r, plain);
            return convert<T>(select(equal(e_sum, e_sum), finite, e_sum));
        };
        const Pair<D<T>> dy_pair{dy, zero};
        return {over_c(dy_pair + sums.of[1], dy + sums.of[1].hi),
                canonical(over_c(dy_pair * sums.of[0] + Pair<D<T>>{-e, zero} * sums.of[1],
                                 dy * sums.of[0].hi - e * sums.of[1].hi))};
    }
};

/// The mask of those of the first `count` rows whose sums are unusual: NaN, infinite, or formed of floats
/// that may have overflowed or underflowed.
template <class Op, class T>
SOFTLOSS_INLINE auto unusual(const LargestClass<T>& largest, const PairedTotals<T, Op::kSums>& sums,
                             int count) {
    using I = Vec<std::int64_t, kLanes<T>>;
    const D<T> size = abs(Op::checked(largest, sums));
    const auto usual =
        less(splat<D<T>>(Op::kSmallest), size) & less(size, splat<D<T>>(sizeof(T) == 4 ? 0x1p120 : 0x1p1000));
    return select(usual, splat<I>(0), first_lanes<I>(count));
}
template <class T, int K>
SOFTLOSS_INLINE PairedTotals<T, K> select(Vec<std::int64_t, kLanes<T>> mask, const PairedTotals<T, K>& a,
                                          const PairedTotals<T, K>& b) {
    PairedTotals<T, K> r;
    for (int k = 0; k < K; ++k)
        r.of[k] = {select(mask, a.of[k].hi, b.of[k].hi), select(mask, a.of[k].lo, b.of[k].lo)};
    return r;
}

// ---- rows along the vectors ------------------------------------------------------------------------------

/// The lane of element `index` in the vector that begins at element i; -1 if the vector does not hold it.
template <class T>
SOFTLOSS_INLINE int lane_holding(std::int64_t index, std::int64_t i) {
    return index >= i && index < i + kLanes<T> ? static_cast<int>(index - i) : -1;
}
/// The mask of one lane; no lane for -1.
template <class T>
SOFTLOSS_INLINE IntVec<T, kLanes<T>> only_lane(int lane) {
    using I = IntVec<T, kLanes<T>>;
    return equal(iota<I>(), splat<I>(lane));
}

/// x: (n) adjacent elements -> the index of the first one that equals `value`; 0 if none does, as for NaN.
template <class S>
SOFTLOSS_INLINE std::int64_t first_index_of(const S* x, std::int64_t n, V<Compute<S>> value) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    for (std::int64_t i = 0; i < n; i += W) {
        const int valid = n - i < W ? static_cast<int>(n - i) : W;
        const auto hit = equal(load_some(x + i, valid), value);
        if (!any(hit)) continue;
        const auto lanes = select(hit, iota<IntVec<T, W>>(), splat<IntVec<T, W>>(W));
        return i + fold(lanes, [](auto a, auto b) SOFTLOSS_LAMBDA { return select(less(a, b), a, b); });
    }
    return 0;
}

/// One row of adjacent elements. exps: (n, padded) keeps exp(y) between the passes if Op::kExp; it is null if
/// a row does not fit into the buffer, and exp(y) is then computed twice.
template <class S>
struct BackwardRow {
    using T = Compute<S>;
    const S *y, *dy;
    S* dx;
    std::int64_t n, argmax;  ///< argmax: index of the largest class
    T* exps;

    /// One vector of y, or of exponentials, and of dy: 0 in the lanes that add nothing.
    template <class Op>
    SOFTLOSS_INLINE Operands<T> operands(std::int64_t i, int valid) const {
        V<T> v = Op::value(load_some(y + i, valid)), d = load_some(dy + i, valid);
        if constexpr (Op::kExp) {
            if (exps) store(exps + i, v);
            // Beyond the row d is 0 as loaded, exp(0) is not.
            const int lane = lane_holding<T>(argmax, i);
            if (valid < kLanes<T> || lane >= 0) {
                const V<T> zero = splat<V<T>>(0);
                v = select(only_lane<T>(lane), zero, keep_first(v, valid));
                d = select(only_lane<T>(lane), zero, d);
            }
        }
        return {v, d};
    }
    /// dy_max: dy of the largest class. distance: prefetch distance in bytes, to the same row of the next
    /// group.
    template <class Op, bool TwoByTwo>
    SOFTLOSS_INLINE PairedSums<T, Op::kSums> sum(V<T> dy_max, std::int64_t distance) const {
        constexpr int W = kLanes<T>;
        PairedSums<T, Op::kSums> sums;
        const auto at = [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            prefetch(reinterpret_cast<const char*>(y + i) + distance, true);
            return operands<Op>(i, valid);
        };
        std::int64_t i = 0;
        if constexpr (TwoByTwo) {
            for (; i + 2 * W <= n; i += 2 * W) {
                const Operands<T> first = at(i, W);
                Op::add_two(sums, first, at(i + W, W), dy_max);
            }
            if (i + W < n) {
                const Operands<T> first = at(i, W);
                Op::add_two(sums, first, at(i + W, static_cast<int>(n - i - W)), dy_max);
            } else if (i < n) {
                Op::add_two(sums, at(i, static_cast<int>(n - i)), no_operands<T>(), dy_max);
            }
        } else {
            for_each_vector<W>(n, [&](std::int64_t first, int valid)
                                      SOFTLOSS_LAMBDA { Op::add(sums, at(first, valid), dy_max); });
        }
        return sums;
    }
    /// Stores dx. y and dy are read vector by vector before dx is stored, so dx may be either.
    template <class Op, bool MayBeNan>
    SOFTLOSS_INLINE void write(const typename Op::Epilogue& f, std::int64_t distance,
                               bool nontemporal) const {
        store_results(dx, n, nontemporal, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            prefetch(reinterpret_cast<const char*>(dy + i) + distance, true);
            V<T> v;
            if constexpr (!Op::kExp) v = load_some(y + i, valid);
            else v = exps ? load<V<T>>(exps + i) : Op::value(load_some(y + i, valid));
            V<T> r = f(v, load_some(dy + i, valid));
            if constexpr (Op::kExp) {
                const int lane = lane_holding<T>(argmax, i);
                if (lane >= 0) r = select(only_lane<T>(lane), f.dx_max, r);
            }
            if constexpr (MayBeNan) r = canonical(r);
            return r;
        });
    }
};

/// The sums of `count` rows along the vectors.
template <class Op, bool TwoByTwo, class S>
SOFTLOSS_INLINE auto backward_sums(const BackwardRow<S>* rows, int count, const Compute<S>* dy_max,
                                   std::int64_t distance) {
    using T = Compute<S>;
    SumsOfRows<T, Op::kSums> sums;
    for (int r = 0; r < count; ++r) {
        const BackwardRow<S> row = rows[r];  // a copy, which stores of exponentials cannot alias
        sums.put(r, row.template sum<Op, TwoByTwo>(splat<V<T>>(dy_max[r]), distance));
    }
    return sums.totals();
}

/// y, dy, dx: (rows, n) along the vectors.
template <class S, BackwardOp<Compute<S>> Op>
[[gnu::noinline]] void backward_along(const BackwardRows& c, std::int64_t rows, std::int64_t n,
                                      const RowOptions& options) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    T* const exps = Op::kExp && fits_exp_buffer<T>(n) ? static_cast<T*>(options.scratch) : nullptr;
    const std::int64_t bytes = n * std::int64_t{sizeof(S)}, pitch = ((n + W - 1) / W | 1) * W;
    const bool whole = (reinterpret_cast<std::uintptr_t>(c.dx.data) | c.dx.row_stride | bytes) % 64 == 0;
    const bool nontemporal = options.nontemporal && (whole || bytes >= kMinNontemporalRow);
    const int group =
        n > kGroupElements ? 1 : static_cast<int>(kGroupElements / n < W ? kGroupElements / n : W);
    for (std::int64_t first = 0; first < rows; first += group) {
        const int count = static_cast<int>(rows - first < group ? rows - first : group);
        const bool more = first + 2 * group <= rows;  // the next group is whole: prefetch it
        const std::int64_t y_distance = more ? group * c.y.row_stride : 0,
                           dy_distance = more ? group * c.dy.row_stride : 0;
        const V<T> maximum = rows_max<S>(c.y, first, rows, group, n);
        BackwardRow<S> group_rows[W];
        T dy_max[W] = {};
        for (int r = 0; r < count; ++r) {
            const std::int64_t row = first + r;
            const S* const y = reinterpret_cast<const S*>(c.y.data + row * c.y.row_stride);
            const char* const dy = c.dy.data + row * c.dy.row_stride;
            const std::int64_t argmax = first_index_of(y, n, spread(maximum, r));
            group_rows[r] = {y,
                             reinterpret_cast<const S*>(dy),
                             reinterpret_cast<S*>(c.dx.data + row * c.dx.row_stride),
                             n,
                             argmax,
                             exps ? exps + r * pitch : nullptr};
            dy_max[r] = load_one<S>(dy + argmax * std::int64_t{sizeof(S)});
        }
        auto sums = backward_sums < Op, sizeof(T) == 4 > (group_rows, count, dy_max, y_distance);
        const LargestClass<T> largest{maximum, load<V<T>>(dy_max)};
        const auto again = unusual<Op>(largest, sums, count);
        const bool may_be_nan = any(again);
        if (sizeof(T) == 4 && may_be_nan)
            sums = select(again, backward_sums<Op, false>(group_rows, count, dy_max, 0), sums);
        const auto f = Op::epilogue(largest, sums);
        for (int r = 0; r < count; ++r) {
            const BackwardRow<S> row = group_rows[r];  // a copy, which stores through dx cannot alias
            if (may_be_nan) row.template write<Op, true>(f.row(r), dy_distance, nontemporal);
            else row.template write<Op, false>(f.row(r), dy_distance, nontemporal);
        }
    }
}

// ---- rows across the vectors -----------------------------------------------------------------------------

/// W rows of y and of dy, one row per lane: element i of all rows is a vector, at values + i * pitch and at
/// dy + i * pitch.
template <class T, class Op>
struct BackwardTile {
    T* values;  ///< y; replaced by exp(y) if Op::kExp
    const T* dy;
    std::int64_t pitch, n;
    IntVec<T, kLanes<T>> argmax{};  ///< index of the largest class of each row; 0 if the maximum is NaN
    typename Op::Epilogue f{};

    SOFTLOSS_INLINE static auto splat_index(std::int64_t i) {
        return splat<IntVec<T, kLanes<T>>>(static_cast<typename IntOf<T>::type>(i));
    }
    /// Sets argmax and returns dy of the largest class. Goes backwards, so that the first of equals stays.
    SOFTLOSS_INLINE V<T> find_argmax(V<T> maximum) {
        V<T> dy_max = load<V<T>>(dy);
        for (std::int64_t i = n; i-- > 0;) {
            const auto hit = equal(load<V<T>>(values + i * pitch), maximum);
            dy_max = select(hit, load<V<T>>(dy + i * pitch), dy_max);
            argmax = select(hit, splat_index(i), argmax);
        }
        return dy_max;
    }
    /// Element i of y (of exponentials if `in_exps`) and of dy: 0 where it adds nothing.
    SOFTLOSS_INLINE Operands<T> operands(std::int64_t i, bool in_exps) {
        V<T> v = load<V<T>>(values + i * pitch), d = load<V<T>>(dy + i * pitch);
        if constexpr (Op::kExp) {
            if (!in_exps) {
                v = Op::value(v);
                store(values + i * pitch, v);
            }
            const V<T> zero = splat<V<T>>(0);
            const auto largest = equal(argmax, splat_index(i));
            v = select(largest, zero, v);
            d = select(largest, zero, d);
        }
        return {v, d};
    }
    /// In the order of the rows along the vectors. Advances the prefetch cursors.
    template <bool TwoByTwo>
    SOFTLOSS_INLINE auto totals(V<T> dy_max, bool in_exps, PairedCursors& cursors) {
        return join_stripes<T>(
                   n,
                   [&](std::int64_t first, int step) SOFTLOSS_LAMBDA {
                       PairedSums<T, Op::kSums> stripe;
                       const auto at = [&](std::int64_t i) SOFTLOSS_LAMBDA {
                           cursors.operands.fetch();
                           cursors.result.fetch();
                           return operands(i, in_exps);
                       };
                       std::int64_t i = first;
                       if constexpr (TwoByTwo) {
                           for (; i < n; i += 2 * step) {
                               const Operands<T> a = at(i);
                               Op::add_two(stripe, a, i + step < n ? at(i + step) : no_operands<T>(), dy_max);
                           }
                       } else {
                           for (; i < n; i += step) Op::add(stripe, at(i), dy_max);
                       }
                       return stripe;
                   })
            .totals();
    }
    /// Element by element, where `again`; values holds exponentials if Op::kExp.
    [[gnu::noinline, gnu::cold]] void sum_again(Vec<std::int64_t, kLanes<T>> again, V<T> dy_max,
                                                PairedCursors cursors, PairedTotals<T, Op::kSums>& sums) {
        sums = select(again, totals<false>(dy_max, true, cursors), sums);
    }
    /// Passes 1 to 3 for `count` rows.
    [[gnu::noinline]] void sum(V<T> maximum, int count, PairedCursors& cursors) {
        const V<T> dy_max = find_argmax(maximum);
        const LargestClass<T> largest{maximum, dy_max};
        PairedCursors local = cursors;
        if (sizeof(T) == 8 || n < kShortRow) {
            f = Op::epilogue(largest, totals<false>(dy_max, false, local));
        } else {
            auto sums = totals<true>(dy_max, false, local);
            const auto again = unusual<Op>(largest, sums, count);
            if (any(again)) sum_again(again, dy_max, local, sums);
            f = Op::epilogue(largest, sums);
        }
        cursors = local;
    }
    /// dx of element i; v: the vector of `values`.
    SOFTLOSS_INLINE V<T> result(std::int64_t i, V<T> v) const {
        V<T> r = f(v, load<V<T>>(dy + i * pitch));
        if constexpr (Op::kExp) r = select(equal(argmax, splat_index(i)), f.dx_max, r);
        return canonical(r);
    }
};

/// y, dy, dx: (rows, n) across the vectors.
template <class T, BackwardOp<T> Op>
[[gnu::noinline]] void backward_across(const Storage<T>& storage, const BackwardRows& c, std::int64_t rows,
                                       std::int64_t n, const RowOptions& options) {
    constexpr int W = kLanes<T>;
    T* const y_tile = static_cast<T*>(options.scratch);
    T* const dy_tile = y_tile + kTileBytes / sizeof(T);
    T* const packed = dy_tile + kTileBytes / sizeof(T);
    const int groups = groups_of_tile<T>(c.y, storage.size, n), tile_rows = groups * W;
    const std::int64_t pitch =
        (groups | 1) * W;  // an odd number of vectors: powers of two use few cache sets
    const bool in_place = c.dx.data == c.y.data || c.dx.data == c.dy.data;
    // Every tile begins at a cache line, so that each line is written whole.
    const bool nontemporal = options.nontemporal && (reinterpret_cast<std::uintptr_t>(c.dx.data) |
                                                     c.dx.element_stride | (tile_rows * storage.size)) %
                                                            64 ==
                                                        0;
    struct Constants {
        V<T> maxima[kMaxGroups];
        BackwardTile<T, Op> tiles[kMaxGroups];
    };
    // No structured binding: lambdas of Clang 15 cannot capture one.
    Constants& constants = tile_constants<Constants>(options.scratch);
    V<T>* const maxima = constants.maxima;
    BackwardTile<T, Op>* const tiles = constants.tiles;
    for (std::int64_t first = 0; first < rows; first += tile_rows) {
        const int count = static_cast<int>(rows - first < tile_rows ? rows - first : tile_rows);
        const bool more = first + count < rows;
        load_groups(storage, rows_from(c.y, first), count, n, y_tile, pitch, packed, more, maxima);
        load_groups<T>(storage, rows_from(c.dy, first), count, n, dy_tile, pitch, packed, more, nullptr);
        const auto next_tile = [&](const RowsIn& operand) SOFTLOSS_LAMBDA {
            return PrefetchCursor::next(operand, first + count, count, n, storage.size, more);
        };
        PairedCursors cursors{
            {next_tile(c.y), next_tile(c.dy)},
            PrefetchCursor::results(rows_from(c.dx, first), count, n, storage.size, nontemporal)};
        for (int g = 0; g * W < count; ++g) {
            tiles[g] = {y_tile + g * W, dy_tile + g * W, pitch, n};
            tiles[g].sum(maxima[g], rows_of_group<T>(count, g), cursors);
        }
        // In place, a store beyond this tile would overwrite rows that are still to be read.
        const TileWriter<T> write{storage, pitch, count, n, packed, more && !in_place, nontemporal};
        write(y_tile, y_tile, rows_from(c.dx, first),
              [&](int g, std::int64_t i, V<T> v) SOFTLOSS_LAMBDA { return tiles[g].result(i, v); });
    }
}

/// y, dy -> dx: (rows, n), any layout with n <= kMaxTile, or longer rows of adjacent elements. Op:
/// SoftmaxBackward or LogSoftmaxBackward.
template <class S, template <class> class Op>
void backward_rows(const BackwardRows& c, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    const auto adjacent = [](const auto& operand)
                              SOFTLOSS_LAMBDA { return operand.element_stride == sizeof(S); };
    if (n >= kShortRow && adjacent(c.y) && adjacent(c.dy) && adjacent(c.dx))
        backward_along<S, Op<T>>(c, rows, n, options);
    else backward_across<T, Op<T>>(kStorage<S>, c, rows, n, options);
    if (options.nontemporal) fence();
}

}  // namespace
}  // namespace softloss
