// Sums and logarithms of adjacent elements.
//
// Lives here: the sum of results in a fixed order, the logarithms of probabilities at the labels. Must not:
// rows, targets, loops over blocks (the callers of the table).
#pragma once

#include "reduce.hpp"

namespace softloss {
namespace {

/// x: (n) -> their compensated sum, in the order of reduce.hpp.
template <class T>
Sum sum(const T* x, std::int64_t n) {
    CompensatedSum<T> all;
    for_each_vector<kLanes<T>>(n, [&](std::int64_t i, int valid)
                                      SOFTLOSS_LAMBDA { all.add(convert<double>(load_some(x + i, valid))); });
    return all.parts();
}

/// x, y: (n). y[i] = log(x[i]).
void log_values(const double* x, double* y, std::int64_t n) {
    for_each_vector<kLanes<double>>(n, [&](std::int64_t i, int valid) SOFTLOSS_LAMBDA {
        store_some(y + i, log(load_some(x + i, valid)), valid);
    });
}

}  // namespace
}  // namespace softloss
