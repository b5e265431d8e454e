// The vector functions of kernels/math.hpp and elementwise.hpp as plain functions over arrays, one table for
// each instruction set. Lives here: the contract between math_isa.cpp and test_math.cpp. Must not: vectors.
#pragma once

#include <cstdint>

/// Each computes y[i] = f(x[i]) for n elements, n a multiple of 16.
template <class T>
struct MathFunctions {
    using Map = void (*)(const T* x, T* y, std::int64_t n);
    Map exp, exp_nonpositive, log, log1p, log1p_of_exp, sigmoid, log_sigmoid;
};

struct MathTable {
    const char* name;
    MathFunctions<float> f32;
    MathFunctions<double> f64;
};

// One for each instruction set that was compiled: SOFTLOSS_ISAS is the list of CMakeLists.txt.
#define SOFTLOSS_ISA_ROW(name)         \
    namespace name {                   \
    extern const MathTable math_table; \
    }
SOFTLOSS_ISAS
#undef SOFTLOSS_ISA_ROW
