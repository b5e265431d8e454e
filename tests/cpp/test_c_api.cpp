// Every function of the C API, called wrongly in every way: each array in turn absent, without data or shape,
// of any dtype, rank, extents and strides, and each output in the memory of every other array.
//
// Lives here: what must hold for all of these calls. An error names the argument, and changes no byte; any
// other call changes the outputs' elements alone. Must not: values of results, the words of single errors
// (test_arguments.cpp).
#include <algorithm>
#include <functional>

#include "softloss/softloss.h"
#include "support.hpp"

using std::int32_t;
using std::int64_t;

namespace {

constexpr int64_t kRows = 3, kClasses = 4, kTop = 2;
constexpr std::size_t kMargin = 16, kRoom = kRows * kClasses * 8;

enum Role { kInput, kOption, kOutput, kOptionalOutput };
struct Slot {
    const char* name;
    Role role;
    std::vector<int64_t> shape;
    int32_t dtype;

    bool writes() const { return role == kOutput || role == kOptionalOutput; }
    bool needed() const { return role == kInput || role == kOutput; }
};

/// The arrays of a call, one per slot, each in the middle of memory of its own.
class Arrays {
  public:
    std::vector<softloss_mutable_array> arrays;
    std::vector<bool> absent;
    std::vector<std::vector<unsigned char>> memory;

    explicit Arrays(const std::vector<Slot>& slots) : absent(slots.size()) {
        for (std::size_t i = 0; i < slots.size(); ++i) {
            memory.emplace_back(kRoom + 2 * kMargin, 0xA5);
            unsigned char* const data = memory.back().data() + kMargin;
            for (std::size_t k = 0; k < kRows * kClasses; ++k) {
                const int64_t label = static_cast<int64_t>(k) % kClasses;
                const double number = 0.03 + 0.07 * static_cast<double>(k);
                if (slots[i].writes()) continue;
                if (slots[i].dtype == SOFTLOSS_INT64) std::memcpy(data + 8 * k, &label, 8);
                else if (slots[i].dtype == SOFTLOSS_FLOAT64) std::memcpy(data + 8 * k, &number, 8);
                else data[k] = k % 3 != 0;
            }
            const auto ndim = static_cast<int32_t>(slots[i].shape.size());
            arrays.push_back({data, slots[i].shape.data(), nullptr, ndim, slots[i].dtype, 0});
        }
    }
    Arrays(const Arrays&) = delete;

    const softloss_mutable_array* out(std::size_t i) const { return absent[i] ? nullptr : &arrays[i]; }
    const softloss_array* in(std::size_t i) const {
        inputs_.resize(arrays.size());
        inputs_[i] = softloss_as_input(&arrays[i]);
        return absent[i] ? nullptr : &inputs_[i];
    }

  private:
    mutable std::vector<softloss_array> inputs_;
};

struct Function {
    std::string name;
    std::vector<Slot> slots;
    std::function<softloss_status(const Arrays&)> call;
};

Slot numbers_of(const char* name, Role role, std::vector<int64_t> shape) {
    return {name, role, std::move(shape), SOFTLOSS_FLOAT64};
}
const std::vector<int64_t> kMatrix{kRows, kClasses}, kRow{kRows}, kClass{kClasses}, kLists{kRows, kTop};

void add_transforms(std::vector<Function>& all) {
    const Slot x = numbers_of("x", kInput, kMatrix), out = numbers_of("out", kOutput, kMatrix),
               where{"where", kOption, kMatrix, SOFTLOSS_BOOLEAN};
    for (const auto& [name, function] :
         {std::pair{"softmax", &softloss_softmax}, {"log_softmax", &softloss_log_softmax}}) {
        all.push_back({name, {x, out, where}, [f = function](const Arrays& a) {
                           softloss_transform_options o;
                           softloss_transform_options_init(&o);
                           o.where = a.in(2);
                           return f(a.in(0), a.out(1), o.where ? &o : nullptr);
                       }});
    }
    all.push_back({"logsumexp",
                   {x, numbers_of("out", kOutput, kRow), numbers_of("b", kOption, kClass), where},
                   [](const Arrays& a) {
                       softloss_logsumexp_options o;
                       softloss_logsumexp_options_init(&o);
                       const softloss_array* const b = a.in(2);
                       o.b = b, o.where = a.in(3);
                       return softloss_logsumexp(a.in(0), a.out(1), o.b || o.where ? &o : nullptr);
                   }});
    all.push_back({"log_normalize", {x, out, numbers_of("logsumexp", kOutput, kRow)}, [](const Arrays& a) {
                       return softloss_log_normalize(a.in(0), a.out(1), a.out(2), -1);
                   }});
    for (const auto& [name, function] :
         {std::pair{"sigmoid", &softloss_sigmoid}, {"log_sigmoid", &softloss_log_sigmoid}})
        all.push_back({name, {x, out}, [f = function](const Arrays& a) { return f(a.in(0), a.out(1)); }});
    for (const auto& [name, function] :
         {std::pair{"y", &softloss_softmax_backward}, {"logy", &softloss_log_softmax_backward}}) {
        all.push_back({std::string("backward of ") + name,
                       {numbers_of(name, kInput, kMatrix), numbers_of("dy", kInput, kMatrix), out},
                       [f = function](const Arrays& a) { return f(a.in(0), a.in(1), a.out(2), -1); }});
    }
}

softloss_class_loss_options class_options(const Arrays& a, std::size_t weight) {
    softloss_class_loss_options o;
    softloss_class_loss_options_init(&o);
    o.weight = a.in(weight), o.sample_weight = a.in(weight + 1);
    o.reduction = SOFTLOSS_REDUCTION_NONE;
    return o;
}
softloss_binary_loss_options binary_options(const Arrays& a, std::size_t weight, bool positive) {
    softloss_binary_loss_options o;
    softloss_binary_loss_options_init(&o);
    o.weight = a.in(weight), o.pos_weight = positive ? a.in(weight + 1) : nullptr;
    o.reduction = SOFTLOSS_REDUCTION_NONE;
    return o;
}

void add_class_losses(std::vector<Function>& all) {
    const Slot target{"target", kInput, kRow, SOFTLOSS_INT64},
        losses = numbers_of("losses", kOutput, kRow), grad = numbers_of("grad_out", kOutput, kMatrix),
        weight = numbers_of("weight", kOption, kClass),
        sample_weight = numbers_of("sample_weight", kOption, kRow);
    for (const auto& [name, function, with_grad] :
         {std::tuple{"logits", &softloss_cross_entropy, &softloss_cross_entropy_and_grad},
          {"log_probs", &softloss_nll_loss, &softloss_nll_loss_and_grad},
          {"probs", &softloss_categorical_cross_entropy, &softloss_categorical_cross_entropy_and_grad},
          {"logits", &softloss_softmax_focal_loss, &softloss_softmax_focal_loss_and_grad}}) {
        const Slot x = numbers_of(name, kInput, kMatrix);
        all.push_back({std::string("loss of ") + name,
                       {x, target, losses, weight, sample_weight},
                       [f = function](const Arrays& a) {
                           const auto o = class_options(a, 3);
                           return f(a.in(0), a.in(1), &o, nullptr, a.out(2));
                       }});
        all.push_back({std::string("loss and gradient of ") + name,
                       {x, target, losses, grad, weight, sample_weight},
                       [and_grad = with_grad](const Arrays& a) {
                           const auto o = class_options(a, 4);
                           return and_grad(a.in(0), a.in(1), a.out(3), &o, nullptr, a.out(2));
                       }});
    }
    for (const auto& [name, function] :
         {std::pair{"cross_entropy_grad_hess", &softloss_cross_entropy_grad_hess},
          {"softmax_focal_loss_grad_hess", &softloss_softmax_focal_loss_grad_hess}}) {
        all.push_back({name,
                       {numbers_of("logits", kInput, kMatrix), target, grad,
                        numbers_of("hess_out", kOutput, kMatrix), weight, sample_weight},
                       [f = function](const Arrays& a) {
                           const auto o = class_options(a, 4);
                           return f(a.in(0), a.in(1), a.out(2), a.out(3), &o, nullptr);
                       }});
    }
}

softloss_divergence_options divergence_options(const Arrays& a, std::size_t sample_weight) {
    softloss_divergence_options o;
    softloss_divergence_options_init(&o);
    o.sample_weight = a.in(sample_weight);
    o.reduction = SOFTLOSS_REDUCTION_NONE;
    return o;
}

void add_divergences(std::vector<Function>& all) {
    const Slot x = numbers_of("logits", kInput, kMatrix),
               target = numbers_of("target_logits", kInput, kMatrix),
               losses = numbers_of("losses", kOutput, kRow),
               sample_weight = numbers_of("sample_weight", kOption, kRow);
    for (const auto& [name, function] :
         {std::pair{"kl_divergence", &softloss_kl_divergence}, {"js_divergence", &softloss_js_divergence}}) {
        all.push_back({name, {x, target, losses, sample_weight}, [f = function](const Arrays& a) {
                           const auto o = divergence_options(a, 3);
                           return f(a.in(0), a.in(1), &o, nullptr, a.out(2));
                       }});
    }
    all.push_back({"kl_divergence_and_grad",
                   {x, target, losses, numbers_of("grad_out", kOutput, kMatrix), sample_weight},
                   [](const Arrays& a) {
                       const auto o = divergence_options(a, 4);
                       return softloss_kl_divergence_and_grad(a.in(0), a.in(1), a.out(3), &o, nullptr,
                                                              a.out(2));
                   }});
}

void add_binary_losses(std::vector<Function>& all) {
    const Slot shares = numbers_of("target", kInput, kMatrix),
               hard{"target", kInput, kMatrix, SOFTLOSS_BOOLEAN},
               losses = numbers_of("losses", kOutput, kMatrix),
               grad = numbers_of("grad_out", kOutput, kMatrix),
               weight = numbers_of("weight", kOption, kClass),
               pos_weight = numbers_of("pos_weight", kOption, kClass);
    for (const auto& [name, target, has_positive, function, with_grad] :
         {std::tuple{"probs", shares, false, &softloss_binary_cross_entropy,
                     &softloss_binary_cross_entropy_and_grad},
          {"logits", shares, true, &softloss_binary_cross_entropy_with_logits,
           &softloss_binary_cross_entropy_with_logits_and_grad},
          {"logits", hard, false, &softloss_sigmoid_focal_loss, &softloss_sigmoid_focal_loss_and_grad}}) {
        std::vector<Slot> slots{numbers_of(name, kInput, kMatrix), target, losses, weight};
        if (has_positive) slots.push_back(pos_weight);
        all.push_back({std::string("binary loss of ") + name, slots,
                       [f = function, positive = has_positive](const Arrays& a) {
                           const auto o = binary_options(a, 3, positive);
                           return f(a.in(0), a.in(1), &o, nullptr, a.out(2));
                       }});
        slots.insert(slots.begin() + 3, grad);
        all.push_back({std::string("binary loss and gradient of ") + name, slots,
                       [and_grad = with_grad, positive = has_positive](const Arrays& a) {
                           const auto o = binary_options(a, 4, positive);
                           return and_grad(a.in(0), a.in(1), a.out(3), &o, nullptr, a.out(2));
                       }});
    }
    all.push_back({"binary_cross_entropy_with_logits_grad_hess",
                   {numbers_of("logits", kInput, kMatrix), shares, grad,
                    numbers_of("hess_out", kOutput, kMatrix), weight, pos_weight},
                   [](const Arrays& a) {
                       const auto o = binary_options(a, 4, true);
                       return softloss_binary_cross_entropy_with_logits_grad_hess(a.in(0), a.in(1), a.out(2),
                                                                                  a.out(3), &o, nullptr);
                   }});
    all.push_back({"sigmoid_focal_loss_grad_hess",
                   {numbers_of("logits", kInput, kMatrix), hard, grad,
                    numbers_of("hess_out", kOutput, kMatrix), weight},
                   [](const Arrays& a) {
                       const auto o = binary_options(a, 4, false);
                       return softloss_sigmoid_focal_loss_grad_hess(a.in(0), a.in(1), a.out(2), a.out(3), &o,
                                                                    nullptr);
                   }});
}

void add_scores(std::vector<Function>& all) {
    all.push_back({"softmax_topk",
                   {numbers_of("x", kInput, kMatrix),
                    numbers_of("prob", kOutput, kLists),
                    {"index", kOutput, kLists, SOFTLOSS_INT64}},
                   [](const Arrays& a) {
                       softloss_topk_options o;
                       softloss_topk_options_init(&o);
                       o.k = kTop;
                       return softloss_softmax_topk(a.in(0), a.out(1), a.out(2), &o);
                   }});
    all.push_back({"softmax_entropy",
                   {numbers_of("logits", kInput, kMatrix), numbers_of("out", kOutput, kRow)},
                   [](const Arrays& a) { return softloss_softmax_entropy(a.in(0), a.out(1), nullptr); }});
    all.push_back({"sample",
                   {numbers_of("logits", kInput, kMatrix),
                    numbers_of("u", kInput, kRow),
                    {"index", kOutput, kRow, SOFTLOSS_INT64},
                    numbers_of("logprob", kOutput, kRow),
                    {"where", kOption, kMatrix, SOFTLOSS_BOOLEAN}},
                   [](const Arrays& a) {
                       softloss_sample_options o;
                       softloss_sample_options_init(&o);
                       o.where = a.in(4);
                       o.top_p = 0.9;
                       return softloss_sample(a.in(0), a.in(1), a.out(2), a.out(3), &o);
                   }});
    all.push_back({"token_logprobs",
                   {numbers_of("logits", kInput, kMatrix),
                    {"target", kInput, kRow, SOFTLOSS_INT64},
                    numbers_of("logprob", kOptionalOutput, kRow),
                    {"argmax", kOptionalOutput, kRow, SOFTLOSS_INT64},
                    {"rank", kOptionalOutput, kRow, SOFTLOSS_INT64},
                    numbers_of("entropy", kOptionalOutput, kRow),
                    numbers_of("top_logprob", kOptionalOutput, kLists),
                    {"top_index", kOptionalOutput, kLists, SOFTLOSS_INT64}},
                   [](const Arrays& a) {
                       softloss_token_options o;
                       softloss_token_options_init(&o);
                       o.top_k = kTop;
                       const softloss_token_scores scores{a.out(2), a.out(3), a.out(4),
                                                          a.out(5), a.out(6), a.out(7)};
                       return softloss_token_logprobs(a.in(0), a.in(1), &scores, &o);
                   }});
}

void add_calibration(std::vector<Function>& all) {
    const Slot x = numbers_of("logits", kInput, kMatrix), target{"target", kInput, kRow, SOFTLOSS_INT64},
               sample_weight = numbers_of("sample_weight", kOption, kRow);
    all.push_back(
        {"brier_score", {x, target, numbers_of("losses", kOutput, kRow), sample_weight}, [](const Arrays& a) {
             softloss_class_loss_options o;
             softloss_class_loss_options_init(&o);
             o.sample_weight = a.in(3);
             o.reduction = SOFTLOSS_REDUCTION_NONE;
             return softloss_brier_score(a.in(0), a.in(1), &o, nullptr, a.out(2));
         }});
    all.push_back({"fit_temperature",
                   {x, target, numbers_of("weight", kOption, kClass), sample_weight},
                   [](const Arrays& a) {
                       softloss_temperature_options o;
                       softloss_temperature_options_init(&o);
                       o.weight = a.in(2), o.sample_weight = a.in(3);
                       softloss_temperature_fit fit{-1, -1, -1};
                       const softloss_status status = softloss_fit_temperature(a.in(0), a.in(1), &o, &fit);
                       CHECK((status == SOFTLOSS_OK) == (fit.at_bound != -1));
                       return status;
                   }});
    all.push_back({"calibration_error", {x, target, sample_weight}, [](const Arrays& a) {
                       softloss_calibration_options o;
                       softloss_calibration_options_init(&o);
                       o.sample_weight = a.in(2);
                       double error = -1;
                       const softloss_status status =
                           softloss_calibration_error(a.in(0), a.in(1), &o, &error);
                       CHECK((status == SOFTLOSS_OK) == (error != -1));
                       return status;
                   }});
}

std::vector<Function> functions() {
    std::vector<Function> all;
    add_transforms(all);
    add_class_losses(all);
    add_divergences(all);
    add_binary_losses(all);
    add_scores(all);
    add_calibration(all);
    return all;
}

/// Calls the function. An error must name one of the arguments and change nothing; without one, nothing but
/// the elements of outputs may change, which keeps() checks where they have not moved.
softloss_status checked(const Function& f, const Arrays& a, std::initializer_list<const char*> names) {
    const auto before = a.memory;
    const softloss_status status = f.call(a);
    if (status != SOFTLOSS_OK) {
        CHECK(a.memory == before);
        const std::string text = softloss_last_error();
        CAPTURE(text);
        CHECK(std::any_of(names.begin(), names.end(),
                          [&](const char* name) { return text.find(name) != std::string::npos; }));
        return status;
    }
    for (std::size_t i = 0; i < f.slots.size(); ++i) {
        if (!f.slots[i].writes() || a.absent[i]) continue;
        const auto all = std::span(a.memory[i]);
        for (const auto part : {all.first(kMargin), all.last(kMargin)})
            CHECK(std::all_of(part.begin(), part.end(), [](unsigned char byte) { return byte == 0xA5; }));
    }
    return status;
}

/// Calls test(function, slot) for every array of every function.
void each_array(auto test) {
    for (const Function& f : functions()) {
        CAPTURE(f.name);
        for (std::size_t i = 0; i < f.slots.size(); ++i) {
            CAPTURE(std::string(f.slots[i].name));
            test(f, i);
        }
    }
}

}  // namespace

TEST_CASE("C: every array absent, in turn; without data; without shape") {
    each_array([](const Function& f, std::size_t i) {
        const Slot& slot = f.slots[i];
        Arrays absent(f.slots), no_data(f.slots), no_shape(f.slots);
        absent.absent[i] = true;
        CHECK(checked(f, absent, {slot.name}) == (slot.needed() ? SOFTLOSS_INVALID_ARGUMENT : SOFTLOSS_OK));
        no_data.arrays[i].data = nullptr;
        CHECK(checked(f, no_data, {slot.name}) == SOFTLOSS_INVALID_ARGUMENT);
        no_shape.arrays[i].shape = nullptr;
        CHECK(checked(f, no_shape, {slot.name}) == SOFTLOSS_INVALID_ARGUMENT);
    });
}

TEST_CASE("C: arrays of every dtype, and of none") {
    each_array([](const Function& f, std::size_t i) {
        for (int32_t dtype = -2; dtype <= SOFTLOSS_UINT64 + 2; ++dtype) {
            CAPTURE(dtype);
            Arrays a(f.slots);
            a.arrays[i].dtype = dtype;
            const softloss_status status = checked(f, a, {f.slots[i].name});
            if (dtype < 0 || dtype > SOFTLOSS_UINT64) CHECK(status == SOFTLOSS_INVALID_ARGUMENT);
        }
    });
}

TEST_CASE("C: arrays of impossible ranks, extents and strides") {
    const std::vector<int64_t> ones(64, 1);
    each_array([&](const Function& f, std::size_t i) {
        const Slot& slot = f.slots[i];
        for (const int32_t ndim : {-1, INT32_MIN, 65, INT32_MAX}) {
            Arrays a(f.slots);
            a.arrays[i].ndim = ndim;
            CHECK(checked(f, a, {slot.name}) == SOFTLOSS_INVALID_ARGUMENT);
        }
        Arrays deep(f.slots);
        deep.arrays[i].ndim = 64, deep.arrays[i].shape = ones.data();
        // Of an array that another one must fit, the error may be that of the other one, or of k.
        const Slot &first = f.slots[1], &second = f.slots[f.slots.size() > 2 ? 2 : 1];
        CHECK(checked(f, deep, {slot.name, first.name, second.name, "k must be"}) ==
              SOFTLOSS_INVALID_ARGUMENT);
        for (const int64_t extent : {int64_t{-1}, INT64_MIN, INT64_MAX}) {
            std::vector<int64_t> shape = slot.shape;
            shape.back() = extent;
            Arrays a(f.slots);
            a.arrays[i].shape = shape.data();
            CHECK(checked(f, a, {slot.name}) == SOFTLOSS_INVALID_ARGUMENT);
        }
        for (const int64_t stride : {INT64_MIN, INT64_MAX, int64_t{1} << 61}) {
            std::vector<int64_t> strides(slot.shape.size(), 8);
            strides.back() = stride;
            Arrays a(f.slots);
            a.arrays[i].strides = strides.data();
            CHECK(checked(f, a, {slot.name}) == SOFTLOSS_INVALID_ARGUMENT);
        }
    });
}

TEST_CASE("C: arrays without strides are in C order") {
    each_array([](const Function& f, std::size_t i) {
        Arrays plain(f.slots), with_strides(f.slots);
        std::vector<int64_t> strides(f.slots[i].shape.size());
        int64_t size = f.slots[i].dtype == SOFTLOSS_BOOLEAN ? 1 : 8;
        for (std::size_t d = strides.size(); d-- > 0; size *= f.slots[i].shape[d]) strides[d] = size;
        with_strides.arrays[i].strides = strides.data();
        CHECK(checked(f, plain, {}) == SOFTLOSS_OK);
        CHECK(checked(f, with_strides, {}) == SOFTLOSS_OK);
        CHECK(plain.memory == with_strides.memory);
    });
}

TEST_CASE("C: every output in the memory of every other array") {
    int in_place = 0;
    each_array([&](const Function& f, std::size_t i) {
        if (!f.slots[i].writes()) return;
        Arrays apart(f.slots);
        CHECK(checked(f, apart, {}) == SOFTLOSS_OK);
        for (std::size_t other = 0; other < f.slots.size(); ++other) {
            if (other == i) continue;
            CAPTURE(std::string(f.slots[other].name));
            for (const std::size_t shift : {0, 1, 8}) {
                Arrays a(f.slots);
                unsigned char* const data = a.memory[other].data() + kMargin;
                a.arrays[i].data = data - shift;
                if (checked(f, a, {f.slots[i].name}) != SOFTLOSS_OK) continue;
                ++in_place;
                CHECK(shift == 0);
                CHECK(std::equal(data, data + kRoom, apart.memory[i].data() + kMargin));
            }
        }
    });
    CHECK(in_place == 5 + 4 + 12);  // out over x, y and dy; grad_out over the first argument
}
