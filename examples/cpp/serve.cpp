// The last step of an inference server: requests come in as rows of logits, the likeliest classes go out.
//
//     printf '2.0 1.0 0.1\n0.5 2.0 0.3\n' | ./serve 2
//
// Each line of the input is a request, the logits of all classes; K, the argument, is how many classes to answer with.
// The answer is a line of "class:probability". A bad request gets an error for an answer, and the loop goes on.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include <softloss/softloss.hpp>

namespace {

/// The numbers of a line.
std::vector<float> logits_of(const std::string& line) {
    std::istringstream words(line);
    std::vector<float> logits;
    for (std::string word; words >> word;) logits.push_back(std::stof(word));
    return logits;
}

void answer(const std::string& request, std::int64_t k) {
    const std::vector<float> logits = logits_of(request);
    const auto classes = static_cast<std::int64_t>(logits.size());
    const softloss::TopK<float> top = softloss::softmax_topk(logits, classes, {.k = k});
    for (std::size_t i = 0; i < top.prob.size(); ++i)
        std::printf("%s%lld:%.6f", i ? " " : "", static_cast<long long>(top.index[i]), top.prob[i]);
    std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
    const std::int64_t k = argc > 1 ? std::atoll(argv[1]) : 1;
    for (std::string request; std::getline(std::cin, request);) {
        try {
            answer(request, k);
        } catch (const std::exception& error) {
            std::printf("error: %s\n", error.what());
        }
    }
}
