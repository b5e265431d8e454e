// Draws classes from short rows, W rows at a time, one per lane.
//
// Lives here: the row op that filters and draws. Must not: how weights are made (sample_weights.hpp), long
// rows (sample.hpp).
//
// Shapes: a tile of n < kShortRow vectors; u, index, logprob (rows).
#pragma once

#include "sample_weights.hpp"
#include "scores.hpp"

namespace softloss {
namespace {

/// The op of sample_rows.
template <class T>
struct SampleTile {
    static constexpr bool kWithoutMax = true, kExp = false, kLabels = false;
    static constexpr int kResults = 0;
    static constexpr int W = kLanes<T>;
    using I = IntVec<T, W>;
    using Index = typename IntOf<T>::type;
    using Counts = Vec<std::int64_t, W>;
    const SampleRows& c;
    const Temperature<T>& temperature;
    ClassLabels<T> labels;  ///< for the log-probability of an element
    std::int64_t n;

    struct Epilogue {};
    [[gnu::noinline]] void epilogue(const Stats<T>& stats, std::int64_t first, int count, Epilogue&) const {
        // A NaN in a row makes its sum NaN.
        const I finite = less(abs(stats.maximum), splat<V<T>>(__builtin_inff()));
        const I bad = not_equal(stats.sum.hi, stats.sum.hi) | equal(finite, splat<I>(0));
        Kept kept{splat<V<T>>(-__builtin_inff()), splat<I>(static_cast<Index>(n))};
        const I place = c.filters.temperature == 0 ? argmax(stats) : drawn(stats, first, count, kept);
        store_lanes(c.index + first, convert<std::int64_t>(select(bad, splat<I>(0), place)), count);
        D<T> logprob = splat<D<T>>(0);
        if (c.filters.temperature != 0) {
            V<T> x = stats.maximum;
            for (std::int64_t i = 0; i < n; ++i)
                x = select(equal(place, splat<I>(static_cast<Index>(i))), element(stats, i), x);
            logprob = logprob - (filtered() ? loss_of_kept(stats, x, kept)
                                            : labels.loss(stats, x, log_rest<T>(stats)).hi);
        }
        const auto nan = splat<D<T>>(__builtin_nan(""));
        store_lanes(c.logprob + first, canonical(select(convert<std::int64_t>(bad), nan, logprob)), count);
    }

  private:
    /// What filters keep of each row: elements above `value`, and the first `ties` of those equal to it.
    struct Kept {
        V<T> value;
        I ties;
        Counts all = splat<Counts>(0);  ///< the sum of their weights
        /// Whether x is kept. It counts the ties: call it once for each element, in index order.
        SOFTLOSS_INLINE I next(V<T> x) {
            const I is_equal = equal(x, value);
            const I keep = less(value, x) | (is_equal & less(splat<I>(0), ties));
            ties = ties + is_equal;
            return keep;
        }
    };
    SOFTLOSS_INLINE V<T> element(const Stats<T>& stats, std::int64_t i) const {
        return load<V<T>>(stats.tile + i * stats.pitch);
    }
    bool filtered() const {
        return (c.filters.top_k > 0 && c.filters.top_k < n) || c.filters.top_p < 1 || c.filters.min_p > 0;
    }
    I argmax(const Stats<T>& stats) const {
        I place = splat<I>(0);
        for (std::int64_t i = n; i-- > 0;)
            place = select(equal(element(stats, i), stats.maximum), splat<I>(static_cast<Index>(i)), place);
        return place;
    }
    /// The classes that u draws; kept: what the filters keep.
    I drawn(const Stats<T>& stats, std::int64_t first, int count, Kept& kept) const {
        Whole<T> weight[kShortRow], all = splat<Whole<T>>(0), running = all;
        weigh(stats, weight, kept);
        for (std::int64_t i = 0; i < n; ++i) all = all + weight[i];
        kept.all = counts(all);
        const Counts goal = goals(kept.all, c.u + first, count);
        // The class: how many running sums do not exceed the goal.
        Counts index = splat<Counts>(n);
        for (std::int64_t i = 0; i < n; ++i) {
            running = running + weight[i];
            index = index + less(goal, counts(running));
        }
        return convert<Index>(index);
    }
    /// weight: (n), 0 where an element is not kept.
    void weigh(const Stats<T>& stats, Whole<T>* weight, Kept& kept) const {
        const auto run = [&](const auto& weights) SOFTLOSS_LAMBDA {
            if (!filtered()) {
                for (std::int64_t i = 0; i < n; ++i) weight[i] = weights(element(stats, i), splat<I>(0));
                return;
            }
            kept = filter(stats, weights);
            Kept left = kept;
            for (std::int64_t i = 0; i < n; ++i) {
                const I keep = left.next(element(stats, i));
                weight[i] = weights(element(stats, i), equal(keep, splat<I>(0)));
            }
        };
        const int bits = weight_bits(n);
        const bool far = any(less(splat<V<T>>(kFar<T>), abs(stats.maximum)));
        if (kEmulatedFma || far || !temperature.is_one())
            run(Weights<T, Range::any>(stats.maximum, temperature, bits));
        else run(Weights<T, kEmulatedFma ? Range::any : Range::near>(stats.maximum, temperature, bits));
    }
    /// The same bits as signed numbers: rows with NaN, whose results are dropped, may hold any.
    static Counts counts(const Whole<T>& whole) {
        Counts same;
        __builtin_memcpy(&same, &whole, sizeof same);
        return same;
    }
    /// floor(u all) of `count` rows.
    static Counts goals(const Counts& all, const double* u, int count) {
        std::int64_t sums[W], goal[W] = {};
        store(sums, all);
        for (int r = 0; r < count; ++r) goal[r] = whole_product(u[r], sums[r]).floor;
        return load<Counts>(goal);
    }
    /// The elements of each row, largest first: value: (n). Batcher's merge exchange (Knuth, The Art of
    /// Computer Programming, 5.2.2, algorithm M).
    void sort(const Stats<T>& stats, V<T>* value) const {
        for (std::int64_t i = 0; i < n; ++i) value[i] = element(stats, i);
        std::int64_t half = 1;
        while (2 * half < n) half *= 2;
        for (std::int64_t p = half; p > 0 && n > 1; p /= 2) {
            std::int64_t distance = p, r = 0;
            for (std::int64_t q = half;; q /= 2) {
                for (std::int64_t i = 0; i + distance < n; ++i) {
                    if ((i & p) != r) continue;
                    const V<T> a = value[i], b = value[i + distance];
                    const I swapped = less(a, b);
                    value[i] = select(swapped, b, a);
                    value[i + distance] = select(swapped, a, b);
                }
                if (q == p) break;
                distance = q - p;
                r = p;
            }
        }
    }
    /// The sums that top_p must reach: top_p times the sum of k weights.
    Counts targets(const Whole<T>* weight, std::int64_t k) const {
        Whole<T> sum = splat<Whole<T>>(0);
        for (std::int64_t i = 0; i < k; ++i) sum = sum + weight[i];
        std::int64_t sums[W], target[W];
        store(sums, counts(sum));
        for (int r = 0; r < W; ++r) {
            const auto product = whole_product(c.filters.top_p, sums[r]);
            target[r] = product.floor + !product.exact;
        }
        return load<Counts>(target);
    }
    /// least_of_min_p of each row.
    V<T> least(const Stats<T>& stats) const {
        T maximum[W], least[W];
        store(maximum, stats.maximum);
        for (int r = 0; r < W; ++r) least[r] = least_of_min_p(maximum[r], c.filters);
        return load<V<T>>(least);
    }
    /// What the filters keep of the rows.
    template <class RowWeights>
    Kept filter(const Stats<T>& stats, const RowWeights& weights) const {
        const SampleFilters& f = c.filters;
        const std::int64_t k = f.top_k > 0 && f.top_k < n ? f.top_k : n;
        const V<T> floor = f.min_p > 0 ? least(stats) : splat<V<T>>(-__builtin_inff());
        if (k == n && f.top_p == 1) return {floor, splat<I>(static_cast<Index>(n))};
        V<T> value[kShortRow];
        Whole<T> weight[kShortRow];
        sort(stats, value);
        const bool sums = f.top_p < 1;
        for (std::int64_t i = 0; sums && i < k; ++i) weight[i] = weights(value[i], splat<I>(0));
        const Counts target = sums ? targets(weight, k) : splat<Counts>(0);
        Whole<T> running = splat<Whole<T>>(0);
        I reached = splat<I>(0);
        Kept kept{value[0], splat<I>(0)};
        for (std::int64_t i = 0; i < k; ++i) {
            const I keep = equal(reached | less(value[i], floor), splat<I>(0));
            const I is_equal = equal(value[i], kept.value);
            kept.ties = select(keep, splat<I>(1) + (kept.ties & is_equal), kept.ties);
            kept.value = select(keep, value[i], kept.value);
            if (!sums) continue;
            running = running + weight[i];
            reached = convert<Index>(equal(less(counts(running), target), splat<Counts>(0)));
        }
        return kept;
    }
    /// Minus the log-probability of x among the elements that are kept.
    D<T> loss_of_kept(const Stats<T>& stats, V<T> x, const Kept& kept) const {
        const auto from_exponentials = [&] {
            const Stats<T> of = kept_stats(stats, kept);
            return labels.loss(of, x, log_rest<T>(of)).hi;
        };
        if constexpr (sizeof(T) == 8) {
            return from_exponentials();
        } else {
            // The sum of the weights is accurate enough, unless the other classes weigh so little that the
            // rounding of their weights is visible in the loss.
            const D<T> most = convert<double>(whole_maximum(stats)), all = convert<double>(kept.all);
            D<T> gap = convert<double>(stats.maximum) - convert<double>(x);
            if (!temperature.is_one()) gap = gap / splat<D<T>>(c.filters.temperature);
            // Rows with NaN may hold any numbers here.
            const D<T> loss = gap + log1p(max(splat<D<T>>(0), (all - most) / most));
            const auto exact = less(splat<D<T>>(0x1p27 * kShortRow), loss * all);
            if (!any(equal(exact, splat<Counts>(0)))) return loss;
            return select(exact, loss, from_exponentials());
        }
    }
    Counts whole_maximum(const Stats<T>& stats) const {
        return counts(
            Weights<T, Range::any>(stats.maximum, temperature, weight_bits(n))(stats.maximum, splat<I>(0)));
    }
    /// The statistics of the elements that are kept.
    Stats<T> kept_stats(const Stats<T>& stats, Kept kept) const {
        Stats<T> of = stats;
        of.sum = splat_pair<V<T>>(0, 0);
        I maxima = splat<I>(0);
        with_exp_shift<T>(stats.maximum, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
            for (std::int64_t chunk = 0; chunk < n; chunk += kTerms) {
                CarefulSum<V<T>> sum;
                for (std::int64_t i = chunk; i < n && i < chunk + kTerms; ++i) {
                    const V<T> x = element(stats, i);
                    const auto e = shift.exp(x);
                    const I keep = kept.next(x), is_max = keep & equal(x, stats.maximum);
                    maxima = maxima - is_max;
                    sum.add({select(keep - is_max, e.scale, splat<V<T>>(0)), e.fraction});
                }
                of.sum = of.sum + sum.total();
            }
        });
        of.max_count = convert<T>(maxima);
        return of;
    }
};

/// c.x: (rows, n), n < kShortRow -> c.index, c.logprob: (rows).
template <class S>
void sample_rows(const SampleRows& c, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    const Temperature<T> temperature(options.temperature);
    SampleTile<T> op{c, temperature, {{}, kStorage<S>, temperature, options.temperature, n}, n};
    rows_across(kStorage<S>, c.x, {}, {}, rows, n, options, op);
}

}  // namespace
}  // namespace softloss
