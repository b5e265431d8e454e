// The kernels compiled for neon; CMakeLists.txt gives the flags. Chooses, never computes.
#include "instantiate.hpp"

namespace softloss {
extern const KernelTable neon_table;
const KernelTable neon_table = make_table("neon");
}  // namespace softloss
