// Which instruction set runs: the only CPU detection.
//
// Lives here: the list of tables that were compiled, which of them this CPU can run, the choice,
// SOFTLOSS_ISA. Must not: anything that computes.
#pragma once

#include <vector>

#include "kernels/table.hpp"

namespace softloss {

/// The tables that were compiled and that this CPU and operating system can run, slowest first.
const std::vector<const KernelTable*>& usable_tables();

/// The table in use: the last usable one, or the one that SOFTLOSS_ISA or set_isa named.
const KernelTable& active_table();

}  // namespace softloss
