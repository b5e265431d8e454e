// The kernels compiled for avx512; CMakeLists.txt gives the flags. Chooses, never computes.
#include "instantiate.hpp"

namespace softloss {
extern const KernelTable avx512_table;
const KernelTable avx512_table = make_table("avx512");
}  // namespace softloss
