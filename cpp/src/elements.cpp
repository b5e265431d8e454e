#include "elements.hpp"

namespace softloss {
namespace {

/// An unsigned integer as large as U: elements are copied, and their bytes reversed, as such words.
template <class U>
using WordOf =
    std::conditional_t<sizeof(U) == 1, std::uint8_t,
                       std::conditional_t<sizeof(U) == 2, std::uint16_t,
                                          std::conditional_t<sizeof(U) == 4, std::uint32_t, std::uint64_t>>>;

std::uint8_t reversed(std::uint8_t word) {
    return word;
}
std::uint16_t reversed(std::uint16_t word) {
    return __builtin_bswap16(word);
}
std::uint32_t reversed(std::uint32_t word) {
    return __builtin_bswap32(word);
}
std::uint64_t reversed(std::uint64_t word) {
    return __builtin_bswap64(word);
}

/// Calls f(stride). The usual strides are passed as constants, so that compilers vectorise the loop in f.
template <class Word, class F>
void with_stride(int64_t stride, F f) {
    constexpr int64_t size = sizeof(Word);
    if (stride == size) f(std::integral_constant<int64_t, size>());
    else if (stride == 2 * size) f(std::integral_constant<int64_t, 2 * size>());
    else f(stride);
}

template <class Word, bool Swapped>
void copy_word(const char* from, char* to) {
    Word word;
    std::memcpy(&word, from, sizeof word);
    if constexpr (Swapped) word = reversed(word);
    std::memcpy(to, &word, sizeof word);
}

/// Copies n words at p, `stride` bytes apart, to adjacent words in native byte order.
template <class Word, bool Swapped>
void load_words(const char* p, int64_t stride, int64_t n, char* out) {
    with_stride<Word>(stride, [&](auto step) {
        for (int64_t i = 0; i < n; ++i)
            copy_word<Word, Swapped>(p + i * step, out + i * int64_t{sizeof(Word)});
    });
}
/// The reverse.
template <class Word, bool Swapped>
void store_words(const char* in, int64_t n, char* p, int64_t stride) {
    with_stride<Word>(stride, [&](auto step) {
        for (int64_t i = 0; i < n; ++i)
            copy_word<Word, Swapped>(in + i * int64_t{sizeof(Word)}, p + i * step);
    });
}
template <class Word>
void load_words(const char* p, int64_t stride, int64_t n, bool swapped, void* out) {
    if (swapped) load_words<Word, true>(p, stride, n, static_cast<char*>(out));
    else load_words<Word, false>(p, stride, n, static_cast<char*>(out));
}
template <class Word>
void store_words(const void* in, int64_t n, char* p, int64_t stride, bool swapped) {
    if (swapped) store_words<Word, true>(static_cast<const char*>(in), n, p, stride);
    else store_words<Word, false>(static_cast<const char*>(in), n, p, stride);
}

/// Converts n adjacent elements of U, at any address, to T. n <= kBuffer.
template <class U, class T>
void convert(const char* p, int64_t n, T* out) {
    if constexpr (is_half<U> && std::is_same_v<T, float>) {
        active_table().of(dtype_of<U>).widen(p, out, n);
    } else if constexpr (is_half<U>) {
        float wide[kBuffer];
        active_table().of(dtype_of<U>).widen(p, wide, n);
        std::copy(wide, wide + n, out);
    } else {
        for (int64_t i = 0; i < n; ++i) {
            U value;
            std::memcpy(&value, p + i * sizeof(U), sizeof(U));
            out[i] = static_cast<T>(value);
        }
    }
}
/// The reverse: to adjacent elements of U, at any address.
template <class U, class T>
void convert_back(const T* in, int64_t n, char* p) {
    if constexpr (is_half<U>) {
        float wide[kBuffer];
        for (int64_t i = 0; i < n; ++i) wide[i] = static_cast<float>(in[i]);
        active_table().of(dtype_of<U>).narrow(wide, p, n);
    } else {
        for (int64_t i = 0; i < n; ++i) {
            const U value = static_cast<U>(in[i]);
            std::memcpy(p + i * sizeof(U), &value, sizeof(U));
        }
    }
}

}  // namespace

template <class T>
void gather(const char* p, int64_t stride, int64_t n, DType dtype, bool swapped, T* out) {
    visit(dtype, [&]<class U>(U) {
        using Word = WordOf<U>;
        [[maybe_unused]] const bool adjacent = stride == sizeof(U) && !swapped;
        if constexpr (std::is_integral_v<T> && !std::is_integral_v<U>) {
            return;  // labels are integers
        } else if constexpr (dtype_of<U> == dtype_of<T>) {
            if (adjacent) std::memmove(out, p, sizeof(T) * n);  // out may be p
            else load_words<Word>(p, stride, n, swapped, out);
        } else {
            alignas(16) char words[kBuffer * sizeof(U)];
            for (int64_t done = 0; done < n; done += kBuffer) {
                const int64_t m = std::min(kBuffer, n - done);
                const char* from = p + done * stride;
                if (!adjacent) {
                    load_words<Word>(from, stride, m, swapped, words);
                    from = words;
                }
                convert<U>(from, m, out + done);
            }
        }
    });
}

template <class T>
void scatter(const T* in, int64_t n, char* p, int64_t stride, DType dtype, bool swapped) {
    visit(dtype, [&]<class U>(U) {
        using Word = WordOf<U>;
        [[maybe_unused]] const bool adjacent = stride == sizeof(U) && !swapped;
        if constexpr (dtype_of<U> == dtype_of<T>) {
            store_words<Word>(in, n, p, stride, swapped);
        } else if constexpr (std::is_floating_point_v<U> || is_half<U>) {
            alignas(16) char words[kBuffer * sizeof(U)];
            for (int64_t done = 0; done < n; done += kBuffer) {
                const int64_t m = std::min(kBuffer, n - done);
                char* const to = p + done * stride;
                convert_back<U>(in + done, m, adjacent ? to : words);
                if (!adjacent) store_words<Word>(words, m, to, stride, swapped);
            }
        }
    });
}

template void gather(const char*, int64_t, int64_t, DType, bool, float*);
template void gather(const char*, int64_t, int64_t, DType, bool, double*);
template void gather(const char*, int64_t, int64_t, DType, bool, int64_t*);
template void scatter(const float*, int64_t, char*, int64_t, DType, bool);
template void scatter(const double*, int64_t, char*, int64_t, DType, bool);
template void scatter(const int64_t*, int64_t, char*, int64_t, DType, bool);

template <class T>
void fill_masked(const char* mask, int64_t stride, int64_t n, T* x, T value) {
    const auto fill = [&](auto step) {
        for (int64_t i = 0; i < n; ++i) x[i] = mask[i * step] ? x[i] : value;
    };
    if (stride == 1) fill(std::integral_constant<int64_t, 1>());
    else if (stride != 0) fill(stride);
    else if (!*mask) std::fill(x, x + n, value);
}
template void fill_masked(const char*, int64_t, int64_t, float*, float);
template void fill_masked(const char*, int64_t, int64_t, double*, double);

}  // namespace softloss
