// Scores of a row of adjacent logits: place of the maximum, rank of a value, mean gap to the maximum, the k largest.
//
// Lives here: kernels of softmax_topk and token_logprobs. Must not: layouts, loops over rows (the callers of the table).
#pragma once

#include "softmax.hpp"

namespace softloss {
namespace {

/// x: (n). See RowScores.
template <class T>
RowScores describe_row(const T* x, std::int64_t n, double maximum, double value, double temperature_) {
    using I = IntVec<T, kLanes<T>>;
    constexpr int W = kLanes<T>;
    const Temperature<T> temperature(temperature_);
    const V<T> top = splat<V<T>>(static_cast<T>(maximum)), v = splat<V<T>>(static_cast<T>(value));
    RowScores scores{n, 0, 0};
    with_reference<T>(top, temperature, [&](const auto& ref) SOFTLOSS_LAMBDA {
        const V<T> peak = top - ref.shift;
        Pair<V<T>> weighted = splat_pair<V<T>>(0, 0), all = splat_pair<V<T>>(0, 0);
        for (std::int64_t chunk = 0; chunk < n; chunk += kChunk<T>) {
            const std::int64_t end = chunk + kChunk<T> < n ? chunk + kChunk<T> : n;
            ExpSum<V<T>> sum;
            V<T> gaps = splat<V<T>>(0);
            I greater = splat<I>(0), is_max = splat<I>(0);
            const auto add = [&](auto x) SOFTLOSS_LAMBDA {
                const auto e = ref.exp(x);
                in_turn<W>(
                    [&](V<T> x, V<T> scale, V<T> fraction) SOFTLOSS_LAMBDA {
                        const ExpParts<V<T>> e{scale, fraction};
                        sum.add(e);
                        gaps = fma(e.value(), peak - max(ref.lowest, x - ref.shift), gaps);
                        greater = greater - less(v, x);
                        is_max = is_max | equal(x, top);
                    },
                    x, e.scale, e.fraction);
            };
            std::int64_t i = chunk;
            for (; kInStep > 1 && i + kInStep * W <= end; i += kInStep * W)
                add(load<Vec<T, kInStep * W>>(x + i));
            for (; i < end; i += W) {
                const int valid = static_cast<int>(end - i < W ? end - i : W);
                // Beyond the row: so far below the maximum that it counts for nothing.
                add(select(first_lanes<I>(valid), load_some(x + i, valid), splat<V<T>>(-__builtin_inff())));
            }
            all = all + sum.total();
            weighted = weighted + Pair<V<T>>{gaps, splat<V<T>>(0)};
            scores.greater += fold(greater, [](auto a, auto b) SOFTLOSS_LAMBDA { return a + b; });
            if (scores.argmax == n && any(is_max)) {
                for (std::int64_t i = chunk; i < end && scores.argmax == n; ++i) {
                    if (x[i] == static_cast<T>(maximum)) scores.argmax = i;
                }
            }
        }
        const Pair<T> w = fold_lanes(weighted), s = fold_lanes(all);
        scores.gap = (static_cast<double>(w.hi) + w.lo) / (static_cast<double>(s.hi) + s.lo) / temperature_;
    });
    return scores;
}

/// x: (n), index: (k) -> prob: (k).
template <class T>
void softmax_at(const T* x, std::int64_t n, const std::int64_t* index, std::int64_t k, T* prob,
                const RowOptions& options) {
    constexpr int W = kLanes<T>;
    const Temperature<T> temperature(options.temperature);
    Stats<T> stats;
    if (n < kShortRow) {  // a row this short lies across the vectors, alone
        T* const tile = static_cast<T*>(options.scratch);
        for (std::int64_t i = 0; i < n; ++i) store(tile + i * W, splat<V<T>>(x[i]));
        const Walk nothing = Walk::stay(reinterpret_cast<const char*>(x));
        Ahead ahead{nothing, nothing};
        tile_stats<false, T>(tile, nullptr, W, n, tile_max(tile, W, n), temperature, ahead, stats);
    } else {
        char* const here = reinterpret_cast<char*>(const_cast<T*>(x));
        const RowsIn row{here, 0, sizeof(T)};
        rows_stats<false, T>(row, 1, n, rows_max<T>(row, 0, 1, 1, n), temperature, nullptr, 0, stats, here,
                             {here, 0, sizeof(T)});
    }
    typename Softmax<T>::Finish all;
    Softmax<T>().finish(stats, 0, 1, all);
    const auto finish = all.row(0);
    for_each_vector<W>(k, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        T picked[W] = {}, e[W];
        for (int j = 0; j < valid; ++j) picked[j] = x[index[i + j]];
        exp_values(picked, W, spread(stats.maximum, 0), temperature, e);
        store_some(prob + i, canonical(finish(load<V<T>>(e))), valid);
    });
}

/// x: (n) -> value, index: (k). A sorted list; most vectors hold nothing above its last entry.
template <class T>
std::int64_t top_row(const T* x, std::int64_t n, std::int64_t k, double* value, std::int64_t* index) {
    constexpr int W = kLanes<T>;
    std::int64_t held = 0;
    double last = -__builtin_inf();  // what an element must exceed
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
