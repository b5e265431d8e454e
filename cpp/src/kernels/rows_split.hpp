// The driver for one long row that several threads share.
//
// Lives here: the blocks of a row, one per thread. Must not: threads (RowOptions::for_blocks has them), ops.
//
// Shapes: x, y (rows, n), rows in turn. The passes over a row, between which the threads wait for each other:
//   1. the maximum of each block, then of the row
//   2. the sums of each block: one total per chunk (reduce.hpp)
//   3. one thread: all totals added in the row's order, and the epilogue
//   4. the results of each block
// A row has the same bits whether it is split or not, because blocks are whole chunks and totals are added in
// the order of the chunks.
//
// Each block has scratch memory of its own: its exponentials, from pass 2 to pass 4, at the start, and its
// BlockSums behind them.
#pragma once

#include "rows_along.hpp"

namespace softloss {
namespace {

/// Calls f(block, its own scratch memory) for each of options.blocks blocks, in parallel.
template <class F>
SOFTLOSS_INLINE void for_each_block(const RowOptions& options, const F& f) {
    struct Context {
        const F& f;
        char* scratch;
    };
    const Context context{f, static_cast<char*>(options.scratch)};
    options.for_blocks(
        options.blocks,
        [](const void* c, std::int64_t block) {
            const Context& shared = *static_cast<const Context*>(c);
            shared.f(block, shared.scratch + block * kScratchBytes);
        },
        &context);
}

/// The elements of one block: whole chunks, except that the last block also takes the rest of the row.
template <class T>
struct BlockRange {
    std::int64_t first, n;

    BlockRange(std::int64_t begin, std::int64_t end, std::int64_t block, std::int64_t blocks) {
        const std::int64_t chunks = (end - begin) / kChunk<T>;
        first = begin + chunks * block / blocks * kChunk<T>;
        n = (block + 1 == blocks ? end : begin + chunks * (block + 1) / blocks * kChunk<T>)-first;
    }
};

/// The sums of a block. They lie in its scratch memory, behind the exponentials.
template <class T>
BlockSums<T>& block_sums(void* scratch) {
    static_assert(kExpBufferBytes < kTileBytes && kTileBytes + sizeof(BlockSums<T>) <= kScratchBytes);
    return *reinterpret_cast<BlockSums<T>*>(static_cast<char*>(scratch) + kTileBytes);
}

/// x: (n), one block -> sums, and its exponentials in exps unless that is null. without_max: the sum leaves
/// out the elements that equal the maximum, and counts them. careful: forms the same sum by CarefulSum; it
/// writes neither exponentials nor the count, which are right already.
template <class T>
void sum_block(const T* x, std::int64_t n, bool without_max, bool careful, V<T> maximum,
               const Temperature<T>& temperature, T* exps, BlockSums<T>& sums) {
    if (careful) {
        with_exp_shift<T>(maximum, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
            careful_row_sum(x, n, shift, sums.total);
        });
        return;
    }
    char* const here = reinterpret_cast<char*>(const_cast<T*>(x));
    const RowsOut row{here, 0, sizeof(T)};
    Stats<T> none;
    const auto run = without_max ? rows_stats<true, T, NoStores> : rows_stats<false, T, NoStores>;
    run({here, 0, sizeof(T)}, 1, n, maximum, temperature, exps, 0, none, here, row, {}, &sums);
}

/// x: (n), one row -> its statistics, broadcast to every lane (passes 1 to 3). buffered: the exponentials of
/// each block are kept in its scratch memory. If BlockSums cannot hold the totals of a block, the row is
/// summed in several rounds, each with blocks of its own; it is not buffered then.
template <class T>
[[gnu::noinline]] void split_stats(const T* x, std::int64_t n, bool without_max,
                                   const Temperature<T>& temperature, bool buffered,
                                   const RowOptions& options, Stats<T>& stats) {
    const std::int64_t blocks = options.blocks;
    const auto sums_of = [&](std::int64_t b) -> BlockSums<T>& {
        return block_sums<T>(static_cast<char*>(options.scratch) + b * kScratchBytes);
    };
    for_each_block(options, [&](std::int64_t b, void* scratch) {
        const BlockRange<T> range(0, n, b, blocks);
        block_sums<T>(scratch).maximum = row_max(x + range.first, range.n);
    });
    V<T> largest = sums_of(0).maximum;
    for (std::int64_t b = 1; b < blocks; ++b) largest = max(largest, sums_of(b).maximum);
    const T top = fold(largest, [](auto a, auto b) SOFTLOSS_LAMBDA { return max(a, b); });
    stats.maximum = splat<V<T>>(top) + splat<V<T>>(0);

    auto max_count = splat<IntVec<T, kLanes<T>>>(0), error_units = max_count;
    for (const bool careful : {false, true}) {
        Pair<V<T>> all = splat_pair<V<T>>(0, 0);
        const std::int64_t most = blocks * BlockSums<T>::kChunks * kChunk<T>;
        for (std::int64_t begin = 0; begin < n; begin += most) {
            const std::int64_t end = n - begin < most ? n : begin + most;
            for_each_block(options, [&](std::int64_t b, void* scratch) {
                const BlockRange<T> range(begin, end, b, blocks);
                sum_block(x + range.first, range.n, without_max, careful, stats.maximum, temperature,
                          buffered ? static_cast<T*>(scratch) : nullptr, block_sums<T>(scratch));
            });
            for (std::int64_t b = 0; b < blocks; ++b) {
                const BlockRange<T> range(begin, end, b, blocks);
                const BlockSums<T>& block = sums_of(b);
                for (std::int64_t c = 0; c * kChunk<T> < range.n; ++c)
                    all = range.first + c == 0 ? block.total[c] : all + block.total[c];
                if (careful) continue;
                max_count = max_count + block.max_count;
                error_units = error_units + block.error_units;
            }
        }
        const auto folded = fold_lanes(all);
        stats.sum = {splat<V<T>>(folded.hi), splat<V<T>>(folded.lo)};
        if (!without_max || !RowSum<T>::is_imprecise(folded.hi, error_units)) break;
    }
    const auto add = [](auto a, auto b) SOFTLOSS_LAMBDA { return a + b; };
    stats.max_count = convert<T>(splat<IntVec<T, kLanes<T>>>(fold(max_count, add)));
    with_exp_shift<T>(stats.maximum, temperature, [&](const auto& shift) SOFTLOSS_LAMBDA {
        stats.max_exp = shift.exp(shift.maximum).pair();
    });
}

/// x, y (and second): (rows, n) along the vectors. The blocks of each row run in parallel. y may be x.
template <class T, RowOp<T> Op>
[[gnu::noinline]] void rows_split(RowsIn x, RowsOut y, RowsOut second, std::int64_t rows, std::int64_t n,
                                  const RowOptions& options, Op& op) {
    const Temperature<T> temperature(options.temperature);
    const bool buffered = Op::kExp && fits_exp_buffer<T>(n / options.blocks + 2 * kChunk<T>);
    for (std::int64_t r = 0; r < rows; ++r) {
        Stats<T> stats;
        typename Op::Epilogue epilogue;
        split_stats(reinterpret_cast<const T*>(x.data + r * x.row_stride), n, Op::kWithoutMax, temperature,
                    buffered, options, stats);
        op.epilogue(stats, r, 1, epilogue);
        if constexpr (Op::kResults > 0) {
            for_each_block(options, [&](std::int64_t b, void* scratch) {
                const BlockRange<T> range(0, n, b, options.blocks);
                const auto block_of = [&](auto to) SOFTLOSS_LAMBDA {
                    if (to.data) to.data += r * to.row_stride + range.first * std::int64_t{sizeof(T)};
                    return to;
                };
                SharedCacheLine<T> shared[2];
                write_rows<T, Op>(block_of(x), block_of(y), block_of(second), 1, range.n, epilogue,
                                  stats.maximum, temperature, static_cast<T*>(scratch), 0, buffered,
                                  options.nontemporal, shared);
                for (SharedCacheLine<T>& line : shared) line.flush();
                if (options.nontemporal) fence();
            });
        }
        if constexpr (Op::kLabels) op.store_at_labels(r, 1);
    }
}

}  // namespace
}  // namespace softloss
