// Between interleaved pixels and a row of each channel.
#pragma once
#include "kernels/simd.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

#if defined(__AVX512VBMI__)

// Where the bytes of three registers come from: two of them first, then what the third one adds.
struct Shuffles {
    alignas(64) uint8_t two[3][64] = {}, third[3][64] = {};
    uint64_t from_third[3] = {};

    constexpr void set(size_t out, size_t byte, size_t source, size_t place) {
        if (source == 2) {
            third[out][byte] = static_cast<uint8_t>(place);
            from_third[out] |= uint64_t{1} << byte;
        } else {
            two[out][byte] = static_cast<uint8_t>(64 * source + place);
        }
    }
    __m512i apply(size_t out, const __m512i* in) const {
        const __m512i most = _mm512_permutex2var_epi8(in[0], _mm512_load_si512(two[out]), in[1]);
        return _mm512_mask_permutexvar_epi8(most, from_third[out], _mm512_load_si512(third[out]), in[2]);
    }
};
struct Split : Shuffles {
    constexpr Split() {
        for (size_t i = 0; i < 192; ++i) set(i % 3, i / 3, i / 64, i % 64);
    }
};
struct Join : Shuffles {
    constexpr Join() {
        for (size_t i = 0; i < 192; ++i) set(i / 64, i % 64, i % 3, i / 3);
    }
};
constexpr Split split;
constexpr Join join_channels;

inline uint64_t first_bytes(size_t count) { return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }

// Those of `count` bytes in a row of registers that register number `i` holds.
inline uint64_t bytes_of(size_t i, size_t count) { return count > 64 * i ? first_bytes(count - 64 * i) : 0; }

inline void split_pixels(const uint8_t* rgb, size_t width, uint8_t* const* channels) {
    for (size_t x = 0; x < width; x += 64) {
        __m512i in[3];
        for (size_t i = 0; i < 3; ++i)
            in[i] = _mm512_maskz_loadu_epi8(bytes_of(i, 3 * (width - x)), rgb + 3 * x + 64 * i);
        for (size_t i = 0; i < 3; ++i)
            _mm512_mask_storeu_epi8(channels[i] + x, first_bytes(width - x), split.apply(i, in));
    }
}

inline void join_pixels(const uint8_t* const* channels, size_t width, uint8_t* rgb) {
    for (size_t x = 0; x < width; x += 64) {
        __m512i in[3];
        for (size_t i = 0; i < 3; ++i) in[i] = _mm512_maskz_loadu_epi8(first_bytes(width - x), channels[i] + x);
        for (size_t i = 0; i < 3; ++i)
            _mm512_mask_storeu_epi8(rgb + 3 * x + 64 * i, bytes_of(i, 3 * (width - x)), join_channels.apply(i, in));
    }
}

#else

inline void split_pixels(const uint8_t* rgb, size_t width, uint8_t* const* channels) {
    Ints starts;  // of four pixels each
    for (int i = 0; i < lanes; ++i) starts[i] = 12 * i;
    size_t x = 0;
    for (; 3 * (x + lanes) + 4 <= 3 * width; x += lanes) {
        const Ints split = quarters(turned_triples((Ints)load_windows(rgb + 3 * x, starts)));
        for (int channel = 0; channel < 3; ++channel)
            __builtin_memcpy(channels[channel] + x, reinterpret_cast<const char*>(&split) + lanes * channel, lanes);
    }
    for (; x < width; ++x)
        for (size_t channel = 0; channel < 3; ++channel) channels[channel][x] = rgb[3 * x + channel];
}

inline void join_pixels(const uint8_t* const* channels, size_t width, uint8_t* rgb) {
    const uint8_t *r = channels[0], *g = channels[1], *b = channels[2];
    for (size_t i = 0; i < width; ++i) {
        rgb[3 * i] = r[i];
        rgb[3 * i + 1] = g[i];
        rgb[3 * i + 2] = b[i];
    }
}

#endif

}  // namespace
}  // namespace FFCV_ISA
}  // namespace ffcv
