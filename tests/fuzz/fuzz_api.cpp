// Fuzzer of the public C++ API: it turns bytes into a call of any function, with operands of any dtype, shape
// and layout. Sometimes data is null, strides are missing, or an output is absent or overlaps another array.
//
// Lives here: the calls, and what must hold for each of them, valid or not:
//   - nothing but std::invalid_argument and std::out_of_range is thrown, and then no output has changed;
//   - no byte outside the elements of an output changes;
//   - the results have the bits of the same call on adjacent copies of the operands, on another instruction set, those
//     of NaN, too.
//
// Must not: expected values (tests/python has them).
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "softloss/softloss.hpp"

namespace {

using namespace softloss;
using std::int64_t;
using Shape = std::vector<int64_t>;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "property violated: %s\n", what);
    std::abort();
}

// ---- operands ---------------------------------------------------------------------------------------------

/// An array that owns its memory, with elements anywhere in it.
struct Operand {
    std::vector<unsigned char> memory;
    Shape shape, strides;
    DType dtype = DType::float32;
    bool swapped = false, null = false, c_order = false;
    int64_t first = 0;

    TensorView view() const {
        return {null ? nullptr : memory.data() + first, dtype, shape, named_strides(), swapped};
    }
    MutableTensorView out() {
        return {null ? nullptr : memory.data() + first, dtype, shape, named_strides(), swapped};
    }
    std::span<const int64_t> named_strides() const {
        return c_order ? std::span<const int64_t>() : std::span<const int64_t>(strides);
    }
    int64_t size() const { return view().size(); }

    /// Calls f(offset) for every element in C order.
    template <class F>
    void each(F f) const {
        for (int64_t i = 0; i < size(); ++i) {
            int64_t rest = i, offset = first;
            for (std::size_t d = shape.size(); d-- > 0; rest /= shape[d])
                offset += rest % shape[d] * strides[d];
            f(offset);
        }
    }
    /// The bytes of the element at an offset, in native order.
    std::array<unsigned char, 8> element(int64_t offset) const {
        std::array<unsigned char, 8> bytes{};
        std::memcpy(bytes.data(), memory.data() + offset, size_of(dtype));
        if (swapped) std::reverse(bytes.data(), bytes.data() + size_of(dtype));
        return bytes;
    }
};

Operand adjacent(const Shape& shape, DType dtype) {
    Operand o;
    o.shape = shape;
    o.dtype = dtype;
    o.strides.resize(shape.size());
    int64_t size = size_of(dtype);
    for (std::size_t d = shape.size(); d-- > 0; size *= shape[d]) o.strides[d] = size;
    o.memory.resize(size);
    return o;
}

/// The same elements, adjacent and in native byte order.
Operand adjacent_copy(const Operand& from) {
    Operand o = adjacent(from.shape, from.dtype);
    o.null = from.null;
    int64_t at = 0;
    from.each([&](int64_t offset) {
        std::memcpy(o.memory.data() + at, from.element(offset).data(), size_of(o.dtype));
        at += size_of(o.dtype);
    });
    return o;
}

bool same_bits(const Operand& a, const Operand& b) {
    std::vector<int64_t> left, right;
    a.each([&](int64_t offset) { left.push_back(offset); });
    b.each([&](int64_t offset) { right.push_back(offset); });
    for (std::size_t i = 0; i < left.size(); ++i)
        if (a.element(left[i]) != b.element(right[i])) return false;
    return true;
}

/// The memory with its elements cleared: the other bytes, which a call must not change.
std::vector<unsigned char> around(const Operand& o) {
    std::vector<unsigned char> rest = o.memory;
    o.each([&](int64_t offset) { std::memset(rest.data() + offset, 0, size_of(o.dtype)); });
    return rest;
}

// ---- from bytes to operands -------------------------------------------------------------------------------

/// What elements hold: any bits, numbers of moderate size, numbers in [0, 1], class indices (mostly), 0 or 1.
enum class Values { bits, tame, unit, labels, flags };

/// Draws shapes, dtypes and operands from the fuzzer's bytes; values come from a generator that they seed.
struct Source {
    FuzzedDataProvider& bytes;
    std::mt19937_64 random;
    explicit Source(FuzzedDataProvider& b) : bytes(b), random(b.ConsumeIntegral<std::uint32_t>()) {}

    bool often() { return bytes.ConsumeIntegral<std::uint8_t>() < 230; }
    bool seldom() { return !often(); }
    int below(int n) { return bytes.ConsumeIntegralInRange(0, n - 1); }

    DType floating() { return static_cast<DType>(below(4)); }
    DType integer() { return static_cast<DType>(5 + below(8)); }
    DType any() { return static_cast<DType>(below(13)); }
    DType near(DType dtype) { return often() ? dtype : any(); }

    Shape shape() {
        Shape shape(below(5));
        for (int64_t& extent : shape) extent = seldom() ? 0 : 1 + below(4);
        if (!shape.empty() && bytes.ConsumeBool()) shape[below(shape.size())] = below(300);
        if (!shape.empty() && bytes.ConsumeIntegral<std::uint8_t>() == 7)
            shape[below(shape.size())] = 3000 + below(20000);
        int64_t size = 1;
        for (int64_t& extent : shape) {
            if (size * extent > 100000) extent = 1;
            size *= extent;
        }
        return shape;
    }
    /// Mostly the given shape, sometimes another one.
    Shape near(Shape shape) {
        if (often()) return shape;
        if (shape.empty() || bytes.ConsumeBool()) shape.insert(shape.begin(), 1 + below(2));
        else if (bytes.ConsumeBool()) shape.pop_back();
        else shape[below(shape.size())] = below(5);
        return shape;
    }
    Shape broadcastable(Shape shape) {
        if (bytes.ConsumeBool()) shape.erase(shape.begin(), shape.begin() + below(shape.size() + 1));
        for (int64_t& extent : shape) extent = bytes.ConsumeBool() ? extent : 1;
        return near(shape);
    }

    std::uint64_t value(Values kind, DType dtype, int64_t classes) {
        const auto as = [](auto v) {
            std::uint64_t bits = 0;
            std::memcpy(&bits, &v, sizeof v);
            return bits;
        };
        if (kind == Values::flags) return random() % 2;
        if (kind == Values::bits) return random();
        if (!is_floating(dtype)) {
            const std::uint64_t one = random();
            if (kind == Values::labels)
                return one % 4096 == 0 ? one : (one >> 12) % std::max<int64_t>(classes, 1);
            return kind == Values::unit ? one % 2 : one % 32;
        }
        double v = std::normal_distribution<double>(0, 4)(random);
        if (kind == Values::unit || kind == Values::labels) v = std::generate_canonical<double, 53>(random);
        if (random() % 64 == 0) v = kind == Values::unit ? 1 : -INFINITY;
        switch (dtype) {
            case DType::float64: return as(v);
            case DType::float32: return as(static_cast<float>(v));
            case DType::bfloat16: return as(static_cast<float>(v)) >> 16;
            default: return std::uint64_t{0x3800} + random() % 0x400;  // 0.5 to 1
        }
    }

    /// An array in any layout: axes in any order, gaps, negative strides, unaligned; inputs may have axes of
    /// stride 0.
    Operand operand(const Shape& shape, DType dtype, Values kind, int64_t classes, bool input) {
        Operand o;
        o.shape = shape;
        o.dtype = dtype;
        o.swapped = size_of(dtype) > 1 && seldom();
        o.strides.resize(shape.size());
        std::vector<int> order(shape.size());
        std::iota(order.rbegin(), order.rend(), 0);
        const bool plain = bytes.ConsumeBool();
        o.c_order = plain && bytes.ConsumeBool();
        o.null = seldom() && seldom();
        if (!plain) std::shuffle(order.begin(), order.end(), random);
        int64_t size = size_of(dtype), lowest = 0;
        for (int d : order) {
            const bool repeat = input && !plain && seldom();
            const int64_t step = plain ? size : size * (1 + below(2)) + (seldom() ? 1 : 0);
            if (repeat) continue;  // stride 0
            const bool reversed = !plain && seldom();
            o.strides[d] = reversed ? -step : step;
            const int64_t span = std::max<int64_t>(shape[d] - 1, 0) * step;
            if (reversed) lowest -= span;
            size += span;
        }
        const int64_t shift = plain || often() ? 0 : below(9);
        o.first = shift - lowest;
        o.memory.resize(size + shift + below(9));
        for (unsigned char& byte : o.memory) byte = static_cast<unsigned char>(random());
        o.each([&](int64_t offset) {
            std::uint64_t bits = value(kind, dtype, classes);
            unsigned char raw[8];
            std::memcpy(raw, &bits, 8);
            if (o.swapped) std::reverse(raw, raw + size_of(dtype));
            std::memcpy(o.memory.data() + offset, raw, size_of(dtype));
        });
        return o;
    }
};

// ---- calls ------------------------------------------------------------------------------------------------

enum Function {
    kSoftmax,
    kLogSoftmax,
    kLogsumexp,
    kSigmoid,
    kLogSigmoid,
    kSoftmaxBackward,
    kLogSoftmaxBackward,
    kCrossEntropy,
    kNll,
    kCategorical,
    kBrier,
    kSoftmaxFocal,
    kSoftmaxFocalHessian,
    kClassHessian,
    kKl,
    kJs,
    kBinary,
    kBinaryLogits,
    kSigmoidFocal,
    kSigmoidFocalHessian,
    kBinaryHessian,
    kTopk,
    kTokens,
    kEntropy,
    kLogNormalize,
    kSample,
    kFitTemperature,
    kCalibration,
    kFunctions
};
bool is_hessian(int function) {
    return function == kClassHessian || function == kBinaryHessian || function == kSoftmaxFocalHessian ||
           function == kSigmoidFocalHessian;
}
enum Input { kX, kTarget, kWeight, kSecondWeight, kWhere, kB, kInputs };

/// The arguments of one call.
struct Call {
    int function = 0, axis = -1;
    bool gradient = false;
    double temperature = 1, smoothing = 0, hess_scale = 1, hess_min = 0, gamma = 2, top_p = 1, min_p = 0;
    std::optional<double> alpha{};
    std::optional<int64_t> ignore = -100;
    Reduction reduction = Reduction::mean;
    DType dtype = DType::float32;
    int64_t k = 1;
    std::array<std::optional<Operand>, kInputs> in{};
    std::vector<Operand> out{};
    unsigned absent = 0;  ///< outputs of token_logprobs that are null, a bit each
    /// The output `over`, unless -1, uses the memory of input in_place_of or, from kInputs on, of another
    /// output.
    int over = -1, in_place_of = 0;

    /// The array whose memory the output `over` uses; null if it has its own or is absent.
    Operand* host() {
        const bool loss = function >= kCrossEntropy && function <= kBinaryHessian;
        if (over < 0 || absent >> over & 1) return nullptr;
        if (loss && over == static_cast<int>(out.size()) - 1 &&
            !(reduction == Reduction::none && has_losses()))
            return nullptr;
        Operand* const other = in_place_of < kInputs ? (in[in_place_of] ? &*in[in_place_of] : nullptr)
                                                     : &out[(in_place_of - kInputs) % out.size()];
        const bool fits = other && other != &out[over] && !other->null && !out[over].null &&
                          other->memory.size() >= out[over].memory.size();
        return fits ? other : nullptr;
    }
    bool has_losses() const { return !is_hessian(function); }
    MutableTensorView view_of_output(int i) {
        MutableTensorView view = out[i].out();
        if (i != over) return view;
        if (Operand* const other = host()) view.data = other->memory.data() + out[i].first;
        return view;
    }

    double run() {
        std::array<TensorView, kInputs> views{};
        std::array<const TensorView*, kInputs> v{};
        for (int i = 0; i < kInputs; ++i) {
            if (!in[i]) continue;
            views[i] = in[i]->view();
            v[i] = &views[i];
        }
        std::vector<MutableTensorView> o;
        for (int i = 0; i < static_cast<int>(out.size()); ++i) o.push_back(view_of_output(i));
        const auto optional = [&](int i) { return absent >> i & 1 ? nullptr : &o[i]; };
        const bool keep = reduction == Reduction::none;
        const MutableTensorView* const losses = keep && !o.empty() ? &o.back() : nullptr;
        ClassLossOptions classes{
            axis,      v[kWeight],  v[kSecondWeight], ignore,
            smoothing, temperature, reduction,        std::numeric_limits<double>::quiet_NaN(),
            dtype,     gamma};
        BinaryLossOptions binary{
            v[kWeight], v[kSecondWeight], reduction, std::numeric_limits<double>::quiet_NaN(), dtype, alpha,
            gamma};
        const DivergenceOptions divergence{
            axis, v[kSecondWeight], temperature, reduction, std::numeric_limits<double>::quiet_NaN(), dtype};
        const TensorView &x = views[kX], &target = views[kTarget];
        switch (function) {
            case kSoftmax: softmax(x, o[0], {axis, v[kWhere], temperature}); break;
            case kLogSoftmax: log_softmax(x, o[0], {axis, v[kWhere], temperature}); break;
            case kLogsumexp: logsumexp(x, o[0], {axis, v[kB], v[kWhere]}); break;
            case kSigmoid: sigmoid(x, o[0]); break;
            case kLogSigmoid: log_sigmoid(x, o[0]); break;
            case kSoftmaxBackward: softmax_backward(x, target, o[0], axis); break;
            case kLogSoftmaxBackward: log_softmax_backward(x, target, o[0], axis); break;
            case kCrossEntropy:
                return gradient ? cross_entropy_and_grad(x, target, o[0], classes, losses)
                                : cross_entropy(x, target, classes, losses);
            case kNll:
                return gradient ? nll_loss_and_grad(x, target, o[0], classes, losses)
                                : nll_loss(x, target, classes, losses);
            case kCategorical:
                return gradient ? categorical_cross_entropy_and_grad(x, target, o[0], classes, losses)
                                : categorical_cross_entropy(x, target, classes, losses);
            case kBrier: return brier_score(x, target, classes, losses);
            case kSoftmaxFocal:
                return gradient ? softmax_focal_loss_and_grad(x, target, o[0], classes, losses)
                                : softmax_focal_loss(x, target, classes, losses);
            case kSoftmaxFocalHessian:
                softmax_focal_loss_grad_hess(x, target, o[0], o[1], classes, {hess_scale, hess_min});
                break;
            case kSigmoidFocal:
                return gradient ? sigmoid_focal_loss_and_grad(x, target, o[0], binary, losses)
                                : sigmoid_focal_loss(x, target, binary, losses);
            case kSigmoidFocalHessian:
                sigmoid_focal_loss_grad_hess(x, target, o[0], o[1], binary, {hess_scale, hess_min});
                break;
            case kClassHessian:
                cross_entropy_grad_hess(x, target, o[0], o[1], classes, {hess_scale, hess_min});
                break;
            case kKl:
                return gradient ? kl_divergence_and_grad(x, target, o[0], divergence, losses)
                                : kl_divergence(x, target, divergence, losses);
            case kJs: return js_divergence(x, target, divergence, losses);
            case kBinary:
                return gradient ? binary_cross_entropy_and_grad(x, target, o[0], binary, losses)
                                : binary_cross_entropy(x, target, binary, losses);
            case kBinaryLogits:
                return gradient ? binary_cross_entropy_with_logits_and_grad(x, target, o[0], binary, losses)
                                : binary_cross_entropy_with_logits(x, target, binary, losses);
            case kBinaryHessian:
                binary_cross_entropy_with_logits_grad_hess(x, target, o[0], o[1], binary,
                                                           {hess_scale, hess_min});
                break;
            case kEntropy: softmax_entropy(x, o[0], {axis, temperature}); break;
            case kLogNormalize: log_normalize(x, o[0], o[1], axis); break;
            case kTopk: softmax_topk(x, o[0], o[1], {axis, k, temperature}); break;
            case kSample:
                sample(x, target, o[0], o[1], {axis, temperature, k, top_p, min_p, v[kWhere]});
                break;
            case kFitTemperature:
                return fit_temperature(x, target, {axis, v[kWeight], v[kSecondWeight], ignore}).temperature;
            case kCalibration:
                return calibration_error(x, target,
                                         {axis, k, static_cast<CalibrationNorm>(reduction), temperature,
                                          v[kSecondWeight], ignore});
            case kTokens:
                token_logprobs(x, target,
                               {optional(0), optional(1), optional(2), optional(3), optional(4), optional(5)},
                               {axis, k, temperature, ignore});
                break;
        }
        return 0;
    }
};

double number(Source& s, std::initializer_list<double> usual) {
    if (s.often()) return *(usual.begin() + s.below(static_cast<int>(usual.size())));
    return s.bytes.ConsumeFloatingPoint<double>();
}

Call draw(Source& s) {
    Call c;
    c.function = s.below(kFunctions);
    const bool class_loss = c.function >= kCrossEntropy && c.function <= kClassHessian;
    const bool binary = c.function >= kBinary && c.function <= kBinaryHessian;
    const bool divergence = c.function == kKl || c.function == kJs;
    const bool scores = c.function >= kTopk;
    const bool calibration = c.function == kFitTemperature || c.function == kCalibration;
    const bool probs = c.function == kCategorical || c.function == kBinary;
    const bool focal = c.function == kSigmoidFocal || c.function == kSigmoidFocalHessian;
    const Shape shape = s.shape();
    const int ndim = static_cast<int>(shape.size());
    c.axis = s.often() && ndim ? s.below(2 * ndim) - ndim : s.bytes.ConsumeIntegralInRange(-6, 6);
    const int position = std::clamp(c.axis < 0 ? c.axis + ndim : c.axis, 0, std::max(ndim - 1, 0));
    const int64_t classes = ndim ? shape[position] : 1;
    Shape rows = shape;
    if (ndim) rows.erase(rows.begin() + position);

    c.gradient = s.bytes.ConsumeBool() && c.function != kJs && c.function != kBrier;
    c.temperature = number(s, {1, 0.5, 3});
    c.smoothing = number(s, {0, 0, 0.1, 1});
    c.hess_scale = number(s, {1, 2});
    c.hess_min = number(s, {0, 1e-6, -std::numeric_limits<double>::infinity()});
    c.gamma = number(s, {2, 0, 0.5, 1.5});
    c.top_p = number(s, {1, 0.9, 0.1, 1e-9});
    c.min_p = number(s, {0, 0.1, 1});
    if (s.bytes.ConsumeBool()) c.alpha = number(s, {0.25, 0, 1});
    if (s.seldom()) c.ignore = s.bytes.ConsumeIntegral<int8_t>();
    if (s.seldom()) c.ignore.reset();
    c.reduction = static_cast<Reduction>(s.below(3));
    c.dtype = s.bytes.ConsumeBool() ? DType::float32 : DType::float64;
    c.k = s.often() ? 1 + s.below(static_cast<int>(std::max<int64_t>(classes, 1)))
                    : s.bytes.ConsumeIntegral<int8_t>();

    const DType dtype = s.near(s.floating());
    const Values kind = probs       ? (s.often() ? Values::unit : Values::bits)
                        : s.often() ? Values::tame
                                    : Values::bits;
    c.in[kX] = s.operand(shape, dtype, kind, classes, true);
    if (class_loss || calibration || c.function == kTokens) {
        const bool soft = class_loss && s.below(3) == 0;
        c.in[kTarget] = s.operand(s.near(soft ? shape : rows), s.near(soft ? s.floating() : s.integer()),
                                  Values::labels, classes, true);
        if (s.below(3) == 0)
            c.in[kWeight] = s.operand(s.near({classes}), s.near(s.floating()), Values::unit, 1, true);
        if (s.below(3) == 0)
            c.in[kSecondWeight] = s.operand(s.near(rows), s.near(s.floating()), Values::unit, 1, true);
    } else if (binary) {
        c.in[kTarget] = s.operand(s.broadcastable(shape), s.near(focal ? DType::int8 : s.any()),
                                  s.often() ? Values::unit : Values::bits, 1, true);
        for (Input i : {kWeight, kSecondWeight})
            if (s.below(3) == 0) c.in[i] = s.operand(s.broadcastable(shape), s.any(), Values::unit, 1, true);
    } else if (divergence) {
        c.in[kTarget] =
            s.operand(s.near(shape), s.near(dtype), s.often() ? Values::tame : Values::bits, 1, true);
        if (s.below(3) == 0)
            c.in[kSecondWeight] = s.operand(s.near(rows), s.near(s.floating()), Values::unit, 1, true);
    } else if (c.function == kSoftmaxBackward || c.function == kLogSoftmaxBackward) {
        c.in[kTarget] = s.operand(s.near(shape), s.near(dtype), Values::tame, 1, true);
    } else if (c.function == kSample) {
        if (s.bytes.ConsumeBool()) c.k = 0;
        c.in[kTarget] = s.operand(s.near(rows), s.near(s.floating()), Values::unit, 1, true);
        if (s.below(3) == 0)
            c.in[kWhere] = s.operand(s.broadcastable(shape), s.near(DType::boolean), Values::flags, 1, true);
    } else if (!scores) {
        if (s.below(3) == 0)
            c.in[kWhere] = s.operand(s.broadcastable(shape), s.near(DType::boolean), Values::flags, 1, true);
        if (s.below(3) == 0) c.in[kB] = s.operand(s.broadcastable(shape), s.any(), Values::tame, 1, true);
    }

    const auto result = [&](const Shape& of, DType type) {
        c.out.push_back(s.operand(s.near(of), s.near(type), Values::bits, 1, false));
    };
    const DType floats = is_floating(dtype) && s.often() ? dtype : s.floating();
    if (c.function == kTopk) {
        Shape lists = shape;
        if (ndim) lists[position] = std::max<int64_t>(c.k, 0);
        result(lists, floats);
        result(lists, DType::int64);
    } else if (c.function == kTokens) {
        Shape lists = rows;
        lists.push_back(std::max<int64_t>(c.k, 0));
        for (int i = 0; i < 6; ++i)
            result(i < 4 ? rows : lists, i == 0 || i == 3 || i == 4 ? floats : DType::int64);
        // The function wants outputs of the same dtype to have the same strides.
        c.out[2] = c.out[1];
        c.out[3] = c.out[0];
        if (s.seldom()) c.absent = s.below(64);
    } else if (c.function == kSample) {
        result(rows, DType::int64);
        result(rows, floats);
    } else if (c.function == kLogsumexp || c.function == kEntropy) {
        result(rows, floats);
    } else if (calibration) {  // writes nothing
    } else if (!(class_loss || binary || divergence) || c.gradient || is_hessian(c.function)) {
        result(shape, floats);
        if (is_hessian(c.function)) result(shape, floats);
        if (c.function == kLogNormalize) result(rows, s.near(floats));
    }
    if (class_loss || binary || divergence)
        result(binary ? shape : rows, c.dtype);  // losses; used where they are kept
    if (!c.out.empty() && s.bytes.ConsumeBool()) {
        c.over = s.below(static_cast<int>(c.out.size()));
        c.in_place_of = s.below(kInputs + static_cast<int>(c.out.size()));
    }
    return c;
}

/// Runs the call. Errors must be of the two kinds and change nothing.
std::optional<double> outcome(Call& c) {
    const std::vector<Operand> before = c.out;
    const auto unchanged = [&] {
        for (std::size_t i = 0; i < before.size(); ++i)
            require(before[i].memory == c.out[i].memory, "an error leaves the outputs as they were");
        return std::nullopt;
    };
    try {
        const double value = c.run();
        for (std::size_t i = 0; i < before.size(); ++i)
            require(around(before[i]) == around(c.out[i]), "nothing outside the outputs is written");
        return value;
    } catch (const std::invalid_argument&) {
        return unchanged();
    } catch (const std::out_of_range&) {
        return unchanged();
    }
}

/// A call that is valid but for an output that overlaps another array: either it is rejected, or its result
/// is the same.
void check_shared(Call& c, const Operand& expected) {
    Operand* const host = c.host();
    if (!host) return;
    const Call before = c;
    try {
        c.run();
    } catch (const std::invalid_argument&) {
        for (std::size_t i = 0; i < c.out.size(); ++i)
            require(before.out[i].memory == c.out[i].memory, "an error leaves the outputs as they were");
        for (int i = 0; i < kInputs; ++i)
            require(!c.in[i] || before.in[i]->memory == c.in[i]->memory,
                    "an error leaves the inputs as they were");
        return;
    }
    Operand seen = c.out[c.over];
    seen.memory = host->memory;
    require(same_bits(seen, expected), "what may share memory gives the same results");
}

/// Shapes of any extents whose product overflows or is 0: no element may be read or written.
void check_wild_shapes(Source& s) {
    Shape shape(1 + s.below(4));
    for (int64_t& extent : shape) extent = s.bytes.ConsumeIntegral<int64_t>();
    int64_t size = 1;
    bool overflow = false;
    for (int64_t extent : shape) overflow |= extent < 0 || __builtin_mul_overflow(size, extent, &size);
    if (!overflow && size != 0) return;
    const Shape strides(shape.size(), 0);
    double cell = 0;
    const TensorView x{&cell, DType::float64, shape, strides};
    const MutableTensorView y{&cell, DType::float64, shape, strides};
    for (int i = 0; i < 4; ++i) {
        try {
            if (i == 0) softmax(x, y);
            if (i == 1) sigmoid(x, y);
            if (i == 2) cross_entropy(x, x);
            if (i == 3) binary_cross_entropy_with_logits(x, x);
        } catch (const std::invalid_argument&) {
        }
    }
    require(cell == 0, "wild shapes write nothing");
}

}  // namespace

/// LLVM's OpenMP never frees the memory that it has for each thread.
extern "C" const char* __lsan_default_suppressions() {
    return "leak:libomp";
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzedDataProvider bytes(data, size);
    Source source(bytes);
    if (source.seldom()) {
        check_wild_shapes(source);
        return 0;
    }
    // The baseline has its own bits; all others agree.
    const std::span<const std::string_view> isas = usable_isas();
    const auto choose = [&] {
        return isas[isas.size() < 2 ? 0 : 1 + source.below(static_cast<int>(isas.size()) - 1)];
    };
    const bool baseline = source.seldom();
    const std::string_view here = baseline ? isas[0] : choose(), there = baseline ? isas[0] : choose();
    set_num_threads(1 + source.below(3));
    Call call = draw(source);
    Call shared = call;
    call.over = -1;
    Call plain = call;
    for (auto& operand : plain.in)
        if (operand) operand = adjacent_copy(*operand);
    for (Operand& operand : plain.out) operand = adjacent_copy(operand);
    set_isa(here);
    const std::optional<double> value = outcome(call);
    set_isa(there);
    const std::optional<double> other = outcome(plain);
    require(value.has_value() == other.has_value(), "a call is refused in every layout or in none");
    if (!value) return 0;
    require(std::bit_cast<std::uint64_t>(*value) == std::bit_cast<std::uint64_t>(*other),
            "losses do not depend on layout or CPU");
    for (std::size_t i = 0; i < call.out.size(); ++i)
        require(same_bits(call.out[i], plain.out[i]), "results do not depend on layout or CPU");
    if (shared.over >= 0) check_shared(shared, plain.out[shared.over]);
    return 0;
}
