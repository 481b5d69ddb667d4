// Vectors of fixed length that the compiler maps to whatever registers the instruction set has. Used where a sum has to
// stay in registers over a loop; loops without such sums are plain.
#pragma once
#include <stddef.h>
#include <stdint.h>
#if defined(__SSE4_1__)
#include <immintrin.h>
#endif

namespace ffcv {
namespace FFCV_ISA {
namespace {

template <class T, int N>
struct VectorOf {
    typedef T type __attribute__((vector_size(sizeof(T) * N)));
};
template <class T, int N>
using Vector = typename VectorOf<T, N>::type;

// 32-bit numbers in one register.
#if defined(__AVX512F__)
constexpr int lanes = 16;
#elif defined(__AVX2__)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif

template <class V>
inline V load(const void* from) {
    V value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

using Bytes = Vector<uint8_t, lanes>;
using Ints = Vector<int32_t, lanes>;
using Floats = Vector<float, lanes>;

// What compilers make of __builtin_convertvector and of conditional expressions takes several instructions where these
// sets have one.
#if defined(__AVX512F__)
inline Ints widen(Bytes x) { return (Ints)_mm512_cvtepu8_epi32((__m128i)x); }
inline Bytes narrow(Ints x) { return (Bytes)_mm512_cvtepi32_epi8((__m512i)x); }
inline Bytes narrow_clamped(Ints x) {
    return (Bytes)_mm512_cvtusepi32_epi8(_mm512_max_epi32((__m512i)x, _mm512_setzero_si512()));
}
inline Floats smaller(Floats a, Floats b) { return (Floats)_mm512_min_ps((__m512)a, (__m512)b); }
inline Floats larger(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
inline Floats truncate(Floats x) { return (Floats)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
#elif defined(__AVX2__)
inline Ints widen(Bytes x) { return (Ints)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)x)); }
inline Bytes narrow_clamped(Ints x) {
    const __m256i words = _mm256_packs_epi32((__m256i)x, (__m256i)x);
    const __m256i bytes = _mm256_packus_epi16(words, words);
    return (Bytes)_mm_cvtsi128_si64(_mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)));
}
inline Bytes narrow(Ints x) { return narrow_clamped(x); }
inline Floats smaller(Floats a, Floats b) { return (Floats)_mm256_min_ps((__m256)a, (__m256)b); }
inline Floats larger(Floats a, Floats b) { return (Floats)_mm256_max_ps((__m256)a, (__m256)b); }
inline Floats truncate(Floats x) { return (Floats)_mm256_round_ps((__m256)x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
#elif defined(__SSE4_1__)
inline Ints widen(Bytes x) { return (Ints)_mm_cvtepu8_epi32(_mm_cvtsi32_si128((int32_t)x)); }
inline Bytes narrow_clamped(Ints x) {
    const __m128i words = _mm_packs_epi32((__m128i)x, (__m128i)x);
    return (Bytes)_mm_cvtsi128_si32(_mm_packus_epi16(words, words));
}
inline Bytes narrow(Ints x) { return narrow_clamped(x); }
inline Floats smaller(Floats a, Floats b) { return (Floats)_mm_min_ps((__m128)a, (__m128)b); }
inline Floats larger(Floats a, Floats b) { return (Floats)_mm_max_ps((__m128)a, (__m128)b); }
inline Floats truncate(Floats x) { return (Floats)_mm_round_ps((__m128)x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
#else
inline Ints widen(Bytes x) { return __builtin_convertvector(x, Ints); }
inline Bytes narrow(Ints x) { return __builtin_convertvector(x, Bytes); }
inline Bytes narrow_clamped(Ints x) {
    x = x < 0 ? Ints{} : x;
    return narrow(x > 255 ? Ints{} + 255 : x);
}
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats truncate(Floats x) { return __builtin_convertvector(__builtin_convertvector(x, Ints), Floats); }
#endif

inline Floats to_float(Ints x) { return __builtin_convertvector(x, Floats); }
inline Ints to_int(Floats x) { return __builtin_convertvector(x, Ints); }

template <class V>
inline void store(void* to, V value) {
    __builtin_memcpy(to, &value, sizeof value);
}

}  // namespace
}  // namespace FFCV_ISA
}  // namespace ffcv
