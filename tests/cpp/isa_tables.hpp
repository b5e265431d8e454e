// For the tests of the kernels' headers: the tables of plain functions that each instruction set has.
//
// Lives here: which tables were compiled, and which of them this machine can use. Must not: vectors.
#pragma once

#include <algorithm>

#include "math_table.hpp"
#include "support.hpp"
#include "vec_table.hpp"

inline std::vector<const MathTable*> compiled_math_tables() {
#define SOFTLOSS_ISA_ROW(name) &name::math_table,
    return {SOFTLOSS_ISAS};
#undef SOFTLOSS_ISA_ROW
}
inline std::vector<const VecTable*> compiled_vec_tables() {
#define SOFTLOSS_ISA_ROW(name) &name::vec_table,
    return {SOFTLOSS_ISAS};
#undef SOFTLOSS_ISA_ROW
}

/// Those whose instruction set this machine has.
template <class Table>
std::vector<const Table*> usable(std::vector<const Table*> compiled) {
    const auto names = softloss::usable_isas();
    std::erase_if(compiled, [&](const Table* table) {
        return std::find(names.begin(), names.end(), table->name) == names.end();
    });
    return compiled;
}
