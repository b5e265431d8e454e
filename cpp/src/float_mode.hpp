// The floating-point mode of all computations.
//
// Lives here: the control register of the CPU's floating-point unit. Must not: anything that computes.
#pragma once

#include <cstdint>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <cfenv>
#endif

namespace softloss {

/// Sets the default floating-point mode on the current thread for its lifetime: round to nearest, keep
/// subnormal numbers, trap no exception. Other libraries set other modes for a whole thread (above all, flush
/// to zero), and results must not depend on that. The mode is nearly always the default one already; then
/// nothing is written.
///
/// Compilers do not know that arithmetic depends on the mode. So computations between constructor and
/// destructor must be in functions that are not inlined, or store their results in memory.
class DefaultFloatMode {
  public:
    DefaultFloatMode() : before_(get()) {
        if ((before_ & kControl) != kDefault) [[unlikely]]
            set(kDefault);
    }
    ~DefaultFloatMode() {
        if ((before_ & kControl) != kDefault) [[unlikely]]
            set(before_);
    }
    DefaultFloatMode(const DefaultFloatMode&) = delete;
    DefaultFloatMode& operator=(const DefaultFloatMode&) = delete;

  private:
#if defined(__x86_64__)
    using Register = std::uint32_t;                                  // MXCSR
    static constexpr Register kDefault = 0x1f80, kControl = 0xffc0;  // the rest records exceptions
    static Register get() {
        Register value;
        __asm__ volatile("stmxcsr %0" : "=m"(value) : : "memory");
        return value;
    }
    static void set(Register value) { __asm__ volatile("ldmxcsr %0" : : "m"(value) : "memory"); }
#elif defined(__aarch64__)
    using Register = std::uint64_t;  // FPCR
    static constexpr Register kDefault = 0, kControl = ~Register{0};
    static Register get() {
        Register value;
        __asm__ volatile("mrs %0, fpcr" : "=r"(value) : : "memory");
        return value;
    }
    static void set(Register value) { __asm__ volatile("msr fpcr, %0" : : "r"(value) : "memory"); }
#else  // other CPUs have no mode but rounding
    using Register = int;
    static constexpr Register kDefault = FE_TONEAREST, kControl = -1;
    static Register get() { return std::fegetround(); }
    static void set(Register value) { std::fesetround(value); }
#endif

    const Register before_;
};

}  // namespace softloss
