// Ops: cross-entropy of logits against class indices, with gradient and Hessian.
//
// Lives here: their results from the statistics of a row (L, s, p as in softmax.hpp). Must not: layouts,
// threads, other kinds of targets (soft_targets.hpp).
//
// Shapes: x, grad, hess (rows, n); labels, factors, losses (rows). T: the temperature.
//   loss:      (max - x[label]) / T + L
//   gradient:  factor (p[i] - [i = label])
//   Hessian:   max(hess_scale factor p[i] (1 - p[i]), hess_min)
// 1 - p would cancel if p is near 1. p > 1/2 is possible only for a class whose logit is the only maximum,
// and there 1 - p = s / (1 + s), the share of the other classes.
#pragma once

#include "curvature.hpp"
#include "softmax.hpp"

namespace softloss {
namespace {

/// Labels and factors of rows, and their losses. Called as a function, it stores the losses of up to W rows
/// from row `first` on.
template <class T>
struct ClassLabels {
    static constexpr int W = kLanes<T>;
    using I = IntVec<T, W>;
    const ClassRows& c;
    const Storage<T>& storage;
    const Temperature<T>& temperature;
    double given_temperature;
    std::int64_t n;

    [[gnu::noinline]] void operator()(const Stats<T>& stats, std::int64_t first, int count) const {
        put_loss(stats, log_rest<T>(stats), logits(stats, first, count), first, count);
    }
    SOFTLOSS_INLINE Vec<std::int64_t, W> labels(std::int64_t first, int count) const {
        return load_lanes<W>(c.label + first, count);
    }
    SOFTLOSS_INLINE D<T> factors(std::int64_t first, int count) const {
        return load_lanes<W>(c.factor + first, count);
    }
    SOFTLOSS_INLINE I ignored(Vec<std::int64_t, W> label) const {
        return convert<typename IntOf<T>::type>(less(label, splat<Vec<std::int64_t, W>>(0)));
    }
    /// The logits at the labels of `count` rows, one per lane; for ignored rows, the maximum.
    SOFTLOSS_INLINE V<T> logits(const Stats<T>& stats, std::int64_t first, int count) const {
        if (stats.tile && n < kShortRow) {
            const I label = convert<typename IntOf<T>::type>(labels(first, count));
            V<T> x = stats.maximum;
            for (int i = 0; i < n; ++i)
                x = select(equal(label, splat<I>(i)), load<V<T>>(stats.tile + i * stats.pitch), x);
            return x;
        }
        return at_labels(storage, c.x, c.label, first, count, stats.maximum);
    }
    /// (maximum - x) / temperature + rest: for float in double, for double as a pair.
    SOFTLOSS_INLINE Pair<D<T>> loss(const Stats<T>& stats, V<T> x, Pair<V<T>> rest) const {
        const V<T> maximum = stats.maximum;
        if constexpr (sizeof(T) == 4) {
            const D<T> d = convert<double>(maximum) - convert<double>(x);
            const D<T> far = temperature.is_one() ? d : d / splat<D<T>>(given_temperature);
            return {far + wide_log_rest(stats, rest), splat<D<T>>(0)};
        } else {
            const auto far = temperature.is_one() ? two_sum(maximum, -x) : temperature.divided(maximum, x);
            const auto s = two_sum(far.hi, rest.hi);
            const V<T> low = finite_low(s.lo + (far.lo + rest.lo)), sum = s.hi + low;
            return {sum, select(equal(s.lo, s.lo), (s.hi - sum) + low, splat<V<T>>(0))};
        }
    }
    SOFTLOSS_INLINE void put_loss(const Stats<T>& stats, Pair<V<T>> rest, V<T> x, std::int64_t first,
                                  int count) const {
        put(loss(stats, x, rest), first, count);
    }
    /// Stores losses; of ignored rows, 0.
    SOFTLOSS_INLINE void put(const Pair<D<T>>& value, std::int64_t first, int count) const {
        const D<T> zero = splat<D<T>>(0);
        const Vec<std::int64_t, W> label = labels(first, count);
        const auto kept = less(splat<Vec<std::int64_t, W>>(-1), label);
        store_lanes(c.loss + first, select(kept, canonical(value.hi), zero), count);
        if constexpr (sizeof(T) == 8) store_lanes(c.loss_low + first, select(kept, value.lo, zero), count);
    }
};

/// Limits of factor / sum between which products with exponentials keep all their digits: sums are about
/// kUnit times the number of classes. A factor beyond them is multiplied or divided by kFactorStep first;
/// post_scale undoes it.
template <class T>
constexpr T kLeastScale = static_cast<T>(sizeof(T) == 4 ? 0x1p-100 : 0x1p-960);
template <class T>
constexpr T kMostScale = 1;
template <class T>
constexpr double kLargest = sizeof(T) == 4 ? 0x1.fffffep127 : 0x1.fffffffffffffp1023;
template <class T>
constexpr T kFactorStep = static_cast<T>(sizeof(T) == 4 ? 0x1p100 : 0x1p900);

/// The nearest number of T, which is not infinite.
template <class T>
SOFTLOSS_INLINE D<T> limited(D<T> x) {
    const D<T> most = splat<D<T>>(kLargest<T>);
    return select(less(most, x), most, select(less(x, -most), -most, x));
}

/// Takes the place of the constants of the Hessian where there is none.
struct NoHessian {
    SOFTLOSS_INLINE NoHessian row(int) const { return {}; }
};

/// What row ops with the gradient factor (p[i] - [i = label]) share. The gradient is the result, the Hessian
/// the second result. Second: the constants of the Hessian, a Curvature, or NoHessian.
template <class T, class Second>
struct LabelGradient {
    static constexpr int W = kLanes<T>;
    static constexpr bool kWithoutMax = true, kExp = true, kLabels = true;
    static constexpr bool kHessian = !SameAs<Second, NoHessian>;
    static constexpr int kResults = kHessian ? 2 : 1;
    /// The Hessian has another formula at the labels.
    static constexpr bool kHasOwn = requires(Second second) { second.own; };
    ClassLabels<T> labels;
    /// Rows along the vectors: results at the labels of the rows of the last epilogue().
    T at_label[W], hess_at_label[W];

    explicit LabelGradient(const ClassLabels<T>& l) : labels(l) {}

    struct Epilogue {
        Pair<V<T>>
            scale;  ///< factor / (sum post_scale); post_scale: a power of two or infinite, 1 unless unusual
        V<T> post_scale, inverse, at_label;  ///< inverse: 1 / sum, NaN where the row is
        IntVec<T, W> counted, label;         ///< label: only for rows across the vectors
        Second curvature;
        bool unusual, may_be_nan;
        SOFTLOSS_INLINE Epilogue row(int r) const {
            const V<T> of_row = spread(inverse, r);
            return {{spread(scale.hi, r), spread(scale.lo, r)},
                    spread(post_scale, r),
                    of_row,
                    at_label,
                    spread(counted, r),
                    label,
                    curvature.row(r),
                    unusual,
                    any_nan<T>(of_row)};
        }
        // An ignored row has the gradient 0 even if its logits are NaN.
        SOFTLOSS_INLINE V<T> canonical_result(V<T> y) const {
            return select(counted, canonical(y), splat<V<T>>(0));
        }
        SOFTLOSS_INLINE V<T> canonical_second(V<T> y) const { return curvature.canonical_result(y); }
        /// The gradient, without the label's element: factor p.
        SOFTLOSS_INLINE V<T> operator()(V<T> e) const {
            const V<T> y = fma(e, scale.hi, e * scale.lo);
            return unusual ? times_or_zero(y, post_scale) : y;
        }
        SOFTLOSS_INLINE IntVec<T, W> is_label(std::int64_t i) const {
            return equal(label, splat<IntVec<T, W>>(static_cast<typename IntOf<T>::type>(i)));
        }
        /// y, the gradients of element i of W rows, with those of labels put in.
        SOFTLOSS_INLINE V<T> at(std::int64_t i, V<T> y) const { return select(is_label(i), at_label, y); }
        SOFTLOSS_INLINE V<T> second(V<T> e) const { return curvature(e); }
        /// The same of the Hessians.
        SOFTLOSS_INLINE V<T> second_at([[maybe_unused]] std::int64_t i, V<T> y) const {
            if constexpr (kHasOwn) return select(is_label(i), curvature.own, y);
            else return y;
        }
    };
    /// given: the factors of the gradient; off: 1 - p at the labels.
    SOFTLOSS_INLINE void fill(const Stats<T>& stats, std::int64_t first, int count, D<T> given,
                              Pair<V<T>> off, Epilogue& f) {
        const ClassRows& c = labels.c;
        const V<T> zero = splat<V<T>>(0), one = splat<V<T>>(1);
        const auto label = labels.labels(first, count);
        const auto ignored = labels.ignored(label);
        const D<T> exact = limited<T>(given);
        const V<T> hi = convert<T>(exact), lo = convert<T>(exact - convert<double>(hi));
        const Pair<V<T>> factor{select(ignored, zero, hi), select(ignored, zero, lo)};
        const auto rest = others_of(stats), inv = inverse<T>(rest + stats.max_exp);
        const auto counted = not_equal(factor.hi, zero);
        auto scale = factor * inv;
        const V<T> size = abs(scale.hi);
        const auto tiny = less(size, splat<V<T>>(kLeastScale<T>)),
                   large = less(splat<V<T>>(kMostScale<T>), size);
        const V<T> whole = select(ignored, zero, convert<T>(given));  // may be infinite or NaN
        const auto beyond = not_equal(whole - whole, zero);
        f.post_scale = one;
        f.unusual = any(counted & (tiny | large | beyond));
        if (f.unusual) {  // without a power of two, a part of the pair would be subnormal or infinite
            const V<T> up = splat<V<T>>(kFactorStep<T>), down = splat<V<T>>(1 / kFactorStep<T>);
            f.post_scale = select(beyond, abs(whole), select(tiny, down, select(large, up, one)));
            const D<T> stepped = exact * convert<double>(select(tiny, up, select(large, down, one)));
            const V<T> high = convert<T>(stepped);
            scale = Pair<V<T>>{high, convert<T>(stepped - convert<double>(high))} * inv;
        }
        const V<T> finite = canonical(-fma(whole, off.hi, fma(whole, off.lo, factor.lo * off.hi)));
        const V<T> product = f.unusual ? select(beyond, times_or_zero(off.hi, -whole), finite) : finite;
        const V<T> at = select(counted, product, zero);
        if (!stats.tile) store(at_label, at);
        f.scale = {select(counted, scale.hi, zero), select(counted, scale.lo, zero)};
        f.inverse = inv.hi;
        f.counted = counted;
        f.at_label = at;
        f.label = convert<typename IntOf<T>::type>(label);
        f.may_be_nan = any_nan<T>(inv.hi);
        if constexpr (kHessian) {
            Curvature<T>& h = f.curvature;
            h.set(stats, rest, inv);
            h.factor = select(ignored, zero, convert<T>(given * splat<D<T>>(c.hess_scale)));
            h.least = splat<V<T>>(static_cast<T>(c.hess_min));
            h.counted = counted;
            h.unusual = f.unusual || any(counted & not_equal(h.factor - h.factor, zero));
            h.may_be_nan = f.may_be_nan;
        }
    }
    SOFTLOSS_INLINE const std::int64_t* label(std::int64_t first) const { return labels.c.label + first; }
    /// Rows along the vectors: stores the results at the labels, when all others are stored.
    SOFTLOSS_INLINE void store_at_labels(std::int64_t first, int count) const {
        store_to(labels.c.grad, at_label, first, count);
        if constexpr (kHasOwn) store_to(labels.c.hess, hess_at_label, first, count);
    }

  private:
    SOFTLOSS_INLINE void store_to(const RowsOut& to, const T* values, std::int64_t first, int count) const {
        for (int r = 0; r < count; ++r) {
            const std::int64_t label = labels.c.label[first + r];
            if (label < 0) continue;
            char* const p = to.data + (first + r) * to.row_stride + label * to.element_stride;
            if (labels.storage.size == sizeof(T)) __builtin_memcpy(p, values + r, sizeof(T));
            else labels.storage.store_one(p, values[r]);
        }
    }
};

/// The row op that computes loss and gradient (and Hessian) in one pass.
template <class T, bool Hessian>
struct ClassGradient : LabelGradient<T, Select<Hessian, Curvature<T>, NoHessian>> {
    using Base = LabelGradient<T, Select<Hessian, Curvature<T>, NoHessian>>;
    using Epilogue = typename Base::Epilogue;
    using Base::Base;
    using Base::labels;

    [[gnu::noinline]] void epilogue(const Stats<T>& stats, std::int64_t first, int count, Epilogue& f) {
        const V<T> one = splat<V<T>>(1), x = labels.logits(stats, first, count);
        if (labels.c.loss) labels.put_loss(stats, log_rest<T>(stats), x, first, count);
        // 1 - p at the label: the share of the other classes if the label's logit is the only maximum; else p
        // <= 1/2, and 1 - p loses nothing.
        const auto rest = others_of(stats), inv = inverse<T>(rest + stats.max_exp), share = rest * inv;
        const V<T> e = labels_exp(x, stats), p = e * inv.hi, p_low = fma(e, inv.lo, fma(e, inv.hi, -p));
        const auto alone = equal(x, stats.maximum) & equal(stats.max_count, one);
        this->fill(stats, first, count, labels.factors(first, count),
                   {select(alone, share.hi, one - p), select(alone, share.lo, -p_low)}, f);
    }
    /// exp(x) of one element of each row, in units of its exponent shift.
    SOFTLOSS_INLINE V<T> labels_exp(V<T> x, const Stats<T>& stats) const {
        T value[kLanes<T>];
        store(value, x);
        exp_values(value, kLanes<T>, stats.maximum, labels.temperature, value);
        return load<V<T>>(value);
    }
};

/// c.x: (rows, n), c.label: (rows) -> c.loss: (rows), c.grad and c.hess: (rows, n).
template <class S>
void class_loss_rows(const ClassRows& c, std::int64_t rows, std::int64_t n, const RowOptions& options) {
    using T = Compute<S>;
    const Temperature<T> temperature(options.temperature);
    const ClassLabels<T> labels{c, kStorage<S>, temperature, options.temperature, n};
    const auto run = [&](auto op) SOFTLOSS_LAMBDA { run_rows<S>(c.x, c.grad, c.hess, rows, n, options, op); };
    if (c.hess.data) {
        if constexpr (sizeof(S) == sizeof(T)) run(ClassGradient<T, true>(labels));
    } else if (c.grad.data) {
        run(ClassGradient<T, false>(labels));
    } else {
        run(StatsOnly<T, ClassLabels<T>>{labels});
    }
    if (options.nontemporal) fence();
}

}  // namespace
}  // namespace softloss
