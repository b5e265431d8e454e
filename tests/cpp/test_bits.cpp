// The same bits on every instruction set, at every thread count and batch position, and as written down here.
#include <algorithm>

#include "support.hpp"

namespace {

/// FNV-1a over the bytes of the numbers, lowest byte first.
template <class T>
std::uint64_t hash(const Tensor<T>& t) {
    std::uint64_t h = 14695981039346656037u;
    for (const T& x : t.data) {
        std::uint64_t bits = 0;
        if constexpr (sizeof(T) == 4) bits = std::bit_cast<std::uint32_t>(x);
        else bits = std::bit_cast<std::uint64_t>(x);
        for (std::size_t b = 0; b < sizeof(T); ++b) h = (h ^ (bits >> (8 * b) & 0xff)) * 1099511628211u;
    }
    return h;
}

template <class T>
std::vector<std::uint64_t> hashes() {
    std::vector<std::uint64_t> all;
    for (const std::int64_t n : {3, 10, 100, 1000, 40000}) {
        const Tensor<T> x = numbers<T>({7, n}, 11, 30);
        Tensor<T> y(x.shape), loss({7}), lse({7});
        softloss::softmax(x.view(), y.out());
        all.push_back(hash(y));
        softloss::log_softmax(x.view(), y.out(), {.temperature = 0.7});
        all.push_back(hash(y));
        softloss::sigmoid(x.view(), y.out());
        all.push_back(hash(y));
        softloss::log_sigmoid(x.view(), y.out());
        all.push_back(hash(y));
        softloss::logsumexp(x.view(), lse.out());
        all.push_back(hash(lse));
        Tensor<std::int64_t> label({7});
        for (int i = 0; i < 7; ++i) label.data[i] = i % n;
        const auto to = loss.out();
        softloss::cross_entropy(
            x.view(), label.view(),
            {.label_smoothing = 0.1, .reduction = softloss::Reduction::none, .dtype = softloss::dtype_of<T>},
            &to);
        all.push_back(hash(loss));
    }
    return all;
}

std::uint64_t digest() {
    std::uint64_t h = 14695981039346656037u;
    for (const auto& part : {hashes<float>(), hashes<double>()}) {
        for (std::uint64_t x : part) h = (h ^ x) * 1099511628211u;
    }
    return h;
}

}  // namespace

TEST_CASE("every instruction set and thread count gives the bits written down here") {
    // To renew after a deliberate change (say so in CHANGELOG.md): copy the number that the failure prints.
    static constexpr std::uint64_t kGolden = 9515599018876509424u;
    const int before = softloss::get_num_threads();
    on_each_isa([] {
        for (const int threads : {1, 2, 3, 7}) {
            CAPTURE(threads);
            softloss::set_num_threads(threads);
            CHECK(digest() == kGolden);
        }
    });
    softloss::set_num_threads(before);
}

TEST_CASE("a row has the same bits wherever it lies and however it is strided") {
    on_each_isa([] {
        for (const std::int64_t n : {5, 70, 3000}) {
            const Tensor<float> x = numbers<float>({37, n}, 5, 20);
            Tensor<float> y(x.shape), alone({1, n}), column({n, 37}), column_y({n, 37});
            softloss::softmax(x.view(), y.out());
            for (std::int64_t r = 0; r < 37; ++r) {
                for (std::int64_t i = 0; i < n; ++i) column.data[i * 37 + r] = x.data[r * n + i];
                Tensor<float> row({1, n});
                std::copy_n(x.data.begin() + r * n, n, row.data.begin());
                softloss::softmax(row.view(), alone.out());
                CHECK(std::equal(alone.data.begin(), alone.data.end(), y.data.begin() + r * n));
            }
            softloss::softmax(column.view(), column_y.out(), {.axis = 0});
            bool same = true;
            for (std::int64_t r = 0; r < 37; ++r) {
                for (std::int64_t i = 0; i < n; ++i)
                    same = same && column_y.data[i * 37 + r] == y.data[r * n + i];
            }
            CHECK(same);
        }
    });
}
