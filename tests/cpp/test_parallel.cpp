// The parallel loop: every task runs once, concurrent calls share threads, exceptions, calls inside other
// regions.
#include <atomic>
#include <chrono>
#include <mutex>
#include <new>
#include <set>
#include <thread>

#include "parallel.hpp"
#include "support.hpp"

namespace {

constexpr std::int64_t kPlenty = std::int64_t{1} << 40;  // enough work for as many threads as are allowed

/// Sets the number of threads for its lifetime.
struct Threads {
    int before = softloss::get_num_threads();
    explicit Threads(int n) { softloss::set_num_threads(n); }
    ~Threads() { softloss::set_num_threads(before); }
};

}  // namespace

TEST_CASE("every task runs once, with scratch memory of its thread") {
    for (int threads : {1, 2, 5}) {
        const Threads setting(threads);
        for (std::int64_t tasks : {0, 1, 2, 7, 1000}) {
            std::vector<int> runs(tasks);
            std::atomic<int> aligned{0};
            softloss::parallel_for(tasks, kPlenty, 100, [&](std::int64_t task, void* scratch) {
                std::memset(scratch, static_cast<int>(task), 100);
                aligned += reinterpret_cast<std::uintptr_t>(scratch) % 64 == 0;
                ++runs[task];
            });
            CHECK(runs == std::vector<int>(tasks, 1));
            CHECK(aligned == tasks);
        }
    }
}

TEST_CASE("calls at the same time share the threads") {
    const Threads setting(4);
    constexpr int callers = 5;
    std::atomic<int> running{0}, most{0};
    std::vector<std::thread> pool;
    for (int caller = 0; caller < callers; ++caller) {
        pool.emplace_back([&] {
            for (int call = 0; call < 20; ++call) {
                softloss::parallel_for(8, kPlenty, 0, [&](std::int64_t, void*) {
                    const int now = ++running;
                    for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
                    }
                    std::this_thread::sleep_for(std::chrono::microseconds(100));
                    --running;
                });
            }
        });
    }
    for (std::thread& thread : pool) thread.join();
    CHECK(running == 0);
    CHECK(most <= 4 + callers - 1);  // a caller always has its own thread, even if the others leave none
}

TEST_CASE("an exception of a task reaches the caller, and the next call is as good as ever") {
    const Threads setting(3);
    for (std::int64_t work : {std::int64_t{1}, kPlenty}) {
        CHECK_THROWS_AS(softloss::parallel_for(100, work, 0,
                                               [](std::int64_t task, void*) {
                                                   if (task % 7 == 3) throw std::bad_alloc();
                                               }),
                        std::bad_alloc);
        std::atomic<int> runs{0};
        softloss::parallel_for(100, work, 0, [&](std::int64_t, void*) { ++runs; });
        CHECK(runs == 100);
    }
}

TEST_CASE("more scratch memory than there is gives bad_alloc before anything runs") {
    const Threads setting(2);
    std::atomic<int> runs{0};
    CHECK_THROWS_AS(
        softloss::parallel_for(2, kPlenty, std::size_t{1} << 60, [&](std::int64_t, void*) { ++runs; }),
        std::bad_alloc);
    CHECK(runs == 0);
}

TEST_CASE("no more threads run than a loop allows") {
    const Threads setting(5);
    for (std::int64_t most : {1, 2, 3}) {
        std::mutex mutex;
        std::set<std::thread::id> threads;
        softloss::parallel_for(
            50, kPlenty, 0,
            [&](std::int64_t, void*) {
                const std::lock_guard lock(mutex);
                threads.insert(std::this_thread::get_id());
            },
            most);
        CHECK(threads.size() <= static_cast<std::size_t>(most));
    }
}

TEST_CASE("a loop that waited for one of its threads makes the next ones do without, for a while") {
    if (!softloss::has_openmp()) return;
    const Threads setting(2);
    const auto threads_of_loop = [](std::chrono::milliseconds late) {
        std::mutex mutex;
        std::set<std::thread::id> threads;
        // Another amount of work than in other tests: it has a record of its own.
        softloss::parallel_for(2, kPlenty / 2, 0, [&](std::int64_t task, void*) {
            if (task == 1) std::this_thread::sleep_for(late);
            const std::lock_guard lock(mutex);
            threads.insert(std::this_thread::get_id());
        });
        return threads.size();
    };
    const auto reaches = [&](std::size_t size, std::chrono::milliseconds late) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (threads_of_loop(late) != size)
            if (std::chrono::steady_clock::now() > end) return false;
        return true;
    };
    CHECK(reaches(2, std::chrono::milliseconds(0)));
    CHECK(reaches(1, std::chrono::milliseconds(30)));
    CHECK(reaches(2, std::chrono::milliseconds(0)));
}

TEST_CASE("a long row that threads share, in place, while their number changes") {
    const Tensor<float> x = numbers<float>({250'001}, 3, 5);
    const std::int64_t label = 250'000;
    const softloss::TensorView target{&label, softloss::DType::int64, {}, {}};
    Tensor<float> expected = x;
    const Threads setting(1);
    const double loss = softloss::cross_entropy_and_grad(x.view(), target, expected.out());
    std::thread other([] {
        for (int i = 0; i < 1000; ++i) softloss::set_num_threads(1 + i % 5);
    });
    for (int i = 0; i < 20; ++i) {
        Tensor<float> y = x;
        CHECK(softloss::cross_entropy_and_grad(y.view(), target, y.out()) == loss);
        CHECK(y.data == expected.data);
    }
    other.join();
}

TEST_CASE("results are the same from inside a parallel region and while the number of threads changes") {
    const Tensor<float> x = numbers<float>({400, 500}, 3, 5);
    Tensor<float> expected({400, 500});
    softloss::softmax(x.view(), expected.out());
    const Threads setting(3);
    std::atomic<int> wrong{0};
#if defined(_OPENMP)
#pragma omp parallel for num_threads(4)
#endif
    for (int i = 0; i < 16; ++i) {
        Tensor<float> y({400, 500});
        softloss::softmax(x.view(), y.out());
        wrong += y.data != expected.data;
    }
    std::vector<std::thread> pool;
    for (int caller = 0; caller < 3; ++caller) {
        pool.emplace_back([&, caller] {
            for (int i = 0; i < 10; ++i) {
                if (caller == 0) softloss::set_num_threads(1 + i % 5);
                Tensor<float> y({400, 500});
                softloss::softmax(x.view(), y.out());
                wrong += y.data != expected.data;
            }
        });
    }
    for (std::thread& thread : pool) thread.join();
    CHECK(wrong == 0);
}
