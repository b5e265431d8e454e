// Draws a class from the softmax of a row, by the caller's uniform number.
//
// Lives here: filters, the draw from one row of adjacent elements. Must not: loops over rows, checks,
// layouts (the callers stage them).
//
// Filters. Classes are ordered by x, largest first, and equal ones by index. top_k and top_p keep the first
// classes of this order, min_p keeps those above a threshold. So what is kept is described by a Cut: all
// classes above `value`, and those equal to it up to index `last`.
//
// Cuts are found without sorting. A pass over the row sums the weights above a window of values that a sample
// of the row suggests, and appends the elements within the window to a list. Passes over that list narrow it
// until it is short enough to be searched element by element.
#pragma once

#include "masked.hpp"
#include "sample_weights.hpp"
#include "scores.hpp"

namespace softloss {
namespace {

/// Sums of a block of a row.
struct SampleBlock {
    std::int64_t mass;  ///< sum of the weights above the window
    std::int64_t end;   ///< length of the list behind the block
};

/// What a pass over elements found.
template <class T>
struct Measured {
    std::int64_t above = 0;  ///< weights above the window, or how many elements
    std::int64_t all = 0;    ///< weights of all elements from `least` on
    std::int64_t count = 0;  ///< elements in the window
};

/// The classes that are kept: x > value, and x == value up to index `last`.
template <class T>
struct Cut {
    T value = kLowest<T>;
    std::int64_t last = INT64_MAX;

    /// The smallest value kept in a block that begins at index i. `last` must lie outside the block, or be
    /// the index of its last element.
    T least(std::int64_t i) const { return i <= last ? value : next_up(value); }
};
/// A cut before the index of its last element is known.
template <class T>
struct Found {
    T value;
    std::int64_t ties;   ///< how many elements equal to `value` are kept
    bool all_ties;       ///< whether those are all
    std::int64_t above;  ///< the weights above `value`, or how many elements
};

/// One row of n adjacent elements, without NaN, the largest of them finite.
template <class T, Range R>
class Sampler {
  public:
    static constexpr int W = kLanes<T>;
    using I = IntVec<T, W>;

    Sampler(const T* x, std::int64_t n, T maximum, const SampleFilters& filters, const Temperature<T>& t,
            void* memory)
        : x_(x),
          n_(n),
          maximum_(maximum),
          filters_(filters),
          temperature_(t),
          weights_(splat<V<T>>(maximum), t, weight_bits(n)),
          memory_(memory, n) {}

    Drawn draw(double u) const {
        if (filters_.top_k > 0 && filters_.top_k <= kSampleList && filters_.top_k < n_)
            return draw_from_list(u);
        Cut<T> cut;
        std::int64_t lacking = 0;  // weights of elements equal to cut.value that are not kept
        if (filters_.top_k > 0 && filters_.top_k < n_) {
            set(cut, find<false>(kLowest<T>, 0), lacking);
        }
        const T floor = least_of_min_p(maximum_, filters_);
        if (filters_.top_p < 1) {
            const Found<T> found = find<true>(cut.value, lacking);
            if (found.value >= floor) return finish(u, found);
        }
        if (floor > cut.value) cut = {floor, INT64_MAX};
        const std::int64_t all = sum_blocks(cut);
        return pick(u, all, cut, [&](std::int64_t block) { return memory_.blocks[block].mass; });
    }

  private:
    /// Values from `low` to `high`.
    struct Window {
        T low, high;
    };

    // ---- passes ----

    /// The elements [i, i + valid) at x; -inf in the other lanes.
    SOFTLOSS_INLINE static V<T> elements(const T* x, std::int64_t i, int valid) {
        const V<T> v = load_some(x + i, valid);
        return valid == W ? v : select(first_lanes<I>(valid), v, splat<V<T>>(-__builtin_inff()));
    }

    /// x: (n). Sums the weights (Mass) or counts the elements above `high`; appends those from `low` to
    /// `high` to the list, which may be x itself. With blocks, keeps the sums of each. Floor: elements below
    /// `least` weigh nothing.
    template <bool Mass, bool Floor>
    [[gnu::noinline]] Measured<T> window_pass(const T* x, std::int64_t n, T low, T high, T least, T* list,
                                              SampleBlock* blocks) const {
        const V<T> from = splat<V<T>>(low), to = splat<V<T>>(high), floor = splat<V<T>>(least);
        const Weights<T, R> weights = weights_;
        Measured<T> found;
        Whole<T> all = splat<Whole<T>>(0);
        std::uint64_t vectors = 0;
        std::int64_t count = 0;
        for (std::int64_t first = 0; first < n; first += kSampleBlock) {
            const std::int64_t size = n - first < kSampleBlock ? n - first : kSampleBlock;
            Whole<T> above = splat<Whole<T>>(0);
            I number = splat<I>(0);
            for_each_vector<W>(size, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
                const V<T> v = elements(x + first, i, valid);
                const I is_above = less(to, v);
                number = number + is_above;
                if constexpr (Mass) {
                    const auto w = Floor ? weights.biased(v, less(v, floor)) : weights.biased(v);
                    all = all + w;
                    above = add_where(above, is_above, w);
                    ++vectors;
                }
                count += store_where(list + count, equal(is_above | less(v, from), splat<I>(0)), v);
            });
            std::int64_t here = count_of(number);
            if constexpr (Mass) here = unbiased(total(above), static_cast<std::uint64_t>(here));
            found.above += here;
            if (blocks) blocks[first / kSampleBlock] = {here, count};
        }
        found.all = unbiased(total(all), vectors * W);
        found.count = count;
        return found;
    }
    template <bool Mass>
    Measured<T> pass(const T* x, std::int64_t n, T low, T high, T least, T* list, SampleBlock* blocks) const {
        if (Mass && least > kLowest<T>) return window_pass<Mass, true>(x, n, low, high, least, list, blocks);
        return window_pass<Mass, false>(x, n, low, high, least, list, blocks);
    }
    static std::int64_t unbiased(std::uint64_t sum, std::uint64_t terms) {
        return static_cast<std::int64_t>(sum - terms * Weights<T, R>::kBiasBits);
    }
    /// The smallest and the largest of n elements.
    [[gnu::noinline]] static Window range(const T* x, std::int64_t n) {
        V<T> most = splat<V<T>>(kLowest<T>), least = most;  // least: of the negated elements
        for_each_vector<W>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            const V<T> v = load_some(x + i, valid);
            const I inside = first_lanes<I>(valid);
            most = max(valid == W ? v : select(inside, v, most), most);
            least = max(valid == W ? -v : select(inside, -v, least), least);
        });
        const auto larger = [](auto a, auto b) SOFTLOSS_LAMBDA { return max(a, b); };
        return {-fold(least, larger), fold(most, larger)};
    }

    /// The weights of elements [first, last) of the row that are at least `least`.
    SOFTLOSS_INLINE std::int64_t sum_from(const Weights<T, R>& weights, std::int64_t first, std::int64_t last,
                                          T least) const {
        const V<T> floor = splat<V<T>>(least);
        Whole<T> sum = splat<Whole<T>>(0);
        std::uint64_t vectors = 0;
        for_each_vector<W>(last - first, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            const V<T> v = elements(x_ + first, i, valid);
            sum = sum + weights.biased(v, less(v, floor));
            ++vectors;
        });
        return unbiased(total(sum), vectors * W);
    }
    /// Sums the weights that the cut keeps, block by block.
    [[gnu::noinline]] std::int64_t sum_blocks(const Cut<T>& cut) const {
        const Weights<T, R> weights = weights_;
        std::int64_t all = 0;
        for (std::int64_t first = 0; first < n_; first += kSampleBlock) {
            const std::int64_t end = n_ - first < kSampleBlock ? n_ : first + kSampleBlock;
            std::int64_t here = 0;
            if (cut.last >= first && cut.last < end - 1) {
                here = sum_from(weights, first, cut.last + 1, cut.value) +
                       sum_from(weights, cut.last + 1, end, next_up(cut.value));
            } else {
                here = sum_from(weights, first, end, cut.least(first));
            }
            memory_.blocks[first / kSampleBlock] = {here, 0};
            all += here;
        }
        return all;
    }

    // ---- cuts ----

    /// Estimates, from a sample of n elements at x, between which values a cut lies. The cut keeps weights
    /// (Mass) or elements that sum up to `kept`; if kept is 0, to the fraction `share` of all. Only elements
    /// from of.low to of.high count; of.high is one of them.
    template <bool Mass>
    [[gnu::noinline]] Window estimate(const T* x, std::int64_t n, const Window& of, double share,
                                      double kept) const {
        constexpr double unit = Mass ? 0x1p-40 : 1;
        T *const value = memory_.sample, *const weight = value + kSampleSize;
        const std::int64_t wanted = n / 8 < kSampleSize ? n / 8 : kSampleSize;
        const std::int64_t vectors = wanted < 16 * W ? 16 : wanted / W;
        std::int64_t step = n / (vectors * W) * W, size = 0;
        if (step < W) step = W;
        const Weights<T, R> weights = weights_;
        const V<T> from = splat<V<T>>(of.low), to = splat<V<T>>(of.high);
        V<T> sum = splat<V<T>>(0), squares = sum;
        for (std::int64_t i = 0; i + W <= n && size + W <= kSampleSize; i += step, size += W) {
            const V<T> v = load<V<T>>(x + i);
            V<T> e = splat<V<T>>(1);
            if constexpr (Mass) e = weights.shift.exp(v).value() * splat<V<T>>(static_cast<T>(unit));
            e = select(less(v, from) | less(to, v), splat<V<T>>(0), e);
            store(value + size, v);
            store(weight + size, e);
            sum = sum + e;
            squares = fma(e, e, squares);
        }
        const auto add = [](auto a, auto b) SOFTLOSS_LAMBDA { return a + b; };
        const double all = static_cast<double>(fold(sum, add)),
                     square = static_cast<double>(fold(squares, add));
        if (!(all > 0)) return of;
        // Sums are those of the sample. The largest element may outweigh all others but is rarely in the
        // sample, so it is added.
        const double scale = static_cast<double>(size) / static_cast<double>(n);
        const double whole = all + (Mass ? static_cast<double>(weights_.of(of.high)) * unit * scale : 0);
        double above = kept > 0 ? kept * unit * scale : share * whole;
        if (above > whole) above = whole;
        const double below = whole - above;
        const double spread =
            3 * __builtin_sqrt(above * below * square) / whole + 2 * all / static_cast<double>(size);
        const double least = below - spread, most = below + spread;
        const T low = place(value, weight, size, of, least > below / 4 ? least : below / 4, false);
        const double limit = whole - above / 4;
        return {low, place(value, weight, size, {low, of.high}, most < limit ? most : limit, true)};
    }
    /// A value below which about `mass` of a sample lies: not more, or not less if `upper`.
    T place(const T* value, const T* weight, std::int64_t size, const Window& of, double mass,
            bool upper) const {
        const double reach = static_cast<double>(maximum_) - 48 * filters_.temperature;
        double a = static_cast<double>(of.low), b = static_cast<double>(of.high);
        if (a < reach) a = reach;
        const double start = a, end = b;
        const int steps = size > 1024 ? 12 : 8;
        for (int i = 0; i < steps && a < b; ++i) {
            const double middle = 0.5 * (a + b);
            const V<T> m = splat<V<T>>(static_cast<T>(middle));
            V<T> sum = splat<V<T>>(0);
            for (std::int64_t j = 0; j < size; j += W)
                sum = sum + select(less(load<V<T>>(value + j), m), load<V<T>>(weight + j), splat<V<T>>(0));
            const double here =
                static_cast<double>(fold(sum, [](auto x, auto y) SOFTLOSS_LAMBDA { return x + y; }));
            (here <= mass ? a : b) = middle;
        }
        if (!upper) return a == start ? of.low : static_cast<T>(a);
        return b >= end ? of.high : static_cast<T>(b);
    }

    /// Finds the cut of top_p (Mass) or top_k among the elements from `least` on; `lacking`: the weights of
    /// those equal to `least` that are not kept. Leaves in memory the list that finish() reads.
    template <bool Mass>
    Found<T> find(T least, std::int64_t lacking) const {
        Window window{least, maximum_};
        if (n_ > kSampleWhole)
            window = estimate<Mass>(x_, n_, window, filters_.top_p,
                                    Mass ? 0 : static_cast<double>(filters_.top_k));
        while (true) {
            const auto outer =
                pass<Mass>(x_, n_, window.low, window.high, least, memory_.list, memory_.blocks);
            std::int64_t target = filters_.top_k;
            if constexpr (Mass) {
                const auto product = whole_product(filters_.top_p, outer.all - lacking);
                target = product.floor + !product.exact;
            }
            if (outer.above >= target) {
                // Only if another thread has written the row meanwhile.
                if (window.high >= maximum_) return {maximum_, 1, true, 0};
                window = {next_up(window.high), maximum_};
                continue;
            }
            Found<T> found;
            if (outer.count > 0 && narrow<Mass>(outer, target, found)) return found;
            // The cut is below the window; or there is none, as fewer than top_k are above -inf.
            if (!(least < window.low)) return {least, INT64_MAX, true, 0};
            window = {least, next_down(window.low)};
        }
    }
    /// Narrows the list, of which `outer` is known, to the elements equal to the last one kept. target: which
    /// sum, or count, must be reached. Returns false if the list does not reach it.
    template <bool Mass>
    bool narrow(const Measured<T>& outer, std::int64_t target, Found<T>& found) const {
        const T* source = memory_.list;
        std::int64_t size = outer.count, above = outer.above;
        if (!Mass && above + size < target) return false;
        Window of = range(source, size);
        bool halve = false;
        while (of.low < of.high && size > kSampleShort) {
            Window window{next_up(between(of.low, of.high)), of.high};
            if (!halve) {
                const Window guess = estimate<Mass>(source, size, of, 0, static_cast<double>(target - above));
                if (guess.low > of.low || guess.high < of.high) window = guess;
            }
            // The elements above the window, in it, or below it.
            auto part =
                pass<Mass>(source, size, window.low, window.high, kLowest<T>, memory_.narrow, nullptr);
            if (Mass && source == memory_.list && outer.above + part.all < target) return false;
            const std::int64_t before = size;
            const bool higher = above + part.above >= target;
            const bool lower =
                !higher && above + part.above + mass_of<Mass>(memory_.narrow, part.count) < target;
            above += part.above;
            if (higher || lower) {
                window =
                    higher ? Window{next_up(window.high), of.high} : Window{of.low, next_down(window.low)};
                part = pass<Mass>(memory_.list, outer.count, window.low, window.high, kLowest<T>,
                                  memory_.narrow, nullptr);
                above = outer.above + part.above;
            }
            source = memory_.narrow;
            size = part.count;
            of = range(source, size);
            halve = size > before / 2;
        }
        if (source == memory_.list && above + mass_of<Mass>(source, size) < target) return false;
        found = last_of<Mass>(source, size, of, above, target);
        return true;
    }
    /// The sum of the weights of a list, or its length.
    template <bool Mass>
    std::int64_t mass_of(const T* list, std::int64_t n) const {
        if constexpr (!Mass) return n;
        const Weights<T, R> weights = weights_;
        Whole<T> sum = splat<Whole<T>>(0);
        std::uint64_t vectors = 0;
        for_each_vector<W>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            sum = sum + weights.biased(elements(list, i, valid));
            ++vectors;
        });
        return unbiased(total(sum), vectors * W);
    }
    /// The last element kept, of a list that is short, or whose elements are all equal.
    template <bool Mass>
    Found<T> last_of(const T* list, std::int64_t n, const Window& of, std::int64_t above,
                     std::int64_t target) const {
        constexpr std::int64_t kVectors = kSampleShort / W;
        // Not `==`: NaN that another thread has written meanwhile can leave the list without a largest
        // element.
        if (!(of.low < of.high)) return kept_of(of.high, n, Mass ? weights_.of(of.high) : 1, above, target);
        V<T> x[kVectors];
        Whole<T> weight[kVectors];
        std::uint64_t each[kSampleShort];
        const std::int64_t vectors = (n + W - 1) / W;
        for (std::int64_t k = 0; k < vectors; ++k) {
            x[k] = elements(list, k * W, static_cast<int>(n - k * W < W ? n - k * W : W));
            weight[k] = Mass ? weights_(x[k], splat<I>(0)) : splat<Whole<T>>(1);
            store(each + k * W, weight[k]);
        }
        T least = -__builtin_inff(), most = __builtin_inff();  // the element lies between these
        for (std::int64_t i = 0; i < n; ++i) {
            if (!(list[i] > least && list[i] < most)) continue;
            const V<T> value = splat<V<T>>(list[i]);
            Whole<T> sum = splat<Whole<T>>(0);
            I equals = splat<I>(0);
            for (std::int64_t k = 0; k < vectors; ++k) {
                sum = add_where(sum, less(value, x[k]), weight[k]);
                equals = equals + equal(value, x[k]);
            }
            const std::int64_t before = above + static_cast<std::int64_t>(total(sum)),
                               ties = count_of(equals), one = static_cast<std::int64_t>(each[i]);
            if (before >= target) least = list[i];
            else if (before + ties * one < target) most = list[i];
            else return kept_of(list[i], ties, one, before, target);
        }
        return {of.low, n, true, above};  // not reached: the list holds the last element
    }
    /// How many of `ties` elements with the weight `each` are kept, if those above them sum up to `above`.
    static Found<T> kept_of(T value, std::int64_t ties, std::int64_t each, std::int64_t above,
                            std::int64_t target) {
        const std::int64_t kept = each > 0 ? (target - above + each - 1) / each : 1;
        return {value, kept < ties ? kept : ties, kept >= ties, above};
    }
    /// The cut of what was found; `lacking` becomes the weights of equal elements that it does not keep.
    void set(Cut<T>& cut, const Found<T>& found, std::int64_t& lacking) const {
        cut.value = found.value;
        lacking = 0;
        if (found.all_ties) return;
        std::int64_t seen = 0;
        for_each_vector<W, true>(n_, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
            if (!any(equal(load_some(x_ + i, valid), splat<V<T>>(found.value)))) return;
            for (int j = 0; j < valid; ++j) {
                seen += x_[i + j] == found.value;
                if (seen == found.ties && cut.last == INT64_MAX) cut.last = i + j;
            }
        });
        lacking = (seen - found.ties) * weights_.of(found.value);
    }

    // ---- the class ----

    /// The draw from what top_p keeps, with the sums and the list of find().
    Drawn finish(double u, const Found<T>& found) const {
        Cut<T> cut{found.value, INT64_MAX};
        std::int64_t ties = found.all_ties ? INT64_MAX : found.ties;
        const std::int64_t each = weights_.of(found.value), all = found.above + found.ties * each;
        std::int64_t begin = 0;
        const Weights<T, R> weights = weights_;
        const auto mass_of = [&](std::int64_t block) {
            const SampleBlock& b = memory_.blocks[block];
            Whole<T> sum = splat<Whole<T>>(0);
            I equals = splat<I>(0);
            const V<T> value = splat<V<T>>(found.value);
            for_each_vector<W>(b.end - begin, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
                const V<T> v = elements(memory_.list + begin, i, valid);
                const I is_equal = equal(v, value), is_above = less(value, v);
                equals = equals + is_equal;
                if (any(is_above)) sum = sum + weights(v, equal(is_above, splat<I>(0)));
            });
            begin = b.end;
            const std::int64_t number = count_of(equals);
            const std::int64_t kept = number < ties ? number : ties;
            if (ties != INT64_MAX) {
                if (ties > 0 && number >= ties) {  // the last one kept is in this block
                    std::int64_t i = block * kSampleBlock;
                    for (std::int64_t left = ties; left > 0 && i < n_; ++i) left -= x_[i] == found.value;
                    cut.last = i - 1;
                }
                ties -= kept;
            }
            return b.mass + static_cast<std::int64_t>(total(sum)) + kept * each;
        };
        if (found.all_ties) return pick(u, all, cut, mass_of);
        // Which of the equal elements is the last one must be known before the row is read again.
        const std::int64_t blocks = (n_ + kSampleBlock - 1) / kSampleBlock;
        for (std::int64_t b = 0; b < blocks; ++b) memory_.blocks[b].mass = mass_of(b);
        return pick(u, all, cut, [&](std::int64_t block) { return memory_.blocks[block].mass; });
    }
    /// The first class whose running sum exceeds u times all.
    template <class MassOf>
    Drawn pick(double u, std::int64_t all, const Cut<T>& cut, MassOf mass_of) const {
        const std::int64_t goal = whole_product(u, all).floor;
        const std::int64_t last_block = (n_ - 1) / kSampleBlock;
        std::int64_t sum = 0, block = 0;
        for (; block < last_block; ++block) {
            const std::int64_t mass = mass_of(block);
            if (sum + mass > goal) break;
            sum += mass;
        }
        const std::int64_t start = block * kSampleBlock;
        const std::int64_t size = n_ - start < kSampleBlock ? n_ - start : kSampleBlock;
        for (std::int64_t i = 0; i < size; i += W) {
            const int valid = static_cast<int>(size - i < W ? size - i : W);
            const V<T> v = elements(x_ + start, i, valid), value = splat<V<T>>(cut.value);
            I dropped = less(v, value);
            if (cut.last < start + i + W) {
                const std::int64_t left = cut.last + 1 - (start + i);
                const int equal_kept = left < 0 ? 0 : static_cast<int>(left < W ? left : W);
                dropped = dropped | select(first_lanes<I>(equal_kept), splat<I>(0), equal(v, value));
            }
            std::uint64_t lanes[W];
            store(lanes, weights_(v, dropped));
            for (int j = 0; j < valid; ++j) {
                sum += static_cast<std::int64_t>(lanes[j]);
                if (sum > goal) return {start + i + j, logprob(x_[start + i + j], all, x_, n_, cut)};
            }
        }
        return {0, __builtin_nan("")};  // another thread has written the row meanwhile
    }

    // ---- the k largest ----

    /// Collects the elements of the row that `found` keeps, at most top_k, in the order of their index.
    /// Returns how many they are.
    std::int64_t collect(const Found<T>& found, T* kept, std::int64_t* index) const {
        std::int64_t held = 0, ties = found.ties;
        V<T> least = splat<V<T>>(found.value);
        for (std::int64_t i = 0; i < n_ && held < filters_.top_k; i += W) {
            const int valid = static_cast<int>(n_ - i < W ? n_ - i : W);
            if (!any(equal(less(elements(x_, i, valid), least), splat<I>(0)))) continue;
            for (int j = 0; j < valid && held < filters_.top_k; ++j) {
                const T x = x_[i + j];
                if (!(x > found.value) && !(x == found.value && ties-- > 0)) continue;
                kept[held] = x;
                index[held++] = i + j;
            }
            if (ties <= 0) least = splat<V<T>>(next_up(found.value));
        }
        return held;
    }
    /// Keeps the elements of a list that are above `least`, and the first `ties` that equal it. Returns its
    /// new length.
    static std::int64_t keep(T least, std::int64_t ties, T* kept, std::int64_t* index, std::int64_t held) {
        std::int64_t left = 0;
        for (std::int64_t i = 0; i < held; ++i) {
            if (!(kept[i] > least) && !(kept[i] == least && ties-- > 0)) continue;
            kept[left] = kept[i];
            index[left++] = index[i];
        }
        return left;
    }
    /// The draw from the k largest, k at most kSampleList.
    Drawn draw_from_list(double u) const {
        std::int64_t index[kSampleList];
        std::uint64_t weight[kSampleList + W];
        T kept[kSampleList + W];
        std::int64_t held = collect(find<false>(kLowest<T>, 0), kept, index);
        if (held == 0) return {0, __builtin_nan("")};  // another thread has written the row meanwhile
        if (filters_.top_p < 1) {
            const auto product = whole_product(filters_.top_p, mass_of<true>(kept, held));
            const Found<T> found =
                last_of<true>(kept, held, range(kept, held), 0, product.floor + !product.exact);
            held = keep(found.value, found.ties, kept, index, held);
        }
        held = keep(least_of_min_p(maximum_, filters_), held, kept, index, held);
        if (held == 0) return {0, __builtin_nan("")};
        std::int64_t all = 0;
        for (std::int64_t i = 0; i < held; i += W)
            store(weight + i,
                  weights_(elements(kept, i, static_cast<int>(held - i < W ? held - i : W)), splat<I>(0)));
        for (std::int64_t i = 0; i < held; ++i) all += static_cast<std::int64_t>(weight[i]);
        const std::int64_t goal = whole_product(u, all).floor;
        std::int64_t sum = static_cast<std::int64_t>(weight[0]), i = 0;
        while (sum <= goal && i < held - 1) sum += static_cast<std::int64_t>(weight[++i]);
        return {index[i], logprob(kept[i], all, kept, held, {})};
    }

    // ---- log-probability ----

    /// Exponentials of the elements below the maximum that the cut keeps, over that of the maximum; and how
    /// many elements equal the maximum.
    struct Others {
        Pair<V<T>> ratio;
        std::int64_t maxima;
    };
    [[gnu::noinline]] Others others(const T* x, std::int64_t n, const Cut<T>& cut) const {
        Others found{splat_pair<V<T>>(0, 0), 0};
        const V<T> top = splat<V<T>>(maximum_);
        with_exp_shift<T>(top, temperature_, [&](const auto& shift) SOFTLOSS_LAMBDA {
            Pair<V<T>> all = splat_pair<V<T>>(0, 0);
            const std::int64_t middle = cut.last < n - 1 ? cut.last + 1 : n;
            const auto add = [&](std::int64_t begin, std::int64_t limit, T least) {
                const V<T> floor = splat<V<T>>(least);
                for (std::int64_t chunk = begin; chunk < limit; chunk += kChunk<T>) {
                    const std::int64_t size = limit - chunk < kChunk<T> ? limit - chunk : kChunk<T>;
                    CarefulSum<V<T>> sum;
                    I maxima = splat<I>(0);
                    for_each_vector<W, true>(size, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
                        const V<T> v = elements(x + chunk, i, valid);
                        const auto e = shift.exp(v);
                        const I is_max = equal(v, top) & equal(less(v, floor), splat<I>(0));
                        maxima = maxima + is_max;
                        sum.add({select(is_max | less(v, floor), splat<V<T>>(0), e.scale), e.fraction});
                    });
                    all = all + sum.total();
                    found.maxima += count_of(maxima);
                }
            };
            add(0, middle, cut.value);
            if (middle < n) add(middle, n, next_up(cut.value));
            const Pair<T> s = fold_lanes(all);
            found.ratio = splat_pair<V<T>>(s.hi, s.lo) / shift.exp(top).pair();
        });
        return found;
    }
    /// log of the share of an element `value`, among n elements at x of which the cut keeps those whose
    /// weights sum up to `all`.
    double logprob(T value, std::int64_t all, const T* x, std::int64_t n, const Cut<T>& cut) const {
        using DV = V<double>;
        if constexpr (sizeof(T) == 4) {
            const double gap =
                temperature_.is_one()
                    ? static_cast<double>(maximum_) - static_cast<double>(value)
                    : (static_cast<double>(maximum_) - static_cast<double>(value)) / filters_.temperature;
            const double top = static_cast<double>(weights_.of(maximum_));
            const double sum = static_cast<double>(all) - top;
            const double log = first(log1p(DV(splat<DV>(sum / top))));
            // Rounding changes each weight by at most 0.5. No weight is below that of the cut, so there are
            // at most sum / least of them.
            const double least = cut.value > kLowest<T> ? static_cast<double>(weights_.of(cut.value)) : 0;
            const double count = static_cast<double>(n), most = least > 0 ? sum / least : count;
            const double error = 0.5 * (most < count ? most : count) / static_cast<double>(all);
            if (error <= 0x1p-28 * (gap + log)) return 0 - (gap + log);
            const Others rest = others(x, n, cut);
            const double others_sum = static_cast<double>(first(rest.ratio.hi)) + first(rest.ratio.lo) +
                                      static_cast<double>(rest.maxima - 1);
            return 0 - (gap + first(log1p(DV(splat<DV>(others_sum)))));
        } else {
            const Others rest = others(x, n, cut);
            const V<T> top = splat<V<T>>(maximum_), v = splat<V<T>>(value);
            const auto ratio =
                rest.ratio + Pair<V<T>>{splat<V<T>>(static_cast<T>(rest.maxima - 1)), splat<V<T>>(0)};
            const auto log = log1p_parts(ratio.hi, ratio.lo);
            const auto gap = temperature_.is_one() ? two_sum(top, -v) : temperature_.divided(top, v);
            const auto s = two_sum(gap.hi, log.hi);
            return 0 - (first(s.hi) + (first(s.lo) + (first(gap.lo) + first(log.lo))));
        }
    }

    /// What a call has at `memory` (sample_bytes).
    struct Memory {
        T *sample, *list, *narrow;
        SampleBlock* blocks;
        Memory(void* memory, std::int64_t n) {
            sample = static_cast<T*>(memory);
            list = sample + 2 * kSampleSize;
            narrow = list + sample_list(n);
            blocks = reinterpret_cast<SampleBlock*>(narrow + sample_list(n));
        }
    };

    const T* x_;
    std::int64_t n_;
    T maximum_;
    const SampleFilters& filters_;
    const Temperature<T>& temperature_;
    Weights<T, R> weights_;
    Memory memory_;
};

/// x: (n) adjacent elements -> the class that u draws. memory: sample_bytes<T>(n), 64-byte aligned.
template <class T>
Drawn sample_row(const T* x, std::int64_t n, double u, const SampleFilters& filters, void* memory) {
    const T maximum = max_or_nan(x, n);
    if (!(abs_of(maximum) < T(__builtin_inff()))) return {0, __builtin_nan("")};
    if (filters.temperature == 0) return {find_first(x, n, [&](T element) { return element == maximum; }), 0};
    const Temperature<T> temperature(filters.temperature);
    if (!kEmulatedFma && temperature.is_one() && abs_of(maximum) <= kFar<T>)
        return Sampler<T, kEmulatedFma ? Range::any : Range::near>(x, n, maximum, filters, temperature,
                                                                   memory)
            .draw(u);
    return Sampler<T, Range::any>(x, n, maximum, filters, temperature, memory).draw(u);
}

}  // namespace
}  // namespace softloss
