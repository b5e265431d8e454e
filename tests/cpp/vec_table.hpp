// The checks of the vector layer, one table for each instruction set.
// Lives here: the contract between vec_isa.cpp and test_vec.cpp. Must not: vectors.
#pragma once

#include <cstdint>

/// What checks report to.
struct VecReport {
    /// `actual` and `expected` are bit patterns; `lanes` those of the vector, `place` the index of the
    /// element.
    void (*mismatch)(const char* operation, int lanes, std::int64_t place, std::uint64_t actual,
                     std::uint64_t expected);
    std::int64_t compared = 0;  ///< how many values were compared
};

/// Memory between two pages that cannot be read or written, from `begin` to `end`.
struct GuardedMemory {
    char *begin, *end;
};

struct VecTable {
    const char* name;
    void (*arithmetic)(VecReport&);
    void (*integers)(VecReport&);
    void (*fma)(VecReport&);
    void (*conversions)(VecReport&);
    void (*lanes)(VecReport&);
    void (*transposes)(VecReport&, GuardedMemory);
    void (*storage)(VecReport&);
    void (*partial)(VecReport&, GuardedMemory);
    void (*memory)(VecReport&, GuardedMemory);
};

// One for each instruction set that was compiled: SOFTLOSS_ISAS is the list of CMakeLists.txt.
#define SOFTLOSS_ISA_ROW(name)       \
    namespace name {                 \
    extern const VecTable vec_table; \
    }
SOFTLOSS_ISAS
#undef SOFTLOSS_ISA_ROW
