// The kernels of one instruction set. CMakeLists.txt compiles this file once for each, with its flags. It
// only selects kernels.
#include "instantiate.hpp"

namespace softloss::SOFTLOSS_ISA {
extern const KernelTable table;
const KernelTable table = make_table(SOFTLOSS_ISA_NAME);
}  // namespace softloss::SOFTLOSS_ISA
