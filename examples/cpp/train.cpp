// Training without a framework: a linear classifier of three clouds of points, by gradient descent.
//
// The step is the whole example: scores of a batch, loss and its gradient in one call, and the chain rule by hand.
#include <cstdint>
#include <cstdio>
#include <vector>

#include <softloss/softloss.hpp>

namespace {

constexpr int kPoints = 300, kFeatures = 3, kClasses = 3;  // x, y and a constant 1

struct Batch {
    std::vector<float> points = std::vector<float>(kPoints * kFeatures);
    std::vector<int> labels = std::vector<int>(kPoints);
};

/// Points around three centres, from a linear congruential generator.
Batch clouds() {
    const float centre[kClasses][2] = {{0, 2}, {-2, -1}, {2, -1}};
    Batch batch;
    std::uint64_t state = 1;
    const auto noise = [&] {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return static_cast<float>(state >> 40) / (1 << 23) - 1;  // in [-1, 1)
    };
    for (int i = 0; i < kPoints; ++i) {
        const int label = batch.labels[i] = i % kClasses;
        float* const point = &batch.points[i * kFeatures];
        point[0] = centre[label][0] + 2 * noise();
        point[1] = centre[label][1] + 2 * noise();
        point[2] = 1;
    }
    return batch;
}

using Weights = std::vector<float>;  // kFeatures rows of kClasses

std::vector<float> scores(const Batch& batch, const Weights& weights) {
    std::vector<float> logits(kPoints * kClasses);
    for (int i = 0; i < kPoints; ++i) {
        for (int f = 0; f < kFeatures; ++f) {
            for (int c = 0; c < kClasses; ++c)
                logits[i * kClasses + c] += batch.points[i * kFeatures + f] * weights[f * kClasses + c];
        }
    }
    return logits;
}

/// One step of gradient descent; returns the loss before it.
double step(const Batch& batch, Weights& weights, float rate) {
    const auto [loss, grad] =
        softloss::cross_entropy_and_grad(scores(batch, weights), batch.labels, kClasses);
    for (int i = 0; i < kPoints; ++i) {
        for (int f = 0; f < kFeatures; ++f) {
            for (int c = 0; c < kClasses; ++c)
                weights[f * kClasses + c] -= rate * batch.points[i * kFeatures + f] * grad[i * kClasses + c];
        }
    }
    return loss;
}

double accuracy(const Batch& batch, const Weights& weights) {
    const auto best = softloss::softmax_topk(scores(batch, weights), kClasses).index;
    int right = 0;
    for (int i = 0; i < kPoints; ++i) right += best[i] == batch.labels[i];
    return static_cast<double>(right) / kPoints;
}

}  // namespace

int main() {
    const Batch batch = clouds();
    Weights weights(kFeatures * kClasses);
    for (int epoch = 0; epoch <= 100; ++epoch) {
        const double loss = step(batch, weights, 0.5f);
        if (epoch % 20 == 0) std::printf("epoch %3d  loss %.6f\n", epoch, loss);
    }
    std::printf("accuracy %.3f\n", accuracy(batch, weights));
}
