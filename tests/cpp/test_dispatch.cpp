// The choice of the instruction set.
#include <cstdlib>
#include <stdexcept>

#include "support.hpp"

TEST_CASE("the fastest instruction set that can run here is chosen, or the one that the environment names") {
    const char* const named = std::getenv("SOFTLOSS_ISA");
    CHECK(softloss::isa() == (named ? std::string_view(named) : softloss::usable_isas().back()));
}

TEST_CASE("the fastest instruction set is the one that the tester expects of this machine") {
    const char* const expected = std::getenv("SOFTLOSS_EXPECTED_ISA");
    if (expected) CHECK(softloss::usable_isas().back() == expected);
}

TEST_CASE("an instruction set that cannot run here is refused, and the choice stays") {
    const std::string before(softloss::isa());
    CHECK_THROWS_AS(softloss::set_isa("mmx"), std::invalid_argument);
    CHECK(softloss::isa() == before);
}
