// Scores of rows: argmax, rank of the label, log-probability, entropy, the k largest with their
// probabilities.
//
// Lives here: kernels of softmax_topk and token_logprobs. Must not: loops over rows (the drivers), layouts
// that the kernels do not read (the callers stage them).
//
// Shapes: x (rows, n); all scores (rows); lists of the k largest (k, rows) for short rows, (k) for one long
// row.
//   logprob = -((max - x[label]) / T + L),  L as in softmax.hpp, T: the temperature
//   rank    = 1 + the number of elements above x[label]
//   entropy = L + sum(e (max - x)) / (T sum(e)),  e = exp(x / T)
// The entropy is usually written logsumexp(x / T) - sum(p x) / T. As above, both of its terms are >= 0, so
// nothing cancels.
//
// The drivers form sum(e) as softmax needs it. The entropy needs it a second time, beside sum(e (max - x)),
// with W stripes also for rows shorter than kShortRow: rows in a tile and rows along the vectors then have
// the same bits.
#pragma once

#include "class_loss.hpp"

namespace softloss {
namespace {

// ---- scores of token_logprobs ----------------------------------------------------------------------------

/// Accumulators of sum(e) and sum(e (max - x)), the gap to the maximum scaled by Temperature::scale. Each
/// lane is a stripe of one row, or one stripe of a row of its own.
template <class T>
struct GapSums {
    ExpSum<V<T>> exps;
    V<T> gaps = splat<V<T>>(0);

    template <Range R>
    SOFTLOSS_INLINE void add(V<T> x, const ExpParts<V<T>>& e, const ExpShift<T, R>& shift) {
        exps.add(e);
        const V<T> scale = splat<V<T>>(shift.temperature.scale);
        const auto scaled = [&](V<T> d) SOFTLOSS_LAMBDA { return R == Range::near ? d : d * scale; };
        gaps = fma(e.value(),
                   scaled(shift.maximum - shift.offset) - max(shift.least, scaled(x - shift.offset)), gaps);
    }
};

/// The scores that need a pass over the row: of W rows in a tile, one per lane, or of one row.
template <class Count, class Real>
struct ScoreParts {
    Count argmax;   ///< index of the first maximum; of the first NaN if there is one
    Count greater;  ///< how many elements are above that of the label
    Real gap;       ///< sum(e (max - x)) / sum(e), times Temperature::scale
};
template <class T>
using TileScoreParts = ScoreParts<IntVec<T, kLanes<T>>, D<T>>;
using RowScoreParts = ScoreParts<std::int64_t, double>;

/// stats.tile: (n) vectors. value: the elements at the labels. A search for NaN takes a pass of its own, made
/// only with `may_hold_nan`. Loops go backwards so that the first of equals stays.
template <class T>
[[gnu::noinline]] TileScoreParts<T> tile_score_parts(const Stats<T>& stats, std::int64_t n, V<T> value,
                                                     bool may_hold_nan, const Temperature<T>& temperature) {
    using I = IntVec<T, kLanes<T>>;
    using Index = typename IntOf<T>::type;
    constexpr int W = kLanes<T>;
    const auto element = [&](std::int64_t i)
                             SOFTLOSS_LAMBDA { return load<V<T>>(stats.tile + i * stats.pitch); };
    TileScoreParts<T> found{splat<I>(0), splat<I>(0), {}};
    for (std::int64_t i = n; i-- > 0;) {
        const V<T> x = element(i);
        found.argmax = select(equal(x, stats.maximum), splat<I>(static_cast<Index>(i)), found.argmax);
        found.greater = found.greater - less(value, x);
    }
    for (std::int64_t i = may_hold_nan ? n : 0; i-- > 0;)
        found.argmax =
            select(not_equal(element(i), element(i)), splat<I>(static_cast<Index>(i)), found.argmax);
    with_exp_shift<T>(stats.maximum, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
        Pair<V<T>> exps[W], gaps[W];
        for (std::int64_t chunk = 0; chunk < n; chunk += kChunk<T>) {
            const std::int64_t end = n - chunk < kChunk<T> ? n : chunk + kChunk<T>;
            for (std::int64_t j = 0; j < W && chunk + j < end; ++j) {
                GapSums<T> sums;
                for (std::int64_t i = chunk + j; i < end; i += W)
                    sums.add(element(i), shift.exp(element(i)), shift);
                const Pair<V<T>> exp = sums.exps.total(), gap{sums.gaps, splat<V<T>>(0)};
                exps[j] = chunk == 0 ? exp : exps[j] + exp;
                gaps[j] = chunk == 0 ? gap : gaps[j] + gap;
            }
        }
        const int stripes = n < W ? static_cast<int>(n) : W;
        const auto gap = fold_stripes<T>(gaps, stripes), sum = fold_stripes<T>(exps, stripes);
        found.gap = (convert<double>(gap.hi) + convert<double>(gap.lo)) /
                    (convert<double>(sum.hi) + convert<double>(sum.lo));
    });
    return found;
}

/// The index of the first of n adjacent elements for which f(element) is true; n if there is none.
template <class S, class F>
SOFTLOSS_INLINE std::int64_t find_first(const S* x, std::int64_t n, F f) {
    std::int64_t i = 0;
    while (i < n && !f(load_one<S>(reinterpret_cast<const char*>(x + i)))) ++i;
    return i;
}

/// As tile_score_parts, for one row of n adjacent elements.
template <class S>
[[gnu::noinline]] RowScoreParts row_score_parts(const char* row, std::int64_t n, Compute<S> maximum,
                                                Compute<S> value, bool may_hold_nan,
                                                const Temperature<Compute<S>>& temperature) {
    using T = Compute<S>;
    using I = IntVec<T, kLanes<T>>;
    constexpr int W = kLanes<T>;
    const S* const x = reinterpret_cast<const S*>(row);
    const V<T> top = splat<V<T>>(maximum), v = splat<V<T>>(value);
    RowScoreParts found{n, 0, 0};
    with_exp_shift<T>(top, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
        Pair<V<T>> exps = splat_pair<V<T>>(0, 0), gaps = splat_pair<V<T>>(0, 0);
        for (std::int64_t chunk = 0; chunk < n; chunk += kChunk<T>) {
            const std::int64_t end = chunk + kChunk<T> < n ? chunk + kChunk<T> : n;
            GapSums<T> sums;
            I greater = splat<I>(0), is_max = splat<I>(0);
            const auto add = [&](auto elements) SOFTLOSS_LAMBDA {
                const auto exp = shift.exp(elements);
                for_each_part<W>(
                    [&](V<T> part, V<T> scale, V<T> fraction) SOFTLOSS_LAMBDA {
                        sums.add(part, {scale, fraction}, shift);
                        greater = greater - less(v, part);
                        is_max = is_max | equal(part, top);
                    },
                    elements, exp.scale, exp.fraction);
            };
            std::int64_t i = chunk;
            for (; kUnroll > 1 && i + kUnroll * W <= end; i += kUnroll * W)
                add(from_storage<kUnroll * W>(x + i));
            for (; i < end; i += W) {
                const int valid = static_cast<int>(end - i < W ? end - i : W);
                // Lanes beyond the row get -inf: its exponential is too small to change a sum.
                add(select(first_lanes<I>(valid), load_some(x + i, valid), splat<V<T>>(-__builtin_inff())));
            }
            exps = exps + sums.exps.total();
            gaps = gaps + Pair<V<T>>{sums.gaps, splat<V<T>>(0)};
            found.greater += fold(greater, [](auto a, auto b) SOFTLOSS_LAMBDA { return a + b; });
            if (found.argmax == n && any(is_max))  // the first chunk with a maximum
                found.argmax =
                    chunk + find_first(x + chunk, n - chunk, [&](T element) { return element == maximum; });
        }
        const Pair<T> gap = fold_lanes(gaps), sum = fold_lanes(exps);
        found.gap = (static_cast<double>(gap.hi) + gap.lo) / (static_cast<double>(sum.hi) + sum.lo);
    });
    if (!may_hold_nan) return found;
    const std::int64_t first_nan = find_first(x, n, [](T element) { return element != element; });
    if (first_nan < n) found.argmax = first_nan;
    return found;
}

/// Stores the scores of up to W rows, computed from their statistics and one more pass over them.
template <class T>
struct StoreScores {
    static constexpr int W = kLanes<T>;
    using Counts = Vec<std::int64_t, W>;
    const ScoreRows& c;
    double temperature;
    ClassLabels<T> labels;
    /// row_score_parts of the storage type: this op is compiled once per compute type.
    RowScoreParts (*parts_of_row)(const char* row, std::int64_t n, T maximum, T value, bool may_hold_nan,
                                  const Temperature<T>& temperature);

    [[gnu::noinline]] void operator()(const Stats<T>& stats, std::int64_t first, int count) const {
        const V<T> value = labels.logits(stats, first, count);
        const auto parts = log_rest<T>(stats);
        const V<T> rest = parts.hi + parts.lo;
        store_some(static_cast<T*>(c.maximum) + first, stats.maximum, count);
        store_some(static_cast<T*>(c.log_rest) + first, rest, count);
        const bool may_hold_nan = any_nan<T>(rest);  // a NaN in a row makes its sum NaN
        Counts argmax, greater;
        D<T> gap;
        if (stats.tile) {
            const auto found = tile_score_parts(stats, labels.n, value, may_hold_nan, labels.temperature);
            argmax = convert<std::int64_t>(found.argmax);
            greater = convert<std::int64_t>(found.greater);
            gap = found.gap;
        } else {
            rows_score_parts(stats.maximum, value, may_hold_nan, first, count, argmax, greater, gap);
        }
        const Counts zero = splat<Counts>(0);
        const auto kept =
            not_equal(less(labels.labels(first, count), zero), splat<Counts>(-1));  // label >= 0
        const D<T> logprob = -labels.loss(stats, value, parts).hi;
        store_lanes(c.logprob + first, select(kept, canonical(logprob), splat<D<T>>(0)), count);
        store_lanes(c.entropy + first, canonical(convert<double>(rest) + mean_gap(gap)), count);
        store_lanes(c.argmax + first, argmax, count);
        store_lanes(c.rank + first, select(kept, greater + splat<Counts>(1), zero), count);
    }

  private:
    /// The entropy's second term.
    SOFTLOSS_INLINE D<T> mean_gap(D<T> gap) const {
        const double divisor = temperature * static_cast<double>(labels.temperature.scale);
        return divisor == 1 ? gap : gap / splat<D<T>>(divisor);
    }
    /// The pass over rows along the vectors, row by row.
    void rows_score_parts(V<T> maxima, V<T> values, bool may_hold_nan, std::int64_t first, int count,
                          Counts& argmax, Counts& greater, D<T>& gap) const {
        T maximum[W], value[W];
        std::int64_t places[W] = {}, counts[W] = {};
        double gaps[W] = {};
        store(maximum, maxima);
        store(value, values);
        for (int r = 0; r < count; ++r) {
            const auto found = parts_of_row(c.x.data + (first + r) * c.x.row_stride, labels.n, maximum[r],
                                            value[r], may_hold_nan, labels.temperature);
            places[r] = found.argmax;
            counts[r] = found.greater;
            gaps[r] = found.gap;
        }
        argmax = load<Counts>(places);
        greater = load<Counts>(counts);
        gap = load<D<T>>(gaps);
    }
};

/// c.x: (rows, n), c.label: (rows) -> the scores of c: (rows).
template <class S>
void score_rows(const ScoreRows& c, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    const Temperature<T> temperature(options.temperature);
    ClassRows with_labels{};
    with_labels.x = c.x;
    with_labels.label = c.label;
    StatsOnly<T, StoreScores<T>> op{{c,
                                     options.temperature,
                                     {with_labels, kStorage<S>, temperature, options.temperature, n},
                                     row_score_parts<S>}};
    run_rows<S>(c.x, {}, {}, rows, n, options, op);
}

// ---- the k largest ---------------------------------------------------------------------------------------

/// The k largest of W rows in a tile, one row per lane -> value, index: (k), largest first, ties by index.
/// NaN counts as -inf. An insertion sort of all lanes at once.
template <class T>
SOFTLOSS_INLINE void top_of_tile(const Stats<T>& stats, std::int64_t n, std::int64_t k, V<T>* value,
                                 IntVec<T, kLanes<T>>* index) {
    using I = IntVec<T, kLanes<T>>;
    for (std::int64_t i = 0; i < n; ++i) {
        const V<T> given = load<V<T>>(stats.tile + i * stats.pitch);
        V<T> x = select(equal(given, given), given, splat<V<T>>(-__builtin_inff()));
        I place = splat<I>(static_cast<typename IntOf<T>::type>(i)), found = splat<I>(0);
        // Once an element is inserted (`found`), every later entry moves down by one, past equal ones too.
        const std::int64_t held = i < k ? i : k;
        for (std::int64_t j = 0; j < held; ++j) {
            const V<T> old = value[j];
            const I old_place = index[j];
            found = found | less(old, x);
            value[j] = select(found, x, old);
            index[j] = select(found, place, old_place);
            x = select(found, old, x);
            place = select(found, old_place, place);
        }
        if (i < k) {
            value[i] = x;
            index[i] = place;
        }
    }
}

/// The op of top_rows: stores the k largest of W rows, and their probabilities with the bits of softmax.
template <class T>
struct TopK {
    static constexpr bool kWithoutMax = false, kExp = false, kLabels = false;
    static constexpr int kResults = 0;
    const TopRows& c;
    const Temperature<T>& temperature;
    std::int64_t n;

    struct Epilogue {};
    [[gnu::noinline]] void epilogue(const Stats<T>& stats, std::int64_t first, int count, Epilogue&) const {
        V<T> value[kShortRow];
        IntVec<T, kLanes<T>> index[kShortRow];
        if (c.k == 1) top_of_tile(stats, n, 1, value, index);  // a constant: the list stays in registers
        else top_of_tile(stats, n, c.k, value, index);
        typename Softmax<T>::Epilogue share;
        Softmax<T>().epilogue(stats, first, count, share);
        with_exp_shift<T>(stats.maximum, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
            for (std::int64_t j = 0; j < c.k; ++j) {
                const std::int64_t at = j * c.pitch + first;
                const V<T> e = shift.exp(value[j]).value();
                if (c.value) store_some(static_cast<T*>(c.value) + at, value[j], count);
                if (c.prob) store_some(static_cast<T*>(c.prob) + at, canonical(share(e)), count);
                store_lanes(c.index + at, convert<std::int64_t>(index[j]), count);
            }
        });
    }
};

/// c.x: (rows, n), n < kShortRow -> c.value, c.prob, c.index: (k, rows).
template <class S>
void top_rows(const TopRows& c, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    const Temperature<T> temperature(options.temperature);
    TopK<T> op{c, temperature, n};
    rows_across(kStorage<S>, c.x, {}, {}, rows, n, options, op);
}

/// x: (n) adjacent elements, n >= kShortRow, index: (k) -> prob: (k), the softmax at these indices with the
/// bits of softmax: statistics are those of the whole row.
template <class T>
void softmax_at(const T* x, std::int64_t n, const std::int64_t* index, std::int64_t k, T* prob,
                const RowOptions& options) {
    constexpr int W = kLanes<T>;
    const Temperature<T> temperature(options.temperature);
    Stats<T> stats;
    char* const here = reinterpret_cast<char*>(const_cast<T*>(x));
    const RowsIn row{here, 0, sizeof(T)};
    rows_stats<false, T>(row, 1, n, rows_max<T>(row, 0, 1, 1, n), temperature, nullptr, 0, stats, here,
                         {here, 0, sizeof(T)});
    typename Softmax<T>::Epilogue all;
    Softmax<T>().epilogue(stats, 0, 1, all);
    const auto epilogue = all.row(0);
    for_each_vector<W>(k, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        T element[W] = {}, e[W];
        for (int j = 0; j < valid; ++j) element[j] = x[index[i + j]];
        exp_values(element, W, spread(stats.maximum, 0), temperature, e);
        store_some(prob + i, canonical(epilogue(load<V<T>>(e))), valid);
    });
}

/// x: (n) adjacent elements -> value, index: (k), a sorted list. Returns its length, less than k if the row
/// has few elements above -inf. Most vectors hold nothing above the last entry: one comparison skips them.
template <class T>
std::int64_t top_row(const T* x, std::int64_t n, std::int64_t k, double* value, std::int64_t* index) {
    constexpr int W = kLanes<T>;
    std::int64_t held = 0;
    double last = -__builtin_inf();  // an element must exceed it to enter the list
    for_each_vector<W>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        const V<T> v = load_some(x + i, valid);
        if (!any(less(splat<V<T>>(static_cast<T>(last)), v))) return;
        T lanes[W];
        store(lanes, v);
        for (int j = 0; j < valid; ++j) {
            const double candidate = lanes[j];
            if (!(candidate > last)) continue;
            std::int64_t at = held < k ? held++ : k - 1;
            for (; at > 0 && value[at - 1] < candidate; --at) {
                value[at] = value[at - 1];
                index[at] = index[at - 1];
            }
            value[at] = candidate;
            index[at] = i + j;
            if (held == k) last = value[k - 1];
        }
    });
    return held;
}

}  // namespace
}  // namespace softloss
