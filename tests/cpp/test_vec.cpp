// Every operation of the vector layer against plain scalar code, on every usable instruction set. The checks
// are in vec_isa.cpp, which is compiled once for each.
#include <algorithm>
#include <cstdio>

#include "isa_tables.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace {

/// Two pages between pages that cannot be read or written; ordinary memory if there is no mmap.
class Guarded {
  public:
#if defined(__unix__) || defined(__APPLE__)
    Guarded() : page_(sysconf(_SC_PAGESIZE)) {
        void* const all = mmap(nullptr, 4 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REQUIRE(all != MAP_FAILED);
        memory_ = static_cast<char*>(all);
        REQUIRE(mprotect(memory_ + page_, 2 * page_, PROT_READ | PROT_WRITE) == 0);
    }
    ~Guarded() { munmap(memory_, 4 * page_); }
#else
    Guarded() : page_(4096), memory_(new char[4 * page_]) {}
    ~Guarded() { delete[] memory_; }
#endif
    Guarded(const Guarded&) = delete;

    GuardedMemory memory() const { return {memory_ + page_, memory_ + 3 * page_}; }

  private:
    std::int64_t page_;
    char* memory_;
};

/// Runs a check on each usable instruction set; every mismatch is a failure.
template <class Check>
void on_each_table(Check check) {
    for (const VecTable* table : usable(compiled_vec_tables())) {
        CAPTURE(std::string(table->name));
        VecReport report{[](const char* operation, int lanes, std::int64_t place, std::uint64_t actual,
                            std::uint64_t expected) {
            char line[200];
            std::snprintf(line, sizeof line, "%s of %d lanes, element %lld: bits %llx instead of %llx",
                          operation, lanes, static_cast<long long>(place),
                          static_cast<unsigned long long>(actual), static_cast<unsigned long long>(expected));
            FAIL_CHECK(std::string(line));
        }};
        check(*table, report);
        CHECK(report.compared > 0);
    }
}

}  // namespace

TEST_CASE("vectors: instruction sets that this machine cannot check") {
    const std::vector<const VecTable*> compiled = compiled_vec_tables();
    const auto checked = usable(compiled);
    CHECK(checked.size() > 0);
    for (const VecTable* table : compiled) {
        if (std::find(checked.begin(), checked.end(), table) == checked.end())
            MESSAGE("not checked: ", std::string(table->name));
    }
}

TEST_CASE("vectors: arithmetic, comparisons, masks and choice of floats") {
    on_each_table([](const VecTable& table, VecReport& report) { table.arithmetic(report); });
}

TEST_CASE("vectors: arithmetic, shifts and comparisons of integers") {
    on_each_table([](const VecTable& table, VecReport& report) { table.integers(report); });
}

TEST_CASE("vectors: fma rounds once") {
    on_each_table([](const VecTable& table, VecReport& report) { table.fma(report); });
}

TEST_CASE("vectors: conversions between types") {
    on_each_table([](const VecTable& table, VecReport& report) { table.conversions(report); });
}

TEST_CASE("vectors: lanes moved, combined and looked up") {
    on_each_table([](const VecTable& table, VecReport& report) { table.lanes(report); });
}

TEST_CASE("vectors: rows to columns and back touch their elements alone") {
    const Guarded guarded;
    on_each_table(
        [&](const VecTable& table, VecReport& report) { table.transposes(report, guarded.memory()); });
}

TEST_CASE("vectors: every float16 and bfloat16, and floats rounded to them") {
    on_each_table([](const VecTable& table, VecReport& report) { table.storage(report); });
}

TEST_CASE("vectors: loads and stores of the first lanes touch these alone") {
    const Guarded guarded;
    on_each_table([&](const VecTable& table, VecReport& report) { table.partial(report, guarded.memory()); });
}

TEST_CASE("vectors: loads, non-temporal stores and prefetches") {
    const Guarded guarded;
    on_each_table([&](const VecTable& table, VecReport& report) { table.memory(report, guarded.memory()); });
}
