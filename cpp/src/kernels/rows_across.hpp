// The driver for rows across the vectors: W rows are the lanes, one element of each at a time.
//
// Lives here: the passes over a tile of rows. Must not: what an op computes, how a tile is transposed
// (tile.hpp).
//
// Shapes: x, y, second (rows, n), n <= kMaxTile (callers stage longer rows). The passes over a tile:
//   1. load the tile, with the row maxima
//   2. statistics of each group of W rows; exponentials, if the op wants them
//   3. the epilogue of each group: one dependency chain, so all groups of the tile are in flight
//   4. results, the second before the first, as in rows_along.hpp
// y may be x. In place, a store must not go beyond a tile, into rows that are still to be read. `second`
// overlaps neither x nor y.
//
// Scratch memory: a tile of elements, a tile of exponentials, memory to pack short rows, the constants of
// groups.
#pragma once

#include "row_op.hpp"
#include "tile.hpp"

namespace softloss {
namespace {

/// x: (rows, n) -> the groups of a tile, and their row maxima unless `maxima` is null. more: rows follow
/// these in memory, so that a few elements beyond them may be read.
template <class T>
SOFTLOSS_INLINE void load_groups(const Storage<T>& storage, const RowsIn& x, int rows, std::int64_t n,
                                 T* tile, std::int64_t pitch, T* packed, bool more, V<T>* maxima) {
    constexpr int W = kLanes<T>;
    if (x.row_stride == storage.size) return storage.load_adjacent_rows(x, rows, n, tile, pitch, maxima);
    for (int g = 0; g * W < rows; ++g) {
        storage.load({x.data + g * W * x.row_stride, x.row_stride, x.element_stride},
                     rows_of_group<T>(rows, g), n, tile + g * W, pitch, packed, more || (g + 1) * W < rows);
        if (maxima) maxima[g] = tile_max(tile + g * W, pitch, n);
    }
}

/// x, y (and second): (rows, n) across the vectors. y may be x (same layout).
template <class T, RowOp<T> Op>
[[gnu::noinline]] void rows_across(const Storage<T>& storage, RowsIn x, RowsOut y, RowsOut second,
                                   std::int64_t rows, std::int64_t n, const RowOptions& options, Op& op) {
    constexpr int W = kLanes<T>;
    const Temperature<T> temperature(options.temperature);
    T* const elements = static_cast<T*>(options.scratch);
    T* const exponentials = elements + kTileBytes / sizeof(T);
    T* const packed = exponentials + kTileBytes / sizeof(T);
    // How many groups of short rows are summed at once. Sums without the maximum need more registers per
    // group.
    constexpr int kGroupsInFlight = sizeof(T) < 8 && kUnroll > 1 ? Op::kWithoutMax ? 2 : kUnroll : 1;
    const bool scaled = !temperature.is_one();
    const int groups = groups_of_tile<T>(x, storage.size, n);
    const std::int64_t pitch =
        (groups | 1) * W;  // an odd number of vectors: powers of two use few cache sets
    const bool in_place = x.data == y.data, rows_adjacent = y.row_stride == storage.size;
    // Non-temporal stores must write whole cache lines: a line that is also written through the caches would
    // be read and written several times. So the rows before the first whole line, the head, are a tile of
    // their own. That works if a line begins between two rows, and if the results of all elements, in both
    // outputs, begin at the same place in a line.
    const std::int64_t head_bytes = aligned_head(y.data);
    const bool nontemporal =
        options.nontemporal && rows_adjacent && (head_bytes % storage.size | y.element_stride % 64) == 0 &&
        (!second.data || (aligned_head(second.data) == head_bytes && second.element_stride % 64 == 0));
    const int tile_rows = groups * W, head = static_cast<int>(head_bytes / storage.size);
    int limit = nontemporal && head > 0 && head < tile_rows ? head : tile_rows;
    struct Constants {
        Stats<T> stats[kMaxGroups];
        V<T> maxima[kMaxGroups];
        typename Op::Epilogue epilogues[kMaxGroups];
    };
    // No structured binding: lambdas of Clang 15 cannot capture one.
    Constants& constants = tile_constants<Constants>(options.scratch);
    Stats<T>* const stats = constants.stats;
    V<T>* const maxima = constants.maxima;
    typename Op::Epilogue* const epilogues = constants.epilogues;
    int count = 0;
    for (std::int64_t first = 0; first < rows; first += count, limit = tile_rows) {
        count = rows - first < limit ? static_cast<int>(rows - first) : limit;
        const bool more = first + count < rows;
        load_groups(storage, rows_from(x, first), count, n, elements, pitch, packed, more, maxima);
        // The next batch usually follows in memory. So the prefetch goes beyond the last tile, if there is
        // more than one.
        PrefetchCursors cursors{
            PrefetchCursor::next(x, first + count, count, n, storage.size, rows > tile_rows),
            PrefetchCursor::stay(x.data)};
        if (Op::kResults > 0 && rows > W)
            cursors.out = PrefetchCursor::results(rows_from(y, first), count, n, storage.size, nontemporal);
        for (int g = 0; g * W < count;) {
            T* const tile = elements + g * W;
            // Exponentials replace the elements, unless a second, careful sum may need the elements.
            T* const exps = !Op::kExp ? nullptr : Op::kWithoutMax ? exponentials + g * W : tile;
            if constexpr (kGroupsInFlight > 1) {
                if (n < kShortRow && (g + kGroupsInFlight - 1) * W < count && !scaled &&
                    stats_unrolled<Op::kWithoutMax, kGroupsInFlight * W>(tile, exps, pitch, n, maxima + g,
                                                                         temperature, cursors, stats + g)) {
                    g += kGroupsInFlight;
                    continue;
                }
            }
            tile_stats<Op::kWithoutMax>(tile, exps, pitch, n, maxima[g], temperature, cursors, stats[g]);
            ++g;
        }
        for (int g = 0; g * W < count; ++g)
            op.epilogue(stats[g], first + g * W, rows_of_group<T>(count, g), epilogues[g]);
        if constexpr (Op::kResults > 0) {
            const T* const from = Op::kExp && Op::kWithoutMax ? exponentials : elements;
            for (int k = Op::kResults; k-- > 0;) {
                const bool is_second = k == 1;
                const TileWriter<T> write{
                    storage, pitch, count, n, packed, more && (is_second || !in_place), nontemporal};
                write(from, elements, rows_from(is_second ? second : y, first),
                      [&](int g, std::int64_t i, V<T> v) SOFTLOSS_LAMBDA {
                          const auto& epilogue = epilogues[g];
                          if constexpr (Op::kResults == 2) {
                              if (is_second) {
                                  V<T> result = epilogue.second(v);
                                  if (epilogue.may_be_nan) result = epilogue.canonical_second(result);
                                  if constexpr (Op::kLabels) result = epilogue.second_at(i, result);
                                  return result;
                              }
                          }
                          V<T> result = epilogue(v);
                          if (epilogue.may_be_nan) result = epilogue.canonical_result(result);
                          if constexpr (Op::kLabels) result = epilogue.at(i, result);
                          return result;
                      });
            }
        }
    }
}

}  // namespace
}  // namespace softloss
