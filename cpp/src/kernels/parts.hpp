// One long row shared by threads, and the choice between the ways in which rows are run.
//
// Lives here: the parts of a row, run_rows. Must not: threads (RowOptions::for_parts has them), what is made of the rows.
//
// A row has the same bits with parts as without: each part consists of whole chunks (reduce.hpp) and leaves their totals, which
// are then added in the row's order. The threads meet after the maximum, after the sums, and after the results.
#pragma once

#include "rows.hpp"

namespace softloss {
namespace {

/// Calls f(part, scratch memory of its own) for options.parts parts, at the same time.
template <class F>
SOFTLOSS_INLINE void for_each_part(const RowOptions& options, const F& f) {
    struct Context {
        const F& f;
        char* scratch;
    };
    const Context context{f, static_cast<char*>(options.scratch)};
    options.for_parts(
        options.parts,
        [](const void* c, std::int64_t part) {
            const Context& context = *static_cast<const Context*>(c);
            context.f(part, context.scratch + part * kScratchBytes);
        },
        &context);
}

/// The elements of a part: whole chunks, but at the end of the row.
template <class T>
struct PartRange {
    std::int64_t first, n;

    PartRange(std::int64_t begin, std::int64_t end, std::int64_t part, std::int64_t parts) {
        const std::int64_t chunks = (end - begin) / kChunk<T>;
        first = begin + chunks * part / parts * kChunk<T>;
        n = (part + 1 == parts ? end : begin + chunks * (part + 1) / parts * kChunk<T>)-first;
    }
};

/// The sums of a part, in its scratch memory behind the exponentials.
template <class T>
PartSums<T>& part_sums(void* scratch) {
    static_assert(kStashBytes < kTileBytes && kTileBytes + sizeof(PartSums<T>) <= kScratchBytes);
    return *reinterpret_cast<PartSums<T>*>(static_cast<char*>(scratch) + kTileBytes);
}

/// Sums a part of n elements; its exponentials are left in stash where there is one.
template <class T>
void sum_part(const T* x, std::int64_t n, bool others, bool careful, V<T> maximum,
              const Temperature<T>& temperature, T* stash, PartSums<T>& part) {
    if (careful) {
        with_reference<T>(maximum, temperature,
                          [&](const auto& ref) SOFTLOSS_LAMBDA { careful_row_sum(x, n, ref, part.total); });
        return;
    }
    char* const here = reinterpret_cast<char*>(const_cast<T*>(x));
    const RowsOut row{here, 0, sizeof(T)};
    Stats<T> none;
    const auto run = others ? rows_stats<true, T, NoWriters> : rows_stats<false, T, NoWriters>;
    run({here, 0, sizeof(T)}, 1, n, maximum, temperature, stash, 0, none, here, row, {}, &part);
}

/// The statistics of a row along the vectors, in every lane. stashed: the exponentials of each part are left at the start of its
/// scratch memory.
template <class T>
[[gnu::noinline]] void parted_stats(const T* x, std::int64_t n, bool others,
                                    const Temperature<T>& temperature, bool stashed,
                                    const RowOptions& options, Stats<T>& stats) {
    const std::int64_t parts = options.parts;
    const auto sums_of = [&](std::int64_t p) -> PartSums<T>& {
        return part_sums<T>(static_cast<char*>(options.scratch) + p * kScratchBytes);
    };
    for_each_part(options, [&](std::int64_t p, void* scratch) {
        const PartRange<T> range(0, n, p, parts);
        part_sums<T>(scratch).maximum = row_max(x + range.first, range.n);
    });
    V<T> largest = sums_of(0).maximum;
    for (std::int64_t p = 1; p < parts; ++p) largest = max(largest, sums_of(p).maximum);
    const T top = fold(largest, [](auto a, auto b) SOFTLOSS_LAMBDA { return max(a, b); });
    stats.maximum = splat<V<T>>(top) + splat<V<T>>(0);

    auto maxima = splat<IntVec<T, kLanes<T>>>(0);
    for (const bool careful : {false, true}) {
        Pair<V<T>> all = splat_pair<V<T>>(0, 0);
        const std::int64_t most = parts * PartSums<T>::kChunks * kChunk<T>;
        for (std::int64_t begin = 0; begin < n; begin += most) {
            const std::int64_t end = n - begin < most ? n : begin + most;
            for_each_part(options, [&](std::int64_t p, void* scratch) {
                const PartRange<T> range(begin, end, p, parts);
                sum_part(x + range.first, range.n, others, careful, stats.maximum, temperature,
                         stashed ? static_cast<T*>(scratch) : nullptr, part_sums<T>(scratch));
            });
            for (std::int64_t p = 0; p < parts; ++p) {
                const PartRange<T> range(begin, end, p, parts);
                const PartSums<T>& part = sums_of(p);
                for (std::int64_t c = 0; c * kChunk<T> < range.n; ++c)
                    all = range.first + c == 0 ? part.total[c] : all + part.total[c];
                if (!careful) maxima = maxima + part.maxima;
            }
        }
        const auto folded = fold_lanes(all);
        stats.sum = {splat<V<T>>(folded.hi), splat<V<T>>(folded.lo)};
        if (!others || kSmallOthers<T> <= folded.hi) break;
    }
    const auto add = [](auto a, auto b) SOFTLOSS_LAMBDA { return a + b; };
    stats.maxima = convert<T>(splat<IntVec<T, kLanes<T>>>(fold(maxima, add)));
    with_reference<T>(stats.maximum, temperature,
                      [&](const auto& ref) SOFTLOSS_LAMBDA { stats.largest = ref.exp(ref.maximum).pair(); });
}

/// x, y (and second): (rows, n) along the vectors, each row shared by options.parts threads.
template <class T, class Op>
[[gnu::noinline]] void rows_parted(RowsIn x, RowsOut y, RowsOut second, std::int64_t rows, std::int64_t n,
                                   const RowOptions& options, Op& op) {
    const Temperature<T> temperature(options.temperature);
    const bool stashed = Op::kExp && fits_stash<T>(n / options.parts + 2 * kChunk<T>);
    for (std::int64_t r = 0; r < rows; ++r) {
        Stats<T> stats;
        typename Op::Finish finish;
        parted_stats(reinterpret_cast<const T*>(x.data + r * x.row), n, Op::kOthers, temperature, stashed,
                     options, stats);
        op.finish(stats, r, 1, finish);
        if constexpr (Op::kResults > 0) {
            for_each_part(options, [&](std::int64_t p, void* scratch) {
                const PartRange<T> range(0, n, p, options.parts);
                const auto part = [&](auto to) SOFTLOSS_LAMBDA {
                    if (to.data) to.data += r * to.row + range.first * std::int64_t{sizeof(T)};
                    return to;
                };
                SharedLine<T> shared[2];
                write_rows<T, Op>(part(x), part(y), part(second), 1, range.n, finish, stats.maximum,
                                  temperature, static_cast<T*>(scratch), 0, stashed, options.stream, shared);
                for (SharedLine<T>& line : shared) line.flush();
                if (options.stream) fence();
            });
        }
        if constexpr (Op::kLabels) op.after(r, 1);
    }
}

/// Whether kernels take RowOptions::parts: not where speed is lost already, nor those of halves, whose rows are seldom long;
/// their code would make the library larger.
template <class S>
constexpr bool kTakesParts = sizeof(S) == sizeof(Compute<S>) && !kEmulatedFma;

/// Runs op over (rows, n) of any layout; y and second are ignored where op has no such result.
template <class S, class Op>
SOFTLOSS_INLINE void run_rows(RowsIn x, RowsOut y, RowsOut second, std::int64_t rows, std::int64_t n,
                              const RowOptions& options, Op& op) {
    const bool along = n >= kShortRow && x.axis == sizeof(S) && (Op::kResults < 1 || y.axis == sizeof(S)) &&
                       (Op::kResults < 2 || second.axis == sizeof(S));
    if (!along) return rows_across(kStorage<S>, x, y, second, rows, n, options, op);
    if constexpr (kTakesParts<S>) {
        if (options.parts > 1) return rows_parted<S>(x, y, second, rows, n, options, op);
    }
    rows_along<S>(x, y, second, rows, n, options, op);
}

}  // namespace
}  // namespace softloss
