// The kernels compiled for avx2; CMakeLists.txt gives the flags. Chooses, never computes.
#include "instantiate.hpp"

namespace softloss {
extern const KernelTable avx2_table;
const KernelTable avx2_table = make_table("avx2");
}  // namespace softloss
