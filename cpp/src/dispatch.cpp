#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#include "softloss/softloss.hpp"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

namespace softloss {

// SOFTLOSS_ISAS is the list of CMakeLists.txt: a row for each instruction set that was compiled, slowest
// first. The table of each comes from kernels/isa.cpp.
#define SOFTLOSS_ISA_ROW(name)      \
    namespace name {                \
    extern const KernelTable table; \
    }
SOFTLOSS_ISAS
#undef SOFTLOSS_ISA_ROW

namespace {

/// What this CPU and operating system can run: a member for each name in CMakeLists.txt.
struct Usable {
    bool baseline = true, neon = true;  // on every CPU for which they are compiled
    bool avx2 = false, avx512 = false;

#if defined(__x86_64__) || defined(__i386__)
    // By hand, not by __builtin_cpu_supports, which answers no to everything under some compilers' run-time
    // libraries.
    Usable() {
        unsigned a, b, c, d;
        if (!__get_cpuid(1, &a, &b, &c, &d)) return;
        const bool fma = c >> 12 & 1, osxsave = c >> 27 & 1, avx = c >> 28 & 1, f16c = c >> 29 & 1;
        if (!osxsave || !avx || !fma || !f16c) return;
        unsigned low, high;
        __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        const bool saves_ymm = (low & 0x06) == 0x06, saves_zmm = (low & 0xe6) == 0xe6;
        if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
        const bool f = b >> 16 & 1, dq = b >> 17 & 1, bw = b >> 30 & 1, vl = b >> 31 & 1;
        avx2 = saves_ymm && (b >> 5 & 1);
        avx512 = avx2 && saves_zmm && f && dq && bw && vl;
    }
#endif
};

std::vector<const KernelTable*> detect() {
    const Usable usable;
    std::vector<const KernelTable*> tables;
#define SOFTLOSS_ISA_ROW(name) \
    if (usable.name) tables.push_back(&name::table);
    SOFTLOSS_ISAS
#undef SOFTLOSS_ISA_ROW
    return tables;
}

const KernelTable* find(std::string_view name) {
    for (const KernelTable* table : usable_tables()) {
        if (name == table->name) return table;
    }
    return nullptr;
}

/// A name in the environment that cannot run here is ignored: a program must not fail because it runs on an
/// older machine.
const KernelTable* initial() {
    const char* const name = std::getenv("SOFTLOSS_ISA");
    const KernelTable* const named = name ? find(name) : nullptr;
    return named ? named : usable_tables().back();
}

std::atomic<const KernelTable*>& active() {
    static std::atomic<const KernelTable*> table{initial()};
    return table;
}

}  // namespace

const std::vector<const KernelTable*>& usable_tables() {
    static const std::vector<const KernelTable*> tables = detect();
    return tables;
}

const KernelTable& active_table() {
    return *active().load(std::memory_order_relaxed);
}

std::span<const std::string_view> usable_isas() {
    static const std::vector<std::string_view> names = [] {
        std::vector<std::string_view> list;
        for (const KernelTable* table : usable_tables()) list.emplace_back(table->name);
        return list;
    }();
    return names;
}

std::string_view isa() {
    return active_table().name;
}

void set_isa(std::string_view name) {
    const KernelTable* const table = find(name);
    if (!table) {
        std::string known;
        for (std::string_view n : usable_isas()) known += (known.empty() ? "" : ", ") + std::string(n);
        throw std::invalid_argument("isa '" + std::string(name) +
                                    "' is not available on this machine; choose one of " + known);
    }
    active().store(table, std::memory_order_relaxed);
}

}  // namespace softloss
