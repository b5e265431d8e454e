// Drivers for ops of two operands: rows of x and of a second array, read together along or across the
// vectors.
//
// Lives here: the passes over groups of rows and over tiles of both operands. Must not: what is computed from
// the elements (the ops: soft_targets.hpp, probability_loss.hpp, weighted_logsumexp.hpp, divergence.hpp),
// layouts that the kernels cannot read (the callers stage such rows).
//
// Shapes: x, second, grad, hess (rows, n); loss (rows). The passes over a group of rows, or over a tile,
// which stays in the caches from one pass to the next:
//   1. the maximum of x                                                     (where the op wants it)
//   2. the statistics of row_stats.hpp, and exponentials for the gradient    (where the op wants them)
//   3. the op's sums over both operands, in the order of reduce.hpp; again for rows that need it
//   4. the op's results of each row
//   5. the Hessian and the gradient                                         (where the caller wants them)
//
// PairedOp (paired_op.hpp) lists what an op has. Only x has statistics: what an op needs of the second
// operand as a whole, beyond its maximum, it forms as a sum in pass 3, or gets from the caller.
#pragma once

#include "paired_op.hpp"

namespace softloss {
namespace {

// ---- rows along the vectors ------------------------------------------------------------------------------

/// Whether pass 3 fetches the rows that follow. Where there are statistics, their pass does.
template <class Op>
constexpr bool kFetchesNext = !Op::kExps && (Op::kMaximum == Maximum::all || Op::kMaximum == Maximum::both);

/// The second operand of a row along the vectors: at(i, valid) is a vector of its elements or, with labels,
/// the mask of the lane that holds the label.
template <class S, Second Kind>
struct SecondRow {
    using T = Compute<S>;
    const S* data;
    std::int64_t label;

    SOFTLOSS_INLINE SecondRow(const PairedRows& c, std::int64_t row)
        : data(reinterpret_cast<const S*>(c.second.data + row * c.second.row_stride)),
          label(Kind == Second::labels ? c.label[row] : -1) {}
    SOFTLOSS_INLINE auto at(std::int64_t i, int valid) const {
        if constexpr (Kind == Second::none) {
            return Nothing{};
        } else if constexpr (Kind == Second::labels) {
            using I = IntVec<T, kLanes<T>>;
            const std::int64_t lane = label - i;
            const bool here = lane >= 0 && lane < valid;
            return equal(iota<I>(), splat<I>(static_cast<typename IntOf<T>::type>(here ? lane : -1)));
        } else {
            return load_some(data + i, valid);
        }
    }
};

/// x, second: (n) adjacent elements -> a vector whose largest lane is the maximum of the elements whose
/// second operand is not 0; -inf without any.
template <class S>
SOFTLOSS_INLINE V<Compute<S>> counted_max(const S* x, const S* second, std::int64_t n) {
    using T = Compute<S>;
    const V<T> none = splat<V<T>>(-__builtin_inff());
    V<T> m = none;
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        const auto counts = not_equal(load_some(second + i, valid), splat<V<T>>(0));
        m = max(m, select(counts, load_some(x + i, valid), none));
    });
    return m;
}

/// The row of x, and of the second operand, that is read next: fetched into the second-level cache meanwhile.
template <class S>
struct NextRow {
    const S *x, *second;
    SOFTLOSS_INLINE void fetch(std::int64_t i) const {
        prefetch(reinterpret_cast<const char*>(x + i), true);
        prefetch(reinterpret_cast<const char*>(second + i), true);
    }
};

/// x: (n) adjacent elements -> the sums of the row, one stripe per lane. exps: where term exponentials go,
/// or null.
template <class S, class Op>
SOFTLOSS_INLINE typename Op::Sums paired_sums(const Op& op, const S* x,
                                              const SecondRow<S, Op::kSecond>& second, std::int64_t n,
                                              const typename Op::Centre& centre,
                                              [[maybe_unused]] Compute<S>* exps,
                                              [[maybe_unused]] const NextRow<S>& next) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    typename Op::Sums sums;
    op.with_terms(centre, [&](const auto& add) SOFTLOSS_LAMBDA {
        for_each_vector<W>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            V<T> v = load_some(x + i, valid);
            auto q = second.at(i, valid);
            D<T> w = weights_at<T>(op.weights(), i);
            if (valid < W) {
                const auto inside = first_lanes<IntVec<T, W>>(valid);
                v = select(inside, v, centre.x);
                if constexpr (Op::kMaximum == Maximum::both) q = select(inside, q, centre.second);
                w = keep_first(w, valid);
            }
            if constexpr (kFetchesNext<Op>) next.fetch(i);
            if constexpr (Op::kTermExps) {
                const TermExps<T> e = add(sums, v, q, w);
                if (!exps) return;
                store(exps + i, e.x);
                store(exps + kBetweenExps<T> + i, e.second);
            } else {
                add(sums, v, q, w);
            }
        });
    });
    return sums;
}

/// Collects the sums of up to W rows along the vectors: put() takes those of one row, totals() has one row
/// per lane.
template <class T, int K>
struct SumsOfRows {
    static constexpr int W = kLanes<T>;
    double value[K][W] = {}, error[K][W] = {};

    SOFTLOSS_INLINE void put(int r, const auto& sums) {
        for (int k = 0; k < K; ++k) {
            const Sum sum = sums.of[k].parts();
            value[k][r] = sum.value;
            error[k][r] = sum.error;
        }
    }
    SOFTLOSS_INLINE PairedTotals<T, K> totals() const {
        PairedTotals<T, K> all;
        for (int k = 0; k < K; ++k) all.of[k] = {load<D<T>>(value[k]), load<D<T>>(error[k])};
        return all;
    }
};

/// Stores the gradient of one row along the vectors. exps: its exponentials; if null, they are computed a
/// second time.
template <class S, class Op>
SOFTLOSS_INLINE void paired_gradient(const Op& op, const typename Op::Epilogue& f, std::int64_t row,
                                     std::int64_t n, const typename Op::Centre& centre,
                                     const Compute<S>* exps, bool nontemporal) {
    using T = Compute<S>;
    const PairedRows& c = op.c;
    const SecondRow<S, Op::kSecond> second(c, row);
    S* const y = reinterpret_cast<S*>(c.grad.data + row * c.grad.row_stride);
    const S* const x = reinterpret_cast<const S*>(c.x.data + row * c.x.row_stride);
    const auto store_from = [&](auto value_of, auto second_of) SOFTLOSS_LAMBDA {
        store_results(y, n, nontemporal, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            return op.gradient(f, value_of(i, valid), second_of(i, valid), weights_at<T>(op.weights(), i));
        });
    };
    const auto kept = [&](std::int64_t i, int) SOFTLOSS_LAMBDA { return load<V<T>>(exps + i); };
    const auto element = [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA { return load_some(x + i, valid); };
    const auto second_element = [&](std::int64_t i, int valid)
                                    SOFTLOSS_LAMBDA { return second.at(i, valid); };
    if constexpr (Op::kTermExps) {
        if (exps) {
            store_from(kept, [&](std::int64_t i, int)
                                 SOFTLOSS_LAMBDA { return load<V<T>>(exps + kBetweenExps<T> + i); });
        } else {
            op.with_terms(centre, [&](const auto& add) SOFTLOSS_LAMBDA {
                store_results(y, n, nontemporal, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
                    typename Op::Sums unused;
                    const D<T> w = splat<D<T>>(1);
                    const TermExps<T> e = add(unused, element(i, valid), second.at(i, valid), w);
                    return op.gradient(f, e.x, e.second, w);
                });
            });
        }
    } else if constexpr (!Op::kExps) {
        store_from(element, second_element);
    } else if (exps) {
        store_from(kept, second_element);
    } else {
        with_exp_shift<T>(centre.x, op.temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
            store_from([&](std::int64_t i, int valid)
                           SOFTLOSS_LAMBDA { return shift.exp(element(i, valid)).value(); },
                       second_element);
        });
    }
}

/// True if the op has a Hessian of rows stored as S: rows of float16 and bfloat16 are staged for it.
template <class Op, class S>
constexpr bool kHasHessian = sizeof(S) == sizeof(Compute<S>) && PairedHessian<Op, Compute<S>>;

/// The Hessian of one row along the vectors. exps: as for the gradient.
template <class S>
[[gnu::noinline]] void paired_hessian(const PairedRows& c, const Curvature<Compute<S>>& h, std::int64_t row,
                                      std::int64_t n, V<Compute<S>> maximum,
                                      const Temperature<Compute<S>>& temperature, const Compute<S>* exps,
                                      bool nontemporal) {
    using T = Compute<S>;
    S* const y = reinterpret_cast<S*>(c.hess.data + row * c.hess.row_stride);
    const S* const x = reinterpret_cast<const S*>(c.x.data + row * c.x.row_stride);
    const auto store_from = [&](auto exp_of) SOFTLOSS_LAMBDA {
        store_results(y, n, nontemporal, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            const V<T> value = h(exp_of(i, valid));
            return h.may_be_nan ? h.canonical_result(value) : value;
        });
    };
    if (exps) return store_from([&](std::int64_t i, int) SOFTLOSS_LAMBDA { return load<V<T>>(exps + i); });
    with_exp_shift<T>(maximum, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
        store_from([&](std::int64_t i, int valid)
                       SOFTLOSS_LAMBDA { return shift.exp(load_some(x + i, valid)).value(); });
    });
}

/// The maxima of `count` <= W rows along the vectors from row `first` on, one per lane. Adding 0 turns -0
/// into 0.
template <class S, class Op>
SOFTLOSS_INLINE V<Compute<S>> paired_max(const Op& op, std::int64_t first, int count, std::int64_t n) {
    using T = Compute<S>;
    if constexpr (Op::kMaximum == Maximum::none) {
        return op.without_maximum();
    } else if constexpr (Op::kMaximum != Maximum::counted) {
        return rows_max<S>(op.c.x, first, first + count, count, n);
    } else {
        V<T> maximum[kLanes<T>];
        for (V<T>& m : maximum) m = splat<V<T>>(0);
        for (int r = 0; r < count; ++r)
            maximum[r] = counted_max(
                reinterpret_cast<const S*>(op.c.x.data + (first + r) * op.c.x.row_stride),
                reinterpret_cast<const S*>(op.c.second.data + (first + r) * op.c.second.row_stride), n);
        return fold_max<T>(maximum) + splat<V<T>>(0);
    }
}

/// The centre of rows with these maxima of x; second_max() gives those of the second operand.
template <class Op, class Maxima, class F>
SOFTLOSS_INLINE typename Op::Centre centre_of(const Maxima& x, F second_max) {
    if constexpr (Op::kMaximum == Maximum::both) return {x, second_max()};
    else return {x};
}

/// The sums of `count` <= W rows along the vectors from row `first` on. next: the first row of those that are
/// read next.
template <class S, class Op>
SOFTLOSS_INLINE auto sums_along(const Op& op, std::int64_t first, int count, std::int64_t n,
                                typename Op::Centre& centre, Compute<S>* exps, std::int64_t pitch,
                                std::int64_t next) {
    using T = Compute<S>;
    const PairedRows& c = op.c;
    SumsOfRows<T, Op::Sums::kCount> sums;
    const auto elements = [](const RowsIn& rows, std::int64_t r) SOFTLOSS_LAMBDA {
        return reinterpret_cast<const S*>(rows.data + r * rows.row_stride);
    };
    const auto put = [&](int r) SOFTLOSS_LAMBDA {
        const RowsIn& beside = Op::kSecond == Second::array ? c.second : c.x;
        const NextRow<S> after{elements(c.x, next + r), elements(beside, next + r)};
        sums.put(r, paired_sums<S>(op, elements(c.x, first + r), SecondRow<S, Op::kSecond>(c, first + r), n,
                                   centre.row(r), exps ? exps + r * pitch : nullptr, after));
    };
    for (int r = 0; c.loss && r < count; ++r) put(r);
    if constexpr (Op::kAgain) {
        Vec<std::int64_t, kLanes<T>> rows;
        if (op.again(sums.totals(), centre, rows)) {
            std::int64_t lanes[kLanes<T>];
            store(lanes, rows);
            for (int r = 0; r < count; ++r) {
                if (lanes[r]) put(r);
            }
        }
    }
    return sums.totals();
}

/// x, second, grad: (rows, n) along the vectors. grad may be x. A pass takes a group of rows, as many as
/// fit into the first-level cache.
template <class S, PairedOp<Compute<S>> Op>
[[gnu::noinline]] void paired_along(const Op& op, std::int64_t rows, std::int64_t n,
                                    const RowOptions& options) {
    using T = Compute<S>;
    constexpr int W = kLanes<T>;
    const PairedRows& c = op.c;
    const bool buffered = c.grad.data && fits_exp_buffer<T>(n);
    T* const exps = buffered ? static_cast<T*>(options.scratch) : nullptr;
    const bool nontemporal = options.nontemporal && n * std::int64_t{sizeof(S)} >= kMinNontemporalRow;
    const std::int64_t pitch = ((n + W - 1) / W | 1) * W;
    const int group =
        n > kGroupElements ? 1 : static_cast<int>(kGroupElements / n < W ? kGroupElements / n : W);
    for (std::int64_t first = 0; first < rows; first += group) {
        const int count = static_cast<int>(rows - first < group ? rows - first : group);
        const std::int64_t following = first + 2 * group <= rows ? first + group : first;
        const RowsIn x{c.x.data + first * c.x.row_stride, c.x.row_stride, c.x.element_stride};
        Stats<T> stats;
        stats.maximum = paired_max<S>(op, first, count, n);
        auto centre = centre_of<Op>(stats.maximum, [&]() SOFTLOSS_LAMBDA {
            return rows_max<S>(c.second, first, first + count, count, n);
        });
        if constexpr (Op::kExps) {
            // Prefetches the next rows of x, and the second operand of these rows.
            const char* const next = c.x.data + following * c.x.row_stride;
            RowsOut fetched{const_cast<char*>(next), x.row_stride, x.element_stride};
            if constexpr (Op::kSecond == Second::array)
                fetched = {const_cast<char*>(c.second.data) + first * c.second.row_stride,
                           c.second.row_stride, sizeof(S)};
            rows_stats<true, S>(x, count, n, stats.maximum, op.temperature, exps, pitch, stats, next,
                                fetched);
        }
        const auto sums =
            sums_along<S>(op, first, count, n, centre, Op::kTermExps ? exps : nullptr, pitch, following);
        const auto totals = op.totals(sums, stats, first, count);
        if (c.loss) store_lanes(c.loss + first, op.results(stats, totals), count);
        if constexpr (kHasHessian<Op, S>) {
            if (c.hess.data) {
                Curvature<T> h;
                op.curvature(stats, totals, first, count, h);
                for (int r = 0; r < count; ++r)
                    paired_hessian<S>(c, h.row(r), first + r, n, spread(stats.maximum, r), op.temperature,
                                      buffered ? exps + r * pitch : nullptr, nontemporal);
            }
        }
        if constexpr (Op::kGradient) {
            if (!c.grad.data) continue;
            typename Op::Epilogue f;
            op.epilogue(stats, totals, first, count, f);
            for (int r = 0; r < count; ++r)
                paired_gradient<S>(op, f.row(r), first + r, n, centre.row(r),
                                   buffered ? exps + r * pitch : nullptr, nontemporal);
        }
    }
}

// ---- rows across the vectors -----------------------------------------------------------------------------

/// The second operand of W rows across the vectors: at(i) is the vector of element i or, with labels, the
/// mask of the rows whose label is i.
template <class T, Second Kind>
struct SecondTile {
    using I = IntVec<T, kLanes<T>>;
    const T* tile;
    std::int64_t pitch;
    I label;

    /// Lanes without a row get -1, which is no element.
    SOFTLOSS_INLINE void read_labels(const std::int64_t* labels, int count) {
        std::int64_t lanes[kLanes<T>];
        for (int r = 0; r < kLanes<T>; ++r) lanes[r] = r < count ? labels[r] : -1;
        label = convert<typename IntOf<T>::type>(load<Vec<std::int64_t, kLanes<T>>>(lanes));
    }
    SOFTLOSS_INLINE auto at(std::int64_t i) const {
        if constexpr (Kind == Second::none) return Nothing{};
        else if constexpr (Kind == Second::labels)
            return equal(label, splat<I>(static_cast<typename IntOf<T>::type>(i)));
        else return load<V<T>>(tile + i * pitch);
    }
};

/// The sums of W rows in a tile, in the same order as for rows along the vectors. exps: where the
/// exponentials of the terms go, laid out like the tile; may be null. cursors: over the next tile of both
/// operands, unless the pass over the exponentials has fetched it, and over the gradient of this tile.
template <class Op, class T>
[[gnu::noinline]] PairedTotals<T, Op::Sums::kCount> tile_paired_sums(
    const Op& op, const T* tile, std::int64_t pitch, const SecondTile<T, Op::kSecond>& second, std::int64_t n,
    const typename Op::Centre& centre, [[maybe_unused]] T* exps, PairedCursors& cursors) {
    using Sums = typename Op::Sums;
    PairedTotals<T, Op::Sums::kCount> totals;
    PairedCursors local = cursors;
    op.with_terms(centre, [&](const auto& add) SOFTLOSS_LAMBDA {
        totals = join_stripes<T>(n, [&](std::int64_t first, int step) SOFTLOSS_LAMBDA {
                     Sums sums;
                     for (std::int64_t i = first; i < n; i += step) {
                         if constexpr (!Op::kExps) local.operands.fetch();
                         if constexpr (Op::kGradient) local.result.fetch();
                         const V<T> x = load<V<T>>(tile + i * pitch);
                         const D<T> w = weight_of<T>(op.weights(), i);
                         if constexpr (Op::kTermExps) {
                             const TermExps<T> e = add(sums, x, second.at(i), w);
                             if (!exps) continue;
                             store(exps + i * pitch, e.x);
                             store(exps + kBetweenExps<T> + i * pitch, e.second);
                         } else {
                             add(sums, x, second.at(i), w);
                         }
                     }
                     return sums;
                 }).totals();
    });
    cursors = local;
    return totals;
}

/// The maxima of W rows in a tile, of the elements whose second operand is not 0.
template <class T>
SOFTLOSS_INLINE V<T> tile_counted_max(const T* tile, const T* second, std::int64_t pitch, std::int64_t n) {
    const V<T> none = splat<V<T>>(-__builtin_inff());
    V<T> m = none;
    for (std::int64_t i = 0; i < n; ++i)
        m = max(m, select(not_equal(load<V<T>>(second + i * pitch), splat<V<T>>(0)),
                          load<V<T>>(tile + i * pitch), none));
    return m + splat<V<T>>(0);
}

/// The Hessians of the rows of a tile of exponentials; `free` is a tile that may be overwritten.
template <class T>
[[gnu::noinline]] void write_paired_hessian(const TileWriter<T>& write, const T* exps, T* free,
                                            const RowsOut& hess, const Curvature<T>* curvatures) {
    write(exps, free, hess, [&](int g, std::int64_t, V<T> e) SOFTLOSS_LAMBDA {
        const Curvature<T>& h = curvatures[g];
        const V<T> value = h(e);
        return h.may_be_nan ? h.canonical_result(value) : value;
    });
}

/// x, second, grad: (rows, n) across the vectors, n <= kMaxTile. grad may be x. Scratch memory: four tiles
/// (x, exponentials, exponentials of second, second), memory to pack short rows, the constants of groups.
template <class T, PairedOp<T> Op>
[[gnu::noinline]] void paired_across(const Storage<T>& storage, const Op& op, std::int64_t rows,
                                     std::int64_t n, const RowOptions& options) {
    constexpr int W = kLanes<T>;
    const PairedRows& c = op.c;
    T* const tile = static_cast<T*>(options.scratch);
    T* const exps = tile + kTileBytes / sizeof(T);
    T* const seconds = exps + 2 * kBetweenExps<T>;
    T* const packed = seconds + kTileBytes / sizeof(T);
    const int groups = groups_of_tile<T>(c.x, storage.size, n), tile_rows = groups * W;
    const std::int64_t pitch =
        (groups | 1) * W;  // an odd number of vectors: powers of two use few cache sets
    struct Constants {
        V<T> maxima[kMaxGroups], second_maxima[kMaxGroups];
        typename Op::Epilogue epilogues[kMaxGroups];
        SecondTile<T, Op::kSecond> seconds[kMaxGroups];
        Select<kHasHessian<Op, T>, Curvature<T>, Nothing> curvatures[kMaxGroups];
    };
    // No structured binding: lambdas of Clang 15 cannot capture one.
    Constants& constants = tile_constants<Constants>(options.scratch);
    V<T>* const maxima = constants.maxima;
    V<T>* const second_maxima = constants.second_maxima;
    typename Op::Epilogue* const epilogues = constants.epilogues;
    SecondTile<T, Op::kSecond>* const second_tiles = constants.seconds;
    auto* const curvatures = constants.curvatures;
    for (std::int64_t first = 0; first < rows; first += tile_rows) {
        const int count = static_cast<int>(rows - first < tile_rows ? rows - first : tile_rows);
        const bool more = first + count < rows;
        load_groups(storage, rows_from(c.x, first), count, n, tile, pitch, packed, more,
                    Op::kMaximum == Maximum::all || Op::kMaximum == Maximum::both ? maxima : nullptr);
        if constexpr (Op::kSecond == Second::array)
            load_groups<T>(storage, rows_from(c.second, first), count, n, seconds, pitch, packed, more,
                           Op::kMaximum == Maximum::both ? second_maxima : nullptr);
        const PrefetchCursor nothing = PrefetchCursor::stay(c.x.data);
        PairedCursors cursors{
            {PrefetchCursor::next(c.x, first + count, count, n, storage.size, more), nothing}, nothing};
        if (Op::kGradient && c.grad.data)
            cursors.result = PrefetchCursor::results(rows_from(c.grad, first), count, n, storage.size, false);
        if constexpr (Op::kSecond == Second::array)
            cursors.operands.out =
                PrefetchCursor::next(c.second, first + count, count, n, storage.size, more);
        for (int g = 0; g * W < count; ++g) {
            const int group_rows = rows_of_group<T>(count, g);
            auto& second = second_tiles[g];
            second.tile = seconds + g * W;
            second.pitch = pitch;
            if constexpr (Op::kSecond == Second::labels)
                second.read_labels(c.label + first + g * W, group_rows);
            Stats<T> stats;
            if constexpr (Op::kMaximum == Maximum::none) stats.maximum = op.without_maximum();
            else if constexpr (Op::kMaximum == Maximum::counted)
                stats.maximum = tile_counted_max(tile + g * W, second.tile, pitch, n);
            else stats.maximum = maxima[g];
            auto centre = centre_of<Op>(stats.maximum, [&]() SOFTLOSS_LAMBDA { return second_maxima[g]; });
            if constexpr (Op::kExps)
                tile_stats<true>(tile + g * W, exps + g * W, pitch, n, stats.maximum, op.temperature,
                                 cursors.operands, stats);
            PairedTotals<T, Op::Sums::kCount> sums{};
            const auto sum = [&]() SOFTLOSS_LAMBDA {
                sums = tile_paired_sums(op, tile + g * W, pitch, second, n, centre,
                                        c.grad.data ? exps + g * W : nullptr, cursors);
            };
            if (c.loss) sum();
            if constexpr (Op::kAgain) {
                Vec<std::int64_t, W> again;
                if (op.again(sums, centre, again)) sum();  // rows whose centre stays have the same sums
            }
            const auto totals = op.totals(sums, stats, first + g * W, group_rows);
            if (c.loss) store_lanes(c.loss + first + g * W, op.results(stats, totals), group_rows);
            if constexpr (Op::kGradient) {
                if (c.grad.data) op.epilogue(stats, totals, first + g * W, group_rows, epilogues[g]);
            }
            if constexpr (Op::kTermExps) second.tile = exps + kBetweenExps<T> + g * W;
            if constexpr (kHasHessian<Op, T>) {
                if (c.hess.data) op.curvature(stats, totals, first + g * W, group_rows, curvatures[g]);
            }
        }
        if constexpr (kHasHessian<Op, T>) {
            if (c.hess.data)
                write_paired_hessian(TileWriter<T>{storage, pitch, count, n, packed, more, false}, exps, tile,
                                     rows_from(c.hess, first), curvatures);
        }
        if constexpr (Op::kGradient) {
            if (!c.grad.data) continue;
            const TileWriter<T> write{storage, pitch, count, n, packed, more && c.x.data != c.grad.data,
                                      false};
            constexpr bool kFromExps = Op::kExps || Op::kTermExps;
            write(kFromExps ? exps : tile, kFromExps ? tile : exps, rows_from(c.grad, first),
                  [&](int g, std::int64_t i, V<T> v) SOFTLOSS_LAMBDA {
                      return op.gradient(epilogues[g], v, second_tiles[g].at(i),
                                         weight_of<T>(op.weights(), i));
                  });
        }
    }
}

/// Long rows of adjacent elements run along the vectors, all others across them.
template <class S, PairedOp<Compute<S>> Op>
void run_paired(const Op& op, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    const PairedRows& c = op.c;
    const auto adjacent = [](const auto& operand) SOFTLOSS_LAMBDA {
        return !operand.data || operand.element_stride == sizeof(S);
    };
    if (n >= kShortRow && adjacent(c.x) && adjacent(c.second) && adjacent(c.grad) && adjacent(c.hess))
        paired_along<S>(op, rows, n, options);
    else paired_across<T>(kStorage<S>, op, rows, n, options);
    if (options.nontemporal) fence();
}

}  // namespace
}  // namespace softloss
