// The kernels compiled for baseline; CMakeLists.txt gives the flags. Chooses, never computes.
#include "instantiate.hpp"

namespace softloss {
extern const KernelTable baseline_table;
const KernelTable baseline_table = make_table("baseline");
}  // namespace softloss
