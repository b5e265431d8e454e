// The record that decides whether threads pay, in simulated conditions: times are made up.
#include <functional>

#include "support.hpp"
#include "thread_record.hpp"

namespace {

constexpr std::int64_t kUs = 1000, kMs = 1'000'000;

/// Loops that ran: how many in parallel, how many much slower than on one thread, how many in all; the time
/// that they took, and what they would have taken on one thread.
struct Loops {
    int together = 0, bad = 0, all = 0;
    std::int64_t taken = 0, alone = 0;

    double share_together() const { return static_cast<double>(together) / all; }
    double share_bad() const { return static_cast<double>(bad) / all; }
    /// Time relative to that of one thread.
    double ratio() const { return static_cast<double>(taken) / static_cast<double>(alone); }
};

/// Runs loops that take `alone` ns on one thread. The n-th one in parallel takes the ns that together(n)
/// returns.
Loops run(softloss::ThreadRecord& record, int count, std::int64_t alone,
          const std::function<std::int64_t(int)>& together) {
    Loops loops;
    for (loops.all = 0; loops.all < count; ++loops.all) {
        std::int64_t ns = alone;
        if (record.waits()) {
            record.ran_serial(ns);
        } else {
            ns = together(loops.together++);
            record.ran_parallel(ns, alone);
        }
        loops.bad += 10 * ns > 11 * alone;
        loops.taken += ns;
        loops.alone += alone;
    }
    return loops;
}

}  // namespace

TEST_CASE("threads that pay are always used") {
    for (std::int64_t alone : {20 * kUs, 200 * kUs, 20 * kMs}) {
        softloss::ThreadRecord record;
        CHECK(run(record, 1000, alone, [&](int) { return alone * 6 / 10; }).together == 1000);
    }
}

TEST_CASE("what is lost to late threads stays below a tenth, in time and in the number of loops") {
    for (std::int64_t alone : {20 * kUs, 200 * kUs, 2 * kMs, 20 * kMs}) {
        for (std::int64_t late : {alone / 5, alone, 7 * kMs}) {
            for (int every : {1, 2, 3, 5}) {
                CAPTURE(alone);
                CAPTURE(late);
                CAPTURE(every);
                softloss::ThreadRecord record;
                const auto together = [&](int n) { return n % every == 0 ? alone + late : alone / 2; };
                run(record, 200, alone, together);
                const Loops loops = run(record, 5000, alone, together);
                CHECK(loops.share_bad() < 0.1);
                CHECK(loops.ratio() < 1.1);
            }
        }
    }
}

TEST_CASE("threads that are late in every loop are hardly ever used") {
    for (std::int64_t alone : {50 * kUs, 2 * kMs}) {
        softloss::ThreadRecord record;
        const Loops loops = run(record, 20'000, alone, [&](int) { return alone + 4 * kMs; });
        CHECK(loops.share_together() < 0.01);
        CHECK(loops.ratio() < 1.05);
    }
}

TEST_CASE("a delay now and then does not end the use of threads") {
    const std::int64_t alone = 200 * kUs;
    softloss::ThreadRecord record;
    const Loops loops =
        run(record, 20'000, alone, [&](int n) { return n % 2000 == 7 ? 4 * kMs : alone / 2; });
    CHECK(loops.share_together() > 0.8);
    CHECK(loops.ratio() < 0.7);
}

TEST_CASE("threads are used again soon after what delayed them is gone") {
    const std::int64_t alone = 200 * kUs;
    softloss::ThreadRecord record;
    run(record, 5000, alone, [&](int) { return 4 * kMs; });
    CHECK(record.waits());
    CHECK(run(record, 6400, alone, [&](int) { return alone / 2; }).together > 0);
    CHECK(run(record, 1000, alone, [&](int) { return alone / 2; }).together == 1000);
}

TEST_CASE("the first loop after a wait may take the time to wake its threads") {
    const std::int64_t alone = 40 * kUs;
    softloss::ThreadRecord record;
    run(record, 1, alone, [&](int) { return 4 * kMs; });
    REQUIRE(record.waits());
    while (record.waits()) record.ran_serial(alone);
    record.ran_parallel(alone + 150 * kUs, alone);
    CHECK(!record.waits());
    record.ran_parallel(alone + 150 * kUs, alone);
    CHECK(record.waits());
}
