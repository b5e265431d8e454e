// Ops: what calibration needs of each row of logits and its label.
//
// Lives here: the Brier score, the sums of fit_temperature, the confidence of a row. Must not: drivers
// (rows_paired.hpp, run_rows.hpp), Newton's method, bins.
//
// Shapes: x (rows, n); labels y and all results (rows). With e = exp(x / T), S = sum(e), d = max - x:
//   Brier score:  (sum of e[i]^2 over i != y + (sum of e[i] over i != y)^2) / S^2
//   temperature:  loss d[y] / T + log1p(sum of all e but one of the maximum, over that one), and its
//                 derivatives with respect to 1 / T: d[y] - mean, mean = sum(d e) / S, and
//                 variance = sum(d^2 e) / S - mean^2
//   confidence:   1 / (1 + others),  others = count of maxima - 1 + sum of other e over that of the maximum
// 1 - p[y], of which the Brier score has the square, is a sum over the other classes: nothing cancels. In the
// variance little does: the class of the maximum has d = 0, so that mean^2 comes near to the mean of d^2 only
// if that class has a small share.
#pragma once

#include "class_loss.hpp"
#include "rows_paired.hpp"

namespace softloss {
namespace {

// ---- Brier score -----------------------------------------------------------------------------------------

template <class T>
struct BrierScore {
    static constexpr int W = kLanes<T>;
    static constexpr bool kExps = false, kTermExps = false, kAgain = false, kGradient = false;
    static constexpr Second kSecond = Second::labels;
    static constexpr Maximum kMaximum = Maximum::all;
    /// Of exponentials in doubles, which are near 2^512: their squares must be finite.
    static constexpr double kDown = sizeof(T) == 4 ? 1 : 0x1p-412;
    using Sums = PairedSums<T, 2>;  ///< of e and of its square, without the label's
    struct Totals {
        PairedTotals<T, 2> sums;
        D<T> own;  ///< e at the label
    };
    using Centre = MaximumOfRows<T>;
    const PairedRows& c;
    const Storage<T>& storage;
    Temperature<T> temperature;

    SOFTLOSS_INLINE const double* weights() const { return nullptr; }
    template <class F>
    SOFTLOSS_INLINE void with_terms(const Centre& centre, F f) const {
        with_exp_shift<T>(centre.x, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
            f([&](Sums& sums, V<T> x, IntVec<T, W> is_label, D<T> w) SOFTLOSS_LAMBDA {
                const auto parts = shift.exp(x);
                const D<T> e = widened<T>({select(is_label, splat<V<T>>(0), parts.scale), parts.fraction}) *
                               (w * splat<D<T>>(kDown));
                sums.of[0].add(e);
                sums.of[1].add_product(e, e);
            });
        });
    }
    SOFTLOSS_INLINE Totals totals(const PairedTotals<T, 2>& sums, const Stats<T>& stats, std::int64_t first,
                                  int count) const {
        Totals all{sums, {}};
        const V<T> x = at_labels(storage, c.x, c.label, first, count, stats.maximum);
        with_exp_shift<T>(stats.maximum, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
            all.own = widened<T>(shift.exp(x)) * splat<D<T>>(kDown);
        });
        return all;
    }
    [[gnu::noinline]] D<T> results(const Stats<T>&, const Totals& all) const {
        const D<T> others = all.sums.of[0].hi + all.sums.of[0].lo, sum = others + all.own, off = others / sum;
        const D<T> squares = (all.sums.of[1].hi + all.sums.of[1].lo) / (sum * sum);
        return canonical(fma(off, off, squares));
    }
    struct Epilogue {};
};

/// x: (rows, n), c.label: (rows) -> c.loss: (rows).
template <class S>
void brier_score_rows(const PairedRows& c, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    run_paired<S>(BrierScore<T>{c, kStorage<S>, Temperature<T>(options.temperature)}, rows, n, options);
}

// ---- temperature -----------------------------------------------------------------------------------------

template <class T>
struct TemperatureTerms {
    static constexpr int W = kLanes<T>;
    static constexpr bool kExps = false, kTermExps = false, kAgain = false, kGradient = false;
    static constexpr Second kSecond = Second::none;
    static constexpr Maximum kMaximum = Maximum::all;
    /// Of e without the maxima, of d e, of d^2 e, and of the number of maxima. d is scaled by
    /// Temperature::scale. Plain sums in double: Newton's method needs no more.
    using Sums = PairedSums<T, 4, PlainSum<T>>;
    /// The loss is gap + rest.
    struct Totals {
        Pair<D<T>> rest;  ///< log1p of the other exponentials over that of the maximum
        D<T> gap;         ///< at the label, divided by the temperature
    };
    using Centre = MaximumOfRows<T>;
    const PairedRows& c;
    const TemperatureRows& rows;
    const Storage<T>& storage;
    Temperature<T> temperature;
    double given_temperature;

    SOFTLOSS_INLINE const double* weights() const { return nullptr; }
    template <class F>
    SOFTLOSS_INLINE void with_terms(const Centre& centre, F f) const {
        const V<T> zero = splat<V<T>>(0), one = splat<V<T>>(1);
        with_exp_shift<T>(centre.x, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
            const D<T> top = convert<double>(shift.scaled(centre.x));
            f([&](Sums& sums, V<T> x, Nothing, D<T> w) SOFTLOSS_LAMBDA {
                const V<T> scaled = shift.scaled(x), limited = max(shift.least, scaled);
                const auto is_max = equal(x, centre.x);
                // Terms below the limit are 0: -inf adds nothing.
                const auto none = is_max | less(scaled, shift.least);
                const auto parts = shift.of_scaled(limited);
                const D<T> e = widened<T>({select(none, zero, parts.scale), parts.fraction});
                const D<T> gap = top - convert<double>(limited), product = e * gap;
                sums.of[0].add(e);
                sums.of[1].add(product);
                sums.of[2].add_product(product, gap);
                sums.of[3].add(w * convert<double>(select(is_max, one, zero)));
            });
        });
    }
    /// Stores the gap, the mean and the variance of `count` rows from row `first` on.
    [[gnu::noinline]] Totals totals(const PairedTotals<T, 4>& sums, const Stats<T>& stats, std::int64_t first,
                                    int count) const {
        const V<T> x = at_labels(storage, rows.x, rows.label, first, count, stats.maximum);
        const D<T> gap = convert<double>(stats.maximum) - convert<double>(x), zero = splat<D<T>>(0);
        const D<T> unit = splat<D<T>>(1 / static_cast<double>(temperature.scale));
        D<T> top;
        with_exp_shift<T>(stats.maximum, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
            top = widened<T>(shift.exp(shift.maximum));
        });
        const D<T> others = sums.of[0].hi + (sums.of[3].hi - splat<D<T>>(1)) * top, all = others + top;
        const D<T> mean = sums.of[1].hi / all, squares = sums.of[2].hi / all, apart = squares - mean * mean;
        store_lanes(rows.gap + first, gap, count);
        store_lanes(rows.mean + first, mean * unit, count);
        store_lanes(rows.variance + first, select(less(apart, zero), zero, apart) * unit * unit, count);
        return {log1p_parts(others / top, zero), gap / splat<D<T>>(given_temperature)};
    }
    SOFTLOSS_INLINE D<T> results(const Stats<T>&, const Totals& loss) const {
        return canonical(loss.gap + (loss.rest.hi + loss.rest.lo));
    }
    struct Epilogue {};
};

/// t.x: (rows, n), t.label: (rows) -> t.loss, t.gap, t.mean, t.variance: (rows).
template <class S>
void temperature_rows(const TemperatureRows& t, std::int64_t rows, std::int64_t n,
                      const RowOptions& options) {
    using T = Compute<S>;
    PairedRows c{};
    c.x = t.x;
    c.loss = t.loss;
    run_paired<S>(
        TemperatureTerms<T>{c, t, kStorage<S>, Temperature<T>(options.temperature), options.temperature},
        rows, n, options);
}

// ---- confidence ------------------------------------------------------------------------------------------

template <class T>
struct StoreConfidence {
    const ConfidenceRows& c;
    const Storage<T>& storage;
    ClassLabels<T> labels;

    [[gnu::noinline]] void operator()(const Stats<T>& stats, std::int64_t first, int count) const {
        const auto wide = [](Pair<V<T>> a)
                              SOFTLOSS_LAMBDA { return convert<double>(a.hi) + convert<double>(a.lo); };
        const D<T> one = splat<D<T>>(1), more = convert<double>(stats.max_count) - one;
        const D<T> p = one / (one + (more + wide(stats.sum) / wide(stats.max_exp)));
        store_lanes(c.confidence + first, canonical(p), count);
        T at_label[kLanes<T>], maximum[kLanes<T>], maxima[kLanes<T>];
        store(at_label, labels.logits(stats, first, count));
        store(maximum, stats.maximum);
        store(maxima, stats.max_count);
        for (int r = 0; r < count; ++r) {
            const bool right =
                at_label[r] == maximum[r] && (maxima[r] == 1 || is_first(first + r, maximum[r]));
            if (!right) c.confidence[first + r] = -c.confidence[first + r];
        }
    }

  private:
    /// True if no class before the label of a row has the maximum, too.
    bool is_first(std::int64_t row, T maximum) const {
        const char* const x = c.x.data + row * c.x.row_stride;
        for (std::int64_t i = 0; i < c.label[row]; ++i) {
            if (storage.load_one(x + i * c.x.element_stride) == maximum) return false;
        }
        return true;
    }
};

/// c.x: (rows, n), c.label: (rows) -> c.confidence: (rows).
template <class S>
void confidence_rows(const ConfidenceRows& c, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    const Temperature<T> temperature(options.temperature);
    ClassRows with_labels{};
    with_labels.x = c.x;
    with_labels.label = c.label;
    StatsOnly<T, StoreConfidence<T>> op{
        {c, kStorage<S>, {with_labels, kStorage<S>, temperature, options.temperature, n}}};
    run_rows<S>(c.x, {}, {}, rows, n, options, op);
}

}  // namespace
}  // namespace softloss
