// A program that uses the Conan package: exits with 0 if it computes the loss that README shows.
//
// Lives here: one call. Must not: more checks of values, which are those of the other tests.
#include <softloss/softloss.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

int main() {
    const std::vector<double> logits{2.0, 1.0, 0.1, 0.5, 2.0, 0.3};  // two rows of three classes
    const std::vector<int> labels{0, 1};
    const double loss = softloss::cross_entropy(logits, labels, 3);
    std::printf("%.4f\n", loss);
    return std::abs(loss - 0.3788) < 5e-5 ? 0 : 1;
}
