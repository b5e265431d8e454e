// The floating-point mode: results have the same bits in every mode of the caller and of the worker threads,
// and a call leaves the mode as it was.
#include <cfenv>
#include <stdexcept>
#include <thread>

#include "float_mode.hpp"
#include "support.hpp"

namespace {

/// The control register of the calling thread. The tests add bits to it, as other libraries do.
#if defined(__x86_64__)
constexpr std::uint32_t kFlush = 0x8040, kTowardZero = 0x6000, kTrapDivision = 0x0200, kRecorded = 0x3f;
std::uint32_t control() {
    std::uint32_t value;
    __asm__ volatile("stmxcsr %0" : "=m"(value));
    return value & ~kRecorded;
}
void set_control(std::uint32_t value) {
    __asm__ volatile("ldmxcsr %0" : : "m"(value));
}
#elif defined(__aarch64__)
constexpr std::uint64_t kFlush = 1u << 24, kTowardZero = 3u << 22;
std::uint64_t control() {
    std::uint64_t value;
    __asm__ volatile("mrs %0, fpcr" : "=r"(value));
    return value;
}
void set_control(std::uint64_t value) {
    __asm__ volatile("msr fpcr, %0" : : "r"(value));
}
#else
constexpr int kTowardZero = FE_TOWARDZERO;
int control() {
    return std::fegetround();
}
void set_control(int value) {
    std::fesetround(value);
}
#endif
using Control = decltype(control());

const std::vector<Control> kModes = {
    kTowardZero,
#if defined(__x86_64__) || defined(__aarch64__)
    kFlush,
    kFlush | kTowardZero,
#endif
};

/// An input for which many results are subnormal.
const Tensor<float>& wide() {
    static const Tensor<float> x = numbers<float>({400, 300}, 3, 100);
    return x;
}

/// The bits of the results of several functions.
std::string results() {
    const Tensor<float>& x = wide();
    static const Tensor<float> one = numbers<float>({3}, 8, 90);
    const std::int64_t label = 1;
    const softloss::TensorView target{&label, softloss::DType::int64, {}, {}};
    const std::vector<std::int64_t> labels(400, 7);
    const std::int64_t shape[] = {400}, strides[] = {8};
    const softloss::TensorView targets{labels.data(), softloss::DType::int64, shape, strides};
    Tensor<float> y({400, 300}), g({400, 300}), small({3});
    softloss::softmax(x.view(), y.out());
    softloss::softmax(one.view(), small.out());
    const double losses[] = {softloss::cross_entropy(x.view(), targets, {.label_smoothing = 0.1}),
                             softloss::cross_entropy_and_grad(x.view(), targets, g.out()),
                             softloss::cross_entropy(one.view(), target),
                             softloss::binary_cross_entropy_with_logits(x.view(), y.view())};
    std::string bits(reinterpret_cast<const char*>(losses), sizeof losses);
    for (const Tensor<float>* t : {&y, &g, &small})
        bits.append(reinterpret_cast<const char*>(t->data.data()), t->data.size() * sizeof(float));
    return bits;
}

struct Threads {
    int before = softloss::get_num_threads();
    explicit Threads(int n) { softloss::set_num_threads(n); }
    ~Threads() { softloss::set_num_threads(before); }
};

struct Mode {
    Control before = control();
    explicit Mode(Control bits) { set_control(before | bits); }
    ~Mode() { set_control(before); }
};

}  // namespace

TEST_CASE("the caller's floating-point mode changes no bit, and stays as it was") {
    on_each_isa([] {
        for (int threads : {1, 2}) {
            const Threads setting(threads);
            const std::string expected = results();
            for (Control bits : kModes) {
                CAPTURE(bits);
                std::string got;
                Control after;
                {
                    const Mode mode(bits);
                    got = results();
                    after = control();
                }
                CHECK((got == expected));
                CHECK(after == (control() | bits));
            }
        }
    });
}

TEST_CASE("threads that were started in another mode give the same bits") {
    const Threads setting(2);
    const std::string expected = results();
    for (Control bits : kModes) {
        std::string first, second;
        std::thread([&] {  // OpenMP starts worker threads for it, which inherit its mode
            {
                const Mode mode(bits);
                first = results();
            }
            second = results();
        })
            .join();
        CHECK((first == expected));
        CHECK((second == expected));
    }
}

TEST_CASE("the mode stays as it was after an error") {
    const Mode mode(kTowardZero);
    const Control before = control();
    Tensor<float> y({2});
    CHECK_THROWS_AS(softloss::softmax(wide().view(), y.out()), std::invalid_argument);
    CHECK(control() == before);
}

TEST_CASE("DefaultFloatMode holds for as long as it lives") {
    const Control standard = control();
    for (Control bits : kModes) {
        const Mode mode(bits);
        Control inside;
        {
            const softloss::DefaultFloatMode guard;
            inside = control();
        }
        CHECK(inside == standard);
        CHECK(control() == (standard | bits));
    }
}

#if defined(__x86_64__)
TEST_CASE("exceptions that the caller traps do not trap inside") {
    const Control before = control();
    set_control(before & ~kTrapDivision);
    Tensor<double> y({3});
    const Tensor<double> logs = numbers<double>({3}, 1, 1000);
    softloss::sigmoid(logs.view(), y.out());
    {
        const softloss::DefaultFloatMode guard;
        volatile double zero = 0;
        volatile double infinite = 1 / zero;
        CHECK(std::isinf(infinite));
    }
    const Control after = control();
    set_control(before);
    CHECK(after == (before & ~kTrapDivision));
}
#endif
